/*
 * The figures of a pool of VMs: for each worker (vm/tally's lines) a record, made when the thread
 * first uses the pool. Its thread alone writes it, by loads and stores; the threads without a line,
 * and those for which there is no memory, share one, by locked adds. Rejected: a tally, since
 * durations take 64 buckets each: 130 KiB for every pool, rather than 2 for each thread that uses
 * it.
 */
#ifndef ASH_VMCOUNT_H
#define ASH_VMCOUNT_H

#include "ashlar/vmpool.h"
#include "vm/tally.h"
#include "vm/times.h"

enum vmcount {
    VMCOUNT_ACQUIRE,
    VMCOUNT_HIT,
    VMCOUNT_OWN,
    VMCOUNT_CREATED,
    VMCOUNT_CREATE_FAILED,
    VMCOUNT_DESTROYED,
    VMCOUNT_EXPIRED,
    VMCOUNT_POISONED,
    VMCOUNT_UNFIT,
    VMCOUNT_MISMATCH,
    VMCOUNT_SURPLUS,
    VMCOUNT_TRIMMED,
    VMCOUNT_WAIT,
    VMCOUNT_TIMEOUT,
    VMCOUNT_MISUSE,
    VMCOUNTS
};

enum vmtime { VMTIME_CREATE, VMTIME_ACQUIRE, VMTIME_RESET, VMTIME_RELEASE, VMTIMES };

enum { VMTIME_SAMPLE = 16 };

/* All atomic: the worker writes, anyone reads. */
struct vmtimes {
    _Atomic(uint64_t) total, most;
    _Atomic(uint64_t) bucket[TIMES_BUCKETS];
};

struct vmworker {
    ASH_LINE_ALIGNED _Atomic(uint64_t) count[VMCOUNTS]; /* atomic: as above */
    struct vmtimes time[VMTIMES];
};

struct vmcounts {
    _Atomic(struct vmworker *) worker[TALLY_LINES]; /* atomic: publishes a zeroed record */
    struct vmworker shared;
};

/* Frees the records. */
void vmcount_fini(struct vmcounts *c);

/* The calling thread's record, after its first look. */
struct vmworker *vmcount_worker_slow(struct vmcounts *c, unsigned line);

ASH_INLINE struct vmworker *vmcount_worker(struct vmcounts *c, unsigned line)
{
    /* The thread's own store, or one that the line's last thread made before it ended. */
    struct vmworker *w = line < TALLY_LINES ? load_relaxed(&c->worker[line]) : &c->shared;
    return ASH_LIKELY(w != NULL) ? w : vmcount_worker_slow(c, line);
}

ASH_INLINE void vmcount_raise(const struct vmcounts *c, const struct vmworker *w,
                              _Atomic(uint64_t) *count, uint64_t n)
{
    if (ASH_LIKELY(w != &c->shared))
        counter_add(count, n);
    else
        add_relaxed(count, n);
}

ASH_INLINE void vmcount_add(struct vmcounts *c, struct vmworker *w, enum vmcount which)
{
    vmcount_raise(c, w, &w->count[which], 1);
}

/* Whether this use of a VM is one of those that are measured. */
ASH_INLINE bool vmcount_sampled(const struct vmworker *w)
{
    return load_relaxed(&w->count[VMCOUNT_ACQUIRE]) % VMTIME_SAMPLE == 0;
}

/* A duration, which stands for `weight` of them. */
void vmcount_time(struct vmcounts *c, struct vmworker *w, enum vmtime which, uint64_t ns,
                  uint64_t weight);

/* The counts of all workers, and their durations. */
void vmcount_read(const struct vmcounts *c, struct ash_vmpool_stats *out);
void vmcount_read_times(const struct vmcounts *c, struct ash_vmpool_stats *out);

/* Both of one (TALLY_LINES: the shared record); false: there is none. */
bool vmcount_read_worker(const struct vmcounts *c, unsigned line, struct ash_vmpool_stats *out);

#endif
