#include "pool/arena_count.h"

#include "heap/thread.h"
#include "mem/meta.h"
#include "run/emit.h"

#include <string.h>

enum { NAME_OTHER = ARENA_NAMES - 1 };

ASH_TLS struct arena_counts *arena_counts_tls;

/* Every table there is, newest first. They are never given back. */
static _Atomic(struct arena_counts *) tables;

/* For threads that have ended, or that no memory was left for: several writers, locked adds. */
static _Atomic(uint64_t) late[ARENA_NAMES][ARENA_EVENTS];

/* By number, without holes; a text is const once it is here. The ends stand for themselves. */
static _Atomic(const char *) names[ARENA_NAMES];

unsigned arena_number(const char name[ARENA_NAME])
{
    char *copy = NULL;
    if (name[0] == '\0')
        return 0;
    for (unsigned i = 1; i < NAME_OTHER; i++) {
        const char *seen = load_acquire(&names[i]); /* its text; pairs with the exchange below */
        if (ASH_UNLIKELY(seen == NULL)) {
            copy = copy != NULL ? copy : meta_take(ARENA_NAME);
            if (copy == NULL)
                break;
            memcpy(copy, name, ARENA_NAME);
            if (cas_strong_acq_rel(&names[i], &seen, copy)) /* publishes the text */
                return i;
        }
        if (memcmp(seen, name, ARENA_NAME) == 0)
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
static struct arena_counts *counts_take(void)
{
    struct arena_counts *c = load_acquire(&tables); /* pairs with counts_create */
    for (; c != NULL; c = c->older) {
        bool taken = false;
        if (!load_relaxed(&c->taken) &&
            cas_strong_acq_rel(&c->taken, &taken, true)) /* counters; pairs with counts_give */
            return c;
    }
    return counts_create();
}

/* The end of a thread. */
static void counts_give(void)
{
    struct arena_counts *c = arena_counts_tls;
    arena_counts_tls = NULL;
    if (c != NULL)
        store_release(&c->taken, false); /* the counters; pairs with counts_take */
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
static const char *name_text(unsigned name)
{
    if (name == 0)
        return "(unnamed)";
    return name == NAME_OTHER ? "(other)"
                              : load_acquire(&names[name]); /* pairs with arena_number */
}

static bool next(size_t *at, struct emit_row *row)
{
    for (; *at < ARENA_NAMES; ++*at) {
        unsigned name = (unsigned)*at;
        uint64_t created = sum(name, ARENA_CREATED);
        const char *text = name_text(name);
        if (created == 0 || text == NULL)
            continue;
        memset(row, 0, sizeof *row);
        strncpy(row->name, text, EMIT_NAME - 1);
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

static struct emit_kind kind = {
    .plural = "arenas", .singular = "arena", .columns = columns, .count = ROW_COUNT, .next = next};

/* A thread's first event, an event after its end, or without memory for a table. */
ASH_COLD void arena_count_slow(unsigned name, enum arena_event event, uint64_t n)
{
    emit_kind_add(&kind);
    if (heap_is_real(heap_attached())) {
        thread_at_end(counts_give);
        arena_counts_tls = counts_take();
    }
    struct arena_counts *c = arena_counts_tls;
    if (c != NULL)
        counter_add(&c->of[name][event], n);
    else
        add_relaxed(&late[name][event], n);
}
