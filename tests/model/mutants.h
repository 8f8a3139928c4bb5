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
    FAULT_DROPPED,    /* a store, or the writing half of a read-modify-write, is left out */
    FAULT_NO_ORDER,   /* both parts of the order are lost */
    FAULTS
};

enum { SITES = 2000 };

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

/* True when its word is one of those that scenarios leave out if they do not ask for them. */
bool site_is_counter(const struct model_site *site);

/* The order of a site under its fault. */
enum model_order mutant_order(const struct model_site *site);

/* Puts a fault into a site and its copies; one of order adds to the one that is there. */
void sites_mutate(unsigned i, enum mutant_fault fault);

/* Marks the sites whose words the scenario leaves out. */
void sites_prepare(const struct scenario *s);

/* Which of the sites the scenario's threads have reached. */
void sites_reached(bool reached[SITES]);

struct mutation {
    unsigned site; /* it and its copies */
    enum mutant_fault fault;
};

/*
 * Runs a scenario, with `n` mutations, in a process of its own: it begins with untouched static memory. Prints the
 * schedule of a failure if `verbose`.
 */
struct outcome scenario_run(const struct scenario *s, const struct mutation *mutations, unsigned n, bool verbose);

/* The mutant that mutants_test calls `name`; false: there is none. */
bool mutant_find(const char *name, struct mutation *m);

/*
 * Test points for the mutants: `outcomes[i]` is what came of scenario `scenarios[i]` unchanged. Those of the files
 * that have one of these texts in their names; NULL: of all files, and the spare orders as well.
 */
void mutants_test(const struct scenario *const *scenarios, const struct outcome *outcomes, unsigned count,
                  const char *const *files);

#endif
