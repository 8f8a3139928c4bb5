/*
 * The chunks of the window: 64 units that are mapped together, and one record for each.
 *
 *   free   one bit a unit: it can be claimed. Cleared by the compare-and-swap that claims it and
 *          set again by the claimer alone
 *   dirty  its pages may hold memory: it was given out since it was mapped or last purged. The bits
 *          of claimed units are the claimer's alone to change
 *   aged   advice to the purge: it was free and dirty at the last pass already
 *   state  UNMAPPED -> CLAIMED (compare-and-swap) -> MAPPED, or back to UNMAPPED when the system
 *          refuses, or FOREIGN for good when somebody else's mapping lies there; and from MAPPED on
 *          to the address of the chunk's unit headers
 *
 * Unit headers: one a unit, 64 in a row, kept beside the memory and not in it. The header of a run
 * is that of its first unit. Headers are never given back, so reading one through a stale index is
 * always a read of a header. Why beside: user memory keeps its natural alignment (a slab of 1, 2, 4
 * or 8 units begins with block 0, so alignment to powers of two comes for free), a purged chunk
 * keeps nothing resident, and headers of big heaps do not fall into one cache set 4 MiB apart.
 */
#ifndef ASH_CHUNK_H
#define ASH_CHUNK_H

#include "mem/classmap.h"

#define CHUNK_NONE (~(size_t)0)

enum chunk_state { CHUNK_UNMAPPED, CHUNK_CLAIMED, CHUNK_FOREIGN, CHUNK_MAPPED };

struct chunk {
    _Atomic(uint64_t) free;
    _Atomic(uint64_t) dirty;
    _Atomic(uint64_t) aged;
    _Atomic(uintptr_t) state;
};

extern ASH_HIDDEN size_t chunk_header_bytes; /* const after boot */
extern ASH_HIDDEN struct chunk chunks[WINDOW_CHUNKS];

/* Sets the size of a header: a multiple of the cache line. Before the first other call. */
void chunk_boot(size_t header_bytes);

/* Chooses the window and maps its first chunk: 0 or -ENOMEM, after which it may be tried again. */
int chunk_open_window(void);

/* Units in the window. */
size_t chunk_window_units(void);

/*
 * True when the window is far from where the kernel places mappings of its own choice, so that a
 * range of it may be unmapped for a moment.
 */
bool chunk_window_is_remote(void);

/* Chunks [0, this) have been mapped at some time: the bound of every walk. */
size_t chunk_count(void);

/* Bytes of address space mapped. */
uint64_t chunk_mapped_bytes(void);

/* The first unit >= `unit` whose address is a multiple of `align` units. */
size_t chunk_align_unit(size_t unit, size_t align);

/*
 * Maps fresh chunks for a run of `units` at their beginning, which is claimed: 0 and the run's
 * first unit, or -ENOMEM, or -EEXIST: some were mapped, none claimed, look for a run once more.
 */
int chunk_grow(size_t units, size_t align, size_t *unit);

/* Maps what of the chunks of [unit, unit + units) is not mapped yet, as far as can be had. */
void chunk_map_range(size_t unit, size_t units);

/*
 * Makes sure that the units [unit, unit + units) have headers: false when there is no memory for
 * them. Their chunks are mapped.
 */
bool chunk_ensure(size_t unit, size_t units);

/* The header of a unit that has one. */
ASH_INLINE void *chunk_header(size_t unit)
{
    uintptr_t state = load_acquire(&chunks[unit / CHUNK_UNITS].state); /* pairs with chunk_ensure */
    return (char *)state + (unit % CHUNK_UNITS) * chunk_header_bytes;
}

/* The header of any unit of the window, NULL where there never was one. */
ASH_INLINE void *chunk_header_or_null(size_t unit)
{
    bool any = load_relaxed(&chunks[unit / CHUNK_UNITS].state) > CHUNK_MAPPED;
    return any ? chunk_header(unit) : NULL;
}

#endif
