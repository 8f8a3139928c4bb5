#include "txn/dispatch.h"

#include "base/relax.h"
#include "os/check.h"
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
    BATCH_NS = 16000,
    SHARES = 4, /* batches that what is left makes for each thread, if those are not small */
    SMALL = 2,  /* times as many bodies has a full one as a small one */
    AHEAD = 4,  /* batches that are handed out, beside two for each of the executor's threads */
    BODY_LEAST = 150,   /* ns: below, the dispatcher's own work is as long as a body */
    SLICE_SERIAL = 512, /* transactions that are timed together */
    SLICE_LEAST = 16,   /* fewer are not: the clock would take longer than they do */
    SLICE_PARALLEL = 2048,
    SLICE_WARM = 512,
    SLICE_TRIAL = 1024,
    SLICE_LOOK = 128,
    PROBE = 64,
    PROBE_READY = 8,
    TRIAL_SOON = 8, /* slices */
    TRIAL_LATE = 256,
    LOOK_AGAIN = 256, /* slices of PARALLEL until one of SERIAL */
    SCHEDULE_AT_ONCE = 16,
    FETCH = 4, /* transactions ahead: whoever submitted them may be another thread */
};

int dispatch_init(struct dispatch *d, struct ash_exec *exec, struct dispatch_calls calls)
{
    memset(d, 0, sizeof *d);
    d->exec = exec;
    d->calls = calls;
    d->batch_size = 1;
    d->slice = SLICE_SERIAL;
    d->until_trial = 1;
    d->trial_again = TRIAL_SOON;
    return sched_init(&d->sched);
}

void dispatch_fini(struct dispatch *d)
{
    sched_fini(&d->sched);
}

static void slice_begin(struct dispatch *d, enum dispatch_way way, enum dispatch_phase phase,
                        unsigned slice)
{
    d->way = way;
    d->phase = phase;
    d->slice = slice;
    d->slice_count = 0;
    d->slice_ns = 0;
}

