/* Pools of VMs, call by call: settings, callbacks, misuse, bounds. */
#include "tap.h"
#include "vms.h"

static struct ash_vmpool *pool_of(struct host *h, unsigned max)
{
    return ash_vmpool_create("care", &guest_ops, ASH_VMPOOL_CONFIG(.heap_bytes = 1 << 20, .max = max), h);
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
    ok(ash_vmpool_create("p", &(struct ash_vm_ops){.enter = NULL}, NULL, NULL) == NULL && errno == EINVAL,
       "EINVAL: no init");
    errno = 0;
    ok(ash_vmpool_create("a name of more than 31 characters", &bare_ops, NULL, NULL) == NULL && errno == EINVAL,
       "EINVAL: a long name");
    struct ash_vmpool *p = ash_vmpool_create(NULL, &bare_ops, NULL, NULL);
    struct ash_vm *vm = acquired(p);
    ok(vm != NULL && ((struct guest *)ash_vm_root(vm))->heap == ash_vm_heap(vm), "all defaults; root and heap");
    struct ash_vmpool_stats s;
    is_int(ash_vmpool_stats(p, NULL), -EINVAL, "stats: nowhere to");
    is_int(ash_vmpool_stats(NULL, &s), -EINVAL, "stats: no pool");
    is_int(ash_vmpool_worker_stats(p, 65, &s), -EINVAL, "worker_stats: no such number");
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

int main(void)
{
    test_settings();
    test_callbacks();
    test_unfit();
    test_nested();
    test_misuse();
    test_worn();
    test_timeout();
    test_order();
    return tap_done();
}
