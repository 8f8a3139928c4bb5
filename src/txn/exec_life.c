/*
 * The life of executors: threads, the end, forks, and what they show.
 */
#include "ashlar/malloc.h"
#include "base/bits.h"
#include "base/config.h"
#include "base/fmt.h"
#include "os/check.h"
#include "os/os_file.h"
#include "txn/exec.h"
#include "vm/shown.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>

enum { QUEUE_DEFAULT = 8192, QUEUE_MOST = 1 << 24 };

static unsigned all_of(const struct ash_exec *e)
{
    return e->workers + EXEC_GUESTS;
}

/* ---- threads ---- */

static void *thread_main(void *arg)
{
    exec_work(arg);
    return NULL;
}

/* Signals stay with the program's own threads. Under the lock. */
static int thread_start(struct worker *w, pthread_attr_t *attr)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int status = pthread_create(&w->thread, attr, thread_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    w->started = status == 0;
    return -status;
}

/* Starts those that have no thread: 0, or an error when there is none at all then. Locked. */
static int threads_start(struct ash_exec *e)
{
    pthread_attr_t attr;
    unsigned started = 0;
    int status = -pthread_attr_init(&attr);
    if (status == 0 && e->stack_bytes != 0)
        status = -pthread_attr_setstacksize(&attr, e->stack_bytes);
    for (unsigned i = 0; status == 0 && i < e->workers; i++) {
        struct worker *w = &e->worker[i];
        if (!w->started)
            status = thread_start(w, &attr);
        started += w->started;
    }
    pthread_attr_destroy(&attr);
    store_release(&e->running, 1); /* in a child, what fork_release has set up */
    return started == e->workers ? 0 : status;
}

/* Fewer threads than before are some: what cannot be started is done without. */
int exec_restart(struct ash_exec *e)
{
    os_lock(&e->lock);
    if (load_relaxed(&e->running) == 0)
        threads_start(e);
    os_unlock(&e->lock);
    return 0;
}

static void threads_stop(struct ash_exec *e)
{
    exec_stop(e);
    for (unsigned i = 0; i < e->workers; i++)
        if (e->worker[i].started)
            pthread_join(e->worker[i].thread, NULL);
}

/* ---- forks ---- */

static struct ash_exec *exec_of_fork(struct os_fork *self)
{
    return (struct ash_exec *)(void *)((char *)self - offsetof(struct ash_exec, fork));
}

static void fork_hold(struct os_fork *self)
{
    os_lock(&exec_of_fork(self)->lock);
}

/* What the calling thread is in goes on; everything else is the parent's. */
static void worker_child(struct worker *w, bool mine)
{
    deque_clear(&w->deque);
    w->started = mine && w->index < w->exec->workers;
    w->depth = mine ? w->depth : 0;
    store_relaxed(&w->taken, mine ? 1 : 0);
    store_relaxed(&w->spawned, w->depth);
    store_relaxed(&w->run, 0);
    store_relaxed(&w->stolen, 0);
    store_relaxed(&w->injected, 0);
    store_relaxed(&w->parked, 0);
    store_relaxed(&w->canceled, 0);
}

static void fork_release(struct os_fork *self, bool child)
{
    struct ash_exec *e = exec_of_fork(self);
    struct worker *mine = exec_inside(e);
    for (unsigned i = 0; child && i < all_of(e); i++)
        worker_child(&e->worker[i], &e->worker[i] == mine);
    if (child) {
        inject_clear(&e->inject);
        park_init(&e->parking, e->workers, e->slots);
        store_relaxed(&e->running, 0);
        store_relaxed(&e->drainers, 0);
        store_relaxed(&e->rejected, 0);
        store_relaxed(&e->generation, load_relaxed(&e->generation) + 1);
    }
    os_unlock(&e->lock);
}

/* ---- figures ---- */

