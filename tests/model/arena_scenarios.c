/*
 * Scenarios of the counters of arenas: names that get their numbers, tables that go from thread to thread.
 */
#include "scenario.h"

#include "heap/thread.h"
#include "mem/meta.h"
#include "pool/arena_count.h"
#include "run/emit.h"

static struct emit_kind *kind;

/* Stand-ins for what is above the modules that are checked. */
void emit_kind_add(struct emit_kind *k)
{
    kind = k;
}

void thread_at_end(void (*fn)(void))
{
    (void)fn;
}

/* ---- names ---- */

static unsigned number[THREADS][2];

static void name_take(int i, char letter)
{
    union arena_name name = {.word = {(unsigned char)letter}};
    number[model_self()][i] = arena_number(&name);
}

static void names_ab(void)
{
    name_take(0, 'a');
    name_take(1, 'b');
}

static void names_ba(void)
{
    name_take(1, 'b');
    name_take(0, 'a');
}

static void names_check(void)
{
    model_require(number[0][0] == number[1][0] && number[0][1] == number[1][1], "a name has two numbers");
    model_require(number[0][0] != number[0][1], "two names have one number");
    model_require(number[0][0] + number[0][1] == 3, "a number was left out");
}

/* ---- tables ---- */

static void show_kind(void)
{
    arena_count_slow(0, ARENA_RESETS, 1); /* there is no heap, so there is no table */
    model_require(kind != NULL && arena_counts_tls == NULL, "the setup is not as thought");
}

static struct arena_counts *held[THREADS];

static struct arena_counts *table_take(void)
{
    struct arena_counts *c = arena_counts_take();
    model_require(c != NULL, "no table");
    counter_add(&c->of[1][ARENA_CREATED], 1);
    return c;
}

static void table_pass(void)
{
    arena_counts_give(table_take());
}

static void table_keep(void)
{
    held[model_self()] = table_take();
}

/* A reader, as the statistics are one; what it sees is not more than there was. */
static void table_read(void)
{
    struct emit_row row;
    size_t at = 1;
    if (kind->next(&at, &row))
        model_require(row.values[0] <= 2, "more was counted than happened");
}

static void table_setup(void)
{
    union arena_name name = {.text = "a"};
    model_require(arena_number(&name) == 1, "the first name");
    show_kind();
}

static void table_check(void)
{
    struct emit_row row;
    size_t at = 0;
    model_require(kind->next(&at, &row) && row.values[0] == 2, "%lu were counted where there were two",
                  (unsigned long)row.values[0]);
    model_require(held[0] == NULL || held[0] != held[1], "two threads have one table");
}

/* The tables that threads have given back are there for the next. */
static void table_check_free(void)
{
    table_check();
    uint64_t before = meta_bytes();
    model_require(arena_counts_take() != NULL && meta_bytes() == before, "no table was given back");
}

/* A name that comes while a reader looks, in a table that is there already. */
static void read_setup(void)
{
    scenario_boot();
    show_kind();
    arena_counts_give(arena_counts_take());
}

static void read_name(void)
{
    name_take(0, 'a');
    held[model_self()] = table_take();
}

static void read_row(void)
{
    struct emit_row row;
    size_t at = 1;
    if (kind->next(&at, &row))
        model_require(row.name[0] == 'a' && row.name[1] == 0 && row.values[0] == 1, "a row that is none");
}

/* With one table that nobody has: it is not made anew. */
static struct arena_counts *first;

static void table_setup_free(void)
{
    table_setup();
    first = arena_counts_take();
    arena_counts_give(first);
}

static void table_check_reused(void)
{
    table_check();
    model_require(held[0] == first || held[1] == first, "the table that was there was not taken");
}

static const char *const counters[] = {"c", "&c->of[name][event]", NULL};

const struct scenario arena_scenarios[] = {
    {.name = "arena-names",
     .invariant = "two threads bring two names in either order: each has one number and its whole text is seen",
     .setup = scenario_boot,
     .thread = {names_ab, names_ba},
     .check = names_check},
    {.name = "arena-read",
     .invariant = "a name comes while a reader looks: it sees the whole name, or none",
     .setup = read_setup,
     .thread = {read_name, read_row},
     .loud = counters},
    {.name = "arena-tables",
     .invariant = "two threads count and end: nothing is lost, whoever has whose table, and a reader sees no more",
     .setup = table_setup,
     .thread = {table_pass, table_pass, table_read},
     .check = table_check_free,
     .spurious = 1,
     .loud = counters},
    {.name = "arena-tables-kept",
     .invariant = "one table for two threads: one of them has it, the other its own",
     .setup = table_setup_free,
     .thread = {table_keep, table_keep},
     .check = table_check_reused,
     .spurious = 1,
     .loud = counters},
    {.name = NULL},
};
