/*
 * Two patterns whose cost should stay the same while a setting grows: live with the number of
 * blocks alive, threads-n with the number of threads. `compare --growth` runs them over a range.
 *
 * Only the settings that grow differ between two runs; what is timed does as many operations among
 * as many places. What still grows with them, besides the allocator's work, is the hardware's: the
 * places of a larger heap lie on more pages, and more threads replace each other on a processor.
 */
#include "patterns.h"

enum { TABLE = 4096, PLACES = 4096, WARM_TURNS = 16 };

/* Each size between min and max is as likely as the next, so the mean is in the middle. */
static void sizes_fill_even(uint32_t *sizes, const struct settings *s)
{
    struct rng g = rng_init(s->seed, 3000);
    for (size_t i = 0; i < TABLE; i++)
        sizes[i] = (uint32_t)(s->min + rng_below(&g, s->max - s->min + 1));
}

/* Replaces the block of a random one of `count` places, `turns` times. */
static void replace(void **place, size_t count, const uint32_t *sizes, size_t turns, struct rng *g)
{
    for (size_t i = 0; i < turns; i++) {
        size_t k = rng_below(g, count);
        block_put(place[k]);
        place[k] = block_get(sizes[i % TABLE]);
    }
}

/*
 * Fills `blocks` places; PLACES of them, evenly spread over the heap, are then replaced. They are
 * put together in an array of their own, so that looking for them does not cost more as there are
 * more blocks.
 */
struct result pattern_live(const struct settings *s)
{
    size_t count = s->blocks < PLACES ? s->blocks : PLACES;
    size_t apart = s->blocks / count;
    void **rest = get_memory(s->blocks * sizeof *rest);
    void **place = get_memory(count * sizeof *place);
    uint32_t *sizes = get_memory(TABLE * sizeof *sizes);
    struct rng g = rng_init(s->seed, 0);
    sizes_fill_even(sizes, s);
    for (size_t i = 0; i < s->blocks; i++) {
        void *p = block_get(sizes[i % TABLE]);
        if (i % apart == 0 && i / apart < count)
            place[i / apart] = p;
        else
            rest[i] = p;
    }
    replace(place, count, sizes, WARM_TURNS * count, &g);
    uint64_t begin = clock_ns();
    replace(place, count, sizes, s->ops, &g);
    uint64_t ns = clock_ns() - begin;
    for (size_t i = 0; i < s->blocks; i++)
        block_put(rest[i]);
    for (size_t k = 0; k < count; k++)
        block_put(place[k]);
    free(rest);
    free(place);
    free(sizes);
    return (struct result){ns, s->ops};
}

struct replacer {
    const struct settings *s;
    const uint32_t *sizes;
    size_t index;
};

static void *replace_body(void *arg)
{
    struct replacer *me = arg;
    size_t count = me->s->blocks;
    struct rng g = rng_init(me->s->seed, me->index);
    void **place = get_memory(count * sizeof *place);
    replace(place, count, me->sizes, me->s->ops / me->s->threads, &g);
    for (size_t k = 0; k < count; k++)
        block_put(place[k]);
    free(place);
    return NULL;
}

/* The threads share the operations, so that the work is the same however many they are. */
struct result pattern_threads_n(const struct settings *s)
{
    struct replacer *replacers = get_memory(s->threads * sizeof *replacers);
    uint32_t *sizes = get_memory(TABLE * sizeof *sizes);
    sizes_fill(sizes, TABLE, s);
    for (size_t i = 0; i < s->threads; i++)
        replacers[i] = (struct replacer){s, sizes, i};
    uint64_t begin = clock_ns();
    threads_run(s->threads, replace_body, replacers, sizeof *replacers);
    uint64_t ns = clock_ns() - begin;
    free(replacers);
    free(sizes);
    return (struct result){ns, s->ops / s->threads * s->threads};
}
