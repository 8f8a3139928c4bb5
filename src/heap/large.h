/*
 * Large blocks: more than 64 KiB, each a run of units of its own, described by the header of its
 * first unit. Any thread may free any of them: there is no owner, only the kind in the header,
 * which one compare-and-swap turns from LARGE to FREED. Freed runs stay in the reserve, resident,
 * until they are reused or purged.
 */
#ifndef ASH_LARGE_H
#define ASH_LARGE_H

#include "heap/heap.h"

/*
 * `n` > 0 bytes at a multiple of `align` (a power of two). *zero: the memory is known to be zero.
 * NULL: no memory. `h` only counts.
 */
void *large_alloc(struct heap *h, size_t n, size_t align, bool *zero);

/*
 * The header of the large block that begins at `p`, whose class map says 0. Anything else is
 * reported with the name of the call, `verb`, and answered with NULL.
 */
struct slab *large_find(const char *verb, const void *p);

/*
 * The two halves that hardened mode has in common: the block in a run that has a header begins, its
 * address; and ends, its run now being the caller's. False: another thread freed it at the same
 * moment.
 */
void *large_open(struct heap *h, size_t unit, size_t units, size_t bytes);
bool large_close(struct heap *h, struct slab *s);

/* False: another thread freed it at the same moment. */
bool large_free(struct heap *h, struct slab *s);

/*
 * Makes the block hold `n` > SMALL_MAX bytes: in place, or by moving its pages. NULL: neither can
 * be done and nothing was changed. Moving counts as a block freed and another allocated; `h` may be
 * no real heap.
 */
void *large_resize(struct heap *h, struct slab *s, size_t n);

#endif
