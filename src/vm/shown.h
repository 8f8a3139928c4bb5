/*
 * This library's named things in the statistics of the allocator (ash_stats_add): a record for each
 * thing, which is never given back but used again, so that a walk over the records is safe in any
 * thread and in a signal handler. A reader pins the record, and whoever ends the thing waits until
 * nobody has it pinned.
 *
 * Rejected: a lock over the list. Statistics are written in signal handlers, which may have
 * interrupted its owner.
 */
#ifndef ASH_SHOWN_H
#define ASH_SHOWN_H

#include "ashlar/stats.h"
#include "base/atomic.h"
#include "base/name.h"

struct shown {
    struct shown *link;      /* const once pushed: the record made before */
    _Atomic(uint64_t) state; /* atomic: two bits and the number of readers, see shown.c */
    char name[NAME_CAP];     /* const while the record is open, as is `thing` */
    const void *thing;
};

struct shown_kind {
    struct ash_stats_kind kind;
    /* Reads the values, as `next` of struct ash_stats_kind does: without a lock. */
    void (*read)(const void *thing, uint64_t *values);
    _Atomic(struct shown *) records; /* atomic: release publishes a record's link */
    _Atomic(bool) added;             /* atomic: whoever makes it true adds the kind */
};

/*
 * Defines the kind `id` with an array of columns, for things whose values `reader` reads. It is a
 * macro since `next` is told of no kind.
 */
#define SHOWN_KIND(id, plurals, singulars, fields, reader)                                         \
    static int id##_next(size_t *at, char name[ASH_STATS_NAME],                                    \
                         uint64_t values[ASH_STATS_VALUES]);                                       \
    static struct shown_kind id = {                                                                \
        .kind = {plurals, singulars, fields, ASH_COUNT(fields), id##_next}, .read = reader};       \
    static int id##_next(size_t *at, char name[ASH_STATS_NAME], uint64_t values[ASH_STATS_VALUES]) \
    {                                                                                              \
        return shown_next(&id, at, name, values);                                                  \
    }

#define SHOWN_COLUMN(name, type, unit, help)                                                       \
    {                                                                                              \
        name, help, ASH_STATS_##type, ASH_STATS_##unit                                             \
    }

/* Shows `thing` from now on. NULL: no memory. */
struct shown *shown_open(struct shown_kind *k, const char name[NAME_CAP], const void *thing);

/*
 * Shows it no more. False: somebody who reads it was stopped, or was lost in a fork, so the thing's
 * memory must stay. NULL is fine.
 */
bool shown_close(struct shown *s);

/* Reads a thing's counters, where these are all that it shows. */
ASH_INLINE void shown_counts(uint64_t *values, const _Atomic(uint64_t) *count, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        values[i] = load_relaxed(&count[i]);
}

/* For `next` of the kind. */
int shown_next(struct shown_kind *k, size_t *at, char name[ASH_STATS_NAME],
               uint64_t values[ASH_STATS_VALUES]);

#endif
