/*
 * Pools as wholes: made, resized, trimmed, ended. Nothing is held while a callback runs, and a pool
 * is LIVE only when all of it is in place.
 */
#include "ashlar/pool.h"

#include "base/config.h"
#include "base/fmt.h"
#include "heap/boot.h"
#include "heap/front.h"
#include "pool/pool_census.h"
#include "pool/pool_stats.h"
#include "pool/pool_guard.h"
#include "pool/magazine.h"
#include "pool/supply.h"
#include "pool/tuner.h"

#include <errno.h>
#include <string.h>

enum {
    ALIGN_DEFAULT = ASH_CACHE_LINE,
    CACHE_BYTES = 32 * 1024, /* in one thread's hands, as long as the next two allow it */
    CACHE_LEAST = 64,
    CACHE_MOST = 512,
    CACHE_PART = 4, /* of the objects of a bounded pool */
    ROOM_LEAST = 8,
    ROOM_MOST = 1024,
    FLAGS =
        ASH_POOL_FIXED | ASH_POOL_ZERO | ASH_POOL_EAGER | ASH_POOL_DEBUG | ASH_POOL_SINGLE_THREAD
};

#define ALIGN_MOST   GIB
#define OBJECTS_MOST ((uint32_t)1 << 31)

/* ---- making ---- */

static unsigned cache_default(size_t size, unsigned capacity)
{
    size_t n = size_max(CACHE_LEAST, size_min(CACHE_BYTES / size, CACHE_MOST));
    return (unsigned)(capacity == 0 ? n : size_min(n, size_max(capacity / CACHE_PART, 1)));
}

/* Reads the settings and puts the defaults in; false: they make no sense. */
static ASH_COLD bool settings_read(struct ash_pool_config *to, const struct ash_pool_config *from)
{
    size_t least = offsetof(struct ash_pool_config, obj_size) + sizeof from->obj_size;
    if (from == NULL || !config_read(to, sizeof *to, from, least))
        return false;
    bool fixed = (to->flags & ASH_POOL_FIXED) != 0;
    if (to->align == 0)
        to->align = ALIGN_DEFAULT;
    if (fixed && to->capacity == 0)
        to->capacity = to->prealloc;
    if (to->obj_size == 0 || !is_pow2(to->align) || to->align > ALIGN_MOST ||
        to->cache > ASH_POOL_CACHE_MAX || (to->flags & ~(unsigned)FLAGS) != 0 ||
        to->capacity > OBJECTS_MOST || (fixed && to->capacity == 0) ||
        (to->capacity != 0 && to->prealloc > to->capacity))
        return false;
    if (fixed)
        to->prealloc = to->capacity;
    if (to->cache == 0)
        to->cache = cache_default(to->obj_size, to->capacity);
    return true;
}

static unsigned dress_of(const struct ash_pool_config *c)
{
    bool debug = (c->flags & ASH_POOL_DEBUG) != 0;
    unsigned dress = debug ? DRESS_DEBUG : guard_has_tool() ? DRESS_TOOL : 0;
    if (c->reset != NULL)
        dress |= DRESS_RESET;
    if ((c->flags & ASH_POOL_ZERO) != 0 && c->ctor == NULL)
        dress |= DRESS_ZERO;
    return dress;
}

/* Runs the destructor on all objects: they are free. */
static ASH_COLD void destruct_all(struct ash_pool *pool)
{
    struct depot *d = &pool->depot;
    for (struct magazine *m = load_acquire(&pool->magazines); m != NULL; m = load_acquire(&m->next))
        for (uint32_t i = 0; i < magazine_count(m); i++)
            supply_destruct(pool, store_number(&pool->store, m->head.ash_object[i]));
    for (uint32_t b = depot_first(d, DEPOT_FULL); b != 0; b = depot_below(d, b))
        for (uint32_t i = 0; i < depot_batch(d, b)->count; i++)
            supply_destruct(pool, depot_batch(d, b)->object[i]);
}

/* Ends what there is, gives the memory back, and the record. */
static ASH_COLD void dismantle(struct ash_pool *pool)
{
    if (pool->dtor != NULL)
        destruct_all(pool);
    struct magazine *m = load_acquire(&pool->magazines); /* pairs with pool_magazine */
    for (struct magazine *next; m != NULL; m = next) {
        next = load_acquire(&m->next);
        if (m == pool->own)
            magazine_leave(m);
        magazine_kill(m);
    }
    for (uint32_t i = 0; (pool->dress & DRESS_TOOL) != 0 && i < load_relaxed(&pool->store.top); i++)
        if (table_get(&pool->store.chunks, i) != NULL)
            guard_tool_leave(&pool->store, table_get(&pool->store.chunks, i));
    if ((pool->dress & DRESS_TOOL) != 0)
        guard_tool_destroy(pool);
    store_fini(&pool->store);
    depot_fini(&pool->depot);
    tuner_fini(pool);
    pool_retire(pool);
}

