#include "pool/pool_census.h"

#include "heap/front.h"
#include "os/check.h"
#include "pool/pool_guard.h"
#include "pool/magazine.h"
#include "pool/supply.h"

#include <errno.h>
#include <inttypes.h>

/* ---- one walk over everything that is free ---- */

struct census {
    struct ash_pool *pool;
    uint64_t *free;   /* a bit an object: free in the depot or in a magazine */
    uint64_t *absent; /* a bit an object: it is not constructed, or does not exist */
    uint64_t found;   /* objects with either */
    int faults;
    char name[POOL_NAME];
};

static bool bit_get(const uint64_t *bits, uint32_t number)
{
    return (bits[number / 64] >> (number % 64) & 1) != 0;
}

static void fault(struct census *c, const char *what, const void *obj)
{
    warn_line("audit of pool %s: %p %s", c->name, obj, what);
    c->faults++;
}

/* Whether there is such an object. */
static bool number_is_good(const struct store *s, uint32_t number)
{
    const struct store_chunk *chunk =
        (number >> s->bits) < load_relaxed(&s->top) ? store_chunk(s, number) : NULL;
    return chunk != NULL && store_index(s, number) < store_carved(s, chunk);
}

static void found(struct census *c, uint32_t number, uint64_t *bits)
{
    void *obj = store_object(&c->pool->store, number);
    if (bit_get(c->free, number) || bit_get(c->absent, number)) {
        fault(c, "was put twice", obj);
        return;
    }
    bits[number / 64] |= (uint64_t)1 << number % 64;
    c->found++;
}

static ASH_COLD void count_stack(struct census *c, enum depot_stack which, uint64_t *bits)
{
    const struct depot *d = &c->pool->depot;
    for (uint32_t b = depot_first(d, which); b != 0; b = depot_below(d, b)) {
        const struct batch *batch = depot_batch(d, b);
        for (uint32_t i = 0; i < batch->count; i++)
            if (number_is_good(&c->pool->store, batch->object[i]))
                found(c, batch->object[i], bits);
            else
                fault(c, "is a batch with a wrong number", batch);
    }
}

static ASH_COLD void count_magazine(struct census *c, const struct magazine *m)
{
    uint32_t count = magazine_count(m);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = store_number(&c->pool->store, m->head.ash_object[i]);
        if (number != STORE_NONE && number_is_good(&c->pool->store, number))
            found(c, number, c->free);
        else
            fault(c, "was put and is no object of it", m->head.ash_object[i]);
    }
}

/* 0 or -ENOMEM; census_end is due after 0. */
static ASH_COLD int census_begin(struct census *c, struct ash_pool *pool)
{
    *c = (struct census){.pool = pool};
    size_t words = (((size_t)load_relaxed(&pool->store.top) << pool->store.bits) + 63) / 64;
    c->free = front_calloc(2 * words + 1, sizeof *c->free);
    if (c->free == NULL)
        return -ENOMEM;
    c->absent = c->free + words;
    pool_name_get(pool, c->name);
    count_stack(c, DEPOT_FULL, c->free);
    count_stack(c, DEPOT_RAW, c->absent);
    count_stack(c, DEPOT_SPARE, c->absent);
    const struct magazine *m = load_acquire(&pool->magazines); /* pairs with pool_magazine */
    for (; m != NULL; m = load_acquire(&m->next))
        count_magazine(c, m);
    return 0;
}

static void census_end(struct census *c)
{
    front_free(c->free);
}

/*
 * Calls `fn` for every object that has been carved, until it answers something else than 0, which
 * is returned. `fn` may use the pool: memory that comes meanwhile is not seen.
 */
static ASH_COLD int census_walk(struct census *c,
                                int (*fn)(struct census *c, uint32_t number, void *arg), void *arg)
{
    const struct store *s = &c->pool->store;
    uint32_t top = load_relaxed(&s->top);
    int status = 0;
    for (uint32_t i = 0; i < top && status == 0; i++) {
        const struct store_chunk *chunk = table_get(&s->chunks, i);
        uint32_t n = chunk == NULL ? 0 : store_carved(s, chunk);
        for (uint32_t k = 0; k < n && status == 0; k++)
            status = fn(c, i << s->bits | k, arg);
    }
    return status;
}

