/*
 * Scenarios of the executor's parts. A task's argument is the address of a word that its spawner has written; who runs
 * it writes to it, so a task that is seen too early, or is given to two, is a data race; at the end none may be lost.
 */
#include "scenario.h"

#include "txn/inject.h"
#include "os/park.h"

enum { TASKS = 6, CELLS = 2 };

static struct deque deque;
static struct inject inject;
static struct parking parking;
static struct park_slot slots[THREADS];
static unsigned data[TASKS];
static unsigned spawned;                 /* by the one that spawns */
static unsigned run_by[THREADS][TASKS]; /* how often each thread has run each */

static void nothing(void *arg)
{
    (void)arg;
}

static struct task task_of(unsigned i)
{
    return (struct task){nothing, &data[i], (struct ash_group *)(void *)&data[i]};
}

static void run(const struct task *t)
{
    unsigned *word = t->arg;
    model_require(t->fn == nothing && t->group == t->arg, "a task was taken that is not whole");
    model_require(++*word == 2, "a task was taken before it was written, or twice");
    run_by[model_self()][word - data]++;
}

static void run_in_setup(void)
{
    for (int k = 0; k < THREADS; k++)
        for (unsigned i = 0; i < TASKS; i++)
            run_by[k][i] = 0;
}

/* ---- the deque: thread 0 is its owner ---- */

static void deque_names(void)
{
    model_name(&deque.top, "top");
    model_name(&deque.bottom, "bottom");
    model_name(&deque.array, "array");
}

static void push(void)
{
    struct task t = task_of(spawned);
    data[spawned++] = 1;
    model_require(deque_push(&deque, &t), "no room");
}

static void take(void)
{
    struct task t;
    if (deque_take(&deque, &t))
        run(&t);
}

static void steal(void)
{
    struct task t;
    if (deque_steal(&deque, &t) == DEQUE_TASK)
        run(&t);
}

/* The cells of an array of two; the first push would make a larger one. */
static void setup_deque(unsigned tasks)
{
    deque_init(&deque);
    deque_names();
    run_in_setup();
    spawned = 0;
    model_require(deque_grow(&deque), "no array");
    struct deque_array *a = load_relaxed(&deque.array);
    a->mask = CELLS - 1;
    while (tasks-- > 0)
        push();
}

static void deque_0(void)
{
    setup_deque(0);
}

static void deque_1(void)
{
    setup_deque(1);
}

static void deque_2(void)
{
    setup_deque(2);
}

static void push_take(void)
{
    push();
    take();
}

static void take_2(void)
{
    take();
    take();
}

static void take_push_take(void)
{
    take();
    push();
    take();
}

static void push_push(void)
{
    push();
    push();
}

static void push_push_take(void)
{
    push();
    push();
    take();
}

static void steal_2(void)
{
    steal();
    steal();
}

/* Each task was run once, or is in the deque still. */
static void check_deque(void)
{
    struct task t;
    unsigned total[TASKS] = {0};
    for (int k = 0; k < THREADS; k++)
        for (unsigned i = 0; i < TASKS; i++)
            total[i] += run_by[k][i];
    while (deque_take(&deque, &t))
        total[(unsigned *)t.arg - data]++;
    for (unsigned i = 0; i < TASKS; i++)
        model_require(total[i] == (i < spawned), "task %u is there %u times", i, total[i]);
}

/* ---- the way in ---- */

static void setup_inject(void)
{
    run_in_setup();
    model_require(inject_init(&inject, 1), "no cells");
    model_name(&inject.tail, "tail");
    model_name(&inject.head, "head");
}

/* One that has not heard of a pop may find no room. */
static bool inject_one(unsigned i)
{
    struct task t = task_of(i);
    data[i] = 1;
    bool taken = inject_push(&inject, &t);
    if (!taken)
        data[i] = 0;
    return taken;
}

static void inject_0(void)
{
    inject_one(0);
}

