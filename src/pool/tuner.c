#include "pool/tuner.h"

#include "base/config.h"
#include "heap/front.h"
#include "os/os_clock.h"

#include <errno.h>

enum { MIN_DEFAULT = 10, MAX_DEFAULT = 1024, GETS_LEAST = 32, SHRINK_LEAST = 10 };

#define INTERVAL_DEFAULT ((int64_t)60 * 1000000000)
#define LOW_DEFAULT      0.9
#define HIGH_DEFAULT     0.99
#define NEVER            INT64_MIN

struct tuning {
    struct ash_tuner rules;         /* const */
    _Atomic(int64_t) last;          /* atomic: the time of the last look */
    _Atomic(uint64_t) hits, misses; /* whoever claimed a look: as they were then */
    struct tuning *older;           /* const */
};

static _Atomic(bool) driven; /* the program calls ash_tune: misses leave it to that */

static uint32_t clamp(uint64_t n, const struct ash_tuner *rules)
{
    return (uint32_t)(n < rules->min ? rules->min : n > rules->max ? rules->max : n);
}

/* The capacity that the rules want. */
static uint32_t wanted(const struct ash_tuner *rules, uint32_t capacity, uint64_t hits,
                       uint64_t gets, uint64_t size)
{
    double rate = (double)hits / (double)gets;
    if (rate < rules->low_rate)
        return clamp(size_max(capacity + 1, (size_t)capacity * 6 / 5), rules);
    if (rate > rules->high_rate && size < capacity / 2)
        return clamp(size_min(size_max(2 * size, SHRINK_LEAST), capacity), rules);
    return clamp(capacity, rules);
}

/* True when the capacity was changed. */
static ASH_COLD bool look(struct ash_pool *pool, struct tuning *t, int64_t now)
{
    int64_t last = load_relaxed(&t->last);
    bool due = last == NEVER || now - last >= t->rules.interval_ns;
    if (!due && now >= last)
        return false;
    struct pool_sums sums;
    pool_sum(pool, &sums);
    uint64_t hits = sums.hits - load_relaxed(&t->hits);
    uint64_t gets = hits + sums.misses - load_relaxed(&t->misses);
    if (due && gets < GETS_LEAST)
        return false;
    if (!cas_strong_relaxed(&t->last, &last, now)) /* another thread looks */
        return false;
    store_relaxed(&t->hits, sums.hits);
    store_relaxed(&t->misses, sums.misses);
    uint32_t capacity = load_relaxed(&pool->cache);
    uint32_t next = due ? wanted(&t->rules, capacity, hits, gets, sums.largest) : capacity;
    store_relaxed(&pool->cache, next);
    return next != capacity;
}

ASH_COLD void tuner_look(struct ash_pool *pool)
{
    struct tuning *t = load_acquire(&pool->tuning); /* pairs with ash_pool_set_tuner */
    if (t == NULL || t->rules.min == 0 || load_relaxed(&driven))
        return;
    int64_t now =
        t->rules.now != NULL ? t->rules.now(t->rules.user) : (int64_t)os_clock_ms() * 1000000;
    (void)look(pool, t, now);
}

void tuner_fini(struct ash_pool *pool)
{
    struct tuning *t = load_acquire(&pool->tuning); /* pairs with ash_pool_set_tuner */
    for (struct tuning *older; t != NULL; t = older) {
        older = t->older;
        front_free(t);
    }
}

ASH_API ASH_COLD int ash_tune(int64_t now_ns)
{
    int changed = 0;
    struct ash_pool *pool;
    store_relaxed(&driven, true);
    for (size_t at = 0; (pool = pool_next(&at)) != NULL;) {
        struct tuning *t = load_acquire(&pool->tuning); /* pairs with ash_pool_set_tuner */
        if (t != NULL && t->rules.min != 0)
            changed += look(pool, t, now_ns);
    }
    return changed;
}

static ASH_COLD bool rules_read(struct ash_tuner *rules, const struct ash_tuner *from)
{
    if (!config_read(rules, sizeof *rules, from, sizeof rules->struct_size))
        return false;
    if (rules->max == 0)
        rules->max = MAX_DEFAULT;
    if (rules->min == 0)
        rules->min = rules->max < MIN_DEFAULT ? rules->max : MIN_DEFAULT;
    if (rules->interval_ns == 0)
        rules->interval_ns = INTERVAL_DEFAULT;
    if (rules->low_rate == 0)
        rules->low_rate = LOW_DEFAULT;
    if (rules->high_rate == 0)
        rules->high_rate = HIGH_DEFAULT;
    return rules->min <= rules->max && rules->max <= ASH_POOL_CACHE_MAX && rules->interval_ns > 0 &&
           rules->low_rate > 0 && rules->low_rate <= rules->high_rate && rules->high_rate <= 1;
}

ASH_API ASH_COLD int ash_pool_set_tuner(struct ash_pool *pool, const struct ash_tuner *rules)
{
    struct ash_tuner read = {0}; /* min == 0: none */
    if (!pool_is_live(pool) || (rules != NULL && !rules_read(&read, rules)))
        return -EINVAL;
    struct tuning *older = load_acquire(&pool->tuning); /* pairs with the release below */
    if (rules == NULL && older == NULL)
        return 0;
    struct tuning *t = front_calloc(1, sizeof *t);
    if (t == NULL)
        return -ENOMEM;
    struct pool_sums sums;
    pool_sum(pool, &sums);
    t->rules = read;
    store_relaxed(&t->last, read.now != NULL ? read.now(read.user) : NEVER);
    store_relaxed(&t->hits, sums.hits);
    store_relaxed(&t->misses, sums.misses);
    do
        t->older = older;
    while (!cas_acq_rel(&pool->tuning, &older, t)); /* the settings; pairs with tuner_look */
    return 0;
}
