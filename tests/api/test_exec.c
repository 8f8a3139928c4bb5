/*
 * Executors (ashlar/txn.h). The first test is how a program uses one; then every function with its answers, threads that
 * spawn and help, the end, and forks.
 */
#include "ashlar/txn.h"
#include "clock.h"
#include "tap.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>

static struct ash_exec_stats stats(struct ash_exec *e)
{
    struct ash_exec_stats s;
    ash_exec_stats(e, &s);
    return s;
}

static void count(void *arg)
{
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED);
}

/* ---- how it is used ---- */

struct table {
    long row[10000];
    long sum;
};

static void sum_rows(size_t begin, size_t end, void *arg)
{
    struct table *t = arg;
    long sum = 0;
    for (size_t i = begin; i < end; i++)
        sum += t->row[i];
    __atomic_add_fetch(&t->sum, sum, __ATOMIC_RELAXED);
}

/* A task that divides its work among tasks, and waits for them. */
struct sort {
    struct ash_exec *exec;
    long *at;
    size_t n;
};

static void sort(void *arg)
{
    struct sort *s = arg;
    if (s->n < 2)
        return;
    long pivot = s->at[s->n / 2];
    size_t low = 0, high = s->n;
    for (size_t i = 0; i < high;) {
        long v = s->at[i];
        if (v < pivot) {
            s->at[i++] = s->at[low];
            s->at[low++] = v;
        } else if (v > pivot) {
            s->at[i] = s->at[--high];
            s->at[high] = v;
        } else {
            i++;
        }
    }
    struct sort left = {s->exec, s->at, low}, right = {s->exec, s->at + high, s->n - high};
    struct ash_group halves = ASH_GROUP_INIT;
    if (s->n < 100 || ash_exec_spawn_in(s->exec, &halves, sort, &left) != 0)
        sort(&left);
    sort(&right);
    ash_exec_join(s->exec, &halves);
}

static void test_example(void)
{
    static struct table table;
    struct ash_exec *exec = ash_exec_create(2, ASH_EXEC_CONFIG(.name = "example"));

    for (int i = 0; i < 10000; i++)
        table.row[i] = i * 7919L % 10007;
    is_int(ash_exec_for(exec, 10000, 0, sum_rows, &table), 0, "a loop over 10000 rows");
    long sum = 0, wrong = 0;
    for (int i = 0; i < 10000; i++)
        sum += table.row[i];
    is_int(table.sum, sum, "has seen each of them");

    struct sort all = {exec, table.row, 10000};
    struct ash_group group = ASH_GROUP_INIT;
    is_int(ash_exec_spawn_in(exec, &group, sort, &all), 0, "a sort that divides itself");
    is_int(ash_exec_join(exec, &group), 0, "is waited for");
    for (int i = 1; i < 10000; i++)
        wrong += table.row[i - 1] > table.row[i];
    is_int(wrong, 0, "and sorts");

    int ran = 0;
    for (int i = 0; i < 100; i++)
        ash_exec_spawn(exec, count, &ran);
    is_int(ash_exec_drain(exec), 0, "100 tasks that nobody joins");
    is_int(ran, 100, "have run");
    ash_exec_destroy(exec);
}

/* ---- answers ---- */

static void no_rows(size_t begin, size_t end, void *arg)
{
    (void)begin, (void)end;
    count(arg);
}

