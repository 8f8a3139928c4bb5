#include "msg/lane.h"

#include "os/os_clock.h"
#include "os/os_wait.h"

#include <limits.h>

static ASH_COLD void lane_tell_room(struct lane *l, unsigned n)
{
    add_release(&l->room, 1); /* the free places, `closed`; pairs with lane_push_wait */
    os_wake(&l->room, n);
}

unsigned lane_pop(struct lane *l, void **items, unsigned n)
{
    unsigned k = ash_ring_pop(l->ring, items, n);
    if (k != 0) {
        fence_seq_cst(); /* the places are free; pairs with lane_push_wait */
        if (ASH_UNLIKELY(load_relaxed(&l->senders) != 0))
            lane_tell_room(l, k);
    }
    return k;
}

/* Sleeps while `room` is `seen`; false when the time is over. */
static bool wait_room(struct lane *l, uint32_t seen, int64_t until)
{
    int64_t left = os_left(until);
    if (left == 0)
        return false;
    os_wait(&l->room, seen, left);
    return true;
}

/*
 * One that was woken and comes too late for the place, or out of time, has taken no other sender's
 * wake: a place that is filled is one that is popped, and then `senders` is looked at again.
 */
bool lane_push_wait(struct lane *l, void *item, int64_t until)
{
    bool pushed;
    add_relaxed(&l->waited, 1);
    add_relaxed(&l->senders, 1);
    fence_seq_cst(); /* counted; pairs with lane_pop */
    for (;;) {
        uint32_t seen = load_acquire(&l->room); /* pairs with lane_tell_room */
        pushed = ash_ring_push(l->ring, &item, 1) != 0;
        /* acquire: why it is closed; pairs with lane_close */
        if (pushed || load_acquire(&l->closed) != 0 || !wait_room(l, seen, until))
            break;
    }
    sub_relaxed(&l->senders, 1);
    return pushed;
}

void lane_close(struct lane *l)
{
    ash_ring_close(l->ring);
    store_release(&l->closed, 1); /* the bus is stopped; pairs with lane_push_wait */
    lane_tell_room(l, UINT_MAX);
}

void lane_child(struct lane *l, bool claimed)
{
    store_relaxed(&l->claimed, claimed);
    store_relaxed(&l->rest, 0);
    store_relaxed(&l->marked, 0);
    store_relaxed(&l->senders, 0);
    store_relaxed(&l->highs, 0);
    store_relaxed(&l->waited, 0);
}

enum lane_event lane_cross_slow(struct lane *l)
{
    fence_seq_cst(); /* the push or pop, or the turn before; pairs with itself */
    uint32_t marked = load_relaxed(&l->marked);
    uint64_t count = ash_ring_count(l->ring);
    if (marked == 0 ? count < l->high : count > l->low)
        return LANE_NONE;
    if (!cas_strong_relaxed(&l->marked, &marked, !marked))
        return LANE_NONE; /* whoever turned it looks again */
    if (marked != 0)
        return LANE_LOW;
    add_relaxed(&l->highs, 1);
    return LANE_HIGH;
}
