/*
 * Transactions (ashlar/txn.h) in company: random ones against the serial order, with savepoints, aborts and a store
 * that fails; an executor that the program uses as well, for threads that poll, or that it shuts down; functions
 * that undo; managers that wait for each other; hooks beside bodies; and what runs before anyone polls.
 */
#include "ashlar/layers.h"
#include "draw.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int nothing(struct ash_txn *txn, void *arg)
{
    (void)txn;
    (void)arg;
    return 0;
}

/* ---- the serial order ---- */

enum { CELLS = 64, KEYS = 6, PROGRAMS = 3000 };

/* What it does follows from its numbers and from what it reads alone. */
struct program {
    uint64_t key[KEYS];
    unsigned reads; /* keys from the back; the others are written, and some are in both lists */
    uint64_t seed, seen;
    int status;
};

static uint64_t cell[CELLS];
static struct program program[PROGRAMS];
static uint64_t state;

static uint64_t draw(void)
{
    return draw_from(&state);
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    a = (a ^ b) * 0x9e3779b97f4a7c15u;
    return a ^ a >> 29;
}

/* Writes what it has read, in three nested parts of which some are taken back; in `copy` as in `txn`. */
static int program_run(struct program *p, uint64_t *cells, struct ash_txn *txn)
{
    uint64_t seen = p->seed, before[3][CELLS];
    int savepoint[3];
    for (unsigned i = 0; i < KEYS; i++)
        seen = mix(seen, cells[p->key[i]]);
    p->seen = seen;
    for (unsigned part = 0; part < 3; part++) {
        if (txn != NULL)
            savepoint[part] = ash_txn_savepoint(txn);
        else
            memcpy(before[part], cells, sizeof before[part]);
        for (unsigned i = 0; i < KEYS - p->reads; i++) {
            uint64_t *c = &cells[p->key[i]];
            if (txn != NULL && (ash_txn_save(txn, c, sizeof *c) != 0 || ash_txn_record(txn, c, sizeof *c) != 0))
                return -ENOMEM;
            *c = mix(*c, seen + part);
        }
    }
    for (unsigned part = 3; part-- > 0 && (seen >> part & 1) != 0;) {
        if (txn == NULL)
            memcpy(cells, before[part], sizeof before[part]);
        else if (ash_txn_rollback_to(txn, savepoint[part]) != 0)
            return -EINVAL;
    }
    return seen % 7 == 0 ? -EDOM : 0;
}

static int program_body(struct ash_txn *txn, void *arg)
{
    return program_run(arg, cell, txn);
}

static void programs_draw(uint64_t seed, unsigned hot)
{
    state = seed * 0x9e3779b97f4a7c15u + 1;
    for (unsigned i = 0; i < CELLS; i++)
        cell[i] = draw();
    for (unsigned i = 0; i < PROGRAMS; i++) {
        struct program *p = &program[i];
        *p = (struct program){.reads = (unsigned)(draw() % KEYS), .seed = draw()};
        for (unsigned k = 0; k < KEYS; k++)
            p->key[k] = draw() % hot;
    }
}

static int store_fails(struct ash_txn *const *txns, unsigned n, void *user)
{
    unsigned *calls = user;
    (void)txns;
    return n == 0 || ++*calls % 3 == 0 ? -EIO : 0;
}

static unsigned programs_end(struct ash_txnmgr *m, int64_t timeout_ns)
{
    struct ash_txn *done[32];
    unsigned n = ash_txn_poll_wait(m, done, 32, timeout_ns);
    for (unsigned i = 0; i < n; i++) {
        ((struct program *)ash_txn_arg(done[i]))->status = ash_txn_status(done[i]);
        ash_txn_end(done[i]);
    }
    return n;
}

