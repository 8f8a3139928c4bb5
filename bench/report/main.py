"""bench/compare: Ashlar beside glibc and every installed peer, by preloading, in rotated order.

A round runs every contestant once on every row; the first contestant changes with the round, so
that a machine that warms up or gets busy does not favour one of them. Before anything is timed each
contestant is probed: did its malloc take effect, and does a real program print what it prints with
glibc?
"""
import argparse
import json
import os
import sys

import growth
import pages
import paths
import picture
import record
import saved
import startup
import table
import workloads
from contestants import Contestant, Probe, all_contestants, find_ashlar
from programs import Programs
from results import Results

EPILOG = """
modes:
  (none)            the pattern programs: all but the heavy ones, or the patterns and groups named
  --programs[=NAMES]
                    a dozen programs at work, those of them that are installed; what they print
                    must be the same under every allocator. `ashlar compare` does one of your own
  --growth[=MIB]    time per operation as live memory grows, up to so many MiB (8192, or half of
                    what is available), and as threads do; --markdown, --svg, --json apply
  --startup         time, page faults and memory of /bin/true; size of the libraries
  --hitpath         instructions of each call served from the cache (needs valgrind)
  --from=FILE       the report, and --markdown and --svg, of results that --save left in FILE
  --pictures        the pictures and tables of README.md and tools/guide, from bench/results:
                    patterns.json, growth.json, programs.json, startup.json, written by --save
  --record=PROGRAM[:NAME] -- COMMAND...
                    sizes and lives of the blocks that the processes of that name allocate while
                    the command runs, as a table for bench/patterns/mixes.h; the
                    tables there come from bench/record-mixes

examples:
  bench/compare --markdown table.md --svg table.svg
  bench/compare --scale 0.2 --rounds 3 small pass-1
  bench/compare --aa small                     how far apart two equal allocators come out
  bench/compare --lib new=/path/libnew.so small
"""


def warn(message):
    sys.stderr.write("bench/compare: %s\n" % message)


def progress(message):
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K%s" % message)
        sys.stderr.flush()


def progress_end():
    progress("")


def parse(argv):
    command = None
    if "--" in argv:
        split = argv.index("--")
        argv, command = argv[:split], argv[split + 1:]
    p = argparse.ArgumentParser(
        prog="bench/compare", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compares Ashlar (grain 64 and 16) with glibc and the installed peers.")
    p.add_argument("pattern", nargs="*", help="patterns or groups of them; see --list")
    p.add_argument("--rounds", type=int, default=5, help="runs of each row (5)")
    p.add_argument("--scale", type=float, default=1, help="multiplies the patterns' operations (1)")
    p.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE",
                   help="a setting of the patterns: seed, ops, blocks, min, max, threads")
    p.add_argument("--only", metavar="NAMES", help="only these allocators, separated by commas")
    p.add_argument("--lib", action="append", default=[], metavar="NAME=PATH[,VAR=VALUE...]",
                   help="one more peer")
    p.add_argument("--ashlar", metavar="PATH", help="libashlar.so (the build directory's)")
    p.add_argument("--build", metavar="DIR", help="build directory (ASH_BUILD, ., or build)")
    p.add_argument("--stdin", metavar="FILE", help="standard input of --record's command")
    p.add_argument("--markdown", metavar="FILE", help="writes the tables there as well")
    p.add_argument("--svg", metavar="FILE", help="draws the picture there")
    p.add_argument("--json", metavar="FILE", help="writes every single sample there")
    p.add_argument("--save", metavar="FILE", help="writes what --from reads")
    p.add_argument("--aa", nargs="?", const="glibc", metavar="NAME",
                   help="noise: --aa=NAME runs one allocator (glibc) as if it were two")
    p.add_argument("--growth", nargs="?", type=int, const=8192, metavar="MIB")
    p.add_argument("--programs", nargs="?", const="", metavar="NAMES",
                   help="only these, separated by commas")
    p.add_argument("--startup", action="store_true")
    p.add_argument("--hitpath", nargs="?", const="16,64,1024,16384", metavar="BYTES,...")
    p.add_argument("--record", metavar="PROGRAM[:NAME]")
    p.add_argument("--from", dest="source", metavar="FILE")
    p.add_argument("--pictures", nargs="?", const="", metavar="TREE")
    p.add_argument("--list", action="store_true", help="names patterns and allocators")
    args = p.parse_args(argv)
    args.command = command
    modes = (args.record, args.startup, args.hitpath, args.growth is not None,
             args.programs is not None, args.pattern, args.source, args.pictures is not None)
    if sum(map(bool, modes)) > 1:
        p.error("patterns, --programs, --growth, --startup, --hitpath, --record, --from and "
                "--pictures exclude each other")
    if args.growth is not None and (args.growth < 1 or args.aa or args.set):
        p.error("--growth is at least 1 MiB and goes without --aa and --set")
    if args.rounds < 1 or not 0 < args.scale <= 1e6:
        p.error("--rounds is at least 1; --scale is above 0")
    if bool(args.record) != bool(command):
        p.error("a command goes with --record: --record=PROGRAM -- COMMAND...; "
                "`ashlar compare -- COMMAND` runs one under every allocator")
    return args


