/*
 * Tiers: which functions of a program are worth compiling, and how well.
 *
 * Every function has a counter of its calls. At a threshold, and when it has been in its tier for a
 * while (the cool-down), the program's `compile` is called for the next tier: once, whichever and
 * however many threads run the function; in the thread that made the call or on an executor. When
 * it fails, the function stays where it is and is tried again later, each time after twice as long.
 *
 *     tier   left at (calls)   not sooner than, in this tier
 *      0          100             10 ms
 *      1         1000            100 ms
 *      2        10000              1 s
 *      3        never
 *
 *     struct ash_tier *tiers = ash_tier_create("js", ASH_TIER_CONFIG(.compile = compile));
 *     f->tier = ash_tier_register(tiers, "add", f);
 *     ...
 *     switch (ash_tier_hit(f->tier)) {   // at each call of f, by any thread
 *     case 0: return interpret(f);
 *     default: return f->code(...);      // what compile() has stored before it returned 0
 *     }
 *
 * Threads: every function may be called by any thread at any time. `compile` runs without a lock
 * held; two compilations of different functions may run at a time, of one function never.
 *
 * A forked child goes on: compilations that another thread had begun or an executor was to do are
 * forgotten and come up again at a later call.
 *
 * Caveats:
 *  - A call is counted without a locked instruction: when several threads count the same function
 *    in the same instant, some of these calls are lost. So a threshold may be reached late, never
 *    early. Counters for each thread would not lose any, and cost a look-up at each call.
 *  - Thresholds are looked at again every 1/8 of the calls while a cool-down has not passed, so it
 *    may be overstepped by that much of the function's running.
 *  - Generated code may count by itself: raise `calls`, and call ash_tier_hot when it has reached
 *    `limit`, which is what ash_tier_hit does.
 *  - Functions are listed by ash_tier_dump; the statistics of the allocator show the sums.
 */
#ifndef ASHLAR_TIER_H
#define ASHLAR_TIER_H

#include <ashlar/config.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_exec;
struct ash_tier;

enum { ASH_TIER_MAX = 8 };

/*
 * A registered function's counter. The library's memory; programs read and write it by the
 * functions below alone, generated code as described above.
 */
struct ash_tier_fn {
    uint64_t calls; /* since it was registered */
    uint64_t limit; /* at which count ash_tier_hot is to be called */
    uint32_t tier;
};

struct ash_tier_config {
    size_t struct_size; /* of this struct: ASH_TIER_CONFIG sets it */
    /*
     * Compiles `arg`, as given to ash_tier_register, for `tier` (1 is the first): 0, and then calls
     * find the new tier; anything else: try later. Not NULL.
     */
    int (*compile)(void *arg, unsigned tier, void *user);
    void *user;     /* handed to `compile` */
    unsigned tiers; /* 2 to ASH_TIER_MAX; 0 for 4 */
    /*
     * For leaving tier i: calls in all, rising; 0 for 100 times 10 to the i. Nanoseconds in the
     * tier; 0 for 10 ms times 10 to the i, negative for none at all.
     */
    uint64_t calls[ASH_TIER_MAX - 1];
    int64_t cooldown_ns[ASH_TIER_MAX - 1];
    /*
     * Where `compile` runs: NULL for the thread whose call reached the threshold; else it is handed
     * to spawn(exec, fn, arg), as ash_exec_spawn of ashlar/exec.h is. An answer that is not 0 means
     * that it was not taken, and counts as a failure. What was taken has to be run.
     */
    int (*spawn)(struct ash_exec *exec, void (*fn)(void *), void *arg);
    struct ash_exec *exec;
};

#define ASH_TIER_CONFIG(...) ASH_CONFIG(struct ash_tier_config, __VA_ARGS__)

struct ash_tier_stats {
    uint64_t functions;             /* registered now */
    uint64_t compiling;             /* of these, being compiled or waiting for it */
    uint64_t transitions;           /* compilations that succeeded */
    uint64_t failures;              /* that did not */
    uint64_t refused;               /* that `spawn` did not take */
    uint64_t demotions;             /* calls of ash_tier_demote that did something */
    uint64_t in_tier[ASH_TIER_MAX]; /* functions by tier */
};

/*
 * Makes a set of functions with common settings. `name` is copied: 1 to 31 printable ASCII
 * characters without quotes and backslashes; NULL for "tier". NULL with EINVAL or ENOMEM.
 */
struct ash_tier *ash_tier_create(const char *name, const struct ash_tier_config *config);

/*
 * Ends it with all functions that are still registered: 0, -EBUSY while one of them is being
 * compiled or waits for it (nothing is changed then), -EINVAL for NULL.
 */
int ash_tier_destroy(struct ash_tier *tier);

/*
 * Registers a function, in tier 0 with no calls. `name` is shown by ash_tier_dump, cut at 31
 * characters; `arg` is handed to `compile`. NULL with EINVAL or ENOMEM. Cost: about 100 ns.
 */
struct ash_tier_fn *ash_tier_register(struct ash_tier *tier, const char *name, void *arg);

/*
 * The function is gone; nobody may call it any more. 0, -EBUSY while it is being compiled or waits
 * for it, -EINVAL for NULL.
 */
int ash_tier_unregister(struct ash_tier *tier, struct ash_tier_fn *fn);

/* The slow part of ash_tier_hit: looks whether the function is due, and has it compiled. */
void ash_tier_hot(struct ash_tier_fn *fn);

/*
 * The function's tier. Whoever finds a tier also finds all that `compile` wrote before it returned
 * for it.
 */
static inline unsigned ash_tier_level(const struct ash_tier_fn *fn)
{
    return __atomic_load_n(&fn->tier, __ATOMIC_ACQUIRE);
}

/*
 * Counts a call, and returns the tier to run it in, which this very call may have raised. Cost:
 * less than 1 ns.
 */
static inline unsigned ash_tier_hit(struct ash_tier_fn *fn)
{
    uint64_t calls = __atomic_load_n(&fn->calls, __ATOMIC_RELAXED) + 1;
    __atomic_store_n(&fn->calls, calls, __ATOMIC_RELAXED);
    if (__builtin_expect(calls >= __atomic_load_n(&fn->limit, __ATOMIC_RELAXED), 0))
        ash_tier_hot(fn);
    return ash_tier_level(fn);
}

/*
 * Puts a function back into a lower tier, because an assumption that it was compiled under does not
 * hold: its calls count from here anew, and its next cool-down lasts twice as long as the one
 * before. 0; -EBUSY while it is being compiled; -EINVAL for NULL or a tier that is not lower.
 */
int ash_tier_demote(struct ash_tier_fn *fn, unsigned tier);

/* Reads the figures: 0, or -EINVAL. Cost: a walk over the functions. */
int ash_tier_stats(struct ash_tier *tier, struct ash_tier_stats *out);

/* Writes figures and functions as text: 0, -ENOMEM, -EINVAL or the errno of the failed write. */
int ash_tier_dump(struct ash_tier *tier, int fd);

#ifdef __cplusplus
}
#endif

#endif
