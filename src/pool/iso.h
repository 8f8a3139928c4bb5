/*
 * The allocator inside an isolated heap: compact, deterministic, of one thread at a time.
 *
 * Everything that changes with use lies in one stretch of memory, so that putting the stretch back
 * puts the allocator back:
 *
 *     low                 struct iso   base                       base + top      base + high
 *     | maps, downwards <--- | header | blocks, upwards ---> | sentinel | once used, now free |
 *
 * Rules:
 *  1. Memory is handed out in granules of 16 bytes. Blocks have no header. Two bits a granule tell
 *     what it is, (begin, live): (1,1) a live block begins, (1,0) a free one begins, (0,1) a free
 *     one of more than one granule ends, (0,0) the rest. So the granule before a block ends a free
 *     block iff its two bits differ, and a double free is seen from one word.
 *  2. A live block ends where the next begin bit stands. Where a block covers the whole map word
 *     after its first, that word's begin bits are 0 and its live bits, needed for nothing, hold the
 *     size in granules (below 2^32: bit 63 stays 0, as rule 1 wants it). A size is at most two
 *     words away.
 *  3. A free block holds {next, prev, size} and, in its last four bytes, its size. No two free
 *     blocks touch, and none touches the top: the sentinel (1,1) moves down instead.
 *  4. Bins of free blocks: exact up to 32 granules, four for each doubling above. A request takes
 *     the first fit of its own bin's first blocks, else the smallest bin above it, else the top.
 *  5. Granules and maps beyond `high` are zero.
 *  6. A freed block of up to ISO_EXACT granules waits, unjoined, for a request of its size: begin
 *     bit (1,0), no end mark, {next, 0, 0, 0} in its first granule, so that to its neighbours its
 *     size is 0, and none of rule 3's. What waits is at most 1/16 of the heap; all of it joins at
 *     a snapshot, and before a larger block is made of fresh memory.
 *
 * Allocation with its free, by waiting blocks and by bins alone: 40 B alone in a heap, and 3000
 * blocks of 16 to 400 bytes replaced at random, 9 and 23 ns against 27 and 55.
 *
 * Measured on live bytes as the engine asked for them: Lua 5.4 with 27,000 objects, rounding and
 * maps 1.10 times (headers of 8 bytes: 1.21); QuickJS 1.02, since it has few and large blocks.
 * Pages of one class lose half a page for each class, 20 % of a heap of 200 KiB.
 */
#ifndef ASH_ISO_H
#define ASH_ISO_H

#include "base/bits.h"

enum { ISO_GRANULE = 16, ISO_EXACT = 32, ISO_BINS = ISO_EXACT + 4 * 27 };

/* The bits of 64 granules. Word w of the map lies w + 1 structs below struct iso. */
struct iso_map {
    uint64_t begin, live; /* owner */
};

/* All fields: owner. */
struct iso {
    uint32_t top;                /* granules from base to the sentinel */
    uint32_t high;               /* the most that top was since rule 5 was last made true */
    uint32_t limit;              /* const: granules at most, the sentinel's included */
    uint32_t blocks;             /* live */
    uint32_t live;               /* granules of them */
    uint32_t idle;               /* granules of blocks that wait */
    uint32_t waiting[ISO_EXACT]; /* by size: the last one freed, plus one; 0: none */
    uint64_t filled[(ISO_BINS + 63) / 64]; /* bins that are not empty */
    uint32_t bins[ISO_BINS];               /* the first block's granule, plus one; 0: none */
    ASH_LINE_ALIGNED unsigned char base[];
};

/* What a pointer that is no live block is. */
enum iso_fault { ISO_OK, ISO_FOREIGN, ISO_INTERIOR, ISO_FREED };

/* What lies in a free block's first granule, or all but its last 4 bytes; 0 for no granule. */
struct iso_free {
    uint32_t next, prev; /* granules plus one */
    uint32_t size;       /* 0: the block waits */
    uint32_t last;       /* a waiting block's: 0; a block of one granule: its size */
};

/* Bytes below and from struct iso on that blocks of `bytes` need: to place it in a region. */
size_t iso_below(size_t bytes);

/* `i` is zeroed memory with room for `bytes` of blocks, as above. */
void iso_init(struct iso *i, size_t bytes);

/* ---- maps ---- */

ASH_INLINE struct iso_map *iso_map_of(const struct iso *i, size_t g)
{
    return (struct iso_map *)((uintptr_t)i - (g / 64 + 1) * sizeof(struct iso_map));
}

