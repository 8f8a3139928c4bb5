/*
 * The thread cache: per size class a last-in first-out list of free blocks, and behind it the
 * exchange of blocks with slabs in batches.
 *
 * A hit is a pop and one add, which counts the hit and the block (see struct bin). The bound of a
 * list adapts: it doubles when the list is full although misses came since it was full last (blocks
 * go in and out), and starts over when the class was idle for a housekeeping round, which also
 * sends the blocks home. Batches of refills double from a few blocks on, up to BATCH_BYTES.
 *
 * A list that is full becomes the class's spare one, which the next miss takes back as it is; the
 * spare one of before goes home: own blocks to their slabs' bitmaps, others' grouped by slab, one
 * compare-and-swap a group (the batching at the sender of Filipowicz et al., BatchIt, ISMM 2024).
 */
#ifndef ASH_BIN_H
#define ASH_BIN_H

#include "heap/heap.h"

ASH_INLINE unsigned bin_room(const struct bin *b)
{
    return (unsigned)(BIN_FULL - (load_relaxed(&b->word) & 0xffff));
}

/*
 * The newest block of the list, its mark not yet cleared; NULL when the list is empty. Counts a
 * hit.
 */
ASH_INLINE struct block *bin_pop(struct bin *b)
{
    struct block *p = b->head;
    if (ASH_UNLIKELY(p == NULL))
        return NULL;
    b->head = p->next;
    store_relaxed(&b->word, load_relaxed(&b->word) + (BIN_HIT - BIN_BLOCK));
    return p;
}

/* Puts a block on the list, whose word is `word` and has room. */
ASH_INLINE void bin_push(struct bin *b, uint64_t word, void *block)
{
    struct block *p = block;
    p->next = b->head;
    p->mark = block_mark(p);
    b->head = p;
    store_relaxed(&b->word, word + BIN_BLOCK);
}

/*
 * A block from a slab for the caller, and a batch of others for the list, which is empty. The
 * block's mark is not yet cleared. Counts a miss; NULL: no memory.
 */
struct block *bin_refill(struct heap *h, unsigned cls);

/* What the bits BIN_FULL and BIN_TICK of a list's word ask for: room is made, hits are put away. */
void bin_attend(struct heap *h, unsigned cls);

/* Frees one block past the list; `h` may be a heap that is not real. */
void bin_free_direct(struct heap *h, unsigned cls, void *p);

/* Sends every block home. */
void bin_drain(struct heap *h);

/* Sends the blocks of those classes home that were not used since the last call. */
void bin_drain_idle(struct heap *h);

#endif
