/*
 * Scenarios of the reserve and of purging: claims, gives and passes, by their bits.
 */
#include "scenario.h"

#include "base/bits.h"
#include "mem/purge.h"

static size_t given; /* a unit that is somebody's at the beginning */

static void take_1(void)
{
    scenario_keep(scenario_take(1, 1), 1);
}

static void take_1_and_give(void)
{
    size_t unit = scenario_take(1, 1);
    if (unit != RESERVE_NONE)
        reserve_give(unit, 1);
}

static void give_given(void)
{
    scenario_use(given, 1);
    reserve_give(given, 1);
}

/* The same, and its memory has gone back to the system. */
static void give_given_zero(void)
{
    scenario_use(given, 1);
    *(uint64_t *)unit_address(given) = 0;
    reserve_give_zero(given, 1);
}

/* ---- short runs ---- */

static void short_setup(void)
{
    scenario_boot();
    scenario_fill(2);
    given = 5;
}

static void short_check(void)
{
    scenario_check_units();
    unsigned count = bits_count(reserve_free_bits(0));
    model_require(count == 3 - 1, "a unit was lost: %u are free", count);
}

static void take_2(void)
{
    scenario_keep(scenario_take(2, 2), 2);
}

static void take_1_and_1(void)
{
    size_t unit = scenario_take(1, 1);
    take_1();
    if (unit != RESERVE_NONE)
        reserve_give(unit, 1);
}

/* ---- the limit ---- */

static void limit_setup(void)
{
    scenario_boot();
    scenario_fill(4);
    model_require(reserve_limit_set(CHUNK_BYTES) == 0, "no limit");
}

static void limit_take_3(void)
{
    scenario_keep(scenario_take(3, 1), 3);
}

static void limit_take_3_and_give(void)
{
    size_t unit = scenario_take(3, 1);
    if (unit != RESERVE_NONE)
        reserve_give(unit, 3);
}

static void limit_check(void)
{
    scenario_check_units();
    struct reserve_totals t;
    reserve_totals_get(&t);
    model_require(t.used <= t.limit && t.peak <= t.limit, "more than the limit is in use");
}

/* ---- long runs: over the border of two chunks, against each other and against what lies in their way ---- */

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
    model_require(given == IN_THE_WAY, "the reserve is not as the scenario has it");
    reserve_give(before.unit, 16);
    reserve_give(behind.unit, 4);
    reserve_give(last.unit, 2);
    purge_pass(true);
}

static void long_setup_dirty(void)
{
    long_setup();
    struct run all = reserve_take(112, 16);
    reserve_give(all.unit, 112);
}

static void take_long(void)
{
    scenario_keep(scenario_take(LONG, LONG_ALIGN), LONG);
}

static void take_long_and_give(void)
{
    size_t unit = scenario_take(LONG, LONG_ALIGN);
    if (unit != RESERVE_NONE)
        reserve_give(unit, LONG);
}

static void take_4(void)
{
    scenario_keep(scenario_take(4, 4), 4);
}

/* A run that ends at the border of chunk 0 grows over it, into a chunk that is not mapped yet. */
static void extend_setup(void)
{
    scenario_boot();
    scenario_fill(2);
}

static void extend_behind(void)
{
    bool zero;
    if (reserve_extend(CHUNK_UNITS - 2, 4, &zero)) {
        scenario_use(CHUNK_UNITS - 2, 4);
        scenario_keep(CHUNK_UNITS - 2, 4);
    }
}

/* The same where the units behind are taken for good. */
static void extend_setup_full(void)
{
    scenario_boot();
    scenario_fill(0);
    reserve_give(5, 1);
}

static void take_too_many(void)
{
    model_require(scenario_take(16 * CHUNK_UNITS, 1) == RESERVE_NONE, "more was had than there is");
}

/* ---- the hint where free units begin ---- */

static void hint_setup(void)
{
    scenario_boot();
    scenario_fill(0);
    reserve_give(scenario_take(1, 1), 1); /* maps chunk 1 */
    given = 5;
}

/* Every free unit is found, wherever the hint points: no further chunk is mapped. */
static void hint_check(void)
{
    scenario_check_units();
    unsigned count = bits_count(reserve_free_bits(0)) + bits_count(reserve_free_bits(1));
    while (count-- != 0)
        model_require(reserve_take(1, 1).unit != RESERVE_NONE, "there is a free unit, and none was found");
    model_require(chunk_count() == 2, "a chunk was mapped while a unit was free");
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
}

static void purge_all(void)
{
    purge_pass(true);
}

static void purge_old_twice(void)
{
    purge_pass(false);
    purge_pass(false);
}

static void purge_from_far(void)
{
    purge_far(1);
}

static void purge_check(void)
{
    scenario_check_units();
    uint64_t clean = reserve_free_bits(0) & ~load_relaxed(&chunks[0].dirty);
    for (; clean != 0; clean &= clean - 1)
        model_require(*(const uint64_t *)unit_address(bits_lowest(clean)) == 0,
                      "free unit %u is marked as clean and is not", bits_lowest(clean));
}

