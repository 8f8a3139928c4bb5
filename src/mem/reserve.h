/*
 * The reserve: the only source of user memory. It hands out runs of 64 KiB units from the managed
 * window and takes them back; neighbours coalesce by themselves, since a run is nothing but bits.
 *
 * Per chunk of 64 units there are three atomic words, one bit a unit:
 *   free   the unit can be claimed
 *   dirty  its pages may hold memory: it was given out since it was mapped or last purged
 *   aged   advice to the purge: it was free and dirty at the last pass already
 *
 * Rules:
 *  1. A bit of `free` is cleared by the compare-and-swap that claims it and set again by the
 *     claimer alone: between the two the unit is owned, and its bit of `dirty` is the owner's alone
 *     to change.
 *  2. Claiming is first fit from the lowest address, dirty runs before clean ones (their pages are
 *     there already). A run longer than what one word can hold is claimed word by word and rolled
 *     back when another thread was faster; the thread that was faster made progress.
 *  3. Only when a whole scan found nothing is another chunk mapped.
 * No thread waits for another; any thread may call anything here.
 */
#ifndef ASH_RESERVE_H
#define ASH_RESERVE_H

#include "mem/classmap.h"

#define RESERVE_NONE (~(size_t)0)

struct run {
    size_t unit; /* RESERVE_NONE: refused */
    bool zero;   /* every page of it reads as zero */
};

struct reserve_totals {
    uint64_t used, peak;      /* bytes in runs that are out */
    uint64_t dirty;           /* bytes of free units that still hold memory */
    uint64_t mapped;          /* bytes of address space mapped */
    uint64_t purged, purges;  /* bytes given back to the system so far; in how many passes */
    uint64_t purge_ns;        /* time spent giving back */
    uint64_t limit, refusals; /* 0 = none; allocations refused for it */
};

/* Chooses the window and maps its first chunk: 0 or -ENOMEM, after which it may be tried again. */
int reserve_boot(void);

/* A run of `units` >= 1 whose address is a multiple of `align` units (a power of two). */
struct run reserve_take(size_t units, size_t align);

/* The units at `unit`, directly behind a run that the caller owns, if they can be had. */
bool reserve_extend(size_t unit, size_t units, bool *zero);

void reserve_give(size_t unit, size_t units);

/*
 * True when the window is far from where the kernel places mappings of its own choice, so that a
 * range of it may be unmapped for a moment.
 */
bool reserve_is_remote(void);

/*
 * One pass that gives back the memory of free units: those that were free at the pass before
 * already, or all. Returns the bytes given back.
 */
size_t reserve_purge(bool all);

/* An allocation of `n` bytes was refused in the end: counts it, if the limit was the reason. */
void reserve_refused(size_t n);

/* A cap in bytes on memory in use, 0 = none: 0, or -EINVAL below one chunk. */
int reserve_limit_set(size_t bytes);
void reserve_limit_get(size_t *limit, size_t *used);

void reserve_totals_get(struct reserve_totals *out);

/* Chunks [0, this) have been mapped at some time: the bound of every walk. */
size_t reserve_chunks(void);

/* The free bits of a chunk as they are now, for walks. */
uint64_t reserve_free_bits(size_t chunk);

#endif
