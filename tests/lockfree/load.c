#include "load.h"

#include <limits.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Atomic(unsigned char *) load_slots[LOAD_SLOTS];
_Atomic(int) load_grows;

enum { GROWN_MAX = 4096 };

static void *_Atomic kept[GROWN_MAX];
static _Atomic(int) grown;

static pthread_t keepers[LOAD_THREADS];
static struct count {
    _Alignas(64) _Atomic(uint64_t) operations;
} counts[LOAD_THREADS];
static _Atomic(int) stop;
static _Atomic(long) damaged;

/* Where threads run in turns: each until its count is `goal`, then it sleeps on `turn`; the others' sleep on `arrived`. */
static _Atomic(uint64_t) goal = UINT64_MAX;
static _Atomic(uint32_t) turn, arrived;

unsigned load_draw(unsigned *s)
{
    *s = *s * 1664525 + 1013904223;
    return *s >> 8;
}

/* What a block holds: its size at the front, a byte of its address at the end. */
static unsigned char fill_of(const unsigned char *p)
{
    return (unsigned char)((uintptr_t)p >> 6 | 1);
}

void load_mark(unsigned char *p, size_t n)
{
    p[n - 1] = p[8] = fill_of(p);
    memcpy(p, &n, sizeof n);
}

static size_t size_of(const unsigned char *p)
{
    size_t n;
    memcpy(&n, p, sizeof n);
    if (n >= 16 && n <= malloc_usable_size((void *)(uintptr_t)p) && p[n - 1] == fill_of(p) && p[8] == fill_of(p))
        return n;
    damaged++;
    return 16;
}

unsigned char *load_make(size_t n, unsigned how)
{
    void *p = NULL;
    switch (how % 8) {
    case 0:
        p = calloc(1, n);
        damaged += p != NULL && (((char *)p)[0] != 0 || ((char *)p)[n - 1] != 0);
        break;
    case 1: p = aligned_alloc((size_t)1 << (how / 8 % 14), n); break;
    case 2:
        if (posix_memalign(&p, 128, n) != 0)
            p = NULL;
        break;
    default: p = malloc(n); break;
    }
    if (p == NULL)
        abort();
    load_mark(p, n);
    return p;
}

void load_free(unsigned char *p)
{
    if (p != NULL)
        size_of(p);
    free(p);
}

static size_t draw_size(unsigned *s)
{
    switch (load_draw(s) % 64) {
    case 0: return 66000 + load_draw(s) % 500000;
    case 1: case 2: case 3: return 16 + load_draw(s) % 66000;
    default: return 16 + load_draw(s) % 1200;
    }
}

/* Fresh address space for the allocator: a block that stays and is never touched. */
static void grow(void)
{
    int i = grown < GROWN_MAX ? grown++ : GROWN_MAX;
    if (i < GROWN_MAX)
        kept[i] = malloc((size_t)4 << 20);
}

void load_operation(unsigned *s)
{
    size_t n = draw_size(s);
    unsigned char *p = load_make(n, load_draw(s));
    if (load_draw(s) % 8 == 0) {
        size_t m = draw_size(s);
        unsigned char before = fill_of(p), first;
        p = realloc(p, m);
        first = p == NULL ? 0 : p[8];
        damaged += first != before;
        load_mark(p, m);
    }
    load_free(atomic_exchange(&load_slots[load_draw(s) % LOAD_SLOTS], p));
    if (load_draw(s) % 8192 == 0)
        malloc_trim(0);
    if (load_grows && load_draw(s) % 1024 == 0)
        grow();
}

/* Sleeps while `*word` is `seen`, a tenth of a second at most. */
static void sleep_on(_Atomic(uint32_t) *word, uint32_t seen)
{
    struct timespec most = {0, 100000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, &most, NULL, 0);
}

static void wake(_Atomic(uint32_t) *word)
{
    ++*word;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* One life. */
static void *thread_main(void *arg)
{
    struct count *mine = arg;
    unsigned s = (unsigned)mine->operations * 2654435761u + (unsigned)(mine - counts);
    for (unsigned left = 500 + load_draw(&s) % 4000; left != 0 && !stop; left--) {
        load_operation(&s);
        if (++mine->operations >= goal)
            wake(&arrived);
        for (uint32_t seen = turn; mine->operations >= goal && !stop; seen = turn)
            sleep_on(&turn, seen);
    }
    return NULL;
}

static void *keeper_main(void *arg)
{
    while (!stop) {
        pthread_t t;
        if (pthread_create(&t, NULL, thread_main, arg) != 0)
            abort();
        pthread_join(t, NULL);
    }
    return NULL;
}

void load_start(void)
{
    for (int i = 0; i < LOAD_THREADS; i++)
        if (pthread_create(&keepers[i], NULL, keeper_main, &counts[i]) != 0)
            abort();
}

long load_finish(void)
{
    stop = 1;
    wake(&turn);
    for (int i = 0; i < LOAD_THREADS; i++)
        pthread_join(keepers[i], NULL);
    for (int i = 0; i < LOAD_SLOTS; i++)
        load_free(atomic_exchange(&load_slots[i], NULL));
    for (int i = 0; i < GROWN_MAX; i++)
        free(kept[i]);
    return damaged;
}

void load_in_turns(void)
{
    goal = 0;
}

int load_progress(uint64_t operations, int seconds)
{
    uint64_t want[LOAD_THREADS];
    int in_turns = goal != UINT64_MAX;
    time_t end = time(NULL) + seconds + 1;
    uint64_t had = 0; /* of the thread that is waited for, when its time began */
    for (int i = 0; i < LOAD_THREADS; i++)
        want[i] = in_turns ? goal + operations : counts[i].operations + operations;
    if (in_turns) {
        goal += operations;
        wake(&turn);
    }
    for (int i = 0; i < LOAD_THREADS;) {
        uint32_t seen = arrived;
        uint64_t has = counts[i].operations;
        if (has >= want[i]) {
            i++;
        } else if (time(NULL) <= end) {
            sleep_on(&arrived, seen);
        } else {
            if (has == had)
                return 0;
            had = has; /* slow, as on a machine with other work, but it moves */
            end = time(NULL) + seconds + 1;
        }
    }
    return 1;
}
