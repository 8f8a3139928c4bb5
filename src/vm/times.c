#include "vm/times.h"

enum { LEAST_SHIFT = 5 }; /* the first bucket ends at 32 ns */

unsigned times_bucket(uint64_t ns)
{
    if (ns < (uint64_t)1 << LEAST_SHIFT)
        return 0;
    unsigned log = 63 - (unsigned)__builtin_clzll(ns);
    unsigned bucket = 1 + 2 * (log - LEAST_SHIFT) + (unsigned)(ns >> (log - 1) & 1);
    return (unsigned)size_min(bucket, TIMES_BUCKETS - 1);
}

/* Where the bucket ends. */
static uint64_t bucket_end(unsigned bucket)
{
    if (bucket == 0)
        return (uint64_t)1 << LEAST_SHIFT;
    unsigned log = LEAST_SHIFT + (bucket - 1) / 2, half = (bucket - 1) % 2;
    return ((uint64_t)1 << log) + ((uint64_t)(half + 1) << (log - 1));
}

uint64_t times_percentile(const uint64_t bucket[TIMES_BUCKETS], uint64_t count, uint64_t most,
                          unsigned percent)
{
    uint64_t seen = 0, rank = (count * percent + 99) / 100;
    for (unsigned i = 0; i < TIMES_BUCKETS; i++)
        if ((seen += bucket[i]) >= rank)
            return size_min(bucket_end(i), most);
    return most;
}
