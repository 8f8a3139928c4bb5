/* Numbers at random, the same in each run: xorshift64 (G. Marsaglia, Xorshift RNGs, 2003). */
#ifndef ASH_TESTS_DRAW_H
#define ASH_TESTS_DRAW_H

#include <stdint.h>

/* The next number of a sequence whose state is not 0. */
static inline uint64_t draw_from(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
