#include "pool/arena_count.h"

#include "base/anchor.h"
#include "heap/thread.h"
#include "mem/meta.h"
#include "run/emit.h"

#include <string.h>

enum { NAME_OTHER = ARENA_NAMES - 1 };

_Static_assert((int)ARENA_NAME <= (int)EMIT_NAME, "a name fits its row");

ASH_TLS struct arena_counts *arena_counts_tls;

/* Every table there is, newest first. They are never given back. */
static _Atomic(struct arena_counts *) tables;

/* For threads that have ended, or that no memory was left for: several writers, locked adds. */
static _Atomic(uint64_t) late[ARENA_NAMES][ARENA_EVENTS];

/* By number, without holes; a text is const once it is here. The ends stand for themselves. */
static _Atomic(const union arena_name *) names[ARENA_NAMES];

static bool name_is(const union arena_name *a, const union arena_name *b)
{
    uint64_t differ = 0;
    for (unsigned i = 0; i < ASH_COUNT(a->word); i++)
        differ |= a->word[i] ^ b->word[i];
    return differ == 0;
}

unsigned arena_number(const union arena_name *name)
{
    union arena_name *copy = NULL;
    if (name->text[0] == '\0')
        return 0;
    for (unsigned i = 1; i < NAME_OTHER; i++) {
        const union arena_name *seen = load_acquire(&names[i]); /* its text; pairs with the cas */
        if (ASH_UNLIKELY(seen == NULL)) {
            copy = copy != NULL ? copy : meta_take(sizeof *copy);
            if (copy == NULL)
                break;
            *copy = *name;
            if (cas_strong_acq_rel(&names[i], &seen, copy)) /* the text; pairs with the loads */
                return i;
        }
        if (name_is(seen, name))
            return i;
    }
    return NAME_OTHER;
}

/* ---- tables ---- */

static struct arena_counts *counts_create(void)
{
    struct arena_counts *c = meta_take(sizeof *c);
    if (c == NULL)
        return NULL;
    store_relaxed(&c->taken, true);
    c->older = load_relaxed(&tables);
    while (!cas_release(&tables, &c->older, c)) /* its fields; pairs with the walks' acquire */
        ;
    return c;
}

/* The table of a thread that has ended, or a new one. */
struct arena_counts *arena_counts_take(void)
{
    struct arena_counts *c = load_acquire(&tables); /* pairs with counts_create */
    for (; c != NULL; c = c->older) {
        bool taken = false;
        if (!load_relaxed(&c->taken) &&
            cas_strong_acq_rel(&c->taken, &taken,
                               true)) /* counters; pairs with arena_counts_give */
            return c;
    }
    return counts_create();
}

void arena_counts_give(struct arena_counts *c)
{
    store_release(&c->taken, false); /* the counters; pairs with arena_counts_take */
}

static void thread_ends(void)
{
    struct arena_counts *c = arena_counts_tls;
    arena_counts_tls = NULL;
    if (c != NULL)
        arena_counts_give(c);
}

/* ---- statistics ---- */

enum { ROW_CREATED, ROW_LIVE, ROW_BLOCKS, ROW_TOTAL, ROW_RESETS, ROW_REFUSED, ROW_COUNT };

#define COLUMN(row, name, help, kind, unit)                                                        \
    [row] = {name, help, STAT_##kind, STAT_##unit, (row) * sizeof(uint64_t)}

static const struct stat_field columns[ROW_COUNT] = {
    COLUMN(ROW_CREATED, "created", "Arenas created.", COUNTER, COUNT),
    COLUMN(ROW_LIVE, "live", "Arenas that there are.", GAUGE, COUNT),
    COLUMN(ROW_BLOCKS, "blocks", "Chunks that those arenas hold.", GAUGE, COUNT),
    COLUMN(ROW_TOTAL, "total_bytes", "Bytes of those chunks.", GAUGE, BYTES),
    COLUMN(ROW_RESETS, "resets", "Resets of arenas.", COUNTER, COUNT),
    COLUMN(ROW_REFUSED, "refused", "Allocations refused because of a limit.", COUNTER, COUNT),
};

static uint64_t sum(unsigned name, enum arena_event event)
{
    uint64_t n = load_relaxed(&late[name][event]);
    /* pairs with counts_create */
    for (struct arena_counts *c = load_acquire(&tables); c != NULL; c = c->older)
        n += load_relaxed(&c->of[name][event]);
    return n;
}

/* Read while threads run, the two sums may be a moment apart. */
static uint64_t difference(unsigned name, enum arena_event more, enum arena_event less)
{
    uint64_t gone = sum(name, less), came = sum(name, more);
    return came > gone ? came - gone : 0;
}

/* NULL: not yet seen by this thread. */
static const union arena_name *name_of(unsigned number)
{
    static const union arena_name unnamed = {.text = "(unnamed)"}, other = {.text = "(other)"};
    if (number == 0)
        return &unnamed;
    return number == NAME_OTHER ? &other : load_acquire(&names[number]); /* see arena_number */
}

static bool next(size_t *at, struct emit_row *row)
{
    ANCHOR("arena_tables", tables);
    ANCHOR("arena_late", late);
    ANCHOR("arena_names", names);
    ANCHOR_RECORD("arena_counts", struct arena_counts);
    for (; *at < ARENA_NAMES; ++*at) {
        unsigned name = (unsigned)*at;
        const union arena_name *known = name_of(name);
        if (known == NULL)
            *at = NAME_OTHER - 1; /* those that follow are not there either */
        uint64_t created = known != NULL ? sum(name, ARENA_CREATED) : 0;
        if (created == 0)
            continue;
        union arena_name text = *known;
        memset(row, 0, sizeof *row);
        memcpy(row->name, text.text, sizeof text.text);
        row->values[ROW_CREATED] = created;
        row->values[ROW_LIVE] = difference(name, ARENA_CREATED, ARENA_DESTROYED);
        row->values[ROW_BLOCKS] = difference(name, ARENA_BLOCKS_TAKEN, ARENA_BLOCKS_GIVEN);
        row->values[ROW_TOTAL] = difference(name, ARENA_BYTES_TAKEN, ARENA_BYTES_GIVEN);
        row->values[ROW_RESETS] = sum(name, ARENA_RESETS);
        row->values[ROW_REFUSED] = sum(name, ARENA_REFUSED);
        ++*at;
        return true;
    }
    return false;
}

struct emit_kind arenas_kind = {
    .plural = "arenas", .singular = "arena", .columns = columns, .count = ROW_COUNT, .next = next};

/* A thread's first event, an event after its end, or without memory for a table. */
ASH_COLD void arena_count_slow(unsigned name, enum arena_event event, uint64_t n)
{
    emit_kind_add(&arenas_kind);
    if (heap_is_real(heap_attached())) {
        thread_at_end(thread_ends);
        arena_counts_tls = arena_counts_take();
    }
    struct arena_counts *c = arena_counts_tls;
    if (c != NULL)
        counter_add(&c->of[name][event], n);
    else
        add_relaxed(&late[name][event], n);
}
