/*
 * run/emit with statistics made up here: JSON is read by a small parser, Prometheus text line by
 * line against its grammar, the table by its columns. Each format must hold every field of the
 * public structs with its exact value, and come out whole through a pipe.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* F_SETPIPE_SZ */
#endif
#include "formats.h"
#include "tap.h"

#include "ashlar/stats.h"
#include "info/stats.h"
#include "run/emit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_CAP = 1 << 16, CLASSES = 64, FIRST_PRIME = 1000003 };

static char text[TEXT_CAP]; /* what the last dump wrote */
static bool empty;          /* statistics of a process that never allocated */
static bool huge;           /* every value is 2^64 - 1 */

/* Field number `i` of everything: large, and different from all others. */
static uint64_t made_up(size_t i)
{
    return huge ? UINT64_MAX : empty ? 0 : (uint64_t)(i + 1) * FIRST_PRIME + i;
}

static void fill(void *out, const struct stat_field *table, size_t n, size_t from)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v = made_up(from + i);
        memcpy((char *)out + table[i].offset, &v, sizeof v);
    }
}

int ash_stats_get(struct ash_stats *out)
{
    if (out->struct_size != sizeof *out)
        return -EINVAL;
    fill(out, stats_totals, STATS_TOTALS, 0);
    return 0;
}

/* Every third class has never been used. */
static bool class_used(unsigned cls)
{
    return !empty && cls % 3 != 1;
}

static size_t class_size_of(unsigned cls)
{
    return (cls + 1) * 64;
}

int ash_stats_class(unsigned cls, struct ash_class_stats *out)
{
    if (cls >= CLASSES)
        return -EINVAL;
    memset(out, 0, sizeof *out);
    out->size = class_size_of(cls);
    if (class_used(cls))
        fill(out, stats_columns, STATS_COLUMNS, 1000 * (cls + 1));
    return 0;
}

/* Dumps into `text` by way of a file. */
static int dump_text(enum ash_format format)
{
    FILE *file = tmpfile();
    if (file == NULL)
        abort();
    int status = ash_stats_dump(fileno(file), format);
    rewind(file);
    size_t n = fread(text, 1, sizeof text - 1, file);
    text[n] = '\0';
    fclose(file);
    return status;
}

/* ---- JSON ---- */

static void test_json(const char *what)
{
    is_int(dump_text(ASH_JSON), 0, "JSON is written");
    const char *end = json_value(text);
    ok(end != NULL && strcmp(end, "\n") == 0, "one value and a newline: %s", what);

    unsigned missing = 0;
    char want[160];
    for (size_t i = 0; i < STATS_TOTALS; i++) {
        snprintf(want, sizeof want, "    \"%s\": %" PRIu64, stats_totals[i].name, made_up(i));
        missing += strstr(text, want) == NULL;
    }
    is_int(missing, 0, "each total has its value");
    snprintf(want, sizeof want, "\"pid\": %d,", (int)getpid());
    ok(strstr(text, want) != NULL && strstr(text, "\"format\": 1,") != NULL, "process and format");

    unsigned wrong = 0;
    for (unsigned cls = 0; cls < CLASSES; cls++) {
        snprintf(want, sizeof want, "{\"size\": %zu, \"hits\": %" PRIu64 ",", class_size_of(cls),
                 made_up(1000 * (cls + 1)));
        wrong += (strstr(text, want) != NULL) != class_used(cls);
    }
    is_int(wrong, 0, "the classes in use are there, the others are not");
}

/* ---- Prometheus ---- */

static void test_prom(const char *what)
{
    is_int(dump_text(ASH_PROMETHEUS), 0, "Prometheus text is written");
    ok(text[0] != '\0' && text[strlen(text) - 1] == '\n', "it ends its last line");
    char *copy = strdup(text);
    const char *line = "";
    unsigned samples;
    unsigned bad = prom_bad_lines(copy, &samples, &line);
    if (bad != 0)
        printf("# bad line: %s\n", line);
    free(copy);
    is_int(bad, 0, what);
    unsigned used = 0;
    for (unsigned cls = 0; cls < CLASSES; cls++)
        used += class_used(cls);
    is_int(samples, STATS_TOTALS + (long long)used * STATS_COLUMNS, "a sample for each value");
}

static void test_prom_values(void)
{
    dump_text(ASH_PROMETHEUS);
    char want[160];
    snprintf(want, sizeof want, "\nashlar_misses_total %" PRIu64 "\n", made_up(1));
    ok(strstr(text, want) != NULL, "a counter");
    snprintf(want, sizeof want, "\nashlar_live_bytes %" PRIu64 "\n", made_up(4));
    ok(strstr(text, want) != NULL, "a gauge");
    snprintf(want, sizeof want, "\nashlar_class_hits_total{size=\"192\"} %" PRIu64 "\n",
             made_up(3000));
    ok(strstr(text, want) != NULL, "a class");
    size_t ns = 0;
    while (strcmp(stats_totals[ns].name, "purge_ns") != 0)
        ns++;
    snprintf(want, sizeof want, "\nashlar_purge_seconds_total 0.%09" PRIu64 "\n", made_up(ns));
    ok(strstr(text, want) != NULL, "nanoseconds are shown in seconds");
}

