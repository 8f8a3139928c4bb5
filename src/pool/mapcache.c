/*
 * Map caches: files mapped once and shared; see ashlar/mapcache.h. What an entry is, and who may
 * touch it when, is in pool/mapentry.h; here is when files are mapped, looked at and unmapped.
 *
 *  1. An open first looks for its path without the lock. A hit is one compare-and-swap, and a look
 *     at the coarse clock, whether it is time to ask the kernel if the path leads to the same file
 *     still (revalidate_ns); closing is one locked subtraction.
 *  2. Where there is no mapping or another file, the file is opened, and under the lock looked for
 *     again, retired if it is another file, and mapped. So one thread maps a file. The descriptor
 *     is closed at once: mappings need none.
 *  3. Before a file is mapped, unused mappings go, the least recently used first, until it fits the
 *     budget. A use is stamped with the clock's time and the number of files mapped so far: exact
 *     between two mappings, and hits write to no word that others write but the entry's.
 *  4. Ages are looked at when an open asks the kernel or maps, at most 8 times in max_age_ns.
 *
 * The lock is a word with the holder's process id: a process that forks leaves its child a lock
 * that may be held by a thread which the child does not have. The child sees the other id and takes
 * the lock over; what it protects, the chains of the table, is changed by single stores and so is
 * whole at any instant.
 *
 * Rejected: a lock round each look-up (12 ns more, and a fork in the middle of it); one mapping for
 * each part that is opened (more system calls and mappings, nothing shared).
 */
#include "pool/mapcache.h"

#include "heap/error.h"
#include "heap/front.h"
#include "os/os_clock.h"
#include "os/os_mem.h"
#include "os/os_process.h"
#include "os/os_wait.h"

#include <errno.h>
#include <string.h>

enum {
    LOOK_MS = 1000, /* hits leave the entry's word at least so often: it has 32 bits for them */
    STAMP_BITS = 20,
    LOCK_WAITERS = 1 << 30, /* beside the process id */
    HINTS = ASH_MAP_SEQUENTIAL | ASH_MAP_RANDOM | ASH_MAP_WILLNEED | ASH_MAP_POPULATE
};

/* ---- the lock ---- */

void mapcache_lock(struct ash_mapcache *c)
{
    uint32_t me = (uint32_t)os_pid(), mine = me;
    for (;;) {
        uint32_t seen = 0;
        if (cas_strong_acq_rel(&c->lock, &seen, mine)) /* pairs with unlock */
            return;
        if ((seen & ~(uint32_t)LOCK_WAITERS) != me) {
            if (cas_strong_acq_rel(&c->lock, &seen, mine))
                return; /* its holder is in the process that we were forked from */
            continue;
        }
        uint32_t waited = seen | LOCK_WAITERS;
        if (seen == waited || cas_strong_relaxed(&c->lock, &seen, waited))
            os_wait(&c->lock, waited, -1);
        mine = me | LOCK_WAITERS; /* others may be waiting as we were */
    }
}

void mapcache_unlock(struct ash_mapcache *c)
{
    uint32_t was = exchange_acq_rel(&c->lock, 0); /* the chains; pairs with lock */
    if ((was & LOCK_WAITERS) != 0)
        os_wake(&c->lock, 1);
}

/* ---- unmapping ---- */

static size_t mapped_bytes(const struct map_entry *e)
{
    return align_up(e->file.size, os_page_size());
}

/* The entry is BUSY and in no chain. */
static void unmap(struct ash_mapcache *c, struct map_entry *e)
{
    add_relaxed(&c->hits, mapentry_take_hits(e));
    if (e->file.size > 0) {
        os_unmap((void *)(uintptr_t)e->data, mapped_bytes(e));
        sub_relaxed(&c->mapped_bytes, mapped_bytes(e));
    }
    add_relaxed(&c->unmaps, 1);
    front_free(e->path);
    mapentry_free(e);
}

void mapcache_put(struct ash_mapcache *c, struct map_entry *e)
{
    if (mapentry_put(e))
        unmap(c, e);
}

void mapcache_retire(struct ash_mapcache *c, struct map_entry *e)
{
    if (mapentry_claim(&c->table, e, true) == MAP_BUSY)
        unmap(c, e);
}

/* Unmaps the unused entry that was used longest ago; false: there is none. Under the lock. */
static bool evict_oldest(struct ash_mapcache *c)
{
    for (;;) {
        struct map_entry *oldest = NULL;
        for (uint32_t i = 0; i < c->table.count; i++) {
            struct map_entry *e = &c->table.entries[i];
            if (mapentry_is_idle(e) &&
                (oldest == NULL || load_relaxed(&e->used) < load_relaxed(&oldest->used)))
                oldest = e;
        }
        if (oldest == NULL)
            return false;
        if (mapentry_claim(&c->table, oldest, false) == MAP_BUSY) {
            unmap(c, oldest);
            return true;
        }
    }
}

