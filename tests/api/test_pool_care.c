/*
 * Looking after object pools (ashlar/pool.h), one thread: caches of the program, trimming, resizing, walking, showing
 * and tuning them. test_pool.c has the rest.
 */
#include "pools.h"

#include <fcntl.h>

/* ---- caches of the program ---- */

static void test_cache(void)
{
    struct ash_pool *pool =
        ash_pool_create("cached", ASH_POOL_CONFIG(.obj_size = 64, .capacity = 100, .flags = ASH_POOL_FIXED));
    struct ash_pool_cache *cache = ash_pool_cache_create(pool, 80), *other = ash_pool_cache_create(pool, 0);
    for (int i = 0; i < 100; i++)
        objs[i] = ash_pool_cache_get(cache);
    ok(disjoint(100, 64, 64), "a cache gives all objects");
    errno = 0;
    ok(ash_pool_cache_get(other) == NULL && errno == ENOBUFS, "another has none left");
    for (int i = 0; i < 80; i++)
        ash_pool_cache_put(cache, objs[i]);
    is_int((long)stats(pool).cached, 80, "it keeps as many as it may");
    is_int((long)stats(pool).in_use, 20, "the others are out");
    ok(ash_pool_cache_get(other) == NULL, "what it keeps is its own");
    ash_pool_cache_flush(cache);
    is_int((long)stats(pool).cached, 0, "until it is flushed");
    objs[0] = ash_pool_cache_get(other);
    ok(objs[0] != NULL, "then others have it");
    ash_pool_put(pool, objs[0]);
    for (int i = 80; i < 100; i++)
        ash_pool_cache_put(other, objs[i]);
    ash_pool_cache_destroy(other);
    is_int((long)stats(pool).in_use, 0, "objects may come back anywhere");
    is_int(get_many(pool, 100), 100, "a destroyed cache keeps nothing");
    put_many(pool, 100);
    is_int(ash_pool_destroy(pool), 0, "a pool is destroyed before its cache");
    errno = 0;
    ok(ash_pool_cache_get(cache) == NULL && errno == EINVAL, "which then gives nothing");
    ash_pool_cache_flush(cache);
    ash_pool_cache_destroy(cache);
    ash_pool_cache_destroy(NULL);
    errno = 0;
    ok(ash_pool_cache_create(NULL, 0) == NULL && errno == EINVAL, "no cache of no pool");
}

/* ---- size ---- */

static void test_trim(void)
{
    static struct calls c; /* for test_each as well */
    struct ash_pool *pool = counted(&c, 0, 0, 0);
    is_int(ash_pool_trim(pool), 0, "nothing to trim yet");
    get_many(pool, 4000);
    size_t bytes = stats(pool).bytes;
    qsort(objs, 4000, sizeof *objs, compare);
    for (int i = 1; i < 4000; i++)
        ash_pool_put(pool, objs[i]);
    is_int(ash_pool_trim(pool), 1, "all but one are free: trimmed");
    struct ash_pool_stats s = stats(pool);
    is_int((long)s.bytes, 65536, "the chunk of that one stays");
    is_int((long)s.trimmed, (long)(bytes - s.bytes) / 65536, "the others are gone, and counted");
    is_int((long)s.created, 1024, "with their objects");
    is_int(c.ended, 4000 - 1024, "which were destructed");
    is_int(ash_pool_audit(pool), 0, "audit");
    is_int(get_many(pool, 1), 1, "it goes on");
    is_int(c.made, 4000, "with what it has");
    ash_pool_put(pool, objs[0]);
    is_int(ash_pool_destroy(pool), -EBUSY, "one is still out");
    ok(ash_pool_lookup("counted") == pool, "so the pool lives");
}

static int first_in_use(void *obj, int in_use, void *user)
{
    if (!in_use)
        return 0;
    *(void **)user = obj;
    return 42;
}

static int count_both(void *obj, int in_use, void *user)
{
    int *n = user;
    n[in_use] += *(int *)obj > 1000;
    return 0;
}

