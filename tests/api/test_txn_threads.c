/*
 * Transactions (ashlar/txn.h) of several threads: the result has to be that of running all of them one by one in the order
 * in which they come out; nobody who waits is forgotten; what is under way is bounded.
 */
#include "ashlar/txn.h"
#include "clock.h"
#include "draw.h"
#include "process.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SLOWER = 10 };
#else
enum { SLOWER = 1 };
#endif

static unsigned slower(void)
{
    return under_valgrind() ? 40 : SLOWER;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = (a ^ b) * 0x9e3779b97f4a7c15u;
    return x ^ x >> 29;
}

/* ---- the oracle ---- */

enum { KEYS_MOST = 6, VALUES = 512, BATCH = 96 };

struct op {
    unsigned writes, reads;
    uint64_t key[KEYS_MOST]; /* those written first */
    uint64_t number;
    bool fails; /* after it has written */
    uint64_t *value;
};

/* What is written depends on all that was read: no two orders of conflicting ones give the same. */
static int op_run(struct op *o, struct ash_txn *txn)
{
    uint64_t sum = o->number;
    for (unsigned i = 0; i < o->writes + o->reads; i++)
        sum = mix(sum, o->value[o->key[i]]);
    if (o->fails && txn == NULL)
        return -EIO;
    for (unsigned i = 0; i < o->writes; i++) {
        if (txn != NULL && o->fails)
            ash_txn_save(txn, &o->value[o->key[i]], sizeof(uint64_t));
        o->value[o->key[i]] = mix(sum, i);
    }
    return o->fails ? -EIO : 0;
}

static int op_body(struct ash_txn *txn, void *arg)
{
    return op_run(arg, txn);
}

static void op_draw(struct op *o, uint64_t *state, unsigned of_keys)
{
    uint64_t r = draw_from(state);
    o->writes = (unsigned)(r % 3);
    o->reads = (unsigned)(r / 3 % 4);
    o->fails = (r >> 32 & 7) == 0;
    o->number = r;
    for (unsigned i = 0; i < KEYS_MOST; i++)
        o->key[i] = draw_from(state) % of_keys;
}

static struct ash_txn *op_submit(struct ash_txnmgr *m, struct op *o)
{
    struct ash_txn *t = ash_txn_begin(m);
    if (t == NULL)
        return NULL;
    if (ash_txn_writes(t, o->key, o->writes) != 0 || ash_txn_reads(t, o->key + o->writes, o->reads) != 0 ||
        ash_txn_submit(t, op_body, o) != 0)
        abort();
    return t;
}

/* A batch drawn from a seed, run and then run by hand. False when they differ. */
static bool batch_good(struct ash_txnmgr *m, uint64_t seed)
{
    static uint64_t value[VALUES], expected[VALUES];
    static struct op op[BATCH];
    struct ash_txn *txn[BATCH], *done[BATCH];
    uint64_t state = seed * 2654435761u + 88172645463325252u;
    unsigned of_keys = 1 + (unsigned)(draw_from(&state) % (seed % 2 != 0 ? 8 : VALUES));
    unsigned n = 1 + (unsigned)(draw_from(&state) % BATCH);
    unsigned got = 0;
    for (unsigned i = 0; i < VALUES; i++)
        value[i] = expected[i] = draw_from(&state);
    for (unsigned i = 0; i < n; i++) {
        op_draw(&op[i], &state, of_keys);
        op[i].value = value;
        txn[i] = op_submit(m, &op[i]);
    }
    while (got < n)
        got += seed % 4 < 2 ? ash_txn_poll_wait(m, done + got, BATCH - got, -1) : ash_txn_poll_batch(m, done + got, BATCH - got);
    bool good = got == n;
    for (unsigned i = 0; i < n; i++) {
        op[i].value = expected;
        good &= done[i] == txn[i] && ash_txn_status(done[i]) == op_run(&op[i], NULL);
        ash_txn_end(done[i]);
    }
    return good && memcmp(value, expected, sizeof value) == 0;
}

