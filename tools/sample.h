/*
 * The figures of a process at one moment, copied: statistics of its allocator and what the kernel
 * tells of it.
 */
#ifndef ASHLAR_TOOLS_SAMPLE_H
#define ASHLAR_TOOLS_SAMPLE_H

#include "mirror.h"

#include "ashlar/stats.h"
#include "info/stats.h"
#include "run/emit.h"

enum { SAMPLE_CLASSES = 96, SAMPLE_KINDS = 16, SAMPLE_ROWS = 64, SAMPLE_COLUMN = 20 };

/* Named things of one kind; their columns are told by name and unit. */
struct sample_kind {
    char plural[EMIT_NAME];
    size_t count, rows, all; /* columns; rows that are here; rows that there are */
    char column[EMIT_VALUES][SAMPLE_COLUMN];
    enum stat_unit unit[EMIT_VALUES];
    enum stat_kind kind[EMIT_VALUES];
    struct emit_row row[SAMPLE_ROWS];
};

struct sample {
    uint64_t at_ns; /* when, by the monotonic clock */
    struct target_usage usage;
    struct ash_stats total;
    size_t classes;
    struct ash_class_stats class[SAMPLE_CLASSES];
    size_t kinds;
    struct sample_kind kind[SAMPLE_KINDS];
};

/* Of the variables alone: `brief` leaves classes and named things out. */
enum mirror_state sample_read(const struct target *t, bool brief, struct sample *out);

/*
 * The whole text that the process itself would show. malloc'd; MIRROR_GONE when there is no memory
 * for it.
 */
enum mirror_state sample_text(const struct target *t, emit_format *emit, char **text, size_t *n);

/* Allocations a second between two samples; 0 when there is no time between them. */
uint64_t sample_rate(const struct sample *before, const struct sample *now);

/* The part of them that hit, in thousandths; of all there ever were when there were none. */
unsigned sample_hits(const struct sample *before, const struct sample *now);

#endif
