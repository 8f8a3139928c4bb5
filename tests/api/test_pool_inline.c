/*
 * What is compiled into the caller and what the library exports under the same names are one thing: every case runs
 * both ways and mixed. Pools at the places that a thread reaches fast, and far more of them than that.
 */
#include "pools.h"

#include <pthread.h>

enum { POOLS = 100, THREADS = 4, OBJECTS = 40 };

struct way {
    const char *name;
    void *(*get)(struct ash_pool *);
    void (*put)(struct ash_pool *, void *);
    int (*get_bulk)(struct ash_pool *, void **, unsigned);
    void (*put_bulk)(struct ash_pool *, void *const *, unsigned);
    void *(*cache_get)(struct ash_pool_cache *);
    void (*cache_put)(struct ash_pool_cache *, void *);
};

static void *in_get(struct ash_pool *pool)
{
    return ash_pool_get(pool);
}

static void in_put(struct ash_pool *pool, void *obj)
{
    ash_pool_put(pool, obj);
}

static int in_get_bulk(struct ash_pool *pool, void **out, unsigned n)
{
    return ash_pool_get_bulk(pool, out, n);
}

static void in_put_bulk(struct ash_pool *pool, void *const *in, unsigned n)
{
    ash_pool_put_bulk(pool, in, n);
}

static void *in_cache_get(struct ash_pool_cache *cache)
{
    return ash_pool_cache_get(cache);
}

static void in_cache_put(struct ash_pool_cache *cache, void *obj)
{
    ash_pool_cache_put(cache, obj);
}

/* The third gets with the one and puts with the other. Volatile: what the pointers point to is not looked up early. */
static const volatile struct way ways[] = {
    {"compiled in", in_get, in_put, in_get_bulk, in_put_bulk, in_cache_get, in_cache_put},
    {"called", ash_pool_get, ash_pool_put, ash_pool_get_bulk, ash_pool_put_bulk, ash_pool_cache_get,
     ash_pool_cache_put},
    {"mixed", in_get, ash_pool_put, ash_pool_get_bulk, in_put_bulk, ash_pool_cache_get, in_cache_put},
};

/* Gets and puts `n` one by one, then in bulk; then no more hits than may be are counted. */
static void test_counts(const volatile struct way *way, unsigned flags)
{
    struct ash_pool *pool =
        ash_pool_create("counts", ASH_POOL_CONFIG(.obj_size = 64, .cache = OBJECTS, .flags = flags));
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < OBJECTS; i++)
            objs[i] = way->get(pool);
        ok(stats(pool).in_use == OBJECTS, "%s, flags %u, round %d: objects are out", way->name, flags, round);
        for (unsigned i = 0; i < OBJECTS; i++)
            way->put(pool, objs[i]);
    }
    struct ash_pool_stats before = stats(pool);
    is_int((long)(before.hits + before.misses), 3 * OBJECTS, "every get is counted");
    is_int((long)before.in_use, 0, "all are back");
    is_int((long)before.cached, OBJECTS, "in the cache");
    is_int(way->get_bulk(pool, objs, OBJECTS), 0, "in bulk");
    ok(disjoint(OBJECTS, 64, 64), "all different");
    is_int(way->get_bulk(pool, objs + OBJECTS, 3), 0, "more than the cache holds");
    way->put_bulk(pool, objs, 3);
    way->put_bulk(pool, objs + 3, OBJECTS);
    struct ash_pool_stats after = stats(pool);
    is_int((long)(after.hits - before.hits), OBJECTS, "hits are counted");
    is_int((long)(after.misses - before.misses), 3, "misses as well");
    is_int((long)after.in_use, 0, "nothing is out");
    is_int(ash_pool_audit(pool), 0, "audit");
    is_int(ash_pool_destroy(pool), 0, "destroyed");
}

static void test_edges(const volatile struct way *way)
{
    struct ash_pool *pool = ash_pool_create(
        "edges", ASH_POOL_CONFIG(.obj_size = 64, .capacity = 8, .cache = 8, .flags = ASH_POOL_FIXED));
    errno = 0;
    ok(way->get(NULL) == NULL && errno == EINVAL, "%s: an object of no pool", way->name);
    is_int(way->get_bulk(NULL, objs, 3), -EINVAL, "objects of no pool");
    is_int(way->get_bulk(pool, NULL, 3), -EINVAL, "objects to nowhere");
    is_int(way->get_bulk(pool, objs, 0), 0, "none");
    is_int(way->get_bulk(pool, objs, 9), -ENOBUFS, "more than there are");
    is_int(way->get_bulk(pool, objs, 8), 0, "as many as there are");
    errno = 0;
    ok(way->get(pool) == NULL && errno == ENOBUFS, "and no more");
    way->put_bulk(pool, objs, 0);
    errno = 5;
    way->put(pool, NULL);
    way->put_bulk(pool, objs, 8);
    is_int(errno, 5, "puts keep errno");
    is_int((long)stats(pool).in_use, 0, "all are back");
    is_int(ash_pool_destroy(pool), 0, "destroyed");
    errno = 0;
    ok(way->get(pool) == NULL && errno == EINVAL, "an object of a pool that is gone");
}

