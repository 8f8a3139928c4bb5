/*
 * Gates (ashlar/txn.h). The first test is a server that is asked ten times more than it can do; then every function with
 * its answers, marks, threads that wait, the end.
 */
#include "ashlar/txn.h"
#include "clock.h"
#include "process.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct ash_gate_stats stats(struct ash_gate *g)
{
    struct ash_gate_stats s;
    ash_gate_stats(g, &s);
    return s;
}

/* ---- ten times too much ---- */

enum { LIMIT = 1000, HIGH = 800, LOW = 200, WORK_NS = 20000 };

struct server {
    struct ash_exec *exec;
    struct ash_gate *gate;
    int slow_down;       /* what the gate has told */
    int served, refused;
};

struct request {
    struct server *server;
    char text[200];
};

static void serve(void *arg)
{
    struct request *r = arg;
    int64_t until = now_ns() + WORK_NS;
    while (now_ns() < until)
        ;
    __atomic_add_fetch(&r->server->served, 1, __ATOMIC_RELAXED);
    ash_gate_leave(r->server->gate, 1);
    free(r);
}

static void told(struct ash_gate *gate, int is_high, void *user)
{
    (void)gate;
    __atomic_store_n(&((struct server *)user)->slow_down, is_high, __ATOMIC_RELAXED);
}

/* Ten requests for each that is served, and those that fit into the gate; so fast as the machine may be. */
static void test_overload(void)
{
    const char *seconds = getenv("ASH_OVERLOAD_SECONDS");
    int64_t length = (int64_t)(seconds != NULL ? atoi(seconds) : 1) * 1000000000;
    struct server s = {.exec = ash_exec_create(1, NULL)};
    s.gate = ash_gate_create("requests", ASH_GATE_CONFIG(.limit = LIMIT, .high = HIGH, .low = LOW, .mark = told, .user = &s));
    long warm = 0, most = 0;
    int64_t begin = now_ns(), offered = 0;
    for (int64_t now = begin; now - begin < length; now = now_ns()) {
        if (offered > 2 * LIMIT + 10 * (int64_t)__atomic_load_n(&s.served, __ATOMIC_RELAXED)) {
            sched_yield();
            continue;
        }
        offered++;
        if (ash_gate_enter(s.gate, 1, 0) == 0) {
            struct request *r = malloc(sizeof *r);
            *r = (struct request){.server = &s};
            if (ash_exec_spawn(s.exec, serve, r) != 0)
                abort();
        } else {
            s.refused++;
        }
        if (offered % 1024 != 0)
            continue;
        long kib = resident_kib();
        if (now - begin < length / 5)
            warm = kib > warm ? kib : warm;
        most = kib > most ? kib : most;
    }
    ash_exec_drain(s.exec);
    struct ash_gate_stats g = stats(s.gate);
    ok(s.served > 0 && s.refused > s.served / 2, "%d requests served, %d refused", s.served, s.refused);
    is_int((int)g.most, LIMIT, "1000 were under way at most");
    ok(most - warm <= flat_kib(), "memory stays flat: %ld KiB, then %ld at most", warm, most);
    ok(g.entered == (uint64_t)s.served && g.refused == (uint64_t)s.refused && g.inside == 0, "as the figures say");
    ok(g.highs > 0 && s.slow_down == 0, "marks were passed, up and down");
    ash_exec_destroy(s.exec);
    is_int(ash_gate_destroy(s.gate), 0, "the end");
}

/* ---- answers ---- */

