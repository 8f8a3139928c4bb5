/*
 * Transactions: functions that declare which keys they read and write, run so that the result is
 * that of running them one by one in the order in which they were submitted.
 *
 *     struct ash_txnmgr *bank = ash_txnmgr_create(exec, ASH_TXNMGR_CONFIG(.name = "bank"));
 *
 *     struct ash_txn *t = ash_txn_begin(bank);                // NULL: too many are under way
 *     struct transfer *order = ash_txn_alloc(t, sizeof *order);
 *     *order = (struct transfer){.from = 17, .to = 4, .amount = 100};
 *     ash_txn_writes(t, (uint64_t[]){17, 4}, 2);
 *     ash_txn_submit(t, transfer, order);
 *
 *     unsigned n = ash_txn_poll_batch(bank, done, 64);        // runs them; in submit order
 *     for (unsigned i = 0; i < n; i++) {
 *         reply(done[i], ash_txn_status(done[i]));
 *         ash_txn_end(done[i]);
 *     }
 *
 * A body returns 0 to commit, or a negative errno to abort, which is its status then. What it
 * changes is the program's own memory, and nothing is copied: before it changes something it says
 * how to undo that (ash_txn_save, ash_txn_undo), where it may have to. While a body runs no other
 * that writes what it reads or writes does. Bodies that have no key in common may run at the same
 * time, in several threads; whether they do is decided by measuring (txn/dispatch.h, and A. Thomson
 * et al.: Calvin, SIGMOD 2012, J. Faleiro, D. Abadi: Rethinking serializable multiversion
 * concurrency control, VLDB 2014). No transaction is retried, and there are no deadlocks.
 *
 * Who runs them: the threads that poll and wait, one at a time, with the executor's help; they run
 * no other tasks of the executor. The manager has no thread: a program that wants one has it, or a
 * task of the executor, call ash_txn_poll_wait in a loop. In each step all that were submitted
 * until then, 4096 at most, are run, given to `store` together (group commit), and are done;
 * without a `store` the first ones are done while others still run, in submit order all the same.
 * Where several threads are the faster way, submissions hand out bodies to the executor, which runs
 * them while the program submits more and ends others: nothing of a body may be taken for undone
 * because nobody has polled yet.
 *
 * Memory: what a transaction allocates, and what it is to remember, is cut from chunks of its own,
 * and all of it goes when it ends. In flight it costs its record, of about 200 bytes, and these
 * chunks: the first one of `arena_first` bytes, then some of 256, or a quarter of what there is.
 * Records and first chunks are used again, so small transactions take nothing from malloc once as
 * many have been in flight before.
 *
 * Functions that return int give 0 or a negative errno, -EINVAL for an argument that is none.
 * Functions that return pointers give NULL and set errno.
 *
 * Threads: any thread may begin, submit, poll, wait and end. One thread at a time uses a
 * transaction; from its submission until it is done that is whoever runs its body. Callbacks
 * (bodies, undo functions, hooks, `store`) are called with no lock held. What was written before a
 * transaction was submitted is seen by its body, and what that wrote, by whoever sees it done.
 *
 * Cost: a transaction of two keys from begin to end some 100 ns, beside its body; the first
 * ash_txn_alloc of a fresh record costs a malloc. Submitting never makes a system call but to wake
 * a thread, in ash_txn_poll_wait or of the executor's.
 *
 * Caveats
 *   A key that a body uses and has not declared is a data race. Memory from ash_txn_alloc is dead
 *   after ash_txn_end. Where nobody polls or waits nothing is done, though some of it may be run.
 *   A body that waits for another transaction would wait for ever: all calls that could do so give
 *   -EDEADLK there, also in bodies of other managers that it waits for, in the same thread. Tasks
 *   that a body spawns come to the executor as those of threads that are none of its workers do: it
 *   may have no room for them (-EAGAIN).
 *
 *   fork: the child's copy of a manager is empty. The parent's transactions are not run there;
 *   those that were begun before the fork are dead: their submission gives -ECANCELED, they are
 *   neither polled nor waited for, and ending them does nothing; the memory that they have stays.
 *   A body, hook or `store` that forks has its child end (_exit, exec) before it returns.
 */
#ifndef ASHLAR_TXN_H
#define ASHLAR_TXN_H

#include <ashlar/buf.h>
#include <ashlar/config.h>
#include <ashlar/exec.h>
#include <ashlar/gate.h>
#include <ashlar/shard.h>
#include <ashlar/wal.h>

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_txn;
struct ash_txnmgr;

/* ---- managers ---- */

enum ash_txn_way {
    ASH_TXN_ADAPTIVE, /* as measurements say */
    ASH_TXN_SERIAL,   /* by the thread that polls, one after the other */
    ASH_TXN_PARALLEL  /* with the executor, always */
};

