/*
 * Pools of equal objects.
 *
 * A pool hands out objects of one size and takes them back; what it has taken back it hands out
 * again, in the state in which it was put. Each thread keeps some free objects of its own (a
 * magazine), so that getting and putting are a few instructions; half a magazine at a time goes to
 * and comes from a depot that all threads share. The idea is that of J. Bonwick and J. Adams,
 * Magazines and Vmem, USENIX 2001.
 *
 *     struct ash_pool *packets = ash_pool_create("packets",
 *         ASH_POOL_CONFIG(.obj_size = sizeof(struct packet), .prealloc = 1000));
 *     struct packet *p = ash_pool_get(packets);
 *     ...
 *     ash_pool_put(packets, p);
 *     ash_pool_destroy(packets);
 *
 * Objects are aligned to 64 bytes unless asked otherwise, so no two share a cache line. Memory
 * comes in chunks of at least 64 KiB from where malloc's comes from: limits and totals of
 * ashlar/malloc.h and ashlar/stats.h include it, and every format of the statistics lists the pools
 * by name.
 *
 * Threads: unless said otherwise, every function may be called by any thread at any time and waits
 * for none; an object may be put by another thread than got it. A thread's magazine stays when the
 * thread ends and is for the next one, or for whoever finds nothing else. Functions of a pool must
 * not run any more when it is destroyed. A pool with ASH_POOL_SINGLE_THREAD is for one thread at a
 * time in all functions but those that count.
 *
 * A forked child goes on with the pools; what was in magazines of threads that it does not have is
 * lost to it, at most `cache` objects a thread.
 *
 * Cost: getting and putting are compiled into the caller, a dozen instructions each; so the
 * beginnings of a pool, of a cache and of a thread's table are described below. They are not for
 * programs, and fixed as long as the library's SONAME is.
 *
 * Errors: functions that return a pointer return NULL and set errno, those that return an int give
 * 0 or a negative errno, -EINVAL also for NULL and for a pool that was destroyed. Putting cannot
 * fail: a pointer that is no object of the pool is reported on standard error and the process
 * aborted (ASHLAR_ON_ERROR=warn: it goes on, the pointer is left alone) when the object moves on to
 * the depot, or at once in debug pools; a put into a pool that was destroyed likewise, at once.
 *
 * Caveats:
 *  - Free objects in one thread's magazine cannot be had by another: a pool at its capacity may
 *    refuse a get while other threads keep free objects, at most `cache` each. The default of
 *    `cache` is therefore lower in small bounded pools.
 *  - Without a constructor and without `reset`, what an object holds when it is got is not defined.
 *  - In pools that are not for debugging, an object that is put twice is found by ash_pool_audit
 *    alone. Until then two callers may get it.
 *  - No function may be called in a signal handler that can interrupt another of the same pool.
 */
#ifndef ASHLAR_POOL_H
#define ASHLAR_POOL_H

#include <ashlar/config.h>
#include <ashlar/respool.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_pool;

/* The beginning of a pool, for the functions that are compiled in; not for programs. */
struct ash_pool_head {
    uintptr_t ash_fast; /* its place in threads' tables, the address of its only cache, or 0 */
};

/* A cache; likewise. Its owner writes, threads that look at statistics read. */
struct ash_pool_cache {
    uint64_t ash_word;     /* gets that it served : 48 | objects in it : 16 */
    void **ash_object;     /* the newest last */
    uint32_t ash_capacity; /* objects that it may hold */
    uint32_t ash_dressed;  /* its objects are looked at as they come and go */
};

/* The caches of a thread, by the pools' places, NULL where it has none; likewise. */
struct ash_pool_thread {
    struct ash_pool_cache *ash_near[16]; /* of the first places: a load less */
    struct ash_pool_cache **ash_far;     /* of all others */
    uint32_t ash_count;                  /* places below this are in ash_far, or in ash_near */
    uint32_t ash_ended;                  /* it gets no more */
};

enum {
    ASH_POOL_FIXED = 1, /* all `capacity` objects are made at once; there are never more or fewer */
    ASH_POOL_ZERO = 2,  /* objects are all zero when got; with a constructor, when that runs */
    ASH_POOL_EAGER = 4, /* objects are constructed along with their memory, not when first got */
    ASH_POOL_DEBUG =
        8, /* misuse is found at the call: put twice, foreign, overrun, use after put */
    ASH_POOL_SINGLE_THREAD = 16 /* no thread-local storage, no locked instructions */
};