static void test_create(void)
{
    struct ash_exec_config bad[] = {
        {.struct_size = sizeof bad[0], .name = "a name of more than 31 characters"},
        {.struct_size = sizeof bad[0], .name = ""},
        {.struct_size = sizeof bad[0], .flags = 2},
        {.struct_size = sizeof bad[0], .queue = (1 << 24) + 1},
        {.struct_size = sizeof bad[0], .stack_bytes = 100},
        {.struct_size = 0},
        {.struct_size = sizeof bad[0], .flags = ASH_EXEC_NO_THREADS}, /* with a worker */
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        ok(ash_exec_create(1, &bad[i]) == NULL && errno == EINVAL, "EINVAL: settings %u", i);
    }
    errno = 0;
    ok(ash_exec_create(257, NULL) == NULL && errno == EINVAL, "EINVAL: 257 workers");
    struct ash_exec *e = ash_exec_create(0, NULL);
    ok(e != NULL && stats(e).workers > 0, "a worker for each processor");
    struct ash_group g = ASH_GROUP_INIT;
    int ran = 0;
    is_int(ash_exec_spawn(NULL, count, &ran), -EINVAL, "spawn: no executor");
    is_int(ash_exec_spawn(e, NULL, &ran), -EINVAL, "spawn: no function");
    is_int(ash_exec_spawn_in(e, NULL, count, &ran), -EINVAL, "spawn_in: no group");
    is_int(ash_exec_spawn_in(e, &g, NULL, &ran), -EINVAL, "spawn_in: no function");
    is_int(ash_exec_spawn_in(NULL, &g, count, &ran), -EINVAL, "spawn_in: no executor");
    is_int(ash_exec_join(e, NULL), -EINVAL, "join: no group");
    is_int(ash_exec_join(NULL, &g), -EINVAL, "join: no executor");
    is_int(ash_exec_join(e, &g), 0, "join: nothing to wait for");
    is_int(ash_exec_for(NULL, 1, 1, no_rows, &ran), -EINVAL, "for: no executor");
    is_int(ash_exec_for(e, 1, 1, NULL, &ran), -EINVAL, "for: no function");
    is_int(ash_exec_for(e, SIZE_MAX, 1, no_rows, &ran), -EINVAL, "for: more than there can be");
    is_int(ash_exec_for(e, 0, 1, no_rows, &ran), 0, "for: nothing");
    is_int(ash_exec_drain(NULL), -EINVAL, "drain: no executor");
    is_int(ash_exec_drain(e), 0, "drain: nothing");
    is_int(ash_exec_shutdown(NULL, 0), -EINVAL, "shutdown: no executor");
    is_int(ash_exec_shutdown(e, 2), -EINVAL, "shutdown: an unknown flag");
    struct ash_exec_stats s;
    is_int(ash_exec_stats(NULL, &s), -EINVAL, "stats: no executor");
    is_int(ash_exec_stats(e, NULL), -EINVAL, "stats: nowhere to put them");
    is_int(ash_exec_dump(NULL, 1), -EINVAL, "dump: no executor");
    is_int(ash_exec_dump(e, -1), -EBADF, "dump: no descriptor");
    is_int(ran, 0, "nothing has run");
    ash_exec_destroy(e);
    ash_exec_destroy(NULL);
}

/* Without threads everything happens when the program waits, in an order that is always the same. */
static char order[8], a[] = "a", b[] = "b", x[] = "x", y[] = "y";

static void note(void *arg)
{
    order[strlen(order)] = *(char *)arg;
}

static struct ash_exec *noted;

static void note_children(void *arg)
{
    note(arg);
    ash_exec_spawn(noted, note, x);
    ash_exec_spawn(noted, note, y);
}

static void test_no_threads(void)
{
    int ran = 0;
    struct ash_exec *e = noted = ash_exec_create(0, ASH_EXEC_CONFIG(.flags = ASH_EXEC_NO_THREADS, .queue = 4));
    is_int((int)stats(e).workers, 0, "no workers");
    is_int(ash_exec_spawn(e, note_children, a), 0, "a task that spawns two");
    is_int(ash_exec_spawn(e, note, b), 0, "and one more");
    is_str(order, "", "wait");
    ash_exec_drain(e);
    is_str(order, "ayxb", "from outside in order; of a task's own the newest first");
    for (int i = 0; i < 4; i++)
        is_int(ash_exec_spawn(e, count, &ran), 0, "the queue takes as many as it was made for");
    is_int(ash_exec_spawn(e, count, &ran), -EAGAIN, "no more");
    struct ash_group g = ASH_GROUP_INIT;
    is_int(ash_exec_spawn_in(e, &g, count, &ran), -EAGAIN, "not in a group either");
    is_int(ash_exec_join(e, &g), 0, "which does not wait for it");
    struct ash_exec_stats s = stats(e);
    ok(s.pending == 4 && s.rejected == 2 && s.spawned == 8 && s.run == 4, "as the figures say");
    int each = 0;
    is_int(ash_exec_for(e, 10, 3, no_rows, &each), 0, "a loop");
    is_int(each, 4, "in four parts, by the caller alone");
    ash_exec_destroy(e);
    is_int(ran, 4, "what is left is run at the end");
}

