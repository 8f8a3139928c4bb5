"""Results as an SVG picture: one small bar chart per row, readable on light and dark pages."""
from xml.sax.saxutils import escape

COLUMNS = 3
CHART_WIDTH = 310
LABEL_WIDTH = 78
VALUE_WIDTH = 62
BAR_HEIGHT = 11
BAR_STEP = 15
MARGIN = 24
HEADER = 62
CAP = 3.0  # bars end at this many times the median; a gap shows that they were cut

STYLE = """
.page{fill:#ffffff;stroke:#d8dee4}.t{fill:#1f2328}.s{fill:#59636e}.axis{stroke:#d8dee4}
.glibc{fill:#8c959f}.ashlar0{fill:#0b62d6}.ashlar1{fill:#6aa5f2}
.peer0{fill:#c9762b}.peer1{fill:#3f9a6b}.peer2{fill:#9a63b8}.peer3{fill:#b8a13a}.peer4{fill:#b75a6c}
.cut{stroke:#ffffff;stroke-width:2}
@media (prefers-color-scheme:dark){
.page{fill:#0d1117;stroke:#30363d}.t{fill:#e6edf3}.s{fill:#9198a1}.axis{stroke:#30363d}
.glibc{fill:#768390}.ashlar0{fill:#4493f8}.ashlar1{fill:#1f5fae}
.peer0{fill:#d98c45}.peer1{fill:#4fb380}.peer2{fill:#ae7bcb}.peer3{fill:#c7b355}.peer4{fill:#cc7083}
.cut{stroke:#0d1117}}
text{font:11px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}
.h{font-size:16px;font-weight:600}.n{font-weight:600;font-size:12px}
"""


def css_classes(contestants):
    """Contestant name -> class: Ashlar's own colours, grey for glibc, the others in turn."""
    counts = {}
    classes = {}
    for c in contestants:
        index = counts.get(c.kind, 0)
        counts[c.kind] = index + 1
        limit = {"glibc": 1, "ashlar": 2}.get(c.kind, 5)
        classes[c.name] = c.kind if c.kind == "glibc" else "%s%d" % (c.kind, index % limit)
    return classes


def text(x, y, style, words, anchor="start"):
    return '<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>' % (
        x, y, style, anchor, escape(words))


def chart(x, y, title, bars, classes, value_text):
    """One chart, its upper left corner at x, y; `bars` are (contestant name, value) pairs."""
    values = sorted(v for _, v in bars)
    if not values:
        return []
    limit = min(values[-1], CAP * values[len(values) // 2]) or 1
    room = CHART_WIDTH - LABEL_WIDTH - VALUE_WIDTH
    left = x + LABEL_WIDTH
    out = [text(x, y + 12, "t n", title)]
    y += 20
    height = len(bars) * BAR_STEP
    out.append('<path class="axis" d="M%.1f %.1fv%.1f"/>' % (left - 0.5, y - 2, height + 2))
    for name, value in bars:
        width = max(1.0, min(value, limit) / limit * room)
        out.append(text(left - 6, y + 9, "s", name, "end"))
        out.append('<rect x="%.1f" y="%.1f" width="%.1f" height="%d" rx="1.5" class="%s"/>' % (
            left, y, width, BAR_HEIGHT, classes[name]))
        if value > limit:
            cut = left + width - 12
            out.append('<path class="cut" d="M%.1f %.1fl4 %d"/>' % (cut, y - 1, BAR_HEIGHT + 2))
        out.append(text(left + width + 5, y + 9, "t" if name.startswith("ashlar") else "s",
                        value_text(value)))
        y += BAR_STEP
    return out


def duration_text(ns):
    """Three digits and a unit."""
    for unit, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= unit:
            return "%.3g %s" % (ns / unit, name)
    return "%.3g ns" % ns


def charts_of(results):
    """(title, bars, how to write a value) of every chart: the means first, then each row's time.

    With a single row there is nothing to average: its own figures stand there.
    """
    def ratio(v):
        return "%.2f" % v

    first = results.contestants[0]
    charts = []
    kinds = (("time", results.time), ("peak RSS", results.rss), ("page faults", results.faults))
    single = len(results.rows) == 1
    for name, figure in kinds[1:] if single else kinds:
        bars = [(c.name, results.mean_ratio(c, first, figure)) for c in results.contestants]
        title = "%s%s / %s" % ("" if single else "mean ", name, first.name)
        charts.append((title, bars, ratio))
    for row in results.rows:
        bars = [(c.name, results.time(row, c)) for c in results.contestants]
        charts.append((row, bars, duration_text))
    cleaned = [(t, [b for b in bars if b[1] is not None], f) for t, bars, f in charts]
    return [c for c in cleaned if c[1]]


def subtitle(rounds, whole):
    return "Time of %s, least of %d; shorter is better." % (
        "the whole run" if whole else "one operation", rounds)


def svg(results, title, under):
    return page(results.contestants, charts_of(results), title, under)


def page(contestants, charts, title, under):
    """A picture of charts as charts_of makes them, its title and a line under that."""
    classes = css_classes(contestants)
    step = len(contestants) * BAR_STEP + 44
    width = 2 * MARGIN + COLUMNS * CHART_WIDTH
    height = HEADER + MARGIN + step * ((len(charts) + COLUMNS - 1) // COLUMNS)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d"'
           ' role="img" aria-label="%s">' % (width, height, width, height, escape(title)),
           "<style>%s</style>" % STYLE,
           '<rect class="page" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>' % (
               width - 1, height - 1),
           text(MARGIN, 34, "t h", title),
           text(MARGIN, 52, "s", under)]
    for i, (name, bars, value_text) in enumerate(charts):
        x = MARGIN + (i % COLUMNS) * CHART_WIDTH
        y = HEADER + 10 + (i // COLUMNS) * step
        out += chart(x, y, name, bars, classes, value_text)
    return "\n".join(out + ["</svg>"]) + "\n"
