# The test anything protocol for shell tests; sourced. Ends with tap_done.
tap_count=0
tap_failures=0

# ok STATUS NAME: STATUS 0 passes.
ok() {
    tap_count=$((tap_count + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $tap_count - $2"
    else
        echo "not ok $tap_count - $2"
        tap_failures=$((tap_failures + 1))
    fi
}

# is GOT WANT NAME
is() {
    if [ "$1" = "$2" ]; then
        ok 0 "$3"
    else
        ok 1 "$3"
        printf '%s\n' "got:  $1" "want: $2" | head -n 40 | sed 's/^/# /'
    fi
}

# skip NAME REASON
skip() {
    tap_count=$((tap_count + 1))
    echo "ok $tap_count - $1 # SKIP $2"
}

tap_done() {
    echo "1..$tap_count"
    [ "$tap_failures" -eq 0 ]
    exit
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# need PROGRAM PACKAGE: installs the package where tests may do that (ASH_TEST_INSTALL=1 and root), one test at
# a time; false when the program is still not there.
need() {
    has "$1" && return 0
    [ "${ASH_TEST_INSTALL:-}" = 1 ] && [ "$(id -u)" = 0 ] && has apt-get || return 1
    (
        flock 9
        has "$1" || DEBIAN_FRONTEND=noninteractive apt-get install -y "$2" ||
            { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y "$2"; }
    ) 9>"${TMPDIR:-/tmp}/ashlar-test-install.lock" >/dev/null 2>&1
    has "$1"
}

# A directory of the test's own, removed at the end.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
