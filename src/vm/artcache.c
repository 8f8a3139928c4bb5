/*
 * Compiled artifacts (ashlar/artcache.h): the index in memory, and who builds.
 *
 *  1. The index is made of shards by the key's hash: a lock, a table of chains, and a list in order
 *     of use. A hit takes the shard's lock, a reference, and moves the artifact to the list's end.
 *  2. Whoever finds nothing puts an artifact in that is BUILDING, and is its maker; with no lock
 *     held it looks on disk, else builds. All others find it, take a reference and wait. So there is
 *     one maker for a key at any time.
 *  3. The maker publishes the artifact (READY) before it writes the file: nobody waits for the disk.
 *     If it has nothing to publish, the artifact leaves the index as FAILED, and those who waited
 *     begin anew; the first of them is the next maker.
 *  4. When the budget is exceeded, the one that was used longest ago, over all shards, leaves, until
 *     70 % are left; those in use stay. Only the index and the lock give out references: what nobody
 *     but the index has, and was taken out under the lock, nobody can get.
 *
 * Rejected: one lock and one list for all (readers of different keys would wait for each other),
 * building under the shard's lock (a build takes milliseconds, and may use the cache).
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
#include "vm/artifact.h"
#include "vm/tally.h"

#include <errno.h>

enum {
    SHARDS = 16,
    BUCKETS_FIRST = 64,
    MEMORY_DEFAULT = 64 * 1024 * 1024,
    DISK_DEFAULT = 256 * 1024 * 1024,
    FILES_DEFAULT = 4096,
    KEEP_PERCENT = 70,
    TOUCH_MS = 60 * 1000,
    OLDEST_TRIED = 64, /* artifacts in use at the end of a list that are passed over */
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

struct shard {
    ASH_LINE_ALIGNED struct os_lock lock;
    struct artifact **bucket; /* under the lock, like all below */
    size_t buckets;           /* a power of two */
    size_t count;
    struct artifact *newest;
    struct artifact *oldest;
};

struct ash_artcache {
    size_t max_bytes;           /* const */
    _Atomic(uint64_t) bytes;    /* atomic: of what is READY in the index */
    _Atomic(uint64_t) timeouts; /* atomic: a count; the others are in the tally */
    struct os_fork fork;
    char name[NAME_CAP]; /* const */
    struct shard shard[SHARDS];
    struct tally tally;
    struct artdisk disk;
};

static struct shard *shard_of(struct ash_artcache *c, const uint64_t hash[2])
{
    return &c->shard[hash[1] % SHARDS];
}

/* ---- a shard; its lock is held ---- */

/* The link that leads to the key's artifact; one that holds NULL if it is not there. */
static struct artifact **shard_find(struct shard *s, const struct ash_artcache_key *key,
                                    const uint64_t hash[2])
{
    struct artifact **link = &s->bucket[hash[0] & (s->buckets - 1)];
    while (*link != NULL && !artifact_is(*link, key, hash))
        link = &(*link)->next;
    return link;
}

static void list_add(struct shard *s, struct artifact *a)
{
    a->older = s->newest;
    a->newer = NULL;
    if (s->newest != NULL)
        s->newest->newer = a;
    else
        s->oldest = a;
    s->newest = a;
}

static void list_remove(struct shard *s, struct artifact *a)
{
    if (a->newer != NULL)
        a->newer->older = a->older;
    else
        s->newest = a->older;
    if (a->older != NULL)
        a->older->newer = a->newer;
    else
        s->oldest = a->newer;
}

static void shard_add(struct shard *s, struct artifact *a)
{
    struct artifact **link = &s->bucket[a->hash[0] & (s->buckets - 1)];
    a->next = *link;
    *link = a;
    s->count++;
}

static void shard_unlink(struct shard *s, struct artifact *a)
{
    *shard_find(s, &a->key, a->hash) = a->next;
    s->count--;
}

/* Takes a READY artifact out; its reference is the caller's. */
static void shard_take(struct ash_artcache *c, struct shard *s, struct artifact *a)
{
    shard_unlink(s, a);
    list_remove(s, a);
    sub_relaxed(&c->bytes, artifact_bytes(a));
}

/* Doubles the table when chains grow; without memory they just grow. */
static void shard_grow(struct shard *s)
{
    if (s->count < s->buckets)
        return;
    struct artifact **old = s->bucket, **wide = ash_calloc(2 * s->buckets, sizeof *wide);
    if (wide == NULL)
        return;
    s->bucket = wide;
    s->buckets *= 2;
    for (size_t i = 0; i < s->buckets / 2; i++)
        for (struct artifact *a = old[i], *next; a != NULL; a = next) {
            struct artifact **link = &wide[a->hash[0] & (s->buckets - 1)];
            next = a->next;
            a->next = *link;
            *link = a;
        }
    ash_free(old);
}

