/*
 * Scenarios of a manager of transactions (txn/txn, txn/txnmgr) with the parts it stands on: ring, gate, drive,
 * dispatcher. A body writes to a plain word, which whoever has its transaction back reads and writes; records that end
 * are written to, so one that the driver still looks at is a data race.
 */
#include "scenario.h"

#include "pool/ring.h"
#include "txn/gate.h"
#include "txn/txn.h"

enum { TXNS = 2, HAND_OUT = 16 /* submissions: see HAND_OUT_EVERY */ };

static struct ash_txnmgr mgr;
static struct ash_ring ring;
static struct ring_cell cells[TXNS];
static struct ash_exec exec;
static struct worker place[1 + EXEC_GUESTS];
static struct park_slot slots[2];
static struct ash_txn *txns[TXNS];
static unsigned word[TXNS];      /* plain: 1 when submitted, 2 when its body has run, 3 when it was had back */
static unsigned next_number;     /* plain, where both want one key: the transaction that comes next */
static unsigned had[THREADS + 1]; /* how many transactions the thread has had back; the last: in the end */
static const uint64_t key = 7;

/* ---- what managers have of other modules ---- */

unsigned times_bucket(uint64_t ns)
{
    (void)ns;
    return 0;
}

int txnmgr_dispatch_init(struct ash_txnmgr *m)
{
    return dispatch_init(&m->dispatch, m->exec, (struct dispatch_calls){.body = txn_run});
}

void txnmgr_dispatch_way(struct ash_txnmgr *m)
{
    dispatch_force(&m->dispatch, m->exec == NULL ? DISPATCH_SERIAL : DISPATCH_PARALLEL);
}

static _Noreturn void not_remembered(void)
{
    model_fail("a transaction that has nothing to remember");
}

void txn_log_undo(struct ash_txn *t)
{
    (void)t;
    not_remembered();
}

void txn_log_hooks(struct ash_txn *t, enum txn_kind kind)
{
    (void)t, (void)kind;
    not_remembered();
}

void txn_log_drop(struct ash_txn *t)
{
    (void)t;
    not_remembered();
}

void txnmem_clear(struct txnmem *m, const struct txnmem_rule *rule)
{
    (void)m, (void)rule;
    not_remembered();
}

void *txnmem_alloc_slow(struct txnmem *m, const struct txnmem_rule *rule, size_t n)
{
    (void)m, (void)rule, (void)n;
    not_remembered();
}

/* ---- the beginning ---- */

static int body(struct ash_txn *t, void *arg)
{
    unsigned *w = arg;
    model_require(*w == 1, "a body runs before its transaction was submitted, or twice");
    *w = 2;
    if (t->run.write_count != 0)
        model_require(w - word == next_number++, "one has overtaken another");
    return 0;
}

static void make(struct ash_exec *e)
{
    scenario_boot();
    if (e != NULL)
        scenario_exec(e, place, slots, 1);
    (void)tally_line();
    model_own(&txn_self);
    model_own(&txn_driven);
    ring_init(&ring, 1, ASH_MPSC, cells);
    mgr.config.keys = mgr.key_own = TXN_KEYS;
    mgr.exec = e;
    mgr.scheduled = e != NULL;
    mgr.record_bytes = sizeof(struct ash_txn) + key_block_bytes(&mgr, TXN_KEYS);
    mgr.records = scenario_pool(mgr.record_bytes);
    mgr.queue = &ring;
    mgr.gate = ash_gate_create("txns", ASH_GATE_CONFIG(.limit = TXNS));
    model_require(mgr.gate != NULL && txnmgr_dispatch_init(&mgr) == 0, "no memory");
    txnmgr_dispatch_way(&mgr);
    for (unsigned i = 0; i < TXNS; i++) {
        model_require((txns[i] = ash_txn_begin(&mgr)) != NULL, "no transaction");
        txns[i]->mgr = &mgr;
        key_block_use(txns[i], txns[i]->key, TXN_KEYS);
    }
    model_name(&ring.tail, "tail");
    model_name(&ring.head, "head");
    model_name(&mgr.drive.driving, "driving");
    model_name(&mgr.drive.sleepers, "sleepers");
    model_name(&mgr.drive.event, "drive.event");
    model_name(&mgr.lock.word, "lock");
    model_name(&txns[0]->state, "state 0");
    model_name(&txns[1]->state, "state 1");
}

static void submit(unsigned i)
{
    word[i] = 1;
    model_require(ash_txn_submit(txns[i], body, &word[i]) == 0, "no room");
}

static void serial(void)
{
    make(NULL);
}

static void serial_one(void)
{
    serial();
    submit(0);
}

static void serial_two(void)
{
    serial();
    submit(0);
    submit(1);
}

/* Others run them, and the next submission hands out. */
static void eager(void)
{
    make(&exec);
    store_relaxed(&exec.parking.searching, 1); /* the worker: nobody is to be woken */
    model_require(deque_grow(&place[1].deque), "no memory");
    store_relaxed(&mgr.eager, 1);
    for (unsigned i = 1; i < HAND_OUT; i++)
        txnmgr_hand_out(&mgr);
    model_name(&mgr.eager, "eager");
    model_name(&mgr.dispatch.done, "done");
    model_name(&mgr.dispatch.event, "event");
}

