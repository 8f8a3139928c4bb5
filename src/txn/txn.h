/*
 * Transactions and their manager (ashlar/txn.h), from inside.
 *
 *  1. A gate counts those that were begun and have not ended; a pool keeps their records, each with
 *     room for some keys and, from its first allocation on, a chunk of memory (txn/txnmem), which
 *     the next transaction in the record uses again. Who names more keys than that gets a block for
 *     them, which stays likewise, if it is not large.
 *  2. A submission is a push to the ring `queue`, whose order is the serial order.
 *  3. One thread at a time drives: it pops what there is in the queue, adds it to the step, which
 *     has TXN_STEP at most, and runs that (txn/dispatch). The step is over when all its bodies have
 *     returned; then the next one begins. With a `store` that is when they are done: so what they
 *     did can be undone as a whole, in reverse, and is stored as a whole. Without one nothing is
 *     undone later, and they are done from the front on, as soon as those before them are; but who
 *     has hooks waits for the whole step, so that no hook is called while a body runs.
 *     In parallel, the executor's threads have work at all times: a poll hands out more before it
 *     returns, and so does every HAND_OUT_EVERYth submission that finds nobody driving (`eager`).
 *  4. Transactions that are done are put into the list `done`, in order, but for those that a
 *     thread waits for. `lock` is over that list and over who waits (`listed`, `awaited`), and not
 *     held while anything is called.
 *  5. Who has nothing to do but to wait, and drives, sleeps on the queue, driving: a push wakes it.
 *     All others sleep until it has stopped (txn/drive). What a driver leaves in the queue, or in
 *     `done`, is found by those who wait for it, since they look when they drive.
 *
 * Order of memory: what was written before a submission goes by the queue to the driver, by the
 * executor's batches to the body and back (txn/dispatch), and by `state` to who asks for the
 * status, or by `lock` to who polls. From driver to driver everything goes by `drive`.
 *
 * Rejected:
 *  - a thread of the manager's that drives: it costs two hand-overs a transaction where one thread
 *    submits and polls, and is a loop over ash_txn_poll_wait where a program wants it;
 *  - queues of ready and done transactions that all threads change: see txn/sched;
 *  - steps that come out as a whole where nothing is stored: with 256 in flight the executor had
 *    nothing to do while the program ended and submitted them, a third of the time;
 *  - a count of credits for each thread instead of the gate (11 ns a transaction): those of a
 *    thread that does nothing would be missing where another waits.
 */
#ifndef ASH_TXN_H
#define ASH_TXN_H

#include "ashlar/pool.h"
#include "ashlar/ring.h"
#include "ashlar/txn.h"
#include "base/name.h"
#include "os/os_fork.h"
#include "os/os_lock.h"
#include "txn/dispatch.h"
#include "txn/drive.h"
#include "txn/txnmem.h"
#include "vm/shown.h"
#include "vm/tally.h"
#include "vm/times.h"

enum { TXN_STEP = 4096, TXN_SAMPLE = 16, TXN_KEYS = 4 /* that a record has room for */ };

enum txn_state { TXN_ENDED, TXN_BEGUN, TXN_SUBMITTED, TXN_DONE };

/* What a transaction has to remember: a list in its memory, newest first, of the structs named. */
enum txn_kind {
    TXN_SAVED,     /* struct txn_saved: bytes to be put back */
    TXN_UNDO,      /* struct txn_call: to be called when it is undone */
    TXN_ON_COMMIT, /* struct txn_call */
    TXN_ON_ABORT,  /* struct txn_call */
    TXN_BUF,       /* struct txn_buf: to be dropped */
    TXN_SAVEPOINT  /* struct txn_savepoint */
};

struct txn_entry {
    struct txn_entry *older;
    enum txn_kind kind : 3;
    uint64_t bytes : 61; /* of TXN_SAVED */
};

/* What is to be stored, in its memory. */
struct txn_records {
    unsigned count, room;
    struct iovec iov[];
};

struct ash_txn {
    struct dispatch_txn run; /* first: what the dispatcher knows of it */
    uint32_t generation;     /* owner: the manager's when it was begun */
    unsigned key_room;       /* owner: in the block of keys; those read are at its end */
    /* A line of its own, where there are workers: see txn/dispatch, rule 4. */
    int (*body)(struct ash_txn *txn, void *arg);
    void *arg;
    struct ash_txnmgr *mgr;  /* const */
    _Atomic(uint32_t) state; /* atomic: enum txn_state; DONE publishes what the bodies wrote */
    int status;              /* owner; const once done */
    union { /* here, since a body's call writes it: its line goes to another thread */
        struct ash_txn *outer; /* its body runs: the one whose body that thread was in before */
        struct ash_txn *newer; /* under the manager's lock: in `done` */
    };
    /* All that follows: the owner, which is the body's thread meanwhile, then the driver. */
    uint8_t uses;         /* of the record, modulo 256 */
    bool undoing;         /* functions that undo it are called: it stays as it is */
    bool hooked;          /* it has had hooks */
    bool listed, awaited; /* under the manager's lock: it is in `done`; somebody waits for it */
    int savepoints;       /* named so far */
    struct txnmem mem;
    struct txn_entry *log;       /* in `mem`; NULL: nothing to remember */
    struct txn_records *records; /* in `mem`; NULL: none */
    union {
        uint64_t submitted_ns; /* until it is told what it took; 0: it is none that is measured */
        struct ash_txn *older; /* under the manager's lock: in `done` */
    };
    uint64_t key[]; /* the record's own block of keys, see key_block_bytes */
};