/* Sets the record up: 0 or an errno. */
static ASH_COLD int set_up(struct ash_pool *pool, const struct ash_pool_config *c)
{
    bool debug = (c->flags & ASH_POOL_DEBUG) != 0;
    bool single = (c->flags & ASH_POOL_SINGLE_THREAD) != 0;
    unsigned room = (unsigned)size_max(ROOM_LEAST, size_min(c->cache / 2, ROOM_MOST));
    pool->flags = c->flags;
    pool->dress = dress_of(c);
    pool->ctor = c->ctor;
    pool->reset = c->reset;
    pool->dtor = c->dtor;
    pool->user = c->user;
    pool->lazy = c->ctor != NULL && (c->flags & ASH_POOL_EAGER) == 0;
    pool->keeps = c->ctor != NULL || c->reset != NULL;
    pool->own = NULL;
    store_relaxed(&pool->cache, c->cache);
    store_relaxed(&pool->capacity, c->capacity);
    depot_init(&pool->depot, room, single);
    if ((pool->dress & DRESS_TOOL) != 0)
        guard_tool_create(pool);
    if (!store_init(&pool->store, c->obj_size, c->align, debug ? GUARD_BEFORE : 0,
                    debug ? GUARD_BEHIND : 0))
        return ENOMEM;
    size_t bytes = c->max_bytes == 0 ? OBJECTS_MOST : c->max_bytes / pool->store.stride;
    pool->byte_bound = (uint32_t)size_min(bytes, OBJECTS_MOST);
    if (pool->byte_bound == 0)
        return EINVAL;
    if (single) {
        pool->own = magazine_create(pool, c->cache);
        if (pool->own == NULL)
            return ENOMEM;
        pool->own->fixed = 0;
    }
    return supply_ahead(pool, c->prealloc);
}

ASH_API ASH_COLD struct ash_pool *ash_pool_create(const char *name,
                                                  const struct ash_pool_config *config)
{
    struct ash_pool_config c;
    char given[POOL_NAME];
    int error = !name_read(given, name, "") || !settings_read(&c, config) ? EINVAL
                : name != NULL && pool_named(name) != NULL                ? EEXIST
                                                                          : 0;
    struct ash_pool *pool = error == 0 && boot() ? pool_claim() : NULL;
    if (pool == NULL) {
        errno = error == 0 ? ENOMEM : error;
        return NULL;
    }
    magazine_boot();
    error = set_up(pool, &c);
    if (name == NULL)
        fmt_text(given, sizeof given, "pool-%u", (unsigned)pool->slot);
    if (error == 0)
        error = -pool_publish(pool, given);
    if (error != 0) {
        dismantle(pool);
        errno = error;
        return NULL;
    }
    if (pool->dress == 0)
        pool_fast_set(pool, pool->own != NULL ? (uintptr_t)pool->own : pool->slot);
    pool_stats_boot();
    return pool;
}

/* ---- ending ---- */

ASH_API ASH_COLD int ash_pool_destroy(struct ash_pool *pool)
{
    struct pool_sums sums;
    if (pool == NULL || !pool_end(pool))
        return -EINVAL;
    pool_sum(pool, &sums);
    if (sums.in_use != 0) {
        pool_revive(pool);
        return -EBUSY;
    }
    int saved = errno;
    pool_fast_set(pool, 0);
    dismantle(pool);
    errno = saved;
    return 0;
}

/* ---- changing ---- */

/* The sole right to take objects away, with as many of them in the depot as can be. */
static bool trim_begin(struct ash_pool *pool)
{
    if (exchange_acquire(&pool->trimming, 1) != 0) /* pairs with trim_end */
        return false;
    magazine_flush(magazine_self(pool));
    supply_sweep(pool);
    return true;
}

static void trim_end(struct ash_pool *pool)
{
    store_release(&pool->trimming, 0); /* the trimmer's fields; pairs with trim_begin */
}

ASH_API ASH_COLD int ash_pool_trim(struct ash_pool *pool)
{
    if (!pool_is_live(pool))
        return -EINVAL;
    if ((pool->flags & ASH_POOL_FIXED) != 0)
        return 0;
    if (!trim_begin(pool))
        return -EBUSY;
    int saved = errno;
    uint32_t gone = census_trim(pool);
    trim_end(pool);
    errno = saved;
    return gone != 0;
}

/* The new bound is in place; what is beyond it goes: 0 or -EBUSY. */
static ASH_COLD int shrink(struct ash_pool *pool, uint32_t capacity)
{
    uint32_t created = load_relaxed(&pool->created);
    if (created > capacity && !census_withdraw(pool, created - capacity))
        return -EBUSY;
    if ((pool->flags & ASH_POOL_FIXED) == 0)
        (void)census_trim(pool);
    return 0;
}

ASH_API ASH_COLD int ash_pool_resize(struct ash_pool *pool, unsigned capacity)
{
    if (!pool_is_live(pool) || capacity > OBJECTS_MOST)
        return -EINVAL;
    bool fixed = (pool->flags & ASH_POOL_FIXED) != 0;
    if (fixed && capacity == 0)
        return -EINVAL;
    if (!trim_begin(pool))
        return -EBUSY;
    int saved = errno;
    int status = 0;
    uint32_t before = load_relaxed(&pool->capacity);
    uint32_t created = load_relaxed(&pool->created);
    store_relaxed(&pool->capacity, capacity);
    if (capacity != 0 && created > capacity)
        status = shrink(pool, capacity);
    else if (fixed)
        status = -supply_ahead(pool, capacity - created);
    if (status != 0) {
        store_relaxed(&pool->capacity, before);
        if (load_relaxed(&pool->created) > created)
            (void)census_withdraw(pool, load_relaxed(&pool->created) - created);
    }
    trim_end(pool);
    errno = saved;
    return status;
}
