/*
 * Which shard a key belongs to (ashlar/shard.h).
 *
 * Shards are the leaves of a binary tree that is filled from the left: level d holds the shards
 * 2^d to 2^(d+1) - 1. `shards` of them lie between the full tree of `half` and that of 2 * half.
 *
 *  1. The low bits of the key's hash choose a place in the full tree of 2 * half. A place in the
 *     last level is hashed once more within its level, so that which places are there does not
 *     depend on the low bits, which rule 3 uses.
 *  2. A place that is there is the answer, if it is in the last level.
 *  3. A place below `half` means: as if there were `half` shards, by the first hash. That is why
 *     adding shards to the last level moves keys to the new ones alone.
 *  4. A place that is not there is drawn again, TURNS times at most, and is then taken by rule 3;
 *     each draw fails with less than one half, so shards differ by less than 2^-TURNS.
 *
 * Measured against jump consistent hashing (J. Lamping, E. Veach 2014), which divides ln(shards)
 * times: see bench/bench_shards.
 */
#include "ashlar/shard.h"
#include "base/base.h"
#include "base/bits.h"

#define STEP 0x9e3779b97f4a7c15u

enum { TURNS = 32 };

/* A bijection of 64 bits: of the kind of D. Stafford's mixers. The constants are for ever. */
ASH_INLINE uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

/* Another place in the same level, by the hash; 0 and 1 are levels of their own. No branch. */
ASH_INLINE uint32_t place_in_level(uint32_t place, uint64_t hash)
{
    uint32_t first = (uint32_t)1 << bits_highest(place | 1);
    return first + ((uint32_t)mix(hash + first) & (first - 1)) - (place == 0);
}

/* The first place was not there: rule 4. */
static ASH_NOINLINE uint32_t draw_again(uint64_t first, uint32_t half, uint32_t shards)
{
    uint64_t hash = first;
    for (unsigned turn = 1; turn < TURNS; turn++) {
        hash = mix(hash + STEP);
        uint32_t place = (uint32_t)hash & (2 * half - 1);
        if (place < half)
            break;
        place = place_in_level(place, hash);
        if (place < shards)
            return place;
    }
    return place_in_level((uint32_t)first & (half - 1), first);
}

ASH_API uint32_t ash_shard_of(uint64_t key, uint32_t shards)
{
    if (ASH_UNLIKELY(shards < 2))
        return 0;
    uint32_t half = (uint32_t)1 << bits_highest(shards - 1);
    uint64_t hash = mix(key + STEP);
    uint32_t place = place_in_level((uint32_t)hash & (2 * half - 1), hash);
    return place < shards ? place : draw_again(hash, half, shards); /* rules 2 and 3 alike */
}
