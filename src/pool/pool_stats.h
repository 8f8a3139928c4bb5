/*
 * Pools in the statistics.
 */
#ifndef ASH_POOL_STATS_H
#define ASH_POOL_STATS_H

/* Adds them to every format. More than once is once. */
void pool_stats_boot(void);

#endif