/* ---- the table ---- */

/* Lines that begin with a class size or "large"; all of one width. */
static unsigned count_rows(size_t *width)
{
    unsigned rows = 0;
    bool in_table = false;
    char *copy = strdup(text);
    char *rest = copy;
    *width = 0;
    for (char *line = strsep(&rest, "\n"); rest != NULL; line = strsep(&rest, "\n")) {
        in_table |= strstr(line, "hit %") != NULL && strstr(line, "waste %") != NULL;
        if (!in_table)
            continue;
        rows++;
        *width = rows == 1 || *width == strlen(line) ? strlen(line) : 0;
    }
    free(copy);
    return rows;
}

static void test_table(void)
{
    is_int(dump_text(ASH_TEXT), 0, "the table is written");
    unsigned used = 0;
    for (unsigned cls = 0; cls < CLASSES; cls++)
        used += class_used(cls);
    size_t width;
    is_int(count_rows(&width), 1 + used + 1, "a heading, a row for each class in use, and large");
    ok(width > 0 && width <= 100, "all rows are equally wide, and fit a terminal (%zu)", width);
    const char *large = strstr(text, "\n     large ");
    ok(large != NULL && strchr(large + 1, '\n')[1] == '\0', "large blocks come last");
    ok(strstr(text, "100.1") == NULL && strstr(text, "\t") == NULL, "no odd figures");
}

static void test_edges(void)
{
    huge = true;
    test_json("with the largest values");
    test_prom("every line is right with the largest values");
    is_int(dump_text(ASH_TEXT), 0, "the table with the largest values");
    huge = false;
    empty = true;
    test_json("with no allocation");
    test_prom("every line is right with no allocation");
    is_int(dump_text(ASH_TEXT), 0, "the table with no allocation");
    ok(strchr(text, '\n') != NULL && strchr(text, '\n')[1] == '\0', "is one line");
    empty = false;
}

static void test_errors(void)
{
    errno = 77;
    is_int(ash_stats_dump(STDOUT_FILENO, (enum ash_format)3), -EINVAL, "an unknown format");
    is_int(ash_stats_dump(-1, ASH_TEXT), -EBADF, "a bad descriptor");
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (full >= 0)
        is_int(ash_stats_dump(full, ASH_JSON), -ENOSPC, "a full device");
    else
        skip("no /dev/full here", 1);
    if (full >= 0)
        close(full);
    errno = 77;
    ash_stats_dump(-1, ASH_PROMETHEUS);
    is_int(errno, 77, "errno is kept");
}

/* A pipe that does not block and is read slowly: short writes and -EAGAIN on the way. */
static void test_pipe(void)
{
    dump_text(ASH_PROMETHEUS);
    size_t want = strlen(text), got = 0;
    int fds[2];
    if (pipe(fds) != 0)
        abort();
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    fcntl(fds[1], F_SETPIPE_SZ, 4096);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(fds[0]);
        _exit(ash_stats_dump(fds[1], ASH_PROMETHEUS) == 0 ? 0 : 1);
    }
    close(fds[1]);
    char part[1000];
    ssize_t n;
    while ((n = read(fds[0], part, sizeof part)) > 0) {
        got += (size_t)n;
        usleep(1000);
    }
    close(fds[0]);
    is_int((long long)got, (long long)want, "all of it passes a slow pipe that does not block");
}

/* ---- kinds ---- */

static const struct stat_field thing_columns[] = {
    {"gets", "Things taken.", STAT_COUNTER, STAT_COUNT, 0},
    {"held_bytes", "Bytes of them.", STAT_GAUGE, STAT_BYTES, 8},
    {"busy_ns", "Time with them.", STAT_COUNTER, STAT_NS, 16},
};

static bool next_thing(size_t *at, struct emit_row *row)
{
    static const char *const names[] = {"first", "second thing"};
    if (empty || *at >= ASH_COUNT(names))
        return false;
    snprintf(row->name, sizeof row->name, "%s", names[*at]);
    row->values[0] = 10 + *at;
    row->values[1] = 2048;
    row->values[2] = 1500000000;
    ++*at;
    return true;
}

static struct emit_kind things = {
    .plural = "things", .singular = "thing", .columns = thing_columns, .count = 3, .next = next_thing};
static struct emit_kind others = {
    .plural = "others", .singular = "other", .columns = thing_columns, .count = 1, .next = next_thing};

