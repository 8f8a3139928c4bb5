/*
 * Mutants: what can be changed at a site (base/atomic.h), and running them all. See mutants.c.
 */
#ifndef ASH_MODEL_MUTANTS_H
#define ASH_MODEL_MUTANTS_H

#include "model.h"

enum mutant_fault {
    FAULT_NONE,
    FAULT_NO_ACQUIRE, /* the order loses its acquire part */
    FAULT_NO_RELEASE, /* or its release part */
    FAULT_SPLIT,      /* a read-modify-write becomes a load and, later, a store */
    FAULT_NO_RETRY,   /* a compare-and-swap that failed says that it succeeded */
    FAULT_NO_TAG,     /* the upper half of a 64-bit word is written as 0 */
    FAULTS
};

enum { SITES = 400 };

/* What came of all runs of a scenario. */
struct outcome {
    bool failed, cut, crashed;
    unsigned deepest;
    uint64_t executions, repeats;
    double seconds;
    bool reached[SITES]; /* by site */
};

unsigned sites_count(void);
struct model_site *site_at(unsigned i);

/* True for the copies that an inline function's site has in several files. */
bool sites_same(const struct model_site *a, const struct model_site *b);

/* The order of a site under its fault. */
enum model_order mutant_order(const struct model_site *site);

/* Puts the fault into a site and its copies. */
void sites_mutate(unsigned i, enum mutant_fault fault);

/* Marks the sites whose words the scenario leaves out. */
void sites_prepare(const struct scenario *s);

/* Which of the sites the scenario's threads have reached. */
void sites_reached(bool reached[SITES]);

/*
 * Runs a scenario in a process of its own, so that it begins with untouched static memory; with site `site` and those
 * that stand on its line changed by `fault`. Prints the schedule of a failure if `verbose`.
 */
struct outcome scenario_run(const struct scenario *s, unsigned site, enum mutant_fault fault, bool verbose);

/*
 * Test points for the mutants: `outcomes[i]` is what came of scenario `scenarios[i]` unchanged. In the short form
 * only those of src/heap/remote.c.
 */
void mutants_test(const struct scenario *const *scenarios, const struct outcome *outcomes, unsigned count, bool full);

#endif
