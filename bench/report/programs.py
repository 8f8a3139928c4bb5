"""The measured programs: found in the build directory or compiled for this run; single runs."""
import glob
import os
import shutil
import subprocess
import tempfile

SOURCES = {
    "bench/measure": "bench/measure.c",
    "bench/hitpath": "bench/hitpath.c",
    "bench/patterns/patterns": "bench/patterns/*.[ch]",
}


class Sample:
    """What one run cost."""

    def __init__(self, line):
        fields = [int(f) for f in line.split()]
        self.wall_ns, self.user_us, self.system_us, self.rss_kib, self.faults = fields[:5]
        self.major_faults, self.status = fields[5:]
        self.time = float(self.wall_ns)
        self.ops = 0
        self.output = b""

    @property
    def slowest(self):
        return self.time


class Programs:
    def __init__(self, root, build):
        self.root = root
        self.build = build
        self.directory = tempfile.mkdtemp(prefix="ashlar-bench-")

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def path(self, name):
        """The program's path; compiled when the build directory has none newer than its source."""
        sources = sorted(glob.glob(os.path.join(self.root, SOURCES[name])))
        for built in (os.path.join(self.build, name),
                      os.path.join(self.directory, os.path.basename(name))):
            if os.access(built, os.X_OK) and all(
                    os.path.getmtime(built) >= os.path.getmtime(s) for s in sources):
                return built
        compiler = os.environ.get("CC", "cc").split()
        command = compiler + ["-std=gnu11", "-O2", "-D_GNU_SOURCE", "-pthread", "-o", built]
        files = [s for s in sources if s.endswith(".c")]
        try:
            subprocess.run(command + files + ["-ldl", "-lm"], check=True)
        except (OSError, subprocess.CalledProcessError):
            raise SystemExit("bench/compare: %s is not built and cannot be compiled" % name)
        return built

    def measure(self, contestant, command, runs=1):
        """Runs the command `runs` times under one allocator and gives back the samples."""
        report = os.path.join(self.directory, "report")
        arguments = [self.path("bench/measure"), "-n", str(runs), "-o", report]
        for name, value in contestant.settings.items():
            arguments += ["-e", "%s=%s" % (name, value)]
        env = contestant.environment()
        for name in contestant.settings:
            env.pop(name, None)
        with open(os.devnull, "rb") as source:
            done = subprocess.run(arguments + list(command), env=env, stdin=source,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if done.returncode == 126 and not os.path.exists(report):
            raise SystemExit(done.stderr.decode(errors="replace").strip())
        with open(report) as file:
            samples = [Sample(line) for line in file]
        os.unlink(report)
        if not samples:
            raise SystemExit("bench/compare: " + done.stderr.decode(errors="replace").strip())
        for sample in samples:
            sample.output = done.stdout
            sample.errors = done.stderr.decode(errors="replace")
        return samples

    def patterns(self):
        """(name, group, help) of every pattern."""
        text = subprocess.run([self.path("bench/patterns/patterns"), "--list"], check=True,
                              env=dict(os.environ, LD_PRELOAD=""),
                              stdout=subprocess.PIPE).stdout.decode()
        return [tuple(line.split(None, 2)) for line in text.splitlines()]

    def run_pattern(self, contestant, name, settings):
        """One run of a pattern; its time is in ns per operation."""
        command = [self.path("bench/patterns/patterns"), name] + settings
        sample = self.measure(contestant, command)[0]
        fields = sample.output.split()
        if sample.status != 0 or len(fields) != 3:
            raise RuntimeError("%s under %s ended with status %d: %s" % (
                name, contestant.name, sample.status, sample.errors.strip()[-300:]))
        sample.time = float(fields[1])
        sample.ops = int(fields[2])
        return sample


def stripped_size(library):
    """Bytes of the library without its symbol table, or None."""
    with tempfile.TemporaryDirectory(prefix="ashlar-strip-") as directory:
        out = os.path.join(directory, "stripped")
        try:
            subprocess.run(["strip", "-o", out, os.path.realpath(library)], check=True,
                           stderr=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            return None
        return os.path.getsize(out)
