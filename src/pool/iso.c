#include "pool/iso.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "os/check.h"

#include <string.h>

enum { FIT_TRIES = 16 }; /* blocks of a request's own bin that are looked at */

_Static_assert(sizeof(struct iso_map) == 16, "two bits a granule");
_Static_assert(sizeof(struct iso_free) == ISO_GRANULE, "rules 3 and 6 in a granule");

/* ---- maps ---- */

ASH_INLINE bool is_begin(const struct iso *i, size_t g)
{
    return (iso_map_of(i, g)->begin & iso_bit(g)) != 0;
}

ASH_INLINE bool is_live(const struct iso *i, size_t g)
{
    return (iso_map_of(i, g)->live & iso_bit(g)) != 0;
}

/* Of a block's first granule. */
ASH_INLINE bool is_free(const struct iso *i, size_t g)
{
    return is_begin(i, g) && !is_live(i, g);
}

/* `high` first: a guest may be left at any instruction, and nobody clears what lies beyond. */
ASH_INLINE void sentinel_set(struct iso *i)
{
    if (i->top > i->high)
        i->high = i->top;
    fence_left();
    iso_map_of(i, i->top)->begin |= iso_bit(i->top);
    iso_map_of(i, i->top)->live |= iso_bit(i->top);
}

ASH_INLINE void sentinel_clear(struct iso *i)
{
    iso_map_of(i, i->top)->begin &= ~iso_bit(i->top);
    iso_map_of(i, i->top)->live &= ~iso_bit(i->top);
}

/* Rule 2: the second map word of the block is all its own. */
ASH_INLINE bool covers_word(size_t g, size_t n)
{
    return g + n >= (g / 64 + 2) * 64;
}

ASH_INLINE void live_set(struct iso *i, size_t g, size_t n)
{
    struct iso_map *m = iso_map_of(i, g);
    i->live += (uint32_t)n;
    m->begin |= iso_bit(g);
    m->live |= iso_bit(g);
    if (covers_word(g, n))
        m[-1].live = n;
}

/* Leaves the begin bit. */
ASH_INLINE void live_clear(struct iso *i, size_t g, size_t n)
{
    struct iso_map *m = iso_map_of(i, g);
    i->live -= (uint32_t)n;
    m->live &= ~iso_bit(g);
    if (covers_word(g, n))
        m[-1].live = 0;
}

/* ---- blocks ---- */

ASH_INLINE size_t granule_of(const struct iso *i, const void *p)
{
    return ((uintptr_t)p - (uintptr_t)i->base) / ISO_GRANULE;
}

ASH_INLINE size_t granules(size_t n)
{
    return n == 0 ? 1 : (n + ISO_GRANULE - 1) / ISO_GRANULE;
}

/* Of a free block; 0: it waits. */
ASH_INLINE size_t free_size(const struct iso *i, size_t g)
{
    return ((const struct iso_free *)iso_block(i, g))->size;
}

/* The size that the free block which ends before granule `g` has in its last bytes. */
ASH_INLINE uint32_t *size_before(const struct iso *i, size_t g)
{
    return (uint32_t *)iso_block(i, g) - 1;
}

/* ---- bins ---- */

ASH_INLINE unsigned bin_of(size_t n)
{
    if (n <= ISO_EXACT)
        return (unsigned)n - 1;
    unsigned log = bits_highest(n); /* 5 and up */
    return ISO_EXACT + (log - 5) * 4 + (unsigned)(n >> (log - 2) & 3);
}

ASH_NOINLINE static void bin_insert(struct iso *i, size_t g, size_t n)
{
    struct iso_free *f = iso_block(i, g);
    unsigned bin = bin_of(n);
    uint32_t first = i->bins[bin];
    *f = (struct iso_free){.next = first, .size = (uint32_t)n};
    *size_before(i, g + n) = (uint32_t)n;
    if (first != 0)
        ((struct iso_free *)iso_block(i, first - 1))->prev = (uint32_t)g + 1;
    i->bins[bin] = (uint32_t)g + 1;
    i->filled[bin / 64] |= iso_bit(bin);
    iso_map_of(i, g)->begin |= iso_bit(g);
    if (n > 1)
        iso_map_of(i, g + n - 1)->live |= iso_bit(g + n - 1);
}

