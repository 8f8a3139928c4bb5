/*
 * Pools of messages: an ash_pool of blocks that are constructed when each is first got. A block
 * that is constructed is one that was created; all other gets were reuse. What is preallocated is
 * got and put once, so it counts as being there.
 */
#include "msg/msg.h"

#include "ashlar/malloc.h"
#include "base/config.h"
#include "base/fmt.h"
#include "os/os_file.h"

#include <errno.h>

enum { ROOM_DEFAULT = 96, ROOM_LEAST = 64, SLOTS_DEFAULT = 2, ROOM_MOST = 1 << 30 };

static int message_construct(void *obj, void *user)
{
    struct ash_msgpool *pool = user;
    struct ash_msg *m = obj;
    m->pool = pool;
    store_relaxed(&m->refs, 0);
    add_relaxed(&pool->made, 1);
    return 0;
}

/* Gets `n` messages and puts them back, through a chain in the bodies' place. */
static int pool_warm(struct ash_msgpool *pool, unsigned n)
{
    void **chain = NULL;
    int status = 0;
    for (unsigned i = 0; i < n && status == 0; i++) {
        struct ash_msg *m = ash_pool_get(pool->objects);
        if (m == NULL)
            status = errno;
        else {
            m->body = chain;
            chain = (void **)(void *)m;
            pool->warmed++;
        }
    }
    while (chain != NULL) {
        struct ash_msg *m = (struct ash_msg *)(void *)chain;
        chain = m->body;
        ash_pool_put(pool->objects, m);
    }
    return status;
}

static bool config_complete(struct ash_msgpool_config *config)
{
    if (config->room == 0)
        config->room = ROOM_DEFAULT;
    if (config->slots == 0)
        config->slots = SLOTS_DEFAULT;
    return config->slots <= ASH_MSG_SLOTS && config->room >= ROOM_LEAST &&
           config->room <= ROOM_MOST &&
           (config->capacity == 0 || config->prealloc <= config->capacity);
}

ASH_API struct ash_msgpool *ash_msgpool_create(const char *name,
                                               const struct ash_msgpool_config *config)
{
    struct ash_msgpool_config read;
    if (!config_read(&read, sizeof read, config, sizeof(size_t)) || !config_complete(&read)) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_msgpool *pool = ash_calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->slots = read.slots;
    pool->at = (uint32_t)(sizeof(struct ash_msg) + read.slots * sizeof(struct msg_slot));
    pool->bytes = align_up(pool->at + read.room, ASH_CACHE_LINE);
    pool->room = pool->bytes - pool->at;
    pool->target_most = size_min(pool->room - sizeof(struct ash_buf), ASH_MSG_TARGET);
    pool->objects = ash_pool_create(
        name, ASH_POOL_CONFIG(.obj_size = pool->bytes, .prealloc = read.prealloc,
                              .capacity = read.capacity, .ctor = message_construct, .user = pool));
    int status = pool->objects == NULL ? errno : pool_warm(pool, read.prealloc);
    if (status == 0)
        return pool;
    if (pool->objects != NULL)
        ash_pool_destroy(pool->objects);
    ash_free(pool);
    errno = status;
    return NULL;
}

ASH_API int ash_msgpool_destroy(struct ash_msgpool *pool)
{
    if (pool == NULL)
        return -EINVAL;
    int status = ash_pool_destroy(pool->objects);
    if (status == 0)
        ash_free(pool);
    return status;
}

ASH_API void ash_msgpool_tick(struct ash_msgpool *pool, int64_t now_ns)
{
    store_relaxed(&pool->now_ns, now_ns);
}

ASH_API int ash_msgpool_stats(const struct ash_msgpool *pool, struct ash_msgpool_stats *out)
{
    if (pool == NULL || out == NULL)
        return -EINVAL;
    struct ash_pool_stats objects;
    int status = ash_pool_stats(pool->objects, &objects);
    if (status != 0)
        return status;
    uint64_t made = load_relaxed(&pool->made), got = objects.hits + objects.misses;
    *out = (struct ash_msgpool_stats){
        .pool_size = made,
        .in_use = objects.in_use,
        .created = made - pool->warmed,
        .external = load_relaxed(&pool->externals),
        .bytes = pool->bytes,
    };
    if (got > made) /* the warmed are in both */
        out->reused = got - made;
    if (out->created + out->reused > 0)
        out->reuse_rate = (double)out->reused / (double)(out->created + out->reused);
    return 0;
}

ASH_API int ash_msgpool_dump(const struct ash_msgpool *pool, int fd)
{
    struct ash_msgpool_stats s;
    int status = ash_msgpool_stats(pool, &s);
    if (status != 0)
        return status;
    char buf[512];
    struct fmt f;
    unsigned rate = (unsigned)(s.reuse_rate * 1000 + 0.5);
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "messages %s: poolSize %ju  in use %ju  created %ju  reused %ju  ",
               ash_pool_name(pool->objects), s.pool_size, s.in_use, s.created, s.reused);
    fmt_printf(&f, "reuseRate %u.%u %%  external %ju  %ju bytes each\n", rate / 10, rate % 10,
               s.external, s.bytes);
    return fmt_end(&f);
}