/* ---- audit ---- */

static ASH_COLD int audit_guard(struct census *c, uint32_t number, void *arg)
{
    const struct ash_pool *pool = c->pool;
    const void *obj = store_object(&pool->store, number);
    (void)arg;
    if (bit_get(c->absent, number))
        return 0;
    bool free = bit_get(c->free, number);
    if (guard_state(obj) != (free ? GUARD_FREE : GUARD_OUT))
        fault(c, "has a wrong head: the bytes before it were written", obj);
    if (guard_overrun(&pool->store, obj) != GUARD_INTACT)
        fault(c, "was written behind its end", obj);
    if (free && guard_written(&pool->store, obj, pool->keeps) != GUARD_INTACT)
        fault(c, "was written after it was put", obj);
    return 0;
}

ASH_API ASH_COLD int ash_pool_audit(struct ash_pool *pool)
{
    struct census c;
    struct pool_sums sums;
    if (!pool_is_live(pool))
        return -EINVAL;
    if (census_begin(&c, pool) != 0)
        return -ENOMEM;
    if ((pool->dress & DRESS_DEBUG) != 0)
        (void)census_walk(&c, audit_guard, NULL);
    pool_sum(pool, &sums);
    uint64_t carved = load_relaxed(&pool->store.carved);
    if (c.faults == 0 && c.found + sums.in_use != carved) {
        warn_line("audit of pool %s: of %ju objects %ju are out and %ju are free", c.name,
                  (uintmax_t)carved, (uintmax_t)sums.in_use, (uintmax_t)c.found);
        c.faults++;
    }
    census_end(&c);
    return c.faults;
}

/* ---- each ---- */

struct each {
    int (*fn)(void *obj, int in_use, void *user);
    void *user;
};

static ASH_COLD int each_object(struct census *c, uint32_t number, void *arg)
{
    const struct each *each = arg;
    const struct ash_pool *pool = c->pool;
    void *obj = store_object(&pool->store, number);
    bool free = bit_get(c->free, number);
    if (bit_get(c->absent, number))
        return 0;
    if (free && (pool->dress & DRESS_TOOL) != 0)
        guard_tool_open(obj, pool->store.size, true);
    int status = each->fn(obj, !free, each->user);
    if (free && (pool->dress & DRESS_TOOL) != 0)
        guard_tool_shut(obj, pool->store.size);
    return status;
}

ASH_API ASH_COLD int ash_pool_each(struct ash_pool *pool,
                                   int (*fn)(void *obj, int in_use, void *user), void *user)
{
    struct census c;
    struct each each = {fn, user};
    if (!pool_is_live(pool) || fn == NULL)
        return -EINVAL;
    if (census_begin(&c, pool) != 0)
        return -ENOMEM;
    int status = census_walk(&c, each_object, &each);
    census_end(&c);
    return status;
}

/* ---- taking objects away ---- */

/*
 * The chunk of an object that the trimmer holds, which keeps it from going; its trimmer's fields
 * are of this trim.
 */
static struct store_chunk *chunk_of(struct ash_pool *pool, uint32_t number)
{
    struct store_chunk *c = store_chunk(&pool->store, number);
    if (c->trim != pool->trims) {
        c->trim = pool->trims;
        c->held = 0;
        c->doomed = false;
    }
    return c;
}

/* Takes all batches of a stack and counts their objects by chunk. */
static ASH_COLD uint32_t gather(struct ash_pool *pool, enum depot_stack which)
{
    struct depot *d = &pool->depot;
    uint32_t all = 0, b;
    while ((b = depot_pop(d, which)) != 0) {
        struct batch *batch = depot_batch(d, b);
        for (uint32_t i = 0; i < batch->count; i++)
            chunk_of(pool, batch->object[i])->held++;
        store_relaxed(&batch->link, all);
        all = b;
    }
    return all;
}

