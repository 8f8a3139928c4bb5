/* Workers, and what becomes of messages: see msg/bus.h. */
#include "base/relax.h"
#include "msg/bus.h"
#include "msg/words.h"
#include "os/os_clock.h"
#include "os/os_wait.h"

#include <errno.h>
#include <limits.h>

/* Looks before parking, and pauses between two. The model has fewer. */
#ifndef BUS_SEARCH_ROUNDS
#define BUS_SEARCH_ROUNDS 64
#endif
enum { SEARCH_PAUSES = 8 };

ASH_TLS struct bus_worker *bus_self;

/* ---- what becomes of a message ---- */

void bus_dead(struct ash_bus *b, struct ash_msg *m, enum ash_bus_reason reason)
{
    if (b->dead != NULL)
        b->dead(m, reason, b->user);
    ash_msg_free(m);
}

/* Counts messages; the caller has the lane, if it is an ordered one. */
ASH_INLINE void subsystem_count(const struct subsystem *s, _Atomic(uint64_t) *c, unsigned n)
{
    if (s->lane.ordered)
        store_release(c, load_relaxed(c) + n); /* all handlers; pairs with bus_pending */
    else
        add_release(c, n); /* likewise */
}

/* The route that was matched last, for messages that come in rows with one target. */
struct memo {
    const struct ash_msg *msg; /* not freed since; NULL for none */
    uint64_t id;
    const char *path;
    size_t len;
    const struct handler *handler; /* NULL: nothing fits */
    struct ash_match match;
};

/* Routers are given the /path of subsystem://path: what patterns have in common is left out. */
ASH_INLINE const char *message_path(const struct subsystem *s, const struct ash_msg *m, size_t *len)
{
    size_t scheme = s->name_len + 2; /* subsystem:/ */
    *len = msg_parts(m).end - scheme;
    return msg_target(m) + scheme;
}

/* Finds the handler of the message, which becomes the memo's. */
ASH_INLINE const struct handler *memo_match(struct memo *memo, const struct subsystem *s,
                                            const struct ash_msg *m)
{
    size_t len;
    const char *path = message_path(s, m, &len);
    struct ash_match *match = &memo->match;
    if (memo->msg != NULL && memo->id == memo->msg->id && memo->len == len &&
        text_equal(path, memo->path, len, false)) {
        for (unsigned i = 0; i < match->n; i++) /* captures are of the message's own text */
            match->caps[i].ptr = path + (match->caps[i].ptr - memo->path);
    } else {
        memo->len = len;
        memo->handler = NULL;
        if (ASH_LIKELY(ash_router_match(s->router, path, len, match) == 0)) {
            memo->handler = match->handler;
            match->handler = memo->handler->user;
            match->pattern = memo->handler->pattern;
        }
    }
    memo->msg = m;
    memo->id = m->id;
    memo->path = path;
    return memo->handler;
}

/* Patterns that were added since. Where there is no memory for them, the former ones serve. */
static ASH_COLD void subsystem_compile(struct subsystem *s)
{
    struct ash_bus *b = s->bus;
    os_lock(&b->lock);
    if (load_relaxed(&s->changed) != 0 && ash_router_compile(s->router) == 0) {
        store_release(&s->changed, 0); /* the router's block; pairs with batch_handle */
        if (s->lane.ordered)           /* nobody else matches */
            ash_router_trim(s->router);
    }
    os_unlock(&b->lock);
}

/* ---- batches ---- */

/* What has been handled is counted, then freed. */
static void batch_settle(struct subsystem *s, struct batch *batch)
{
    uint32_t n = batch->at - batch->freed;
    if (n != 0) {
        subsystem_count(s, &s->delivered, n);
        msgs_free(batch->msg + batch->freed, n);
        batch->freed = batch->at;
    }
}

/* What ran last, for the program, forked: this is the child. */
ASH_INLINE bool worker_forked(const struct bus_worker *w)
{
    return load_relaxed(&w->bus->generation) != w->generation;
}

