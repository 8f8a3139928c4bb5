/*
 * The public functions of pools of VMs: checks, settings, statistics, and the naming of misuse.
 */
#include "ashlar/malloc.h"
#include "base/config.h"
#include "base/fmt.h"
#include "os/check.h"
#include "os/os_clock.h"
#include "os/os_file.h"
#include "vm/vmpool.h"

#include <errno.h>
#include <stdlib.h>

enum { MAX_DEFAULT = 64, MAX_MOST = 65536, DUMP_BUFFER = 1024 };
#define HEAP_DEFAULT  (128 * MIB)
#define HEAP_LEAST    (64 * KIB)
#define HEAP_MOST     (32 * GIB)
#define BYTES_DEFAULT (64 * MIB)
#define TRIM_DEFAULT  (INT64_C(10) * 1000 * VM_NS_PER_MS)

/* ---- statistics ---- */

static void stats_read(const struct ash_vmpool *p, struct ash_vmpool_stats *out)
{
    vmcount_read(&p->counts, out);
    out->waiting = load_relaxed(&p->waiting);
    for (unsigned i = 0; i < p->config.max; i++) {
        enum vm_state state = load_relaxed(&p->vm[i].state);
        out->vms += state != VM_VACANT;
        out->idle += state == VM_IDLE;
        out->leased += state == VM_LEASED;
        out->image_bytes += load_relaxed(&p->vm[i].image_bytes);
    }
}

/* The counts of struct ash_vmpool_stats, all of them and in its order. */
static const struct ash_stats_column columns[] = {
    SHOWN_COLUMN("vms", GAUGE, COUNT, "VMs."),
    SHOWN_COLUMN("idle", GAUGE, COUNT, "VMs ready to be acquired."),
    SHOWN_COLUMN("leased", GAUGE, COUNT, "VMs acquired."),
    SHOWN_COLUMN("waiting", GAUGE, COUNT, "Threads that wait for a VM."),
    SHOWN_COLUMN("image_bytes", GAUGE, BYTES, "Images of the VMs."),
    SHOWN_COLUMN("acquires", COUNTER, COUNT, "Acquires that got a VM."),
    SHOWN_COLUMN("hits", COUNTER, COUNT, "Acquires of a VM that was there."),
    SHOWN_COLUMN("own", COUNTER, COUNT, "Acquires of the thread's last VM."),
    SHOWN_COLUMN("created", COUNTER, COUNT, "VMs made."),
    SHOWN_COLUMN("create_failures", COUNTER, COUNT, "VMs that could not be made."),
    SHOWN_COLUMN("destroyed", COUNTER, COUNT, "VMs destroyed."),
    SHOWN_COLUMN("expired", COUNTER, COUNT, "VMs destroyed for their uses, age or bytes."),
    SHOWN_COLUMN("poisoned", COUNTER, COUNT, "VMs destroyed because they were poisoned."),
    SHOWN_COLUMN("unfit", COUNTER, COUNT, "VMs destroyed because a callback said so."),
    SHOWN_COLUMN("mismatches", COUNTER, COUNT,
                 "VMs destroyed because they differed from their image."),
    SHOWN_COLUMN("surplus", COUNTER, COUNT, "VMs destroyed because they were not needed any more."),
    SHOWN_COLUMN("trimmed", COUNTER, COUNT, "Idle VMs whose memory went back."),
    SHOWN_COLUMN("waits", COUNTER, COUNT, "Acquires that had to wait."),
    SHOWN_COLUMN("timeouts", COUNTER, COUNT, "Acquires that found nothing in their time."),
    SHOWN_COLUMN("misuses", COUNTER, COUNT, "Calls that were refused."),
};
_Static_assert(offsetof(struct ash_vmpool_stats, create) - offsetof(struct ash_vmpool_stats, vms) ==
                   ASH_COUNT(columns) * sizeof(uint64_t),
               "the columns are the counts");

static void read_values(const void *pool, uint64_t *values)
{
    struct ash_vmpool_stats stats = {0};
    stats_read(pool, &stats);
    memcpy(values, &stats.vms, sizeof(uint64_t) * ASH_COUNT(columns));
}

