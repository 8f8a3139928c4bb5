/*
 * Pools in the statistics.
 */
#ifndef ASH_POOL_STATS_H
#define ASH_POOL_STATS_H

#include "run/emit.h"

extern ASH_HIDDEN struct emit_kind pools_kind;

/* Adds them to every format. More than once is once. */
void pool_stats_boot(void);

#endif
