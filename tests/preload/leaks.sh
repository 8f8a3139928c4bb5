# ASHLAR_LEAKS=1: leaks that were planted are found, and nothing else is taken for one.
. "$top_srcdir/tests/tap.sh"
cd "$scratch" || exit 99

leaks() { # COMMAND...: how many blocks leaked
    LD_PRELOAD=$LIBASHLAR ASHLAR_LEAKS=1 "$@" 2>&1 >/dev/null | sed -n 's/^ashlar: process [0-9]*: \([0-9,]*\) of .* leaked, .*/\1/p'
}

build() { # NAME FLAGS... <source
    name=$1
    shift
    cat >"$name.c"
    $CC -O1 -fno-builtin -o "$name" "$name.c" "$@" || ok 1 "$name compiles"
}

# Held in every way that there is: by data, the heap, a stack, thread-local storage, a mapping, its inside; by a thread
# that is still there; and by registers and stacks of main when exit is called from its midst.
build held -pthread -ldl <<'END'
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
void *volatile data, **volatile chain, *volatile inside;
__thread void *volatile local;
static pthread_barrier_t there;
static void *thread(void *a) {
    void *volatile mine = malloc(600); local = malloc(700);
    pthread_barrier_wait(&there); for (;;) pause();
    return mine == a ? local : mine;
}
int main(void) {
    void *volatile stack = malloc(100);
    void **map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data = malloc(200); local = malloc(300); *map = malloc(400);
    for (int i = 0; i < 1000; i++) { void **p = malloc(50 + (size_t)i % 3 * 40000); *p = chain; chain = p; }
    inside = (char *)malloc(100000) + 50000;
    setenv("ASH_TEST", "some value", 1); printf("x"); atexit((void (*)(void))getpid); strerror(12345);
    pthread_t t; pthread_barrier_init(&there, NULL, 2); pthread_create(&t, NULL, thread, NULL); pthread_barrier_wait(&there);
    if (stack) exit(0);
    return 1;
}
END
for grain in 64 16; do
    for harden in 0 1; do
        is "$(ASHLAR_GRAIN=$grain ASHLAR_HARDEN=$harden leaks ./held)" 0 "grain $grain, harden $harden: nothing that is held leaks"
    done
done
is "$(ASHLAR_PROFILE=/dev/null ASHLAR_PROFILE_BYTES=1 leaks ./held)" 0 "nor when every block is a sample"

build planted <<'END'
#include <stdlib.h>
#include <string.h>
#define APART __attribute__((noinline, noclone))
struct link { struct link *next; char rest[92]; };
APART void lose(int count, size_t n) { for (int i = 0; i < count; i++) memset(malloc(n), 0, n); }
APART void lose_list(void) { struct link *l = NULL; for (int i = 0; i < 30; i++) { struct link *m = malloc(sizeof *m); m->next = l; l = m; } l->rest[0] = 1; }
APART void lose_ring(void) { struct link *a = malloc(500), *b = malloc(500); a->next = b; b->next = a; }
APART void wipe(void) { volatile char c[16384]; memset((void *)c, 0, sizeof c); }
int main(void) { lose(100, 1000); lose(3, 200000); lose_list(); lose_ring(); void *volatile p = malloc(77); wipe(); free(p); free(malloc(100)); wipe(); return 0; }
END
for grain in 64 16; do
    for harden in 0 1; do
        is "$(ASHLAR_GRAIN=$grain ASHLAR_HARDEN=$harden leaks ./planted)" 135 "grain $grain, harden $harden: all leaks are found"
    done
done
found=$(for i in 1 2 3 4 5 6 7 8 9 10; do ASHLAR_HARDEN=1 leaks ./planted; done | sort -u)
is "$found" 135 "the first block of all, too, whose address the library itself knows"
LD_PRELOAD=$LIBASHLAR ASHLAR_LEAKS=1 ASHLAR_PROFILE=/dev/null ASHLAR_PROFILE_BYTES=1 ./planted 2>said
is "$(sed -n 's/^.*: \(135 of .* live blocks leaked\), .*/\1/p' said | grep -c 135)" 1 "and when every block is a sample"
is "$(awk '$1 == "1.0" && $2 == "KiB" { print $6 }' said)" 100 "by class"
is "$(grep -cE 'leaked in (100|3|30|1) recorded blocks?, allocated by' said)" 5 "with their stacks"
is "$(LD_PRELOAD=$LIBASHLAR ASHLAR_LEAKS=1 ./planted 2>&1 | grep -c allocated)" 0 "which only a profile has"

# A page in the middle of a mapping that cannot be read, as the guards of stacks are: what is behind it counts.
cat >guard.c <<'END'
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
int main(void) {
    char *m = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(m, 0, 16 * 4096);
    if (madvise(m + 4 * 4096, 4096, 102 /* MADV_GUARD_INSTALL */) != 0) return 77;
    for (int i = 5; i < 8; i++) *(void **)(m + i * 4096) = malloc(1000);
    return 0;
}
END
if $CC -O0 -o guard guard.c && ./guard; then
    is "$(LD_PRELOAD=$LIBASHLAR ASHLAR_LEAKS=1 ./guard 2>&1 | grep -c ': 0 of ')" 1 "roots behind a page that guards"
else
    skip "roots behind a page that guards" "Linux has no such pages before 6.13"
fi

# Real programs whose memory is known to be in order, after much of their kind of work; libc and the loader with them.
for command in "ls -lR /etc/ssl" "sort /etc/services" "sqlite3 :memory: 'create table t(a); insert into t values(1); select * from t'" \
    "bash -c 'for i in 1 2 3; do x=\$(echo \$i); done'" "awk 'BEGIN { for (i = 0; i < 1000; i++) a[i] = i \"\"; print a[7] }'" \
    "lua5.4 -e 'local t = {} for i = 1, 1000 do t[i] = {i} end'" "find /etc/ssl -name x"; do
    has "${command%% *}" || continue
    case $command in sort*) want=1 ;; *) want=0 ;; esac # sort loses its key list, as memcheck says too
    count=$(eval "leaks $command" | tail -n 1)
    [ "${count:-0}" -le "$want" ]
    ok $? "${command%% *}: ${count:-none}"
done
cat >library.c <<'END'
#include <stdlib.h>
static void *held;
void hold(void) { held = malloc(1234); }
END
$CC -shared -fPIC -o library.so library.c
build opener -ldl <<'END'
#include <dlfcn.h>
int main(void) {
    for (int i = 0; i < 20; i++) { void *h = dlopen("./library.so", RTLD_NOW); ((void (*)(void))dlsym(h, "hold"))(); if (i < 19) continue; }
    return dlsym((void *)0, "nonsense") != 0;
}
END
is "$(leaks ./opener)" 19 "a library's data holds the last of twenty blocks"
tap_done
