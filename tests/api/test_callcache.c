/*
 * Results of pure calls (ashlar/callcache.h). The first test is how a program uses the cache; then each function with
 * its errors, the order of eviction, threads against a model of what each result must be, and fork.
 */
#include "ashlar/layers.h"
#include "ashlar/malloc.h"
#include "ashlar/stats.h"
#include "clock.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { FIB = 1, OTHER = 2, MIB = 1 << 20 };

static struct ash_callcache_stats stats(struct ash_callcache *c)
{
    struct ash_callcache_stats s;
    ash_callcache_stats(c, &s);
    return s;
}

static int put_u64(struct ash_callcache *c, uint64_t fn, uint64_t key, uint64_t value)
{
    return ash_callcache_put(c, fn, &key, sizeof key, &value, sizeof value, 0);
}

/* 0 and the value, or what get answers. */
static int get_u64(struct ash_callcache *c, uint64_t fn, uint64_t key, uint64_t *value)
{
    size_t len = sizeof *value;
    int status = ash_callcache_get(c, fn, &key, sizeof key, value, &len);
    return status == 0 && len != sizeof *value ? -EPROTO : status;
}

/* ---- how it is used ---- */

static struct ash_callcache *memo;
static unsigned computed;

static uint64_t fib(uint64_t n)
{
    uint64_t result;
    size_t len = sizeof result;
    if (n < 2)
        return n;
    if (ash_callcache_get(memo, FIB, &n, sizeof n, &result, &len) == 0)
        return result;
    computed++;
    result = fib(n - 1) + fib(n - 2);
    ash_callcache_put(memo, FIB, &n, sizeof n, &result, sizeof result, 0);
    return result;
}

static void test_example(void)
{
    memo = ash_callcache_create("memo", NULL);
    ok(memo != NULL, "a cache");
    is_int((long long)fib(80), 23416728348467685, "the 80th number of Fibonacci");
    is_int(computed, 79, "each was computed once");
    is_int((long long)fib(80), 23416728348467685, "the same again");
    is_int(computed, 79, "from the cache");
    is_int((long long)stats(memo).entries, 79, "which holds them");
    is_int(ash_callcache_destroy(memo), 0, "the end");
}

/* ---- each function ---- */

static void test_create(void)
{
    struct ash_callcache_config small = {.struct_size = sizeof small, .max_bytes = 1000};
    struct ash_callcache_config odd = {.struct_size = sizeof odd, .shards = 3};
    struct ash_callcache_config many = {.struct_size = sizeof many, .shards = 512};
    struct ash_callcache_config few = {.struct_size = sizeof few, .shards = 16, .max_entries = 8};
    struct ash_callcache_config unset = {.struct_size = 0, .shards = 1};
    struct ash_callcache_config crowded = {.struct_size = sizeof crowded, .max_bytes = MIB, .max_entries = MIB};
    struct {
        const char *name;
        const struct ash_callcache_config *config;
        const char *what;
    } bad[] = {{"", NULL, "an empty name"},
               {"0123456789012345678901234567890123", NULL, "a long name"},
               {"a\"b", NULL, "a quote in a name"},
               {"a\nb", NULL, "a line end in a name"},
               {"n", &small, "too few bytes"},
               {"n", &odd, "three shards"},
               {"n", &many, "too many shards"},
               {"n", &few, "less than an entry a shard"},
               {"n", &crowded, "an index that leaves no room"},
               {"n", &unset, "a config without its size"}};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        ok(ash_callcache_create(bad[i].name, bad[i].config) == NULL && errno == EINVAL, "EINVAL: %s", bad[i].what);
    }
    struct ash_callcache *c = ash_callcache_create("0123456789012345678901234567890",
                                                   ASH_CALLCACHE_CONFIG(.max_bytes = 64 * 1024, .ttl_ns = -1));
    ok(c != NULL, "31 characters, 64 KiB");
    ok(stats(c).max_bytes <= 64 * 1024 && stats(c).max_bytes > 32 * 1024, "the index is part of the bytes");
    is_int(ash_callcache_destroy(c), 0, "destroyed");
    is_int(ash_callcache_destroy(NULL), -EINVAL, "NULL is refused");
}

