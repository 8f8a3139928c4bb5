#include "pool/pool.h"

#include "base/anchor.h"
#include "base/bits.h"
#include "heap/front.h"
#include "mem/meta.h"

#include <errno.h>
#include <string.h>

static struct table pools;         /* entries: const once made; number 0 is none */
static _Atomic(uint32_t) pool_top; /* numbers up to this were given out */
static _Atomic(uint32_t) naming;   /* see pool.h */

static struct table magazine_table;
static _Atomic(uint32_t) magazine_top;
static _Atomic(uint64_t) magazine_spare; /* stack: {tag : 32 | number : 32}, as in pool/depot.h */

/* ---- records of pools ---- */

static bool state_change(struct ash_pool *pool, enum pool_kind from, enum pool_kind to)
{
    uint32_t seen = load_relaxed(&pool->state);
    return pool_kind(seen) == from &&
           cas_strong_acq_rel(&pool->state, &seen, seen - from + to); /* pairs with pool_next */
}

static struct ash_pool *pool_at(uint32_t slot)
{
    return table_get(&pools, slot);
}

static struct ash_pool *record_make(void)
{
    uint32_t slot = add_relaxed(&pool_top, 1) + 1;
    _Atomic(void *) *place = slot < POOLS_MAX ? table_slot(&pools, slot) : NULL;
    struct ash_pool *pool = place == NULL ? NULL : meta_take(sizeof *pool);
    if (pool == NULL) {
        sub_relaxed(&pool_top, slot >= POOLS_MAX);
        return NULL;
    }
    pool->slot = slot;
    store_relaxed(&pool->state, POOL_SETUP);
    store_release(place, pool); /* its slot and state; pairs with pool_at */
    return pool;
}

ASH_COLD struct ash_pool *pool_claim(void)
{
    struct ash_pool *pool = NULL;
    uint32_t top = load_relaxed(&pool_top);
    for (uint32_t slot = 1; slot <= top; slot++) {
        pool = pool_at(slot);
        if (pool != NULL && state_change(pool, POOL_FREE, POOL_SETUP))
            break;
        pool = NULL;
    }
    if (pool == NULL)
        pool = record_make();
    if (pool == NULL)
        return NULL;
    pool->direct.pool = pool;
    return pool;
}

static void counters_clear(struct magazine *m)
{
    store_plain(&m->head.ash_word, 0);
    magazine_capacity_set(m, 0);
    store_relaxed(&m->hits, 0);
    store_relaxed(&m->misses, 0);
    store_relaxed(&m->taken, 0);
    store_relaxed(&m->given, 0);
}

ASH_COLD void pool_retire(struct ash_pool *pool)
{
    counters_clear(&pool->direct);
    pool_fast_set(pool, 0);
    store_relaxed(&pool->abandoned, 0);
    store_relaxed(&pool->magazines, NULL);
    store_relaxed(&pool->magazine_count, 0);
    store_relaxed(&pool->created, 0);
    store_relaxed(&pool->trimming, 0);
    store_relaxed(&pool->refused, 0);
    store_relaxed(&pool->trimmed, 0);
    store_relaxed(&pool->tuning, NULL);
    uint32_t use = load_relaxed(&pool->state) / POOL_KINDS + 1;
    store_release(&pool->state,
                  use * POOL_KINDS + POOL_FREE); /* all of it; pairs with pool_claim */
}

bool pool_end(struct ash_pool *pool)
{
    return state_change(pool, POOL_LIVE, POOL_ENDING);
}

void pool_revive(struct ash_pool *pool)
{
    (void)state_change(pool, POOL_ENDING, POOL_LIVE);
}

struct ash_pool *pool_next(size_t *at)
{
    ANCHOR("pools", pools);
    ANCHOR("pool_top", pool_top);
    ANCHOR_RECORD("pool", struct ash_pool);
    ANCHOR_RECORD("magazine", struct magazine);
    uint32_t top = load_relaxed(&pool_top);
    for (size_t slot = *at == 0 ? 1 : *at; slot <= top; slot++) {
        struct ash_pool *pool = pool_at((uint32_t)slot);
        /* acquire: what was set up; pairs with state_change */
        if (pool != NULL && pool_kind(load_acquire(&pool->state)) == POOL_LIVE) {
            *at = slot + 1;
            return pool;
        }
    }
    return NULL;
}

/* ---- names ---- */

static void name_words(uint64_t words[POOL_NAME_WORDS], const char *name)
{
    memset(words, 0, POOL_NAME);
    memcpy(words, name, strnlen(name, POOL_NAME - 1));
}

static bool name_is(const struct ash_pool *pool, const uint64_t words[POOL_NAME_WORDS])
{
    bool same = true;
    for (unsigned i = 0; i < POOL_NAME_WORDS; i++)
        same &= load_relaxed(&pool->name[i]) == words[i];
    return same;
}

void pool_name_get(const struct ash_pool *pool, char out[POOL_NAME])
{
    uint64_t words[POOL_NAME_WORDS];
    for (unsigned i = 0; i < POOL_NAME_WORDS; i++)
        words[i] = load_acquire(&pool->name[i]); /* so that `state` can be read behind it */
    memcpy(out, words, POOL_NAME);
}

struct ash_pool *pool_named(const char *name)
{
    uint64_t words[POOL_NAME_WORDS];
    name_words(words, name);
    for (size_t at = 0;;) {
        struct ash_pool *pool = pool_next(&at);
        if (pool == NULL || name_is(pool, words))
            return pool;
    }
}

