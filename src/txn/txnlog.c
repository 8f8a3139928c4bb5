/*
 * What a transaction remembers for its end: how to undo it, whom to tell, bufs to drop; and its
 * savepoints, which are places in that. All of it is one list in the arena, newest first, so going
 * back to a savepoint is to take entries off until it comes. Hooks, which are called in the order
 * in which they came, have it turned round first.
 */
#include "txn/txn.h"

#include <errno.h>
#include <string.h>

struct txn_saved {
    struct txn_entry head;
    size_t n;
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
    struct ash_mark mark; /* behind this */
    struct iovec *iov;
    unsigned iov_count, iov_room;
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
    if (where == NULL || n > SIZE_MAX / 2)
        return -EINVAL;
    struct txn_saved *e = entry_make(t, sizeof *e + n, &status);
    if (e == NULL)
        return status;
    e->n = n;
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
    unsigned room = t->iov_room == 0 ? RECORDS_FIRST : 2 * t->iov_room;
    struct iovec *iov = txn_alloc(t, room * sizeof *iov);
    if (iov == NULL)
        return false;
    if (t->iov_count != 0)
        memcpy(iov, t->iov, t->iov_count * sizeof *iov);
    t->iov = iov;
    t->iov_room = room;
    return true;
}

ASH_API int ash_txn_record(struct ash_txn *t, const void *data, size_t n)
{
    if (t == NULL || (data == NULL && n != 0))
        return -EINVAL;
    if (!txn_is_open(t))
        return -EBUSY;
    if (t->iov_count == t->iov_room && !records_grow(t))
        return -ENOMEM;
    t->iov[t->iov_count++] = (struct iovec){(void *)(uintptr_t)data, n};
    return 0;
}

ASH_API int ash_txn_records(const struct ash_txn *t, const struct iovec **iov, unsigned *count)
{
    if (t == NULL || iov == NULL || count == NULL)
        return -EINVAL;
    *iov = t->iov;
    *count = t->iov_count;
    return 0;
}

/* ---- undoing ---- */

static void entry_undo(const struct txn_entry *e)
{
    const struct txn_saved *saved = (const struct txn_saved *)(const void *)e;
    const struct txn_call *call = (const struct txn_call *)(const void *)e;
    if (e->kind == TXN_SAVED)
        memcpy(saved->where, saved->bytes, saved->n);
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
    e->mark = ash_arena_mark(t->arena);
    e->iov = t->iov;
    e->iov_count = t->iov_count;
    e->iov_room = t->iov_room;
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
    t->iov = to->iov;
    t->iov_count = to->iov_count;
    t->iov_room = to->iov_room;
    ash_arena_rollback(t->arena, to->mark);
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
