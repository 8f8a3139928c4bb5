/* Pools of VMs over time: what is idle, memory that ends, threads that end, forks, figures, the switch. */
#include "process.h"
#include "tap.h"
#include "vms.h"

#include <ashlar/malloc.h>
#include <ashlar/stats.h>

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- idleness ---- */

static void hold(struct ash_vmpool *p, unsigned n)
{
    struct ash_vm *vm[8];
    for (unsigned i = 0; i < n; i++)
        vm[i] = acquired(p);
    while (n-- > 0)
        ash_vmpool_release(p, vm[n], 0);
}

static void test_idle(unsigned flags)
{
    struct host h = {.log = ""};
    struct ash_vmpool *p =
        ash_vmpool_create("idle", &guest_ops,
                          ASH_VMPOOL_CONFIG(.min = 2, .max = 8, .idle_trim_ns = 100 * (int64_t)MS, .flags = flags), &h);
    is_int((int)stats(p).idle, 2, "two VMs are made with the pool");
    hold(p, 6);
    is_int((int)stats(p).idle, 6, "six were in use at a time");
    int64_t begin = now_ns();
    is_int(ash_vmpool_maintain(p, -1), 0, "maintained at once");
    if (now_ns() - begin < 50 * MS)
        is_int((int)stats(p).idle, 6, "all are kept");
    else
        skip("this machine is slow", 1);
    while (now_ns() - begin < 150 * MS)
        hold(p, 3);
    ash_vmpool_maintain(p, -1);
    ok(stats(p).idle == 3, "later, those that three at a time need: %d", (int)stats(p).idle);
    ok(h.destroys == 3 && stats(p).surplus == 3, "the others are destroyed");
    is_int(ash_vmpool_maintain(p, now_ns() + (int64_t)60000 * MS), 0, "a minute later");
    ok(stats(p).idle == 2 && stats(p).trimmed >= 2, "two are kept, whose memory went back");
    ash_vmpool_trim(p);
    is_int((int)stats(p).idle, 2, "trimmed twice");
    struct ash_vm *vm = acquired(p);
    is_int(guest_use(ash_vm_root(vm)), 0, "a trimmed VM is what it was");
    ash_vmpool_release(p, vm, 0);
    is_int((int)h.inits, 6, "nothing was made anew");
    is_int(ash_vmpool_warm(p, 5), 0, "warm");
    is_int((int)stats(p).idle, 5, "makes as many as are wanted");
    ash_vmpool_trim(p);
    is_int((int)stats(p).idle, 2, "trim keeps the least number");
    ash_vmpool_destroy(p);
    is_int((int)h.destroys, (int)h.inits, "all that were made are destroyed");
}

/* A release now and then does the same. */
static void test_idle_by_itself(void)
{
    struct ash_vmpool *p = ash_vmpool_create("itself", &guest_ops, ASH_VMPOOL_CONFIG(.idle_trim_ns = 30 * MS), NULL);
    hold(p, 8);
    int64_t begin = now_ns();
    while (stats(p).vms > 1 && now_ns() - begin < (int64_t)10000 * MS)
        hold(p, 1);
    is_int((int)stats(p).vms, 1, "releases find those that are idle too long");
    ash_vmpool_destroy(p);
}

/* ---- memory ---- */

static void test_address_space(void)
{
    if (under_valgrind()) { /* which ends with the address space of what it runs */
        skip("it takes the address space that is left", 1);
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        struct host h = {.log = ""};
        struct ash_vmpool *p =
            ash_vmpool_create("memory", &guest_ops, ASH_VMPOOL_CONFIG(.heap_bytes = (size_t)1 << 30, .max = 8), &h);
        struct ash_vm *vm = acquired(p), *none = NULL;
        struct rlimit limit = {(rlim_t)200 << 20, (rlim_t)200 << 20};
        setrlimit(RLIMIT_AS, &limit);
        int wrong = 0;
        for (int i = 0; i < 100; i++)
            wrong += ash_vmpool_acquire(p, &none, 0) != -ENOMEM;
        wrong += none != NULL || stats(p).create_failures != 100 || stats(p).vms != 1;
        wrong += ash_vmpool_warm(p, 8) != -ENOMEM;
        wrong += guest_use(ash_vm_root(vm)) != 0 || ash_vmpool_release(p, vm, 0) != 0;
        wrong += ash_vmpool_acquire(p, &vm, 0) != 0 || guest_use(ash_vm_root(vm)) != 0;
        wrong += ash_vmpool_release(p, vm, 0) != 0 || ash_vmpool_destroy(p) != 0;
        _exit(wrong);
    }
    int status = -1;
    waitpid(child, &status, 0);
    is_int(status, 0, "no memory for a VM: -ENOMEM, and the others go on");
}