/* The artifact that nobody uses and was used longest ago; NULL if there is none in reach. */
static struct artifact *shard_oldest(const struct shard *s)
{
    struct artifact *a = s->oldest;
    for (unsigned i = 0; a != NULL && i < OLDEST_TRIED; i++, a = a->newer)
        if (load_relaxed(&a->refs) == 1)
            return a;
    return NULL;
}

/* ---- the budget of memory ---- */

/* The shard whose oldest is the oldest of all; NULL if all is in use. */
static struct shard *pick(struct ash_artcache *c)
{
    struct shard *best = NULL;
    uint64_t best_ms = UINT64_MAX;
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shard[i];
        os_lock(&s->lock);
        const struct artifact *a = shard_oldest(s);
        if (a != NULL && a->used_ms < best_ms) {
            best_ms = a->used_ms;
            best = s;
        }
        os_unlock(&s->lock);
    }
    return best;
}

static void evict_to(struct ash_artcache *c, size_t bytes)
{
    struct shard *s;
    while (load_relaxed(&c->bytes) > bytes && (s = pick(c)) != NULL) {
        os_lock(&s->lock);
        struct artifact *a = shard_oldest(s);
        if (a != NULL)
            shard_take(c, s, a);
        os_unlock(&s->lock);
        if (a != NULL) {
            artifact_unref(a);
            tally_add(&c->tally, COUNT_EVICTED, 1);
        }
    }
}

/* ---- getting ---- */

/* The caller's reference goes over to the slice. */
static int hand_out(struct ash_artcache *c, struct artifact *a, struct ash_artifact *out)
{
    tally_add(&c->tally, COUNT_TAKEN, 1);
    *out = (struct ash_artifact){.data = a->data, .len = a->len, .owner = a};
    return 0;
}

/* What `build` makes. */
static int build_into(struct artifact *a, ash_artcache_build *build, void *user)
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
    struct shard *s = shard_of(c, a->hash);
    bool keep = made && artifact_bytes(a) <= keep_bytes(c);
    os_lock(&s->lock);
    if (keep) {
        a->used_ms = a->touched_ms = os_clock_ms();
        list_add(s, a);
        add_relaxed(&c->bytes, artifact_bytes(a));
        shard_grow(s);
    } else {
        shard_unlink(s, a);
    }
    artifact_settle(a, made ? ARTIFACT_READY : ARTIFACT_FAILED);
    os_unlock(&s->lock);
    artifact_wake(a);
    if (!keep)
        artifact_unref(a); /* the index's */
}

/* The maker's part: rules 2 and 3. Its reference goes to `out`, or is given back. */
static int make(struct ash_artcache *c, struct artifact *a, ash_artcache_build *build, void *user,
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
    if (load_relaxed(&c->bytes) > c->max_bytes)
        evict_to(c, keep_bytes(c));
    if (loaded)
        tally_add(&c->tally, COUNT_DISK, 1);
    return hand_out(c, a, out);
}

