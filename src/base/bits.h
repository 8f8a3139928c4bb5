/*
 * Bit arithmetic on 64-bit words: the one place that names the compiler's builtins for it.
 */
#ifndef ASH_BITS_H
#define ASH_BITS_H

#include "base/base.h"

/* Index of the lowest set bit. `x` is not zero. */
ASH_INLINE unsigned bits_lowest(uint64_t x)
{
    return (unsigned)__builtin_ctzll(x);
}

/* Index of the highest set bit. `x` is not zero. */
ASH_INLINE unsigned bits_highest(uint64_t x)
{
    return 63u ^ (unsigned)__builtin_clzll(x);
}

ASH_INLINE unsigned bits_count(uint64_t x)
{
    return (unsigned)__builtin_popcountll(x);
}

/* `n` ones from bit `at` on; n is 1..64 and at + n at most 64. */
ASH_INLINE uint64_t bits_mask(unsigned at, unsigned n)
{
    return (~(uint64_t)0 >> (64 - n)) << at;
}

/*
 * The bits at which a run of `n` set bits begins, n in 1..64: each round halves what is left to ask
 * for, so 64 takes six rounds.
 */
ASH_INLINE uint64_t bits_runs(uint64_t x, unsigned n)
{
    unsigned have = 1;
    while (have < n) {
        unsigned step = have < n - have ? have : n - have;
        x &= x >> step;
        have += step;
    }
    return x;
}

#endif
