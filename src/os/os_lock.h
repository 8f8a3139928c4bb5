/*
 * A lock that is one word, over os_wait: for the layers above malloc, whose critical sections are
 * some dozens of instructions. Taking and giving back a free lock are one locked instruction each
 * (about 5 ns); a lock that stays taken is waited for in the kernel. Zeroed memory is a free lock.
 *
 * Nobody calls the program or waits for anything while holding one; a fork waits for them
 * (os/os_fork).
 */
#ifndef ASH_OS_LOCK_H
#define ASH_OS_LOCK_H

#include "base/atomic.h"

enum { LOCK_FREE, LOCK_HELD, LOCK_AWAITED };

struct os_lock {
    _Atomic(uint32_t) word; /* atomic: one of the three; whoever made it not free owns the lock */
};

ASH_COLD void os_lock_slow(struct os_lock *lock);
ASH_COLD void os_unlock_slow(struct os_lock *lock);

ASH_INLINE bool os_trylock(struct os_lock *lock)
{
    uint32_t seen = LOCK_FREE; /* acquire: what the last owner wrote; pairs with os_unlock */
    return cas_strong_acquire(&lock->word, &seen, LOCK_HELD);
}

ASH_INLINE void os_lock(struct os_lock *lock)
{
    if (ASH_UNLIKELY(!os_trylock(lock)))
        os_lock_slow(lock);
}

ASH_INLINE void os_unlock(struct os_lock *lock)
{
    /* release: all that was written under the lock; pairs with os_trylock and os_lock_slow */
    if (ASH_UNLIKELY(exchange_release(&lock->word, LOCK_FREE) == LOCK_AWAITED))
        os_unlock_slow(lock);
}

#endif
