#include "vm/vmpool.h"

#include "os/os_clock.h"
#include "os/os_wait.h"

#include <errno.h>

static struct vmworker *self(struct ash_vmpool *p)
{
    return vmcount_worker(&p->counts, tally_line());
}

/* ---- numbers of vmidle ---- */

static uint32_t number_of(const struct ash_vm *vm)
{
    return (uint32_t)(vm - vm->pool->vm) + 1;
}

static struct ash_vm *vm_of(const struct ash_vmpool *p, uint32_t number)
{
    return number == VMIDLE_NONE ? NULL : &p->vm[number - 1];
}

/* ---- the queue; the lock is held ---- */

/* Gives a slot, with its VM or vacant, to the first who waits: whom to wake. NULL: nobody waits. */
static _Atomic(uint32_t) *grant(struct ash_vmpool *p, struct ash_vm *vm)
{
    struct vmwaiter *w = p->first;
    if (w == NULL)
        return NULL;
    p->first = w->next;
    if (p->first == NULL) {
        p->last = &p->first;
        vmidle_unwant(&p->idle);
    }
    store_relaxed(&p->waiting, load_relaxed(&p->waiting) - 1);
    w->given = vm;
    store_release(&w->word, 1); /* the slot; pairs with queue_wait */
    return &w->word;
}

/* By the word's address alone: its thread may be gone by now. */
static void wake(_Atomic(uint32_t) *word)
{
    if (word != NULL)
        os_wake(word, 1);
}

static void queue_remove(struct ash_vmpool *p, struct vmwaiter *w)
{
    struct vmwaiter **at = &p->first;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (w->next == NULL)
        p->last = at;
    store_relaxed(&p->waiting, load_relaxed(&p->waiting) - 1);
    if (p->first == NULL)
        vmidle_unwant(&p->idle);
}

/* Sleeps until a slot is given; NULL: the time is over. Takes the lock over, and gives it back. */
static struct ash_vm *queue_wait(struct ash_vmpool *p, int64_t timeout_ns)
{
    struct vmwaiter w = {.given = NULL};
    int64_t from = (int64_t)os_clock_ns(), now = from;
    *p->last = &w;
    p->last = &w.next;
    store_relaxed(&p->waiting, load_relaxed(&p->waiting) + 1);
    os_unlock(&p->lock);
    while (load_relaxed(&w.word) == 0 && (timeout_ns < 0 || now - from < timeout_ns)) {
        os_wait(&w.word, 0, timeout_ns < 0 ? -1 : timeout_ns - (now - from));
        now = (int64_t)os_clock_ns();
    }
    if (load_acquire(&w.word) != 0) /* pairs with grant */
        return w.given;
    os_lock(&p->lock);
    if (load_relaxed(&w.word) == 0) /* else it was given in the last moment */
        queue_remove(p, &w);
    os_unlock(&p->lock);
    return w.given;
}

/* ---- slots ---- */

/* A vacant slot, now the caller's and BUSY; NULL: there is none. The lock is held. */
static struct ash_vm *vacant_take(struct ash_vmpool *p)
{
    uint32_t n = load_relaxed(&p->vacancies);
    if (n == 0)
        return NULL;
    store_relaxed(&p->vacancies, n - 1);
    struct ash_vm *vm = &p->vm[p->vacant[n - 1]];
    vm_own(vm, VM_BUSY);
    return vm;
}

/* A slot of the caller's is vacant. */
static void vacant_give(struct ash_vm *vm)
{
    struct ash_vmpool *p = vm->pool;
    os_lock(&p->lock);
    store_relaxed(&vm->state, VM_VACANT);
    _Atomic(uint32_t) *word = grant(p, vm);
    if (word == NULL) {
        uint32_t n = load_relaxed(&p->vacancies);
        p->vacant[n] = (uint32_t)(vm - p->vm);
        store_relaxed(&p->vacancies, n + 1);
    }
    os_unlock(&p->lock);
    wake(word);
}

static unsigned live(const struct ash_vmpool *p)
{
    return p->config.max - load_relaxed(&p->vacancies);
}

