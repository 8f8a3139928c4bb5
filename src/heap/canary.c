#include "heap/canary.h"

#include "base/bits.h"
#include "heap/error.h"

enum { SEAL_LIKE = 3 }; /* fewer bytes may be alike by chance */

uint64_t canary_secret;
const unsigned char canary_masks[2 * CANARY_LINE] = {[CANARY_LINE... 2 * CANARY_LINE - 1] = 0xff};

/* Of a word at a multiple of 8, the bytes from `n` on. */
static uint64_t word_mask(size_t n)
{
    return ~(uint64_t)0 << (n % 8 * 8);
}

void canary_fill(void *p, size_t n, size_t end, uint64_t key)
{
    if (n >= end)
        return;
    uint64_t pattern = canary_pattern(key);
    uint64_t mask = word_mask(n);
    uint64_t *word = (uint64_t *)p + n / 8;
    uint64_t *last = (uint64_t *)p + size_min(end, n + CANARY_LOOK) / 8;
    *word = (*word & ~mask) | (pattern & mask);
    while (++word < last)
        *word = pattern;
}

void canary_report(const void *p, size_t n, size_t end, uint64_t seal)
{
    const unsigned char *bytes = p;
    uint64_t pattern = canary_pattern(canary_key(p));
    size_t at = n;
    while (at < end && bytes[at] == (unsigned char)(pattern >> at % 8 * 8))
        at++;
    if (at == end)
        at += bits_lowest(seal) / 8;
    error_overflow(p, n, at);
}

void canary_check(const void *p, size_t n, size_t end, uint64_t key)
{
    if (n >= end)
        return;
    uint64_t pattern = canary_pattern(key);
    const uint64_t *word = (const uint64_t *)p + n / 8;
    const uint64_t *last = (const uint64_t *)p + size_min(end, n + CANARY_LOOK) / 8;
    uint64_t hurt = (*word ^ pattern) & word_mask(n);
    while (++word < last)
        hurt |= *word ^ pattern;
    if (ASH_UNLIKELY(hurt != 0))
        canary_report(p, n, end, 0);
}

unsigned seal_like(uint64_t seal, uint64_t other)
{
    unsigned like = 0;
    for (unsigned i = 0; i < 64; i += 8)
        like += (seal >> i & 0xff) == (other >> i & 0xff);
    return like;
}

unsigned seal_guess(uint64_t key, uint64_t seal, size_t most, unsigned *like)
{
    unsigned guess = SEAL_NONE;
    *like = SEAL_LIKE - 1;
    for (unsigned slack = CANARY_BYTES; slack <= most; slack++)
        if (seal_like(seal, seal_of_live(key, slack)) > *like) {
            *like = seal_like(seal, seal_of_live(key, slack));
            guess = slack;
        }
    return guess;
}
