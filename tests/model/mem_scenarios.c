/*
 * Scenarios of chunks, their headers, and memory for records.
 */
#include "scenario.h"

#include "heap/slab.h"
#include "mem/meta.h"

/* ---- growing ---- */

static void grow_setup(void)
{
    scenario_boot();
    scenario_fill(0);
}

static void grow_take(void)
{
    size_t unit = scenario_take(1, 1);
    model_require(unit != RESERVE_NONE, "there is memory, and none was found");
    scenario_keep(unit, 1);
}

static void grow_take_long(void)
{
    size_t unit = scenario_take(CHUNK_UNITS + 1, 1);
    model_require(unit != RESERVE_NONE, "there is memory, and none was found");
    scenario_keep(unit, CHUNK_UNITS + 1);
}

/* A walk sees records of mapped chunks, or such as have no unit free. */
static void grow_walk(void)
{
    for (size_t c = 0, n = chunk_count(); c < n; c++)
        if (reserve_free_bits(c) != 0)
            (void)*(volatile const uint64_t *)unit_address(c * CHUNK_UNITS + CHUNK_UNITS - 1);
}

static void grow_check(void)
{
    size_t mapped = 0;
    for (size_t c = 0; c < chunk_count(); c++) {
        model_require(load_relaxed(&chunks[c].state) != CHUNK_CLAIMED, "chunk %zu stays claimed", c);
        mapped += load_relaxed(&chunks[c].state) >= CHUNK_MAPPED;
    }
    model_require(chunk_mapped_bytes() == mapped * CHUNK_BYTES, "a chunk was not counted");
    scenario_check_units();
}

/* ---- headers ---- */

static size_t header_units[THREADS];

static void ensure_setup(void)
{
    scenario_boot();
    for (int t = 0; t < THREADS; t++)
        header_units[t] = RESERVE_NONE;
}

/* The headers are mapped by who needs them first. */
static void ensure_setup_mapping(void)
{
    ensure_setup();
    scenario_fill_records(0);
}

/* The headers come zeroed, are the same for everybody, and one's own is nobody else's. */
static void ensure_header(void)
{
    size_t unit = scenario_take(1, 1);
    scenario_keep(unit, 1);
    header_units[model_self()] = unit;
    model_require(chunk_ensure(unit, 1), "no headers");
    struct slab *s = chunk_header(unit);
    model_require(s->unit == 0 && slab_units(s) == 0, "a header is not zeroed");
    s->unit = (uint32_t)unit;
    store_relaxed(&s->units, 1);
    store_release(&s->kind, UNIT_LARGE); /* pairs with ensure_walk */
}

/* A walk reads the fields of what it finds marked: see large_find. */
static void ensure_walk(void)
{
    for (size_t unit = 0; unit < 2; unit++) {
        struct slab *s = chunk_header_or_null(unit);
        if (s != NULL && load_acquire(&s->kind) == UNIT_LARGE) /* pairs with ensure_header */
            model_require(s->unit == unit && slab_units(s) == 1, "a header is not what its owner made it");
    }
}

static void ensure_check(void)
{
    for (int t = 0; t < THREADS; t++)
        if (header_units[t] != RESERVE_NONE) {
            struct slab *s = chunk_header(header_units[t]);
            model_require(s->unit == header_units[t] && slab_units(s) == 1, "a header was lost");
        }
    scenario_check_units();
}

/* ---- records ---- */

enum { RECORD = 64, RECORD_BLOCK = 512 * 1024 };
static unsigned char *records[THREADS][2];

static void meta_setup(void)
{
    scenario_fill_records(RECORD);
}

static void record_take(int i)
{
    unsigned char *p = meta_take(RECORD);
    model_require(p != NULL && p[0] == 0 && p[RECORD - 1] == 0, "no record, or not a zeroed one");
    p[0] = p[RECORD - 1] = 1;
    records[model_self()][i] = p;
}

static void meta_one(void)
{
    record_take(0);
}

static void meta_two(void)
{
    record_take(0);
    record_take(1);
}

static void meta_check(void)
{
    unsigned char *const *all = &records[0][0];
    uint64_t count = 0;
    for (int i = 0; i < THREADS * 2; i++) {
        count += all[i] != NULL;
        for (int k = 0; k < i; k++)
            model_require(all[i] == NULL || all[i] != all[k], "one record was handed out twice");
    }
    model_require(meta_bytes() == 64 * KIB - RECORD + count * RECORD, "the bytes handed out are not counted");
    model_require(system_mapped() == RECORD_BLOCK, "%zu bytes are mapped where one block would do", system_mapped());
}

static const char *const counters[] = {"&mapped_chunks", "&total", NULL};

const struct scenario mem_scenarios[] = {
    {.name = "grow",
     .invariant = "two threads find the window full: each gets a run, no chunk is mapped twice or stays claimed",
     .setup = grow_setup,
     .thread = {grow_take, grow_take},
     .check = grow_check,
     .spurious = 1,
     .loud = counters},
    {.name = "grow-walk",
     .invariant = "the same, and a third walks over the chunks",
     .setup = grow_setup,
     .thread = {grow_take, grow_take, grow_walk},
     .check = grow_check},
    {.name = "grow-long",
     .invariant = "the same with a run of more than one chunk",
     .setup = grow_setup,
     .thread = {grow_take, grow_take_long, grow_walk},
     .check = grow_check},
    {.name = "ensure",
     .invariant = "the first two runs of a chunk: one set of headers, zeroed, seen by a walk as its owner left it",
     .setup = ensure_setup,
     .thread = {ensure_header, ensure_header, ensure_walk},
     .check = ensure_check},
    {.name = "ensure-mapping",
     .invariant = "the same with headers that must be mapped: nobody reads one without knowing of the mapping",
     .setup = ensure_setup_mapping,
     .thread = {ensure_header, ensure_walk},
     .check = ensure_check,
     .spurious = 1},
    {.name = "meta",
     .invariant = "three threads at the end of a block of records: each record zeroed, none given twice, no block lost",
     .setup = meta_setup,
     .thread = {meta_two, meta_one, meta_one},
     .check = meta_check},
    {.name = "meta-counters",
     .invariant = "the same with two threads, and the counters in the search",
     .setup = meta_setup,
     .thread = {meta_two, meta_two},
     .check = meta_check,
     .loud = counters},
    {.name = NULL},
};