/* A VM of the caller's is idle: it goes to who waits, or where it is found. */
static void idle_give(struct ash_vm *vm, unsigned line)
{
    struct ash_vmpool *p = vm->pool;
    store_relaxed(&vm->state, VM_IDLE);
    while (ASH_UNLIKELY(!vmidle_put(&p->idle, line, number_of(vm)))) {
        os_lock(&p->lock);
        _Atomic(uint32_t) *word = grant(p, vm);
        os_unlock(&p->lock);
        wake(word);
        if (word != NULL)
            return;
    }
}

/* Fills a slot that is the caller's and BUSY; if that fails, it is somebody else's turn. */
static int slot_fill(struct ash_vm *vm)
{
    int status = vm_create(vm);
    if (status != 0)
        vacant_give(vm);
    return status;
}

/* Destroys a VM that is BUSY. Below the least number another is made in its place. */
static void discard(struct ash_vm *vm, bool whole)
{
    struct ash_vmpool *p = vm->pool;
    vmcount_add(&p->counts, self(p), VMCOUNT_DESTROYED);
    vm_destroy(vm, whole);
    if (live(p) > p->config.min || p->through)
        vacant_give(vm);
    else if (slot_fill(vm) == 0)
        idle_give(vm, TALLY_LINES);
}

/* ---- acquire ---- */

/*
 * What there is when the thread has found nothing by itself, or its time is over: an idle VM, or a
 * slot that is to be filled. NULL: neither.
 */
static struct ash_vm *take_slow(struct ash_vmpool *p, int64_t timeout_ns)
{
    struct vmworker *w = self(p);
    os_lock(&p->lock);
    struct ash_vm *vm = NULL;
    if (p->first == NULL) {
        vm = vm_of(p, vmidle_take_any(&p->idle));
        if (vm == NULL)
            vm = vacant_take(p);
        if (vm == NULL && timeout_ns != 0)
            vm = vm_of(p, vmidle_want(&p->idle));
    }
    if (vm != NULL || timeout_ns == 0) {
        os_unlock(&p->lock);
    } else {
        vmcount_add(&p->counts, w, VMCOUNT_WAIT);
        vm = queue_wait(p, timeout_ns);
    }
    if (vm == NULL)
        vmcount_add(&p->counts, w, VMCOUNT_TIMEOUT);
    return vm;
}

/* The VM is the caller's: begins its use. */
static int enter(struct ash_vm *vm)
{
    struct ash_vmpool *p = vm->pool;
    vm_own(vm, VM_LEASED);
    int status = p->ops.enter == NULL ? 0 : p->ops.enter(p->user, vm->root);
    if (ASH_LIKELY(status == 0))
        return 0;
    store_relaxed(&vm->state, VM_BUSY);
    vmcount_add(&p->counts, self(p), VMCOUNT_UNFIT);
    discard(vm, false);
    return status > 0 ? -status : status;
}

int vmpool_acquire(struct ash_vmpool *p, struct ash_vm **out, int64_t timeout_ns)
{
    struct vmworker *w = self(p);
    uint64_t from = vmcount_sampled(w) ? os_clock_ns() : 0, weight = VMTIME_SAMPLE;
    struct ash_vm *vm = vm_of(p, vmidle_take_own(&p->idle, tally_line()));
    bool own = vm != NULL, hit = true;
    if (!own)
        vm = vm_of(p, vmidle_pop(&p->idle));
    if (ASH_UNLIKELY(vm == NULL)) {
        from = os_clock_ns();
        weight = 1;
        vm = take_slow(p, timeout_ns);
        if (vm == NULL)
            return -ETIMEDOUT;
        hit = load_relaxed(&vm->state) == VM_IDLE;
        if (!hit) {
            vm_own(vm, VM_BUSY);
            int status = slot_fill(vm);
            if (status != 0)
                return status;
        }
    }
    int status = enter(vm);
    if (ASH_UNLIKELY(status != 0))
        return status;
    if (ASH_UNLIKELY(from != 0))
        vmcount_time(&p->counts, w, VMTIME_ACQUIRE, os_clock_ns() - from, weight);
    vmcount_add(&p->counts, w, VMCOUNT_ACQUIRE);
    if (hit)
        vmcount_add(&p->counts, w, VMCOUNT_HIT);
    if (own)
        vmcount_add(&p->counts, w, VMCOUNT_OWN);
    *out = vm;
    return 0;
}