static void evict_to(struct ash_mapcache *c, size_t bytes)
{
    while (load_relaxed(&c->mapped_bytes) > bytes && evict_oldest(c))
        ;
}

/* Unmaps what was last used before `ms`. Under the lock. */
static void evict_before(struct ash_mapcache *c, uint64_t ms)
{
    for (uint32_t i = 0; i < c->table.count; i++) {
        struct map_entry *e = &c->table.entries[i];
        if (mapentry_is_idle(e) && load_relaxed(&e->used) >> STAMP_BITS <= ms &&
            mapentry_claim(&c->table, e, false) == MAP_BUSY)
            unmap(c, e);
    }
}

/* ---- opening ---- */

static uint64_t stamp(struct ash_mapcache *c, uint64_t now)
{
    return now << STAMP_BITS | (load_relaxed(&c->maps) & ((1u << STAMP_BITS) - 1));
}

static void checked(struct ash_mapcache *c, struct map_entry *e, uint64_t now)
{
    store_relaxed(&e->checked_ms, now);
    store_relaxed(&e->due_ms, now + (c->revalidate_ms < LOOK_MS ? c->revalidate_ms : LOOK_MS));
}

/* Now and then unmaps what is too old. */
static void sweep(struct ash_mapcache *c, uint64_t now)
{
    uint64_t last = load_relaxed(&c->swept_ms);
    if (c->max_age_ms == MAP_FOR_EVER || now - last < c->max_age_ms / 8 || now <= c->max_age_ms ||
        !cas_strong_relaxed(&c->swept_ms, &last, now))
        return;
    mapcache_lock(c);
    evict_before(c, now - c->max_age_ms);
    mapcache_unlock(c);
}

static bool is_same_file(const struct os_file_info *a, const struct os_file_info *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->mtime_ns == b->mtime_ns;
}

/* The entry was found and is due: is it the path's file still? */
static ASH_NOINLINE bool look_again(struct ash_mapcache *c, struct map_entry *e, uint64_t now)
{
    struct os_file_info file;
    add_relaxed(&c->hits, mapentry_take_hits(e));
    if (c->validate || (c->revalidate_ms != MAP_FOR_EVER &&
                        now - load_relaxed(&e->checked_ms) >= c->revalidate_ms)) {
        add_relaxed(&c->validations, 1);
        if (os_path_info(e->path, &file) != 0 || !is_same_file(&file, &e->file))
            return false;
        checked(c, e, now);
    } else {
        store_relaxed(&e->due_ms, now + LOOK_MS);
    }
    sweep(c, now);
    return true;
}

ASH_INLINE bool is_wanted(struct ash_mapcache *c, struct map_entry *e, const struct map_key *key)
{
    uint64_t now = os_clock_ms();
    return mapentry_is(e, key) &&
           ((!c->validate && ASH_LIKELY(now < load_relaxed(&e->due_ms))) || look_again(c, e, now));
}

/* Fills a BUSY entry in; 0 or a negative errno. */
static int map(struct ash_mapcache *c, struct map_entry *e, const struct map_key *key, int fd,
               const struct os_file_info *file)
{
    static const unsigned char nothing[1];
    void *data = (void *)(uintptr_t)nothing;
    char *path = front_malloc(key->n);
    if (path == NULL)
        return -ENOMEM;
    int status = file->size == 0 ? 0 : os_map_file(fd, file->size, &data);
    if (status != 0) {
        front_free(path);
        return status;
    }
    memcpy(path, key->path, key->n);
    e->path = path;
    e->path_n = key->n;
    e->data = data;
    e->file = *file;
    store_relaxed(&e->hash, key->hash);
    store_relaxed(&e->advice, OS_NORMAL);
    add_relaxed(&c->maps, 1);
    add_relaxed(&c->mapped_bytes, mapped_bytes(e));
    return 0;
}

/* Under the lock: the path's entry with a user more, mapped if there is none of that file. */
static int find_or_map(struct ash_mapcache *c, const struct map_key *key, int fd,
                       const struct os_file_info *file, struct map_entry **out)
{
    struct map_entry *e = mapentry_locate(&c->table, key);
    if (e != NULL && is_same_file(&e->file, file)) {
        mapentry_get(e); /* nobody else can take it out of its chain */
        *out = e;
        return 0;
    }
    if (e != NULL)
        mapcache_retire(c, e);
    size_t bytes = align_up(file->size, os_page_size());
    evict_to(c, c->max_bytes > bytes ? c->max_bytes - bytes : 0);
    e = mapentry_take(&c->table);
    if (e == NULL && evict_oldest(c))
        e = mapentry_take(&c->table);
    if (e == NULL)
        return -ENOBUFS;
    int status = map(c, e, key, fd, file);
    while (status == -ENOMEM && evict_oldest(c)) /* mappings are limited too */
        status = map(c, e, key, fd, file);
    if (status != 0) {
        mapentry_free(e);
        return status;
    }
    mapentry_publish(&c->table, e);
    *out = e;
    return 0;
}