/* Polls now and then while it submits, so that steps are of all sizes. */
static bool programs_submit(struct ash_txnmgr *m)
{
    unsigned ended = 0;
    for (unsigned i = 0; i < PROGRAMS; i++) {
        struct program *p = &program[i];
        struct ash_txn *t = ash_txn_begin(m);
        unsigned writes = KEYS - p->reads;
        if (t == NULL || ash_txn_writes(t, p->key, writes) != 0 || ash_txn_reads(t, p->key + writes, p->reads) != 0 ||
            ash_txn_reads(t, p->key, writes / 2) != 0 || ash_txn_submit(t, program_body, p) != 0)
            return false;
        if (draw() % 200 == 0)
            ended += programs_end(m, 0);
    }
    while (ended < PROGRAMS)
        ended += programs_end(m, -1);
    return true;
}

/*
 * How many differ from a run one by one in which those that could not be stored are left out. Of what was aborted in
 * a step that could not be stored only the end is known.
 */
static unsigned programs_differ(uint64_t cells[CELLS], bool stored)
{
    unsigned wrong = 0;
    for (unsigned i = 0; i < PROGRAMS; i++) {
        uint64_t before[CELLS];
        struct program p = program[i];
        if (p.status == -EIO)
            continue;
        memcpy(before, cells, sizeof before);
        p.status = program_run(&p, cells, NULL);
        if (program[i].status != 0)
            memcpy(cells, before, sizeof before);
        if (program[i].status == 0 || !stored)
            wrong += p.status != program[i].status || p.seen != program[i].seen;
    }
    return wrong;
}

static void test_serial_order(enum ash_txn_way way, unsigned workers, bool stored)
{
    struct ash_exec *e = workers == 0 ? ash_exec_create(0, ASH_EXEC_CONFIG(.flags = ASH_EXEC_NO_THREADS))
                                      : ash_exec_create(workers, NULL);
    unsigned wrong = 0, calls = 0;
    struct ash_txnmgr *m = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.way = way, .keys = 2 * KEYS,
                                                                  .store = stored ? store_fails : NULL, .user = &calls));
    for (unsigned seed = 1; seed <= 12; seed++) {
        uint64_t alone[CELLS];
        programs_draw(seed, seed % 3 == 0 ? 4 : CELLS);
        memcpy(alone, cell, sizeof alone);
        wrong += !programs_submit(m);
        wrong += programs_differ(alone, stored);
        wrong += memcmp(alone, cell, sizeof alone) != 0;
    }
    ok(wrong == 0, "way %d, %u workers, %s: what each has read, and the end, are the serial order's", (int)way,
           workers, stored ? "a store that fails" : "no store");
    is_int(ash_txnmgr_destroy(m), 0, "all have ended");
    ash_exec_destroy(e);
}

/* ---- one executor for the program and its transactions ---- */

static struct ash_txnmgr *served;
static unsigned ran, early;

static int count(struct ash_txn *txn, void *arg)
{
    (void)txn;
    (void)arg;
    __atomic_add_fetch(&ran, 1, __ATOMIC_RELAXED);
    return 0;
}

/* A task that ends what is done until the manager is shut down. */
static void serve(void *stop)
{
    struct ash_txn *done[16];
    while (__atomic_load_n((int *)stop, __ATOMIC_ACQUIRE) == 0) {
        unsigned n = ash_txn_poll_wait(served, done, 16, -1);
        if (n == 0 && __atomic_load_n((int *)stop, __ATOMIC_ACQUIRE) == 0) {
            __atomic_add_fetch(&early, 1, __ATOMIC_RELAXED);
            return;
        }
        for (unsigned i = 0; i < n; i++)
            ash_txn_end(done[i]);
    }
}