#define ASH_POOL_CACHE_MAX 32768u

struct ash_pool_config {
    size_t struct_size; /* of this struct: ASH_POOL_CONFIG sets it */
    size_t obj_size;    /* bytes in an object, not 0 */
    size_t align;       /* a power of two up to 1 GiB; 0 for 64. Less than 64 packs small objects */
    unsigned cache;     /* objects a thread keeps, up to ASH_POOL_CACHE_MAX; 0 for 32 KiB of them,
                           but 64 to 512, or a quarter of `capacity` if that is less */
    unsigned prealloc;  /* objects to make memory for at once; with ASH_POOL_FIXED all are */
    unsigned capacity;  /* objects at most, up to 2^31; 0 for no bound, or `prealloc` if fixed */
    unsigned flags;     /* ASH_POOL_..., or-ed */
    size_t max_bytes;   /* of memory for objects, at most; 0 for no bound */
    /*
     * Each may be NULL. `ctor` makes an object out of memory: 0, or an errno, with which the get
     * fails. `reset` is called on each put. `dtor` is called on every constructed object when its
     * memory leaves the pool. They may use this and other pools, but not destroy this one.
     */
    int (*ctor)(void *obj, void *user);
    void (*reset)(void *obj, void *user);
    void (*dtor)(void *obj, void *user);
    void *user; /* handed to the three */
};

#define ASH_POOL_CONFIG(...) ASH_CONFIG(struct ash_pool_config, __VA_ARGS__)

/*
 * Makes a pool. `name` is copied: 1 to 31 printable ASCII characters without quotes and
 * backslashes, not that of another pool; NULL for "pool-" and a number.
 *
 * NULL with EINVAL (settings that make no sense), EEXIST (the name is taken), ENOMEM, or what a
 * constructor failed with. Cost: some microseconds, and what is preallocated.
 */
struct ash_pool *ash_pool_create(const char *name, const struct ash_pool_config *config);

/*
 * Ends the pool and gives its memory back: 0, or -EBUSY while objects are out, -EINVAL. Caches that
 * the program made of it are empty from then on, and still have to be destroyed.
 */
int ash_pool_destroy(struct ash_pool *pool);

/* ---- objects ---- */

/*
 * An object; NULL with ENOBUFS when there are `capacity` of them and none is in reach, ENOMEM when
 * a limit on memory or the system refuses more, EINVAL, or what the constructor failed with. Cost:
 * about 1 ns; where the thread's magazine is empty, that of half a magazine, 1 to 2 ns for each.
 */
void *ash_pool_get(struct ash_pool *pool);

/* Puts an object back. NULL is nothing. errno is kept. Cost: as of getting. */
void ash_pool_put(struct ash_pool *pool, void *obj);

/*
 * `n` objects at once, into `objs`: 0 if all could be had, or a negative errno as of ash_pool_get,
 * and none was taken; what `objs` holds is not defined then. Cost: less than 1 ns an object where
 * the magazine holds them.
 */
int ash_pool_get_bulk(struct ash_pool *pool, void **objs, unsigned n);

/* Puts `n` objects back; none of them NULL. */
void ash_pool_put_bulk(struct ash_pool *pool, void *const *objs, unsigned n);

/* As many objects as can be had, up to `n`: how many. errno is kept. */
unsigned ash_pool_get_burst(struct ash_pool *pool, void **objs, unsigned n);

/* ---- caches that the program owns ---- */

/*
 * A magazine that belongs to no thread: for coroutines, for a pool of workers that share threads,
 * for a thread that wants a larger one for a while. It holds up to `capacity` free objects, 0 for
 * as many as a thread's. NULL with EINVAL (also of a pool for a single thread) or ENOMEM.
 *
 * One thread at a time may use a cache. Objects got from a cache may be put anywhere, and the other
 * way round.
 */
struct ash_pool_cache *ash_pool_cache_create(struct ash_pool *pool, unsigned capacity);

/* Ends a cache; its free objects are the pool's. NULL is nothing. */
void ash_pool_cache_destroy(struct ash_pool_cache *cache);

