#include "scenario.h"

#include "ashlar/malloc.h"
#include "ashlar/pool.h"
#include "base/bits.h"
#include "heap/slab.h"
#include "mem/meta.h"
#include "mem/purge.h"

#include <string.h>

static struct {
    size_t unit, units;
} kept[THREADS];

void scenario_boot(void)
{
    sizeclass_boot(64);
    slab_boot();
    model_require(reserve_boot() == 0, "no window");
    static const char *const words[][4] = {
        {"chunk 0's free", "chunk 0's dirty", "chunk 0's aged", "chunk 0's state"},
        {"chunk 1's free", "chunk 1's dirty", "chunk 1's aged", "chunk 1's state"},
        {"chunk 2's free", "chunk 2's dirty", "chunk 2's aged", "chunk 2's state"},
    };
    for (size_t c = 0; c < ASH_COUNT(words); c++) {
        model_name(&chunks[c].free, words[c][0]);
        model_name(&chunks[c].dirty, words[c][1]);
        model_name(&chunks[c].aged, words[c][2]);
        model_name(&chunks[c].state, words[c][3]);
    }
}

void scenario_fill(size_t left)
{
    for (size_t i = 0; i < CHUNK_UNITS - left; i++)
        model_require(reserve_take(1, 1).unit == i, "the first chunk is not as thought");
}

void scenario_fill_records(size_t left)
{
    model_require(meta_take(64 * KIB - left - (size_t)meta_bytes()) != NULL && system_mapped() == 0,
                  "the first block of records is smaller than thought");
}

void scenario_use(size_t unit, size_t units)
{
    for (size_t i = 0; i < units; i++)
        *(uint64_t *)unit_address(unit + i) = 1 + (uint64_t)model_self();
}

size_t scenario_take(size_t units, size_t align)
{
    struct run r = reserve_take(units, align);
    if (r.unit == RESERVE_NONE)
        return r.unit;
    for (size_t i = 0; i < units; i++) {
        uint64_t word = *(const uint64_t *)unit_address(r.unit + i);
        model_require(!r.zero || word == 0, "unit %zu is said to be zero and is not", r.unit + i);
    }
    scenario_use(r.unit, units);
    return r.unit;
}

void scenario_keep(size_t unit, size_t units)
{
    kept[model_self()].unit = unit;
    kept[model_self()].units = unit == RESERVE_NONE ? 0 : units;
}

void scenario_check_units(void)
{
    uint64_t used = 0, idle = 0;
    for (size_t c = 0; c < chunk_count(); c++) {
        uint64_t free = reserve_free_bits(c);
        idle += bits_count(free & load_relaxed(&chunks[c].dirty));
        if (load_relaxed(&chunks[c].state) >= CHUNK_MAPPED) /* others have no bits, and are not in use */
            used += bits_count(~free);
    }
    model_require(purge_dirty() == idle, "%lu units are counted as dirty, %lu are", (unsigned long)purge_dirty(),
                  (unsigned long)idle);
    struct reserve_totals t;
    reserve_totals_get(&t);
    model_require(t.used == used * UNIT_BYTES, "%lu units are in use, %lu are counted", (unsigned long)used,
                  (unsigned long)t.used / UNIT_BYTES);
    for (int k = 0; k < THREADS; k++)
        for (size_t unit = kept[k].unit; unit < kept[k].unit + kept[k].units; unit++) {
            const struct chunk *c = &chunks[unit / CHUNK_UNITS];
            uint64_t bit = (uint64_t)1 << unit % CHUNK_UNITS;
            model_require((load_relaxed(&c->free) & bit) == 0, "unit %zu is held and free", unit);
            model_require((load_relaxed(&c->dirty) & bit) != 0, "unit %zu is held and clean", unit);
        }
}

/* ---- stand-ins for the first library, for modules of the second ---- */

/* A thread's own memory, without a step of the search; outside of threads it is that behind the last. */
static struct {
    _Alignas(64) char bytes[64 * 1024];
    size_t used;
    int blocks; /* the thread's own count */
} memory[THREADS + 1];

static unsigned memory_index(void)
{
    return model_self() < 0 ? THREADS : (unsigned)model_self();
}

int scenario_blocks(void)
{
    int blocks = 0;
    for (unsigned i = 0; i <= THREADS; i++)
        blocks += memory[i].blocks;
    return blocks;
}

void *ash_malloc(size_t n)
{
    unsigned i = memory_index();
    size_t at = memory[i].used;
    memory[i].used = align_up(at + n, 64);
    memory[i].blocks++;
    model_require(memory[i].used <= sizeof memory[i].bytes, "a thread allocates too much");
    return memory[i].bytes + at;
}

void *ash_calloc(size_t count, size_t n)
{
    return ash_malloc(count * n);
}

void *ash_aligned_alloc(size_t align, size_t n)
{
    model_require(align <= 64, "an alignment that is none of theirs");
    return ash_malloc(n);
}

/* Whoever frees a block writes to it: those who use it still are a data race. */
void ash_free(void *p)
{
    if (p == NULL)
        return;
    memory[memory_index()].blocks--;
    memset(p, 0, 8);
}

struct ash_pool {
    size_t bytes; /* of an object */
};

struct ash_pool *scenario_pool(size_t bytes)
{
    static struct ash_pool pool;
    pool.bytes = bytes;
    return &pool;
}

void *ash_pool_get(struct ash_pool *pool)
{
    return memset(ash_aligned_alloc(64, pool->bytes), 0, pool->bytes);
}

void ash_pool_put(struct ash_pool *pool, void *object)
{
    memset(object, 0, pool->bytes);
    ash_free(object);
}

void ash_pool_put_bulk(struct ash_pool *pool, void *const *objects, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        ash_pool_put(pool, objects[i]);
}