/* Goes on with what test_trim has left: one object is out. */
static void test_each(void)
{
    struct ash_pool *pool = ash_pool_lookup("counted");
    void *obj = NULL;
    int n[2] = {0, 0};
    is_int(ash_pool_each(pool, first_in_use, &obj), 42, "each stops with what its function says");
    ok(ash_pool_owns(pool, obj), "at an object in use");
    is_int(ash_pool_each(pool, count_both, n), 0, "each goes through all");
    is_int(n[1], 1, "one in use");
    is_int(n[0], (int)stats(pool).created - 1, "the others free, constructed");
    is_int(ash_pool_each(pool, NULL, NULL), -EINVAL, "each of nothing");
    is_int(ash_pool_each(NULL, count_both, NULL), -EINVAL, "each of no pool");
    ash_pool_put(pool, obj);
    is_int(ash_pool_destroy(pool), 0, "destroyed");
}

static void test_resize(void)
{
    struct calls c = {0};
    struct ash_pool *pool = counted(&c, 0, 0, 100);
    get_many(pool, 100);
    is_int(ash_pool_resize(pool, 99), -EBUSY, "a pool cannot be smaller than what is out");
    is_int(ash_pool_capacity(pool), 100, "it stays as it is");
    put_many(pool, 60);
    is_int(ash_pool_resize(pool, 50), 0, "what is free can go");
    is_int(ash_pool_capacity(pool), 50, "the new bound");
    is_int(c.ended, 50, "the others are destructed");
    is_int((long)stats(pool).created, 50, "and are not there");
    is_int(get_many(pool, MANY), 10, "no more than ten can be had");
    is_int(ash_pool_resize(pool, 70), 0, "larger again");
    is_int(get_many(pool, MANY), 20, "twenty more");
    is_int(c.made, 120, "constructed anew");
    is_int(ash_pool_audit(pool), 0, "audit");
    is_int(ash_pool_resize(pool, 0), 0, "no bound");
    is_int(ash_pool_resize(NULL, 1), -EINVAL, "of no pool");
    is_int(ash_pool_in_use(pool), 70, "70 are out");
    int n = 0;
    while (ash_pool_each(pool, first_in_use, &objs[0]) == 42 && n++ < 100)
        ash_pool_put(pool, objs[0]);
    is_int(n, 70, "and found by walking");
    is_int(ash_pool_destroy(pool), 0, "destroyed");
    is_int(c.ended, c.made, "each was destructed once");

    pool = ash_pool_create("fixed", ASH_POOL_CONFIG(.obj_size = 64, .capacity = 50, .flags = ASH_POOL_FIXED));
    is_int(ash_pool_resize(pool, 80), 0, "a fixed pool grows");
    is_int((long)stats(pool).created, 80, "by objects that are there");
    is_int(ash_pool_resize(pool, 20), 0, "and shrinks");
    is_int(get_many(pool, MANY), 20, "to that many");
    is_int(ash_pool_resize(pool, 0), -EINVAL, "not to no bound");
    put_many(pool, 20);
    is_int(ash_pool_destroy(pool), 0, "destroyed");
}

/* ---- looking ---- */

static int count_pool(struct ash_pool *pool, void *user)
{
    *(int *)user += strncmp(ash_pool_name(pool), "walk", 4) == 0;
    return strcmp(ash_pool_name(pool), "walk-stop") == 0 ? 7 : 0;
}

static void test_walk(void)
{
    static const char *const names[] = {"walk-1", "walk-2", "walk-3"};
    struct ash_pool *pool[3];
    int n = 0;
    for (int i = 0; i < 3; i++)
        pool[i] = ash_pool_create(names[i], ASH_POOL_CONFIG(.obj_size = 64));
    is_int(ash_pool_walk(count_pool, &n), 0, "a walk goes to its end");
    is_int(n, 3, "past all three");
    struct ash_pool *stop = ash_pool_create("walk-stop", ASH_POOL_CONFIG(.obj_size = 64));
    is_int(ash_pool_walk(count_pool, &n), 7, "or stops with what its function says");
    is_int(ash_pool_walk(NULL, NULL), -EINVAL, "a walk with nothing");
    ash_pool_destroy(stop);
    for (int i = 0; i < 3; i++)
        ash_pool_destroy(pool[i]);
}

