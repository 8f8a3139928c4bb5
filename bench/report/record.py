"""compare --record: a command under `ashlar record`, and its table as it stands in patterns/mixes.h.

There is a trace for each process, and `ashlar trace` counts what is in it; those of the named
program are added up. A row of the table is a bucket of sizes; classes too rare to matter in number
and in bytes are left out.
"""
import glob
import json
import os
import shutil
import subprocess

from contestants import base_environment

RARE = 2e-5        # of all blocks
SMALL_SHARE = 2e-3 # of all bytes
PARTS = 10000      # kept, brief and resized are so many in this number


COLUMNS = ("fresh", "born", "bytes", "ended", "brief", "ages", "resized", "from", "to")


def find_tool(library):
    """The ashlar program: beside the library, as it is built, or installed."""
    built = os.path.join(os.path.dirname(os.path.dirname(library or "")), "ashlar")
    tool = built if os.access(built, os.X_OK) else shutil.which("ashlar")
    if not tool:
        raise SystemExit("bench/compare: --record needs the ashlar program: make, or --ashlar PATH")
    return tool


def read(tool, path):
    """(program, {bucket: {column: sum}}) of one process."""
    done = subprocess.run([tool, "trace", "--json", path], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=False)
    trace = json.loads(done.stdout.decode())
    return trace["program"], {size["bucket"]: {name: size[name] for name in COLUMNS}
                              for size in trace["sizes"]}


def merge(processes):
    total = {}
    for buckets in processes:
        for index, sums in buckets.items():
            into = total.setdefault(index, dict.fromkeys(sums, 0))
            for name, value in sums.items():
                into[name] += value
    return total


def parts(some, whole):
    return round(PARTS * some / whole) if whole else 0


def row(b):
    """bytes, fresh, kept, brief, life, resized, growth: what patterns/mixes.h explains."""
    later = b["ended"] - b["brief"]
    return (round(b["bytes"] / b["born"]), b["fresh"], parts(b["born"] - b["ended"], b["born"]),
            parts(b["brief"], b["ended"]), round(b["ages"] / later) if later else 0,
            parts(b["resized"], b["ended"]), round(100 * b["to"] / b["from"]) if b["from"] else 100)


def c_table(name, total):
    """The array of the classes as C text, and how many blocks and reallocs it stands for."""
    blocks = sum(b["born"] for b in total.values())
    size = sum(b["bytes"] for b in total.values())
    kept = [b for _, b in sorted(total.items())
            if b["born"] > RARE * blocks or b["bytes"] > SMALL_SHARE * size]
    reallocs = sum(b["resized"] for b in total.values())
    lines = ["/* {:,} blocks, {:,} of them from realloc; {:,.0f} KiB in all. */".format(
        blocks, reallocs, size / 1024),
             "static const struct mix_class %s[] = {" % name]
    line = "   "
    for cell in (" {%d, %d, %d, %d, %d, %d, %d}," % row(b) for b in kept):
        if len(line) + len(cell) > 100:
            lines.append(line)
            line = "   "
        line += cell
    return "\n".join(lines + [line, "};"]) + "\n"


def report(library, directory, wanted, command, stdin):
    """`wanted` is the beginning of the program's name, with :NAME for the table's behind it."""
    program, _, name = wanted.partition(":")
    tool = find_tool(library)
    os.mkdir(os.path.join(directory, "records"))
    recorder = [tool, "record", "--quiet", "-o", os.path.join(directory, "records", "%p"), "--"]
    with open(stdin or os.devnull, "rb") as source:
        subprocess.run(recorder + command, env=base_environment(), stdin=source,
                       stdout=subprocess.DEVNULL, check=False)
    found = [read(tool, path) for path in glob.glob(os.path.join(directory, "records", "*"))]
    matching = [buckets for running, buckets in found if running.startswith(program)]
    if not matching:
        raise SystemExit("bench/compare: no process of %s was recorded; there were: %s" % (
            program, ", ".join(sorted({running for running, _ in found})) or "none"))
    name = "".join(c if c.isalnum() else "_" for c in name or program)
    return c_table(name, merge(matching))
