/*
 * The executor: workers, each with a deque, and threads from outside that help.
 *
 *  1. A task spawned by a task goes to the deque of the thread that runs it; one spawned from
 *     outside through `inject`. Both are told to `parking`.
 *  2. A worker runs what its deque has, newest first; then it searches `inject` and the deques of
 *     all others from a random one on; then it parks (os/park). Once in INJECT_TURN tasks it looks
 *     at `inject` first, so that those from outside are not kept waiting by one that never ends.
 *  3. A thread that waits (join, drain, for) runs tasks meanwhile. From outside it takes the place
 *     of a guest for that, a worker without a thread; without a free place it waits only. It sleeps
 *     on what it waits for, not in `parking`.
 *     A dispatcher (txn/dispatch) borrows such a place for as long as it has batches under way.
 *  4. Nothing is left when as many tasks have been run as were spawned: each thread counts both,
 *     and `inject.tail` those from outside. All `run` are read first, then all `spawned`. Whoever
 *     reads a task's `run` has acquired its spawning and that of its children, so if the sums are
 *     equal those spawned are exactly those that have run, and their children are among them.
 *  5. A thread that may have run the last one (it parks, or leaves a guest's place) passes a fence
 *     and wakes who drains; who drains counts itself, passes a fence, and reads the counts. One of
 *     the two sees the other.
 *  6. Without workers a task can wake nobody but those who wait, whatever they wait for. So all of
 *     them sleep as those who drain do, and are woken by each task that comes and each that ends.
 *
 * A forked child has no workers, and none of the tasks: they are run in the parent, once. What the
 * child's one thread is running itself goes on. Its first use of the executor starts the workers
 * again; `generation` tells groups that were begun before.
 */
#ifndef ASH_EXEC_H
#define ASH_EXEC_H

#include "ashlar/exec.h"
#include "base/name.h"
#include "os/os_fork.h"
#include "os/os_lock.h"
#include "txn/inject.h"
#include "os/park.h"

#include <pthread.h>

/* The model has fewer: each is more to be searched. */
#ifndef EXEC_GUESTS
#define EXEC_GUESTS        8
#define EXEC_SEARCH_ROUNDS 512 /* looks at all queues before parking: as long as a wake takes */
#define EXEC_HELP_ROUNDS   64  /* and before one who waits sleeps */
#endif

enum { INJECT_TURN = 64 };

/* Public: ash_group. */
struct group {
    /* atomic: tasks that have not run, and GROUP_AWAITED; what they wrote is published by it */
    _Atomic(uint32_t) pending;
    _Atomic(uint32_t) canceled;   /* atomic: tasks that were dropped */
    _Atomic(uint32_t) generation; /* atomic: of the executor at the first spawn */
};
#define GROUP_AWAITED ((uint32_t)1 << 31)

struct worker {
    struct deque deque;
    struct ash_exec *exec; /* const */
    unsigned index;        /* const */
    pthread_t thread;      /* under the executor's lock */
    bool started;          /* under the executor's lock: it has a thread */
    uint32_t random;       /* owner */
    unsigned turn;         /* owner: tasks until `inject` is looked at first */
    unsigned depth;        /* owner: tasks that it is in */
    bool lent;             /* owner: to a dispatcher, see exec_place_borrow */
    struct worker *outer;  /* owner: that its thread was in before it came here */
    /* atomic: owner counts, anyone reads; `run` publishes what the tasks wrote, and spawned */
    ASH_LINE_ALIGNED _Atomic(uint64_t) run;
    _Atomic(uint64_t) spawned, stolen, injected, parked, canceled; /* atomic: owner counts */
    _Atomic(uint32_t) taken; /* atomic: of a guest's place: somebody has it */
};

