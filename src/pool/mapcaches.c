/*
 * Map caches: their beginning, their end and their statistics.
 *
 * Records of caches are never given back, so that statistics may walk them at any time. `pins`
 * holds 1 for the cache itself and 2 for every reader; tables are freed by ash_mapcache_destroy, or
 * by the next ash_mapcache_create if a reader was about.
 */
#include "pool/mapcache.h"

#include "base/anchor.h"
#include "base/config.h"
#include "base/fmt.h"
#include "base/name.h"
#include "mem/meta.h"
#include "os/os_clock.h"

#include <errno.h>
#include <string.h>

enum {
    MAPS_DEFAULT = 1024,
    MAPS_MAX = 1 << 20,
    AGE_DEFAULT_MS = 60000,
    REVALIDATE_DEFAULT_MS = 10,
};
#define BYTES_DEFAULT GIB

#define PIN_CACHE  ((uint64_t)1)
#define PIN_READER ((uint64_t)2)
#define PINS_TAKEN ((uint64_t)1 << 62) /* being made or unmade: no reader comes */

/* Records are pushed and never removed: a walk from the head is always whole. */
static _Atomic(struct ash_mapcache *) caches;

static bool next_row(size_t *at, struct emit_row *row);

/* Where a field stands in the values of a row. */
#define AT(field)                                                                                  \
    (offsetof(struct ash_mapcache_stats, field) - offsetof(struct ash_mapcache_stats, opens))
static const struct stat_field columns[] = {
    {"opens", "Opens that succeeded.", STAT_COUNTER, STAT_COUNT, AT(opens)},
    {"hits", "Of those, opens of mapped files.", STAT_COUNTER, STAT_COUNT, AT(hits)},
    {"validations", "Opens of mapped files that asked the kernel.", STAT_COUNTER, STAT_COUNT,
     AT(validations)},
    {"maps", "Files mapped.", STAT_COUNTER, STAT_COUNT, AT(maps)},
    {"unmaps", "Files unmapped.", STAT_COUNTER, STAT_COUNT, AT(unmaps)},
    {"in_use", "Mappings that are open.", STAT_GAUGE, STAT_COUNT, AT(in_use)},
    {"mapped_bytes", "Bytes of all mappings.", STAT_GAUGE, STAT_BYTES, AT(mapped_bytes)},
};
struct emit_kind mapcaches_kind = {.plural = "mapcaches",
                                   .singular = "mapcache",
                                   .columns = columns,
                                   .count = ASH_COUNT(columns),
                                   .next = next_row};

static struct ash_mapcache *record_take(void)
{
    struct ash_mapcache *c = load_acquire(&caches); /* its link; pairs with the push below */
    for (; c != NULL; c = c->link) {
        uint64_t free = 0;
        /* acquire: what the last owner and readers did; pairs with unpin */
        if (cas_strong_acq_rel(&c->pins, &free, PINS_TAKEN))
            return c;
    }
    c = meta_take(sizeof *c);
    if (c == NULL)
        return NULL;
    store_relaxed(&c->pins, PINS_TAKEN);
    c->link = load_relaxed(&caches);
    while (!cas_release(&caches, &c->link, c)) /* its link; pairs with the walks */
        ;
    return c;
}

/* A reader more, if it is a cache. */
static bool pin(struct ash_mapcache *c)
{
    uint64_t pins = load_relaxed(&c->pins);
    do {
        if ((pins & PIN_CACHE) == 0)
            return false;
    } while (!cas_acquire(&c->pins, &pins, pins + PIN_READER)); /* pairs with create */
    return true;
}

static void unpin(struct ash_mapcache *c)
{
    sub_acq_rel(&c->pins, PIN_READER); /* our use; pairs with record_take */
}

static uint64_t ms_of(int64_t ns, uint64_t fallback)
{
    if (ns < 0)
        return MAP_FOR_EVER;
    return ns == 0 ? fallback : ((uint64_t)ns + 999999) / 1000000;
}

ASH_API struct ash_mapcache *ash_mapcache_create(const struct ash_mapcache_config *config)
{
    struct ash_mapcache_config with;
    char name[NAME_CAP];
    if (!config_read(&with, sizeof with, config, sizeof with.struct_size) ||
        !name_read(name, with.name, "mapcache") || with.max_maps > MAPS_MAX ||
        (with.flags & ~(unsigned)ASH_MAPCACHE_VALIDATE) != 0) {
        errno = EINVAL;
        return NULL;
    }
    struct map_table table;
    if (!map_table_create(&table, with.max_maps != 0 ? with.max_maps : MAPS_DEFAULT))
        return NULL; /* errno is set */
    struct ash_mapcache *c = record_take();
    if (c == NULL) {
        map_table_destroy(&table);
        errno = ENOMEM;
        return NULL;
    }
    map_table_destroy(&c->table);
    c->table = table;
    memcpy(c->name, name, sizeof name);
    c->max_bytes = with.max_bytes != 0 ? with.max_bytes : BYTES_DEFAULT;
    c->max_age_ms = ms_of(with.max_age_ns, AGE_DEFAULT_MS);
    c->revalidate_ms = ms_of(with.revalidate_ns, REVALIDATE_DEFAULT_MS);
    c->validate = (with.flags & ASH_MAPCACHE_VALIDATE) != 0;
    store_relaxed(&c->lock, 0);
    store_relaxed(&c->swept_ms, os_clock_ms());
    _Atomic(uint64_t) *const sums[] = {&c->hits, &c->misled, &c->validations,
                                       &c->maps, &c->unmaps, &c->mapped_bytes};
    for (size_t i = 0; i < ASH_COUNT(sums); i++)
        store_relaxed(sums[i], 0);
    emit_kind_add(&mapcaches_kind);
    store_release(&c->pins, PIN_CACHE); /* all of it; pairs with pin */
    return c;
}

