#include "txn/exec.h"

#include "base/relax.h"
#include "os/os_wait.h"

#include <errno.h>
#include <limits.h>

ASH_TLS struct worker *exec_self;

/* ---- spawning ---- */

static int spawn_outside(struct ash_exec *e, const struct task *task)
{
    if (load_relaxed(&e->closed) != 0)
        return -ECANCELED;
    if (ASH_LIKELY(inject_push(&e->inject, task)))
        return 0;
    add_relaxed(&e->rejected, 1);
    return -EAGAIN;
}

/* Counted before it is there, so that nobody has run more than were spawned. */
static int spawn_inside(struct worker *w, const struct task *task)
{
    uint64_t spawned = load_relaxed(&w->spawned);
    store_relaxed(&w->spawned, spawned + 1); /* published with the task: rule 4 */
    if (ASH_LIKELY(deque_push(&w->deque, task)))
        return 0;
    store_relaxed(&w->spawned, spawned);
    return -ENOMEM;
}

static int spawn_tell(struct ash_exec *e, int status)
{
    if (ASH_LIKELY(status == 0)) {
        park_tell(&e->parking);
        exec_tell_alone(e);
    }
    return status;
}

int exec_spawn(struct ash_exec *e, const struct task *task)
{
    int status = 0;
    if (ASH_UNLIKELY(load_relaxed(&e->running) == 0) && (status = exec_restart(e)) != 0)
        return status;
    struct worker *w = exec_worker(e);
    bool inside = w != NULL && !w->lent;
    return spawn_tell(e, inside ? spawn_inside(w, task) : spawn_outside(e, task));
}

int exec_spawn_at(struct worker *w, const struct task *task)
{
    int status = 0;
    if (ASH_UNLIKELY(load_relaxed(&w->exec->running) == 0) && (status = exec_restart(w->exec)) != 0)
        return status;
    return spawn_tell(w->exec, spawn_inside(w, task));
}

/* ---- running ---- */

/* The group may be gone as soon as its count is 0: the futex is no more than an address then. */
void group_done(struct group *g, bool canceled)
{
    if (canceled)
        add_relaxed(&g->canceled, 1);
    /* release: what the task wrote; pairs with ash_exec_join */
    if (sub_acq_rel(&g->pending, 1) == (GROUP_AWAITED | 1))
        os_wake(&g->pending, UINT_MAX);
}

static void task_run(struct worker *w, const struct task *task)
{
    bool kept = task->group == TASK_KEPT,
         canceled = !kept && load_relaxed(&w->exec->canceling) != 0;
    if (ASH_LIKELY(!canceled)) {
        w->depth++;
        task->fn(task->arg);
        w->depth--;
    } else {
        counter_add(&w->canceled, 1);
    }
    if (task->group != NULL && !kept)
        group_done((struct group *)(void *)task->group, canceled);
    /* release: what it wrote, and counted in `spawned`; pairs with exec_is_quiet */
    store_release(&w->run, load_relaxed(&w->run) + 1);
    exec_tell_alone(w->exec);
}

/* ---- finding ---- */

static bool find_injected(struct worker *w, struct task *task)
{
    if (!inject_pop(&w->exec->inject, task))
        return false;
    counter_add(&w->injected, 1);
    return true;
}

static bool find_own(struct worker *w, struct task *task)
{
    if (ASH_UNLIKELY(w->turn-- == 0)) {
        w->turn = INJECT_TURN - 1;
        if (find_injected(w, task))
            return true;
    }
    return deque_take(&w->deque, task);
}

/* From a random other on, once round; again while a steal was lost to another thief. */
static bool find_stolen(struct worker *w, struct task *task)
{
    struct ash_exec *e = w->exec;
    unsigned all = e->workers + EXEC_GUESTS;
    bool lost;
    do {
        lost = false;
        w->random = w->random * 1664525 + 1013904223;
        unsigned at = (unsigned)((uint64_t)w->random * all >> 32);
        for (unsigned i = 0; i < all; i++, at = at + 1 == all ? 0 : at + 1) {
            struct worker *victim = &e->worker[at];
            if (victim == w || !deque_has(&victim->deque))
                continue;
            enum deque_answer answer = deque_steal(&victim->deque, task);
            if (answer == DEQUE_TASK) {
                counter_add(&w->stolen, 1);
                return true;
            }
            lost |= answer == DEQUE_LOST;
        }
    } while (lost);
    return false;
}

