/*
 * What a transaction remembers for its end: how to undo it, whom to tell, bufs to drop; and its
 * savepoints, which are places in that. All of it is one list in its memory, newest first, so going
 * back to a savepoint is to take entries off until it comes. Hooks, which are called in the order
 * in which they came, have it turned round first.
 */
#include "txn/txn.h"

#include <errno.h>
#include <string.h>

struct txn_saved {
    struct txn_entry head;
    void *where;
    unsigned char bytes[];
};

struct txn_call {
    struct txn_entry head;
    union {
        void (*undo)(void *arg);
        void (*hook)(struct ash_txn *txn, void *arg);
    };
    void *arg;
};

struct txn_buf {
    struct txn_entry head;
    struct ash_buf buf;
};

struct txn_savepoint {
    struct txn_entry head;
    int number;
    struct txnmem_mark mark; /* behind this */
    struct txn_records *records;
    unsigned count; /* of those */
};

/* An entry of `n` bytes that is not in the log yet; NULL and `*status`. */
static void *entry_make(struct ash_txn *t, size_t n, int *status)
{
    if (t == NULL || !txn_is_open(t)) {
        *status = t == NULL ? -EINVAL : -EBUSY;
        return NULL;
    }
    void *e = txn_alloc(t, n);
    *status = e == NULL ? -ENOMEM : 0;
    return e;
}

static void entry_push(struct ash_txn *t, struct txn_entry *e, enum txn_kind kind)
{
    e->kind = kind;
    e->older = t->log;
    t->log = e;
}

ASH_API int ash_txn_save(struct ash_txn *t, void *where, size_t n)
{
    int status;
    if (where == NULL || n > PTRDIFF_MAX / 8)
        return -EINVAL;
    struct txn_saved *e = entry_make(t, sizeof *e + n, &status);
    if (e == NULL)
        return status;
    e->head.bytes = n;
    e->where = where;
    memcpy(e->bytes, where, n);
    entry_push(t, &e->head, TXN_SAVED);
    return 0;
}

ASH_API int ash_txn_undo(struct ash_txn *t, void (*fn)(void *), void *arg)
{
    int status = -EINVAL;
    struct txn_call *e = fn == NULL ? NULL : entry_make(t, sizeof *e, &status);
    if (e == NULL)
        return status;
    e->undo = fn;
    e->arg = arg;
    entry_push(t, &e->head, TXN_UNDO);
    return 0;
}

static int hook_add(struct ash_txn *t, void (*fn)(struct ash_txn *, void *), void *arg,
                    enum txn_kind kind)
{
    int status = -EINVAL;
    struct txn_call *e = fn == NULL ? NULL : entry_make(t, sizeof *e, &status);
    if (e == NULL)
        return status;
    e->hook = fn;
    e->arg = arg;
    t->hooked = true;
    entry_push(t, &e->head, kind);
    return 0;
}

ASH_API int ash_txn_on_commit(struct ash_txn *t, void (*fn)(struct ash_txn *, void *), void *arg)
{
    return hook_add(t, fn, arg, TXN_ON_COMMIT);
}

ASH_API int ash_txn_on_abort(struct ash_txn *t, void (*fn)(struct ash_txn *, void *), void *arg)
{
    return hook_add(t, fn, arg, TXN_ON_ABORT);
}

ASH_API int ash_txn_attach(struct ash_txn *t, struct ash_buf buf)
{
    int status;
    struct txn_buf *e = entry_make(t, sizeof *e, &status);
    if (e == NULL)
        return status;
    e->buf = buf;
    entry_push(t, &e->head, TXN_BUF);
    return 0;
}

/* ---- records ---- */

enum { RECORDS_FIRST = 4 };

static bool records_grow(struct ash_txn *t)
{
    const struct txn_records *old = t->records;
    unsigned count = old != NULL ? old->count : 0, room = count == 0 ? RECORDS_FIRST : 2 * count;
    struct txn_records *r = txn_alloc(t, sizeof *r + room * sizeof r->iov[0]);
    if (r == NULL)
        return false;
    *r = (struct txn_records){.count = count, .room = room};
    if (old != NULL)
        memcpy(r->iov, old->iov, count * sizeof r->iov[0]);
    t->records = r;
    return true;
}