ASH_API int ash_mapcache_destroy(struct ash_mapcache *c)
{
    if (c == NULL)
        return 0;
    bool busy = false;
    mapcache_lock(c);
    for (uint32_t i = 0; i < c->table.count && !busy; i++)
        busy = mapentry_in_use(&c->table.entries[i]);
    for (uint32_t i = 0; i < c->table.count && !busy; i++)
        mapcache_retire(c, &c->table.entries[i]);
    mapcache_unlock(c);
    if (busy)
        return -EBUSY;
    uint64_t alone = PIN_CACHE;
    if (cas_strong_acq_rel(&c->pins, &alone, PINS_TAKEN)) { /* the readers' use; as unpin */
        map_table_destroy(&c->table);
        store_release(&c->pins, 0); /* pairs with record_take */
    } else {
        sub_acq_rel(&c->pins,
                    PIN_CACHE); /* a reader is about: the table goes with the next create */
    }
    return 0;
}

/* ---- statistics ---- */

static void read_stats(struct ash_mapcache *c, struct ash_mapcache_stats *s)
{
    /* What takes away is read before what it is taken from. */
    uint64_t misled = load_relaxed(&c->misled), unmaps = load_relaxed(&c->unmaps), hits = 0;
    *s = (struct ash_mapcache_stats){0};
    for (uint32_t i = 0; i < c->table.count; i++) {
        hits += mapentry_hits(&c->table.entries[i]);
        s->in_use += mapentry_in_use(&c->table.entries[i]);
    }
    s->hits = hits + load_relaxed(&c->hits) - misled;
    s->validations = load_relaxed(&c->validations);
    s->maps = load_relaxed(&c->maps);
    s->unmaps = unmaps;
    s->opens = s->hits + s->maps;
    s->mapped_bytes = load_relaxed(&c->mapped_bytes);
}

ASH_API int ash_mapcache_stats(const struct ash_mapcache *c, struct ash_mapcache_stats *out)
{
    if (out == NULL)
        return -EINVAL;
    read_stats((struct ash_mapcache *)(uintptr_t)c, out);
    return 0;
}

static bool next_row(size_t *at, struct emit_row *row)
{
    ANCHOR("mapcaches", caches);
    ANCHOR_RECORD("mapcache", struct ash_mapcache);
    ANCHOR_RECORD("map_entry", struct map_entry);
    struct ash_mapcache *c = load_acquire(&caches); /* its link; pairs with record_take */
    for (size_t i = 0; c != NULL; c = c->link, i++) {
        if (i < *at || !pin(c))
            continue;
        struct ash_mapcache_stats s;
        read_stats(c, &s);
        memcpy(row->name, c->name, sizeof row->name);
        unpin(c);
        memcpy(row->values, &s, sizeof s);
        *at = i + 1;
        return true;
    }
    return false;
}

ASH_API int ash_mapcache_dump(struct ash_mapcache *c, int fd)
{
    struct ash_mapcache_stats s;
    char line[512];
    read_stats(c, &s);
    size_t n = fmt_text(line, sizeof line,
                        "mapcache %s: %llu opens, %llu hits, %llu maps, %llu unmaps, %llu in use, "
                        "%llu bytes\n",
                        c->name, (unsigned long long)s.opens, (unsigned long long)s.hits,
                        (unsigned long long)s.maps, (unsigned long long)s.unmaps,
                        (unsigned long long)s.in_use, (unsigned long long)s.mapped_bytes);
    int status = os_write_all(fd, line, n);
    for (uint32_t i = 0; i < c->table.count && status == 0; i++) {
        struct map_entry *e = &c->table.entries[i];
        if (!mapentry_get(e))
            continue;
        add_relaxed(&c->misled, 1);
        n = fmt_text(line, sizeof line - 1, "  %12llu bytes at %p %s",
                     (unsigned long long)e->file.size, (const void *)e->data, e->path);
        line[n++] = '\n';
        status = os_write_all(fd, line, n);
        mapcache_put(c, e);
    }
    return status;
}
