/*
 * Counters that many threads raise and that are exact at rest. Each of the first TALLY_LINES
 * threads that count anything has a line of its own and raises it by a load and a store (0.3 ns);
 * all later ones share the last line, by a locked add (5 ns). Lines of ended threads are not given
 * again. Rejected: one locked add for all (5 ns, and a line that moves between processors), and
 * plain stores to a shared word, which lose counts.
 */
#ifndef ASH_TALLY_H
#define ASH_TALLY_H

#include "base/atomic.h"

enum { TALLY_LINES = 64, TALLY_COUNTS = 8 };

struct tally {
    struct {
        /* atomic: the line's thread writes, anyone reads; the last line is added to by anyone */
        ASH_LINE_ALIGNED _Atomic(uint64_t) count[TALLY_COUNTS];
    } line[TALLY_LINES + 1];
};

/* 0 before the thread's first count; then 1 + its line. */
ASH_HIDDEN extern ASH_TLS unsigned tally_self;

ASH_COLD void tally_attach(void);

ASH_INLINE void tally_add(struct tally *t, unsigned which, uint64_t n)
{
    if (ASH_UNLIKELY(tally_self == 0))
        tally_attach();
    if (ASH_LIKELY(tally_self <= TALLY_LINES))
        counter_add(&t->line[tally_self - 1].count[which], n);
    else
        add_relaxed(&t->line[TALLY_LINES].count[which], n);
}

uint64_t tally_sum(const struct tally *t, unsigned which);

#endif
