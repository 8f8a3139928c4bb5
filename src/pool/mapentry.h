/*
 * The mappings of a map cache: a fixed table of entries, found by a path's hash.
 *
 * An entry's word says who may do what with it:
 *      hits : 32 | state : 2 | users : 30
 *
 *   FREE  --mapentry_take-->  BUSY  --mapentry_publish-->  LIVE  --claimed, no users-->  BUSY
 *                                                          LIVE  --claimed, users-->     DEAD
 *   BUSY, or DEAD without users  --mapentry_free-->  FREE
 *
 *  1. Only a LIVE entry gets users by being found, and only by compare-and-swap of its word, which
 *     counts the hit too. The fields that are const while LIVE are published with the word.
 *  2. BUSY belongs to the one thread that made it so, DEAD without users to the last user. They
 *     fill the entry, or unmap it and free it: no user has it, and none can come.
 *  3. The chains of the buckets are changed under the cache's lock and walked without. A walker
 *     goes by the hash, becomes a user, and compares the path then. One that stands on an entry
 *     which is moved to another chain goes on there, and at worst finds nothing, which sends it to
 *     the lock.
 *
 * Nothing here waits. A thread that vanishes (in a forked child) leaves chains that are whole, and
 * at worst an entry BUSY or with a user more, which then stays.
 */
#ifndef ASH_POOL_MAPENTRY_H
#define ASH_POOL_MAPENTRY_H

#include "base/atomic.h"
#include "os/os_file.h"

struct map_entry {
    _Atomic(uint64_t) word;       /* atomic: see above */
    _Atomic(uint64_t) hash;       /* atomic: of the path; a hint until the path is compared */
    _Atomic(uint64_t) used;       /* atomic: the order of last uses, see mapcache.c */
    _Atomic(uint64_t) checked_ms; /* atomic: when the kernel was last asked about the path */
    _Atomic(uint64_t) due_ms;     /* atomic: when an open is to do more than to find it */
    _Atomic(uint32_t) next;       /* atomic: in the bucket, index + 1; stored under the lock */
    _Atomic(uint32_t) advice;     /* atomic: enum os_advice that the mapping was given */
    /* const while LIVE or DEAD, the owner's while BUSY */
    const unsigned char *data;
    char *path;
    size_t path_n;            /* the NUL included */
    struct os_file_info file; /* file.size bytes are mapped at data; none if that is 0 */
};

struct map_table {
    struct map_entry *entries;  /* const */
    _Atomic(uint32_t) *buckets; /* const; atomic: index + 1 of the first entry, 0: none */
    uint32_t count, mask;       /* const: of entries; of buckets, less 1 */
    _Atomic(uint32_t) hand;     /* atomic: where the search for a FREE entry begins */
};

/* What a hash of a path is. */
struct map_key {
    const char *path;
    size_t n; /* its length and the NUL */
    uint64_t hash;
};

struct map_key map_key_of(const char *path);

/* A table for `count` mappings; false: no memory. */
bool map_table_create(struct map_table *t, uint32_t count);
void map_table_destroy(struct map_table *t);

/* ---- without the lock ---- */

/* A LIVE entry of the hash, with a user more and the hit counted; NULL: look again, locked. */
struct map_entry *mapentry_find(struct map_table *t, const struct map_key *key);

/* Is it that of the path? The caller is a user, or has the lock. */
bool mapentry_is(const struct map_entry *e, const struct map_key *key);

/* A user more, for somebody who is one. */
void mapentry_share(struct map_entry *e);

/* A user less. True when it was the last of a DEAD entry, which is the caller's alone then. */
bool mapentry_put(struct map_entry *e);

/* Has it users? Is it LIVE and has none? */
bool mapentry_in_use(const struct map_entry *e);
bool mapentry_is_idle(const struct map_entry *e);

/* Takes the hits out of the word. */
uint64_t mapentry_take_hits(struct map_entry *e);

/* Hits in the word. */
uint64_t mapentry_hits(const struct map_entry *e);

/* A FREE entry, BUSY now; NULL: there is none. */
struct map_entry *mapentry_take(struct map_table *t);

/* Gives a BUSY entry back, which is in no chain. */
void mapentry_free(struct map_entry *e);

/* ---- under the lock ---- */

/* The LIVE entry of the path, without a user more; NULL: there is none. */
struct map_entry *mapentry_locate(struct map_table *t, const struct map_key *key);

/* A user more for a LIVE entry; the hit is counted. */
bool mapentry_get(struct map_entry *e);

/* Makes a BUSY entry that is filled in LIVE, with one user, in its chain. */
void mapentry_publish(struct map_table *t, struct map_entry *e);

/*
 * Takes a LIVE entry out of its chain: nobody finds it any more. With `even_used` false an entry
 * that has users stays as it is (MAP_KEPT).
 */
enum map_claim { MAP_KEPT, MAP_BUSY, MAP_DEAD };
enum map_claim mapentry_claim(struct map_table *t, struct map_entry *e, bool even_used);

#endif
