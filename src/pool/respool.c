#include "pool/respool.h"

#include "heap/front.h"
#include "os/os_clock.h"
#include "os/os_wait.h"

#include <errno.h>
#include <string.h>

#define NS_PER_MS 1000000

/* A few milliseconds behind CLOCK_MONOTONIC, at a tenth of the cost. */
static int64_t clock_coarse(void)
{
    return (int64_t)os_clock_ms() * NS_PER_MS;
}

/* ---- the table ---- */

static struct resource **bucket_of(const struct ash_respool *p, const void *res)
{
    uint64_t hash = (uint64_t)(uintptr_t)res * 0x9e3779b97f4a7c15;
    return &p->buckets[hash >> 32 & p->bucket_mask];
}

/* Where the resource is linked; a link that is NULL if it is not there. */
static struct resource **table_find(const struct ash_respool *p, const void *res)
{
    struct resource **at = bucket_of(p, res);
    while (*at != NULL && (*at)->res != res)
        at = &(*at)->chain;
    return at;
}

/* Twice the buckets; if there is no memory for them the chains grow longer. */
static void table_grow(struct ash_respool *p)
{
    struct resource **old = p->buckets;
    size_t count = p->bucket_mask + 1;
    struct resource **buckets = front_calloc(2 * count, sizeof(void *));
    if (buckets == NULL)
        return;
    p->buckets = buckets;
    p->bucket_mask = 2 * count - 1;
    for (size_t i = 0; i < count; i++)
        for (struct resource *e = old[i], *next; e != NULL; e = next) {
            struct resource **at = bucket_of(p, e->res);
            next = e->chain;
            e->chain = *at;
            *at = e;
        }
    if (old != p->inline_buckets)
        front_free(old);
}

static bool table_add(struct ash_respool *p, struct resource *e)
{
    if (p->resources > p->bucket_mask)
        table_grow(p);
    struct resource **at = table_find(p, e->res);
    if (*at != NULL)
        return false;
    e->chain = NULL;
    *at = e;
    p->resources++;
    return true;
}

static void table_remove(struct ash_respool *p, struct resource *e)
{
    *table_find(p, e->res) = e->chain;
    p->resources--;
}

void respool_fini(struct ash_respool *p)
{
    if (p->buckets != p->inline_buckets)
        front_free(p->buckets);
}

/* ---- the idle list; the lock is held ---- */

static void idle_push(struct ash_respool *p, struct resource *e)
{
    e->out = false;
    e->newer = NULL;
    e->older = p->newest;
    *(p->newest != NULL ? &p->newest->newer : &p->oldest) = e;
    p->newest = e;
    counter_add(&p->counts.idle, 1);
}

static void idle_remove(struct ash_respool *p, struct resource *e)
{
    *(e->newer != NULL ? &e->newer->older : &p->newest) = e->older;
    *(e->older != NULL ? &e->older->newer : &p->oldest) = e->newer;
    counter_add(&p->counts.idle, (uint64_t)-1);
}

/* ---- granting; the lock is held ---- */

/* Takes the first waiter off the queue; NULL: nobody waits. */
static _Atomic(uint32_t) *grant(struct ash_respool *p, enum grant what, struct resource *given)
{
    struct waiter *w = p->first;
    if (w == NULL)
        return NULL;
    p->first = w->next;
    if (p->first == NULL)
        p->last = &p->first;
    counter_add(&p->counts.waiting, (uint64_t)-1);
    w->grant = what;
    w->given = given;
    store_release(&w->word, 1); /* the grant; pairs with queue_wait */
    return &w->word;
}

static void wake(_Atomic(uint32_t) *word)
{
    if (word != NULL)
        os_wake(word, 1);
}

/* One is open no more: the right to open one goes to who waits, or is free. */
static _Atomic(uint32_t) *open_give(struct ash_respool *p)
{
    _Atomic(uint32_t) *word = grant(p, GRANT_OPEN, NULL);
    if (word == NULL)
        counter_add(&p->counts.open, (uint64_t)-1);
    return word;
}

/* ---- the life of a resource ---- */

static bool is_worn(const struct ash_respool *p, const struct resource *e, int64_t now)
{
    return (p->config.ttl_ns != 0 && now - e->born >= p->config.ttl_ns) ||
           (p->config.max_uses != 0 && e->uses >= p->config.max_uses);
}

/*
 * Calls `open` by a right to do so, which is given on if it fails. The resource is out, and in the
 * table.
 */