static void test_limit(void)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        ash_limit_set(4 << 20);
        errno = 0;
        int wrong =
            ash_vmpool_create("none", &guest_ops, ASH_VMPOOL_CONFIG(.max = 65536), NULL) != NULL || errno != ENOMEM;
        ash_limit_set(0);
        struct ash_vmpool *p = ash_vmpool_create("small", &guest_ops, NULL, NULL);
        _exit(wrong + (ash_vmpool_destroy(p) != 0));
    }
    waitpid(child, &status, 0);
    is_int(status, 0, "no memory for a pool: NULL, ENOMEM");
}

/* ---- threads that end ---- */

static void *use_once(void *arg)
{
    struct ash_vmpool *p = arg;
    struct ash_vm *vm = acquired(p);
    if (vm != NULL)
        ash_vmpool_release(p, vm, 0);
    return vm;
}

static void *use_and_keep(void *arg)
{
    return acquired(arg);
}

static void test_ends(void)
{
    struct ash_vmpool *p =
        ash_vmpool_create("ends", &guest_ops, ASH_VMPOOL_CONFIG(.max = 4, .flags = ASH_VM_STICKY), NULL);
    for (int i = 0; i < 300; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, use_once, p);
        pthread_join(thread, NULL);
    }
    struct ash_vm *vm = acquired(p);
    ok(vm != NULL && stats(p).created == 1, "300 threads after each other, and this one, use one VM");
    ash_vmpool_release(p, vm, 0);
    ok(stats(p).own > 250, "most had their number's last one: %d", (int)stats(p).own);
    void *kept;
    pthread_t thread;
    pthread_create(&thread, NULL, use_and_keep, p);
    pthread_join(thread, &kept);
    is_int((int)stats(p).leased, 1, "a thread ends with a VM");
    is_int(ash_vmpool_destroy(p), -EBUSY, "which is nobody's");
    is_int(ash_vm_adopt(kept), 0, "until it is adopted");
    is_int(ash_vmpool_release(p, kept, 0), 0, "and released");
    is_int(ash_vmpool_destroy(p), 0, "destroyed");
}

/* ---- fork ---- */

struct held {
    struct ash_vmpool *pool;
    pthread_barrier_t begun, end;
};

static void *hold_one(void *arg)
{
    struct held *h = arg;
    struct ash_vm *vm = acquired(h->pool);
    guest_use(ash_vm_root(vm));
    pthread_barrier_wait(&h->begun);
    pthread_barrier_wait(&h->end);
    ash_vmpool_release(h->pool, vm, 0);
    return NULL;
}

/* In the child: its own VM goes on, the other thread's slot is vacant, an idle one idle. */
static int child_checks(struct ash_vmpool *p, struct ash_vm *mine)
{
    struct guest *g = ash_vm_root(mine);
    int wrong = g->touched != 1 || stats(p).leased != 1 || stats(p).vms != 2;
    struct ash_vm *a = acquired(p), *b = acquired(p), *none = NULL;
    wrong += a == NULL || b == NULL || ash_vmpool_acquire(p, &none, MS) != -ETIMEDOUT;
    wrong += guest_use(ash_vm_root(a)) != 0 || guest_use(ash_vm_root(b)) != 0;
    for (int i = 0; i < 100; i++) {
        wrong += ash_vmpool_release(p, mine, 0) != 0;
        mine = acquired(p);
        wrong += mine == NULL || guest_use(ash_vm_root(mine)) != 0;
    }
    wrong += ash_vmpool_release(p, mine, 0) + ash_vmpool_release(p, a, 0) + ash_vmpool_release(p, b, 0);
    return wrong + (ash_vmpool_trim(p) != 0) + (ash_vmpool_destroy(p) != 0);
}

