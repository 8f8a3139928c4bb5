"""The allocators that take part: where their libraries are, and whether preloading them works.

Whether a preload took effect is asked of the dynamic linker itself: LD_DEBUG=bindings makes it
write down which library each symbol was bound to, for every process that a command starts.
"""
import glob
import os
import re
import subprocess
import tempfile
import time

PEERS = (
    ("jemalloc", ("libjemalloc.so.2",)),
    ("mimalloc", ("libmimalloc.so.2.0", "libmimalloc.so.2")),
    ("tcmalloc", ("libtcmalloc_minimal.so.4",)),
)
DIRECTORIES = (
    "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib",
    "/usr/local/lib", "/lib",
)
BINDING = re.compile(r"binding file .* to (\S+) \[\d+\]: normal symbol `(malloc|_Znwm)'")


class Contestant:
    """An allocator with the environment that selects it. `kind` is glibc, ashlar or peer."""

    def __init__(self, name, kind, library=None, settings=None):
        self.name = name
        self.kind = kind
        self.library = library
        self.settings = dict(settings or {})
        if library:
            self.settings["LD_PRELOAD"] = library

    def environment(self):
        env = base_environment()
        env.update(self.settings)
        return env


def base_environment():
    """The caller's environment without anything preloaded and in one language."""
    env = dict(os.environ, LC_ALL="C")
    for name in ("LD_PRELOAD", "ASHLAR_GRAIN", "LD_DEBUG", "LD_DEBUG_OUTPUT"):
        env.pop(name, None)
    return env


def linker_cache():
    """File name -> path of the libraries that the dynamic linker's cache knows."""
    for program in ("ldconfig", "/sbin/ldconfig"):
        try:
            text = subprocess.run([program, "-p"], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, check=False).stdout.decode()
        except OSError:
            continue
        found = {}
        for line in text.splitlines():
            match = re.match(r"\s+(\S+) \(.*\) => (\S+)$", line)
            if match:
                found.setdefault(match.group(1), match.group(2))
        return found
    return {}


def find_peers():
    cache = linker_cache()
    peers = []
    for name, files in PEERS:
        paths = [cache[f] for f in files if f in cache]
        paths += [p for f in files for d in DIRECTORIES for p in glob.glob(os.path.join(d, f))]
        if paths:
            peers.append(Contestant(name, "peer", paths[0]))
    return peers


def find_ashlar(explicit, build, root):
    """Path of libashlar.so, or None."""
    if explicit:
        if not os.path.exists(explicit):
            raise SystemExit("bench/compare: there is no " + explicit)
        return os.path.abspath(explicit)
    for path in (os.environ.get("LIBASHLAR"), os.path.join(build, ".libs", "libashlar.so"),
                 os.path.join(root, "build", ".libs", "libashlar.so"),
                 linker_cache().get("libashlar.so.0")):
        if path and os.path.exists(path):
            return os.path.abspath(path)
    return None


def all_contestants(ashlar, extra):
    """glibc, Ashlar with both grains, the installed peers, then what --lib names."""
    result = [Contestant("glibc", "glibc")]
    if ashlar:
        result.append(Contestant("ashlar", "ashlar", ashlar, {"ASHLAR_GRAIN": "64"}))
        result.append(Contestant("ashlar-16", "ashlar", ashlar, {"ASHLAR_GRAIN": "16"}))
    result += find_peers()
    for text in extra:
        name, _, rest = text.partition("=")
        path, *settings = rest.split(",")
        if not name or not os.path.exists(path):
            raise SystemExit("bench/compare: --lib wants NAME=PATH[,VAR=VALUE...], not " + text)
        pairs = dict(s.split("=", 1) for s in settings if "=" in s)
        result.append(Contestant(name, "peer", os.path.abspath(path), pairs))
    return result


def is_mapped(contestant, command):
    """For linkers without LD_DEBUG: does the library appear in the process's map while it runs?"""
    if contestant.library is None:
        return False
    name = os.path.realpath(contestant.library)
    seen = False
    with open(os.devnull, "rb") as source:
        process = subprocess.Popen(command, env=contestant.environment(), stdin=source,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not seen and process.poll() is None:
        try:
            with open("/proc/%d/maps" % process.pid) as maps:
                seen = name in maps.read()
        except OSError:
            break
        time.sleep(0.0005)
    process.wait()
    return seen


class Probe:
    """One run of a command with the dynamic linker's bindings written down."""

    def __init__(self, contestant, command):
        with tempfile.TemporaryDirectory(prefix="ashlar-probe-") as directory:
            env = contestant.environment()
            env["LD_DEBUG"] = "bindings"
            env["LD_DEBUG_OUTPUT"] = os.path.join(directory, "ld")
            with open(os.devnull, "rb") as source:
                try:
                    done = subprocess.run(command, env=env, stdin=source, stdout=subprocess.PIPE,
                                          stderr=subprocess.PIPE, check=False)
                except OSError as error:
                    raise SystemExit("bench/compare: %s: %s" % (command[0], error.strerror))
            self.output = done.stdout
            self.errors = done.stderr
            self.status = done.returncode
            self.providers = []  # of each process: the files that malloc was bound to
            for path in sorted(glob.glob(os.path.join(directory, "ld.*"))):
                with open(path, errors="replace") as file:
                    self.providers.append({m.group(1) for m in map(BINDING.search, file) if m})
        self.mapped = bool(self.providers) or is_mapped(contestant, command)

    def complaint(self, contestant):
        """None when the contestant's malloc was used, else what was found instead."""
        if not self.providers and (self.mapped or contestant.library is None):
            return None
        if not self.providers:
            return "the library was not seen in the process (a static program?)"
        used = set().union(*self.providers)
        if contestant.library is None:
            plain = not used or any(re.search(r"/libc[.-]", f) for f in used)
            return None if plain else "malloc comes from " + ", ".join(sorted(used))
        real = os.path.realpath(contestant.library)
        missing = [p for p in self.providers if p and real not in map(os.path.realpath, p)]
        if not used:
            return "no process bound malloc"
        if missing:
            return "%d of %d processes took malloc from %s" % (
                len(missing), len(self.providers), ", ".join(sorted(set().union(*missing))))
        return None
