#include "pool/iso.h"

#include "base/bits.h"
#include "os/check.h"

#include <string.h>

enum { FIT_TRIES = 16 }; /* blocks of a request's own bin that are looked at */

/* What lies in the first 12 bytes of a free block; granules plus one, 0 for none. */
struct iso_free {
    uint32_t next, prev, size;
};

_Static_assert(sizeof(struct iso_map) == 16, "two bits a granule");
_Static_assert(sizeof(struct iso_free) + sizeof(uint32_t) == ISO_GRANULE, "rule 3 in a granule");

/* ---- maps ---- */

ASH_INLINE struct iso_map *map_of(const struct iso *i, size_t g)
{
    return (struct iso_map *)((uintptr_t)i - (g / 64 + 1) * sizeof(struct iso_map));
}

ASH_INLINE uint64_t bit_of(size_t g)
{
    return (uint64_t)1 << (g % 64);
}

ASH_INLINE bool is_begin(const struct iso *i, size_t g)
{
    return (map_of(i, g)->begin & bit_of(g)) != 0;
}

ASH_INLINE bool is_live(const struct iso *i, size_t g)
{
    return (map_of(i, g)->live & bit_of(g)) != 0;
}

ASH_INLINE void sentinel_set(struct iso *i)
{
    map_of(i, i->top)->begin |= bit_of(i->top);
    map_of(i, i->top)->live |= bit_of(i->top);
    if (i->top > i->high)
        i->high = i->top;
}

ASH_INLINE void sentinel_clear(struct iso *i)
{
    map_of(i, i->top)->begin &= ~bit_of(i->top);
    map_of(i, i->top)->live &= ~bit_of(i->top);
}

/* Rule 2: the second map word of the block is all its own. */
ASH_INLINE bool covers_word(size_t g, size_t n)
{
    return g + n >= (g / 64 + 2) * 64;
}

ASH_INLINE void live_set(struct iso *i, size_t g, size_t n)
{
    struct iso_map *m = map_of(i, g);
    i->live += (uint32_t)n;
    m->begin |= bit_of(g);
    m->live |= bit_of(g);
    if (covers_word(g, n))
        m[-1].live = n;
}

/* Leaves the begin bit. */
ASH_INLINE void live_clear(struct iso *i, size_t g, size_t n)
{
    struct iso_map *m = map_of(i, g);
    i->live -= (uint32_t)n;
    m->live &= ~bit_of(g);
    if (covers_word(g, n))
        m[-1].live = 0;
}

ASH_INLINE size_t live_size(const struct iso *i, size_t g)
{
    const struct iso_map *m = map_of(i, g);
    uint64_t rest = m->begin >> (g % 64) >> 1;
    if (ASH_LIKELY(rest != 0))
        return bits_lowest(rest) + 1;
    if (m[-1].begin != 0)
        return 64 - g % 64 + bits_lowest(m[-1].begin);
    return m[-1].live;
}

/* ---- blocks ---- */

ASH_INLINE void *block_at(const struct iso *i, size_t g)
{
    return (void *)((uintptr_t)i->base + g * ISO_GRANULE);
}

ASH_INLINE size_t granule_of(const struct iso *i, const void *p)
{
    return ((uintptr_t)p - (uintptr_t)i->base) / ISO_GRANULE;
}

ASH_INLINE size_t granules(size_t n)
{
    return n == 0 ? 1 : (n + ISO_GRANULE - 1) / ISO_GRANULE;
}

/* The size that the free block which ends before granule `g` has in its last bytes. */
ASH_INLINE uint32_t *size_before(const struct iso *i, size_t g)
{
    return (uint32_t *)block_at(i, g) - 1;
}

/* ---- bins ---- */

ASH_INLINE unsigned bin_of(size_t n)
{
    if (n <= ISO_EXACT)
        return (unsigned)n - 1;
    unsigned log = bits_highest(n); /* 5 and up */
    return ISO_EXACT + (log - 5) * 4 + (unsigned)(n >> (log - 2) & 3);
}

static void bin_insert(struct iso *i, size_t g, size_t n)
{
    struct iso_free *f = block_at(i, g);
    unsigned bin = bin_of(n);
    uint32_t first = i->bins[bin];
    *f = (struct iso_free){.next = first, .size = (uint32_t)n};
    *size_before(i, g + n) = (uint32_t)n;
    if (first != 0)
        ((struct iso_free *)block_at(i, first - 1))->prev = (uint32_t)g + 1;
    i->bins[bin] = (uint32_t)g + 1;
    i->filled[bin / 64] |= bit_of(bin);
    map_of(i, g)->begin |= bit_of(g);
    if (n > 1)
        map_of(i, g + n - 1)->live |= bit_of(g + n - 1);
}

/* Takes the free block out, begin bit and end mark too; its size. */
static size_t bin_remove(struct iso *i, size_t g)
{
    struct iso_free f = *(struct iso_free *)block_at(i, g);
    unsigned bin = bin_of(f.size);
    if (f.next != 0)
        ((struct iso_free *)block_at(i, f.next - 1))->prev = f.prev;
    if (f.prev != 0)
        ((struct iso_free *)block_at(i, f.prev - 1))->next = f.next;
    else {
        i->bins[bin] = f.next;
        if (f.next == 0)
            i->filled[bin / 64] &= ~bit_of(bin);
    }
    map_of(i, g)->begin &= ~bit_of(g);
    if (f.size > 1)
        map_of(i, g + f.size - 1)->live &= ~bit_of(g + f.size - 1);
    return f.size;
}

