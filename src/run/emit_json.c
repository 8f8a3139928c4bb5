/*
 * JSON: {"format": 1, "pid": N, "totals": {...}, "classes": [{...}, ...]}. Names are those of the
 * public structs, values are integers in the same units. "format" is raised when a name changes or
 * goes, not when one comes.
 */
#include "run/emit.h"

#include "info/stats.h"
#include "os/os_process.h"

#include <inttypes.h>

enum { JSON_FORMAT = 1 };

static void put_class(struct fmt *f, const struct ash_class_stats *c)
{
    fmt_printf(f, "{\"size\": %zu", c->size);
    for (size_t i = 0; i < STATS_COLUMNS; i++)
        fmt_printf(f, ", \"%s\": %" PRIu64, stats_columns[i].name,
                   stat_value(&stats_columns[i], c));
    fmt_printf(f, "}");
}

void emit_json(struct fmt *f, const struct ash_stats *total)
{
    fmt_printf(f, "{\n  \"format\": %d,\n  \"pid\": %d,\n  \"totals\": {\n", JSON_FORMAT, os_pid());
    for (size_t i = 0; i < STATS_TOTALS; i++)
        fmt_printf(f, "%s    \"%s\": %" PRIu64, i > 0 ? ",\n" : "", stats_totals[i].name,
                   stat_value(&stats_totals[i], total));
    fmt_printf(f, "\n  },\n  \"classes\": [");
    struct ash_class_stats c;
    const char *before = "\n    ";
    for (unsigned cls = 0; emit_next_class(&cls, &c); before = ",\n    ") {
        fmt_printf(f, "%s", before);
        put_class(f, &c);
    }
    fmt_printf(f, "\n  ]\n}\n");
}