static void test_fork(unsigned flags)
{
    struct held h;
    pthread_t thread;
    h.pool = ash_vmpool_create("fork", &guest_ops, ASH_VMPOOL_CONFIG(.max = 3, .flags = flags), NULL);
    pthread_barrier_init(&h.begun, NULL, 2);
    pthread_barrier_init(&h.end, NULL, 2);
    ash_vmpool_warm(h.pool, 3);
    struct ash_vm *mine = acquired(h.pool);
    guest_use(ash_vm_root(mine));
    pthread_create(&thread, NULL, hold_one, &h);
    pthread_barrier_wait(&h.begun);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(child_checks(h.pool, mine));
    }
    int status = -1;
    waitpid(child, &status, 0);
    is_int(status, 0, "a child goes on with the pool; what another thread had is dropped");
    pthread_barrier_wait(&h.end);
    pthread_join(thread, NULL);
    is_int(ash_vmpool_release(h.pool, mine, 0), 0, "the parent as if nothing had been");
    is_int((int)stats(h.pool).idle, 3, "all are idle");
    ash_vmpool_destroy(h.pool);
}

/* ---- figures ---- */

static const char *dumped(struct ash_vmpool *p, int format)
{
    static char text[65536];
    int fd[2];
    if (pipe(fd) != 0)
        _exit(99);
    int status = p != NULL ? ash_vmpool_dump(p, fd[1]) : ash_stats_dump(fd[1], (enum ash_format)format);
    close(fd[1]);
    size_t n = 0;
    for (ssize_t got; (got = read(fd[0], text + n, sizeof text - 1 - n)) > 0;)
        n += (size_t)got;
    text[n] = '\0';
    close(fd[0]);
    return status == 0 ? text : "";
}

static void test_figures(void)
{
    struct ash_vmpool *p = ash_vmpool_create("figures", &guest_ops, ASH_VMPOOL_CONFIG(.flags = ASH_VM_STICKY), NULL);
    for (int i = 0; i < 1000; i++)
        ash_vmpool_release(p, acquired(p), 0);
    struct ash_vmpool_stats s = stats(p), w, sum = {0};
    ok(s.acquires == 1000 && s.hits == 999 && s.own == 999 && s.created == 1, "acquires, hits, own, created");
    ok(s.create.count == 1 && s.create.total_ns > 1000 && s.create.max_ns == s.create.total_ns,
       "a creation is measured");
    ok(s.reset.count >= 900 && s.reset.count <= 1100 && s.reset.p50_ns <= s.reset.p99_ns &&
           s.reset.p99_ns <= s.reset.max_ns,
       "resets are, by samples: %d", (int)s.reset.count);
    ok(s.release.total_ns >= s.reset.total_ns, "a release is longer than its reset");
    ok(s.acquire.count >= 900 && s.acquire.p50_ns > 0, "acquires are");
    for (unsigned i = 0; i <= 64; i++)
        if (ash_vmpool_worker_stats(p, i, &w) == 0)
            sum.acquires += w.acquires, sum.created += w.created, sum.reset.count += w.reset.count;
    ok(sum.acquires == 1000 && sum.created == 1 && sum.reset.count == s.reset.count,
       "the workers' parts are the whole");
    ok(s.image_bytes >= 32000, "its image is what it has: %d", (int)s.image_bytes);
    const char *text = dumped(p, 0);
    ok(strstr(text, "vmpool figures: 1 VMs, 1 idle") != NULL && strstr(text, "\n  worker ") != NULL &&
           strstr(text, "reset    mean ") != NULL,
       "the dump");
    text = dumped(NULL, ASH_JSON);
    ok(strstr(text, "\"vmpools\": [\n    {\"name\": \"figures\", \"vms\": 1, \"idle\": 1, ") != NULL, "JSON");
    text = dumped(NULL, ASH_PROMETHEUS);
    ok(strstr(text, "\nashlar_vmpool_acquires_total{name=\"figures\"} 1000\n") != NULL, "Prometheus");
    ok(strstr(dumped(NULL, ASH_TEXT), "\n  vmpools ") != NULL, "text");
    ash_vmpool_destroy(p);
    ok(strstr(dumped(NULL, ASH_JSON), "figures") == NULL, "a destroyed pool is not shown");
}

