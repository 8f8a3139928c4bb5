/* The parts of a page that show statistics. */
#include "page.h"
#include "show.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { CHART_WIDTH = 1160, CHART_HEIGHT = 280, CHART_LEFT = 84, CHART_TOP = 14, CHART_LINES = 4 };

/* ---- numbers ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* A number in the unit that its name tells. */
static void value_text(char out[16], const char *name, double n)
{
    if (ends_with(name, "bytes") || strcmp(name, "size") == 0)
        page_bytes(out, n);
    else if (ends_with(name, "_ns"))
        page_time(out, n);
    else
        page_count(out, n);
}

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

/* ---- bars ---- */

struct part {
    const char *label;
    unsigned color;
    double value;
};

/* A bar of parts, as wide as its place; `whole` is its full width. */
static void put_bar(FILE *out, const char *class, const struct part *parts, size_t count,
                    double whole)
{
    fprintf(out,
            "<svg class=\"%s\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" role=\"img\">",
            class);
    double x = 0;
    for (size_t i = 0; i < count; i++) {
        double width = percent(parts[i].value, whole);
        char text[16];
        if (width <= 0)
            continue;
        page_bytes(text, parts[i].value);
        fprintf(out,
                "<rect class=\"c%u\" x=\"%.3f\" y=\"0\" width=\"%.3f\" height=\"10\">"
                "<title>%s: %s</title></rect>",
                parts[i].color, x, width, parts[i].label, text);
        x += width;
    }
    fprintf(out, "</svg>");
}

static void put_key(FILE *out, const struct part *parts, size_t count, bool values)
{
    fprintf(out, "<div class=\"key\">");
    for (size_t i = 0; i < count; i++) {
        char text[16];
        page_bytes(text, parts[i].value);
        fprintf(out, "<span><i class=\"c%u\"></i>%s%s%s</span>", parts[i].color, parts[i].label,
                values ? " " : "", values ? text : "");
    }
    fprintf(out, "</div>\n");
}

/* ---- a process ---- */

static void put_tile(FILE *out, const char *value, const char *label)
{
    fprintf(out, "<div class=\"tile\"><b>%s</b><span>%s</span></div>\n", value, label);
}

static void put_tiles(FILE *out, const struct json *t)
{
    char text[16], label[80];
    double hits = json_number(t, "hits"), misses = json_number(t, "misses");
    fprintf(out, "<div class=\"tiles\">\n");
    page_bytes(text, json_number(t, "live_bytes"));
    page_count(label, json_number(t, "live_blocks"));
    strcat(label, " blocks are live");
    put_tile(out, text, label);
    page_bytes(text, json_number(t, "peak_bytes"));
    put_tile(out, text, "in use at most");
    page_count(text, hits + misses);
    put_tile(out, text, "allocations");
    snprintf(text, sizeof text, "%.2f %%", percent(hits, hits + misses));
    put_tile(out, text, "served from the thread's cache");
    page_bytes(text, json_number(t, "purged_bytes"));
    char spent[16];
    page_time(spent, json_number(t, "purge_ns"));
    snprintf(label, sizeof label, "given back to the system in %s", spent);
    put_tile(out, text, label);
    page_count(text, json_number(t, "threads"));
    put_tile(out, text, "threads");
    fprintf(out, "</div>\n");
}

static void put_memory(FILE *out, const struct json *t)
{
    double large = json_number(t, "large_live_bytes"), live = json_number(t, "live_bytes");
    double cached = json_number(t, "cached_bytes"), hollow = json_number(t, "slab_free_bytes");
    double used = json_number(t, "used_bytes"), rest = used - live - cached - hollow;
    const struct part parts[] = {
        {"live small blocks", 0, live > large ? live - large : 0},
        {"live large blocks", 4, large},
        {"in threads' caches", 2, cached},
        {"free beside live blocks", 1, hollow},
        {"rounding and blocks on their way", 6, rest > 0 ? rest : 0},
        {"free, to be purged", 5, json_number(t, "dirty_bytes")},
        {"the allocator's records", 3, json_number(t, "meta_bytes")},
    };
    enum { PARTS = sizeof parts / sizeof parts[0] };
    double whole = 0;
    for (size_t i = 0; i < PARTS; i++)
        whole += parts[i].value;
    fprintf(out, "<h2>Where the memory is</h2>\n<div class=\"wide\">");
    put_bar(out, "tall", parts, PARTS, whole);
    put_key(out, parts, PARTS, true);
    fprintf(out, "</div>\n");
}