/* A dead letter instead of the next one. */
static ASH_COLD void batch_dead(struct bus_worker *w, enum ash_bus_reason reason)
{
    struct subsystem *s = w->subsystem;
    struct batch *batch = w->batch;
    batch_settle(s, batch);
    struct ash_msg *m = batch->msg[batch->at];
    uint64_t id = m->id;
    batch->freed = ++batch->at;
    bus_dead(s->bus, m, reason);
    if (ASH_UNLIKELY(worker_forked(w)))
        return; /* in the parent it is counted */
    subsystem_count(s, &s->dead, 1);
    replies_answer(&s->bus->replies, id, NULL); /* who asks finds it counted */
}

/* In that child all that the worker has in hand is the parent's. */
static ASH_COLD void batch_disown(struct bus_worker *w)
{
    struct batch *batch = w->batch;
    msgs_free(batch->msg + batch->freed, batch->count - batch->freed);
    batch->at = batch->freed = batch->count;
    w->generation = load_relaxed(&w->bus->generation);
}

/* Whether the next message is not to be handled, and why. */
ASH_INLINE bool message_refuse(struct subsystem *s, struct memo *memo, const struct ash_msg *m,
                               enum ash_bus_reason *reason)
{
    *reason = ASH_BUS_STOPPED;
    if (ASH_UNLIKELY((load_relaxed(&s->bus->state) & BUS_DROPPING) != 0))
        return true;
    /* acquire: the router's block; pairs with subsystem_compile, and ash_bus_on's patterns */
    if (ASH_UNLIKELY(load_acquire(&s->changed) != 0)) {
        subsystem_compile(s);
        memo->msg = NULL;
    }
    if (ASH_LIKELY(memo_match(memo, s, m) != NULL))
        return false;
    *reason = load_relaxed(&s->changed) != 0 ? ASH_BUS_NO_MEMORY : ASH_BUS_NO_HANDLER;
    return true;
}

/*
 * The lines of a message that will soon be handled, which its sender's processor has: its header,
 * and its metadata and target. Waiting for them, one after the other, was a fifth of the time.
 */
ASH_INLINE void batch_fetch(const struct batch *batch)
{
    if (batch->at + BUS_AHEAD < batch->count) {
        const char *m = (const char *)batch->msg[batch->at + BUS_AHEAD];
        __builtin_prefetch(m);
        __builtin_prefetch(m + ASH_CACHE_LINE);
    }
}

/* Handles up to `max` messages of the worker's batch: how many. */
static unsigned batch_handle(struct bus_worker *w, unsigned max)
{
    struct subsystem *s = w->subsystem;
    struct batch *batch = w->batch;
    struct memo memo;
    enum ash_bus_reason reason;
    unsigned n = 0;
    memo.msg = NULL;
    for (; n < max && batch->at < batch->count && !worker_forked(w); n++) {
        struct ash_msg *m = batch->msg[batch->at];
        batch_fetch(batch);
        if (ASH_UNLIKELY(message_refuse(s, &memo, m, &reason))) {
            batch_dead(w, reason);
            memo.msg = NULL;
            continue;
        }
        w->msg = m;
        memo.handler->fn(m, &memo.match, memo.match.handler);
        w->msg = NULL;
        if (ASH_UNLIKELY(worker_forked(w)))
            break;
        if (++batch->at - batch->freed == BUS_FREED) {
            batch_settle(s, batch);
            memo.msg = NULL;
        }
    }
    if (ASH_UNLIKELY(worker_forked(w)))
        batch_disown(w);
    batch_settle(s, batch);
    return n;
}

/* ---- lanes ---- */

/* The worker has a batch no more; others are told if its lane is open. */
static void lane_leave(struct bus_worker *w)
{
    struct subsystem *s = w->subsystem;
    uint32_t rest = w->batch->count - w->batch->at;
    w->subsystem = NULL;
    if (!s->lane.ordered)
        return;
    store_relaxed(&s->lane.rest, rest);
    if (lane_release(&s->lane))
        park_tell(&w->bus->parking);
}

