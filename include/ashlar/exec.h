/*
 * Executors: they run tasks on all processors.
 *
 *     struct ash_exec *exec = ash_exec_create(0, NULL);       // a worker for each processor
 *     ash_exec_for(exec, rows, 0, sum_rows, table);           // a loop, divided
 *
 *     struct ash_group group = ASH_GROUP_INIT;                // some tasks, and their end
 *     ash_exec_spawn_in(exec, &group, load, &part[0]);
 *     ash_exec_spawn_in(exec, &group, load, &part[1]);
 *     ash_exec_join(exec, &group);
 *
 *     ash_exec_spawn(exec, write_log, line);                  // run some time
 *     ash_exec_drain(exec);                                   // everything has been run
 *     ash_exec_destroy(exec);
 *
 * A task is a function and its argument; it is run once, by a worker or by a thread that waits. It
 * may spawn, join and divide loops itself. What was written before a task was spawned is seen by
 * it; what it wrote is seen after the join, drain or loop that waited for it.
 *
 * Each worker has a deque of its own: it runs its newest task first, and takes others' oldest when
 * it has none (Chase, Lev: Dynamic circular work-stealing deque, SPAA 2005; Le, Pop, Cohen, Zappa
 * Nardelli: Correct and efficient work-stealing for weak memory models, PPoPP 2013). Workers that
 * find nothing sleep; a task wakes one at most.
 *
 * Functions that return int give 0 or a negative errno, -EINVAL for an argument that is none.
 *
 * Threads: every function may be called by any thread at any time, unless it says otherwise.
 *
 * Cost: a task spawned and run by the same worker about 15 ns, from outside 40 ns and more; nothing
 * is allocated for it. A sleeping worker costs who spawns a system call.
 *
 * Caveats
 *   A task that blocks (a read, a lock) keeps its worker from others. A task must come back: one
 *   that leaves by longjmp, or ends its thread, is never counted as run, and whoever waits for it
 *   does so for ever; errors are told through its argument. Joining runs other tasks on the stack
 *   of the one that joins, so deep nests of joins need deep stacks (.stack_bytes). At most 8
 *   threads from outside help at a time; others only wait.
 *
 *   fork: the tasks of the parent are run in the parent. The child's copy of an executor is empty,
 *   its figures begin at 0, and it starts its workers again at its first use. In a child, a join of
 *   a group begun before the fork, and a loop that was under way, give -ECANCELED, and such a group
 *   is to be joined before it is used again; what the forking thread's own task goes on to do is as
 *   usual.
 */
#ifndef ASHLAR_EXEC_H
#define ASHLAR_EXEC_H

#include <ashlar/config.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_exec;

enum {
    ASH_EXEC_NO_THREADS = 1, /* of ash_exec_config: tasks are run by threads that wait, alone */
    ASH_EXEC_CANCEL = 1      /* of ash_exec_shutdown */
};

struct ash_exec_config {
    size_t struct_size;
    const char *name;   /* of 1 to 31 printable characters; copied; NULL for "exec" */
    unsigned queue;     /* tasks from outside that nobody has begun, at most; 0 for 8192 */
    unsigned flags;     /* ASH_EXEC_NO_THREADS, with 0 workers */
    size_t stack_bytes; /* of each worker; 0 for the system's default */
};

#define ASH_EXEC_CONFIG(...) ASH_CONFIG(struct ash_exec_config, __VA_ARGS__)

/*
 * An executor of `workers` threads, at most 256; 0 for one on each processor that the process may
 * use. They take no signals. NULL and EINVAL, ENOMEM, or EAGAIN when a thread cannot be had.
 */
struct ash_exec *ash_exec_create(unsigned workers, const struct ash_exec_config *config);

/*
 * Runs all there is, ends the threads. Nobody uses it any more, and no task of it calls this: that
 * is reported, and aborts. NULL is fine.
 */
void ash_exec_destroy(struct ash_exec *exec);

/*
 * Lets nothing in from outside any more, where spawns are answered -ECANCELED, and waits until all
 * tasks and those they spawn have been run; with ASH_EXEC_CANCEL those not begun are dropped and
 * counted, and joins of their groups give -ECANCELED; what a manager of transactions has spawned is
 * run all the same. 0; -EDEADLK in a task of the executor.
 */
int ash_exec_shutdown(struct ash_exec *exec, unsigned flags);

/*
 * Has fn(arg) run. 0; from outside -EAGAIN when the queue is full, which is an ordinary answer:
 * run it yourself, or wait; -ECANCELED after ash_exec_shutdown; in a task -ENOMEM when its deque
 * cannot grow. Whatever is not 0 means that it will not be run.
 */
int ash_exec_spawn(struct ash_exec *exec, void (*fn)(void *arg), void *arg);

/*
 * Tasks to be waited for together: the caller's memory, ASH_GROUP_INIT or zeroes at the beginning,
 * there until joined.
 */
struct ash_group {
    uint32_t ash_pending;
    uint32_t ash_canceled;
    uint32_t ash_generation;
};

#define ASH_GROUP_INIT                                                                             \
    {                                                                                              \
        0, 0, 0                                                                                    \
    }

/* The same as a part of the group. Tasks of the group may add to it, and who is going to join. */
int ash_exec_spawn_in(struct ash_exec *exec, struct ash_group *group, void (*fn)(void *arg),
                      void *arg);

/*
 * Runs tasks until those of the group have been run, and the group is as new. One thread joins a
 * group at a time. 0, or -ECANCELED when some of them were dropped.
 */
int ash_exec_join(struct ash_exec *exec, struct ash_group *group);

/*
 * Calls fn(begin, end, arg) for parts of 0 to n that cover it once, `grain` long but for the last,
 * by this thread and workers, and returns when all is done. A `grain` of 0 makes 8 parts a thread;
 * parts of less than a microsecond are not worth it. 0, -ECANCELED after ash_exec_shutdown.
 */
int ash_exec_for(struct ash_exec *exec, size_t n, size_t grain,
                 void (*fn)(size_t begin, size_t end, void *arg), void *arg);

/*
 * Runs tasks until there is a moment at which none is left: all spawned before the call, by this
 * thread or known to it, and all those that they spawned, have been run. While others go on
 * spawning that moment may not come. -EDEADLK in a task of the executor.
 */
int ash_exec_drain(struct ash_exec *exec);

/* spawned = run + canceled + pending, at rest exactly. */
struct ash_exec_stats {
    uint64_t workers;     /* threads */
    uint64_t spawned;     /* tasks that came in */
    uint64_t run;         /* that have been run */
    uint64_t canceled;    /* that were dropped */
    uint64_t pending;     /* that are under way or wait */
    uint64_t rejected;    /* spawns for which the queue had no room; not in `spawned` */
    uint64_t injected;    /* tasks taken from the queue */
    uint64_t stolen;      /* taken from another thread's deque */
    uint64_t parked;      /* times that a worker went to sleep */
    uint64_t wakes;       /* system calls made to wake one */
    uint64_t queue_bytes; /* of the queue and the deques */
};

/* Reads the figures. */
int ash_exec_stats(const struct ash_exec *exec, struct ash_exec_stats *out);

/* Writes them to the descriptor, with words: 0, -EINVAL or the errno of the failed write. */
int ash_exec_dump(const struct ash_exec *exec, int fd);

#ifdef __cplusplus
}
#endif

#endif
