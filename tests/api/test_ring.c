/*
 * Rings (ashlar/ring.h). The first part is how programs use them; then every function with its edges, and threads.
 */
#include "ashlar/ring.h"

#include "ashlar/malloc.h"
#include "clock.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

static const int64_t ms = 1000000, s = 1000000000;

static void *number(uintptr_t n)
{
    return (void *)n;
}

static struct ash_ring_stats stats(const struct ash_ring *ring)
{
    struct ash_ring_stats out;
    memset(&out, 0xff, sizeof out);
    ash_ring_stats(ring, &out);
    return out;
}

/* ---- a pool of workers: what a program does with a ring ---- */

struct job {
    unsigned n;
    unsigned long sum; /* the answer: of 1 … n */
};

static void *worker(void *arg)
{
    struct ash_ring *jobs = arg;
    void *batch[8];
    while (ash_ring_wait(jobs, -1) == 0) { /* -ECANCELED: closed, and nothing is left */
        unsigned n = ash_ring_pop(jobs, batch, 8);
        for (unsigned i = 0; i < n; i++) {
            struct job *job = batch[i];
            for (unsigned k = 1; k <= job->n; k++)
                job->sum += k;
        }
    }
    return NULL;
}

static void example(void)
{
    enum { JOBS = 1000, WORKERS = 3 };
    static struct job job[JOBS];
    pthread_t thread[WORKERS];
    struct ash_ring *jobs = ash_ring_create(100, ASH_MPMC);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_create(&thread[i], NULL, worker, jobs);
    for (unsigned i = 0; i < JOBS; i++) {
        void *item = &job[i];
        job[i].n = i;
        while (ash_ring_push(jobs, &item, 1) == 0)
            sched_yield(); /* full: the workers are behind */
    }
    ash_ring_close(jobs);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(thread[i], NULL);
    unsigned wrong = 0;
    for (unsigned i = 0; i < JOBS; i++)
        wrong += job[i].sum != (unsigned long)i * (i + 1) / 2;
    is_int(wrong, 0, "example: every job is done once");
    is_int(ash_ring_destroy(jobs), 0, "example: the ring is destroyed");
}

/* ---- each function ---- */

static void test_create(void)
{
    static const struct {
        unsigned asked, got;
    } sizes[] = {{1, 1}, {2, 2}, {3, 4}, {4, 4}, {5, 8}, {1000, 1024}, {1024, 1024}, {1025, 2048}};
    int wrong = 0;
    for (int kind = ASH_SPSC; kind <= ASH_MPMC; kind++)
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct ash_ring *ring = ash_ring_create(sizes[i].asked, kind);
            wrong += ash_ring_capacity(ring) != sizes[i].got || ash_ring_count(ring) != 0;
            wrong += stats(ring).capacity != sizes[i].got;
            ash_ring_destroy(ring);
        }
    is_int(wrong, 0, "capacities are rounded up to powers of two");
    errno = 0;
    ok(ash_ring_create(0, ASH_MPMC) == NULL && errno == EINVAL, "no room for anything: EINVAL");
    errno = 0;
    ok(ash_ring_create((1u << 30) + 1, ASH_SPSC) == NULL && errno == EINVAL, "more than 2^30: EINVAL");
    errno = 0;
    ok(ash_ring_create(8, (enum ash_ring_kind)3) == NULL && errno == EINVAL, "no such kind: EINVAL");
    errno = 0;
    ok(ash_ring_create(8, (enum ash_ring_kind)-1) == NULL && errno == EINVAL, "nor that: EINVAL");
    is_int(ash_ring_destroy(NULL), 0, "destroying nothing is fine");
}

/* A ring of 64 MiB under a limit of 16 more than is in use. */
static void test_memory(void)
{
    size_t limit, used;
    ash_limit_get(&limit, &used);
    if (ash_limit_set(used + (16 << 20)) != 0) {
        skip("no limits", 2);
        return;
    }
    errno = 0;
    ok(ash_ring_create(1 << 22, ASH_MPMC) == NULL && errno == ENOMEM, "no memory: ENOMEM");
    size_t after;
    ash_limit_get(&limit, &after);
    ok(after <= used + (1 << 20), "and nothing is kept");
    ash_limit_set(0);
}

