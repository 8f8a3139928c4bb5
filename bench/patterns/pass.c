/*
 * Blocks that are freed by another thread than the one that allocated them.
 *
 * pass: producers allocate, consumers free; rings of one writer and one reader connect each pair of
 * them, and blocks move in batches, so that the allocator's own traffic between the threads is what
 * shows. stress: short-lived threads work on blocks of their own, swap some through a shared table
 * and leave the rest behind for the next round.
 */
#include "patterns.h"

#include <sched.h>
#include <stdatomic.h>

/* ---- producers and consumers ---- */

enum { RING = 1024, BATCH = 32, SPINS = 100 };

struct ring {
    _Alignas(64) _Atomic(size_t) head; /* blocks put in so far: written by the producer */
    _Alignas(64) _Atomic(size_t) tail; /* blocks taken out so far: written by the consumer */
    _Alignas(64) void *slot[RING];
};

struct passer {
    const struct settings *s;
    struct ring *rings; /* producer p to consumer c is rings[p * threads + c] */
    size_t index;
    size_t each; /* blocks through each ring, a multiple of BATCH */
};

/* Waits a moment; gives the processor away when that was not enough. */
static void pause_spin(size_t *spins)
{
    if (++*spins < SPINS) {
        __asm__ volatile("" : : : "memory");
        return;
    }
    *spins = 0;
    sched_yield();
}

static void produce(struct passer *me)
{
    size_t count = me->s->threads;
    struct rng g = rng_init(me->s->seed, me->index);
    for (size_t sent = 0; sent < me->each; sent += BATCH) {
        for (size_t c = 0; c < count; c++) {
            struct ring *r = &me->rings[me->index * count + c];
            size_t spins = 0;
            /* acquire: the slots were read; pairs with consume's release */
            while (sent + BATCH - atomic_load_explicit(&r->tail, memory_order_acquire) > RING)
                pause_spin(&spins);
            for (size_t i = 0; i < BATCH; i++)
                r->slot[(sent + i) % RING] = block_get(rng_size(&g, me->s->min, me->s->max));
            /* release: the slots and the blocks; pairs with consume's acquire */
            atomic_store_explicit(&r->head, sent + BATCH, memory_order_release);
        }
    }
}

static void consume(struct passer *me)
{
    size_t count = me->s->threads;
    size_t left = me->each * count;
    size_t spins = 0;
    while (left > 0) {
        size_t before = left;
        for (size_t p = 0; p < count; p++) {
            struct ring *r = &me->rings[p * count + me->index];
            size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
            size_t head = atomic_load_explicit(&r->head, memory_order_acquire);
            left -= head - tail;
            while (tail != head) {
                for (size_t i = 0; i < BATCH; i++)
                    block_put(r->slot[tail++ % RING]);
                atomic_store_explicit(&r->tail, tail, memory_order_release);
            }
        }
        if (left == before)
            pause_spin(&spins);
    }
}

static void *pass_body(void *arg)
{
    struct passer *me = arg;
    if (me->index < me->s->threads) {
        produce(me);
        return NULL;
    }
    me->index -= me->s->threads;
    consume(me);
    return NULL;
}

struct result pattern_pass(const struct settings *s)
{
    size_t count = s->threads;
    size_t each = (s->ops / (count * count) + BATCH - 1) / BATCH * BATCH;
    size_t bytes = count * count * sizeof(struct ring);
    struct ring *rings = aligned_alloc(64, bytes);
    struct passer *passers = get_memory(2 * count * sizeof *passers);
    if (rings == NULL)
        die("out of memory");
    for (size_t i = 0; i < count * count; i++)
        rings[i] = (struct ring){.head = 0, .tail = 0};
    for (size_t i = 0; i < 2 * count; i++)
        passers[i] = (struct passer){s, rings, i, each};
    uint64_t begin = clock_ns();
    threads_run(2 * count, pass_body, passers, sizeof *passers);
    uint64_t ns = clock_ns() - begin;
    free(rings);
    free(passers);
    return (struct result){ns, each * count * count};
}

/* ---- mixed stress ---- */

enum { SHARED = 1024, STEPS = 20000 };

struct worker {
    const struct settings *s;
    _Atomic(void *) *shared; /* SHARED blocks that belong to whoever takes them out */
    uint64_t stream;
};

/* Mostly small blocks, one in sixteen up to `max`, one in 1024 up to 1 MiB. */
static size_t stress_size(struct rng *g, const struct settings *s)
{
    uint64_t r = rng_next(g) >> 32;
    if (r % 1024 == 0)
        return rng_size(g, s->max, MIB);
    return rng_size(g, s->min, r % 16 == 0 ? s->max : KIB);
}

/* acquire and release: the block's bytes go with its pointer */
static void *swap(struct worker *me, struct rng *g, void *p)
{
    return atomic_exchange_explicit(&me->shared[rng_below(g, SHARED)], p, memory_order_acq_rel);
}

static void *stress_body(void *arg)
{
    struct worker *me = arg;
    struct rng g = rng_init(me->s->seed, me->stream);
    size_t count = me->s->blocks;
    void **block = get_memory(count * sizeof *block);
    for (size_t i = 0; i < STEPS; i++) {
        size_t k = rng_below(&g, count);
        if (i % 4 == 0) {
            block[k] = swap(me, &g, block[k]);
            continue;
        }
        block_put(block[k]);
        block[k] = block_get(stress_size(&g, me->s));
        if (i % 64 == 1)
            block[k] = block_mark(realloc(block[k], stress_size(&g, me->s)));
    }
    for (size_t k = 0; k < count; k++)
        block_put(k % 2 == 0 ? swap(me, &g, block[k]) : block[k]);
    free(block);
    return NULL;
}

struct result pattern_stress(const struct settings *s)
{
    size_t rounds = s->ops / (s->threads * STEPS) + 1;
    _Atomic(void *) *shared = get_memory(SHARED * sizeof *shared);
    struct worker *workers = get_memory(s->threads * sizeof *workers);
    uint64_t begin = clock_ns();
    for (size_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < s->threads; i++)
            workers[i] = (struct worker){s, shared, r * s->threads + i};
        threads_run(s->threads, stress_body, workers, sizeof *workers);
    }
    for (size_t i = 0; i < SHARED; i++)
        block_put(atomic_load_explicit(&shared[i], memory_order_relaxed));
    uint64_t ns = clock_ns() - begin;
    free(shared);
    free(workers);
    return (struct result){ns, rounds * s->threads * STEPS};
}
