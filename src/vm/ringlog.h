/*
 * A bounded map in one ring of words: a shard of the call cache.
 *
 *     ring    [ .. oldest entry | ... | newest entry .. free .. ]    tail to head, one lap at most
 *     index   slots of {tag 31 | read 1 | place 32}, open addressing, at most 3/4 full
 *
 *  1. An entry is {hash, lengths, function, end of life, arguments, result}, whole words, and never
 *     straddles the ring's end. Entries lie in the order they came, so those to be dropped are read
 *     one behind the other, and there is nothing to allocate or to free.
 *  2. An entry is live if a slot leads to it; else it is dead, and its room comes back when the
 *     tail has come to it.
 *  3. The tail drops the oldest, unless its slot says that it was read: then it moves to the head,
 *     as not read. It always fits: the room that it leaves is next to the free room, or the end of
 *     the ring is. A put spares at most RINGLOG_SPARED entries, which bounds its time.
 *  4. Writers hold `lock`, and `seq` is odd while they are at it. Readers take no lock: they read
 *     `seq`, the slot, the entry and `seq` again, and have read nothing at all if it is odd or has
 *     changed. Meanwhile they may see any mixture of old and new words, so they check each place
 *     and length against the ring before they use it.
 *  5. Every word that readers look at is stored with release and loaded with acquire. So a reader
 *     that sees a word of a change also sees, in its second look, that `seq` is odd or later. This
 *     does without fences (H.-J. Boehm, Can Seqlocks Get Along with Programming Language Memory
 *     Models?, 2012) and is plain moves on x86.
 *  6. The mark of having been read is all that readers write, by compare-and-swap in the slot that
 *     they came by. A writer that moves the slot at that moment loses a hint, never a fact.
 *
 * Rejected: a list in order of use (a hit writes four words that all readers share), entries from
 * malloc (a cache line missed for the list, one for the entry, one for its free), a lock for
 * readers (two locked instructions, 10 ns of the 30 that a hit takes).
 */
#ifndef ASH_RINGLOG_H
#define ASH_RINGLOG_H

#include "os/os_lock.h"

enum {
    RINGLOG_SPARED = 8,
    RINGLOG_HEADER = 4,      /* words of an entry before its arguments */
    RINGLOG_TAG = 33,        /* the bits of a hash from here on are in its slot */
    RINGLOG_WORDS = 1 << 30, /* of a ring, at most: lengths and places are 32 bits */
};

struct ringlog {
    _Atomic(uint64_t)
        *ring; /* const; its words atomic: writers under the lock, readers by rule 5 */
    _Atomic(uint64_t) *slot; /* const; likewise, and rule 6; 0 is empty */
    size_t words;            /* const: of the ring */
    size_t mask;             /* const: slots - 1 */
    size_t live_most;        /* const */

    ASH_LINE_ALIGNED struct os_lock lock;
    _Atomic(uint64_t) seq; /* atomic: raised before and after each change */
    size_t head;           /* under the lock, like all below: the next entry's place */
    size_t tail;           /* the oldest entry */
    size_t wrap;           /* while lapped: where the older lap ends */
    bool lapped;           /* the head is a lap ahead */
    size_t live;
    uint64_t evictions, spared, invalidated;
};

struct ringlog_key {
    uint64_t hash;
    uint64_t function;
    const void *args;
    size_t len;
};

enum ringlog_answer { RINGLOG_MISS, RINGLOG_HIT, RINGLOG_EXPIRED, RINGLOG_LONGER };

/* Words that some bytes, and that an entry takes. */
ASH_INLINE size_t ringlog_words_of(size_t bytes)
{
    return (bytes + 7) / 8;
}

ASH_INLINE size_t ringlog_words(size_t args_len, size_t len)
{
    return RINGLOG_HEADER + ringlog_words_of(args_len) + ringlog_words_of(len);
}

/* A ring of `words`, less than RINGLOG_WORDS, and `live_most` entries: false without memory. */
bool ringlog_init(struct ringlog *r, size_t words, size_t live_most);
void ringlog_fini(struct ringlog *r);

/* Slots of an index for `live_most` entries, of 8 bytes each. */
size_t ringlog_slots(size_t live_most);

/* Asks for the line of the index that a key's slot is in: to be called some instructions ahead. */
ASH_INLINE void ringlog_expect(const struct ringlog *r, uint64_t hash)
{
    __builtin_prefetch(&r->slot[(hash >> RINGLOG_TAG) & r->mask]);
}

/* RINGLOG_LONGER: `*len` is less than the result's length, which it says then. */
enum ringlog_answer ringlog_get(struct ringlog *r, const struct ringlog_key *key, uint64_t now_ms,
                                void *result, size_t *len);

/* The entry's words are at most a quarter of the ring's. */
void ringlog_put(struct ringlog *r, const struct ringlog_key *key, const void *result, size_t len,
                 uint64_t now_ms, uint64_t end_ms);

bool ringlog_remove(struct ringlog *r, const struct ringlog_key *key);
size_t ringlog_remove_prefix(struct ringlog *r, uint64_t function, const void *prefix, size_t len);
size_t ringlog_clear(struct ringlog *r);

/* Words between tail and head. The lock is held. */
size_t ringlog_used(const struct ringlog *r);

#endif
