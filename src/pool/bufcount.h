/*
 * The counters of bufs. Those that every buf moves have a record for each thread, written by that
 * thread alone; those of slow paths are shared words. Threads that have ended, or have no heap, add
 * to a shared record. Records are never returned: an ended thread's one goes to the next thread
 * with what it has counted.
 */
#ifndef ASH_POOL_BUFCOUNT_H
#define ASH_POOL_BUFCOUNT_H

#include "base/atomic.h"
#include "run/emit.h"

struct ash_buf_stats;

struct buf_counts {
    struct buf_counts *link; /* const once listed */
    _Atomic(uint32_t) taken; /* atomic: 1 while a thread has it */
    /* counters; single writer, but for the shared record: locked adds there */
    _Atomic(uint64_t) allocs, wraps, releases, bytes_made, bytes_released;
};

extern ASH_HIDDEN ASH_TLS struct buf_counts *bufcount_tls; /* NULL: not asked for yet */
extern ASH_HIDDEN struct buf_counts bufcount_shared;

extern ASH_HIDDEN struct emit_kind bufs_kind;

/* The record of this thread, or the shared one. */
struct buf_counts *bufcount_slow(void);

ASH_INLINE struct buf_counts *bufcount_self(void)
{
    return ASH_LIKELY(bufcount_tls != NULL) ? bufcount_tls : bufcount_slow();
}

#define bufcount_add(c, field, n)                                                                  \
    (ASH_LIKELY((c) != &bufcount_shared) ? counter_add(&(c)->field, (n))                           \
                                         : (void)add_relaxed(&(c)->field, (n)))

/* A value took references with a locked instruction. */
void bufcount_refill(void);

void bufcount_copy(size_t n);

void bufcount_read(struct ash_buf_stats *out);

#endif
