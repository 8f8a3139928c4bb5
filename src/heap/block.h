/*
 * What a free block looks like. A block that is in a thread's cache, on a slab's remote word or
 * free in its slab after having been used once holds two words:
 *   next   the list it is on
 *   mark   a secret of the process, mixed with the block's own address
 * A block that is handed out has its mark cleared, so that finding the mark in a block that is
 * being freed means that the block is free already. The address in the mark keeps copies of stale
 * memory from looking like one. A second mark says that no byte behind the two words was ever
 * written: calloc need not clear it.
 */
#ifndef ASH_BLOCK_H
#define ASH_BLOCK_H

#include "base/base.h"

struct block {
    struct block *next;
    uintptr_t mark;
};

extern ASH_HIDDEN uintptr_t block_key; /* const after boot: random, never 0 */

ASH_INLINE uintptr_t block_mark(const void *p)
{
    return (uintptr_t)p ^ block_key;
}

ASH_INLINE uintptr_t block_fresh_mark(const void *p)
{
    return ~((uintptr_t)p ^ block_key);
}

ASH_INLINE bool block_is_marked(const void *p)
{
    return ASH_UNLIKELY(((const struct block *)p)->mark == block_mark(p));
}

/* A free block that carries neither mark was written to. */
ASH_INLINE bool block_is_intact(const struct block *p)
{
    return p->mark == block_mark(p) || p->mark == block_fresh_mark(p);
}

#endif