static bool ticked[THREADS];

static void tick_setup(void)
{
    purge_setup();
    (void)purge_tick();
    system_ms += 1000;
}

static void tick(void)
{
    ticked[model_self()] = purge_tick();
}

static void tick_check(void)
{
    purge_check();
    model_require(!ticked[0] || !ticked[1], "two passes were made for one tick");
}

static const char *const counters[] = {"&used_units", "&dirty_units", "&peak_units", "p", NULL};
static const char *const hints[] = {"&low", NULL};

const struct scenario reserve_scenarios[] = {
    {.name = "reserve-short",
     .invariant = "two claims and a give of single units: no unit has two owners, none is lost",
     .setup = short_setup,
     .thread = {take_1, take_1_and_give, give_given},
     .check = short_check,
     .spurious = 1},
    {.name = "reserve-shorts",
     .invariant = "the same with claims of two units and of two in turn",
     .setup = short_setup,
     .thread = {take_1_and_1, take_2, give_given},
     .check = scenario_check_units},
    {.name = "reserve-counters",
     .invariant = "the same with the counters in the search: they are exact in the end",
     .setup = short_setup,
     .thread = {take_1, give_given},
     .check = short_check,
     .loud = counters},
    {.name = "reserve-zero",
     .invariant = "a unit is given that is zero again: whoever claims it is told so rightly",
     .setup = short_setup,
     .thread = {take_1, give_given_zero, take_1_and_give},
     .check = short_check,
     .full_only = true,
     .loud = counters},
    {.name = "reserve-hint",
     .invariant = "the first free unit moves up and down: all free ones are found",
     .setup = hint_setup,
     .thread = {take_1, give_given, take_1_and_give},
     .check = hint_check,
     .loud = hints},
    {.name = "reserve-refused",
     .invariant = "a run that cannot be had, against a claim and a give: nothing is counted for it",
     .setup = short_setup,
     .thread = {take_too_many, take_1_and_give},
     .check = scenario_check_units,
     .loud = counters},
    {.name = "reserve-extend-refused",
     .invariant = "the same for growth in place",
     .setup = extend_setup_full,
     .thread = {extend_behind, take_1_and_give},
     .check = scenario_check_units,
     .loud = counters},
    {.name = "reserve-limit",
     .invariant = "two claims that do not fit under the limit together: it is never passed",
     .setup = limit_setup,
     .thread = {limit_take_3, limit_take_3_and_give},
     .check = limit_check,
     .loud = counters},
    {.name = "reserve-long",
     .invariant = "runs over a chunk's border against each other: all or nothing, and rolled back fully",
     .setup = long_setup,
     .thread = {take_long, take_long_and_give, take_long},
     .check = scenario_check_units},
    {.name = "reserve-long-dirty",
     .invariant = "the same where the runs are dirty, so that those are looked for first",
     .setup = long_setup_dirty,
     .thread = {take_long, take_long},
     .check = scenario_check_units,
     .spurious = 1},
    {.name = "reserve-long-short",
     .invariant = "a long claim against a short one in its way and a give",
     .setup = long_setup,
     .thread = {take_long, take_4, give_given},
     .check = scenario_check_units},
    {.name = "reserve-extend",
     .invariant = "growth in place, into a chunk that is not mapped yet, against claims of the same units",
     .setup = extend_setup,
     .thread = {extend_behind, take_4},
     .check = scenario_check_units},
    {.name = "reserve-extend-3",
     .invariant = "the same against two claims",
     .setup = extend_setup,
     .thread = {extend_behind, take_1, take_4},
     .check = scenario_check_units,
     .full_only = true},
    {.name = "purge",
     .invariant = "a pass against a claim and a give: a run that is said to be zero is, the dirty count is exact",
     .setup = purge_setup,
     .thread = {purge_all, take_1, give_given},
     .check = purge_check,
     .spurious = 1},
    {.name = "purge-counters",
     .invariant = "the same with the counters in the search",
     .setup = purge_setup,
     .thread = {purge_all, take_1_and_give},
     .check = purge_check,
     .loud = counters},
    {.name = "purge-aged",
     .invariant = "passes by age against a claim and a give: the same",
     .setup = purge_setup,
     .thread = {purge_old_twice, take_1_and_give, give_given},
     .check = purge_check},
    {.name = "purge-purge",
     .invariant = "two passes at once, from both ends, and a claim: the same",
     .setup = purge_setup,
     .thread = {purge_all, purge_from_far, take_1},
     .check = purge_check},
    {.name = "purge-tick",
     .invariant = "two threads see that a pass is due: one makes it",
     .setup = tick_setup,
     .thread = {tick, tick},
     .check = tick_check},
    {.name = NULL},
};