ASH_API int ash_exec_stats(const struct ash_exec *e, struct ash_exec_stats *out)
{
    if (e == NULL || out == NULL)
        return -EINVAL;
    *out = (struct ash_exec_stats){.workers = e->workers};
    out->rejected = load_relaxed(&e->rejected);
    out->wakes = load_relaxed(&e->parking.wakes);
    for (unsigned i = 0; i < all_of(e); i++) {
        const struct worker *w = &e->worker[i];
        out->run += load_acquire(&w->run); /* before what was spawned; pairs with task_run */
        out->canceled += load_relaxed(&w->canceled);
        out->stolen += load_relaxed(&w->stolen);
        out->injected += load_relaxed(&w->injected);
        out->parked += load_relaxed(&w->parked);
        out->queue_bytes += deque_bytes(&w->deque);
    }
    for (unsigned i = 0; i < all_of(e); i++)
        out->spawned += load_relaxed(&e->worker[i].spawned);
    out->spawned += load_relaxed(&e->inject.tail);
    out->pending = out->spawned - out->run;
    out->run -= out->canceled;
    out->queue_bytes += (e->inject.mask + 1) * sizeof(struct inject_cell);
    return 0;
}

ASH_API int ash_exec_dump(const struct ash_exec *e, int fd)
{
    struct ash_exec_stats s;
    int status = ash_exec_stats(e, &s);
    if (status != 0)
        return status;
    char buf[1024], bytes[16];
    struct fmt f;
    fmt_bytes_text(bytes, s.queue_bytes);
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "exec %s: %ju workers, queues of %s\n", e->name, s.workers, bytes);
    fmt_printf(&f, "  spawned %ju  run %ju  pending %ju  canceled %ju  rejected %ju\n", s.spawned,
               s.run, s.pending, s.canceled, s.rejected);
    fmt_printf(&f, "  stolen %ju  injected %ju  parked %ju  wakes %ju\n", s.stolen, s.injected,
               s.parked, s.wakes);
    return fmt_end(&f);
}

/* The figures of struct ash_exec_stats, all of them and in its order. */
static const struct ash_stats_column columns[] = {
    SHOWN_COLUMN("workers", GAUGE, COUNT, "Threads."),
    SHOWN_COLUMN("spawned", COUNTER, COUNT, "Tasks that came in."),
    SHOWN_COLUMN("run", COUNTER, COUNT, "Tasks that have been run."),
    SHOWN_COLUMN("canceled", COUNTER, COUNT, "Tasks that were dropped."),
    SHOWN_COLUMN("pending", GAUGE, COUNT, "Tasks that are under way or wait."),
    SHOWN_COLUMN("rejected", COUNTER, COUNT, "Spawns for which the queue had no room."),
    SHOWN_COLUMN("injected", COUNTER, COUNT, "Tasks taken from the queue."),
    SHOWN_COLUMN("stolen", COUNTER, COUNT, "Tasks taken from another thread's deque."),
    SHOWN_COLUMN("parked", COUNTER, COUNT, "Times that a worker went to sleep."),
    SHOWN_COLUMN("wakes", COUNTER, COUNT, "System calls made to wake one."),
    SHOWN_COLUMN("queue_bytes", GAUGE, BYTES, "The queue and the deques."),
};
_Static_assert(sizeof(struct ash_exec_stats) == ASH_COUNT(columns) * sizeof(uint64_t),
               "the columns are the figures");

static void read_values(const void *exec, uint64_t *values)
{
    struct ash_exec_stats s;
    ash_exec_stats(exec, &s);
    memcpy(values, &s, sizeof s);
}

SHOWN_KIND(kind, "execs", "exec", columns, read_values)

/* ---- beginning and end ---- */

static unsigned processors(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return (unsigned)size_min((size_t)(count > 0 ? count : 1), PARK_MOST);
}

