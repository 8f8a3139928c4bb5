/*
 * From top to bottom: who, the three figures that move with their history, where the memory is, the
 * things that have names, and the size classes, which take the lines that are left. What does not
 * fit is left out from the right and from below.
 */
#include "draw.h"

#include "base/fmt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fmt_number rate(uint64_t n)
{
    struct fmt_number t = fmt_count(n);
    strcat(t.s, "/s");
    return t;
}

static struct fmt_number permille(unsigned n)
{
    struct fmt_number t;
    snprintf(t.s, sizeof t.s, "%u.%u %%", n / 10 % 1000, n % 10);
    return t;
}

static uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

void draw_time(char out[24], uint64_t ms)
{
    uint64_t s = ms / 1000, m = s / 60, h = m / 60;
    if (h >= 24)
        snprintf(out, 24, "%u d %u h", (unsigned)(h / 24), (unsigned)(h % 24));
    else if (h > 0)
        snprintf(out, 24, "%u h %u min", (unsigned)h, (unsigned)(m % 60));
    else if (m > 0)
        snprintf(out, 24, "%u min %u s", (unsigned)m, (unsigned)(s % 60));
    else
        snprintf(out, 24, "%u s", (unsigned)s);
}

void history_add(struct history *h, const struct sample *before, const struct sample *now)
{
    uint64_t *const rows[] = {h->live, h->rss, h->rate};
    const uint64_t values[] = {now->total.live_bytes, now->usage.rss, sample_rate(before, now)};
    bool full = h->n == HISTORY;
    for (size_t i = 0; i < ASH_COUNT(rows); i++) {
        if (full)
            memmove(rows[i], rows[i] + 1, (HISTORY - 1) * sizeof rows[i][0]);
        rows[i][full ? HISTORY - 1 : h->n] = values[i];
    }
    h->n += !full;
}

/* ---- who ---- */

static void draw_title(struct canvas *c, const struct view *v)
{
    char age[24];
    draw_time(age, v->now->usage.age_ms);
    canvas_paint(c, 0, 0, c->columns, STYLE_TITLE);
    int at = canvas_print(c, 0, 0, STYLE_TITLE, " %s ", v->target->name);
    at = canvas_print(c, 0, at, STYLE_TITLE, " pid %d   up %s   %u thread%s", v->target->pid, age,
                      v->now->usage.threads, v->now->usage.threads == 1 ? "" : "s");
    const char *state = v->ended ? " ENDED " : v->paused ? " PAUSED " : " ? help  q quit ";
    if (v->screen && (at + (int)strlen(state) <= c->columns || v->paused))
        canvas_right(c, 0, c->columns, STYLE_TITLE, state);
}

/* ---- what moves ---- */

enum { GAUGE_NAME = 8, GAUGE_VALUE = 14 };

static void draw_gauge(struct canvas *c, int row, const char *name, enum style style,
                       const char *value, const char *aside, const uint64_t *values, int n)
{
    int width = c->columns - 2 - GAUGE_NAME - GAUGE_VALUE - 28;
    canvas_text(c, row, 1, STYLE_HEAD, name);
    canvas_right(c, row, 1 + GAUGE_NAME + GAUGE_VALUE, style, value);
    canvas_text(c, row, 3 + GAUGE_NAME + GAUGE_VALUE, STYLE_DIM, aside);
    if (width >= 8 && n > 2)
        canvas_history(c, row, c->columns - 1 - width, width, style, values, n);
}

static int draw_gauges(struct canvas *c, const struct view *v, int row)
{
    const struct ash_stats *t = &v->now->total;
    char live[64], rss[64], hits[64];
    snprintf(live, sizeof live, "%s blocks", fmt_count(t->live_blocks).s);
    rss[0] = '\0';
    if (v->now->usage.swap > 0)
        snprintf(rss, sizeof rss, "and %s swapped", fmt_bytes(v->now->usage.swap).s);
    else if (t->limit_bytes > 0)
        snprintf(rss, sizeof rss, "limit %s, hit %s", fmt_bytes(t->limit_bytes).s,
                 fmt_count(t->limit_hits).s);
    snprintf(hits, sizeof hits, "%s hits", permille(sample_hits(v->before, v->now)).s);
    draw_gauge(c, row, "live", STYLE_GREEN, fmt_bytes(t->live_bytes).s, live, v->history.live,
               v->history.n);
    draw_gauge(c, row + 1, "rss", STYLE_MAGENTA, fmt_bytes(v->now->usage.rss).s, rss,
               v->history.rss, v->history.n);
    draw_gauge(c, row + 2, "allocs", STYLE_CYAN, rate(sample_rate(v->before, v->now)).s, hits,
               v->history.rate, v->history.n);
    return row + 3;
}

