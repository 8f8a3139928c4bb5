# Sourced by tools/try and tools/check: brings a machine and a build directory to where `make` works.
# Sets `root` (the source tree) and `build` (the build tree).

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
build=${ASH_BUILD:-$root/build}

say() {
    printf '%s\n' "$*" >&2
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# The Debian packages whose programs or headers are missing; $1 = all adds those of the tests.
missing_packages() {
    has cc || has gcc || echo gcc libc6-dev
    has make || echo make
    has autoreconf || echo autoconf automake
    has automake || echo automake
    has libtoolize || echo libtool
    has c++ || has g++ || echo g++
    has objcopy || echo binutils
    if [ "$1" = all ]; then
        has valgrind || echo valgrind
        [ -e /usr/include/benchmark/benchmark.h ] || echo libbenchmark-dev
    fi
}

# Installs packages when that can be done without a question, else says what to do and stops.
install_packages() {
    [ $# -gt 0 ] || return 0
    if has apt-get && [ "$(id -u)" = 0 ]; then
        say "installing $*"
        log=$(mktemp)
        if { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y "$@"; } >"$log" 2>&1
        then
            rm -f "$log"
            return 0
        fi
        tail -n 20 "$log" >&2
        rm -f "$log"
    fi
    say "The build needs programs that are not here. On Debian: apt-get install $*"
    exit 1
}

# Runs a step with its output in a log, which is shown when it fails.
step() {
    what=$1
    shift
    say "$what"
    if ! "$@" >"$build/$what.log" 2>&1; then
        tail -n 40 "$build/$what.log" >&2
        say "$what failed; the whole output is in $build/$what.log"
        exit 1
    fi
}

# setup try|all [configure options]: packages, configure where needed, and the build.
setup() {
    packages=$(missing_packages "$1" | tr ' ' '\n' | sort -u | tr '\n' ' ')
    shift
    # shellcheck disable=SC2086 # a list of words
    install_packages $packages
    mkdir -p "$build" "$root/build-aux/m4"
    if [ ! -e "$root/configure" ] || [ "$root/configure.ac" -nt "$root/configure" ] ||
        [ "$root/Makefile.am" -nt "$root/Makefile.in" ]; then
        step autoreconf autoreconf -fi "$root"
    fi
    if [ ! -e "$build/Makefile" ] || [ "$root/configure" -nt "$build/config.status" ] ||
        [ "$*" != "$(cat "$build/configured" 2>/dev/null)" ]; then
        step configure sh -c 'cd "$1" && shift && exec "$@"' sh "$build" "$root/configure" "$@"
        echo "$*" >"$build/configured"
    fi
    if ! make -s -C "$build" -q all >/dev/null 2>&1; then
        step build make -s -C "$build" -j"$(nproc)" all
    fi
}
