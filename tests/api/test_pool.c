/*
 * Object pools (ashlar/pool.h), one thread: first a use of them as a program would have it, then making them, getting
 * and putting, with all promises, errors and edges. test_pool_care.c has the rest.
 */
#include "pools.h"

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
        struct ash_pool *pool =
            ash_pool_create("sizes", ASH_POOL_CONFIG(.obj_size = kinds[i].size, .align = kinds[i].align));
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
    struct ash_pool *pool =
        ash_pool_create("fixed", ASH_POOL_CONFIG(.obj_size = 64, .capacity = 500, .flags = ASH_POOL_FIXED));
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
    ok(counted(&c, ASH_POOL_EAGER, 100, 0) == NULL && errno == EIO, "eager: it fails in ash_pool_create");
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
    is_int(ash_verify(), 0, "everything verifies");
    return tap_done();
}