/* Fills the defaults in; false when the settings make no sense. */
static bool settings_complete(unsigned *workers, struct ash_exec_config *config)
{
    bool threads = (config->flags & ASH_EXEC_NO_THREADS) == 0;
    if (*workers > PARK_MOST || config->queue > QUEUE_MOST ||
        (config->flags & ~(unsigned)ASH_EXEC_NO_THREADS) != 0 || (!threads && *workers != 0) ||
        (config->stack_bytes != 0 && config->stack_bytes < (size_t)PTHREAD_STACK_MIN))
        return false;
    if (threads && *workers == 0)
        *workers = processors();
    if (config->queue == 0)
        config->queue = QUEUE_DEFAULT;
    return true;
}

static void exec_free(struct ash_exec *e)
{
    for (unsigned i = 0; e->worker != NULL && i < all_of(e); i++)
        deque_fini(&e->worker[i].deque);
    inject_fini(&e->inject);
    ash_free(e->worker);
    ash_free(e->slots);
    ash_free(e);
}

static void *lines(size_t n)
{
    void *p = ash_aligned_alloc(ASH_CACHE_LINE, align_up(n, ASH_CACHE_LINE));
    return p == NULL ? NULL : memset(p, 0, n);
}

/* Everything but the threads; NULL when there is no memory. */
static struct ash_exec *exec_make(unsigned workers, const struct ash_exec_config *config)
{
    struct ash_exec *e = lines(sizeof *e);
    if (e == NULL)
        return NULL;
    e->workers = workers;
    e->stack_bytes = config->stack_bytes;
    e->worker = lines(all_of(e) * sizeof *e->worker);
    e->slots = lines((workers + 1) * sizeof *e->slots);
    unsigned shift = config->queue == 1 ? 0 : bits_highest(config->queue - 1) + 1;
    if (!inject_init(&e->inject, shift) || e->worker == NULL || e->slots == NULL) {
        exec_free(e);
        return NULL;
    }
    for (unsigned i = 0; i < all_of(e); i++) {
        struct worker *w = &e->worker[i];
        deque_init(&w->deque);
        w->exec = e;
        w->index = i;
        w->random = i * 2654435761u + 1;
    }
    park_init(&e->parking, workers, e->slots);
    store_relaxed(&e->generation, 1);
    e->fork = (struct os_fork){.hold = fork_hold, .release = fork_release};
    return e;
}

ASH_API struct ash_exec *ash_exec_create(unsigned workers, const struct ash_exec_config *config)
{
    struct ash_exec_config read;
    char name[NAME_CAP];
    if (!config_read(&read, sizeof read, config, sizeof(size_t)) ||
        !name_read(name, read.name, "exec") || !settings_complete(&workers, &read)) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_exec *e = exec_make(workers, &read);
    int status = e == NULL ? -ENOMEM : os_fork_add(&e->fork);
    if (status == 0) {
        memcpy(e->name, name, sizeof name);
        os_lock(&e->lock);
        status = threads_start(e);
        os_unlock(&e->lock);
        if (status != 0) {
            threads_stop(e);
            os_fork_remove(&e->fork);
        }
    }
    if (status == 0) {
        e->shown = shown_open(&kind, e->name, e);
        return e;
    }
    if (e != NULL)
        exec_free(e);
    errno = -status;
    return NULL;
}

ASH_API int ash_exec_shutdown(struct ash_exec *e, unsigned flags)
{
    if (e == NULL || (flags & ~(unsigned)ASH_EXEC_CANCEL) != 0)
        return -EINVAL;
    if (exec_inside(e) != NULL)
        return -EDEADLK;
    store_relaxed(&e->closed, 1);
    if ((flags & ASH_EXEC_CANCEL) != 0)
        store_relaxed(&e->canceling, 1);
    return ash_exec_drain(e);
}

ASH_API void ash_exec_destroy(struct ash_exec *e)
{
    if (e == NULL)
        return;
    if (ash_exec_shutdown(e, 0) != 0)
        fatal("executor %s destroyed by a task of its own", e->name);
    threads_stop(e);
    ash_exec_drain(e); /* what came in while it was being closed */
    os_fork_remove(&e->fork);
    if (shown_close(e->shown))
        exec_free(e);
}