def choose(args, root, build):
    """The contestants of this run, in the order of the columns."""
    ashlar = find_ashlar(args.ashlar, build, root)
    if ashlar is None:
        warn("no libashlar.so found (make, or --ashlar PATH): only the others are compared")
    found = all_contestants(ashlar, args.lib)
    if args.only or args.aa:
        names = [args.aa] if args.aa else args.only.split(",")
        unknown = [n for n in names if n not in [c.name for c in found]]
        if unknown:
            raise SystemExit("bench/compare: no allocator is named %s; there are %s" % (
                ", ".join(unknown), ", ".join(c.name for c in found)))
        found = [c for c in found if c.name in names]
    if args.aa:
        one = found[0]
        found = [one, Contestant(one.name + " again", one.kind, one.library, one.settings)]
    return found


def probe(contestants, command, compare_output):
    """Keeps those whose malloc takes effect and whose program prints what the first one's does."""
    kept = []
    reference = None
    for c in contestants:
        progress("probing " + c.name)
        result = Probe(c, command)
        complaint = result.complaint(c)
        if complaint:
            warn("%s: %s%s" % (c.name, complaint, ": left out" if c.library else ""))
            if c.library:
                continue
        if reference is None:
            reference = result
            again = Probe(c, command) if compare_output else result
            if again.output != reference.output:
                warn("the command does not print the same twice: output is not compared")
                compare_output = False
        elif result.status != reference.status:
            warn("%s: exit status %d, not %d: left out" % (c.name, result.status, reference.status))
            sys.stderr.write(result.errors.decode(errors="replace")[-400:])
            continue
        elif compare_output and result.output != reference.output:
            warn("%s: the command prints something else: left out" % c.name)
            continue
        kept.append(c)
    progress_end()
    return kept


def rotate(results, rows, rounds, run_one):
    """Calls run_one(row, contestant) in every round; a failure takes that pair out."""
    failed = set()
    contestants = results.contestants
    for r in range(rounds):
        for k, row in enumerate(rows):
            for i in range(len(contestants)):
                c = contestants[(r + k + i) % len(contestants)]
                if (row, c.name) in failed:
                    continue
                progress("round %d of %d: %s, %s" % (r + 1, rounds, row, c.name))
                try:
                    results.add(row, c, run_one(row, c))
                except RuntimeError as error:
                    progress_end()
                    warn(str(error))
                    failed.add((row, c.name))
                    results.samples.pop((row, c.name), None)
    progress_end()
    return not failed


def select_patterns(programs, wanted):
    known = programs.patterns()
    if not wanted:
        return [p for p in known if p[1] != "heavy"]
    for word in wanted:
        if word not in [p[0] for p in known] + [p[1] for p in known]:
            raise SystemExit("bench/compare: no pattern or group is named %s; see --list" % word)
    return [p for p in known if p[0] in wanted or p[1] in wanted]


def probe_patterns(programs, contestants):
    trial = [programs.path("bench/patterns/patterns"), "pair", "ops=300000"]
    return probe(contestants, trial, False)


def compare_patterns(args, programs, contestants):
    chosen = select_patterns(programs, args.pattern)
    settings = ["scale=%g" % args.scale] + args.set
    everyone = len(contestants)
    contestants = probe_patterns(programs, contestants)
    results = Results(contestants)
    results.untimed = {p[0] for p in chosen if p[1] == "memory"}
    ok = rotate(results, [p[0] for p in chosen], args.rounds,
                lambda row, c: programs.run_pattern(c, row, settings))
    for row in results.rows:
        if len({s.ops for c in contestants for s in results.samples.get((row, c.name), [])}) > 1:
            warn("%s: not the same number of operations everywhere" % row)
            ok = False
    ok = ok and len(contestants) == everyone
    return results, "Patterns of allocation", ok


