/*
 * What the scenarios share.
 */
#ifndef ASH_MODEL_SCENARIO_H
#define ASH_MODEL_SCENARIO_H

#include "model.h"

/* The modules of mem and heap as a process has them after boot: one chunk mapped, no heap. */
void scenario_boot(void);

/* Takes every unit but the last `left` of the first chunk. */
void scenario_fill(size_t left);

/* The caller owns these units and writes to each: a race with anybody who believes the same. */
void scenario_use(size_t unit, size_t units);

#endif
