/* The results as text: for a terminal, as Markdown, as JSON. */
#include "compare.h"

#include "show.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#define BOLD  "\033[1m"
#define GREEN "\033[32m"
#define RED   "\033[31m"
#define DIM   "\033[2m"
#define PLAIN "\033[0m"

enum { TITLE_LETTERS = 200 };

/* Of the whole name and version, what fits. */
static void title_of(char *to, size_t size, const struct contestant *c)
{
    snprintf(to, size, "%s%s%.12s", c->name, c->version[0] != '\0' ? " " : "", c->version);
}

/* "0.94 (0.93 to 0.95)", "same" where no difference was shown. */
static void ratio_text(char *to, size_t size, const struct ratio *r)
{
    if (!r->known)
        snprintf(to, size, "%.2f", r->median);
    else if (r->differs)
        snprintf(to, size, "%.2f (%.2f to %.2f)", r->median, r->low, r->high);
    else
        snprintf(to, size, "same (%.2f to %.2f)", r->low, r->high);
}

static const char *ratio_colour(const struct ratio *r, bool colours)
{
    if (!colours)
        return "";
    return !r->differs ? DIM : r->median < 1 ? GREEN : RED;
}

/* One metric: lowest, median, spread, and the ratio. */
static void print_metric(FILE *to, const struct results *r, enum metric m, const char *what)
{
    bool colours = show_colours(to);
    size_t best = figures_best(r, m);
    fprintf(to, "\n  %-24s %11s %11s %7s  %s\n", what, "lowest", "median", "spread",
            r->all->count > 1 ? "against the first" : "");
    for (size_t i = 0; i < r->all->count; i++) {
        char title[64], low[16], median[16], text[64] = "";
        if (!figures_takes_part(r, i))
            continue;
        struct spread s = figures_of(r, i, m);
        struct ratio ratio = figures_ratio(r, i, m);
        title_of(title, sizeof title, &r->all->one[i]);
        figures_text(low, m, s.min);
        figures_text(median, m, s.median);
        if (i > 0)
            ratio_text(text, sizeof text, &ratio);
        const char *colour = i > 0 ? ratio_colour(&ratio, colours) : "";
        fprintf(to, "%s%s %-24s %11s %11s %5.0f %%  %s%s%s%s\n", colours && i == best ? BOLD : "",
                i == best && r->all->count > 1 ? "*" : " ", title, low, median,
                s.median > 0 ? 100 * (s.max - s.min) / s.median : 0, colour, text,
                colours ? PLAIN : "", "");
    }
}

/* What is counted rather than measured: medians alone. */
static void print_counts(FILE *to, const struct results *r)
{
    static const enum metric shown[] = {METRIC_CPU, METRIC_FAULTS, METRIC_MAJOR, METRIC_SWITCHES};
    fprintf(to, "\n  %-24s %11s %11s %11s %11s\n", "medians", "CPU", "faults", "major", "switches");
    for (size_t i = 0; i < r->all->count; i++) {
        char title[64];
        if (!figures_takes_part(r, i))
            continue;
        title_of(title, sizeof title, &r->all->one[i]);
        fprintf(to, "  %-24s", title);
        for (size_t k = 0; k < sizeof shown / sizeof shown[0]; k++) {
            char text[16];
            figures_text(text, shown[k], figures_of(r, i, shown[k]).median);
            fprintf(to, " %11s", text);
        }
        fputc('\n', to);
    }
}

/* What is said may name files and programs, whose names may hold anything. */
static void print_note(FILE *to, const char *mark, const char *name, const char *note,
                       const char *after)
{
    fprintf(to, "%s%s%s", mark, name, *name != '\0' ? ": " : "");
    show_text(to, note, SIZE_MAX);
    fprintf(to, "%s\n", after);
}

/* Remarks, one a line, each with `mark` in front. */
static void print_notes(FILE *to, const struct results *r, const char *mark)
{
    const struct check *c = r->check;
    if (c->remark[0] != '\0')
        print_note(to, mark, "", c->remark, "");
    for (size_t i = 0; i < r->all->count; i++)
        if (c->note[i][0] != '\0')
            print_note(to, mark, r->all->one[i].name, c->note[i],
                       c->left_out[i] ? " (left out)" : "");
    if (r->rounds < 6)
        fprintf(to, "%s%zu round%s: too few to tell a difference from noise; -n 6 is the least\n",
                mark, r->rounds, r->rounds == 1 ? "" : "s");
    else
        fprintf(to,
                "%ssame: no difference was shown. In brackets: where the ratio lies, 95 %% sure\n",
                mark);
    if (!r->traced)
        fprintf(to, "%speak RSS: of the largest single process; others of the command not added\n",
                mark);
}

static const char *time_title(const struct results *r)
{
    return r->traced ? "time a call" : "wall";
}

static const char *memory_title(const struct results *r)
{
    return r->traced ? "peak of the blocks" : "peak RSS";
}

static void print_heading(FILE *to, const struct results *r, const char *before, const char *after)
{
    fputs(before, to);
    show_text(to, r->subject->title, TITLE_LETTERS);
    fprintf(to, "%s: %zu round%s in rotation, %zu to warm up%s\n", after, r->rounds,
            r->rounds == 1 ? "" : "s", r->warmups, r->interrupted ? ", interrupted" : "");
}

