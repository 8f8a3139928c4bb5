/*
 * Transactions as a program would write them itself, with malloc and free: what ashlar/txn.h is
 * measured against. They can do what those can: begun, given keys, undone, submitted, run in an
 * order as if one by one, polled and ended, by any thread. One mutex is over it all.
 *
 * What is on the heap, each a block: the transaction, the array of its keys, an undo record for
 * each value saved, and with `queues` a request for each key, in a queue of that key, which is a
 * block while there are any. Lists go through the transactions: submitting, being ready and being
 * done take no blocks. Without `queues` there is no more than one list, in which they are run one
 * by one: what is enough for one thread.
 */
#ifndef ASH_BENCH_HANDTXN_H
#define ASH_BENCH_HANDTXN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HAND_BUCKETS = 8192 };

struct hand_key;
struct hand_undo;
struct hand_request;

struct hand_txn {
    struct hand_txn *next; /* submitted, ready or done */
    int (*body)(struct hand_txn *txn, void *arg);
    void *arg;
    uint64_t *keys;
    struct hand_request *requests;
    struct hand_undo *undo;
    int status;
    unsigned key_count, missing;
};

struct hand_list {
    struct hand_txn *first, *last;
};

struct hand_mgr {
    void *(*malloc)(size_t n);
    void (*free)(void *p);
    bool queues;
    unsigned limit, in_flight;
    pthread_mutex_t lock;
    struct hand_list ready, done;
    struct hand_key *bucket[HAND_BUCKETS];
};

/* Takes malloc and free of libc, whatever is preloaded. */
void hand_init(struct hand_mgr *m, unsigned limit);

/* NULL: `limit` of them are in flight. */
struct hand_txn *hand_begin(struct hand_mgr *m);

/* Once for each transaction. */
void hand_writes(struct hand_mgr *m, struct hand_txn *t, const uint64_t *keys, unsigned n);

/* Keeps `n` bytes, to be put back if it aborts. */
void hand_save(struct hand_mgr *m, struct hand_txn *t, void *where, size_t n);

void hand_submit(struct hand_mgr *m, struct hand_txn *t,
                 int (*body)(struct hand_txn *txn, void *arg), void *arg);

/* Runs what there is, and takes up to `max` done ones out. */
unsigned hand_poll(struct hand_mgr *m, struct hand_txn **out, unsigned max);

void hand_end(struct hand_mgr *m, struct hand_txn *t);

#endif
