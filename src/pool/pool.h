/*
 * The record of a pool, and the register of all pools.
 *
 * An object is in one place at a time:
 *
 *   fresh      never used, in the store (pool/store.h)
 *   depot      in a batch (pool/depot.h)
 *   magazine   in the cache of a thread or of a program (pool/magazine.h)
 *   out        in the program's hands
 *
 *   carved  = raw + spare + free in the depot + in magazines + out
 *   created = carved - spare                                  (bounded by the capacity)
 *   out     = the sum over magazines of taken - given - count
 *   gets    = the sum over magazines of hits + misses
 *
 * Every counter of a magazine has one writer, so at rest the sums are exact; those of `direct`,
 * which threads use that have no magazine, are changed by locked adds. One word holds a magazine's
 * count and its hits, so that counting a hit costs nothing; misses and full magazines move the hits
 * to a counter of their own. (Two words cost a pair 6.7 to 9.2 ns where one costs 6.3 to 6.6, the
 * forwarding of stores to loads being what bounds it.)
 *
 * Records of pools and of magazines are never given back, only used again: who shows statistics may
 * read one at any time. What such a reader looks at is atomic, and `state` holds the number of the
 * record's use, so that it can tell when the record changed under its eyes.
 *
 * state: use : 29 | kind : 3
 *
 *   FREE -> SETUP (claimed) -> NAMING -> LIVE -> ENDING -> FREE, the next use
 *
 * A name belongs to at most one LIVE pool. A pool that is to get one shows its name (NAMING), then
 * looks at all others: a LIVE one of that name wins over it, and a NAMING one loses to it (back to
 * SETUP, by compare-and-swap). Only if it is still NAMING then, it becomes LIVE. Between showing
 * and looking each swaps one common word: of two, the later one sees the earlier one's name.
 */
#ifndef ASH_POOL_H
#define ASH_POOL_H

#include "ashlar/pool.h"
#include "base/name.h"
#include "pool/depot.h"
#include "pool/store.h"

enum { POOL_NAME = NAME_CAP, POOL_NAME_WORDS = POOL_NAME / 8, POOLS_MAX = 1 << 16 };

enum pool_kind { POOL_FREE, POOL_SETUP, POOL_NAMING, POOL_LIVE, POOL_ENDING, POOL_KINDS = 8 };

/* What a call does to an object beyond moving it: any of these keeps it off the hit paths. */
enum pool_dress {
    DRESS_RESET = 1,
    DRESS_ZERO = 2,
    DRESS_DEBUG = 4,
    DRESS_TOOL = 8 /* memcheck or AddressSanitizer is told */
};

enum magazine_state {
    MAGAZINE_SPARE, /* belongs to no pool */
    MAGAZINE_OWNED, /* one thread, or the program, uses it */
    MAGAZINE_LEFT,  /* its thread has ended: for the next one, with what is in it */
    MAGAZINE_DEAD   /* its pool is gone; its owner makes it SPARE */
};

struct magazine {
    /* What the inline functions use. Its words are plain ones there: magazine_word and so on. */
    ASH_LINE_ALIGNED struct ash_pool_cache head;
    _Atomic(uint64_t) hits;          /* counter: those that have left the word */
    _Atomic(uint64_t) misses;        /* counter: other gets */
    _Atomic(uint64_t) taken;         /* counter: objects from the depot or the store */
    _Atomic(uint64_t) given;         /* counter: objects to the depot */
    uint32_t room;                   /* owner: places in head.ash_object */
    uint32_t fixed;                  /* const while owned: capacity it keeps; 0: the pool's */
    struct ash_pool *pool;           /* const while owned */
    _Atomic(uint32_t) state;         /* atomic: enum magazine_state */
    uint32_t number;                 /* const: in the register of magazines, from 1 */
    _Atomic(struct magazine *) next; /* const while the pool lives: its list */
    _Atomic(uint32_t) link;          /* atomic: the next spare one */
};

struct tuning;

struct ash_pool {
    struct ash_pool_head head; /* plain: what the inline functions use, see pool_fast_set */
    uint32_t slot;             /* const: place in the register, and in threads' tables */
    _Atomic(uint32_t) state;
    _Atomic(uint32_t) abandoned; /* hint: magazines were left with objects in them */
    _Atomic(uint64_t) name[POOL_NAME_WORDS];
    _Atomic(struct magazine *) magazines; /* all there are; nothing leaves the list */
    _Atomic(uint32_t) magazine_count;
    _Atomic(uint32_t) cache;    /* the capacity of threads' magazines */
    _Atomic(uint32_t) capacity; /* objects at most, 0 for no bound */
    _Atomic(uint32_t) created;
    _Atomic(uint32_t) trimming; /* a thread has the sole right to take objects away */
    uint32_t trims;             /* trimmer: their number */
    _Atomic(uint64_t) refused;  /* gets that failed */
    _Atomic(uint64_t) trimmed;  /* chunks given back */
    _Atomic(struct tuning *) tuning;
    struct magazine direct; /* of threads without one: capacity 0, counters by locked adds */

