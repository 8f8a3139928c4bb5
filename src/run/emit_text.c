/*
 * The table for people: totals, where the memory is, a row for each class in use, and large blocks
 * last.
 *
 * Numbers are rounded for reading (exact ones are in the other formats), but a percentage is cut,
 * not rounded: 100.0 and 0.0 are said of nothing but all and none (or next to none).
 *
 * While other threads run, figures read a moment apart may contradict each other; differences are
 * therefore taken with `minus`, which stops at 0.
 */
#include "run/emit.h"

#include "info/options.h"

#include <inttypes.h>
#include <string.h>

enum { BAR_MAX = 25 }; /* characters for 100 % */

static uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* `part` of `whole` in thousandths, cut; at most 1000. */
static unsigned permille(uint64_t part, uint64_t whole)
{
    if (part >= whole)
        return whole > 0 ? 1000 : 0;
    while (part > UINT64_MAX / 1000) {
        part >>= 1;
        whole >>= 1;
    }
    return (unsigned)(part * 1000 / whole);
}

/* "98.7", or "-" where there is nothing to take a part of. */
static struct fmt_number percent(uint64_t part, uint64_t whole)
{
    struct fmt_number t = {"-"};
    unsigned tenths = permille(part, whole);
    if (whole > 0)
        fmt_text(t.s, sizeof t.s, "%u.%u", tenths / 10, tenths % 10);
    return t;
}

static void put_traffic(struct fmt *f, const struct ash_stats *t)
{
    uint64_t allocations = t->hits + t->misses;
    fmt_printf(f, "  allocations %12s   %s %% hits: %s from the thread's cache, %s slow\n",
               fmt_count(allocations).s, percent(t->hits, allocations).s, fmt_count(t->hits).s,
               fmt_count(t->misses).s);
    fmt_printf(f, "  frees       %12s   %s %% remote: %s went home to another thread\n",
               fmt_count(t->frees).s, percent(t->remote_frees, t->frees).s,
               fmt_count(t->remote_frees).s);
    fmt_printf(f, "  live        %12s   blocks, %s; %s of them large, %s\n",
               fmt_count(t->live_blocks).s, fmt_bytes(t->live_bytes).s,
               fmt_count(t->large_live_blocks).s, fmt_bytes(t->large_live_bytes).s);
    fmt_printf(f, "  threads     %12s   with a heap; %s slabs are no thread's\n",
               fmt_count(t->threads).s, fmt_count(t->orphan_slabs).s);
}

/* One line of the account of memory: a bar shows its part of what is held. */
static void put_share(struct fmt *f, const char *name, uint64_t n, uint64_t held, const char *what)
{
    size_t bar = (permille(n, held) * BAR_MAX + 999) / 1000;
    fmt_printf(f, "    %-10s%12s %5s %%  ", name, fmt_bytes(n).s, percent(n, held).s);
    fmt_pad(f, '#', bar);
    fmt_pad(f, ' ', BAR_MAX - bar);
    fmt_printf(f, "  %s\n", what);
}

static void put_memory(struct fmt *f, const struct ash_stats *t)
{
    uint64_t held = t->used_bytes + t->dirty_bytes + t->meta_bytes;
    uint64_t known = t->live_bytes + t->cached_bytes + t->slab_free_bytes;
    struct fmt_number took;
    char wait[40];
    fmt_time_text(took.s, t->purge_ns);
    fmt_text(wait, sizeof wait, "free as a whole: back after %u ms", options.purge_ms);

    fmt_printf(f, "\n  memory held %12s   %s in use, peak %s", fmt_bytes(held).s,
               fmt_bytes(t->used_bytes).s, fmt_bytes(t->peak_bytes).s);
    if (t->limit_bytes > 0)
        fmt_printf(f, "; limit %s, met %s times", fmt_bytes(t->limit_bytes).s,
                   fmt_count(t->limit_hits).s);
    fmt_printf(f, "\n");
    put_share(f, "live", t->live_bytes, held, "in the program's hands");
    put_share(f, "cached", t->cached_bytes, held, "free in threads, handed out next");
    put_share(f, "slab free", t->slab_free_bytes, held, "free beside live blocks: fragmentation");
    if (minus(t->used_bytes, known) > 0)
        put_share(f, "slab ends", minus(t->used_bytes, known), held,
                  "too small for a block, or in transit");
    put_share(f, "unpurged", t->dirty_bytes, held, wait);
    put_share(f, "records", t->meta_bytes, held, "the allocator's own");
    fmt_printf(f, "  returned    %12s   to the system in %s purges, which took %s\n",
               fmt_bytes(t->purged_bytes).s, fmt_count(t->purges).s, took.s);
}