void dispatch_force(struct dispatch *d, enum dispatch_way way)
{
    d->forced = way != DISPATCH_WAYS;
    d->probing = false;
    if (!d->forced)
        way = d->phase == DISPATCH_KEEP ? d->way : DISPATCH_SERIAL;
    slice_begin(d, way, DISPATCH_KEEP, way == DISPATCH_SERIAL ? SLICE_SERIAL : SLICE_PARALLEL);
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

/* The first line of what its owner keeps behind it, which is where a body's call begins. */
ASH_INLINE void txn_fetch(const struct dispatch_txn *t)
{
    __builtin_prefetch((const char *)t + align_up(sizeof *t, ASH_CACHE_LINE));
}

/* In `done`: there is nothing, and the dispatcher waits for `event` to change. */
static struct batch *asleep(struct dispatch *d)
{
    return (struct batch *)(void *)d;
}

/*
 * A task of the executor. Once the batch is in `done` it touches the dispatcher no more, which may
 * end then; unless that is asleep, and waits for this.
 */
static void batch_run(void *arg)
{
    struct batch *b = arg;
    struct dispatch *d = b->dispatch;
    for (unsigned i = 1; i < b->count; i++)
        txn_fetch(b->txn[i]);
    for (unsigned i = 0; i < b->count; i++) {
        if (d->calls.fetch != NULL && i + 1 < b->count)
            d->calls.fetch(b->txn[i + 1]);
        d->calls.body(b->txn[i]);
    }
    struct batch *newest = load_relaxed(&d->done);
    do /* release: what the bodies wrote; pairs with batches_take */
        b->next = newest != asleep(d) ? newest : NULL;
    while (!cas_release(&d->done, &newest, b));
    if (ASH_LIKELY(newest != asleep(d)))
        return;
    add_relaxed(&d->event, 1); /* batches_take's exchange comes behind that of `done` in any case */
    os_wake(&d->event, 1);     /* by now the dispatcher may be gone: the futex is an address */
}

static void batch_flush(struct dispatch *d)
{
    struct batch *b = d->open;
    d->open = NULL;
    d->outstanding++;
    const struct task task = {batch_run, b, TASK_KEPT};
    if (ASH_UNLIKELY(exec_spawn_at(d->place, &task) != 0)) {
        b->next = d->refused;
        d->refused = b;
    }
}

static void batch_add(struct dispatch *d, struct dispatch_txn *t)
{
    if (d->open == NULL) {
        d->open = d->free;
        d->free = d->open->next;
        d->open->count = 0;
    }
    d->open->txn[d->open->count++] = t;
    if (d->open->count >= d->batch_fill)
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
            txn_fetch(b->txn[i]);
        for (unsigned i = 0; i < b->count; i++)
            sched_release(&d->sched, &b->txn[i]->sched, &last);
        d->in_flight -= b->count;
        d->count[DISPATCH_PARALLEL] += b->count;
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
    struct batch *none = NULL;
    uint32_t event = load_relaxed(&d->event);
    if (!cas_strong_relaxed(&d->done, &none, asleep(d)))
        return;
    while (load_relaxed(&d->event) == event) /* see batch_run */
        os_wait(&d->event, event, -1);
}

/* ---- the two ways ---- */

static void run_serial(struct dispatch *d, struct dispatch_txn *const *txns, size_t until)
{
    ASH_ASSERT(d->in_flight == 0 && d->given == d->ended);
    d->count[DISPATCH_SERIAL] += until - d->ended;
    for (size_t i = d->ended; i < until; i++) {
        if (i + 2 * FETCH < until)
            txn_fetch(txns[i + 2 * FETCH]);
        if (d->calls.fetch != NULL && i + FETCH < until)
            d->calls.fetch(txns[i + FETCH]);
        d->calls.body(txns[i]);
    }
    d->ended = d->given = until;
}

/* Gives places to `count` of them, fewer when there is no memory: whether any has one. */
static bool schedule(struct dispatch *d, struct dispatch_txn *const *txns, size_t count)
{
    size_t begin = d->given, end = begin + count;
    for (; d->given < end; d->given++) {
        struct dispatch_txn *t = txns[d->given];
        if (!reserve(d, t->write_count + t->read_count))
            break;
        d->in_flight++;
        if (sched_add(&d->sched, &t->sched, t->writes, t->write_count, t->reads, t->read_count))
            batch_add(d, t);
    }
    return d->given > begin;
}

/*
 * Takes back what is done, and hands out what is ready until `enough` batches are with others, or
 * none of the list are left.
 */
static void feed(struct dispatch *d, struct dispatch_txn *const *txns, size_t n, unsigned enough)
{
    size_t share = (n - d->ended) / (SHARES * (d->exec->workers + 1));
    d->batch_fill =
        (unsigned)size_min(d->batch_size, size_max(share, size_max(1, d->batch_size / SMALL)));
    do {
        if (load_relaxed(&d->done) != NULL)
            batches_take(d);
    } while (d->outstanding < enough && d->given < n && d->in_flight < WINDOW &&
             schedule(d, txns, size_min(SCHEDULE_AT_ONCE, n - d->given)));
    while (d->ended < d->given && txns[d->ended]->sched.serial == 0)
        d->ended++;
    if (d->open != NULL && d->outstanding < d->exec->workers)
        batch_flush(d);
}

static bool run_refused(struct dispatch *d)
{
    struct batch *b = d->refused;
    if (ASH_LIKELY(b == NULL))
        return false;
    d->refused = b->next;
    batch_run(b);
    return true;
}

/*
 * Until the first `until` are done; false when there is no memory for another one, and none is in
 * flight.
 */
static bool run_parallel(struct dispatch *d, struct dispatch_txn *const *txns, size_t n,
                         size_t until)
{
    unsigned workers = d->exec->workers, enough = 2 * workers + AHEAD;
    for (;;) {
        feed(d, txns, n, enough);
        if (d->ended >= until)
            return true;
        if (d->in_flight == 0)
            return false;
        if (run_refused(d) || exec_help_with(d->place, batch_run))
            continue;
        if (d->open != NULL)
            batch_flush(d);
        else if (d->given < n && d->in_flight < WINDOW)
            enough += workers + 1;
        else
            batches_wait(d);
    }
}

/* ---- deciding ---- */

/*
 * Whether the first of them get in each other's way little enough: they are scheduled, and run here
 * in the order of a list of ready ones, which is as good as any.
 */
static bool probe(struct dispatch *d, struct dispatch_txn *const *txns, size_t n)
{
    struct sched_txn *ready = NULL, **last = &ready;
    size_t begin = d->given, at_once = 0;
    for (; d->given < n; d->given++) {
        struct dispatch_txn *t = txns[d->given];
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
        d->calls.body(txn_of(t));
        sched_release(&d->sched, t, &last);
    }
    d->ended = d->given;
    d->count[DISPATCH_SERIAL] += d->given - begin;
    return at_once * PROBE_READY > d->given - begin;
}

/* As many as fill the time, by what one takes here alone, or else by what it takes with others. */
static void batch_fit(struct dispatch *d)
{
    double ns = d->ns[d->ns[DISPATCH_SERIAL] != 0 ? DISPATCH_SERIAL : DISPATCH_PARALLEL];
    size_t fill = (size_t)(BATCH_NS / (ns > 1 ? ns : 1));
    d->batch_size = (unsigned)size_max(1, size_min(DISPATCH_BATCH, fill));
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

static void trial_begin(struct dispatch *d, struct dispatch_txn *const *txns, size_t n)
{
    d->probing = false;
    d->trials++;
    if (probe(d, txns, size_min(n, d->given + PROBE))) {
        batch_fit(d);
        slice_begin(d, DISPATCH_PARALLEL, DISPATCH_WARM, SLICE_WARM);
    } else {
        trial_failed(d);
    }
}

/* The way that was tried, and the other one, are known: the faster one is kept. */
static void trial_end(struct dispatch *d)
{
    bool gain = d->ns[DISPATCH_PARALLEL] < 0.95 * d->ns[DISPATCH_SERIAL];
    d->changes += d->way == (gain ? DISPATCH_PARALLEL : DISPATCH_SERIAL);
    if (gain) {
        batch_fit(d);
        d->trial_again = TRIAL_SOON;
        d->until_trial = LOOK_AGAIN;
        slice_begin(d, DISPATCH_PARALLEL, DISPATCH_KEEP, SLICE_PARALLEL);
    } else {
        trial_failed(d);
        slice_begin(d, DISPATCH_SERIAL, DISPATCH_KEEP, SLICE_SERIAL);
    }
}

/* A slice of the present way is over. */
static void slice_end(struct dispatch *d)
{
    double ns = (double)d->slice_ns / (double)d->slice_count, *mean = &d->ns[d->way];
    if (d->phase == DISPATCH_WARM && ns < 2 * d->ns[DISPATCH_SERIAL]) {
        slice_begin(d, DISPATCH_PARALLEL, DISPATCH_TRY, SLICE_TRIAL);
        return;
    }
    /*
     * The later a measurement, the more it counts; a trial is of now alone. One slice in which a
     * thread lost its processor for a while is not to decide: it counts as twice the mean at most.
     */
    if (d->phase != DISPATCH_KEEP || *mean == 0)
        *mean = ns;
    else
        *mean += ((ns < 2 * *mean ? ns : 2 * *mean) - *mean) / 4;
    if (d->phase != DISPATCH_KEEP) {
        trial_end(d);
        return;
    }
    slice_begin(d, d->way, DISPATCH_KEEP, (unsigned)d->slice);
    if (d->way == DISPATCH_PARALLEL)
        batch_fit(d);
    if (d->forced)
        return;
    if (d->way == DISPATCH_SERIAL)
        d->probing = trial_due(d);
    else if (--d->until_trial == 0 || d->ns[DISPATCH_PARALLEL] > d->ns[DISPATCH_SERIAL])
        slice_begin(d, DISPATCH_SERIAL, DISPATCH_TRY, SLICE_LOOK);
}

/* What was done of a slice. */
static void slice_add(struct dispatch *d, uint64_t ns, uint64_t count)
{
    d->slice_ns += ns;
    d->slice_count += count;
    if (d->slice_count >= d->slice)
        slice_end(d);
}

/* ---- the list ---- */

/* So few that others would come too late for them: they fill no more than so many batches. */
static bool is_short(const struct dispatch *d, size_t n, unsigned batches)
{
    return !d->forced && d->in_flight == 0 &&
           (double)(n - d->ended) * d->ns[DISPATCH_SERIAL] < batches * (double)BATCH_NS / 2;
}

/* Some of them, in the present way; false when there is no memory. */
static bool run_some(struct dispatch *d, struct dispatch_txn *const *txns, size_t n, size_t want)
{
    size_t until = size_min(want, d->ended + (d->slice - d->slice_count));
    if (d->in_flight == 0 && (d->way == DISPATCH_SERIAL || d->place == NULL)) {
        run_serial(d, txns, until);
        return true;
    }
    /* Before a change of the way what has a place is run to its end. */
    if (d->way == DISPATCH_SERIAL)
        n = d->given;
    return run_parallel(d, txns, n, size_min(until, n));
}

/* It has a place while batches are handed out, until the list is over: whether it has. */
static bool place_have(struct dispatch *d)
{
    if (d->place == NULL && dispatch_is_parallel(d))
        d->place = exec_place_borrow(d->exec);
    return d->place != NULL;
}

static void list_end(struct dispatch *d)
{
    d->given = d->ended = 0;
    if (d->place != NULL)
        exec_place_return(d->place);
    d->place = NULL;
}

/* The first `want`, timed: false when there is no memory. */
static bool run_timed(struct dispatch *d, struct dispatch_txn *const *txns, size_t n, size_t want)
{
    bool memory = true, entered = false;
    for (uint64_t now = os_clock_ns(), before; memory && d->ended < want;) {
        uint64_t count = d->count[d->way];
        bool placed = place_have(d);
        bool parallel = d->in_flight != 0 || (placed && d->way == DISPATCH_PARALLEL);
        if (placed && !entered)
            exec_place_enter(d->place);
        entered = placed;
        memory = run_some(d, txns, n, want);
        before = now;
        now = os_clock_ns();
        if (parallel == (d->way == DISPATCH_PARALLEL))
            slice_add(d, now - before, d->count[d->way] - count);
    }
    if (entered)
        exec_place_leave(d->place);
    return memory;
}

int dispatch_run(struct dispatch *d, struct dispatch_txn *const *txns, size_t n, size_t want,
                 size_t *done)
{
    if (d->probing && d->ended < want && n - d->ended >= SLICE_LEAST && !is_short(d, n, 2))
        trial_begin(d, txns, n);
    if (d->ended < want && d->in_flight == 0 &&
        (d->way == DISPATCH_SERIAL ? want - d->ended < SLICE_LEAST : is_short(d, n, 2)))
        run_serial(d, txns, want); /* not worth the clock */
    bool memory = d->ended >= want || run_timed(d, txns, n, want);
    if (done != NULL)
        *done = d->ended;
    if (d->ended == n || !memory)
        list_end(d);
    return memory ? 0 : -ENOMEM;
}

void dispatch_more(struct dispatch *d, struct dispatch_txn *const *txns, size_t n)
{
    if (!dispatch_is_parallel(d) || is_short(d, n, 1) || !place_have(d))
        return;
    uint64_t begin = os_clock_ns(), count = d->count[DISPATCH_PARALLEL];
    feed(d, txns, n, 2 * d->exec->workers + AHEAD);
    slice_add(d, os_clock_ns() - begin, d->count[DISPATCH_PARALLEL] - count);
}
