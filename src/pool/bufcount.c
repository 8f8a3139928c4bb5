#include "pool/bufcount.h"

#include "ashlar/buf.h"
#include "base/anchor.h"
#include "heap/thread.h"
#include "mem/meta.h"
#include "run/emit.h"

#include <errno.h>
#include <string.h>

ASH_TLS struct buf_counts *bufcount_tls;
struct buf_counts bufcount_shared;

/* Records are pushed and never removed: a walk from the head is always whole. */
static _Atomic(struct buf_counts *) records;
static _Atomic(uint64_t) refills, copies, copied_bytes;

/* ---- a thread's record ---- */

static void bufcount_end(void)
{
    struct buf_counts *c = bufcount_tls;
    bufcount_tls = &bufcount_shared;
    if (c != NULL && c != &bufcount_shared)
        store_release(&c->taken, 0); /* what was counted; pairs with record_retake */
}

static struct buf_counts *record_retake(void)
{
    struct buf_counts *c = load_acquire(&records); /* pairs with record_create: its link */
    for (; c != NULL; c = c->link) {
        uint32_t none = 0;
        if (load_relaxed(&c->taken) == 0 && cas_strong_acq_rel(&c->taken, &none, 1))
            return c;
    }
    return NULL;
}

static struct buf_counts *record_create(void)
{
    struct buf_counts *c = meta_take(sizeof *c);
    if (c == NULL)
        return NULL;
    store_relaxed(&c->taken, 1);
    c->link = load_relaxed(&records);
    while (!cas_release(&records, &c->link, c)) /* its link; pairs with the walks */
        ;
    return c;
}

static bool next_row(size_t *at, struct emit_row *row);

enum { VALUES = 8 };

/* Where a field stands in the values of a row. */
#define AT(field) (offsetof(struct ash_buf_stats, field) - offsetof(struct ash_buf_stats, allocs))
static const struct stat_field columns[VALUES] = {
    {"allocs", "Blocks made for bufs.", STAT_COUNTER, STAT_COUNT, AT(allocs)},
    {"wraps", "Pieces of the program's memory wrapped.", STAT_COUNTER, STAT_COUNT, AT(wraps)},
    {"releases", "Blocks and pieces given back.", STAT_COUNTER, STAT_COUNT, AT(releases)},
    {"live", "Blocks and pieces in use.", STAT_GAUGE, STAT_COUNT, AT(live)},
    {"live_bytes", "Bytes of those.", STAT_GAUGE, STAT_BYTES, AT(live_bytes)},
    {"refills", "Times that references were taken in bulk.", STAT_COUNTER, STAT_COUNT, AT(refills)},
    {"copies", "Times that bytes were copied.", STAT_COUNTER, STAT_COUNT, AT(copies)},
    {"copied_bytes", "Bytes copied.", STAT_COUNTER, STAT_BYTES, AT(copied_bytes)},
};
struct emit_kind bufs_kind = {.plural = "bufs",
                              .singular = "buf",
                              .columns = columns,
                              .count = ASH_COUNT(columns),
                              .next = next_row};

struct buf_counts *bufcount_slow(void)
{
    emit_kind_add(&bufs_kind);
    if (!heap_is_real(heap_attached()))
        return &bufcount_shared; /* nothing would tell of the thread's end */
    struct buf_counts *c = record_retake();
    if (c == NULL)
        c = record_create();
    if (c == NULL)
        return &bufcount_shared;
    thread_at_end(bufcount_end);
    bufcount_tls = c;
    return c;
}

/* ---- slow paths ---- */

void bufcount_refill(void)
{
    add_relaxed(&refills, 1);
}

void bufcount_copy(size_t n)
{
    if (n == 0)
        return;
    add_relaxed(&copies, 1);
    add_relaxed(&copied_bytes, n);
}

/* ---- reading ---- */

static void add_record(struct ash_buf_stats *out, struct buf_counts *c)
{
    /* What is gone first: another thread's release is then never counted before its making. */
    uint64_t gone = load_relaxed(&c->releases), gone_bytes = load_relaxed(&c->bytes_released);
    uint64_t allocs = load_relaxed(&c->allocs), wraps = load_relaxed(&c->wraps);
    out->allocs += allocs;
    out->wraps += wraps;
    out->releases += gone;
    out->live += allocs + wraps - gone;
    out->live_bytes += load_relaxed(&c->bytes_made) - gone_bytes;
}

void bufcount_read(struct ash_buf_stats *out)
{
    ANCHOR("buf_shared", bufcount_shared);
    ANCHOR("buf_records", records);
    ANCHOR("buf_refills", refills);
    ANCHOR("buf_copies", copies);
    ANCHOR("buf_copied", copied_bytes);
    *out = (struct ash_buf_stats){0};
    add_record(out, &bufcount_shared);
    for (struct buf_counts *c = load_acquire(&records); c != NULL; c = c->link) /* record_create */
        add_record(out, c);
    if ((int64_t)out->live < 0 || (int64_t)out->live_bytes < 0)
        out->live = out->live_bytes = 0; /* read while others count */
    out->refills = load_relaxed(&refills);
    out->copies = load_relaxed(&copies);
    out->copied_bytes = load_relaxed(&copied_bytes);
}

static bool next_row(size_t *at, struct emit_row *row)
{
    if ((*at)++ != 0)
        return false;
    struct ash_buf_stats s;
    bufcount_read(&s);
    *row = (struct emit_row){.name = "process"};
    memcpy(row->values, &s, sizeof s);
    return true;
}

ASH_API int ash_buf_stats(struct ash_buf_stats *out)
{
    if (out == NULL)
        return -EINVAL;
    bufcount_read(out);
    return 0;
}