struct ash_txnmgr_config {
    size_t struct_size;
    const char *name;     /* of 1 to 31 printable characters; copied; NULL for "txns" */
    unsigned limit;       /* begun and not ended, at most; 0 for 4096, up to 2^24 */
    unsigned queue;       /* submitted and not begun to run; a power of two or rounded up to one;
                             0 for `limit` */
    unsigned keys;        /* of a transaction, read and written, at most; 0 for 16, up to 65536;
                             there is room for 4, and more is taken where there are more */
    enum ash_txn_way way; /* without an executor always ASH_TXN_SERIAL */
    size_t arena_first;   /* bytes that a transaction's memory begins with; 0 for 256, which is
                             least. What most of them need saves time and, if they differ little,
                             memory */
    size_t arena_keep;    /* that much stays for the next transaction, if it is no more than this;
                             0 for 32 KiB */
    size_t arena_max;     /* bytes of memory of one, at most, and at least arena_first; 0 for no
                             bound */
    /*
     * Makes transactions durable: called with those of a step that have committed and have records
     * (ash_txn_record), in submit order, before any of the step is done. 0, or a negative errno:
     * then all of the step that had committed, with records or without, are undone, the last one
     * first, and come out with that status. What of their effects has no undo record stays. Never
     * called twice at a time. NULL: nothing is to be stored.
     */
    int (*store)(struct ash_txn *const *txns, unsigned n, void *user);
    void *user;
};

#define ASH_TXNMGR_CONFIG(...) ASH_CONFIG(struct ash_txnmgr_config, __VA_ARGS__)

/*
 * A manager that uses `exec`, which stays until it is destroyed; NULL: it does without. NULL and
 * EINVAL, ENOMEM.
 */
struct ash_txnmgr *ash_txnmgr_create(struct ash_exec *exec, const struct ash_txnmgr_config *config);

/*
 * Lets nothing begin or be submitted any more: that is answered -ECANCELED. What was submitted is
 * run and comes out as usual; threads that wait for more are told. 0.
 */
int ash_txnmgr_shutdown(struct ash_txnmgr *mgr);

/*
 * The same, and gives everything back: 0, or -EBUSY while there are transactions that have not
 * ended; then the manager stays, shut down: poll, end them, and call it again. -EDEADLK in a body.
 * No other thread uses the manager any more. NULL is fine.
 */
int ash_txnmgr_destroy(struct ash_txnmgr *mgr);

/* completed = committed + aborted + unstored. At rest all figures are exact. */
struct ash_txnmgr_stats {
    uint64_t limit;        /* of those in flight */
    uint64_t in_flight;    /* begun and not ended */
    uint64_t most;         /* that there ever were */
    uint64_t queued;       /* submitted and not begun to run */
    uint64_t begun;        /* in all */
    uint64_t refused;      /* begins answered EAGAIN or ETIMEDOUT */
    uint64_t completed;    /* were run, and are done */
    uint64_t committed;    /* of those */
    uint64_t aborted;      /* by their bodies */
    uint64_t unstored;     /* committed, and undone because `store` failed */
    uint64_t stored;       /* given to `store` */
    uint64_t steps;        /* in which they were run */
    uint64_t serial;       /* run by the polling thread alone */
    uint64_t parallel;     /* run with the executor */
    uint64_t record_bytes; /* of one transaction, without its memory */
    uint64_t arena_bytes;  /* memory of all of them, and what waits for the next ones; also keys
                              beyond those that a record has room for */
    uint64_t p50_ns;       /* from submission until done; of one in 16 */
    uint64_t p99_ns;
    uint64_t max_ns;
};

/* Reads the figures. */
int ash_txnmgr_stats(const struct ash_txnmgr *mgr, struct ash_txnmgr_stats *out);

/* Writes them to the descriptor, with words: 0, -EINVAL or the errno of the failed write. */
int ash_txnmgr_dump(const struct ash_txnmgr *mgr, int fd);

/* ---- the way of a transaction ---- */

/*
 * Begins one. NULL and EAGAIN when `limit` of them are in flight, which is an ordinary answer: end
 * some; ECANCELED after a shutdown; ENOMEM.
 */
struct ash_txn *ash_txn_begin(struct ash_txnmgr *mgr);

/*
 * The same, waiting until another thread ends one, for `timeout_ns` at most; negative for ever.
 * NULL and ETIMEDOUT; EDEADLK in a body.
 */
struct ash_txn *ash_txn_begin_wait(struct ash_txnmgr *mgr, int64_t timeout_ns);

/*
 * Declares keys, any 64-bit numbers; calls add up. A key that is written need not be declared read
 * as well, and one named twice is one. 0; -E2BIG when there are more than `keys`, -ENOMEM, and none
 * of these was added; -EBUSY after the submission.
 */
int ash_txn_reads(struct ash_txn *txn, const uint64_t *keys, unsigned n);
int ash_txn_writes(struct ash_txn *txn, const uint64_t *keys, unsigned n);

