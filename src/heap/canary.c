#include "heap/canary.h"

#include "base/bits.h"
#include "heap/error.h"

enum { SEAL_LIKE = 3 }; /* fewer bytes may be alike by chance */

uint64_t canary_secret;

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

unsigned seal_guess(uint64_t key, uint64_t kind, uint64_t seal, size_t most, unsigned *same)
{
    unsigned guess = SEAL_NONE;
    *same = SEAL_LIKE - 1;
    for (unsigned value = 0; value <= most; value++) {
        uint64_t hurt = seal ^ seal_make(key, kind, value);
        unsigned like = 0;
        for (unsigned i = 0; i < 64; i += 8)
            like += (hurt >> i & 0xff) == 0;
        if (like > *same) {
            *same = like;
            guess = value;
        }
    }
    return guess;
}