static void eager_shared(void)
{
    eager();
    for (unsigned i = 0; i < TXNS; i++)
        model_require(ash_txn_writes(txns[i], &key, 1) == 0, "no room");
    store_relaxed(&mgr.eager, 0);
    submit(0); /* it is not counted */
    store_relaxed(&mgr.eager, 1);
}

/* ---- threads ---- */

/* It is the caller's: all that its body wrote is seen. */
static void take(struct ash_txn *t)
{
    model_require(ash_txn_status(t) == 0, "it is not done");
    unsigned *w = ash_txn_arg(t);
    model_require(*w == 2, "it is done, and its body has not run, or it was had before");
    *w = 3;
    ash_txn_end(t);
    had[model_self() < 0 ? THREADS : model_self()]++;
}

static void wait_for(unsigned i)
{
    model_require(ash_txn_wait(txns[i], -1) == 0, "a wait for ever has ended");
    take(txns[i]);
}

static void submit_wait(void)
{
    submit((unsigned)model_self());
    wait_for((unsigned)model_self());
}

static void submit_0(void)
{
    submit(0);
}

static void submit_1(void)
{
    submit(1);
}

static void wait_0(void)
{
    wait_for(0);
}

/* Drives once; whoever waits has it all the same. */
static void poll_once(void)
{
    struct ash_txn *out[TXNS];
    ash_txn_poll_batch(&mgr, out, TXNS);
}

/* Nobody else polls: it is this thread's as soon as it is done. */
static void look_0(void)
{
    if (ash_txn_status(txns[0]) == 0)
        take(txns[0]);
}

static void wait_1(void)
{
    wait_for(1);
}

static void poll_until_1(void)
{
    struct ash_txn *out[1];
    model_require(ash_txn_poll_wait(&mgr, out, 1, -1) == 1, "a wait for ever has ended");
    take(out[0]);
}

static void poll_until_2(void)
{
    poll_until_1();
    poll_until_1();
}

/* A worker's look. */
static void help(void)
{
    exec_self = &place[0];
    exec_help(&place[0]);
}

/* ---- the end ---- */

static void check_had(unsigned n)
{
    unsigned all = 0;
    for (int k = 0; k <= THREADS; k++)
        all += had[k];
    struct ash_gate_stats gate;
    ash_gate_stats(mgr.gate, &gate);
    model_require(all == n && gate.inside == TXNS - n, "%u were had back, and %lu are inside", all,
                  (unsigned long)gate.inside);
    model_require(load_relaxed(&mgr.drive.driving) == 0 && load_relaxed(&mgr.drive.sleepers) == 0, "somebody is left");
    model_require(mgr.done_first == NULL && mgr.done_last == NULL, "one is left in the list");
    model_require(mgr.step_count == 0 && mgr.dispatch.in_flight == 0, "a step is left");
}

static void check_1(void)
{
    check_had(1);
}

static void check_2(void)
{
    check_had(2);
}

/* What was looked at too early is in the list. */
static void check_looked(void)
{
    struct ash_txn *out[TXNS];
    unsigned n = ash_txn_poll_batch(&mgr, out, TXNS);
    for (unsigned i = 0; i < n; i++)
        take(out[i]);
    check_2();
}

const struct scenario txnmgr_scenarios[] = {
    {.name = "txn-status",
     .invariant = "one looks whether it is done, and ends it, while another runs it and waits for the next",
     .setup = serial_two,
     .thread = {look_0, wait_1},
     .check = check_looked},
    {.name = "txn-wait",
     .invariant = "two submit and wait: one drives, and each has its own back, whole",
     .setup = serial,
     .thread = {submit_wait, submit_wait},
     .check = check_2,
     .full_only = true,
     .most = 200000},
    {.name = "txn-wait-poll",
     .invariant = "one is waited for while another drives: whether it is listed or awaited first, who waits has it",
     .setup = serial_one,
     .thread = {wait_0, poll_once},
     .check = check_1,
     .full_only = true},
    {.name = "txn-poll-submit",
     .invariant = "one polls and sleeps while another submits: it is woken, and sees all",
     .setup = serial,
     .thread = {poll_until_1, submit_1},
     .check = check_1},
    {.name = "txn-poll-two",
     .invariant = "two poll for what one of them runs: each has one",
     .setup = serial_two,
     .thread = {poll_until_1, poll_until_1},
     .check = check_2,
     .full_only = true,
     .most = 200000},
    {.name = "txn-eager",
     .invariant = "a submission hands out to a worker while another waits for it",
     .setup = eager,
     .thread = {submit_0, poll_until_1, help},
     .check = check_1,
     .full_only = true},
    {.name = "txn-eager-drive",
     .invariant = "a submission hands out while another drives, or before it does",
     .setup = eager,
     .thread = {submit_0, poll_until_1},
     .check = check_1},
    {.name = "txn-eager-shared",
     .invariant = "two of one key, the second handed out with the first while that is waited for: one behind the other",
     .setup = eager_shared,
     .thread = {submit_1, poll_until_2},
     .check = check_2,
     .full_only = true},
    {.name = NULL},
};
