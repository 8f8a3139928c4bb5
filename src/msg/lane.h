/*
 * A subsystem's way through the bus: its ring, and the words around it. Nothing here knows what the
 * items are.
 *
 * Claiming. Of an ordered lane one worker at a time pops: the one that made `claimed` 1. Items that
 * it has popped and not handled when it gives the lane back, since its thread ended, stay with the
 * lane, and `rest` says so.
 *  1. A worker takes a lane that is open: there is an item or a rest, and nobody has claimed it.
 *  2. It gives it back by 0, passes a fence, and looks once more whether the lane is open. If so,
 *     others are to be told, as of an item that was just pushed (os/park).
 *  3. Whoever sleeps has passed a fence and then found no lane open; whoever pushes has passed one
 *     and then read who sleeps.
 * No item stays where nobody looks at it: let P push to a lane that W has claimed, and S be about
 * to sleep. If S looked before P's fence, P sees S idle and wakes it. If S finds the lane claimed
 * after that, W's 0 was not seen, so S's fence comes before W's, which comes after P's: so W, which
 * looks behind its own, sees the item and wakes S.
 *
 * Room. A sender that finds the ring full counts itself in `senders`, passes a fence, reads `room`,
 * pushes once more, and sleeps while `room` is as it was. Whoever pops passes a fence and reads
 * `senders`; if there are any it changes `room` and wakes as many as it has made room for. If the
 * sender's fence comes first it is seen; else it sees the free place.
 *
 * Marks. After each push and pop, behind a fence, the count is compared with the marks; whoever
 * turns `marked` has the program told, and looks again. Let both sides be at it: the one that reads
 * `marked` before the other turns it has passed its fence before the other's next look, which
 * therefore sees its change of the count. So the last look is right.
 *
 * Rejected: one lock for each lane (a sender that is preempted in it stops the others); `claimed`
 * as a count of items to be handled, which every push would have to change.
 */
#ifndef ASH_LANE_H
#define ASH_LANE_H

#include "ashlar/ring.h"
#include "base/atomic.h"

enum lane_event { LANE_LOW, LANE_HIGH, LANE_NONE };

struct lane {
    struct ash_ring *ring;                      /* const, and likewise: */
    uint32_t high, low;                         /* marks; `high` 0: none */
    bool ordered;                               /* claimed by who pops */
    ASH_LINE_ALIGNED _Atomic(uint32_t) claimed; /* atomic: 0 or 1; publishes the claimer's fields */
    _Atomic(uint32_t) rest;   /* atomic: who has claimed it writes; items are left over */
    _Atomic(uint32_t) marked; /* atomic: the program was told that `high` was reached */
    _Atomic(uint32_t) closed; /* atomic: the ring is; publishes why */
    _Atomic(uint64_t) highs;  /* atomic: counter, several writers */
    ASH_LINE_ALIGNED _Atomic(uint32_t) senders; /* atomic: that may sleep */
    _Atomic(uint32_t) room;                     /* atomic: changes before senders are woken */
    _Atomic(uint64_t) waited;                   /* atomic: counter, several writers */
};

/* Whether a worker could take it: a look that changes nothing. */
ASH_INLINE bool lane_open(const struct lane *l)
{
    if (l->ordered && load_relaxed(&l->claimed) != 0)
        return false;
    return ash_ring_ready(l->ring) || load_relaxed(&l->rest) != 0;
}

/* False: another has it. Not for an unordered one. */
ASH_INLINE bool lane_claim(struct lane *l)
{
    uint32_t free = 0; /* acquire: what the last claimer wrote; pairs with lane_release */
    return load_relaxed(&l->claimed) == 0 && cas_strong_acquire(&l->claimed, &free, 1);
}

/* Gives it back; true: it is open, which others are to be told. */
ASH_INLINE bool lane_release(struct lane *l)
{
    store_release(&l->claimed, 0); /* the claimer's fields; pairs with lane_claim */
    fence_seq_cst();               /* rule 2; pairs with park_enter and park_tell */
    return lane_open(l);
}

/* Up to `n` items: how many. Wakes senders that wait for room. */
unsigned lane_pop(struct lane *l, void **items, unsigned n);

/*
 * Pushes one item, sleeping for room until the clock says `until`, for ever if that is negative.
 * False: the time is over, or the ring is closed.
 */
bool lane_push_wait(struct lane *l, void *item, int64_t until);

/* In a forked child; `claimed`: the one thread it has is in the middle of using it. */
void lane_child(struct lane *l, bool claimed);

/* Nothing comes in any more; those who wait for room are told. */
void lane_close(struct lane *l);

/*
 * After a push or a pop: what the program is to be told, if anything; then it is asked again. A
 * lane without marks costs a load.
 */
enum lane_event lane_cross_slow(struct lane *l);
ASH_INLINE enum lane_event lane_cross(struct lane *l)
{
    return ASH_LIKELY(l->high == 0) ? LANE_NONE : lane_cross_slow(l);
}

#endif
