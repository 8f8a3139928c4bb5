/*
 * Growth of a large block, in the order that is tried: the units behind it, if they are free or not
 * yet mapped; a longer run elsewhere whose page tables take over the pages (mremap that leaves the
 * old place mapped and empty); the caller's copy.
 */
#include "heap/large.h"

#include "heap/error.h"
#include "mem/reserve.h"
#include "os/os_mem.h"

enum { MOVE_LEAST = 256 * 1024 }; /* below this, copying is faster than moving pages */

ASH_INLINE size_t units_for(size_t n)
{
    return (n >> UNIT_SHIFT) + ((n & (UNIT_BYTES - 1)) != 0);
}

ASH_INLINE size_t bytes_for(size_t n)
{
    return align_up(n, os_page_size());
}

void *large_open(struct heap *h, size_t unit, size_t units, size_t bytes)
{
    struct slab *s = chunk_header(unit);
    s->unit = (uint32_t)unit;
    store_relaxed(&s->units, (uint32_t)units);
    s->bytes = bytes;
    store_relaxed(&s->cls, 0);
    store_relaxed(&s->kind, UNIT_LARGE); /* the record is handed over with the pointer */
    counter_add(&heap_class(h, 0)->misses, 1);
    counter_add(&heap_class(h, 0)->taken, bytes);
    return slab_base(s);
}

void *large_alloc(struct heap *h, size_t n, size_t align, bool *zero)
{
    if (n > PTRDIFF_MAX)
        return NULL;
    size_t units = units_for(n);
    struct run r = reserve_take(units, align > UNIT_BYTES ? align >> UNIT_SHIFT : 1);
    if (r.unit == RESERVE_NONE)
        return NULL;
    if (!chunk_ensure(r.unit, 1)) {
        reserve_give(r.unit, units);
        return NULL;
    }
    *zero = r.zero;
    return large_open(h, r.unit, units, bytes_for(n));
}

/*
 * The first unit of the large block that `unit` lies inside of, or RESERVE_NONE; for messages only,
 * since it searches. The block is not the caller's: it may be freed and its header be used again
 * meanwhile, so of the header only atomic words are read.
 */
static size_t large_around(size_t unit)
{
    for (size_t u = unit + 1; u-- > 0;) {
        struct slab *s = chunk_header_or_null(u);
        if (s != NULL && load_relaxed(&s->kind) == UNIT_LARGE)
            return u + slab_units(s) > unit ? u : RESERVE_NONE;
    }
    return RESERVE_NONE;
}

/* Says what is wrong with a pointer that is no block. */
static ASH_COLD void large_report(const char *verb, const void *p)
{
    size_t unit = unit_of(p);
    if (unit >= chunk_count() * CHUNK_UNITS) {
        error_foreign(verb, p);
        return;
    }
    struct slab *header = chunk_header_or_null(unit);
    if (header != NULL && load_relaxed(&header->kind) == UNIT_POOL) {
        error_pooled(verb, p);
        return;
    }
    size_t around = large_around(unit);
    if (around != RESERVE_NONE) {
        error_interior(verb, p, unit_address(around));
        return;
    }
    for (size_t k = 1; k <= 8; k *= 2) { /* a slab that was given back begins at one of these */
        struct slab *s = chunk_header_or_null(unit & ~(k - 1));
        if (s == NULL || load_relaxed(&s->kind) != UNIT_FREED)
            continue;
        unsigned cls = slab_class(s);
        if (cls == 0 ? p == unit_address(unit) && k == 1
                     : class_units(cls) == k && class_is_block(&size_classes.of[cls], p)) {
            error_double_free(p);
            return;
        }
    }
    error_foreign(verb, p);
}

struct slab *large_find(const char *verb, const void *p)
{
    size_t unit = unit_of(p);
    if (ASH_LIKELY(unit < WINDOW_UNITS && ((uintptr_t)p & (UNIT_BYTES - 1)) == 0)) {
        struct slab *s = chunk_header_or_null(unit);
        if (ASH_LIKELY(s != NULL && load_relaxed(&s->kind) == UNIT_LARGE))
            return s;
    }
    large_report(verb, p);
    return NULL;
}

bool large_close(struct heap *h, struct slab *s)
{
    size_t bytes = s->bytes;
    uint32_t kind = UNIT_LARGE;
    if (!cas_strong_relaxed(&s->kind, &kind, UNIT_FREED))
        return false;
    heap_count_up(h, 0, direct, 1);
    heap_count_up(h, 0, flushed, bytes);
    return true;
}

bool large_free(struct heap *h, struct slab *s)
{
    uint32_t unit = s->unit;
    uint32_t units = slab_units(s);
    if (!large_close(h, s))
        return false;
    reserve_give(unit, units);
    return true;
}

/* A longer run elsewhere that takes over the pages; NULL: there is none, or the kernel cannot. */
static struct slab *move_pages(struct slab *s, size_t units)
{
    struct run r = reserve_take(units, 1);
    if (r.unit == RESERVE_NONE)
        return NULL;
    if (!chunk_ensure(r.unit, 1) ||
        os_move(slab_base(s), unit_address(r.unit), (size_t)slab_units(s) << UNIT_SHIFT) != 0) {
        reserve_give(r.unit, units);
        return NULL;
    }
    struct slab *t = chunk_header(r.unit);
    t->unit = (uint32_t)r.unit;
    store_relaxed(&t->cls, 0);
    store_relaxed(&s->kind, UNIT_FREED);
    reserve_give(s->unit, slab_units(s));
    return t;
}

void *large_resize(struct heap *h, struct slab *s, size_t n)
{
    if (n > PTRDIFF_MAX)
        return NULL;
    size_t units = units_for(n);
    size_t old = s->bytes;
    bool zero;
    if (units < slab_units(s)) {
        reserve_give(s->unit + units, slab_units(s) - units);
    } else if (units > slab_units(s) &&
               !reserve_extend(s->unit + slab_units(s), units - slab_units(s), &zero)) {
        s = old >= MOVE_LEAST && chunk_window_is_remote() ? move_pages(s, units) : NULL;
        if (s == NULL)
            return NULL;
        heap_count_up(h, 0, direct, 1);
        heap_count_up(h, 0, misses, 1);
    }
    store_relaxed(&s->units, (uint32_t)units);
    s->bytes = bytes_for(n);
    store_relaxed(&s->kind, UNIT_LARGE);
    heap_count_up(h, 0, flushed, old);
    heap_count_up(h, 0, taken, s->bytes);
    return slab_base(s);
}
