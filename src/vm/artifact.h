/*
 * One artifact with its key: a block of malloc's or a mapped file, and who still needs it.
 *
 *     BUILDING  --artcache: its data is set-->  READY
 *        \------its maker gave up----------->   FAILED
 *
 * `refs` counts the index, the maker, those who wait and the slices that callers hold. A reference
 * is taken by whoever has one, or under the lock of the shard that has it in its index; the last
 * one to go unmaps and frees.
 */
#ifndef ASH_ARTIFACT_H
#define ASH_ARTIFACT_H

#include "ashlar/artcache.h"
#include "base/atomic.h"

enum artifact_state { ARTIFACT_BUILDING, ARTIFACT_READY, ARTIFACT_FAILED };

struct artifact {
    _Atomic(uint32_t) refs;
    _Atomic(uint32_t) state;     /* atomic: enum artifact_state; waited for as a futex */
    uint64_t hash[2];            /* const, like the key */
    struct ash_artcache_key key; /* points behind this struct */
    const void *data;            /* the maker; const once READY, like those below */
    size_t len;
    void *block; /* to be freed, if it is not a mapped file */
    void *map;   /* to be unmapped, or NULL */
    size_t map_len;
    uintptr_t maker;       /* const: the thread that set out to make it */
    struct artifact *next; /* under the shard's lock, like those below: the bucket's next */
    struct artifact *newer;
    struct artifact *older;
    uint64_t used_ms;    /* when it was last asked for */
    uint64_t touched_ms; /* when its file was last told so */
};

/* The 128 bits that a key is known by; stored in names of files: see base/hash.h. */
void artifact_hash(const struct ash_artcache_key *key, uint64_t hash[2]);

/* BUILDING, with one reference and a copy of the key; NULL when there is no memory. */
struct artifact *artifact_create(const struct ash_artcache_key *key, const uint64_t hash[2]);

bool artifact_is(const struct artifact *a, const struct ash_artcache_key *key,
                 const uint64_t hash[2]);

/* Bytes that count against the budget of memory. */
size_t artifact_bytes(const struct artifact *a);

ASH_INLINE void artifact_ref(struct artifact *a)
{
    add_relaxed(&a->refs, 1); /* whoever calls has one, or the shard's lock: it cannot be 0 */
}

void artifact_unref(struct artifact *a);

/* Sets the end of BUILDING; artifact_wake, without a lock, is to follow for those who wait. */
void artifact_settle(struct artifact *a, enum artifact_state state);
void artifact_wake(struct artifact *a);

/*
 * Waits until it is settled: 0, or -EAGAIN (if `timeout_ns` is 0) or -ETIMEDOUT. Negative: for
 * ever. The caller has a reference.
 */
int artifact_wait(struct artifact *a, int64_t timeout_ns);

#endif
