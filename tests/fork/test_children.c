/*
 * The ways to another process besides fork, while eight threads allocate: vfork and exec, posix_spawn, a daemon's double
 * fork, forks nested in forks, children that end by exit with handlers that allocate, and children of a process at rest,
 * where every record can be verified. Children check the content of the parent's blocks before they free them.
 * ASH_TEST_LONG=1: ten times as many; ASH_TEST_SHORT=1: a fifth.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { THREADS = 8, SLOTS = 512, GOOD = 7 };

extern char **environ;

static _Atomic(unsigned char *) slots[SLOTS];
static _Atomic(int) stop, resting, at_rest;
static int times = 50;

/* A block knows its size and ends in a byte of its address. */
static unsigned char *make(size_t n)
{
    unsigned char *p = malloc(n);
    if (p == NULL)
        abort();
    memcpy(p, &n, sizeof n);
    p[n - 1] = (unsigned char)((uintptr_t)p >> 6);
    return p;
}

/* 1 when the block was damaged. */
static int give(unsigned char *p)
{
    size_t n;
    if (p == NULL)
        return 0;
    memcpy(&n, p, sizeof n);
    int bad = n < 16 || n > 300000 || p[n - 1] != (unsigned char)((uintptr_t)p >> 6);
    free(p);
    return bad;
}

static void *load(void *arg)
{
    unsigned s = (unsigned)(size_t)arg;
    while (!stop) {
        s = s * 1664525 + 1013904223;
        size_t n = 16 + (s >> 8) % (s % 64 == 0 ? 200000 : 2000);
        if (give(atomic_exchange(&slots[(s >> 4) % SLOTS], make(n))))
            abort();
        if (resting) {
            at_rest++;
            while (resting)
                usleep(100);
            at_rest--;
        }
    }
    return NULL;
}

/* All threads stand between two operations, or go on. */
static void rest(int wanted)
{
    resting = wanted;
    while (at_rest != (wanted ? THREADS : 0))
        usleep(100);
}

static void *child_thread(void *arg)
{
    for (int i = 0; i < SLOTS; i += 5)
        if (give(atomic_exchange(&slots[i], make(16 + (size_t)i * 9))))
            _exit(21);
    return arg;
}

/* Frees and replaces blocks of the parent and of threads that are not here, in threads of its own. */
static void child_work(void)
{
    alarm(120);
    for (int i = 0; i < SLOTS; i += 2)
        if (give(atomic_exchange(&slots[i], NULL)))
            _exit(22);
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        if (pthread_create(&t[i], NULL, child_thread, NULL) != 0)
            _exit(23);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
}

static int reap(pid_t child)
{
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != GOOD)
        tap_line("# a child ended with status 0x%x", status);
    return WIFEXITED(status) && WEXITSTATUS(status) == GOOD;
}

static void handler(void)
{
    free(calloc(3, 1000));
    free(malloc(1 << 20));
}

/* ---- the ways ---- */

static pid_t by_exit(void)
{
    pid_t child = fork();
    if (child == 0) {
        atexit(handler);
        child_work();
        exit(GOOD);
    }
    return child;
}

static pid_t by_vfork(void)
{
    pid_t child = vfork();
    if (child == 0) {
        execl("/proc/self/exe", "test_children", "child", (char *)NULL);
        _exit(24);
    }
    return child;
}

static pid_t by_spawn(void)
{
    char *argv[] = {(char[]){"test_children"}, (char[]){"child"}, NULL};
    pid_t child;
    return posix_spawn(&child, "/proc/self/exe", NULL, NULL, argv, environ) == 0 ? child : -1;
}

/* The daemon is nobody's child: it tells by a pipe that it came to its end, and its father by his status. */
static pid_t by_double_fork(void)
{
    pid_t child = fork();
    if (child != 0)
        return child;
    int told[2];
    if (pipe(told) != 0)
        _exit(25);
    setsid();
    free(malloc(3000));
    if (fork() == 0) {
        child_work();
        char good = write(told[1], "7", 1) == 1 ? GOOD : 26;
        _exit(good);
    }
    char word = 0;
    close(told[1]);
    if (read(told[0], &word, 1) != 1)
        _exit(27);
    _exit(word == '7' ? GOOD : 28);
}

/* Each generation works, and forks the next. */
static pid_t by_generations(void)
{
    pid_t child = fork();
    for (int depth = 0; child == 0; depth++) {
        child_work();
        if (depth == 4)
            _exit(GOOD);
        child = fork();
        if (child != 0)
            _exit(reap(child) ? GOOD : 29);
    }
    return child;
}

/* Nobody is in the middle of anything: the records of the vanished threads are whole too. */
static pid_t by_rest(void)
{
    rest(1);
    pid_t child = fork();
    if (child == 0) {
        if (ash_verify() != 0)
            _exit(30);
        child_work();
        ash_trim();
        _exit(ash_verify() == 0 ? GOOD : 31);
    }
    rest(0);
    return child;
}

static void test(pid_t (*way)(void), int n, const char *name)
{
    int good = 0;
    for (int i = 0; i < n; i++)
        good += reap(way());
    is_int(good, n, name);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) { /* what vfork and posix_spawn start */
        free(malloc(100000));
        return ash_verify() == 0 ? GOOD : 32;
    }
    alarm(600);
    if (getenv("ASH_TEST_LONG") != NULL)
        times = 500;
    else if (getenv("ASH_TEST_SHORT") != NULL)
        times = 10;
    pthread_t t[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, load, (void *)(i + 1));
    test(by_exit, times, "fork, threads in the child, exit with a handler that allocates");
    test(by_vfork, times, "vfork and exec");
    test(by_spawn, times, "posix_spawn");
    test(by_double_fork, times, "a daemon's double fork");
    test(by_generations, times / 5, "five generations of forks");
    test(by_rest, times, "fork of a process at rest: everything verifies in the child");
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    int bad = 0;
    for (int i = 0; i < SLOTS; i++)
        bad += give(atomic_exchange(&slots[i], NULL));
    is_int(bad, 0, "no block of the parent was damaged");
    is_int(ash_verify(), 0, "the parent verifies");
    return tap_done();
}
