/*
 * The dispatcher: runs transactions that came in an order so that the result is that of this order,
 * and decides by measuring whether that takes one thread or all.
 *
 * SERIAL: the bodies are called one after the other, by the calling thread. Nothing is locked,
 * scheduled or handed over: for short bodies, or where all want the same keys, nothing is faster.
 *
 * PARALLEL: the calling thread owns a scheduler (txn/sched). It gives each transaction its place,
 * puts those that are ready into batches, hands batches to the executor, takes them back when they
 * are done, and releases their keys, which makes others ready. While it has nothing to hand out it
 * runs batches itself, and no other task of the executor's: a program's own may be long, or wait
 * for these very transactions.
 *  1. A batch is as many bodies as fill BATCH_NS, so that its way there and back (some 100 ns) is a
 *     few per cent of it, and no more wait in it than have to.
 *  2. A batch that was run goes on the stack `done` by one compare-and-swap; the dispatcher takes
 *     the whole stack by one exchange. So a body sees what those before it in its queues wrote: by
 *     way of `done` to the dispatcher, and from there with the batch.
 *  3. At most WINDOW transactions have a place at a time: their keys' records stay in the cache.
 *
 *  4. Between dispatch_start and dispatch_run the calling thread does something else, while others
 *     run what was handed out. What is timed is the time of the calling thread.
 *
 * Deciding: slices of transactions are timed as they run. From SERIAL, a trial of PARALLEL is made
 * when bodies take BODY_LEAST at least, and of the first PROBE transactions, which are scheduled,
 * more than one in PROBE_READY is ready: that needs no thread and costs some microseconds when it
 * fails. The faster way is kept. A trial that failed is repeated after twice as long as before, or
 * when the cost of bodies has changed; PARALLEL is left when it is slower than SERIAL was, which a
 * slice looks into now and then.
 *
 * Rejected: a model that computes the speed-up from the conflict rate and the number of processors:
 * what a hand-over costs depends on the machine, and whether a processor is free on its others.
 */
#ifndef ASH_DISPATCH_H
#define ASH_DISPATCH_H

#include "txn/exec.h"
#include "txn/sched.h"

enum { DISPATCH_BATCH = 64 };

struct dispatch_txn {
    struct sched_txn sched;
    const uint64_t *writes, *reads;
    unsigned write_count, read_count;
    void (*body)(struct dispatch_txn *t);
};

struct dispatch;

struct batch {
    struct dispatch *dispatch; /* const */
    struct batch *next;        /* owner: in `done`, or in the list of free ones */
    unsigned count; /* owner: the dispatcher, and between hand-over and `done` who runs */
    struct dispatch_txn *txn[DISPATCH_BATCH]; /* owner: likewise */
};

enum dispatch_way { DISPATCH_SERIAL, DISPATCH_PARALLEL, DISPATCH_WAYS };

/* One thread at a time calls; `done`, `waiting` and `event` are shared with who runs batches. */
struct dispatch {
    struct sched sched;
    struct ash_exec *exec;
    struct batch *open;     /* being filled; NULL: none */
    struct batch *free;     /* of the scheduler's arena */
    unsigned batches;       /* that there are: one more than transactions that have a place */
    struct ash_group group; /* batches that were handed out, and still touch this */
    unsigned in_flight;     /* transactions that have a place */
    unsigned outstanding;   /* batches that were handed out and are not back */
    unsigned batch_size;    /* transactions that fill a batch */
    size_t started;         /* transactions of the next dispatch_run that have a place already */
    /* What was measured. */
    bool forced;                   /* the way is given, for tests and benchmarks */
    enum dispatch_way way;         /* of the next slice */
    double ns[DISPATCH_WAYS];      /* a transaction, the last slices; 0: not known */
    double tried_ns;               /* SERIAL's when a trial was made last */
    uint64_t started_ns;           /* the time that dispatch_start took */
    unsigned until_trial;          /* slices */
    unsigned trial_again;          /* slices from a trial that fails to the next */
    uint64_t count[DISPATCH_WAYS]; /* transactions */
    uint64_t trials, changes;
    /* atomic: batches that were run; publishes what their bodies wrote */
    ASH_LINE_ALIGNED _Atomic(struct batch *) done;
    _Atomic(uint32_t) waiting; /* atomic: the dispatcher may sleep */
    _Atomic(uint32_t) event;   /* atomic: changes before it is woken */
};

/* 0 or -ENOMEM. `exec` may be NULL: then everything is SERIAL. */
int dispatch_init(struct dispatch *d, struct ash_exec *exec);
void dispatch_fini(struct dispatch *d);

/*
 * Runs them in this order, or as if: when it returns all are done. For each `sched.request` has
 * room for all its keys. 0; -ENOMEM when those from *done on have not been run, for want of memory.
 */
int dispatch_run(struct dispatch *d, struct dispatch_txn *const *txns, size_t n, size_t *done);

/*
 * If the way is PARALLEL, hands out as many of them as can be at once, and returns: true. The next
 * call is dispatch_run with the same ones; meanwhile the caller's thread is free for other things.
 */
bool dispatch_start(struct dispatch *d, struct dispatch_txn *const *txns, size_t n);

/* Keeps to one way from now on, or goes back to deciding (DISPATCH_WAYS). */
void dispatch_force(struct dispatch *d, enum dispatch_way way);

#endif
