/*
 * The way in for tasks from threads that have no deque: a bounded queue, many producers and many
 * consumers, after D. Vyukov's (1024cores.net, 2010). ashlar/ring.h has the same protocol for items
 * of one word; these have three, which lie in the cells, so that nothing is allocated for one.
 *
 * Each cell has a turn: 2 * round is free, 2 * round + 1 full. A push claims the position `tail` by
 * a compare-and-swap, writes the task, turns the cell full; a pop does the same with `head`. Nobody
 * waits for another: a producer stopped in the middle hides its task and those behind it until it
 * goes on, and announces them then (os/park).
 */
#ifndef ASH_INJECT_H
#define ASH_INJECT_H

#include "txn/deque.h"

struct inject_cell {
    _Atomic(uint64_t) turn; /* atomic: see above; publishes the task, and its having been read */
    struct task task;       /* who has claimed the position */
};

struct inject {
    struct inject_cell *cells; /* const */
    uint64_t mask;             /* const: capacity - 1 */
    unsigned shift;            /* const: log2 of the capacity */
    /* atomic: the next position to push; all tasks that ever came in */
    ASH_LINE_ALIGNED _Atomic(uint64_t) tail;
    ASH_LINE_ALIGNED _Atomic(uint64_t) head; /* atomic: the next position to pop */
};

/* False when there is no memory for 2^shift tasks. */
bool inject_init(struct inject *q, unsigned shift);
void inject_fini(struct inject *q);

/* Forgets everything; nobody else uses it. */
void inject_clear(struct inject *q);

/* False: full. */
bool inject_push(struct inject *q, const struct task *task);

/* False: empty. */
bool inject_pop(struct inject *q, struct task *out);

/* Whether a pop would find one; like deque_has. */
bool inject_has(struct inject *q);

#endif