/* Takes messages of a lane, if there are any and nobody else has it. */
static bool lane_take(struct bus_worker *w, struct subsystem *s, unsigned max)
{
    struct lane *l = &s->lane;
    if (!lane_open(l) || (l->ordered && !lane_claim(l)))
        return false;
    struct batch *batch = l->ordered ? &s->batch : &w->own;
    unsigned most = !l->ordered ? 1 : max < BUS_BATCH ? max : BUS_BATCH;
    w->subsystem = s;
    w->batch = batch;
    if (batch->at == batch->count) {
        batch->at = batch->freed = 0;
        batch->count = lane_pop(l, (void **)batch->msg, most);
    }
    if (ASH_LIKELY(batch->count != 0))
        return true;
    lane_leave(w);
    return false;
}

/* Any lane, beginning behind the one that it had last. */
static bool worker_take(struct bus_worker *w, unsigned max)
{
    struct ash_bus *b = w->bus;
    uint32_t n = load_acquire(&b->subsystems); /* pairs with subsystem_add */
    bus_use(b);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = w->next < n ? w->next : 0;
        w->next = at + 1;
        if (lane_take(w, b->subsystem[at], max))
            return true;
    }
    return false;
}

/* Handles what it has taken: how many. */
static unsigned worker_handle(struct bus_worker *w, unsigned max)
{
    struct subsystem *s = w->subsystem;
    enum lane_event event = lane_cross(&s->lane);
    if (ASH_UNLIKELY(event != LANE_NONE))
        bus_cross(s, event);
    unsigned n = batch_handle(w, max);
    lane_leave(w);
    return n;
}

static void self_enter(struct bus_worker *w)
{
    w->outer = bus_self;
    w->generation = load_relaxed(&w->bus->generation);
    bus_self = w;
}

static void self_leave(struct bus_worker *w)
{
    bus_self = w->outer;
    w->outer = NULL;
}

static unsigned bus_work(struct bus_worker *w, unsigned max)
{
    unsigned n = 0;
    self_enter(w);
    while (n < max && worker_take(w, max - n))
        n += worker_handle(w, max - n);
    self_leave(w);
    return n;
}

/*
 * Its message is a dead letter, and what it had behind that goes on: of an ordered lane with
 * whoever claims it next; of an unordered one there is nothing else.
 */
void bus_lost(struct bus_worker *w)
{
    struct subsystem *s = w->subsystem;
    self_leave(w);
    if (s != NULL) {
        add_relaxed(&w->bus->lost, 1);
        if (worker_forked(w))
            batch_disown(w);
        else if (w->msg != NULL)
            batch_dead(w, ASH_BUS_LOST);
        w->msg = NULL;
        lane_leave(w);
    }
    if (w->index < w->bus->workers)
        bus_replace(w);
    else
        store_release(&w->taken, 0); /* the poller's place; pairs with place_enter */
}

/* ---- the threads of the bus ---- */

bool bus_look(const struct ash_bus *b)
{
    uint32_t n = load_acquire(&b->subsystems); /* pairs with subsystem_add */
    for (uint32_t i = 0; i < n; i++)
        if (lane_open(&b->subsystem[i]->lane))
            return true;
    return false;
}

/* Nothing is pending, and nothing will be. */
static bool bus_is_over(const struct ash_bus *b)
{
    /* acquire: the lanes are closed; pairs with ash_bus_stop */
    return (load_acquire(&b->state) & BUS_SHUT) != 0 && bus_pending(b) == 0;
}

void bus_wake_all(struct ash_bus *b)
{
    fence_seq_cst(); /* the state; before the bits are read; pairs with park_enter */
    while (park_wake(&b->parking))
        ;
}

void bus_tell_quiet(struct ash_bus *b)
{
    fence_seq_cst(); /* what was handled is counted; pairs with drain_wait and park_enter */
    if (load_relaxed(&b->drainers) != 0) {
        add_release(&b->quiet, 1);
        os_wake(&b->quiet, UINT_MAX);
    }
    if (ASH_UNLIKELY(bus_is_over(b)))
        bus_wake_all(b);
}

/* It searches no more; another is woken if there is something else to be had. */
static void worker_found(struct ash_bus *b)
{
    if (park_found_last(&b->parking) && bus_look(b))
        park_wake(&b->parking);
}

