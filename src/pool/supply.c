#include "pool/supply.h"

#include "heap/error.h"
#include "pool/pool_guard.h"

#include <errno.h>
#include <string.h>

/* ---- constructing ---- */

/* 0, or the errno with which the constructor failed. */
static int construct(struct ash_pool *pool, uint32_t number)
{
    const struct store *s = &pool->store;
    void *obj = store_object(s, number);
    int status = 0;
    if ((pool->dress & DRESS_TOOL) != 0)
        guard_tool_open(obj, s->size, false);
    if ((pool->flags & ASH_POOL_ZERO) != 0 && pool->ctor != NULL)
        memset(obj, 0, s->size);
    if (pool->ctor != NULL)
        status = pool->ctor(obj, pool->user);
    if ((pool->dress & DRESS_DEBUG) != 0)
        guard_init(s, obj, pool->keeps);
    if ((pool->dress & DRESS_TOOL) != 0)
        guard_tool_shut(obj, s->stride); /* what lies behind it as well */
    return status < 0 ? -status : status;
}

void supply_destruct(struct ash_pool *pool, uint32_t number)
{
    void *obj = store_object(&pool->store, number);
    if (pool->dtor == NULL)
        return;
    if ((pool->dress & DRESS_TOOL) != 0)
        guard_tool_open(obj, pool->store.size, true);
    pool->dtor(obj, pool->user);
    if ((pool->dress & DRESS_TOOL) != 0)
        guard_tool_shut(obj, pool->store.size);
}

/* ---- objects that begin to exist ---- */

/* Counts up to `n` objects as created, as far as the bounds allow. */
static uint32_t created_claim(struct ash_pool *pool, uint32_t n, int *error)
{
    uint32_t bound = pool_bound(pool, error);
    uint32_t seen = load_relaxed(&pool->created);
    for (;;) {
        uint32_t left = seen < bound ? bound - seen : 0;
        uint32_t take = n < left ? n : left;
        if (take == 0 || cas_relaxed(&pool->created, &seen, seen + take))
            return take;
    }
}

/* Fills a blank batch with up to `n` objects that do not exist; how many. */
static uint32_t fill(struct ash_pool *pool, struct batch *batch, uint32_t n)
{
    struct depot *d = &pool->depot;
    uint32_t b = depot_pop(d, DEPOT_SPARE);
    if (b == 0)
        return batch->count = store_carve(&pool->store, batch->object, n);
    struct batch *spare = depot_batch(d, b);
    while (batch->count < n && spare->count != 0)
        batch->object[batch->count++] = batch_take(spare);
    depot_return(d, DEPOT_SPARE, b);
    return batch->count;
}

/* Constructs what is in the batch, from its end; what is left when one fails does not exist. */
static int construct_batch(struct ash_pool *pool, struct batch *batch)
{
    uint32_t left = batch->count;
    int status = 0;
    while (left != 0 && (status = construct(pool, batch->object[left - 1])) == 0)
        left--;
    for (uint32_t i = 0; i < left; i++)
        depot_put(&pool->depot, DEPOT_SPARE, batch->object[i]);
    batch->count -= left;
    memmove(batch->object, batch->object + left, batch->count * sizeof *batch->object);
    sub_relaxed(&pool->created, left);
    return status;
}

/*
 * A batch of up to `n` objects that begin to exist, constructed if `now`; 0: none. *error is set,
 * also when a constructor failed after others had not.
 * The batches to hold them all are made first, so that each can always be put back.
 */
static uint32_t create(struct ash_pool *pool, uint32_t n, bool now, int *error)
{
    struct depot *d = &pool->depot;
    uint32_t take = created_claim(pool, n < d->room ? n : d->room, error);
    if (take == 0)
        return 0;
    uint64_t threads = load_relaxed(&pool->magazine_count) + 2;
    uint64_t objects = load_relaxed(&pool->store.carved) + take;
    uint32_t b = depot_ensure(d, objects + threads * d->room) ? depot_blank(d) : 0;
    uint32_t got = b == 0 ? 0 : fill(pool, depot_batch(d, b), take);
    sub_relaxed(&pool->created, take - got);
    *error = got == 0 ? ENOMEM : now ? construct_batch(pool, depot_batch(d, b)) : 0;
    if (b != 0 && depot_batch(d, b)->count == 0) {
        depot_push(d, DEPOT_BLANK, b);
        b = 0;
    }
    return b;
}