static void test_oracle(enum ash_txn_way way, unsigned workers, unsigned seeds)
{
    struct ash_exec *e = workers != 0 ? ash_exec_create(workers, NULL) : NULL;
    struct ash_txnmgr *m = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.way = way, .keys = KEYS_MOST));
    unsigned bad = 0;
    for (unsigned seed = 1; seed <= seeds / slower(); seed++)
        if (!batch_good(m, seed) && bad++ == 0)
            tap_line("# seed %u", seed);
    struct ash_txnmgr_stats s;
    ash_txnmgr_stats(m, &s);
    ok(bad == 0, "%u batches, way %d, %u workers: as one by one (%d in parallel)", seeds / slower(), (int)way, workers,
       (int)s.parallel);
    if (way == ASH_TXN_PARALLEL)
        ok(s.parallel == s.completed && s.serial == 0, "in parallel all of them");
    is_int(ash_txnmgr_destroy(m), 0, "the end");
    ash_exec_destroy(e);
}

/* ---- several threads submit, several poll; each transaction is checked against those of its poller before ---- */

enum { SUBMITTERS_MOST = 8, EACH = 20000, ACCOUNTS = 64 };

struct shared {
    struct ash_txnmgr *mgr;
    uint64_t value[ACCOUNTS];
    struct op *op; /* EACH for each submitter */
    struct op **order; /* in which they came out */
    unsigned each, total, done; /* done: atomic */
};

static struct shared shared;

static void *submit_some(void *first)
{
    struct op *o = first;
    for (unsigned i = 0; i < shared.each; i++) {
        struct ash_txn *t;
        while ((t = ash_txn_begin_wait(shared.mgr, 1000000000)) == NULL)
            ;
        if (ash_txn_writes(t, o[i].key, o[i].writes) != 0 || ash_txn_reads(t, o[i].key + o[i].writes, o[i].reads) != 0 ||
            ash_txn_submit(t, op_body, &o[i]) != 0)
            abort();
    }
    return NULL;
}

/* The only poller: it sees the serial order. */
static void *poll_all(void *arg)
{
    struct ash_txn *done[32];
    while (shared.done < shared.total) {
        unsigned n = ash_txn_poll_wait(shared.mgr, done, 32, -1);
        for (unsigned i = 0; i < n; i++) {
            shared.order[shared.done++] = ash_txn_arg(done[i]);
            ash_txn_end(done[i]);
        }
    }
    return arg;
}

static void test_submitters(unsigned threads, enum ash_txn_way way, unsigned limit)
{
    pthread_t submitter[SUBMITTERS_MOST], poller;
    struct ash_exec *e = ash_exec_create(2, NULL);
    uint64_t state = threads * 7919 + limit, expected[ACCOUNTS];
    shared = (struct shared){.each = EACH / slower()};
    shared.mgr = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.way = way, .keys = KEYS_MOST, .limit = limit));
    shared.total = threads * shared.each;
    shared.op = calloc(shared.total, sizeof *shared.op);
    shared.order = calloc(shared.total, sizeof *shared.order);
    for (unsigned i = 0; i < ACCOUNTS; i++)
        shared.value[i] = expected[i] = draw_from(&state);
    for (unsigned i = 0; i < shared.total; i++) {
        op_draw(&shared.op[i], &state, ACCOUNTS);
        shared.op[i].value = shared.value;
    }
    pthread_create(&poller, NULL, poll_all, NULL);
    for (unsigned i = 0; i < threads; i++)
        pthread_create(&submitter[i], NULL, submit_some, shared.op + i * shared.each);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(submitter[i], NULL);
    pthread_join(poller, NULL);
    bool ordered = true;
    struct op *last[SUBMITTERS_MOST] = {NULL};
    for (unsigned i = 0; i < shared.total; i++) {
        struct op *o = shared.order[i];
        unsigned from = (unsigned)(o - shared.op) / shared.each;
        ordered &= last[from] == NULL || last[from] < o;
        last[from] = o;
        o->value = expected;
        op_run(o, NULL);
    }
    ok(ordered, "%u threads, way %d, limit %u: each one's come out in its order", threads, (int)way, limit);
    ok(memcmp(expected, shared.value, sizeof expected) == 0, "and together they are as one by one in the order of all");
    is_int(ash_txnmgr_destroy(shared.mgr), 0, "the end");
    ash_exec_destroy(e);
    free(shared.op);
    free(shared.order);
}

/* ---- each thread submits and waits for its own: nobody sleeps for ever ---- */

