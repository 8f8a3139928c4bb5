/* Pools of VMs, call by call: settings, callbacks, misuse, bounds, idleness, memory, fork, figures. */
#include "tap.h"
#include "vms.h"

#include <ashlar/malloc.h>
#include <ashlar/stats.h>

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

static struct ash_vmpool *pool_of(struct host *h, unsigned max)
{
    return ash_vmpool_create("care", &guest_ops, ASH_VMPOOL_CONFIG(.heap_bytes = 1 << 20, .max = max), h);
}

static struct ash_vm *acquired(struct ash_vmpool *p)
{
    struct ash_vm *vm = NULL;
    return ash_vmpool_acquire(p, &vm, 0) == 0 ? vm : NULL;
}

/* What is said on standard error while fn(arg) runs. */
static const char *said(void (*fn)(void *), void *arg)
{
    static char text[1024];
    int fd[2], old = dup(STDERR_FILENO);
    if (pipe(fd) != 0 || dup2(fd[1], STDERR_FILENO) < 0)
        _exit(99);
    fn(arg);
    dup2(old, STDERR_FILENO);
    close(fd[1]);
    close(old);
    ssize_t n = read(fd[0], text, sizeof text - 1);
    text[n > 0 ? n - 1 : 0] = '\0'; /* a line */
    close(fd[0]);
    return text;
}

/* ---- settings ---- */

static void test_settings(void)
{
    struct ash_vmpool_config bad[] = {
        {.struct_size = 1},
        {.struct_size = sizeof bad[0], .heap_bytes = 1000},
        {.struct_size = sizeof bad[0], .heap_bytes = (size_t)64 << 30},
        {.struct_size = sizeof bad[0], .min = 3, .max = 2},
        {.struct_size = sizeof bad[0], .max = 65537},
        {.struct_size = sizeof bad[0], .max_age_ns = -1},
        {.struct_size = sizeof bad[0], .mode = (enum ash_reset_mode)9},
        {.struct_size = sizeof bad[0], .flags = 2},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        ok(ash_vmpool_create("p", &bare_ops, &bad[i], NULL) == NULL && errno == EINVAL, "EINVAL: settings %u", i);
    }
    errno = 0;
    ok(ash_vmpool_create("p", NULL, NULL, NULL) == NULL && errno == EINVAL, "EINVAL: no callbacks");
    errno = 0;
    ok(ash_vmpool_create("p", &(struct ash_vm_ops){.enter = NULL}, NULL, NULL) == NULL && errno == EINVAL, "EINVAL: no init");
    errno = 0;
    ok(ash_vmpool_create("a name of more than 31 characters", &bare_ops, NULL, NULL) == NULL && errno == EINVAL,
       "EINVAL: a long name");
    struct ash_vmpool *p = ash_vmpool_create(NULL, &bare_ops, NULL, NULL);
    struct ash_vm *vm = acquired(p);
    ok(vm != NULL && ((struct guest *)ash_vm_root(vm))->heap == ash_vm_heap(vm), "all defaults; root and heap");
    struct ash_vmpool_stats small = {.struct_size = 8};
    is_int(ash_vmpool_stats(p, &small), -EINVAL, "stats: too small a struct");
    is_int(ash_vmpool_stats(NULL, &small), -EINVAL, "stats: no pool");
    is_int(ash_vmpool_worker_stats(p, 65, &small), -EINVAL, "worker_stats: no such number");
    is_int(ash_vmpool_dump(NULL, 1), -EINVAL, "dump: no pool");
    is_int(ash_vmpool_dump(p, -1), -EBADF, "dump: no descriptor");
    is_int(ash_vmpool_acquire(NULL, &vm, 0), -EINVAL, "acquire: no pool");
    is_int(ash_vmpool_acquire(p, NULL, 0), -EINVAL, "acquire: nowhere to");
    is_int(ash_vmpool_release(p, NULL, 0), -EINVAL, "release: no VM");
    is_int(ash_vmpool_release(p, vm, 6), -EINVAL, "release: unknown flags");
    is_int(ash_vm_adopt(NULL), -EINVAL, "adopt: no VM");
    ok(ash_vm_root(NULL) == NULL && ash_vm_heap(NULL) == NULL, "root, heap: no VM");
    is_int(ash_vmpool_warm(p, 65), -EINVAL, "warm: more than there may be");
    is_int(ash_vmpool_warm(NULL, 1), -EINVAL, "warm: no pool");
    is_int(ash_vmpool_trim(NULL), -EINVAL, "trim: no pool");
    is_int(ash_vmpool_maintain(NULL, -1), -EINVAL, "maintain: no pool");
    is_int(ash_vmpool_destroy(p), -EBUSY, "destroy: a VM is leased");
    is_int(ash_vmpool_release(p, vm, 0), 0, "released");
    is_int(ash_vmpool_destroy(p), 0, "destroyed");
    is_int(ash_vmpool_destroy(NULL), 0, "destroy: no pool");
}

