#include "pool/mapentry.h"

#include "heap/front.h"

#include <string.h>

#define USER       ((uint64_t)1)
#define USERS_MASK (((uint64_t)1 << 30) - 1)
#define STATE_MASK ((uint64_t)3 << 30)
#define FREE       ((uint64_t)0)
#define BUSY       ((uint64_t)1 << 30)
#define LIVE       ((uint64_t)2 << 30)
#define DEAD       ((uint64_t)3 << 30)
#define HIT        ((uint64_t)1 << 32)
#define HITS_SHIFT 32

_Static_assert(sizeof(struct map_entry) <= 128, "an entry is two cache lines");

/* ---- paths ---- */

/* Eight bytes a step; the last step reads what is left. */
struct map_key map_key_of(const char *path)
{
    struct map_key key = {.path = path, .n = strlen(path) + 1};
    uint64_t h = key.n * 0x9e3779b97f4a7c15u;
    for (size_t at = 0; at < key.n; at += 8) {
        uint64_t word = 0;
        memcpy(&word, path + at, size_min(8, key.n - at));
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    key.hash = h;
    return key;
}

/* ---- the table ---- */

bool map_table_create(struct map_table *t, uint32_t count)
{
    uint32_t buckets = 1;
    while (buckets < count)
        buckets *= 2;
    *t = (struct map_table){.count = count, .mask = buckets - 1};
    t->entries = front_calloc(count, sizeof *t->entries);
    t->buckets = front_calloc(buckets, sizeof *t->buckets);
    if (t->entries != NULL && t->buckets != NULL)
        return true;
    map_table_destroy(t);
    return false;
}

void map_table_destroy(struct map_table *t)
{
    front_free(t->entries);
    front_free(t->buckets);
    *t = (struct map_table){0};
}

ASH_INLINE struct map_entry *entry_at(struct map_table *t, uint32_t place)
{
    return place == 0 ? NULL : &t->entries[place - 1];
}

ASH_INLINE _Atomic(uint32_t) *bucket_of(struct map_table *t, uint64_t hash)
{
    return &t->buckets[hash & t->mask];
}

/* ---- users ---- */

bool mapentry_get(struct map_entry *e)
{
    uint64_t word = load_relaxed(&e->word);
    do {
        if ((word & STATE_MASK) != LIVE)
            return false;
    } while (!cas_acquire(&e->word, &word, word + USER + HIT)); /* pairs with mapentry_publish */
    return true;
}

void mapentry_share(struct map_entry *e)
{
    add_relaxed(&e->word, USER + HIT); /* relaxed: the caller's share keeps the entry */
}

bool mapentry_put(struct map_entry *e)
{
    /* release: our use of the mapping; acquire: the others', for the one who unmaps it */
    uint64_t was = sub_acq_rel(&e->word, USER);
    return (was & (STATE_MASK | USERS_MASK)) == (DEAD | USER);
}

bool mapentry_in_use(const struct map_entry *e)
{
    return (load_relaxed(&e->word) & USERS_MASK) != 0;
}

bool mapentry_is_idle(const struct map_entry *e)
{
    return (load_relaxed(&e->word) & (STATE_MASK | USERS_MASK)) == LIVE;
}

uint64_t mapentry_take_hits(struct map_entry *e)
{
    uint64_t word = load_relaxed(&e->word);
    while (!cas_relaxed(&e->word, &word, word & (HIT - 1))) /* relaxed: a counter */
        ;
    return word >> HITS_SHIFT;
}

uint64_t mapentry_hits(const struct map_entry *e)
{
    return load_relaxed(&e->word) >> HITS_SHIFT;
}

struct map_entry *mapentry_find(struct map_table *t, const struct map_key *key)
{
    /* acquire: the entry's hash and next; pairs with mapentry_publish */
    uint32_t place = load_acquire(bucket_of(t, key->hash));
    for (uint32_t steps = 0; place != 0 && steps < t->count; steps++) {
        struct map_entry *e = entry_at(t, place);
        if (load_relaxed(&e->hash) == key->hash && mapentry_get(e))
            return e;
        place = load_acquire(&e->next); /* as above */
    }
    return NULL;
}

bool mapentry_is(const struct map_entry *e, const struct map_key *key)
{
    return e->path_n == key->n && memcmp(e->path, key->path, key->n) == 0;
}

/* ---- an entry's life ---- */

struct map_entry *mapentry_take(struct map_table *t)
{
    uint32_t at = load_relaxed(&t->hand);
    for (uint32_t i = 0; i < t->count; i++, at++) {
        struct map_entry *e = &t->entries[at % t->count];
        uint64_t word = load_relaxed(&e->word);
        /* acquire: the last owner's use of the fields; pairs with mapentry_free */
        if (word == FREE && cas_strong_acq_rel(&e->word, &word, BUSY)) {
            store_relaxed(&t->hand, at + 1);
            return e;
        }
    }
    return NULL;
}

void mapentry_free(struct map_entry *e)
{
    store_release(&e->word, FREE); /* our use of the fields; pairs with mapentry_take */
}

struct map_entry *mapentry_locate(struct map_table *t, const struct map_key *key)
{
    struct map_entry *e = entry_at(t, load_relaxed(bucket_of(t, key->hash)));
    /* An entry in a chain that is not LIVE was left so by a thread that vanished. */
    while (e != NULL && (load_relaxed(&e->hash) != key->hash ||
                         (load_relaxed(&e->word) & STATE_MASK) != LIVE || !mapentry_is(e, key)))
        e = entry_at(t, load_relaxed(&e->next));
    return e;
}

void mapentry_publish(struct map_table *t, struct map_entry *e)
{
    _Atomic(uint32_t) *bucket = bucket_of(t, load_relaxed(&e->hash));
    store_relaxed(&e->next, load_relaxed(bucket));
    /* In this order, a LIVE entry is in its chain at any instant. */
    store_release(bucket, (uint32_t)(e - t->entries) + 1); /* its next; pairs with mapentry_find */
    store_release(&e->word, LIVE | USER);                  /* its fields; pairs with mapentry_get */
}

static void unlink_entry(struct map_table *t, struct map_entry *e)
{
    uint32_t place = (uint32_t)(e - t->entries) + 1;
    _Atomic(uint32_t) *at = bucket_of(t, load_relaxed(&e->hash));
    while (load_relaxed(at) != place)
        at = &entry_at(t, load_relaxed(at))->next;
    store_release(at, load_relaxed(&e->next)); /* the next one's; pairs with mapentry_find */
}

enum map_claim mapentry_claim(struct map_table *t, struct map_entry *e, bool even_used)
{
    uint64_t word = load_relaxed(&e->word), state;
    do {
        bool used = (word & USERS_MASK) != 0;
        if ((word & STATE_MASK) != LIVE || (used && !even_used))
            return MAP_KEPT;
        state = used ? DEAD : BUSY;
        /* acquire: what the last users did with the mapping; pairs with mapentry_put */
    } while (!cas_acq_rel(&e->word, &word, (word & ~STATE_MASK) | state));
    unlink_entry(t, e);
    return state == DEAD ? MAP_DEAD : MAP_BUSY;
}
