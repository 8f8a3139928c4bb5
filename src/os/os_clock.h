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

#endif
