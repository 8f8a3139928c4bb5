/*
 * Scenarios of counters by thread (vm/tally), with all lines but the last taken. Whoever has a line writes to a plain
 * word that goes with it, so two who have it, or one who comes before the other has gone, are a data race.
 */
#include "scenario.h"

#include "vm/tally.h"

static struct tally tally;
static unsigned word[TALLY_LINES]; /* plain: of who has the line */
static unsigned added[THREADS];    /* by the thread */
static const char *const counts[] = {"c", NULL};

static void one_left(void)
{
    scenario_boot();
    model_own(&tally_self);
    for (unsigned i = 0; i + 1 < TALLY_LINES; i++) {
        tally_self = 0;
        model_require(tally_line() == i, "another line");
    }
    tally_self = 0;
}

/* Nobody has counted yet: the key is made, too. */
static void none_taken(void)
{
    scenario_boot();
    model_own(&tally_self);
}

static void add(void)
{
    unsigned line = tally_line();
    if (line < TALLY_LINES)
        word[line]++;
    tally_add(&tally, 0, 1);
    added[model_self()]++;
}

static void add_end(void)
{
    add();
    bool had = tally_self <= TALLY_LINES;
    system_thread_ends();
    model_require(!had || tally_self == 0, "it has a line still");
}

static void check_sum(void)
{
    unsigned all = 0, seen = 0;
    for (int k = 0; k < THREADS; k++)
        all += added[k];
    for (unsigned i = 0; i < TALLY_LINES; i++)
        seen += word[i];
    model_require(tally_sum(&tally, 0) == all && seen <= all, "%u were added, and %lu counted", all,
                  (unsigned long)tally_sum(&tally, 0));
}

/* All lines are free again: the next thread has the first one. */
static void check_free(void)
{
    check_sum();
    model_require(system_keys() == 1, "there are %u keys", system_keys());
    model_require(tally_line() == 0, "a line is left behind");
    tally_self = 0; /* as it was: it is not taken back */
}

const struct scenario tally_scenarios[] = {
    {.name = "tally-next",
     .invariant = "threads count and end: the last line goes from one to the other, or they share one",
     .setup = one_left,
     .thread = {add_end, add_end},
     .check = check_sum,
     .spurious = 1,
     .loud = counts},
    {.name = "tally-shared",
     .invariant = "of three threads two are left without a line: they count in the last one together",
     .setup = one_left,
     .thread = {add, add, add},
     .check = check_sum,
     .loud = counts},
    {.name = "tally-first",
     .invariant = "the first two threads that count end: there is one key, and no line is left behind",
     .setup = none_taken,
     .thread = {add_end, add_end},
     .check = check_free,
     .loud = counts},
    {.name = NULL},
};
