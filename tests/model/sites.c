/*
 * The sites of the program, which the linker gathers (base/atomic.h), and the words that scenarios leave out.
 */
#include "mutants.h"

#include <stdlib.h>
#include <string.h>

extern struct model_site *const __start_model_sites[], *const __stop_model_sites[];

/*
 * Counters and hints: no protocol reads them, and with them in the search each order of their changes would be another
 * execution. An access to one happens at once and is no step. A scenario may name some that it does look at.
 */
static const char *const quiet[] = {"&orphan_count", "&mapped_chunks", "&total",        "&used_units",
                                    "&dirty_units",  "&purged_units",  "&purge_count",  "&purge_time",
                                    "&refusal_count", "&limit_units",  "&peak_units",   "&open_heaps",
                                    "&low",          "&hc->created",   "&hc->released", "c", /* counter_add */
                                    "p", /* atomic_max */
                                    "&s->carved",    "&s->bytes",
                                    "&h->bin[cls].word", "&heap_late[0].direct",
                                    "&heap_late[0].flushed", "&r->full",
                                    "&r->sleeps", "&r->wakes", "hint", "&p->wakes",
                                    "&l->highs", "&l->waited", "&g->most", "&g->highs",
                                    "&f->set->demotions", "&f->set->transitions", "count", /* fn_back_off */
                                    "&m->serial", "&m->parallel", "refused", NULL};

static bool listed(const char *const *list, const char *place)
{
    for (; list != NULL && *list != NULL; list++)
        if (strcmp(*list, place) == 0)
            return true;
    return false;
}

unsigned sites_count(void)
{
    return (unsigned)(__stop_model_sites - __start_model_sites);
}

struct model_site *site_at(unsigned i)
{
    return __start_model_sites[i];
}

bool site_is_counter(const struct model_site *site)
{
    return listed(quiet, site->place);
}

void sites_prepare(const struct scenario *s)
{
    if (sites_count() > SITES)
        abort();
    for (unsigned i = 0; i < sites_count(); i++) {
        struct model_site *site = site_at(i);
        site->quiet = listed(quiet, site->place) && !listed(s->loud, site->place);
    }
}

void sites_reached(bool reached[SITES])
{
    for (unsigned i = 0; i < sites_count() && i < SITES; i++)
        reached[i] = site_at(i)->reached;
}

bool sites_same(const struct model_site *a, const struct model_site *b)
{
    return a->line == b->line && strcmp(a->file, b->file) == 0 && strcmp(a->place, b->place) == 0 &&
           strcmp(a->wrapper, b->wrapper) == 0;
}

void sites_mutate(unsigned i, enum mutant_fault fault)
{
    for (unsigned k = 0; k < sites_count(); k++)
        if (sites_same(site_at(i), site_at(k)))
            site_at(k)->fault = site_at(k)->fault == FAULT_NONE ? fault : FAULT_NO_ORDER;
}

enum model_order mutant_order(const struct model_site *site)
{
    if (site->fault == FAULT_NO_ORDER)
        return MODEL_RELAXED;
    if (site->fault == FAULT_NO_ACQUIRE)
        return site->order == MODEL_ACQ_REL ? MODEL_RELEASE : MODEL_RELAXED;
    if (site->fault == FAULT_NO_RELEASE)
        return site->order == MODEL_ACQ_REL ? MODEL_ACQUIRE : MODEL_RELAXED;
    return site->order;
}
