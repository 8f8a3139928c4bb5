/*
 * One transaction, as its program handles it: begun, given keys and memory, submitted, ended.
 */
#include "txn/txn.h"

#include "base/hash.h"
#include "os/check.h"
#include "os/os_clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

ASH_TLS struct ash_txn *txn_self;

/* The call was wrong, and cannot return an error. As heap/error.h does in the first library. */
static ASH_COLD void misuse(const struct ash_txn *t, const char *what)
{
    const char *on_error = secure_getenv("ASHLAR_ON_ERROR");
    if (on_error != NULL && strcmp(on_error, "warn") == 0)
        warn_line("txns %s: end of transaction %p, which %s", t->mgr->name, (const void *)t, what);
    else
        fatal("txns %s: end of transaction %p, which %s", t->mgr->name, (const void *)t, what);
}

/* ---- beginning ---- */

static struct ash_txn *begin(struct ash_txnmgr *m, int64_t timeout_ns)
{
    int status = ash_gate_enter(m->gate, 1, timeout_ns);
    if (ASH_UNLIKELY(status != 0)) {
        errno = -status;
        return NULL;
    }
    struct ash_txn *t = ash_pool_get(m->records);
    if (ASH_UNLIKELY(t == NULL)) {
        ash_gate_leave(m->gate, 1);
        errno = ENOMEM;
        return NULL;
    }
    t->run.write_count = 0;
    t->run.read_count = 0;
    t->arg = NULL;
    t->iov = NULL;
    t->iov_count = 0;
    t->iov_room = 0;
    t->savepoints = 0;
    t->undoing = false;
    t->hooked = false;
    t->listed = false;
    t->awaited = false;
    t->generation = m->generation;
    store_relaxed(&t->state, TXN_BEGUN);
    return t;
}

ASH_API struct ash_txn *ash_txn_begin(struct ash_txnmgr *m)
{
    if (ASH_LIKELY(m != NULL))
        return begin(m, 0);
    errno = EINVAL;
    return NULL;
}

ASH_API struct ash_txn *ash_txn_begin_wait(struct ash_txnmgr *m, int64_t timeout_ns)
{
    if (m != NULL && (timeout_ns == 0 || !txn_inside(m)))
        return begin(m, timeout_ns);
    errno = m == NULL ? EINVAL : EDEADLK;
    return NULL;
}

/* ---- keys and memory ---- */

/* 0 if it may have `n` keys more. */
static int keys_room(const struct ash_txn *t, const uint64_t *keys, unsigned n)
{
    if (ASH_UNLIKELY(t == NULL || (keys == NULL && n != 0)))
        return -EINVAL;
    if (ASH_UNLIKELY(load_relaxed(&t->state) != TXN_BEGUN))
        return -EBUSY;
    unsigned left = t->mgr->config.keys - t->run.write_count - t->run.read_count;
    return ASH_LIKELY(n <= left) ? 0 : -E2BIG;
}

ASH_API int ash_txn_writes(struct ash_txn *t, const uint64_t *keys, unsigned n)
{
    int status = keys_room(t, keys, n);
    if (ASH_UNLIKELY(status != 0))
        return status;
    for (unsigned i = 0; i < n; i++)
        t->key[t->run.write_count + i] = keys[i];
    t->run.write_count += n;
    return 0;
}

ASH_API int ash_txn_reads(struct ash_txn *t, const uint64_t *keys, unsigned n)
{
    int status = keys_room(t, keys, n);
    if (ASH_UNLIKELY(status != 0))
        return status;
    t->run.read_count += n;
    t->run.reads = &t->key[t->mgr->config.keys - t->run.read_count];
    for (unsigned i = 0; i < n; i++)
        t->key[t->mgr->config.keys - t->run.read_count + i] = keys[i];
    return 0;
}

ASH_API uint64_t ash_txn_key(const void *bytes, size_t len)
{
    return hash_bytes(bytes, len, 0);
}

ASH_COLD void *txn_alloc_first(struct ash_txn *t, size_t n)
{
    struct ash_txnmgr *m = t->mgr;
    t->arena_bytes = load_relaxed(&m->arena_first);
    t->arena = ash_arena_create(
        NULL, m->name,
        ASH_ARENA_CONFIG(.first_chunk = t->arena_bytes, .max_bytes = m->config.arena_max));
    if (t->arena == NULL)
        return NULL;
    t->start = ash_arena_mark(t->arena);
    tally_add(&m->tally, TXN_ARENA_BYTES, t->arena_bytes);
    return ash_arena_alloc(t->arena, n);
}

ASH_API void *ash_txn_alloc(struct ash_txn *t, size_t n)
{
    if (ASH_LIKELY(t != NULL && txn_is_open(t)))
        return txn_alloc(t, n);
    errno = t == NULL ? EINVAL : EBUSY;
    return NULL;
}

ASH_INLINE bool arena_grown(const struct ash_txn *t)
{
    return t->arena->ash_serial != t->start.ash_serial;
}

/*
 * The first chunk was too small: the arenas made from now on begin a quarter larger, if that is
 * needed. So before long one chunk does for nearly all, as small as can be, and the rare large
 * transaction has not made all others large.
 */
