/*
 * Pools of resources: what one is, and who is given what.
 *
 * A resource is idle, or out: acquired, or in the hands of a callback of this pool. `open` counts
 * both and the rights to open one that are out, so it is what `hard_max` bounds; it falls only
 * after the close callback has returned. Invariants, whenever the lock is free:
 *
 *     idle <= open <= hard_max
 *     somebody waits  =>  idle = 0 and (open = hard_max or the pool is closed for good)
 *
 * so whoever finds an idle resource, or the right to open one, overtakes nobody.
 *
 * Rules
 *  1. A thread that waits stands in a queue, with a record on its own stack. What becomes free goes
 *     to the first of the queue, by name: a resource that is released, or the right to open one
 *     when another is closed or could not be opened. It does not become free for others in between.
 *  2. What is granted is written to the waiter's record under the lock, which takes the record off
 *     the queue; `word` is changed last. Waking it up afterwards uses the word's address alone, as
 *     its thread may be gone by then.
 *  3. A waiter whose time is over looks under the lock whether it has been granted something, and
 *     if so has not timed out.
 *  4. Callbacks run without the lock, on a resource that is in no list: nobody else finds it.
 *  5. Resources are found by their pointer in a hash table. One leaves it before its close callback
 *     is called, as the pointer (a file descriptor, say) may be used again from then on.
 *
 * The records of pools are never given back (mem/meta.h) but used again, so that statistics can
 * walk them without the lock: in the middle of a signal handler, or in a forked child where the
 * lock may be held for ever. All they read is atomic; `generation` is odd while there is a pool.
 *
 * Rejected: a lock-free stack of idle resources with waiters beside it. It saves a few nanoseconds
 * and cannot hand over in order.
 */
#ifndef ASH_RESPOOL_H
#define ASH_RESPOOL_H

#include "ashlar/respool.h"
#include "base/atomic.h"
#include "base/name.h"
#include "os/os_lock.h"
#include "run/emit.h"

extern ASH_HIDDEN struct emit_kind respools_kind;

struct resource {
    void *res;
    struct resource *chain;         /* lock: the next of its bucket */
    struct resource *newer, *older; /* lock: neighbours on the idle list */
    int64_t born;                   /* const */
    int64_t released;               /* who has it out; idle: const */
    int64_t good;                   /* likewise: when it was last released or checked */
    uint64_t uses;                  /* likewise: acquires */
    bool out;                       /* lock: acquired by the program */
};

enum grant { GRANT_NONE, GRANT_RESOURCE, GRANT_OPEN, GRANT_CANCEL };

struct waiter {
    struct waiter *next;
    enum grant grant;       /* lock, until `word` has changed; then the waiter */
    struct resource *given; /* likewise: of GRANT_RESOURCE */
    _Atomic(uint32_t) word; /* atomic: 0 until granted; publishes the two above */
};

enum { RESPOOL_BUCKETS = 16, RESPOOL_NAME = NAME_CAP };

/* Counters: written with the lock held, read by statistics without. */
struct respool_counts {
    _Atomic(uint64_t) open, idle, waiting;
    _Atomic(uint64_t) hits, misses, waits, timeouts, wait_ns;
    _Atomic(uint64_t) opened, open_failures, closed, expired, check_failures, invalidated;
};

struct ash_respool {
    struct os_lock lock;
    bool closed;                      /* lock */
    struct ash_respool_config config; /* const */
    struct resource *newest, *oldest; /* lock: the idle list */
    struct waiter *first, **last;     /* lock: the queue; where the next one is linked */
    struct resource **buckets;        /* lock: the table of all that are not being closed */
    size_t bucket_mask, resources;    /* lock: buckets - 1; resources in the table */
    struct resource *inline_buckets[RESPOOL_BUCKETS];
    struct respool_counts counts;
    struct ash_respool *link;                 /* const: the next of all records */
    _Atomic(uint64_t) generation;             /* atomic: odd while there is a pool */
    _Atomic(uint64_t) name[RESPOOL_NAME / 8]; /* atomic: NUL-terminated text */
};

/* ---- between respool.c and respool_api.c ---- */

/* The lock is not held at any of these calls. */
int respool_acquire(struct ash_respool *p, void **res, int64_t timeout_ns);
int respool_release(struct ash_respool *p, void *res, bool broken);
void respool_close(struct ash_respool *p);
int respool_maintain(struct ash_respool *p, int64_t now);

/* Opens up to `min`: 0, or the error of the open that failed. */
int respool_fill(struct ash_respool *p);

/* Frees the table. */
void respool_fini(struct ash_respool *p);

#endif
