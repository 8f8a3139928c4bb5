#include "pool/magazine.h"

#include "heap/front.h"
#include "heap/thread.h"
#include "pool/supply.h"
#include "pool/tuner.h"

#include <string.h>

ASH_TLS struct magazine_set magazines;

const struct magazine magazine_none;

enum { SLOTS_LEAST = 16 };

/* ---- a thread's magazines ---- */

static ASH_COLD void magazines_end(void)
{
    for (uint32_t i = 0; i < magazines.count; i++)
        if (magazines.slot[i] != MAGAZINE_NONE)
            magazine_leave(magazines.slot[i]);
    front_free(magazines.slot);
    magazines = (struct magazine_set){.ended = true};
}

void magazine_boot(void)
{
    thread_at_end(magazines_end);
}

/* Makes the thread's table hold the slot; that gives the thread a heap, whose end is noticed. */
static ASH_COLD bool slots_grow(uint32_t slot)
{
    uint32_t count = magazines.count == 0 ? SLOTS_LEAST : magazines.count;
    while (count <= slot)
        count *= 2;
    struct magazine **fresh = front_malloc(count * sizeof *fresh);
    if (fresh == NULL)
        return false;
    if (magazines.count != 0)
        memcpy(fresh, magazines.slot, magazines.count * sizeof *fresh);
    for (uint32_t i = magazines.count; i < count; i++)
        fresh[i] = MAGAZINE_NONE;
    front_free(magazines.slot);
    magazines.slot = fresh;
    magazines.count = count;
    return true;
}

/* Gives a magazine that the caller owns room for `capacity` objects, if there is memory. */
static ASH_COLD void resize(struct magazine *m, uint32_t capacity)
{
    uint32_t count = magazine_count(m);
    if (count > capacity) {
        counter_add(&m->given, supply_give(m->pool, m->object, count - capacity));
        memmove(m->object, m->object + (count - capacity), capacity * sizeof *m->object);
        magazine_set(m, capacity);
    }
    if (capacity > m->room) {
        void **fresh = front_malloc(capacity * sizeof *fresh);
        if (fresh == NULL)
            return;
        if (m->object != NULL)
            memcpy(fresh, m->object, magazine_count(m) * sizeof *fresh);
        front_free(m->object);
        m->object = fresh;
        m->room = capacity;
    }
    store_relaxed(&m->capacity, capacity);
}

/* A magazine that a thread has left. */
static ASH_COLD struct magazine *adopt(struct ash_pool *pool)
{
    struct magazine *m = load_acquire(&pool->magazines); /* pairs with pool_magazine */
    for (; m != NULL; m = load_acquire(&m->next)) {
        uint32_t seen = MAGAZINE_LEFT;
        if (load_relaxed(&m->state) == MAGAZINE_LEFT &&
            cas_strong_acq_rel(&m->state, &seen, MAGAZINE_OWNED)) /* pairs with magazine_leave */
            return m;
    }
    return NULL;
}

ASH_COLD struct magazine *magazine_create(struct ash_pool *pool, uint32_t capacity)
{
    struct magazine *m = adopt(pool);
    if (m == NULL)
        m = pool_magazine(pool);
    if (m == NULL)
        return NULL;
    m->fixed = capacity;
    resize(m, capacity);
    if (load_relaxed(&m->capacity) != 0)
        return m;
    magazine_leave(m);
    return NULL;
}

static ASH_COLD struct magazine *attach(struct ash_pool *pool)
{
    uint32_t slot = pool->slot;
    if (magazines.ended || (slot >= magazines.count && !slots_grow(slot)))
        return &pool->direct;
    struct magazine *m = magazines.slot[slot];
    if (m != MAGAZINE_NONE)
        magazine_leave(m); /* of a pool that is gone */
    m = magazine_create(pool, load_relaxed(&pool->cache));
    magazines.slot[slot] = m == NULL ? MAGAZINE_NONE : m;
    if (m == NULL)
        return &pool->direct;
    m->fixed = 0;
    return m;
}

struct magazine *magazine_self(struct ash_pool *pool)
{
    if (pool->own != NULL)
        return pool->own;
    if (ASH_LIKELY(pool->slot < magazines.count)) {
        struct magazine *m = magazines.slot[pool->slot];
        if (ASH_LIKELY(m != MAGAZINE_NONE && load_relaxed(&m->state) != MAGAZINE_DEAD))
            return m;
    }
    return attach(pool);
}

/* ---- magazines that change hands ---- */

ASH_COLD void magazine_leave(struct magazine *m)
{
    struct ash_pool *pool = m->pool;
    uint32_t seen = MAGAZINE_OWNED;
    bool full = magazine_count(m) != 0;
    /* release: what is in it; pairs with adopt, supply_sweep and magazine_kill */
    if (!cas_strong_acq_rel(&m->state, &seen, MAGAZINE_LEFT))
        magazine_retire(m);
    else if (full)
        store_release(&pool->abandoned, 1); /* the state; pairs with supply_any */
}