struct part {
    size_t off, len;
};

ASH_INLINE bool reaches_past(struct part part, size_t size)
{
    return part.off > size || part.len > size - part.off;
}

static ASH_NOINLINE int open_slow(struct ash_mapcache *c, const struct map_key *key,
                                  struct part part, struct map_entry **out)
{
    struct os_file_info file;
    uint64_t now = os_clock_ms();
    int fd = os_open_read(key->path);
    if (fd < 0)
        return fd;
    int status = os_file_info(fd, &file);
    if (status == 0 && !file.regular)
        status = file.directory ? -EISDIR : -EINVAL;
    if (status == 0 && reaches_past(part, file.size))
        status = -ERANGE;
    if (status == 0) {
        mapcache_lock(c);
        status = find_or_map(c, key, fd, &file, out);
        mapcache_unlock(c);
    }
    os_close(fd);
    if (status == 0) {
        checked(c, *out, now);
        sweep(c, now);
    }
    return status;
}

static ASH_NOINLINE void advise(struct map_entry *e, const struct ash_map *map, unsigned hints)
{
    enum os_advice order = (hints & ASH_MAP_SEQUENTIAL) != 0 ? OS_SEQUENTIAL
                           : (hints & ASH_MAP_RANDOM) != 0   ? OS_RANDOM
                                                             : OS_NORMAL;
    if (map->len == 0)
        return;
    if (order != OS_NORMAL && load_relaxed(&e->advice) != order) {
        store_relaxed(&e->advice, order);
        os_advise(e->data, e->file.size, order);
    }
    if ((hints & ASH_MAP_WILLNEED) != 0)
        os_advise(map->data, map->len, OS_WILLNEED);
    if ((hints & ASH_MAP_POPULATE) != 0)
        os_advise(map->data, map->len, OS_POPULATE_READ);
}

ASH_API int ash_mapcache_open(struct ash_mapcache *c, const char *path, off_t off, size_t len,
                              unsigned hints, struct ash_map *out)
{
    if (ASH_UNLIKELY(out == NULL))
        return -EINVAL;
    *out = (struct ash_map){0};
    if (ASH_UNLIKELY(c == NULL || path == NULL || off < 0 || (hints & ~(unsigned)HINTS) != 0 ||
                     (hints & (ASH_MAP_SEQUENTIAL | ASH_MAP_RANDOM)) ==
                         (ASH_MAP_SEQUENTIAL | ASH_MAP_RANDOM)))
        return -EINVAL;
    struct map_key key = map_key_of(path);
    struct part part = {(size_t)off, len};
    struct map_entry *e = mapentry_find(&c->table, &key);
    if (e != NULL && ASH_UNLIKELY(!is_wanted(c, e, &key) || reaches_past(part, e->file.size))) {
        add_relaxed(&c->misled, 1);
        mapcache_put(c, e);
        e = NULL;
    }
    if (e == NULL) {
        int status = open_slow(c, &key, part, &e);
        if (status != 0)
            return status;
    }
    *out = (struct ash_map){
        .data = e->data + off, .len = len != 0 ? len : e->file.size - part.off, .entry = e};
    if (ASH_UNLIKELY(hints != 0))
        advise(e, out, hints);
    return 0;
}

ASH_API void ash_mapcache_share(struct ash_mapcache *c, const struct ash_map *map,
                                struct ash_map *out)
{
    (void)c;
    *out = *map;
    if (map->entry != NULL)
        mapentry_share(map->entry);
}

ASH_API void ash_mapcache_close(struct ash_mapcache *c, struct ash_map *map)
{
    struct map_entry *e = map->entry;
    if (e == NULL)
        return;
    if (ASH_UNLIKELY(!mapentry_in_use(e))) {
        error_map_closed(map->data);
        return;
    }
    *map = (struct ash_map){0};
    store_relaxed(&e->used, stamp(c, os_clock_ms()));
    mapcache_put(c, e);
}

/* ---- what the program asks for ---- */

ASH_API int ash_mapcache_invalidate(struct ash_mapcache *c, const char *path)
{
    int status = path != NULL ? -ENOENT : 0;
    mapcache_lock(c);
    if (path != NULL) {
        struct map_key key = map_key_of(path);
        struct map_entry *e = mapentry_locate(&c->table, &key);
        if (e != NULL) {
            mapcache_retire(c, e);
            status = 0;
        }
    } else {
        for (uint32_t i = 0; i < c->table.count; i++)
            mapcache_retire(c, &c->table.entries[i]);
    }
    mapcache_unlock(c);
    return status;
}

ASH_API int ash_mapcache_trim(struct ash_mapcache *c, int64_t max_age_ns, size_t max_bytes)
{
    uint64_t now = os_clock_ms(), age = (uint64_t)max_age_ns / 1000000;
    mapcache_lock(c);
    if (max_age_ns >= 0 && age <= now)
        evict_before(c, now - age);
    evict_to(c, max_bytes);
    mapcache_unlock(c);
    return 0;
}
