/*
 * Pools without memory: every allocation that they make for themselves is refused once, the n-th for n = 1, 2, 3 … until
 * none is, and then all from the n-th on. Gets are answered with NULL and ENOMEM, puts always work, also those of a thread
 * that can have no cache; nothing is lost, and the next call works. Linked against the library's parts, with the functions
 * that pools allocate by wrapped.
 */
#include "ashlar/ashlar.h"
#include "mem/reserve.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>

void *__real_front_malloc_slow(size_t n);
void *__real_front_calloc(size_t count, size_t n);
void *__real_meta_take(size_t n);
struct run __real_reserve_take(size_t units, size_t align);
void *__wrap_front_malloc_slow(size_t n);
void *__wrap_front_calloc(size_t count, size_t n);
void *__wrap_meta_take(size_t n);
struct run __wrap_reserve_take(size_t units, size_t align);

static _Atomic(long) calls, fail_at, fail_count;

static int refused(void)
{
    long i = ++calls;
    return i >= fail_at && i < fail_at + fail_count;
}

/* The core's own calls do not come here: they are inside it. */
void *__wrap_front_malloc_slow(size_t n)
{
    return refused() ? (errno = ENOMEM, NULL) : __real_front_malloc_slow(n);
}

void *__wrap_front_calloc(size_t count, size_t n)
{
    return refused() ? (errno = ENOMEM, NULL) : __real_front_calloc(count, n);
}

void *__wrap_meta_take(size_t n)
{
    return refused() ? NULL : __real_meta_take(n);
}

struct run __wrap_reserve_take(size_t units, size_t align)
{
    return refused() ? (struct run){RESERVE_NONE, 0} : __real_reserve_take(units, align);
}

enum { N = 1500 };

static void *objs[N], *bulk[100];
static int nulls, bad_errno, made, ended;

static int make(void *obj, void *user)
{
    (void)user;
    *(int *)obj = 42;
    made++;
    return 0;
}

static void end(void *obj, void *user)
{
    (void)user;
    ended += *(int *)obj == 42;
}

static void *checked(void *p)
{
    if (p == NULL) {
        nulls++;
        bad_errno += errno != ENOMEM;
    }
    errno = 0;
    return p;
}

/* Puts what is there, in a thread that has never met the pool. */
static void *put_all(void *pool)
{
    errno = 7;
    for (int i = 0; i < N; i++)
        if (objs[i] != NULL)
            ash_pool_put(pool, objs[i]);
    bad_errno += errno != 7;
    void *p = ash_pool_get(pool);
    ash_pool_put(pool, p);
    return NULL;
}

/* 0 when all is well; `config` is a pool to be made. */
static int workload(const struct ash_pool_config *config)
{
    nulls = bad_errno = made = ended = 0;
    errno = 0;
    struct ash_pool *pool = checked(ash_pool_create("starved", config));
    if (pool == NULL)
        return bad_errno + (ash_pool_lookup("starved") != NULL) + (made != ended);
    for (int i = 0; i < N; i++)
        objs[i] = checked(ash_pool_get(pool));
    struct ash_pool_cache *cache = checked(ash_pool_cache_create(pool, 100));
    int got = ash_pool_get_bulk(pool, bulk, 100);
    bad_errno += got != 0 && got != -ENOMEM;
    pthread_t t;
    if (pthread_create(&t, NULL, put_all, pool) == 0)
        pthread_join(t, NULL);
    else
        put_all(pool); /* it needs memory as well */
    if (cache != NULL) {
        for (int i = 0; got == 0 && i < 100; i++)
            ash_pool_cache_put(cache, bulk[i]);
        ash_pool_put(pool, checked(ash_pool_cache_get(cache)));
        ash_pool_cache_destroy(cache);
    } else if (got == 0) {
        ash_pool_put_bulk(pool, bulk, 100);
    }
    int tuned = ash_pool_set_tuner(pool, ASH_TUNER_CONFIG(.max = 100));
    int trimmed = ash_pool_trim(pool);
    int faults = ash_pool_audit(pool);
    int wrong = bad_errno + (tuned != 0 && tuned != -ENOMEM) + (trimmed < 0) + (faults != 0 && faults != -ENOMEM);
    wrong += ash_pool_in_use(pool) != 0;
    fail_count = 0;
    wrong += ash_pool_audit(pool) != 0 || ash_pool_get_bulk(pool, objs, N) != 0;
    ash_pool_put_bulk(pool, objs, N);
    wrong += ash_pool_destroy(pool) != 0 || made != ended || ash_verify() != 0;
    return wrong;
}

/* In a child, so that each begins with the same memory: its status. */
static int in_child(const struct ash_pool_config *config, long at, long count)
{
    pid_t child = fork();
    if (child == 0) {
        calls = 0;
        fail_at = at;
        fail_count = count;
        int wrong = workload(config);
        _exit(wrong != 0 ? 1 : calls < at ? 2 : 0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test(const struct ash_pool_config *config, long count, const char *what)
{
    long n = 0;
    int wrong = 0, status = 0;
    while (status != 2 && n < 1000) {
        status = in_child(config, ++n, count);
        if (status != 0 && status != 2 && wrong++ < 10)
            tap_line("# call %ld refused: status %d", n, status);
    }
    ok(wrong == 0 && n > 20 && status == 2, "%s: %ld allocations", what, n - 1);
}

int main(void)
{
    static const long counts[] = {1, 1000000};
    for (int i = 0; i < 2; i++) {
        const char *from = i == 0 ? "one refused" : "all refused from the n-th on";
        char what[100];
        snprintf(what, sizeof what, "plain, %s", from);
        test(ASH_POOL_CONFIG(.obj_size = 1000, .cache = 20), counts[i], what);
        snprintf(what, sizeof what, "preallocated, with a constructor, %s", from);
        test(ASH_POOL_CONFIG(.obj_size = 1000, .prealloc = 700, .ctor = make, .dtor = end), counts[i], what);
        snprintf(what, sizeof what, "eager, %s", from);
        test(ASH_POOL_CONFIG(.obj_size = 1000, .prealloc = 700, .ctor = make, .dtor = end, .flags = ASH_POOL_EAGER),
             counts[i], what);
        snprintf(what, sizeof what, "debug, %s", from);
        test(ASH_POOL_CONFIG(.obj_size = 1000, .flags = ASH_POOL_DEBUG), counts[i], what);
        snprintf(what, sizeof what, "tiny caches, %s", from);
        test(ASH_POOL_CONFIG(.obj_size = 300, .cache = 1), counts[i], what);
    }
    return tap_done();
}
