/*
 * Getting and putting objects. The hit paths are in ashlar/pool.h, from which the library's own
 * functions are made here; everything else is behind one call of a function whose name ends in
 * _slow: misses, pools that dress their objects (see enum pool_dress), wrong calls. errno is set
 * when an object cannot be had, and kept by puts.
 */
#define ASH_POOL_DEFINED_HERE 1
#include "ashlar/pool.h"

#include "heap/error.h"
#include "pool/pool_guard.h"
#include "pool/magazine.h"
#include "pool/supply.h"

#include <errno.h>
#include <string.h>

/* ---- what is done to objects on their way ---- */

static void dress_debug_out(struct ash_pool *pool, void *obj)
{
    char name[POOL_NAME];
    const struct store *s = &pool->store;
    pool_name_get(pool, name);
    size_t written = guard_written(s, obj, pool->keeps);
    size_t over = guard_overrun(s, obj);
    if (guard_mark(obj, GUARD_OUT) != GUARD_FREE)
        error_pool_object(name, obj, "the bytes before it were written while it was free");
    else if (written != GUARD_INTACT && pool->keeps)
        error_pool_object(name, obj, "it was written after it was put");
    else if (written != GUARD_INTACT)
        error_pool_written(name, obj, written);
    else if (over != GUARD_INTACT)
        error_pool_overrun(name, obj, s->size, over);
}

/* False when the object must not be put. */
static bool dress_debug_back(struct ash_pool *pool, void *obj)
{
    char name[POOL_NAME];
    const struct store *s = &pool->store;
    pool_name_get(pool, name);
    enum guard_state was = guard_mark(obj, GUARD_FREE);
    if (was == GUARD_FREE) {
        error_pool_put(name, obj, "which was put already");
        return false;
    }
    size_t over = guard_overrun(s, obj);
    if (was == GUARD_BROKEN)
        error_pool_object(name, obj, "the bytes before it were written");
    if (over != GUARD_INTACT)
        error_pool_overrun(name, obj, s->size, over);
    return true;
}

static void dress_out(struct ash_pool *pool, struct magazine *m, void *obj)
{
    size_t size = pool->store.size;
    if ((pool->dress & DRESS_DEBUG) != 0)
        dress_debug_out(pool, obj);
    if ((pool->dress & DRESS_TOOL) != 0) {
        guard_tool_out(pool, obj, size, pool->keeps);
        magazine_forget(m);
    }
    if ((pool->dress & DRESS_ZERO) != 0)
        memset(obj, 0, size);
}

/* False when the object must not be put, which has been said. */
static bool dress_back(struct ash_pool *pool, void *obj)
{
    const struct store *s = &pool->store;
    if ((pool->dress & (DRESS_DEBUG | DRESS_TOOL)) != 0 && store_number(s, obj) == STORE_NONE) {
        supply_report(pool, obj);
        return false;
    }
    if ((pool->dress & DRESS_DEBUG) != 0 && !dress_debug_back(pool, obj))
        return false;
    if ((pool->dress & DRESS_RESET) != 0)
        pool->reset(obj, pool->user);
    if ((pool->dress & DRESS_DEBUG) != 0)
        guard_seal(s, obj, pool->keeps);
    if ((pool->dress & DRESS_TOOL) != 0)
        guard_tool_back(pool, obj, s->size);
    return true;
}

/* ---- one object ---- */

static void *get_from(struct magazine *m)
{
    int error;
    struct ash_pool *pool = m->pool;
    void *obj = magazine_get(m, &error);
    if (obj == NULL) {
        add_relaxed(&pool->refused, 1);
        errno = error;
        return NULL;
    }
    if (pool->dress != 0)
        dress_out(pool, m, obj);
    return obj;
}

static void put_to(struct magazine *m, void *obj)
{
    struct ash_pool *pool = m->pool;
    if (obj != NULL && (pool->dress == 0 || dress_back(pool, obj)))
        magazine_put(m, obj);
}

