/*
 * Pools between threads: 2, 4 and 8 of them get, put, pass on, trim and count; threads end with full caches; pools go
 * while threads with caches of theirs live on; processes fork in the middle. Every object has an owner's mark in it as
 * long as it is out, so that one handed out twice is seen; at the end nothing is lost. Seeds are printed.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

enum { THREADS = 8, HELD = 300, ROUNDS = 15000, BOX = 64 };

#ifdef __SANITIZE_THREAD__
enum { CHILDREN = 0 };
#else
enum { CHILDREN = 1 };
#endif

struct object {
    _Atomic(uint32_t) owner; /* 0: free */
    uint32_t plain;          /* written by the owner alone */
};

struct load {
    struct ash_pool *pool;
    unsigned seed, id;
    uint64_t gets, wrong, refused;
    pthread_t thread;
};

static _Atomic(struct object *) box[BOX]; /* objects that are passed on */
static _Atomic(int) stop;

static uint32_t next(unsigned *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static void taken(struct load *l, struct object *o)
{
    uint32_t seen = 0;
    l->wrong += !atomic_compare_exchange_strong(&o->owner, &seen, l->id);
    o->plain = l->id;
}

static void passed(struct load *l, struct object *o, uint32_t from)
{
    uint32_t seen = from;
    l->wrong += !atomic_compare_exchange_strong(&o->owner, &seen, l->id);
    o->plain = l->id;
}

static void leaving(struct load *l, struct object *o)
{
    l->wrong += o->plain != l->id || atomic_load(&o->owner) != l->id;
    atomic_store(&o->owner, 0);
}

static void put(struct load *l, struct object *o)
{
    leaving(l, o);
    ash_pool_put(l->pool, o);
}

/* Gets one, or `n` in bulk: how many. */
static unsigned get(struct load *l, void **objs, unsigned n)
{
    if (n == 1)
        objs[0] = ash_pool_get(l->pool);
    if (n == 1 ? objs[0] == NULL : ash_pool_get_bulk(l->pool, objs, n) != 0) {
        l->refused++;
        return 0;
    }
    for (unsigned i = 0; i < n; i++)
        taken(l, objs[i]);
    l->gets += n;
    return n;
}

/* Gets, puts and passes on at random; at the end has nothing. */
static void *work(void *arg)
{
    struct load *l = arg;
    void *held[HELD];
    unsigned n = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t r = next(&l->seed);
        unsigned many = 1 + next(&l->seed) % 50;
        switch (r % 8) {
        case 0:
            if (n + many <= HELD)
                n += get(l, held + n, many);
            break;
        case 1:
            many = many < n ? many : n;
            for (unsigned i = n - many; i < n; i++)
                leaving(l, held[i]);
            ash_pool_put_bulk(l->pool, held + (n - many), many);
            n -= many;
            break;
        case 2:
            if (n > 0) { /* swap with what lies in the box */
                struct object *o = atomic_exchange(&box[next(&l->seed) % BOX], held[n - 1]);
                if (o == NULL)
                    n--;
                else
                    passed(l, held[n - 1] = o, atomic_load(&o->owner));
            }
            break;
        case 3:
            if (r % 4096 == 3)
                (void)ash_pool_trim(l->pool);
            break;
        default:
            if (r % 16 < 12 && n < HELD)
                n += get(l, held + n, 1);
            else if (n > 0)
                put(l, held[--n]);
        }
    }
    while (n > 0)
        put(l, held[--n]);
    return NULL;
}

static void empty_box(struct ash_pool *pool)
{
    for (int i = 0; i < BOX; i++) {
        struct object *o = atomic_exchange(&box[i], NULL);
        if (o != NULL) {
            atomic_store(&o->owner, 0);
            ash_pool_put(pool, o);
        }
    }
}

static unsigned seed_of(void)
{
    const char *given = getenv("ASH_TEST_SEED");
    return given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL) * 2654435761u;
}

