/*
 * The life of managers of transactions (ashlar/txn.h): the end with transactions in flight, misuse, forks, what is shown;
 * and an overload that lasts.
 */
#include "ashlar/layers.h"
#include "ashlar/stats.h"
#include "clock.h"
#include "process.h"
#include "tap.h"
#include "txns.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * A child's threads get the stacks of those that vanished in the fork, so they have the same identity, which the thread
 * sanitizer does not take.
 */
#ifdef __SANITIZE_THREAD__
enum { CHILDREN_START_THREADS = 0 };
#else
enum { CHILDREN_START_THREADS = 1 };
#endif

static int number;

/* ---- the end ---- */

static void test_shutdown(void)
{
    struct ash_txn *t[3], *done[3];
    int ran = 0;
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, NULL);
    for (int i = 0; i < 3; i++)
        t[i] = ash_txn_begin(m);
    ash_txn_submit(t[0], good, &ran);
    ash_txn_submit(t[1], good, &ran);
    is_int(ash_txnmgr_destroy(m), -EBUSY, "EBUSY: three are in flight");
    errno = 0;
    ok(ash_txn_begin(m) == NULL && errno == ECANCELED, "ECANCELED: no new ones");
    is_int(ash_txn_submit(t[2], good, &ran), -ECANCELED, "ECANCELED: nothing is submitted any more");
    is_int((int)ash_txn_poll_wait(m, done, 3, -1), 2, "what was submitted is run");
    is_int(ran, 2, "both");
    is_int((int)ash_txn_poll_wait(m, done + 2, 1, -1), 0, "nothing more will come");
    ash_txn_end(done[0]);
    ash_txn_end(done[1]);
    is_int(ash_txnmgr_destroy(m), -EBUSY, "EBUSY: one has not ended");
    ash_txn_end(t[2]);
    is_int(ash_txnmgr_shutdown(m), 0, "shut down is shut down");
    is_int(ash_txnmgr_destroy(m), 0, "the end");
}

/* ---- misuse: in a child, whose message is read ---- */

static void ends_twice(struct ash_txnmgr *m)
{
    struct ash_txn *t = ash_txn_begin(m);
    ash_txn_end(t);
    ash_txn_end(t);
}

static void ends_in_flight(struct ash_txnmgr *m)
{
    int ran = 0;
    struct ash_txn *t = ash_txn_begin(m);
    ash_txn_submit(t, good, &ran);
    ash_txn_end(t);
    _exit(ash_txn_wait(t, -1) == 0 && ran == 1 ? 0 : 1); /* nothing was lost */
}

static void end(void *txn)
{
    ash_txn_end(txn);
}

static void ends_in_undo(struct ash_txnmgr *m)
{
    struct ash_txn *t = ash_txn_begin(m);
    ash_txn_undo(t, end, t);
    ash_txn_end(t);
    _exit(stats(m).in_flight == 0 && ash_txnmgr_destroy(m) == 0 ? 0 : 1); /* it has ended once */
}

static int fork_and_return(struct ash_txn *txn, void *arg)
{
    pid_t pid = fork();
    (void)txn;
    if (pid != 0)
        waitpid(pid, arg, 0);
    else
        close(2);
    return 0;
}

static int misuse(void (*fn)(struct ash_txnmgr *), const char *on_error, char *text, size_t n)
{
    int status, pipes[2];
    if (pipe(pipes) != 0)
        exit(99);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipes[1], 2);
        setenv("ASHLAR_ON_ERROR", on_error, 1);
        fn(ash_txnmgr_create(NULL, ASH_TXNMGR_CONFIG(.name = "bank")));
        _exit(0);
    }
    close(pipes[1]);
    ssize_t got = read(pipes[0], text, n - 1);
    text[got > 0 ? got - 1 : 0] = '\0'; /* and the line's end */
    close(pipes[0]);
    waitpid(pid, &status, 0);
    return status;
}

static void test_ended_twice(void)
{
    char text[300];
    int status = misuse(ends_twice, "abort", text, sizeof text);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strncmp(text, "ashlar: txns bank: end of transaction 0x", 40) == 0 &&
           strstr(text, ", which has ended") != NULL,
       "ended twice: %s", text);
    status = misuse(ends_twice, "warn", text, sizeof text);
    ok(status == 0 && strstr(text, ", which has ended") != NULL, "or warned of");
}

