/*
 * Object pools (ashlar/pool.h), one thread: first a use of them as a program would have it, then each function with what
 * it promises, its errors and its edges.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>

enum { MANY = 5000 };

static void *objs[MANY];

static struct ash_pool_stats stats(const struct ash_pool *pool)
{
    struct ash_pool_stats s;
    memset(&s, 0xff, sizeof s);
    if (ash_pool_stats(pool, &s) != 0)
        memset(&s, 0, sizeof s);
    return s;
}

static int compare(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (void *const *)a, y = (uintptr_t) * (void *const *)b;
    return (x > y) - (x < y);
}

/* Sorts the first `n` of objs: are they all different, `stride` apart at least, and at multiples of `align`? */
static int disjoint(unsigned n, size_t stride, size_t align)
{
    qsort(objs, n, sizeof *objs, compare);
    for (unsigned i = 0; i < n; i++)
        if ((uintptr_t)objs[i] % align != 0 || (i != 0 && (uintptr_t)objs[i] - (uintptr_t)objs[i - 1] < stride))
            return 0;
    return 1;
}

/* Gets up to `n`; how many. */
static unsigned get_many(struct ash_pool *pool, unsigned n)
{
    unsigned i = 0;
    while (i < n && (objs[i] = ash_pool_get(pool)) != NULL)
        i++;
    return i;
}

static void put_many(struct ash_pool *pool, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        ash_pool_put(pool, objs[i]);
}

/* ---- as a program would use it: messages with a buffer that is kept from use to use ---- */

struct message {
    unsigned char *buffer; /* made once */
    size_t capacity, length;
};

static int message_make(void *obj, void *user)
{
    struct message *m = obj;
    m->capacity = *(size_t *)user;
    m->buffer = malloc(m->capacity);
    m->length = 0;
    return m->buffer == NULL ? ENOMEM : 0;
}

static void message_clear(void *obj, void *user)
{
    struct message *m = obj;
    (void)user;
    m->length = 0;
}

static void message_end(void *obj, void *user)
{
    struct message *m = obj;
    (void)user;
    free(m->buffer);
}

static void example(void)
{
    size_t capacity = 4000;
    struct ash_pool *pool =
        ash_pool_create("messages", ASH_POOL_CONFIG(.obj_size = sizeof(struct message), .prealloc = 100,
                                                    .ctor = message_make, .reset = message_clear,
                                                    .dtor = message_end, .user = &capacity));
    struct message *m = ash_pool_get(pool);
    memcpy(m->buffer, "hello", 5);
    m->length = 5;
    const unsigned char *buffer = m->buffer;
    ash_pool_put(pool, m);

    m = ash_pool_get(pool);
    ok(m->buffer == buffer && m->length == 0 && memcmp(m->buffer, "hello", 5) == 0,
       "a message that was put comes back, reset, with its buffer");
    is_int(ash_pool_destroy(pool), -EBUSY, "a pool is not destroyed under its messages");
    ash_pool_put(pool, m);
    is_int(stats(pool).misses, 1, "one get was a miss");
    is_int(stats(pool).hits, 1, "the other a hit");
    is_int(ash_pool_destroy(pool), 0, "with all of them back it is");
}

/* ---- creating ---- */

static void is_refused(const char *name, const struct ash_pool_config *config, int error, const char *what)
{
    errno = 0;
    ok(ash_pool_create(name, config) == NULL && errno == error, "%s", what);
}

