"""Samples of every row and contestant, and the figures made from them.

Time is the minimum of the runs, since whatever else the machine does only adds to it; its spread is
how far the slowest run lies above. Memory and faults are medians. A ratio below 1 favours Ashlar.
"""
import math
import statistics


class Results:
    def __init__(self, contestants):
        self.contestants = contestants
        self.rows = []       # names, in order
        self.untimed = set() # rows whose time means nothing
        self.samples = {}    # (row, contestant name) -> list of samples

    def add(self, row, contestant, sample):
        if row not in self.rows:
            self.rows.append(row)
        self.samples.setdefault((row, contestant.name), []).append(sample)

    def has(self, row, contestant):
        return (row, contestant.name) in self.samples

    def time(self, row, contestant):
        if row in self.untimed or not self.has(row, contestant):
            return None
        return min(s.time for s in self.samples[row, contestant.name])

    def spread(self, row, contestant):
        samples = self.samples[row, contestant.name]
        return max(s.slowest for s in samples) / min(s.time for s in samples) - 1

    def rss(self, row, contestant):
        return self.median(row, contestant, "rss_kib")

    def faults(self, row, contestant):
        return self.median(row, contestant, "faults")

    def cpu(self, row, contestant):
        if not self.has(row, contestant):
            return None
        return min(s.user_us + s.system_us for s in self.samples[row, contestant.name])

    def median(self, row, contestant, field):
        if not self.has(row, contestant):
            return None
        return statistics.median(getattr(s, field) for s in self.samples[row, contestant.name])

    def of_kind(self, kind):
        return [c for c in self.contestants if c.kind == kind]

    def best_peer(self, row, figure):
        """(value, contestant) of the peer with the smallest figure, or None."""
        values = [(figure(row, c), c) for c in self.of_kind("peer")]
        values = [v for v in values if v[0] is not None]
        return min(values, key=lambda v: v[0]) if values else None

    def ratio(self, row, contestant, other, figure):
        mine, theirs = figure(row, contestant), figure(row, other)
        return mine / theirs if mine and theirs else None

    def mean_ratio(self, contestant, other, figure):
        return geometric_mean(self.ratio(r, contestant, other, figure) for r in self.rows)

    def mean_ratio_best(self, contestant, figure):
        ratios = []
        for row in self.rows:
            best = self.best_peer(row, figure)
            mine = figure(row, contestant)
            if best and best[0] and mine:
                ratios.append(mine / best[0])
        return geometric_mean(ratios)


def geometric_mean(values):
    logs = [math.log(v) for v in values if v]
    return math.exp(sum(logs) / len(logs)) if logs else None
