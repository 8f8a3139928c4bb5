#include "os/os_wait.h"

#include "os/os_syscall.h"

#include <limits.h>

/* The kernel's header for it is not part of every libc. */
enum { WAIT_PRIVATE = 0 | 128, WAKE_PRIVATE = 1 | 128 };

int os_wait(_Atomic(uint32_t) *word, uint32_t expected, int64_t timeout_ns)
{
    /* as the kernel of a 64-bit machine has it, whatever libc's timespec is */
    struct {
        int64_t seconds, nanoseconds;
    } timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    long status = os_syscall6(SYS_futex, (long)word, WAIT_PRIVATE, (long)expected,
                              timeout_ns < 0 ? 0 : (long)&timeout, 0, 0);
    return status == -EAGAIN || status > 0 ? 0 : (int)status;
}

void os_wake(_Atomic(uint32_t) *word, unsigned n)
{
    int count = n < INT_MAX ? (int)n : INT_MAX;
    os_syscall6(SYS_futex, (long)word, WAKE_PRIVATE, count, 0, 0, 0);
}
