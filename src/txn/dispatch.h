/*
 * The dispatcher: runs transactions that came in an order so that the result is that of this order,
 * and decides by measuring whether that takes one thread or all.
 *
 * They come in a list, which may grow while it is run. Who drives asks for the first so many to be
 * done, does something else, and asks for more; the list is over when all of it is done.
 *
 * SERIAL: the bodies are called one after the other, by the calling thread. Nothing is locked,
 * scheduled or handed over: for short bodies, or where all want the same keys, nothing is faster.
 *
 * PARALLEL: the calling thread owns a scheduler (txn/sched). It gives each transaction its place,
 * puts those that are ready into batches, hands batches to the executor, takes them back when they
 * are done, and releases their keys, which makes others ready. While it has nothing to hand out it
 * runs batches itself, and no other task of the executor's: a program's own may be long, or wait
 * for these very transactions.
 *  1. A full batch is as many bodies as fill BATCH_NS, so that its way there and back is a few per
 *     cent of it: some 100 ns where the processors have a cache in common, 2 us where they have
 *     not. Batches are smaller where little is left, so that nobody waits long for the last one,
 *     and where little is there yet, as while a program submits.
 *  2. A batch that was run goes on the stack `done` by one compare-and-swap; the dispatcher takes
 *     the whole stack by one exchange. So a body sees what those before it in its queues wrote: by
 *     way of `done` to the dispatcher, and from there with the batch.
 *  3. At most WINDOW transactions have a place at a time: their keys' records stay in the cache.
 *  4. Lines of memory that go from one processor to another and back are the cost of it: up to 0.3
 *     us each, where they have no cache in common. So who runs a body does not touch its struct
 *     dispatch_txn, which the scheduler writes to, and prefetches the next one's memory; and what
 *     it wrote of a transaction is prefetched by who takes the batch back.
 *  5. There is no barrier before the list is over. dispatch_run returns as soon as those at the
 *     front are done that it was asked for, and the executor's threads go on with the others while
 *     the program ends these; dispatch_more hands out what was added to the list while the program
 *     adds more, and calls no body. What is timed is the time of the calling thread in both.
 *  6. It runs its own batches only, not those of another dispatcher either, whose bodies may wait
 *     for its transactions. So it must get at each that nobody has begun, whatever the executor's
 *     threads wait for: batches are spawned at a place that is the dispatcher's while the list is
 *     under way, and no other task comes to lie there. Without one (8 others have them) it is
 *     SERIAL.
 *
 * Deciding: slices of SLICE_.. transactions are timed as they run, in as many calls as that takes.
 * From SERIAL, a trial of PARALLEL is made when bodies take BODY_LEAST at least, and of the first
 * PROBE transactions, which are scheduled, more than one in PROBE_READY is ready: that needs no
 * thread and costs some microseconds when it fails. A trial first wakes the threads up (WARM), and
 * is over at once if that was slow beyond hope. The faster way is kept. A trial that failed is
 * repeated after twice as long as before, or when the cost of bodies has changed; from PARALLEL a
 * slice looks into SERIAL now and then, and when PARALLEL is slower than SERIAL was. TRIAL_LATE
 * bounds both the loss by trials, to one in a hundred, and the time that one spoilt by another
 * program's turn on the processor costs.
 *
 * Rejected: a model that computes the speed-up from the conflict rate and the number of processors:
 * what a hand-over costs depends on the machine, and whether a processor is free on its others.
 * Rejected: trials within one call. A program that has 256 in flight never gives a call as many as
 * a trial takes, and stayed SERIAL for ever. Rejected: batches of 4 us, with two for each thread:
 * bodies of 0.6 us ran 1.3 times as fast on two processors without a common cache, where those of
 * 16 us run 1.8 times as fast.
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
};

/* What the owner of the transactions does for the dispatcher. */
struct dispatch_calls {
    void (*body)(struct dispatch_txn *t);
    /* Prefetches what `body` will read, in the thread that is to call it; NULL: nothing is done. */
    void (*fetch)(const struct dispatch_txn *t);
};

