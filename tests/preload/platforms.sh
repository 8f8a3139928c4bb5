# Other machines, libcs, compilers, page sizes and sanitizers. In each configuration the core is compiled once, from the
# sources, and every test is linked to it; malloc is replaced, but in unit tests, and under a sanitizer, which has its own:
# there the tests call ash_malloc and its family.
# The configurations are built and run at the same time.
#
# What runs nowhere here: tests/lockfree, which stops threads at instructions of x86 in the shared library. The deeper tests
# (forks, refused mappings, pages that guard) run where it is most likely that they find something new. Under qemu, whose own
# words get between those of a process that aborts, none does that. Valgrind's helgrind and drd know nothing of C11's atomics
# and call every hand-over of a block a race: threads are for the thread sanitizer, without suppressions. Its memcheck takes
# what the check for double frees reads of a live block, padding perhaps, for a mistake; so it has no test of threads either.
. "$top_srcdir/tests/tap.sh"
sources=$(for module in $(grep -vE '^(#|vm/|msg/|txn/|prof/)' "$top_srcdir/src/LAYERS"); do # the first library's
    [ -e "$top_srcdir/src/$module.c" ] && echo "$top_srcdir/src/$module.c"; done)
flags="-std=gnu11 -D_GNU_SOURCE -g -w -Werror=implicit-function-declaration -fno-builtin -pthread -I$top_srcdir/src
-I$top_srcdir/include -I$top_srcdir/tests"
api=$top_srcdir/preload/api.c
malloc="$api $top_srcdir/preload/malloc.c"
glibc="$malloc $top_srcdir/preload/glibc.c $top_srcdir/preload/operators.c"
echo '#include <malloc.h>' | $CC -E - 2>/dev/null | grep -q mallinfo2 || glibc=$malloc
ASH_TEST_ROUNDS=3000 ASH_TEST_SHORT=1
export ASH_TEST_ROUNDS ASH_TEST_SHORT

units="unit/test_remote unit/test_reserve unit/test_sizeclass"
basic="$units api/test_malloc api/test_ash stress/test_stress"
deep="$basic death/test_death death/test_harden exit/test_ends fork/test_children oom/test_oom oom/test_limits"

