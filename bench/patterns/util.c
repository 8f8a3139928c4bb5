/*
 * The parts of the pattern programs that are not worth inlining: errors, tables of sizes, groups of
 * threads.
 */
#include "patterns.h"

#include <pthread.h>
#include <stdio.h>

_Noreturn void die(const char *what)
{
    fprintf(stderr, "patterns: %s\n", what);
    _Exit(1);
}

/*
 * Memory for the pattern's own tables, zeroed and touched so that no page fault falls into the
 * measured part.
 */
void *get_memory(size_t n)
{
    char *p = calloc(1, n);
    if (p == NULL)
        die("out of memory");
    for (size_t i = 0; i < n; i += PAGE_BYTES)
        p[i] = 0;
    return keep(p);
}

void sizes_fill(uint32_t *sizes, size_t count, const struct settings *s)
{
    struct rng g = rng_init(s->seed, 1000);
    for (size_t i = 0; i < count; i++)
        sizes[i] = (uint32_t)rng_size(&g, s->min, s->max);
}

/* Runs body(args + i * arg_bytes) in `count` threads and waits for all of them. */
void threads_run(size_t count, void *(*body)(void *), void *args, size_t arg_bytes)
{
    pthread_t *ids = get_memory(count * sizeof *ids);
    for (size_t i = 0; i < count; i++) {
        if (pthread_create(&ids[i], NULL, body, (char *)args + i * arg_bytes) != 0)
            die("no thread can be started");
    }
    for (size_t i = 0; i < count; i++)
        pthread_join(ids[i], NULL);
    free(ids);
}
