/*
 * Compiled artifacts (ashlar/artcache.h): who finds and who builds.
 *
 *  1. A hit takes the shard's lock (vm/artindex), a reference, and moves the artifact to the end of
 *     the list.
 *  2. Whoever finds nothing puts an artifact in that is BUILDING, and is its maker; with no lock
 *     held it looks on disk (vm/artdisk), else builds. All others find it, take a reference and
 *     wait. So there is one maker for a key at any time.
 *  3. The maker publishes the artifact (READY) before it writes the file: nobody waits for the
 *     disk. If it has nothing to publish, the artifact leaves the index as FAILED, and those who
 *     waited begin anew; the first of them is the next maker.
 *
 * Rejected: building under the shard's lock; a build takes milliseconds, and may use the cache.
 */
#include "ashlar/artcache.h"

#include "ashlar/malloc.h"
#include "base/config.h"
#include "base/fmt.h"
#include "base/name.h"
#include "os/os_clock.h"
#include "os/os_file.h"
#include "os/os_fork.h"
#include "vm/artdisk.h"
#include "vm/artindex.h"
#include "vm/shown.h"
#include "vm/tally.h"

#include <errno.h>

enum {
    MEMORY_DEFAULT = 64 * 1024 * 1024,
    DISK_DEFAULT = 256 * 1024 * 1024,
    FILES_DEFAULT = 4096,
    KEEP_PERCENT = 70,
    TOUCH_MS = 60 * 1000,
};

enum count {
    COUNT_HIT,
    COUNT_SHARED,
    COUNT_DISK,
    COUNT_BUILT,
    COUNT_FAILED,
    COUNT_TAKEN,
    COUNT_RELEASED,
    COUNT_EVICTED,
};

struct ash_artcache {
    size_t max_bytes;           /* const */
    _Atomic(uint64_t) bytes;    /* atomic: of what is READY in the index */
    _Atomic(uint64_t) timeouts; /* atomic: a count; the others are in the tally */
    struct os_fork fork;
    struct shown *shown; /* const; NULL: there was no memory for it */
    char name[NAME_CAP]; /* const */
    struct artindex index;
    struct tally tally;
    struct artdisk disk;
};

static void evict_to(struct ash_artcache *c, size_t bytes)
{
    tally_add(&c->tally, COUNT_EVICTED, artindex_shrink(&c->index, bytes));
}

/* ---- getting ---- */

typedef int build_fn(const struct ash_artcache_key *key, void **data, size_t *len, void *user);

/* The caller's reference goes over to the slice. */
static int hand_out(struct ash_artcache *c, struct artifact *a, struct ash_artifact *out)
{
    tally_add(&c->tally, COUNT_TAKEN, 1);
    *out = (struct ash_artifact){.data = a->data, .len = a->len, .owner = a};
    return 0;
}

/* What `build` makes. */
static int build_into(struct artifact *a, build_fn *build, void *user)
{
    void *data = NULL;
    size_t len = 0;
    int status = build(&a->key, &data, &len, user);
    if (status == 0 && data == NULL && len > 0)
        status = -EINVAL;
    if (status != 0) {
        ash_free(data);
        return status < 0 ? status : -ECANCELED;
    }
    a->block = data;
    a->data = data;
    a->len = len;
    return 0;
}

static size_t keep_bytes(const struct ash_artcache *c)
{
    return c->max_bytes / 100 * KEEP_PERCENT;
}

/*
 * Ends the making: rule 3. An artifact that would push all others out is handed to those who wait
 * and is not kept.
 */
static void publish(struct ash_artcache *c, struct artifact *a, bool made)
{
    struct artshard *s = artindex_shard(&c->index, a->hash);
    bool keep = made && artifact_bytes(a) <= keep_bytes(c);
    os_lock(&s->lock);
    if (keep) {
        artshard_keep(&c->index, s, a);
    } else {
        artshard_drop(s, a);
    }
    artifact_settle(a, made ? ARTIFACT_READY : ARTIFACT_FAILED);
    os_unlock(&s->lock);
    artifact_wake(a);
    if (!keep)
        artifact_unref(a); /* the index's */
}

