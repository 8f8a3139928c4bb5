#include "vm/artindex.h"

#include "ashlar/malloc.h"
#include "os/os_clock.h"
#include "os/os_fork.h"

enum {
    BUCKETS_FIRST = 64,
    OLDEST_TRIED = 64, /* artifacts in use at the end of a list that are passed over */
};

/* ---- a shard; its lock is held ---- */

/* The link that leads to the key's artifact; one that holds NULL if it is not there. */
static struct artifact **shard_link(struct artshard *s, const struct ash_artcache_key *key,
                                    const uint64_t hash[2])
{
    struct artifact **link = &s->bucket[hash[0] & (s->buckets - 1)];
    while (*link != NULL && !artifact_is(*link, key, hash))
        link = &(*link)->next;
    return link;
}

struct artifact *artshard_find(struct artshard *s, const struct ash_artcache_key *key,
                               const uint64_t hash[2])
{
    return *shard_link(s, key, hash);
}

static void list_add(struct artshard *s, struct artifact *a)
{
    a->older = s->newest;
    a->newer = NULL;
    if (s->newest != NULL)
        s->newest->newer = a;
    else
        s->oldest = a;
    s->newest = a;
}

static void list_remove(struct artshard *s, struct artifact *a)
{
    if (a->newer != NULL)
        a->newer->older = a->older;
    else
        s->newest = a->older;
    if (a->older != NULL)
        a->older->newer = a->newer;
    else
        s->oldest = a->newer;
}

void artshard_add(struct artshard *s, struct artifact *a)
{
    struct artifact **link = &s->bucket[a->hash[0] & (s->buckets - 1)];
    a->next = *link;
    *link = a;
    s->count++;
}

void artshard_drop(struct artshard *s, struct artifact *a)
{
    *shard_link(s, &a->key, a->hash) = a->next;
    s->count--;
}

void artshard_take(struct artindex *x, struct artshard *s, struct artifact *a)
{
    artshard_drop(s, a);
    list_remove(s, a);
    sub_relaxed(&x->bytes, artifact_bytes(a));
}

/* Doubles the table when chains grow; without memory they just grow. */
static void shard_grow(struct artshard *s)
{
    if (s->count < s->buckets)
        return;
    struct artifact **old = s->bucket, **wide = ash_calloc(2 * s->buckets, sizeof *wide);
    if (wide == NULL)
        return;
    s->bucket = wide;
    s->buckets *= 2;
    for (size_t i = 0; i < s->buckets / 2; i++)
        for (struct artifact *a = old[i], *next; a != NULL; a = next) {
            struct artifact **link = &wide[a->hash[0] & (s->buckets - 1)];
            next = a->next;
            a->next = *link;
            *link = a;
        }
    ash_free(old);
}

void artshard_keep(struct artindex *x, struct artshard *s, struct artifact *a)
{
    a->used_ms = a->touched_ms = os_clock_ms();
    list_add(s, a);
    add_relaxed(&x->bytes, artifact_bytes(a));
    shard_grow(s);
}

void artshard_renew(struct artshard *s, struct artifact *a)
{
    if (s->newest != a) {
        list_remove(s, a);
        list_add(s, a);
    }
}

void artshard_forget_makers(struct artshard *s)
{
    for (size_t i = 0; i < s->buckets; i++)
        for (struct artifact **link = &s->bucket[i], *a; (a = *link) != NULL;) {
            if (load_relaxed(&a->state) != ARTIFACT_BUILDING || a->maker == os_fork_self()) {
                link = &a->next;
                continue;
            }
            *link = a->next;
            s->count--;
        }
}

/* The artifact that nobody uses and was used longest ago; NULL if there is none in reach. */
static struct artifact *shard_oldest(const struct artshard *s)
{
    struct artifact *a = s->oldest;
    for (unsigned i = 0; a != NULL && i < OLDEST_TRIED; i++, a = a->newer)
        if (load_relaxed(&a->refs) == 1)
            return a;
    return NULL;
}

/* The shard whose oldest is the oldest of all; NULL if all is in use. */
static struct artshard *pick(struct artindex *x)
{
    struct artshard *best = NULL;
    uint64_t best_ms = UINT64_MAX;
    for (unsigned i = 0; i < ARTINDEX_SHARDS; i++) {
        struct artshard *s = &x->shard[i];
        os_lock(&s->lock);
        const struct artifact *a = shard_oldest(s);
        if (a != NULL && a->used_ms < best_ms) {
            best_ms = a->used_ms;
            best = s;
        }
        os_unlock(&s->lock);
    }
    return best;
}

size_t artindex_shrink(struct artindex *x, size_t bytes)
{
    size_t gone = 0;
    struct artshard *s;
    while (load_relaxed(&x->bytes) > bytes && (s = pick(x)) != NULL) {
        os_lock(&s->lock);
        struct artifact *a = shard_oldest(s);
        if (a != NULL)
            artshard_take(x, s, a);
        os_unlock(&s->lock);
        if (a != NULL) {
            artifact_unref(a);
            gone++;
        }
    }
    return gone;
}

size_t artindex_count(struct artindex *x, size_t *ready)
{
    size_t count = 0;
    *ready = 0;
    for (unsigned i = 0; i < ARTINDEX_SHARDS; i++) {
        struct artshard *s = &x->shard[i];
        os_lock(&s->lock);
        count += s->count;
        for (const struct artifact *a = s->newest; a != NULL; a = a->older)
            (*ready)++;
        os_unlock(&s->lock);
    }
    return count;
}

bool artindex_init(struct artindex *x)
{
    bool done = true;
    for (unsigned i = 0; i < ARTINDEX_SHARDS; i++) {
        x->shard[i].buckets = BUCKETS_FIRST;
        x->shard[i].bucket = ash_calloc(BUCKETS_FIRST, sizeof(struct artifact *));
        done &= x->shard[i].bucket != NULL;
    }
    return done;
}

void artindex_fini(struct artindex *x)
{
    for (unsigned i = 0; i < ARTINDEX_SHARDS; i++) {
        struct artshard *s = &x->shard[i];
        for (struct artifact *a = s->newest, *older; a != NULL; a = older) {
            older = a->older;
            artifact_unref(a);
        }
        ash_free(s->bucket);
    }
}
