#include "txn/dispatch.h"

#include "base/relax.h"
#include "os/os_clock.h"
#include "os/os_wait.h"

#include <errno.h>
#include <string.h>

/* Looks at `done` before sleeping. The model has fewer. */
#ifndef DISPATCH_SPINS
#define DISPATCH_SPINS 2000
#endif

enum {
    WINDOW = 1024,
    BATCH_NS = 4000,
    BODY_LEAST = 150,   /* ns: below, the dispatcher's own work is as long as a body */
    SLICE_SERIAL = 512, /* transactions that are timed together */
    SLICE_LEAST = 64,   /* fewer are not: the clock would take longer than they do */
    SLICE_PARALLEL = 8192,
    SLICE_TRIAL = 1024,
    PROBE = 64,
    PROBE_READY = 8,
    TRIAL_SOON = 8, /* slices */
    TRIAL_LATE = 4096,
    LOOK_AGAIN = 64, /* slices of PARALLEL until one of SERIAL */
    SCHEDULE_AT_ONCE = 32,
};

int dispatch_init(struct dispatch *d, struct ash_exec *exec)
{
    memset(d, 0, sizeof *d);
    d->exec = exec;
    group_keep(&d->group);
    d->batch_size = 1;
    d->until_trial = 1;
    d->trial_again = TRIAL_SOON;
    return sched_init(&d->sched);
}

void dispatch_fini(struct dispatch *d)
{
    sched_fini(&d->sched);
}

void dispatch_force(struct dispatch *d, enum dispatch_way way)
{
    d->forced = way != DISPATCH_WAYS;
    if (d->forced)
        d->way = way;
}

/* ---- batches ---- */

/* Memory for one transaction more: its keys' records, and a batch for it alone. */
static bool reserve(struct dispatch *d, unsigned keys)
{
    if (ASH_UNLIKELY(d->batches < d->in_flight + 2)) {
        struct batch *b = ash_arena_aligned(d->sched.arena, ASH_CACHE_LINE, sizeof *b);
        if (b == NULL)
            return false;
        b->dispatch = d;
        b->next = d->free;
        d->free = b;
        d->batches++;
    }
    return sched_reserve(&d->sched, keys);
}

static void batch_run(void *arg)
{
    struct batch *b = arg;
    struct dispatch *d = b->dispatch;
    for (unsigned i = 0; i < b->count; i++)
        b->txn[i]->body(b->txn[i]);
    b->next = load_relaxed(&d->done);
    while (!cas_release(&d->done, &b->next, b)) /* what the bodies wrote; pairs with batches_take */
        ;
}

/* A task of the executor. The dispatcher is there until its group is joined. */
static void batch_run_elsewhere(void *arg)
{
    struct dispatch *d = ((struct batch *)arg)->dispatch;
    batch_run(arg);
    fence_seq_cst(); /* it is in `done`; pairs with batches_wait */
    if (load_relaxed(&d->waiting) != 0) {
        add_release(&d->event, 1); /* pairs with batches_wait */
        os_wake(&d->event, 1);
    }
}

static void batch_flush(struct dispatch *d)
{
    struct batch *b = d->open;
    d->open = NULL;
    d->outstanding++;
    if (ash_exec_spawn_in(d->exec, &d->group, batch_run_elsewhere, b) != 0)
        batch_run(b);
}

static void batch_add(struct dispatch *d, struct dispatch_txn *t)
{
    if (d->open == NULL) {
        d->open = d->free;
        d->free = d->open->next;
        d->open->count = 0;
    }
    d->open->txn[d->open->count++] = t;
    if (d->open->count >= d->batch_size)
        batch_flush(d);
}

static struct dispatch_txn *txn_of(struct sched_txn *t)
{
    return (struct dispatch_txn *)(void *)((char *)t - offsetof(struct dispatch_txn, sched));
}

/* Releases the keys of what has been run; what is ready then goes into batches. */
static void batches_take(struct dispatch *d)
{
    /* acquire: what the bodies wrote; pairs with batch_run */
    struct batch *b = exchange_acquire(&d->done, NULL), *next;
    struct sched_txn *ready = NULL, **last = &ready;
    for (; b != NULL; b = next) {
        next = b->next;
        for (unsigned i = 0; i < b->count; i++)
            sched_release(&d->sched, &b->txn[i]->sched, &last);
        d->in_flight -= b->count;
        d->outstanding--;
        b->next = d->free;
        d->free = b;
    }
    for (struct sched_txn *t = ready, *after; t != NULL; t = after) {
        after = t->next_ready; /* it may run, and be another's, as soon as it is in a batch */
        batch_add(d, txn_of(t));
    }
}