ASH_INLINE uint64_t iso_bit(size_t g)
{
    return (uint64_t)1 << (g % 64);
}

/* Granules of the live or waiting block that begins at `g`. */
ASH_INLINE size_t iso_size(const struct iso *i, size_t g)
{
    const struct iso_map *m = iso_map_of(i, g);
    uint64_t rest = m->begin >> (g % 64) >> 1;
    if (ASH_LIKELY(rest != 0))
        return bits_lowest(rest) + 1;
    if (m[-1].begin != 0)
        return 64 - g % 64 + bits_lowest(m[-1].begin);
    return m[-1].live;
}

ASH_INLINE void *iso_block(const struct iso *i, size_t g)
{
    return (void *)((uintptr_t)i->base + g * ISO_GRANULE);
}

/* The granule of a live block; SIZE_MAX for what is none. */
ASH_INLINE size_t iso_find(const struct iso *i, const void *p)
{
    size_t off = (uintptr_t)p - (uintptr_t)i->base;
    size_t g = off / ISO_GRANULE | off << 60; /* an odd pointer's is beyond any top */
    if (ASH_UNLIKELY(g >= i->top))
        return SIZE_MAX;
    const struct iso_map *m = iso_map_of(i, g);
    return ASH_LIKELY((m->begin & m->live & iso_bit(g)) != 0) ? g : SIZE_MAX;
}

/* ---- blocks ---- */

void *iso_malloc_slow(struct iso *i, size_t n);
void iso_free_slow(struct iso *i, size_t g, size_t n);

/* Bytes that a block for `n` holds. */
ASH_INLINE size_t iso_rounded(size_t n)
{
    return (n - (n != 0)) / ISO_GRANULE * ISO_GRANULE + ISO_GRANULE;
}

/* NULL: no room. `n` = 0 gives the least block. */
ASH_INLINE void *iso_malloc(struct iso *i, size_t n)
{
    size_t bin = (n - (n != 0)) / ISO_GRANULE;
    if (ASH_UNLIKELY(bin >= ISO_EXACT || i->waiting[bin] == 0))
        return iso_malloc_slow(i, n);
    size_t g = i->waiting[bin] - 1;
    struct iso_free *f = iso_block(i, g);
    i->waiting[bin] = f->next;
    i->idle -= (uint32_t)bin + 1;
    i->live += (uint32_t)bin + 1;
    i->blocks++;
    iso_map_of(i, g)->live |= iso_bit(g);
    return f;
}

/* The bytes that the block had; 0: `p` is no live block, see iso_fault_of. */
ASH_INLINE size_t iso_free(struct iso *i, void *p)
{
    size_t g = iso_find(i, p);
    if (ASH_UNLIKELY(g == SIZE_MAX))
        return 0;
    size_t n = iso_size(i, g);
    if (ASH_LIKELY(n <= ISO_EXACT && i->idle <= i->top / 16)) {
        *(struct iso_free *)p = (struct iso_free){.next = i->waiting[n - 1]};
        i->waiting[n - 1] = (uint32_t)g + 1;
        i->idle += (uint32_t)n;
        i->live -= (uint32_t)n;
        i->blocks--;
        iso_map_of(i, g)->live &= ~iso_bit(g);
    } else
        iso_free_slow(i, g, n);
    return n * ISO_GRANULE;
}

/* `align` is a power of two of at least 16. */
void *iso_aligned(struct iso *i, size_t align, size_t n);
void *iso_calloc(struct iso *i, size_t n);

/* Of a live block. NULL: `p` is as it was. */
void *iso_realloc(struct iso *i, void *p, size_t n);

/* Bytes that the block holds; 0: it is no live block. */
ASH_INLINE size_t iso_usable(const struct iso *i, const void *p)
{
    size_t g = iso_find(i, p);
    return g != SIZE_MAX ? iso_size(i, g) * ISO_GRANULE : 0;
}

enum iso_fault iso_fault_of(const struct iso *i, const void *p);

/* The stretch that holds all: [iso_low, iso_high). */
const unsigned char *iso_low(const struct iso *i);
const unsigned char *iso_high(const struct iso *i);

/* Joins what waits, and clears what was once used above the top: `high` is the top. */
void iso_settle(struct iso *i);

/* Walks every block, free or live, against rules 1 to 4 and 6: the number of faults. */
int iso_check(const struct iso *i);

#endif
