/*
 * The tables of stats.def: what the fields of struct ash_stats and struct ash_class_stats are, for
 * those who show them.
 */
#ifndef ASH_INFO_STATS_H
#define ASH_INFO_STATS_H

#include "ashlar/stats.h"
#include "base/base.h"

enum stat_kind { STAT_COUNTER, STAT_GAUGE };
enum stat_unit { STAT_COUNT, STAT_BYTES, STAT_NS };

struct stat_field {
    const char *name;
    const char *help;
    enum stat_kind kind;
    enum stat_unit unit;
    size_t offset; /* of the uint64_t in its struct */
};

enum {
#define STAT(field, kind, unit, help) +1
    STATS_TOTALS = 0
#include "info/stats.def"
#undef STAT
    ,
#define CLASS_STAT(field, kind, unit, help) +1
    STATS_COLUMNS = 0
#include "info/stats.def"
#undef CLASS_STAT
};

extern const struct stat_field stats_totals[STATS_TOTALS];
extern const struct stat_field stats_columns[STATS_COLUMNS];

/* The field's value; `from` is the struct that the table is about. */
ASH_INLINE uint64_t stat_value(const struct stat_field *stat, const void *from)
{
    return *(const uint64_t *)(const void *)((const char *)from + stat->offset);
}

#endif
