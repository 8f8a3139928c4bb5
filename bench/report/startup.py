"""What an allocator costs before it is used: /bin/true's time and faults, the library's size."""
import statistics

from programs import stripped_size
from table import ratio_text, table

TURNS = 5  # of each allocator in a round
RUNS = 8   # of the program in a turn


def report(programs, contestants, rounds, progress):
    samples = {c.name: [] for c in contestants}
    for r in range(rounds):
        progress("round %d of %d" % (r + 1, rounds))
        for i in range(TURNS * len(contestants)):
            c = contestants[(r + i + i // len(contestants)) % len(contestants)]
            samples[c.name] += programs.measure(c, ["/bin/true"], RUNS)
    first = contestants[0]
    base = min(s.wall_ns for s in samples[first.name])
    rows = []
    for c in contestants:
        walls = [s.wall_ns for s in samples[c.name]]
        size = stripped_size(c.library) if c.library else None
        rows.append([c.name, "%.0f" % (min(walls) / 1e3), "%.0f" % (statistics.median(walls) / 1e3),
                     ratio_text(min(walls) / base),
                     "%.0f" % statistics.median(s.faults for s in samples[c.name]),
                     "{:,.0f}".format(statistics.median(s.rss_kib for s in samples[c.name])),
                     "–" if size is None else "%.0f" % (size / 1024.0)])
    head = ["/bin/true", "least µs", "median µs", "least / " + first.name, "minor faults",
            "peak RSS KiB", "stripped .so KiB"]
    lines = ["# Start-up, %d runs" % (rounds * TURNS * RUNS), ""] + table(head, rows)
    return "\n".join(lines) + "\n"