ASH_COLD void magazine_kill(struct magazine *m)
{
    front_free(m->object);
    m->object = NULL;
    magazine_set(m, 0);
    store_relaxed(&m->capacity, 0);
    uint32_t seen = MAGAZINE_OWNED;
    if (!cas_strong_acq_rel(&m->state, &seen, MAGAZINE_DEAD)) /* pairs with magazine_leave */
        magazine_retire(m);
}

/* ---- exchange with the depot ---- */

/* Takes up to `n` objects out of a batch that the caller holds; the first to be used come last. */
static uint32_t unload(struct ash_pool *pool, struct batch *batch, void **objs, uint32_t n)
{
    uint32_t take = n < batch->count ? n : batch->count;
    batch->count -= take;
    store_objects(&pool->store, batch->object + batch->count, take, objs);
    return take;
}

/* Puts what is left of a batch into the magazine as far as it goes; the batch is gone then. */
static void load(struct magazine *m, uint32_t b)
{
    struct ash_pool *pool = m->pool;
    uint32_t count = magazine_count(m);
    uint32_t capacity = load_relaxed(&m->capacity);
    if (count < capacity) {
        uint32_t n =
            unload(pool, depot_batch(&pool->depot, b), m->object + count, capacity - count);
        magazine_count_up(m, taken, n);
        magazine_set(m, count + n);
    }
    depot_return(&pool->depot, DEPOT_FULL, b);
}

/* What misses and full magazines do beside their work. */
static void attend(struct magazine *m)
{
    struct ash_pool *pool = m->pool;
    uint32_t capacity = m->fixed != 0 ? m->fixed : load_relaxed(&pool->cache);
    if (m == &pool->direct)
        return;
    uint64_t word = load_relaxed(&m->word);
    counter_add(&m->hits, word / MAGAZINE_HIT);
    store_relaxed(&m->word, word_count(word));
    if (load_relaxed(&m->capacity) != capacity)
        resize(m, capacity);
}

/* Sends the `n` oldest objects to the depot. */
static void spill(struct magazine *m, uint32_t n)
{
    uint32_t count = magazine_count(m) - n;
    uint32_t good = supply_give(m->pool, m->object, n);
    memmove(m->object, m->object + n, count * sizeof *m->object);
    counter_add(&m->given, good);
    magazine_set(m, count);
}

void magazine_flush(struct magazine *m)
{
    if (magazine_count(m) != 0)
        spill(m, magazine_count(m));
}

void magazine_forget(struct magazine *m)
{
    for (uint32_t i = magazine_count(m); i < m->room; i++)
        m->object[i] = NULL;
}

/* ---- get and put ---- */

void *magazine_get(struct magazine *m, int *error)
{
    struct ash_pool *pool = m->pool;
    uint64_t word = load_relaxed(&m->word);
    if (word_count(word) != 0)
        return magazine_pop(m, word);
    attend(m);
    tuner_tick(pool);
    uint32_t b = supply_any(pool, error);
    if (b == 0)
        return NULL;
    void *obj = NULL;
    (void)unload(pool, depot_batch(&pool->depot, b), &obj, 1);
    magazine_count_up(m, taken, 1);
    magazine_count_up(m, misses, 1);
    load(m, b);
    return obj;
}

/* Makes room for `n` objects, if the magazine is for so many; its room. */
static uint32_t make_room(struct magazine *m, uint32_t n)
{
    attend(m);
    uint32_t count = magazine_count(m);
    uint32_t capacity = load_relaxed(&m->capacity);
    uint32_t half = count - count / 2;
    uint32_t over = count + n > capacity ? count + n - capacity : 0;
    if (over != 0 && over <= half) {
        spill(m, half);
        count -= half;
    }
    return capacity - count;
}

void magazine_put_bulk(struct magazine *m, void *const *objs, uint32_t n)
{
    uint32_t count = magazine_count(m);
    if (ASH_UNLIKELY(n > load_relaxed(&m->capacity) - count)) {
        if (n > make_room(m, n)) {
            magazine_count_up(m, given, supply_give(m->pool, objs, n));
            return;
        }
        count = magazine_count(m);
    }
    memcpy(m->object + count, objs, n * sizeof *objs);
    magazine_set(m, count + n);
}

void magazine_put(struct magazine *m, void *obj)
{
    magazine_put_bulk(m, &obj, 1);
}

int magazine_get_bulk(struct magazine *m, void **objs, uint32_t n)
{
    struct ash_pool *pool = m->pool;
    uint32_t count = magazine_count(m);
    uint32_t have = n < count ? n : count;
    if (have != 0) {
        memcpy(objs, m->object + (count - have), have * sizeof *objs);
        magazine_set(m, count - have);
    }
    if (have < n) {
        attend(m);
        tuner_tick(pool);
    }
    uint32_t got = have;
    while (got < n) {
        int error;
        uint32_t b = supply_any(pool, &error);
        if (b == 0) {
            magazine_put_bulk(m, objs, got);
            return error;
        }
        uint32_t k = unload(pool, depot_batch(&pool->depot, b), objs + got, n - got);
        magazine_count_up(m, taken, k);
        got += k;
        load(m, b);
    }
    magazine_count_up(m, hits, have);
    magazine_count_up(m, misses, n - have);
    return 0;
}
