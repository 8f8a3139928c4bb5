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

/* Each writes one whole text; errors stick in `f`. */
void emit_text(struct fmt *f, const struct ash_stats *total);
void emit_json(struct fmt *f, const struct ash_stats *total);
void emit_prom(struct fmt *f, const struct ash_stats *total);

/*
 * Reads the first class from `*cls` on that has been used, and sets `*cls` behind it; false when
 * there is none:
 *
 *     for (unsigned cls = 0; emit_next_class(&cls, &c);)
 */
bool emit_next_class(unsigned *cls, struct ash_class_stats *c);

#endif