/* A thread that drives must not take up the tasks that would poll: they would be inside of it. */
static void test_tasks_poll(unsigned workers)
{
    enum { MANY = 20000 };
    struct ash_exec *e = ash_exec_create(workers, NULL);
    int stop = 0, wrong = 0;
    ran = early = 0;
    served = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.way = ASH_TXN_PARALLEL, .limit = 256));
    for (unsigned i = 0; i < workers + 2; i++)
        wrong += ash_exec_spawn(e, serve, &stop) != 0;
    for (unsigned i = 0; i < MANY; i++) {
        struct ash_txn *t = ash_txn_begin_wait(served, -1);
        wrong += ash_txn_submit(t, count, NULL) != 0;
    }
    struct ash_txnmgr_stats s;
    while (ash_txnmgr_stats(served, &s) == 0 && s.in_flight != 0)
        ;
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    ash_txnmgr_shutdown(served);
    ash_exec_drain(e);
    ok(wrong == 0, "%u workers poll as tasks of the executor", workers);
    is_int((int)ran, MANY, "all have been run");
    is_int((int)early, 0, "a poll that waits is told of nothing but done ones and the end");
    is_int(ash_txnmgr_destroy(served), 0, "the end");
    ash_exec_destroy(e);
}

/* Shut down with all its tasks dropped, before a step or in the middle of one. */
static void test_executor_canceled(bool begun)
{
    enum { MANY = 500 };
    struct ash_exec *e = ash_exec_create(2, NULL);
    struct ash_txnmgr *m = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.way = ASH_TXN_PARALLEL));
    struct ash_txn *done[64];
    unsigned ended = 0, n;
    int wrong = 0;
    ran = 0;
    for (unsigned i = 0; i < MANY; i++)
        wrong += ash_txn_submit(ash_txn_begin(m), count, NULL) != 0;
    n = begun ? ash_txn_poll_batch(m, done, 1) : 0;
    wrong += ash_exec_shutdown(e, ASH_EXEC_CANCEL) != 0;
    for (unsigned i = 0; i < n; i++, ended++)
        ash_txn_end(done[i]);
    while (ended < MANY && (n = ash_txn_poll_wait(m, done, 64, -1)) != 0)
        for (unsigned i = 0; i < n; i++, ended++) {
            wrong += ash_txn_status(done[i]) != 0;
            ash_txn_end(done[i]);
        }
    ok(wrong == 0, "an executor that drops its tasks%s", begun ? ", in the middle of a step" : "");
    is_int((int)ran, MANY, "drops none of a transaction's");
    is_int(ash_txnmgr_destroy(m), 0, "the end");
    ash_exec_destroy(e);
}

/* ---- functions that undo ---- */

static struct ash_txn *undone;
static int answer[6], calls, value;

static void undo_meddles(void *arg)
{
    (void)arg;
    calls++;
    answer[0] = ash_txn_save(undone, &value, sizeof value);
    answer[1] = ash_txn_savepoint(undone);
    answer[2] = ash_txn_rollback_to(undone, 0);
    answer[3] = ash_txn_submit(undone, nothing, NULL);
    errno = 0;
    answer[4] = ash_txn_alloc(undone, 8) == NULL ? -errno : 0;
    answer[5] = ash_txn_on_abort(undone, NULL, NULL);
}

static bool undo_was_kept_out(int submit)
{
    bool good = calls == 1 && answer[0] == -EBUSY && answer[1] == -EBUSY && answer[2] == -EBUSY &&
                answer[3] == submit && answer[4] == -EBUSY && answer[5] == -EINVAL;
    calls = 0;
    return good;
}

static bool kept_out_in_body;

/* Goes back to a savepoint, and is aborted then if it says so. */
static int undo_in_body(struct ash_txn *txn, void *aborts)
{
    undone = txn;
    int savepoint = ash_txn_savepoint(txn);
    if (ash_txn_undo(txn, undo_meddles, NULL) != 0 || ash_txn_rollback_to(txn, savepoint) != 0)
        return -EINVAL;
    kept_out_in_body = undo_was_kept_out(-EDEADLK);
    value = 1;
    if (ash_txn_save(txn, &value, sizeof value) != 0) /* it may be changed again */
        return -EINVAL;
    value = 2;
    return aborts != NULL && ash_txn_undo(txn, undo_meddles, NULL) == 0 ? -EDOM : 0;
}

