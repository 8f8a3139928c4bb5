"""Results as a file: what --save writes and --from reads.

Of each row and allocator it keeps what the reports are made of: the least time and by how much the
slowest run was above it, the medians of memory and page faults, and the least processor time.
Single samples are what --json is for.
"""
import json

from contestants import Contestant
from results import Results

VERSION = 1


class Saved:
    """The figures of a row and an allocator, in place of the samples that they were made from."""

    def __init__(self, fields):
        self.time = fields["time"]
        self.slowest = fields["slowest"]
        self.rss_kib = fields["rss_kib"]
        self.faults = fields["faults"]
        self.user_us = fields.get("cpu_us", 0)
        self.system_us = 0


def figures(results, row, contestant):
    if not results.has(row, contestant):
        return None
    return {"row": row, "allocator": contestant.name,
            "time": min(s.time for s in results.samples[row, contestant.name]),
            "slowest": max(s.slowest for s in results.samples[row, contestant.name]),
            "cpu_us": results.cpu(row, contestant),
            "rss_kib": results.rss(row, contestant), "faults": results.faults(row, contestant)}


def save(path, mode, title, rounds, all_results):
    """Writes one set of results, or several that belong together, as one line a figure."""
    if not path:
        return
    first = all_results[0]
    lines = [json.dumps(f, ensure_ascii=False) for results in all_results for row in results.rows
             for f in [figures(results, row, c) for c in results.contestants] if f]
    head = {"version": VERSION, "mode": mode, "title": title, "rounds": rounds,
            "allocators": [{"name": c.name, "kind": c.kind} for c in first.contestants],
            "untimed": sorted(set().union(*[r.untimed for r in all_results]))}
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ",\n \"figures\": [\n  " +
                   ",\n  ".join(lines) + "]}\n")


class File:
    """A file of --save: `mode`, `title`, `rounds`, and the results."""

    def __init__(self, path):
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            if content["version"] != VERSION:
                raise SystemExit("bench/compare: %s is of version %s of --save, not %d" % (
                    path, content["version"], VERSION))
            self.mode, self.title = content["mode"], content["title"]
            self.rounds = content["rounds"]
            contestants = [Contestant(a["name"], a["kind"]) for a in content["allocators"]]
            self.results = Results(contestants)
            self.results.untimed = set(content["untimed"])
            by_name = {c.name: c for c in contestants}
            for fields in content["figures"]:
                self.results.add(fields["row"], by_name[fields["allocator"]], Saved(fields))
        except OSError as error:
            raise SystemExit("bench/compare: %s: %s" % (path, error.strerror))
        except (ValueError, KeyError, TypeError) as error:
            raise SystemExit("bench/compare: %s is not what --save writes: %r" % (path, error))

    def contestant(self, name):
        return next(c for c in self.results.contestants if c.name == name)