    /* Set up before the pool is LIVE. */
    ASH_LINE_ALIGNED unsigned flags; /* const: ASH_POOL_... */
    unsigned dress;                  /* const: enum pool_dress */
    uint32_t byte_bound;             /* const: objects that max_bytes allow */
    bool lazy;                       /* const: objects are constructed one by one */
    bool keeps;                      /* const: what a free object holds is its user's */
    struct magazine *own;            /* const: of a pool for a single thread; else NULL */
    int (*ctor)(void *obj, void *user);
    void (*reset)(void *obj, void *user);
    void (*dtor)(void *obj, void *user);
    void *user;
    struct store store;
    struct depot depot;
};

_Static_assert(offsetof(struct ash_pool, head) == 0 && offsetof(struct magazine, head) == 0 &&
                   POOLS_MAX == 1 << 16 && ASH_POOL_CACHE_MAX < 1 << 16,
               "programs were compiled with these");

ASH_INLINE enum pool_kind pool_kind(uint32_t state)
{
    return (enum pool_kind)(state % POOL_KINDS);
}

ASH_INLINE bool pool_is_live(const struct ash_pool *pool)
{
    return pool != NULL && pool_kind(load_relaxed(&pool->state)) == POOL_LIVE;
}

/* A record in SETUP with all counters 0; NULL: no memory, or too many pools. */
struct ash_pool *pool_claim(void);

/* Gives the pool its name and makes it LIVE: 0, or -EEXIST. */
int pool_publish(struct ash_pool *pool, const char *name);

/* LIVE -> ENDING; false when it is not LIVE. */
bool pool_end(struct ash_pool *pool);

/* ENDING -> LIVE. */
void pool_revive(struct ash_pool *pool);

/* The record is for the next pool. */
void pool_retire(struct ash_pool *pool);

/* The first LIVE pool whose slot is `*at` or more; sets `*at` behind it. NULL: none. */
struct ash_pool *pool_next(size_t *at);

/* The LIVE pool of that name. */
struct ash_pool *pool_named(const char *name);

/* The pool's name as it is now. */
void pool_name_get(const struct ash_pool *pool, char out[POOL_NAME]);

/* What the hit paths are to use: `slot`, the address of `own`, or 0 for none. */
ASH_INLINE void pool_fast_set(struct ash_pool *pool, uintptr_t fast)
{
    store_plain(&pool->head.ash_fast, fast);
}

/* A magazine's word: hits : 48 | count : 16, see above. */
ASH_INLINE uint64_t magazine_word(const struct magazine *m)
{
    return load_plain(&m->head.ash_word);
}

/* Objects in it. */
ASH_INLINE uint32_t word_count(uint64_t word)
{
    return (uint16_t)word;
}

ASH_INLINE uint64_t word_hits(uint64_t word)
{
    return word >> 16;
}

ASH_INLINE uint32_t magazine_count(const struct magazine *m)
{
    return word_count(magazine_word(m));
}

/* Its owner sets how many there are. */
ASH_INLINE void magazine_set(struct magazine *m, uint32_t count)
{
    store_plain(&m->head.ash_word, magazine_word(m) - magazine_count(m) + count);
}

/* Its owner takes the hits out of the word, to count them elsewhere. */
ASH_INLINE uint64_t magazine_hits_take(struct magazine *m)
{
    uint64_t word = magazine_word(m);
    store_plain(&m->head.ash_word, word_count(word));
    return word_hits(word);
}

/* Objects that it may hold: 0 once the pool is gone. */
ASH_INLINE uint32_t magazine_capacity(const struct magazine *m)
{
    return load_plain(&m->head.ash_capacity);
}

ASH_INLINE void magazine_capacity_set(struct magazine *m, uint32_t capacity)
{
    store_plain(&m->head.ash_capacity, capacity);
}

/* A magazine for the pool, on its list, OWNED, empty, without room; NULL: no memory. */
struct magazine *pool_magazine(struct ash_pool *pool);

/* A magazine whose pool is gone, or that is on no list, is for the next one who needs one. */
void magazine_retire(struct magazine *m);

/* Counts on a magazine, which may be the pool's `direct`. */
#define magazine_count_up(m, field, n)                                                             \
    (ASH_LIKELY((m) != &(m)->pool->direct) ? counter_add(&(m)->field, (n))                         \
                                           : (void)add_relaxed(&(m)->field, (n)))

/* Counters of all its magazines; while other threads run, a moment apart from one another. */
struct pool_sums {
    uint64_t hits, misses, in_use, cached, largest /* magazine */;
};

void pool_sum(const struct ash_pool *pool, struct pool_sums *out);

/* Objects that may exist; *error is what is said when there are so many. */
uint32_t pool_bound(const struct ash_pool *pool, int *error);

#endif
