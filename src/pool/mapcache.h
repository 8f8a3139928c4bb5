/*
 * What a map cache is, for its two halves: opening and unmapping (mapcache.c), and its beginning,
 * its end and its statistics (mapcaches.c).
 */
#ifndef ASH_POOL_MAPCACHE_H
#define ASH_POOL_MAPCACHE_H

#include "ashlar/mapcache.h"
#include "pool/mapentry.h"
#include "run/emit.h"

#define MAP_FOR_EVER UINT64_MAX

struct ash_mapcache {
    struct ash_mapcache *link; /* const once listed */
    _Atomic(uint64_t) pins;    /* atomic: 1 for the cache, 2 for each reader; 0: to be taken */
    struct map_table table;    /* const while there is the cache */
    char name[EMIT_NAME];      /* const, as the next four */
    size_t max_bytes;
    uint64_t max_age_ms, revalidate_ms;
    bool validate;
    ASH_LINE_ALIGNED _Atomic(uint32_t) lock; /* atomic: 0, or process id of the holder | WAITERS */
    _Atomic(uint64_t) swept_ms;              /* atomic: when ages were last looked at */
    /* atomic: sums; several writers, all on slow paths */
    _Atomic(uint64_t) hits;   /* those that have left the entries' words */
    _Atomic(uint64_t) misled; /* hits that were none: another path, file, or too short */
    _Atomic(uint64_t) validations, maps, unmaps, mapped_bytes;
};

extern ASH_HIDDEN struct emit_kind mapcaches_kind;

void mapcache_lock(struct ash_mapcache *c);
void mapcache_unlock(struct ash_mapcache *c);

/* A user less. */
void mapcache_put(struct ash_mapcache *c, struct map_entry *e);

/* Nobody finds the entry any more; it is unmapped when it has no users. Under the lock. */
void mapcache_retire(struct ash_mapcache *c, struct map_entry *e);

#endif