/* ---- release ---- */

/* Whether it is time for a sweep; only one thread is told so. */
static bool sweep_due(struct ash_vmpool *p, uint64_t now_ms, uint64_t idle_ms)
{
    uint64_t next = load_relaxed(&p->next_sweep_ms);
    return now_ms >= next && cas_strong_relaxed(&p->next_sweep_ms, &next, now_ms + idle_ms / 2 + 1);
}

void vmpool_release(struct ash_vm *vm, bool poisoned)
{
    struct ash_vmpool *p = vm->pool;
    struct vmworker *w = self(p);
    bool sampled = vmcount_sampled(w);
    uint64_t from = sampled ? os_clock_ns() : 0;
    if (ASH_UNLIKELY(!vm_reset(vm, poisoned, sampled))) {
        discard(vm, !poisoned);
        return;
    }
    if (p->config.idle_trim_ns > 0)
        store_relaxed(&vm->idle_ms, os_clock_ms());
    idle_give(vm, tally_line());
    if (!sampled)
        return;
    uint64_t now = os_clock_ns();
    vmcount_time(&p->counts, w, VMTIME_RELEASE, now - from, VMTIME_SAMPLE);
    uint64_t idle_ms = (uint64_t)p->config.idle_trim_ns / VM_NS_PER_MS;
    if (p->config.idle_trim_ns > 0 && sweep_due(p, now / VM_NS_PER_MS, idle_ms))
        vmpool_sweep(p, now / VM_NS_PER_MS, idle_ms);
}

/* ---- what is not needed now ---- */

int vmpool_fill(struct ash_vmpool *p, unsigned n)
{
    for (;;) {
        os_lock(&p->lock);
        struct ash_vm *vm = live(p) < n ? vacant_take(p) : NULL;
        os_unlock(&p->lock);
        int status = vm == NULL ? 0 : slot_fill(vm);
        if (vm == NULL || status != 0)
            return status;
        idle_give(vm, TALLY_LINES);
    }
}

static bool is_old(const struct ash_vm *vm, uint64_t now_ms, uint64_t idle_ms)
{
    uint64_t since = load_relaxed(&vm->idle_ms); /* maybe of one that somebody has taken by now */
    return now_ms >= since && now_ms - since >= idle_ms;
}

/* Whether an old VM is to be dealt with; it joins the list then. `kept`: VMs that there will be. */
static bool sweep_take(struct ash_vm *vm, unsigned *kept, struct ash_vm **list)
{
    vm->surplus = *kept > vm->pool->config.min;
    if (!vm->surplus && vm->trimmed)
        return false;
    *kept -= vm->surplus;
    vm_own(vm, VM_BUSY);
    vm->also = *list;
    *list = vm;
    return true;
}

/*
 * Takes the old ones out of vmidle. Those on the stack come off in turn, newest first, so they are
 * judged on the way back: the oldest is the first to be surplus.
 */
static struct ash_vm *sweep_collect(struct ash_vmpool *p, uint64_t now_ms, uint64_t idle_ms)
{
    struct ash_vm *list = NULL, *off = NULL, *vm;
    unsigned kept = live(p);
    while ((vm = vm_of(p, vmidle_pop(&p->idle))) != NULL) {
        vm->also = off;
        off = vm;
    }
    for (unsigned line = 0; line < p->idle.lines; line++) {
        vm = vm_of(p, vmidle_peek(&p->idle, line));
        if (vm == NULL || !is_old(vm, now_ms, idle_ms))
            continue;
        vm = vm_of(p, vmidle_take_own(&p->idle, line));
        if (vm == NULL)
            continue;
        vm->also = off; /* it is old: next to be judged */
        off = vm;
    }
    while ((vm = off) != NULL) {
        off = vm->also;
        if (!is_old(vm, now_ms, idle_ms) || !sweep_take(vm, &kept, &list))
            vmidle_put(&p->idle, TALLY_LINES, number_of(vm)); /* nobody waits: it succeeds */
    }
    return list;
}