static ASH_COLD void arena_learn(const struct ash_txn *t)
{
    struct ash_txnmgr *m = t->mgr;
    struct ash_arena_stats s;
    ash_arena_stats(t->arena, &s);
    uint64_t first = load_relaxed(&m->arena_first), needs = s.used + ASH_CACHE_LINE;
    if (needs > first && needs <= m->config.arena_keep)
        atomic_max(&m->arena_first, size_min(needs, first + first / 4));
}

static ASH_COLD void arena_drop(struct ash_txn *t)
{
    arena_learn(t);
    ash_arena_destroy(t->arena);
    t->arena = NULL;
    tally_add(&t->mgr->tally, TXN_ARENA_BYTES, -(uint64_t)t->arena_bytes);
}

static void arena_clear(struct ash_txn *t)
{
    if (ASH_LIKELY(!arena_grown(t)))
        ash_arena_rollback(t->arena, t->start);
    else
        arena_drop(t);
}

/* ---- running ---- */

void txn_fetch_arg(const struct dispatch_txn *run)
{
    __builtin_prefetch(((const struct ash_txn *)(const void *)run)->arg);
}

void txn_run(struct dispatch_txn *run)
{
    struct ash_txn *t = txn_of(run);
    t->outer = txn_self;
    txn_self = t;
    int status = t->body(t, t->arg);
    if (ASH_UNLIKELY(status != 0)) {
        status = status < 0 ? status : -EINVAL;
        txn_log_undo(t);
    }
    t->status = status;
    txn_self = t->outer;
}

ASH_API int ash_txn_submit(struct ash_txn *t, int (*body)(struct ash_txn *, void *), void *arg)
{
    if (ASH_UNLIKELY(t == NULL || body == NULL))
        return -EINVAL;
    struct ash_txnmgr *m = t->mgr;
    if (ASH_UNLIKELY(t->generation != m->generation))
        return -ECANCELED;
    if (ASH_UNLIKELY(txn_self != NULL && txn_self->mgr == m))
        return -EDEADLK;
    if (ASH_UNLIKELY(load_relaxed(&t->state) != TXN_BEGUN || t->undoing))
        return -EBUSY;
    if (ASH_UNLIKELY(t->arena != NULL && arena_grown(t)))
        arena_learn(t); /* now: many may be submitted before the first one ends */
    t->body = body;
    t->arg = arg;
    t->submitted_ns = t->uses++ % TXN_SAMPLE == 0 ? os_clock_ns() : 0;
    store_relaxed(&t->state, TXN_SUBMITTED); /* published by the push */
    void *item = t;
    if (ASH_LIKELY(ash_ring_push(m->queue, &item, 1) == 1)) {
        if (load_relaxed(&m->eager) != 0) /* a hint */
            txnmgr_hand_out(m);
        return 0; /* it may be done, and ended, by now */
    }
    store_relaxed(&t->state, TXN_BEGUN);
    return load_relaxed(&m->closed) != 0 ? -ECANCELED : -EAGAIN;
}

ASH_API int ash_txn_status(const struct ash_txn *t)
{
    if (t == NULL)
        return -EINVAL;
    /* acquire: all that bodies wrote; pairs with step_settle */
    return load_acquire(&t->state) == TXN_DONE ? t->status : -EINPROGRESS;
}

ASH_API void *ash_txn_arg(const struct ash_txn *t)
{
    return t == NULL ? NULL : t->arg;
}

/* ---- the end ---- */

/* It was begun, and will not be submitted. */
static void abandon(struct ash_txn *t)
{
    txn_log_undo(t);
    txn_log_hooks(t, TXN_ON_ABORT);
}

static ASH_NOINLINE void unlist(struct ash_txn *t)
{
    os_lock(&t->mgr->lock);
    if (t->listed)
        txn_unlist(t->mgr, t);
    os_unlock(&t->mgr->lock);
}

ASH_API void ash_txn_end(struct ash_txn *t)
{
    if (t == NULL)
        return;
    struct ash_txnmgr *m = t->mgr;
    uint32_t state = load_acquire(&t->state); /* pairs with step_settle */
    if (ASH_UNLIKELY(t->generation != m->generation))
        return;
    if (ASH_UNLIKELY(state == TXN_BEGUN && t->undoing)) {
        misuse(t, "is being undone");
        return;
    }
    if (ASH_UNLIKELY(state == TXN_BEGUN && t->log != NULL)) {
        abandon(t);
    } else if (ASH_UNLIKELY(state == TXN_SUBMITTED || state == TXN_ENDED)) {
        misuse(t, state == TXN_ENDED ? "has ended" : "was submitted and is not done");
        return;
    }
    if (ASH_UNLIKELY(t->listed))
        unlist(t);
    if (t->log != NULL)
        txn_log_drop(t);
    if (t->arena != NULL)
        arena_clear(t);
    store_relaxed(&t->state, TXN_ENDED);
    ash_pool_put(m->records, t);
    ash_gate_leave(m->gate, 1);
}
