/*
 * The public functions of resource pools: their records, and what they show.
 */
#include "base/anchor.h"
#include "base/config.h"
#include "base/fmt.h"
#include "mem/meta.h"
#include "os/os_file.h"
#include "pool/respool.h"
#include "run/emit.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

enum { DUMP_BUFFER = 512 };

/* ---- statistics ---- */

#define COLUMN(field, kind, unit, help)                                                            \
    {                                                                                              \
#field, help, STAT_##kind, STAT_##unit, offsetof(struct ash_respool_stats, field)          \
    }

static const struct stat_field columns[] = {
    COLUMN(open, GAUGE, COUNT, "Resources open, or being opened or closed."),
    COLUMN(idle, GAUGE, COUNT, "Resources ready to be acquired."),
    COLUMN(in_use, GAUGE, COUNT, "Resources in use."),
    COLUMN(waiting, GAUGE, COUNT, "Threads that wait for a resource."),
    COLUMN(hits, COUNTER, COUNT, "Acquires served by a resource that was there."),
    COLUMN(misses, COUNTER, COUNT, "Acquires that opened a resource, or tried."),
    COLUMN(waits, COUNTER, COUNT, "Acquires that had to wait."),
    COLUMN(timeouts, COUNTER, COUNT, "Acquires that found nothing in their time."),
    COLUMN(wait_ns, COUNTER, NS, "Time spent waiting for resources."),
    COLUMN(opened, COUNTER, COUNT, "Resources opened."),
    COLUMN(open_failures, COUNTER, COUNT, "Opens that failed."),
    COLUMN(closed, COUNTER, COUNT, "Resources closed."),
    COLUMN(expired, COUNTER, COUNT, "Resources closed for their age, uses or idleness."),
    COLUMN(check_failures, COUNTER, COUNT, "Resources closed after a failed check."),
    COLUMN(invalidated, COUNTER, COUNT, "Resources closed because they had broken."),
};
_Static_assert(sizeof(struct ash_respool_stats) == ASH_COUNT(columns) * sizeof(uint64_t) &&
                   ASH_COUNT(columns) <= EMIT_VALUES,
               "the columns name every field of struct ash_respool_stats");

static void stats_read(const struct ash_respool *p, struct ash_respool_stats *out)
{
    const struct respool_counts *c = &p->counts;
    *out = (struct ash_respool_stats){.open = load_relaxed(&c->open),
                                      .idle = load_relaxed(&c->idle),
                                      .waiting = load_relaxed(&c->waiting),
                                      .hits = load_relaxed(&c->hits),
                                      .misses = load_relaxed(&c->misses),
                                      .waits = load_relaxed(&c->waits),
                                      .timeouts = load_relaxed(&c->timeouts),
                                      .wait_ns = load_relaxed(&c->wait_ns),
                                      .opened = load_relaxed(&c->opened),
                                      .open_failures = load_relaxed(&c->open_failures),
                                      .closed = load_relaxed(&c->closed),
                                      .expired = load_relaxed(&c->expired),
                                      .check_failures = load_relaxed(&c->check_failures),
                                      .invalidated = load_relaxed(&c->invalidated)};
    out->in_use = out->open > out->idle ? out->open - out->idle : 0;
}

/* ---- the records ---- */

/* All records that were ever made, newest first: pushed, never removed. */
static _Atomic(struct ash_respool *) records;

static void name_get(const struct ash_respool *p, char out[RESPOOL_NAME])
{
    uint64_t words[RESPOOL_NAME / 8];
    for (size_t i = 0; i < ASH_COUNT(words); i++)
        words[i] = load_acquire(&p->name[i]); /* so that `generation` is read behind it */
    memcpy(out, words, sizeof words);
}

/* A pool's row, read between two looks at the record's generation: it is of one pool. */
static bool row_read(const struct ash_respool *p, struct emit_row *row)
{
    uint64_t generation = load_acquire(&p->generation); /* the record; pairs with record_open */
    struct ash_respool_stats stats;
    name_get(p, row->name);
    stats_read(p, &stats);
    memcpy(row->values, &stats, sizeof stats);
    return generation % 2 == 1 && load_relaxed(&p->generation) == generation;
}

/* `at` is the address of the next record, 0 at the beginning and 1 at the end. */
static bool row_next(size_t *at, struct emit_row *row)
{
    ANCHOR("respools", records);
    ANCHOR_RECORD("respool", struct ash_respool);
    const struct ash_respool *p =
        *at == 0 ? load_acquire(&records) : (const struct ash_respool *)(*at & ~(size_t)1);
    bool found = false;
    for (; p != NULL && !found; p = p->link)
        found = row_read(p, row);
    *at = p == NULL ? 1 : (size_t)p;
    return found;
}

struct emit_kind respools_kind = {
    .plural = "respools",
    .singular = "respool",
    .columns = columns,
    .count = ASH_COUNT(columns),
    .next = row_next,
};

/*
 * A record for the caller alone. Its generation is, modulo 4: 0 no pool, 2 one in the making, 3 a
 * pool.
 */
