"""compare --growth: does an operation cost the same as the live memory and the threads grow?

Two patterns run over a range: `live` with more and more blocks of 1 KiB on average, of which 4,096
are replaced (all 1,024 where there are no more), and `threads-n` with more and more threads that share the same number of
operations. The time of the second is that of the processors, so it does not depend on how many of
them there are.
"""
import math
import re

from picture import CAP, HEADER, MARGIN, STYLE, css_classes, duration_text, text
from results import Results
from table import figure_text, figures, ratio_text, table

LIVE_MIB = (1, 16, 256, 1024, 4096, 8192)
LIVE_BYTES = (512, 1536)  # smallest and largest block
THREADS = (1, 2, 4, 8, 16, 32, 64)
MIB = 1 << 20

CHART_WIDTH = 444
CHART_HEIGHT = 230
GAP = 42
AXIS_WIDTH = 52
LEGEND = 26
LINES = 5  # of the grid, at most


def size_text(mib):
    return "%d GiB" % (mib // 1024) if mib >= 1024 else "%d MiB" % mib


def available():
    """Bytes of memory that programs can get."""
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise SystemExit("bench/compare: /proc/meminfo does not say what memory is available")


class Series:
    """One range: what the rows are called, the settings of their runs, and the results."""

    def __init__(self, pattern, title, what, points, label, settings, contestants):
        self.pattern = pattern
        self.title = title
        self.what = what
        self.points = {label(p): p for p in points}  # row -> where it lies on the axis
        self.settings = settings                     # point -> settings
        self.results = Results(contestants)

    def run(self, programs, contestant, row, scale):
        settings = ["scale=%g" % scale] + self.settings(self.points[row])
        return programs.run_pattern(contestant, self.pattern, settings)


def live_points(largest, warn):
    limit = available() // 2
    wanted = [m for m in LIVE_MIB if m <= largest]
    points = [m for m in wanted if m * MIB <= limit]
    if points != wanted:
        warn("%s live left out: more than half of the memory that is available" %
             ", ".join(size_text(m) for m in wanted if m not in points))
    return points


def live_series(contestants, points):
    mean = sum(LIVE_BYTES) // 2
    return Series("live", "Blocks of 1 KiB on average, 4,096 of them replaced", "live", points,
                  size_text, lambda mib: ["blocks=%d" % (mib * MIB // mean),
                                          "min=%d" % LIVE_BYTES[0], "max=%d" % LIVE_BYTES[1]],
                  contestants)


def threads_series(contestants):
    return Series("threads-n", "Threads, each replacing blocks of its own; processor time",
                  "threads", THREADS, str, lambda n: ["threads=%d" % n], contestants)


def of_saved(file):
    """The two ranges of a saved measurement."""
    live = live_series(file.results.contestants, LIVE_MIB)
    both = (live, threads_series(file.results.contestants))
    for series in both:
        series.results.rows = [row for row in file.results.rows if row in series.points]
        series.results.samples = file.results.samples
    return both


def measure(programs, contestants, args, rotate, warn):
    """Both ranges, and whether every run succeeded."""
    live = live_series(contestants, live_points(args.growth, warn))
    threads = threads_series(contestants)

    def run_threads(row, contestant):
        sample = threads.run(programs, contestant, row, args.scale)
        sample.time = (sample.user_us + sample.system_us) * 1000.0 / sample.ops
        return sample

    ok = rotate(live.results, list(live.points), args.rounds,
                lambda row, c: live.run(programs, c, row, args.scale))
    return (live, threads), rotate(threads.results, list(threads.points), args.rounds,
                                   run_threads) and ok


def report(both, rounds):
    """The Markdown text: times, times relative to the first row, memory per live byte."""
    lines = ["# Growth", "", "Minimum of %d runs, ns per operation." % rounds]
    for series in both:
        r = series.results
        if not r.rows:
            continue
        first = r.rows[0]
        times = [[row] + [figure_text(r.time(row, c)) for c in r.contestants] for row in r.rows]
        names = [c.name for c in r.contestants]

        def relative(row, contestant, r=r, first=first):
            mine, base = r.time(row, contestant), r.time(first, contestant)
            return ratio_text(mine / base if mine and base else None)

        lines += ["", "## " + series.title, ""] + table([series.what] + names, times)
        lines += ["", "Relative to the first row:", ""] + figures(r, series.what, relative)
        if series.pattern == "live":
            lines += ["", "Peak RSS over live bytes:", ""] + figures(
                r, series.what, lambda row, c, s=series: ratio_text(
                    s.results.rss(row, c) and
                    s.results.rss(row, c) * 1024 / (s.points[row] * MIB)))
    return "\n".join(lines) + "\n"


# ---- the picture ----

def line_style():
    """The bar charts' style, whose colours lines can take as well."""
    coloured = re.sub(r"fill:(#\w+)}", r"fill:\1;color:\1}", STYLE)
    return coloured + ".line{fill:none;stroke:currentColor;stroke-width:1.8}\n"


def grid_step(limit):
    """1, 2 or 5 times a power of ten, so that LINES steps reach the limit."""
    power = 10 ** math.floor(math.log10(limit / LINES))
    return next(k * power for k in (1, 2, 5, 10) if k * power * LINES >= limit)


def chart(x, y, series, classes, index):
    """One line chart, its upper left corner at x, y; lines end where they leave it."""
    r = series.results
    lines = [(c, [(series.points[row], r.time(row, c)) for row in r.rows if r.has(row, c)])
             for c in r.contestants]
    values = sorted(v for _, points in lines for _, v in points)
    if not values:
        return []
    limit = min(values[-1], CAP * values[len(values) // 2]) * 1.05 or 1
    left, right = x + AXIS_WIDTH, x + CHART_WIDTH - 12
    top, bottom = y + 26, y + 26 + CHART_HEIGHT
    places = [math.log(series.points[row]) for row in r.rows]
    low, high = min(places), max(places)

    def across(point):
        return left + 10 + (math.log(point) - low) / ((high - low) or 1) * (right - left - 20)

    def down(value):
        return bottom - value / limit * (bottom - top)

    out = [text(x, y + 12, "t n", series.title)]
    step = grid_step(limit)
    for k in range(int(limit / step) + 1):
        out.append('<path class="axis" d="M%.1f %.1fH%.1f"/>' % (left, down(k * step), right))
        out.append(text(left - 6, down(k * step) + 4, "s", duration_text(k * step), "end"))
    for row in r.rows:
        words = row.replace(" MiB", "M").replace(" GiB", "G")
        out.append(text(across(series.points[row]), bottom + 16, "s", words, "middle"))
    out.append(text((left + right) / 2, bottom + 32, "s", series.what, "middle"))
    out.append('<clipPath id="chart%d"><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>'
               '</clipPath>' % (index, left, top - 4, right - left, bottom - top + 8))
    for c, points in sorted(lines, key=lambda line: line[0].kind == "ashlar"):
        at = [(across(p), down(v)) for p, v in points]
        out.append('<g class="%s" clip-path="url(#chart%d)">' % (classes[c.name], index))
        out.append('<polyline class="line" points="%s"/>' % " ".join("%.1f,%.1f" % a for a in at))
        out += ['<circle cx="%.1f" cy="%.1f" r="2.6"/>' % a for a in at]
        out.append("</g>")
    return out


def svg(both, rounds):
    title = "Cost of an operation as live memory and threads grow"
    both = [series for series in both if series.results.rows]
    contestants = both[0].results.contestants
    classes = css_classes(contestants)
    width = 2 * MARGIN + 2 * CHART_WIDTH + GAP
    height = HEADER + LEGEND + CHART_HEIGHT + 26 + 44 + MARGIN // 2
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d"'
           ' role="img" aria-label="%s">' % (width, height, width, height, title),
           "<style>%s</style>" % line_style(),
           '<rect class="page" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>' % (
               width - 1, height - 1),
           text(MARGIN, 34, "t h", title),
           text(MARGIN, 52, "s",
                "Time per operation, least of %d; flat and low is better." % rounds)]
    for i, c in enumerate(contestants):
        x = MARGIN + 110 * i
        out.append('<rect x="%d" y="%d" width="14" height="4" rx="2" class="%s"/>' % (
            x, HEADER + 8, classes[c.name]))
        out.append(text(x + 20, HEADER + 14, "t" if c.kind == "ashlar" else "s", c.name))
    for i, series in enumerate(both):
        out += chart(MARGIN + i * (CHART_WIDTH + GAP), HEADER + LEGEND, series, classes, i)
    return "\n".join(out + ["</svg>"]) + "\n"
