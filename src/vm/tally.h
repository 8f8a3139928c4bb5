/*
 * Counters that many threads raise and that are exact at rest. Up to TALLY_LINES threads at a time
 * have a line of their own and raise it by a load and a store (0.3 ns); those beyond share the last
 * line, by a locked add (5 ns). A thread's line goes to another when it ends. Rejected: one locked
 * add for all (5 ns, and a line that moves between processors), and plain stores to a shared word,
 * which lose counts.
 *
 * The number of the line also tells threads apart elsewhere: whoever has it is alone with what is
 * kept under it, and comes after the thread that had it before.
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

/* The calling thread's line; TALLY_LINES: the shared one. */
ASH_INLINE unsigned tally_line(void)
{
    if (ASH_UNLIKELY(tally_self == 0))
        tally_attach();
    return tally_self - 1;
}

ASH_INLINE void tally_add(struct tally *t, unsigned which, uint64_t n)
{
    unsigned line = tally_line();
    if (ASH_LIKELY(line < TALLY_LINES))
        counter_add(&t->line[line].count[which], n);
    else
        add_relaxed(&t->line[TALLY_LINES].count[which], n);
}

uint64_t tally_sum(const struct tally *t, unsigned which);

#endif
