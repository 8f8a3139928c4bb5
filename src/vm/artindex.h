/*
 * The artifacts in memory, by key and in order of use: shards by the key's hash, each of a lock, a
 * table of chains and a list. When the budget is exceeded, the one that was used longest ago, over
 * all shards, leaves; those in use stay. Only the index, under the shard's lock, gives out
 * references: what nobody but the index has, and was taken out under the lock, nobody can get.
 *
 * Rejected: one lock and one list for all; readers of different keys would wait for each other.
 */
#ifndef ASH_ARTINDEX_H
#define ASH_ARTINDEX_H

#include "os/os_lock.h"
#include "vm/artifact.h"

enum { ARTINDEX_SHARDS = 16 };

struct artshard {
    ASH_LINE_ALIGNED struct os_lock lock;
    struct artifact **bucket; /* under the lock, like all below */
    size_t buckets;           /* a power of two */
    size_t count;
    struct artifact *newest;
    struct artifact *oldest;
};

struct artindex {
    struct artshard shard[ARTINDEX_SHARDS];
    _Atomic(uint64_t) bytes; /* atomic: of what is READY in it */
};

/* Zeroed memory becomes an empty index: false when there is no memory; artindex_fini serves. */
bool artindex_init(struct artindex *x);

/* Nobody uses any of it. */
void artindex_fini(struct artindex *x);

ASH_INLINE struct artshard *artindex_shard(struct artindex *x, const uint64_t hash[2])
{
    return &x->shard[hash[1] % ARTINDEX_SHARDS];
}

/* ---- the shard's lock is held ---- */

/* NULL if it is not there. */
struct artifact *artshard_find(struct artshard *s, const struct ash_artcache_key *key,
                               const uint64_t hash[2]);

/* Puts one in that is BUILDING, with a reference that is the index's; and takes it out again. */
void artshard_add(struct artshard *s, struct artifact *a);
void artshard_drop(struct artshard *s, struct artifact *a);

/* It is READY, or about to be: it counts, and is the newest. */
void artshard_keep(struct artindex *x, struct artshard *s, struct artifact *a);

/* Takes one out that is READY; its reference is the caller's. */
void artshard_take(struct artindex *x, struct artshard *s, struct artifact *a);

/* It was used. */
void artshard_renew(struct artshard *s, struct artifact *a);

/* In a forked child: drops what other threads were making. Their references stay as they are. */
void artshard_forget_makers(struct artshard *s);

/* ---- no lock is held ---- */

/* Lets the oldest go that are not in use, until `bytes` are left; how many. */
size_t artindex_shrink(struct artindex *x, size_t bytes);

/* How many are in it, and of these READY. */
size_t artindex_count(struct artindex *x, size_t *ready);

#endif