static void test_create(void)
{
    struct ash_pool *a = ash_pool_create("a", ASH_POOL_CONFIG(.obj_size = 100));
    ok(a != NULL && ash_pool_lookup("a") == a, "a pool is found by its name");
    is_str(ash_pool_name(a), "a", "and has it");
    ok(ash_pool_lookup("b") == NULL && ash_pool_lookup(NULL) == NULL && ash_pool_lookup("") == NULL,
       "no pool by names that are none's");
    is_refused("a", ASH_POOL_CONFIG(.obj_size = 1), EEXIST, "a name is given once");
    is_refused("b", NULL, EINVAL, "no settings");
    is_refused("b", ASH_POOL_CONFIG(.obj_size = 0), EINVAL, "objects of no size");
    is_refused("b", ASH_POOL_CONFIG(.obj_size = SIZE_MAX), ENOMEM, "objects of all there is");
    is_refused("b", ASH_POOL_CONFIG(.obj_size = 1, .align = 48), EINVAL, "an alignment that is no power of two");
    is_refused("b", ASH_POOL_CONFIG(.obj_size = 1, .align = (size_t)1 << 40), EINVAL, "an absurd alignment");
    is_refused("b", ASH_POOL_CONFIG(.obj_size = 1, .cache = ASH_POOL_CACHE_MAX + 1), EINVAL, "an absurd cache");
    is_refused("b", ASH_POOL_CONFIG(.obj_size = 1, .flags = 1u << 30), EINVAL, "a flag that is none");
    is_refused("b", ASH_POOL_CONFIG(.obj_size = 1, .flags = ASH_POOL_FIXED), EINVAL, "fixed, without a number");
    is_refused("b", ASH_POOL_CONFIG(.obj_size = 1, .prealloc = 11, .capacity = 10), EINVAL,
               "more objects than capacity");
    is_refused("b", ASH_POOL_CONFIG(.obj_size = 100, .max_bytes = 127), EINVAL, "less memory than an object has");
    is_refused("", ASH_POOL_CONFIG(.obj_size = 1), EINVAL, "an empty name");
    is_refused("a\n", ASH_POOL_CONFIG(.obj_size = 1), EINVAL, "a name with a line in it");
    is_refused("\"", ASH_POOL_CONFIG(.obj_size = 1), EINVAL, "a name with a quote");
    is_refused("12345678901234567890123456789012", ASH_POOL_CONFIG(.obj_size = 1), EINVAL, "a name of 32 characters");
    struct ash_pool_config bare = {.struct_size = 8, .obj_size = 1};
    is_refused("b", &bare, EINVAL, "a struct that is too short");

    char name[32] = "1234567890123456789012345678901";
    struct ash_pool *longest = ash_pool_create(name, ASH_POOL_CONFIG(.obj_size = 1));
    name[0] = 'x';
    is_str(ash_pool_name(longest), "1234567890123456789012345678901", "a name of 31 characters, copied");
    struct ash_pool *nameless = ash_pool_create(NULL, ASH_POOL_CONFIG(.obj_size = 1));
    ok(strncmp(ash_pool_name(nameless), "pool-", 5) == 0 && ash_pool_lookup(ash_pool_name(nameless)) == nameless,
       "a pool without a name gets one: %s", ash_pool_name(nameless));
    struct ash_pool_config older = {.struct_size = 2 * sizeof(size_t), .obj_size = 24, .align = 1, .flags = ~0u};
    struct ash_pool *early = ash_pool_create("early", &older);
    ok(early != NULL && ash_pool_capacity(early) == 0, "settings of an early version: what they lack is default");
    ash_pool_destroy(early);
    ash_pool_destroy(longest);
    ash_pool_destroy(nameless);
    is_int(ash_pool_destroy(a), 0, "an unused pool is destroyed");
    ok(ash_pool_lookup("a") == NULL, "and is not found any more");
    is_int(ash_pool_destroy(NULL), -EINVAL, "no pool cannot be destroyed");
}

static void test_sizes(void)
{
    static const struct {
        size_t size, align;
    } kinds[] = {{1, 0},    {1, 1},    {24, 8},   {64, 0},      {65, 0},     {192, 0},     {100, 4},    {4096, 0},
                 {4096, 4096}, {5000, 0}, {40000, 0}, {65536, 65536}, {70000, 0}, {300000, 1 << 17}, {5000000, 0}};
    int wrong = 0, wasteful = 0, kept = 0;
    size_t units = 0;
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t align = kinds[i].align == 0 ? 64 : kinds[i].align;
        size_t stride = (kinds[i].size + align - 1) / align * align;
        unsigned n = (unsigned)(kinds[i].size > 100000 ? 20 : 600);
        struct ash_pool *pool = ash_pool_create("sizes", ASH_POOL_CONFIG(.obj_size = kinds[i].size, .align = kinds[i].align));
        wrong += get_many(pool, n) != n || !disjoint(n, kinds[i].size, align);
        for (unsigned k = 0; k < n; k++)
            memset(objs[k], (int)k, kinds[i].size);
        for (unsigned k = 0; k < n; k++)
            wrong += *(unsigned char *)objs[k] != (unsigned char)k ||
                     ((unsigned char *)objs[k])[kinds[i].size - 1] != (unsigned char)k;
        size_t bytes = stats(pool).bytes;
        units += bytes % 65536 != 0;
        wasteful += bytes > stride * n * 1.03 + 5 * 65536 && kinds[i].size <= 5000;
        put_many(pool, n);
        wrong += ash_pool_audit(pool) != 0;
        kept += ash_pool_destroy(pool) != 0;
    }
    is_int(wrong, 0, "objects of 1 byte to 5 MB: apart from one another, aligned, writable to the last byte");
    is_int(wasteful, 0, "their chunks have little beside them");
    is_int((long)units, 0, "and are whole units");
    is_int(kept, 0, "all are back at the end");
}

