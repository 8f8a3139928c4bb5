/*
 * Pools of VMs under threads: nobody ever has a VM that another has, or one that is not as new; nobody who waits is
 * forgotten, and who waits longest is served first.
 */
#include "draw.h"
#include "tap.h"
#include "vms.h"

#include <sys/wait.h>

enum { THREADS_MOST = 8, VMS_MOST = 8 };

struct shared {
    struct ash_vmpool *pool;
    unsigned rounds;
    unsigned inside; /* atomic: who has a VM now */
    unsigned most;   /* atomic: the most that were */
    int wrong;       /* atomic */
    struct host host;
};

struct worker {
    struct shared *shared;
    uint64_t seed;
};

static void bad(struct shared *s)
{
    __atomic_add_fetch(&s->wrong, 1, __ATOMIC_RELAXED);
}

static void count_in(struct shared *s)
{
    unsigned n = __atomic_add_fetch(&s->inside, 1, __ATOMIC_RELAXED),
             most = __atomic_load_n(&s->most, __ATOMIC_RELAXED);
    while (most < n && !__atomic_compare_exchange_n(&s->most, &most, n, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

/* The guest's memory is plain: a thread sanitizer sees it when two have one VM. */
static void use_one(struct shared *s, uint64_t *seed)
{
    struct ash_vm *vm;
    uint64_t r = draw_from(seed);
    int status = ash_vmpool_acquire(s->pool, &vm, r % 8 == 0 ? 0 : r % 8 == 1 ? (int64_t)(r >> 8 & 0xffff) : -1);
    if (status == -ETIMEDOUT)
        return;
    if (status != 0) {
        bad(s);
        return;
    }
    count_in(s);
    if (guest_use(ash_vm_root(vm)) != 0)
        bad(s);
    if (r >> 3 & 1)
        sched_yield();
    __atomic_sub_fetch(&s->inside, 1, __ATOMIC_RELAXED);
    if (ash_vmpool_release(s->pool, vm, (r >> 4) % 64 == 0 ? ASH_VM_POISON : 0) != 0)
        bad(s);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    for (unsigned i = 0; i < w->shared->rounds; i++) {
        use_one(w->shared, &w->seed);
        if (i % 256 == 255)
            ash_vmpool_trim(w->shared->pool);
    }
    return NULL;
}

static void test_stress(unsigned threads, unsigned max, unsigned flags, uint64_t seed)
{
    struct shared s = {.rounds = 10000 / threads};
    struct worker w[THREADS_MOST];
    pthread_t thread[THREADS_MOST];
    s.pool = ash_vmpool_create("stress", &bare_ops,
                               ASH_VMPOOL_CONFIG(.heap_bytes = 1 << 20, .min = max / 2, .max = max, .max_uses = 50,
                                                 .verify_every = 16, .flags = flags),
                               NULL);
    for (unsigned i = 0; i < threads; i++) {
        w[i] = (struct worker){&s, seed * 1000 + i + 1};
        pthread_create(&thread[i], NULL, work, &w[i]);
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    struct ash_vmpool_stats t = stats(s.pool);
    ok(s.wrong == 0, "%u threads, %u VMs, flags %u, seed %u: each has a VM as new for itself", threads, max, flags,
       (unsigned)seed);
    ok(s.most <= max && t.vms <= max && t.vms >= max / 2, "no more than there may be: %u, %d", s.most, (int)t.vms);
    ok(t.leased == 0 && t.waiting == 0 && t.idle == t.vms && t.created - t.destroyed == t.vms, "all came back");
    ok(t.acquires + t.timeouts == 10000 / threads * threads, "every acquire is counted");
    ok(t.mismatches == 0 && t.unfit == 0 && t.misuses == 0 && t.create_failures == 0, "none was found to be wrong");
    is_int(ash_vmpool_destroy(s.pool), 0, "destroyed");
}

/* ---- order ---- */

struct queued {
    struct ash_vmpool *pool;
    int *order, *served, place;
};

static void *wait_in_line(void *arg)
{
    struct queued *q = arg;
    struct ash_vm *vm;
    if (ash_vmpool_acquire(q->pool, &vm, -1) == 0) {
        q->order[__atomic_fetch_add(q->served, 1, __ATOMIC_RELAXED)] = q->place;
        ash_vmpool_release(q->pool, vm, q->place % 2 != 0 ? ASH_VM_POISON : 0);
    }
    return NULL;
}

static void test_order(unsigned flags)
{
    int order[6] = {0}, served = 0, sorted = 1;
    struct queued q[6];
    pthread_t thread[6];
    struct ash_vm *vm;
    struct ash_vmpool *p = ash_vmpool_create("order", &bare_ops, ASH_VMPOOL_CONFIG(.max = 1, .flags = flags), NULL);
    ash_vmpool_acquire(p, &vm, -1);
    for (int i = 0; i < 6; i++) {
        q[i] = (struct queued){p, order, &served, i};
        pthread_create(&thread[i], NULL, wait_in_line, &q[i]);
        while (stats(p).waiting != (unsigned)i + 1)
            sched_yield();
    }
    struct ash_vm *none;
    ash_vmpool_release(p, vm, 0);
    int status = ash_vmpool_acquire(p, &none, 0);
    if (status == 0)
        ash_vmpool_release(p, none, 0);
    for (int i = 0; i < 6; i++) {
        pthread_join(thread[i], NULL);
        sorted &= order[i] == i;
    }
    ok(sorted, "who waits is served in order, by a VM that comes back or by the place of one that was destroyed");
    ok(status == -ETIMEDOUT || served == 6, "nobody comes in between");
    ash_vmpool_destroy(p);
}

/* Two VMs, two threads that pass one to the other by waiting: a wake-up that is lost would stop them. */
static void *ping(void *arg)
{
    for (int i = 0; i < 10000; i++) {
        struct ash_vm *vm;
        if (ash_vmpool_acquire(arg, &vm, -1) == 0)
            ash_vmpool_release(arg, vm, 0);
    }
    return NULL;
}

static void test_wakeups(unsigned flags)
{
    pthread_t thread[4];
    struct ash_vmpool *p = ash_vmpool_create("ping", &bare_ops, ASH_VMPOOL_CONFIG(.max = 1, .flags = flags), NULL);
    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, ping, p);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    ok(stats(p).acquires == 40000 && stats(p).created == 1, "40,000 turns of four threads with one VM, %d waits",
       (int)stats(p).waits);
    ash_vmpool_destroy(p);
}

/* ---- others at the same time ---- */

static int stop;

static void *look_on(void *arg)
{
    struct shared *s = arg;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        struct ash_vmpool_stats t = stats(s->pool);
        if (t.vms > 4 || t.idle + t.leased > 4)
            bad(s);
        ash_vmpool_maintain(s->pool, now_ns() + (int64_t)60000 * MS);
        sched_yield();
    }
    return NULL;
}

/* Forks in the middle: every child can use the pool, and end it when it has released what it has. */
static void test_forks(unsigned flags, unsigned children)
{
    struct shared s = {.rounds = 4000};
    struct worker w[3];
    pthread_t thread[3], looker;
    int good = 0;
    s.pool =
        ash_vmpool_create("forks", &bare_ops, ASH_VMPOOL_CONFIG(.heap_bytes = 1 << 20, .max = 4, .flags = flags), NULL);
    stop = 0;
    pthread_create(&looker, NULL, look_on, &s);
    for (unsigned i = 0; i < 3; i++) {
        w[i] = (struct worker){&s, i + 77};
        pthread_create(&thread[i], NULL, work, &w[i]);
    }
    for (unsigned i = 0; i < children; i++) {
        struct ash_vm *mine = NULL;
        ash_vmpool_acquire(s.pool, &mine, -1);
        pid_t child = fork();
        if (child == 0) {
            uint64_t seed = i + 1;
            struct shared own = {.pool = s.pool};
            alarm(20);
            int wrong = guest_use(ash_vm_root(mine)) + ash_vmpool_release(s.pool, mine, 0);
            for (int k = 0; k < 50; k++)
                use_one(&own, &seed);
            _exit(wrong != 0 || own.wrong != 0 || ash_vmpool_destroy(s.pool) != 0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        good += status == 0;
        ash_vmpool_release(s.pool, mine, 0);
    }
    for (unsigned i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(looker, NULL);
    is_int(good, (int)children, "children of a fork in the middle use the pool and end it");
    ok(s.wrong == 0 && stats(s.pool).leased == 0, "the parent's threads, swept and looked at all the while, go on");
    is_int(ash_vmpool_destroy(s.pool), 0, "destroyed");
}

int main(void)
{
    alarm(300); /* a thread sanitizer takes its time */
    for (unsigned flags = 0; flags <= ASH_VM_STICKY; flags++) {
        test_stress(2, 1, flags, 1);
        test_stress(4, 2, flags, 2);
        test_stress(8, 3, flags, 3);
        test_stress(8, 8, flags, 4);
        test_order(flags);
        test_wakeups(flags);
        test_forks(flags, 25);
    }
    return tap_done();
}