static void run(struct load *load, unsigned threads, struct ash_pool *pool, unsigned seed)
{
    for (unsigned i = 0; i < threads; i++) {
        load[i] = (struct load){.pool = pool, .seed = seed + i * 977, .id = i + 1};
        pthread_create(&load[i].thread, NULL, work, &load[i]);
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(load[i].thread, NULL);
}

static int mark(void *obj, void *user)
{
    struct object *o = obj;
    (void)user;
    atomic_init(&o->owner, 0);
    o->plain = 0;
    return 0;
}

static void test_mixed(unsigned threads, const char *kind, const struct ash_pool_config *config)
{
    unsigned seed = seed_of();
    struct load load[THREADS];
    struct ash_pool *pool = ash_pool_create("mixed", config);
    struct ash_pool_stats s;
    uint64_t gets = 0, wrong = 0, refused = 0;
    run(load, threads, pool, seed);
    empty_box(pool);
    for (unsigned i = 0; i < threads; i++) {
        gets += load[i].gets;
        wrong += load[i].wrong;
        refused += load[i].refused;
    }
    ash_pool_stats(pool, &s);
    ok(wrong == 0, "%u threads, %s: no object is in two hands (seed %#x)", threads, kind, seed);
    is_int((long)(s.hits + s.misses), (long)gets, "each get was counted");
    is_int((long)s.refused, (long)refused, "and each refusal");
    is_int((long)s.in_use, 0, "nothing is out");
    is_int(ash_pool_audit(pool), 0, "audit");
    unsigned created = (unsigned)s.created;
    void **all = calloc(created + 1, sizeof *all);
    unsigned got = ash_pool_get_burst(pool, all, created);
    is_int(got, created, "all objects are in reach of one thread");
    if ((config->flags & ASH_POOL_FIXED) != 0)
        ok(ash_pool_get(pool) == NULL && created == config->capacity, "and there is none beside them");
    ash_pool_put_bulk(pool, all, got);
    free(all);
    is_int(ash_pool_destroy(pool), 0, "destroyed");
    is_int(ash_verify(), 0, "everything verifies");
}

/* ---- one gets, another puts ---- */

static void *produce(void *arg)
{
    struct load *l = arg;
    for (int i = 0; i < 200000; i++) {
        struct object *o = ash_pool_get(l->pool);
        l->wrong += o == NULL;
        struct object *none = NULL;
        while (!atomic_compare_exchange_weak(&box[i % BOX], &none, o))
            none = NULL;
    }
    return NULL;
}

static void *consume(void *arg)
{
    struct load *l = arg;
    for (int i = 0; i < 200000; i++) {
        struct object *o;
        while ((o = atomic_exchange(&box[i % BOX], NULL)) == NULL)
            ;
        ash_pool_put(l->pool, o);
    }
    return NULL;
}

static void test_passed_on(void)
{
    struct ash_pool *pool = ash_pool_create("passed", ASH_POOL_CONFIG(.obj_size = 64));
    struct load l[2] = {{.pool = pool}, {.pool = pool}};
    pthread_create(&l[0].thread, NULL, produce, &l[0]);
    pthread_create(&l[1].thread, NULL, consume, &l[1]);
    pthread_join(l[0].thread, NULL);
    pthread_join(l[1].thread, NULL);
    struct ash_pool_stats s;
    ash_pool_stats(pool, &s);
    is_int((long)l[0].wrong, 0, "one thread gets, another puts");
    is_int((long)s.in_use, 0, "nothing is out");
    ok(s.created <= 3 * s.cache + BOX, "objects go round: %ju were made", (uintmax_t)s.created);
    is_int(ash_pool_audit(pool), 0, "audit");
    is_int(ash_pool_destroy(pool), 0, "destroyed");
}

/* ---- threads that end ---- */

static void *fill_cache(void *arg)
{
    void *objs[60];
    if (ash_pool_get_bulk(arg, objs, 60) == 0)
        ash_pool_put_bulk(arg, objs, 60);
    return NULL;
}

static void in_thread(void *(*fn)(void *), void *arg)
{
    pthread_t t;
    pthread_create(&t, NULL, fn, arg);
    pthread_join(t, NULL);
}

static void test_ends(void)
{
    struct ash_pool *pool =
        ash_pool_create("ends", ASH_POOL_CONFIG(.obj_size = 64, .capacity = 60, .cache = 64, .flags = ASH_POOL_FIXED));
    struct ash_pool_stats s;
    void *objs[60];
    for (int i = 0; i < 100; i++)
        in_thread(fill_cache, pool);
    ash_pool_stats(pool, &s);
    is_int((long)s.in_use, 0, "a hundred threads came and went");
    ok(s.caches <= 2, "they had the same cache, one after another: %ju", (uintmax_t)s.caches);
    is_int(ash_pool_get_bulk(pool, objs, 60), 0, "what they had put can be had");
    ash_pool_put_bulk(pool, objs, 60);
    is_int(ash_pool_destroy(pool), 0, "destroyed");
}

static pthread_key_t late_key;
static struct ash_pool *late_pool;
static int late_wrong, late_calls;

/* Runs at a thread's end, after its caches were left: objects can still be got and put. */
static void late(void *again)
{
    void *objs[10];
    late_calls++;
    for (int i = 0; i < 10; i++)
        late_wrong += (objs[i] = ash_pool_get(late_pool)) == NULL;
    for (int i = 0; i < 10; i++)
        ash_pool_put(late_pool, objs[i]);
    late_wrong += ash_pool_get_bulk(late_pool, objs, 10) != 0;
    ash_pool_put_bulk(late_pool, objs, 10);
    if (again != &late_key) /* once more, in a later round of destructors */
        pthread_setspecific(late_key, &late_key);
}

static void *use_and_end(void *arg)
{
    pthread_setspecific(late_key, arg);
    return fill_cache(arg);
}

static void test_late(void)
{
    late_pool = ash_pool_create("late", ASH_POOL_CONFIG(.obj_size = 64));
    ash_pool_put(late_pool, ash_pool_get(late_pool));
    pthread_key_create(&late_key, late);
    for (int i = 0; i < 20; i++)
        in_thread(use_and_end, late_pool);
    is_int(late_calls, 40, "destructors of a thread use a pool after its cache was left");
    is_int(late_wrong, 0, "and get objects");
    is_int(ash_pool_in_use(late_pool), 0, "nothing is out");
    is_int(ash_pool_audit(late_pool), 0, "audit");
    is_int(ash_pool_destroy(late_pool), 0, "destroyed");
}

/* ---- pools that go ---- */

static struct ash_pool *_Atomic now_pool;
static _Atomic(int) turn;

/* Uses whichever pool there is, whenever it is its turn. */
static void *use_pools(void *arg)
{
    (void)arg;
    for (int i = 0; !atomic_load(&stop);) {
        if (atomic_load(&turn) != 2 * i + 1)
            continue;
        fill_cache(atomic_load(&now_pool));
        atomic_store(&turn, 2 * ++i);
    }
    return NULL;
}

static void test_goes(void)
{
    pthread_t t;
    int wrong = 0;
    atomic_store(&stop, 0);
    pthread_create(&t, NULL, use_pools, NULL);
    for (int i = 0; i < 200; i++) {
        struct ash_pool *pool = ash_pool_create("goes", ASH_POOL_CONFIG(.obj_size = 64 + (size_t)i));
        struct ash_pool *other = i % 3 == 0 ? ash_pool_create(NULL, ASH_POOL_CONFIG(.obj_size = 64)) : NULL;
        atomic_store(&now_pool, pool);
        atomic_store(&turn, 2 * i + 1);
        while (atomic_load(&turn) != 2 * i + 2)
            ;
        fill_cache(pool);
        wrong += ash_pool_audit(pool) != 0 || ash_pool_destroy(pool) != 0;
        wrong += other != NULL && ash_pool_destroy(other) != 0;
    }
    atomic_store(&stop, 1);
    pthread_join(t, NULL);
    is_int(wrong, 0, "200 pools went while another thread had a cache of each");
}

/* Two threads that both end while pools that they have used go. */
static void *use_once(void *arg)
{
    fill_cache(arg);
    atomic_fetch_add(&turn, 1);
    return NULL; /* the end of the thread meets the end of the pool */
}

static void test_goes_at_end(void)
{
    int wrong = 0;
    for (int i = 0; i < 300; i++) {
        struct ash_pool *pool = ash_pool_create("goes", ASH_POOL_CONFIG(.obj_size = 64));
        pthread_t t[2];
        atomic_store(&turn, 0);
        for (int k = 0; k < 2; k++)
            pthread_create(&t[k], NULL, use_once, pool);
        while (atomic_load(&turn) != 2)
            ;
        wrong += ash_pool_destroy(pool) != 0;
        for (int k = 0; k < 2; k++)
            pthread_join(t[k], NULL);
    }
    is_int(wrong, 0, "300 pools went while threads that had caches of them ended");
    is_int(ash_verify(), 0, "everything verifies");
}

/* ---- names ---- */

static _Atomic(int) winners;

static void *want_name(void *arg)
{
    (void)arg;
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "name-%d", i);
        while (atomic_load(&turn) < i)
            ;
        if (ash_pool_create(name, ASH_POOL_CONFIG(.obj_size = 64)) != NULL)
            atomic_fetch_add(&winners, 1);
        else if (errno != EEXIST || ash_pool_lookup(name) == NULL)
            atomic_fetch_add(&winners, 1000);
        int seen = i;
        atomic_compare_exchange_strong(&turn, &seen, i + 1);
    }
    return NULL;
}

