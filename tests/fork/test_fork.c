/*
 * fork while eight threads allocate and free each other's blocks: the child allocates, frees blocks of its own, of the
 * parent's other threads and of ended ones, starts threads and forks again. By fork, _Fork, and from a signal handler.
 * ASH_TEST_LONG=1: a thousand forks instead of three hundred.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { THREADS = 8, SLOTS = 512 };

static _Atomic(char *) slots[SLOTS];
static _Atomic(int) stop;

static void *load(void *arg)
{
    unsigned s = (unsigned)(size_t)arg;
    while (!stop) {
        s = s * 1664525 + 1013904223;
        size_t n = 1 + (s >> 8) % (s % 64 == 0 ? 200000 : 2000);
        char *p = malloc(n);
        p[0] = p[n - 1] = 1;
        free(atomic_exchange(&slots[(s >> 4) % SLOTS], p));
    }
    return NULL;
}

static void *child_thread(void *arg)
{
    for (int i = 0; i < 100; i++)
        free(malloc((size_t)i * 50));
    return arg;
}

/* What every child does; it exits with 7 when it got to the end. */
static void child_work(int deep)
{
    void *own[200];
    for (int i = 0; i < 200; i++)
        own[i] = malloc((size_t)i * 37);
    for (int i = 0; i < SLOTS; i += 3) /* blocks of threads that are not here */
        free(atomic_exchange(&slots[i], NULL));
    for (int i = 0; i < 200; i++)
        free(own[i]);
    if (deep) {
        pthread_t t[3];
        for (int i = 0; i < 3; i++)
            pthread_create(&t[i], NULL, child_thread, NULL);
        for (int i = 0; i < 3; i++)
            pthread_join(t[i], NULL);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            child_work(0);
            _exit(7);
        }
        int status;
        waitpid(grandchild, &status, 0);
        if (status != 7 << 8)
            _exit(8);
        ash_trim();
    }
}

static int reap(pid_t child)
{
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 7;
}

static _Atomic(int) handler_good, handler_runs;

static void on_signal(int signal)
{
    (void)signal;
    if (handler_runs == 50) /* the next signal may be there already: let the thread go on */
        return;
    pid_t child = fork();
    if (child == 0)
        _exit(7);
    handler_good += reap(child);
    handler_runs++;
}

int main(void)
{
    pthread_t t[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, load, (void *)(i + 1));
    alarm(300);
    int forks = getenv("ASH_TEST_LONG") != NULL ? 1000 : 300;
    int good = 0;
    for (int i = 0; i < forks; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            child_work(i % 10 == 0);
            _exit(7);
        }
        good += reap(child);
    }
    is_int(good, forks, "fork under load");
    good = 0;
    for (int i = 0; i < forks / 5; i++) {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
        pid_t child = _Fork();
#else
        pid_t child = fork();
#endif
        if (child == 0) {
            alarm(60);
            child_work(0);
            _exit(7);
        }
        good += reap(child);
    }
    is_int(good, forks / 5, "_Fork under load");

    /* The handler interrupts this thread anywhere, inside malloc too; its child must not disturb the parent. */
    signal(SIGUSR1, on_signal);
    pid_t self = getpid();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* libc's fork is not to be interrupted by one of its own */
    pid_t sender = fork();
    if (sender == 0) {
        while (getppid() == self) {
            usleep(1000);
            kill(self, SIGUSR1);
        }
        _exit(0);
    }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    unsigned s = 1;
    while (handler_runs < 50) {
        s = s * 1664525 + 1013904223;
        free(malloc(1 + (s >> 8) % 3000));
    }
    int status;
    kill(sender, SIGKILL);
    while (waitpid(sender, &status, 0) != sender) /* a last signal may come first */
        ;
    is_int(handler_good, handler_runs, "fork in a signal handler");
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < SLOTS; i++)
        free(atomic_exchange(&slots[i], NULL));
    is_int(ash_verify(), 0, "the parent verifies");
    return tap_done();
}
