/*
 * The manager at work: who drives, what a step is, who waits. See txn.h.
 */
#include "os/check.h"
#include "os/os_clock.h"
#include "txn/txn.h"

#include <errno.h>

enum {
    SETTLE_AT_ONCE = 64, /* transactions put into `done` while the lock is held */
    RUN_LEAST = 64,      /* transactions: less is not worth a driver's turn */
    RUN_ALONE = 256,     /* the same where nobody else runs them meanwhile */
    HAND_OUT_EVERY = 16, /* submissions */
};

ASH_TLS struct ash_txnmgr *txn_driven;

static ASH_TLS unsigned submissions; /* of the calling thread, to managers that are eager */

bool txn_inside(const struct ash_txnmgr *m)
{
    const struct ash_txnmgr *drives = txn_driven;
    const struct ash_txn *in = txn_self;
    while (drives != NULL && drives != m)
        drives = drives->outer;
    while (in != NULL && in->mgr != m)
        in = in->outer;
    return drives != NULL || in != NULL;
}

/* ---- the list of done ones; all under the lock ---- */

static void list_push(struct ash_txnmgr *m, struct ash_txn *t)
{
    t->listed = true;
    t->newer = NULL;
    t->older = m->done_last;
    if (m->done_last != NULL)
        m->done_last->newer = t;
    else
        m->done_first = t;
    m->done_last = t;
}

void txn_unlist(struct ash_txnmgr *m, struct ash_txn *t)
{
    t->listed = false;
    if (t->older != NULL)
        t->older->newer = t->newer;
    else
        m->done_first = t->newer;
    if (t->newer != NULL)
        t->newer->older = t->older;
    else
        m->done_last = t->older;
}

static unsigned done_take(struct ash_txnmgr *m, struct ash_txn **out, unsigned max)
{
    unsigned n = 0;
    os_lock(&m->lock);
    for (; n < max && m->done_first != NULL; n++) {
        out[n] = m->done_first;
        txn_unlist(m, out[n]);
    }
    os_unlock(&m->lock);
    return n;
}

static bool done_any(struct ash_txnmgr *m)
{
    os_lock(&m->lock);
    bool any = m->done_first != NULL;
    os_unlock(&m->lock);
    return any;
}

/* ---- a step ---- */

/* Its bodies, until the first `want` are done: how many of its front are. */
static unsigned step_run(struct ash_txnmgr *m, unsigned n, unsigned want)
{
    struct dispatch *d = &m->dispatch;
    size_t done;
    if (ASH_LIKELY(dispatch_run(d, m->step, n, want, &done) == 0))
        return (unsigned)done;
    dispatch_force(d, DISPATCH_SERIAL); /* for which no memory is needed */
    dispatch_run(d, m->step + done, n - done, n - done, NULL);
    txnmgr_dispatch_way(m);
    return n;
}

/* Undoes all that have committed: nothing has run behind the step's last one. */
static unsigned step_undo(struct ash_txnmgr *m, unsigned n, int status)
{
    unsigned undone = 0;
    for (unsigned i = n; i-- > 0;) {
        struct ash_txn *t = txn_of(m->step[i]);
        if (t->status != 0)
            continue;
        txn_log_undo(t);
        t->status = status;
        undone++;
    }
    return undone;
}

/* How many had to be undone. */
static unsigned step_store(struct ash_txnmgr *m, unsigned n)
{
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++) {
        struct ash_txn *t = txn_of(m->step[i]);
        if (t->status == 0 && t->records != NULL && t->records->count != 0)
            m->batch[count++] = t;
    }
    int status = count == 0 ? 0 : m->config.store(m->batch, count, m->config.user);
    counter_add(&m->stored, count);
    return ASH_LIKELY(status == 0) ? 0 : step_undo(m, n, status < 0 ? status : -EINVAL);
}

/* What is left to do for those from `at` to `end`, before they are done. */
static void step_tell(struct ash_txnmgr *m, unsigned at, unsigned end, unsigned unstored)
{
    uint64_t committed = 0, now = 0;
    for (unsigned i = at; i < end; i++) {
        struct ash_txn *t = txn_of(m->step[i]);
        committed += t->status == 0;
        if (t->log != NULL)
            txn_log_hooks(t, t->status == 0 ? TXN_ON_COMMIT : TXN_ON_ABORT);
        if (t->submitted_ns == 0)
            continue;
        now = now != 0 ? now : os_clock_ns();
        uint64_t ns = now - t->submitted_ns;
        counter_add(&m->bucket[times_bucket(ns)], 1);
        if (ns > load_relaxed(&m->most_ns))
            store_relaxed(&m->most_ns, ns);
    }
    counter_add(&m->committed, committed);
    counter_add(&m->unstored, unstored);
    counter_add(&m->aborted, end - at - committed - unstored);
    counter_add(&m->steps, 1);
    store_relaxed(&m->serial, m->dispatch.count[DISPATCH_SERIAL]);
    store_relaxed(&m->parallel, m->dispatch.count[DISPATCH_PARALLEL]);
}

/* They are done: those that a thread waits for may be ended at once, others are to be polled. */
static void step_settle(struct ash_txnmgr *m, unsigned at, unsigned end)
{
    for (unsigned i = at; i < end;) {
        os_lock(&m->lock);
        for (unsigned k = 0; k < SETTLE_AT_ONCE && i < end; k++, i++) {
            struct ash_txn *t = txn_of(m->step[i]);
            if (ASH_LIKELY(!t->awaited))
                list_push(m, t);
            store_release(&t->state, TXN_DONE); /* all of it; pairs with ash_txn_status */
        }
        os_unlock(&m->lock);
    }
}

