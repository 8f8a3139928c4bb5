/*
 * Which shard a key belongs to (ashlar/shard.h): even, the same for ever, and few keys move when a shard is added.
 */
#include "ashlar/shard.h"
#include "tap.h"

static void test_shard_of(void)
{
    enum { KEYS = 200000 };
    static uint32_t before[KEYS];
    static unsigned count[1024];
    is_int(ash_shard_of(1, 0), 0, "no shards");
    is_int(ash_shard_of(1, 1), 0, "one shard");
    unsigned moved_wrong = 0, moved_many = 0, uneven = 0, outside = 0;
    for (uint32_t shards = 1; shards <= 130; shards++) {
        unsigned moved = 0;
        memset(count, 0, sizeof count);
        for (uint64_t k = 0; k < KEYS; k++) {
            uint32_t s = ash_shard_of(k, shards);
            outside += s >= shards;
            if (shards > 1 && s != before[k]) {
                moved++;
                moved_wrong += s != shards - 1;
            }
            before[k] = s;
            count[s % 1024]++;
        }
        double mean = (double)KEYS / shards, most = 0;
        for (uint32_t s = 0; s < shards; s++) {
            double off = (count[s] - mean) * (count[s] - mean) / mean; /* chi squared of one */
            most = off > most ? off : most;
        }
        uneven += most > 25;
        moved_many += shards > 1 && ((double)moved > 1.15 * mean || (double)moved < 0.85 * mean);
    }
    is_int(outside, 0, "every key has a shard that there is");
    is_int(moved_wrong, 0, "keys move to the shard that is new, and nowhere else");
    is_int(moved_many, 0, "one in as many as there are shards");
    is_int(uneven, 0, "keys that follow one another are spread evenly, none is off by 5 sigma");
    unsigned huge = 0;
    for (uint64_t k = 0; k < 1000; k++)
        huge += ash_shard_of(k, UINT32_MAX) == UINT32_MAX || ash_shard_of(k << 40, 3000000000u) >= 3000000000u;
    is_int(huge, 0, "four billion shards");
    static const struct {
        uint64_t key;
        uint32_t shards, shard;
    } known[] = {
#include "shard_known.h"
    };
    unsigned other = 0;
    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
        other += ash_shard_of(known[i].key, known[i].shards) != known[i].shard;
    is_int(other, 0, "the same as always");
}

int main(void)
{
    test_shard_of();
    return tap_done();
}