/* ---- callbacks ---- */

static void test_callbacks(void)
{
    struct host h = {.log = ""};
    struct ash_vmpool *p = pool_of(&h, 2);
    struct ash_vm *vm = acquired(p);
    is_str(h.log, "ie", "an acquire makes a VM and enters it");
    ash_vmpool_release(p, vm, 0);
    is_str(h.log, "ielrh", "a release leaves, resets, asks for its health");
    vm = acquired(p);
    is_int((int)((struct guest *)ash_vm_root(vm))->touched, 0, "which leaves no trace");
    is_str(h.log, "ielrhe", "the next acquire enters the same");
    guest_use(ash_vm_root(vm));
    ash_vmpool_release(p, vm, ASH_VM_POISON);
    is_str(h.log, "ielrhelrhd", "a poisoned VM is left, and destroyed");
    is_int((int)h.destroys, 1, "as init left it");
    is_int((int)stats(p).vms, 0, "and is no more");
    ash_vmpool_destroy(p);
    is_int((int)h.destroys, 1, "nothing is destroyed twice");
}

static void test_unfit(void)
{
    static const char *const names[] = {"", "", "leave", "reset", "health"};
    for (unsigned which = LEAVE; which <= HEALTH; which++) {
        struct host h = {.log = ""};
        struct ash_vmpool *p = pool_of(&h, 1);
        struct ash_vm *vm = acquired(p);
        h.answer[which] = which == RESET ? EIO : -1;
        is_int(ash_vmpool_release(p, vm, 0), 0, names[which]);
        h.answer[which] = 0;
        ok(h.destroys == 1 && stats(p).unfit == 1 && stats(p).vms == 0, "destroys the VM");
        vm = acquired(p);
        ok(vm != NULL && h.inits == 2, "another takes its place");
        ash_vmpool_release(p, vm, 0);
        ash_vmpool_destroy(p);
    }
    struct host h = {.answer = {[ENTER] = EPERM}};
    struct ash_vmpool *p = pool_of(&h, 1);
    struct ash_vm *vm = NULL;
    is_int(ash_vmpool_acquire(p, &vm, 0), -EPERM, "an enter that fails fails the acquire");
    ok(h.destroys == 1 && stats(p).vms == 0 && vm == NULL, "and destroys the VM");
    h.answer[ENTER] = 0;
    h.answer[INIT] = EDOM;
    is_int(ash_vmpool_acquire(p, &vm, 0), -EDOM, "an init that fails fails the acquire");
    ok(stats(p).create_failures == 1 && stats(p).vms == 0, "nothing is left");
    is_int(ash_vmpool_warm(p, 1), -EDOM, "warm tells as well");
    h.answer[INIT] = 0;
    vm = acquired(p);
    ok(vm != NULL, "the slot is free for the next");
    ash_vmpool_release(p, vm, 0);
    ash_vmpool_destroy(p);
    h = (struct host){.answer = {[INIT] = -ENODEV}};
    errno = 0;
    ok(ash_vmpool_create("none", &guest_ops, ASH_VMPOOL_CONFIG(.min = 1), &h) == NULL && errno == ENODEV,
       "a pool whose first VMs cannot be made is not made");
}

/* A callback that uses the pool that it is called by. */
static int enter_again(void *user, void *root)
{
    struct host *h = user;
    struct ash_vm *other;
    (void)root;
    if (h->inits < 2 && ash_vmpool_acquire(h->pool, &other, 0) == 0)
        return ash_vmpool_release(h->pool, other, 0);
    return 0;
}

static void test_nested(void)
{
    struct host h = {.log = ""};
    h.pool = ash_vmpool_create("nested", &(struct ash_vm_ops){.init = guest_init, .enter = enter_again},
                               ASH_VMPOOL_CONFIG(.max = 2), &h);
    struct ash_vm *vm = acquired(h.pool);
    ok(vm != NULL && h.inits == 2, "callbacks may use the pool");
    ash_vmpool_release(h.pool, vm, 0);
    ash_vmpool_destroy(h.pool);
}

/* ---- misuse ---- */

struct wrong {
    struct ash_vmpool *pool, *other;
    struct ash_vm *vm;
    int status;
    void *root;
};

static void release_again(void *arg)
{
    struct wrong *w = arg;
    w->status = ash_vmpool_release(w->pool, w->vm, 0);
}

static void release_elsewhere(void *arg)
{
    struct wrong *w = arg;
    w->status = ash_vmpool_release(w->other, w->vm, 0);
}

