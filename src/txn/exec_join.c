/*
 * Waiting for tasks: groups, loops that are divided, and for all there are.
 */
#include "os/os_wait.h"
#include "txn/exec.h"

#include <errno.h>

enum {
    CHUNKS_PER_WORKER = 8,
    PLACE_AGAIN = 1000 * 1000, /* nanoseconds until a thread without a guest's place asks again */
};

_Static_assert(sizeof(struct group) == sizeof(struct ash_group), "ash_group is as declared");
_Static_assert(_Alignof(struct group) == _Alignof(struct ash_group), "and aligned");

static struct group *group_of(struct ash_group *group)
{
    return (struct group *)(void *)group;
}

ASH_API int ash_exec_spawn(struct ash_exec *e, void (*fn)(void *), void *arg)
{
    if (ASH_UNLIKELY(e == NULL || fn == NULL))
        return -EINVAL;
    return exec_spawn(e, &(struct task){fn, arg, NULL});
}

/* ---- groups ---- */

ASH_API int ash_exec_spawn_in(struct ash_exec *e, struct ash_group *group, void (*fn)(void *),
                              void *arg)
{
    if (ASH_UNLIKELY(e == NULL || group == NULL || fn == NULL))
        return -EINVAL;
    struct group *g = group_of(group);
    if ((load_relaxed(&g->pending) & ~GROUP_AWAITED) == 0)
        store_relaxed(&g->generation, load_relaxed(&e->generation));
    add_relaxed(&g->pending, 1); /* published with the task */
    int status = exec_spawn(e, &(struct task){fn, arg, group});
    if (ASH_UNLIKELY(status != 0))
        group_done(g, false);
    return status;
}

/* Helps until nothing was found for a while; false then. */
static bool help(struct worker *w)
{
    for (unsigned i = 0; w != NULL && i < EXEC_HELP_ROUNDS; i++)
        if (exec_help(w))
            return true;
    return false;
}

/* Tasks of the group are under way elsewhere: sleeps until the last one is done. */
static void group_wait(struct group *g, int64_t timeout_ns)
{
    uint32_t pending = or_acq_rel(&g->pending, GROUP_AWAITED) | GROUP_AWAITED;
    if (pending != GROUP_AWAITED)
        os_wait(&g->pending, pending, timeout_ns);
}

/* The same without workers: rule 6. */
static void group_wait_alone(struct ash_exec *e, struct worker *w, struct group *g)
{
    add_relaxed(&e->drainers, 1);
    uint32_t quiet = load_relaxed(&e->quiet);
    fence_seq_cst(); /* it is counted; pairs with exec_tell_quiet */
    bool over = (load_relaxed(&g->pending) & ~GROUP_AWAITED) == 0;
    if (!over && (w == NULL || !exec_look(e)))
        os_wait(&e->quiet, quiet, w == NULL ? PLACE_AGAIN : -1);
    sub_relaxed(&e->drainers, 1);
}

ASH_API int ash_exec_join(struct ash_exec *e, struct ash_group *group)
{
    if (e == NULL || group == NULL)
        return -EINVAL;
    struct group *g = group_of(group);
    struct worker *w = NULL;
    bool entered = false, vanished = false;
    /* acquire: what the tasks wrote; pairs with group_done */
    while ((load_acquire(&g->pending) & ~GROUP_AWAITED) != 0 && !vanished) {
        entered |= w == NULL && exec_guest_enter(e, &w);
        vanished = load_relaxed(&g->generation) != load_relaxed(&e->generation);
        if (vanished || help(w))
            continue;
        if (e->workers != 0)
            group_wait(g, w == NULL ? PLACE_AGAIN : -1);
        else
            group_wait_alone(e, w, g);
    }
    if (entered)
        exec_guest_leave(w);
    bool canceled = vanished || load_relaxed(&g->canceled) != 0;
    store_relaxed(&g->pending, 0);
    store_relaxed(&g->canceled, 0);
    return canceled ? -ECANCELED : 0;
}

/* ---- loops ---- */

struct loop {
    struct ash_group group;
    _Atomic(size_t) next; /* atomic: the first index that nobody has claimed */
    size_t n, grain;      /* const */
    void (*fn)(size_t begin, size_t end, void *arg);
    void *arg;
};

static void loop_run(void *arg)
{
    struct loop *l = arg;
    /* relaxed: the claims of one word are in one order, and publish nothing */
    while (load_relaxed(&l->next) < l->n) {
        size_t begin = add_relaxed(&l->next, l->grain);
        if (begin >= l->n)
            return;
        l->fn(begin, begin + size_min(l->grain, l->n - begin), l->arg);
    }
}

ASH_API int ash_exec_for(struct ash_exec *e, size_t n, size_t grain,
                         void (*fn)(size_t begin, size_t end, void *), void *arg)
{
    if (e == NULL || fn == NULL || n > SIZE_MAX / 2)
        return -EINVAL;
    if (n == 0)
        return 0;
    if (grain == 0)
        grain = size_max(1, n / (CHUNKS_PER_WORKER * ((size_t)e->workers + 1)));
    grain = size_min(grain, n);
    uint32_t generation = load_relaxed(&e->generation);
    struct loop l = {.n = n, .grain = grain, .fn = fn, .arg = arg};
    size_t chunks = n / grain + (n % grain != 0), helpers = size_min(e->workers, chunks - 1);
    if (exec_worker(e) == NULL && load_relaxed(&e->closed) != 0)
        return -ECANCELED;
    /* A helper that cannot be had is done without. */
    while (helpers-- > 0 && ash_exec_spawn_in(e, &l.group, loop_run, &l) == 0)
        ;
    loop_run(&l);
    ash_exec_join(e, &l.group);
    /* Helpers that were dropped had claimed nothing, but those that vanished in a fork may have. */
    return load_relaxed(&e->generation) == generation ? 0 : -ECANCELED;
}

/* ---- all ---- */

static bool exec_is_quiet(struct ash_exec *e)
{
    uint64_t run = 0, spawned = 0;
    for (unsigned i = 0; i < e->workers + EXEC_GUESTS; i++)
        run += load_acquire(&e->worker[i].run); /* rule 4; pairs with task_run */
    for (unsigned i = 0; i < e->workers + EXEC_GUESTS; i++)
        spawned += load_relaxed(&e->worker[i].spawned);
    return run == spawned + load_relaxed(&e->inject.tail);
}

ASH_API int ash_exec_drain(struct ash_exec *e)
{
    int status = 0;
    if (e == NULL)
        return -EINVAL;
    if (exec_inside(e) != NULL)
        return -EDEADLK;
    if (load_relaxed(&e->running) == 0 && (status = exec_restart(e)) != 0)
        return status;
    struct worker *w = NULL;
    bool entered = false;
    add_relaxed(&e->drainers, 1);
    for (;;) {
        entered |= w == NULL && exec_guest_enter(e, &w);
        while (help(w))
            ;
        uint32_t quiet = load_relaxed(&e->quiet);
        fence_seq_cst(); /* it is counted; pairs with exec_tell_quiet */
        if (exec_is_quiet(e))
            break;
        if (w == NULL || !exec_look(e))
            os_wait(&e->quiet, quiet, w == NULL ? PLACE_AGAIN : -1);
    }
    sub_relaxed(&e->drainers, 1);
    if (entered)
        exec_guest_leave(w);
    return 0;
}