# try NAME RUNNER TESTS FRONT COMPILER FLAGS...: in the background; leaves a line for each test in a file of results. FRONT
# are the sources that replace malloc, and a page.c which replaces more, for unit tests too.
configurations=0
try() {
    configurations=$((configurations + 1))
    (
        name=$1 ASH_TEST_RUNNER=$2 tests=$3 front=$4
        shift 4
        [ -n "$ASH_TEST_RUNNER" ] && export ASH_TEST_RUNNER || unset ASH_TEST_RUNNER
        mkdir -p "$scratch/$configurations/core" "$scratch/$configurations/front"
        cd "$scratch/$configurations" || exit
        # shellcheck disable=SC2086 # lists of words, here and below
        if ! (cd core && "$@" $flags -c $sources && cd ../front && "$@" $flags -fexceptions -c $front) >log 2>&1; then
            echo "1 $name: compiles" >>results
            tail -n 8 log | sed 's/^/# /' >>results
            exit
        fi
        for test in $tests; do
            objects="core/*.o front/*.o" more=
            [ "$front" = "$api" ] && more="-include $scratch/names.h"
            case $test in
            unit/*) objects="core/*.o $(ls front/page.o 2>/dev/null)" more= ;;
            oom/test_oom) more=-Wl,--wrap=os_map_at,--wrap=os_map,--wrap=os_reserve ;;
            esac
            "$@" $flags -o program "$top_srcdir/tests/$test.c" $objects $more >log 2>&1 &&
                $ASH_TEST_RUNNER ./program >>log 2>&1
            status=$?
            echo "$status $name: $test" >>results
            [ $status = 0 ] || grep -v '^ok' log | tail -n 8 | sed 's/^/# /' >>results
        done
    ) &
}

# can COMPILER FLAGS...: an empty program can be built.
can() {
    echo 'int main(void) { return 0; }' >"$scratch/empty.c"
    "$@" -o "$scratch/empty" "$scratch/empty.c" 2>/dev/null
}

if need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu && need qemu-aarch64 qemu-user && can aarch64-linux-gnu-gcc -static; then
    try "aarch64 under qemu" qemu-aarch64 "$basic first/test_first" "$glibc" aarch64-linux-gnu-gcc -O2 -static
    # Tables of call frames are found in programs that are linked to libraries.
    root=$(aarch64-linux-gnu-gcc -print-file-name=libc.so.6)
    # shellcheck disable=SC2086
    aarch64-linux-gnu-gcc $flags -O2 -o "$scratch/unwind" "$top_srcdir/tests/unit/test_unwind.c" "$top_srcdir/src/prof/unwind.c" &&
        ASH_TEST_RUNNER=qemu-aarch64 qemu-aarch64 -L "${root%/*/*}" "$scratch/unwind" >"$scratch/log" 2>&1
    ok $? "aarch64 under qemu: unit/test_unwind"
    grep '^not ok' "$scratch/log" | sed 's/^/# /'
else
    skip aarch64 "no cross compiler or no qemu-user"
fi
if need musl-gcc musl-tools; then
    try musl "" "$deep" "$malloc" musl-gcc -O2 -static
    # shellcheck disable=SC2086
    musl-gcc $flags -O2 -fPIC -shared -fvisibility=hidden -o "$scratch/libashlar-musl.so" $sources $malloc >"$scratch/log" 2>&1 &&
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
    mkdir "$scratch/$size"
    cat >"$scratch/$size/page.c" <<C
#include <unistd.h>
size_t __wrap_os_page_size(void) { return $size; }
long __real_sysconf(int name);
long __wrap_sysconf(int name) { return name == _SC_PAGESIZE ? $size : __real_sysconf(name); }
C
    [ $size = 65536 ] && tests=$deep || tests=$basic
    try "pages of $size bytes" "" "$tests" "$scratch/$size/page.c $glibc" "$CC" -O2 -Wl,--wrap=os_page_size,--wrap=sysconf
done
mkdir "$scratch/reserved"
echo 'int __wrap_os_map_at(void *at, unsigned long n) { return at != 0 && n > 0 ? -12 : 0; }' >"$scratch/reserved/page.c"
try "address space reserved in advance" "" "$basic death/test_death" "$scratch/reserved/page.c $glibc" "$CC" -O2 \
    -Wl,--wrap=os_map_at
try "gcc -O0" "" "$basic" "$glibc" "$CC" -O0
try "gcc -O3" "" "$basic" "$glibc" "$CC" -O3
try "gcc -O2 -flto" "" "$basic" "$glibc" "$CC" -O2 -flto
if has clang; then
    try clang "" "$deep" "$glibc" clang -O2
fi
cat >"$scratch/names.h" <<'C'
#include <ashlar/ashlar.h>
#include <malloc.h>
#include <stdlib.h>
#define malloc ash_malloc
#define free ash_free
#define calloc ash_calloc
#define realloc ash_realloc
#define aligned_alloc ash_aligned_alloc
#define malloc_usable_size ash_usable_size
C
ASH_TEST_ROUNDS=500
for sanitizer in thread address,undefined; do
    tests="$units api/test_ash stress/test_stress"
    [ $sanitizer = thread ] || tests="$tests exit/test_ends" # the other waits for threads that run for ever
    if can "$CC" -fsanitize=$sanitizer && "$scratch/empty"; then
        try "sanitizer $sanitizer" "" "$tests" "$api" "$CC" -O1 -fno-sanitize-recover=all -fsanitize=$sanitizer
    else
        skip "sanitizer $sanitizer" "not supported by the compiler"
    fi
done
if has valgrind; then
    printf '%s\n' '#!/bin/sh' 'exec valgrind -q --error-exitcode=9 "$@"' >"$scratch/memcheck" && chmod +x "$scratch/memcheck"
    try "valgrind memcheck" "$scratch/memcheck" "$units api/test_ash" "$api" "$CC" -O1 -gdwarf-4
else
    skip "valgrind memcheck" "not installed"
fi
wait

i=0
while [ $i -lt $configurations ]; do
    i=$((i + 1))
    while read -r status what; do
        case $status in '#') echo "# $what" ;; *) ok "$status" "$what" ;; esac
    done <"$scratch/$i/results"
done
tap_done