static void release_inside(void *arg)
{
    struct wrong *w = arg;
    w->status = ash_vmpool_release(w->pool, (struct ash_vm *)(void *)((char *)w->vm + 8), 0);
}

static void use_root(void *arg)
{
    struct wrong *w = arg;
    errno = 0;
    w->root = ash_vm_root(w->vm);
    w->status = -errno;
}

static void adopt(void *arg)
{
    struct wrong *w = arg;
    w->status = ash_vm_adopt(w->vm);
}

struct elsewhere {
    void (*fn)(void *);
    void *arg;
};

static void *elsewhere_run(void *arg)
{
    struct elsewhere *e = arg;
    e->fn(e->arg);
    return NULL;
}

/* In another thread. */
static void in_thread(void *arg)
{
    pthread_t thread;
    pthread_create(&thread, NULL, elsewhere_run, arg);
    pthread_join(thread, NULL);
}

static void test_misuse(void)
{
    struct wrong w = {.pool = pool_of(NULL, 2), .other = pool_of(NULL, 2)};
    w.vm = acquired(w.pool);
    const char *text = said(release_elsewhere, &w);
    ok(w.status == -EINVAL && strstr(text, "is no VM of pool care") != NULL, "foreign: %s", text);
    text = said(release_inside, &w);
    ok(w.status == -EINVAL && strstr(text, "is no VM of pool care") != NULL, "the inside of one: %s", text);
    text = said(in_thread, &(struct elsewhere){use_root, &w});
    ok(w.status == -EINVAL && w.root == NULL && strstr(text, "VM 0 of pool care is leased to worker ") != NULL &&
           strstr(text, " uses it") != NULL,
       "two threads: %s", text);
    text = said(in_thread, &(struct elsewhere){release_again, &w});
    ok(w.status == -EINVAL && strstr(text, " releases it") != NULL, "another thread's: %s", text);
    text = said(in_thread, &(struct elsewhere){adopt, &w});
    ok(w.status == 0 && text[0] == '\0', "unless it adopts it");
    text = said(release_again, &w);
    ok(w.status == -EINVAL && strstr(text, "leased to worker") != NULL, "then it is the other's: %s", text);
    adopt(&w);
    ok(ash_vm_root(w.vm) != NULL && ash_vmpool_release(w.pool, w.vm, 0) == 0, "adopted back, and released");
    text = said(release_again, &w);
    ok(w.status == -EINVAL && strstr(text, "VM 0 of pool care is not leased, and worker") != NULL, "double: %s", text);
    text = said(adopt, &w);
    ok(w.status == -EINVAL && strstr(text, " adopts it") != NULL, "adopt what is idle: %s", text);
    text = said(use_root, &w);
    ok(w.root == NULL && strstr(text, "is not leased") != NULL, "use after release: %s", text);
    is_int((int)stats(w.pool).misuses, 7, "all of it is counted");
    w.vm = acquired(w.pool);
    ok(w.vm != NULL && stats(w.pool).created == 1, "the VM is in order");
    ash_vmpool_release(w.pool, w.vm, 0);
    ash_vmpool_destroy(w.pool);
    ash_vmpool_destroy(w.other);
}

/* ---- bounds ---- */

static void test_worn(void)
{
    struct host h = {.log = ""};
    struct ash_vmpool *p = ash_vmpool_create("uses", &guest_ops, ASH_VMPOOL_CONFIG(.max_uses = 10, .min = 1), &h);
    for (int i = 0; i < 100; i++)
        ash_vmpool_release(p, acquired(p), 0);
    ok(h.inits == 11 && h.destroys == 10 && stats(p).expired == 10, "ten uses each: %u VMs for 100", h.inits);
    is_int((int)stats(p).idle, 1, "the least number is kept up by the release");
    ash_vmpool_destroy(p);
    h = (struct host){.log = ""};
    p = ash_vmpool_create("age", &guest_ops, ASH_VMPOOL_CONFIG(.max_age_ns = 30 * MS), &h);
    ash_vmpool_release(p, acquired(p), 0);
    is_int((int)h.destroys, 0, "a young VM is kept");
    sleep_ms(50);
    ash_vmpool_release(p, acquired(p), 0);
    is_int((int)h.destroys, 1, "an old one is not");
    ash_vmpool_destroy(p);
    h = (struct host){.log = ""};
    p = ash_vmpool_create("bytes", &guest_ops, ASH_VMPOOL_CONFIG(.heap_bytes = 1 << 20, .max_bytes = 200000), &h);
    struct ash_vm *vm = acquired(p);
    ok(ash_heap_malloc(ash_vm_heap(vm), 100000) != NULL, "a VM that used little");
    ash_vmpool_release(p, vm, 0);
    is_int((int)h.destroys, 0, "is kept");
    vm = acquired(p);
    ok(ash_heap_malloc(ash_vm_heap(vm), 300000) != NULL, "one that used much");
    ash_vmpool_release(p, vm, 0);
    is_int((int)h.destroys, 1, "is not");
    vm = acquired(p);
    errno = 0;
    ok(ash_heap_malloc(ash_vm_heap(vm), 2 << 20) == NULL && errno == ENOMEM, "beyond heap_bytes there is no memory");
    ash_vmpool_release(p, vm, 0);
    ash_vmpool_destroy(p);
}

