/*
 * Where objects come from when no thread has a free one in reach: memory that was never used, or
 * whose object does not exist (any more). Constructors run here, with nothing of the pool held.
 *
 * Lazy pools construct one object, for the get that asks; eager ones all objects of a chunk when
 * they begin it; pools without a constructor take half a magazine.
 */
#ifndef ASH_SUPPLY_H
#define ASH_SUPPLY_H

#include "pool/pool.h"

/* A batch with at least one object that nobody has used; 0: none, and *error says why. */
uint32_t supply_batch(struct ash_pool *pool, int *error);

/* A free batch from wherever there is one, likewise; sweeps magazines that were left. */
uint32_t supply_any(struct ash_pool *pool, int *error);

/* Empties the magazines of threads that have ended into the depot. */
void supply_sweep(struct ash_pool *pool);

/* Makes `n` objects, which are not constructed yet in lazy pools: 0 or an errno. */
int supply_ahead(struct ash_pool *pool, uint32_t n);

/* Sends objects to the depot. Wrong pointers are named and left out. How many were right. */
uint32_t supply_give(struct ash_pool *pool, void *const *objs, uint32_t n);

/* Says what is wrong with a pointer that was put. */
void supply_report(const struct ash_pool *pool, const void *p);

/* Runs the destructor, if there is one, on an object that is free and constructed. */
void supply_destruct(struct ash_pool *pool, uint32_t number);

#endif
