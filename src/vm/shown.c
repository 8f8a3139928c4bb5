#include "vm/shown.h"

#include "ashlar/malloc.h"
#include "os/os_clock.h"
#include "os/os_process.h"

#include <string.h>

/* OPEN: there is a thing to be read. TAKEN: the record belongs to somebody, readers or not. */
enum { STATE_OPEN = 1, STATE_TAKEN = 2, STATE_READER = 4 };
enum { PATIENCE_MS = 1000 };

static bool record_claim(struct shown *s)
{
    uint64_t free = 0; /* acquire: all use by the last owner; pairs with shown_close */
    return cas_strong_acq_rel(&s->state, &free, STATE_TAKEN);
}

static struct shown *record_take(struct shown_kind *k)
{
    struct shown *head = load_acquire(&k->records); /* pairs with the push below */
    for (struct shown *s = head; s != NULL; s = s->link)
        if (record_claim(s))
            return s;
    struct shown *s = ash_calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    store_relaxed(&s->state, STATE_TAKEN);
    do
        s->link = head;
    while (!cas_acq_rel(&k->records, &head, s)); /* its link; pairs with the loads of records */
    return s;
}

struct shown *shown_open(struct shown_kind *k, const char name[NAME_CAP], const void *thing)
{
    struct shown *s = record_take(k);
    if (s == NULL)
        return NULL;
    memcpy(s->name, name, NAME_CAP);
    s->thing = thing;
    store_release(&s->state, STATE_TAKEN | STATE_OPEN); /* the thing; pairs with reader_enter */
    bool added = false;
    if (cas_strong_relaxed(&k->added, &added, true) && ash_stats_add(&k->kind) != 0)
        store_relaxed(&k->added, false); /* no memory now; the next thing tries again */
    return s;
}

bool shown_close(struct shown *s)
{
    if (s == NULL)
        return true;
    uint64_t from = os_clock_ms(), state = sub_acq_rel(&s->state, STATE_OPEN) - STATE_OPEN;
    while (state != STATE_TAKEN && os_clock_ms() - from < PATIENCE_MS) {
        os_yield();
        state = load_acquire(&s->state); /* the readers' reads; pairs with reader_leave */
    }
    if (state != STATE_TAKEN)
        return false;
    store_release(&s->state, 0); /* all use of it; pairs with record_claim */
    return true;
}

static bool reader_enter(struct shown *s)
{
    uint64_t seen = load_relaxed(&s->state);
    while ((seen & STATE_OPEN) != 0)
        if (cas_acq_rel(&s->state, &seen, seen + STATE_READER)) /* pairs with shown_open */
            return true;
    return false;
}

static void reader_leave(struct shown *s)
{
    sub_acq_rel(&s->state, STATE_READER); /* release: the reads; pairs with shown_close */
}

/* `*at` is the record where the walk goes on; 0 at first, 1 behind the last. */
int shown_next(struct shown_kind *k, size_t *at, char name[ASH_STATS_NAME],
               uint64_t values[ASH_STATS_VALUES])
{
    struct shown *s = *at == 0   ? load_acquire(&k->records) /* pairs with the push: its link */
                      : *at == 1 ? NULL
                                 : (struct shown *)*at;
    while (s != NULL && !reader_enter(s))
        s = s->link;
    if (s == NULL)
        return 0;
    memcpy(name, s->name, NAME_CAP);
    k->read(s->thing, values);
    *at = s->link != NULL ? (size_t)s->link : 1;
    reader_leave(s);
    return 1;
}
