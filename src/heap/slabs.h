/*
 * The slabs of a heap: where they come from, on which list they stand, and where they go.
 *
 * A slab of a heap is on one of two lists of its class: `partial` (has free blocks) or `full`. A
 * slab that becomes idle (all blocks free) goes back to the reserve unless it is the only partial
 * one of its class: that one stays for the next allocation, until slabs_shrink.
 *
 * A heap's first batches of a class come from an orphan, or from a new slab, that becomes an orphan
 * at once: what threads of few blocks hold lies together, and not on a page a thread and class. The
 * blocks go home as any other heap's do. The first heap has slabs of its own from the start, so a
 * process of one thread shares nothing.
 */
#ifndef ASH_SLABS_H
#define ASH_SLABS_H

#include "heap/heap.h"

/*
 * Makes hc->partial a slab with a free block: adopts an orphan, or makes a new slab. NULL: no
 * memory.
 */
struct slab *slabs_find(struct heap *h, unsigned cls);

/*
 * True when `h`, which is about to take `bytes` of the class, uses so little of it that a slab of
 * its own would not pay: it is to share the one that slabs_find finds.
 */
bool slabs_is_guest(struct heap *h, unsigned cls, size_t bytes);

/* Makes a slab that slabs_find found nobody's, for the next heap: blocks were taken from it. */
void slabs_share(struct heap *h, struct slab *s);

/* Blocks come home to a slab that `h` owns: see slab_put. */
struct block *slabs_put(struct heap *h, struct slab *s, struct block *list);

/*
 * A chain of blocks of the class that other threads freed, at least `least` long; shorter ones are
 * put back into their slabs on the way. `count` 0: none.
 */
struct chain slabs_returned(struct heap *h, unsigned cls, unsigned least);

/*
 * Moves a slab whose count of free blocks rose or fell to the list where it belongs, or gives it
 * back: false then, and the slab is no longer the caller's.
 */
bool slabs_settle(struct heap *h, struct slab *s);

/* Slabs of the class made by the heap less those it gave back, some of which others had made. */
ASH_INLINE int64_t slabs_count(const struct heap_class *hc)
{
    return (int64_t)(load_relaxed(&hc->created) - load_relaxed(&hc->released));
}

/* Takes in all that other threads freed. */
void slabs_collect(struct heap *h);

/* Gives slabs without a block in use back to the reserve, the last of a class too. */
void slabs_shrink(struct heap *h);

/* Lets go of every slab: the empty ones go back, the others become orphans. */
void slabs_abandon(struct heap *h);

/*
 * Looks after what nobody owns: orphans that have become empty, and slabs stuck with closed heaps.
 * `h` is the caller's heap.
 */
void slabs_reap(struct heap *h);

#endif