/* ---- bounds ---- */

static void test_capacity(void)
{
    struct ash_pool *pool = ash_pool_create("bounded", ASH_POOL_CONFIG(.obj_size = 64, .capacity = 1000));
    is_int(ash_pool_capacity(pool), 1000, "capacity");
    is_int(get_many(pool, MANY), 1000, "a bounded pool gives as many objects");
    is_int(errno, ENOBUFS, "then ENOBUFS");
    is_int(ash_pool_in_use(pool), 1000, "all are in use");
    is_int(ash_pool_available(pool), 0, "none is available");
    is_int(stats(pool).refused, 1, "the refusal is counted");
    put_many(pool, 1000);
    is_int(ash_pool_in_use(pool), 0, "all are back");
    is_int(ash_pool_available(pool), 1000, "and available");
    is_int(get_many(pool, 1000), 1000, "all of them can be had again");
    put_many(pool, 1000);
    is_int(ash_pool_destroy(pool), 0, "destroyed");

    pool = ash_pool_create("bytes", ASH_POOL_CONFIG(.obj_size = 100, .max_bytes = 128 * 700, .capacity = 800));
    is_int(get_many(pool, MANY), 700, "a bound in bytes");
    is_int(errno, ENOMEM, "gives ENOMEM");
    put_many(pool, 700);
    ash_pool_destroy(pool);
}

static void test_fixed(void)
{
    struct ash_pool *pool = ash_pool_create("fixed", ASH_POOL_CONFIG(.obj_size = 64, .capacity = 500, .flags = ASH_POOL_FIXED));
    size_t bytes = stats(pool).bytes;
    is_int(stats(pool).created, 500, "a fixed pool has all its objects at once");
    is_int(ash_pool_available(pool), 500, "all of them available");
    is_int(get_many(pool, MANY), 500, "gives them");
    is_int(errno, ENOBUFS, "and then ENOBUFS");
    is_int((long)stats(pool).bytes, (long)bytes, "without any more memory");
    put_many(pool, 500);
    is_int(ash_pool_trim(pool), 0, "it is not trimmed");
    is_int(stats(pool).created, 500, "it keeps its objects");
    ash_pool_destroy(pool);
    pool = ash_pool_create("fixed", ASH_POOL_CONFIG(.obj_size = 64, .prealloc = 7, .flags = ASH_POOL_FIXED));
    is_int(ash_pool_capacity(pool), 7, "the number of preallocated objects is as good");
    is_int(get_many(pool, MANY), 7, "all of them");
    put_many(pool, 7);
    ash_pool_destroy(pool);
}

static void test_prealloc(void)
{
    struct ash_pool *pool = ash_pool_create("ahead", ASH_POOL_CONFIG(.obj_size = 256, .prealloc = 1000));
    size_t bytes = stats(pool).bytes;
    is_int(stats(pool).created, 1000, "preallocated objects are there");
    is_int(ash_pool_available(pool), 1000, "and available");
    is_int(get_many(pool, 1000), 1000, "they can be had");
    is_int((long)stats(pool).bytes, (long)bytes, "without any more memory");
    put_many(pool, 1000);
    ash_pool_destroy(pool);
}

/* ---- constructors ---- */

struct calls {
    int made, reset, ended, fail_at, error;
};