static void test_owns(void)
{
    struct ash_pool *a = ash_pool_create("owner", ASH_POOL_CONFIG(.obj_size = 192)),
                    *b = ash_pool_create("other", ASH_POOL_CONFIG(.obj_size = 192));
    char *p = ash_pool_get(a), *block = malloc(192);
    int local = 0;
    ok(ash_pool_owns(a, p), "a pool owns its objects");
    ok(!ash_pool_owns(b, p), "and no other's");
    ok(!ash_pool_owns(a, p + 1) && !ash_pool_owns(a, p + 64) && !ash_pool_owns(a, p - 64), "not their insides");
    ok(!ash_pool_owns(a, block) && !ash_pool_owns(a, &local) && !ash_pool_owns(a, NULL) && !ash_pool_owns(NULL, p),
       "nor anything else");
    ash_pool_put(a, p);
    ok(ash_pool_owns(a, p), "free ones as well");
    free(block);
    ash_pool_destroy(a);
    ash_pool_destroy(b);
}

/* What a function writes to a descriptor. */
static char *written(int (*fn)(int fd))
{
    static char text[1 << 16];
    char path[] = "/tmp/ash-test-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    if (fn(fd) != 0)
        return strcpy(text, "it failed");
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = '\0';
    close(fd);
    return text;
}

static int dump_shown(int fd)
{
    return ash_pool_dump(ash_pool_lookup("shown"), fd);
}

static int dump_text(int fd)
{
    return ash_stats_dump(fd, ASH_TEXT);
}

static int dump_json(int fd)
{
    return ash_stats_dump(fd, ASH_JSON);
}

static int dump_prometheus(int fd)
{
    return ash_stats_dump(fd, ASH_PROMETHEUS);
}

static void test_shown(void)
{
    struct ash_pool *pool = ash_pool_create("shown", ASH_POOL_CONFIG(.obj_size = 100, .capacity = 12345));
    void *p = ash_pool_get(pool);
    ash_free(ash_malloc(1)); /* statistics of a process that has allocated nothing are one line */
    const char *text = written(dump_shown);
    ok(strstr(text, "pool shown: objects of 100 bytes, 128 apart") != NULL && strstr(text, "12345") != NULL, "dump");
    is_int(ash_pool_dump(NULL, 1), -EINVAL, "dump of no pool");
    is_int(ash_pool_dump(pool, -1), -EBADF, "dump to nowhere");
    text = strstr(written(dump_text), "\n  pools ");
    ok(text != NULL && strstr(text, "\n  shown ") != NULL && strstr(text, "12,345") != NULL, "in the text");
    text = written(dump_json);
    ok(strstr(text, "\"pools\"") != NULL && strstr(text, "\"shown\"") != NULL && strstr(text, "12345") != NULL,
       "in JSON");
    text = written(dump_prometheus);
    ok(strstr(text, "ashlar_pool_capacity{name=\"shown\"} 12345\n") != NULL &&
           strstr(text, "ashlar_pool_in_use{name=\"shown\"} 1\n") != NULL, "for Prometheus");
    ash_pool_put(pool, p);
    ash_pool_destroy(pool);
    ok(strstr(written(dump_json), "\"shown\"") == NULL, "and not any more when it is destroyed");
}

static void test_accounted(void)
{
    size_t limit, before, with, after;
    ash_limit_get(&limit, &before);
    struct ash_pool *pool = ash_pool_create("accounted", ASH_POOL_CONFIG(.obj_size = 4096, .prealloc = 4096));
    ash_limit_get(&limit, &with);
    ok(with - before >= 16 << 20 && with - before < (16 << 20) * 1.03,
       "16 MiB of objects are in the process's account");
    is_int(ash_verify(), 0, "everything verifies");
    ash_pool_destroy(pool);
    ash_limit_get(&limit, &after);
    ok(after < before + (1 << 20), "and are not when the pool is gone");
    is_int(ash_verify(), 0, "everything verifies");
}