/*
 * A key for something that has a name: a hash of `len` bytes, the same in every process. Two names
 * with the same key are as one: one waits for the other, and nothing is wrong.
 */
uint64_t ash_txn_key(const void *bytes, size_t len);

/*
 * Submits it: its body will be called with `txn` and `arg`. 0; -EAGAIN when the queue is full,
 * -ECANCELED after a shutdown, and in both cases it is as before; -EBUSY when it was submitted
 * before; -EDEADLK in a body of this manager.
 */
int ash_txn_submit(struct ash_txn *txn, int (*body)(struct ash_txn *txn, void *arg), void *arg);

/*
 * Runs what was submitted, if nobody else does at the moment, and takes up to `max` done ones out,
 * in submit order: how many. Those that a thread waits for, or has waited for, do not come out
 * here. 0 also in a body or hook. Never sleeps, but bodies take their time.
 */
unsigned ash_txn_poll_batch(struct ash_txnmgr *mgr, struct ash_txn **out, unsigned max);

/*
 * The same, waiting for `timeout_ns` at most until there is one; negative for ever. 0 also when the
 * manager is shut down and nothing more will be done.
 */
unsigned ash_txn_poll_wait(struct ash_txnmgr *mgr, struct ash_txn **out, unsigned max,
                           int64_t timeout_ns);

/*
 * Waits until this one is done, and runs what was submitted meanwhile, if nobody else does: 0;
 * -ETIMEDOUT, and it may be polled again; -EINVAL when it was not submitted; -EDEADLK in a body.
 */
int ash_txn_wait(struct ash_txn *txn, int64_t timeout_ns);

/*
 * -EINPROGRESS until it is done; then 0 when it has committed, or the errno with which its body
 * aborted (-EINVAL if that returned a positive number) or `store` failed.
 */
int ash_txn_status(const struct ash_txn *txn);

/* What it was submitted with; NULL before. */
void *ash_txn_arg(const struct ash_txn *txn);

/*
 * Gives it back with all that it holds. Before the submission: it is abandoned, which is an abort,
 * undone here with its hooks called. Between submission and being done, in a function that undoes
 * it, and when it was given back already, it is reported (`ashlar: txns bank: end of transaction
 * 0x..., which has ended`), and the process aborted; with ASHLAR_ON_ERROR=warn nothing is done.
 * NULL is fine.
 */
void ash_txn_end(struct ash_txn *txn);

/* ---- in a transaction: until it is submitted, and in its body; else EBUSY ---- */

/* Functions that undo it, and its hooks, are not in it: there all of these give EBUSY. */

/* Memory that goes with it, aligned to 16 bytes, not zeroed. NULL and ENOMEM, EBUSY. */
void *ash_txn_alloc(struct ash_txn *txn, size_t n);

/*
 * Takes a value of a buf over, without copying its bytes, and drops it when the transaction ends.
 * The value is the transaction's from then on, the bytes are the program's to use. 0, or -ENOMEM,
 * -EBUSY: it still is the program's.
 */
int ash_txn_attach(struct ash_txn *txn, struct ash_buf buf);

/*
 * Gives bytes to be stored with its effects, which stay where they are, in its memory, in attached
 * bufs or elsewhere, until it ends. 0, -ENOMEM, -EBUSY.
 */
int ash_txn_record(struct ash_txn *txn, const void *data, size_t n);

/* What was given, in order, for `store`. 0, or -EINVAL. */
int ash_txn_records(const struct ash_txn *txn, const struct iovec **iov, unsigned *count);

/* Has fn(arg) called when it aborts; what was said last is undone first. 0, -ENOMEM, -EBUSY. */
int ash_txn_undo(struct ash_txn *txn, void (*fn)(void *arg), void *arg);

/* Keeps what is in the `n` bytes at `where`, to be put back if it aborts. 0, -ENOMEM, -EBUSY. */
int ash_txn_save(struct ash_txn *txn, void *where, size_t n);

/*
 * Has fn called by the thread that runs the step, when all of the step were run and stored, in
 * submit order, those of a transaction in the order of the calls; no body of the manager runs
 * meanwhile. A hook may begin and submit other transactions. 0, -ENOMEM, -EBUSY.
 */
int ash_txn_on_commit(struct ash_txn *txn, void (*fn)(struct ash_txn *txn, void *arg), void *arg);
int ash_txn_on_abort(struct ash_txn *txn, void (*fn)(struct ash_txn *txn, void *arg), void *arg);

/* Names the present point: its number, from 0 on, or -ENOMEM, -EBUSY. */
int ash_txn_savepoint(struct ash_txn *txn);

/*
 * Goes back to it: what was said to be undone since is, what was allocated, attached, recorded and
 * hooked since is gone; keys stay. The savepoint remains, those named after it do not. 0; -EINVAL
 * when there is no such savepoint, -EBUSY.
 */
int ash_txn_rollback_to(struct ash_txn *txn, int savepoint);

#ifdef __cplusplus
}
#endif

#endif
