# Other machines and libcs, built from the sources and run: aarch64 under qemu, musl, other page sizes (by wrapping the one
# function that tells it), clang, and no optimisation.
. "$top_srcdir/tests/tap.sh"
sources=$(for module in $(grep -vE '^(#|vm/|msg/|txn/)' "$top_srcdir/src/LAYERS"); do # the first library's
    [ -e "$top_srcdir/src/$module.c" ] && echo "$top_srcdir/src/$module.c"; done)
flags="-std=gnu11 -D_GNU_SOURCE -g -w -fno-builtin -pthread -I$top_srcdir/src -I$top_srcdir/include -I$top_srcdir/tests"
ASH_TEST_ROUNDS=3000
export ASH_TEST_ROUNDS

# try NAME RUNNER TEST COMPILER FLAGS...: builds a test with the core inside and runs it; malloc is replaced, but for unit
# tests.
try() {
    name=$1 runner=$2 test=$3
    shift 3
    case $test in unit/*) front= ;; *) front="$top_srcdir/preload/api.c $top_srcdir/preload/malloc.c" ;; esac
    # shellcheck disable=SC2086 # lists of words
    "$@" $flags -o "$scratch/program" "$top_srcdir/tests/$test" $sources $front $extra \
        >"$scratch/log" 2>&1 &&
        $runner "$scratch/program" >>"$scratch/log" 2>&1
    status=$?
    ok $status "$name: $test"
    [ $status = 0 ] || grep -v '^ok' "$scratch/log" | tail -n 8 | sed 's/^/# /'
}

extra=
if need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu && need qemu-aarch64 qemu-user &&
    echo 'int main(void) { return 0; }' | aarch64-linux-gnu-gcc -static -x c -o "$scratch/empty" - 2>/dev/null; then
    for test in unit/test_remote.c unit/test_reserve.c stress/test_stress.c; do
        try "aarch64 under qemu" qemu-aarch64 $test aarch64-linux-gnu-gcc -O2 -static
    done
else
    skip aarch64 "no cross compiler or no qemu-user"
fi
extra=
if need musl-gcc musl-tools; then
    for test in unit/test_remote.c stress/test_stress.c; do
        try musl "" $test musl-gcc -O2 -static
    done
    # shellcheck disable=SC2086
    musl-gcc $flags -O2 -fPIC -shared -fvisibility=hidden -o "$scratch/libashlar-musl.so" $sources \
        "$top_srcdir/preload/api.c" "$top_srcdir/preload/malloc.c" >"$scratch/log" 2>&1 &&
        printf '%s\n' '#include <stdio.h>' '#include <stdlib.h>' '#include <string.h>' \
            'int main(void) { char *p = strdup("musl"); p = realloc(p, 100000); puts(p); free(p); return 0; }' >"$scratch/m.c" &&
        musl-gcc -o "$scratch/m" "$scratch/m.c" && [ -e "/lib/ld-musl-$(uname -m).so.1" ]
    if [ $? = 0 ]; then
        is "$(LD_PRELOAD=$scratch/libashlar-musl.so ASHLAR_STATS=1 "$scratch/m" 2>&1 | grep -cE '^musl|statistics of')" 2 \
            "preloaded into a musl program"
    else
        skip "preloaded into a musl program" "musl's loader is not here"
    fi
else
    skip musl "no musl-gcc"
fi
for size in 16384 65536; do
    echo "#include <stddef.h>
size_t __wrap_os_page_size(void); size_t __wrap_os_page_size(void) { return $size; }" >"$scratch/page.c"
    extra=$scratch/page.c
    try "pages of $size bytes" "" stress/test_stress.c "$CC" -O2 -Wl,--wrap=os_page_size
    try "pages of $size bytes" "" unit/test_reserve.c "$CC" -O2 -Wl,--wrap=os_page_size
done
for level in -O0 -O3 "-O2 -flto"; do
    # shellcheck disable=SC2086
    try "gcc $level" "" stress/test_stress.c "$CC" $level
done
if has clang; then
    try "clang" "" stress/test_stress.c clang -O2
fi
extra=
for sanitizer in thread address,undefined; do
    if echo 'int main(void) { return 0; }' | $CC -fsanitize=$sanitizer -x c -o "$scratch/empty" - 2>/dev/null && "$scratch/empty"; then
        # shellcheck disable=SC2086
        $CC $flags -O1 -fsanitize=$sanitizer -o "$scratch/san" "$top_srcdir/tests/unit/test_remote.c" $sources >"$scratch/log" 2>&1 &&
            "$scratch/san" >>"$scratch/log" 2>&1
        ok $? "sanitizer $sanitizer: unit/test_remote.c"
        grep -E 'WARNING|ERROR|runtime error' "$scratch/log" | head -n 5 | sed 's/^/# /'
    else
        skip "sanitizer $sanitizer" "not supported by the compiler"
    fi
done
tap_done