static int made(void *obj, void *user)
{
    struct calls *c = user;
    if (++c->made == c->fail_at)
        return c->error;
    *(int *)obj = 1000 + c->made;
    return 0;
}

static void was_reset(void *obj, void *user)
{
    ((struct calls *)user)->reset += *(int *)obj > 1000;
}

static void ended(void *obj, void *user)
{
    ((struct calls *)user)->ended += *(int *)obj > 1000;
    *(int *)obj = 0;
}

static struct ash_pool *counted(struct calls *c, unsigned flags, unsigned prealloc, unsigned capacity)
{
    return ash_pool_create("counted", ASH_POOL_CONFIG(.obj_size = 60, .flags = flags, .prealloc = prealloc,
                                                      .capacity = capacity, .ctor = made, .reset = was_reset,
                                                      .dtor = ended, .user = c));
}

static void test_lazy(void)
{
    struct calls c = {0};
    struct ash_pool *pool = counted(&c, 0, 0, 0);
    is_int(c.made, 0, "lazy: nothing is constructed before it is needed");
    is_int(get_many(pool, 3), 3, "three objects");
    is_int(c.made, 3, "three are constructed");
    is_int(stats(pool).created, 3, "and exist");
    put_many(pool, 3);
    is_int(c.reset, 3, "each is reset when it is put");
    is_int(c.ended, 0, "none is destructed");
    is_int(get_many(pool, 3), 3, "the same three");
    is_int(c.made, 3, "are not constructed again");
    ok(*(int *)objs[0] > 1000 && *(int *)objs[1] > 1000 && *(int *)objs[2] > 1000, "they hold what they held");
    put_many(pool, 3);
    is_int(ash_pool_destroy(pool), 0, "destroyed");
    is_int(c.ended, 3, "each was destructed once");

    c = (struct calls){0};
    pool = counted(&c, 0, 300, 0);
    is_int(c.made, 0, "lazy and preallocated: still nothing");
    is_int(stats(pool).created, 300, "the objects count");
    is_int(get_many(pool, 200), 200, "200 objects");
    is_int(c.made, 200, "are constructed");
    put_many(pool, 200);
    is_int(ash_pool_destroy(pool), 0, "destroyed");
    is_int(c.ended, 200, "only those were destructed");
}

static void test_eager(void)
{
    struct calls c = {0};
    struct ash_pool *pool = counted(&c, ASH_POOL_EAGER, 300, 0);
    is_int(c.made, 300, "eager: what is preallocated is constructed");
    is_int(get_many(pool, 301), 301, "one more");
    ok(c.made > 301 && c.made == (int)stats(pool).created, "and with it the rest of the chunk: %d", c.made);
    put_many(pool, 301);
    is_int(ash_pool_destroy(pool), 0, "destroyed");
    is_int(c.ended, c.made, "each was destructed once");

    c = (struct calls){0};
    pool = counted(&c, ASH_POOL_EAGER, 0, 100);
    is_int(get_many(pool, 1), 1, "eager and bounded");
    is_int(c.made, 100, "no more are constructed than there may be");
    put_many(pool, 1);
    ash_pool_destroy(pool);
    is_int(c.ended, 100, "and all destructed");
}

