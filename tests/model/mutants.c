/*
 * Every site (base/atomic.h) of the production sources with each fault that applies to it is a mutant: an order
 * without its acquire or its release part, a write left out, a read-modify-write taken apart, a compare-and-swap that
 * does not see that it has failed; and the orphan stack without its tag. Each must make a scenario fail that reaches
 * the site, or stand in `survivors` with the reason why nothing can be seen. A survivor that is not on the list fails
 * the test, and so does one on the list that a scenario notices: then the code or the list is to be changed.
 */
#include "mutants.h"

#include <stdio.h>
#include <string.h>

static const char *const fault_names[FAULTS] = {
    [FAULT_NO_ACQUIRE] = "without acquire", [FAULT_NO_RELEASE] = "without release", [FAULT_SPLIT] = "taken apart",
    [FAULT_NO_RETRY] = "not repeated",      [FAULT_NO_TAG] = "without the tag",
    [FAULT_DROPPED] = "left out",
};

static const struct survivor {
    const char *function, *place;
    enum mutant_fault fault;
    bool spare; /* an order that could be relaxed, at once with all others that are spare */
    const char *reason;
    const char *wrapper; /* NULL: all of the function's sites of this word */
} survivors[] = {
    {"purge_pass", "&chunks[c].aged", FAULT_SPLIT, false,
     "advice: a lost bit lets a unit stay for one more pass", NULL},
    {"units_purge", "&c->aged", FAULT_SPLIT, false, "advice: a bit that stays lets a unit go one pass early", NULL},
    {"run_soil", "&c->aged", FAULT_SPLIT, false, "the same", NULL},
    {"reserve_give", "&low", FAULT_SPLIT, false, "a hint: before a chunk is mapped, all are looked through", NULL},
    {"reserve_give", "&low", FAULT_NO_RETRY, false, "the same", NULL},
    {"find", "&low", FAULT_SPLIT, false, "the same", NULL},
    {"find", "&low", FAULT_NO_RETRY, false, "it is not repeated in the source either", NULL},
    {"purge_pass", "&chunks[c].aged", FAULT_DROPPED, false, "advice, as above", NULL},
    {"units_purge", "&c->aged", FAULT_DROPPED, false, "advice", NULL},
    {"run_soil", "&c->aged", FAULT_DROPPED, false, "advice", NULL},
    {"slab_init", "&s->remote", FAULT_DROPPED, false, "it is 0 in new headers and after a slab was given back", NULL},
    {"slab_init", "&s->kind", FAULT_DROPPED, false, "only verify_all asks whether a unit is a slab", NULL},
    {"slab_release", "&s->kind", FAULT_DROPPED, false, "only messages about wrong frees ask for FREED", NULL},
    {"slab_release", "&s->owner", FAULT_DROPPED, false, "nobody asks for the owner of a free unit", NULL},
    {"orphan_pop", "stack", FAULT_NO_RELEASE, true,
     "a read-modify-write continues the release sequence of the push", NULL},
    {"large_open", "&s->cls", FAULT_DROPPED, false, "only messages about wrong frees ask for it", NULL},
    {"large_resize", "&s->kind", FAULT_DROPPED, false, "it is LARGE already unless pages were moved", NULL},
    {"arena_counts_take", "&c->taken", FAULT_NO_RELEASE, true,
     "who gives a table back publishes, not who takes it", NULL},
    {"table_get", "&part[at]", FAULT_NO_ACQUIRE, false, "only walks over all pools have numbers from nowhere", NULL},
    {"table_get", "&t->part[k]", FAULT_NO_ACQUIRE, false, "the same", NULL},
    {"chunk_make", "&header->kind", FAULT_NO_RELEASE, false,
     "right pointers were handed over with the chunk's record", NULL},
    {"store_chunk_of", "&header->kind", FAULT_NO_ACQUIRE, false, "the same, from the other side", NULL},
    {"run_give", "&header->kind", FAULT_DROPPED, false, "only messages about wrong pointers ask for it", NULL},
    {"run_give", "&header->pool", FAULT_DROPPED, false, "the same", NULL},
    {"chunk_enter", "slot", FAULT_NO_RELEASE, false,
     "numbers come with `fresh`, which publishes it: see table_get", NULL},
    {"chunk_enter", "&s->low", FAULT_DROPPED, false, "a hint: numbers below it are looked through again", NULL},
    {"store_give", "&s->low", FAULT_DROPPED, false, "a hint: a number is not used again", NULL},
    {"slot_mark", "&r->slot[i]", FAULT_NO_RETRY, false, "a hint: it is not repeated in the source either", NULL},
    {"os_trylock", "&lock->word", FAULT_NO_RELEASE, true, "who takes a lock publishes nothing", NULL},
    {"os_unlock", "&lock->word", FAULT_NO_ACQUIRE, true, "who gives a lock back takes nothing over", NULL},
    {"deque_take", "&d->top", FAULT_NO_ACQUIRE, false, "a thief would read what is yet to be written: not these", NULL},
    {"deque_push", "&d->top", FAULT_NO_ACQUIRE, false, "the same", NULL},
    {"deque_steal", "&d->top", FAULT_NO_ACQUIRE, true, "the paper's; the fence behind it orders as much", NULL},
    {"deque_steal", "&d->top", FAULT_NO_RELEASE, false, "the same, from the other side", NULL},
    {"drive_watch", "&d->event", FAULT_NO_ACQUIRE, true, "the fence behind it orders as much", NULL},
    {"drive_leave", "&d->event", FAULT_NO_RELEASE, true, "the fence before it orders as much", NULL},
    {"reader_leave", "&s->state", FAULT_NO_ACQUIRE, true, "who leaves takes nothing over", NULL},
    {"reader_enter", "&s->state", FAULT_NO_RELEASE, true, "who enters publishes nothing", NULL},
    {"shown_close", "&s->state", FAULT_NO_RELEASE, true, "who closes publishes nothing yet", "sub_acq_rel"},
    {"record_take", "&k->records", FAULT_NO_ACQUIRE, true, "who pushes a record reads none", "cas_acq_rel"},
    {"record_claim", "&s->state", FAULT_NO_RELEASE, true, "who takes a record publishes nothing", NULL},
    {"fn_compile", "&f->state", FAULT_NO_ACQUIRE, true, "what hands a job to another thread publishes as much", NULL},
    {"fn_compile", "&f->state", FAULT_NO_RELEASE, true, "the same, from the other side", NULL},
    {"fn_compile", "&f->state", FAULT_SPLIT, false, "only in a forked child are there two of a job", NULL},
    {"fn_compile", "&f->state", FAULT_NO_RETRY, false, "the same", NULL},
    {"fn_own", "&f->state", FAULT_NO_RELEASE, true, "who gets a function publishes nothing", NULL},
    {"batch_run", "&d->event", FAULT_SPLIT, false, "one at a time: the dispatcher sleeps once for each", NULL},
    {"place_get", "&place->taken", FAULT_NO_RELEASE, true, "who takes a place publishes nothing", NULL},
    {"exec_stop", "&e->stopping", FAULT_NO_RELEASE, true, "it publishes nothing but itself", NULL},
    {"worker_search", "&e->stopping", FAULT_NO_ACQUIRE, true, "the same, from the other side", NULL},
    {"vmidle_unwant", "&v->head", FAULT_SPLIT, false, "what is wanted changes under the queue's lock alone", NULL},
    {"vmidle_unwant", "&v->head", FAULT_NO_RETRY, false, "the same", NULL},
    {"vmidle_unwant", "&v->own[line].vm", FAULT_SPLIT, false, "the same", NULL},
    {"vmidle_unwant", "&v->own[line].vm", FAULT_NO_RETRY, false, "the same", NULL},
    {"want_stack", "&v->head", FAULT_NO_RETRY, false, "vmidle_want looks whether the mark is there", NULL},
    {"vmidle_pop", "&v->head", FAULT_NO_RELEASE, true, "who pops publishes nothing", NULL},
    {"await", "&a->state", FAULT_NO_ACQUIRE, false, "artifact_wait has acquired", NULL},
    {"artifact_wait", "&a->state", FAULT_NO_ACQUIRE, false, "await acquires", NULL},
    {"try_enter", "&g->word", FAULT_NO_RELEASE, true, "who enters publishes nothing", NULL},
    {"ash_gate_leave", "&g->word", FAULT_NO_ACQUIRE, true, "who leaves takes nothing over", NULL},
    {"unlink_entry", "at", FAULT_NO_RELEASE, false, "who sees less finds nothing, and looks under the lock", NULL},
    {"mapentry_publish", "bucket", FAULT_NO_RELEASE, false, "the same", NULL},
    {"mapentry_find", "&e->next", FAULT_NO_ACQUIRE, false, "the same", NULL},
    {"mapentry_find", "bucket_of(t, key->hash)", FAULT_NO_ACQUIRE, false, "the same", NULL},
    {"mapentry_take_hits", "&e->word", FAULT_NO_RETRY, false, "a count: some hits are told twice", NULL},
    {"mapentry_take", "&t->hand", FAULT_DROPPED, false, "a hint", NULL},
    {"mapentry_take", "&e->word", FAULT_NO_RELEASE, true, "who takes an entry publishes nothing", NULL},
    {"group_done", "&g->pending", FAULT_NO_ACQUIRE, true, "who joins takes over, by its load", NULL},
    {"group_wait", "&g->pending", FAULT_NO_ACQUIRE, true, "the same", NULL},
    {"group_wait", "&g->pending", FAULT_NO_RELEASE, true, "who waits publishes nothing", NULL},
    {"exec_tell_quiet", "&e->quiet", FAULT_NO_RELEASE, true, "the fence before it orders as much", NULL},
    {"exec_tell_quiet", "&e->quiet", FAULT_SPLIT, false,
     "who adds to an old value is seen by whom it does not wake", NULL},
    {"drive_leave", "&d->event", FAULT_SPLIT, false, "the same", NULL},
    {"ash_txn_end", "&t->state", FAULT_DROPPED, false, "only messages about wrong ends ask for it", NULL},
    {"ash_txn_end", "&t->state", FAULT_NO_ACQUIRE, true, "who ends it knows that it is done, by acquiring", NULL},
    {"ash_txn_wait", "&t->state", FAULT_NO_ACQUIRE, true, "the lock orders as much", NULL},
    {"vacant_give", "&vm->state", FAULT_DROPPED, false, "who gets it asks no more than whether it is IDLE", NULL},
    {"poller_sleep", "asleep", FAULT_NO_ACQUIRE, true, "the fence of park_enter orders as much", NULL},
    {"bus_is_over", "&b->state", FAULT_NO_ACQUIRE, false,
     "it takes a message sent right before the end, more runs than bus-wait-over is searched for", NULL},
    {"state_set", "&b->state", FAULT_NO_RELEASE, false, "the same, from the other side", NULL},
    {"bus_tell_quiet", "&b->quiet", FAULT_SPLIT, false, "as exec_tell_quiet", NULL},
    {"bus_wake_all", "fence", FAULT_DROPPED, false, "who stops a bus goes on to drain it, and tells again", NULL},
    {"state_set", "&b->state", FAULT_SPLIT, false, "it changes under the lock, until all who stop the bus agree", NULL},
    {"lane_leave", "&s->lane.rest", FAULT_DROPPED, false, "only who ends in a handler leaves messages", NULL},
    {"ash_msg_free", "&m->refs", FAULT_DROPPED, false, "only messages about double frees ask for it", NULL},
    {"message_unref", "&m->refs", FAULT_DROPPED, false, "the same", "store_relaxed"},
    {NULL, NULL, FAULT_NONE, false, NULL, NULL},
};

