# ASHLAR_PROFILE over programs of every kind: the file is right and says what was allocated, the program runs as without.
. "$top_srcdir/tests/tap.sh"
cd "$scratch" || exit 99
ashlar=$top_builddir/ashlar

under() { # PROFILE COMMAND...
    profile=$1
    shift
    LD_PRELOAD=$LIBASHLAR ASHLAR_PROFILE=$profile ASHLAR_PROFILE_BYTES=${bytes:-512K} "$@" 2>&1
}

# total PROFILE which: bytes of live (1) or all (2) samples, scaled up
total() {
    "$ashlar" report --folded $2 "$1" | awk '{ n += $NF } END { printf "%.0f\n", n }'
}

cat >stacks.c <<'END'
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <unistd.h>
#define APART __attribute__((noinline, noclone))
static void *volatile kept[3000];
APART void *take(size_t n) { void *p = malloc(n); memset(p, 1, n); return p; }
APART void keep_many(void) { for (int i = 0; i < 2000; i++) kept[i] = take(10000); }
APART void pass_by(void) { for (int i = 0; i < 20000; i++) { void *volatile p = take(1000); free(p); } }
APART void aligned_stack(void) { char a[64] __attribute__((aligned(128))); kept[2000] = take(3000000); a[0] = 1; memset((void *)a, 2, 3); }
APART void deep(int n) { if (n == 0) kept[2001] = take(5000000); else deep(n - 1); __asm__ volatile(""); }
static void handler(int s) { kept[2002] = take(4000000); (void)s; }
APART void in_signal(void) { signal(SIGUSR1, handler); raise(SIGUSR1); __asm__ volatile(""); }
static void *thread(void *a) { for (int i = 0; i < 100; i++) kept[2100 + i] = take(60000); return a; }
int main(int argc, char **argv) {
    pthread_t t;
    keep_many(); pass_by(); aligned_stack(); deep(40); in_signal();
    pthread_create(&t, NULL, thread, NULL); pthread_join(t, NULL);
    if (argc > 1 && fork() == 0) { pass_by(); exit(0); }
    (void)argv;
    return 0;
}
END
# 20 MB are 320 samples: a figure is good to 6 %.
bytes=64K
for flags in "-O2 -fomit-frame-pointer" "-O0" "-O2 -fno-asynchronous-unwind-tables -fno-omit-frame-pointer"; do
    # shellcheck disable=SC2086 # a list of words
    $CC $flags -o stacks stacks.c -pthread
    # 300 samples of each 20 MiB: what they say is right to 6 %, and the bounds are five times as far.
    is "$(bytes=64K under stacks.heap ./stacks)" "" "$flags: runs in silence"
    "$ashlar" report --folded stacks.heap >live
    "$ashlar" report --folded --allocated stacks.heap >all
    is "$(grep -c ';main;keep_many;take ' live)" 1 "a stack from main to malloc's caller"
    is "$(awk '/;keep_many;take / { print ($NF > 14e6 && $NF < 27e6) }' live)" 1 "that holds about what it should"
    is "$(grep -c ';pass_by;' live)$(awk '/;main;pass_by;take / { print ($NF > 14e6 && $NF < 27e6) }' all)" 01 \
        "what is freed was allocated, and is not live"
    is "$(grep -c ';main;aligned_stack;take ' live)" 1 "through a function that aligns its stack"
    is "$(grep ';deep;take ' live | tr ';' '\n' | grep -c '^deep$')" 41 "a recursion"
    case $flags in
    *no-async*) ;;
    *) is "$(grep -c ';main;in_signal;.*handler;take ' live)" 1 "through a signal handler" ;;
    esac
    is "$(grep ';thread;take ' live | grep -vc ';main;')" 1 "of a thread"
done
unset bytes

# Each process of a family writes a file of its own.
is "$(under 'family.%p' ./stacks forks)" "" "a family"
sleep 0.2 # the child is not waited for
is "$(ls family.* | wc -l)" 2 "a file for each"
is "$(for f in family.*; do "$ashlar" report --folded "$f" >/dev/null || echo "$f"; done)" "" "all are right"

is "$(under none/there ./stacks)" "ashlar: cannot write the heap profile to $scratch/none/there: no such file or directory" \
    "a path that cannot be written"
is "$(ASHLAR_HARDEN=1 under hard ./stacks; ls hard 2>&1 | grep -c No)" "ashlar: ASHLAR_PROFILE ignored: ASHLAR_HARDEN=1 is set
1" "not with ASHLAR_HARDEN"
mkdir alone
cp "$LIBASHLAR" alone/libashlar.so
is "$(LD_PRELOAD=$PWD/alone/libashlar.so ASHLAR_PROFILE=x ./stacks 2>&1)" \
    "ashlar: ASHLAR_PROFILE and ASHLAR_LEAKS ignored: no libashlar-profile.so beside libashlar.so" "without its library"

# With the signal for statistics; the file is written again each time.
cat >wait.c <<'END'
#include <signal.h>
#include <stdlib.h>
#include <string.h>
int main(void) { memset(malloc(40000000), 1, 40000000); raise(SIGUSR2); return raise(SIGKILL); }
END
$CC -O0 -o wait wait.c
(ASHLAR_STATS_SIGNAL=USR2 under wait.heap ./wait; :) >/dev/null 2>&1
is "$(total wait.heap | awk '{ print ($1 > 39e6 && $1 < 41e6) }')" 1 "on the signal for statistics"

# Real programs; every block recorded, too.
for bytes in 64K 1; do
    is "$(under p.heap ls -d /)" / "ls, $bytes"
    for program in python3:'-c print(len(str(list(range(20000)))))':128890 perl:'-e print(scalar(@{[map{"x$_"}1..20000]}))':20000; do
        name=${program%%:*}
        rest=${program#*:}
        has "$name" || continue
        is "$(under p.heap "$name" "${rest%% *}" "$(expr "${rest%:*}" : '-[ce] \(.*\)')")" "${rest##*:}" "$name, $bytes"
        is "$("$ashlar" report --folded --allocated p.heap | awk 'NF > 1 { n++ } END { print (n > 3) }')" 1 "$name, $bytes: stacks"
    done
done
if need google-pprof google-perftools; then
    bytes=64K
    $CC -O0 -o stacks stacks.c -pthread
    under stacks.heap ./stacks
    google-pprof --text ./stacks stacks.heap >top 2>pprof.log
    is "$(awk '$NF == "take" { n++ } END { print n }' top)" 1 "pprof reads it"
    is "$(awk '$NF == "keep_many" && $4 > 15 && $4 < 26 { n++ } END { print n }' top)" 1 "and scales it"
else
    skip "pprof reads it" "not installed"
fi
tap_done