static void put_class(FILE *out, const struct json *c, double most)
{
    double size = json_number(c, "size"), live = json_number(c, "live");
    double cached = json_number(c, "cached"), capacity = json_number(c, "capacity");
    double hits = json_number(c, "hits"), all = hits + json_number(c, "misses");
    double hollow = capacity - live - cached;
    const struct part parts[] = {
        {"live", 0, live * size},
        {"cached", 2, cached * size},
        {"free", 1, hollow > 0 ? hollow * size : 0},
    };
    char bytes[16], count[16], waste[16], made[16];
    page_bytes(bytes, size);
    page_count(count, live);
    page_bytes(waste, capacity > live ? (capacity - live) * size : 0);
    page_count(made, all);
    fprintf(out, "<tr><td>%s</td><td class=\"bar\">", bytes);
    put_bar(out, "strip", parts, 3, most);
    fprintf(out,
            "</td><td>%s</td><td>%.0f %%</td><td>%s</td><td>%s</td><td>%.2f %%</td>"
            "<td>%.1f %%</td></tr>\n",
            count, percent(live, capacity), waste, made, percent(hits, all),
            percent(json_number(c, "remote_frees"), json_number(c, "frees")));
}

static void put_classes(FILE *out, const struct json *classes)
{
    double most = 0;
    const struct json *first = classes != NULL ? classes->member : NULL;
    for (const struct json *c = first; c != NULL; c = c->next) {
        double bytes = json_number(c, "size") * json_number(c, "capacity");
        most = bytes > most ? bytes : most;
    }
    if (first == NULL)
        return;
    static const struct part key[] = {{"live", 0, 0}, {"cached", 2, 0}, {"free", 1, 0}};
    fprintf(
        out,
        "<h2>Size classes</h2>\n<div class=\"wide\"><table>\n"
        "<tr><th>size</th><th class=\"bar\">memory</th><th>live</th><th>occupied</th><th>waste</th>"
        "<th>allocations</th><th>hits</th><th>freed by others</th></tr>\n");
    for (const struct json *c = first; c != NULL; c = c->next)
        put_class(out, c, most);
    fprintf(out, "</table>");
    put_key(out, key, 3, false);
    fprintf(out, "</div>\n");
}

/* A name of a table or column as a heading: its first letter large, no underscores. */
static void put_heading(FILE *out, const char *name)
{
    char text[40];
    snprintf(text, sizeof text, "%s", name);
    for (char *c = text; *c != '\0'; c++)
        *c = *c == '_' ? ' ' : *c;
    if (text[0] >= 'a' && text[0] <= 'z')
        text[0] = (char)(text[0] - 'a' + 'A');
    show_xml_text(out, text, sizeof text);
}

/* A table of named things: pools, arenas, heaps … */
static void put_kind(FILE *out, const struct json *kind)
{
    if (kind->type != JSON_ARRAY || kind->member == NULL || kind->member->type != JSON_OBJECT)
        return;
    fprintf(out, "<h2>");
    put_heading(out, kind->name);
    fprintf(out, "</h2>\n<div class=\"wide\"><table>\n<tr>");
    for (const struct json *m = kind->member->member; m != NULL; m = m->next) {
        fprintf(out, "<th>");
        put_heading(out, m->name);
        fprintf(out, "</th>");
    }
    fprintf(out, "</tr>\n");
    for (const struct json *row = kind->member; row != NULL; row = row->next) {
        if (row->type != JSON_OBJECT)
            continue;
        fprintf(out, "<tr>");
        for (const struct json *m = row->member; m != NULL; m = m->next) {
            char text[16] = "";
            if (m->type == JSON_NUMBER)
                value_text(text, m->name, m->number);
            fprintf(out, "<td>");
            show_xml_text(out, m->type == JSON_STRING ? m->text : text, 60);
            fprintf(out, "</td>");
        }
        fprintf(out, "</tr>\n");
    }
    fprintf(out, "</table></div>\n");
}

