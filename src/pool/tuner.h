/*
 * The size of threads' magazines follows the program. Two rules, looked at once an interval, over
 * the gets since the last look:
 *
 *   hit rate < low_rate                                  capacity x 1.2, at least + 1
 *   hit rate > high_rate and size < capacity / 2         max(2 x size, 10)
 *
 * where capacity is that of a magazine and size what the fullest one holds. Between `min` and
 * `max`; a thread's own follows at its next miss or full magazine. There is no timer: misses look
 * at the clock, or ash_tune does for all pools at a time of the program's choosing.
 *
 * A look is claimed by the compare-and-swap on its time. Settings that were replaced are kept until
 * the pool goes, since another thread may be reading them.
 */
#ifndef ASH_TUNER_H
#define ASH_TUNER_H

#include "pool/pool.h"

/* Called on misses. */
void tuner_look(struct ash_pool *pool);

ASH_INLINE void tuner_tick(struct ash_pool *pool)
{
    if (ASH_UNLIKELY(load_relaxed(&pool->tuning) != NULL))
        tuner_look(pool);
}

/* The pool is gone. */
void tuner_fini(struct ash_pool *pool);

#endif
