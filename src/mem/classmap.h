/*
 * The managed window and its class map.
 *
 * All user memory lies in one window of address space, cut into units of 64 KiB. The class map has
 * one byte a unit: the size class of the slab that the unit belongs to, or 0 (nothing of ours, a
 * large block, a free unit). A pointer becomes its class with a subtraction, a shift and one load;
 * a foreign pointer falls out by the range check or by a 0, and its memory is never touched. One
 * byte a unit over 1 TiB is 16 MiB of .bss, of which a page serves 256 MiB of heap; headers inside
 * the memory (4 MiB apart, one cache set) cost big heaps a miss at each free, and a map over the
 * whole address space does not fit the small code model.
 *
 * Order: a byte is written before the first pointer into its unit leaves the allocator and cleared
 * after the last one came back. Whoever holds a pointer got it by a hand-over that orders the byte
 * too, so relaxed accesses suffice; for a wrong pointer any answer is a right one.
 */
#ifndef ASH_CLASSMAP_H
#define ASH_CLASSMAP_H

#include "base/atomic.h"

enum {
    UNIT_SHIFT = 16,
    UNIT_BYTES = 1 << UNIT_SHIFT,
    CHUNK_UNITS = 64,
    CHUNK_SHIFT = 22,
    WINDOW_CHUNKS = 1 << 18,
    WINDOW_UNITS = WINDOW_CHUNKS * CHUNK_UNITS
};
#define CHUNK_BYTES ((size_t)1 << CHUNK_SHIFT)

struct window {
    uintptr_t base; /* const after boot: a multiple of CHUNK_BYTES; 0 before */
};

extern ASH_HIDDEN struct window window;
extern ASH_HIDDEN _Atomic(uint8_t) classmap[WINDOW_UNITS];

/* The unit that `p` lies in; WINDOW_UNITS or more when outside the window. */
ASH_INLINE size_t unit_of(const void *p)
{
    return ((uintptr_t)p - window.base) >> UNIT_SHIFT;
}

ASH_INLINE void *unit_address(size_t unit)
{
    return (void *)(window.base + (unit << UNIT_SHIFT));
}

/* The size class of the slab that `p` points into, 0 when none. */
ASH_INLINE unsigned classmap_at(const void *p)
{
    size_t unit = unit_of(p);
    return ASH_LIKELY(unit < WINDOW_UNITS) ? load_relaxed(&classmap[unit]) : 0;
}

ASH_INLINE void classmap_set(size_t unit, unsigned units, unsigned cls)
{
    for (unsigned i = 0; i < units; i++)
        store_relaxed(&classmap[unit + i], (uint8_t)cls);
}

#endif
