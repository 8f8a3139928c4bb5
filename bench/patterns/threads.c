/*
 * Threads that come and go, that wait, and that write to blocks which may lie on one cache line.
 */
#include "patterns.h"

#include <pthread.h>
#include <semaphore.h>

/* ---- a server whose threads are replaced and hand their blocks on ---- */

enum { GENERATION = 20000 }; /* operations of one thread */

struct lane {
    const struct settings *s;
    void **block; /* what the lane's thread owns and leaves to its successor */
    uint64_t stream;
    size_t left; /* threads still to come, this one included */
    sem_t *done;
};

static void *larson_body(void *arg)
{
    struct lane *lane = arg;
    const struct settings *s = lane->s;
    struct rng g = rng_init(s->seed, lane->stream++);
    for (size_t i = 0; i < GENERATION; i++) {
        size_t k = rng_below(&g, s->blocks);
        block_put(lane->block[k]);
        lane->block[k] = block_get(rng_size(&g, s->min, s->max));
    }
    if (--lane->left == 0) {
        sem_post(lane->done);
        return NULL;
    }
    pthread_t next;
    if (pthread_create(&next, NULL, larson_body, lane) != 0 || pthread_detach(next) != 0)
        die("no thread can be started");
    return NULL;
}

struct result pattern_larson(const struct settings *s)
{
    size_t generations = s->ops / (s->threads * GENERATION) + 1;
    struct lane *lanes = get_memory(s->threads * sizeof *lanes);
    sem_t done;
    sem_init(&done, 0, 0);
    for (size_t i = 0; i < s->threads; i++) {
        void **block = get_memory(s->blocks * sizeof *block);
        lanes[i] = (struct lane){s, block, i * generations, generations, &done};
    }
    uint64_t begin = clock_ns();
    for (size_t i = 0; i < s->threads; i++) {
        pthread_t first;
        if (pthread_create(&first, NULL, larson_body, &lanes[i]) != 0 || pthread_detach(first) != 0)
            die("no thread can be started");
    }
    for (size_t i = 0; i < s->threads; i++)
        sem_wait(&done);
    uint64_t ns = clock_ns() - begin;
    for (size_t i = 0; i < s->threads; i++) {
        for (size_t k = 0; k < s->blocks; k++)
            block_put(lanes[i].block[k]);
        free(lanes[i].block);
    }
    free(lanes);
    return (struct result){ns, generations * s->threads * GENERATION};
}

/* ---- start and stop ---- */

static void *brief_body(void *arg)
{
    const struct settings *s = arg;
    for (size_t i = 0; i < s->blocks; i++)
        block_put(block_get(s->min));
    return NULL;
}

/*
 * `ops` threads, `threads` of them at a time, each with a few blocks. One operation is one thread.
 */
struct result pattern_start_stop(const struct settings *s)
{
    struct settings copy = *s;
    size_t rounds = (s->ops + s->threads - 1) / s->threads;
    uint64_t begin = clock_ns();
    for (size_t r = 0; r < rounds; r++)
        threads_run(s->threads, brief_body, &copy, 0);
    return (struct result){clock_ns() - begin, rounds * s->threads};
}

/* ---- idle threads: what each costs in memory ---- */

struct idle {
    const struct settings *s;
    pthread_barrier_t *all;
};

static void *idle_body(void *arg)
{
    struct idle *me = arg;
    void *p = block_get(me->s->min);
    pthread_barrier_wait(me->all);
    block_put(p);
    return NULL;
}

/*
 * All threads hold one block at the same time; look at the peak of memory rather than at the time.
 */
struct result pattern_idle(const struct settings *s)
{
    pthread_barrier_t all;
    struct idle me = {s, &all};
    pthread_barrier_init(&all, NULL, (unsigned)s->threads);
    uint64_t begin = clock_ns();
    threads_run(s->threads, idle_body, &me, 0);
    uint64_t ns = clock_ns() - begin;
    pthread_barrier_destroy(&all);
    return (struct result){ns, s->threads};
}

/* ---- false sharing ---- */

enum { WRITES = 200 };

struct sharer {
    const struct settings *s;
    void *given; /* a block of the first thread's, NULL when each thread starts with its own */
};

/*
 * Gets a block, writes to it many times, frees it. Slow where two threads' blocks lie on one cache
 * line.
 */
static void *sharing_body(void *arg)
{
    struct sharer *me = arg;
    size_t rounds = me->s->ops / me->s->threads;
    block_put(me->given);
    for (size_t i = 0; i < rounds; i++) {
        volatile uint64_t *p = block_get(me->s->min);
        for (size_t k = 0; k < WRITES; k++)
            *p += 2;
        *p -= 2 * WRITES;
        block_put(keep((void *)(uintptr_t)p));
    }
    return NULL;
}

static struct result sharing(const struct settings *s, int passive)
{
    struct sharer *sharers = get_memory(s->threads * sizeof *sharers);
    for (size_t i = 0; i < s->threads; i++)
        sharers[i] = (struct sharer){s, passive ? block_get(s->min) : NULL};
    uint64_t begin = clock_ns();
    threads_run(s->threads, sharing_body, sharers, sizeof *sharers);
    uint64_t ns = clock_ns() - begin;
    free(sharers);
    return (struct result){ns, s->ops / s->threads * s->threads};
}

struct result pattern_sharing_active(const struct settings *s)
{
    return sharing(s, 0);
}

/*
 * The blocks come from one thread and lie side by side; an allocator that hands them out again
 * keeps them so.
 */
struct result pattern_sharing_passive(const struct settings *s)
{
    return sharing(s, 1);
}
