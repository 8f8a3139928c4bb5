# Work for Python in units, each a function of its number alone: dicts, lists, sets, strings, bytes, json, regular
# expressions, pickles and zlib. Units run in threads and in forked processes, of which one is killed now and then and
# its unit done again; where memory is limited, all of it is taken between two rounds and refused in the end.
#
#     churn.py                         the units once, by themselves
#     churn.py SECONDS STATS PATH      rounds of all units until the time is over
#
# The hashes of the units are printed; in all rounds they must be the same. Each round adds to the file PATH what is live
# at its end, by the statistics in the file STATS, the resident set in pages, and how many times memory was refused.
import ctypes
import gc
import hashlib
import json
import os
import pickle
import re
import signal
import sys
import threading
import time
import zlib

SEEDS = list(range(12))
LEAST = 8  # rounds
BLOCK = 1 << 20


def unit(seed):
    state = seed * 7919 + 1
    table, words, sums = {}, [], hashlib.sha256()
    for i in range(3000):
        state = (state * 1103515245 + 12345) % (1 << 31)
        key = f"key {state % 997}"
        table.setdefault(key, []).append(str(state) * (state % 9))
        words.append(key[::-1] + chr(97 + state % 26))
        if i % 7 == 0:
            del table[next(iter(table))]
        if i % 500 == 0:
            blob = bytearray(words[-1].encode() * (state % 5000))
            sums.update(zlib.decompress(zlib.compress(bytes(blob))))
    text = json.dumps(table, sort_keys=True)
    assert json.loads(text) == table and pickle.loads(pickle.dumps(table)) == table
    sums.update(" ".join(sorted(set(words))).encode())
    sums.update(repr(sorted(re.findall(r"\d{4}", text))[:500]).encode())
    sums.update(text.encode())
    return sums.hexdigest()


def in_threads(seeds):
    found = {}

    def work(mine):
        for seed in mine:
            found[seed] = unit(seed)

    threads = [threading.Thread(target=work, args=(seeds[i::4],)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return [found[seed] for seed in seeds]


# A forked process for each unit, while a thread of this one goes on allocating. The first is killed when `kill`.
def in_processes(seeds, kill):
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            [str(i) * 10 for i in range(1000)]

    thread = threading.Thread(target=busy)
    thread.start()
    found = []
    for seed in seeds:
        while True:
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(writer, unit(seed).encode())
                os._exit(0)
            os.close(writer)
            if kill:
                time.sleep(0.003)
                os.kill(pid, signal.SIGKILL)
            with os.fdopen(reader) as pipe:
                text = pipe.read()
            status = os.waitpid(pid, 0)[1]
            assert status == 0 or kill and status == signal.SIGKILL, status
            kill = False
            if status == 0:
                found.append(text)
                break
    stop.set()
    thread.join()
    return found


# Takes memory until there is no more; where there is no limit, a part.
def hoard():
    held = []
    try:
        while len(held) < 256:
            held.append(bytearray(BLOCK - 1000 * len(held)))
        return False
    except MemoryError:
        return True


# Of a process that has given back what it can: what it hoarded would hide all else.
def sizes(stats):
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    os.kill(os.getpid(), signal.SIGUSR2)  # written when this returns: there is no other thread
    with open(stats) as file:
        live = json.load(file)["totals"]["live_bytes"]
    with open("/proc/self/statm") as file:
        return live, file.read().split()[1]


def rounds(seconds, stats, path, first):
    end, refused, done = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end or done < LEAST:
        done += 1
        assert in_threads(SEEDS) == first
        assert in_processes(SEEDS[:3], kill=True) == first[:3]
        refused += hoard()
        with open(path, "a") as file:
            print(*sizes(stats), refused, file=file)


hashes = [unit(seed) for seed in SEEDS]
print("\n".join(hashes))
if len(sys.argv) > 1:
    rounds(float(sys.argv[1]), sys.argv[2], sys.argv[3], hashes)