static void test_errors(void)
{
    struct ash_callcache *c = ash_callcache_create(NULL, NULL);
    uint64_t v = 1;
    size_t n = sizeof v;
    struct ash_callcache_stats s;
    is_int(ash_callcache_get(NULL, 1, &v, 8, &v, &n), -EINVAL, "get: no cache");
    is_int(ash_callcache_get(c, 1, NULL, 8, &v, &n), -EINVAL, "get: no arguments where there are 8 bytes");
    is_int(ash_callcache_get(c, 1, &v, 8, &v, NULL), -EINVAL, "get: no length");
    is_int(ash_callcache_get(c, 1, &v, 8, NULL, &n), -EINVAL, "get: no place for the result");
    is_int(ash_callcache_put(NULL, 1, &v, 8, &v, 8, 0), -EINVAL, "put: no cache");
    is_int(ash_callcache_put(c, 1, NULL, 8, &v, 8, 0), -EINVAL, "put: no arguments");
    is_int(ash_callcache_put(c, 1, &v, 8, NULL, 8, 0), -EINVAL, "put: no result");
    is_int(ash_callcache_invalidate(NULL, 1, &v, 8), -EINVAL, "invalidate: no cache");
    is_int(ash_callcache_invalidate(c, 1, NULL, 8), -EINVAL, "invalidate: no arguments");
    is_int((int)ash_callcache_invalidate_prefix(NULL, 1, &v, 8), -EINVAL, "invalidate_prefix: no cache");
    is_int((int)ash_callcache_invalidate_prefix(c, 1, NULL, 8), -EINVAL, "invalidate_prefix: no prefix");
    is_int((int)ash_callcache_clear(NULL), -EINVAL, "clear: no cache");
    is_int(ash_callcache_stats(NULL, &s), -EINVAL, "stats: no cache");
    is_int(ash_callcache_stats(c, NULL), -EINVAL, "stats: nowhere to");
    is_int(ash_callcache_dump(NULL, 1), -EINVAL, "dump: no cache");
    is_int(ash_callcache_dump(c, -1), -EBADF, "dump: no descriptor");
    is_int((int)stats(c).puts, 0, "none of it came in");
    ash_callcache_destroy(c);
}

/* Arguments and results of all lengths round a word, told apart byte by byte. */
static void test_lengths(void)
{
    struct ash_callcache *c = ash_callcache_create(NULL, NULL);
    unsigned char args[300], result[300], got[300];
    int wrong = 0;
    memset(args, 0, sizeof args);
    for (size_t a = 0; a < 40; a++)
        for (size_t r = 0; r < 20; r++) {
            memset(result, (int)(a * 20 + r), r);
            wrong += ash_callcache_put(c, r, args, a, r > 0 ? result : NULL, r, 0) != 0;
        }
    for (size_t a = 0; a < 40; a++)
        for (size_t r = 0; r < 20; r++) {
            size_t n = sizeof got;
            memset(got, 0xee, sizeof got);
            memset(result, (int)(a * 20 + r), r);
            wrong += ash_callcache_get(c, r, args, a, got, &n) != 0 || n != r || memcmp(got, result, r) != 0 ||
                     got[r] != 0xee;
        }
    is_int(wrong, 0, "800 keys of zeroes that differ in length or function alone");
    is_int((int)stats(c).entries, 800, "as many entries");
    for (size_t at = 0; at < sizeof args; at++) {
        args[at] = 1;
        wrong += ash_callcache_put(c, 99, args, sizeof args, &at, sizeof at, 0) != 0;
        args[at] = 0;
    }
    for (size_t at = 0; at < sizeof args; at++) {
        size_t value = SIZE_MAX, n = sizeof value;
        args[at] = 1;
        wrong += ash_callcache_get(c, 99, args, sizeof args, &value, &n) != 0 || value != at;
        args[at] = 0;
    }
    is_int(wrong, 0, "300 keys that differ in one byte");
    size_t n = 10;
    is_int(ash_callcache_get(c, 19, args, 3, got, &n), -ENOBUFS, "too little room");
    is_int((int)n, 19, "the length is told");
    is_int(ash_callcache_get(c, 19, args, 3, got, &n), 0, "and is enough");
    n = sizeof got;
    is_int(ash_callcache_get(c, 777, args, 3, got, &n), -ENOENT, "a miss");
    ash_callcache_destroy(c);
}