/* Adds what is in the queue to the step: how many it has. The driver, as below. */
static unsigned step_take(struct ash_txnmgr *m)
{
    if (ASH_UNLIKELY(m->stale)) {
        m->stale = false;
        txnmgr_dispatch_init(m);
    }
    m->step_count +=
        ash_ring_pop(m->queue, (void **)m->step + m->step_count, TXN_STEP - m->step_count);
    return m->step_count;
}

/* Hands out what is in the queue, if others run it. */
static void step_begin(struct ash_txnmgr *m)
{
    bool eager = dispatch_is_parallel(&m->dispatch);
    if (eager != (load_relaxed(&m->eager) != 0))
        store_relaxed(&m->eager, eager);
    if (eager && step_take(m) != m->step_done)
        dispatch_more(&m->dispatch, m->step, m->step_count);
}

void txnmgr_hand_out(struct ash_txnmgr *m)
{
    if (++submissions % HAND_OUT_EVERY != 0 || !drive_enter(&m->drive))
        return;
    step_begin(m);
    drive_leave(&m->drive);
}

/* Of those that are done, as many of the front as may be told so: the end of these. Rule 3. */
static unsigned step_told(const struct ash_txnmgr *m, unsigned n, unsigned done)
{
    unsigned end = m->step_done;
    if (done == n)
        return n;
    while (end < done && !txn_of(m->step[end])->hooked)
        end++;
    return end;
}

/* Runs `want` of a step, at least, or to its end: how many are done that were not before. */
static unsigned step(struct ash_txnmgr *m, unsigned want)
{
    unsigned n = step_take(m), at = m->step_done, end;
    if (n == 0)
        return 0;
    uint32_t generation = m->generation;
    want = (unsigned)size_max(want, dispatch_is_parallel(&m->dispatch) ? RUN_LEAST : RUN_ALONE);
    want = m->config.store == NULL && want < n - at ? at + want : n;
    m->outer = txn_driven;
    txn_driven = m;
    while ((end = step_told(m, n, step_run(m, n, want))) == at)
        want = n;
    step_tell(m, at, end, m->config.store != NULL ? step_store(m, n) : 0);
    txn_driven = m->outer;
    if (ASH_UNLIKELY(m->generation != generation))
        fatal("txns %s: a body, hook or store returned in a forked child", m->name);
    step_settle(m, at, end);
    m->step_count = end < n ? n : 0;
    m->step_done = end < n ? end : 0;
    return end - at;
}

/* ---- polling and waiting ---- */

ASH_API unsigned ash_txn_poll_batch(struct ash_txnmgr *m, struct ash_txn **out, unsigned max)
{
    if (m == NULL || out == NULL || txn_inside(m))
        return 0;
    unsigned n = done_take(m, out, max);
    if (n != 0 || !drive_enter(&m->drive))
        return n;
    step(m, max);
    step_begin(m);
    drive_leave(&m->drive);
    return done_take(m, out, max);
}

ASH_API unsigned ash_txn_poll_wait(struct ash_txnmgr *m, struct ash_txn **out, unsigned max,
                                   int64_t timeout_ns)
{
    if (m == NULL || out == NULL || max == 0 || txn_inside(m))
        return 0;
    int64_t until = os_until(timeout_ns);
    for (;;) {
        unsigned n = done_take(m, out, max);
        int status = 0;
        if (n != 0)
            return n;
        if (drive_enter(&m->drive)) {
            /* What is in the list now was left by the driver before; only this one adds to it. */
            while (!done_any(m) && step(m, max) == 0 && status == 0)
                status = ash_ring_wait(m->queue, os_left(until));
            step_begin(m);
            drive_leave(&m->drive);
        } else if (os_left(until) != 0) {
            uint32_t event = drive_watch(&m->drive);
            drive_sleep(&m->drive, event, done_any(m), os_left(until));
        } else {
            status = -ETIMEDOUT;
        }
        if (status != 0)
            return done_take(m, out, max);
    }
}

/* Until it is done, or no time is left. */
static void wait_for(struct ash_txnmgr *m, const struct ash_txn *t, int64_t until)
{
    int status = 0;
    while (status == 0 && load_relaxed(&t->state) != TXN_DONE) {
        if (drive_enter(&m->drive)) {
            /* It is in the queue, and at most behind one whose push is under way. */
            while (status == 0 && load_relaxed(&t->state) != TXN_DONE)
                if (step(m, 1) == 0)
                    status = ash_ring_wait(m->queue, os_left(until));
            drive_leave(&m->drive);
        } else if (os_left(until) != 0) {
            uint32_t event = drive_watch(&m->drive);
            bool done = load_relaxed(&t->state) == TXN_DONE;
            drive_sleep(&m->drive, event, done, os_left(until));
        } else {
            status = -ETIMEDOUT;
        }
    }
}

ASH_API int ash_txn_wait(struct ash_txn *t, int64_t timeout_ns)
{
    if (t == NULL || t->generation != t->mgr->generation)
        return -EINVAL;
    struct ash_txnmgr *m = t->mgr;
    if (txn_inside(m))
        return -EDEADLK;
    uint32_t state = load_relaxed(&t->state);
    if (state != TXN_SUBMITTED && state != TXN_DONE)
        return -EINVAL;
    os_lock(&m->lock);
    t->awaited = true;
    if (t->listed)
        txn_unlist(m, t);
    os_unlock(&m->lock);
    wait_for(m, t, os_until(timeout_ns));
    os_lock(&m->lock);
    bool done = load_acquire(&t->state) == TXN_DONE; /* pairs with step_settle */
    if (!done)
        t->awaited = false;
    os_unlock(&m->lock);
    return done ? 0 : -ETIMEDOUT;
}