static void test_constructor_fails(void)
{
    struct calls c = {.fail_at = 3, .error = EPERM};
    struct ash_pool *pool = counted(&c, 0, 0, 0);
    errno = 0;
    is_int(get_many(pool, 5), 2, "a constructor fails: so does the get");
    is_int(errno, EPERM, "with its error");
    is_int(stats(pool).created, 2, "the object does not exist");
    is_int(stats(pool).refused, 1, "the refusal is counted");
    void *third = ash_pool_get(pool);
    ok(third != NULL && *(int *)third == 1004, "the next get constructs it");
    ash_pool_put(pool, third);
    put_many(pool, 2);
    is_int(ash_pool_audit(pool), 0, "nothing is lost");
    is_int(ash_pool_destroy(pool), 0, "destroyed");
    is_int(c.ended, 3, "what was constructed is destructed");

    c = (struct calls){.fail_at = 50, .error = -EIO};
    errno = 0;
    ok(counted(&c, ASH_POOL_EAGER, 100, 0) == NULL && errno == EIO, "eager: it fails in ash_pool_create, negative as well");
    is_int(c.ended, 49, "what was constructed is destructed");
    ok(ash_pool_lookup("counted") == NULL, "there is no such pool");

    c = (struct calls){.fail_at = 60, .error = EIO};
    pool = counted(&c, ASH_POOL_EAGER, 50, 0);
    is_int(get_many(pool, 59), 59, "eager: what was constructed of the chunk can be had");
    put_many(pool, 59);
    is_int(ash_pool_audit(pool), 0, "nothing is lost");
    is_int(ash_pool_destroy(pool), 0, "destroyed");
    is_int(c.ended, c.made - 1, "all but the failed one are destructed");

    c = (struct calls){.fail_at = 5, .error = ENODEV};
    pool = counted(&c, 0, 10, 10);
    is_int(ash_pool_get_bulk(pool, objs, 8), -ENODEV, "in bulk: all or none");
    is_int(ash_pool_in_use(pool), 0, "none");
    is_int(ash_pool_get_bulk(pool, objs, 10), 0, "all, the next time");
    ash_pool_put_bulk(pool, objs, 10);
    is_int(ash_pool_destroy(pool), 0, "destroyed");
}

/* A constructor that uses the pool it constructs for. */
static struct ash_pool *nested;
static int depth;

static int nest(void *obj, void *user)
{
    (void)user;
    *(void **)obj = NULL;
    if (depth++ < 3) {
        void *inner = ash_pool_get(nested);
        *(void **)obj = inner;
        ash_pool_put(nested, inner);
    }
    return 0;
}

static void test_callbacks_nest(void)
{
    nested = ash_pool_create("nested", ASH_POOL_CONFIG(.obj_size = 64, .ctor = nest));
    is_int(get_many(nested, 100), 100, "a constructor may get objects of its pool");
    ok(disjoint(100, 64, 64), "they are different ones");
    put_many(nested, 100);
    is_int(ash_pool_audit(nested), 0, "nothing is lost");
    is_int(ash_pool_destroy(nested), 0, "destroyed");
}

static void test_zero(void)
{
    struct ash_pool *pool = ash_pool_create("zero", ASH_POOL_CONFIG(.obj_size = 200, .flags = ASH_POOL_ZERO));
    int dirty = 0;
    for (int round = 0; round < 3; round++) {
        get_many(pool, 300);
        for (int i = 0; i < 300; i++) {
            for (int k = 0; k < 200; k++)
                dirty += ((unsigned char *)objs[i])[k];
            memset(objs[i], 0xff, 200);
        }
        put_many(pool, 300);
    }
    get_many(pool, 1);
    ash_pool_put(pool, objs[0]);
    is_int(ash_pool_get_bulk(pool, objs, 300), 0, "in bulk as well");
    for (int i = 0; i < 300; i++)
        for (int k = 0; k < 200; k++)
            dirty += ((unsigned char *)objs[i])[k];
    ash_pool_put_bulk(pool, objs, 300);
    is_int(dirty, 0, "objects are zero at each get");
    ash_pool_destroy(pool);
}

/* ---- many at once ---- */

