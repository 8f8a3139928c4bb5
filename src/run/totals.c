/*
 * ash_stats_get and ash_stats_class: the merge of every heap's counters.
 *
 * Frees are not counted as they happen but follow from the words that the hit paths keep anyway
 * (see heap/heap.h). A heap in use by another thread is read while it changes; its words may then
 * be a moment apart, and what would come out negative is shown as 0. At rest every figure is exact.
 */
#include "ashlar/stats.h"

#include "heap/bin.h"
#include "heap/boot.h"
#include "heap/remote.h"
#include "mem/meta.h"
#include "mem/purge.h"
#include "mem/reserve.h"

#include <errno.h>
#include <string.h>

/* Sums over all heaps for one class. */
struct sums {
    uint64_t hits, misses, taken, flushed, direct, cached, spare, remote_frees, created, released;
};

static void sums_add(struct sums *sum, struct heap_class *hc, uint64_t word)
{
    int64_t length = load_relaxed(&hc->cap) + (int64_t)(word & 0xffff) - (int64_t)BIN_FULL;
    sum->hits += load_relaxed(&hc->hits) + word / BIN_HIT;
    sum->misses += load_relaxed(&hc->misses);
    sum->taken += load_relaxed(&hc->taken);
    sum->flushed += load_relaxed(&hc->flushed);
    sum->direct += load_relaxed(&hc->direct);
    sum->cached += length > 0 ? (uint64_t)length : 0;
    sum->spare += load_relaxed(&hc->spare_count);
    sum->remote_frees += load_relaxed(&hc->remote_frees);
    sum->created += load_relaxed(&hc->created);
    sum->released += load_relaxed(&hc->released);
}

static struct sums sums_of(unsigned cls)
{
    struct sums sum = {0};
    sums_add(&sum, &heap_late[cls], BIN_FULL);
    for (unsigned id = 0, n = heap_count(); id < n; id++) {
        struct heap *h = load_acquire(&heap_table[id]); /* pairs with heap_create */
        if (h != NULL)
            sums_add(&sum, heap_class(h, cls), load_relaxed(&h->bin[cls].word));
    }
    return sum;
}

ASH_INLINE uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static struct ash_class_stats class_stats(unsigned cls)
{
    struct sums sum = sums_of(cls);
    struct ash_class_stats c = {
        .size = class_size(cls),
        .hits = sum.hits,
        .misses = sum.misses,
        .frees = minus(sum.cached + sum.hits + sum.flushed + sum.direct, sum.taken),
        .slabs = minus(sum.created, sum.released),
        .cached = sum.cached + sum.spare,
    };
    /* Blocks that a thread shares a slab for (heap/slabs.h) and never used go home as well. */
    c.remote_frees = size_min(sum.remote_frees, c.frees);
    c.live = minus(c.hits + c.misses, c.frees);
    c.capacity = c.slabs * class_blocks(cls);
    return c;
}

ASH_API int ash_stats_class(unsigned cls, struct ash_class_stats *out)
{
    if (out == NULL || !boot() || cls >= CLASS_COUNT - size_classes.first)
        return -EINVAL;
    *out = class_stats(size_classes.first + cls);
    return 0;
}

static void add_class(struct ash_stats *t, unsigned cls)
{
    struct ash_class_stats c = class_stats(cls);
    t->hits += c.hits;
    t->misses += c.misses;
    t->frees += c.frees;
    t->live_blocks += c.live;
    t->live_bytes += c.live * c.size;
    t->cached_bytes += c.cached * c.size;
    t->slab_free_bytes += minus(c.capacity, c.live + c.cached) * c.size;
    t->slab_bytes += c.slabs * class_units(cls) * (uint64_t)UNIT_BYTES;
    t->remote_frees += c.remote_frees;
}

static void add_large(struct ash_stats *t)
{
    struct sums sum = sums_of(0);
    t->misses += sum.misses;
    t->frees += sum.direct;
    t->large_live_blocks = minus(sum.misses, sum.direct);
    t->large_live_bytes = minus(sum.taken, sum.flushed);
    t->live_blocks += t->large_live_blocks;
    t->live_bytes += t->large_live_bytes;
}

static void add_reserve(struct ash_stats *t)
{
    struct reserve_totals r;
    struct purge_totals p;
    reserve_totals_get(&r);
    purge_totals_get(&p);
    t->used_bytes = r.used;
    t->peak_bytes = r.peak;
    t->mapped_bytes = chunk_mapped_bytes();
    t->dirty_bytes = p.dirty;
    t->purged_bytes = p.purged;
    t->purges = p.purges;
    t->purge_ns = p.purge_ns;
    t->limit_bytes = r.limit;
    t->limit_hits = r.refusals;
}

ASH_API int ash_stats_get(struct ash_stats *out)
{
    struct ash_stats t = {0};
    if (out == NULL || out->struct_size < offsetof(struct ash_stats, misses))
        return -EINVAL;
    if (boot()) {
        for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++)
            add_class(&t, cls);
        add_large(&t);
        add_reserve(&t);
        t.meta_bytes = meta_bytes();
        t.orphan_slabs = remote_orphans();
        t.threads = heap_open_count();
    }
    t.struct_size = out->struct_size;
    memcpy(out, &t, out->struct_size < sizeof t ? out->struct_size : sizeof t);
    return 0;
}