/* The granule, plus one, of a free block that holds `n`; 0: none. */
static uint32_t bin_find(const struct iso *i, size_t n)
{
    unsigned bin = bin_of(n);
    uint32_t at = i->bins[bin];
    for (unsigned tries = 0; at != 0 && tries < FIT_TRIES; tries++) {
        const struct iso_free *f = block_at(i, at - 1);
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

/* `n` granules from `g` on belong to nobody and are in no bin: they join their neighbours. */
static void release(struct iso *i, size_t g, size_t n)
{
    size_t next = g + n;
    if (next != i->top && is_begin(i, next) && !is_live(i, next))
        n += bin_remove(i, next);
    if (g > 0 && is_begin(i, g - 1) != is_live(i, g - 1)) {
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

/* The first of `n` granules, live; SIZE_MAX: no room. */
static size_t acquire(struct iso *i, size_t n)
{
    if (n > i->limit)
        return SIZE_MAX;
    uint32_t found = bin_find(i, n);
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
static void cut(struct iso *i, size_t g, size_t n, size_t keep)
{
    if (n == keep)
        return;
    live_clear(i, g, n);
    live_set(i, g, keep);
    release(i, g + keep, n - keep);
}

/* A live block of `n` granules becomes one of `want` if what follows is free; false: it is not. */
static bool extend(struct iso *i, size_t g, size_t n, size_t want)
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
    if (!is_begin(i, next) || is_live(i, next))
        return false;
    size_t have = n + ((struct iso_free *)block_at(i, next))->size;
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

void *iso_malloc(struct iso *i, size_t n)
{
    if (ASH_UNLIKELY(n > PTRDIFF_MAX))
        return NULL;
    size_t g = acquire(i, granules(n));
    return g == SIZE_MAX ? NULL : block_at(i, g);
}

void *iso_calloc(struct iso *i, size_t n)
{
    size_t high = i->high;
    void *p = iso_malloc(i, n);
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
    size_t place = align_up((uintptr_t)block_at(i, g), align) - (uintptr_t)block_at(i, g);
    size_t lead = place / ISO_GRANULE, all = want + step - 1;
    if (lead > 0) {
        live_clear(i, g, all);
        map_of(i, g)->begin &= ~bit_of(g);
        live_set(i, g + lead, all - lead);
        release(i, g, lead);
    }
    cut(i, g + lead, all - lead, want);
    return block_at(i, g + lead);
}

void iso_free(struct iso *i, void *p)
{
    size_t g = granule_of(i, p), n = live_size(i, g);
    live_clear(i, g, n);
    map_of(i, g)->begin &= ~bit_of(g);
    i->blocks--;
    release(i, g, n);
}

void *iso_realloc(struct iso *i, void *p, size_t n)
{
    if (n > PTRDIFF_MAX)
        return NULL;
    size_t g = granule_of(i, p), have = live_size(i, g), want = granules(n);
    if (want <= have) {
        cut(i, g, have, want);
        return p;
    }
    if (want <= i->limit && extend(i, g, have, want))
        return p;
    void *moved = iso_malloc(i, n);
    if (moved == NULL)
        return NULL;
    memcpy(moved, p, have * ISO_GRANULE);
    iso_free(i, p);
    return moved;
}

size_t iso_usable(const struct iso *i, const void *p)
{
    return live_size(i, granule_of(i, p)) * ISO_GRANULE;
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
    return (const unsigned char *)map_of(i, i->high);
}

const unsigned char *iso_high(const struct iso *i)
{
    return i->base + (size_t)i->high * ISO_GRANULE;
}

void iso_settle(struct iso *i)
{
    memset(block_at(i, i->top), 0, (size_t)(i->high - i->top) * ISO_GRANULE);
    i->high = i->top;
}

/* Whether the free block at `g` is what rules 1, 3 and 4 say. */
static bool free_is_whole(const struct iso *i, size_t g)
{
    const struct iso_free *f = block_at(i, g);
    if (f->size == 0 || g + f->size >= i->top || *size_before(i, g + f->size) != f->size)
        return false;
    uint32_t self = (uint32_t)g + 1;
    uint32_t linked = f->prev != 0 ? ((struct iso_free *)block_at(i, f->prev - 1))->next
                                   : i->bins[bin_of(f->size)];
    bool marked = f->size == 1 || is_live(i, g + f->size - 1);
    size_t next = g + f->size;
    return linked == self && marked && is_begin(i, next) && is_live(i, next);
}

int iso_check(const struct iso *i)
{
    int faults = 0;
    uint32_t blocks = 0;
    size_t live = 0;
    size_t n;
    for (size_t g = 0; g < i->top; g += n) {
        if (!is_begin(i, g))
            return faults + 1;
        if (is_live(i, g)) {
            blocks++;
            n = live_size(i, g);
            live += n;
        } else {
            n = ((const struct iso_free *)block_at(i, g))->size;
            faults += !free_is_whole(i, g);
        }
        if (n == 0 || n > i->top - g)
            return faults + 1;
    }
    return faults + (blocks != i->blocks) + (live != i->live) + !is_begin(i, i->top) +
           !is_live(i, i->top);
}
