"""What an allocator costs before it is used: /bin/true's time and faults, the library's size."""
from programs import stripped_size
from results import Results
from table import ratio_text, table

TURNS = 5  # of each allocator in a round
RUNS = 8   # of the program in a turn


COMMAND = "/bin/true"


def measure(programs, contestants, rounds, progress):
    results = Results(contestants)
    for r in range(rounds):
        progress("round %d of %d" % (r + 1, rounds))
        for i in range(TURNS * len(contestants)):
            c = contestants[(r + i + i // len(contestants)) % len(contestants)]
            for sample in programs.measure(c, [COMMAND], RUNS):
                results.add(COMMAND, c, sample)
    return results


def report(results, rounds):
    first = results.contestants[0]
    rows = []
    for c in results.contestants:
        size = stripped_size(c.library) if c.library else None
        rows.append([c.name, "%.0f" % (results.time(COMMAND, c) / 1e3),
                     "%.0f" % (results.median(COMMAND, c, "wall_ns") / 1e3),
                     ratio_text(results.ratio(COMMAND, c, first, results.time)),
                     "%.0f" % results.faults(COMMAND, c),
                     "{:,.0f}".format(results.rss(COMMAND, c)),
                     "–" if size is None else "%.0f" % (size / 1024.0)])
    head = [COMMAND, "least µs", "median µs", "least / " + first.name, "minor faults",
            "peak RSS KiB", "stripped .so KiB"]
    lines = ["# Start-up, %d runs" % (rounds * TURNS * RUNS), ""] + table(head, rows)
    return "\n".join(lines) + "\n"