static void test_replace(void)
{
    struct ash_callcache *c = ash_callcache_create(NULL, NULL);
    uint64_t v = 0;
    put_u64(c, 1, 5, 50);
    put_u64(c, 1, 5, 51);
    ok(get_u64(c, 1, 5, &v) == 0 && v == 51, "a new result of the same length");
    uint64_t key = 5;
    char longer[100] = "longer", got[100];
    size_t n = sizeof got;
    is_int(ash_callcache_put(c, 1, &key, sizeof key, longer, sizeof longer, 0), 0, "a longer one");
    ok(ash_callcache_get(c, 1, &key, sizeof key, got, &n) == 0 && n == 100 && strcmp(got, "longer") == 0, "is found");
    is_int((int)stats(c).entries, 1, "it is one entry");
    size_t huge = stats(c).max_bytes;
    char *big = calloc(1, huge);
    is_int(ash_callcache_put(c, 1, &key, sizeof key, big, huge, 0), -EFBIG, "one that is too large");
    is_int(get_u64(c, 1, 5, &v), -ENOENT, "takes the old one away");
    is_int(ash_callcache_put(c, 1, big, SIZE_MAX / 2, big, 1, 0), -EFBIG, "arguments without end");
    is_int((int)stats(c).refused, 2, "counted");
    free(big);
    ash_callcache_destroy(c);
}

static void test_invalidate(void)
{
    struct ash_callcache *c = ash_callcache_create(NULL, NULL);
    uint64_t v;
    for (uint64_t i = 0; i < 100; i++) {
        put_u64(c, FIB, i, i);
        put_u64(c, OTHER, i, i);
    }
    uint64_t key = 7;
    is_int(ash_callcache_invalidate(c, FIB, &key, sizeof key), 0, "one result");
    is_int(ash_callcache_invalidate(c, FIB, &key, sizeof key), -ENOENT, "is gone");
    is_int(get_u64(c, FIB, 7, &v), -ENOENT, "not found either");
    is_int(get_u64(c, OTHER, 7, &v), 0, "the other function's is");
    is_int((int)ash_callcache_invalidate_prefix(c, FIB, NULL, 0), 99, "a function");
    int left = 0;
    for (uint64_t i = 0; i < 100; i++)
        left += get_u64(c, FIB, i, &v) == 0;
    is_int(left, 0, "none of it is left");
    static const char *const names[] = {"a", "ab", "abc", "b", "abcdefghijklm", "abcdefghijklX"};
    for (unsigned i = 0; i < 6; i++)
        ash_callcache_put(c, 3, names[i], strlen(names[i]), &i, sizeof i, 0);
    is_int((int)ash_callcache_invalidate_prefix(c, 3, "abcdefghijklm", 13), 1, "arguments that begin with 13 bytes");
    is_int((int)ash_callcache_invalidate_prefix(c, 3, "ab", 2), 3, "or with 2");
    size_t n = sizeof v;
    is_int(ash_callcache_get(c, 3, "a", 1, &v, &n), 0, "shorter ones stay");
    is_int((int)ash_callcache_clear(c), 102, "everything");
    is_int((int)stats(c).entries, 0, "is gone");
    is_int((int)stats(c).bytes, 0, "its room too");
    is_int((int)stats(c).invalidated, 100 + 4 + 102, "counted");
    put_u64(c, FIB, 1, 1);
    is_int(get_u64(c, FIB, 1, &v), 0, "and it goes on");
    ash_callcache_destroy(c);
}