struct dispatch;

struct batch {
    struct dispatch *dispatch; /* const */
    struct batch *next;        /* owner: in `done`, or in the list of free ones */
    unsigned count; /* owner: the dispatcher, and between hand-over and `done` who runs */
    struct dispatch_txn *txn[DISPATCH_BATCH]; /* owner: likewise */
};

enum dispatch_way { DISPATCH_SERIAL, DISPATCH_PARALLEL, DISPATCH_WAYS };

enum dispatch_phase {
    DISPATCH_KEEP, /* the way is the faster one */
    DISPATCH_WARM, /* PARALLEL is about to be tried */
    DISPATCH_TRY   /* the way is tried: the other one was kept */
};

/* One thread at a time calls; `done` and `event` are shared with who runs batches. */
struct dispatch {
    struct sched sched;
    struct ash_exec *exec;
    struct worker *place; /* the executor's, from the list's first batch to its end; or NULL */
    struct dispatch_calls calls; /* const */
    struct batch *open;          /* being filled; NULL: none */
    struct batch *free;          /* of the scheduler's arena */
    struct batch *refused; /* the place had no memory for them: run by the next dispatch_run */
    unsigned batches;      /* that there are: one more than transactions that have a place */
    unsigned in_flight;    /* transactions that have a place */
    unsigned outstanding;  /* batches that were handed out and are not back */
    unsigned batch_size;   /* transactions that fill a batch */
    unsigned batch_fill;   /* that do now: fewer, where few are left */
    /* The list: the first `given` have or had a place, the first `ended` are done. */
    size_t given, ended;
    /* What was measured. */
    bool forced;  /* the way is given, for tests and benchmarks */
    bool probing; /* a trial is due, as soon as there are enough for it */
    enum dispatch_way way;
    enum dispatch_phase phase;
    uint64_t slice, slice_count, slice_ns; /* transactions: of a slice, so far; and their time */
    double ns[DISPATCH_WAYS];              /* a transaction, the last slices; 0: not known */
    double tried_ns;                       /* SERIAL's when a trial was made last */
    unsigned until_trial;                  /* slices */
    unsigned trial_again;                  /* slices from a trial that fails to the next */
    uint64_t count[DISPATCH_WAYS];         /* transactions */
    uint64_t trials, changes;
    /* atomic: batches that were run, or that the dispatcher sleeps; publishes what bodies wrote */
    ASH_LINE_ALIGNED _Atomic(struct batch *) done;
    _Atomic(uint32_t) event; /* atomic: changes before it is woken */
};

/* 0 or -ENOMEM. `exec` may be NULL: then everything is SERIAL. */
int dispatch_init(struct dispatch *d, struct ash_exec *exec, struct dispatch_calls calls);
void dispatch_fini(struct dispatch *d);

/*
 * Runs the list's transactions in their order, or as if, until the first `want` of its `n` are
 * done; others may be under way. *done is how many of its front are. The next call has the same
 * list, or a longer one, until *done was `n`: then comes a new one. For each `sched.request` has
 * room for all its keys. 0; -ENOMEM when those from *done on have not been run, for want of memory,
 * and the list is over.
 */
int dispatch_run(struct dispatch *d, struct dispatch_txn *const *txns, size_t n, size_t want,
                 size_t *done);

/* If the way is PARALLEL, hands out as many of the list's as the executor is in need of. */
void dispatch_more(struct dispatch *d, struct dispatch_txn *const *txns, size_t n);

/* Keeps to one way from now on, or goes back to deciding (DISPATCH_WAYS). Between two lists. */
void dispatch_force(struct dispatch *d, enum dispatch_way way);

/* Whether dispatch_more is of use. */
ASH_INLINE bool dispatch_is_parallel(const struct dispatch *d)
{
    return d->way == DISPATCH_PARALLEL && d->exec != NULL && d->exec->workers != 0;
}

#endif
