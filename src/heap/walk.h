/*
 * A walk over what the program holds: for the report of leaks. It reads what other threads change
 * meanwhile; at rest it is exact.
 */
#ifndef ASH_WALK_H
#define ASH_WALK_H

#include "heap/sample.h"

struct walk_block {
    void *at;
    size_t bytes;      /* that the program may use */
    struct site *site; /* where it was allocated, if it is a sample */
    bool pool;         /* memory of pools, which is no block of malloc's but may lead to some */
};

/* Calls `fn` for every live block in ascending order of addresses, and for memory of pools. */
void walk_live(void (*fn)(const struct walk_block *, void *), void *arg);

#endif
