/*
 * Histograms of durations: 64 buckets, two for each doubling from 32 ns on, so that a percentile is
 * known within half of its value. Who keeps one keeps the counts, in words of the kind that its
 * writers need.
 */
#ifndef ASH_TIMES_H
#define ASH_TIMES_H

#include "base/base.h"

enum { TIMES_BUCKETS = 64 };

unsigned times_bucket(uint64_t ns);

/*
 * The end of the bucket in which the part of `percent` of all durations ends; there are `count` of
 * them, none longer than `most`.
 */
uint64_t times_percentile(const uint64_t bucket[TIMES_BUCKETS], uint64_t count, uint64_t most,
                          unsigned percent);

#endif