static void test_ttl(void)
{
    struct ash_callcache *c = ash_callcache_create(NULL, ASH_CALLCACHE_CONFIG(.ttl_ns = 50 * 1000000));
    uint64_t v, one = 1, two = 2;
    put_u64(c, 1, 0, 0);
    ash_callcache_put(c, 1, &one, 8, &one, 8, -1);
    ash_callcache_put(c, 1, &two, 8, &two, 8, (int64_t)3600 * 1000000000);
    ok(get_u64(c, 1, 0, &v) == 0 && get_u64(c, 1, 1, &v) == 0 && get_u64(c, 1, 2, &v) == 0, "three results live");
    sleep_ms(100);
    is_int(get_u64(c, 1, 0, &v), -ENOENT, "the cache's time is over");
    ok(get_u64(c, 1, 1, &v) == 0 && get_u64(c, 1, 2, &v) == 0, "for ever and an hour are not");
    is_int((int)stats(c).expired, 1, "counted");
    put_u64(c, 1, 0, 7);
    ok(get_u64(c, 1, 0, &v) == 0 && v == 7, "put again, it lives again");
    ash_callcache_destroy(c);
}

/* ---- what is dropped ---- */

/* One shard, so that the order is exact. What is read in each round stays; the rest goes in the order it came. */
static void test_order(void)
{
    enum { MOST = 64 };
    struct ash_callcache *c =
        ash_callcache_create(NULL, ASH_CALLCACHE_CONFIG(.max_bytes = 64 * 1024, .max_entries = MOST, .shards = 1));
    uint64_t v;
    for (uint64_t i = 0; i < MOST; i++)
        put_u64(c, 1, i, i);
    is_int((int)stats(c).entries, MOST, "full");
    put_u64(c, 1, MOST, MOST);
    is_int(get_u64(c, 1, 0, &v), -ENOENT, "the oldest went");
    is_int(get_u64(c, 1, 1, &v), 0, "the next did not, and is read");
    put_u64(c, 1, MOST + 1, 0);
    is_int(get_u64(c, 1, 1, &v), 0, "what was read is spared");
    is_int(get_u64(c, 1, 2, &v), -ENOENT, "for the one behind it");
    int lost = 0;
    for (uint64_t i = 0; i < 100 * MOST; i++) {
        put_u64(c, 1, 1000 + i, i);
        lost += get_u64(c, 1, 1, &v) != 0;
    }
    is_int(lost, 0, "one that is always read outlives 6400 others");
    is_int((int)stats(c).entries, MOST, "still full");
    ok(stats(c).spared > 50, "it was spared once a round: %d", (int)stats(c).spared);
    ash_callcache_destroy(c);
}

/* Bytes bound it too: entries of many sizes, laps of the ring, and every one that is found is right. */
static void test_bytes(void)
{
    struct ash_callcache *c =
        ash_callcache_create(NULL, ASH_CALLCACHE_CONFIG(.max_bytes = 64 * 1024, .max_entries = 1000, .shards = 1));
    unsigned char result[4096], got[4096];
    int wrong = 0, over = 0, found = 0, refused = 0;
    uint64_t random = 1;
    for (uint64_t i = 0; i < 50000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t key = random >> 32 & 255, fn = random >> 40 & 3;
        size_t n = sizeof got, len = (key * 37 + fn * 11) % 1500;
        int status = ash_callcache_get(c, fn, &key, sizeof key, got, &n);
        memset(result, (int)(key + fn), sizeof result);
        found += status == 0;
        wrong += status == 0 ? n != len || memcmp(got, result, len) != 0 : status != -ENOENT;
        if (random >> 62 == 0)
            ash_callcache_invalidate(c, fn, &key, sizeof key);
        else if (status != 0)
            refused += ash_callcache_put(c, fn, &key, sizeof key, result, len, 0) != 0;
        over += stats(c).bytes > stats(c).max_bytes;
    }
    is_int(wrong, 0, "50000 steps: what is found is right");
    is_int(over, 0, "never more bytes than allowed");
    is_int(refused, 0, "nothing is refused");
    ok(found > 1000 && stats(c).evictions > 1000, "%d found, %d dropped", found, (int)stats(c).evictions);
    ok((int)ash_callcache_invalidate_prefix(c, 2, NULL, 0) > 0, "a walk over a ring that has gone round");
    ash_callcache_destroy(c);
}

