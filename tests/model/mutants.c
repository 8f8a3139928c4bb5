/*
 * Every site (base/atomic.h) of the production sources with each fault that applies to it is a mutant: an order
 * without its acquire or its release part, a read-modify-write taken apart, a compare-and-swap that does not see that
 * it has failed; and the orphan stack without its tag. Each must make a scenario fail that reaches the site, or stand
 * in `survivors` with the reason why nothing can be seen. A survivor that is not on the list fails the test, and so
 * does one on the list that a scenario notices: then the code or the list is to be changed.
 */
#include "mutants.h"

#include "tap.h"

static const char *const fault_names[FAULTS] = {
    [FAULT_NO_ACQUIRE] = "without acquire", [FAULT_NO_RELEASE] = "without release", [FAULT_SPLIT] = "taken apart",
    [FAULT_NO_RETRY] = "not repeated",      [FAULT_NO_TAG] = "without the tag",
};

static const struct survivor {
    const char *function, *place;
    enum mutant_fault fault;
    const char *reason;
} survivors[] = {
    {NULL, NULL, FAULT_NONE, NULL},
};

struct tally {
    unsigned killed, expected, wrong, unreached;
};

static const struct survivor *survivor_find(const struct model_site *site, enum mutant_fault fault)
{
    for (const struct survivor *s = survivors; s->function != NULL; s++)
        if (s->fault == fault && strcmp(s->function, site->function) == 0 && strcmp(s->place, site->place) == 0)
            return s;
    return NULL;
}

/* Whether a fault changes anything at a site. */
static bool applies(const struct model_site *site, enum mutant_fault fault)
{
    bool cas = site->kind == MODEL_CAS;
    switch (fault) {
    case FAULT_NO_ACQUIRE:
        return site->order == MODEL_ACQUIRE || site->order == MODEL_ACQ_REL;
    case FAULT_NO_RELEASE:
        return site->order == MODEL_RELEASE || site->order == MODEL_ACQ_REL;
    case FAULT_SPLIT:
        return cas || site->kind == MODEL_RMW;
    case FAULT_NO_RETRY:
        return cas;
    case FAULT_NO_TAG:
        return cas && strcmp(site->function, "orphan_pop") == 0;
    default:
        return false;
    }
}

/* The first of a site and its copies, which stands for all of them. */
static bool is_first(unsigned i)
{
    for (unsigned k = 0; k < i; k++)
        if (sites_same(site_at(k), site_at(i)))
            return false;
    return true;
}

static bool reaches(const struct outcome *o, unsigned site)
{
    for (unsigned i = 0; i < sites_count() && i < SITES; i++)
        if (o->reached[i] && sites_same(site_at(i), site_at(site)))
            return true;
    return false;
}

static const char *mutant_name(unsigned i, enum mutant_fault fault)
{
    static char name[200];
    const struct model_site *site = site_at(i);
    snprintf(name, sizeof name, "%s %s(%s) %s", site->function, site->wrapper, site->place, fault_names[fault]);
    return name;
}

static void mutant_test(unsigned i, enum mutant_fault fault, const struct scenario *const *scenarios,
                        const struct outcome *outcomes, unsigned count, struct tally *t)
{
    const char *killer = NULL;
    unsigned tried = 0;
    for (unsigned k = 0; k < count && killer == NULL; k++) {
        if (!reaches(&outcomes[k], i))
            continue;
        tried++;
        struct outcome o = scenario_run(scenarios[k], i, fault, false);
        if (o.failed || o.crashed)
            killer = scenarios[k]->name;
    }
    const struct survivor *s = survivor_find(site_at(i), fault);
    const char *name = mutant_name(i, fault);
    if (tried == 0) {
        t->unreached++;
        tap_line("# not reached: %s", name);
    } else if (killer != NULL && s == NULL) {
        t->killed++;
        tap_line("# %s: noticed by %s", name, killer);
    } else if (killer == NULL && s != NULL) {
        t->expected++;
        tap_line("# %s: not to be noticed: %s", name, s->reason);
    } else {
        t->wrong++;
        tap_line("# %s: %s", name, s == NULL ? "NOT NOTICED" : "listed as a survivor, but noticed");
    }
}

void mutants_test(const struct scenario *const *scenarios, const struct outcome *outcomes, unsigned count, bool full)
{
    struct tally t = {0, 0, 0, 0};
    for (unsigned i = 0; i < sites_count(); i++) {
        const struct model_site *site = site_at(i);
        if (strstr(site->file, "src/") == NULL || !is_first(i) || (!full && strstr(site->file, "remote.c") == NULL))
            continue;
        for (enum mutant_fault fault = FAULT_NONE + 1; fault < FAULTS; fault++)
            if (applies(site, fault))
                mutant_test(i, fault, scenarios, outcomes, count, &t);
    }
    ok(t.wrong == 0 && t.killed != 0, "%u mutants are noticed, %u cannot be, %u are not judged rightly", t.killed, t.expected,
       t.wrong);
    tap_line("# %u more stand at sites that no scenario reaches", t.unreached);
}