/* Takes the free block out, begin bit and end mark too; its size. */
ASH_NOINLINE static size_t bin_remove(struct iso *i, size_t g)
{
    struct iso_free f = *(struct iso_free *)iso_block(i, g);
    unsigned bin = bin_of(f.size);
    if (f.next != 0)
        ((struct iso_free *)iso_block(i, f.next - 1))->prev = f.prev;
    if (f.prev != 0)
        ((struct iso_free *)iso_block(i, f.prev - 1))->next = f.next;
    else {
        i->bins[bin] = f.next;
        if (f.next == 0)
            i->filled[bin / 64] &= ~iso_bit(bin);
    }
    iso_map_of(i, g)->begin &= ~iso_bit(g);
    if (f.size > 1)
        iso_map_of(i, g + f.size - 1)->live &= ~iso_bit(g + f.size - 1);
    return f.size;
}

/* The granule, plus one, of a free block that holds `n`; 0: none. */
ASH_NOINLINE static uint32_t bin_find(const struct iso *i, size_t n)
{
    unsigned bin = bin_of(n);
    uint32_t at = i->bins[bin];
    for (unsigned tries = 0; at != 0 && tries < FIT_TRIES; tries++) {
        const struct iso_free *f = iso_block(i, at - 1);
        if (f->size >= n)
            return at;
        at = f->next;
    }
    bin++;
    for (unsigned word = bin / 64; word < ASH_COUNT(i->filled); word++, bin = word * 64) {
        uint64_t left = i->filled[word] >> (bin % 64) << (bin % 64);
        if (left != 0)
            return i->bins[word * 64 + bits_lowest(left)];
    }
    return 0;
}

/* ---- granules ---- */

/*
 * `n` granules from `g` on belong to nobody and are in no bin: they join their neighbours, but for
 * those that wait, whose size is 0.
 */
ASH_NOINLINE static void release(struct iso *i, size_t g, size_t n)
{
    size_t next = g + n;
    if (next != i->top && is_free(i, next) && free_size(i, next) != 0)
        n += bin_remove(i, next);
    if (g > 0 && is_begin(i, g - 1) != is_live(i, g - 1) && *size_before(i, g) != 0) {
        size_t before = *size_before(i, g);
        g -= before;
        n += before;
        bin_remove(i, g);
    }
    if (g + n != i->top) {
        bin_insert(i, g, n);
        return;
    }
    sentinel_clear(i);
    i->top = (uint32_t)g;
    sentinel_set(i);
}

/* Blocks that wait join their neighbours. */
ASH_NOINLINE static void join(struct iso *i)
{
    for (size_t bin = 0; i->idle != 0; bin++)
        while (i->waiting[bin] != 0) {
            size_t g = i->waiting[bin] - 1;
            i->waiting[bin] = ((struct iso_free *)iso_block(i, g))->next;
            i->idle -= (uint32_t)bin + 1;
            iso_map_of(i, g)->begin &= ~iso_bit(g);
            release(i, g, bin + 1);
        }
}

/* The granule, plus one, of a free block for `n`, after a join where that spares fresh memory. */
static uint32_t bin_search(struct iso *i, size_t n)
{
    uint32_t found = bin_find(i, n);
    if (found != 0 || i->idle == 0 || (n <= ISO_EXACT && n < i->limit - i->top))
        return found;
    join(i);
    return bin_find(i, n);
}