/* ---- threads ---- */

struct worker {
    pthread_t thread;
    struct ash_callcache *c;
    unsigned seed;
    long gets, hits, wrong;
};

enum { KEYS = 2000 };

/* A result is a function of its key, and long enough to be torn: a reader must never see half of two. */
static void result_of(uint64_t key, uint64_t version, uint64_t out[8])
{
    for (unsigned i = 0; i < 8; i++)
        out[i] = key * 8 + i + (version << 32);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    uint64_t random = w->seed * 7919 + 1, want[8], got[8];
    for (long i = 0; i < 40000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t key = (random >> 33) % KEYS;
        if (random >> 60 < 5) {
            result_of(key, random >> 50 & 15, want);
            size_t n = key % 3 == 0 ? sizeof want : sizeof want / 2 + (random >> 45 & 1) * 8;
            if (ash_callcache_put(w->c, 1, &key, sizeof key, want, n, 0) != 0)
                w->wrong++;
        } else if (random >> 60 == 5) {
            ash_callcache_invalidate(w->c, 1, &key, sizeof key);
        } else {
            size_t n = sizeof got;
            w->gets++;
            int status = ash_callcache_get(w->c, 1, &key, sizeof key, got, &n);
            if (status == 0) {
                w->hits++;
                result_of(key, got[0] >> 32, want);
                w->wrong += (n != 64 && n != 32 && n != 40) || memcmp(got, want, n) != 0;
            } else {
                w->wrong += status != -ENOENT;
            }
        }
        if (i % 10000 == 5000)
            ash_callcache_clear(w->c);
    }
    return NULL;
}

static void test_threads(unsigned count, unsigned shards)
{
    struct worker w[8] = {{.gets = 0}};
    struct ash_callcache *c = ash_callcache_create(
        NULL, ASH_CALLCACHE_CONFIG(.max_bytes = 160 * 1024, .max_entries = KEYS, .shards = shards));
    for (unsigned i = 0; i < count; i++) {
        w[i].c = c;
        w[i].seed = i + count;
        pthread_create(&w[i].thread, NULL, work, &w[i]);
    }
    long gets = 0, hits = 0, wrong = 0;
    for (unsigned i = 0; i < count; i++) {
        pthread_join(w[i].thread, NULL);
        gets += w[i].gets;
        hits += w[i].hits;
        wrong += w[i].wrong;
    }
    is_int(wrong, 0, "threads: every result is whole and its key's");
    ok(hits > gets / 20, "%u threads, %u shards: %ld of %ld found", count, shards, hits, gets);
    is_int((long)(stats(c).hits + stats(c).misses), gets, "hits and misses are exact");
    is_int((long)stats(c).hits, hits, "each for itself");
    ash_callcache_destroy(c);
}

/* More threads than have lines of their own for counting, one after the other. */
static void *one_get(void *arg)
{
    uint64_t v;
    get_u64(arg, 1, 1, &v);
    return NULL;
}

static void test_many_threads(void)
{
    struct ash_callcache *c = ash_callcache_create(NULL, NULL);
    put_u64(c, 1, 1, 1);
    for (unsigned i = 0; i < 200; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, one_get, c);
        pthread_join(thread, NULL);
    }
    is_int((int)stats(c).hits, 200, "200 short threads are counted");
    ash_callcache_destroy(c);
}

/* ---- fork ---- */

