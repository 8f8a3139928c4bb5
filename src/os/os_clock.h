/*
 * Clocks. Both are monotonic and come from the vDSO; neither makes a system call on a usual kernel.
 */
#ifndef ASH_OS_CLOCK_H
#define ASH_OS_CLOCK_H

#include "base/base.h"

/* Milliseconds, coarse (a tick of 1-4 ms), about 3 ns a call. */
uint64_t os_clock_ms(void);

/* Nanoseconds, fine, about 27 ns a call. */
uint64_t os_clock_ns(void);

/* When a timeout ends: negative, never. */
ASH_INLINE int64_t os_until(int64_t timeout_ns)
{
    int64_t now = timeout_ns < 0 ? 0 : (int64_t)os_clock_ns();
    return timeout_ns < 0 || timeout_ns > INT64_MAX - now ? -1 : now + timeout_ns;
}

/* Nanoseconds until then; negative for ever, 0 when it is over. */
ASH_INLINE int64_t os_left(int64_t until)
{
    int64_t now = until < 0 ? 0 : (int64_t)os_clock_ns();
    return until < 0 ? -1 : now < until ? until - now : 0;
}

#endif