ASH_API int ash_txn_record(struct ash_txn *t, const void *data, size_t n)
{
    if (t == NULL || (data == NULL && n != 0))
        return -EINVAL;
    if (!txn_is_open(t))
        return -EBUSY;
    struct txn_records *r = t->records;
    if ((r == NULL || r->count == r->room) && !records_grow(t))
        return -ENOMEM;
    r = t->records;
    r->iov[r->count++] = (struct iovec){(void *)(uintptr_t)data, n};
    return 0;
}

ASH_API int ash_txn_records(const struct ash_txn *t, const struct iovec **iov, unsigned *count)
{
    if (t == NULL || iov == NULL || count == NULL)
        return -EINVAL;
    *iov = t->records != NULL ? t->records->iov : NULL;
    *count = t->records != NULL ? t->records->count : 0;
    return 0;
}

/* ---- undoing ---- */

static void entry_undo(const struct txn_entry *e)
{
    const struct txn_saved *saved = (const struct txn_saved *)(const void *)e;
    const struct txn_call *call = (const struct txn_call *)(const void *)e;
    if (e->kind == TXN_SAVED)
        memcpy(saved->where, saved->bytes, e->bytes);
    else if (e->kind == TXN_UNDO)
        call->undo(call->arg);
}

/* ---- savepoints ---- */

ASH_API int ash_txn_savepoint(struct ash_txn *t)
{
    int status;
    struct txn_savepoint *e = entry_make(t, sizeof *e, &status);
    if (e == NULL)
        return status;
    e->number = t->savepoints++;
    e->mark = txnmem_mark(&t->mem);
    e->records = t->records;
    e->count = t->records != NULL ? t->records->count : 0;
    entry_push(t, &e->head, TXN_SAVEPOINT);
    return e->number;
}

ASH_API int ash_txn_rollback_to(struct ash_txn *t, int savepoint)
{
    if (t == NULL)
        return -EINVAL;
    if (!txn_is_open(t))
        return -EBUSY;
    struct txn_entry *e = t->log;
    while (e != NULL &&
           (e->kind != TXN_SAVEPOINT || ((struct txn_savepoint *)(void *)e)->number != savepoint))
        e = e->older;
    if (e == NULL)
        return -EINVAL;
    struct txn_savepoint *to = (struct txn_savepoint *)(void *)e;
    t->undoing = true;
    while (t->log != e) {
        entry_undo(t->log);
        if (t->log->kind == TXN_BUF)
            ash_buf_drop(&((struct txn_buf *)(void *)t->log)->buf);
        t->log = t->log->older;
    }
    t->undoing = false;
    t->records = to->records;
    if (t->records != NULL)
        t->records->count = to->count;
    txnmem_rollback(&t->mem, &t->mgr->rule, to->mark);
    return 0;
}

/* ---- the end ---- */

void txn_log_undo(struct ash_txn *t)
{
    t->undoing = true;
    for (struct txn_entry *e = t->log; e != NULL; e = e->older)
        entry_undo(e);
}

void txn_log_hooks(struct ash_txn *t, enum txn_kind kind)
{
    struct txn_entry *oldest = NULL, *e = t->log, *older;
    for (; e != NULL; e = older) {
        older = e->older;
        e->older = oldest; /* the next in the order of the calls, now */
        oldest = e;
    }
    t->log = oldest;
    for (e = oldest; e != NULL; e = e->older)
        if (e->kind == kind)
            ((struct txn_call *)(void *)e)->hook(t, ((struct txn_call *)(void *)e)->arg);
}

void txn_log_drop(struct ash_txn *t)
{
    for (struct txn_entry *e = t->log; e != NULL; e = e->older)
        if (e->kind == TXN_BUF)
            ash_buf_drop(&((struct txn_buf *)(void *)e)->buf);
    t->log = NULL;
}