static struct ash_respool *record_take(void)
{
    struct ash_respool *p = load_acquire(&records); /* pairs with the push below: its link */
    for (; p != NULL; p = p->link) {
        uint64_t seen = load_relaxed(&p->generation);
        /* acquire: that the last owner is done; pairs with record_close */
        if (seen % 4 == 0 && cas_strong_acq_rel(&p->generation, &seen, seen + 2))
            return p;
    }
    p = meta_take(sizeof *p);
    if (p == NULL)
        return NULL;
    store_relaxed(&p->generation, 2);
    p->link = load_relaxed(&records);
    while (!cas_release(&records, &p->link, p)) /* the record; pairs with the walks */
        ;
    return p;
}

static void record_open(struct ash_respool *p)
{
    add_release(&p->generation, 1); /* the pool; pairs with row_read */
}

static void record_close(struct ash_respool *p)
{
    add_release(&p->generation, 1); /* that nobody uses it; pairs with record_take */
}

/* ---- creation ---- */

static bool config_is_good(struct ash_respool_config *c)
{
    if (c->hard_max == 0)
        c->hard_max = UINT_MAX;
    if (c->soft_max == 0)
        c->soft_max = c->hard_max;
    return c->open != NULL && c->min <= c->soft_max && c->soft_max <= c->hard_max &&
           c->ttl_ns >= 0 && c->idle_ns >= 0 && c->check_ns >= 0 && (unsigned)c->order <= ASH_FIFO;
}

/* The record's fields may be read by statistics of before all the while: those are atomic. */
static void respool_init(struct ash_respool *p, const char name[RESPOOL_NAME],
                         const struct ash_respool_config *config)
{
    uint64_t words[RESPOOL_NAME / 8];
    memcpy(words, name, sizeof words);
    for (size_t i = 0; i < ASH_COUNT(words); i++)
        store_release(&p->name[i], words[i]); /* the generation before it; pairs with name_get */
    _Atomic(uint64_t) *counts = (_Atomic(uint64_t) *)&p->counts;
    for (size_t i = 0; i < sizeof p->counts / sizeof *counts; i++)
        store_release(&counts[i], 0);
    p->closed = false;
    p->config = *config;
    p->newest = p->oldest = NULL;
    p->first = NULL;
    p->last = &p->first;
    memset(p->inline_buckets, 0, sizeof p->inline_buckets);
    p->buckets = p->inline_buckets;
    p->bucket_mask = RESPOOL_BUCKETS - 1;
    p->resources = 0;
}

ASH_API struct ash_respool *ash_respool_create(const char *name,
                                               const struct ash_respool_config *config)
{
    struct ash_respool_config c;
    char copy[RESPOOL_NAME];
    size_t least = offsetof(struct ash_respool_config, open) + sizeof c.open;
    if (!name_read(copy, name, NULL) || config == NULL ||
        !config_read(&c, sizeof c, config, least) || !config_is_good(&c)) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_respool *p = record_take();
    if (p == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    emit_kind_add(&respools_kind);
    respool_init(p, copy, &c);
    record_open(p);
    respool_fill(p); /* what cannot be opened now is opened by maintenance */
    return p;
}

static bool is_in_use(struct ash_respool *p)
{
    os_lock(&p->lock);
    const struct respool_counts *c = &p->counts;
    bool in_use = load_relaxed(&c->open) != load_relaxed(&c->idle) || p->first != NULL;
    os_unlock(&p->lock);
    return in_use;
}

ASH_API int ash_respool_destroy(struct ash_respool *p)
{
    if (p == NULL)
        return 0;
    if (is_in_use(p))
        return -EBUSY;
    respool_close(p);
    respool_fini(p);
    record_close(p);
    return 0;
}

/* ---- use ---- */

ASH_API int ash_respool_acquire(struct ash_respool *p, void **res, int64_t timeout_ns)
{
    if (ASH_UNLIKELY(p == NULL || res == NULL))
        return -EINVAL;
    return respool_acquire(p, res, timeout_ns);
}

ASH_API int ash_respool_release(struct ash_respool *p, void *res)
{
    return ASH_UNLIKELY(p == NULL) ? -EINVAL : respool_release(p, res, false);
}

ASH_API int ash_respool_invalidate(struct ash_respool *p, void *res)
{
    return p == NULL ? -EINVAL : respool_release(p, res, true);
}

ASH_API void ash_respool_close(struct ash_respool *p)
{
    if (p != NULL)
        respool_close(p);
}

ASH_API int ash_respool_maintain(struct ash_respool *p, int64_t now_ns)
{
    return p == NULL ? -EINVAL : respool_maintain(p, now_ns);
}

ASH_API int ash_respool_stats(const struct ash_respool *p, struct ash_respool_stats *out)
{
    if (p == NULL || out == NULL)
        return -EINVAL;
    stats_read(p, out);
    return 0;
}

ASH_API int ash_respool_dump(const struct ash_respool *p, int fd)
{
    if (p == NULL)
        return -EINVAL;
    struct emit_row row;
    char buf[DUMP_BUFFER];
    struct fmt f;
    row_read(p, &row);
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "respool %s:", row.name);
    for (size_t i = 0; i < ASH_COUNT(columns); i++)
        fmt_printf(&f, "%s %s %lu", i == 0 ? "" : ",", columns[i].name,
                   (unsigned long)stat_value(&columns[i], row.values));
    fmt_printf(&f, "\n");
    return fmt_end(&f);
}
