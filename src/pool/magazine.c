#include "pool/magazine.h"

#include "heap/front.h"
#include "heap/thread.h"
#include "pool/supply.h"
#include "pool/tuner.h"

#include <string.h>

ASH_API ASH_TLS struct ash_pool_thread ash_pool_caches;

enum { NEAR = ASH_COUNT(ash_pool_caches.ash_near), FAR_LEAST = 2 * NEAR };

/* ---- a thread's magazines ---- */

/* Where the thread keeps its magazine of the pool at that slot; NULL: nowhere yet. */
static struct ash_pool_cache **place_of(uint32_t slot)
{
    struct ash_pool_thread *t = &ash_pool_caches;
    return slot < NEAR ? &t->ash_near[slot] : slot < t->ash_count ? &t->ash_far[slot] : NULL;
}

static ASH_COLD void places_end(void)
{
    struct ash_pool_thread *t = &ash_pool_caches;
    uint32_t count = t->ash_count == 0 ? NEAR : t->ash_count;
    for (uint32_t i = 0; i < count; i++)
        if (*place_of(i) != NULL)
            magazine_leave(magazine_of(*place_of(i)));
    front_free(t->ash_far);
    *t = (struct ash_pool_thread){.ash_ended = 1};
}

void magazine_boot(void)
{
    thread_at_end(places_end);
}

/* Makes the thread's table hold the slot. */
static ASH_COLD bool places_grow(uint32_t slot)
{
    struct ash_pool_thread *t = &ash_pool_caches;
    uint32_t count = t->ash_count == 0 ? FAR_LEAST : t->ash_count;
    while (count <= slot)
        count *= 2;
    struct ash_pool_cache **far = front_calloc(count, sizeof *far);
    if (far == NULL)
        return false;
    if (t->ash_count != 0)
        memcpy(far, t->ash_far, t->ash_count * sizeof *far);
    front_free(t->ash_far);
    t->ash_far = far;
    t->ash_count = count;
    return true;
}

/* Sends the `n` oldest objects to the depot. Until they are there the magazine counts as empty. */
static void spill(struct magazine *m, uint32_t n)
{
    uint32_t count = magazine_count(m) - n;
    magazine_set(m, 0);
    uint32_t good = supply_give(m->pool, m->head.ash_object, n);
    memmove(m->head.ash_object, m->head.ash_object + n, count * sizeof *m->head.ash_object);
    counter_add(&m->given, good);
    fence_fork();
    magazine_set(m, count);
}

/* Gives a magazine that the caller owns room for `capacity` objects, if there is memory. */
static ASH_COLD void resize(struct magazine *m, uint32_t capacity)
{
    uint32_t count = magazine_count(m);
    if (count > capacity)
        spill(m, count - capacity);
    if (capacity > m->room) {
        void **fresh = front_malloc(capacity * sizeof *fresh);
        void **old = m->head.ash_object;
        if (fresh == NULL)
            return;
        if (old != NULL)
            memcpy(fresh, old, magazine_count(m) * sizeof *fresh);
        m->head.ash_object = fresh;
        m->room = capacity;
        fence_fork();
        front_free(old);
    }
    magazine_capacity_set(m, capacity);
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
    if (magazine_capacity(m) != 0)
        return m;
    magazine_leave(m);
    return NULL;
}

/* A magazine for the thread, whose end is noticed from now on. */
static ASH_COLD struct magazine *attach(struct ash_pool *pool)
{
    struct heap *h = ash_pool_caches.ash_ended ? NULL : thread_enter();
    if (h == NULL)
        return &pool->direct;
    thread_leave(h);
    struct ash_pool_cache **place = place_of(pool->slot);
    if (place == NULL && places_grow(pool->slot))
        place = place_of(pool->slot);
    if (place == NULL)
        return &pool->direct;
    if (*place != NULL)
        magazine_leave(magazine_of(*place)); /* of a pool that is gone */
    struct magazine *m = magazine_create(pool, load_relaxed(&pool->cache));
    *place = m == NULL ? NULL : &m->head;
    if (m == NULL)
        return &pool->direct;
    m->fixed = 0;
    return m;
}

struct magazine *magazine_self(struct ash_pool *pool)
{
    if (pool->own != NULL)
        return pool->own;
    struct ash_pool_cache **place = place_of(pool->slot);
    struct magazine *m = place == NULL ? NULL : magazine_of(*place);
    return ASH_LIKELY(m != NULL && load_relaxed(&m->state) != MAGAZINE_DEAD) ? m : attach(pool);
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
    front_free(m->head.ash_object);
    m->head.ash_object = NULL;
    magazine_set(m, 0);
    magazine_capacity_set(m, 0);
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
    uint32_t capacity = magazine_capacity(m);
    if (count < capacity) {
        uint32_t n = unload(pool, depot_batch(&pool->depot, b), m->head.ash_object + count,
                            capacity - count);
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
    counter_add(&m->hits, magazine_hits_take(m));
    if (magazine_capacity(m) != capacity)
        resize(m, capacity);
}

void magazine_flush(struct magazine *m)
{
    if (magazine_count(m) != 0)
        spill(m, magazine_count(m));
}

void magazine_forget(struct magazine *m)
{
    for (uint32_t i = magazine_count(m); i < m->room; i++)
        m->head.ash_object[i] = NULL;
}

/* ---- get and put ---- */

void *magazine_get(struct magazine *m, int *error)
{
    struct ash_pool *pool = m->pool;
    uint32_t count = magazine_count(m);
    if (count != 0) {
        magazine_set(m, count - 1);
        magazine_count_up(m, hits, 1);
        return m->head.ash_object[count - 1];
    }
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
    uint32_t capacity = magazine_capacity(m);
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
    if (ASH_UNLIKELY(n > magazine_capacity(m) - count)) {
        if (n > make_room(m, n)) {
            magazine_count_up(m, given, supply_give(m->pool, objs, n));
            return;
        }
        count = magazine_count(m);
    }
    memcpy(m->head.ash_object + count, objs, n * sizeof *objs);
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
        memcpy(objs, m->head.ash_object + (count - have), have * sizeof *objs);
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
