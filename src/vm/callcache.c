/*
 * Results of pure calls (ashlar/callcache.h): the shards of vm/ringlog behind one hash.
 *
 * The hash's low bits choose the shard, its high ones the slot, so neither depends on the other.
 * Hits and misses are counted for each thread; what happens under a shard's lock is counted there.
 */
#include "ashlar/callcache.h"

#include "ashlar/malloc.h"
#include "base/config.h"
#include "base/fmt.h"
#include "base/hash.h"
#include "base/name.h"
#include "os/os_clock.h"
#include "os/os_file.h"
#include "os/os_fork.h"
#include "os/os_mem.h"
#include "vm/ringlog.h"
#include "vm/shown.h"
#include "vm/tally.h"

#include <errno.h>

enum {
    BYTES_DEFAULT = 16 * 1024 * 1024,
    SHARD_LEAST = 4 * 1024,
    SHARDS_DEFAULT = 16,
    SHARDS_MOST = 256,
    ENTRY_TYPICAL = 256,
    NS_PER_MS = 1000 * 1000,
    LARGEST_PART = 4, /* of a shard's ring */
};

#define TTL_DEFAULT ((int64_t)300 * 1000 * NS_PER_MS)
#define FOR_EVER    UINT64_MAX

enum count { COUNT_HIT, COUNT_MISS, COUNT_EXPIRED, COUNT_PUT, COUNT_REFUSED };

struct ash_callcache {
    uint64_t seed;       /* const */
    size_t shard_mask;   /* const */
    uint64_t ttl_ms;     /* const: FOR_EVER for none */
    char name[NAME_CAP]; /* const */
    struct os_fork fork;
    struct shown *shown; /* const; NULL: there was no memory for it */
    struct tally tally;
    struct ringlog shard[];
};

ASH_INLINE struct ringlog_key key_make(const struct ash_callcache *c, uint64_t function,
                                       const void *args, size_t len)
{
    uint64_t hash = hash_bytes(args, len, c->seed ^ (function * HASH_K3));
    return (struct ringlog_key){.hash = hash, .function = function, .args = args, .len = len};
}

ASH_INLINE struct ringlog *shard_of(struct ash_callcache *c, const struct ringlog_key *key)
{
    return &c->shard[key->hash & c->shard_mask];
}

/* Milliseconds of a time to live, at least 1. */
static uint64_t ttl_ms(int64_t ns)
{
    return ns < 0 ? FOR_EVER : ((uint64_t)ns + NS_PER_MS - 1) / NS_PER_MS;
}

/* ---- results ---- */

ASH_API int ash_callcache_get(struct ash_callcache *c, uint64_t function, const void *args,
                              size_t args_len, void *result, size_t *len)
{
    if (c == NULL || len == NULL || (args == NULL && args_len > 0) || (result == NULL && *len > 0))
        return -EINVAL;
    struct ringlog_key key = key_make(c, function, args, args_len);
    struct ringlog *shard = shard_of(c, &key);
    ringlog_expect(shard, key.hash); /* while the clock is read */
    enum ringlog_answer answer = ringlog_get(shard, &key, os_clock_ms(), result, len);
    switch (answer) {
    case RINGLOG_HIT:
        tally_add(&c->tally, COUNT_HIT, 1);
        return 0;
    case RINGLOG_LONGER:
        return -ENOBUFS;
    case RINGLOG_EXPIRED:
        tally_add(&c->tally, COUNT_EXPIRED, 1);
        break;
    case RINGLOG_MISS:
        break;
    }
    tally_add(&c->tally, COUNT_MISS, 1);
    return -ENOENT;
}