static void was_made_zero(void *obj, void *user)
{
    *(int *)user += *(int *)obj != 0;
}

/* Objects that are looked at as they come and go. */
static void test_dressed(const volatile struct way *way)
{
    int written = 0;
    struct ash_pool *pool =
        ash_pool_create("dressed", ASH_POOL_CONFIG(.obj_size = 64, .cache = 8, .flags = ASH_POOL_ZERO,
                                                   .reset = was_made_zero, .user = &written));
    struct ash_pool_cache *cache = ash_pool_cache_create(pool, 8);
    int zero = 1;
    for (int i = 0; i < 100; i++) {
        int *a = way->get(pool), *b = way->cache_get(cache);
        zero &= *a == 0 && *b == 0;
        *a = *b = 1;
        way->put(pool, a);
        way->cache_put(cache, b);
        zero &= way->get_bulk(pool, objs, 2) == 0 && *(int *)objs[0] == 0;
        *(int *)objs[0] = *(int *)objs[1] = 1;
        way->put_bulk(pool, objs, 2);
    }
    ok(zero, "%s: objects are cleared at each get", way->name);
    is_int(written, 400, "and reset at each put");
    ash_pool_cache_destroy(cache);
    is_int(ash_pool_destroy(pool), 0, "destroyed");
}

static void test_cache(const volatile struct way *way)
{
    struct ash_pool *pool = ash_pool_create("held", ASH_POOL_CONFIG(.obj_size = 64));
    struct ash_pool_cache *cache = ash_pool_cache_create(pool, 8);
    for (int i = 0; i < 20; i++)
        objs[i] = way->cache_get(cache);
    ok(disjoint(20, 64, 64), "%s: a cache gives objects", way->name);
    for (int i = 0; i < 20; i++)
        way->cache_put(cache, objs[i]);
    is_int((long)stats(pool).in_use, 0, "and takes them");
    ok(stats(pool).cached <= 8, "and does not keep more than it may");
    errno = 0;
    ok(way->cache_get(NULL) == NULL && errno == EINVAL, "no cache");
    way->cache_put(cache, NULL);
    is_int(ash_pool_destroy(pool), 0, "destroyed before the cache");
    errno = 0;
    ok(way->cache_get(cache) == NULL && errno == EINVAL, "which has nothing then");
    ash_pool_cache_destroy(cache);
}

/* ---- places ---- */

static struct ash_pool *pools[POOLS];

/* Every pool has a number, which its objects hold; a thread with caches of all of them ends. */
static void *use_all(void *arg)
{
    const volatile struct way *way = arg;
    long wrong = 0;
    for (int round = 0; round < 50; round++)
        for (int i = 0; i < POOLS; i++) {
            int k = round % 2 == 0 ? i : POOLS - 1 - i;
            int *a = way->get(pools[k]), *b = way->get(pools[k]);
            wrong += a == NULL || b == NULL || a == b || !ash_pool_owns(pools[k], a) || !ash_pool_owns(pools[k], b);
            way->put(pools[k], a);
            way->put(pools[k], b);
        }
    return (void *)wrong;
}

static void test_places(const volatile struct way *way)
{
    pthread_t thread[THREADS];
    for (int i = 0; i < POOLS; i++)
        pools[i] = ash_pool_create(NULL, ASH_POOL_CONFIG(.obj_size = 64));
    ok(use_all((void *)(uintptr_t)way) == NULL, "%s: %d pools", way->name, POOLS);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, use_all, (void *)(uintptr_t)way);
    long wrong = 0;
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(thread[i], &result);
        wrong += (long)result;
    }
    is_int(wrong, 0, "in threads");
    uint64_t gets = 0, caches = 0;
    int ended = 0, faults = 0;
    for (int i = 0; i < POOLS; i++) {
        struct ash_pool_stats s = stats(pools[i]);
        gets += s.hits + s.misses;
        caches += s.caches;
        faults += ash_pool_audit(pools[i]) != 0;
    }
    is_int((long)gets, (THREADS + 1) * POOLS * 100, "every get is counted");
    ok(caches <= (THREADS + 1) * POOLS, "no more caches than threads: %ju", (uintmax_t)caches);
    is_int(faults, 0, "audits");
    for (int i = 0; i < POOLS; i++)
        ended += ash_pool_destroy(pools[i]) == 0;
    is_int(ended, POOLS, "all are destroyed");
}

int main(void)
{
    static const unsigned flags[] = {0, ASH_POOL_SINGLE_THREAD, ASH_POOL_DEBUG,
                                     ASH_POOL_DEBUG | ASH_POOL_SINGLE_THREAD};
    for (size_t k = 0; k < sizeof ways / sizeof *ways; k++) {
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
            test_counts(&ways[k], flags[i]);
        test_edges(&ways[k]);
        test_dressed(&ways[k]);
        test_cache(&ways[k]);
        test_places(&ways[k]);
    }
    return tap_done();
}