SHOWN_KIND(kind, "vmpools", "vmpool", columns, read_values)

ASH_API int ash_vmpool_stats(struct ash_vmpool *p, struct ash_vmpool_stats *out)
{
    if (p == NULL || out == NULL)
        return -EINVAL;
    *out = (struct ash_vmpool_stats){0};
    stats_read(p, out);
    vmcount_read_times(&p->counts, out);
    return 0;
}

ASH_API int ash_vmpool_worker_stats(struct ash_vmpool *p, unsigned worker,
                                    struct ash_vmpool_stats *out)
{
    if (p == NULL || out == NULL || worker > TALLY_LINES)
        return -EINVAL;
    *out = (struct ash_vmpool_stats){0};
    return vmcount_read_worker(&p->counts, worker, out) ? 0 : -ENOENT;
}

static void put_time(struct fmt *f, const char *what, const struct ash_vm_time *t)
{
    char mean[16], p50[16], p99[16], most[16];
    if (t->count == 0)
        return;
    fmt_time_text(mean, t->total_ns / t->count);
    fmt_time_text(p50, t->p50_ns);
    fmt_time_text(p99, t->p99_ns);
    fmt_time_text(most, t->max_ns);
    fmt_printf(f, "    %-8s mean %s, half within %s, 99 %% within %s, at most %s\n", what, mean,
               p50, p99, most);
}

static void put_work(struct fmt *f, const struct ash_vmpool_stats *s)
{
    fmt_printf(f,
               "acquires %ju  hits %ju  own %ju  created %ju  destroyed %ju  waits %ju  timeouts "
               "%ju\n",
               s->acquires, s->hits, s->own, s->created, s->destroyed, s->waits, s->timeouts);
    put_time(f, "create", &s->create);
    put_time(f, "acquire", &s->acquire);
    put_time(f, "reset", &s->reset);
    put_time(f, "release", &s->release);
}

ASH_API int ash_vmpool_dump(struct ash_vmpool *p, int fd)
{
    struct ash_vmpool_stats s;
    int status = ash_vmpool_stats(p, &s);
    if (status != 0)
        return status;
    char buf[DUMP_BUFFER], bytes[16];
    struct fmt f;
    fmt_bytes_text(bytes, s.image_bytes);
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "vmpool %s: %ju VMs, %ju idle, %ju leased, %ju waiting, images %s\n", p->name,
               s.vms, s.idle, s.leased, s.waiting, bytes);
    fmt_printf(&f, "  failures %ju  expired %ju  poisoned %ju  unfit %ju  mismatches %ju  ",
               s.create_failures, s.expired, s.poisoned, s.unfit, s.mismatches);
    fmt_printf(&f, "surplus %ju  trimmed %ju  misuses %ju\n  ", s.surplus, s.trimmed, s.misuses);
    put_work(&f, &s);
    for (unsigned i = 0; i <= TALLY_LINES; i++) {
        struct ash_vmpool_stats worker = {0};
        if (!vmcount_read_worker(&p->counts, i, &worker) || worker.acquires + worker.created == 0)
            continue;
        fmt_printf(&f, "  worker %u: ", i);
        put_work(&f, &worker);
    }
    return fmt_end(&f);
}

/* ---- creation ---- */

static bool config_complete(struct ash_vmpool_config *c)
{
    if (c->heap_bytes == 0)
        c->heap_bytes = HEAP_DEFAULT;
    if (c->max_bytes == 0)
        c->max_bytes = BYTES_DEFAULT;
    if (c->max == 0)
        c->max = c->min > MAX_DEFAULT ? c->min : MAX_DEFAULT;
    if (c->idle_trim_ns == 0)
        c->idle_trim_ns = TRIM_DEFAULT;
    return c->heap_bytes >= HEAP_LEAST && c->heap_bytes <= HEAP_MOST && c->min <= c->max &&
           c->max <= MAX_MOST && c->max_age_ns >= 0 && (unsigned)c->mode <= ASH_RESET_DROP &&
           (c->flags & ~(unsigned)ASH_VM_STICKY) == 0;
}