/* The first of `n` granules, live; SIZE_MAX: no room. */
ASH_NOINLINE static size_t acquire(struct iso *i, size_t n)
{
    if (n > i->limit)
        return SIZE_MAX;
    uint32_t found = bin_search(i, n);
    size_t g;
    if (found != 0) {
        g = found - 1;
        size_t size = bin_remove(i, g);
        live_set(i, g, n);
        if (size > n)
            bin_insert(i, g + n, size - n);
    } else {
        g = i->top;
        if (n >= i->limit - g)
            return SIZE_MAX;
        sentinel_clear(i);
        i->top += (uint32_t)n;
        sentinel_set(i);
        live_set(i, g, n);
    }
    i->blocks++;
    return g;
}

/* A live block of `n` granules keeps its first `keep`. */
ASH_NOINLINE static void cut(struct iso *i, size_t g, size_t n, size_t keep)
{
    if (n == keep)
        return;
    live_clear(i, g, n);
    live_set(i, g, keep);
    release(i, g + keep, n - keep);
}

/* A live block of `n` granules becomes one of `want` if what follows is free; false: it is not. */
ASH_NOINLINE static bool extend(struct iso *i, size_t g, size_t n, size_t want)
{
    size_t next = g + n;
    if (next == i->top) {
        if (want - n >= i->limit - next)
            return false;
        live_clear(i, g, n);
        sentinel_clear(i);
        i->top = (uint32_t)(g + want);
        sentinel_set(i);
        live_set(i, g, want);
        return true;
    }
    size_t have = is_free(i, next) ? n + free_size(i, next) : n;
    if (have < want)
        return false;
    live_clear(i, g, n);
    bin_remove(i, next);
    live_set(i, g, want);
    if (have > want)
        bin_insert(i, g + want, have - want);
    return true;
}

/* ---- the functions of the header ---- */

size_t iso_below(size_t bytes)
{
    return (bytes / ISO_GRANULE / 64 + 2) * sizeof(struct iso_map);
}

void iso_init(struct iso *i, size_t bytes)
{
    i->limit = (uint32_t)(bytes / ISO_GRANULE) + 1;
    sentinel_set(i);
}

void *iso_malloc_slow(struct iso *i, size_t n)
{
    if (ASH_UNLIKELY(n > PTRDIFF_MAX))
        return NULL;
    size_t g = acquire(i, granules(n));
    return g == SIZE_MAX ? NULL : iso_block(i, g);
}

/* For the rarer calls: once in the program's code. */
ASH_NOINLINE static void *block_make(struct iso *i, size_t n)
{
    return iso_malloc(i, n);
}

void *iso_calloc(struct iso *i, size_t n)
{
    size_t high = i->high;
    void *p = block_make(i, n);
    if (p == NULL)
        return NULL;
    size_t g = granule_of(i, p), end = g + granules(n);
    if (g < high) /* rule 5: what lies beyond is zero */
        memset(p, 0, (size_min(end, high) - g) * ISO_GRANULE);
    return p;
}

void *iso_aligned(struct iso *i, size_t align, size_t n)
{
    size_t step = align / ISO_GRANULE, want = granules(n);
    if (n > PTRDIFF_MAX || step > i->limit)
        return NULL;
    size_t g = acquire(i, want + step - 1);
    if (g == SIZE_MAX)
        return NULL;
    size_t place = align_up((uintptr_t)iso_block(i, g), align) - (uintptr_t)iso_block(i, g);
    size_t lead = place / ISO_GRANULE, all = want + step - 1;
    if (lead > 0) {
        live_clear(i, g, all);
        iso_map_of(i, g)->begin &= ~iso_bit(g);
        live_set(i, g + lead, all - lead);
        release(i, g, lead);
    }
    cut(i, g + lead, all - lead, want);
    return iso_block(i, g + lead);
}

void iso_free_slow(struct iso *i, size_t g, size_t n)
{
    if (n <= ISO_EXACT) /* too much waits */
        join(i);
    live_clear(i, g, n);
    iso_map_of(i, g)->begin &= ~iso_bit(g);
    i->blocks--;
    release(i, g, n);
}