/* ---- where the memory is ---- */

struct share {
    const char *name;
    enum style style;
    uint64_t n;
};

enum { SHARES = 6 };

static void shares_of(const struct ash_stats *t, struct share out[SHARES])
{
    uint64_t known = t->live_bytes + t->cached_bytes + t->slab_free_bytes;
    const struct share all[SHARES] = {
        {"live", STYLE_GREEN, t->live_bytes},
        {"cached", STYLE_CYAN, t->cached_bytes},
        {"fragmented", STYLE_YELLOW, t->slab_free_bytes},
        {"unpurged", STYLE_BLUE, t->dirty_bytes},
        {"slab ends", STYLE_DIM, minus(t->used_bytes, known)},
        {"records", STYLE_DIM, t->meta_bytes},
    };
    memcpy(out, all, sizeof all);
}

/* The bar of all, then its parts by name; those that do not fit a line go on the next. */
static int draw_memory(struct canvas *c, const struct view *v, int row)
{
    const struct ash_stats *t = &v->now->total;
    struct share share[SHARES];
    uint64_t held = 0, before = 0;
    int width = c->columns - 2, at = 1;
    shares_of(t, share);
    for (int i = 0; i < SHARES; i++)
        held += share[i].n;
    int end = canvas_print(c, row, 1, STYLE_HEAD, "memory held %s", fmt_bytes(held).s);
    char aside[160];
    snprintf(aside, sizeof aside, "peak %s   returned %s in %s purges", fmt_bytes(t->peak_bytes).s,
             fmt_bytes(t->purged_bytes).s, fmt_count(t->purges).s);
    if (end + 3 + (int)strlen(aside) < c->columns)
        canvas_right(c, row, c->columns - 1, STYLE_DIM, aside);
    for (int i = 0; i < SHARES && held > 0; i++) {
        int from = (int)((double)before / (double)held * width);
        int to = (int)((double)(before + share[i].n) / (double)held * width);
        canvas_shade(c, row + 1, 1 + from, to - from, share[i].style, i);
        before += share[i].n;
    }
    row += 2;
    for (int i = 0; i < SHARES; i++) {
        struct fmt_number n = fmt_bytes(share[i].n);
        int length = 2 + (int)strlen(share[i].name) + 1 + (int)strlen(n.s) + 2;
        if (at + length > c->columns && at > 1) {
            row++;
            at = 1;
        }
        canvas_shade(c, row, at, 1, share[i].style, i);
        canvas_print(c, row, at + 2, STYLE_PLAIN, "%s %s", share[i].name, n.s);
        at += length;
    }
    return row + 1;
}

/* ---- named things ---- */

static struct fmt_number value(enum stat_unit unit, uint64_t n)
{
    struct fmt_number t;
    if (unit != STAT_NS)
        return unit == STAT_BYTES ? fmt_bytes(n) : fmt_count(n);
    char time[16];
    fmt_time_text(time, n);
    snprintf(t.s, sizeof t.s, "%s", time);
    return t;
}

enum { THING_NAME = 20, THING_COLUMN = 12 };

static int column_width(const struct sample_kind *k, size_t i)
{
    int n = (int)strlen(k->column[i]) + 2;
    return n > THING_COLUMN ? n : THING_COLUMN;
}

/* One column of a table of things, ended at `end`. */
static void draw_column(struct canvas *c, const struct sample_kind *k, size_t i, int row, int rows,
                        int end)
{
    canvas_right(c, row, end, STYLE_HEAD, k->column[i]);
    for (int r = 0; r < rows; r++)
        canvas_right(c, row + 1 + r, end, STYLE_PLAIN, value(k->unit[i], k->row[r].values[i]).s);
}

/* What there is comes before what was counted, as far as columns go. */
static int draw_kind(struct canvas *c, const struct sample_kind *k, int row, int lines)
{
    int name = c->columns < 60 ? 12 : THING_NAME, at = 1 + name;
    int shown = (int)k->rows < lines - 1 ? (int)k->rows : lines - 1;
    int end = canvas_print(c, row, 1, STYLE_HEAD, "%.*s", name - 1, k->plural);
    if (shown < (int)k->all)
        canvas_print(c, row, end, STYLE_DIM, " %d of %zu", shown, k->all);
    for (int r = 0; r < shown; r++)
        canvas_print(c, row + 1 + r, 1, STYLE_PLAIN, "%.*s", name - 1, k->row[r].name);
    for (size_t pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < k->count; i++)
            if ((k->kind[i] == STAT_GAUGE) == (pass == 0) && at + column_width(k, i) < c->columns) {
                at += column_width(k, i);
                draw_column(c, k, i, row, shown, at);
            }
    return row + 1 + shown;
}

