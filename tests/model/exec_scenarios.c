/*
 * Scenarios of the executor as a whole (txn/exec, txn/exec_join), made small: one guest's place, one look at the queues
 * before sleeping. A task writes to a plain word that whoever waited for it reads, so one that is waited for too short
 * is a data race; a thread that is left asleep fails the run.
 */
#include "scenario.h"

#include "txn/exec.h"

#include <errno.h>

enum { TASKS = 3, WORKERS = 2 };

static struct ash_exec exec;
static struct worker place[WORKERS + EXEC_GUESTS];
static struct park_slot slots[WORKERS + 1];
static struct ash_group group;
static unsigned done[TASKS]; /* plain: written by task i */

int exec_restart(struct ash_exec *e)
{
    (void)e;
    model_fail("the executor does not run");
}

void scenario_exec(struct ash_exec *e, struct worker *w, struct park_slot *slot, unsigned workers)
{
    model_own(&exec_self);
    e->workers = workers;
    e->worker = w;
    model_require(inject_init(&e->inject, 1), "no cells");
    park_init(&e->parking, workers, slot);
    store_relaxed(&e->running, 1);
    for (unsigned i = 0; i < workers + EXEC_GUESTS; i++) {
        deque_init(&w[i].deque);
        w[i].exec = e;
        w[i].index = i;
        w[i].turn = INJECT_TURN;
    }
}

static void make(unsigned workers)
{
    scenario_boot();
    scenario_exec(&exec, place, slots, workers);
    model_name(&exec.inject.tail, "inject.tail");
    model_name(&exec.inject.head, "inject.head");
    model_name(&exec.parking.searching, "searching");
    model_name(&exec.parking.idle[0], "idle");
    model_name(&exec.drainers, "drainers");
    model_name(&exec.quiet, "quiet");
    model_name(&exec.stopping, "stopping");
    model_name(&group.ash_pending, "pending");
    model_name(&place[0].run, "run 0");
    model_name(&place[1].run, "run 1");
    model_name(&place[0].spawned, "spawned 0");
    model_name(&place[1].spawned, "spawned 1");
}

/* ---- tasks ---- */

static void task_one(void *arg)
{
    ++*(unsigned *)arg;
}

static void task_spawns(void *arg)
{
    ++*(unsigned *)arg;
    model_require(ash_exec_spawn(&exec, task_one, &done[1]) == 0, "no room");
}

static void spawn(unsigned i)
{
    model_require(ash_exec_spawn(&exec, task_one, &done[i]) == 0, "no room");
}

static void require_done(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        model_require(done[i] == 1, "task %u was run %u times", i, done[i]);
}

/* ---- threads ---- */

static void worker_0(void)
{
    exec_work(&place[0]);
}

/* Workers that sleep from the beginning on; who wakes one has counted it as searching. */
static void asleep(unsigned i)
{
    park_sleep(&exec.parking, i);
    sub_relaxed(&exec.parking.searching, 1);
}

static void asleep_0(void)
{
    asleep(0);
    exec_work(&place[0]);
}

/* It has nothing left to do but to see that it shall end. */
static void asleep_1(void)
{
    asleep(1);
    model_require(load_relaxed(&exec.stopping) != 0, "woken for nothing");
}

static void stop(void)
{
    exec_stop(&exec);
}

static void drain(void)
{
    model_require(ash_exec_drain(&exec) == 0, "it does not drain");
}

static void drain_1(void)
{
    drain();
    require_done(1);
}

static void drain_1_stop(void)
{
    drain_1();
    stop();
}

static void drain_2_stop(void)
{
    drain();
    require_done(2);
    stop();
}

static void spawn_0(void)
{
    spawn(0);
}

static void spawn_drain_stop(void)
{
    spawn(0);
    drain_1_stop();
}

static void join_0(void)
{
    model_require(ash_exec_join(&exec, &group) == -ECANCELED, "what was dropped is not told");
    require_done(1);
}

static void join_0_stop(void)
{
    join_0();
    stop();
}

/* ---- the beginning ---- */

static void one_worker(void)
{
    make(1);
}

