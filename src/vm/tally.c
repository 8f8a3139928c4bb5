#include "vm/tally.h"

ASH_TLS unsigned tally_self;

static _Atomic(uint32_t) attached; /* atomic: threads that took a line */

void tally_attach(void)
{
    uint32_t seen = load_relaxed(&attached);
    while (seen < TALLY_LINES && !cas_relaxed(&attached, &seen, seen + 1))
        ;
    tally_self = seen + 1; /* TALLY_LINES + 1 for all who came too late */
}

uint64_t tally_sum(const struct tally *t, unsigned which)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i <= TALLY_LINES; i++)
        sum += load_relaxed(&t->line[i].count[which]);
    return sum;
}
