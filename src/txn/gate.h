/*
 * Gates from inside: see gate.c.
 */
#ifndef ASH_GATE_H
#define ASH_GATE_H

#include "ashlar/gate.h"

/* In a forked child, for an owner whose units are the parent's: nothing is inside, nobody waits. */
void gate_forget(struct ash_gate *g);

#endif