static void test_kinds(void)
{
    emit_kind_add(&things);
    emit_kind_add(&others);
    emit_kind_add(&things);
    ok(emit_kinds() == &others && others.link == &things && things.link == NULL, "each kind is added once");
    is_int(dump_text(ASH_JSON), 0, "JSON with kinds");
    const char *end = json_value(text);
    ok(end != NULL && strcmp(end, "\n") == 0, "is one value");
    ok(strstr(text, "\"things\": [\n    {\"name\": \"first\", \"gets\": 10, \"held_bytes\": 2048, "
                    "\"busy_ns\": 1500000000},\n    {\"name\": \"second thing\", \"gets\": 11,") != NULL,
       "each thing is an object");
    is_int(dump_text(ASH_PROMETHEUS), 0, "Prometheus text with kinds");
    unsigned samples;
    const char *line = "";
    char *copy = strdup(text);
    is_int(prom_bad_lines(copy, &samples, &line), 0, "is right in every line");
    free(copy);
    ok(strstr(text, "# TYPE ashlar_thing_gets_total counter\nashlar_thing_gets_total{name=\"first\"} 10\n"
                    "ashlar_thing_gets_total{name=\"second thing\"} 11\n") != NULL &&
           strstr(text, "ashlar_thing_busy_seconds_total{name=\"first\"} 1.500000000\n") != NULL,
       "each thing is a sample");
    is_int(dump_text(ASH_TEXT), 0, "a table for each kind");
    ok(strstr(text, "\n  things ") != NULL && strstr(text, "\n  second thing ") != NULL &&
           strstr(text, "2.0 KiB") != NULL && strstr(text, "1.5 s\n") != NULL,
       "with a row for each thing");
    empty = true;
    is_int(dump_text(ASH_JSON), 0, "JSON with kinds that have no things");
    end = json_value(text);
    ok(end != NULL && strstr(text, "\"things\": [\n  ]") != NULL, "has empty arrays");
    is_int(dump_text(ASH_TEXT), 0, "the table then");
    ok(strstr(text, "things") == NULL, "says nothing of them");
    empty = false;
}

/* ---- kinds of a program ---- */

static int next_pump(size_t *at, char name[ASH_STATS_NAME], uint64_t values[ASH_STATS_VALUES])
{
    if (*at > 0)
        return 0;
    strcpy(name, "north");
    values[0] = 7;
    values[1] = 4096;
    *at = 1;
    return 1;
}

static const struct ash_stats_column pump_columns[] = {
    {"strokes", "Strokes made.", ASH_STATS_COUNTER, ASH_STATS_COUNT},
    {"tank_bytes", "What it holds.", ASH_STATS_GAUGE, ASH_STATS_BYTES},
};

static void test_outer_kinds(void)
{
    static const struct ash_stats_kind pumps = {"pumps", "pump", pump_columns, 2, next_pump};
    struct ash_stats_column wrong = {"Strokes", "Strokes made.", ASH_STATS_COUNTER, ASH_STATS_COUNT};
    struct ash_stats_kind bad[] = {
        {NULL, "pump", pump_columns, 2, next_pump},    {"pumps", "a pump", pump_columns, 2, next_pump},
        {"pumps", "pump", pump_columns, 0, next_pump}, {"pumps", "pump", pump_columns, 21, next_pump},
        {"pumps", "pump", pump_columns, 2, NULL},      {"pumps", "pump", &wrong, 1, next_pump},
    };
    for (size_t i = 0; i < ASH_COUNT(bad); i++)
        is_int(ash_stats_add(&bad[i]), -EINVAL, "a kind that cannot be shown");
    is_int(ash_stats_add(NULL), -EINVAL, "none");
    is_int(ash_stats_add(&pumps), 0, "a program's own kind");
    is_int(dump_text(ASH_JSON), 0, "JSON");
    ok(json_value(text) != NULL && strstr(text, "\"pumps\": [\n    {\"name\": \"north\", \"strokes\": 7, "
                                                "\"tank_bytes\": 4096}\n  ]") != NULL,
       "has it");
    is_int(dump_text(ASH_PROMETHEUS), 0, "Prometheus text");
    ok(strstr(text, "ashlar_pump_strokes_total{name=\"north\"} 7\n") != NULL &&
           strstr(text, "ashlar_pump_tank_bytes{name=\"north\"} 4096\n") != NULL,
       "has it");
    is_int(dump_text(ASH_TEXT), 0, "the table");
    ok(strstr(text, "\n  pumps ") != NULL && strstr(text, "\n  north ") != NULL && strstr(text, "4.0 KiB") != NULL, "has it");
}

int main(void)
{
    test_json("with every field different");
    test_prom("every line is right");
    test_prom_values();
    test_table();
    test_edges();
    test_errors();
    test_pipe();
    test_kinds();
    test_outer_kinds();
    return tap_done();
}