static int destroy_it(struct ash_pool *pool, void *user)
{
    (void)user;
    return strncmp(ash_pool_name(pool), "name-", 5) == 0 ? ash_pool_destroy(pool) : 0;
}

static void test_names(void)
{
    pthread_t t[4];
    atomic_store(&turn, 0);
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, want_name, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    is_int(atomic_load(&winners), 300, "four threads want 300 names: each is given once, and can be looked up then");
    is_int(ash_pool_walk(destroy_it, NULL), 0, "a walk destroys them");
    ok(ash_pool_lookup("name-0") == NULL && ash_pool_lookup("name-299") == NULL, "they are gone");
}

/* ---- statistics meanwhile ---- */

static void *watch(void *arg)
{
    struct load *l = arg;
    FILE *null = fopen("/dev/null", "w");
    while (!atomic_load(&stop)) {
        l->wrong += ash_stats_dump(fileno(null), ASH_JSON) != 0;
        (void)ash_pool_lookup("goes");
    }
    fclose(null);
    return NULL;
}

static void test_watched(void)
{
    struct load l = {0};
    pthread_t t;
    int wrong = 0;
    atomic_store(&stop, 0);
    pthread_create(&t, NULL, watch, &l);
    for (int i = 0; i < 2000; i++) {
        struct ash_pool *pool = ash_pool_create("goes", ASH_POOL_CONFIG(.obj_size = 64));
        fill_cache(pool);
        wrong += ash_pool_destroy(pool) != 0;
    }
    atomic_store(&stop, 1);
    pthread_join(t, NULL);
    is_int(wrong + (int)l.wrong, 0, "pools come and go while statistics are written");
}