/* A hit; the shard's lock is held, and given back. */
static int hit(struct ash_artcache *c, struct shard *s, struct artifact *a,
               struct ash_artifact *out)
{
    uint64_t now = os_clock_ms();
    artifact_ref(a);
    a->used_ms = now;
    if (s->newest != a) {
        list_remove(s, a);
        list_add(s, a);
    }
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

/* What is left of a timeout that began at `begin`. */
static int64_t time_left(int64_t timeout_ns, uint64_t begin)
{
    if (timeout_ns <= 0)
        return timeout_ns;
    int64_t left = timeout_ns - (int64_t)(os_clock_ns() - begin);
    return left > 0 ? left : 0;
}

static bool key_valid(const struct ash_artcache_key *key)
{
    return key != NULL && (key->content != NULL || key->content_len == 0) &&
           (key->config != NULL || key->config_len == 0);
}

ASH_API int ash_artcache_get_or_build(struct ash_artcache *c, const struct ash_artcache_key *key,
                                      ash_artcache_build *build, void *user, int64_t timeout_ns,
                                      struct ash_artifact *out)
{
    uint64_t hash[2], begin = 0;
    struct artifact *mine = NULL;
    if (c == NULL || out == NULL || !key_valid(key))
        return -EINVAL;
    artifact_hash(key, hash);
    struct shard *s = shard_of(c, hash);
    for (;;) {
        os_lock(&s->lock);
        struct artifact *a = *shard_find(s, key, hash);
        if (a != NULL && load_relaxed(&a->state) == ARTIFACT_READY) { /* set under the lock */
            int status = hit(c, s, a, out);
            if (mine != NULL)
                artifact_unref(mine);
            return status;
        }
        if (a == NULL && mine != NULL) {
            artifact_ref(mine); /* the index's */
            shard_add(s, mine);
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
        if (begin == 0 && timeout_ns > 0)
            begin = os_clock_ns();
        int status = await(c, a, time_left(timeout_ns, begin), out);
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
    struct shard *s = shard_of(c, hash);
    os_lock(&s->lock);
    struct artifact *a = *shard_find(s, key, hash);
    bool busy = a != NULL && load_relaxed(&a->state) == ARTIFACT_BUILDING; /* under the lock */
    if (a != NULL && !busy)
        shard_take(c, s, a);
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
    for (unsigned i = 0; i < SHARDS; i++)
        os_lock(&c->shard[i].lock);
}

/* In the child: what other threads were making is nobody's. Their references stay as they are. */
static void shard_forget_makers(struct shard *s)
{
    for (size_t i = 0; i < s->buckets; i++)
        for (struct artifact **link = &s->bucket[i], *a; (a = *link) != NULL;) {
            if (load_relaxed(&a->state) != ARTIFACT_BUILDING || a->maker == os_fork_self()) {
                link = &a->next;
                continue;
            }
            *link = a->next;
            s->count--;
        }
}

static void cache_release(struct os_fork *self, bool child)
{
    struct ash_artcache *c = cache_of_fork(self);
    if (child)
        c->disk.look = (struct os_lock){.word = LOCK_FREE}; /* not held over a fork: may be taken */
    for (unsigned i = 0; i < SHARDS; i++) {
        if (child)
            shard_forget_makers(&c->shard[i]);
        os_unlock(&c->shard[i].lock);
    }
}

/* Gives all of it back; nothing is in use. */
static void cache_free(struct ash_artcache *c)
{
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shard[i];
        for (struct artifact *a = s->newest, *older; a != NULL; a = older) {
            older = a->older;
            artifact_unref(a);
        }
        ash_free(s->bucket);
    }
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
    for (unsigned i = 0; i < SHARDS; i++) {
        c->shard[i].buckets = BUCKETS_FIRST;
        c->shard[i].bucket = ash_calloc(BUCKETS_FIRST, sizeof(struct artifact *));
        if (c->shard[i].bucket == NULL)
            status = -ENOMEM;
    }
    return status == 0 ? os_fork_add(&c->fork) : status;
}

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
    return c;
}

/* Slices that were not released yet. */
static uint64_t in_use(const struct ash_artcache *c)
{
    uint64_t released = tally_sum(&c->tally, COUNT_RELEASED); /* first: never more than taken */
    return tally_sum(&c->tally, COUNT_TAKEN) - released;
}

ASH_API int ash_artcache_destroy(struct ash_artcache *c)
{
    if (c == NULL)
        return -EINVAL;
    bool busy = in_use(c) > 0;
    for (unsigned i = 0; i < SHARDS && !busy; i++) {
        struct shard *s = &c->shard[i];
        size_t ready = 0;
        os_lock(&s->lock);
        for (const struct artifact *a = s->newest; a != NULL; a = a->older)
            ready++;
        busy = ready != s->count; /* the others are being made */
        os_unlock(&s->lock);
    }
    if (busy)
        return -EBUSY;
    os_fork_remove(&c->fork);
    cache_free(c);
    return 0;
}

/* ---- figures ---- */

ASH_API int ash_artcache_stats(struct ash_artcache *c, struct ash_artcache_stats *out)
{
    if (c == NULL || out == NULL || out->struct_size < sizeof *out)
        return -EINVAL;
    struct artdisk *d = &c->disk;
    *out = (struct ash_artcache_stats){
        .struct_size = out->struct_size,
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
        .bytes = load_relaxed(&c->bytes),
        .in_use = in_use(c),
        .disk_files = load_relaxed(&d->files) + load_relaxed(&d->new_files),
        .disk_bytes = load_relaxed(&d->bytes) + load_relaxed(&d->new_bytes),
    };
    for (unsigned i = 0; i < SHARDS; i++) {
        os_lock(&c->shard[i].lock);
        out->entries += c->shard[i].count;
        os_unlock(&c->shard[i].lock);
    }
    return 0;
}

static int write_fd(void *ctx, const char *s, size_t n)
{
    return os_write_all(*(int *)ctx, s, n);
}

ASH_API int ash_artcache_dump(struct ash_artcache *c, int fd)
{
    struct ash_artcache_stats s = {.struct_size = sizeof s};
    int status = ash_artcache_stats(c, &s);
    if (status != 0)
        return status;
    char buf[1024], bytes[16], disk[16];
    struct fmt f;
    fmt_bytes_text(bytes, s.bytes);
    fmt_bytes_text(disk, s.disk_bytes);
    fmt_init(&f, buf, sizeof buf, write_fd, &fd);
    fmt_printf(&f, "artcache %s: %ju artifacts, %s; %ju in use; %ju files, %s\n", c->name,
               s.entries, bytes, s.in_use, s.disk_files, disk);
    fmt_printf(&f,
               "  hits %ju  shared %ju  disk hits %ju  builds %ju  failures %ju  timeouts %ju\n",
               s.hits, s.shared, s.disk_hits, s.builds, s.failures, s.timeouts);
    fmt_printf(&f, "  evictions %ju  disk evictions %ju  damaged %ju  disk errors %ju\n",
               s.evictions, s.disk_evictions, s.damaged, s.disk_errors);
    return fmt_end(&f);
}
