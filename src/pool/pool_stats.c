#include "pool/pool_stats.h"

#include "ashlar/pool.h"
#include "os/os_file.h"
#include "pool/pool.h"
#include "run/emit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>

#define COLUMN(field, kind, unit, help)                                                            \
    {                                                                                              \
#field, help, STAT_##kind, STAT_##unit, offsetof(struct ash_pool_stats, field)             \
    }

static const struct stat_field columns[] = {
    COLUMN(hits, COUNTER, COUNT, "objects got from the caller's own cache"),
    COLUMN(misses, COUNTER, COUNT, "objects got from elsewhere"),
    COLUMN(in_use, GAUGE, COUNT, "objects in the program's hands"),
    COLUMN(created, GAUGE, COUNT, "objects there are"),
    COLUMN(capacity, GAUGE, COUNT, "objects there may be, 0 for no bound"),
    COLUMN(cached, GAUGE, COUNT, "free objects in caches of threads and of the program"),
    COLUMN(bytes, GAUGE, BYTES, "memory of objects"),
    COLUMN(cache, GAUGE, COUNT, "objects that a thread's cache may hold"),
    COLUMN(caches, GAUGE, COUNT, "caches, those that wait for another thread too"),
    COLUMN(refused, COUNTER, COUNT, "gets that failed"),
    COLUMN(trimmed, COUNTER, COUNT, "chunks of memory given back"),
};

_Static_assert(ASH_COUNT(columns) * sizeof(uint64_t) == sizeof(struct ash_pool_stats) &&
                   ASH_COUNT(columns) <= EMIT_VALUES,
               "the table names every field of the public struct");

static ASH_COLD void read_stats(const struct ash_pool *pool, struct ash_pool_stats *out)
{
    struct pool_sums sums;
    pool_sum(pool, &sums);
    out->hits = sums.hits;
    out->misses = sums.misses;
    out->in_use = sums.in_use;
    out->created = load_relaxed(&pool->created);
    out->capacity = load_relaxed(&pool->capacity);
    out->cached = sums.cached;
    out->bytes = load_relaxed(&pool->store.bytes);
    out->cache = load_relaxed(&pool->cache);
    out->caches = load_relaxed(&pool->magazine_count);
    out->refused = load_relaxed(&pool->refused);
    out->trimmed = load_relaxed(&pool->trimmed);
}

/*
 * A pool that goes while it is read, so that the record's name may be another's, is left out: the
 * state tells. Figures that another thread changes are a moment apart, as ever.
 */
static ASH_COLD bool next_row(size_t *at, struct emit_row *row)
{
    const struct ash_pool *pool;
    while ((pool = pool_next(at)) != NULL) {
        struct ash_pool_stats stats;
        uint32_t state = load_acquire(&pool->state); /* pairs with the changes of state */
        read_stats(pool, &stats);
        pool_name_get(pool, row->name);
        for (size_t i = 0; i < ASH_COUNT(columns); i++)
            row->values[i] = stat_value(&columns[i], &stats);
        if (pool_kind(state) == POOL_LIVE && load_relaxed(&pool->state) == state)
            return true;
    }
    return false;
}

struct emit_kind pools_kind = {
    .plural = "pools",
    .singular = "pool",
    .columns = columns,
    .count = ASH_COUNT(columns),
    .next = next_row,
};

void pool_stats_boot(void)
{
    emit_kind_add(&pools_kind);
}

/* ---- the public functions ---- */

ASH_API int ash_pool_stats(const struct ash_pool *pool, struct ash_pool_stats *out)
{
    if (!pool_is_live(pool) || out == NULL)
        return -EINVAL;
    read_stats(pool, out);
    return 0;
}

ASH_API unsigned ash_pool_in_use(const struct ash_pool *pool)
{
    struct pool_sums sums;
    if (!pool_is_live(pool))
        return 0;
    pool_sum(pool, &sums);
    return (unsigned)sums.in_use;
}

ASH_API unsigned ash_pool_available(const struct ash_pool *pool)
{
    unsigned created = pool_is_live(pool) ? load_relaxed(&pool->created) : 0;
    unsigned out = ash_pool_in_use(pool);
    return created > out ? created - out : 0;
}

ASH_API unsigned ash_pool_capacity(const struct ash_pool *pool)
{
    return pool_is_live(pool) ? load_relaxed(&pool->capacity) : 0;
}

ASH_API int ash_pool_owns(const struct ash_pool *pool, const void *p)
{
    return pool_is_live(pool) && store_number(&pool->store, p) != STORE_NONE;
}

ASH_API const char *ash_pool_name(const struct ash_pool *pool)
{
    return pool_is_live(pool) ? (const char *)(uintptr_t)pool->name : NULL;
}

ASH_API struct ash_pool *ash_pool_lookup(const char *name)
{
    return name == NULL ? NULL : pool_named(name);
}

ASH_API ASH_COLD int ash_pool_walk(int (*fn)(struct ash_pool *pool, void *user), void *user)
{
    struct ash_pool *pool;
    int status = 0;
    if (fn == NULL)
        return -EINVAL;
    for (size_t at = 0; status == 0 && (pool = pool_next(&at)) != NULL;)
        status = fn(pool, user);
    return status;
}

ASH_API ASH_COLD int ash_pool_dump(const struct ash_pool *pool, int fd)
{
    char buf[512], name[POOL_NAME];
    struct ash_pool_stats stats;
    struct fmt f;
    int status = ash_pool_stats(pool, &stats);
    if (status != 0)
        return status;
    pool_name_get(pool, name);
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "pool %s: objects of %zu bytes, %zu apart, %u in a chunk\n", name,
               pool->store.size, pool->store.stride, (unsigned)pool->store.per_chunk);
    for (size_t i = 0; i < ASH_COUNT(columns); i++)
        fmt_printf(&f, "  %-9s %12ju  %s\n", columns[i].name,
                   (uintmax_t)stat_value(&columns[i], &stats), columns[i].help);
    return fmt_end(&f);
}