/* ---- threads ---- */

enum { DEPTH = 12 };

static struct ash_exec *shared;

/* A binary tree of tasks: 2^(depth + 1) - 1 of them. */
static int leaves;

static void tree(void *arg)
{
    uintptr_t depth = (uintptr_t)arg;
    __atomic_add_fetch(&leaves, 1, __ATOMIC_RELAXED);
    if (depth != 0 && (ash_exec_spawn(shared, tree, (void *)(depth - 1)) != 0 ||
                       ash_exec_spawn(shared, tree, (void *)(depth - 1)) != 0))
        abort();
}

/* Each outside thread marks its own words; twice or never shows. */
enum { TASKS = 20000 };
static unsigned char marks[8][TASKS];

static void mark(void *arg)
{
    ++*(unsigned char *)arg; /* nobody else has this one */
}

static void *spawn_marks(void *arg)
{
    unsigned char *mine = arg;
    for (int i = 0; i < TASKS; i++)
        while (ash_exec_spawn(shared, mark, &mine[i]) == -EAGAIN)
            sched_yield();
    return NULL;
}

/* Joins of its own groups, while others do the same. */
static void *join_marks(void *arg)
{
    unsigned char *mine = arg;
    for (int i = 0; i < TASKS; i += 100) {
        struct ash_group g = ASH_GROUP_INIT;
        for (int k = i; k < i + 100; k++)
            if (ash_exec_spawn_in(shared, &g, mark, &mine[k]) != 0)
                mark(&mine[k]);
        ash_exec_join(shared, &g);
        for (int k = i; k < i + 100; k++)
            if (mine[k] != 1)
                mine[k] = 100;
    }
    return NULL;
}

static int marks_wrong(unsigned threads)
{
    int wrong = 0;
    for (unsigned t = 0; t < threads; t++)
        for (int i = 0; i < TASKS; i++)
            wrong += marks[t][i] != 1;
    return wrong;
}

static void test_threads(unsigned workers, unsigned threads)
{
    pthread_t thread[8];
    shared = ash_exec_create(workers, ASH_EXEC_CONFIG(.queue = 256));
    leaves = 0;
    is_int(ash_exec_spawn(shared, tree, (void *)(uintptr_t)DEPTH), 0, "a tree of tasks");
    is_int(ash_exec_drain(shared), 0, "is waited for");
    is_int(leaves, (2 << DEPTH) - 1, "and whole");
    for (int joining = 0; joining < 2; joining++) {
        memset(marks, 0, sizeof marks);
        for (unsigned t = 0; t < threads; t++)
            pthread_create(&thread[t], NULL, joining ? join_marks : spawn_marks, marks[t]);
        for (unsigned t = 0; t < threads; t++)
            pthread_join(thread[t], NULL);
        ash_exec_drain(shared);
        ok(marks_wrong(threads) == 0, "%u workers, %u threads that %s: each task has run once", workers, threads,
           joining ? "join" : "spawn");
    }
    struct ash_exec_stats s = stats(shared);
    ok(s.pending == 0 && s.spawned == s.run, "as many as were spawned");
    ash_exec_destroy(shared);
}

/* More threads that wait than there are places for them. */
static void slow(void *arg)
{
    sleep_ms(5);
    count(arg);
}

static void *join_slow(void *arg)
{
    struct ash_group g = ASH_GROUP_INIT;
    for (int i = 0; i < 2; i++)
        ash_exec_spawn_in(shared, &g, slow, arg);
    ash_exec_join(shared, &g);
    return NULL;
}

static void test_many_wait(void)
{
    enum { MANY = 20 };
    pthread_t thread[MANY];
    int ran = 0;
    shared = ash_exec_create(0, ASH_EXEC_CONFIG(.flags = ASH_EXEC_NO_THREADS));
    for (int i = 0; i < MANY; i++)
        pthread_create(&thread[i], NULL, join_slow, &ran);
    for (int i = 0; i < MANY; i++)
        pthread_join(thread[i], NULL);
    is_int(ran, 2 * MANY, "20 threads wait for 40 tasks, of which at most 8 help");
    ash_exec_destroy(shared);
}

