#include "prof/sites.h"

#include "base/bits.h"
#include "mem/meta.h"

#include <inttypes.h>
#include <string.h>

enum {
    SLOTS = 1 << 15,
    PROBES = 64,    /* slots that a site may lie behind its first one */
    SKIPS = 2,      /* ranges of code */
    EXACT = 1 << 16 /* larger blocks share sites with those of nearly their size */
};

extern ASH_HIDDEN _Atomic(struct site *) sites_table[SLOTS];
ASH_TABLE _Atomic(struct site *) sites_table[SLOTS];
static struct site lost; /* without a stack */
static struct unwind_range skip[SKIPS];
static unsigned skips;

void sites_init(const struct unwind_range *ranges, unsigned count)
{
    for (skips = 0; skips < count && skips < SKIPS; skips++)
        skip[skips] = ranges[skips];
}

/* Blocks up to 64 KiB come in classes; of larger ones eight steps a doubling are told apart. */
static uint64_t key_of(size_t bytes)
{
    if (bytes <= EXACT)
        return bytes;
    unsigned drop = bits_highest(bytes) - 3;
    return bytes >> drop << drop;
}

static uint64_t hash_of(const uintptr_t *frame, unsigned frames, uint64_t key)
{
    uint64_t h = key + 0x9e3779b97f4a7c15u;
    for (unsigned i = 0; i < frames; i++) {
        h = (h ^ frame[i]) * 0xd6e8feb86659fd93u;
        h ^= h >> 32;
    }
    return h;
}

static bool is_same(const struct site *s, const struct site *t)
{
    return s->hash == t->hash && s->key == t->key && s->frames == t->frames &&
           memcmp(s->frame, t->frame, s->frames * sizeof *s->frame) == 0;
}

static struct site *copy_of(const struct site *wanted)
{
    size_t n = sizeof *wanted + wanted->frames * sizeof *wanted->frame;
    struct site *s = meta_take(n);
    if (s != NULL)
        memcpy(s, wanted, n);
    return s;
}

/* The site in the table that is equal to `wanted`, which is put there if there is none. */
static struct site *find(const struct site *wanted)
{
    struct site *fresh = NULL;
    for (unsigned i = 0; i < PROBES; i++) {
        _Atomic(struct site *) *slot = &sites_table[(wanted->hash + i) % SLOTS];
        struct site *s = load_acquire(slot); /* its record; pairs with the compare-and-swap */
        if (s == NULL && fresh == NULL && (fresh = copy_of(wanted)) == NULL)
            break;
        if (s == NULL && cas_strong_acq_rel(slot, &s, fresh)) /* the record; see above */
            return fresh;
        if (is_same(s, wanted))
            return s;
    }
    return &lost;
}

struct site *sites_take(size_t bytes)
{
    union {
        struct site site;
        char room[sizeof(struct site) + SITE_FRAMES * sizeof(uintptr_t)];
    } wanted;
    struct site *w = &wanted.site;
    memset(w, 0, sizeof *w);
    w->key = key_of(bytes);
    w->frames = unwind(w->frame, SITE_FRAMES, skip, skips);
    w->hash = hash_of(w->frame, w->frames, w->key);
    struct site *s = find(w);
    add_relaxed(&s->allocated, 1);
    add_relaxed(&s->allocated_bytes, bytes);
    return s;
}

void sites_give(struct site *s, size_t bytes)
{
    add_relaxed(&s->freed, 1);
    add_relaxed(&s->freed_bytes, bytes);
}

uint64_t sites_lost(void)
{
    return load_relaxed(&lost.allocated);
}

/* ---- writing ---- */

struct counts {
    uint64_t live, live_bytes, all, all_bytes;
};

/* What was freed is read first, so that no more is freed than was allocated. */
static struct counts counts_of(const struct site *s)
{
    uint64_t freed = load_relaxed(&s->freed), freed_bytes = load_relaxed(&s->freed_bytes);
    uint64_t all = load_relaxed(&s->allocated), bytes = load_relaxed(&s->allocated_bytes);
    bool whole = all >= freed && bytes >= freed_bytes;
    return (struct counts){whole ? all - freed : 0, whole ? bytes - freed_bytes : 0, all, bytes};
}

static void put_counts(struct fmt *f, const struct counts *c)
{
    fmt_printf(f, "%" PRIu64 ": %" PRIu64 " [%" PRIu64 ": %" PRIu64 "] @", c->live, c->live_bytes,
               c->all, c->all_bytes);
}

static void put_site(struct fmt *f, const struct site *s)
{
    struct counts c = counts_of(s);
    if (c.all == 0)
        return;
    put_counts(f, &c);
    for (unsigned i = 0; i < s->frames; i++)
        fmt_printf(f, " 0x%jx", (uintmax_t)s->frame[i]);
    fmt_printf(f, "\n");
}

void sites_put(struct fmt *f, uint64_t mean)
{
    struct counts sum = counts_of(&lost);
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct site *s = load_acquire(&sites_table[i]); /* pairs with find */
        if (s == NULL)
            continue;
        struct counts c = counts_of(s);
        sum.live += c.live;
        sum.live_bytes += c.live_bytes;
        sum.all += c.all;
        sum.all_bytes += c.all_bytes;
    }
    fmt_printf(f, "heap profile: ");
    put_counts(f, &sum);
    fmt_printf(f, " heap_v2/%" PRIu64 "\n", mean);
    put_site(f, &lost);
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct site *s = load_acquire(&sites_table[i]); /* likewise */
        if (s != NULL)
            put_site(f, s);
    }
}
