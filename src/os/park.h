/*
 * Sleeping and waking of workers: no wake-up is lost, and one task wakes one worker at most.
 *
 * A worker without work is searching (looks at all queues), idle (its bit is set, it may sleep), or
 * woken: then whoever cleared the bit has counted it as searching again.
 *  1. A worker that found nothing sets its bit, takes itself out of `searching`, and, behind a
 *     fence, looks at all queues once more. Only then does it sleep, on a word of its own.
 *  2. Whoever publishes a task then passes a fence and reads `searching` and the bits. While anyone
 *     searches it wakes nobody; else it clears a bit, counts that worker as searching, wakes it.
 *  3. The last searcher that finds a task does the same on its way: there may be more of them, and
 *     those who published them have counted on it.
 *
 * Nothing is lost. A publisher P with its task, its fence, its reads; a worker W with its bit, its
 * fence, its look. If W's fence is the later one, its look sees the task. If P's is, P sees the bit
 * of W, or that it was cleared by one who woke W, and W passes 1 again. Let P see `searching` above
 * 0, that is, before the change with which some S stopped searching. If S went idle, its fence
 * comes after its change, so after P's, and its look sees the task. If S found another task and was
 * the last, its fence (rule 3) comes after P's likewise and so after that of any W which has not
 * seen the task: S sees the bit of W. If it was not the last, the argument is the last one's.
 *
 * One wakes one: clearing the bit is a read-modify-write, so a bit wakes once; a burst of tasks
 * wakes the first worker, which finds one and wakes the next (3), and no more than there is to do.
 * Rejected: one futex and a count of sleepers, which wakes whoever is about to sleep as well.
 */
#ifndef ASH_PARK_H
#define ASH_PARK_H

#include "base/atomic.h"

enum { PARK_MOST = 256, PARK_WORDS = PARK_MOST / 64 };

struct park_slot {
    ASH_LINE_ALIGNED _Atomic(uint32_t) asleep; /* atomic: its worker sets it, its waker clears it */
};

struct parking {
    unsigned words;         /* const: of `idle` in use */
    struct park_slot *slot; /* const: one a worker */
    /* atomic: workers that look for tasks, and those woken that will; changed before the fence */
    ASH_LINE_ALIGNED _Atomic(uint32_t) searching;
    _Atomic(uint64_t) idle[PARK_WORDS]; /* atomic: bits of workers that sleep or are about to */
    _Atomic(uint64_t) wakes;            /* atomic: system calls made to wake one; several writers */
};

/* Nobody is searching or idle. `slots` is memory for as many as there are workers. */
void park_init(struct parking *p, unsigned workers, struct park_slot *slots);

/* The worker found nothing: rule 1. Its caller looks at the queues, then calls one of the two. */
void park_enter(struct parking *p, unsigned self);
/* There is a task after all, or another reason not to sleep: it is searching again. */
void park_leave(struct parking *p, unsigned self);
/* Sleeps until it is woken, searching. */
void park_sleep(struct parking *p, unsigned self);

/* The searching worker has a task, and searches no more. */
void park_found(struct parking *p);
/* The same for who can tell whether there are more tasks. True: if there are, wake one (rule 3). */
bool park_found_last(struct parking *p);

/* Wakes one; false when nobody is idle. */
ASH_COLD bool park_wake(struct parking *p);

ASH_INLINE bool park_any_idle(const struct parking *p)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < p->words; i++)
        any |= load_relaxed(&p->idle[i]);
    return any != 0;
}

/* Somebody published a task: rule 2. */
ASH_INLINE void park_tell(struct parking *p)
{
    fence_seq_cst(); /* the task is there; pairs with that of park_enter, and park_found's */
    if (ASH_UNLIKELY(load_relaxed(&p->searching) == 0 && park_any_idle(p)))
        park_wake(p);
}

#endif