static void inject_1(void)
{
    inject_one(1);
}

static bool uninject(void)
{
    struct task t;
    if (!inject_pop(&inject, &t))
        return false;
    run(&t);
    return true;
}

static void pop_2(void)
{
    uninject();
    uninject();
}

static void pop_1(void)
{
    model_require(uninject(), "nothing is there");
}

/* What it finds may be gone, but it comes to an end. */
static void look(void)
{
    (void)inject_has(&inject);
}

/* A round later the cell is used again. */
static void inject_round(void)
{
    inject_one(0);
    uninject();
    inject_one(2);
    uninject();
}

static void setup_injected(void)
{
    setup_inject();
    inject_one(0);
}

static void check_inject(void)
{
    struct task t;
    unsigned total[TASKS] = {0};
    for (int k = 0; k < THREADS; k++)
        for (unsigned i = 0; i < TASKS; i++)
            total[i] += run_by[k][i];
    while (inject_pop(&inject, &t))
        total[(unsigned *)t.arg - data]++;
    for (unsigned i = 0; i < TASKS; i++)
        model_require(total[i] == (data[i] != 0), "task %u is there %u times", i, total[i]);
    t = task_of(0);
    for (unsigned i = 0; i < 2 * CELLS; i++)
        model_require(inject_push(&inject, &t) && inject_pop(&inject, &t), "a cell is lost");
}

/* ---- sleeping: workers as those of txn/exec, which end when they have run what they are to ---- */

static void setup_park(void)
{
    setup_inject();
    park_init(&parking, THREADS, slots);
    model_name(&parking.searching, "searching");
    model_name(&parking.idle[0], "idle");
    for (int k = 0; k < THREADS; k++)
        model_name(&slots[k].asleep, k == 0 ? "asleep 0" : k == 1 ? "asleep 1" : "asleep 2");
}

/* One worker, which is counted as searching, takes `n` tasks, and sleeps until they come. */
static void work_on(unsigned n, bool look)
{
    unsigned self = (unsigned)model_self();
    while (n != 0) {
        if (uninject()) {
            park_found(&parking);
            if (--n != 0)
                add_relaxed(&parking.searching, 1);
            continue;
        }
        park_enter(&parking, self);
        if (inject_has(&inject))
            park_leave(&parking, self);
        else
            park_sleep(&parking, self);
        /* or its leaving might be counted before its coming: then all would seem to be looked after */
        if (look)
            model_require(load_relaxed(&parking.searching) != 0, "woken, and not counted");
    }
}

static void work(unsigned n)
{
    add_relaxed(&parking.searching, 1);
    work_on(n, true);
}

/* A task is there already, whose spawner has told nobody yet, and the second worker is searching for it. */
static void setup_found(void)
{
    setup_park();
    inject_one(0);
}

/* Two workers are searching when a task comes, whose spawner wakes nobody therefore. */
static void setup_searching(void)
{
    setup_park();
    store_relaxed(&parking.searching, 2);
    inject_one(0);
    park_tell(&parking);
}

/* The same, and the second of them goes to sleep before the task is there. */
static void setup_asleep(void)
{
    setup_park();
    store_relaxed(&parking.searching, 2);
    park_enter(&parking, 2);
    inject_one(0);
    park_tell(&parking);
}

static void wake_work_1(void)
{
    park_sleep(&parking, 2);
    while (!uninject()) {
        park_enter(&parking, 2);
        if (inject_has(&inject))
            park_leave(&parking, 2);
        else
            park_sleep(&parking, 2);
    }
    park_found(&parking);
}

/* It searches already. */
static void search_1(void)
{
    work_on(1, false);
}

static void work_1(void)
{
    work(1);
}

static void work_2(void)
{
    work(2);
}

static void spawn_0(void)
{
    model_require(inject_one(0), "no room");
    park_tell(&parking);
}