static void test_undo_functions(void)
{
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, NULL);
    undone = ash_txn_begin(m);
    ash_txn_undo(undone, undo_meddles, NULL);
    ash_txn_end(undone);
    ok(undo_was_kept_out(-EBUSY), "what undoes an abandoned one cannot change or submit it");
    struct ash_txn *t = ash_txn_begin(m);
    ok(ash_txn_submit(t, undo_in_body, NULL) == 0 && ash_txn_wait(t, -1) == 0 && ash_txn_status(t) == 0, "in a body");
    ok(kept_out_in_body && value == 2, "nor what goes back to a savepoint; then it goes on");
    ash_txn_end(t);
    t = ash_txn_begin(m);
    ok(ash_txn_submit(t, undo_in_body, m) == 0 && ash_txn_wait(t, -1) == 0 && ash_txn_status(t) == -EDOM, "aborted");
    ok(undo_was_kept_out(-EDEADLK) && value == 1, "nor what undoes an aborted one");
    ash_txn_end(t);
    is_int(ash_txnmgr_destroy(m), 0, "nothing is left");
}

/* ---- managers that wait for each other ---- */

static struct ash_txnmgr *upper, *lower;
static struct ash_txn *uppers;

static int wait_upwards(struct ash_txn *txn, void *result)
{
    (void)txn;
    *(int *)result = ash_txn_wait(uppers, 1000 * 1000 * 1000);
    return 0;
}

static int wait_downwards(struct ash_txn *txn, void *result)
{
    struct ash_txn *t = ash_txn_begin(lower);
    (void)txn;
    int status = ash_txn_submit(t, wait_upwards, result);
    if (status == 0)
        status = ash_txn_wait(t, -1);
    ash_txn_end(t);
    return status;
}

static void test_managers(unsigned workers, enum ash_txn_way way)
{
    struct ash_exec *e = workers != 0 ? ash_exec_create(workers, NULL) : NULL;
    int result = 0;
    upper = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.name = "upper", .way = way));
    lower = ash_txnmgr_create(NULL, ASH_TXNMGR_CONFIG(.name = "lower"));
    struct ash_txn *t = ash_txn_begin(upper);
    uppers = ash_txn_begin(upper);
    ash_txn_submit(t, wait_downwards, &result);
    ash_txn_submit(uppers, nothing, NULL);
    is_int(ash_txn_wait(t, -1), 0, "a body waits for another manager's");
    is_int(ash_txn_status(t), 0, "which is run there");
    is_int(result, -EDEADLK, "and may not wait for the first one's");
    ash_txn_end(t);
    is_int(ash_txn_wait(uppers, -1), 0, "that is run as well");
    ash_txn_end(uppers);
    ok(ash_txnmgr_destroy(upper) == 0 && ash_txnmgr_destroy(lower) == 0, "the end");
    ash_exec_destroy(e);
}

/* Bodies of `upper` use `lower`, which another thread uses as well; their answers are counted. */
static _Atomic(unsigned) went_well, below_over;

static int use_lower(struct ash_txn *txn, void *arg)
{
    uint64_t key = (uint64_t)(uintptr_t)arg;
    struct ash_txn *t = ash_txn_begin_wait(lower, -1);
    (void)txn;
    int status = t == NULL ? -errno : ash_txn_writes(t, &key, 1);
    if (status == 0)
        status = ash_txn_submit(t, nothing, NULL);
    if (status == 0)
        status = ash_txn_wait(t, -1);
    went_well += status == 0;
    ash_txn_end(t);
    return status;
}

static void *below(void *arg)
{
    struct ash_txn *done[64];
    (void)arg;
    while (below_over == 0) {
        for (uint64_t key = 0; key < 100; key++) {
            struct ash_txn *t = ash_txn_begin(lower);
            if (t != NULL && (ash_txn_writes(t, &key, 1) != 0 || ash_txn_submit(t, nothing, NULL) != 0))
                ash_txn_end(t);
        }
        unsigned n = ash_txn_poll_batch(lower, done, 64);
        for (unsigned i = 0; i < n; i++)
            ash_txn_end(done[i]);
    }
    return NULL;
}

