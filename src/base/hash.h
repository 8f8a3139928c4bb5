/*
 * Hashes of bytes: a multiplication of 64 by 64 bits whose two halves are folded together, 16 bytes
 * a step; from 128 bytes on in four independent lanes, so that the multiplications overlap (about
 * 10 bytes a cycle). Not cryptographic: whoever looks something up by a hash compares the key too.
 *
 * The result is the same on every machine of one byte order and is stored in files: a change here
 * is a change of the format of artifacts (vm/artdisk).
 */
#ifndef ASH_HASH_H
#define ASH_HASH_H

#include "base/base.h"

#include <string.h>

/* Odd, with as many ones as zeroes; without meaning. */
#define HASH_K0 0x9e3779b97f4a7c15u
#define HASH_K1 0xc2b2ae3d27d4eb4fu
#define HASH_K2 0x8ebc6af09c88c6e3u
#define HASH_K3 0x589965cc75374cc3u

ASH_INLINE uint64_t hash_fold(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

ASH_INLINE uint64_t hash_word(const unsigned char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

/* The last 1 to 8 bytes, as a word filled up with zeroes. */
ASH_INLINE uint64_t hash_tail(const unsigned char *p, size_t n)
{
    uint64_t w = 0;
    if (n == 8)
        return hash_word(p);
    if (n >= 4) { /* two words of four bytes that overlap */
        uint32_t low, high;
        memcpy(&low, p, 4);
        memcpy(&high, p + n - 4, 4);
        return low | (uint64_t)high << 8 * (n - 4);
    }
    for (size_t i = 0; i < n; i++)
        w |= (uint64_t)p[i] << 8 * i;
    return w;
}

/* `n` bytes under a seed. The length counts, so bytes that continue with zeroes differ. */
ASH_INLINE uint64_t hash_bytes(const void *bytes, size_t n, uint64_t seed)
{
    const unsigned char *p = bytes;
    uint64_t h = (seed ^ HASH_K0) + n * HASH_K1;
    if (n >= 128) {
        uint64_t lane[4] = {h, h ^ HASH_K1, h ^ HASH_K2, h ^ HASH_K3};
        for (; n >= 64; p += 64, n -= 64)
            for (unsigned i = 0; i < 4; i++)
                lane[i] =
                    hash_fold(hash_word(p + 16 * i) ^ HASH_K2, hash_word(p + 16 * i + 8) ^ lane[i]);
        h = hash_fold(lane[0] ^ HASH_K0, lane[1]) ^ hash_fold(lane[2] ^ HASH_K3, lane[3]);
    }
    for (; n > 16; p += 16, n -= 16)
        h = hash_fold(hash_word(p) ^ HASH_K2, hash_word(p + 8) ^ h);
    uint64_t low = hash_tail(p, size_min(n, 8));
    uint64_t high = n > 8 ? hash_tail(p + 8, n - 8) : 0;
    return hash_fold(hash_fold(low ^ HASH_K2, high ^ h), HASH_K3);
}

#endif
