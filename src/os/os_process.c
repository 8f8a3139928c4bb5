#include "os/os_process.h"

#include "os/os_syscall.h"

#include <signal.h>
#include <string.h>
#include <time.h>

int os_pid(void)
{
    return (int)os_syscall3(SYS_getpid, 0, 0, 0);
}

void os_yield(void)
{
    os_syscall3(SYS_sched_yield, 0, 0, 0);
}

int os_signal_handle(int signal, void (*fn)(int))
{
    int saved = errno;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = fn;
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    int status = sigaction(signal, &action, NULL) == 0 ? 0 : -errno;
    errno = saved;
    return status;
}

enum { KERNEL_SET = sizeof(uint64_t) }; /* bytes of a signal set as the kernel sees it */

static const uint64_t sigpipe_set = (uint64_t)1 << (SIGPIPE - 1);

static void mask_change(int how, const uint64_t *set, uint64_t *before)
{
    os_syscall6(SYS_rt_sigprocmask, how, (long)set, (long)before, KERNEL_SET, 0, 0);
}

void os_sigpipe_hold(struct os_sigpipe *held)
{
    uint64_t waiting = 0;
    os_syscall3(SYS_rt_sigpending, &waiting, KERNEL_SET, 0);
    held->pending = (waiting & sigpipe_set) != 0;
    mask_change(SIG_BLOCK, &sigpipe_set, &held->mask);
}

void os_sigpipe_release(const struct os_sigpipe *held, bool broken)
{
    if (broken && !held->pending) {
        struct timespec now = {.tv_sec = 0};
        while (os_syscall6(SYS_rt_sigtimedwait, (long)&sigpipe_set, 0, (long)&now, KERNEL_SET, 0,
                           0) == -EINTR)
            ;
    }
    mask_change(SIG_SETMASK, &held->mask, NULL);
}
