/*
 * The statistics as text, in three formats. ash_stats_dump, of the public header, is defined here.
 *
 * The data comes through the public API alone, one class at a time, so that a dump needs little
 * stack (about 3 KiB: signal handlers may run on small ones) and no memory. A format that shows the
 * classes column by column reads them once for each column; while other threads run, its columns
 * are as far apart as any two readings.
 */
#ifndef ASH_EMIT_H
#define ASH_EMIT_H

#include "ashlar/stats.h"
#include "base/fmt.h"
#include "info/stats.h"

/* Each writes one whole text, about the process `pid`; errors stick in `f`. */
typedef void emit_format(struct fmt *f, const struct ash_stats *total, int pid);
emit_format emit_text, emit_json, emit_prom;

/*
 * Reads the first class from `*cls` on that has been used, and sets `*cls` behind it; false when
 * there is none:
 *
 *     for (unsigned cls = 0; emit_next_class(&cls, &c);)
 */
bool emit_next_class(unsigned *cls, struct ash_class_stats *c);

/*
 * Named things that layers above make (pools, arenas ...): each kind adds itself once, with its
 * columns and a way to read its things one by one. They come after the classes: a table of its own,
 * an array in JSON, ashlar_KIND_FIELD{name="N"} for Prometheus.
 */
enum { EMIT_NAME = 32, EMIT_VALUES = 20 };

struct emit_row {
    char name[EMIT_NAME]; /* NUL-terminated; printable ASCII without quotes and backslashes */
    uint64_t values[EMIT_VALUES];
};

struct emit_kind {
    const char *plural;               /* "pools": heading and JSON name */
    const char *singular;             /* "pool": in Prometheus names */
    const struct stat_field *columns; /* offsets are those in `values` */
    size_t count;                     /* of columns, at most EMIT_VALUES */
    /* Reads the first thing from `*at` on and sets `*at` behind it; false: there is none. */
    bool (*next)(size_t *at, struct emit_row *row);
    struct emit_kind *link; /* const after emit_kind_add */
    /* Instead of `next`, for kinds of ash_stats_add. */
    const struct ash_stats_kind *outer;
};

_Static_assert((int)EMIT_NAME == (int)ASH_STATS_NAME && (int)EMIT_VALUES == (int)ASH_STATS_VALUES,
               "a row of ash_stats_add's is one of emit's");

ASH_INLINE bool emit_next(const struct emit_kind *kind, size_t *at, struct emit_row *row)
{
    return kind->outer == NULL ? kind->next(at, row)
                               : kind->outer->next(at, row->name, row->values) != 0;
}

/* `kind` is kept for ever. Any thread; twice for the same kind is once. */
void emit_kind_add(struct emit_kind *kind);

/* The kinds, newest first; the next one is `link`. */
struct emit_kind *emit_kinds(void);

#endif