bool exec_look(struct ash_exec *e)
{
    bool found = inject_has(&e->inject);
    for (unsigned i = 0; !found && i < e->workers + EXEC_GUESTS; i++)
        found = deque_has(&e->worker[i].deque);
    return found;
}

bool exec_help(struct worker *w)
{
    struct task task;
    if (!find_own(w, &task) && !find_injected(w, &task) && !find_stolen(w, &task))
        return false;
    task_run(w, &task);
    return true;
}

bool exec_help_with(struct worker *w, void (*fn)(void *))
{
    struct task task;
    if (!deque_newest_is(&w->deque, fn) || !deque_take(&w->deque, &task))
        return false;
    task_run(w, &task);
    return true;
}

/* ---- a worker's life ---- */

void exec_tell_quiet(struct ash_exec *e)
{
    fence_seq_cst(); /* what was run is counted; pairs with ash_exec_drain */
    if (load_relaxed(&e->drainers) != 0) {
        add_release(&e->quiet, 1);
        os_wake(&e->quiet, UINT_MAX);
    }
}

/* False when the worker shall end. */
static bool worker_search(struct worker *w, struct task *task)
{
    struct ash_exec *e = w->exec;
    add_relaxed(&e->parking.searching, 1);
    for (;;) {
        for (unsigned i = 0; i < EXEC_SEARCH_ROUNDS; i++) {
            if (find_injected(w, task) || find_stolen(w, task)) {
                park_found(&e->parking);
                return true;
            }
            relax();
        }
        park_enter(&e->parking, w->index);
        if (exec_look(e)) {
            park_leave(&e->parking, w->index);
        } else if (load_acquire(&e->stopping) != 0) { /* pairs with exec_stop */
            park_leave(&e->parking, w->index);
            sub_relaxed(&e->parking.searching, 1);
            return false;
        } else {
            exec_tell_quiet(e);
            counter_add(&w->parked, 1);
            park_sleep(&e->parking, w->index);
        }
    }
}

void exec_work(struct worker *w)
{
    struct task task;
    exec_self = w;
    while (worker_search(w, &task))
        do
            task_run(w, &task);
        while (find_own(w, &task));
    exec_self = NULL;
}

void exec_stop(struct ash_exec *e)
{
    store_release(&e->stopping, 1); /* pairs with worker_search */
    fence_seq_cst();                /* before the bits are read; pairs with park_enter */
    while (park_wake(&e->parking))
        ;
}

/* ---- guests ---- */

static struct worker *place_get(struct ash_exec *e)
{
    for (unsigned i = 0; i < EXEC_GUESTS; i++) {
        struct worker *place = &e->worker[e->workers + i];
        uint32_t taken = 0; /* acquire: the place as it was left; pairs with place_put */
        if (load_relaxed(&place->taken) == 0 && cas_strong_acq_rel(&place->taken, &taken, 1))
            return place;
    }
    return NULL;
}

/* Tasks may stay behind, where others find them: who drains is to look. */
static void place_put(struct worker *w)
{
    store_release(&w->taken, 0); /* pairs with place_get */
    exec_tell_quiet(w->exec);
}

void exec_place_enter(struct worker *w)
{
    w->outer = exec_self;
    exec_self = w;
}

void exec_place_leave(struct worker *w)
{
    exec_self = w->outer;
    w->outer = NULL;
}

bool exec_guest_enter(struct ash_exec *e, struct worker **w)
{
    *w = exec_worker(e);
    if (*w != NULL || (*w = place_get(e)) == NULL)
        return false;
    exec_place_enter(*w);
    return true;
}

void exec_guest_leave(struct worker *w)
{
    exec_place_leave(w);
    place_put(w);
}

struct worker *exec_place_borrow(struct ash_exec *e)
{
    struct worker *w = place_get(e);
    if (w != NULL)
        w->lent = true;
    return w;
}

void exec_place_return(struct worker *w)
{
    w->lent = false;
    place_put(w);
}
