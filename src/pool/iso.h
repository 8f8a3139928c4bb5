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
 *
 * Measured on live bytes as the engine asked for them: Lua 5.4 with 27,000 objects, rounding and
 * maps 1.10 times (headers of 8 bytes: 1.21); QuickJS 1.02, since it has few and large blocks.
 * Pages of one class lose half a page for each class, 20 % of a heap of 200 KiB.
 */
#ifndef ASH_ISO_H
#define ASH_ISO_H

#include "base/base.h"

enum { ISO_GRANULE = 16, ISO_EXACT = 32, ISO_BINS = ISO_EXACT + 4 * 27 };

/* The bits of 64 granules. Word w of the map lies w + 1 structs below struct iso. */
struct iso_map {
    uint64_t begin, live; /* owner */
};

/* All fields: owner. */
struct iso {
    uint32_t top;    /* granules from base to the sentinel */
    uint32_t high;   /* the most that top was since rule 5 was last made true */
    uint32_t limit;  /* const: granules at most, the sentinel's included */
    uint32_t blocks; /* live */
    uint32_t live;   /* granules of them */
    uint64_t filled[(ISO_BINS + 63) / 64]; /* bins that are not empty */
    uint32_t bins[ISO_BINS];               /* the first block's granule, plus one; 0: none */
    ASH_LINE_ALIGNED unsigned char base[];
};

/* What a pointer that is no live block is. */
enum iso_fault { ISO_OK, ISO_FOREIGN, ISO_INTERIOR, ISO_FREED };

/* Bytes below and from struct iso on that blocks of `bytes` need: to place it in a region. */
size_t iso_below(size_t bytes);

/* `i` is zeroed memory with room for `bytes` of blocks, as above. */
void iso_init(struct iso *i, size_t bytes);

/* NULL: no room. `n` = 0 gives the least block; `align` is a power of two of at least 16. */
void *iso_malloc(struct iso *i, size_t n);
void *iso_aligned(struct iso *i, size_t align, size_t n);
void *iso_calloc(struct iso *i, size_t n);

/* These take live blocks only: see iso_fault_of. NULL of iso_realloc: `p` is as it was. */
void iso_free(struct iso *i, void *p);
void *iso_realloc(struct iso *i, void *p, size_t n);
size_t iso_usable(const struct iso *i, const void *p);

enum iso_fault iso_fault_of(const struct iso *i, const void *p);

/* The stretch that holds all: [iso_low, iso_high). */
const unsigned char *iso_low(const struct iso *i);
const unsigned char *iso_high(const struct iso *i);

/* Clears what was once used above the top, so that `high` is the top. */
void iso_settle(struct iso *i);

/* Walks every block, free or live, against rules 1 to 4: the number of faults. */
int iso_check(const struct iso *i);

#endif