/* Goes through the ring many times with batches of all sizes; every item comes out, in order. */
static int walk(struct ash_ring *ring, unsigned capacity)
{
    void *in[40], *out[40];
    uintptr_t pushed = 0, popped = 0;
    int wrong = 0;
    for (unsigned round = 0; round < 400; round++) {
        unsigned n = round * 7 % 38, m = round * 11 % 39;
        for (unsigned i = 0; i < n; i++)
            in[i] = number(pushed + i);
        unsigned room = capacity - (unsigned)(pushed - popped), k = ash_ring_push(ring, in, n);
        wrong += k != (n < room ? n : room);
        pushed += k;
        unsigned there = (unsigned)(pushed - popped);
        wrong += ash_ring_count(ring) != there || ash_ring_ready(ring) != (there != 0);
        unsigned got = ash_ring_pop(ring, out, m);
        wrong += got != (m < there ? m : there);
        for (unsigned i = 0; i < got; i++)
            wrong += out[i] != number(popped + i);
        popped += got;
    }
    struct ash_ring_stats st = stats(ring);
    wrong += st.pushed != pushed || st.popped != popped || st.count != pushed - popped || st.full == 0;
    wrong += st.sleeps != 0 || st.wakes != 0;
    return wrong;
}

static void test_push_pop(void)
{
    for (int kind = ASH_SPSC; kind <= ASH_MPMC; kind++) {
        int wrong = 0;
        for (unsigned capacity = 1; capacity <= 64; capacity *= 2) {
            struct ash_ring *ring = ash_ring_create(capacity, kind);
            wrong += walk(ring, capacity);
            ash_ring_destroy(ring);
        }
        is_int(wrong, 0, "one thread: what goes in comes out, in order, as much as there is room for");
    }
    struct ash_ring *ring = ash_ring_create(4, ASH_MPMC);
    void *null = NULL, *out = ring;
    is_int(ash_ring_push(ring, &null, 0), 0, "pushing nothing");
    is_int(ash_ring_pop(ring, &out, 0), 0, "popping nothing");
    is_int((long)stats(ring).full, 0, "is not refused");
    ok(ash_ring_push(ring, &null, 1) == 1 && ash_ring_pop(ring, &out, 1) == 1 && out == NULL, "NULL is an item");
    ash_ring_destroy(ring);
}

/* Only pages that are reached are touched: 2^30 items are 16 GiB. */
static void test_large(void)
{
    struct ash_ring *ring = ash_ring_create(1u << 30, ASH_MPMC);
    if (ring == NULL) {
        skip("no address space for 16 GiB", 1);
        return;
    }
    void *item = number(7), *out = NULL;
    ok(ash_ring_push(ring, &item, 1) == 1 && ash_ring_pop(ring, &out, 1) == 1 && out == item, "2^30 items");
    ash_ring_destroy(ring);
}

static void test_close(void)
{
    for (int kind = ASH_SPSC; kind <= ASH_MPMC; kind++) {
        struct ash_ring *ring = ash_ring_create(8, kind);
        void *items[4] = {number(1), number(2), number(3), number(4)}, *out[4];
        ash_ring_push(ring, items, 2);
        ash_ring_close(ring);
        is_int(ash_ring_push(ring, items, 4), 0, "closed: nothing goes in");
        is_int((long)stats(ring).full, 0, "and that is not for want of room");
        is_int(ash_ring_wait(ring, -1), 0, "what was in is still there");
        is_int(ash_ring_pop(ring, out, 4), 2, "and comes out");
        is_int(ash_ring_wait(ring, -1), -ECANCELED, "then the consumer is told");
        ash_ring_close(ring);
        is_int(ash_ring_wait(ring, 0), -ECANCELED, "closing twice is closing once");
        is_int(ash_ring_count(ring), 0, "it is empty");
        ash_ring_destroy(ring);
    }
}

