/*
 * Random numbers of the google-benchmark programs: the same at each run, cheap enough for a measured loop.
 */
#ifndef BENCH_RANDOM_H
#define BENCH_RANDOM_H

#include <cstddef>
#include <cstdint>

struct random_numbers {
    uint64_t state;

    explicit random_numbers(uint64_t seed) : state((seed + 1) * 0x9E3779B97F4A7C15u | 1) {}

    uint64_t next()
    {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 0x2545F4914F6CDD1Du;
    }

    size_t below(size_t n) { return static_cast<size_t>(((next() >> 32) * n) >> 32); }

    /* Between two powers of two, each doubling as likely as the next. */
    size_t size(size_t min, size_t max)
    {
        size_t doublings = 0;
        while (min << doublings < max)
            doublings++;
        size_t base = min << below(doublings == 0 ? 1 : doublings);
        return base + below(base);
    }
};

#endif
