/*
 * The reserve: runs against a shadow map, coalescing, alignment, extension, purging, the limit;
 * then threads.
 */
#include "mem/reserve.h"

#include "mem/purge.h"

#include "base/bits.h"
#include "info/options.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

static uint64_t seed = 1;

static unsigned random_below(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((seed >> 33) % n);
}

static uint64_t used_now(void)
{
    struct reserve_totals t;
    reserve_totals_get(&t);
    return t.used;
}

static void test_bits(void)
{
    int wrong = 0;
    for (int round = 0; round < 2000; round++) {
        uint64_t x = ((uint64_t)random_below(~0u) << 32) | random_below(~0u) | random_below(~0u);
        for (unsigned n = 1; n <= 64; n++) {
            uint64_t expected = 0;
            for (unsigned at = 0; at + n <= 64; at++)
                if ((x & bits_mask(at, n)) == bits_mask(at, n))
                    expected |= (uint64_t)1 << at;
            wrong += bits_runs(x, n) != expected;
        }
    }
    is_int(wrong, 0, "bits_runs against the definition");
}

/* Random runs, each filled with its number: no two overlap, alignment holds, and all come back. */
static void test_shadow(void)
{
    enum { RUNS = 300 };
    static struct { size_t unit, units; } held[RUNS];
    int overlaps = 0, misaligned = 0, dirty = 0;
    for (int step = 0; step < 20000; step++) {
        unsigned i = random_below(RUNS);
        if (held[i].units != 0) {
            for (size_t k = 0; k < held[i].units; k++)
                overlaps += *(unsigned *)unit_address(held[i].unit + k) != i;
            reserve_give(held[i].unit, held[i].units);
            held[i].units = 0;
            if (step % 64 == 0)
                purge_pass(step % 128 == 0);
            continue;
        }
        size_t units = 1 + (random_below(8) == 0 ? random_below(200) : random_below(16));
        size_t align = (size_t)1 << random_below(9);
        struct run r = reserve_take(units, align);
        if (r.unit == RESERVE_NONE)
            continue;
        misaligned += ((uintptr_t)unit_address(r.unit) & (align * UNIT_BYTES - 1)) != 0;
        for (size_t k = 0; k < units; k++) {
            unsigned *word = unit_address(r.unit + k);
            dirty += r.zero && *word != 0;
            *word = i;
        }
        held[i].unit = r.unit;
        held[i].units = units;
    }
    for (unsigned i = 0; i < RUNS; i++)
        if (held[i].units != 0)
            reserve_give(held[i].unit, held[i].units);
    is_int(overlaps, 0, "no two runs overlap");
    is_int(misaligned, 0, "alignment up to 16 MiB");
    is_int(dirty, 0, "what is said to be zero is");
    is_int((long)used_now(), 0, "all came back");
}

static void test_coalesce(void)
{
    struct run a = reserve_take(40, 1);
    struct run b = reserve_take(40, 1);
    reserve_give(a.unit, 40);
    reserve_give(b.unit, 40);
    size_t before = chunk_count();
    struct run c = reserve_take(80, 1);
    ok(c.unit != RESERVE_NONE && chunk_count() == before, "two neighbours serve one long run");
    reserve_give(c.unit, 80);
}

static void test_extend(void)
{
    bool zero;
    struct run a = reserve_take(10, 1);
    memset(unit_address(a.unit), 1, (size_t)10 << UNIT_SHIFT);
    ok(reserve_extend(a.unit + 10, 500, &zero), "a run grows in place over the border of what is mapped");
    memset(unit_address(a.unit + 10), 2, (size_t)500 << UNIT_SHIFT);
    struct run b = reserve_take(1, 1);
    reserve_give(b.unit, 1);
    reserve_give(a.unit, 510);
    is_int((long)used_now(), 0, "and comes back whole");
}

static void test_purge(void)
{
    struct purge_totals t;
    purge_pass(true);
    struct run a = reserve_take(100, 1);
    memset(unit_address(a.unit), 0xff, (size_t)100 << UNIT_SHIFT);
    reserve_give(a.unit, 100);
    purge_totals_get(&t);
    is_int((long)t.dirty, 100L << UNIT_SHIFT, "freed memory is counted as waiting");
    is_int((long)purge_pass(false), 0, "the first pass lets it age");
    is_int((long)purge_pass(false), 100L << UNIT_SHIFT, "the second gives it back");
    purge_totals_get(&t);
    is_int((long)t.dirty, 0, "nothing waits then");
    a = reserve_take(100, 1);
    ok(a.zero && *(int *)unit_address(a.unit) == 0, "and it reads as zero");
    reserve_give(a.unit, 100);
}

static void test_purge_far(void)
{
    enum { UNITS = 20 * CHUNK_UNITS };
    struct purge_totals t;
    purge_pass(true);
    struct run a = reserve_take(UNITS, 1);
    reserve_give(a.unit, UNITS);
    purge_far(UNITS / 2);
    purge_totals_get(&t);
    size_t left = t.dirty >> UNIT_SHIFT;
    ok(left <= UNITS / 2 && left > UNITS / 4, "half of it goes back at once, little more: %zu of %d units are left", left, UNITS);
    struct run near = reserve_take(CHUNK_UNITS, 1);
    ok(!near.zero && near.unit < a.unit + UNITS / 2, "from the far end");
    reserve_give(near.unit, CHUNK_UNITS);
    purge_pass(true);
}

static void test_limit(void)
{
    size_t limit, used;
    is_int(reserve_limit_set(1000), -EINVAL, "a limit below one chunk is refused");
    is_int(reserve_limit_set(16 * MIB), 0, "a limit of 16 MiB");
    struct run a = reserve_take(200, 1);
    struct run b = reserve_take(100, 1);
    ok(a.unit != RESERVE_NONE && b.unit == RESERVE_NONE, "is kept");
    reserve_limit_get(&limit, &used);
    ok(limit == 16 * MIB && used == (size_t)200 << UNIT_SHIFT, "and shown");
    reserve_give(a.unit, 200);
    reserve_limit_set(0);
}

static void *thread_main(void *arg)
{
    unsigned state = (unsigned)(uintptr_t)arg * 7919;
    long wrong = 0;
    for (int i = 0; i < 20000; i++) {
        state = state * 1664525 + 1013904223;
        size_t units = 1 + (state >> 8) % 90;
        struct run r = reserve_take(units, 1);
        if (r.unit == RESERVE_NONE)
            continue;
        unsigned *first = unit_address(r.unit), *last = unit_address(r.unit + units - 1);
        *first = state;
        *last = state;
        if (i % 500 == 0)
            purge_pass(i % 1000 == 0);
        wrong += *first != state || *last != state;
        reserve_give(r.unit, units);
    }
    return (void *)wrong;
}

int main(void)
{
    options.cache = 64 * MIB;
    options.purge_ms = 500;
    options.thp = OPTION_THP_DEFAULT;
    is_int(reserve_boot(), 0, "boot");
    test_bits();
    test_shadow();
    test_coalesce();
    test_extend();
    test_purge();
    test_purge_far();
    test_limit();
    pthread_t threads[4];
    long wrong = 0;
    for (uintptr_t i = 0; i < ASH_COUNT(threads); i++)
        pthread_create(&threads[i], NULL, thread_main, (void *)(i + 1));
    for (unsigned i = 0; i < ASH_COUNT(threads); i++) {
        void *result;
        pthread_join(threads[i], &result);
        wrong += (long)result;
    }
    is_int(wrong, 0, "four threads: no run is given out twice");
    is_int((long)used_now(), 0, "and all came back");
    return tap_done();
}
