"""Instruction counts of the hit paths: callgrind counts what hitpath's hit_* functions call."""
import os
import re
import shutil
import subprocess

from table import table

NAMES = ("malloc", "free", "calloc", "realloc", "aligned_alloc", "new", "delete", "delete_sized")
TITLES = {"calloc": "calloc (clears)", "realloc": "realloc (same size)",
          "aligned_alloc": "aligned_alloc(64)", "new": "operator new",
          "delete": "operator delete", "delete_sized": "operator delete, sized"}


def calls_of(path):
    """hit function -> (calls made from it, instructions spent in them) from a callgrind profile."""
    totals = {}
    names = {}
    current = None
    called = 0
    with open(path, errors="replace") as file:
        for line in file:
            match = re.match(r"(c?fn)=\((\d+)\)(?: (.*))?", line)
            if match:
                if match.group(3):
                    names[match.group(2)] = match.group(3).strip()
                if match.group(1) == "fn":
                    name = names.get(match.group(2), "")
                    hit = re.match(r"hit_(\w+)", name)
                    current = hit.group(1) if hit else None
            elif line.startswith("calls="):
                called = int(line[6:].split()[0])
            elif called:
                if current:
                    count, cost = totals.get(current, (0, 0))
                    totals[current] = (count + called, cost + int(line.split()[1]))
                called = 0
    return totals


def count(programs, contestant, size):
    """Path name -> instructions per call."""
    profile = os.path.join(programs.directory, "callgrind.out")
    command = ["valgrind", "-q", "--tool=callgrind", "--callgrind-out-file=" + profile,
               programs.path("bench/hitpath"), str(size)]
    done = subprocess.run(command, env=contestant.environment(), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0 or not os.path.exists(profile):
        message = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError("callgrind with %s: %s" % (contestant.name, (message or ["failed"])[-1]))
    totals = calls_of(profile)
    os.unlink(profile)
    return {name: cost / calls for name, (calls, cost) in totals.items() if calls}


def report(programs, contestants, sizes, warn):
    if not shutil.which("valgrind"):
        raise SystemExit("bench/compare: --hitpath needs valgrind")
    lines = ["# Instructions per call, everything from the thread's cache"]
    for size in sizes:
        counts = {}
        for contestant in contestants:
            try:
                counts[contestant.name] = count(programs, contestant, size)
            except RuntimeError as error:
                warn(str(error))
        rows = []
        for name in NAMES:
            cells = [counts.get(c.name, {}).get(name) for c in contestants]
            if any(c is not None for c in cells):
                rows.append([TITLES.get(name, name)] + [
                    "–" if c is None else "%.0f" % c if abs(c - round(c)) < 0.05 else "%.1f" % c
                    for c in cells])
        lines += ["", "## Blocks of %d bytes" % size, ""]
        lines += table(["call"] + [c.name for c in contestants], rows)
    return "\n".join(lines) + "\n"
