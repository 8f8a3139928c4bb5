/*
 * Threads that allocate, reallocate, hand blocks to each other and free them, replaced in generations; every byte is
 * checked before a block is freed. The seed is printed; ASH_TEST_SEED and ASH_TEST_ROUNDS set it and the length. At
 * the end nothing may be live, everything verifies, and trimming gives the memory back.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

enum { SLOTS = 2048, GENERATIONS = 3 };

static _Atomic(unsigned char *) slots[SLOTS];
static _Atomic(long) damaged;
static unsigned seed;
static int rounds = 30000;

struct head {
    size_t n;
    unsigned char fill;
};

static unsigned draw(unsigned *s)
{
    *s = *s * 1664525 + 1013904223;
    return *s >> 8;
}

static size_t draw_size(unsigned *s)
{
    switch (draw(s) % 64) {
    case 0: return sizeof(struct head) + 66000 + draw(s) % 2000000;
    case 1: case 2: case 3: return sizeof(struct head) + draw(s) % 66000;
    default: return sizeof(struct head) + draw(s) % 800;
    }
}

/* Large blocks are sampled. */
static size_t step(size_t n)
{
    return n > 8192 ? 509 : 1;
}

static void fill(unsigned char *p, size_t n, unsigned char c)
{
    struct head h = {n, c};
    for (size_t i = sizeof h; i < n; i += step(n))
        p[i] = c;
    p[n - 1] = n > sizeof h ? c : p[n - 1];
    memcpy(p, &h, sizeof h);
}

static void check(const unsigned char *p)
{
    struct head h;
    memcpy(&h, p, sizeof h);
    long bad = 0;
    for (size_t i = sizeof h; i < h.n; i += step(h.n))
        bad += p[i] != h.fill;
    if (bad != 0 || malloc_usable_size((void *)(uintptr_t)p) < h.n)
        damaged++;
}

static unsigned char *allocate(unsigned *s, size_t n)
{
    switch (draw(s) % 8) {
    case 0: {
        unsigned char *p = calloc(1, n);
        for (size_t i = 0; i < n; i += step(n))
            damaged += p[i] != 0;
        return p;
    }
    case 1: {
        size_t align = (size_t)1 << draw(s) % 14;
        unsigned char *p = aligned_alloc(align, n);
        damaged += (uintptr_t)p % align != 0;
        return p;
    }
    default: return malloc(n);
    }
}

static void *thread_main(void *arg)
{
    unsigned s = seed ^ ((unsigned)(uintptr_t)arg * 2654435761u);
    for (int i = 0; i < rounds; i++) {
        size_t n = draw_size(&s);
        unsigned char *p = allocate(&s, n);
        fill(p, n, (unsigned char)draw(&s));
        if (draw(&s) % 6 == 0) {
            struct head h;
            size_t m = draw_size(&s);
            memcpy(&h, p, sizeof h);
            p = realloc(p, m);
            for (size_t k = sizeof h; k < h.n && k < m; k += step(h.n))
                damaged += p[k] != h.fill;
            fill(p, m, h.fill);
        }
        unsigned char *old = atomic_exchange(&slots[draw(&s) % SLOTS], p);
        if (old != NULL) {
            check(old);
            free(old);
        }
    }
    return NULL;
}

static void run(unsigned threads)
{
    struct ash_stats before = {.struct_size = sizeof before}, after = before;
    ash_stats_get(&before);
    for (int g = 0; g < GENERATIONS; g++) {
        pthread_t t[32];
        for (uintptr_t i = 0; i < threads; i++)
            pthread_create(&t[i], NULL, thread_main, (void *)(i + 1 + (uintptr_t)g * 100));
        for (unsigned i = 0; i < threads; i++)
            pthread_join(t[i], NULL);
    }
    for (int i = 0; i < SLOTS; i++) {
        unsigned char *p = atomic_exchange(&slots[i], NULL);
        if (p != NULL)
            check(p);
        free(p);
    }
    is_int(damaged, 0, "no block was damaged");
    is_int(ash_verify(), 0, "everything verifies");
    ash_stats_get(&after);
    ok(after.live_blocks - before.live_blocks < 8 + threads, "nothing is live: %ld more than before, %u threads",
       (long)(after.live_blocks - before.live_blocks), threads);
    ash_trim();
    ash_stats_get(&after);
    ok(after.used_bytes + after.dirty_bytes < 16 << 20, "trimmed: %lu KiB in use, %lu KiB dirty",
       (unsigned long)after.used_bytes >> 10, (unsigned long)after.dirty_bytes >> 10);
}

int main(void)
{
    const char *given = getenv("ASH_TEST_SEED"), *length = getenv("ASH_TEST_ROUNDS");
    seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL) * 2654435761u;
    if (length != NULL)
        rounds = atoi(length);
    tap_line("# ASH_TEST_SEED=%u", seed);
    run(2);
    run(4);
    run(8);
    rounds /= 4;
    run(32);
    return tap_done();
}
