/*
 * Scenarios of the dispatcher (txn/dispatch): it hands transactions to a worker, which steals them, and takes them
 * back. Bodies write to a plain word, so those of one key that are not one behind the other are a data race.
 */
#include "scenario.h"

#include "ashlar/arena.h"
#include "ashlar/malloc.h"
#include "txn/dispatch.h"

enum { TXNS = 2 };

static struct ash_exec exec;
static struct worker place[1 + EXEC_GUESTS];
static struct park_slot slots[2];
static struct dispatch dispatch;
static struct {
    _Alignas(64) struct dispatch_txn txn;
    struct sched_request room[1];
} txns[TXNS];
static const uint64_t keys[TXNS] = {1, 2};
static unsigned word[TXNS];  /* plain: written by the body of the transaction, or of both */
static unsigned next_number; /* of those that want the same key: the one that comes next */

/* What sched and dispatch have of arenas: one that is empty, so that all comes the slow way. */
static struct ash_arena arena;

struct ash_arena *ash_arena_create(struct ash_arena *parent, const char *name, const struct ash_arena_config *config)
{
    (void)parent, (void)name, (void)config;
    return &arena;
}

void ash_arena_destroy(struct ash_arena *a)
{
    (void)a;
}

void *ash_arena_alloc_slow(struct ash_arena *a, size_t n)
{
    (void)a;
    return ash_malloc(n);
}

void *ash_arena_aligned(struct ash_arena *a, size_t align, size_t n)
{
    (void)a;
    return ash_aligned_alloc(align, n);
}

/* ---- transactions ---- */

static unsigned number_of(const struct dispatch_txn *t)
{
    return t == &txns[0].txn ? 0 : 1;
}

static void body_apart(struct dispatch_txn *t)
{
    word[number_of(t)]++;
}

static void body_shared(struct dispatch_txn *t)
{
    model_require(number_of(t) == next_number, "one has overtaken another");
    next_number++;
    word[number_of(t)]++;
}

static void make(void (*body)(struct dispatch_txn *t), bool shared)
{
    scenario_boot();
    scenario_exec(&exec, place, slots, 1);
    store_relaxed(&exec.parking.searching, 1); /* the worker: nobody is to be woken */
    model_require(deque_grow(&place[1].deque), "no memory");
    model_require(dispatch_init(&dispatch, &exec, (struct dispatch_calls){.body = body}) == 0, "no memory");
    dispatch_force(&dispatch, DISPATCH_PARALLEL);
    for (unsigned i = 0; i < TXNS; i++) {
        txns[i].txn.writes = &keys[shared ? 0 : i];
        txns[i].txn.write_count = 1;
        txns[i].txn.sched.request = txns[i].room;
    }
    model_name(&dispatch.done, "done");
    model_name(&dispatch.event, "event");
    model_name(&exec.parking.searching, "searching");
}

static void apart(void)
{
    make(body_apart, false);
}

static void shared(void)
{
    make(body_shared, true);
}

/* ---- threads ---- */

static struct dispatch_txn *const list[TXNS] = {&txns[0].txn, &txns[1].txn};

/* The first `want` of `n`; in the list's own order those behind may be done as well. */
static size_t run_front(unsigned n, unsigned want)
{
    size_t done = 0;
    model_require(dispatch_run(&dispatch, list, n, want, &done) == 0 && done >= want && done <= n,
                  "%zu of %u have been run", done, want);
    for (unsigned i = 0; i < done; i++)
        model_require(word[i] == 1, "transaction %u was run %u times", i, word[i]);
    return done;
}

static void run(unsigned n)
{
    run_front(n, n);
    word[0] = word[1] = 2; /* all are done */
}

static void run_1(void)
{
    run(1);
}

static void run_2(void)
{
    run(2);
}

/* What is done of the front is the program's again, while the other may be under way. */
static void run_1_then_2(void)
{
    size_t done = run_front(2, 1);
    for (unsigned i = 0; i < done; i++)
        word[i] = 2;
    if (done == 2)
        return; /* the list is over */
    size_t all = 0;
    model_require(dispatch_run(&dispatch, list, 2, 2, &all) == 0 && all == 2, "the rest has not been run");
    model_require(word[1] == 1, "transaction 1 was run %u times", word[1]);
    word[1] = 2;
}

/* The list grows after some of it was handed out. */
static void more_1_run_2(void)
{
    dispatch_more(&dispatch, list, 1);
    run(2);
}

static void more_2_run_2(void)
{
    dispatch_more(&dispatch, list, 2);
    run(2);
}

/* A worker's look, and what it finds. */
static void help_1(void)
{
    exec_self = &place[0];
    exec_help(&place[0]);
}

static void help_2(void)
{
    help_1();
    help_1();
}

static void check_done(void)
{
    model_require(dispatch.in_flight == 0 && dispatch.outstanding == 0, "%u are in flight", dispatch.in_flight);
    model_require(load_relaxed(&dispatch.done) == NULL, "a batch was left");
    model_require(load_relaxed(&place[1].taken) == 0, "the dispatcher is in its place still");
}

const struct scenario dispatch_scenarios[] = {
    {.name = "dispatch-one",
     .invariant = "the one transaction is stolen, or not, while the dispatcher begins to sleep",
     .setup = apart,
     .thread = {run_1, help_1},
     .check = check_done},
    {.name = "dispatch-two",
     .invariant = "two transactions of two keys: the dispatcher and a worker run them",
     .setup = apart,
     .thread = {run_2, help_1},
     .check = check_done,
     .full_only = true},
    {.name = "dispatch-shared",
     .invariant = "two transactions of one key: one behind the other, whoever runs them",
     .setup = shared,
     .thread = {run_2, help_2},
     .check = check_done,
     .full_only = true},
    {.name = "dispatch-front",
     .invariant = "the front of a list is done and the program's again while what is behind it is under way",
     .setup = apart,
     .thread = {run_1_then_2, help_1},
     .check = check_done,
     .full_only = true},
    {.name = "dispatch-more",
     .invariant = "one is handed out, and taken by a worker or not, before the list grows and is run",
     .setup = apart,
     .thread = {more_1_run_2, help_1},
     .check = check_done,
     .full_only = true},
    {.name = "dispatch-more-shared",
     .invariant = "two of one key are handed out before they are run: one behind the other",
     .setup = shared,
     .thread = {more_2_run_2, help_2},
     .check = check_done,
     .full_only = true},
    {.name = NULL},
};