/* ---- adapting ---- */

static int64_t fake_now;

static int64_t fake(void *user)
{
    return fake_now + (user != NULL);
}

#define MINUTE ((int64_t)60 * 1000000000)

/* One look's worth of gets with bursts of `n`. */
static void traffic(struct ash_pool *pool, unsigned n)
{
    for (int i = 0; i < 50; i++) {
        get_many(pool, n);
        put_many(pool, n);
    }
}

static void test_tuner(void)
{
    struct ash_pool *pool = ash_pool_create("tuned", ASH_POOL_CONFIG(.obj_size = 64, .cache = 10));
    is_int(ash_pool_set_tuner(pool, ASH_TUNER_CONFIG(.min = 8, .max = 40, .now = fake)), 0, "a tuner");
    fake_now = MINUTE - 1;
    traffic(pool, 200);
    is_int((long)stats(pool).cache, 10, "before a minute nothing changes");
    fake_now = MINUTE;
    traffic(pool, 200);
    is_int((long)stats(pool).cache, 12, "hit rate below 0.9: larger by a fifth");
    fake_now = 2 * MINUTE - 1;
    traffic(pool, 200);
    is_int((long)stats(pool).cache, 12, "not again within a minute");
    for (int i = 2; i < 20; i++) {
        fake_now = i * MINUTE;
        traffic(pool, 200);
    }
    is_int((long)stats(pool).cache, 40, "and on, up to the upper bound");
    traffic(pool, 1);
    is_int(ash_tune(30 * MINUTE), 0, "a minute of bursts and pairs: nothing");
    traffic(pool, 1);
    traffic(pool, 1);
    ash_pool_trim(pool); /* leaves the cache empty */
    get_many(pool, 1);
    for (int i = 0; i < 2000; i++) {
        ash_pool_put(pool, objs[0]);
        objs[0] = ash_pool_get(pool);
    }
    ash_pool_put(pool, objs[0]);
    unsigned held = (unsigned)stats(pool).cached;
    is_int(ash_tune(31 * MINUTE), held < 20 ? 1 : 0, "hit rate above 0.99, and less than half full: smaller");
    is_int((long)stats(pool).cache, 2 * held > 10 ? 2 * held : 10, "twice what it holds");
    is_int(ash_pool_set_tuner(pool, NULL), 0, "no tuner");
    traffic(pool, 200);
    is_int(ash_tune(40 * MINUTE), 0, "changes nothing");
    is_int(ash_pool_set_tuner(pool, ASH_TUNER_CONFIG(.min = 5, .max = 4)), -EINVAL, "bounds the wrong way round");
    is_int(ash_pool_set_tuner(pool, ASH_TUNER_CONFIG(.low_rate = 1.5)), -EINVAL, "a rate above one");
    is_int(ash_pool_set_tuner(NULL, NULL), -EINVAL, "no pool to tune");
    is_int(ash_pool_set_tuner(pool, ASH_TUNER_CONFIG(.max = 0)), 0, "all defaults");
    is_int(ash_pool_audit(pool), 0, "audit");
    is_int(ash_pool_destroy(pool), 0, "destroyed");
}

/* ---- traces, with the hit rates that are promised ---- */

static double rate_of(struct ash_pool *pool, struct ash_pool_stats *before)
{
    struct ash_pool_stats now = stats(pool);
    double hits = (double)(now.hits - before->hits), gets = hits + (double)(now.misses - before->misses);
    *before = now;
    return gets == 0 ? 0 : hits / gets;
}