/* ASHLAR_VMPOOL=0; libashlar tells of other values that are wrong. */
static bool is_switched_off(void)
{
    const char *value = secure_getenv("ASHLAR_VMPOOL");
    return value != NULL && value[0] == '0' && value[1] == '\0';
}

static void pool_free(struct ash_vmpool *p)
{
    vmcount_fini(&p->counts);
    vmidle_fini(&p->idle);
    ash_free(p->vacant);
    ash_free(p->vm);
    ash_free(p);
}

/* Everything but the VMs; false: no memory. */
static bool pool_init(struct ash_vmpool *p)
{
    unsigned max = p->config.max;
    p->last = &p->first;
    p->through = is_switched_off();
    p->fork = (struct os_fork){.hold = vmpool_hold, .release = vmpool_unhold};
    p->vm = ash_aligned_alloc(ASH_CACHE_LINE, max * sizeof *p->vm);
    p->vacant = ash_malloc(max * sizeof *p->vacant);
    unsigned lines = (p->config.flags & ASH_VM_STICKY) != 0 ? TALLY_LINES : 0;
    if (!vmidle_init(&p->idle, max, lines) || p->vm == NULL || p->vacant == NULL)
        return false;
    memset(p->vm, 0, max * sizeof *p->vm);
    for (unsigned i = 0; i < max; i++) {
        p->vm[i].pool = p;
        p->vacant[i] = max - 1 - i;
    }
    store_relaxed(&p->vacancies, max);
    store_relaxed(&p->next_sweep_ms,
                  os_clock_ms() + (uint64_t)p->config.idle_trim_ns / VM_NS_PER_MS);
    return os_fork_add(&p->fork) == 0;
}

ASH_API struct ash_vmpool *ash_vmpool_create(const char *name, const struct ash_vm_ops *ops,
                                             const struct ash_vmpool_config *config, void *user)
{
    struct ash_vmpool_config read;
    char copy[NAME_CAP];
    if (ops == NULL || ops->init == NULL ||
        !config_read(&read, sizeof read, config, sizeof(size_t)) || !name_read(copy, name, "vms") ||
        !config_complete(&read)) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_vmpool *p = ash_aligned_alloc(ASH_CACHE_LINE, sizeof *p);
    if (p == NULL)
        return NULL;
    memset(p, 0, sizeof *p);
    memcpy(p->name, copy, sizeof copy);
    p->ops = *ops;
    p->config = read;
    p->user = user;
    if (!pool_init(p)) {
        pool_free(p);
        errno = ENOMEM;
        return NULL;
    }
    int status = p->through ? 0 : vmpool_fill(p, read.min);
    if (status != 0) {
        ash_vmpool_destroy(p);
        errno = -status;
        return NULL;
    }
    p->shown = shown_open(&kind, p->name, p); /* without memory it is not shown */
    return p;
}

static bool is_in_use(struct ash_vmpool *p)
{
    os_lock(&p->lock);
    bool in_use = p->first != NULL;
    for (unsigned i = 0; i < p->config.max; i++) {
        enum vm_state state = load_relaxed(&p->vm[i].state);
        in_use |= state == VM_LEASED || state == VM_BUSY;
    }
    os_unlock(&p->lock);
    return in_use;
}

ASH_API int ash_vmpool_destroy(struct ash_vmpool *p)
{
    if (p == NULL)
        return 0;
    if (is_in_use(p))
        return -EBUSY;
    bool unread = shown_close(p->shown);
    os_fork_remove(&p->fork);
    uint32_t number;
    while ((number = vmidle_take_any(&p->idle)) != VMIDLE_NONE)
        vm_destroy(&p->vm[number - 1], true);
    if (unread)
        pool_free(p);
    return 0;
}

/* ---- use ---- */

ASH_COLD static int misuse(struct ash_vmpool *p, const struct ash_vm *vm, const char *verb)
{
    unsigned worker = tally_line(), i = (unsigned)(vm - p->vm);
    vmcount_add(&p->counts, vmcount_worker(&p->counts, worker), VMCOUNT_MISUSE);
    if (load_relaxed(&vm->state) == VM_LEASED)
        warn_line("VM %u of pool %s is leased to worker %u, and worker %u %s it", i, p->name,
                  load_relaxed(&vm->worker), worker, verb);
    else
        warn_line("VM %u of pool %s is not leased, and worker %u %s it", i, p->name, worker, verb);
    return -EINVAL;
}

