/*
 * The life of a bus (ashlar/bus.h): threads that end in handlers, memory that runs out and none that is asked for in
 * between, forks.
 */
#include "buses.h"
#include "ashlar/malloc.h"
#include "ashlar/stats.h"
#include "process.h"

/* ---- threads that end ---- */

static void *poll_main(void *arg)
{
    ash_bus_poll(((struct scene *)arg)->bus, 0, 100);
    return NULL;
}

static void test_lost(void)
{
    struct scene s;
    scene_open(&s, 1, 1, 256);
    ash_bus_subsystem(s.bus, "free", ASH_BUS_SUBSYSTEM_CONFIG(.flags = ASH_BUS_UNORDERED));
    ash_bus_on(s.bus, "a://end", end_thread, &s);
    ash_bus_on(s.bus, "a://pass", pass, &s);
    ash_bus_on(s.bus, "free://end", end_thread, &s);
    struct ash_msg *m[200];
    for (int i = 0; i < 200; i++)
        m[i] = message(s.pool, i % 20 == 10 ? "a://end" : "a://pass", NULL, 0);
    ash_bus_send_batch(s.bus, m, 200);
    is_int(ash_bus_drain(s.bus, -1), 0, "a batch in which threads end");
    ok(s.done == 190 && s.dead[ASH_BUS_LOST] == 10, "the others of it are handled");
    for (int i = 0; i < 5; i++)
        send(&s, "free://end");
    is_int(ash_bus_drain(s.bus, -1), 0, "and of an unordered subsystem");
    struct ash_bus_stats t = bus_stats(s.bus);
    ok(t.lost == 15 && t.workers == 1, "each was noticed, and replaced");
    scene_close(&s, "lost");

    pthread_t thread;
    scene_open(&s, 0, 1, 256);
    ash_bus_on(s.bus, "a://end", end_thread, &s);
    ash_bus_on(s.bus, "a://pass", pass, &s);
    for (int i = 0; i < 10; i++)
        send(&s, i == 3 ? "a://end" : "a://pass");
    pthread_create(&thread, NULL, poll_main, &s);
    pthread_join(thread, NULL);
    is_int(s.done, 3, "a poller that ends");
    is_int((long long)bus_stats(s.bus).pending, 6, "leaves the rest");
    is_int(ash_bus_wait(s.bus, 0, -1), 0, "which is there to be handled");
    is_int(ash_bus_poll(s.bus, 0, 4), 4, "by the next in its place, as many as it asks for");
    is_int(ash_bus_poll(s.bus, 0, 4), 2, "and the others");
    scene_close(&s, "lost poller");
}

/* ---- memory ---- */

static void test_no_malloc(void)
{
    struct scene s;
    struct ash_msg *m[64], *reply;
    uint64_t before = 0;
    scene_open(&s, 0, 1, 256);
    ash_bus_on(s.bus, "a://{x}", pass, &s);
    ash_bus_on(s.bus, "b://{x}", pass, &s);
    for (unsigned round = 0; round < 101; round++) {
        if (round == 1)
            before = allocations();
        for (unsigned way = 0; way < 3; way++) {
            for (unsigned i = 0; i < 64; i++)
                m[i] = message(s.pool, i % 2 ? "a://x" : "b://y", NULL, 64);
            if (way == 0)
                for (unsigned i = 0; i < 64; i++)
                    ash_bus_send(s.bus, m[i]);
            else if (way == 1)
                ash_bus_send_batch(s.bus, m, 64);
            else
                ash_bus_send_grouped(s.bus, m, 64);
            ash_bus_poll(s.bus, 0, 1000);
        }
        ash_bus_request(s.bus, message(s.pool, "a://x", NULL, 64), 0, &reply);
        ash_bus_poll(s.bus, 0, 1);
    }
    is_int((long long)(allocations() - before), 0, "nineteen thousand messages, and no malloc");
    is_int(s.done, 101 * 193, "all handled");
    scene_close(&s, "no malloc");
}

