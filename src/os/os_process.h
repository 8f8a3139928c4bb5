/*
 * The process and its signals. Nothing here sets errno or allocates; answers are 0 or a negative
 * errno.
 */
#ifndef ASH_OS_PROCESS_H
#define ASH_OS_PROCESS_H

#include "base/base.h"

/* Asked anew at each call, so it is right after fork. */
int os_pid(void);

/* Lets another thread run. */
void os_yield(void);

/*
 * Calls `fn` on `signal`, on the alternate stack where there is one; interrupted system calls go
 * on.
 */
int os_signal_handle(int signal, void (*fn)(int));

/* What os_sigpipe_release needs to put things back: the thread's mask as the kernel sees it. */
struct os_sigpipe {
    uint64_t mask;
    bool pending; /* one of the program's own was waiting already */
};

/*
 * Between the two, a write of this thread to a pipe without a reader fails with -EPIPE and raises
 * no signal. `broken` says whether that happened.
 */
void os_sigpipe_hold(struct os_sigpipe *held);
void os_sigpipe_release(const struct os_sigpipe *held, bool broken);

#endif