static int compile(void *arg, unsigned tier, void *user)
{
    (void)arg, (void)tier, (void)user;
    return 0;
}

/* The library's other things are in the statistics as well. */
static void test_others(void)
{
    struct ash_tier *tier =
        ash_tier_create("js", ASH_TIER_CONFIG(.compile = compile, .calls = {10}, .cooldown_ns = {-1}));
    struct ash_callcache *calls = ash_callcache_create("pure", NULL);
    struct ash_artcache *artifacts = ash_artcache_create("code", NULL);
    struct ash_tier_fn *fn = ash_tier_register(tier, "f", NULL);
    char result;
    size_t n = 1;
    for (int i = 0; i < 10; i++)
        ash_tier_hit(fn);
    ash_callcache_put(calls, 1, "a", 1, "b", 1, 0);
    ash_callcache_get(calls, 1, "a", 1, &result, &n);
    const char *text = dumped(NULL, ASH_JSON);
    ok(strstr(text, "\"tiers\": [\n    {\"name\": \"js\", \"transitions\": 1, ") != NULL, "a tier");
    ok(strstr(text, "{\"name\": \"pure\", \"hits\": 1, \"misses\": 0, \"expired\": 0, \"puts\": 1, ") != NULL,
       "a callcache");
    ok(strstr(text, "\"artcaches\": [\n    {\"name\": \"code\", \"hits\": 0, ") != NULL, "an artcache");
    is_int(ash_tier_destroy(tier) + ash_callcache_destroy(calls) + ash_artcache_destroy(artifacts), 0, "they end");
    ok(strstr(dumped(NULL, ASH_JSON), "\"name\": \"js\"") == NULL, "and are shown no more");
}

/* ---- the switch ---- */

static int run_through(void)
{
    struct host h = {.log = ""};
    struct ash_vmpool *p = ash_vmpool_create("off", &guest_ops, ASH_VMPOOL_CONFIG(.min = 2, .max = 2), &h);
    int wrong = stats(p).vms != 0;
    for (int i = 0; i < 50; i++) {
        struct ash_vm *vm = acquired(p);
        wrong += vm == NULL || guest_use(ash_vm_root(vm)) != 0 || ash_vmpool_release(p, vm, 0) != 0;
    }
    struct ash_vm *a = acquired(p), *b = acquired(p), *none;
    wrong += a == NULL || b == NULL || ash_vmpool_acquire(p, &none, 0) != -ETIMEDOUT;
    ash_vmpool_release(p, a, ASH_VM_POISON);
    ash_vmpool_release(p, b, 0);
    wrong += stats(p).created != 52 || stats(p).destroyed != 52 || stats(p).hits != 0 || stats(p).vms != 0;
    return wrong + (ash_vmpool_destroy(p) != 0);
}

static void test_switch(char *self)
{
    pid_t child = fork();
    if (child == 0) {
        setenv("ASHLAR_VMPOOL", "0", 1);
        execl(self, self, "through", (char *)NULL);
        _exit(98);
    }
    int status = -1;
    waitpid(child, &status, 0);
    is_int(status, 0, "ASHLAR_VMPOOL=0: a VM for each acquire, the bound holds");
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return run_through();
    test_idle(0);
    test_idle(ASH_VM_STICKY);
    test_idle_by_itself();
    test_address_space();
    test_limit();
    test_ends();
    test_fork(0);
    test_fork(ASH_VM_STICKY);
    test_figures();
    test_others();
    test_switch(argv[0]);
    return tap_done();
}
