/*
 * Blocks that live for a moment: the cost of the calls themselves, with everything in the caches.
 */
#include "patterns.h"

enum { SIZES_MAX = 64, BATCH = 32 };

/* min, then each power of two and the step halfway to the next: 16 32 48 64 96 128 192 ... */
static size_t ladder(size_t *sizes, size_t min, size_t max)
{
    size_t count = 0;
    for (size_t base = 16; base <= max && count + 2 <= SIZES_MAX; base *= 2) {
        if (base >= min)
            sizes[count++] = base;
        size_t half = base + base / 2;
        if (half >= min && half <= max && half % 16 == 0)
            sizes[count++] = half;
    }
    if (count == 0)
        sizes[count++] = min;
    return count;
}

struct result pattern_pair(const struct settings *s)
{
    size_t sizes[SIZES_MAX];
    size_t count = ladder(sizes, s->min, s->max);
    size_t each = s->ops / count + 1;
    uint64_t begin = clock_ns();
    for (size_t k = 0; k < count; k++) {
        size_t n = sizes[k];
        for (size_t i = 0; i < each; i++) {
            char *p = keep(malloc(n));
            *p = 1;
            free(keep(p));
        }
    }
    return (struct result){clock_ns() - begin, each * count};
}

struct result pattern_batch(const struct settings *s)
{
    size_t sizes[SIZES_MAX];
    void *batch[BATCH];
    size_t count = ladder(sizes, s->min, s->max);
    size_t each = s->ops / count / BATCH + 1;
    uint64_t begin = clock_ns();
    for (size_t k = 0; k < count; k++) {
        size_t n = sizes[k];
        for (size_t i = 0; i < each; i++) {
            for (size_t j = 0; j < BATCH; j++) {
                batch[j] = keep(malloc(n));
                *(char *)batch[j] = 1;
            }
            for (size_t j = 0; j < BATCH; j++)
                free(keep(batch[j]));
        }
    }
    return (struct result){clock_ns() - begin, each * count * BATCH};
}

/* Each block is soiled at both ends before it goes back, so the zeroes must be made anew. */
struct result pattern_calloc(const struct settings *s)
{
    enum { TABLE = 4096 };
    uint32_t *sizes = get_memory(TABLE * sizeof *sizes);
    char *held[BATCH] = {NULL};
    sizes_fill(sizes, TABLE, s);
    uint64_t begin = clock_ns();
    for (size_t i = 0; i < s->ops; i++) {
        size_t n = sizes[i % TABLE];
        free(held[i % BATCH]);
        char *p = keep(calloc(1, n));
        if (p[0] != 0 || p[n - 1] != 0)
            die("calloc gave a block that is not zero");
        p[0] = p[n - 1] = 1;
        held[i % BATCH] = keep(p);
    }
    for (size_t i = 0; i < BATCH; i++)
        free(held[i]);
    uint64_t ns = clock_ns() - begin;
    free(sizes);
    return (struct result){ns, s->ops};
}

struct result pattern_aligned(const struct settings *s)
{
    size_t sizes[SIZES_MAX];
    void *batch[BATCH];
    size_t count = ladder(sizes, s->min, s->max);
    size_t each = s->ops / count / BATCH + 1;
    uint64_t begin = clock_ns();
    for (size_t k = 0; k < count; k++) {
        size_t n = (sizes[k] + 63) & ~(size_t)63;
        for (size_t i = 0; i < each; i++) {
            for (size_t j = 0; j < BATCH; j++) {
                batch[j] = keep(aligned_alloc(64, n));
                *(char *)batch[j] = 1;
            }
            for (size_t j = 0; j < BATCH; j++)
                free(keep(batch[j]));
        }
    }
    return (struct result){clock_ns() - begin, each * count * BATCH};
}
