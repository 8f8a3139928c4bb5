/*
 * Statistics made up of any numbers and names through the three writers. What comes out is read back by parsers that
 * know nothing of the writers, and every number has to be where its name is. Classes are made up where the writers ask
 * for them (-Wl,--wrap=ash_stats_class).
 */
#include "formats.h"
#include "fuzz.h"

#include "base/fmt.h"
#include "info/stats.h"
#include "run/emit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CLASSES = 12, THINGS = 6, KINDS = 2, CAP = 1 << 17, BUFFER = 600 };

/* ---- what is made up ---- */

static struct ash_stats total;
static struct ash_class_stats classes[CLASSES];
static unsigned class_count;
static bool made_up;

struct thing {
    unsigned count;
    struct emit_row rows[THINGS];
};
static struct thing things[KINDS];

int __real_ash_stats_class(unsigned cls, struct ash_class_stats *out);
int __wrap_ash_stats_class(unsigned cls, struct ash_class_stats *out);

int __wrap_ash_stats_class(unsigned cls, struct ash_class_stats *out)
{
    if (!made_up)
        return __real_ash_stats_class(cls, out);
    if (cls >= class_count)
        return -EINVAL;
    *out = classes[cls];
    return 0;
}

static bool next_of(const struct thing *thing, size_t *at, struct emit_row *row)
{
    if (*at >= thing->count)
        return false;
    *row = thing->rows[(*at)++];
    return true;
}

static bool next_first(size_t *at, struct emit_row *row)
{
    return next_of(&things[0], at, row);
}

static bool next_second(size_t *at, struct emit_row *row)
{
    return next_of(&things[1], at, row);
}

static const struct stat_field columns[] = {
    {"gets", "Taken.", STAT_COUNTER, STAT_COUNT, 0},           {"held_bytes", "Held.", STAT_GAUGE, STAT_BYTES, 8},
    {"wait_ns", "Waited.", STAT_COUNTER, STAT_NS, 16},         {"age_ns", "The oldest's age.", STAT_GAUGE, STAT_NS, 24},
    {"a_name_of_some_length", "Long.", STAT_GAUGE, STAT_COUNT, 32},
};

static struct emit_kind kinds[KINDS] = {
    {.plural = "boxes", .singular = "box", .columns = columns, .count = ASH_COUNT(columns), .next = next_first},
    {.plural = "bags", .singular = "bag", .columns = columns, .count = 1, .next = next_second},
};

static void take_fields(struct input *in, void *out, const struct stat_field *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v = take_number(in);
        memcpy((char *)out + table[i].offset, &v, sizeof v);
    }
}

static void take_name(struct input *in, char *name)
{
    unsigned n = take_below(in, EMIT_NAME);
    for (unsigned i = 0; i < n; i++) {
        char c = (char)(32 + take_below(in, 95));
        name[i] = c == '"' || c == '\\' ? '{' : c;
    }
    name[n] = '\0';
}

static void make_up(struct input *in)
{
    take_fields(in, &total, stats_totals, STATS_TOTALS);
    class_count = take_below(in, CLASSES + 1);
    for (unsigned i = 0; i < class_count; i++) {
        take_fields(in, &classes[i], stats_columns, take_below(in, 4) == 0 ? 0 : STATS_COLUMNS);
        classes[i].size = (i + 1) * 64;
    }
    for (unsigned k = 0; k < KINDS; k++) {
        things[k].count = take_below(in, THINGS + 1);
        for (unsigned i = 0; i < things[k].count; i++) {
            take_name(in, things[k].rows[i].name);
            take_fields(in, things[k].rows[i].values, columns, kinds[k].count);
        }
    }
}

static bool class_is_used(const struct ash_class_stats *c)
{
    return c->hits + c->misses > 0 || c->slabs > 0;
}

/* ---- writing ---- */

static char text[CAP];
static size_t text_n;
static unsigned writes, fail_at; /* the write that fails, from 1; 0: none */

