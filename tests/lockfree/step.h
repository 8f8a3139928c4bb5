/*
 * A thread that is single-stepped with the processor's trap flag: a signal after each of its instructions, from
 * step_begin to step_end.
 */
#ifndef ASH_TESTS_STEP_H
#define ASH_TESTS_STEP_H

#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { TRAP_FLAG = 0x100 };

/* The interrupted thread is stepped from here on (SIGUSR1), or no more (SIGUSR2). */
static void on_switch(int signal, siginfo_t *info, void *context)
{
    (void)info;
    greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];
    *flags = signal == SIGUSR1 ? *flags | TRAP_FLAG : *flags & ~(greg_t)TRAP_FLAG;
}

/* `on_step` is the handler in which the thread stands after an instruction. */
static void step_init(void (*on_step)(int signal, siginfo_t *info, void *context))
{
    struct sigaction step = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    struct sigaction change = {.sa_sigaction = on_switch, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &step, NULL);
    sigaction(SIGUSR1, &change, NULL);
    sigaction(SIGUSR2, &change, NULL);
}

static void raise_here(int signal)
{
    syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), signal);
}

static void step_begin(void)
{
    raise_here(SIGUSR1);
}

/* Before the thread's last moments: libc ends it with its signals blocked, where a step would kill the process. */
static void step_end(void)
{
    raise_here(SIGUSR2);
}

#endif
