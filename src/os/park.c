#include "os/park.h"

#include "base/bits.h"
#include "os/os_wait.h"

void park_init(struct parking *p, unsigned workers, struct park_slot *slots)
{
    p->words = (workers + 63) / 64;
    p->slot = slots;
    store_relaxed(&p->searching, 0);
    store_relaxed(&p->wakes, 0);
    for (unsigned i = 0; i < PARK_WORDS; i++)
        store_relaxed(&p->idle[i], 0);
    for (unsigned i = 0; i < workers; i++)
        store_relaxed(&slots[i].asleep, 0);
}

void park_enter(struct parking *p, unsigned self)
{
    store_relaxed(&p->slot[self].asleep, 1);
    /* release: asleep; pairs with park_wake, whose clearing of it comes later therefore */
    or_release(&p->idle[self / 64], (uint64_t)1 << self % 64);
    sub_relaxed(&p->searching, 1);
    fence_seq_cst(); /* pairs with park_tell */
}

void park_sleep(struct parking *p, unsigned self)
{
    while (load_acquire(&p->slot[self].asleep) != 0) /* pairs with park_wake */
        os_wait(&p->slot[self].asleep, 1, -1);
}

void park_leave(struct parking *p, unsigned self)
{
    uint64_t bit = (uint64_t)1 << self % 64;
    if ((and_relaxed(&p->idle[self / 64], ~bit) & bit) != 0)
        add_relaxed(&p->searching, 1);
    else /* somebody wakes it; the word is its own again when that has been done */
        park_sleep(p, self);
}

bool park_found_last(struct parking *p)
{
    bool last = sub_relaxed(&p->searching, 1) == 1;
    if (!last)
        return false;
    fence_seq_cst(); /* rule 3; pairs with park_tell */
    return load_relaxed(&p->searching) == 0 && park_any_idle(p);
}

void park_found(struct parking *p)
{
    if (park_found_last(p))
        park_wake(p);
}

bool park_wake(struct parking *p)
{
    for (unsigned i = 0; i < p->words; i++)
        for (uint64_t idle = load_relaxed(&p->idle[i]), bit; idle != 0; idle &= ~bit) {
            bit = idle & -idle;
            /* acquire: its asleep; pairs with park_enter */
            if ((and_acquire(&p->idle[i], ~bit) & bit) == 0)
                continue;
            struct park_slot *slot = &p->slot[64 * i + bits_lowest(bit)];
            add_relaxed(&p->searching, 1);
            add_relaxed(&p->wakes, 1);
            store_release(&slot->asleep, 0); /* searching; pairs with park_sleep */
            os_wake(&slot->asleep, 1);
            return true;
        }
    return false;
}
