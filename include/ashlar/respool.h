/*
 * ashlar/respool.h: pools of things that are costly to make and have a state: connections,
 * sessions, interpreters. Part of ashlar/pool.h.
 *
 *     static int db_open(void **res, void *user);     0 and the resource, or a negative errno
 *     static void db_close(void *res, void *user);
 *     static int db_ping(void *res, void *user);      0: it is well
 *
 *     struct ash_respool *pool = ash_respool_create("db", ASH_RESPOOL_CONFIG(
 *         .min = 2, .soft_max = 8, .hard_max = 16, .ttl_ns = 3600 * INT64_C(1000000000),
 *         .open = db_open, .close = db_close, .check = db_ping));
 *
 *     void *db;
 *     int status = ash_respool_acquire(pool, &db, 50 * INT64_C(1000000));
 *     if (status == 0) {
 *         ... use it ...
 *         ash_respool_release(pool, db);              or _invalidate, if it has broken
 *     }
 *
 * How many: at most `hard_max` are open at any time, those being opened and closed among them. An
 * acquire that finds none idle opens one while there are fewer; else it waits. Of more than
 * `soft_max` those that come back are closed, unless somebody waits for one. `min` are opened when
 * the pool is made, and kept.
 *
 * Waiting is first come, first served: a resource that comes back goes to who has waited longest,
 * and nobody who comes later gets one before. When a resource is closed instead, or could not be
 * opened, the right to open one goes there.
 *
 * Threads: any thread may call anything at any time, and release what another one acquired. A lock
 * of a few instructions guards each pool; it is never held while a callback runs, so callbacks may
 * take as long as they like, and call the pool. Times are nanoseconds.
 *
 * Cost: acquire and release of an idle resource together some 40 ns, if nobody waits.
 *
 * Caveats
 *   Two open resources must be two different pointers; an open that returns one again is -EEXIST.
 *   A forked child must not use the pools of its parent: the lock may be held by a thread that it
 *   does not have, and most resources cannot be shared by two processes. Statistics are safe.
 *   There is no thread behind a pool: idle resources are closed, and replaced, when
 *   ash_respool_maintain is called, now and then, by whoever likes. Ages are measured with a clock
 *   of a few milliseconds.
 */
#ifndef ASHLAR_RESPOOL_H
#define ASHLAR_RESPOOL_H

#include <ashlar/config.h>

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_respool;

/* Which idle one is acquired: the one that came back last, or the one that idles longest. */
enum ash_respool_order { ASH_LIFO, ASH_FIFO };

struct ash_respool_config {
    size_t struct_size; /* set by ASH_RESPOOL_CONFIG */
    unsigned min;       /* kept open */
    unsigned soft_max;  /* kept when they are not needed; 0: hard_max */
    unsigned hard_max;  /* open at a time; 0: no bound */
    int64_t ttl_ns;     /* closed at this age, when nobody uses it; 0: never */
    uint64_t max_uses;  /* closed after so many acquires; 0: never */
    enum ash_respool_order order;
    int (*open)(void **res, void *user);  /* required: 0, or an errno, which acquire returns */
    void (*close)(void *res, void *user); /* NULL: nothing is to be done */
    int (*check)(void *res, void *user);  /* 0: fit for use; NULL: they all are */
    void *user;                           /* handed to the callbacks */
    int64_t idle_ns;  /* those above `min` are closed when they have idled so long; 0: never */
    int64_t check_ns; /* a check is good for so long, and so is a release; 0: not at all */
};

#define ASH_RESPOOL_CONFIG(...) ASH_CONFIG(struct ash_respool_config, __VA_ARGS__)

struct ash_respool_stats {
    uint64_t open;           /* resources, those being opened or closed among them */
    uint64_t idle;           /* of them, ready to be acquired */
    uint64_t in_use;         /* the others */
    uint64_t waiting;        /* threads that wait for one */
    uint64_t hits;           /* acquires served by an idle one, or by one that came back */
    uint64_t misses;         /* acquires that opened one, or tried */
    uint64_t waits;          /* acquires that had to wait */
    uint64_t timeouts;       /* and in vain */
    uint64_t wait_ns;        /* time spent waiting */
    uint64_t opened;         /* successful opens */
    uint64_t open_failures;  /* others */
    uint64_t closed;         /* resources closed, for whatever reason; because of … */
    uint64_t expired;        /* … age, uses or idleness */
    uint64_t check_failures; /* … a failed check */
    uint64_t invalidated;    /* … ash_respool_invalidate */
};

/*
 * A pool of that name: 1 to 31 printable characters without quotes and backslashes, which are
 * copied; it tells the pools apart in the statistics. NULL and EINVAL for a bad name, without
 * `open`, for negative times, or unless min <= soft_max <= hard_max; NULL and ENOMEM. Opens `min`
 * resources; if one cannot be opened the pool is made all the same, and maintenance tries again.
 */
struct ash_respool *ash_respool_create(const char *name, const struct ash_respool_config *config);

/*
 * Closes all that is open and forgets the pool. 0, or -EBUSY and nothing done while a resource is
 * acquired, or being opened or closed, or somebody waits. Nobody uses the pool any more. NULL is
 * fine.
 */
int ash_respool_destroy(struct ash_respool *pool);

/*
 * Ends the giving out: who waits and who comes gets -ECANCELED. Idle resources are closed, the
 * others when they are released. Twice is once.
 */
void ash_respool_close(struct ash_respool *pool);

/*
 * A resource for the caller's sole use into `*res`. Where none is to be had it waits `timeout_ns`:
 * negative for ever, 0 not at all. An idle one that is too old is replaced by a new one; so is one
 * that the check rejects, which is asked when the last check or release is longer ago than
 * `check_ns`. Returns 0, -ETIMEDOUT, -ECANCELED once the pool is closed, -ENOMEM, what `open`
 * returned, or -EINVAL for a NULL. Time spent in callbacks does not count.
 */
int ash_respool_acquire(struct ash_respool *pool, void **res, int64_t timeout_ns);

/*
 * Gives a resource back, fit for the next user. 0, or -EINVAL and nothing done when it is not one
 * that is acquired from this pool: released twice, or somebody else's.
 */
int ash_respool_release(struct ash_respool *pool, void *res);

/* The same for one that has broken: it is closed, and who waits may open another. */
int ash_respool_invalidate(struct ash_respool *pool, void *res);

/*
 * Closes idle resources past their age or their idle time, checks those whose check is longer ago
 * than `check_ns` (unless that is 0), and opens new ones up to `min`. `now_ns` is the time of
 * CLOCK_MONOTONIC, or a later one to be tested with; negative: to be read from the clock. Returns
 * 0, or the error of an open that failed.
 */
int ash_respool_maintain(struct ash_respool *pool, int64_t now_ns);

/* 0, or -EINVAL when one of the two is NULL. */
int ash_respool_stats(const struct ash_respool *pool, struct ash_respool_stats *out);

/* Writes the statistics to the descriptor as text: 0, or the negative errno. */
int ash_respool_dump(const struct ash_respool *pool, int fd);

#ifdef __cplusplus
}
#endif

#endif
