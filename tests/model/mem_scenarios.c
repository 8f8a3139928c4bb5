/*
 * Scenarios of src/mem: the reserve's bits, purging, chunks and their headers, memory for records.
 *
 * Units are told apart by what is written to them: every thread that believes to own a unit writes to it, so that two
 * owners, or an owner and the purge, are a data race unless the one's end comes before the other's beginning.
 */
#include "scenario.h"

#include "base/bits.h"
#include "heap/sizeclass.h"
#include "heap/slab.h"
#include "mem/chunk.h"
#include "mem/meta.h"
#include "mem/purge.h"
#include "mem/reserve.h"

static struct run got[THREADS]; /* what each thread holds at its end */
static size_t given;            /* what a thread holds at the beginning */

void scenario_boot(void)
{
    sizeclass_boot(64);
    slab_boot();
    if (reserve_boot() != 0)
        model_fail("no window");
    model_name(&chunks[0].free, "chunk 0's free");
    model_name(&chunks[0].dirty, "chunk 0's dirty");
    model_name(&chunks[0].aged, "chunk 0's aged");
    model_name(&chunks[0].state, "chunk 0's state");
    model_name(&chunks[1].free, "chunk 1's free");
    model_name(&chunks[1].dirty, "chunk 1's dirty");
    model_name(&chunks[1].aged, "chunk 1's aged");
    model_name(&chunks[1].state, "chunk 1's state");
    model_name(&chunks[2].state, "chunk 2's state");
}

void scenario_fill(size_t left)
{
    for (size_t i = 0; i < CHUNK_UNITS - left; i++)
        if (reserve_take(1, 1).unit == RESERVE_NONE)
            model_fail("the first chunk is too small");
}

void scenario_use(size_t unit, size_t units)
{
    for (size_t i = 0; i < units; i++)
        *(uint64_t *)unit_address(unit + i) = 1 + (uint64_t)model_self();
}

/* Takes a run, sees that it is zero if that is said, and uses it. */
static struct run take(size_t units)
{
    struct run r = reserve_take(units, 1);
    if (r.unit == RESERVE_NONE)
        return r;
    for (size_t i = 0; i < units; i++) {
        uint64_t word = *(const uint64_t *)unit_address(r.unit + i);
        model_require(!r.zero || word == 0, "unit %zu is said to be zero and is not", r.unit + i);
    }
    scenario_use(r.unit, units);
    return r;
}

static void take_and_keep(size_t units)
{
    got[model_self()] = take(units);
}

static void take_and_give(size_t units)
{
    struct run r = take(units);
    if (r.unit != RESERVE_NONE)
        reserve_give(r.unit, units);
    got[model_self()].unit = RESERVE_NONE;
}

static void give_given(void)
{
    scenario_use(given, 1);
    reserve_give(given, 1);
    got[model_self()].unit = RESERVE_NONE;
}

/* The counter of free dirty units is that of the bits, and no unit of `units` each is both free and held. */
static void check_bits(size_t units)
{
    unsigned idle = 0;
    for (size_t c = 0; c < chunk_count(); c++)
        idle += bits_count(reserve_free_bits(c) & load_relaxed(&chunks[c].dirty));
    model_require(purge_dirty() == idle, "%lu units are counted as dirty, %u are", (unsigned long)purge_dirty(), idle);
    for (int t = 0; t < THREADS; t++) {
        for (size_t i = 0; i < units && got[t].unit != RESERVE_NONE; i++) {
            size_t unit = got[t].unit + i;
            uint64_t bit = (uint64_t)1 << unit % CHUNK_UNITS;
            model_require((reserve_free_bits(unit / CHUNK_UNITS) & bit) == 0, "unit %zu is held and free", unit);
            model_require((load_relaxed(&chunks[unit / CHUNK_UNITS].dirty) & bit) != 0, "unit %zu is held and clean", unit);
        }
    }
}

static unsigned free_units(void)
{
    unsigned count = 0;
    for (size_t c = 0; c < chunk_count(); c++)
        count += bits_count(reserve_free_bits(c));
    return count;
}

static void nobody_holds(void)
{
    for (int t = 0; t < THREADS; t++)
        got[t].unit = RESERVE_NONE;
}

/* ---- short runs ---- */

static void short_setup(void)
{
    scenario_boot();
    scenario_fill(2);
    given = 5;
    nobody_holds();
}

static void short_take(void)
{
    take_and_keep(1);
}

static void short_take_and_give(void)
{
    take_and_give(1);
}

static void short_check(void)
{
    check_bits(1);
    model_require(free_units() == 3 - 1, "a unit was lost: %u are free", free_units());
}

/* ---- long runs: over the border of chunks 0 and 1, against each other and against what lies in their way ---- */

enum { LONG = 40, LONG_ALIGN = 16, IN_THE_WAY = 70 };

/*
 * Units [0, 48) are taken, then all is free to the end of chunk 2 but for the one in the way: LONG units can be had at
 * 80 and 128, and at 48 once that one is given.
 */
