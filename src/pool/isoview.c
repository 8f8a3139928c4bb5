/*
 * Records form a list that is only pushed to. A record is in one of two hands: its owner's, from
 * isoview_take to isoview_give, or nobody's; `free_records` counts those, so that making many heaps
 * walks no list. Its `state` is a generation and two bits: TAKEN for the owner, OPEN while others
 * may see the heap. A reader takes the name between two equal readings of an open state.
 */
#include "pool/isoview.h"

#include "base/anchor.h"
#include "base/fmt.h"
#include "info/stats.h"
#include "mem/meta.h"
#include "os/os_file.h"
#include "run/emit.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { STATE_OPEN = 1, STATE_TAKEN = 2, STATE_NEXT = 4 };
enum { PAGE_SHIFT = 12, PLACE_SHIFT = 28, DUMP_BUFFER = 512 };

static _Atomic(struct ash_heap *) records; /* atomic: release publishes a record's link */
static _Atomic(uint64_t) free_records;     /* atomic: a hint, it publishes nothing */

/* ---- names ---- */

void isoview_name(const struct ash_heap *h, char out[ISOHEAP_NAME])
{
    for (size_t i = 0; i < ASH_COUNT(h->name); i++) {
        uint64_t word = load_relaxed(&h->name[i]);
        memcpy(out + i * sizeof word, &word, sizeof word);
    }
}

/* ---- statistics ---- */

/* The figures of a heap; shown by name in every format. */
#define FIGURES(f)                                                                                 \
    f(live_bytes, STAT_GAUGE, STAT_BYTES, "live blocks, as of the last restore or snapshot") f(    \
        used_bytes, STAT_GAUGE, STAT_BYTES, "touched memory, as of then")                          \
        f(image_bytes, STAT_GAUGE, STAT_BYTES, "the image of the snapshot") f(                     \
            dirty_pages, STAT_GAUGE, STAT_COUNT, "pages that a restore had copied then")           \
            f(restores, STAT_COUNTER, STAT_COUNT, "times the image was put back") f(               \
                fallbacks, STAT_COUNTER, STAT_COUNT, "modes of restoring that did not work here")  \
                f(mismatches, STAT_COUNTER, STAT_COUNT, "restores that were wrong, and put right") \
                    f(refused, STAT_COUNTER, STAT_COUNT, "allocations beyond the heap's limit")

#define AS_FIELD(field, kind, unit, help) uint64_t field;
struct figures {
    FIGURES(AS_FIELD)
};
#define AS_COLUMN(field, kind, unit, help)                                                         \
    {#field, help, kind, unit, offsetof(struct figures, field)},
static const struct stat_field columns[] = {FIGURES(AS_COLUMN)};

_Static_assert(sizeof(struct figures) <= sizeof(((struct emit_row *)NULL)->values), "a row");

/* Reads an open heap, false if it is none, or was replaced meanwhile. */
static bool row_read(struct ash_heap *h, struct emit_row *row)
{
    uint64_t state = load_acquire(&h->state); /* pairs with isoview_open: name and figures */
    if ((state & STATE_OPEN) == 0)
        return false;
    isoview_name(h, row->name);
    struct figures figures = {
#define AS_VALUE(field, kind, unit, help) .field = load_relaxed(&h->seen.field),
        FIGURES(AS_VALUE)};
    memcpy(row->values, &figures, sizeof figures);
    /* A locked read: the words above are read before it. Pairs with the release in isoview_take. */
    return cas_strong_acq_rel(&h->state, &state, state);
}

/* `*at` is the record where the walk goes on; 0 at first, 1 behind the last. */
static bool row_next(size_t *at, struct emit_row *row)
{
    ANCHOR("iso_records", records);
    ANCHOR_RECORD("iso", struct ash_heap);
    struct ash_heap *h = *at == 0   ? load_acquire(&records) /* pairs with the push: its link */
                         : *at == 1 ? NULL
                                    : (struct ash_heap *)*at;
    while (h != NULL && !row_read(h, row))
        h = h->link;
    if (h != NULL)
        *at = h->link != NULL ? (size_t)h->link : 1;
    return h != NULL;
}

struct emit_kind heaps_kind = {
    .plural = "heaps",
    .singular = "heap",
    .columns = columns,
    .count = ASH_COUNT(columns),
    .next = row_next,
};

ASH_API int ash_heap_stats(const struct ash_heap *h, struct ash_heap_stats *out)
{
    if (out == NULL)
        return -EINVAL;
    const struct iso *i = h->iso;
    *out = (struct ash_heap_stats){
        .live_bytes = (uint64_t)i->live * ISO_GRANULE,
        .live_blocks = i->blocks,
        .used_bytes = (uint64_t)(iso_high(i) - iso_low(i)),
        .image_bytes = h->image_bytes,
        .limit_bytes = h->limit,
        .dirty_pages = h->snapshot.range.pages,
        .restores = load_relaxed(&h->seen.restores),
        .mode = h->snapshot.mode,
        .fallbacks = h->snapshot.fallbacks,
        .mismatches = load_relaxed(&h->seen.mismatches),
        .refused = load_relaxed(&h->seen.refused),
        .copy_ns = h->snapshot.copy_ns,
        .scan_ns = h->snapshot.scan_ns,
    };
    return 0;
}

ASH_API int ash_heap_dump(const struct ash_heap *h, int fd)
{
    static const char *const modes[] = {"none", "copy", "scan", "scan_uffd", "drop"};
    struct ash_heap_stats s;
    char name[ISOHEAP_NAME], buf[DUMP_BUFFER];
    struct fmt f;
    ash_heap_stats(h, &s);
    isoview_name(h, name);
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f,
               "heap %s: %" PRIu64 " live bytes in %" PRIu64 " blocks, %" PRIu64
               " used, limit %" PRIu64 ", refused %" PRIu64 "\n",
               name, s.live_bytes, s.live_blocks, s.used_bytes, s.limit_bytes, s.refused);
    fmt_printf(&f,
               "image: %" PRIu64 " bytes, mode %s, %" PRIu64 " restores, %" PRIu64
               " pages in the last, %" PRIu64 " fallbacks, %" PRIu64 " mismatches\n",
               s.image_bytes, modes[s.mode], s.restores, s.dirty_pages, s.fallbacks, s.mismatches);
    if (s.copy_ns != 0)
        fmt_printf(&f, "auto: a copy takes %" PRIu64 " ns, a scan with its faults %" PRIu64 " ns\n",
                   s.copy_ns, s.scan_ns);
    return fmt_end(&f);
}