/* Gives the cache's free objects to all. */
void ash_pool_cache_flush(struct ash_pool_cache *cache);

/* As ash_pool_get and ash_pool_put. */
void *ash_pool_cache_get(struct ash_pool_cache *cache);
void ash_pool_cache_put(struct ash_pool_cache *cache, void *obj);

/* ---- size ---- */

/* Objects that are out: exact while no thread is inside a function of the pool. 0 for no pool. */
unsigned ash_pool_in_use(const struct ash_pool *pool);

/* Objects that there are and that are not out; some may be in other threads' magazines. */
unsigned ash_pool_available(const struct ash_pool *pool);

/* The most objects there may be, 0 for no bound. */
unsigned ash_pool_capacity(const struct ash_pool *pool);

/*
 * Sets the most objects there may be, 0 for no bound (not of fixed pools). Fixed pools make the
 * missing ones; of too many, free ones are destructed. 0, -EBUSY when there are too many and not
 * enough of them are free and in reach, or another thread is at it, -ENOMEM, -EINVAL; the bound is
 * as before then.
 */
int ash_pool_resize(struct ash_pool *pool, unsigned capacity);

/*
 * Gives chunks back of which every object is free and in reach: in the depot, in this thread's
 * magazine, or in those of threads that have ended. 1 when there were any, 0 when not (always, of
 * fixed pools), -EBUSY while another thread trims or resizes, -EINVAL. While it runs, a get of
 * another thread may find nothing free. Cost: some ns for each free object.
 */
int ash_pool_trim(struct ash_pool *pool);

/* ---- looking at pools ---- */

/* 1 when `p` is the address of an object of this pool, 0 when not. `p` is not touched. */
int ash_pool_owns(const struct ash_pool *pool, const void *p);

/* The pool's name, until it is destroyed; NULL for no pool. */
const char *ash_pool_name(const struct ash_pool *pool);

/* The pool of that name; NULL: there is none. */
struct ash_pool *ash_pool_lookup(const char *name);

/*
 * Calls `fn` for every pool until it returns something else than 0, which is returned; else 0, or
 * -EINVAL. `fn` may create and destroy pools.
 */
int ash_pool_walk(int (*fn)(struct ash_pool *pool, void *user), void *user);

/*
 * Calls `fn` for every constructed object, in use or free, likewise; -ENOMEM when there is no
 * memory for a bit for each. While it runs, no other thread may use the pool, and `fn` must not
 * trim, resize or destroy it.
 */
int ash_pool_each(struct ash_pool *pool, int (*fn)(void *obj, int in_use, void *user), void *user);

/*
 * Checks the pool against itself, and in debug pools every object: the number of faults, each of
 * which is described on standard error, or -ENOMEM, -EINVAL. Objects put twice, foreign ones,
 * objects missing; in debug pools also writes before and behind objects, and to free ones. While it
 * runs, no other thread may use the pool.
 */
int ash_pool_audit(struct ash_pool *pool);

struct ash_pool_stats {
    uint64_t hits;     /* objects got from the caller's own cache */
    uint64_t misses;   /* objects got from elsewhere; hits + misses are all */
    uint64_t in_use;   /* objects that are out */
    uint64_t created;  /* objects there are */
    uint64_t capacity; /* objects there may be, 0 for no bound */
    uint64_t cached;   /* free objects in caches of threads and of the program */
    uint64_t bytes;    /* memory for objects */
    uint64_t cache;    /* objects that a thread's cache may hold */
    uint64_t caches;   /* caches, those that wait for another thread too */
    uint64_t refused;  /* gets that failed */
    uint64_t trimmed;  /* chunks of memory given back */
};

/*
 * Fills `out`: 0 or -EINVAL. Each counter has one writer, so while other threads run, figures are a
 * moment apart; at rest they are exact.
 */
int ash_pool_stats(const struct ash_pool *pool, struct ash_pool_stats *out);

/* Writes them to a descriptor, with words: 0, -EINVAL, or the negative errno of the write. */
int ash_pool_dump(const struct ash_pool *pool, int fd);

/* ---- adapting the caches ---- */