static void test_memory(void)
{
    size_t limit, used;
    struct scene s;
    scene_open(&s, 0, 1, 0);
    ash_bus_on(s.bus, "a://{x}", pass, &s);
    send(&s, "a://x");
    ash_bus_poll(s.bus, 0, 1);
    ash_limit_get(&limit, &used);
    if (ash_limit_set(used + (4 << 20)) != 0) { /* the least there is */
        skip("limits are not to be had", 6);
        scene_close(&s, "memory");
        return;
    }
    int status = 0, count = 0, sent;
    for (; status == 0 && count < 100000; count++) {
        char pattern[600];
        snprintf(pattern, sizeof pattern, "a://%0500d", count);
        status = ash_bus_on(s.bus, pattern, pass, &s);
    }
    int ring = ash_bus_subsystem(s.bus, "large", ASH_BUS_SUBSYSTEM_CONFIG(.capacity = ASH_BUS_CAPACITY));
    errno = 0;
    struct ash_bus *none = ash_bus_create(ASH_BUS_CONFIG(.pollers = 64));
    int error = errno;
    sent = send(&s, "a://x");
    send(&s, "a://x/y");
    ash_bus_poll(s.bus, 0, 2);
    ash_limit_set(limit);
    ok(none == NULL && error == ENOMEM, "no memory for a bus");
    ok(status == -ENOMEM && ring == -ENOMEM, "nor for a pattern, after %d, nor a ring", count);
    ok(sent == 0 && s.done == 2, "what is there goes on");
    is_int(s.dead[ASH_BUS_NO_MEMORY], 1, "what may be of a pattern that is not there yet is told apart");
    is_int(ash_bus_on(s.bus, "a://more/x", pass, &s), 0, "later there is some");
    send(&s, "a://more/x");
    ash_bus_poll(s.bus, 0, 1);
    is_int(s.done, 3, "and all patterns are found");
    scene_close(&s, "memory");
}

/* ---- forks ---- */

/* The thread sanitizer ends a child that starts threads: there the child's one thread polls. */
#ifdef __SANITIZE_THREAD__
enum { FORKED_WORKERS = 0 };
#else
enum { FORKED_WORKERS = 2 };
#endif

static int child_use(struct scene *s)
{
    struct ash_bus_stats t = bus_stats(s->bus);
    if (t.sent != 0 || t.pending != 0 || t.delivered != 0 || t.dead != 0 || t.refused != 0)
        return 1;
    int before = s->done;
    for (int i = 0; i < 100; i++) {
        struct ash_msg *m = message(s->pool, "a://pass", NULL, 0);
        if (ash_bus_send_wait(s->bus, m, -1) != 0)
            return 2;
        if (FORKED_WORKERS == 0)
            ash_bus_drain(s->bus, -1);
    }
    if (ash_bus_drain(s->bus, -1) != 0 || s->done != before + 100)
        return 3;
    t = bus_stats(s->bus);
    return t.sent == 100 && t.delivered == 100 && t.pending == 0 && t.workers == FORKED_WORKERS ? 0 : 4;
}

static int child_status(pid_t child)
{
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

static void fork_inside(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    struct scene *s = user;
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 3; i++)
            send(s, "a://pass");
        s->begun = 100; /* the child's */
    } else
        s->status = child_status(child);
    pass(msg, match, user);
}

/* The child's one thread has gone on as a worker; what its handler sent is handled, the parent's messages are not. */
static void fork_ends(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    struct scene *s = user;
    pass(msg, match, user);
    if (s->begun == 100 && s->done == 4)
        _exit(0);
    if (s->begun == 100 && s->done > 4)
        _exit(1);
}

static void *poll_always(void *arg)
{
    struct scene *s = arg;
    while (ash_bus_wait(s->bus, 0, -1) == 0)
        ash_bus_poll(s->bus, 0, 100);
    return NULL;
}