static void test_answers(void)
{
    struct ash_gate_config bad[] = {
        {.struct_size = sizeof bad[0]},
        {.struct_size = sizeof bad[0], .limit = (uint64_t)1 << 32},
        {.struct_size = sizeof bad[0], .limit = 10, .high = 11},
        {.struct_size = sizeof bad[0], .limit = 10, .high = 5, .low = 5},
        {.struct_size = 8, .limit = 10},
    };
    errno = 0;
    ok(ash_gate_create(NULL, NULL) == NULL && errno == EINVAL, "EINVAL: no limit");
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        ok(ash_gate_create("g", &bad[i]) == NULL && errno == EINVAL, "EINVAL: settings %u", i);
    }
    errno = 0;
    ok(ash_gate_create("a \"name\"", ASH_GATE_CONFIG(.limit = 1)) == NULL && errno == EINVAL, "EINVAL: a name");
    struct ash_gate *g = ash_gate_create(NULL, ASH_GATE_CONFIG(.limit = 10));
    is_int(ash_gate_enter(NULL, 1, 0), -EINVAL, "enter: no gate");
    is_int(ash_gate_enter(g, 0, 0), -EINVAL, "enter: no units");
    is_int(ash_gate_enter(g, 11, -1), -EINVAL, "enter: more than ever fit");
    is_int(ash_gate_enter(g, UINT64_MAX, -1), -EINVAL, "enter: far more");
    is_int(ash_gate_enter(g, 10, 0), 0, "all of them");
    is_int(ash_gate_enter(g, 1, 0), -EAGAIN, "no more");
    int64_t begin = now_ns();
    is_int(ash_gate_enter(g, 1, 20 * 1000000), -ETIMEDOUT, "nor within 20 ms");
    ok(now_ns() - begin >= 20 * 1000000, "which it waited for");
    is_int(ash_gate_destroy(g), -EBUSY, "destroy: units are inside");
    ash_gate_leave(g, 4);
    is_int(ash_gate_enter(g, 5, 0), -EAGAIN, "five do not fit where four have left");
    is_int(ash_gate_enter(g, 4, 0), 0, "four do");
    struct ash_gate_stats s = stats(g);
    ok(s.limit == 10 && s.inside == 10 && s.most == 10 && s.entered == 14 && s.refused == 2 && s.timeouts == 1 &&
           s.waited == 1,
       "as the figures say");
    is_int(ash_gate_stats(NULL, &s), -EINVAL, "stats: no gate");
    is_int(ash_gate_stats(g, NULL), -EINVAL, "stats: nowhere to put them");
    is_int(ash_gate_dump(NULL, 1), -EINVAL, "dump: no gate");
    is_int(ash_gate_dump(g, -1), -EBADF, "dump: no descriptor");
    int pipes[2];
    char text[300] = "";
    if (pipe(pipes) != 0)
        exit(99);
    is_int(ash_gate_dump(g, pipes[1]), 0, "dump");
    ok(read(pipes[0], text, sizeof text - 1) > 0, "writes");
    is_str(text, "gate gate: 10 of 10 inside, 10 at most; entered 14, refused 2, waited 1, timeouts 1, highs 1\n",
           "what it is");
    ash_gate_leave(g, 10);
    ash_gate_close(g);
    is_int(ash_gate_enter(g, 1, -1), -ECANCELED, "closed: nothing comes in");
    is_int(ash_gate_destroy(g), 0, "the end");
    is_int(ash_gate_destroy(NULL), 0, "of nothing");
}

static void test_too_many_leave(void)
{
    int status;
    struct ash_gate *g = ash_gate_create("small", ASH_GATE_CONFIG(.limit = 3));
    int pipes[2];
    char text[200] = "";
    if (pipe(pipes) != 0)
        exit(99);
    ash_gate_enter(g, 2, 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipes[1], 2);
        ash_gate_leave(g, 3);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "more leave than are inside: aborts");
    ok(read(pipes[0], text, sizeof text - 1) > 0, "and says");
    is_str(text, "ashlar: gate small: 3 leave, 2 are inside\n", "what is wrong");
    ash_gate_leave(g, 2);
    ash_gate_destroy(g);
}

/* ---- marks ---- */

static int calls[100], call_count;