static int add_one(struct ash_txn *txn, void *arg)
{
    (void)txn;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned counter;

static void *submit_and_wait(void *arg)
{
    uintptr_t each = (uintptr_t)arg, bad = 0;
    uint64_t key = 1;
    for (uintptr_t i = 0; i < each; i++) {
        struct ash_txn *t = ash_txn_begin_wait(shared.mgr, -1);
        ash_txn_writes(t, &key, 1);
        ash_txn_submit(t, add_one, &counter);
        bad += ash_txn_wait(t, -1) != 0 || ash_txn_status(t) != 0;
        ash_txn_end(t);
    }
    return (void *)bad;
}

static void test_waiters(unsigned threads, unsigned limit)
{
    pthread_t thread[16];
    uintptr_t each = 4000 / slower(), bad = 0;
    struct ash_exec *e = ash_exec_create(1, NULL);
    counter = 0;
    shared.mgr = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.limit = limit));
    for (unsigned i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, submit_and_wait, (void *)each);
    for (unsigned i = 0; i < threads; i++) {
        void *result;
        pthread_join(thread[i], &result);
        bad += (uintptr_t)result;
    }
    ok(bad == 0 && counter == threads * each, "%u threads, limit %u: each waits for its own", threads, limit);
    struct ash_txnmgr_stats s;
    ash_txnmgr_stats(shared.mgr, &s);
    ok(s.most <= limit && s.in_flight == 0 && s.committed == counter, "no more than the limit were in flight: %d", (int)s.most);
    is_int(ash_txnmgr_destroy(shared.mgr), 0, "the end");
    ash_exec_destroy(e);
}

/* ---- several threads poll ---- */

static void *poll_share(void *arg)
{
    struct ash_txn *done[7];
    unsigned n;
    while ((n = ash_txn_poll_wait(shared.mgr, done, 7, -1)) != 0) /* until it is shut down */
        for (unsigned i = 0; i < n; i++) {
            __atomic_add_fetch(&shared.done, 1, __ATOMIC_RELAXED);
            ash_txn_end(done[i]);
        }
    return arg;
}

static void test_pollers(unsigned threads)
{
    pthread_t thread[8];
    unsigned n = 40000 / slower();
    uint64_t key = 1;
    struct ash_exec *e = ash_exec_create(1, NULL);
    counter = 0;
    shared.done = 0;
    shared.mgr = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.limit = 300));
    for (unsigned i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, poll_share, NULL);
    for (unsigned i = 0; i < n; i++) {
        struct ash_txn *t = ash_txn_begin_wait(shared.mgr, -1);
        ash_txn_writes(t, &key, 1);
        ash_txn_submit(t, add_one, &counter);
    }
    ash_txnmgr_shutdown(shared.mgr);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    ok(shared.done == n && counter == n, "%u threads poll: each of %u comes out once, and they are told of the end", threads, n);
    is_int(ash_txnmgr_destroy(shared.mgr), 0, "the end");
    ash_exec_destroy(e);
}

/* ---- one that sleeps is woken ---- */

static void *poll_one(void *out)
{
    return (void *)(uintptr_t)ash_txn_poll_wait(shared.mgr, out, 1, -1);
}

static void test_wake(void)
{
    pthread_t thread;
    struct ash_txn *done;
    uint64_t key = 1;
    shared.mgr = ash_txnmgr_create(NULL, NULL);
    counter = 0;
    for (int i = 0; i < 100; i++) {
        void *n;
        pthread_create(&thread, NULL, poll_one, &done);
        if (i % 4 != 0)
            sleep_ns(i % 4 * 300000);
        struct ash_txn *t = ash_txn_begin(shared.mgr);
        ash_txn_writes(t, &key, 1);
        ash_txn_submit(t, add_one, &counter);
        pthread_join(thread, &n);
        if (n != (void *)1 || done != t)
            abort();
        ash_txn_end(done);
    }
    is_int((int)counter, 100, "a thread that sleeps in poll_wait is woken by each submission");
    ash_txnmgr_destroy(shared.mgr);
}

int main(void)
{
    test_oracle(ASH_TXN_SERIAL, 0, 2000);
    test_oracle(ASH_TXN_ADAPTIVE, 1, 4000);
    test_oracle(ASH_TXN_PARALLEL, 1, 2000);
    test_oracle(ASH_TXN_PARALLEL, 2, 2000);
    test_submitters(2, ASH_TXN_ADAPTIVE, 4096);
    test_submitters(4, ASH_TXN_PARALLEL, 100);
    test_submitters(8, ASH_TXN_ADAPTIVE, 1000);
    test_waiters(2, 100);
    test_waiters(4, 2);
    test_waiters(16, 3);
    test_pollers(2);
    test_pollers(4);
    test_wake();
    return tap_done();
}