/* One at a time with pauses, so that the workers sleep in between: each has to be woken. */
static void test_wake(void)
{
    struct ash_exec *e = ash_exec_create(3, NULL);
    int ran = 0, late = 0;
    for (int i = 0; i < 300; i++) {
        if (i % 3 == 0)
            sleep_ms(1);
        ash_exec_spawn(e, count, &ran);
        for (int k = 0; __atomic_load_n(&ran, __ATOMIC_RELAXED) <= i; k++) {
            if (k == 5000) {
                late++;
                break;
            }
            sleep_ms(1);
        }
    }
    is_int(late, 0, "300 tasks for workers that sleep");
    ok(stats(e).parked > 0 && stats(e).wakes > 0, "they did: %d times", (int)stats(e).parked);
    ash_exec_destroy(e);
}

/* ---- the end ---- */

static int drain_in_task, shutdown_in_task;

static void wait_inside(void *arg)
{
    drain_in_task = ash_exec_drain(arg);
    shutdown_in_task = ash_exec_shutdown(arg, 0);
}

static int gate_open;

static void wait_open(void *arg)
{
    while (!__atomic_load_n(&gate_open, __ATOMIC_ACQUIRE))
        sleep_ms(1);
    count(arg);
}

static void *open_later(void *arg)
{
    (void)arg;
    sleep_ms(30);
    __atomic_store_n(&gate_open, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void test_shutdown(void)
{
    pthread_t thread;
    struct ash_group g = ASH_GROUP_INIT;
    int ran = 0, dropped = 0;
    struct ash_exec *e = ash_exec_create(1, NULL);
    ash_exec_spawn(e, wait_inside, e);
    ash_exec_drain(e);
    ok(drain_in_task == -EDEADLK && shutdown_in_task == -EDEADLK, "a task does not wait for itself");
    ash_exec_spawn(e, wait_open, &ran);
    while (stats(e).injected < 2)
        sleep_ms(1);
    for (int i = 0; i < 10; i++)
        ash_exec_spawn_in(e, &g, count, &dropped);
    pthread_create(&thread, NULL, open_later, NULL);
    is_int(ash_exec_shutdown(e, ASH_EXEC_CANCEL), 0, "shut down while one runs and ten wait");
    pthread_join(thread, NULL);
    is_int(ran, 1, "the one has run");
    is_int(dropped, 0, "the ten have not");
    is_int((int)stats(e).canceled, 10, "they are counted");
    is_int(ash_exec_join(e, &g), -ECANCELED, "their group is told");
    is_int(ash_exec_join(e, &g), 0, "once");
    is_int(ash_exec_spawn(e, count, &dropped), -ECANCELED, "nothing comes in any more");
    is_int(ash_exec_for(e, 10, 1, no_rows, &dropped), -ECANCELED, "no loop either");
    is_int(ash_exec_shutdown(e, 0), 0, "twice is once");
    ash_exec_destroy(e);
}

/* ---- forks ---- */

/*
 * The thread sanitizer ends a child that starts threads; told not to (die_after_fork=0), it ends when one of them gets the
 * stack, and so the identity, of a thread that vanished in the fork.
 */
#ifdef __SANITIZE_THREAD__
enum { CHILDREN_START_THREADS = 0 };
#else
enum { CHILDREN_START_THREADS = 1 };
#endif

static int in_child(int (*fn)(struct ash_exec *), struct ash_exec *e)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(fn(e));
    waitpid(pid, &status, 0);
    return status;
}

static struct ash_group before_fork;

static int child(struct ash_exec *e)
{
    static struct table table;
    int ran = 0;
    struct ash_exec_stats s = stats(e);
    if (s.pending != 0 || s.spawned != 0)
        return 1;
    if (ash_exec_join(e, &before_fork) != -ECANCELED)
        return 2;
    struct ash_group g = ASH_GROUP_INIT;
    for (int i = 0; i < 1000; i++)
        if (ash_exec_spawn_in(e, &g, count, &ran) != 0)
            return 3;
    if (ash_exec_join(e, &g) != 0 || ran != 1000)
        return 4;
    for (int i = 0; i < 10000; i++)
        table.row[i] = i;
    if (ash_exec_for(e, 10000, 10, sum_rows, &table) != 0 || table.sum != 49995000)
        return 5;
    ash_exec_destroy(e);
    return 0;
}

static int fork_in_task_status;

static void fork_in_task(void *arg)
{
    pid_t pid = fork();
    if (pid == 0) {
        /* the task goes on in the child, where it is the only one */
        struct ash_group g = ASH_GROUP_INIT;
        int ran = 0;
        for (int i = 0; i < 100; i++)
            if (ash_exec_spawn_in(arg, &g, count, &ran) != 0)
                _exit(1);
        if (ash_exec_join(arg, &g) != 0 || ran != 100)
            _exit(2);
        struct ash_exec_stats s = stats(arg);
        _exit(s.spawned == 101 && s.run == 100 && s.pending == 1 ? 0 : 3);
    }
    waitpid(pid, &fork_in_task_status, 0);
}

static void *keep_busy(void *arg)
{
    while (!__atomic_load_n(&gate_open, __ATOMIC_RELAXED)) {
        struct ash_group g = ASH_GROUP_INIT;
        int ran = 0;
        for (int i = 0; i < 50; i++)
            ash_exec_spawn_in(arg, &g, count, &ran);
        ash_exec_join(arg, &g);
    }
    return NULL;
}

static void test_fork(void)
{
    pthread_t thread[2];
    int ran = 0, failed = 0;
    struct ash_exec *e = ash_exec_create(2, NULL);
    gate_open = 0;
    ash_exec_spawn_in(e, &before_fork, wait_open, &ran);
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, keep_busy, e);
    for (int i = 0; i < 40; i++) {
        int status = in_child(child, e);
        failed += status != 0;
        if (status != 0)
            tap_line("# child %d: %#x", i, status);
    }
    is_int(failed, 0, "40 children of a busy executor use it");
    __atomic_store_n(&gate_open, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    is_int(ash_exec_join(e, &before_fork), 0, "the parent goes on");
    is_int(ran, 1, "and runs what it has, once");
    fork_in_task_status = 1;
    ash_exec_spawn(e, fork_in_task, e);
    ash_exec_drain(e);
    is_int(fork_in_task_status, 0, "a task that forks goes on in the child");
    ash_exec_destroy(e);
}

static int destroy_in_task(struct ash_exec *e)
{
    close(2);
    ash_exec_spawn(e, (void (*)(void *))ash_exec_destroy, e);
    ash_exec_drain(e);
    return 0;
}

static void test_dump(void)
{
    char text[600] = "";
    int pipes[2], ran = 0;
    struct ash_exec *e = ash_exec_create(1, ASH_EXEC_CONFIG(.name = "shown"));
    ash_exec_spawn(e, count, &ran);
    ash_exec_drain(e);
    if (pipe(pipes) != 0)
        exit(99);
    is_int(ash_exec_dump(e, pipes[1]), 0, "dump");
    ssize_t n = read(pipes[0], text, sizeof text - 1);
    ok(n > 0 && strncmp(text, "exec shown: 1 workers, queues of ", 33) == 0 &&
           strstr(text, "spawned 1  run 1  pending 0  canceled 0  rejected 0\n") != NULL,
       "says it in words");
    int status = CHILDREN_START_THREADS ? in_child(destroy_in_task, e) : SIGABRT;
    if (!ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "destroyed by a task of its own: aborts"))
        tap_line("# status %#x", status);
    ash_exec_destroy(e);
}

int main(void)
{
    test_example();
    test_create();
    test_no_threads();
    test_threads(1, 1);
    test_threads(2, 2);
    test_threads(4, 8);
    test_many_wait();
    test_wake();
    test_shutdown();
    if (CHILDREN_START_THREADS)
        test_fork();
    else
        skip("the thread sanitizer ends children that start threads", 1);
    test_dump();
    return tap_done();
}