_Static_assert(offsetof(struct ash_txn, body) == ASH_CACHE_LINE, "what bodies write is apart");

enum txn_count { TXN_BYTES /* of chunks, and of blocks of keys */ };

struct ash_txnmgr {
    struct ash_txnmgr_config config; /* const, defaults filled in */
    char name[NAME_CAP];             /* const */
    struct ash_exec *exec;           /* const; NULL: none */
    struct ash_gate *gate;           /* const */
    struct ash_ring *queue;          /* const */
    struct ash_pool *records;        /* const */
    size_t record_bytes;             /* const */
    unsigned key_own;                /* const: keys that a record has room for */
    bool scheduled;                  /* const: they may be run in parallel: keys have requests */
    struct shown *shown;             /* const; NULL: there was no memory for it */
    struct os_fork fork;
    uint32_t generation;     /* forks behind this process; changed in a child's only thread */
    _Atomic(uint32_t) eager; /* atomic: the driver's word that submitters are to hand out */
    struct drive drive;
    struct txnmem_rule rule;
    _Atomic(uint64_t) unbegun; /* atomic: counter, several writers: entered, and no memory */
    _Atomic(uint32_t) closed;  /* atomic: shut down */
    ASH_LINE_ALIGNED struct os_lock lock;
    struct ash_txn *done_first, *done_last; /* under the lock: in submit order */
    /* The driver's. */
    ASH_LINE_ALIGNED struct dispatch dispatch;
    bool stale;               /* the dispatcher is as a vanished thread left it */
    struct ash_txnmgr *outer; /* the manager that the thread drove before */
    unsigned step_count; /* of the step that was taken from the queue and is not over; 0: none */
    unsigned step_done;  /* of its front: put into `done` */
    struct dispatch_txn *step[TXN_STEP];
    struct ash_txn *batch[TXN_STEP]; /* for `store` */
    /* atomic: the driver counts, anyone reads */
    _Atomic(uint64_t) committed, aborted, unstored, stored, steps, serial, parallel;
    _Atomic(uint64_t) most_ns, bucket[TIMES_BUCKETS];
    struct tally tally; /* of enum txn_count */
};

/* The transaction whose body the calling thread is in; NULL: none. */
ASH_HIDDEN extern ASH_TLS struct ash_txn *txn_self;

/* The manager that the calling thread drives; NULL: none. Its bodies, hooks and `store` see it. */
ASH_HIDDEN extern ASH_TLS struct ash_txnmgr *txn_driven;

/*
 * Whether the thread is in a body, hook or `store` of this manager, or in one of another that such
 * a one waits for: it must not wait for it.
 */
bool txn_inside(const struct ash_txnmgr *m);

/* Whether the caller may change it. */
ASH_INLINE bool txn_is_open(const struct ash_txn *t)
{
    return (load_relaxed(&t->state) == TXN_BEGUN || txn_self == t) && !t->undoing;
}

ASH_INLINE struct ash_txn *txn_of(struct dispatch_txn *run)
{
    return (struct ash_txn *)(void *)run;
}

/* Calls its body. */
void txn_run(struct dispatch_txn *run);

/* Prefetches its argument, which often is memory of the transaction. */
void txn_fetch_arg(const struct dispatch_txn *run);

/*
 * Bytes of a block of keys: those that it writes from the front, those that it reads from the back;
 * behind them the scheduler's requests, if there is one.
 */
ASH_INLINE size_t key_block_bytes(const struct ash_txnmgr *m, unsigned keys)
{
    return keys * (sizeof(uint64_t) + (m->scheduled ? sizeof(struct sched_request) : 0));
}

/* The transaction has room for `room` keys in `block`. */
ASH_INLINE void key_block_use(struct ash_txn *t, uint64_t *block, unsigned room)
{
    t->key_room = room;
    t->run.writes = block;
    t->run.reads = block + room - t->run.read_count;
    t->run.sched.request = (struct sched_request *)(void *)(block + room);
}

/* Gives a block of keys back that is not the record's own. */
void key_block_drop(struct ash_txn *t);

ASH_INLINE void *txn_alloc(struct ash_txn *t, size_t n)
{
    return txnmem_alloc(&t->mem, &t->mgr->rule, n);
}

/* Undoes all of it, the last first; the log stays. */
void txn_log_undo(struct ash_txn *t);

/* Calls its hooks of a kind, the oldest first; the log is turned round. */
void txn_log_hooks(struct ash_txn *t, enum txn_kind kind);

/* Drops its bufs and forgets the rest. */
void txn_log_drop(struct ash_txn *t);

/* Hands out what was submitted, now and then, if nobody drives. Calls nothing of the program's. */
void txnmgr_hand_out(struct ash_txnmgr *m);

/* Takes it out of `done`. Under the lock. */
void txn_unlist(struct ash_txnmgr *m, struct ash_txn *t);

/* Makes the dispatcher: 0, or -ENOMEM, and it runs everything serially. */
int txnmgr_dispatch_init(struct ash_txnmgr *m);

/* Has it go the way of the settings. */
void txnmgr_dispatch_way(struct ash_txnmgr *m);

#endif