static void other_asleep(void)
{
    make(2);
    store_relaxed(&exec.parking.searching, 1);
    park_enter(&exec.parking, 1);
}

/* Whoever drains only waits: the guest's place is another's. */
static void no_place(void)
{
    make(1);
    store_relaxed(&place[1].taken, 1);
}

static void one_asleep(void)
{
    no_place();
    store_relaxed(&exec.parking.searching, 1);
    park_enter(&exec.parking, 0);
}

static void one_task_no_place(void)
{
    no_place();
    spawn(0);
}

static void one_task(void)
{
    make(1);
    spawn(0);
}

static void one_that_spawns(void)
{
    make(1);
    model_require(ash_exec_spawn(&exec, task_spawns, &done[0]) == 0, "no room");
    store_relaxed(&place[1].taken, 1);
}

/* One that was dropped before was of it, too. */
static void group_make(void)
{
    model_require(ash_exec_spawn_in(&exec, &group, task_one, &done[0]) == 0, "no room");
    group.ash_canceled = 1;
}

static void one_of_group(void)
{
    make(1);
    group_make();
}

static void alone(void)
{
    make(0);
}

static void alone_group(void)
{
    make(0);
    group_make();
}

/* ---- the end ---- */

static void check_asleep(void)
{
    model_require(load_relaxed(&exec.parking.searching) == 0, "somebody is said to be searching");
    model_require(!park_any_idle(&exec.parking), "somebody is said to be idle");
    model_require(load_relaxed(&exec.drainers) == 0, "somebody is said to drain");
}

/* Guests have left their places. */
static void check_left(void)
{
    check_asleep();
    require_done(1);
    model_require(group.ash_pending == 0 && group.ash_canceled == 0, "the group is not as new");
    for (unsigned i = 0; i < EXEC_GUESTS; i++)
        model_require(load_relaxed(&place[exec.workers + i].taken) == 0, "a guest is there still");
}

static void check_1(void)
{
    check_asleep();
    require_done(1);
}

static void check_2(void)
{
    check_asleep();
    require_done(2);
}

/* What came while it was being stopped is there still, and is run once. */
static void check_late(void)
{
    check_asleep();
    drain();
    require_done(1);
}

const struct scenario exec_scenarios[] = {
    {.name = "exec-stop",
     .invariant = "an executor is stopped while a worker is about to sleep: it ends",
     .setup = one_worker,
     .thread = {stop, worker_0},
     .check = check_asleep},
    {.name = "exec-stop-two",
     .invariant = "the same while another sleeps: both end",
     .setup = other_asleep,
     .thread = {stop, worker_0, asleep_1},
     .check = check_asleep,
     .full_only = true},
    {.name = "exec-drain",
     .invariant = "the last task ends while one who drains begins to sleep",
     .setup = one_task_no_place,
     .thread = {drain_1_stop, worker_0},
     .check = check_1},
    {.name = "exec-drain-help",
     .invariant = "who drains and a worker look for the one task there is",
     .setup = one_task,
     .thread = {drain_1_stop, worker_0},
     .check = check_left},
    {.name = "exec-drain-spawn",
     .invariant = "a task spawns another during a drain: that is waited for, too",
     .setup = one_that_spawns,
     .thread = {drain_2_stop, worker_0},
     .check = check_2,
     .full_only = true},
    {.name = "exec-spawn",
     .invariant = "a task is spawned and waited for by a thread that does not help, while the worker sleeps",
     .setup = one_asleep,
     .thread = {spawn_drain_stop, asleep_0},
     .check = check_1},
    {.name = "exec-join",
     .invariant = "a group's task ends while one who joins begins to sleep",
     .setup = one_of_group,
     .thread = {join_0_stop, worker_0},
     .check = check_left},
    {.name = "exec-alone",
     .invariant = "without workers a task comes while one who drains begins to sleep: it is run, or comes too late",
     .setup = alone,
     .thread = {spawn_0, drain},
     .check = check_late},
    {.name = "exec-alone-two",
     .invariant = "without workers one drains, and another joins and runs what the first one waits for, or not",
     .setup = alone_group,
     .thread = {join_0, drain},
     .check = check_left},
    {.name = NULL},
};
