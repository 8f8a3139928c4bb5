"""bench/compare --pictures: pictures and tables of the README and the guides, from bench/results.

A table stands between <!-- table: NAME --> and <!-- end --> and is written anew; so what the pages
say is what was measured, and a new measurement is one command.
"""
import glob
import os
import re

import growth
import picture
import saved
from table import figure_text, ratio_text, table

NAMES = {"glibc": "glibc 2.36", "ashlar": "**Ashlar**", "ashlar-16": "Ashlar, grain 16",
         "jemalloc": "jemalloc 5.3.0", "mimalloc": "mimalloc 2.0.9", "tcmalloc": "tcmalloc 2.10"}
PATTERNS = (
    ("pair", "malloc + free, 16 to 1024 bytes"),
    ("pair-medium", "malloc + free, 2 to 64 KiB"),
    ("batch32", "32 mallocs, then 32 frees"),
    ("mixed", "16 bytes to 8 KiB, random replacement"),
    ("replace-1m", "the same among a million live blocks"),
    ("random", "random lifetimes, small blocks"),
    ("mix-sqlite", "what SQLite allocates, played back"),
    ("realloc-append", "texts that grow by 40 bytes"),
    ("large", "large blocks, 1 to 32 MiB, touched"),
    ("pass-1", "one thread allocates, another frees"),
    ("larson-8", "8 threads that are replaced and hand blocks on"),
    ("stress-4", "4 threads, mixed sizes, blocks passed around"),
)
CHARTS = (("pass-1", "one thread allocates, another frees"),
          ("replace-1m", "random replacement, a million blocks"),
          ("stress-4", "4 threads, blocks passed around"))
TABLE = re.compile(r"(<!-- table: ([a-z]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


class Pages:
    def __init__(self, tree):
        self.tree = tree
        names = ("patterns", "growth", "programs", "startup")
        self.of = {n: saved.File(os.path.join(tree, "bench/results", n + ".json")) for n in names}
        self.contestants = self.of["patterns"].results.contestants

    def cells(self, name, text):
        """A line's cells: text(results, contestant) of each allocator, – for those left out."""
        results = self.of[name].results
        there = {c.name: c for c in results.contestants}
        cells = [text(results, there[c.name]) if c.name in there else "–" for c in self.contestants]
        return [("**%s**" % cell) if c.name == "ashlar" and cell != "–" else cell
                for c, cell in zip(self.contestants, cells)]

    def mean(self, name, figure):
        def text(results, contestant):
            return ratio_text(results.mean_ratio(contestant, results.contestants[0],
                                                 getattr(results, figure)))
        return self.cells(name, text)

    def table_patterns(self):
        rows = [[words] + self.cells("patterns", lambda r, c, p=p: figure_text(r.time(p, c)))
                for p, words in PATTERNS]
        return table(["pattern, ns an operation"] + [NAMES[c.name] for c in self.contestants], rows)

    def table_means(self):
        patterns, programs = (len(self.timed(n)) for n in ("patterns", "programs"))
        rows = [["time of %d patterns" % patterns] + self.mean("patterns", "time"),
                ["their peak memory"] + self.mean("patterns", "rss"),
                ["time of %d real programs" % programs] + self.mean("programs", "time"),
                ["their peak memory"] + self.mean("programs", "rss"),
                ["page faults of `/bin/true`"] + self.cells(
                    "startup", lambda r, c: "%.0f" % r.faults("/bin/true", c))]
        return table(["against glibc"] + [NAMES[c.name] for c in self.contestants], rows)

    def table_programs(self):
        results = self.of["programs"].results
        def both(results, row, c):
            glibc = results.contestants[0]
            return "%s; %s" % (ratio_text(results.ratio(row, c, glibc, results.time)),
                               ratio_text(results.ratio(row, c, glibc, results.rss)))
        rows = [[row] + [both(results, row, c) for c in results.contestants[1:]]
                for row in results.rows]
        mean = [["**geometric mean**"] + ["%s; %s" % tuple(
            ratio_text(results.mean_ratio(c, results.contestants[0], f))
            for f in (results.time, results.rss)) for c in results.contestants[1:]]]
        return table(["time; peak memory"] + [NAMES[c.name] for c in results.contestants[1:]],
                     rows + mean)

    def table_growth(self):
        results = self.of["growth"].results
        def lines(rows):
            return [[row] + [figure_text(results.time(row, c)) for c in results.contestants]
                    for row in rows]
        live = [r for r in results.rows if r.endswith("iB")]
        threads = [r for r in results.rows if r not in live]
        names = [NAMES[c.name] for c in results.contestants]
        return (table(["live memory"] + names, lines(live)) + [""] +
                table(["threads"] + names, lines(threads)))

    def timed(self, name):
        results = self.of[name].results
        return [r for r in results.rows if r not in results.untimed]

    def summary(self):
        """The picture at the top of the README: what it costs and saves, in six charts."""
        patterns, programs = self.of["patterns"].results, self.of["programs"].results
        means = [
            ("time of %d patterns / glibc" % len(self.timed("patterns")), patterns, patterns.time),
            ("their peak memory / glibc", patterns, patterns.rss),
            ("peak memory of %d programs / glibc" % len(programs.rows), programs, programs.rss)]
        charts = [(title, [(c.name, r.mean_ratio(c, r.contestants[0], f)) for c in r.contestants],
                   ratio_text) for title, r, f in means]
        charts += [(title, [(c.name, patterns.time(p, c)) for c in patterns.contestants],
                    picture.duration_text) for p, title in CHARTS]
        return picture.page(patterns.contestants, charts, "Ashlar beside other allocators",
                            "Shorter is better; bars that are cut go on.")

    def write(self):
        for name, drawn in (("summary", self.summary()), ("patterns", self.patterns_picture()),
                            ("growth", growth.svg(growth.of_saved(self.of["growth"]),
                                                  self.of["growth"].rounds))):
            put(os.path.join(self.tree, "bench", name + ".svg"), drawn)
        pages = [os.path.join(self.tree, "README.md")]
        pages += sorted(glob.glob(os.path.join(self.tree, "tools/guide/*.md")))
        for path in pages:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            put(path, TABLE.sub(self.fill, text))

    def patterns_picture(self):
        file = self.of["patterns"]
        return picture.svg(file.results, file.title, picture.subtitle(file.rounds, False))

    def fill(self, match):
        lines = getattr(self, "table_" + match.group(2), None)
        if lines is None:
            raise SystemExit("bench/compare: no table is named " + match.group(2))
        return match.group(1) + "\n" + "\n".join(lines()) + "\n\n" + match.group(3)


def put(path, text):
    """Leaves a file alone that says so already."""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
