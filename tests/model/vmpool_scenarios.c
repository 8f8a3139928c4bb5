/*
 * Scenarios of who gets which VM (vm/vmpool), with its queue. Whoever has a VM, or makes or destroys one in its slot,
 * writes to the slot, so one that two have is a data race; one that is given to nobody leaves a thread asleep for ever.
 */
#include "scenario.h"

#include "vm/vmpool.h"

#include <errno.h>

enum { VMS = 2 };

static struct ash_vmpool pool;
static struct ash_vm vms[VMS];
static uint32_t vacant[VMS];
static unsigned word[VMS];     /* plain: written by whoever has the slot; 0: there is no VM */
static struct ash_vm *leased;  /* since the beginning */
static unsigned failures;      /* plain, under no lock: that are to come, of one thread's VM */
static int result[THREADS];    /* of the thread's acquire */

/* ---- the life of a VM, which is another module's ---- */

static unsigned *word_of(const struct ash_vm *vm)
{
    return &word[vm - vms];
}

void vm_own(struct ash_vm *vm, enum vm_state state)
{
    store_relaxed(&vm->state, state);
}

int vm_create(struct ash_vm *vm)
{
    model_require((*word_of(vm))++ == 0, "a VM is made where there is one");
    if (model_self() != 0 || failures == 0)
        return 0;
    failures--;
    *word_of(vm) = 0;
    return -ENOMEM;
}

void vm_destroy(struct ash_vm *vm, bool whole)
{
    (void)whole;
    *word_of(vm) = 0;
}

bool vm_reset(struct ash_vm *vm, bool poisoned, bool sampled)
{
    (void)sampled;
    ++*word_of(vm);
    return !poisoned;
}

void vmcount_time(struct vmcounts *c, struct vmworker *w, enum vmtime which, uint64_t ns, uint64_t weight)
{
    (void)c, (void)w, (void)which, (void)ns, (void)weight;
}

struct vmworker *vmcount_worker_slow(struct vmcounts *c, unsigned line)
{
    (void)line;
    return &c->shared;
}

int ash_heap_trim(struct ash_heap *h)
{
    (void)h;
    return 0;
}

void ash_heap_destroy(struct ash_heap *h)
{
    (void)h;
}

/* ---- beginning ---- */

/* All threads are without a place of their own. */
static void make(unsigned n)
{
    scenario_boot();
    tally_self = 1 + TALLY_LINES;
    model_require(vmidle_init(&pool.idle, n, 1), "no memory");
    pool.vm = vms;
    pool.config.max = n;
    pool.last = &pool.first;
    pool.vacant = vacant;
    for (unsigned i = 0; i < n; i++) {
        vms[i].pool = &pool;
        vacant[i] = i;
    }
    store_relaxed(&pool.vacancies, n);
    store_relaxed(&pool.counts.shared.count[VMCOUNT_ACQUIRE], 1); /* not one that is measured */
    model_name(&pool.idle.head, "head");
    model_name(&pool.lock.word, "lock");
    model_name(&vms[0].state, "state");
}

static struct ash_vm *acquire(void)
{
    struct ash_vm *vm = NULL;
    int status = vmpool_acquire(&pool, &vm, -1);
    if (model_self() >= 0)
        result[model_self()] = status;
    if (status != 0)
        return NULL;
    model_require(load_relaxed(&vm->state) == VM_LEASED && *word_of(vm) != 0, "a VM that is none");
    ++*word_of(vm);
    return vm;
}

static void one_leased(void)
{
    make(1);
    leased = acquire();
}

static void one_vacant(void)
{
    make(1);
}

static void one_that_fails(void)
{
    make(1);
    failures = 1;
}

/* ---- threads ---- */

static void release(void)
{
    vmpool_release(leased, false);
}

static void discard(void)
{
    vmpool_release(leased, true);
}

static void use(void)
{
    struct ash_vm *vm = acquire();
    if (vm != NULL)
        vmpool_release(vm, false);
}

static void use_poison(void)
{
    struct ash_vm *vm = acquire();
    if (vm != NULL)
        vmpool_release(vm, true);
}

/* It has it still when it ends. */
static void keep(void)
{
    model_require(acquire() != NULL, "no VM");
}

/* Idle for long, says who sweeps. */
static void sweep(void)
{
    vmpool_sweep(&pool, 1, 0);
}

/* ---- the end ---- */

static void check_all_back(void)
{
    unsigned idle = 0;
    while (vmidle_take_any(&pool.idle) != VMIDLE_NONE)
        idle++;
    model_require(pool.first == NULL && load_relaxed(&pool.waiting) == 0, "somebody waits");
    model_require(idle + load_relaxed(&pool.vacancies) == pool.config.max, "%u are idle, %u slots vacant", idle,
                  load_relaxed(&pool.vacancies));
    for (int k = 1; k < THREADS; k++)
        model_require(result[k] == 0, "a wait for ever has ended");
}

static void check_kept(void)
{
    model_require(pool.first == NULL && load_relaxed(&pool.vacancies) == 0, "it is somewhere else as well");
    model_require(load_relaxed(&vms[0].state) == VM_LEASED, "it is not leased");
}

const struct scenario vmpool_scenarios[] = {
    {.name = "vmpool-wait",
     .invariant = "the one VM is released while another wants it: it is had, at once or after a wait",
     .setup = one_leased,
     .thread = {release, keep},
     .check = check_kept},
    {.name = "vmpool-wait-two",
     .invariant = "two want the VM that is released: one has it after the other",
     .setup = one_leased,
     .thread = {release, use, use},
     .check = check_all_back,
     .full_only = true,
     .most = 200000},
    {.name = "vmpool-vacant",
     .invariant = "the VM is destroyed while another wants one: its slot goes to who waits, who makes another",
     .setup = one_leased,
     .thread = {discard, keep},
     .check = check_kept},
    {.name = "vmpool-first",
     .invariant = "two want the one there may be: one makes it, and destroys it",
     .setup = one_vacant,
     .thread = {use_poison, use},
     .check = check_all_back},
    {.name = "vmpool-fail",
     .invariant = "two want the one there may be, which one of them cannot make: the slot goes to the other",
     .setup = one_that_fails,
     .thread = {use, use},
     .check = check_all_back},
    {.name = "vmpool-sweep",
     .invariant = "idle VMs are swept while one is released and another wanted",
     .setup = one_leased,
     .thread = {release, use, sweep},
     .check = check_all_back,
     .full_only = true,
     .most = 200000},
    {.name = NULL},
};