ASH_API_OWN void *ash_pool_get_slow(struct ash_pool *pool)
{
    if (ASH_UNLIKELY(!pool_is_live(pool))) {
        errno = EINVAL;
        return NULL;
    }
    return get_from(magazine_self(pool));
}

ASH_API_OWN void ash_pool_put_slow(struct ash_pool *pool, void *obj)
{
    int saved = errno;
    if (ASH_UNLIKELY(!pool_is_live(pool)))
        error_pool_gone(obj, pool);
    else
        put_to(magazine_self(pool), obj);
    errno = saved;
}

/* ---- many ---- */

ASH_API_OWN int ash_pool_get_bulk_slow(struct ash_pool *pool, void **objs, unsigned n)
{
    if (!pool_is_live(pool) || (objs == NULL && n != 0))
        return -EINVAL;
    struct magazine *m = magazine_self(pool);
    int error = magazine_get_bulk(m, objs, n);
    if (error != 0) {
        add_relaxed(&pool->refused, 1);
        return -error;
    }
    for (unsigned i = 0; pool->dress != 0 && i < n; i++)
        dress_out(pool, m, objs[i]);
    return 0;
}

ASH_API unsigned ash_pool_get_burst(struct ash_pool *pool, void **objs, unsigned n)
{
    unsigned got = 0;
    int saved = errno;
    if (ash_pool_get_bulk(pool, objs, n) == 0)
        return n;
    while (objs != NULL && got < n && (objs[got] = ash_pool_get(pool)) != NULL)
        got++;
    errno = saved;
    return got;
}

ASH_API_OWN void ash_pool_put_bulk_slow(struct ash_pool *pool, void *const *objs, unsigned n)
{
    if (n == 0)
        return;
    if (ASH_UNLIKELY(!pool_is_live(pool) || objs == NULL)) {
        error_pool_gone(objs == NULL ? NULL : objs[0], pool);
        return;
    }
    int saved = errno;
    struct magazine *m = magazine_self(pool);
    if (pool->dress == 0)
        magazine_put_bulk(m, objs, n);
    for (unsigned i = 0; pool->dress != 0 && i < n; i++)
        put_to(m, objs[i]);
    errno = saved;
}

/* ---- caches that the program owns ---- */

ASH_API struct ash_pool_cache *ash_pool_cache_create(struct ash_pool *pool, unsigned capacity)
{
    if (!pool_is_live(pool) || pool->own != NULL || capacity > ASH_POOL_CACHE_MAX) {
        errno = EINVAL;
        return NULL;
    }
    struct magazine *m =
        magazine_create(pool, capacity == 0 ? load_relaxed(&pool->cache) : capacity);
    if (m == NULL)
        errno = ENOMEM;
    return m == NULL ? NULL : &m->head;
}

/* Its pool is there. */
static bool cache_is_live(struct magazine *m)
{
    return m != NULL && load_relaxed(&m->state) == MAGAZINE_OWNED;
}

ASH_API void ash_pool_cache_destroy(struct ash_pool_cache *cache)
{
    if (cache == NULL)
        return;
    int saved = errno;
    if (cache_is_live(magazine_of(cache)))
        magazine_flush(magazine_of(cache));
    magazine_leave(magazine_of(cache));
    errno = saved;
}

ASH_API void ash_pool_cache_flush(struct ash_pool_cache *cache)
{
    int saved = errno;
    if (cache_is_live(magazine_of(cache)))
        magazine_flush(magazine_of(cache));
    errno = saved;
}

ASH_API_OWN void *ash_pool_cache_get_slow(struct ash_pool_cache *cache)
{
    if (ASH_UNLIKELY(!cache_is_live(magazine_of(cache)))) {
        errno = EINVAL;
        return NULL;
    }
    return get_from(magazine_of(cache));
}

ASH_API_OWN void ash_pool_cache_put_slow(struct ash_pool_cache *cache, void *obj)
{
    struct magazine *m = magazine_of(cache);
    int saved = errno;
    if (ASH_UNLIKELY(!cache_is_live(m)))
        error_pool_gone(obj, m == NULL ? NULL : m->pool);
    else
        put_to(m, obj);
    errno = saved;
}