static void test_fork(void)
{
    pthread_t thread;
    struct scene s;
    scene_open(&s, FORKED_WORKERS, 1, 64);
    ash_bus_on(s.bus, "a://pass", pass, &s);
    ash_bus_on(s.bus, "b://block", block, &s);
    pthread_create(&thread, NULL, poll_always, &s);
    send(&s, "b://block");
    UNTIL(s.begun == 1);
    for (int i = 0; i < 5; i++)
        send(&s, "b://block");
    pid_t child = fork();
    if (child == 0) {
        s.go = 1;
        int wrong = child_use(&s);
        _exit(wrong != 0 ? wrong : ash_bus_destroy(s.bus) != 0 ? 5 : 0);
    }
    is_int(child_status(child), 0, "a child's bus is empty, and goes on");
    child = fork();
    if (child == 0)
        _exit(ash_bus_stop(s.bus, -1) == 0 && ash_bus_destroy(s.bus) == 0 ? 0 : 1);
    is_int(child_status(child), 0, "it may be stopped there as well");
    s.go = 1;
    is_int(ash_bus_drain(s.bus, -1), 0, "the parent's messages are handled in the parent");
    is_int(s.done, 6, "once");
    ash_bus_stop(s.bus, -1);
    pthread_join(thread, NULL);
    scene_close(&s, "fork");

    scene_open(&s, 1, 0, 64);
    ash_bus_on(s.bus, "b://fork", fork_inside, &s);
    ash_bus_on(s.bus, "a://pass", fork_ends, &s);
    ash_bus_on(s.bus, "b://pass", pass, &s);
    struct ash_msg *m[3] = {message(s.pool, "b://fork", NULL, 0), message(s.pool, "b://pass", NULL, 0),
                            message(s.pool, "b://pass", NULL, 0)};
    s.status = -1;
    ash_bus_send_batch(s.bus, m, 3);
    is_int(ash_bus_drain(s.bus, -1), 0, "a handler that forks");
    is_int(s.status, 0, "its child goes on with its own messages alone");
    is_int(s.done, 3, "the parent with all of its");
    scene_close(&s, "fork inside");
}

/* Buses are forked while threads use them: the child's is whole, whatever they were doing. */
static void *send_always(void *arg)
{
    struct scene *s = arg;
    while (!s->go)
        if (send(s, "a://pass") != 0)
            sched_yield();
    return NULL;
}

static void test_fork_busy(void)
{
    struct scene s;
    pthread_t thread[2], poller;
    int wrong = 0;
    scene_open(&s, FORKED_WORKERS, 1, 16);
    ash_bus_on(s.bus, "a://pass", pass, &s);
    pthread_create(&poller, NULL, poll_always, &s);
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, send_always, &s);
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(10);
            _exit(child_use(&s));
        }
        wrong += child_status(child) != 0;
    }
    s.go = 1;
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    is_int(wrong, 0, "fifty forks of a busy bus");
    ash_bus_stop(s.bus, -1);
    pthread_join(poller, NULL);
    scene_close(&s, "fork busy");
}

/* The function of dead letters may fork as well: what is behind the dead one is the parent's. */
static void fork_dead(struct ash_msg *msg, enum ash_bus_reason reason, void *user)
{
    struct scene *s = user;
    pid_t child = fork();
    if (child == 0)
        s->begun = 100; /* the child's */
    else
        s->status = child_status(child);
    note_dead(msg, reason, user);
}

static void test_fork_dead(void)
{
    struct scene s = {.pool = ash_msgpool_create(NULL, NULL), .status = -1};
    s.bus = ash_bus_create(ASH_BUS_CONFIG(.dead = fork_dead, .user = &s));
    ash_bus_on(s.bus, "a://pass", pass, &s);
    send(&s, "a://none");
    for (int i = 0; i < 3; i++)
        send(&s, "a://pass");
    ash_bus_poll(s.bus, 0, 100);
    if (s.begun == 100)
        _exit(s.done == 0 && bus_stats(s.bus).dead == 0 && ash_bus_drain(s.bus, 0) == 0 ? 0 : 1);
    is_int(s.status, 0, "a child made with a dead letter has no messages");
    is_int(s.done, 3, "the parent has them");
    scene_close(&s, "fork dead");
}

