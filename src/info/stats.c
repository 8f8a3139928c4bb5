#include "info/stats.h"

const struct stat_field stats_totals[] = {
#define STAT(field, kind, unit, help)                                                              \
    {#field, help, STAT_##kind, STAT_##unit, offsetof(struct ash_stats, field)},
#include "info/stats.def"
#undef STAT
};

const struct stat_field stats_columns[] = {
#define CLASS_STAT(field, kind, unit, help)                                                        \
    {#field, help, STAT_##kind, STAT_##unit, offsetof(struct ash_class_stats, field)},
#include "info/stats.def"
#undef CLASS_STAT
};

/* The tables name every field of the public structs: the size fits no other number of them. */
_Static_assert(sizeof(struct ash_stats) ==
                   offsetof(struct ash_stats, hits) + STATS_TOTALS * sizeof(uint64_t),
               "struct ash_stats and stats.def differ");
_Static_assert(sizeof(struct ash_class_stats) ==
                   offsetof(struct ash_class_stats, hits) + STATS_COLUMNS * sizeof(uint64_t),
               "struct ash_class_stats and stats.def differ");