/* Each kind has two lines at least, as far as there are `lines`; the first ones take the others. */
static int draw_kinds(struct canvas *c, const struct view *v, int row, int lines)
{
    int kinds = 0, end = row + lines;
    for (size_t i = 0; i < v->now->kinds; i++)
        kinds += v->now->kind[i].rows > 0;
    for (size_t i = 0; i < v->now->kinds && end - row >= 2; i++)
        if (v->now->kind[i].rows > 0) {
            int room = end - row - 2 * --kinds;
            row = draw_kind(c, &v->now->kind[i], row, room > 2 ? room : 2);
        }
    return row;
}

/* ---- size classes ---- */

struct line {
    const char *name; /* NULL: by its size */
    uint64_t size, live, bytes, rate;
    unsigned hits, waste; /* thousandths */
    bool large;
};

static enum draw_sort sort_by;

static int compare_lines(const void *left, const void *right)
{
    const struct line *a = left, *b = right;
    uint64_t x = sort_by == DRAW_RATE ? a->rate : a->bytes;
    uint64_t y = sort_by == DRAW_RATE ? b->rate : b->bytes;
    if (x != y)
        return x < y ? 1 : -1;
    return a->size < b->size ? -1 : a->size > b->size;
}

static const struct ash_class_stats *class_before(const struct view *v, size_t size)
{
    for (size_t i = 0; i < v->before->classes; i++)
        if (v->before->class[i].size == size)
            return &v->before->class[i];
    return NULL;
}

static uint64_t per_second(const struct view *v, uint64_t was, uint64_t is)
{
    uint64_t ns = v->now->at_ns - v->before->at_ns;
    return ns == 0 ? 0 : (uint64_t)((double)minus(is, was) * 1e9 / (double)ns);
}

static unsigned part(uint64_t n, uint64_t of)
{
    return of == 0 ? 0 : (unsigned)((double)(n < of ? n : of) / (double)of * 1000);
}

static size_t lines_of(const struct view *v, struct line *out)
{
    const struct sample *s = v->now;
    static const struct ash_class_stats none;
    uint64_t large_was = v->before->total.misses, large = s->total.misses;
    for (size_t i = 0; i < s->classes; i++) {
        const struct ash_class_stats *is = &s->class[i], *was = class_before(v, is->size);
        was = was != NULL ? was : &none;
        large = minus(large, is->misses);
        large_was = minus(large_was, was->misses);
        out[i] = (struct line){
            .size = is->size,
            .live = is->live,
            .bytes = is->live * is->size,
            .rate = per_second(v, was->hits + was->misses, is->hits + is->misses),
            .hits = part(is->hits, is->hits + is->misses),
            .waste = part(minus(is->capacity, is->live), is->capacity),
        };
    }
    out[s->classes] = (struct line){.name = "large",
                                    .size = UINT64_MAX,
                                    .live = s->total.large_live_blocks,
                                    .bytes = s->total.large_live_bytes,
                                    .rate = per_second(v, large_was, large),
                                    .large = true};
    return s->classes + 1;
}

/* Those that end outside the page are left out. */
static const struct {
    const char *text;
    int width;
} heads[] = {{"class", 10},  {"live", 11}, {"blocks", 12},
             {"allocs", 13}, {"hits", 8},  {"waste", 9}};

static void draw_line(struct canvas *c, int row, const struct line *l, uint64_t most)
{
    const struct fmt_number texts[] = {l->name != NULL ? (struct fmt_number){"large"}
                                                       : fmt_count(l->size),
                                       fmt_bytes(l->bytes),
                                       fmt_count(l->live),
                                       rate(l->rate),
                                       l->large ? (struct fmt_number){"-"} : permille(l->hits),
                                       l->large ? (struct fmt_number){"-"} : permille(l->waste)};
    int at = 0;
    for (size_t i = 0; i < ASH_COUNT(heads) && at + heads[i].width <= c->columns; i++) {
        bool loud = i == 5 && l->waste > 500 && !l->large;
        canvas_right(c, row, at += heads[i].width, loud ? STYLE_YELLOW : STYLE_PLAIN, texts[i].s);
    }
    if (c->columns - at - 3 >= 6)
        canvas_bar(c, row, at + 2, c->columns - at - 3,
                   sort_by == DRAW_RATE ? STYLE_CYAN : STYLE_GREEN,
                   sort_by == DRAW_RATE ? l->rate : l->bytes, most);
}