static void test_managers_meet(unsigned workers)
{
    enum { MANY = 3000 };
    struct ash_exec *e = ash_exec_create(workers, NULL);
    struct ash_txn *done[64];
    pthread_t thread;
    unsigned wrong = 0;
    went_well = below_over = 0;
    upper = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.name = "upper", .way = ASH_TXN_PARALLEL));
    lower = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.name = "lower", .way = ASH_TXN_PARALLEL, .limit = 16384));
    pthread_create(&thread, NULL, below, NULL);
    for (uintptr_t submitted = 0, ended = 0; ended < MANY;) {
        for (unsigned i = 0; i < 64 && submitted < MANY; i++, submitted++) {
            struct ash_txn *t = ash_txn_begin(upper);
            uint64_t key = submitted % 300;
            wrong += ash_txn_writes(t, &key, 1) != 0 || ash_txn_submit(t, use_lower, (void *)submitted) != 0;
        }
        unsigned n = ash_txn_poll_wait(upper, done, 64, -1);
        for (unsigned i = 0; i < n; i++, ended++)
            ash_txn_end(done[i]);
    }
    below_over = 1;
    pthread_join(thread, NULL);
    ok(wrong == 0 && went_well == MANY, "%u workers for two managers: who drives one is in no body of the other",
       workers);
    while (ash_txn_poll_batch(lower, done, 1) != 0)
        ash_txn_end(done[0]);
    ok(ash_txnmgr_destroy(upper) == 0 && ash_txnmgr_destroy(lower) == 0, "the end");
    ash_exec_destroy(e);
}

/* All workers wait for the last one, and bodies spawn tasks, which nobody takes: who drives gets at all batches. */
static void task_counts(void *arg)
{
    (void)arg;
    __atomic_add_fetch(&ran, 1, __ATOMIC_RELAXED);
}

static int body_spawns(struct ash_txn *txn, void *exec)
{
    (void)txn;
    return ash_exec_spawn(exec, task_counts, NULL);
}

static void task_waits(void *txn)
{
    if (ash_txn_wait(txn, -1) == 0)
        ash_txn_end(txn);
}

static void test_tasks_wait(unsigned workers)
{
    enum { MANY = 400 };
    struct ash_exec *e = ash_exec_create(workers, NULL);
    struct ash_txnmgr *m = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.way = ASH_TXN_PARALLEL));
    struct ash_txn *t[MANY];
    int wrong = 0;
    ran = 0;
    for (unsigned i = 0; i < MANY; i++) {
        uint64_t key = i % 50;
        t[i] = ash_txn_begin(m);
        wrong += ash_txn_writes(t[i], &key, 1) != 0 || ash_txn_submit(t[i], body_spawns, e) != 0;
        if (i < workers)
            wrong += ash_exec_spawn(e, task_waits, t[i]) != 0;
    }
    for (unsigned i = workers; i < MANY; i++) {
        wrong += ash_txn_wait(t[i], -1) != 0 || ash_txn_status(t[i]) != 0;
        ash_txn_end(t[i]);
    }
    ash_exec_drain(e);
    ok(wrong == 0, "%u workers wait for transactions: those are run all the same", workers);
    is_int((int)ran, MANY, "and what their bodies have spawned");
    is_int(ash_txnmgr_destroy(m), 0, "the end");
    ash_exec_destroy(e);
}

/* ---- hooks, and bodies that are under way ---- */

enum { HOOKED = 512 };

static _Atomic(unsigned) inside, met;
static unsigned hooks, told[HOOKED];

static void hook(struct ash_txn *txn, void *arg)
{
    (void)txn;
    met += inside != 0;
    told[hooks++] = *(unsigned *)arg;
}

static int body_hooked(struct ash_txn *txn, void *arg)
{
    volatile uint64_t x = 0;
    inside++;
    for (uint64_t i = 0; i < 200; i++)
        x = mix(x, i);
    if (*(unsigned *)arg % 8 == 0)
        ash_txn_on_commit(txn, hook, arg);
    inside--;
    return 0;
}

