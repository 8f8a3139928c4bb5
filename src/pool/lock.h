/*
 * A lock of one word, for pools whose slow parts may wait for each other; nothing of malloc's
 * family takes one. Held for a few instructions: who finds it taken looks for a moment, then
 * sleeps. Not fair, not recursive; zeroed memory is a free one.
 */
#ifndef ASH_LOCK_H
#define ASH_LOCK_H

#include "base/atomic.h"

struct lock {
    _Atomic(uint32_t) word; /* atomic: enum lock_state; publishes what the lock guards */
};

enum lock_state { LOCK_FREE, LOCK_TAKEN, LOCK_WANTED /* taken, and somebody may sleep */ };

void lock_take_slow(struct lock *l);
void lock_give_slow(struct lock *l);

ASH_INLINE void lock_take(struct lock *l)
{
    uint32_t seen = LOCK_FREE;
    if (ASH_UNLIKELY(!cas_acquire(&l->word, &seen, LOCK_TAKEN))) /* pairs with lock_give */
        lock_take_slow(l);
}

ASH_INLINE void lock_give(struct lock *l)
{
    /* release: what the lock guards; pairs with lock_take */
    if (ASH_UNLIKELY(exchange_release(&l->word, LOCK_FREE) == LOCK_WANTED))
        lock_give_slow(l);
}

#endif