static void draw_classes(struct canvas *c, const struct view *v, int row)
{
    struct line line[SAMPLE_CLASSES + 1];
    size_t n = lines_of(v, line);
    sort_by = v->sort;
    qsort(line, n, sizeof line[0], compare_lines);
    int at = 0;
    for (size_t i = 0; i < ASH_COUNT(heads) && at + heads[i].width <= c->columns; i++) {
        bool sorted = i == (v->sort == DRAW_RATE ? 3u : 1u);
        canvas_right(c, row, at += heads[i].width, sorted ? STYLE_GREEN : STYLE_HEAD,
                     heads[i].text);
    }
    uint64_t most = v->sort == DRAW_RATE ? line[0].rate : line[0].bytes;
    for (size_t i = 0; i < n && row + 1 + (int)i < c->rows; i++)
        draw_line(c, row + 1 + (int)i, &line[i], most);
}

static void draw_help(struct canvas *c, const struct view *v, int row)
{
    static const char *const text[] = {
        "q        quit",
        "s        sort classes by live bytes or by allocations a second",
        "space    hold the picture, or let it go on",
        "+ -      look less often, or more often",
        "?        this, and back",
        "",
        "live         blocks in the program's hands",
        "cached       free in threads' caches: handed out next",
        "fragmented   free beside live blocks: it returns when whole slabs are free",
        "unpurged     in no use at all: it returns by itself after ASHLAR_PURGE_MS",
        "hits         allocations served from the thread's own cache",
        "waste        the part of a class's slabs that is not live",
    };
    canvas_print(c, row, 1, STYLE_HEAD, "Every %d.%d s; keys:", v->interval_ms / 1000,
                 v->interval_ms / 100 % 10);
    for (size_t i = 0; i < ASH_COUNT(text); i++)
        canvas_text(c, row + 1 + (int)i, 3, STYLE_PLAIN, text[i]);
}

void draw_process(struct canvas *c, const struct view *v)
{
    draw_title(c, v);
    if (v->helps) {
        draw_help(c, v, 2);
        return;
    }
    bool tight = c->rows < 18;
    int row = draw_gauges(c, v, tight ? 1 : 2) + !tight;
    if (c->rows >= 10)
        row = draw_memory(c, v, row) + !tight;
    int left = c->rows - row;
    int below = draw_kinds(c, v, row, left * 2 / 3);
    draw_classes(c, v, below + (below > row));
}

/* ---- the list ---- */

void draw_list(struct canvas *c, const struct listed *all, size_t n, size_t forbidden)
{
    static const char *const titles[] = {"pid", "live", "rss", "allocs", "hits", "threads"};
    static const int widths[] = {9, 12, 12, 13, 9, 9};
    int at = 0, row = 1;
    canvas_paint(c, 0, 0, c->columns, STYLE_TITLE);
    for (size_t i = 0; i < ASH_COUNT(titles); i++)
        canvas_right(c, 0, at += widths[i], STYLE_TITLE, titles[i]);
    canvas_text(c, 0, at + 2, STYLE_TITLE, "program");
    for (size_t i = 0; i < n; i++, row++) {
        const struct listed *l = &all[i];
        char pid[16], threads[16];
        snprintf(pid, sizeof pid, "%d", l->pid);
        snprintf(threads, sizeof threads, "%u", l->threads);
        const struct fmt_number live = fmt_bytes(l->live), rss = fmt_bytes(l->rss),
                                r = rate(l->rate), hits = permille(l->hits);
        bool known = l->note[0] == '\0';
        const char *const texts[] = {
            pid, known ? live.s : "?", rss.s, known ? r.s : "?", known ? hits.s : "?", threads};
        at = 0;
        for (size_t k = 0; k < ASH_COUNT(texts); k++)
            canvas_right(c, row, at += widths[k], STYLE_PLAIN, texts[k]);
        canvas_print(c, row, at + 2, known ? STYLE_HEAD : STYLE_DIM, "%s%s%s", l->name,
                     known ? "" : ": ", l->note);
    }
    if (n == 0)
        canvas_text(c, row++, 1, STYLE_PLAIN,
                    "No process runs with Ashlar: start one with `ashlar run -- PROGRAM`");
    if (forbidden > 0)
        canvas_print(c, row + 1, 1, STYLE_DIM, "%zu process%s may not be read; run this as root",
                     forbidden, forbidden == 1 ? "" : "es");
}
