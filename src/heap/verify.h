/*
 * A walk over everything: each slab against itself and the class map, each list of the calling
 * thread's cache and of closed heaps. For tests and for ash_verify; exact when no other thread
 * allocates meanwhile.
 */
#ifndef ASH_VERIFY_H
#define ASH_VERIFY_H

#include "base/base.h"

/* The number of faults found; each is said in a line on stderr. */
int verify_all(void);

#endif