struct tally {
    unsigned killed, expected, wrong, unreached;
};

static const struct survivor *survivor_find(const struct model_site *site, enum mutant_fault fault)
{
    for (const struct survivor *s = survivors; s->function != NULL; s++)
        if (s->fault == fault && strcmp(s->function, site->function) == 0 && strcmp(s->place, site->place) == 0 &&
            (s->wrapper == NULL || strcmp(s->wrapper, site->wrapper) == 0))
            return s;
    return NULL;
}

/* Whether a fault changes anything at a site. */
static bool applies(const struct model_site *site, enum mutant_fault fault)
{
    bool cas = site->kind == MODEL_CAS;
    if (site->kind == MODEL_FENCE)
        return fault == FAULT_DROPPED;
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
        return cas && (strcmp(site->function, "orphan_pop") == 0 || strcmp(site->function, "depot_pop") == 0);
    case FAULT_DROPPED:
        return site->kind == MODEL_STORE || site->kind == MODEL_RMW;
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

bool mutant_find(const char *name, struct mutation *m)
{
    for (m->site = 0; m->site < sites_count(); m->site++)
        for (m->fault = FAULT_NONE + 1; m->fault < FAULT_NO_ORDER; m->fault++)
            if (applies(site_at(m->site), m->fault) && strcmp(mutant_name(m->site, m->fault), name) == 0)
                return true;
    return false;
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
        struct mutation m = {i, fault};
        struct outcome o = scenario_run(scenarios[k], &m, 1, false);
        if (o.failed || o.crashed)
            killer = scenarios[k]->name;
    }
    const struct survivor *s = survivor_find(site_at(i), fault);
    const char *name = mutant_name(i, fault);
    if (tried == 0) {
        t->unreached++;
        if (!site_is_counter(site_at(i)))
            remark("not reached: %s", name);
    } else if (killer != NULL && s == NULL) {
        t->killed++;
        remark("%s: noticed by %s", name, killer);
    } else if (killer == NULL && s != NULL) {
        t->expected++;
        remark("%s: not to be noticed: %s", name, s->reason);
    } else {
        t->wrong++;
        remark("%s: %s", name, s == NULL ? "NOT NOTICED" : "listed as a survivor, but noticed");
    }
}