static int collect(void *ctx, const char *s, size_t n)
{
    (void)ctx;
    CHECK(fail_at == 0 || writes < fail_at, "a write after the one that failed");
    if (++writes == fail_at)
        return -ENOSPC;
    CHECK(n > 0 && n < CAP - text_n, "a write of %zu bytes behind %zu", n, text_n);
    memcpy(text + text_n, s, n);
    text_n += n;
    return 0;
}

/* Writes to `text`, through a buffer of `cap` bytes. */
static int write_text(emit_format *emit, size_t cap, unsigned failing)
{
    char buf[BUFFER];
    struct fmt f;
    text_n = writes = 0;
    fail_at = failing;
    fmt_init(&f, buf, cap, collect, NULL);
    emit(&f, &total, getpid());
    int status = fmt_end(&f);
    CHECK(status == (failing != 0 && writes == failing ? -ENOSPC : 0), "the writer answers %d after %u writes", status,
          writes);
    text[text_n] = '\0';
    CHECK(strlen(text) == text_n, "a NUL among the statistics");
    return status;
}

/* ---- reading ---- */

static void check_number(const char *object, const char *name, uint64_t want)
{
    const char *value = json_member(object, name);
    char *end;
    CHECK(value != NULL, "no %s in %.200s", name, object);
    uint64_t got = strtoull(value, &end, 10);
    CHECK(end > value && got == want, "%s is %" PRIu64 ", not %" PRIu64, name, got, want);
}

static void check_fields(const char *object, const struct stat_field *table, size_t n, const void *from)
{
    for (size_t i = 0; i < n; i++)
        check_number(object, table[i].name, stat_value(&table[i], from));
}

static void check_json_kind(unsigned k)
{
    const char *item = json_first(json_member(text, kinds[k].plural));
    for (unsigned i = 0; i < things[k].count; i++, item = json_next(item)) {
        const struct emit_row *row = &things[k].rows[i];
        CHECK(item != NULL, "%u of %u %s", i, things[k].count, kinds[k].plural);
        const char *name = json_member(item, "name");
        size_t n = strlen(row->name);
        CHECK(name != NULL && strncmp(name + 1, row->name, n) == 0 && name[n + 1] == '"', "the name \"%s\" is %.40s",
              row->name, name);
        check_fields(item, columns, kinds[k].count, row->values);
    }
    CHECK(item == NULL, "more than %u %s", things[k].count, kinds[k].plural);
}

static void check_json(void)
{
    const char *end = json_value(text);
    CHECK(end != NULL && strcmp(end, "\n") == 0, "no JSON: %s", text);
    const char *totals = json_member(text, "totals"), *array = json_member(text, "classes");
    CHECK(totals != NULL && array != NULL, "no totals or classes: %s", text);
    check_fields(totals, stats_totals, STATS_TOTALS, &total);
    const char *item = json_first(array);
    for (unsigned i = 0; i < class_count; i++) {
        if (!class_is_used(&classes[i]))
            continue;
        CHECK(item != NULL, "no class of %zu", classes[i].size);
        check_number(item, "size", classes[i].size);
        check_fields(item, stats_columns, STATS_COLUMNS, &classes[i]);
        item = json_next(item);
    }
    CHECK(item == NULL, "a class too many: %.80s", item);
    for (unsigned k = 0; k < KINDS; k++)
        check_json_kind(k);
}

/* A sample as it has to stand in a line of its own. */
static void check_sample(const char *group, const struct stat_field *field, const char *label, uint64_t v)
{
    char line[256], name[80];
    size_t n = strlen(field->name) - (field->unit == STAT_NS ? 3 : 0);
    snprintf(name, sizeof name, "ashlar_%s%.*s%s%s", group, (int)n, field->name,
             field->unit == STAT_NS ? "_seconds" : "", field->kind == STAT_COUNTER ? "_total" : "");
    if (field->unit == STAT_NS)
        snprintf(line, sizeof line, "\n%s%s %" PRIu64 ".%09" PRIu64 "\n", name, label, v / 1000000000, v % 1000000000);
    else
        snprintf(line, sizeof line, "\n%s%s %" PRIu64 "\n", name, label, v);
    CHECK(strstr(text, line) != NULL, "not there: %s", line + 1);
}

