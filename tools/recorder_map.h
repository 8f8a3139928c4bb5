/*
 * The recorder's table of live blocks: from an address to the object's name, 0 where none lives.
 *
 * A tree of three levels over 48 bits of address, a word for every 8 bytes, mapped where blocks
 * are. It needs no lock: an entry belongs to whoever owns its block, so what orders the block's
 * hand-over from thread to thread, and its reuse inside the allocator, orders the entry's too. (A
 * hash table would need a lock or a read-modify-write for each call, and moves when it grows.)
 */
#ifndef ASHLAR_TOOLS_RECORDER_MAP_H
#define ASHLAR_TOOLS_RECORDER_MAP_H

#include "base/atomic.h"
#include "base/base.h"

#include <sys/mman.h>

enum { MAP_TOP_BITS = 14, MAP_MIDDLE_BITS = 14, MAP_LEAF_BITS = 17, MAP_GRAIN_BITS = 3 };

struct map_leaf {
    _Atomic(uint64_t) id[1 << MAP_LEAF_BITS]; /* atomic: relaxed; see above */
};

struct map_middle {
    _Atomic(struct map_leaf *) leaf[1 << MAP_MIDDLE_BITS]; /* atomic: set once, from NULL */
};

static _Atomic(struct map_middle *) map_top[1 << MAP_TOP_BITS]; /* atomic: set once, from NULL */

/* A zeroed table for the slot, or the one that another thread put there first; NULL: no memory. */
static ASH_COLD void *map_table(_Atomic(void *) *slot, size_t size)
{
    void *seen = NULL;
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    /* release: the zeroes; pairs with map_slot's acquire */
    if (cas_strong_acq_rel(slot, &seen, p))
        return p;
    munmap(p, size);
    return seen;
}

/* The entry of an address. NULL: it has none, or, with `make`, there is no memory for it. */
ASH_INLINE _Atomic(uint64_t) *map_slot(const void *block, bool make)
{
    uintptr_t a = (uintptr_t)block >> MAP_GRAIN_BITS;
    uintptr_t high = a >> MAP_LEAF_BITS;
    if (ASH_UNLIKELY(high >> (MAP_TOP_BITS + MAP_MIDDLE_BITS) != 0))
        return NULL;
    _Atomic(struct map_middle *) *top = &map_top[high >> MAP_MIDDLE_BITS];
    struct map_middle *middle = load_acquire(top); /* acquire: its zeroes */
    if (ASH_UNLIKELY(middle == NULL)) {
        if (!make || (middle = map_table((_Atomic(void *) *)top, sizeof *middle)) == NULL)
            return NULL;
    }
    _Atomic(struct map_leaf *) *place = &middle->leaf[high & ((1 << MAP_MIDDLE_BITS) - 1)];
    struct map_leaf *leaf = load_acquire(place); /* acquire: its zeroes */
    if (ASH_UNLIKELY(leaf == NULL)) {
        if (!make || (leaf = map_table((_Atomic(void *) *)place, sizeof *leaf)) == NULL)
            return NULL;
    }
    return &leaf->id[a & ((1 << MAP_LEAF_BITS) - 1)];
}

/* Takes the block's name out. */
ASH_INLINE uint64_t map_take(const void *block)
{
    _Atomic(uint64_t) *slot = map_slot(block, false);
    uint64_t id = slot != NULL ? load_relaxed(slot) : 0;
    if (id != 0)
        store_relaxed(slot, 0);
    return id;
}

#endif