/* The maker's part: rules 2 and 3. Its reference goes to `out`, or is given back. */
static int make(struct ash_artcache *c, struct artifact *a, build_fn *build, void *user,
                struct ash_artifact *out)
{
    bool loaded = artdisk_load(&c->disk, a);
    int status = loaded ? 0 : build == NULL ? -ENOENT : build_into(a, build, user);
    publish(c, a, status == 0);
    if (build != NULL && !loaded)
        tally_add(&c->tally, status == 0 ? COUNT_BUILT : COUNT_FAILED, 1);
    if (status != 0) {
        artifact_unref(a);
        return status;
    }
    if (!loaded)
        artdisk_store(&c->disk, a);
    if (load_relaxed(&c->index.bytes) > c->max_bytes)
        evict_to(c, keep_bytes(c));
    if (loaded)
        tally_add(&c->tally, COUNT_DISK, 1);
    return hand_out(c, a, out);
}

/* A hit; the shard's lock is held, and given back. */
static int hit(struct ash_artcache *c, struct artshard *s, struct artifact *a,
               struct ash_artifact *out)
{
    uint64_t now = os_clock_ms();
    artifact_ref(a);
    a->used_ms = now;
    artshard_renew(s, a);
    bool touch = now - a->touched_ms > TOUCH_MS;
    if (touch)
        a->touched_ms = now;
    os_unlock(&s->lock);
    if (ASH_UNLIKELY(touch))
        artdisk_touch(&c->disk, a);
    tally_add(&c->tally, COUNT_HIT, 1);
    return hand_out(c, a, out);
}

/* Somebody else is the maker; the reference is the caller's. 1: begin anew. */
static int await(struct ash_artcache *c, struct artifact *a, int64_t timeout_ns,
                 struct ash_artifact *out)
{
    int status = a->maker == os_fork_self() ? -EDEADLK : artifact_wait(a, timeout_ns);
    if (status == 0 && load_acquire(&a->state) == ARTIFACT_READY) { /* pairs with artifact_settle */
        tally_add(&c->tally, COUNT_SHARED, 1);
        return hand_out(c, a, out);
    }
    if (status == -EAGAIN || status == -ETIMEDOUT)
        add_relaxed(&c->timeouts, 1);
    artifact_unref(a);
    return status == 0 ? 1 : status;
}

static bool key_valid(const struct ash_artcache_key *key)
{
    return key != NULL && (key->content != NULL || key->content_len == 0) &&
           (key->config != NULL || key->config_len == 0);
}

ASH_API int ash_artcache_get_or_build(struct ash_artcache *c, const struct ash_artcache_key *key,
                                      build_fn *build, void *user, int64_t timeout_ns,
                                      struct ash_artifact *out)
{
    uint64_t hash[2];
    int64_t until = 0; /* not known before there is something to wait for */
    struct artifact *mine = NULL;
    if (c == NULL || out == NULL || !key_valid(key))
        return -EINVAL;
    artifact_hash(key, hash);
    struct artshard *s = artindex_shard(&c->index, hash);
    for (;;) {
        os_lock(&s->lock);
        struct artifact *a = artshard_find(s, key, hash);
        if (a != NULL && load_relaxed(&a->state) == ARTIFACT_READY) { /* set under the lock */
            int status = hit(c, s, a, out);
            if (mine != NULL)
                artifact_unref(mine);
            return status;
        }
        if (a == NULL && mine != NULL) {
            artifact_ref(mine); /* the index's */
            artshard_add(s, mine);
            os_unlock(&s->lock);
            return make(c, mine, build, user, out);
        }
        if (a != NULL)
            artifact_ref(a);
        os_unlock(&s->lock);

        if (a == NULL) {
            mine = artifact_create(key, hash);
            if (mine == NULL)
                return -ENOMEM;
            continue;
        }
        if (until == 0)
            until = os_until(timeout_ns);
        int status = await(c, a, os_left(until), out);
        if (status <= 0) {
            if (mine != NULL)
                artifact_unref(mine);
            return status == -EAGAIN && timeout_ns != 0 ? -ETIMEDOUT : status;
        }
    }
}

ASH_API void ash_artcache_release(struct ash_artcache *c, struct ash_artifact *a)
{
    if (c == NULL || a == NULL || a->owner == NULL)
        return;
    struct artifact *owner = a->owner;
    *a = (struct ash_artifact){.data = NULL};
    tally_add(&c->tally, COUNT_RELEASED, 1);
    artifact_unref(owner);
}