/* All orders that could be relaxed, relaxed at once. */
static void spare_test(const struct scenario *const *scenarios, unsigned count)
{
    struct mutation spare[ASH_COUNT(survivors)];
    unsigned n = 0;
    for (unsigned i = 0; i < sites_count(); i++)
        for (enum mutant_fault fault = FAULT_NO_ACQUIRE; fault <= FAULT_NO_RELEASE && is_first(i); fault++) {
            const struct survivor *s = applies(site_at(i), fault) ? survivor_find(site_at(i), fault) : NULL;
            if (s != NULL && s->spare && n < ASH_COUNT(spare))
                spare[n++] = (struct mutation){i, fault};
        }
    for (unsigned k = 0; k < count; k++) {
        struct outcome o = scenario_run(scenarios[k], spare, n, true);
        if (o.failed || o.crashed) {
            report(false, "%s needs one of the %u orders that could be relaxed", scenarios[k]->name, n);
            return;
        }
    }
    report(true, "%u orders are stronger than any scenario needs, all of them together", n);
}

static bool is_of(const struct model_site *site, const char *const *files)
{
    bool of = files == NULL;
    for (; !of && *files != NULL; files++)
        of = strstr(site->file, *files) != NULL;
    return of && strstr(site->file, "src/") != NULL;
}

void mutants_test(const struct scenario *const *scenarios, const struct outcome *outcomes, unsigned count,
                  const char *const *files)
{
    struct tally t = {0, 0, 0, 0};
    for (unsigned i = 0; i < sites_count(); i++) {
        const struct model_site *site = site_at(i);
        if (!is_of(site, files) || !is_first(i))
            continue;
        for (enum mutant_fault fault = FAULT_NONE + 1; fault < FAULT_NO_ORDER; fault++)
            if (applies(site, fault))
                mutant_test(i, fault, scenarios, outcomes, count, &t);
    }
    report(t.wrong == 0 && t.killed != 0, "%u mutants are noticed, %u cannot be, %u are not judged rightly", t.killed,
       t.expected, t.wrong);
    remark("%u more stand at sites that no scenario reaches", t.unreached);
    if (files == NULL)
        spare_test(scenarios, count);
}
