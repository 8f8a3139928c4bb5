"""Results as Markdown whose source reads as well as its rendering."""


def table(head, rows):
    """Markdown lines; the first column to the left, the others to the right."""
    cells = [head] + rows
    widths = [max(3, max(len(r[i]) for r in cells)) for i in range(len(head))]

    def line(row):
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join(
        "-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return [line(head), rule] + [line(r) for r in rows]


def figure_text(value):
    if value is None:
        return "–"
    if value >= 1000:
        return "{:,.0f}".format(value)
    return "%.0f" % value if value >= 100 else "%.1f" % value


def ratio_text(value):
    return "–" if value is None else "%.2f" % value


def time_text(results, row, contestant, unit):
    value = results.time(row, contestant)
    if value is None:
        return "–"
    spread = results.spread(row, contestant)
    if spread == 0:
        return figure_text(value / unit)
    return "%s +%.0f%%" % (figure_text(value / unit), 100 * spread)


def figures(results, what, text):
    """One row for each of the results' rows, without those that have no figure at all."""
    head = [what] + [c.name for c in results.contestants]
    rows = [[r] + [text(r, c) for c in results.contestants] for r in results.rows]
    return table(head, [r for r in rows if any(cell != "–" for cell in r[1:])])


def ratios(results, what, figure, best_word):
    """Ashlar against the best peer of each row and against glibc, with geometric means."""
    ours = results.of_kind("ashlar")
    libc = results.of_kind("glibc")
    if not ours or not (libc or results.of_kind("peer")):
        return []
    head = [what, best_word + " peer"]
    for c in ours:
        head += [c.name + " / " + best_word] + [c.name + " / glibc" for _ in libc]
    rows = []
    for row in results.rows:
        if all(figure(row, c) is None for c in results.contestants):
            continue
        best = results.best_peer(row, figure)
        line = [row, best[1].name if best else "–"]
        for c in ours:
            mine = figure(row, c)
            line.append(ratio_text(mine / best[0] if mine and best and best[0] else None))
            line += [ratio_text(results.ratio(row, c, g, figure)) for g in libc]
        rows.append(line)
    mean = ["**geometric mean**", ""]
    for c in ours:
        mean.append(ratio_text(results.mean_ratio_best(c, figure)))
        mean += [ratio_text(results.mean_ratio(c, g, figure)) for g in libc]
    return table(head, rows + ([mean] if len(rows) > 1 else []))


def means(results):
    """Every contestant against the first one: geometric means of time, memory and faults."""
    first = results.contestants[0]
    head = ["geometric mean / " + first.name, "time", "peak RSS", "minor faults"]
    kinds = (results.time, results.rss, results.faults)
    return table(head, [[c.name] + [ratio_text(results.mean_ratio(c, first, k)) for k in kinds]
                        for c in results.contestants])


def report(results, title, unit, unit_text, rounds, what):
    """The whole Markdown text: time, ratios, memory, faults, means."""
    runs = "Minimum of %d runs; + is how far the slowest lies above it." % rounds
    lines = ["# " + title, "", "## Time, " + unit_text, "", runs if rounds > 1 else "One run.", ""]
    lines += figures(results, what, lambda r, c: time_text(results, r, c, unit))
    cpu = figures(results, what, lambda r, c: figure_text(
        None if results.cpu(r, c) is None else results.cpu(r, c) / 1e3))
    sections = (
        ("Processor time, ms", cpu if what == "command" else []),
        ("Time, ratios", ratios(results, what, results.time, "fastest")),
        ("Peak RSS, MiB", figures(results, what, lambda r, c: figure_text(
            None if results.rss(r, c) is None else results.rss(r, c) / 1024.0))),
        ("Peak RSS, ratios", ratios(results, what, results.rss, "leanest")),
        ("Minor page faults", figures(results, what, lambda r, c: "–" if results.faults(
            r, c) is None else "{:,.0f}".format(results.faults(r, c)))),
        ("Summary", means(results)),
    )
    for name, body in sections:
        if body:
            lines += ["", "## " + name, ""] + body
    return "\n".join(lines) + "\n"


def noise_report(results, title, rounds):
    """The same allocator twice: how far apart two equal columns come out."""
    one, two = results.contestants
    rows, ratios_seen = [], []
    for row in results.rows:
        ratio = results.ratio(row, two, one, results.time)
        if ratio:
            ratios_seen.append(ratio)
        rows.append([row, time_text(results, row, one, 1), time_text(results, row, two, 1),
                     ratio_text(ratio), ratio_text(results.ratio(row, two, one, results.rss))])
    lines = ["# " + title, "", "The same allocator twice, least of %d each." % rounds, ""]
    lines += table(["", one.name, two.name, "time", "peak RSS"], rows)
    if ratios_seen:
        worst = max(max(r, 1 / r) for r in ratios_seen)
        lines += ["", "Geometric mean of the ratios %.3f, the largest difference %.1f %%: ratios"
                  " closer to 1 than that say nothing." % (
                      results.mean_ratio(two, one, results.time), 100 * (worst - 1))]
    return "\n".join(lines) + "\n"