def compare_programs(args, programs, contestants):
    """Contestants under whom a program prints something else are left out."""
    rows = workloads.all_workloads(programs.directory, programs.root)
    if args.programs:
        wanted = args.programs.split(",")
        missing = [w for w in wanted if w not in [name for name, _ in rows]]
        if missing:
            raise SystemExit("bench/compare: no installed program is named %s; there are %s" % (
                ", ".join(missing), ", ".join(name for name, _ in rows)))
        rows = [r for r in rows if r[0] in wanted]
    kept = contestants
    for _, command in rows:
        kept = probe(kept, command, True)
    results = Results(kept)
    commands = dict(rows)

    def run_one(name, c):
        sample = programs.measure(c, commands[name])[0]
        if sample.status >= 128:
            raise RuntimeError("%s under %s ended with status %d" % (name, c.name, sample.status))
        return sample

    ok = rotate(results, [name for name, _ in rows], args.rounds, run_one)
    return results, "Real programs", ok and len(contestants) == len(kept)


def compare_growth(args, programs, contestants):
    """Measures, writes and prints; the exit status."""
    everyone = len(contestants)
    contestants = probe_patterns(programs, contestants)
    both, ok = growth.measure(programs, contestants, args, rotate, warn)
    if not any(series.results.rows for series in both):
        return 1
    write_samples(args.json, *[series.results for series in both])
    saved.save(args.save, "growth", "Growth", args.rounds, [series.results for series in both])
    show_growth(args, both, args.rounds)
    return 0 if ok and len(contestants) == everyone else 1


def show(args, text, draw):
    """Prints a report and writes what else was asked for; `draw` makes the picture."""
    write(args.markdown, text)
    if args.svg:
        write(args.svg, draw())
    print(text, end="")


def show_growth(args, both, rounds):
    show(args, growth.report(both, rounds), lambda: growth.svg(both, rounds))


def show_results(args, results, title, rounds, whole):
    if args.aa and len(results.contestants) == 2:
        text = table.noise_report(results, title, rounds)
    else:
        text = table.report(results, title, *((1e6, "ms", rounds, "command") if whole else
                                              (1, "ns per operation", rounds, "pattern")))
    show(args, text, lambda: picture.svg(results, title, picture.subtitle(rounds, whole)))


def show_saved(args):
    """The report of a file that --save wrote."""
    file = saved.File(args.source)
    if file.mode == "growth":
        show_growth(args, growth.of_saved(file), file.rounds)
    else:
        show_results(args, file.results, file.title, file.rounds, file.mode != "patterns")


def write(path, text):
    if path:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def write_samples(path, *all_results):
    fields = ("time", "wall_ns", "user_us", "system_us", "rss_kib", "faults", "major_faults", "ops")
    rows = [dict({f: getattr(s, f) for f in fields}, row=row, allocator=name)
            for results in all_results
            for (row, name), samples in results.samples.items() for s in samples]
    write(path, json.dumps(rows, indent=1) + "\n")


def run(args, programs, contestants):
    """Prints the report of the chosen mode; the exit status."""
    if args.startup or args.hitpath:
        if args.startup:
            results = startup.measure(programs, contestants, args.rounds, progress)
            text = startup.report(results, args.rounds)
            saved.save(args.save, "startup", "Start-up", args.rounds, [results])
        else:
            sizes = [int(s) for s in args.hitpath.split(",")]
            text = paths.report(programs, contestants, sizes, warn)
        progress_end()
        write(args.markdown, text)
        print(text, end="")
        return 0
    if args.growth is not None:
        return compare_growth(args, programs, contestants)
    whole = args.programs is not None
    mode = compare_programs if whole else compare_patterns
    results, title, ok = mode(args, programs, contestants)
    if not results.contestants or not results.rows:
        return 1
    write_samples(args.json, results)
    saved.save(args.save, "programs" if whole else "patterns", title, args.rounds, [results])
    show_results(args, results, title, args.rounds, whole)
    return 0 if ok else 1


def main():
    args = parse(sys.argv[1:])
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    here = "." if os.path.exists(".libs/libashlar.so") else os.path.join(root, "build")
    build = os.path.abspath(args.build or os.environ.get("ASH_BUILD") or here)
    if args.pictures is not None:
        pages.Pages(args.pictures or root).write()
        return 0
    if args.source:
        show_saved(args)
        return 0
    programs = Programs(root, build)
    try:
        if args.record:
            library = find_ashlar(args.ashlar, build, root)
            text = record.report(library, programs.directory, args.record, args.command, args.stdin)
            write(args.markdown, text)
            print(text, end="")
            return 0
        contestants = choose(args, root, build)
        if args.list:
            for name, group, words in programs.patterns():
                print("%-16s %-8s %s" % (name, group, words))
            for c in contestants:
                print("%-16s %-8s %s" % (c.name, "", c.library or "the C library's own"))
            return 0
        return run(args, programs, contestants)
    except KeyboardInterrupt:
        return 130
    finally:
        programs.close()


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8") if hasattr(sys.stdout, "reconfigure") else None
    sys.exit(main())