void isoview_update(struct ash_heap *h)
{
    store_relaxed(&h->seen.live_bytes, (uint64_t)h->iso->live * ISO_GRANULE);
    store_relaxed(&h->seen.used_bytes, (uint64_t)(iso_high(h->iso) - iso_low(h->iso)));
    store_relaxed(&h->seen.image_bytes, h->image_bytes);
    store_relaxed(&h->seen.dirty_pages, h->snapshot.range.pages);
    store_relaxed(&h->seen.fallbacks, h->snapshot.fallbacks);
}

/* ---- records ---- */

/* Makes a free record the caller's. */
static bool record_claim(struct ash_heap *h)
{
    uint64_t state = load_relaxed(&h->state);
    return (state & STATE_TAKEN) == 0 &&
           cas_strong_acq_rel(&h->state, &state, state + STATE_NEXT + STATE_TAKEN);
    /* acquire: the last owner's stores, isoview_give; release: for row_read */
}

struct ash_heap *isoview_take(void)
{
    struct ash_heap *head = load_acquire(&records); /* pairs with the push below */
    if (load_relaxed(&free_records) != 0)
        for (struct ash_heap *h = head; h != NULL; h = h->link)
            if (record_claim(h)) {
                sub_relaxed(&free_records, 1);
                return h;
            }
    struct ash_heap *h = meta_take(sizeof *h);
    if (h == NULL)
        return NULL;
    store_relaxed(&h->state, STATE_TAKEN);
    do
        h->link = head;
    while (!cas_acq_rel(&records, &head, h)); /* its link; pairs with the loads of records */
    emit_kind_add(&heaps_kind);
    return h;
}

void isoview_give(struct ash_heap *h)
{
    /* release: this owner's stores; pairs with record_claim */
    store_release(&h->state, load_relaxed(&h->state) & ~(uint64_t)(STATE_OPEN | STATE_TAKEN));
    add_relaxed(&free_records, 1);
}

void isoview_open(struct ash_heap *h, const char name[ISOHEAP_NAME])
{
    for (size_t i = 0; i < ASH_COUNT(h->name); i++) {
        uint64_t word;
        memcpy(&word, name + i * sizeof word, sizeof word);
        store_relaxed(&h->name[i], word);
    }
    store_relaxed(&h->seen.restores, 0);
    store_relaxed(&h->seen.mismatches, 0);
    store_relaxed(&h->seen.refused, 0);
    isoview_update(h);
    store_relaxed(&h->place, (uint64_t)(uintptr_t)h->region >> PAGE_SHIFT << PLACE_SHIFT |
                                 h->region_bytes >> PAGE_SHIFT);
    /* release: all of the above; pairs with row_read */
    store_release(&h->state, load_relaxed(&h->state) | STATE_OPEN);
}

void isoview_close(struct ash_heap *h)
{
    store_relaxed(&h->state, load_relaxed(&h->state) & ~(uint64_t)STATE_OPEN);
    store_relaxed(&h->place, 0);
}

/* One word holds the place, so what is compared is of one heap. */
bool isoview_holds(const struct ash_heap *h, const void *p)
{
    uint64_t place = load_relaxed(&h->place);
    uint64_t page = (uint64_t)(uintptr_t)p >> PAGE_SHIFT;
    return page - (place >> PLACE_SHIFT) < (place & (((uint64_t)1 << PLACE_SHIFT) - 1));
}

struct ash_heap *isoview_find(const void *p)
{
    struct ash_heap *h = load_acquire(&records); /* pairs with the push */
    while (h != NULL && !isoview_holds(h, p))
        h = h->link;
    return h;
}