static void test_timeout(void)
{
    struct ash_vmpool *p = pool_of(NULL, 1);
    struct ash_vm *vm = acquired(p), *none = NULL;
    is_int(ash_vmpool_acquire(p, &none, 0), -ETIMEDOUT, "no VM, and no time");
    int64_t begin = now_ns();
    is_int(ash_vmpool_acquire(p, &none, 20 * MS), -ETIMEDOUT, "nor in 20 ms");
    ok(now_ns() - begin >= 20 * MS, "which pass");
    ok(stats(p).timeouts == 2 && stats(p).waits == 1 && stats(p).waiting == 0, "as the figures say");
    is_int(ash_vmpool_release(p, vm, 0), 0, "released");
    is_int(ash_vmpool_acquire(p, &vm, 0), 0, "it is found, though somebody has waited");
    ash_vmpool_release(p, vm, 0);
    ash_vmpool_destroy(p);
}

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
    struct ash_vmpool *p = ash_vmpool_create(
        "idle", &guest_ops, ASH_VMPOOL_CONFIG(.min = 2, .max = 8, .idle_trim_ns = 100 * (int64_t)MS, .flags = flags), &h);
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

static void test_order(void)
{
    struct ash_vmpool *p = pool_of(NULL, 4);
    struct ash_vm *a = acquired(p), *b = acquired(p);
    ash_vmpool_release(p, a, 0);
    ash_vmpool_release(p, b, 0);
    is_ptr(acquired(p), b, "last in, first out");
    is_ptr(acquired(p), a, "and then the other");
    ash_vmpool_release(p, a, 0);
    ash_vmpool_release(p, b, 0);
    ash_vmpool_destroy(p);
}

/* ---- memory ---- */

static void test_memory(void)
{
    pid_t child = fork();
    if (child == 0) {
        struct host h = {.log = ""};
        struct ash_vmpool *p = ash_vmpool_create(
            "memory", &guest_ops, ASH_VMPOOL_CONFIG(.heap_bytes = (size_t)1 << 30, .max = 8), &h);
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
    child = fork();
    if (child == 0) {
        ash_limit_set(4 << 20);
        errno = 0;
        int wrong = ash_vmpool_create("none", &guest_ops, ASH_VMPOOL_CONFIG(.max = 65536), NULL) != NULL || errno != ENOMEM;
        ash_limit_set(0);
        struct ash_vmpool *p = pool_of(NULL, 2);
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
    struct ash_vmpool_stats s = stats(p), w = {.struct_size = sizeof w}, sum = {.struct_size = 0};
    ok(s.acquires == 1000 && s.hits == 999 && s.own == 999 && s.created == 1, "acquires, hits, own, created");
    ok(s.create.count == 1 && s.create.total_ns > 1000 && s.create.max_ns == s.create.total_ns, "a creation is measured");
    ok(s.reset.count >= 900 && s.reset.count <= 1100 && s.reset.p50_ns <= s.reset.p99_ns && s.reset.p99_ns <= s.reset.max_ns,
       "resets are, by samples: %d", (int)s.reset.count);
    ok(s.release.total_ns >= s.reset.total_ns, "a release is longer than its reset");
    ok(s.acquire.count >= 900 && s.acquire.p50_ns > 0, "acquires are");
    for (unsigned i = 0; i <= 64; i++)
        if (ash_vmpool_worker_stats(p, i, &w) == 0)
            sum.acquires += w.acquires, sum.created += w.created, sum.reset.count += w.reset.count;
    ok(sum.acquires == 1000 && sum.created == 1 && sum.reset.count == s.reset.count, "the workers' parts are the whole");
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
    test_settings();
    test_callbacks();
    test_unfit();
    test_nested();
    test_misuse();
    test_worn();
    test_timeout();
    test_idle(0);
    test_idle(ASH_VM_STICKY);
    test_idle_by_itself();
    test_order();
    test_memory();
    test_ends();
    test_fork(0);
    test_fork(ASH_VM_STICKY);
    test_figures();
    test_switch(argv[0]);
    return tap_done();
}