static void test_timeout(void)
{
    for (int kind = ASH_SPSC; kind <= ASH_MPMC; kind++) {
        struct ash_ring *ring = ash_ring_create(8, kind);
        is_int(ash_ring_wait(ring, 0), -ETIMEDOUT, "empty: no wait");
        is_int((long)stats(ring).sleeps, 0, "no sleep either");
        int64_t from = now_ns();
        is_int(ash_ring_wait(ring, 20 * ms), -ETIMEDOUT, "empty: a wait of 20 ms");
        int64_t took = now_ns() - from;
        ok(took >= 20 * ms && took < 10 * s, "takes that long");
        ok(stats(ring).sleeps >= 1, "asleep");
        void *item = ring;
        ash_ring_push(ring, &item, 1);
        is_int((long)stats(ring).wakes, 0, "nobody waits: nobody is woken");
        is_int(ash_ring_wait(ring, 0), 0, "an item: no wait");
        is_int(ash_ring_wait(ring, INT64_MAX), 0, "however long it might be");
        ash_ring_destroy(ring);
    }
}

static void test_show(void)
{
    struct ash_ring *ring = ash_ring_create(8, ASH_MPSC);
    void *items[9] = {NULL};
    char text[300] = "";
    int ends[2];
    ash_ring_push(ring, items, 9);
    ash_ring_pop(ring, items, 3);
    ash_ring_close(ring);
    if (pipe(ends) != 0)
        _exit(99);
    is_int(ash_ring_dump(ring, ends[1]), 0, "ash_ring_dump");
    ok(read(ends[0], text, sizeof text - 1) > 0, "writes something");
    ok(strstr(text, "MPSC, 5 of 8 items, closed; pushed 8, popped 3, full 1, ") != NULL, "the figures: %s", text);
    is_int(ash_ring_dump(ring, -1), -EBADF, "to nowhere: -EBADF");
    is_int(ash_ring_dump(NULL, 1), -EINVAL, "of nothing: -EINVAL");
    struct ash_ring_stats st;
    is_int(ash_ring_stats(NULL, &st), -EINVAL, "statistics of nothing: -EINVAL");
    is_int(ash_ring_stats(ring, NULL), -EINVAL, "to nowhere: -EINVAL");
    close(ends[0]);
    close(ends[1]);
    ash_ring_destroy(ring);
}

/* ---- waiting ---- */

static void *wait_once(void *ring)
{
    return number((uintptr_t)(ash_ring_wait(ring, 60 * s) + 1000));
}

static void sleepers(struct ash_ring *ring, unsigned n)
{
    int64_t until = now_ns() + 20 * s;
    while (stats(ring).sleeps < n && now_ns() < until)
        sched_yield();
}

static void ignore(int signal)
{
    (void)signal;
}

static void test_wait(void)
{
    for (int kind = ASH_SPSC; kind <= ASH_MPMC; kind++) {
        struct ash_ring *ring = ash_ring_create(8, kind);
        pthread_t thread;
        void *status, *item = ring;
        pthread_create(&thread, NULL, wait_once, ring);
        sleepers(ring, 1);
        is_int(ash_ring_destroy(ring), -EBUSY, "not while somebody waits");
        signal(SIGUSR1, ignore);
        pthread_kill(thread, SIGUSR1);
        usleep(5000);
        ash_ring_push(ring, &item, 1);
        pthread_join(thread, &status);
        ok(status == number(1000), "a sleeper is told of an item, not of a signal");
        ash_ring_pop(ring, &item, 1);
        pthread_create(&thread, NULL, wait_once, ring);
        sleepers(ring, 3);
        ash_ring_close(ring);
        pthread_join(thread, &status);
        ok(status == number(1000 - ECANCELED), "and of a close");
        is_int(ash_ring_destroy(ring), 0, "then it can be destroyed");
    }
}