ASH_COLD static int foreign(struct ash_vmpool *p, const void *vm)
{
    unsigned worker = tally_line();
    vmcount_add(&p->counts, vmcount_worker(&p->counts, worker), VMCOUNT_MISUSE);
    warn_line("%p is no VM of pool %s, and worker %u releases it", vm, p->name, worker);
    return -EINVAL;
}

ASH_INLINE bool is_mine(const struct ash_vm *vm)
{
    return load_relaxed(&vm->state) == VM_LEASED && load_relaxed(&vm->lessee) == os_fork_self();
}

static bool is_of(const struct ash_vmpool *p, const struct ash_vm *vm)
{
    uintptr_t at = (uintptr_t)vm - (uintptr_t)p->vm;
    return at < p->config.max * sizeof *vm && at % sizeof *vm == 0;
}

ASH_API int ash_vmpool_acquire(struct ash_vmpool *p, struct ash_vm **vm, int64_t timeout_ns)
{
    if (ASH_UNLIKELY(p == NULL || vm == NULL))
        return -EINVAL;
    return vmpool_acquire(p, vm, timeout_ns);
}

ASH_API int ash_vmpool_release(struct ash_vmpool *p, struct ash_vm *vm, unsigned flags)
{
    uint32_t leased = VM_LEASED;
    if (ASH_UNLIKELY(p == NULL || vm == NULL || (flags & ~(unsigned)ASH_VM_POISON) != 0))
        return -EINVAL;
    if (ASH_UNLIKELY(!is_of(p, vm)))
        return foreign(p, vm);
    /* Only this thread can end its lease, but for an adoption, during which it does nothing. */
    if (ASH_UNLIKELY(!is_mine(vm) || !cas_strong_relaxed(&vm->state, &leased, VM_BUSY)))
        return misuse(p, vm, "releases");
    vmpool_release(vm, (flags & ASH_VM_POISON) != 0);
    return 0;
}

ASH_API int ash_vm_adopt(struct ash_vm *vm)
{
    uint32_t leased = VM_LEASED;
    if (vm == NULL)
        return -EINVAL;
    struct ash_vmpool *p = vm->pool;
    if (!cas_strong_relaxed(&vm->state, &leased, VM_BUSY))
        return misuse(p, vm, "adopts");
    vm_own(vm, VM_LEASED);
    int status = p->ops.enter == NULL ? 0 : p->ops.enter(p->user, vm->root);
    return status > 0 ? -status : status;
}

ASH_API void *ash_vm_root(struct ash_vm *vm)
{
    if (ASH_LIKELY(vm != NULL && is_mine(vm)))
        return vm->root;
    errno = vm == NULL ? EINVAL : -misuse(vm->pool, vm, "uses");
    return NULL;
}

ASH_API struct ash_heap *ash_vm_heap(struct ash_vm *vm)
{
    if (ASH_LIKELY(vm != NULL && is_mine(vm)))
        return vm->heap;
    errno = vm == NULL ? EINVAL : -misuse(vm->pool, vm, "uses");
    return NULL;
}

ASH_API int ash_vmpool_warm(struct ash_vmpool *p, unsigned n)
{
    return p == NULL || n > p->config.max ? -EINVAL : p->through ? 0 : vmpool_fill(p, n);
}

ASH_API int ash_vmpool_trim(struct ash_vmpool *p)
{
    if (p == NULL)
        return -EINVAL;
    vmpool_sweep(p, UINT64_MAX, 0);
    return 0;
}

ASH_API int ash_vmpool_maintain(struct ash_vmpool *p, int64_t now_ns)
{
    if (p == NULL)
        return -EINVAL;
    uint64_t now_ms = now_ns < 0 ? os_clock_ms() : (uint64_t)now_ns / VM_NS_PER_MS;
    if (p->config.idle_trim_ns > 0)
        vmpool_sweep(p, now_ms, (uint64_t)p->config.idle_trim_ns / VM_NS_PER_MS);
    return p->through ? 0 : vmpool_fill(p, p->config.min);
}