static void long_setup(void)
{
    scenario_boot();
    reserve_take(CHUNK_UNITS, 1);
    reserve_take(2 * CHUNK_UNITS, 1); /* maps chunks 1 and 2 */
    reserve_give(48, 3 * CHUNK_UNITS - 48);
    struct run before = reserve_take(16, 16), behind = reserve_take(4, 4), last = reserve_take(2, 2);
    given = reserve_take(1, 1).unit;
    if (given != IN_THE_WAY)
        model_fail("the reserve is not as the scenario has it");
    reserve_give(before.unit, 16);
    reserve_give(behind.unit, 4);
    reserve_give(last.unit, 2);
    purge_pass(true);
    nobody_holds();
}

static void long_setup_dirty(void)
{
    long_setup();
    struct run all = reserve_take(112, 16);
    reserve_give(all.unit, 112);
}

static struct run long_claim(void)
{
    struct run r = reserve_take(LONG, LONG_ALIGN);
    if (r.unit != RESERVE_NONE)
        scenario_use(r.unit, LONG);
    return r;
}

static void long_take(void)
{
    got[model_self()] = long_claim();
}

static void long_take_and_give(void)
{
    struct run r = long_claim();
    if (r.unit != RESERVE_NONE)
        reserve_give(r.unit, LONG);
    got[model_self()].unit = RESERVE_NONE;
}

static void long_take_short(void)
{
    got[model_self()] = reserve_take(4, 4);
    if (got[model_self()].unit != RESERVE_NONE)
        scenario_use(got[model_self()].unit, 4);
}

/* Of two overlapping attempts one may roll back; nothing is lost, nothing doubled. */
static void long_check(void)
{
    check_bits(1);
    uint64_t used = 0;
    for (size_t c = 0; c < chunk_count(); c++)
        if (load_relaxed(&chunks[c].state) >= CHUNK_MAPPED) /* others have no bits and are not in use */
            used += CHUNK_UNITS - bits_count(reserve_free_bits(c));
    struct reserve_totals t;
    reserve_totals_get(&t);
    model_require(t.used == used * UNIT_BYTES, "%lu units are in use, %lu are counted", (unsigned long)used,
                  (unsigned long)t.used / UNIT_BYTES);
}

/* A run that ends at the border of chunk 0 grows over it. */
static void extend_setup(void)
{
    scenario_boot();
    scenario_fill(2);
    nobody_holds();
}

static void extend_behind(void)
{
    bool zero;
    if (reserve_extend(CHUNK_UNITS - 2, 4, &zero))
        scenario_use(CHUNK_UNITS - 2, 4);
}

/* ---- purging ---- */

/* Unit 62 is free and dirty, 63 free and clean, 5 somebody's. */
static void purge_setup(void)
{
    scenario_boot();
    scenario_fill(1);
    scenario_use(62, 1);
    reserve_give(62, 1);
    given = 5;
    scenario_use(given, 1);
    nobody_holds();
}

static void purge_all(void)
{
    purge_pass(true);
    got[model_self()].unit = RESERVE_NONE;
}

static void purge_twice(void)
{
    purge_pass(false);
    purge_pass(false);
    got[model_self()].unit = RESERVE_NONE;
}

static void purge_check(void)
{
    check_bits(1);
    for (size_t c = 0; c < chunk_count(); c++) {
        uint64_t clean = reserve_free_bits(c) & ~load_relaxed(&chunks[c].dirty);
        for (unsigned u = 0; u < CHUNK_UNITS; u++)
            if ((clean >> u & 1) != 0)
                model_require(*(const uint64_t *)unit_address(c * CHUNK_UNITS + u) == 0,
                              "free unit %u is marked as clean and is not", u);
    }
}

/* ---- growing ---- */

static void grow_setup(void)
{
    scenario_boot();
    scenario_fill(0);
    nobody_holds();
}

static void grow_take(void)
{
    take_and_keep(1);
    model_require(got[model_self()].unit != RESERVE_NONE, "there is memory, and none was found");
}

static void grow_take_long(void)
{
    got[model_self()] = reserve_take(CHUNK_UNITS + 1, 1);
    model_require(got[model_self()].unit != RESERVE_NONE, "there is memory, and none was found");
    scenario_use(got[model_self()].unit, CHUNK_UNITS + 1);
}

/* A walk sees records of mapped chunks only. */
static void grow_walk(void)
{
    for (size_t c = 0, n = chunk_count(); c < n; c++)
        (void)reserve_free_bits(c);
}

static void grow_check(void)
{
    check_bits(1);
    for (size_t c = 0; c < chunk_count(); c++) {
        uintptr_t state = load_relaxed(&chunks[c].state);
        model_require(state != CHUNK_CLAIMED, "chunk %zu stays claimed", c);
    }
    long_check();
}

/* ---- headers ---- */

static void ensure_setup(void)
{
    scenario_boot();
    nobody_holds();
}

