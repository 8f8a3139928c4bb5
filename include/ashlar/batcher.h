/*
 * ashlar/batcher.h: calls that are collected and made together.
 *
 *     struct ash_batcher *b = ash_batcher_create("lookups", ASH_BATCHER_CONFIG(.done = done));
 *     int lookup = ash_batcher_add(b, lookup_many, db);
 *     ash_batcher_submit(b, lookup, &row, key, client, NULL);
 *     ...
 *     ash_batcher_tick(b, now_ns);
 *
 * A batch is made when it is full (in the submit that fills it), when its first call has waited for
 * the time that was set (in a tick), or on a flush. It calls each function once, with all of that
 * function's calls, and then `done` for each call in the order in which they were submitted.
 *
 * Threads: any thread may submit, cancel, tick and flush at any time. One thread at a time makes a
 * batch; meanwhile calls collect in the next one. Functions and `done` run in the thread that makes
 * the batch, with nothing held: they may submit and cancel. A child of fork goes on with the calls
 * that wait; a batch that another thread was making is not completed in it.
 *
 * Errors: NULL and errno, or a negative errno; -EINVAL for NULL.
 *
 * Caveats
 *   `arg` and `user` are pointers, of memory that has to stay until `done`. Two calls are the same
 *   when function and key are: the key has to say all that matters of the argument. Times are those
 *   of ticks: a call may wait for as long as one tick more. A flush within a function or `done`
 *   does nothing. Both must return.
 */
#ifndef ASHLAR_BATCHER_H
#define ASHLAR_BATCHER_H

#include <ashlar/config.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_batcher;

#define ASH_BATCHER_CALLS     65536 /* in a batch, at most */
#define ASH_BATCHER_FUNCTIONS 1024  /* in a batcher, at most */

struct ash_batch_call {
    void *arg; /* as submitted, and likewise: */
    void *user;
    uint64_t key;
    uint64_t ticket; /* 1, 2, 3, ... */
    void *result;    /* for the function to set; NULL before */
    int status;      /* for the function to set; 0 before. -ECANCELED of one that was cancelled */
    unsigned function;
};

struct ash_batcher_config {
    size_t struct_size;  /* of this struct: ASH_BATCHER_CONFIG sets it */
    unsigned max_calls;  /* in a batch, 0 for 64 */
    int64_t max_wait_ns; /* of the first call in a batch; 0 for 1 ms, negative for ever */
    /* Is told what became of each call. NULL: nobody is. */
    void (*done)(const struct ash_batch_call *call);
};

#define ASH_BATCHER_CONFIG(...) ASH_CONFIG(struct ash_batcher_config, __VA_ARGS__)

/*
 * Makes a batcher. `name` is copied: 1 to 31 printable ASCII characters without quotes and
 * backslashes; NULL for "batcher". NULL with EINVAL or ENOMEM.
 */
struct ash_batcher *ash_batcher_create(const char *name, const struct ash_batcher_config *config);

/* Ends it: 0; -EBUSY while calls wait or a batch is made. */
int ash_batcher_destroy(struct ash_batcher *batcher);

/*
 * Adds a function, which is to make `n` calls, at least one, when it is called. Its number, from 0
 * on, -ENOMEM, or -ENOSPC after ASH_BATCHER_FUNCTIONS.
 */
int ash_batcher_add(struct ash_batcher *batcher,
                    void (*function)(struct ash_batch_call *const *calls, unsigned n, void *user),
                    void *user);

/*
 * Adds a call to the batch. With a `key` that is not 0, calls of that function and key in the same
 * batch are made once, with the first one's argument, and all have its result. `ticket`, unless it
 * is NULL, is set to a number to cancel the call by.
 *
 * 0; -EAGAIN when the batch is full and another one is being made; -EINVAL: no such function. Cost:
 * about 20 ns; the call that fills the batch makes it.
 */
int ash_batcher_submit(struct ash_batcher *batcher, unsigned function, void *arg, uint64_t key,
                       void *user, uint64_t *ticket);

/*
 * Takes a call back that waits: it is not made, unless for another one of the same key; `done` is
 * told -ECANCELED in its turn. 0, or -ENOENT when it does not wait (any more).
 */
int ash_batcher_cancel(struct ash_batcher *batcher, uint64_t ticket);

/*
 * Tells the time, in ns of the program's clock, never going back, and makes the batch if it is due.
 * How many calls were completed; or -EBUSY when it is due and another thread makes one.
 */
int ash_batcher_tick(struct ash_batcher *batcher, int64_t now_ns);

/* The time at which the batch will be due; -1 when no call waits, or it waits for ever. */
int64_t ash_batcher_due(struct ash_batcher *batcher);

/* Makes the batch now, whatever is in it: how many calls were completed, or -EBUSY. */
int ash_batcher_flush(struct ash_batcher *batcher);

struct ash_batcher_stats {
    uint64_t submitted;
    uint64_t refused;   /* submits with -EAGAIN */
    uint64_t completed; /* calls of which `done` was told, those cancelled too */
    uint64_t merged;    /* of these, that had the result of another one of the same key */
    uint64_t cancelled;
    uint64_t failed;  /* calls, made, with a status other than 0 */
    uint64_t waiting; /* now */
    uint64_t batches; /* = full + timed + flushed */
    uint64_t full, timed, flushed;
    uint64_t runs; /* calls of functions */
};

/* Reads the figures: 0, or -EINVAL. */
int ash_batcher_stats(struct ash_batcher *batcher, struct ash_batcher_stats *out);

/* Writes them as text: 0, -EINVAL or the negative errno of the write. */
int ash_batcher_dump(struct ash_batcher *batcher, int fd);

#ifdef __cplusplus
}
#endif

#endif