/*
 * How the size of threads' caches follows the program. Once an interval, over the gets since the
 * last look (if there were at least 32):
 *
 *     hit rate < low_rate                                  cache x 1.2, at least one more
 *     hit rate > high_rate, and the fullest cache holds    twice what that holds, at least 10
 *     less than half of what it may
 *
 * Nothing runs by itself: gets that miss look at the clock. From the first call of ash_tune on, the
 * program does that for all pools.
 */
struct ash_tuner {
    size_t struct_size;         /* ASH_TUNER_CONFIG sets it */
    unsigned min, max;          /* bounds of the cache's size; 0 for 10 and 1024 */
    double low_rate;            /* 0 for 0.9 */
    double high_rate;           /* 0 for 0.99 */
    int64_t interval_ns;        /* 0 for a minute */
    int64_t (*now)(void *user); /* the time in ns, never going back; NULL for a monotonic clock */
    void *user;
};

#define ASH_TUNER_CONFIG(...) ASH_CONFIG(struct ash_tuner, __VA_ARGS__)

/* Lets the pool's caches be adapted, NULL: not any more. 0, -EINVAL, -ENOMEM. Copied. */
int ash_pool_set_tuner(struct ash_pool *pool, const struct ash_tuner *tuner);

/* Looks at all pools that have a tuner, the time being `now_ns`: how many caches it changed. */
int ash_tune(int64_t now_ns);

/* ---- the short ways ---- */

/* What the functions above do where a cache does not serve them: not for programs. */
void *ash_pool_get_slow(struct ash_pool *pool);
void ash_pool_put_slow(struct ash_pool *pool, void *obj);
int ash_pool_get_bulk_slow(struct ash_pool *pool, void **objs, unsigned n);
void ash_pool_put_bulk_slow(struct ash_pool *pool, void *const *objs, unsigned n);
void *ash_pool_cache_get_slow(struct ash_pool_cache *cache);
void ash_pool_cache_put_slow(struct ash_pool_cache *cache, void *obj);

/*
 * Compiled into the caller's code. A compiler that does not inline calls the library's functions,
 * which are the same; so does a program that defines ASH_POOL_OUT_OF_LINE, and one that is watched
 * by ThreadSanitizer, which does not see how the library orders the hand-over of caches.
 */
#ifdef __SANITIZE_THREAD__
#define ASH_POOL_WATCHED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ASH_POOL_WATCHED 1
#endif
#endif

#if defined(ASH_POOL_DEFINED_HERE) /* by the library, in one of its files */
#define ASH_POOL_INLINE __attribute__((__visibility__("default")))
#elif defined(__GNUC__) && !defined(ASH_POOL_OUT_OF_LINE) && !defined(ASH_POOL_WATCHED)
#define ASH_POOL_INLINE extern __inline __attribute__((__gnu_inline__))
#endif

#ifdef ASH_POOL_INLINE
#define ASH_POOL_PART   extern __inline __attribute__((__gnu_inline__, __always_inline__))
#define ASH_POOL_PLACES ((uintptr_t)1 << 16) /* less than any address */
#define ASH_POOL_HIT    ((uint64_t)1 << 16)  /* one get in ash_word */

extern __thread struct ash_pool_thread ash_pool_caches
    __attribute__((__tls_model__("initial-exec")));

/* The cache that the calling thread uses; NULL if it has none yet. */
ASH_POOL_PART struct ash_pool_cache *ash_pool_cache_self(const struct ash_pool *pool)
{
    if (__builtin_expect(pool == NULL, 0))
        return NULL;
    const struct ash_pool_head *head = (const struct ash_pool_head *)pool;
    uintptr_t fast = __atomic_load_n(&head->ash_fast, __ATOMIC_RELAXED);
    if (__builtin_expect(fast < sizeof ash_pool_caches.ash_near / sizeof(void *), 1))
        return ash_pool_caches.ash_near[fast];
    if (__builtin_expect(fast < ash_pool_caches.ash_count, 1))
        return ash_pool_caches.ash_far[fast];
    return (struct ash_pool_cache *)(fast < ASH_POOL_PLACES ? 0 : fast);
}

/* What the cache's word is; of none, that of one without objects. */
ASH_POOL_PART uint64_t ash_pool_cache_word(const struct ash_pool_cache *cache)
{
    return cache == NULL ? 0 : __atomic_load_n(&cache->ash_word, __ATOMIC_RELAXED);
}

