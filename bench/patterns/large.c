/*
 * Large blocks, where pages and their faults cost more than the calls, and blocks that grow.
 */
#include "patterns.h"

static void touch(char *p, size_t n)
{
    for (size_t i = 0; i < n; i += PAGE_BYTES)
        p[i] = (char)i;
    keep(p);
}

/* Random replacement of blocks whose every page is touched. */
struct result pattern_large(const struct settings *s)
{
    char **block = get_memory(s->blocks * sizeof *block);
    struct rng g = rng_init(s->seed, 0);
    uint64_t begin = clock_ns();
    for (size_t i = 0; i < s->ops; i++) {
        size_t k = rng_below(&g, s->blocks);
        size_t n = rng_size(&g, s->min, s->max);
        free(block[k]);
        block[k] = keep(malloc(n));
        if (block[k] == NULL)
            die("out of memory");
        touch(block[k], n);
    }
    for (size_t i = 0; i < s->blocks; i++)
        free(block[i]);
    uint64_t ns = clock_ns() - begin;
    free(block);
    return (struct result){ns, s->ops};
}

/*
 * `blocks` texts side by side, each lengthened by a few bytes at a time with an exact realloc until
 * it reaches `max` and starts anew. One operation is one realloc.
 */
struct result pattern_realloc_append(const struct settings *s)
{
    struct text {
        char *p;
        size_t n;
    };
    struct text *texts = get_memory(s->blocks * sizeof *texts);
    struct rng g = rng_init(s->seed, 0);
    uint64_t begin = clock_ns();
    for (size_t i = 0; i < s->ops; i++) {
        struct text *t = &texts[rng_below(&g, s->blocks)];
        size_t more = 8 + rng_below(&g, 2 * s->min);
        if (t->n + more > s->max) {
            free(t->p);
            t->p = NULL;
            t->n = 0;
        }
        char *p = keep(realloc(t->p, t->n + more));
        if (p == NULL)
            die("out of memory");
        if (t->n > 0 && p[t->n - 1] != (char)t->n)
            die("realloc lost bytes");
        t->p = p;
        t->n += more;
        p[t->n - 1] = (char)t->n;
    }
    for (size_t i = 0; i < s->blocks; i++)
        free(texts[i].p);
    uint64_t ns = clock_ns() - begin;
    free(texts);
    return (struct result){ns, s->ops};
}

/*
 * One block grows by an eighth at a time from `min` to `max`; each new part is touched. One
 * operation is one step.
 */
struct result pattern_realloc_grow(const struct settings *s)
{
    uint64_t begin = clock_ns();
    size_t steps = 0;
    while (steps < s->ops) {
        size_t n = s->min;
        char *p = keep(malloc(n));
        if (p == NULL)
            die("out of memory");
        touch(p, n);
        while (n < s->max) {
            size_t more = n / 8 + 1;
            p = keep(realloc(p, n + more));
            if (p == NULL)
                die("out of memory");
            touch(p + n, more);
            n += more;
            steps++;
        }
        free(p);
    }
    return (struct result){clock_ns() - begin, steps};
}