/* Formats of a row: the heading and the large blocks fit the same columns. */
#define ROW "  %8s %10s %10s %6s %10s %10s %9s %9s %7s\n"

static void put_class(struct fmt *f, const struct ash_class_stats *c)
{
    fmt_printf(f, ROW, fmt_count(c->size).s, fmt_count(c->hits).s, fmt_count(c->misses).s,
               percent(c->hits, c->hits + c->misses).s, fmt_count(c->live).s,
               fmt_bytes(c->live * c->size).s, fmt_count(c->cached).s, fmt_count(c->slabs).s,
               percent(minus(c->capacity, c->live), c->capacity).s);
}

static void put_classes(struct fmt *f, const struct ash_stats *t)
{
    uint64_t large = t->misses; /* less what the classes missed */
    fmt_printf(f, "\n  Classes in use; waste is the part of their slabs that is not live.\n");
    fmt_printf(f, ROW, "size", "hits", "misses", "hit %", "live", "live bytes", "cached", "slabs",
               "waste %");
    struct ash_class_stats c;
    for (unsigned cls = 0; emit_next_class(&cls, &c);) {
        large = minus(large, c.misses);
        put_class(f, &c);
    }
    fmt_printf(f, ROW, "large", "-", fmt_count(large).s, "-", fmt_count(t->large_live_blocks).s,
               fmt_bytes(t->large_live_bytes).s, "-", "-", "-");
}

static struct fmt_number value(const struct stat_field *stat, uint64_t n)
{
    struct fmt_number t;
    if (stat->unit == STAT_BYTES)
        return fmt_bytes(n);
    if (stat->unit == STAT_COUNT)
        return fmt_count(n);
    fmt_time_text(t.s, n);
    return t;
}

/* As wide as its heading and any number. */
static int width(const struct stat_field *stat)
{
    size_t n = strlen(stat->name);
    return (int)(n > 10 ? n : 10);
}

static void put_kind(struct fmt *f, const struct emit_kind *kind)
{
    struct emit_row row;
    size_t at = 0;
    if (!emit_next(kind, &at, &row))
        return;
    fmt_printf(f, "\n  %-*s", EMIT_NAME - 1, kind->plural);
    for (size_t i = 0; i < kind->count; i++)
        fmt_printf(f, " %*s", width(&kind->columns[i]), kind->columns[i].name);
    do {
        fmt_printf(f, "\n  %-*s", EMIT_NAME - 1, row.name);
        for (size_t i = 0; i < kind->count; i++)
            fmt_printf(f, " %*s", width(&kind->columns[i]),
                       value(&kind->columns[i], stat_value(&kind->columns[i], row.values)).s);
    } while (emit_next(kind, &at, &row));
    fmt_printf(f, "\n");
}

void emit_text(struct fmt *f, const struct ash_stats *total, int pid)
{
    if (total->hits + total->misses == 0) {
        fmt_printf(f, "ashlar: process %d has allocated nothing\n", pid);
        return;
    }
    fmt_printf(f, "ashlar: statistics of process %d\n\n", pid);
    put_traffic(f, total);
    put_memory(f, total);
    put_classes(f, total);
    for (const struct emit_kind *k = emit_kinds(); k != NULL; k = k->link)
        put_kind(f, k);
}