ASH_API int ash_callcache_put(struct ash_callcache *c, uint64_t function, const void *args,
                              size_t args_len, const void *result, size_t len, int64_t ttl_ns)
{
    if (c == NULL || (args == NULL && args_len > 0) || (result == NULL && len > 0))
        return -EINVAL;
    size_t most = c->shard[0].words / LARGEST_PART;
    if (args_len > 8 * most) { /* nothing can have been kept for these */
        tally_add(&c->tally, COUNT_REFUSED, 1);
        return -EFBIG;
    }
    struct ringlog_key key = key_make(c, function, args, args_len);
    struct ringlog *shard = shard_of(c, &key);
    if (len > 8 * most || ringlog_words(args_len, len) > most) {
        tally_add(&c->tally, COUNT_REFUSED, 1);
        ringlog_remove(shard, &key);
        return -EFBIG;
    }
    ringlog_expect(shard, key.hash);
    uint64_t now = os_clock_ms(), ttl = ttl_ns != 0 ? ttl_ms(ttl_ns) : c->ttl_ms;
    ringlog_put(shard, &key, result, len, now, ttl == FOR_EVER ? FOR_EVER : now + ttl);
    tally_add(&c->tally, COUNT_PUT, 1);
    return 0;
}

ASH_API int ash_callcache_invalidate(struct ash_callcache *c, uint64_t function, const void *args,
                                     size_t args_len)
{
    if (c == NULL || (args == NULL && args_len > 0))
        return -EINVAL;
    struct ringlog_key key = key_make(c, function, args, args_len);
    return ringlog_remove(shard_of(c, &key), &key) ? 0 : -ENOENT;
}

ASH_API int64_t ash_callcache_invalidate_prefix(struct ash_callcache *c, uint64_t function,
                                                const void *prefix, size_t len)
{
    if (c == NULL || (prefix == NULL && len > 0))
        return -EINVAL;
    size_t removed = 0;
    for (size_t i = 0; i <= c->shard_mask; i++)
        removed += ringlog_remove_prefix(&c->shard[i], function, prefix, len);
    return (int64_t)removed;
}

ASH_API int64_t ash_callcache_clear(struct ash_callcache *c)
{
    if (c == NULL)
        return -EINVAL;
    size_t removed = 0;
    for (size_t i = 0; i <= c->shard_mask; i++)
        removed += ringlog_clear(&c->shard[i]);
    return (int64_t)removed;
}

/* ---- the cache ---- */

static struct ash_callcache *cache_of_fork(struct os_fork *self)
{
    return (struct ash_callcache *)(void *)((char *)self - offsetof(struct ash_callcache, fork));
}

static void cache_hold(struct os_fork *self)
{
    struct ash_callcache *c = cache_of_fork(self);
    for (size_t i = 0; i <= c->shard_mask; i++)
        os_lock(&c->shard[i].lock);
}

/* Nothing is half done in the child either: `seq` is odd under a lock only. */
static void cache_release(struct os_fork *self, bool child)
{
    (void)child;
    struct ash_callcache *c = cache_of_fork(self);
    for (size_t i = 0; i <= c->shard_mask; i++)
        os_unlock(&c->shard[i].lock);
}

/* Fills the defaults in; `words` of a shard's ring. False when the settings make no sense. */
static bool config_complete(struct ash_callcache_config *config, size_t *words)
{
    if (config->max_bytes == 0)
        config->max_bytes = BYTES_DEFAULT;
    if (config->shards == 0)
        for (config->shards = SHARDS_DEFAULT;
             config->shards > 1 && config->max_bytes / config->shards < 4 * SHARD_LEAST;)
            config->shards /= 2;
    if (config->max_entries == 0)
        config->max_entries = (unsigned)size_min(config->max_bytes / ENTRY_TYPICAL, 1u << 30);
    if (config->ttl_ns == 0)
        config->ttl_ns = TTL_DEFAULT;
    if (!is_pow2(config->shards) || config->shards > SHARDS_MOST ||
        config->max_entries < config->shards || config->max_entries > 1u << 30 ||
        config->max_bytes > (size_t)1 << 46)
        return false;
    size_t bytes = config->max_bytes / config->shards;
    size_t index = 8 * ringlog_slots(config->max_entries / config->shards);
    *words = bytes > index ? (bytes - index) / 8 : 0;
    return bytes >= SHARD_LEAST && *words >= SHARD_LEAST / 16 && *words < RINGLOG_WORDS;
}

static void cache_free(struct ash_callcache *c, size_t shards)
{
    for (size_t i = 0; i < shards; i++)
        ringlog_fini(&c->shard[i]);
    ash_free(c);
}

