/*
 * The sites of a profile: one for each call stack and size that a sample had, with what was
 * allocated there and what of it is freed.
 *
 * A hash table of pointers to records that are never given back, filled by compare-and-swap: a
 * record is written before the compare-and-swap publishes it, and of two threads that bring the
 * same one, the second drops its own. Counters are added to by any thread, at each sample. It is
 * bounded; what does not fit is counted at one site without a stack.
 *
 * Any thread, any time; no lock, no allocation but of whole pages.
 */
#ifndef ASH_SITES_H
#define ASH_SITES_H

#include "base/atomic.h"
#include "base/fmt.h"
#include "prof/unwind.h"

enum { SITE_FRAMES = 128 };

struct site {
    uint64_t hash;   /* const */
    uint64_t key;    /* const: samples of one site are of nearly the same size */
    uint32_t frames; /* const: of `frame` */
    _Atomic(uint64_t) allocated, allocated_bytes; /* atomic: samples taken here */
    _Atomic(uint64_t) freed, freed_bytes;         /* atomic: of those; read first */
    uintptr_t frame[];                            /* const: return addresses, innermost first */
};

/* Calls in the ranges, at the end of a stack, are left out. Before the others. */
void sites_init(const struct unwind_range *skip, unsigned skips);

/* The functions of struct sample_sink. */
struct site *sites_take(size_t bytes);
void sites_give(struct site *site, size_t bytes);

/* The sites in gperftools' format, for samples `mean` bytes apart. */
void sites_put(struct fmt *f, uint64_t mean);

/* Samples that were counted without their stack, since the table is full. */
uint64_t sites_lost(void);

#endif