struct ash_exec {
    unsigned workers;        /* const: with threads; behind them EXEC_GUESTS without */
    struct worker *worker;   /* const */
    size_t stack_bytes;      /* const: of the threads; 0 is the system's */
    struct park_slot *slots; /* const: the memory of `parking` */
    char name[NAME_CAP];     /* const */
    struct shown *shown;     /* const; NULL: there was no memory for it */
    struct inject inject;
    struct parking parking;
    /* Read by all, seldom written. */
    ASH_LINE_ALIGNED _Atomic(uint32_t) running; /* atomic: the threads are there (not in a child) */
    _Atomic(uint32_t) closed;                   /* atomic: nothing comes in from outside any more */
    _Atomic(uint32_t) canceling;                /* atomic: tasks are dropped instead of run */
    _Atomic(uint32_t) stopping;   /* atomic: the threads end; set before all are woken */
    _Atomic(uint32_t) drainers;   /* atomic: threads that may sleep on `quiet` */
    _Atomic(uint32_t) quiet;      /* atomic: changes before they are woken */
    _Atomic(uint32_t) generation; /* atomic: forks behind this process, from 1 on */
    _Atomic(uint64_t) rejected;   /* atomic: spawns that found no room; several writers */
    struct os_lock lock;          /* over starting and stopping threads */
    struct os_fork fork;
};

/* The worker that the calling thread is, or whose place it has; NULL outside. */
ASH_HIDDEN extern ASH_TLS struct worker *exec_self;

ASH_INLINE struct worker *exec_worker(const struct ash_exec *e)
{
    struct worker *w = exec_self;
    return w != NULL && w->exec == e ? w : NULL;
}

/* 0, -EAGAIN, -ENOMEM, -ECANCELED; see ash_exec_spawn. */
int exec_spawn(struct ash_exec *e, const struct task *task);

/* The same by a walk outwards: a task of this executor may wait for one of another. */
ASH_INLINE struct worker *exec_inside(const struct ash_exec *e)
{
    struct worker *w = exec_self;
    while (w != NULL && w->exec != e)
        w = w->outer;
    return w;
}

/* A task of the group is done, or will never be. */
void group_done(struct group *g, bool canceled);

/* Runs one task if there is any. */
bool exec_help(struct worker *w);

/* The same, only the newest of the place's own, if it is one of `fn`. */
bool exec_help_with(struct worker *w, void (*fn)(void *arg));

/* A worker's life until the executor stops. */
void exec_work(struct worker *w);

/* Has those who are or were in exec_work end. */
ASH_COLD void exec_stop(struct ash_exec *e);

/* Whether there is a task in any queue; after a fence. */
bool exec_look(struct ash_exec *e);

/* Wakes those who sleep on `quiet`, if any, behind a fence: rule 5. */
void exec_tell_quiet(struct ash_exec *e);

/* A task came or has ended: rule 6. */
ASH_INLINE void exec_tell_alone(struct ash_exec *e)
{
    if (ASH_UNLIKELY(e->workers == 0))
        exec_tell_quiet(e);
}

/* Starts the threads of a child; 0, or -EAGAIN when none could be. */
ASH_COLD int exec_restart(struct ash_exec *e);

/*
 * Gives a thread from outside a guest's place, if it has none; true when that is to be left again.
 * `*w` is its place then, or the one it has, or NULL when there is no free one.
 */
bool exec_guest_enter(struct ash_exec *e, struct worker **w);
void exec_guest_leave(struct worker *w);

/*
 * A guest's place for who spawns tasks that nobody else's shall come to lie upon, so that all of
 * them that nobody has begun are its newest ones; NULL: there is none free. It is no thread's: one
 * at a time may spawn at it, and enter it to run what it has. Tasks that are spawned by those come
 * in as if from outside.
 */
struct worker *exec_place_borrow(struct ash_exec *e);
void exec_place_return(struct worker *w);
void exec_place_enter(struct worker *w);
void exec_place_leave(struct worker *w);
int exec_spawn_at(struct worker *w, const struct task *task);

#endif
