/*
 * What the arenas of one name did, for the statistics of the process.
 *
 * Arenas come and go by the million, and a reader must not follow a pointer to one: so they are not
 * listed, but counted by name. A thread has a table of counters, a cache line for each name, of
 * which it is the only writer; readers add the tables up. A table outlives its thread and goes to
 * the next one as it is, since nothing is ever counted back: an arena may end in another thread
 * than it began in, and what there is now is the difference of two sums.
 *
 * Names are numbered in the order in which they come. The first ARENA_NAMES - 2 have a number of
 * their own; all later ones share the last, "(other)"; arenas without a name have number 0.
 *
 * Creating and destroying an arena counts with six additions; a list of all arenas that a reader
 * can walk needs two compare-and-swaps instead, which threads would fight for.
 */
#ifndef ASH_ARENA_COUNT_H
#define ASH_ARENA_COUNT_H

#include "base/atomic.h"
#include "base/name.h"
#include "run/emit.h"

enum {
    ARENA_NAME = NAME_CAP, /* bytes of a name */
    ARENA_NAMES = 64
};

enum arena_event {
    ARENA_CREATED,
    ARENA_DESTROYED,
    ARENA_BLOCKS_TAKEN,
    ARENA_BLOCKS_GIVEN,
    ARENA_BYTES_TAKEN,
    ARENA_BYTES_GIVEN,
    ARENA_RESETS,
    ARENA_REFUSED,
    ARENA_EVENTS
};

struct arena_counts {
    _Atomic(uint64_t) of[ARENA_NAMES][ARENA_EVENTS]; /* single writer: the thread that has it */
    _Atomic(bool) taken;        /* atomic: by a thread; given back, it publishes the counters */
    struct arena_counts *older; /* const: the table made before this one */
};

extern ASH_HIDDEN ASH_TLS struct arena_counts *arena_counts_tls;
extern ASH_HIDDEN struct emit_kind arenas_kind;

/* Filled up with zeroes, so that two of them are compared by words. */
union arena_name {
    char text[ARENA_NAME];
    uint64_t word[ARENA_NAME / 8];
};

/* The number of a name; "" is none. Any thread, lock-free. */
unsigned arena_number(const union arena_name *name);

/* A table for the thread, which gives it back when it ends; NULL: no memory. Lock-free. */
struct arena_counts *arena_counts_take(void);
void arena_counts_give(struct arena_counts *c);

void arena_count_slow(unsigned name, enum arena_event event, uint64_t n);

ASH_INLINE void arena_count(unsigned name, enum arena_event event, uint64_t n)
{
    struct arena_counts *c = arena_counts_tls;
    if (ASH_LIKELY(c != NULL))
        counter_add(&c->of[name][event], n);
    else
        arena_count_slow(name, event, n);
}

#endif