/* The headers come zeroed, are the same for everybody, and one's own is nobody else's. */
static void ensure_header(void)
{
    struct run r = take(1);
    got[model_self()] = r;
    model_require(chunk_ensure(r.unit, 1), "no headers");
    struct slab *s = chunk_header(r.unit);
    model_require(s->unit == 0 && s->units == 0, "a header is not zeroed");
    s->unit = (uint32_t)r.unit;
    s->units = 1;
    store_release(&s->kind, UNIT_LARGE);
}

/* A walk reads the fields of what it finds marked: see large_find. */
static void ensure_walk(void)
{
    for (size_t unit = 0; unit < 2; unit++) {
        struct slab *s = chunk_header_or_null(unit);
        if (s != NULL && load_acquire(&s->kind) == UNIT_LARGE)
            model_require(s->unit == unit && s->units == 1, "a header is not what its owner made it");
    }
}

static void ensure_check(void)
{
    for (int t = 0; t < THREADS; t++)
        if (got[t].unit != RESERVE_NONE) {
            struct slab *s = chunk_header(got[t].unit);
            model_require(s->unit == got[t].unit && s->units == 1, "a header was lost");
        }
}

/* ---- records ---- */

enum { RECORD = 64 };
static unsigned char *records[THREADS][2];

static void meta_setup(void)
{
    if (meta_take(64 * 1024 - RECORD) == NULL) /* one more fits into the static block */
        model_fail("the first block is smaller than thought");
}

static void meta_two(void)
{
    for (int i = 0; i < 2; i++) {
        unsigned char *p = meta_take(RECORD);
        model_require(p != NULL, "no record");
        for (int k = 0; k < RECORD; k++)
            model_require(p[k] == 0, "a record is not zeroed");
        p[0] = p[RECORD - 1] = 1;
        records[model_self()][i] = p;
    }
}

static void meta_one(void)
{
    unsigned char *p = meta_take(RECORD);
    model_require(p != NULL && *p == 0, "no record, or not a zeroed one");
    *p = 1;
    records[model_self()][0] = p;
}

static void meta_check(void)
{
    unsigned char *const *all = &records[0][0];
    for (int i = 0; i < THREADS * 2; i++)
        for (int k = 0; k < i; k++)
            model_require(all[i] == NULL || all[i] != all[k], "one record was handed out twice");
}

const struct scenario mem_scenarios[] = {
    {.name = "reserve-short",
     .invariant = "two claims and a give of single units: no unit has two owners, none is lost",
     .setup = short_setup,
     .thread = {short_take, short_take_and_give, give_given},
     .check = short_check,
     .spurious = 1},
    {.name = "reserve-long",
     .invariant = "runs over a chunk's border against each other: all or nothing, and rolled back fully",
     .setup = long_setup,
     .thread = {long_take, long_take_and_give},
     .check = long_check},
    {.name = "reserve-long-dirty",
     .invariant = "the same where the runs are dirty, so that those are looked for first",
     .setup = long_setup_dirty,
     .thread = {long_take, long_take},
     .check = long_check},
    {.name = "reserve-long-short",
     .invariant = "a long claim against a short one in its way and a give",
     .setup = long_setup,
     .thread = {long_take, long_take_short, give_given},
     .check = long_check},
    {.name = "reserve-extend",
     .invariant = "growth in place, into a chunk that is not mapped yet, against claims of the same units",
     .setup = extend_setup,
     .thread = {extend_behind, short_take, grow_take},
     .check = long_check},
    {.name = "purge",
     .invariant = "a pass against a claim and a give: a run that is said to be zero is, the dirty count is exact",
     .setup = purge_setup,
     .thread = {purge_all, short_take, give_given},
     .check = purge_check},
    {.name = "purge-aged",
     .invariant = "passes by age against a claim and a give: the same",
     .setup = purge_setup,
     .thread = {purge_twice, short_take_and_give},
     .check = purge_check},
    {.name = "purge-purge",
     .invariant = "two passes at once, and a claim: the same",
     .setup = purge_setup,
     .thread = {purge_all, purge_all, short_take},
     .check = purge_check},
    {.name = "grow",
     .invariant = "two threads find the window full: each gets a run, no chunk is mapped twice or stays claimed",
     .setup = grow_setup,
     .thread = {grow_take, grow_take},
     .check = grow_check},
    {.name = "grow-long",
     .invariant = "the same with a run of more than one chunk, and a walk",
     .setup = grow_setup,
     .thread = {grow_take, grow_take_long, grow_walk},
     .check = grow_check},
    {.name = "ensure",
     .invariant = "the first two runs of a chunk: one set of headers, zeroed, seen by a walk as its owner left it",
     .setup = ensure_setup,
     .thread = {ensure_header, ensure_header, ensure_walk},
     .check = ensure_check},
    {.name = "meta",
     .invariant = "three threads at the end of a block of records: every record zeroed, none handed out twice",
     .setup = meta_setup,
     .thread = {meta_two, meta_one, meta_one},
     .check = meta_check},
    {.name = NULL},
};
