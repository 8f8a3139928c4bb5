/*
 * What the pattern programs share: settings, random numbers, the clock and blocks that the compiler
 * must keep.
 *
 * A pattern is a function that takes its settings and gives back how long how many operations took.
 * The rules:
 *   1. The amount of work follows from the settings alone, the seed among them; the clock never
 *      decides.
 *   2. Every block passes through keep(), so no allocation can be removed or merged.
 *   3. One operation is one allocation with its free, one realloc, or one thread, as the help text
 *      says.
 *   4. What a pattern needs for itself is set up before its clock starts.
 *
 * Only malloc and its family are used, so whatever is preloaded is what is measured.
 */
#ifndef BENCH_PATTERNS_H
#define BENCH_PATTERNS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define PAGE_BYTES ((size_t)4096) /* how far apart blocks are touched */

struct settings {
    uint64_t seed;
    size_t ops;     /* operations in all, over all threads */
    size_t blocks;  /* blocks alive at once, of each thread */
    size_t min;     /* smallest and largest block, bytes */
    size_t max;
    size_t threads; /* threads at a time; producers where there are two kinds */
};

struct result {
    uint64_t ns;
    uint64_t ops;
};

struct pattern {
    const char *name;
    const char *group; /* small, life, mixes, large, threads, memory; or heavy: only when named */
    struct result (*run)(const struct settings *);
    struct settings defaults;
    const char *help;
};

extern const struct pattern patterns[];
extern const size_t pattern_count;

/* util.c */
_Noreturn void die(const char *what);
void *get_memory(size_t n);
void sizes_fill(uint32_t *sizes, size_t count, const struct settings *s);
void threads_run(size_t count, void *(*body)(void *), void *args, size_t arg_bytes);

/* The patterns, by file. small.c */
struct result pattern_pair(const struct settings *);
struct result pattern_batch(const struct settings *);
struct result pattern_calloc(const struct settings *);
struct result pattern_aligned(const struct settings *);
/* life.c */
struct result pattern_lifo(const struct settings *);
struct result pattern_fifo(const struct settings *);
struct result pattern_random(const struct settings *);
struct result pattern_mixed(const struct settings *);
struct result pattern_replace(const struct settings *);
/* strings.c */
struct result pattern_strings(const struct settings *);
/* mix.c: blocks, min and max come from what was recorded */
struct result pattern_mix_python(const struct settings *);
struct result pattern_mix_perl(const struct settings *);
struct result pattern_mix_sqlite(const struct settings *);
struct result pattern_mix_gcc(const struct settings *);
struct result pattern_mix_git(const struct settings *);
struct result pattern_mix_redis(const struct settings *);
/* growth.c */
struct result pattern_live(const struct settings *);
struct result pattern_threads_n(const struct settings *);
/* large.c */
struct result pattern_large(const struct settings *);
struct result pattern_realloc_append(const struct settings *);
struct result pattern_realloc_grow(const struct settings *);
/* pass.c */
struct result pattern_pass(const struct settings *);
struct result pattern_stress(const struct settings *);
/* threads.c */
struct result pattern_larson(const struct settings *);
struct result pattern_start_stop(const struct settings *);
struct result pattern_idle(const struct settings *);
struct result pattern_sharing_active(const struct settings *);
struct result pattern_sharing_passive(const struct settings *);

/* Makes the compiler believe that `p` and what it points to are used elsewhere. */
static inline void *keep(void *p)
{
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

static inline uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct rng {
    uint64_t state;
};

static inline struct rng rng_init(uint64_t seed, uint64_t stream)
{
    struct rng g = {(seed + 1) * 0x9E3779B97F4A7C15u ^ (stream + 1) * 0xD1B54A32D192ED03u};
    g.state |= 1; /* the generator stands still at zero */
    return g;
}

static inline uint64_t rng_next(struct rng *g)
{
    uint64_t x = g->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    g->state = x;
    return x * 0x2545F4914F6CDD1Du;
}

/* 0..n-1, for n below 2^32. */
static inline size_t rng_below(struct rng *g, size_t n)
{
    return (size_t)(((rng_next(g) >> 32) * n) >> 32);
}

/*
 * A size between min and max where each doubling is as likely as the next: small blocks prevail,
 * as in programs.
 */
static inline size_t rng_size(struct rng *g, size_t min, size_t max)
{
    if (max <= min)
        return min;
    size_t low = 63u - (size_t)__builtin_clzll(min);
    size_t high = 64u - (size_t)__builtin_clzll(max - 1);
    size_t base = (size_t)1 << (low + rng_below(g, high - low));
    size_t n = base + rng_below(g, base);
    return n < min ? min : n > max ? max : n;
}

/* A block that carries a mark made of its own address. Blocks have at least eight bytes. */
static inline void *block_mark(void *p)
{
    if (p == NULL)
        die("out of memory");
    *(uint64_t *)p = (uint64_t)(uintptr_t)p ^ 0xA5A5A5A55A5A5A5Au;
    return keep(p);
}

static inline void *block_get(size_t n)
{
    return block_mark(malloc(n));
}

/* Frees a marked block, NULL included; stops the program when somebody else wrote over the mark. */
static inline void block_put(void *p)
{
    if (p != NULL && *(uint64_t *)p != ((uint64_t)(uintptr_t)p ^ 0xA5A5A5A55A5A5A5Au))
        die("a block was overwritten");
    free(p);
}

#endif