/* Finds the chunks that go: those of which nothing is elsewhere. */
static ASH_COLD void judge(struct ash_pool *pool, uint32_t all, struct store_chunk **doomed)
{
    for (; all != 0; all = depot_below(&pool->depot, all)) {
        struct batch *batch = depot_batch(&pool->depot, all);
        for (uint32_t i = 0; i < batch->count; i++) {
            struct store_chunk *c = chunk_of(pool, batch->object[i]);
            if (!c->doomed && store_retire(&pool->store, c, c->held)) {
                c->doomed = true;
                c->next = *doomed;
                *doomed = c;
            }
        }
    }
}

/* Drops the objects of chunks that go, and puts the others back. How many objects went. */
static ASH_COLD uint32_t sift(struct ash_pool *pool, enum depot_stack which, uint32_t all)
{
    struct depot *d = &pool->depot;
    uint32_t gone = 0;
    for (uint32_t below; all != 0; all = below) {
        struct batch *batch = depot_batch(d, all);
        uint32_t kept = 0;
        below = depot_below(d, all);
        for (uint32_t i = 0; i < batch->count; i++) {
            uint32_t number = batch->object[i];
            if (!chunk_of(pool, number)->doomed)
                batch->object[kept++] = number;
            else if (which == DEPOT_FULL)
                supply_destruct(pool, number);
        }
        gone += batch->count - kept;
        batch->count = kept;
        depot_return(d, which, all);
    }
    return gone;
}

ASH_COLD uint32_t census_trim(struct ash_pool *pool)
{
    struct store_chunk *doomed = NULL, *next;
    uint32_t count = 0;
    pool->trims++;
    uint32_t full = gather(pool, DEPOT_FULL);
    uint32_t raw = gather(pool, DEPOT_RAW);
    uint32_t spare = gather(pool, DEPOT_SPARE);
    judge(pool, full, &doomed);
    judge(pool, raw, &doomed);
    judge(pool, spare, &doomed);
    uint32_t gone = sift(pool, DEPOT_FULL, full) + sift(pool, DEPOT_RAW, raw);
    (void)sift(pool, DEPOT_SPARE, spare);
    sub_relaxed(&pool->created, gone);
    for (; doomed != NULL; doomed = next, count++) {
        next = doomed->next;
        if ((pool->dress & DRESS_TOOL) != 0)
            guard_tool_leave(&pool->store, doomed);
        sub_relaxed(&pool->store.carved, doomed->held);
        store_give(&pool->store, doomed);
    }
    add_relaxed(&pool->trimmed, count);
    return count;
}

/* Takes free objects until there are `n`, or nothing is left: a list, and how many. */
static ASH_COLD uint32_t collect(struct depot *d, enum depot_stack which, uint32_t n, uint32_t *all)
{
    uint32_t got = 0, b;
    while (got < n && (b = depot_pop(d, which)) != 0) {
        got += depot_batch(d, b)->count;
        store_relaxed(&depot_batch(d, b)->link, *all);
        *all = b;
    }
    return got;
}

/* Ends the existence of up to `n` objects of a list, and puts the others back. */
static ASH_COLD uint32_t withdraw(struct ash_pool *pool, enum depot_stack which, uint32_t all,
                                  uint32_t n)
{
    struct depot *d = &pool->depot;
    uint32_t gone = 0;
    for (uint32_t below; all != 0; all = below) {
        struct batch *batch = depot_batch(d, all);
        below = depot_below(d, all);
        for (; gone < n && batch->count != 0; gone++) {
            uint32_t number = batch_take(batch);
            if (which == DEPOT_FULL)
                supply_destruct(pool, number);
            depot_put(d, DEPOT_SPARE, number);
        }
        depot_return(d, which, all);
    }
    return gone;
}

ASH_COLD bool census_withdraw(struct ash_pool *pool, uint32_t n)
{
    uint32_t raw = 0, full = 0;
    uint32_t got = collect(&pool->depot, DEPOT_RAW, n, &raw);
    if (got < n)
        got += collect(&pool->depot, DEPOT_FULL, n - got, &full);
    bool enough = got >= n;
    uint32_t gone = withdraw(pool, DEPOT_RAW, raw, enough ? n : 0);
    gone += withdraw(pool, DEPOT_FULL, full, enough ? n - gone : 0);
    sub_relaxed(&pool->created, gone);
    return enough;
}