/* Every eighth has one: all of its step have run then, whoever else comes out before that. */
static void test_hooks_alone(unsigned workers, unsigned most)
{
    static unsigned number[HOOKED];
    struct ash_exec *e = ash_exec_create(workers, NULL);
    struct ash_txnmgr *m = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.way = ASH_TXN_PARALLEL));
    struct ash_txn *done[64];
    unsigned submitted = 0, ended = 0, wrong = 0;
    hooks = 0;
    met = 0;
    while (ended < HOOKED) {
        for (unsigned i = 0; i < 100 && submitted < HOOKED; i++) {
            struct ash_txn *t = ash_txn_begin(m);
            uint64_t key = submitted % 37;
            number[submitted] = submitted;
            ash_txn_writes(t, &key, 1);
            wrong += ash_txn_submit(t, body_hooked, &number[submitted++]) != 0;
        }
        unsigned n = ash_txn_poll_batch(m, done, most);
        for (unsigned i = 0; i < n; i++, ended++) {
            wrong += *(unsigned *)ash_txn_arg(done[i]) != ended || hooks < ended / 8 + 1;
            ash_txn_end(done[i]);
        }
    }
    for (unsigned i = 0; i < hooks; i++)
        wrong += told[i] != 8 * i;
    ok(met == 0, "%u workers: no body runs while a hook does", workers);
    ok(wrong == 0 && hooks == HOOKED / 8, "hooks in order, each before its transaction comes out, %u at a time", most);
    ash_txnmgr_destroy(m);
    ash_exec_destroy(e);
}

/* ---- before anyone polls ---- */

static _Atomic(unsigned) begun;

static int body_begins(struct ash_txn *txn, void *arg)
{
    (void)txn;
    (void)arg;
    begun++;
    return 0;
}

/* A poll has seen that others are to run them: from then on submissions hand them out. */
static void test_handed_out(void)
{
    struct ash_exec *e = ash_exec_create(1, NULL);
    struct ash_txnmgr *m = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.way = ASH_TXN_PARALLEL, .limit = 512));
    struct ash_txn *done[512], *t;
    ash_txn_submit(ash_txn_begin(m), body_begins, NULL);
    is_int((int)ash_txn_poll_batch(m, done, 512), 1, "one");
    ash_txn_end(done[0]);
    while ((t = ash_txn_begin(m)) != NULL)
        ash_txn_submit(t, body_begins, NULL);
    for (int i = 0; i < 10000 && begun < 2; i++)
        usleep(1000);
    ok(begun >= 2, "the executor runs what was submitted while nobody polls: %u of 512", begun - 1);
    is_int(ash_txnmgr_destroy(m), -EBUSY, "they are under way");
    is_int((int)ash_txn_poll_batch(m, done, 512), 512, "and come out all at once");
    is_int((int)begun, 513, "each was run once");
    for (int i = 0; i < 512; i++)
        ash_txn_end(done[i]);
    is_int(ash_txnmgr_destroy(m), 0, "the end");
    ash_exec_destroy(e);
}

int main(void)
{
    test_serial_order(ASH_TXN_SERIAL, 1, false);
    test_serial_order(ASH_TXN_ADAPTIVE, 2, false);
    test_serial_order(ASH_TXN_PARALLEL, 1, false);
    test_serial_order(ASH_TXN_PARALLEL, 4, false);
    test_serial_order(ASH_TXN_PARALLEL, 0, false);
    test_serial_order(ASH_TXN_SERIAL, 1, true);
    test_serial_order(ASH_TXN_PARALLEL, 3, true);
    test_tasks_poll(1);
    test_tasks_poll(3);
    test_executor_canceled(false);
    test_executor_canceled(true);
    test_undo_functions();
    test_managers(0, ASH_TXN_SERIAL);
    test_managers(2, ASH_TXN_PARALLEL);
    test_managers_meet(1);
    test_managers_meet(3);
    test_tasks_wait(1);
    test_tasks_wait(4);
    test_hooks_alone(1, 64);
    test_hooks_alone(3, 5);
    test_handed_out();
    return tap_done();
}
