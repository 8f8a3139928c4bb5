/*
 * Prometheus text exposition format 0.0.4. A field becomes ashlar_FIELD, of a class
 * ashlar_class_FIELD{size="N"}; units are base units (purge_ns becomes purge_seconds) and counters
 * end in _total.
 */
#include "run/emit.h"

#include "info/stats.h"

#include <inttypes.h>
#include <string.h>

enum { NAME_CAP = 64 };

/* `group` is "", "class_", or a kind's own. */
static void metric_name(char out[NAME_CAP], const char *group, const struct stat_field *stat)
{
    bool seconds = stat->unit == STAT_NS;
    size_t n = strlen(stat->name) - (seconds ? sizeof "_ns" - 1 : 0);
    fmt_text(out, NAME_CAP, "ashlar_%s%.*s%s%s", group, (int)n, stat->name,
             seconds ? "_seconds" : "", stat->kind == STAT_COUNTER ? "_total" : "");
}

static void put_header(struct fmt *f, const char *name, const struct stat_field *stat)
{
    fmt_printf(f, "# HELP %s %s\n# TYPE %s %s\n", name, stat->help, name,
               stat->kind == STAT_COUNTER ? "counter" : "gauge");
}

static void put_value(struct fmt *f, const struct stat_field *stat, uint64_t v)
{
    if (stat->unit == STAT_NS)
        fmt_printf(f, " %" PRIu64 ".%09" PRIu64 "\n", v / 1000000000, v % 1000000000);
    else
        fmt_printf(f, " %" PRIu64 "\n", v);
}

static void put_total(struct fmt *f, const struct stat_field *stat, const struct ash_stats *total)
{
    char name[NAME_CAP];
    metric_name(name, "", stat);
    put_header(f, name, stat);
    fmt_printf(f, "%s", name);
    put_value(f, stat, stat_value(stat, total));
}

static void put_column(struct fmt *f, const struct stat_field *stat)
{
    char name[NAME_CAP];
    metric_name(name, "class_", stat);
    put_header(f, name, stat);
    struct ash_class_stats c;
    for (unsigned cls = 0; emit_next_class(&cls, &c);) {
        fmt_printf(f, "%s{size=\"%zu\"}", name, c.size);
        put_value(f, stat, stat_value(stat, &c));
    }
}

static void put_kind_column(struct fmt *f, const struct emit_kind *kind,
                            const struct stat_field *stat)
{
    char group[NAME_CAP], name[NAME_CAP];
    fmt_text(group, sizeof group, "%s_", kind->singular);
    metric_name(name, group, stat);
    put_header(f, name, stat);
    struct emit_row row;
    for (size_t at = 0; emit_next(kind, &at, &row);) {
        fmt_printf(f, "%s{name=\"%s\"}", name, row.name);
        put_value(f, stat, stat_value(stat, row.values));
    }
}

void emit_prom(struct fmt *f, const struct ash_stats *total, int pid)
{
    (void)pid; /* whoever collects it adds what tells processes apart */
    for (size_t i = 0; i < STATS_TOTALS; i++)
        put_total(f, &stats_totals[i], total);
    for (size_t i = 0; i < STATS_COLUMNS; i++)
        put_column(f, &stats_columns[i]);
    for (const struct emit_kind *k = emit_kinds(); k != NULL; k = k->link)
        for (size_t i = 0; i < k->count; i++)
            put_kind_column(f, k, &k->columns[i]);
}