static int resource_open(struct ash_respool *p, struct resource **out)
{
    struct resource *e = front_calloc(1, sizeof *e);
    int status = e == NULL ? -ENOMEM : p->config.open(&e->res, p->config.user);
    status = status > 0 ? -status : status;
    os_lock(&p->lock);
    if (status == 0) {
        e->born = e->good = e->released = (int64_t)os_clock_ns();
        e->out = true;
        if (!table_add(p, e))
            status = -EEXIST;
    }
    counter_add(status == 0 ? &p->counts.opened : &p->counts.open_failures, 1);
    _Atomic(uint32_t) *word = status == 0 ? NULL : open_give(p);
    os_unlock(&p->lock);
    wake(word);
    if (status != 0)
        front_free(e);
    *out = status == 0 ? e : NULL;
    return status;
}

/* Calls `close` on one that is out and not in the table any more; the right to open stays. */
static void resource_close(struct ash_respool *p, struct resource *e)
{
    if (p->config.close != NULL)
        p->config.close(e->res, p->config.user);
    front_free(e);
}

/* The same for one that is out, for the reason that the counter stands for. The lock is held. */
static void resource_drop(struct ash_respool *p, struct resource *e, _Atomic(uint64_t) *reason)
{
    table_remove(p, e);
    counter_add(&p->counts.closed, 1);
    if (reason != NULL)
        counter_add(reason, 1);
    os_unlock(&p->lock);
    resource_close(p, e);
}

/* And gives the right to open on. */
static void resource_discard(struct ash_respool *p, struct resource *e, _Atomic(uint64_t) *reason)
{
    resource_drop(p, e, reason);
    os_lock(&p->lock);
    _Atomic(uint32_t) *word = open_give(p);
    os_unlock(&p->lock);
    wake(word);
}

/* A resource that is out goes to who waits, to the idle ones, or away. The lock is held. */
static void resource_return(struct ash_respool *p, struct resource *e, int64_t now)
{
    bool worn = is_worn(p, e, now);
    if (worn || p->closed ||
        (p->first == NULL && load_relaxed(&p->counts.open) > p->config.soft_max)) {
        resource_discard(p, e, worn ? &p->counts.expired : NULL);
        return;
    }
    e->released = now;
    _Atomic(uint32_t) *word = grant(p, GRANT_RESOURCE, e);
    if (word == NULL)
        idle_push(p, e);
    else
        e->out = true;
    os_unlock(&p->lock);
    wake(word);
}

/* ---- acquire ---- */

/* What there is without waiting. The lock is held. */
static enum grant claim(struct ash_respool *p, struct resource **e)
{
    if (p->closed)
        return GRANT_CANCEL;
    *e = p->config.order == ASH_LIFO ? p->newest : p->oldest;
    if (*e != NULL) {
        idle_remove(p, *e);
        (*e)->out = true;
        return GRANT_RESOURCE;
    }
    if (load_relaxed(&p->counts.open) == p->config.hard_max)
        return GRANT_NONE;
    counter_add(&p->counts.open, 1);
    return GRANT_OPEN;
}

static void queue_remove(struct ash_respool *p, struct waiter *w)
{
    struct waiter **at = &p->first;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (w->next == NULL)
        p->last = at;
    counter_add(&p->counts.waiting, (uint64_t)-1);
}

/* Sleeps until something is granted, or the time is over: then GRANT_NONE. The lock is held. */
static enum grant queue_wait(struct ash_respool *p, int64_t timeout_ns, struct resource **e)
{
    struct waiter w = {.grant = GRANT_NONE};
    int64_t from = (int64_t)os_clock_ns(), now = from;
    *p->last = &w;
    p->last = &w.next;
    counter_add(&p->counts.waiting, 1);
    counter_add(&p->counts.waits, 1);
    os_unlock(&p->lock);
    while (load_acquire(&w.word) == 0 && (timeout_ns < 0 || now - from < timeout_ns)) {
        os_wait(&w.word, 0, timeout_ns < 0 ? -1 : timeout_ns - (now - from));
        now = (int64_t)os_clock_ns();
    }
    os_lock(&p->lock);
    counter_add(&p->counts.wait_ns, (uint64_t)(now - from));
    if (w.grant == GRANT_NONE)
        queue_remove(p, &w);
    *e = w.given;
    return w.grant;
}

/* Whether a resource that was claimed may be used; NULL for the reason why it may not: it may. */
static _Atomic(uint64_t) *unfit(struct ash_respool *p, struct resource *e)
{
    const struct ash_respool_config *c = &p->config;
    int64_t now = c->ttl_ns != 0 || c->check != NULL ? clock_coarse() : 0;
    if (is_worn(p, e, now))
        return &p->counts.expired;
    if (c->check == NULL || (c->check_ns != 0 && now - e->good < c->check_ns))
        return NULL;
    if (c->check(e->res, c->user) != 0)
        return &p->counts.check_failures;
    e->good = now;
    return NULL;
}

