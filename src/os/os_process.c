#include "os/os_process.h"

#include "os/os_syscall.h"

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
    sigemptyset(&action.sa_mask);
    int status = sigaction(signal, &action, NULL) == 0 ? 0 : -errno;
    errno = saved;
    return status;
}

static sigset_t sigpipe_set(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    return set;
}

void os_sigpipe_hold(struct os_sigpipe *held)
{
    int saved = errno;
    sigset_t waiting;
    sigemptyset(&waiting);
    sigpending(&waiting);
    held->pending = sigismember(&waiting, SIGPIPE) == 1;
    sigset_t set = sigpipe_set();
    sigprocmask(SIG_BLOCK, &set, &held->mask); /* of this thread, as the kernel sees it */
    errno = saved;
}

void os_sigpipe_release(const struct os_sigpipe *held, bool broken)
{
    int saved = errno;
    if (broken && !held->pending) {
        sigset_t set = sigpipe_set();
        struct timespec now = {.tv_sec = 0};
        while (sigtimedwait(&set, NULL, &now) < 0 && errno == EINTR)
            ;
    }
    sigprocmask(SIG_SETMASK, &held->mask, NULL);
    errno = saved;
}