/* All that is in flight is with others. */
static void batches_wait(struct dispatch *d)
{
    for (unsigned i = 0; i < DISPATCH_SPINS; i++) {
        if (load_relaxed(&d->done) != NULL)
            return;
        relax();
    }
    uint32_t event = load_acquire(&d->event); /* pairs with batch_run_elsewhere */
    store_relaxed(&d->waiting, 1);
    fence_seq_cst(); /* it says so; pairs with batch_run_elsewhere */
    if (load_relaxed(&d->done) == NULL)
        os_wait(&d->event, event, -1);
    store_relaxed(&d->waiting, 0);
}

/* ---- the two ways ---- */

static void run_serial(struct dispatch *d, struct dispatch_txn *const *txns, size_t n)
{
    for (size_t i = 0; i < n; i++)
        txns[i]->body(txns[i]);
    d->count[DISPATCH_SERIAL] += n;
}

/* Gives some of them their places: how many, fewer when there is no memory. */
static size_t schedule(struct dispatch *d, struct dispatch_txn *const *txns, size_t n)
{
    size_t i = 0;
    for (; i < n && d->in_flight < WINDOW; i++) {
        struct dispatch_txn *t = txns[i];
        if (!reserve(d, t->write_count + t->read_count))
            break;
        d->in_flight++;
        if (sched_add(&d->sched, &t->sched, t->writes, t->write_count, t->reads, t->read_count))
            batch_add(d, t);
    }
    return i;
}

/*
 * Runs all it can give a place to, and returns how many; fewer than n for want of memory. It owns
 * the place `w` of the executor; NULL: it only hands out.
 */
static size_t run_parallel(struct dispatch *d, struct worker *w, struct dispatch_txn *const *txns,
                           size_t n)
{
    size_t i = d->started;
    unsigned workers = d->exec->workers, enough = 2 * workers + 1;
    bool memory = true;
    while ((memory && i < n) || d->in_flight != 0) {
        bool more = memory && i < n && d->in_flight < WINDOW;
        if (load_relaxed(&d->done) != NULL)
            batches_take(d);
        if (more && d->outstanding < enough) {
            size_t count = schedule(d, txns + i, size_min(SCHEDULE_AT_ONCE, n - i));
            memory = count != 0;
            i += count;
        } else if (d->open != NULL && d->outstanding < workers) {
            batch_flush(d);
        } else if (w == NULL || !exec_help_with(w, batch_run_elsewhere)) {
            if (d->open != NULL)
                batch_flush(d);
            else if (more)
                enough += workers + 1;
            else if (d->in_flight != 0)
                batches_wait(d);
        }
    }
    group_settle(&d->group);
    d->count[DISPATCH_PARALLEL] += i;
    d->started = 0;
    return i;
}

/* ---- deciding ---- */

/*
 * Whether the first of them get in each other's way little enough: they are scheduled, and run here
 * in the order of a list of ready ones, which is as good as any. `*n` is how many that were.
 */
static bool probe(struct dispatch *d, struct dispatch_txn *const *txns, size_t *n)
{
    struct sched_txn *ready = NULL, **last = &ready;
    size_t i = 0, at_once = 0;
    for (; i < *n && i < PROBE; i++) {
        struct dispatch_txn *t = txns[i];
        if (!sched_reserve(&d->sched, t->write_count + t->read_count))
            break;
        if (sched_add(&d->sched, &t->sched, t->writes, t->write_count, t->reads, t->read_count)) {
            at_once++;
            t->sched.next_ready = NULL;
            *last = &t->sched;
            last = &t->sched.next_ready;
        }
    }
    for (struct sched_txn *t = ready; t != NULL; t = t->next_ready) {
        txn_of(t)->body(txn_of(t));
        sched_release(&d->sched, t, &last);
    }
    *n = i;
    return at_once * PROBE_READY > i;
}

/* The mean of what was measured, the later the more. */
static void measured(double *mean, double ns)
{
    *mean = *mean == 0 ? ns : *mean + (ns - *mean) / 4;
}

static void trial_failed(struct dispatch *d)
{
    d->tried_ns = d->ns[DISPATCH_SERIAL];
    d->until_trial = d->trial_again;
    d->trial_again = d->trial_again < TRIAL_LATE ? 2 * d->trial_again : TRIAL_LATE;
}

/* After a slice of SERIAL: whether it is time to try the other way. */
static bool trial_due(struct dispatch *d)
{
    double ns = d->ns[DISPATCH_SERIAL];
    if (ns > 1.5 * d->tried_ns || ns < d->tried_ns / 1.5) {
        d->trial_again = TRIAL_SOON;
        d->until_trial = d->until_trial < TRIAL_SOON ? d->until_trial : TRIAL_SOON;
    }
    if (ns < BODY_LEAST || d->exec == NULL || d->exec->workers == 0)
        return false;
    return d->until_trial == 0 || --d->until_trial == 0;
}

