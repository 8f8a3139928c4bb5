#include "os/os_lock.h"

#include "os/os_wait.h"

/* Looks at a held word before sleeping: as long as a critical section. The model has fewer. */
#ifndef OS_LOCK_SPINS
#define OS_LOCK_SPINS 64
#endif

void os_lock_slow(struct os_lock *lock)
{
    const _Atomic(uint32_t) *hint = &lock->word;
    for (unsigned i = 0; i < OS_LOCK_SPINS; i++)
        if (load_relaxed(hint) == LOCK_FREE && os_trylock(lock))
            return;
    /* From here on the word says that somebody may sleep, even if that is nobody any more. */
    while (exchange_acquire(&lock->word, LOCK_AWAITED) != LOCK_FREE) /* as in os_trylock */
        os_wait(&lock->word, LOCK_AWAITED, -1);
}

void os_unlock_slow(struct os_lock *lock)
{
    os_wake(&lock->word, 1);
}
