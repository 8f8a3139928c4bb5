/*
 * Blocks that live for a while: in which order they die decides what an allocator can keep
 * together.
 */
#include "patterns.h"

enum { TABLE = 4096 };

enum order { LIFO, FIFO, RANDOM };

static void order_fill(uint32_t *order, size_t count, enum order kind, uint64_t seed)
{
    struct rng g = rng_init(seed, 2000);
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)(kind == LIFO ? count - 1 - i : i);
    for (size_t i = count; kind == RANDOM && i > 1; i--) {
        size_t j = rng_below(&g, i);
        uint32_t last = order[i - 1];
        order[i - 1] = order[j];
        order[j] = last;
    }
}

/* Allocates `blocks` blocks and frees them all in the given order, as often as `ops` asks for. */
static struct result lifetimes(const struct settings *s, enum order kind)
{
    size_t count = s->blocks < s->ops ? s->blocks : s->ops;
    size_t rounds = (s->ops + count - 1) / count;
    void **block = get_memory(count * sizeof *block);
    uint32_t *order = get_memory(count * sizeof *order);
    uint32_t *sizes = get_memory(TABLE * sizeof *sizes);
    order_fill(order, count, kind, s->seed);
    sizes_fill(sizes, TABLE, s);
    uint64_t begin = clock_ns();
    for (size_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < count; i++)
            block[i] = block_get(sizes[(i + r) % TABLE]);
        for (size_t i = 0; i < count; i++)
            block_put(block[order[i]]);
    }
    uint64_t ns = clock_ns() - begin;
    free(block);
    free(order);
    free(sizes);
    return (struct result){ns, rounds * count};
}

struct result pattern_lifo(const struct settings *s)
{
    return lifetimes(s, LIFO);
}

struct result pattern_fifo(const struct settings *s)
{
    return lifetimes(s, FIFO);
}

struct result pattern_random(const struct settings *s)
{
    return lifetimes(s, RANDOM);
}

/* Fills `blocks` places, then replaces the block of a random place; only the replacing is timed. */
static struct result replace(const struct settings *s, int checked)
{
    void **block = get_memory(s->blocks * sizeof *block);
    uint32_t *sizes = get_memory(TABLE * sizeof *sizes);
    struct rng g = rng_init(s->seed, 0);
    sizes_fill(sizes, TABLE, s);
    for (size_t i = 0; i < s->blocks; i++)
        block[i] = block_get(sizes[i % TABLE]);
    uint64_t begin = clock_ns();
    for (size_t i = 0; i < s->ops; i++) {
        size_t k = rng_below(&g, s->blocks);
        if (checked)
            block_put(block[k]);
        else
            free(block[k]);
        block[k] = block_get(sizes[i % TABLE]);
    }
    uint64_t ns = clock_ns() - begin;
    for (size_t i = 0; i < s->blocks; i++)
        block_put(block[i]);
    free(block);
    free(sizes);
    return (struct result){ns, s->ops};
}

struct result pattern_mixed(const struct settings *s)
{
    return replace(s, 1);
}

/*
 * The old block is not looked at: with millions alive each look is a cache miss that is not the
 * allocator's.
 */
struct result pattern_replace(const struct settings *s)
{
    return replace(s, 0);
}