ASH_API int ash_artcache_remove(struct ash_artcache *c, const struct ash_artcache_key *key)
{
    uint64_t hash[2];
    if (c == NULL || !key_valid(key))
        return -EINVAL;
    artifact_hash(key, hash);
    struct artshard *s = artindex_shard(&c->index, hash);
    os_lock(&s->lock);
    struct artifact *a = artshard_find(s, key, hash);
    bool busy = a != NULL && load_relaxed(&a->state) == ARTIFACT_BUILDING; /* under the lock */
    if (a != NULL && !busy)
        artshard_take(&c->index, s, a);
    os_unlock(&s->lock);
    if (busy)
        return -EBUSY;
    bool had_file = artdisk_remove(&c->disk, hash);
    if (a != NULL)
        artifact_unref(a);
    return a != NULL || had_file ? 0 : -ENOENT;
}

ASH_API int ash_artcache_trim(struct ash_artcache *c)
{
    if (c == NULL)
        return -EINVAL;
    evict_to(c, 0);
    artdisk_look(&c->disk);
    return 0;
}

/* ---- the cache ---- */

static struct ash_artcache *cache_of_fork(struct os_fork *self)
{
    return (struct ash_artcache *)(void *)((char *)self - offsetof(struct ash_artcache, fork));
}

static void cache_hold(struct os_fork *self)
{
    struct ash_artcache *c = cache_of_fork(self);
    for (unsigned i = 0; i < ARTINDEX_SHARDS; i++)
        os_lock(&c->index.shard[i].lock);
}

static void cache_release(struct os_fork *self, bool child)
{
    struct ash_artcache *c = cache_of_fork(self);
    if (child)
        c->disk.look = (struct os_lock){.word = LOCK_FREE}; /* not held over a fork: may be taken */
    for (unsigned i = 0; i < ARTINDEX_SHARDS; i++) {
        if (child)
            artshard_forget_makers(&c->index.shard[i]);
        os_unlock(&c->index.shard[i].lock);
    }
}

/* Gives all of it back; nothing is in use. */
static void cache_free(struct ash_artcache *c)
{
    artindex_fini(&c->index);
    artdisk_close(&c->disk);
    ash_free(c);
}

static int cache_init(struct ash_artcache *c, const struct ash_artcache_config *config)
{
    c->max_bytes = config->memory_bytes != 0 ? config->memory_bytes : MEMORY_DEFAULT;
    c->fork = (struct os_fork){.hold = cache_hold, .release = cache_release};
    int status = artdisk_open(
        &c->disk, config->dir, config->disk_bytes != 0 ? config->disk_bytes : DISK_DEFAULT,
        config->disk_files != 0 ? config->disk_files : FILES_DEFAULT, config->flags);
    if (!artindex_init(&c->index))
        status = -ENOMEM;
    return status == 0 ? os_fork_add(&c->fork) : status;
}

/* What can be read without a lock. */
static const struct ash_stats_column columns[] = {
    SHOWN_COLUMN("hits", COUNTER, COUNT, "Artifacts found in memory."),
    SHOWN_COLUMN("shared", COUNTER, COUNT, "Artifacts that another caller was making."),
    SHOWN_COLUMN("disk_hits", COUNTER, COUNT, "Artifacts found on disk."),
    SHOWN_COLUMN("builds", COUNTER, COUNT, "Artifacts built."),
    SHOWN_COLUMN("failures", COUNTER, COUNT, "Builds that failed."),
    SHOWN_COLUMN("evictions", COUNTER, COUNT, "Artifacts dropped from memory."),
    SHOWN_COLUMN("in_use", GAUGE, COUNT, "Artifacts not released yet."),
    SHOWN_COLUMN("bytes", GAUGE, BYTES, "Artifacts in memory."),
    SHOWN_COLUMN("damaged", COUNTER, COUNT, "Files that could not be used."),
    SHOWN_COLUMN("disk_errors", COUNTER, COUNT, "Files that could not be written or read."),
};

/* Slices that were not released yet. */
static uint64_t in_use(const struct ash_artcache *c)
{
    uint64_t released = tally_sum(&c->tally, COUNT_RELEASED); /* first: never more than taken */
    return tally_sum(&c->tally, COUNT_TAKEN) - released;
}