/* What can be read without a lock, in the order of enum count. */
static const struct ash_stats_column columns[] = {
    SHOWN_COLUMN("hits", COUNTER, COUNT, "Results that were found."),
    SHOWN_COLUMN("misses", COUNTER, COUNT, "Results that were not."),
    SHOWN_COLUMN("expired", COUNTER, COUNT, "Of the misses, those whose time was over."),
    SHOWN_COLUMN("puts", COUNTER, COUNT, "Results kept."),
    SHOWN_COLUMN("refused", COUNTER, COUNT, "Results that were too large."),
};

static void read_values(const void *cache, uint64_t *values)
{
    const struct ash_callcache *c = cache;
    for (unsigned i = 0; i < ASH_COUNT(columns); i++)
        values[i] = tally_sum(&c->tally, i);
}

SHOWN_KIND(kind, "callcaches", "callcache", columns, read_values)

ASH_API struct ash_callcache *ash_callcache_create(const char *name,
                                                   const struct ash_callcache_config *config)
{
    struct ash_callcache_config read;
    char copy[NAME_CAP];
    size_t words;
    if (!config_read(&read, sizeof read, config, sizeof(size_t)) ||
        !name_read(copy, name, "calls") || !config_complete(&read, &words)) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_callcache *c = ash_calloc(1, sizeof *c + read.shards * sizeof c->shard[0]);
    if (c == NULL)
        return NULL;
    size_t made = 0;
    while (made < read.shards &&
           ringlog_init(&c->shard[made], words, read.max_entries / read.shards))
        made++;
    memcpy(c->name, copy, sizeof copy);
    os_random(&c->seed, sizeof c->seed);
    c->shard_mask = read.shards - 1;
    c->ttl_ms = ttl_ms(read.ttl_ns);
    c->fork = (struct os_fork){.hold = cache_hold, .release = cache_release};
    if (made < read.shards || os_fork_add(&c->fork) != 0) {
        cache_free(c, made);
        errno = ENOMEM;
        return NULL;
    }
    c->shown = shown_open(&kind, c->name, c);
    return c;
}

ASH_API int ash_callcache_destroy(struct ash_callcache *c)
{
    if (c == NULL)
        return -EINVAL;
    bool unread = shown_close(c->shown);
    os_fork_remove(&c->fork);
    if (unread)
        cache_free(c, c->shard_mask + 1);
    return 0;
}

/* ---- figures ---- */

ASH_API int ash_callcache_stats(struct ash_callcache *c, struct ash_callcache_stats *out)
{
    if (c == NULL || out == NULL)
        return -EINVAL;
    *out = (struct ash_callcache_stats){
        .hits = tally_sum(&c->tally, COUNT_HIT),
        .misses = tally_sum(&c->tally, COUNT_MISS),
        .expired = tally_sum(&c->tally, COUNT_EXPIRED),
        .puts = tally_sum(&c->tally, COUNT_PUT),
        .refused = tally_sum(&c->tally, COUNT_REFUSED),
    };
    for (size_t i = 0; i <= c->shard_mask; i++) {
        struct ringlog *r = &c->shard[i];
        os_lock(&r->lock);
        out->evictions += r->evictions;
        out->spared += r->spared;
        out->invalidated += r->invalidated;
        out->entries += r->live;
        out->bytes += 8 * ringlog_used(r);
        os_unlock(&r->lock);
        out->max_entries += r->live_most;
        out->max_bytes += 8 * r->words;
    }
    return 0;
}

ASH_API int ash_callcache_dump(struct ash_callcache *c, int fd)
{
    struct ash_callcache_stats s;
    int status = ash_callcache_stats(c, &s);
    if (status != 0)
        return status;
    char buf[1024], bytes[16], most[16];
    struct fmt f;
    fmt_bytes_text(bytes, s.bytes);
    fmt_bytes_text(most, s.max_bytes);
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "callcache %s: %ju of %ju entries, %s of %s\n", c->name, s.entries,
               s.max_entries, bytes, most);
    fmt_printf(&f, "  hits %ju  misses %ju  expired %ju  puts %ju  refused %ju\n", s.hits, s.misses,
               s.expired, s.puts, s.refused);
    fmt_printf(&f, "  evictions %ju  spared %ju  invalidated %ju\n", s.evictions, s.spared,
               s.invalidated);
    return fmt_end(&f);
}