static void record(struct ash_gate *gate, int is_high, void *user)
{
    (void)user;
    calls[call_count++] = is_high;
    /* it may be used here: above the mark there is room for one more */
    if (is_high && ash_gate_enter(gate, 1, 0) == 0)
        ash_gate_leave(gate, 1);
}

static void test_marks(void)
{
    struct ash_gate *g = ash_gate_create(NULL, ASH_GATE_CONFIG(.limit = 10, .high = 8, .low = 3, .mark = record));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 10; i++)
            ash_gate_enter(g, 1, 0);
        for (int i = 0; i < 5; i++)
            ash_gate_leave(g, 1);
        for (int i = 0; i < 4; i++)
            ash_gate_enter(g, 1, 0); /* high again, but it was not low */
        for (int i = 0; i < 9; i++)
            ash_gate_leave(g, 1);
    }
    is_int(call_count, 6, "three times up and down: six calls");
    ok(calls[0] == 1 && calls[1] == 0 && calls[2] == 1 && calls[3] == 0 && calls[4] == 1 && calls[5] == 0, "in turns");
    ash_gate_destroy(g);
}

/* ---- threads ---- */

enum { ROUNDS = 3000 };

struct crowd {
    struct ash_gate *gate;
    int inside, too_many, failed;
    unsigned widest;
};

static void *come_and_go(void *arg)
{
    struct crowd *c = arg;
    unsigned random = (unsigned)(uintptr_t)&random >> 4;
    for (int i = 0; i < ROUNDS; i++) {
        random = random * 1664525 + 1013904223;
        uint64_t n = 1 + (random >> 16) % c->widest;
        if (ash_gate_enter(c->gate, n, -1) != 0) {
            __atomic_add_fetch(&c->failed, 1, __ATOMIC_RELAXED);
            continue;
        }
        if (__atomic_add_fetch(&c->inside, (int)n, __ATOMIC_RELAXED) > 4)
            __atomic_add_fetch(&c->too_many, 1, __ATOMIC_RELAXED);
        if (i % 16 == 0)
            sched_yield();
        __atomic_sub_fetch(&c->inside, (int)n, __ATOMIC_RELAXED);
        ash_gate_leave(c->gate, n);
    }
    return NULL;
}

static void test_threads(unsigned threads, unsigned widest)
{
    pthread_t thread[8];
    struct crowd c = {.gate = ash_gate_create(NULL, ASH_GATE_CONFIG(.limit = 4)), .widest = widest};
    for (unsigned i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, come_and_go, &c);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    ok(c.too_many == 0 && c.failed == 0, "%u threads, up to %u units each: never more than 4 inside", threads, widest);
    ok(stats(c.gate).most <= 4 && stats(c.gate).inside == 0, "and none in the end");
    is_int(ash_gate_destroy(c.gate), 0, "nobody waits");
}

static void *enter_two(void *arg)
{
    return (void *)(intptr_t)ash_gate_enter(arg, 2, -1);
}

/* Those that wait are told of the end. */
static void test_close(void)
{
    pthread_t thread[4];
    int canceled = 0;
    struct ash_gate *g = ash_gate_create(NULL, ASH_GATE_CONFIG(.limit = 4));
    ash_gate_enter(g, 3, 0);
    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, enter_two, g);
    while (stats(g).waited < 4)
        sleep_ms(1);
    ash_gate_close(g);
    for (int i = 0; i < 4; i++) {
        void *status;
        pthread_join(thread[i], &status);
        canceled += (intptr_t)status == -ECANCELED;
    }
    is_int(canceled, 4, "four that wait are told that it is closed");
    ash_gate_leave(g, 3);
    is_int(ash_gate_destroy(g), 0, "the end");
}

int main(void)
{
    test_overload();
    test_answers();
    test_too_many_leave();
    test_marks();
    for (unsigned threads = 2; threads <= 8; threads *= 2) {
        test_threads(threads, 1);
        test_threads(threads, 3);
    }
    test_close();
    return tap_done();
}