static void read_values(const void *cache, uint64_t *values)
{
    const struct ash_artcache *c = cache;
    for (unsigned i = COUNT_HIT; i <= COUNT_FAILED; i++)
        values[i] = tally_sum(&c->tally, i);
    values[5] = tally_sum(&c->tally, COUNT_EVICTED);
    values[6] = in_use(c);
    values[7] = load_relaxed(&c->index.bytes);
    values[8] = load_relaxed(&c->disk.damaged);
    values[9] = load_relaxed(&c->disk.errors);
}

SHOWN_KIND(kind, "artcaches", "artcache", columns, read_values)

ASH_API struct ash_artcache *ash_artcache_create(const char *name,
                                                 const struct ash_artcache_config *config)
{
    struct ash_artcache_config read;
    char copy[NAME_CAP];
    if (!config_read(&read, sizeof read, config, sizeof(size_t)) ||
        !name_read(copy, name, "artifacts") ||
        (read.flags & ~(unsigned)(ASH_ARTCACHE_SYNC | ASH_ARTCACHE_TRUST)) != 0) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_artcache *c = ash_calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    memcpy(c->name, copy, sizeof copy);
    int status = cache_init(c, &read);
    if (status != 0) {
        cache_free(c);
        errno = -status;
        return NULL;
    }
    c->shown = shown_open(&kind, c->name, c);
    return c;
}

ASH_API int ash_artcache_destroy(struct ash_artcache *c)
{
    if (c == NULL)
        return -EINVAL;
    size_t ready, count = artindex_count(&c->index, &ready);
    if (in_use(c) > 0 || ready != count) /* those that are not are being made */
        return -EBUSY;
    bool unread = shown_close(c->shown);
    os_fork_remove(&c->fork);
    if (unread)
        cache_free(c);
    return 0;
}

/* ---- figures ---- */

ASH_API int ash_artcache_stats(struct ash_artcache *c, struct ash_artcache_stats *out)
{
    if (c == NULL || out == NULL)
        return -EINVAL;
    struct artdisk *d = &c->disk;
    size_t ready;
    *out = (struct ash_artcache_stats){
        .hits = tally_sum(&c->tally, COUNT_HIT),
        .shared = tally_sum(&c->tally, COUNT_SHARED),
        .disk_hits = tally_sum(&c->tally, COUNT_DISK),
        .builds = tally_sum(&c->tally, COUNT_BUILT),
        .failures = tally_sum(&c->tally, COUNT_FAILED),
        .timeouts = load_relaxed(&c->timeouts),
        .evictions = tally_sum(&c->tally, COUNT_EVICTED),
        .disk_evictions = load_relaxed(&d->evictions),
        .damaged = load_relaxed(&d->damaged),
        .disk_errors = load_relaxed(&d->errors),
        .entries = artindex_count(&c->index, &ready),
        .bytes = load_relaxed(&c->index.bytes),
        .in_use = in_use(c),
        .disk_files = load_relaxed(&d->files) + load_relaxed(&d->new_files),
        .disk_bytes = load_relaxed(&d->bytes) + load_relaxed(&d->new_bytes),
    };
    return 0;
}

ASH_API int ash_artcache_dump(struct ash_artcache *c, int fd)
{
    struct ash_artcache_stats s;
    int status = ash_artcache_stats(c, &s);
    if (status != 0)
        return status;
    char buf[1024], bytes[16], disk[16];
    struct fmt f;
    fmt_bytes_text(bytes, s.bytes);
    fmt_bytes_text(disk, s.disk_bytes);
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "artcache %s: %ju artifacts, %s; %ju in use; %ju files, %s\n", c->name,
               s.entries, bytes, s.in_use, s.disk_files, disk);
    fmt_printf(&f,
               "  hits %ju  shared %ju  disk hits %ju  builds %ju  failures %ju  timeouts %ju\n",
               s.hits, s.shared, s.disk_hits, s.builds, s.failures, s.timeouts);
    fmt_printf(&f, "  evictions %ju  disk evictions %ju  damaged %ju  disk errors %ju\n",
               s.evictions, s.disk_evictions, s.damaged, s.disk_errors);
    return fmt_end(&f);
}