/* A batch with one preallocated object, now constructed; 0: none, or *error says why it failed. */
static ASH_COLD uint32_t raw_one(struct ash_pool *pool, int *error)
{
    struct depot *d = &pool->depot;
    uint32_t from = depot_pop(d, DEPOT_RAW);
    if (from == 0)
        return 0;
    uint32_t number = batch_take(depot_batch(d, from));
    depot_return(d, DEPOT_RAW, from);
    uint32_t b = depot_blank(d);
    *error = b == 0 ? ENOMEM : construct(pool, number);
    if (*error == 0) {
        struct batch *batch = depot_batch(d, b);
        batch->object[batch->count++] = number;
        return b;
    }
    depot_put(d, DEPOT_RAW, number);
    if (b != 0)
        depot_push(d, DEPOT_BLANK, b);
    return 0;
}

uint32_t supply_batch(struct ash_pool *pool, int *error)
{
    struct depot *d = &pool->depot;
    *error = 0;
    if (pool->lazy) {
        uint32_t b = raw_one(pool, error);
        return b != 0 || *error != 0 ? b : create(pool, 1, true, error);
    }
    uint32_t first = create(pool, d->room, true, error);
    bool eager = (pool->flags & ASH_POOL_EAGER) != 0;
    for (int status = *error; first != 0 && eager && status == 0;) {
        uint32_t b = store_left(&pool->store) == 0 ? 0 : create(pool, d->room, true, &status);
        if (b == 0)
            break;
        depot_push(d, DEPOT_FULL, b);
    }
    return first;
}

ASH_COLD int supply_ahead(struct ash_pool *pool, uint32_t n)
{
    int error = 0;
    while (n != 0 && error == 0) {
        uint32_t b = create(pool, n, !pool->lazy, &error);
        if (b == 0)
            return error;
        n -= depot_batch(&pool->depot, b)->count;
        depot_push(&pool->depot, pool->lazy ? DEPOT_RAW : DEPOT_FULL, b);
    }
    return error;
}

/* ---- free objects ---- */

void supply_report(const struct ash_pool *pool, const void *p)
{
    char name[POOL_NAME];
    const struct store_chunk *c = store_chunk_of(p);
    bool inside = c != NULL && c->store == &pool->store;
    pool_name_get(pool, name);
    error_pool_put(name, p, inside ? "which is not where an object begins" : "which is not its");
}

uint32_t supply_give(struct ash_pool *pool, void *const *objs, uint32_t n)
{
    struct depot *d = &pool->depot;
    uint32_t good = 0, single;
    while (n != 0) {
        uint32_t b = n == 1 ? 0 : depot_blank(d);
        struct batch *batch = b == 0 ? NULL : depot_batch(d, b);
        uint32_t most = b == 0 ? 1 : n < d->room ? n : d->room;
        uint32_t *to = b == 0 ? &single : batch->object;
        uint32_t done = 0;
        while (done < most) {
            uint32_t k = store_numbers(&pool->store, objs + done, most - done, to + done);
            if (ASH_UNLIKELY(k == 0))
                break;
            done += k;
        }
        if (b != 0) {
            batch->count = done;
            depot_return(d, DEPOT_FULL, b);
        } else if (done != 0) {
            depot_put(d, DEPOT_FULL, single);
        }
        good += done;
        if (ASH_UNLIKELY(done < most))
            supply_report(pool, objs[done++]);
        objs += done;
        n -= done;
    }
    return good;
}

ASH_COLD void supply_sweep(struct ash_pool *pool)
{
    struct magazine *m = load_acquire(&pool->magazines); /* pairs with pool_magazine */
    for (; m != NULL; m = load_acquire(&m->next)) {
        uint32_t seen = MAGAZINE_LEFT;
        /* acquire: what is in it; pairs with the release that left it */
        if (magazine_count(m) == 0 || !cas_strong_acq_rel(&m->state, &seen, MAGAZINE_OWNED))
            continue;
        uint32_t n = magazine_count(m);
        magazine_set(m, 0); /* first: see pool/magazine.h on forks */
        counter_add(&m->given, supply_give(pool, m->head.ash_object, n));
        store_release(&m->state, MAGAZINE_LEFT); /* pairs with whoever takes it next */
    }
}

uint32_t supply_any(struct ash_pool *pool, int *error)
{
    uint32_t b = depot_pop(&pool->depot, DEPOT_FULL);
    if (b == 0 && load_relaxed(&pool->abandoned) != 0 &&
        exchange_acquire(&pool->abandoned, 0) != 0) { /* pairs with magazine_leave */
        supply_sweep(pool);
        b = depot_pop(&pool->depot, DEPOT_FULL);
    }
    return b != 0 ? b : supply_batch(pool, error);
}