int respool_acquire(struct ash_respool *p, void **res, int64_t timeout_ns)
{
    struct resource *e = NULL;
    os_lock(&p->lock);
    enum grant what = claim(p, &e);
    if (ASH_UNLIKELY(what == GRANT_NONE && timeout_ns != 0))
        what = queue_wait(p, timeout_ns, &e);
    if (ASH_UNLIKELY(what == GRANT_NONE))
        counter_add(&p->counts.timeouts, 1);
    if (what == GRANT_RESOURCE)
        counter_add(&p->counts.hits, 1);
    else if (what == GRANT_OPEN)
        counter_add(&p->counts.misses, 1);
    os_unlock(&p->lock);
    if (what == GRANT_NONE || what == GRANT_CANCEL)
        return what == GRANT_NONE ? -ETIMEDOUT : -ECANCELED;

    _Atomic(uint64_t) *reason = what == GRANT_RESOURCE ? unfit(p, e) : NULL;
    if (ASH_UNLIKELY(reason != NULL)) {
        os_lock(&p->lock);
        resource_drop(p, e, reason);
    }
    if (ASH_UNLIKELY(what == GRANT_OPEN || reason != NULL)) {
        int status = resource_open(p, &e);
        if (status != 0)
            return status;
    }
    e->uses++;
    *res = e->res;
    return 0;
}

/* ---- giving back ---- */

int respool_release(struct ash_respool *p, void *res, bool broken)
{
    const struct ash_respool_config *c = &p->config;
    bool timed = c->ttl_ns != 0 || c->idle_ns != 0 || (c->check != NULL && c->check_ns != 0);
    int64_t now = timed ? clock_coarse() : 0;
    os_lock(&p->lock);
    struct resource *e = *table_find(p, res);
    if (ASH_UNLIKELY(e == NULL || !e->out)) {
        os_unlock(&p->lock);
        return -EINVAL;
    }
    e->out = false; /* a second release finds that it is not */
    if (ASH_UNLIKELY(broken)) {
        resource_discard(p, e, &p->counts.invalidated);
        return 0;
    }
    e->good = now;
    resource_return(p, e, now);
    return 0;
}

void respool_close(struct ash_respool *p)
{
    os_lock(&p->lock);
    p->closed = true;
    for (_Atomic(uint32_t) *word; (word = grant(p, GRANT_CANCEL, NULL)) != NULL;)
        wake(word);
    for (struct resource *e; (e = p->newest) != NULL; os_lock(&p->lock)) {
        idle_remove(p, e);
        resource_discard(p, e, NULL);
    }
    os_unlock(&p->lock);
}

/* ---- maintenance ---- */

int respool_fill(struct ash_respool *p)
{
    int status = 0;
    os_lock(&p->lock);
    while (status == 0 && !p->closed && load_relaxed(&p->counts.open) < p->config.min) {
        struct resource *e;
        counter_add(&p->counts.open, 1);
        os_unlock(&p->lock);
        status = resource_open(p, &e);
        os_lock(&p->lock);
        if (status == 0) {
            e->out = false;
            resource_return(p, e, e->born);
            os_lock(&p->lock);
        }
    }
    os_unlock(&p->lock);
    return status;
}

/* Why an idle resource is to be closed; NULL: it is not. The lock is held. */
static _Atomic(uint64_t) *is_due(struct ash_respool *p, const struct resource *e, int64_t now)
{
    const struct ash_respool_config *c = &p->config;
    bool idled = c->idle_ns != 0 && now - e->released >= c->idle_ns;
    return is_worn(p, e, now) || (idled && load_relaxed(&p->counts.open) > c->min)
               ? &p->counts.expired
               : NULL;
}

static bool is_check_due(const struct ash_respool *p, const struct resource *e, int64_t now)
{
    const struct ash_respool_config *c = &p->config;
    return c->check != NULL && c->check_ns != 0 && now - e->good >= c->check_ns;
}

/* Deals with the first idle resource, from the oldest on, that something is due for. */
static bool maintain_one(struct ash_respool *p, int64_t now)
{
    _Atomic(uint64_t) *reason = NULL;
    os_lock(&p->lock);
    struct resource *e = p->oldest;
    while (e != NULL && (reason = is_due(p, e, now)) == NULL && !is_check_due(p, e, now))
        e = e->newer;
    if (e == NULL) {
        os_unlock(&p->lock);
        return false;
    }
    idle_remove(p, e);
    if (reason == NULL) {
        os_unlock(&p->lock);
        if (p->config.check(e->res, p->config.user) != 0)
            reason = &p->counts.check_failures;
        os_lock(&p->lock);
    }
    if (reason != NULL) {
        resource_discard(p, e, reason);
    } else {
        int64_t released = e->released; /* it has idled all the while */
        e->good = now;
        resource_return(p, e, released);
    }
    return true;
}

int respool_maintain(struct ash_respool *p, int64_t now)
{
    if (now < 0)
        now = (int64_t)os_clock_ns();
    while (maintain_one(p, now))
        ;
    return respool_fill(p);
}