static int stop;

static void *churn(void *arg)
{
    for (uint64_t i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        uint64_t v;
        put_u64(arg, 1, i % 5000, i % 5000);
        get_u64(arg, 1, i % 777, &v);
    }
    return NULL;
}

/* The child's exit status: 0 if all that it finds is right and it can go on. */
static int child_uses(struct ash_callcache *c)
{
    uint64_t v;
    for (uint64_t i = 0; i < 5000; i++)
        if (get_u64(c, 1, i, &v) == 0 && v != i)
            return 1;
    for (uint64_t i = 0; i < 5000; i++)
        put_u64(c, 2, i, i + 1);
    int found = 0;
    for (uint64_t i = 4000; i < 5000; i++)
        found += get_u64(c, 2, i, &v) == 0 && v == i + 1;
    struct ash_callcache *own = ash_callcache_create("child", NULL);
    return found > 0 && own != NULL && ash_callcache_destroy(own) == 0 ? 0 : 2;
}

static void test_fork(void)
{
    struct ash_callcache *c = ash_callcache_create(NULL, ASH_CALLCACHE_CONFIG(.max_bytes = 256 * 1024));
    pthread_t thread[3];
    for (unsigned i = 0; i < 3; i++)
        pthread_create(&thread[i], NULL, churn, c);
    int bad = 0;
    for (unsigned i = 0; i < 50; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            _exit(child_uses(c));
        }
        int status = -1;
        waitpid(child, &status, 0);
        bad += status != 0;
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    is_int(bad, 0, "50 forks amid puts and gets: each child goes on");
    ash_callcache_destroy(c);
}

/* ---- memory ---- */

static void test_memory(void)
{
    struct ash_stats before = {.struct_size = sizeof before}, after = before;
    ash_stats_get(&before);
    errno = 0;
    ok(ash_callcache_create(
           NULL, ASH_CALLCACHE_CONFIG(.max_bytes = (size_t)1 << 46, .max_entries = 1 << 20, .shards = 256)) == NULL &&
           (errno == ENOMEM || errno == EINVAL),
       "more than there is: refused");
    ash_limit_set(64 * MIB);
    errno = 0;
    ok(ash_callcache_create(NULL, ASH_CALLCACHE_CONFIG(.max_bytes = (size_t)100 * MIB, .max_entries = 100000)) ==
               NULL &&
           errno == ENOMEM,
       "a limit in the middle of it: ENOMEM");
    ash_limit_set(0);
    struct ash_callcache *c = ash_callcache_create(NULL, NULL);
    for (uint64_t i = 0; i < 300000; i++)
        put_u64(c, 1, i, i);
    ash_callcache_destroy(c);
    ash_stats_get(&after);
    is_int((long long)after.live_blocks, (long long)before.live_blocks, "no block is left");
}

static void test_dump(void)
{
    struct ash_callcache *c = ash_callcache_create("results", NULL);
    char text[1024] = "";
    int fd[2];
    uint64_t v;
    put_u64(c, 1, 1, 1);
    get_u64(c, 1, 1, &v);
    get_u64(c, 1, 2, &v);
    if (pipe(fd) != 0)
        _exit(99);
    is_int(ash_callcache_dump(c, fd[1]), 0, "dump");
    ok(read(fd[0], text, sizeof text - 1) > 0, "a text");
    ok(strstr(text, "callcache results: 1 of ") != NULL && strstr(text, "hits 1  misses 1  expired 0  puts 1") != NULL,
       "says what there is");
    close(fd[0]);
    close(fd[1]);
    ash_callcache_destroy(c);
}

int main(void)
{
    test_example();
    test_create();
    test_errors();
    test_lengths();
    test_replace();
    test_invalidate();
    test_ttl();
    test_order();
    test_bytes();
    test_threads(2, 1);
    test_threads(4, 1);
    test_threads(8, 4);
    test_many_threads();
    test_fork();
    test_memory();
    test_dump();
    return tap_done();
}
