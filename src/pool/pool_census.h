/*
 * Who is where: walks over all objects of a pool that is at rest, and taking memory away from one
 * that need not be.
 */
#ifndef ASH_POOL_CENSUS_H
#define ASH_POOL_CENSUS_H

#include "pool/pool.h"

/*
 * Gives wholly free chunks back; the caller has the sole right to (pool->trimming). How many. What
 * is free is in the trimmer's hands meanwhile: a get may find nothing and make new objects.
 */
uint32_t census_trim(struct ash_pool *pool);

/*
 * Ends the existence of `n` > 0 free objects of the depot; their memory stays. False, and nothing
 * is changed, when there are not so many. The caller has the sole right.
 */
bool census_withdraw(struct ash_pool *pool, uint32_t n);

#endif