/* ---- fork ---- */

static void *keep_working(void *arg)
{
    struct load *l = arg;
    while (!atomic_load(&stop)) {
        l->seed++;
        work(l);
    }
    return NULL;
}

/* In the child: what can be had is in one hand only, and goes round. */
static int child_works(struct ash_pool *pool)
{
    enum { N = 500 };
    static void *objs[N];
    int wrong = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < N; i++) {
            objs[i] = ash_pool_get(pool);
            wrong += objs[i] == NULL;
            memset(objs[i], i, sizeof(struct object));
        }
        for (int i = 0; i < N; i++)
            for (unsigned k = 0; k < sizeof(struct object); k++)
                wrong += ((unsigned char *)objs[i])[k] != (unsigned char)i;
        for (int i = 0; i < N; i++)
            ash_pool_put(pool, objs[i]);
        in_thread(fill_cache, pool);
        if (round == 10)
            (void)ash_pool_trim(pool);
    }
    struct ash_pool *own = ash_pool_create("own", ASH_POOL_CONFIG(.obj_size = 64));
    in_thread(fill_cache, own);
    wrong += ash_pool_destroy(own) != 0;
    return wrong;
}

static void test_fork(unsigned threads)
{
    struct ash_pool *pool = ash_pool_create("forked", ASH_POOL_CONFIG(.obj_size = sizeof(struct object), .ctor = mark));
    struct load load[THREADS];
    unsigned seed = seed_of();
    int wrong = 0;
    atomic_store(&stop, 0);
    for (unsigned i = 0; i < threads; i++) {
        load[i] = (struct load){.pool = pool, .seed = seed + i, .id = i + 1};
        pthread_create(&load[i].thread, NULL, keep_working, &load[i]);
    }
    for (int i = 0; i < 30; i++) {
        struct timespec nap = {0, 3000000};
        nanosleep(&nap, NULL);
        pid_t child = fork();
        if (child == 0)
            _exit(child_works(pool) != 0);
        int status = -1;
        waitpid(child, &status, 0);
        wrong += status != 0;
    }
    atomic_store(&stop, 1);
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(load[i].thread, NULL);
        wrong += load[i].wrong != 0;
    }
    empty_box(pool);
    ok(wrong == 0, "30 forks while %u threads work: the children go on, the parent does (seed %#x)", threads, seed);
    is_int(ash_pool_in_use(pool), 0, "nothing is out in the parent");
    is_int(ash_pool_audit(pool), 0, "audit");
    is_int(ash_pool_destroy(pool), 0, "destroyed");
}

