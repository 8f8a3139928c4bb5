/*
 * Giving memory back. A pass claims units that are free and dirty, as an allocation does, drops
 * their pages, marks them clean and frees them again: nobody waits for it, and a thread that is
 * stopped in the middle of one delays the units that it has claimed, nothing else.
 *
 * It happens as time passes, without a thread of its own: the slow paths of the allocator call
 * purge_tick, and whoever moves on the word that says when a pass is due makes it. And it happens
 * at once where too much lies idle (mem/reserve.h).
 */
#ifndef ASH_PURGE_H
#define ASH_PURGE_H

#include "base/base.h"

struct purge_totals {
    uint64_t dirty;          /* bytes of free units that still hold memory */
    uint64_t purged, purges; /* bytes given back to the system so far; in how many passes */
    uint64_t purge_ns;       /* time spent giving back */
};

/*
 * True for one caller each half ASHLAR_PURGE_MS: it is due for the housekeeping of its layers, and
 * the pass has been made. Units that stay free go back after half to a whole period.
 */
bool purge_tick(void);

/*
 * One pass that gives back the memory of free units: those that were free at the pass before
 * already, or all. Returns the bytes given back.
 */
size_t purge_pass(bool all);

/*
 * Gives back at least `units`, if so many are free, from the far end: claiming begins at the near
 * one.
 */
void purge_far(size_t units);

/* Units that are free and dirty: whoever frees some adds them, whoever claims them subtracts. */
void purge_dirty_add(int64_t units);
uint64_t purge_dirty(void);

void purge_totals_get(struct purge_totals *out);

#endif
