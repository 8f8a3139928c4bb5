/*
 * The scheduler: which transactions may run, so that the result is that of running all of them one
 * by one in the order in which they came.
 *
 * Each transaction declares the keys that it reads and those that it writes. It gets a serial
 * number and, in the same step, a place in the queue of each of its keys.
 *  1. A request is granted when all requests for the key before it have been released, or when it
 *     and all of those read. Granted requests of a key are counted (`active`), waiting ones are in
 *     a list in their order.
 *  2. A transaction counts its requests that are not granted (`missing`). At 0 it is ready, and
 *     runs; nothing is retried or undone.
 *  3. When it has run, its requests are released, which may grant those next in line.
 *
 * Serial order: of two that conflict, the later one's request for the key is granted after the
 * earlier one was released. Progress: a transaction waits for smaller serial numbers only, so the
 * smallest that has not run waits for nothing; there are no cycles.
 *
 * This is deterministic locking as in A. Thomson et al.: Calvin, SIGMOD 2012 (one thread requests
 * all locks of a transaction, in the agreed order), with the dependencies counted as in J. Faleiro,
 * D. Abadi: Rethinking serializable multiversion concurrency control (BOHM), VLDB 2014. One thread
 * at a time uses a scheduler, and no atomic is in it: what is given to other threads are whole
 * transactions, in batches (txn/dispatch). Rejected: queues for each key that workers change
 * themselves; an exchange a key and a locked add a grant are 10 ns a key before anything is done.
 *
 * A key has a record only while some transaction has a request for it. So the table is as large as
 * what is in flight, which the cache holds, whatever the number of keys is. Records come from an
 * arena and go to a list; in steady state nothing is allocated.
 */
#ifndef ASH_SCHED_H
#define ASH_SCHED_H

#include "ashlar/arena.h"
#include "base/base.h"

enum { SCHED_LOAD = 4 }; /* buckets a key, at least: most have one, and its bucket to itself */

struct sched_key;

/* One of a transaction's keys, in its queue. The memory of who submits. */
struct sched_request {
    struct sched_key *key;
    struct sched_request *next; /* waiting behind it; of no meaning once granted */
    uintptr_t txn;              /* its transaction, and SCHED_WRITES */
};

enum { SCHED_WRITES = 1 };

struct sched_txn {
    uint64_t serial;   /* 0: its keys were released */
    unsigned missing;  /* requests that are not granted */
    unsigned requests; /* in use: keys that were named twice have one */
    struct sched_request *request;
    struct sched_txn *next_ready; /* in the list of sched_release */
};

struct sched {
    struct ash_arena *arena;
    struct sched_key **bucket; /* by hash of the key */
    size_t mask;               /* buckets - 1 */
    size_t keys;               /* that have a record in the table */
    struct sched_key *free;    /* records that are not in the table */
    size_t free_count;
    uint64_t serial;    /* of the next transaction; 0 is none's */
    uint64_t conflicts; /* transactions that were not ready at once */
};

/* 0 or -ENOMEM. */
int sched_init(struct sched *s);
void sched_fini(struct sched *s);

/*
 * Gives the transaction its place. `t->request` has room for all keys; a key may be named more than
 * once, and in both lists. True when it is ready at once. Before, sched_reserve.
 */
bool sched_add(struct sched *s, struct sched_txn *t, const uint64_t *writes, unsigned write_count,
               const uint64_t *reads, unsigned read_count);

/* Memory for a transaction of so many keys: false when there is none, and nothing has changed. */
bool sched_reserve_slow(struct sched *s, unsigned keys);

ASH_INLINE bool sched_reserve(struct sched *s, unsigned keys)
{
    return ASH_LIKELY(s->free_count >= keys && SCHED_LOAD * (s->keys + keys) <= s->mask) ||
           sched_reserve_slow(s, keys);
}

/*
 * It has run: those that this makes ready are linked by `next_ready` behind *last, where `*last`
 * is the end of a list.
 */
void sched_release(struct sched *s, struct sched_txn *t, struct sched_txn ***last);

/* Walks over everything, and aborts with a message where an invariant does not hold. */
void sched_check(const struct sched *s);

#endif