static void test_bulk(void)
{
    struct ash_pool *pool = ash_pool_create("bulk", ASH_POOL_CONFIG(.obj_size = 64, .capacity = 1000, .cache = 64));
    int wrong = 0;
    for (unsigned n = 1; n <= 1000; n = n * 3 / 2 + 1) {
        wrong += ash_pool_get_bulk(pool, objs, n) != 0 || ash_pool_in_use(pool) != n;
        ash_pool_put_bulk(pool, objs, n);
        wrong += ash_pool_in_use(pool) != 0;
    }
    is_int(wrong, 0, "bulk get and put of 1 to 1000");
    is_int(ash_pool_get_bulk(pool, objs, 1000), 0, "all of them");
    ok(disjoint(1000, 64, 64), "are different ones");
    is_int(ash_pool_get_bulk(pool, objs + 1000, 1), -ENOBUFS, "not one more");
    ash_pool_put_bulk(pool, objs + 400, 600);
    is_int(ash_pool_get_bulk(pool, objs + 400, 601), -ENOBUFS, "all or nothing");
    is_int(ash_pool_in_use(pool), 400, "nothing was taken");
    is_int(ash_pool_get_burst(pool, objs + 400, 700), 600, "a burst takes what there is");
    ok(disjoint(1000, 64, 64), "all different");
    is_int(ash_pool_get_burst(pool, objs + 1000, 5), 0, "also nothing");
    is_int(ash_pool_get_bulk(pool, NULL, 0), 0, "none at all");
    is_int(ash_pool_get_bulk(pool, NULL, 1), -EINVAL, "nowhere to put them");
    ash_pool_put_bulk(pool, objs, 0);
    ash_pool_put_bulk(pool, objs, 1000);
    struct ash_pool_stats s = stats(pool);
    is_int((long)s.in_use, 0, "all are back");
    is_int((long)s.created, 1000, "there are as many as there may be");
    is_int(ash_pool_audit(pool), 0, "audit");
    ash_pool_destroy(pool);
}

static void test_counts(void)
{
    struct ash_pool *pool = ash_pool_create("counts", ASH_POOL_CONFIG(.obj_size = 64));
    uint64_t gets = 0;
    unsigned out = 0, seed = 1, wrong = 0;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1664525 + 1013904223;
        if ((seed >> 16) % 3 == 0 && out >= 40) {
            ash_pool_put_bulk(pool, objs + (out - 40), 40);
            out -= 40;
        } else if ((seed >> 16) % 3 == 1 && out + 50 < MANY) {
            wrong += ash_pool_get_bulk(pool, objs + out, 50) != 0;
            out += 50;
            gets += 50;
        } else if ((seed >> 20) % 2 == 0 && out > 0) {
            ash_pool_put(pool, objs[--out]);
        } else if (out < MANY) {
            objs[out++] = ash_pool_get(pool);
            gets++;
        }
        if (i % 1000 == 0) {
            struct ash_pool_stats s = stats(pool);
            wrong += s.hits + s.misses != gets || s.in_use != out || s.created < out + s.cached;
            wrong += ash_pool_audit(pool) != 0;
        }
    }
    is_int(wrong, 0, "hits + misses are the gets, in_use is exact, at every time");
    ok(stats(pool).hits > stats(pool).misses, "most are hits");
    put_many(pool, out);
    is_int((long)stats(pool).in_use, 0, "nothing is out");
    is_int(ash_pool_destroy(pool), 0, "destroyed");
}

static void test_single(void)
{
    struct ash_pool *pool = ash_pool_create("single", ASH_POOL_CONFIG(.obj_size = 64, .flags = ASH_POOL_SINGLE_THREAD));
    is_int(get_many(pool, 3000), 3000, "a pool for one thread");
    ok(disjoint(3000, 64, 64), "gives different objects");
    put_many(pool, 3000);
    is_int(ash_pool_audit(pool), 0, "and has them back");
    is_int(ash_pool_trim(pool), 1, "can be trimmed");
    is_int((long)stats(pool).bytes, 0, "to nothing");
    is_int(get_many(pool, 1000), 1000, "and used again");
    errno = 0;
    ok(ash_pool_cache_create(pool, 0) == NULL && errno == EINVAL, "it has no other caches");
    put_many(pool, 1000);
    is_int(ash_pool_destroy(pool), 0, "destroyed");
}

/* ---- caches of the program ---- */

static void test_cache(void)
{
    struct ash_pool *pool = ash_pool_create("cached", ASH_POOL_CONFIG(.obj_size = 64, .capacity = 100, .flags = ASH_POOL_FIXED));
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
    ok(strstr(text, "\"pools\"") != NULL && strstr(text, "\"shown\"") != NULL && strstr(text, "12345") != NULL, "in JSON");
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
    ok(with - before >= 16 << 20 && with - before < (16 << 20) * 1.03, "16 MiB of objects are in the process's account");
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
    example();
    test_create();
    test_sizes();
    test_capacity();
    test_fixed();
    test_prealloc();
    test_lazy();
    test_eager();
    test_constructor_fails();
    test_callbacks_nest();
    test_zero();
    test_bulk();
    test_counts();
    test_single();
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