static void test_misuse(void)
{
    char text[300];
    int status = misuse(ends_in_flight, "abort", text, sizeof text);
    ok(WIFSIGNALED(status) && strstr(text, ", which was submitted and is not done") != NULL, "ended in flight: %s", text);
    status = misuse(ends_in_flight, "warn", text, sizeof text);
    ok(status == 0, "or warned of, and it runs");
    status = misuse(ends_in_undo, "abort", text, sizeof text);
    ok(WIFSIGNALED(status) && strstr(text, ", which is being undone") != NULL, "ended by what undoes it: %s", text);
    status = misuse(ends_in_undo, "warn", text, sizeof text);
    ok(status == 0, "or warned of, and it ends once");
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, NULL);
    is_int(run_status(m, fork_and_return, &status), 0, "a body may fork");
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "but its child may not return from it");
    ash_txnmgr_destroy(m);
}

/* ---- forks ---- */

static int busy_stop, kept;

static int nothing(struct ash_txn *txn, void *arg)
{
    return ash_txn_alloc(txn, 100) != NULL && arg == NULL ? 0 : -EIO;
}

static void *keep_busy(void *arg)
{
    struct ash_txn *done[16];
    while (!__atomic_load_n(&busy_stop, __ATOMIC_RELAXED)) {
        for (int i = 0; i < 16; i++) {
            struct ash_txn *t = ash_txn_begin(arg);
            uint64_t key = (uint64_t)i;
            if (t == NULL)
                break;
            ash_txn_writes(t, &key, 1);
            ash_txn_save(t, &kept, sizeof kept);
            ash_txn_submit(t, nothing, NULL);
        }
        for (unsigned n; (n = ash_txn_poll_batch(arg, done, 16)) != 0;)
            for (unsigned i = 0; i < n; i++)
                ash_txn_end(done[i]);
    }
    return NULL;
}

static int child(struct ash_txnmgr *m, struct ash_txn *begun)
{
    int ran = 0;
    if (stats(m).in_flight != 0 || stats(m).completed != 0)
        return 1;
    if (ash_txn_submit(begun, good, &ran) != -ECANCELED || ash_txn_wait(begun, 0) != -EINVAL)
        return 2;
    ash_txn_end(begun);
    for (int i = 0; i < 100; i++) {
        struct ash_txn *t = ash_txn_begin(m), *done;
        uint64_t keys[] = {1, 2};
        if (t == NULL || t == begun || ash_txn_alloc(t, 100) == NULL || ash_txn_writes(t, keys, 2) != 0 ||
            ash_txn_submit(t, good, &ran) != 0)
            return 3;
        if (i % 2 == 0 && (ash_txn_poll_wait(m, &done, 1, -1) != 1 || done != t))
            return 4;
        if (i % 2 == 1 && ash_txn_wait(t, -1) != 0)
            return 5;
        if (ash_txn_status(t) != 0)
            return 6;
        ash_txn_end(t);
    }
    if (ran != 100 || stats(m).committed != 100 || stats(m).in_flight != 0)
        return 7;
    return ash_txnmgr_destroy(m) == 0 ? 0 : 8;
}

static void test_fork(unsigned workers, enum ash_txn_way way)
{
    pthread_t thread[2];
    unsigned failed = 0;
    int ran = 0, status;
    struct ash_exec *e = workers != 0 ? ash_exec_create(workers, NULL) : NULL;
    struct ash_txnmgr *m = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.way = way));
    busy_stop = 0;
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, keep_busy, m);
    for (int i = 0; i < 40; i++) {
        struct ash_txn *begun = ash_txn_begin_wait(m, -1), *submitted = ash_txn_begin_wait(m, -1);
        uint64_t key = 3;
        ash_txn_writes(submitted, &key, 1);
        ash_txn_submit(submitted, good, &ran); /* the others poll and end it */
        pid_t pid = fork();
        if (pid == 0)
            _exit(child(m, begun));
        waitpid(pid, &status, 0);
        if (status != 0 && failed++ == 0)
            tap_line("# child %d: %#x", i, (unsigned)status);
        ash_txn_end(begun);
    }
    __atomic_store_n(&busy_stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    is_int((int)failed, 0, "40 children of a busy manager use it, and find it empty");
    struct ash_txn *done[16];
    while (stats(m).in_flight != 0)
        for (unsigned n = ash_txn_poll_batch(m, done, 16); n-- > 0;)
            ash_txn_end(done[n]);
    is_int(ran, 40, "the parent goes on");
    is_int(ash_txnmgr_destroy(m), 0, "the end");
    ash_exec_destroy(e);
}

/* ---- what is shown ---- */