/* Every one of many sleepers is woken, by single items, by a batch, by a close. */
static void test_wait_many(void)
{
    enum { WAITERS = 8 };
    static const unsigned batches[] = {1, 3, WAITERS};
    for (unsigned b = 0; b < sizeof batches / sizeof batches[0]; b++) {
        struct ash_ring *ring = ash_ring_create(16, ASH_MPMC);
        pthread_t thread[WAITERS];
        void *items[WAITERS] = {NULL}, *status;
        int told = 0;
        for (int i = 0; i < WAITERS; i++)
            pthread_create(&thread[i], NULL, wait_once, ring);
        sleepers(ring, WAITERS);
        for (unsigned left = WAITERS, n; left != 0; left -= n) {
            n = left < batches[b] ? left : batches[b];
            ash_ring_push(ring, items, n);
        }
        for (int i = 0; i < WAITERS; i++) {
            pthread_join(thread[i], &status);
            told += status == number(1000);
        }
        is_int(told, WAITERS, "as many items as sleepers: each is woken");
        ash_ring_destroy(ring);
    }
}

/* ---- many threads ---- */

enum { THREADS_MAX = 8 };

struct traffic {
    struct ash_ring *ring;
    unsigned producers, batch;
    uintptr_t each; /* items of a producer */
    int waits;
    _Atomic(unsigned) next_id, disorder;
    _Atomic(unsigned char) *seen;
};

static void *produce(void *arg)
{
    struct traffic *t = arg;
    uintptr_t id = t->next_id++, sent = 0;
    void *items[64];
    unsigned seed = (unsigned)id;
    while (sent < t->each) {
        seed = seed * 1664525 + 1013904223;
        unsigned n = 1 + (seed >> 10) % t->batch;
        n = n < t->each - sent ? n : (unsigned)(t->each - sent);
        for (unsigned i = 0; i < n; i++)
            items[i] = number(id * t->each + sent + i);
        unsigned k = ash_ring_push(t->ring, items, n);
        if (k == 0)
            sched_yield();
        sent += k;
    }
    return NULL;
}

static void *consume(void *arg)
{
    struct traffic *t = arg;
    uintptr_t last[THREADS_MAX] = {0};
    void *items[64];
    unsigned seed = 99;
    int status = 0;
    while (status == 0) {
        seed = seed * 1664525 + 1013904223;
        unsigned n = ash_ring_pop(t->ring, items, 1 + (seed >> 10) % t->batch);
        for (unsigned i = 0; i < n; i++) {
            uintptr_t item = (uintptr_t)items[i], id = item / t->each, place = item % t->each + 1;
            t->disorder += place <= last[id];
            last[id] = place;
            t->seen[item]++;
        }
        if (n == 0) {
            status = ash_ring_wait(t->ring, t->waits ? -1 : 0);
            if (status == -ETIMEDOUT) {
                sched_yield();
                status = 0;
            }
        }
    }
    return NULL;
}

/* Every item comes out once, and to each consumer in its producer's order. */
static void run_traffic(enum ash_ring_kind kind, unsigned producers, unsigned consumers, unsigned capacity,
                        unsigned batch, int waits)
{
    struct traffic t = {.producers = producers, .batch = batch, .each = 20000, .waits = waits};
    pthread_t from[THREADS_MAX], to[THREADS_MAX];
    size_t all = producers * t.each, wrong = 0;
    t.ring = ash_ring_create(capacity, kind);
    t.seen = calloc(all, 1);
    for (unsigned i = 0; i < consumers; i++)
        pthread_create(&to[i], NULL, consume, &t);
    for (unsigned i = 0; i < producers; i++)
        pthread_create(&from[i], NULL, produce, &t);
    for (unsigned i = 0; i < producers; i++)
        pthread_join(from[i], NULL);
    ash_ring_close(t.ring);
    for (unsigned i = 0; i < consumers; i++)
        pthread_join(to[i], NULL);
    for (size_t i = 0; i < all; i++)
        wrong += t.seen[i] != 1;
    struct ash_ring_stats st = stats(t.ring);
    ok(wrong == 0 && t.disorder == 0 && st.pushed == all && st.popped == all,
       "%u producers, %u consumers, room for %u, batches to %u%s: %zu lost or doubled, %u in disorder", producers,
       consumers, capacity, batch, waits ? ", sleeping" : "", wrong, t.disorder);
    free((void *)t.seen);
    is_int(ash_ring_destroy(t.ring), 0, "nobody is left in it");
}

