/*
 * Scenarios of what is shown (vm/shown): a thing ends while statistics read it. A reader reads the thing's plain
 * word, and whoever has ended the thing writes to it, so a reader that was not waited for is a data race.
 */
#include "scenario.h"

#include "vm/shown.h"

static void read_word(const void *thing, uint64_t *values);
static const struct ash_stats_column columns[] = {SHOWN_COLUMN("word", GAUGE, COUNT, "The word.")};
SHOWN_KIND(kind, "things", "thing", columns, read_word)

static uint64_t words[THREADS]; /* plain: a thing each, of the thread that shows it */
static const char names[THREADS][NAME_CAP] = {"one", "two", "three"};
static struct shown *record;    /* that of thing 0, in setup */
static unsigned kinds;          /* plain: written by who adds the kind */
static bool kept;               /* the thing's memory must stay */

int ash_stats_add(const struct ash_stats_kind *k)
{
    (void)k;
    kinds++;
    return 0;
}

static void read_word(const void *thing, uint64_t *values)
{
    values[0] = *(const uint64_t *)thing;
}

static void show_in_setup(void)
{
    scenario_boot();
    model_name(&kind.records, "records");
    words[0] = 1;
    record = shown_open(&kind, names[0], &words[0]);
    model_require(record != NULL, "no record");
    model_name(&record->state, "state");
}

/* ---- threads ---- */

static void show(void)
{
    unsigned self = (unsigned)model_self();
    words[self] = 1 + self;
    struct shown *s = shown_open(&kind, names[self], &words[self]);
    model_require(s != NULL && s->thing == &words[self] && s->name[0] == names[self][0], "a record that is another's");
}

static void close_0(void)
{
    if (shown_close(record))
        words[0] = 0;
    else
        kept = true;
}

static void close_show(void)
{
    close_0();
    show();
}

static void show_close(void)
{
    unsigned self = (unsigned)model_self();
    struct shown *s = shown_open(&kind, names[self], &words[self]);
    model_require(s != NULL && shown_close(s), "somebody reads it");
    words[self] = 0;
}

static void walk(void)
{
    char name[ASH_STATS_NAME];
    uint64_t values[ASH_STATS_VALUES];
    for (size_t at = 0; shown_next(&kind, &at, name, values) != 0;) {
        const char *wanted = values[0] - 1 < THREADS ? names[values[0] - 1] : "";
        model_require(name[0] == wanted[0] && name[1] == wanted[1], "%s is shown with %lu", name,
                      (unsigned long)values[0]);
    }
}

/* ---- the end ---- */

static void check_shown(void)
{
    unsigned shown = 0;
    char name[ASH_STATS_NAME];
    uint64_t values[ASH_STATS_VALUES];
    for (size_t at = 0; shown_next(&kind, &at, name, values) != 0;)
        shown++;
    model_require(kinds == 1, "the kind was added %u times", kinds);
    model_require(shown == 2, "%u are shown", shown);
}

static void check_closed(void)
{
    model_require(load_relaxed(&record->state) == (kept ? 2 : 0), "somebody is said to read it");
    char name[ASH_STATS_NAME];
    uint64_t values[ASH_STATS_VALUES];
    size_t at = 0;
    model_require(shown_next(&kind, &at, name, values) == 0, "%s is shown still", name);
    struct shown *again = shown_open(&kind, names[1], &words[1]);
    model_require((again == record) != kept, "a record that is free is not used, or one that is not is");
}

static void check_reused(void)
{
    char name[ASH_STATS_NAME];
    uint64_t values[ASH_STATS_VALUES];
    unsigned shown = 0;
    for (size_t at = 0; shown_next(&kind, &at, name, values) != 0;)
        shown++;
    model_require(shown == 1, "%u are shown", shown);
}

static void free_record(void)
{
    show_in_setup();
    shown_close(record);
}

static void nothing_shown(void)
{
    scenario_boot();
    model_name(&kind.records, "records");
}

const struct scenario shown_scenarios[] = {
    {.name = "shown-two",
     .invariant = "the first two things of a kind come at the same time: both are shown, the kind is added once",
     .setup = nothing_shown,
     .thread = {show, show},
     .check = check_shown,
     .spurious = 1},
    {.name = "shown-read",
     .invariant = "a thing comes while statistics are read: all of it is seen, or nothing",
     .setup = nothing_shown,
     .thread = {show, walk},
     .spurious = 1},
    {.name = "shown-close",
     .invariant = "a thing ends while two read it: nobody reads it then, or its memory is kept",
     .setup = show_in_setup,
     .thread = {close_0, walk, walk},
     .check = check_closed},
    {.name = "shown-again",
     .invariant = "a record is used for another thing while it is read",
     .setup = show_in_setup,
     .thread = {walk, close_show},
     .check = check_reused},
    {.name = "shown-claim",
     .invariant = "two things come when one record is free: one of them has it",
     .setup = free_record,
     .thread = {show, show},
     .check = check_shown},
    {.name = "shown-next",
     .invariant = "a thing comes when the record of another becomes free: all that was done with it has been",
     .setup = nothing_shown,
     .thread = {show_close, show},
     .check = check_reused},
    {.name = NULL},
};
