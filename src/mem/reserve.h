/*
 * The reserve: the only source of user memory. It hands out runs of 64 KiB units from the managed
 * window and takes them back; neighbours coalesce by themselves, since a run is nothing but bits.
 *
 * What is free and what is not stands in the chunks' records (mem/chunk.h).
 *
 * Rules:
 *  1. Claiming is first fit from the lowest address, dirty runs before clean ones (their pages are
 *     there already). A run longer than what one word can hold is claimed word by word and rolled
 *     back when another thread was faster; the thread that was faster made progress.
 *  2. Only when a whole scan found nothing is another chunk mapped.
 * No thread waits for another; any thread may call anything here.
 */
#ifndef ASH_RESERVE_H
#define ASH_RESERVE_H

#include "mem/chunk.h"

#define RESERVE_NONE CHUNK_NONE

struct run {
    size_t unit; /* RESERVE_NONE: refused */
    bool zero;   /* every page of it reads as zero */
};

struct reserve_totals {
    uint64_t used, peak;      /* bytes in runs that are out */
    uint64_t limit, refusals; /* 0 = none; allocations refused for it */
};

/* Chooses the window and maps its first chunk: 0 or -ENOMEM, after which it may be tried again. */
int reserve_boot(void);

/* A run of `units` >= 1 whose address is a multiple of `align` units (a power of two). */
struct run reserve_take(size_t units, size_t align);

/* The units at `unit`, directly behind a run that the caller owns, if they can be had. */
bool reserve_extend(size_t unit, size_t units, bool *zero);

void reserve_give(size_t unit, size_t units);

/* The same of a run whose pages were given back to the system: all of it reads as zero. */
void reserve_give_zero(size_t unit, size_t units);

/*
 * An allocation that needed `units` was refused in the end: counts it, if the limit was the reason.
 */
void reserve_refused(size_t units);

/* A cap in bytes on memory in use, 0 = none: 0, or -EINVAL below one chunk. */
int reserve_limit_set(size_t bytes);
void reserve_limit_get(size_t *limit, size_t *used);

void reserve_totals_get(struct reserve_totals *out);

/* The free bits of a chunk as they are now, for walks. */
uint64_t reserve_free_bits(size_t chunk);

#endif