static void check_prom(void)
{
    static char copy[CAP];
    unsigned samples, want = STATS_TOTALS;
    const char *bad = "";
    char label[64];
    for (size_t i = 0; i < STATS_TOTALS; i++)
        check_sample("", &stats_totals[i], "", stat_value(&stats_totals[i], &total));
    for (unsigned c = 0; c < class_count; c++)
        for (size_t i = 0; i < STATS_COLUMNS && class_is_used(&classes[c]); i++, want++) {
            snprintf(label, sizeof label, "{size=\"%zu\"}", classes[c].size);
            check_sample("class_", &stats_columns[i], label, stat_value(&stats_columns[i], &classes[c]));
        }
    for (unsigned k = 0; k < KINDS; k++)
        for (unsigned t = 0; t < things[k].count; t++)
            for (size_t i = 0; i < kinds[k].count; i++, want++) {
                char group[16];
                snprintf(group, sizeof group, "%s_", kinds[k].singular);
                snprintf(label, sizeof label, "{name=\"%s\"}", things[k].rows[t].name);
                check_sample(group, &columns[i], label, stat_value(&columns[i], things[k].rows[t].values));
            }
    memcpy(copy, text, text_n + 1);
    CHECK(prom_bad_lines(copy, &samples, &bad) == 0, "a bad line: %s", bad);
    CHECK(samples == want, "%u samples, not %u", samples, want);
}

/*
 * The table: lines of printable text; rows of classes as wide as their heading. Where nothing was allocated, one line.
 */
static void check_table(void)
{
    size_t width = 0, n;
    unsigned used = 0, rows = 0;
    if (total.hits + total.misses == 0) {
        CHECK(strchr(text, '\n') == text + text_n - 1, "more than a line of nothing: %s", text);
        return;
    }
    for (unsigned i = 0; i < class_count; i++)
        used += class_is_used(&classes[i]);
    for (const char *line = text; *line != '\0'; line += n + 1) {
        n = strcspn(line, "\n");
        CHECK(line[n] == '\n', "the last line has no end");
        for (size_t i = 0; i < n; i++)
            CHECK(line[i] >= 32 && line[i] < 127, "the byte %d in %.*s", line[i], (int)n, line);
        if (width == 0 && n > 8 && strncmp(line + n - 7, "waste %", 7) == 0)
            width = n;
        else if (width != 0 && rows <= used && rows++ <= used)
            CHECK(n == width, "a row of %zu characters, not %zu: %.*s", n, width, (int)n, line);
    }
    CHECK(width != 0 && rows == used + 1, "%u rows of classes, not %u", rows, used + 1);
}

void fuzz_stats(struct input *in)
{
    static const struct {
        emit_format *emit;
        void (*check)(void);
    } formats[] = {{emit_json, check_json}, {emit_prom, check_prom}, {emit_text, check_table}};
    for (unsigned k = 0; k < KINDS; k++)
        emit_kind_add(&kinds[k]);
    made_up = true;
    while (input_left(in)) {
        unsigned which = take_below(in, ASH_COUNT(formats));
        size_t cap = 1 + take_below(in, BUFFER);
        unsigned failing = take_below(in, 4) == 0 ? 1 + take_below(in, 32) : 0;
        make_up(in);
        fuzz_trace("format %u through %zu bytes, write %u fails: %u classes, %u and %u things\n", which, cap, failing,
                   class_count, things[0].count, things[1].count);
        if (write_text(formats[which].emit, cap, failing) == 0)
            formats[which].check();
    }
    made_up = false;
    for (unsigned k = 0; k < KINDS; k++) /* the kinds stay; the target malloc writes statistics too */
        things[k].count = 0;
}
