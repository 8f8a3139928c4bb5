#include "txn/sched.h"

#include "ashlar/malloc.h"
#include "os/check.h"

#include <errno.h>
#include <string.h>

enum { BUCKETS_FIRST = 2048, RECORDS_AT_ONCE = 256 };

/* A key for which there are requests. */
struct sched_key {
    uint64_t key;
    struct sched_key *next; /* in its bucket, or in the list of free ones */
    uint32_t active;        /* requests that are granted and not released; never 0 in the table */
    bool writing;           /* it is one, and writes */
    uint64_t last;          /* serial of the transaction that asked last */
    struct sched_request *first_waiting, *last_waiting; /* the second only if there is a first */
};

ASH_INLINE bool request_writes(const struct sched_request *r)
{
    return (r->txn & SCHED_WRITES) != 0;
}

ASH_INLINE struct sched_txn *request_txn(const struct sched_request *r)
{
    return (struct sched_txn *)(r->txn & ~(uintptr_t)SCHED_WRITES);
}

ASH_INLINE struct sched_key **bucket_of(const struct sched *s, uint64_t key)
{
    uint64_t h = key * 0x9e3779b97f4a7c15u;
    return &s->bucket[(h ^ h >> 32) & s->mask];
}

int sched_init(struct sched *s)
{
    memset(s, 0, sizeof *s);
    s->serial = 1;
    s->mask = BUCKETS_FIRST - 1;
    s->arena = ash_arena_create(NULL, "sched", NULL);
    s->bucket = ash_calloc(BUCKETS_FIRST, sizeof(struct sched_key *));
    if (s->arena != NULL && s->bucket != NULL)
        return 0;
    sched_fini(s);
    return -ENOMEM;
}

void sched_fini(struct sched *s)
{
    ash_arena_destroy(s->arena);
    ash_free(s->bucket);
}

/* ---- memory ---- */

static bool records_add(struct sched *s)
{
    struct sched_key *k = ash_arena_alloc(s->arena, RECORDS_AT_ONCE * sizeof *k);
    for (unsigned i = 0; k != NULL && i < RECORDS_AT_ONCE; i++) {
        k[i].next = i + 1 < RECORDS_AT_ONCE ? &k[i + 1] : s->free;
        k[i].key = 0;
    }
    if (k == NULL)
        return false;
    s->free = k;
    s->free_count += RECORDS_AT_ONCE;
    return true;
}

static bool buckets_double(struct sched *s)
{
    struct sched_key **old = s->bucket;
    size_t count = s->mask + 1;
    struct sched_key **bucket = ash_calloc(2 * count, sizeof *bucket);
    if (bucket == NULL)
        return false;
    s->bucket = bucket;
    s->mask = 2 * count - 1;
    for (size_t i = 0; i < count; i++)
        for (struct sched_key *k = old[i], *next; k != NULL; k = next) {
            struct sched_key **to = bucket_of(s, k->key);
            next = k->next;
            k->next = *to;
            *to = k;
        }
    ash_free(old);
    return true;
}

bool sched_reserve_slow(struct sched *s, unsigned keys)
{
    while (s->free_count < keys)
        if (!records_add(s))
            return false;
    while (SCHED_LOAD * (s->keys + keys) > s->mask)
        if (!buckets_double(s))
            return false;
    return true;
}

/* ---- requests ---- */

ASH_INLINE struct sched_key *key_create(struct sched *s, struct sched_key **bucket, uint64_t key)
{
    struct sched_key *k = s->free;
    s->free = k->next;
    s->free_count--;
    s->keys++;
    k->key = key;
    k->next = *bucket;
    k->first_waiting = NULL;
    *bucket = k;
    return k;
}

ASH_INLINE void key_destroy(struct sched *s, struct sched_key *k)
{
    struct sched_key **at = bucket_of(s, k->key);
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    k->next = s->free;
    s->free = k;
    s->free_count++;
    s->keys--;
}

/*
 * Asks for one key. A key that the transaction has asked for before is its already: writes come
 * first, so what it has is enough.
 */
ASH_INLINE void ask(struct sched *s, struct sched_txn *t, uint64_t key, bool writes)
{
    struct sched_key **bucket = bucket_of(s, key), *k = *bucket;
    while (k != NULL && k->key != key)
        k = k->next;
    bool fresh = k == NULL;
    if (ASH_LIKELY(fresh)) {
        k = key_create(s, bucket, key);
        k->active = 1;
        k->writing = writes;
    } else if (k->last == t->serial) {
        return;
    }
    k->last = t->serial;
    struct sched_request *r = &t->request[t->requests++];
    *r = (struct sched_request){k, NULL, (uintptr_t)t | (writes ? SCHED_WRITES : 0)};
    if (ASH_LIKELY(fresh))
        return;
    if (k->first_waiting == NULL && !writes && !k->writing) {
        k->active++;
        return;
    }
    if (k->first_waiting == NULL)
        k->first_waiting = r;
    else
        k->last_waiting->next = r;
    k->last_waiting = r;
    t->missing++;
}

bool sched_add(struct sched *s, struct sched_txn *t, const uint64_t *writes, unsigned write_count,
               const uint64_t *reads, unsigned read_count)
{
    t->serial = s->serial++;
    t->missing = 0;
    t->requests = 0;
    for (unsigned i = 0; i < write_count; i++)
        ask(s, t, writes[i], true);
    for (unsigned i = 0; i < read_count; i++)
        ask(s, t, reads[i], false);
    s->conflicts += t->missing != 0;
    return t->missing == 0;
}

/* Nothing of the key is granted: the first in line is, and if it reads, all readers next to it. */
static void grant(struct sched_key *k, struct sched_txn ***last)
{
    struct sched_request *r = k->first_waiting;
    k->writing = request_writes(r);
    do {
        struct sched_txn *t = request_txn(r);
        k->active++;
        if (--t->missing == 0) {
            t->next_ready = NULL;
            **last = t;
            *last = &t->next_ready;
        }
        r = r->next;
    } while (r != NULL && !request_writes(r) && !k->writing);
    k->first_waiting = r;
}

void sched_release(struct sched *s, struct sched_txn *t, struct sched_txn ***last)
{
    t->serial = 0;
    for (unsigned i = 0; i < t->requests; i++) {
        struct sched_key *k = t->request[i].key;
        if (--k->active != 0)
            continue;
        if (ASH_LIKELY(k->first_waiting == NULL))
            key_destroy(s, k);
        else
            grant(k, last);
    }
}

void sched_check(const struct sched *s)
{
    size_t keys = 0, free = 0;
    for (size_t i = 0; i <= s->mask; i++)
        for (const struct sched_key *k = s->bucket[i]; k != NULL; k = k->next, keys++) {
            uint64_t before = 0;
            if (bucket_of(s, k->key) != &s->bucket[i] || k->active == 0 ||
                (k->writing && k->active != 1))
                fatal("key %jx is not as it should be", k->key);
            for (const struct sched_request *r = k->first_waiting; r != NULL; r = r->next) {
                if (r->key != k || request_txn(r)->missing == 0 || request_txn(r)->serial <= before)
                    fatal("the queue of key %jx is not in order", k->key);
                before = request_txn(r)->serial;
            }
        }
    for (const struct sched_key *k = s->free; k != NULL; k = k->next)
        free++;
    if (keys != s->keys || free != s->free_count)
        fatal("%zu keys and %zu free records, counted as %zu and %zu", keys, free, s->keys,
              s->free_count);
}
