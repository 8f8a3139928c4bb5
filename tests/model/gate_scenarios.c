/*
 * Scenarios of gates (txn/gate). Whoever is inside writes to a plain word of its own place, which it shares with those
 * that may not be inside at the same time: one too many is a data race. A wake-up that is lost leaves a thread asleep
 * for ever, which fails the run.
 */
#include "scenario.h"

#include "txn/gate.h"
#include "vm/shown.h"
#include "vm/tally.h"

#include <errno.h>

static struct ash_gate *gate;
static unsigned place;             /* plain: written by whoever is inside, where only one may be */
static int result[THREADS];        /* of the thread's enter */
static _Atomic(uint64_t) told[2];  /* atomic: how often the program was told low, and high; no steps of the search */

static void mark(struct ash_gate *g, int is_high, void *user)
{
    model_require(g == gate && user == told, "another's mark");
    counter_add(&told[is_high], 1);
}

static void make(uint64_t limit, uint64_t high, uint64_t low)
{
    scenario_boot();
    (void)tally_line();
    gate = ash_gate_create("gate", ASH_GATE_CONFIG(.limit = limit, .high = high, .low = low, .mark = mark,
                                                   .user = told));
    model_require(gate != NULL, "no gate");
}

static void enter(uint64_t n)
{
    result[model_self()] = ash_gate_enter(gate, n, -1);
}

static bool entered(void)
{
    return result[model_self()] == 0;
}

/* ---- threads ---- */

static void in_out(void)
{
    enter(1);
    if (entered()) {
        place++;
        ash_gate_leave(gate, 1);
    }
}

static void in_out_2(void)
{
    enter(2);
    if (entered()) {
        place++;
        ash_gate_leave(gate, 2);
    }
}

/* It does not share the place: two of one may be inside. */
static void pass(void)
{
    enter(1);
    if (entered())
        ash_gate_leave(gate, 1);
}

static void try_in_out(void)
{
    result[model_self()] = ash_gate_enter(gate, 1, 0);
    if (entered()) {
        place++;
        ash_gate_leave(gate, 1);
    }
}

/* The one unit, or one of the two, that is inside from the beginning on. */
static void out(void)
{
    place++;
    ash_gate_leave(gate, 1);
}

static void out_elsewhere(void)
{
    ash_gate_leave(gate, 1);
}

static void out_2(void)
{
    place++;
    ash_gate_leave(gate, 2);
}

static void shut(void)
{
    ash_gate_close(gate);
}

/* ---- the beginning ---- */

static void one(void)
{
    make(1, 0, 0);
}

static void one_inside(void)
{
    make(1, 0, 0);
    model_require(ash_gate_enter(gate, 1, 0) == 0, "no room");
}

static void two(void)
{
    make(2, 0, 0);
}

static void two_inside(void)
{
    make(2, 0, 0);
    model_require(ash_gate_enter(gate, 2, 0) == 0, "no room");
}

/* ---- the end ---- */

static void check_inside(uint64_t n)
{
    struct ash_gate_stats s;
    ash_gate_stats(gate, &s);
    model_require(s.inside == n, "%lu are inside, not %lu", (unsigned long)s.inside, (unsigned long)n);
    uint64_t low = load_relaxed(&told[0]), high = load_relaxed(&told[1]);
    model_require(high == s.highs && high == low + (n == s.limit), "told high %lu and low %lu times of %lu",
                  (unsigned long)high, (unsigned long)low, (unsigned long)s.highs);
    if (n == 0) /* nor does anybody wait */
        model_require(ash_gate_destroy(gate) == 0, "somebody is said to wait");
}

static void check_all_in(void)
{
    for (int t = 0; t < THREADS; t++)
        model_require(result[t] == 0, "thread %d was refused: %d", t, result[t]);
}

static void check_left(void)
{
    check_all_in();
    check_inside(0);
}

static void check_try(void)
{
    for (int t = 0; t < THREADS; t++)
        model_require(result[t] == 0 || result[t] == -EAGAIN, "thread %d: %d", t, result[t]);
    model_require(result[0] == 0 || result[1] == 0, "both were refused");
    check_inside(0);
}

static void check_shut(void)
{
    for (int t = 0; t < THREADS; t++)
        model_require(result[t] == 0 || result[t] == -ECANCELED, "thread %d: %d", t, result[t]);
    model_require(ash_gate_enter(gate, 1, 0) == -ECANCELED, "it is not closed");
    check_inside(0);
}

static void check_shut_inside(void)
{
    model_require(result[0] == -ECANCELED && result[1] == -ECANCELED, "one who waits was not told");
    model_require(ash_gate_destroy(gate) == -EBUSY, "the unit inside is forgotten");
    ash_gate_leave(gate, 1);
    check_inside(0);
}

const struct scenario gate_scenarios[] = {
    {.name = "gate-try",
     .invariant = "two ask for the one place without waiting: one at a time is inside, and high and low take turns",
     .setup = one,
     .thread = {try_in_out, try_in_out},
     .check = check_try,
     .spurious = 1},
    {.name = "gate-wait",
     .invariant = "one waits for the place while it is left",
     .setup = one_inside,
     .thread = {out, in_out},
     .check = check_left,
     .spurious = 1},
    {.name = "gate-wait-two",
     .invariant = "two wait for the place that one leaves: the second is woken by the first",
     .setup = one_inside,
     .thread = {out, in_out, in_out},
     .check = check_left,
     .full_only = true},
    {.name = "gate-wide",
     .invariant = "one waits for both places while two leave them one by one",
     .setup = two_inside,
     .thread = {out_elsewhere, out_elsewhere, in_out_2},
     .check = check_left},
    {.name = "gate-wide-narrow",
     .invariant = "one waits for both places and another for one: neither's wake-up is the other's",
     .setup = two_inside,
     .thread = {out_2, in_out_2, pass},
     .check = check_left,
     .full_only = true},
    {.name = "gate-marks",
     .invariant = "two come and leave: the program hears of high and low as often, in the end low",
     .setup = two,
     .thread = {pass, pass},
     .check = check_left},
    {.name = "gate-close",
     .invariant = "a gate is closed while one waits and the place is left: it is inside, or told",
     .setup = one_inside,
     .thread = {in_out, shut, out},
     .check = check_shut},
    {.name = "gate-close-two",
     .invariant = "two wait at a gate that is closed with a unit inside: both are told",
     .setup = one_inside,
     .thread = {in_out, in_out, shut},
     .check = check_shut_inside},
    {.name = NULL},
};
