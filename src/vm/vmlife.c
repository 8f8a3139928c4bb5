/*
 * The life of one VM: made, used, put back, destroyed. It is the caller's, and no lock is held, so
 * callbacks may take as long as they like, and use the pool.
 */
#include "base/fmt.h"
#include "os/os_clock.h"
#include "vm/vmpool.h"

#include <errno.h>

void vm_own(struct ash_vm *vm, enum vm_state state)
{
    store_relaxed(&vm->lessee, os_fork_self());
    store_relaxed(&vm->worker, tally_line());
    store_relaxed(&vm->state, state);
}

/* What a callback returned, as a negative errno. */
static int status_of(int status)
{
    return status > 0 ? -status : status;
}

static unsigned index_of(const struct ash_vm *vm)
{
    return (unsigned)(vm - vm->pool->vm);
}

/* The heap with its engine and, unless it is for one use, its image. */
static int build(struct ash_vm *vm)
{
    struct ash_vmpool *p = vm->pool;
    char name[NAME_CAP];
    fmt_text(name, sizeof name, "%.24s.%u", p->name, index_of(vm));
    vm->heap = ash_heap_create(name, p->config.heap_bytes, 0);
    if (vm->heap == NULL)
        return -errno;
    vm->root = NULL;
    int status = status_of(p->ops.init(p->user, vm->heap, &vm->root));
    if (status != 0) {
        ash_heap_destroy(vm->heap);
        return status;
    }
    if (!p->through && (status = ash_heap_snapshot(vm->heap, p->config.mode)) != 0)
        vm_destroy(vm, true);
    return status;
}

int vm_create(struct ash_vm *vm)
{
    struct ash_vmpool *p = vm->pool;
    struct vmworker *w = vmcount_worker(&p->counts, tally_line());
    struct ash_heap_stats s = {.image_bytes = 0};
    uint64_t from = os_clock_ns();
    int status = build(vm);
    vmcount_time(&p->counts, w, VMTIME_CREATE, os_clock_ns() - from, 1);
    vmcount_add(&p->counts, w, status == 0 ? VMCOUNT_CREATED : VMCOUNT_CREATE_FAILED);
    if (status != 0)
        return status;
    ash_heap_stats(vm->heap, &s);
    store_relaxed(&vm->image_bytes, s.image_bytes);
    vm->uses = 0;
    vm->born_ms = os_clock_ms();
    vm->trimmed = false;
    store_relaxed(&vm->idle_ms, vm->born_ms);
    return 0;
}

void vm_destroy(struct ash_vm *vm, bool whole)
{
    struct ash_vmpool *p = vm->pool;
    bool restored = ash_heap_restore(vm->heap) == 0; /* it has an image */
    if (p->ops.destroy != NULL && (whole || restored))
        p->ops.destroy(p->user, vm->root);
    ash_heap_destroy(vm->heap);
    store_relaxed(&vm->image_bytes, 0);
}

/* ---- the end of a use ---- */

static bool callbacks_agree(struct ash_vm *vm)
{
    const struct ash_vm_ops *ops = &vm->pool->ops;
    void *user = vm->pool->user;
    return (ops->leave == NULL || ops->leave(user, vm->root) == 0) &&
           (ops->reset == NULL || ops->reset(user, vm->root) == 0) &&
           (ops->health == NULL || ops->health(user, vm->root) == 0);
}

/* Whether it has had its time, uses or bytes. */
static bool is_worn(const struct ash_vm *vm)
{
    const struct ash_vmpool_config *c = &vm->pool->config;
    if (c->max_uses != 0 && vm->uses >= c->max_uses)
        return true;
    if (c->max_age_ns != 0 && os_clock_ms() - vm->born_ms >= (uint64_t)c->max_age_ns / VM_NS_PER_MS)
        return true;
    if (c->max_bytes >= c->heap_bytes)
        return false;
    struct ash_heap_stats s;
    ash_heap_stats(vm->heap, &s);
    return s.used_bytes > c->max_bytes;
}

/* The image, and the check of it when it is due. */
static bool restore(struct ash_vm *vm)
{
    unsigned every = vm->pool->config.verify_every;
    return ash_heap_restore(vm->heap) == 0 &&
           (every == 0 || vm->uses % every != 0 || ash_heap_verify(vm->heap) == 0);
}

bool vm_reset(struct ash_vm *vm, bool poisoned, bool sampled)
{
    struct vmcounts *c = &vm->pool->counts;
    struct vmworker *w = vmcount_worker(c, tally_line());
    vm->uses++;
    bool agreed = callbacks_agree(vm);
    if (vm->pool->through)
        return false;
    if (poisoned || !agreed || is_worn(vm)) {
        vmcount_add(c, w, poisoned ? VMCOUNT_POISONED : agreed ? VMCOUNT_EXPIRED : VMCOUNT_UNFIT);
        return false;
    }
    uint64_t from = sampled ? os_clock_ns() : 0;
    bool whole = restore(vm);
    if (sampled)
        vmcount_time(c, w, VMTIME_RESET, os_clock_ns() - from, VMTIME_SAMPLE);
    if (!whole)
        vmcount_add(c, w, VMCOUNT_MISMATCH);
    vm->trimmed = false;
    return whole;
}
