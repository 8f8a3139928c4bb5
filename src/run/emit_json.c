/*
 * JSON: {"format": 1, "pid": N, "totals": {...}, "classes": [{...}, ...]}, and an
 * array for each kind of emit_kinds. Names are those of the
 * public structs, values are integers in the same units. "format" is raised when a name changes or
 * goes, not when one comes.
 */
#include "run/emit.h"

#include "info/stats.h"

#include <inttypes.h>

enum { JSON_FORMAT = 1 };

/* `fields` of one thing, after its name. */
static void put_fields(struct fmt *f, const struct stat_field *fields, size_t n, const void *from)
{
    for (size_t i = 0; i < n; i++)
        fmt_printf(f, ", \"%s\": %" PRIu64, fields[i].name, stat_value(&fields[i], from));
    fmt_printf(f, "}");
}

static void put_class(struct fmt *f, const struct ash_class_stats *c)
{
    fmt_printf(f, "{\"size\": %zu", c->size);
    put_fields(f, stats_columns, STATS_COLUMNS, c);
}

static void put_kind(struct fmt *f, const struct emit_kind *kind)
{
    struct emit_row row;
    fmt_printf(f, ",\n  \"%s\": [", kind->plural);
    const char *before = "\n    ";
    for (size_t at = 0; emit_next(kind, &at, &row); before = ",\n    ") {
        fmt_printf(f, "%s{\"name\": \"%s\"", before, row.name);
        put_fields(f, kind->columns, kind->count, row.values);
    }
    fmt_printf(f, "\n  ]");
}

void emit_json(struct fmt *f, const struct ash_stats *total, int pid)
{
    fmt_printf(f, "{\n  \"format\": %d,\n  \"pid\": %d,\n  \"totals\": {\n", JSON_FORMAT, pid);
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
    fmt_printf(f, "\n  ]");
    for (const struct emit_kind *k = emit_kinds(); k != NULL; k = k->link)
        put_kind(f, k);
    fmt_printf(f, "\n}\n");
}
