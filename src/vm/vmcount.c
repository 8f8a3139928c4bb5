#include "vm/vmcount.h"

#include "ashlar/malloc.h"

#include <string.h>

/* ---- durations ---- */

void vmcount_time(struct vmcounts *c, struct vmworker *w, enum vmtime which, uint64_t ns,
                  uint64_t weight)
{
    struct vmtimes *t = &w->time[which];
    vmcount_raise(c, w, &t->bucket[times_bucket(ns)], weight);
    vmcount_raise(c, w, &t->total, ns * weight);
    atomic_max(&t->most, ns);
}

/* ---- records ---- */

/* Only the line's thread comes here, so nobody else stores to its word. */
ASH_COLD struct vmworker *vmcount_worker_slow(struct vmcounts *c, unsigned line)
{
    struct vmworker *w = ash_aligned_alloc(ASH_CACHE_LINE, sizeof *w);
    if (w == NULL)
        return &c->shared;
    memset(w, 0, sizeof *w);
    store_release(&c->worker[line], w); /* the zeroes; pairs with record_of */
    return w;
}

void vmcount_fini(struct vmcounts *c)
{
    for (unsigned i = 0; i < TALLY_LINES; i++)
        ash_free(load_relaxed(&c->worker[i]));
}

static const struct vmworker *record_of(const struct vmcounts *c, unsigned line)
{
    /* pairs with vmcount_worker_slow */
    return line < TALLY_LINES ? load_acquire(&c->worker[line]) : &c->shared;
}

/* ---- sums: of the records `from` to `to`, one after the other, which needs little stack ---- */

static uint64_t count_of(const struct vmcounts *c, unsigned from, unsigned to, enum vmcount which)
{
    uint64_t sum = 0;
    for (unsigned i = from; i <= to; i++) {
        const struct vmworker *w = record_of(c, i);
        sum += w == NULL ? 0 : load_relaxed(&w->count[which]);
    }
    return sum;
}

static struct ash_vm_time time_of(const struct vmcounts *c, unsigned from, unsigned to,
                                  enum vmtime which)
{
    struct ash_vm_time out = {.count = 0};
    uint64_t bucket[TIMES_BUCKETS] = {0};
    for (unsigned i = from; i <= to; i++) {
        const struct vmworker *w = record_of(c, i);
        if (w == NULL)
            continue;
        out.total_ns += load_relaxed(&w->time[which].total);
        out.max_ns = size_max(out.max_ns, load_relaxed(&w->time[which].most));
        for (unsigned b = 0; b < TIMES_BUCKETS; b++) {
            uint64_t n = load_relaxed(&w->time[which].bucket[b]);
            bucket[b] += n;
            out.count += n;
        }
    }
    out.p50_ns = times_percentile(bucket, out.count, out.max_ns, 50);
    out.p99_ns = times_percentile(bucket, out.count, out.max_ns, 99);
    return out;
}

static void counts_read(const struct vmcounts *c, unsigned from, unsigned to,
                        struct ash_vmpool_stats *out)
{
    out->acquires = count_of(c, from, to, VMCOUNT_ACQUIRE);
    out->hits = count_of(c, from, to, VMCOUNT_HIT);
    out->own = count_of(c, from, to, VMCOUNT_OWN);
    out->created = count_of(c, from, to, VMCOUNT_CREATED);
    out->create_failures = count_of(c, from, to, VMCOUNT_CREATE_FAILED);
    out->destroyed = count_of(c, from, to, VMCOUNT_DESTROYED);
    out->expired = count_of(c, from, to, VMCOUNT_EXPIRED);
    out->poisoned = count_of(c, from, to, VMCOUNT_POISONED);
    out->unfit = count_of(c, from, to, VMCOUNT_UNFIT);
    out->mismatches = count_of(c, from, to, VMCOUNT_MISMATCH);
    out->surplus = count_of(c, from, to, VMCOUNT_SURPLUS);
    out->trimmed = count_of(c, from, to, VMCOUNT_TRIMMED);
    out->waits = count_of(c, from, to, VMCOUNT_WAIT);
    out->timeouts = count_of(c, from, to, VMCOUNT_TIMEOUT);
    out->misuses = count_of(c, from, to, VMCOUNT_MISUSE);
}

static void times_read(const struct vmcounts *c, unsigned from, unsigned to,
                       struct ash_vmpool_stats *out)
{
    out->create = time_of(c, from, to, VMTIME_CREATE);
    out->acquire = time_of(c, from, to, VMTIME_ACQUIRE);
    out->reset = time_of(c, from, to, VMTIME_RESET);
    out->release = time_of(c, from, to, VMTIME_RELEASE);
}

void vmcount_read(const struct vmcounts *c, struct ash_vmpool_stats *out)
{
    counts_read(c, 0, TALLY_LINES, out);
}

void vmcount_read_times(const struct vmcounts *c, struct ash_vmpool_stats *out)
{
    times_read(c, 0, TALLY_LINES, out);
}

bool vmcount_read_worker(const struct vmcounts *c, unsigned line, struct ash_vmpool_stats *out)
{
    if (record_of(c, line) == NULL)
        return false;
    counts_read(c, line, line, out);
    times_read(c, line, line, out);
    return true;
}
