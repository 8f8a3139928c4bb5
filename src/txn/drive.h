/*
 * Who drives: of the threads that wait for a manager of transactions one does the work, and the
 * others sleep until it is done.
 *
 *  1. Who makes `driving` 1 drives. It does what there is to do; with nothing left it may wait for
 *     more (as a consumer of a ring does), still driving.
 *  2. Who finds somebody driving counts itself among the `sleepers`, reads `event`, passes a fence,
 *     looks for what it waits for and at `driving`, and sleeps if it must, while `event` is as it
 *     was.
 *  3. Who gives `driving` up does so before a fence, reads `sleepers` behind it, and if there are
 *     any moves `event` on and wakes all: each looks again, and may drive.
 *
 * Of 2 and 3 one fence comes first. If it is the sleeper's, it is seen, and woken, or `event` has
 * moved. If it is the driver's, the sleeper finds nobody driving, or the next one, who will come to
 * 3 in turn.
 */
#ifndef ASH_DRIVE_H
#define ASH_DRIVE_H

#include "os/os_wait.h"

#include <limits.h>

struct drive {
    ASH_LINE_ALIGNED _Atomic(uint32_t) driving; /* atomic: hands over all that is the driver's */
    _Atomic(uint32_t) sleepers;                 /* atomic: threads that may sleep on `event` */
    _Atomic(uint32_t) event;                    /* atomic: changes before they are woken */
};

ASH_INLINE bool drive_enter(struct drive *d)
{
    uint32_t free = 0; /* acquire: all that is the driver's; pairs with drive_leave */
    return load_relaxed(&d->driving) == 0 && cas_strong_acquire(&d->driving, &free, 1);
}

ASH_INLINE void drive_leave(struct drive *d)
{
    store_release(&d->driving, 0); /* all that is the driver's; pairs with drive_enter */
    fence_seq_cst();               /* it is given up; pairs with drive_watch */
    if (ASH_UNLIKELY(load_relaxed(&d->sleepers) != 0)) {
        add_release(&d->event, 1); /* pairs with drive_watch */
        os_wake(&d->event, UINT_MAX);
    }
}

/* Before the thread looks for what it waits for; what is returned is for drive_sleep. */
ASH_INLINE uint32_t drive_watch(struct drive *d)
{
    add_relaxed(&d->sleepers, 1);
    uint32_t event = load_acquire(&d->event); /* pairs with drive_leave */
    fence_seq_cst();                          /* it is counted; pairs with drive_leave */
    return event;
}

/* Then: sleeps if it is not there, and somebody drives. */
ASH_INLINE void drive_sleep(struct drive *d, uint32_t event, bool there, int64_t timeout_ns)
{
    if (!there && load_relaxed(&d->driving) != 0)
        os_wait(&d->event, event, timeout_ns);
    sub_relaxed(&d->sleepers, 1);
}

#endif