static void test_traffic(void)
{
    for (int waits = 0; waits < 2; waits++) {
        run_traffic(ASH_SPSC, 1, 1, 1, 1, waits);
        run_traffic(ASH_SPSC, 1, 1, 64, 64, waits);
        run_traffic(ASH_MPSC, 2, 1, 2, 4, waits);
        run_traffic(ASH_MPSC, 7, 1, 128, 16, waits);
        run_traffic(ASH_MPMC, 1, 1, 1, 1, waits);
        run_traffic(ASH_MPMC, 2, 2, 4, 3, waits);
        run_traffic(ASH_MPMC, 4, 4, 64, 32, waits);
        run_traffic(ASH_MPMC, 1, 7, 1024, 1, waits);
    }
}

/* ---- fork ---- */

static _Atomic(int) stop;

static void *churn(void *arg)
{
    void *items[8] = {number(1), number(2), number(3), number(4), number(5), number(6), number(7), number(8)};
    while (!stop) {
        ash_ring_push(arg, items, 5);
        ash_ring_pop(arg, items, 8);
        for (uintptr_t i = 0; i < 8; i++)
            items[i] = number(i + 1);
    }
    return NULL;
}

/* In the child the ring is whole, full of what was pushed, and works: 0. */
static int child_check(struct ash_ring *ring)
{
    void *items[16], *out[32];
    ash_ring_recover(ring);
    if (ash_ring_recover(ring) != 0)
        return 1;
    unsigned count = ash_ring_count(ring);
    if (ash_ring_pop(ring, out, 32) != count)
        return 2;
    for (unsigned i = 0; i < count; i++)
        if ((uintptr_t)out[i] < 1 || (uintptr_t)out[i] > 8)
            return 3;
    for (uintptr_t round = 0; round < 5; round++) {
        for (uintptr_t i = 0; i < 16; i++)
            items[i] = number(100 * round + i);
        if (ash_ring_push(ring, items, 16) != 16 || ash_ring_push(ring, items, 1) != 0)
            return 4;
        if (ash_ring_pop(ring, out, 32) != 16 || out[0] != items[0] || out[15] != items[15])
            return 5;
    }
    ash_ring_close(ring);
    return ash_ring_wait(ring, -1) != -ECANCELED || ash_ring_destroy(ring) != 0 ? 6 : 0;
}

static void test_fork(void)
{
    struct ash_ring *ring = ash_ring_create(16, ASH_MPMC);
    pthread_t thread[4], waiter;
    struct ash_ring *quiet = ash_ring_create(16, ASH_MPMC);
    pthread_create(&waiter, NULL, wait_once, quiet);
    sleepers(quiet, 1);
    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, churn, ring);
    int bad = 0;
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(30);
            _exit(child_check(ring) * 10 + child_check(quiet));
        }
        int status = -1;
        waitpid(child, &status, 0);
        bad += status != 0;
    }
    stop = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    is_int(bad, 0, "fork under load: the child mends the ring and uses it");
    ash_ring_close(quiet);
    pthread_join(waiter, NULL);
    ash_ring_destroy(quiet);
    ash_ring_destroy(ring);

    ring = ash_ring_create(4, ASH_SPSC);
    void *items[3] = {number(1), number(2), number(3)}, *out[4];
    ash_ring_push(ring, items, 3);
    is_int(ash_ring_recover(ring), 0, "ASH_SPSC needs no mending");
    ok(ash_ring_pop(ring, out, 4) == 3 && out[2] == number(3), "and keeps what it has");
    ash_ring_destroy(ring);
}

int main(void)
{
    alarm(300);
    example();
    test_create();
    test_memory();
    test_push_pop();
    test_large();
    test_close();
    test_timeout();
    test_show();
    test_wait();
    test_wait_many();
    test_traffic();
    test_fork();
    return tap_done();
}
