#include "pool/lock.h"

#include "os/os_wait.h"

enum { LOOKS = 100 }; /* about as long as the lock is held */

ASH_COLD void lock_take_slow(struct lock *l)
{
    const _Atomic(uint32_t) *hint = &l->word;
    for (int i = 0; i < LOOKS && load_relaxed(hint) != LOCK_FREE; i++)
        ;
    /* Who has slept cannot know whether others do: it takes the lock as one that is wanted. */
    while (exchange_acquire(&l->word, LOCK_WANTED) != LOCK_FREE) /* pairs with lock_give */
        os_wait(&l->word, LOCK_WANTED, -1);
}

ASH_COLD void lock_give_slow(struct lock *l)
{
    os_wake(&l->word, 1);
}
