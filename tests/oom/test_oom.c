/*
 * Out of memory: every mapping that the allocator asks for is refused once, the n-th for n = 1, 2, 3 … until none is;
 * after each refusal the answer was NULL with ENOMEM, everything verifies, nothing was lost, and the next call works.
 * Linked against the core with its mapping functions wrapped. Then RLIMIT_AS, and a full limit under threads.
 */
#include "ashlar/ashlar.h"
#include "refuse.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { HELD = 400 };

static unsigned char *held[HELD];
static size_t held_size[HELD];
static int nulls, bad_errno, damaged;

static void *checked(void *p)
{
    if (p == NULL) {
        nulls++;
        bad_errno += errno != ENOMEM;
    }
    errno = 0;
    return p;
}

static void *allocate(int i, size_t n)
{
    switch (i % 5) {
    case 0: return checked(calloc(1, n));
    case 1: return checked(aligned_alloc((size_t)1 << (i % 23), n));
    case 2: {
        void *p = NULL;
        int status = posix_memalign(&p, 64, n);
        nulls += status != 0;
        bad_errno += status != 0 && status != ENOMEM;
        return p;
    }
    default: return checked(malloc(n));
    }
}

static void *thread_main(void *arg)
{
    void *p = malloc(1000);
    free(p);
    return arg;
}

/* A bit of everything: slabs of every class, large blocks, growth in place and by moving, a thread of its own. */
static void workload(void)
{
    for (int i = 0; i < HELD; i++) {
        size_t n = i % 16 == 0 ? (size_t)1 << (16 + i / 16 % 8) : (size_t)(i * 131) % 70000 + 1;
        held[i] = allocate(i, n);
        held_size[i] = n;
        if (held[i] != NULL)
            held[i][0] = held[i][n - 1] = (unsigned char)i;
    }
    for (int i = 0; i < HELD; i += 3) {
        size_t n = held_size[i] * 3;
        unsigned char *p = held[i] == NULL ? NULL : checked(realloc(held[i], n));
        if (p == NULL)
            continue;
        damaged += p[0] != (unsigned char)i || p[held_size[i] - 1] != (unsigned char)i;
        held[i] = p;
        held_size[i] = n;
        p[n - 1] = (unsigned char)i;
    }
    pthread_t t;
    if (pthread_create(&t, NULL, thread_main, NULL) == 0)
        pthread_join(t, NULL);
    for (int i = 0; i < HELD; i++) {
        damaged += held[i] != NULL &&
                   (held[i][0] != (unsigned char)i || held[i][held_size[i] - 1] != (unsigned char)i);
        free(held[i]);
    }
}

/* In a child: refuses `count` mappings from the n-th on. Exit status 0 good, 1 bad, 2 no refusal happened. */
static int one(long n, long count)
{
    fail_at = n;
    fail_count = count;
    calls = 0;
    struct ash_stats before = {.struct_size = sizeof before}, after = before;
    workload();
    int reached = calls >= n;
    fail_count = 0;
    if (bad_errno != 0 || damaged != 0 || ash_verify() != 0)
        return 1;
    nulls = 0;
    workload(); /* memory is back; libc keeps a block for its cache of thread stacks */
    ash_stats_get(&before);
    workload();
    ash_stats_get(&after);
    if (nulls != 0 || damaged != 0 || ash_verify() != 0 || after.live_blocks != before.live_blocks)
        return 1;
    return reached ? 0 : 2;
}

static int in_child(int (*run)(long, long), long n, long count)
{
    pid_t child = fork();
    if (child == 0)
        _exit(run(n, count));
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void test_each(long count, const char *name)
{
    int bad = 0;
    long n = 1;
    for (int status = 0; status != 2 && n < 2000; n++) {
        status = in_child(one, n, count);
        bad += status != 0 && status != 2;
        if (status != 0 && status != 2)
            tap_line("# mapping %ld: status %d", n, status);
    }
    ok(bad == 0 && n > 5, "%s, for each of %ld", name, n - 2);
}

/* RLIMIT_AS lets some allocations through and refuses the rest. */
static int address_space(long limit, long unused)
{
    (void)unused;
    struct rlimit r = {(rlim_t)limit, (rlim_t)limit};
    setrlimit(RLIMIT_AS, &r);
    void *chain = NULL;
    size_t n = 0;
    for (void *p; (p = malloc(50000)) != NULL; n++) {
        *(void **)p = chain;
        chain = p;
    }
    int good = errno == ENOMEM && n > 100 && ash_verify() == 0;
    for (void *next; chain != NULL; chain = next) {
        next = *(void **)chain;
        free(chain);
    }
    void *again = malloc(1 << 20);
    good &= again != NULL && ash_verify() == 0;
    free(again);
    return good ? 0 : 1;
}

static void *limit_main(void *arg)
{
    long got = 0, refusals = 0;
    for (int i = 0; i < 20000; i++) {
        char *p = malloc((size_t)(i % 100) * 5000 + 1);
        if (p == NULL) {
            refusals++;
            continue;
        }
        *p = 1;
        held[0] = NULL;
        got++;
        free(p);
    }
    (void)arg;
    return (void *)(got > 0 ? refusals : -1);
}

static int limit_threads(long limit, long threads)
{
    ash_limit_set((size_t)limit);
    void *block = malloc((size_t)limit / 2);
    pthread_t t[8];
    for (long i = 0; i < threads; i++)
        pthread_create(&t[i], NULL, limit_main, NULL);
    int good = block != NULL;
    for (long i = 0; i < threads; i++) {
        void *result;
        pthread_join(t[i], &result);
        good &= (long)result >= 0;
    }
    size_t cap, used;
    ash_limit_get(&cap, &used);
    good &= used <= cap && ash_verify() == 0;
    free(block);
    return good ? 0 : 1;
}

int main(void)
{
    test_each(1, "one mapping refused");
    test_each(1000000, "every mapping refused from the n-th on");
    is_int(in_child(address_space, 200L << 20, 0), 0, "RLIMIT_AS of 200 MiB");
    is_int(in_child(limit_threads, 32L << 20, 8), 0, "eight threads at a limit of 32 MiB");
    return tap_done();
}
