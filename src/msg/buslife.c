/* The life of a bus: subsystems and handlers, threads, the end, forks. See msg/bus.h. */
#include "ashlar/malloc.h"
#include "base/bits.h"
#include "base/config.h"
#include "msg/bus.h"
#include "os/os_clock.h"
#include "os/os_wait.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>

enum { CAPACITY_DEFAULT = 1024, POLLERS_DEFAULT = 8 };

static void *lines(size_t n)
{
    void *p = ash_aligned_alloc(ASH_CACHE_LINE, align_up(n, ASH_CACHE_LINE));
    return p == NULL ? NULL : memset(p, 0, n);
}

/* ---- threads ---- */

static void thread_lost(void *w)
{
    bus_lost(w);
}

static void *thread_main(void *arg)
{
    pthread_cleanup_push(thread_lost, arg);
    bus_thread(arg);
    pthread_cleanup_pop(0);
    return NULL;
}

/* Signals stay with the program's own threads. Under the lock. */
static int thread_start(struct bus_worker *w)
{
    sigset_t all, before;
    pthread_attr_t attr;
    int status = pthread_attr_init(&attr);
    if (status != 0)
        return -status;
    if (w->bus->stack_bytes != 0)
        status = pthread_attr_setstacksize(&attr, w->bus->stack_bytes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (status == 0)
        status = pthread_create(&w->thread, &attr, thread_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    w->started = status == 0;
    return -status;
}

/* Starts those that have no thread: 0, or an error when one could not be had. Locked. */
static int threads_start(struct ash_bus *b)
{
    int status = 0;
    for (unsigned i = 0; i < b->workers && status == 0; i++)
        if (!b->worker[i].started)
            status = thread_start(&b->worker[i]);
    return status;
}

static void state_set(struct ash_bus *b, uint32_t bits)
{
    or_release(&b->state, bits); /* pairs with worker_search and bus_is_over */
}

void bus_replace(struct bus_worker *w)
{
    struct ash_bus *b = w->bus;
    os_lock(&b->lock);
    if ((load_relaxed(&b->state) & BUS_ENDING) == 0) {
        pthread_detach(w->thread);
        if (thread_start(w) != 0)
            state_set(b, BUS_STARTING);
    }
    os_unlock(&b->lock);
}

/*
 * Under the lock no thread is replaced after ENDING; those there are are joined without it, each by
 * one of the callers.
 */
static void threads_stop(struct ash_bus *b)
{
    os_lock(&b->lock);
    state_set(b, BUS_ENDING);
    os_unlock(&b->lock);
    bus_wake_all(b);
    for (unsigned i = 0; i < b->workers; i++) {
        struct bus_worker *w = &b->worker[i];
        os_lock(&b->lock);
        bool mine = w->started;
        w->started = false;
        os_unlock(&b->lock);
        if (mine)
            pthread_join(w->thread, NULL);
    }
}

/* ---- forks ---- */

static struct ash_bus *bus_of_fork(struct os_fork *self)
{
    return (struct ash_bus *)(void *)((char *)self - offsetof(struct ash_bus, fork));
}

static void fork_hold(struct os_fork *self)
{
    struct ash_bus *b = bus_of_fork(self);
    os_lock(&b->lock);
    os_lock(&b->replies.lock);
}

/* Whether the forking thread is that worker; in a handler of it, that is. */
static bool fork_is_mine(const struct bus_worker *w)
{
    const struct bus_worker *mine = bus_self;
    while (mine != NULL && mine != w)
        mine = mine->outer;
    return mine != NULL;
}

static void worker_child(struct bus_worker *w)
{
    store_relaxed(&w->parked, 0);
    if (fork_is_mine(w))
        return;
    w->subsystem = NULL;
    w->msg = NULL;
    w->outer = NULL;
    w->started = false;
    w->own.at = w->own.count = w->own.freed = 0;
    store_relaxed(&w->taken, 0);
}

static void subsystem_child(struct subsystem *s)
{
    struct ash_ring_stats ring;
    bool mine = false;
    for (const struct bus_worker *w = bus_self; w != NULL; w = w->outer)
        mine |= w->subsystem == s && w->batch == &s->batch;
    if (!mine)
        s->batch.at = s->batch.count = s->batch.freed = 0;
    ash_ring_stats(s->lane.ring, &ring);
    lane_child(&s->lane, mine);
    store_relaxed(&s->before, ring.pushed);
    store_relaxed(&s->delivered, 0);
    store_relaxed(&s->dead, 0);
    store_relaxed(&s->refused, 0);
}

static void bus_child(struct ash_bus *b)
{
    for (unsigned i = 0; i < bus_places(b); i++)
        worker_child(&b->worker[i]);
    for (unsigned i = 0; i < load_relaxed(&b->subsystems); i++)
        subsystem_child(b->subsystem[i]);
    park_init(&b->parking, bus_places(b), b->slots);
    memset(b->replies.bucket, 0, sizeof b->replies.bucket);
    _Atomic(uint64_t) *counters[] = {&b->refused,  &b->requests, &b->answered,
                                     &b->timeouts, &b->late,     &b->lost};
    for (unsigned i = 0; i < ASH_COUNT(counters); i++)
        store_relaxed(counters[i], 0);
    store_relaxed(&b->drainers, 0);
    store_relaxed(&b->generation, load_relaxed(&b->generation) + 1);
    store_relaxed(&b->state, (load_relaxed(&b->state) & ~BUS_ENDING) | BUS_STARTING | BUS_FORKED);
}

static void fork_release(struct os_fork *self, bool child)
{
    struct ash_bus *b = bus_of_fork(self);
    if (child)
        bus_child(b);
    os_unlock(&b->replies.lock);
    os_unlock(&b->lock);
}

/* What the ring has is the parent's; a push or pop of it that was under way did not happen. */
static void subsystem_empty(struct subsystem *s)
{
    void *msgs[BUS_BATCH];
    unsigned n;
    ash_ring_recover(s->lane.ring);
    while ((n = ash_ring_pop(s->lane.ring, msgs, BUS_BATCH)) != 0)
        for (unsigned i = 0; i < n; i++)
            ash_msg_free(msgs[i]);
}

void bus_revive(struct ash_bus *b)
{
    os_lock(&b->lock);
    uint32_t state = load_relaxed(&b->state);
    if ((state & BUS_FORKED) != 0)
        for (unsigned i = 0; i < load_relaxed(&b->subsystems); i++) {
            struct subsystem *s = b->subsystem[i];
            struct ash_ring_stats ring;
            subsystem_empty(s);
            ash_ring_stats(s->lane.ring, &ring);
            store_relaxed(&s->before, ring.pushed);
        }
    if ((state & BUS_STARTING) != 0 && ((state & BUS_STOPPED) != 0 || threads_start(b) == 0))
        and_relaxed(&b->state, ~(uint32_t)BUS_STARTING);
    and_relaxed(&b->state, ~(uint32_t)BUS_FORKED);
    os_unlock(&b->lock);
}

/* ---- subsystems and handlers ---- */

static bool subsystem_name(const char *name, size_t len)
{
    char copy[NAME_CAP] = "", checked[NAME_CAP];
    if (len == 0 || len >= NAME_CAP)
        return false;
    memcpy(copy, name, len);
    return strlen(copy) == len && strpbrk(copy, ":/?{}") == NULL && name_read(checked, copy, "");
}

static void subsystem_free(struct subsystem *s)
{
    while (s->handlers != NULL) {
        struct handler *h = s->handlers;
        s->handlers = h->next;
        ash_free(h);
    }
    ash_router_destroy(s->router);
    ash_ring_destroy(s->lane.ring);
    ash_free(s);
}

/* One that is not there, for subsystem_add: 0 or an error. Under the lock. */
static int subsystem_make(struct ash_bus *b, const char *name, size_t len,
                          const struct ash_bus_subsystem_config *config, struct subsystem **made)
{
    if (load_relaxed(&b->subsystems) == ASH_BUS_SUBSYSTEMS)
        return -ENOSPC;
    struct subsystem *s = lines(sizeof *s);
    if (s == NULL)
        return -ENOMEM;
    s->bus = b;
    s->name_len = len;
    memcpy(s->name, name, len);
    s->router = ash_router_create();
    s->lane.ordered = (config->flags & ASH_BUS_UNORDERED) == 0;
    s->lane.high = config->high;
    s->lane.low = config->low;
    s->lane.ring = ash_ring_create(config->capacity != 0 ? config->capacity : b->capacity,
                                   s->lane.ordered ? ASH_MPSC : ASH_MPMC);
    if (s->router == NULL || s->lane.ring == NULL) {
        subsystem_free(s);
        return -ENOMEM;
    }
    *made = s;
    return 0;
}

/* From now on it is found. Under the lock. */
static void subsystem_add(struct ash_bus *b, struct subsystem *s)
{
    s->index = load_relaxed(&b->subsystems);
    s->shown = bus_show_subsystem(s);
    b->subsystem[s->index] = s;
    store_release(&b->subsystems, s->index + 1); /* it; pairs with worker_take, bus_look */
    /* likewise; pairs with subsystem_find */
    store_release(&b->table[bus_place(b, s->name, s->name_len)], s);
}

/* Takes the lock, unless the bus is stopped. */
static int bus_change(struct ash_bus *b)
{
    bus_use(b);
    os_lock(&b->lock);
    if ((load_relaxed(&b->state) & BUS_STOPPED) == 0)
        return 0;
    os_unlock(&b->lock);
    return -ECANCELED;
}

ASH_API int ash_bus_subsystem(struct ash_bus *b, const char *name,
                              const struct ash_bus_subsystem_config *config)
{
    struct ash_bus_subsystem_config read;
    if (b == NULL || name == NULL || !subsystem_name(name, strnlen(name, NAME_CAP)) ||
        !config_read(&read, sizeof read, config, sizeof(size_t)) ||
        (read.flags & ~(unsigned)ASH_BUS_UNORDERED) != 0 || read.capacity > ASH_BUS_CAPACITY)
        return -EINVAL;
    unsigned room = read.capacity != 0 ? read.capacity : b->capacity;
    if (read.high > room || (read.high != 0 ? read.low >= read.high : read.low != 0))
        return -EINVAL;
    size_t len = strlen(name);
    int status = bus_change(b);
    if (status != 0)
        return status;
    struct subsystem *made;
    status = bus_find(b, name, len) != NULL ? -EEXIST : subsystem_make(b, name, len, &read, &made);
    if (status == 0)
        subsystem_add(b, made);
    os_unlock(&b->lock);
    return status;
}

/* Under the lock. A subsystem that is made for the pattern is added when that is good. */
static int handler_add(struct ash_bus *b, struct handler *h, size_t len)
{
    static const struct ash_bus_subsystem_config defaults;
    struct subsystem *s = bus_find(b, h->pattern, len), *made = NULL;
    int status = s != NULL ? 0 : subsystem_make(b, h->pattern, len, &defaults, &made);
    if (status != 0)
        return status;
    if (s == NULL)
        s = made;
    status = ash_router_add(s->router, h->pattern + len + 2, h, NULL);
    if (status == 0) {
        h->next = s->handlers;
        s->handlers = h;
        counter_add(&s->patterns, 1);
        store_release(&s->changed, 1); /* the pattern; pairs with batch_handle */
    }
    if (made != NULL && status == 0)
        subsystem_add(b, made);
    else if (made != NULL)
        subsystem_free(made);
    return status;
}

ASH_API int ash_bus_on(struct ash_bus *b, const char *pattern,
                       void (*fn)(struct ash_msg *msg, const struct ash_match *match, void *user),
                       void *user)
{
    const char *colon = b == NULL || pattern == NULL ? NULL : strstr(pattern, "://");
    if (colon == NULL || fn == NULL || !subsystem_name(pattern, (size_t)(colon - pattern)))
        return -EINVAL;
    size_t len = strnlen(pattern, ASH_ROUTER_PATTERN + 1);
    if (len > ASH_ROUTER_PATTERN)
        return -ENAMETOOLONG;
    struct handler *h = ash_malloc(sizeof *h + len + 1);
    if (h == NULL)
        return -ENOMEM;
    h->fn = fn;
    h->user = user;
    memcpy(h->pattern, pattern, len + 1);
    int status = bus_change(b);
    if (status == 0) {
        status = handler_add(b, h, (size_t)(colon - pattern));
        os_unlock(&b->lock);
    }
    if (status != 0)
        ash_free(h);
    return status;
}

/* ---- beginning ---- */

static bool config_complete(struct ash_bus_config *config)
{
    if (config->capacity == 0)
        config->capacity = CAPACITY_DEFAULT;
    if (config->pollers == 0 && config->workers == 0)
        config->pollers = POLLERS_DEFAULT;
    if (config->max_body == 0)
        config->max_body = SIZE_MAX;
    return config->workers <= ASH_BUS_WORKERS && config->pollers <= ASH_BUS_WORKERS &&
           config->capacity <= ASH_BUS_CAPACITY &&
           (config->stack_bytes == 0 || config->stack_bytes >= (size_t)PTHREAD_STACK_MIN);
}

static void bus_free(struct ash_bus *b)
{
    for (unsigned i = 0; i < load_relaxed(&b->subsystems); i++)
        subsystem_free(b->subsystem[i]);
    ash_free(b->worker);
    ash_free(b->slots);
    ash_free(b);
}

/* Everything but the threads; NULL when there is no memory. */
static struct ash_bus *bus_make(const struct ash_bus_config *config)
{
    struct ash_bus *b = lines(sizeof *b);
    if (b == NULL)
        return NULL;
    b->workers = config->workers;
    b->pollers = config->pollers;
    b->capacity = config->capacity;
    b->max_body = config->max_body;
    b->stack_bytes = config->stack_bytes;
    b->dead = config->dead;
    b->mark = config->mark;
    b->user = config->user;
    b->worker = lines(bus_places(b) * sizeof *b->worker);
    b->slots = lines(bus_places(b) * sizeof *b->slots);
    if (b->worker == NULL || b->slots == NULL) {
        bus_free(b);
        return NULL;
    }
    for (unsigned i = 0; i < bus_places(b); i++) {
        b->worker[i].bus = b;
        b->worker[i].index = i;
        b->worker[i].next = i;
    }
    park_init(&b->parking, bus_places(b), b->slots);
    b->fork = (struct os_fork){.hold = fork_hold, .release = fork_release};
    return b;
}

ASH_API struct ash_bus *ash_bus_create(const struct ash_bus_config *config)
{
    struct ash_bus_config read;
    char name[NAME_CAP];
    if (!config_read(&read, sizeof read, config, sizeof(size_t)) ||
        !name_read(name, read.name, "bus") || !config_complete(&read)) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_bus *b = bus_make(&read);
    int status = b == NULL ? -ENOMEM : os_fork_add(&b->fork);
    if (status == 0) {
        memcpy(b->name, name, sizeof name);
        os_lock(&b->lock);
        status = threads_start(b);
        os_unlock(&b->lock);
        if (status == 0) {
            b->shown = bus_show(b);
            return b;
        }
        threads_stop(b);
        os_fork_remove(&b->fork);
    }
    if (b != NULL)
        bus_free(b);
    errno = -status;
    return NULL;
}

/* ---- end ---- */

/* Handles what is there in the place that is meant for it; false: another thread has that. */
static bool drain_work(struct ash_bus *b, int64_t until)
{
    struct bus_worker *w = &b->worker[bus_places(b) - 1];
    if (!place_enter(w))
        return false;
    while (place_work(w, BUS_BATCH) != 0 && (until < 0 || (int64_t)os_clock_ns() < until))
        ;
    place_leave(w);
    return true;
}

/*
 * Sleeps until somebody may have handled the last message: 0; -EAGAIN: the caller looks again;
 * -ETIMEDOUT. Who had the place that drains (`works`) goes on with what was sent since it looked;
 * what is sent while it sleeps wakes it (bus_sent). No handler runs in here: one may fork, or end
 * the thread, and the count of drainers would be wrong.
 */
static int drain_wait(struct ash_bus *b, bool works, int64_t until)
{
    int status = -EAGAIN;
    add_relaxed(&b->drainers, 1);
    fence_seq_cst();                          /* counted; pairs with bus_tell_quiet */
    uint32_t quiet = load_acquire(&b->quiet); /* pairs with bus_tell_quiet */
    int64_t left = until < 0 ? -1 : until - (int64_t)os_clock_ns();
    if (bus_pending(b) == 0)
        status = 0;
    else if (until >= 0 && left <= 0)
        status = -ETIMEDOUT;
    else if (!works || !bus_look(b))
        os_wait(&b->quiet, quiet, left);
    sub_relaxed(&b->drainers, 1);
    return status;
}

ASH_API int ash_bus_drain(struct ash_bus *b, int64_t timeout_ns)
{
    int status = -EAGAIN;
    if (b == NULL)
        return -EINVAL;
    if (bus_inside(b))
        return -EDEADLK;
    bus_use(b);
    int64_t until = os_until(timeout_ns);
    while (status == -EAGAIN)
        status = drain_wait(b, b->workers == 0 && drain_work(b, until), until);
    bus_tell_quiet(b); /* another who drains may have found its place taken */
    return status;
}

ASH_API int ash_bus_stop(struct ash_bus *b, int64_t timeout_ns)
{
    if (b == NULL)
        return -EINVAL;
    if (bus_inside(b))
        return -EDEADLK;
    bus_use(b);
    os_lock(&b->lock);
    state_set(b, BUS_STOPPED);
    for (unsigned i = 0; i < load_relaxed(&b->subsystems); i++)
        lane_close(&b->subsystem[i]->lane);
    state_set(b, BUS_SHUT);
    os_unlock(&b->lock);
    bus_wake_all(b);
    int status = timeout_ns == 0 ? -ETIMEDOUT : ash_bus_drain(b, timeout_ns);
    if (status == -ETIMEDOUT) {
        state_set(b, BUS_DROPPING);
        drain_work(b, -1);
        status = bus_pending(b) == 0 ? 0 : -ETIMEDOUT;
    }
    if (status == 0)
        threads_stop(b);
    return status;
}

ASH_API int ash_bus_destroy(struct ash_bus *b)
{
    int status = ash_bus_stop(b, -1);
    if (status != 0)
        return status;
    bool unread = shown_close(b->shown);
    for (unsigned i = 0; i < load_relaxed(&b->subsystems); i++)
        unread &= shown_close(b->subsystem[i]->shown);
    os_fork_remove(&b->fork);
    if (unread) /* else somebody who reads its figures was stopped in the middle */
        bus_free(b);
    return 0;
}