/* In PARALLEL: whether SERIAL may be faster now. */
static bool serial_due(const struct dispatch *d)
{
    return !d->forced && (d->until_trial == 0 || d->ns[DISPATCH_PARALLEL] > d->ns[DISPATCH_SERIAL]);
}

static size_t slice_run(struct dispatch *d, struct worker *w, enum dispatch_way way,
                        struct dispatch_txn *const *txns, size_t n, bool fresh)
{
    uint64_t begin = os_clock_ns() - d->started_ns;
    d->started_ns = 0;
    if (way == DISPATCH_SERIAL)
        run_serial(d, txns, n);
    else
        n = run_parallel(d, w, txns, n);
    if (n != 0) {
        double ns = (double)(os_clock_ns() - begin) / (double)n;
        if (fresh)
            d->ns[way] = ns;
        else
            measured(&d->ns[way], ns);
    }
    return n;
}

/* A slice in the present way, or a trial of the other: how many it has run. */
static size_t slice(struct dispatch *d, struct worker *w, struct dispatch_txn *const *txns,
                    size_t n)
{
    double serial = d->ns[DISPATCH_SERIAL];
    size_t ran;
    if (d->started != 0) {
        d->until_trial -= d->until_trial != 0;
        return slice_run(d, w, DISPATCH_PARALLEL, txns, n, false);
    }
    if (d->forced || w == NULL)
        return slice_run(d, w, w == NULL ? DISPATCH_SERIAL : d->way, txns, n, false);
    if (d->way == DISPATCH_SERIAL) {
        ran = size_min(n, SLICE_SERIAL);
        if (n < SLICE_TRIAL || serial == 0 || !trial_due(d))
            return slice_run(d, w, DISPATCH_SERIAL, txns, ran, false);
        d->trials++;
        ran = n;
        if (!probe(d, txns, &ran)) {
            trial_failed(d);
            d->count[DISPATCH_SERIAL] += ran;
            return ran;
        }
        d->batch_size =
            (unsigned)size_max(1, size_min(DISPATCH_BATCH, (size_t)(BATCH_NS / serial)));
        n = size_min(n - ran, SLICE_TRIAL);
        ran += slice_run(d, w, DISPATCH_PARALLEL, txns + ran, n, true);
        if (d->ns[DISPATCH_PARALLEL] < 0.95 * serial) {
            d->way = DISPATCH_PARALLEL;
            d->changes++;
            d->trial_again = TRIAL_SOON;
            d->until_trial = LOOK_AGAIN;
        } else {
            trial_failed(d);
        }
        return ran;
    }
    if (serial_due(d)) {
        ran = slice_run(d, w, DISPATCH_SERIAL, txns, size_min(n, SLICE_SERIAL / 4), true);
        d->until_trial = LOOK_AGAIN;
        if (d->ns[DISPATCH_PARALLEL] > 0.95 * d->ns[DISPATCH_SERIAL]) {
            d->way = DISPATCH_SERIAL;
            d->changes++;
            trial_failed(d);
        }
        return ran;
    }
    d->until_trial--;
    return slice_run(d, w, DISPATCH_PARALLEL, txns, size_min(n, SLICE_PARALLEL), false);
}

bool dispatch_start(struct dispatch *d, struct dispatch_txn *const *txns, size_t n)
{
    struct worker *w = NULL;
    if (d->way != DISPATCH_PARALLEL || d->exec == NULL || d->exec->workers == 0 || serial_due(d))
        return false;
    uint64_t begin = os_clock_ns();
    bool entered = exec_guest_enter(d->exec, &w);
    d->started = schedule(d, txns, n);
    if (d->open != NULL)
        batch_flush(d);
    if (entered)
        exec_guest_leave(w);
    d->started_ns = os_clock_ns() - begin;
    return d->started != 0;
}

int dispatch_run(struct dispatch *d, struct dispatch_txn *const *txns, size_t n, size_t *done)
{
    struct worker *w = NULL;
    size_t at = 0, ran = 1;
    if (n < SLICE_LEAST && d->way == DISPATCH_SERIAL) {
        run_serial(d, txns, n);
        at = n;
    }
    bool entered = at < n && d->exec != NULL && exec_guest_enter(d->exec, &w);
    while (at < n && ran != 0)
        at += ran = slice(d, w, txns + at, n - at);
    if (entered)
        exec_guest_leave(w);
    if (done != NULL)
        *done = at;
    return at == n ? 0 : -ENOMEM;
}
