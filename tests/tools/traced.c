/*
 * A program whose calls are known, for the tests of record and replay: threads that allocate in every way and hand
 * blocks to each other. Arguments: threads, rounds, then words:
 *
 *   noresize   no realloc, so that blocks can be counted from outside
 *   fork       every thread forks now and then; the child allocates, frees and leaves by _exit
 *   crash      the process kills itself at the end
 *   exec       ... becomes another program
 *   short      a new thread for every round
 *   signals    a handler allocates, whatever was interrupted (for allocators that bear it)
 *
 * Each round of a thread is 10 blocks: 6 of malloc, 2 of calloc, 1 aligned, 1 of realloc(NULL); half of them are freed by
 * another thread; without noresize there are 2 reallocs of live blocks more.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PLACES = 1024 };

static _Atomic(void *) places[PLACES];
static int resize = 1, forks, signals;

static uint64_t step(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

static void check(const void *p)
{
    if (p == NULL)
        _exit(3);
}

static void *get(uint64_t *x, int kind)
{
    size_t n = 1 + step(x) % (step(x) % 64 == 0 ? 100000 : 500);
    void *p;
    if (kind < 6)
        p = malloc(n);
    else if (kind < 8)
        p = calloc(1 + n / 8, 8);
    else if (kind < 9)
        p = posix_memalign(&p, (size_t)16 << step(x) % 6, n) == 0 ? p : NULL;
    else
        p = realloc(NULL, n);
    check(p);
    return memset(p, 1, 1);
}

static void run_round(uint64_t *x)
{
    void *own[5];
    for (int i = 0; i < 10; i++) {
        void *p = get(x, i);
        if (i < 5)
            own[i] = p;
        else
            free(atomic_exchange(&places[step(x) % PLACES], p));
    }
    for (int i = 0; resize && i < 2; i++)
        check(own[i] = realloc(own[i], 1 + step(x) % 5000));
    for (int i = 0; i < 5; i++)
        free(own[(i * 3) % 5]);
}

static void fork_once(uint64_t *x)
{
    void *before = malloc(77);
    pid_t pid = fork();
    if (pid == 0) {
        free(before);
        for (int i = 0; i < 100; i++)
            run_round(x);
        _exit(0);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0)
        _exit(4);
    free(before);
}

struct work {
    uint64_t seed;
    long rounds;
};

static void *body(void *arg)
{
    struct work w = *(struct work *)arg;
    for (long i = 0; i < w.rounds; i++) {
        run_round(&w.seed);
        if (forks && i % 64 == 63)
            fork_once(&w.seed);
    }
    return NULL;
}

static void run_threads(int count, long rounds, uint64_t seed)
{
    pthread_t id[64];
    struct work w[64];
    for (int i = 0; i < count; i++) {
        w[i] = (struct work){(seed + (uint64_t)i) * 0x9E3779B97F4A7C15u, rounds};
        if (pthread_create(&id[i], NULL, body, &w[i]) != 0)
            _exit(5);
    }
    for (int i = 0; i < count; i++)
        pthread_join(id[i], NULL);
}

static void handler(int signal)
{
    int *p = malloc(33);
    *p = signal;
    free(p);
}

int main(int argc, char **argv)
{
    int threads = atoi(argv[1]), crash = 0, exec = 0, brief = 0;
    long rounds = atol(argv[2]);
    for (int i = 3; i < argc; i++) {
        resize &= strcmp(argv[i], "noresize") != 0;
        forks |= strcmp(argv[i], "fork") == 0;
        crash |= strcmp(argv[i], "crash") == 0;
        exec |= strcmp(argv[i], "exec") == 0;
        brief |= strcmp(argv[i], "short") == 0;
        signals |= strcmp(argv[i], "signals") == 0;
    }
    if (signals) {
        struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
        struct itimerval often = {{0, 300}, {0, 300}};
        sigaction(SIGPROF, &action, NULL);
        setitimer(ITIMER_PROF, &often, NULL);
    }
    for (long i = 0; i < (brief ? rounds : 1); i++)
        run_threads(threads, brief ? 1 : rounds, 1 + (uint64_t)i);
    if (crash)
        raise(SIGKILL);
    if (exec)
        execlp("ls", "ls", "-d", "/", (char *)NULL);
    for (int i = 0; i < PLACES; i++)
        free(places[i]);
    write(1, "done\n", 5);
    return 0;
}