void table_print(FILE *to, const struct results *r)
{
    print_heading(to, r, "", "");
    if (r->rounds != 0) {
        print_metric(to, r, figures_time(r), time_title(r));
        print_metric(to, r, figures_memory(r), memory_title(r));
        print_counts(to, r);
    }
    fputc('\n', to);
    print_notes(to, r, "  ");
}

/* ---- Markdown ---- */

static void markdown_cell(FILE *to, const struct results *r, size_t i, enum metric m, bool ratio)
{
    char text[64];
    struct ratio against = figures_ratio(r, i, m);
    figures_text(text, m, figures_of(r, i, m).median);
    const char *mark = r->all->count > 1 && ratio && i == figures_best(r, m) ? "**" : "";
    fprintf(to, " %s%s%s |", mark, text, mark);
    if (!ratio)
        return;
    ratio_text(text, sizeof text, &against);
    fprintf(to, " %s |", i == 0 ? "1" : text);
}

void table_markdown(FILE *to, const struct results *r)
{
    print_heading(to, r, "`", "`");
    if (r->rounds != 0) {
        fprintf(to,
                "\n| medians | %s | against %s | %s | against %s | CPU | faults | switches |\n"
                "|---|--:|--:|--:|--:|--:|--:|--:|\n",
                time_title(r), r->all->one[0].name, memory_title(r), r->all->one[0].name);
        for (size_t i = 0; i < r->all->count; i++) {
            char title[64];
            if (!figures_takes_part(r, i))
                continue;
            title_of(title, sizeof title, &r->all->one[i]);
            fprintf(to, "| %s |", title);
            markdown_cell(to, r, i, figures_time(r), true);
            markdown_cell(to, r, i, figures_memory(r), true);
            markdown_cell(to, r, i, METRIC_CPU, false);
            markdown_cell(to, r, i, METRIC_FAULTS, false);
            markdown_cell(to, r, i, METRIC_SWITCHES, false);
            fputc('\n', to);
        }
    }
    fputc('\n', to);
    print_notes(to, r, "- ");
}

/* ---- JSON ---- */

static void json_number(FILE *to, double v)
{
    if (v == floor(v) && fabs(v) < 1e15)
        fprintf(to, "%.0f", v);
    else
        fprintf(to, "%.6g", v);
}

static void json_metric(FILE *to, const struct results *r, size_t i, enum metric m)
{
    struct spread s = figures_of(r, i, m);
    struct ratio ratio = figures_ratio(r, i, m);
    const double values[] = {s.min, s.median, s.max, ratio.median, ratio.low, ratio.high};
    static const char *const names[] = {"min", "median", "max", "ratio", "ratio_low", "ratio_high"};
    fprintf(to, "{");
    for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
        fprintf(to, "\"%s\": ", names[k]);
        json_number(to, values[k]);
        fputs(", ", to);
    }
    fprintf(to, "\"differs\": %s, \"samples\": [", ratio.differs ? "true" : "false");
    for (size_t k = 0; k < r->rounds; k++) {
        fputs(k > 0 ? ", " : "", to);
        json_number(to, r->samples[k * r->all->count + i].value[m]);
    }
    fputs("]}", to);
}

static void json_contestant(FILE *to, const struct results *r, size_t i)
{
    const struct contestant *c = &r->all->one[i];
    fputs("    {\"name\": ", to);
    show_json_text(to, c->name);
    fputs(", \"version\": ", to);
    show_json_text(to, c->version);
    fputs(", \"library\": ", to);
    show_json_text(to, c->library);
    fprintf(to, ",\n     \"left_out\": %s, \"failed\": %s, \"note\": ",
            r->check->left_out[i] ? "true" : "false",
            r->check->failed[i] || r->failed[i] ? "true" : "false");
    show_json_text(to, r->check->note[i]);
    for (int m = 0; m < METRICS && figures_takes_part(r, i) && r->rounds != 0; m++) {
        if ((m == METRIC_CALL || m == METRIC_LIVE) && !r->traced)
            continue;
        fprintf(to, ",\n     \"%s\": ", metric_names[m]);
        json_metric(to, r, i, (enum metric)m);
    }
    fputs("}", to);
}

void table_json(FILE *to, const struct results *r)
{
    fputs("{\n  \"command\": [", to);
    for (char **word = r->subject->command; *word != NULL; word++) {
        fputs(word != r->subject->command ? ", " : "", to);
        show_json_text(to, *word);
    }
    fprintf(to, "],\n  \"rounds\": %zu,\n  \"interrupted\": %s,\n  \"processors\": %ld,\n",
            r->rounds, r->interrupted ? "true" : "false", sysconf(_SC_NPROCESSORS_ONLN));
    fputs("  \"remark\": ", to);
    show_json_text(to, r->check->remark);
    fputs(",\n  \"allocators\": [\n", to);
    for (size_t i = 0; i < r->all->count; i++) {
        json_contestant(to, r, i);
        fputs(i + 1 < r->all->count ? ",\n" : "\n", to);
    }
    fputs("  ]\n}\n", to);
}