static void test_shown(void)
{
    static char text[65536];
    int pipes[2], ran = 0;
    struct ash_exec *e = ash_exec_create(1, ASH_EXEC_CONFIG(.name = "shown.exec"));
    struct ash_gate *g = ash_gate_create("shown.gate", ASH_GATE_CONFIG(.limit = 9));
    struct ash_txnmgr *m = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.name = "shown.txns", .limit = 77));
    for (int i = 0; i < 5; i++)
        run_status(m, good, &ran);
    if (pipe(pipes) != 0)
        exit(99);
    is_int(ash_txnmgr_dump(m, pipes[1]), 0, "dump");
    ssize_t n = read(pipes[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    ok(strncmp(text, "txns shown.txns: 0 of 77 in flight, 1 at most; 0 queued\n", 56) == 0 &&
           strstr(text, "begun 5  refused 0  committed 5  aborted 0  unstored 0\n") != NULL,
       "says it in words");
    FILE *f = tmpfile();
    is_int(ash_stats_dump(fileno(f), ASH_PROMETHEUS), 0, "the statistics");
    rewind(f);
    n = (ssize_t)fread(text, 1, sizeof text - 1, f);
    text[n] = '\0';
    fclose(f);
    ok(strstr(text, "ashlar_txnmgr_committed_total{name=\"shown.txns\"} 5\n") != NULL, "show the manager");
    ok(strstr(text, "ashlar_exec_workers{name=\"shown.exec\"} 1\n") != NULL, "the executor");
    ok(strstr(text, "ashlar_gate_limit{name=\"shown.gate\"} 9\n") != NULL, "the gate");
    ash_txnmgr_destroy(m);
    ash_gate_destroy(g);
    ash_exec_destroy(e);
}

/* ---- ten times too much: what is refused is refused at once, and nothing piles up ---- */

enum { LIMIT = 1000, WORK_NS = 5000 };

static int serve(struct ash_txn *txn, void *arg)
{
    int64_t until = now_ns() + WORK_NS;
    (void)txn;
    while (now_ns() < until)
        ;
    return *(char *)arg == 'x' ? 0 : -EIO;
}

static void *serve_all(void *mgr)
{
    struct ash_txn *done[64];
    unsigned n, served = 0;
    while ((n = ash_txn_poll_wait(mgr, done, 64, -1)) != 0)
        for (unsigned i = 0; i < n; i++, __atomic_store_n(&number, ++served, __ATOMIC_RELAXED))
            ash_txn_end(done[i]);
    return NULL;
}

static void test_overload(void)
{
    const char *seconds = getenv("ASH_OVERLOAD_SECONDS");
    int64_t length = (int64_t)(seconds != NULL ? atoi(seconds) : 1) * 1000000000, begin = now_ns();
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, ASH_TXNMGR_CONFIG(.limit = LIMIT));
    long warm = 0, most = 0;
    int64_t offered = 0, refused = 0;
    pthread_t server;
    number = 0;
    for (int64_t now = begin; now - begin < length; now = now_ns()) {
        if (offered > 2 * LIMIT + 10 * (int64_t)__atomic_load_n(&number, __ATOMIC_RELAXED)) {
            sched_yield();
            continue;
        }
        uint64_t key = (uint64_t)offered++ % 100;
        if (offered == 2 * LIMIT + 1) /* half of which were refused by now */
            pthread_create(&server, NULL, serve_all, m);
        struct ash_txn *t = ash_txn_begin(m);
        if (t != NULL) {
            size_t n = 100 + 37 * (size_t)(offered % 50);
            ash_txn_writes(t, &key, 1);
            if (ash_txn_submit(t, serve, memset(ash_txn_alloc(t, n), 'x', n)) != 0)
                abort();
        } else {
            refused++;
        }
        if (offered % 1024 != 0)
            continue;
        long kib = resident_kib();
        if (now - begin < length / 3)
            warm = kib > warm ? kib : warm;
        most = kib > most ? kib : most;
    }
    ash_txnmgr_shutdown(m);
    pthread_join(server, NULL);
    struct ash_txnmgr_stats s = stats(m);
    ok(s.committed >= LIMIT && (int64_t)s.refused == refused && refused >= LIMIT, "%d served, %d refused", (int)s.committed,
       (int)s.refused);
    ok(s.most <= LIMIT && s.in_flight == 0 && s.aborted == 0, "1000 were in flight at most");
    ok(most - warm <= flat_kib(), "memory stays flat: %ld KiB, then %ld at most", warm, most);
    is_int(ash_txnmgr_destroy(m), 0, "the end");
}

int main(void)
{
    test_shutdown();
    if (memory_watched())
        skip("what watches memory reports the use of what has ended", 2);
    else
        test_ended_twice();
    test_misuse();
    test_fork(0, ASH_TXN_ADAPTIVE);
    if (CHILDREN_START_THREADS)
        test_fork(2, ASH_TXN_PARALLEL);
    else
        skip("the thread sanitizer ends children that start threads", 3);
    test_shown();
    test_overload();
    return tap_done();
}