void page_stats(FILE *out, const struct json *stats)
{
    const struct json *totals = json_get(stats, "totals");
    put_tiles(out, totals);
    put_memory(out, totals);
    put_classes(out, json_get(stats, "classes"));
    for (const struct json *m = stats->member; m != NULL; m = m->next)
        if (strcmp(m->name, "classes") != 0)
            put_kind(out, m);
}

/* ---- over time ---- */

static const struct {
    const char *name, *label;
    unsigned color;
} lines[CHART_LINES] = {
    {"used_bytes", "in use", 2},
    {"live_bytes", "live", 0},
    {"dirty_bytes", "free, to be purged", 5},
    {"peak_bytes", "in use at most", 6},
};

static double total_of(const struct json *stats, const char *name)
{
    return json_number(json_get(stats, "totals"), name);
}

static void put_line(FILE *out, const struct json *const *stats, size_t count, unsigned line,
                     double most)
{
    double step = (double)(CHART_WIDTH - CHART_LEFT) / (double)(count - 1);
    fprintf(out, "<polyline class=\"s%u\" points=\"", lines[line].color);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%.1f,%.1f ", CHART_LEFT + step * (double)i,
                CHART_TOP + CHART_HEIGHT * (1 - total_of(stats[i], lines[line].name) / most));
    fprintf(out, "\"/>\n");
}

/* A power of two, or one and a half, that is at least `n`. */
static double round_up(double n)
{
    double v = 1;
    while (v < n)
        v *= 2;
    return v * 3 / 4 >= n ? v * 3 / 4 : v;
}

void page_timeline(FILE *out, const struct json *const *stats, const char *const *names,
                   size_t count)
{
    enum { MARKS = 4 };
    double most = 1;
    for (size_t i = 0; i < count; i++)
        for (unsigned k = 0; k < CHART_LINES; k++)
            most =
                total_of(stats[i], lines[k].name) > most ? total_of(stats[i], lines[k].name) : most;
    most = round_up(most);
    fprintf(out,
            "<h2>Over time</h2>\n<div class=\"wide\"><svg class=\"chart\" viewBox=\"0 0 %d %d\" "
            "role=\"img\">\n",
            CHART_WIDTH + 20, CHART_TOP + CHART_HEIGHT + 30);
    for (int i = 0; i <= MARKS; i++) {
        char text[16];
        int y = CHART_TOP + CHART_HEIGHT * (MARKS - i) / MARKS;
        page_bytes(text, most * i / MARKS);
        fprintf(out,
                "<line x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>"
                "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n",
                CHART_LEFT, CHART_WIDTH, y, y, CHART_LEFT - 10, y + 5, text);
    }
    for (unsigned k = CHART_LINES; k-- > 0;)
        put_line(out, stats, count, k, most);
    for (size_t i = 0; i < 2; i++) {
        fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\">", i ? CHART_WIDTH : CHART_LEFT,
                CHART_TOP + CHART_HEIGHT + 22, i ? "end" : "start");
        show_xml_text(out, names[i ? count - 1 : 0], 60);
        fprintf(out, "</text>\n");
    }
    fprintf(out, "</svg><div class=\"key\">");
    for (unsigned k = 0; k < CHART_LINES; k++)
        fprintf(out, "<span><i class=\"c%u\"></i>%s</span>", lines[k].color, lines[k].label);
    fprintf(out, "</div></div>\n");
}
