/*
 * Unit headers: one record a unit, 64 in a row for each chunk, kept beside the memory and not in
 * it. The header of a run is that of its first unit. Headers are never given back, so reading one
 * through a stale index is always a read of a header.
 *
 * Why beside: user memory keeps its natural alignment (a slab of 1, 2, 4 or 8 units begins with
 * block 0, so alignment to powers of two comes for free), a purged chunk keeps nothing resident,
 * and headers of big heaps do not fall into one cache set 4 MiB apart.
 */
#ifndef ASH_CHUNK_H
#define ASH_CHUNK_H

#include "mem/classmap.h"

extern ASH_HIDDEN size_t chunk_header_bytes; /* const after boot */
extern ASH_HIDDEN _Atomic(char *) chunk_headers[WINDOW_CHUNKS];

/* Sets the size of a header: a multiple of the cache line. Before the first other call. */
void chunk_boot(size_t header_bytes);

/*
 * Makes sure that the units [unit, unit + units) have headers: false when there is no memory for
 * them.
 */
bool chunk_ensure(size_t unit, size_t units);

/* The header of a unit that has one. */
ASH_INLINE void *chunk_header(size_t unit)
{
    char *headers = load_acquire(&chunk_headers[unit / CHUNK_UNITS]); /* pairs with chunk_ensure */
    return headers + (unit % CHUNK_UNITS) * chunk_header_bytes;
}

/* The header of any unit of the window, NULL where there never was one. */
ASH_INLINE void *chunk_header_or_null(size_t unit)
{
    char *headers = load_acquire(&chunk_headers[unit / CHUNK_UNITS]); /* pairs with chunk_ensure */
    return headers == NULL ? NULL : headers + (unit % CHUNK_UNITS) * chunk_header_bytes;
}

#endif
