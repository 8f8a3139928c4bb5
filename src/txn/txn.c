/*
 * One transaction, as its program handles it: begun, given keys and memory, submitted, ended.
 */
#include "txn/txn.h"

#include "ashlar/malloc.h"
#include "base/hash.h"
#include "os/check.h"
#include "os/os_clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_KEPT = 64 }; /* a larger block is not kept for the next transaction in the record */

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
        add_relaxed(&m->unbegun, 1);
        ash_gate_leave(m->gate, 1);
        errno = ENOMEM;
        return NULL;
    }
    t->run.write_count = 0;
    t->run.read_count = 0;
    t->arg = NULL;
    t->records = NULL;
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

ASH_INLINE uint64_t *keys_of(const struct ash_txn *t)
{
    return (uint64_t *)(uintptr_t)t->run.writes;
}

void key_block_drop(struct ash_txn *t)
{
    struct ash_txnmgr *m = t->mgr;
    if (t->key_room == m->key_own)
        return;
    tally_add(&m->tally, TXN_BYTES, -(uint64_t)key_block_bytes(m, t->key_room));
    ash_free(keys_of(t));
    key_block_use(t, t->key, m->key_own);
}

/* A block for twice as many keys, or for `keys` in all: 0 or -ENOMEM. */
static ASH_NOINLINE int keys_grow(struct ash_txn *t, unsigned keys)
{
    struct ash_txnmgr *m = t->mgr;
    unsigned room = (unsigned)size_min(size_max(2 * t->key_room, keys), m->config.keys);
    size_t bytes = key_block_bytes(m, room);
    uint64_t *block = ash_malloc(bytes);
    if (block == NULL)
        return -ENOMEM;
    memcpy(block, t->run.writes, t->run.write_count * sizeof *block);
    memcpy(block + room - t->run.read_count, t->run.reads, t->run.read_count * sizeof *block);
    key_block_drop(t);
    key_block_use(t, block, room);
    tally_add(&m->tally, TXN_BYTES, bytes);
    return 0;
}

/* 0 if it may have `n` keys more, and there is room for them. */
static int keys_room(struct ash_txn *t, const uint64_t *keys, unsigned n)
{
    if (ASH_UNLIKELY(t == NULL || (keys == NULL && n != 0)))
        return -EINVAL;
    if (ASH_UNLIKELY(load_relaxed(&t->state) != TXN_BEGUN))
        return -EBUSY;
    unsigned has = t->run.write_count + t->run.read_count;
    if (ASH_LIKELY(n <= t->key_room - has))
        return 0;
    return n <= t->mgr->config.keys - has ? keys_grow(t, has + n) : -E2BIG;
}

ASH_API int ash_txn_writes(struct ash_txn *t, const uint64_t *keys, unsigned n)
{
    int status = keys_room(t, keys, n);
    if (ASH_UNLIKELY(status != 0))
        return status;
    uint64_t *to = keys_of(t) + t->run.write_count;
    for (unsigned i = 0; i < n; i++)
        to[i] = keys[i];
    t->run.write_count += n;
    return 0;
}

ASH_API int ash_txn_reads(struct ash_txn *t, const uint64_t *keys, unsigned n)
{
    int status = keys_room(t, keys, n);
    if (ASH_UNLIKELY(status != 0))
        return status;
    t->run.read_count += n;
    uint64_t *to = keys_of(t) + t->key_room - t->run.read_count;
    t->run.reads = to;
    for (unsigned i = 0; i < n; i++)
        to[i] = keys[i];
    return 0;
}

ASH_API uint64_t ash_txn_key(const void *bytes, size_t len)
{
    return hash_bytes(bytes, len, 0);
}

ASH_API void *ash_txn_alloc(struct ash_txn *t, size_t n)
{
    bool open = t != NULL && txn_is_open(t);
    void *p = ASH_LIKELY(open) ? txn_alloc(t, n) : NULL;
    if (ASH_UNLIKELY(p == NULL))
        errno = open ? ENOMEM : t == NULL ? EINVAL : EBUSY;
    return p;
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
    if (t->mem.newest != NULL)
        txnmem_clear(&t->mem, &m->rule);
    if (ASH_UNLIKELY(t->key_room > KEYS_KEPT))
        key_block_drop(t);
    store_relaxed(&t->state, TXN_ENDED);
    ash_pool_put(m->records, t);
    ash_gate_leave(m->gate, 1);
}
