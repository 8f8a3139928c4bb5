/*
 * The pattern behind the bytes of a block in hardened mode: one byte repeated, derived from the
 * block's address and the process's secret. It is filled and compared at memory speed, and a copy
 * of a neighbour's does not pass for it. Only the first KiB behind the bytes carries it.
 */
#ifndef ASH_CANARY_H
#define ASH_CANARY_H

#include "base/base.h"

enum { CANARY_BYTES = 8 }; /* every block has at least so many */

/* Writes the pattern behind the `n` bytes of the block at `p`, which ends at `end`. */
void canary_fill(void *p, size_t n, size_t end);

/* Says where it is hurt, if it is. */
void canary_check(const void *p, size_t n, size_t end);

#endif
