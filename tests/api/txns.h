/*
 * What the tests of a transaction manager share: its figures, and one transaction after the other.
 */
#ifndef ASH_TESTS_TXNS_H
#define ASH_TESTS_TXNS_H

#include "ashlar/txn.h"

#include <stdlib.h>

static inline struct ash_txnmgr_stats stats(struct ash_txnmgr *m)
{
    struct ash_txnmgr_stats s;
    ash_txnmgr_stats(m, &s);
    return s;
}

static inline int good(struct ash_txn *txn, void *arg)
{
    (void)txn;
    ++*(int *)arg;
    return 0;
}

/* Begins, submits and gets one. */
static inline struct ash_txn *run(struct ash_txnmgr *m, int (*body)(struct ash_txn *, void *), void *arg)
{
    struct ash_txn *t = ash_txn_begin(m), *done;
    if (t == NULL || ash_txn_submit(t, body, arg) != 0 || ash_txn_poll_wait(m, &done, 1, -1) != 1 || done != t)
        abort();
    return t;
}

static inline int run_status(struct ash_txnmgr *m, int (*body)(struct ash_txn *, void *), void *arg)
{
    struct ash_txn *t = run(m, body, arg);
    int status = ash_txn_status(t);
    ash_txn_end(t);
    return status;
}

#endif