void *iso_realloc(struct iso *i, void *p, size_t n)
{
    if (n > PTRDIFF_MAX)
        return NULL;
    size_t g = granule_of(i, p), have = iso_size(i, g), want = granules(n);
    if (want <= have) {
        cut(i, g, have, want);
        return p;
    }
    if (want > i->limit)
        return NULL;
    if (extend(i, g, have, want))
        return p;
    if (have > ISO_EXACT && i->idle != 0) { /* rather than move it */
        join(i);
        if (extend(i, g, have, want))
            return p;
    }
    void *moved = block_make(i, n);
    if (moved == NULL)
        return NULL;
    memcpy(moved, p, have * ISO_GRANULE);
    iso_free(i, p);
    return moved;
}

enum iso_fault iso_fault_of(const struct iso *i, const void *p)
{
    size_t off = (uintptr_t)p - (uintptr_t)i->base, g = off / ISO_GRANULE;
    if (ASH_UNLIKELY(off >= (size_t)i->high * ISO_GRANULE))
        return ISO_FOREIGN;
    if (ASH_LIKELY(off % ISO_GRANULE == 0 && g < i->top && is_begin(i, g) && is_live(i, g)))
        return ISO_OK;
    if (off % ISO_GRANULE != 0)
        return ISO_INTERIOR;
    if (g >= i->top)
        return ISO_FREED;
    while (!is_begin(i, g))
        g--;
    return is_live(i, g) ? ISO_INTERIOR : ISO_FREED;
}

const unsigned char *iso_low(const struct iso *i)
{
    return (const unsigned char *)iso_map_of(i, i->high);
}

const unsigned char *iso_high(const struct iso *i)
{
    return i->base + (size_t)i->high * ISO_GRANULE;
}

void iso_settle(struct iso *i)
{
    join(i);
    memset(iso_block(i, i->top), 0, (size_t)(i->high - i->top) * ISO_GRANULE);
    i->high = i->top;
}

/* Whether the free block at `g` is what rules 1, 3 and 4 say. */
ASH_COLD static bool free_is_whole(const struct iso *i, size_t g)
{
    const struct iso_free *f = iso_block(i, g);
    if (f->size == 0 || g + f->size >= i->top || *size_before(i, g + f->size) != f->size)
        return false;
    uint32_t self = (uint32_t)g + 1;
    uint32_t linked = f->prev != 0 ? ((struct iso_free *)iso_block(i, f->prev - 1))->next
                                   : i->bins[bin_of(f->size)];
    bool marked = f->size == 1 || is_live(i, g + f->size - 1);
    size_t next = g + f->size;
    return linked == self && marked && is_begin(i, next) && is_live(i, next);
}

/* Faults of the lists of waiting blocks, which hold as many granules as `idle` says. */
ASH_COLD static int waiting_check(const struct iso *i)
{
    int faults = 0;
    size_t idle = 0;
    for (size_t bin = 0; bin < ISO_EXACT; bin++)
        for (size_t at = i->waiting[bin]; at != 0 && idle <= i->idle; idle += bin + 1) {
            const struct iso_free *f = iso_block(i, at - 1);
            if (at > i->top || !is_free(i, at - 1))
                return faults + 1;
            faults +=
                f->size != 0 || f->prev != 0 || f->last != 0 || iso_size(i, at - 1) != bin + 1;
            at = f->next;
        }
    return faults + (idle != i->idle);
}

ASH_COLD int iso_check(const struct iso *i)
{
    int faults = waiting_check(i);
    uint32_t blocks = 0;
    size_t live = 0, idle = 0;
    size_t n;
    for (size_t g = 0; g < i->top; g += n) {
        if (!is_begin(i, g))
            return faults + 1;
        if (is_live(i, g)) {
            blocks++;
            n = iso_size(i, g);
            live += n;
        } else if (free_size(i, g) == 0) {
            n = iso_size(i, g);
            idle += n;
        } else {
            n = free_size(i, g);
            faults += !free_is_whole(i, g);
        }
        if (n == 0 || n > i->top - g)
            return faults + 1;
    }
    return faults + (blocks != i->blocks) + (live != i->live) + (idle != i->idle) +
           !is_begin(i, i->top) + !is_live(i, i->top);
}