static void test_fork_quiet(void)
{
    struct ash_pool *pool = ash_pool_create("quiet", ASH_POOL_CONFIG(.obj_size = 64));
    void *obj = ash_pool_get(pool);
    pid_t child = fork();
    if (child == 0) {
        int wrong = ash_pool_in_use(pool) != 1 || ash_pool_destroy(pool) != -EBUSY;
        ash_pool_put(pool, obj);
        in_thread(fill_cache, pool);
        wrong += ash_pool_audit(pool) != 0 || ash_pool_in_use(pool) != 0 || ash_pool_destroy(pool) != 0;
        _exit(wrong);
    }
    int status = -1;
    waitpid(child, &status, 0);
    is_int(status, 0, "a child of a quiet process has all of the pool, and can destroy it");
    ash_pool_put(pool, obj);
    is_int(ash_pool_destroy(pool), 0, "which is nothing to the parent");
}

int main(void)
{
    for (unsigned threads = 2; threads <= THREADS; threads *= 2) {
        test_mixed(threads, "growing", ASH_POOL_CONFIG(.obj_size = 64, .ctor = mark, .flags = ASH_POOL_EAGER));
        test_mixed(threads, "lazy", ASH_POOL_CONFIG(.obj_size = 24, .align = 8, .ctor = mark));
    }
    test_mixed(4, "bounded", ASH_POOL_CONFIG(.obj_size = 200, .capacity = 700, .ctor = mark));
    test_mixed(4, "fixed", ASH_POOL_CONFIG(.obj_size = 200, .capacity = 900, .ctor = mark, .flags = ASH_POOL_FIXED));
    test_mixed(4, "debug", ASH_POOL_CONFIG(.obj_size = 40, .ctor = mark, .flags = ASH_POOL_DEBUG));
    test_mixed(4, "tiny caches", ASH_POOL_CONFIG(.obj_size = 64, .ctor = mark, .cache = 2));
    test_passed_on();
    test_ends();
    test_late();
    test_goes();
    test_goes_at_end();
    test_names();
    test_watched();
    if (CHILDREN) {
        test_fork(2);
        test_fork(8);
        test_fork_quiet();
    } else {
        skip("the sanitizer does not follow children of processes with threads", 1);
    }
    return tap_done();
}
