/*
 * Blocks with guards, for arenas with ASH_ARENA_DEBUG.
 *
 *     padding | struct guard | the block, n bytes | at least GUARD_TAIL bytes | next
 *
 * The guards of a chunk form a list, newest first, which is that of descending addresses. A guard
 * record says where the block ends and carries a word made from its other fields and its place: a
 * write before the block destroys it, and the list cannot be followed any further. Records and
 * tails are bytes that memcheck and AddressSanitizer are told nobody may touch, but for the moments
 * in which they are looked at here.
 *
 * All of it runs in the thread that uses the arena.
 */
#ifndef ASH_ARENA_GUARD_H
#define ASH_ARENA_GUARD_H

#include "base/base.h"

struct guard {
    struct guard *older; /* of the chunk, at a lower address */
    size_t n;            /* bytes asked for */
    uint64_t word;       /* see above */
    uint64_t unused;     /* the block is aligned to 16 */
};

enum {
    GUARD_TAIL = 16,
    GUARD_SPARE = sizeof(struct guard) + GUARD_TAIL, /* what a block needs beside its own bytes */
    GUARD_FRESH = 0xcd,                              /* a block that was handed out */
    GUARD_GONE = 0xdd,                               /* memory that has gone */
    GUARD_BYTE = 0xfd                                /* tails */
};

/*
 * A block of `n` bytes at a multiple of `align` in the room from `at` on, which is large enough;
 * adds it to the list and sets `*end` to where the next one may begin. `fill`: what it holds.
 */
void *guard_put(struct guard **newest, char *at, size_t align, size_t n, int fill, char **end);

/* The guard of a block of some bytes; NULL when there is none, or it was written to. */
struct guard *guard_find(void *p);

/* The bytes that the block was asked for with. */
size_t guard_size(struct guard *g);

/* The block has `n` bytes from now on, fewer than before. */
void guard_shrink(struct guard *g, size_t n);

/* Reports every guard on the list that was written to; their number. */
int guard_check(struct guard *newest);

/*
 * The memory from `from` to `to` goes: takes the guards there off the list, reports those that were
 * written to, and fills it all.
 */
void guard_wipe(struct guard **newest, char *from, char *to);

#endif