static void test_hit_rates(void)
{
    struct ash_pool *pool = ash_pool_create("trace", ASH_POOL_CONFIG(.obj_size = 128));
    struct ash_pool_stats before = stats(pool);
    unsigned seed = 7, out = 0;
    traffic(pool, 40);
    rate_of(pool, &before);
    for (int i = 0; i < 100000; i++) { /* requests that come and go, some dozens at a time */
        seed = seed * 1664525 + 1013904223;
        if (out < 10 || (out < 50 && (seed >> 20) % 2 == 0))
            objs[out++] = ash_pool_get(pool);
        else
            ash_pool_put(pool, objs[--out]);
    }
    double steady = rate_of(pool, &before);
    ok(steady >= 0.99, "steady: %.4f of gets hit", steady);
    put_many(pool, out);
    double burst = 0;
    for (int round = 0; round < 5; round++) { /* ten times as many as a cache holds */
        rate_of(pool, &before);
        get_many(pool, 640);
        put_many(pool, 640);
        burst = rate_of(pool, &before);
    }
    ok(burst >= 0.95, "bursts: %.4f of gets hit in the fifth", burst);
    ash_pool_destroy(pool);
}

/* ---- limits ---- */

static void test_no_pool(void)
{
    struct ash_pool *pool = ash_pool_create("gone", ASH_POOL_CONFIG(.obj_size = 64));
    struct ash_pool_stats s;
    ash_pool_destroy(pool);
    errno = 0;
    ok(ash_pool_get(pool) == NULL && errno == EINVAL, "nothing can be got from a pool that is gone");
    is_int(ash_pool_get_bulk(pool, objs, 3), -EINVAL, "nor in bulk");
    is_int(ash_pool_get_burst(pool, objs, 3), 0, "nor in a burst");
    is_int(ash_pool_stats(pool, &s), -EINVAL, "it has no statistics");
    is_int(ash_pool_trim(pool), -EINVAL, "is not trimmed");
    is_int(ash_pool_audit(pool), -EINVAL, "is not audited");
    is_int(ash_pool_destroy(pool), -EINVAL, "is not destroyed again");
    ok(ash_pool_in_use(pool) == 0 && ash_pool_available(pool) == 0 && ash_pool_capacity(pool) == 0 &&
           ash_pool_name(pool) == NULL && !ash_pool_owns(pool, objs), "and has nothing");
    errno = 0;
    ok(ash_pool_get(NULL) == NULL && errno == EINVAL, "nothing can be got from no pool");
    is_int(ash_pool_get_bulk(NULL, objs, 3), -EINVAL, "nor in bulk");
    is_int(ash_pool_stats(NULL, &s), -EINVAL, "no pool has no statistics");
    pool = ash_pool_create("here", ASH_POOL_CONFIG(.obj_size = 64));
    is_int(ash_pool_stats(pool, NULL), -EINVAL, "statistics to nowhere");
    errno = 42;
    ash_pool_put(pool, NULL);
    is_int(errno, 42, "putting nothing is nothing");
    ash_pool_put_bulk(pool, NULL, 0);
    is_int(ash_pool_destroy(pool), 0, "destroyed");
}

static void test_many_pools(void)
{
    enum { POOLS = 500 };
    struct ash_pool *pool[POOLS];
    int wrong = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < POOLS; i++) {
            pool[i] = ash_pool_create(NULL, ASH_POOL_CONFIG(.obj_size = 1 + i));
            objs[i] = ash_pool_get(pool[i]);
            memset(objs[i], i, 1 + i);
        }
        for (int i = 0; i < POOLS; i++) {
            wrong += !ash_pool_owns(pool[i], objs[i]) || ash_pool_in_use(pool[i]) != 1;
            wrong += ash_pool_destroy(pool[i]) != -EBUSY;
            ash_pool_put(pool[i], objs[i]);
            wrong += ash_pool_get(pool[i]) != objs[i];
            ash_pool_put(pool[i], objs[i]);
            wrong += ash_pool_destroy(pool[i]) != 0;
        }
    }
    is_int(wrong, 0, "500 pools at a time, three times");
}

int main(void)
{
    test_cache();
    test_trim();
    test_each();
    test_resize();
    test_walk();
    test_owns();
    test_shown();
    test_accounted();
    test_tuner();
    test_hit_rates();
    test_no_pool();
    test_many_pools();
    is_int(ash_verify(), 0, "everything verifies");
    return tap_done();
}