/* Its memory has gone back: it goes below those that are in use more, first on an empty stack. */
static void trimmed_give(struct ash_vm *vm)
{
    struct ash_vmpool *p = vm->pool;
    struct ash_vm *off = NULL, *next;
    os_lock(&p->lock);
    for (; p->first == NULL && (next = vm_of(p, vmidle_pop(&p->idle))) != NULL; off = next)
        next->also = off;
    store_relaxed(&vm->state, VM_IDLE);
    _Atomic(uint32_t) *word = grant(p, vm);
    if (word == NULL)
        vmidle_put(&p->idle, TALLY_LINES, number_of(vm));
    for (; off != NULL; off = next) {
        next = off->also;
        vmidle_put(&p->idle, TALLY_LINES, number_of(off));
    }
    os_unlock(&p->lock);
    wake(word);
}

void vmpool_sweep(struct ash_vmpool *p, uint64_t now_ms, uint64_t idle_ms)
{
    os_lock(&p->lock);
    struct ash_vm *list = p->first == NULL ? sweep_collect(p, now_ms, idle_ms) : NULL, *next;
    os_unlock(&p->lock);
    for (; list != NULL; list = next) {
        next = list->also;
        if (list->surplus) {
            vmcount_add(&p->counts, self(p), VMCOUNT_SURPLUS);
            discard(list, true);
        } else {
            vmcount_add(&p->counts, self(p), VMCOUNT_TRIMMED);
            list->trimmed = ash_heap_trim(list->heap) == 0;
            trimmed_give(list);
        }
    }
}

/* ---- fork ---- */

static struct ash_vmpool *pool_of_fork(struct os_fork *fork)
{
    return (struct ash_vmpool *)(void *)((char *)fork - offsetof(struct ash_vmpool, fork));
}

void vmpool_hold(struct os_fork *fork)
{
    os_lock(&pool_of_fork(fork)->lock);
}

/* Tells the idle VMs by `found`; they are where they were, all on the stack. */
static void find_idle(struct ash_vmpool *p)
{
    struct ash_vm *off = NULL, *vm;
    for (unsigned i = 0; i < p->config.max; i++)
        p->vm[i].found = false;
    while ((vm = vm_of(p, vmidle_take_any(&p->idle))) != NULL) {
        vm->found = true;
        vm->also = off;
        off = vm;
    }
    for (; off != NULL; off = off->also)
        vmidle_put(&p->idle, TALLY_LINES, number_of(off));
}

/*
 * In the child: who waited is gone. What is in vmidle is idle, and this thread has what it leases
 * or is busy with. All else was another thread's, or on its way to one, and its slot becomes
 * vacant. A heap that was being made, put back or destroyed by another is in no known state: it
 * stays where it is, unused.
 */
static void keep_own(struct ash_vmpool *p)
{
    uint32_t vacancies = 0;
    p->first = NULL;
    p->last = &p->first;
    store_relaxed(&p->waiting, 0);
    vmidle_unwant(&p->idle);
    find_idle(p);
    for (unsigned i = p->config.max; i-- > 0;) {
        struct ash_vm *vm = &p->vm[i];
        enum vm_state state = load_relaxed(&vm->state);
        bool mine =
            (state == VM_LEASED || state == VM_BUSY) && load_relaxed(&vm->lessee) == os_fork_self();
        if (vm->found || mine)
            continue;
        if (state == VM_LEASED || state == VM_IDLE)
            ash_heap_destroy(vm->heap);
        store_relaxed(&vm->state, VM_VACANT);
        store_relaxed(&vm->image_bytes, 0);
        p->vacant[vacancies++] = i;
    }
    store_relaxed(&p->vacancies, vacancies);
}

void vmpool_unhold(struct os_fork *fork, bool child)
{
    struct ash_vmpool *p = pool_of_fork(fork);
    if (child)
        keep_own(p);
    os_unlock(&p->lock);
}