/* False when the thread shall end. */
static bool worker_search(struct bus_worker *w)
{
    struct ash_bus *b = w->bus;
    add_relaxed(&b->parking.searching, 1);
    for (;;) {
        for (unsigned i = 0; i < BUS_SEARCH_ROUNDS; i++) {
            if (worker_take(w, BUS_BATCH)) {
                worker_found(b);
                return true;
            }
            for (unsigned k = 0; k < SEARCH_PAUSES; k++)
                relax();
        }
        park_enter(&b->parking, w->index);
        if (bus_look(b)) {
            park_leave(&b->parking, w->index);
        } else if ((load_acquire(&b->state) & BUS_ENDING) != 0 || /* pairs with threads_stop */
                   bus_is_over(b)) {
            park_leave(&b->parking, w->index);
            sub_relaxed(&b->parking.searching, 1);
            bus_tell_quiet(b);
            return false;
        } else {
            bus_tell_quiet(b);
            counter_add(&w->parked, 1);
            park_sleep(&b->parking, w->index);
        }
    }
}

void bus_thread(struct bus_worker *w)
{
    self_enter(w);
    while (worker_search(w))
        do
            worker_handle(w, BUS_BATCH);
        while (worker_take(w, BUS_BATCH));
    self_leave(w);
}

/* ---- pollers ---- */

bool place_enter(struct bus_worker *w)
{
    uint32_t taken = 0; /* acquire: the place as it was left; pairs with place_leave, bus_lost */
    return load_relaxed(&w->taken) == 0 && cas_strong_acquire(&w->taken, &taken, 1);
}

void place_leave(struct bus_worker *w)
{
    store_release(&w->taken, 0); /* pairs with place_enter */
}

static void place_lost(void *w)
{
    bus_lost(w);
    bus_tell_quiet(((struct bus_worker *)w)->bus);
}

unsigned place_work(struct bus_worker *w, unsigned max)
{
    unsigned n;
    pthread_cleanup_push(place_lost, w);
    n = bus_work(w, max);
    pthread_cleanup_pop(0);
    return n;
}

/* The place of poller number `i`, taken; NULL and errno. */
static struct bus_worker *poller_enter(struct ash_bus *b, unsigned i)
{
    errno = EINVAL;
    if (b == NULL || i >= b->pollers)
        return NULL;
    bus_use(b);
    struct bus_worker *w = &b->worker[b->workers + i];
    if (place_enter(w))
        return w;
    errno = EBUSY;
    return NULL;
}

ASH_API unsigned ash_bus_poll(struct ash_bus *b, unsigned worker, unsigned max)
{
    struct bus_worker *w = poller_enter(b, worker);
    if (w == NULL)
        return 0;
    unsigned n = place_work(w, max);
    place_leave(w);
    bus_tell_quiet(b);
    return n;
}

/* Sleeps as a worker does, until the clock says `until`; false: the time is over. */
static bool poller_sleep(struct bus_worker *w, int64_t until)
{
    struct parking *p = &w->bus->parking;
    _Atomic(uint32_t) *asleep = &p->slot[w->index].asleep;
    counter_add(&w->parked, 1);
    while (load_acquire(asleep) != 0) { /* pairs with park_wake */
        int64_t left = os_left(until);
        if (left == 0) {
            park_leave(p, w->index);
            return false;
        }
        os_wait(asleep, 1, left);
    }
    return true;
}

ASH_API int ash_bus_wait(struct ash_bus *b, unsigned worker, int64_t timeout_ns)
{
    struct bus_worker *w = poller_enter(b, worker);
    int status = 1;
    if (w == NULL)
        return -errno;
    int64_t until = os_until(timeout_ns);
    bool in_time = true;
    add_relaxed(&b->parking.searching, 1);
    while (status > 0) {
        park_enter(&b->parking, w->index);
        if (bus_look(b))
            status = 0;
        else if (bus_is_over(b))
            status = -ECANCELED;
        else if (!in_time)
            status = -ETIMEDOUT;
        if (status <= 0)
            park_leave(&b->parking, w->index);
        else
            in_time = poller_sleep(w, until);
    }
    worker_found(b);
    place_leave(w);
    return status;
}