/* Objects that may be put into it; `word` is what the cache's is. */
ASH_POOL_PART uint32_t ash_pool_cache_room(const struct ash_pool_cache *cache, uint64_t word)
{
    if (cache == NULL)
        return 0;
    return __atomic_load_n(&cache->ash_capacity, __ATOMIC_RELAXED) - (uint16_t)word;
}

/* Takes the newest object. */
ASH_POOL_PART void *ash_pool_cache_pop(struct ash_pool_cache *cache, uint64_t word)
{
    __atomic_store_n(&cache->ash_word, word + ASH_POOL_HIT - 1, __ATOMIC_RELAXED);
    return cache->ash_object[(uint16_t)word - 1];
}

ASH_POOL_PART void ash_pool_cache_push(struct ash_pool_cache *cache, uint64_t word, void *obj)
{
    cache->ash_object[(uint16_t)word] = obj;
    __atomic_signal_fence(__ATOMIC_RELEASE); /* for a child that is forked here */
    __atomic_store_n(&cache->ash_word, word + 1, __ATOMIC_RELAXED);
}

ASH_POOL_INLINE void *ash_pool_get(struct ash_pool *pool)
{
    struct ash_pool_cache *cache = ash_pool_cache_self(pool);
    uint64_t word = ash_pool_cache_word(cache);
    if (__builtin_expect((uint16_t)word == 0, 0))
        return ash_pool_get_slow(pool);
    return ash_pool_cache_pop(cache, word);
}

ASH_POOL_INLINE void ash_pool_put(struct ash_pool *pool, void *obj)
{
    struct ash_pool_cache *cache = ash_pool_cache_self(pool);
    uint64_t word = ash_pool_cache_word(cache);
    if (__builtin_expect(ash_pool_cache_room(cache, word) == 0 || obj == NULL, 0))
        ash_pool_put_slow(pool, obj);
    else
        ash_pool_cache_push(cache, word, obj);
}

/* In both of these the test takes `n` = 0 the long way too. */
ASH_POOL_INLINE int ash_pool_get_bulk(struct ash_pool *pool, void **objs, unsigned n)
{
    struct ash_pool_cache *cache = ash_pool_cache_self(pool);
    uint64_t word = ash_pool_cache_word(cache);
    if (__builtin_expect(n - 1 >= (uint16_t)word, 0))
        return ash_pool_get_bulk_slow(pool, objs, n);
    __builtin_memcpy(objs, cache->ash_object + ((uint16_t)word - n), n * sizeof *objs);
    __atomic_store_n(&cache->ash_word, word + n * (ASH_POOL_HIT - 1), __ATOMIC_RELAXED);
    return 0;
}

ASH_POOL_INLINE void ash_pool_put_bulk(struct ash_pool *pool, void *const *objs, unsigned n)
{
    struct ash_pool_cache *cache = ash_pool_cache_self(pool);
    uint64_t word = ash_pool_cache_word(cache);
    if (__builtin_expect(n - 1 >= ash_pool_cache_room(cache, word), 0)) {
        ash_pool_put_bulk_slow(pool, objs, n);
        return;
    }
    __builtin_memcpy(cache->ash_object + (uint16_t)word, objs, n * sizeof *objs);
    __atomic_signal_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&cache->ash_word, word + n, __ATOMIC_RELAXED);
}

ASH_POOL_INLINE void *ash_pool_cache_get(struct ash_pool_cache *cache)
{
    uint64_t word = ash_pool_cache_word(cache);
    if (__builtin_expect((uint16_t)word == 0 || cache->ash_dressed, 0))
        return ash_pool_cache_get_slow(cache);
    return ash_pool_cache_pop(cache, word);
}

ASH_POOL_INLINE void ash_pool_cache_put(struct ash_pool_cache *cache, void *obj)
{
    uint64_t word = ash_pool_cache_word(cache);
    if (__builtin_expect(ash_pool_cache_room(cache, word) == 0 || obj == NULL || cache->ash_dressed,
                         0))
        ash_pool_cache_put_slow(cache, obj);
    else
        ash_pool_cache_push(cache, word, obj);
}
#endif

#ifdef __cplusplus
}
#endif

#endif