static void spawn_1(void)
{
    model_require(inject_one(1), "no room");
    park_tell(&parking);
}

static void spawn_0_1(void)
{
    spawn_0();
    spawn_1();
}

static void check_park(void)
{
    check_inject();
    model_require(load_relaxed(&parking.searching) == 0, "%u are said to be searching",
                  (unsigned)load_relaxed(&parking.searching));
    model_require(!park_any_idle(&parking), "one is said to be idle");
}

const struct scenario txn_scenarios[] = {
    {.name = "deque-last",
     .invariant = "the owner and a thief go for one task",
     .setup = deque_1,
     .thread = {take, steal},
     .check = check_deque},
    {.name = "deque-push",
     .invariant = "the owner pushes and takes while a thief steals twice",
     .setup = deque_1,
     .thread = {push_take, steal_2},
     .check = check_deque},
    {.name = "deque-below",
     .invariant = "a thief comes when the owner has pushed two and taken one back: it has all of the other",
     .setup = deque_0,
     .thread = {push_push_take, steal},
     .check = check_deque},
    {.name = "deque-two",
     .invariant = "the owner takes both of two while a thief steals twice",
     .setup = deque_2,
     .thread = {take_2, steal_2},
     .check = check_deque},
    {.name = "deque-again",
     .invariant = "a cell is used again while a thief has its eye on it",
     .setup = deque_1,
     .thread = {take_push_take, steal},
     .check = check_deque},
    {.name = "deque-grow",
     .invariant = "the array is replaced while two steal",
     .setup = deque_1,
     .thread = {push_push, steal, steal},
     .check = check_deque,
     .full_only = true},
    {.name = "deque-grow-one",
     .invariant = "the array is replaced while one steals",
     .setup = deque_1,
     .thread = {push_push, steal_2},
     .check = check_deque},
    {.name = "deque-thieves",
     .invariant = "the owner takes two while two thieves steal",
     .setup = deque_2,
     .thread = {take_2, steal, steal},
     .check = check_deque},
    {.name = "inject",
     .invariant = "two come in while two are taken out",
     .setup = setup_inject,
     .thread = {inject_0, inject_1, pop_2},
     .check = check_inject},
    {.name = "inject-round",
     .invariant = "a cell is used in the next round while another comes in",
     .setup = setup_inject,
     .thread = {inject_round, inject_1},
     .check = check_inject},
    {.name = "inject-look",
     .invariant = "one looks for tasks while the last is taken out: it goes on from where that was",
     .setup = setup_injected,
     .thread = {pop_1, look},
     .check = check_inject},
    {.name = "park",
     .invariant = "a worker goes to sleep while a task comes: it runs it",
     .setup = setup_park,
     .thread = {spawn_0, work_1},
     .check = check_park},
    {.name = "park-again",
     .invariant = "a worker sleeps twice while two come",
     .setup = setup_park,
     .thread = {spawn_0_1, work_2},
     .check = check_park},
    {.name = "park-two-spawn",
     .invariant = "a worker sleeps while two others spawn",
     .setup = setup_park,
     .thread = {spawn_0, spawn_1, work_2},
     .check = check_park,
     .full_only = true},
    {.name = "park-found",
     .invariant = "two workers look for the one task there is while another comes: each gets one",
     .setup = setup_found,
     .thread = {spawn_1, work_1, work_1},
     .check = check_park,
     .full_only = true},
    {.name = "park-pass",
     .invariant = "one worker sleeps and one has a task to find while another comes: each gets one",
     .setup = setup_asleep,
     .thread = {spawn_1, search_1, wake_work_1},
     .check = check_park,
     .full_only = true},
    {.name = "park-two-work",
     .invariant = "two workers have a task to find while another comes: each gets one, whoever sleeps meanwhile",
     .setup = setup_searching,
     .thread = {spawn_1, search_1, search_1},
     .check = check_park,
     .full_only = true},
    {.name = NULL},
};
