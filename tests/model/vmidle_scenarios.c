/*
 * Scenarios of the places of idle VMs (vm/vmidle), with the queue of a pool of VMs made as small as it can be: one who
 * waits. Whoever has a VM writes to it, so one that two have is a data race; a wake-up that is lost leaves a thread
 * asleep for ever, which fails the run.
 */
#include "scenario.h"

#include "os/os_lock.h"
#include "os/os_wait.h"
#include "vm/vmidle.h"

enum { VMS = 2, LINES = 1 };

static struct vmidle idle;
static _Atomic(uint32_t) below[VMS + 1];
static unsigned data[VMS + 1];  /* plain: written by whoever has the VM */
static unsigned had[THREADS];   /* the VM that a thread has at its end; 0: none */
static struct os_lock lock;
static bool waits;              /* lock */
static uint32_t given;          /* lock, then who waits */
static _Atomic(uint32_t) word;  /* atomic: 1 when `given` is */

static void use(uint32_t vm)
{
    data[vm]++;
}

/* As idle_give of vm/vmpool.c. */
static void put(unsigned line, uint32_t vm)
{
    while (!vmidle_put(&idle, line, vm)) {
        os_lock(&lock);
        bool granted = waits;
        if (granted) {
            waits = false;
            vmidle_unwant(&idle);
            given = vm;
            store_release(&word, 1);
        }
        os_unlock(&lock);
        if (granted) {
            os_wake(&word, 1);
            return;
        }
    }
}

/* As take_slow. */
static uint32_t get_waiting(void)
{
    os_lock(&lock);
    uint32_t vm = vmidle_want(&idle);
    waits = vm == VMIDLE_NONE;
    os_unlock(&lock);
    if (vm != VMIDLE_NONE)
        return vm;
    while (load_acquire(&word) == 0)
        os_wait(&word, 0, -1);
    return given;
}

static void make(uint32_t own, uint32_t top, uint32_t under)
{
    scenario_boot();
    idle.below = below;
    idle.lines = LINES;
    model_name(&idle.head, "head");
    model_name(&idle.own[0].vm, "own");
    model_name(&word, "word");
    if (under != 0)
        vmidle_put(&idle, LINES, under);
    if (top != 0)
        vmidle_put(&idle, LINES, top);
    if (own != 0)
        vmidle_put(&idle, 0, own);
}

/* ---- threads ---- */

static void wait_and_keep(void)
{
    had[model_self()] = get_waiting();
    use(had[model_self()]);
}

/* The thread of line 0 has VM 1, and gives it back; so does another, of no line, with VM 2. */
static void put_own(void)
{
    use(1);
    put(0, 1);
}

static void put_other(void)
{
    use(2);
    put(LINES, 2);
}

static void take_own_put(void)
{
    uint32_t vm = vmidle_take_own(&idle, 0);
    if (vm != VMIDLE_NONE) {
        use(vm);
        put(0, vm);
    }
}

static void pop_put(void)
{
    uint32_t vm = vmidle_pop(&idle);
    if (vm != VMIDLE_NONE) {
        use(vm);
        put(LINES, vm);
    }
}

static void pop_pop_put(void)
{
    uint32_t first = vmidle_pop(&idle), second = vmidle_pop(&idle);
    if (second != VMIDLE_NONE)
        use(second);
    if (first != VMIDLE_NONE) {
        use(first);
        put(LINES, first);
    }
    had[model_self()] = second;
}

static void take_any_keep(void)
{
    had[model_self()] = vmidle_take_any(&idle);
    if (had[model_self()] != VMIDLE_NONE)
        use(had[model_self()]);
}

/* ---- the beginning ---- */

static void all_out(void)
{
    make(0, 0, 0);
}

static void own_1(void)
{
    make(1, 0, 0);
}

static void stack_1_2(void)
{
    make(0, 1, 2);
}

/* ---- the end: each VM is idle, or somebody's, once ---- */

static void check_vms(unsigned vms)
{
    unsigned found[VMS + 1] = {0}, marks = 0;
    for (int t = 0; t < THREADS; t++)
        found[had[t]]++;
    found[VMIDLE_NONE] = 0;
    for (uint32_t vm; (vm = vmidle_take_any(&idle)) != VMIDLE_NONE;)
        found[vm]++;
    for (uint32_t vm = 1; vm <= vms; vm++)
        model_require(found[vm] == 1, "VM %u is there %u times", vm, found[vm]);
    marks += (uint32_t)load_relaxed(&idle.head) == VMIDLE_WANTED;
    marks += load_relaxed(&idle.own[0].vm) == VMIDLE_WANTED;
    model_require(marks == 0 && !waits, "%u marks are left", marks);
}

static void check_1(void)
{
    check_vms(1);
}

static void check_2(void)
{
    check_vms(2);
}

const struct scenario vmidle_scenarios[] = {
    {.name = "vmidle-wait-own",
     .invariant = "one waits while a thread puts back its VM: it is found, or given",
     .setup = all_out,
     .thread = {put_own, wait_and_keep},
     .check = check_1},
    {.name = "vmidle-wait-both",
     .invariant = "one waits while two put back theirs, to its place and to the stack: it has one, the other is idle",
     .setup = all_out,
     .thread = {put_own, put_other, wait_and_keep},
     .check = check_2},
    {.name = "vmidle-wait-taken",
     .invariant = "one waits while a thread takes its own and puts it back",
     .setup = own_1,
     .thread = {take_own_put, wait_and_keep},
     .check = check_1},
    {.name = "vmidle-stack",
     .invariant = "two take from the stack and put back, in another order: nobody's link is followed into the wrong VM",
     .setup = stack_1_2,
     .thread = {pop_pop_put, pop_put},
     .check = check_2,
     .spurious = 1},
    {.name = "vmidle-steal",
     .invariant = "a thread's own VM is taken by another while it takes it itself",
     .setup = own_1,
     .thread = {take_own_put, take_any_keep},
     .check = check_1},
    {.name = NULL},
};