/* Takes the right to a name from all who are about to get it; false when one has it. */
static ASH_COLD bool name_win(const struct ash_pool *self, const uint64_t words[POOL_NAME_WORDS])
{
    uint32_t top = load_relaxed(&pool_top);
    for (uint32_t slot = 1; slot <= top; slot++) {
        struct ash_pool *pool = pool_at(slot);
        if (pool == NULL || pool == self)
            continue;
        uint32_t seen = load_acquire(&pool->state); /* its name; pairs with pool_publish */
        while ((pool_kind(seen) == POOL_NAMING || pool_kind(seen) == POOL_LIVE) &&
               name_is(pool, words)) {
            if (pool_kind(seen) == POOL_LIVE)
                return false;
            if (cas_acq_rel(&pool->state, &seen, seen - POOL_NAMING + POOL_SETUP))
                break;
        }
    }
    return true;
}

ASH_COLD int pool_publish(struct ash_pool *pool, const char *name)
{
    uint64_t words[POOL_NAME_WORDS];
    name_words(words, name);
    for (unsigned i = 0; i < POOL_NAME_WORDS; i++)
        store_release(&pool->name[i], words[i]); /* the state before it; pairs with pool_name_get */
    do {
        if (!state_change(pool, POOL_SETUP, POOL_NAMING))
            continue;
        (void)exchange_acq_rel(&naming, pool->slot); /* orders the two: see pool.h */
        if (!name_win(pool, words)) {
            (void)state_change(pool, POOL_NAMING, POOL_SETUP);
            return -EEXIST;
        }
    } while (!state_change(pool, POOL_NAMING, POOL_LIVE));
    return 0;
}

/* ---- magazines ---- */

static struct magazine *magazine_at(uint32_t number)
{
    return table_get(&magazine_table, number - 1);
}

static struct magazine *magazine_make(void)
{
    uint32_t number = add_relaxed(&magazine_top, 1) + 1;
    _Atomic(void *) *place = table_slot(&magazine_table, number - 1);
    struct magazine *m = place == NULL ? NULL : meta_take(sizeof *m);
    if (m == NULL)
        return NULL;
    m->number = number;
    store_release(place, m); /* its number; pairs with magazine_at */
    return m;
}

static struct magazine *magazine_reuse(void)
{
    for (;;) {
        uint64_t seen = load_acquire(&magazine_spare); /* its link; pairs with magazine_retire */
        uint32_t number = (uint32_t)seen;
        if (number == 0)
            return NULL;
        struct magazine *m = magazine_at(number);
        uint64_t tag = (seen >> 32) + 1;
        if (cas_relaxed(&magazine_spare, &seen, tag << 32 | load_relaxed(&m->link)))
            return m;
    }
}

void magazine_retire(struct magazine *m)
{
    store_relaxed(&m->state, MAGAZINE_SPARE);
    uint64_t seen = load_relaxed(&magazine_spare);
    do
        store_relaxed(&m->link, (uint32_t)seen);
    while (!cas_release(&magazine_spare, &seen, /* the record; pairs with magazine_reuse */
                        (seen & ~(uint64_t)UINT32_MAX) | m->number));
}

ASH_COLD struct magazine *pool_magazine(struct ash_pool *pool)
{
    struct magazine *m = magazine_reuse();
    if (m == NULL)
        m = magazine_make();
    if (m == NULL)
        return NULL;
    counters_clear(m);
    m->pool = pool;
    m->head.ash_object = NULL;
    m->head.ash_dressed = pool->dress != 0;
    m->room = m->fixed = 0;
    store_relaxed(&m->state, MAGAZINE_OWNED);
    struct magazine *head = load_relaxed(&pool->magazines);
    do
        store_relaxed(&m->next, head);
    while (!cas_release(&pool->magazines, &head, m)); /* the record; pairs with walks */
    add_relaxed(&pool->magazine_count, 1);
    return m;
}

/* ---- sums ---- */

ASH_COLD void pool_sum(const struct ash_pool *pool, struct pool_sums *out)
{
    uint64_t taken = 0, given = 0;
    const struct magazine *m = &pool->direct;
    const struct magazine *next = load_acquire(&pool->magazines); /* pairs with pool_magazine */
    uint32_t most =
        load_relaxed(&pool->magazine_count) + 1; /* records may change lists: no circle */
    *out = (struct pool_sums){0};
    for (; m != NULL && most-- != 0; m = next, next = m == NULL ? NULL : load_acquire(&m->next)) {
        uint64_t word = magazine_word(m);
        uint32_t count = word_count(word);
        out->hits += load_relaxed(&m->hits) + word_hits(word);
        out->misses += load_relaxed(&m->misses);
        out->cached += count;
        out->largest = size_max(out->largest, count);
        taken += load_relaxed(&m->taken);
        given += load_relaxed(&m->given);
    }
    uint64_t away = given + out->cached;
    out->in_use = taken > away ? taken - away : 0;
}

uint32_t pool_bound(const struct ash_pool *pool, int *error)
{
    uint32_t capacity = load_relaxed(&pool->capacity);
    bool bytes = capacity == 0 || pool->byte_bound < capacity;
    *error = bytes ? ENOMEM : ENOBUFS;
    return bytes ? pool->byte_bound : capacity;
}