/* A drain that runs the handler which forks counts itself in neither process wrongly. */
static void *poll_once(void *arg)
{
    ash_bus_poll(((struct scene *)arg)->bus, 1, 1);
    return NULL;
}

static void *let_go(void *arg)
{
    struct scene *s = arg;
    sleep_ns(20 * MS);
    s->go = 1;
    return NULL;
}

static void fork_draining(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    struct scene *s = user;
    pid_t child = fork();
    if (child == 0)
        alarm(10);
    s->status = child == 0 ? 100 : child_status(child);
    (void)msg;
    (void)match;
}

static void test_fork_draining(void)
{
    pthread_t poller, other;
    struct scene s;
    scene_open(&s, 0, 2, 16);
    ash_bus_on(s.bus, "a://fork", fork_draining, &s);
    ash_bus_on(s.bus, "a://block", block, &s);
    send(&s, "a://fork");
    int drained = ash_bus_drain(s.bus, -1);
    if (s.status == 100 && FORKED_WORKERS == 0)
        _exit(0);
    if (s.status == 100) {
        send(&s, "a://block");
        pthread_create(&poller, NULL, poll_once, &s);
        UNTIL(s.begun == 1);
        pthread_create(&other, NULL, let_go, &s);
        _exit(ash_bus_drain(s.bus, -1)); /* sleeps until the poller is done */
    }
    is_int(drained, 0, "a drain, in whose handler there is a fork");
    is_int(s.status, 0, "the child's next one is woken");
    scene_close(&s, "fork draining");
}

/* ---- the end, by several threads ---- */

static void *stop_main(void *arg)
{
    struct scene *s = arg;
    return ash_bus_stop(s->bus, -1) == 0 ? NULL : arg;
}

static void test_stops(void)
{
    pthread_t thread[4];
    int wrong = 0;
    for (int i = 0; i < 200; i++) {
        struct scene s = {.bus = ash_bus_create(ASH_BUS_CONFIG(.workers = 3))};
        void *status;
        for (int k = 0; k < 4; k++)
            pthread_create(&thread[k], NULL, stop_main, &s);
        for (int k = 0; k < 4; k++) {
            pthread_join(thread[k], &status);
            wrong += status != NULL;
        }
        wrong += bus_stats(s.bus).workers != 0 || ash_bus_destroy(s.bus) != 0;
    }
    is_int(wrong, 0, "four threads stop a bus at the same time");
}

static void *wait_main(void *arg)
{
    struct scene *s = arg;
    s->status = ash_bus_wait(s->bus, 1, -1);
    atomic_fetch_add(&s->begun, 1);
    return NULL;
}

static void test_stop_told(void)
{
    for (unsigned workers = 0; workers < 2; workers++) {
        pthread_t poller, waiter;
        struct scene s;
        scene_open(&s, workers, 2, 16);
        ash_bus_on(s.bus, "a://block", block, &s);
        send(&s, "a://block");
        if (workers == 0)
            pthread_create(&poller, NULL, poll_main, &s);
        UNTIL(s.begun == 1);
        pthread_create(&waiter, NULL, wait_main, &s);
        UNTIL(bus_stats(s.bus).parked != 0);
        is_int(ash_bus_stop(s.bus, 0), -ETIMEDOUT, "a stop that does not wait for a handler");
        sleep_ns(10 * MS);
        s.go = 1;
        UNTIL(s.begun == 2);
        ok(s.begun == 2 && s.status == -ECANCELED, "who waits for messages is told when that returns");
        is_int(ash_bus_stop(s.bus, -1), 0, "another stop");
        pthread_join(waiter, NULL);
        if (workers == 0)
            pthread_join(poller, NULL);
        scene_close(&s, "told");
    }
}

int main(void)
{
    test_lost();
    test_no_malloc();
    test_memory();
    test_fork();
    if (memory_watched() && !under_valgrind())
        skip("the address sanitizer's own locks may be held in a forked child", 2);
    else
        test_fork_busy();
    test_fork_dead();
    test_fork_draining();
    test_stops();
    test_stop_told();
    return tap_done();
}
