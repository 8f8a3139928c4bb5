/*
 * The results as a picture: time and memory as bars, the lowest and the highest run as a whisker.
 * It has its own colours for light and for dark pages and needs nothing else.
 */
#include "compare.h"

#include "show.h"

enum {
    MARGIN = 24,
    HEAD = 70,
    NAMES_WIDTH = 128,
    BAR_WIDTH = 220,
    TEXT_WIDTH = 132,
    CHART_WIDTH = NAMES_WIDTH + BAR_WIDTH + TEXT_WIDTH,
    BAR = 16,
    STEP = 26,
    TITLE = 30,
    TITLE_LETTERS = 84
};

static const char style[] =
    ".page{fill:#fff;stroke:#d8dee4}.t{fill:#1f2328}.s{fill:#59636e}.axis{stroke:#d8dee4}"
    ".k0{fill:#8c959f}.k1{fill:#0b62d6}.k2{fill:#c9762b}.w{stroke:#1f2328;stroke-opacity:.55}"
    "text{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}"
    ".h{font-size:17px;font-weight:600}.n{font-size:13px;font-weight:600}.b{font-weight:600}"
    "@media(prefers-color-scheme:dark){.page{fill:#0d1117;stroke:#30363d}.t{fill:#e6edf3}"
    ".s{fill:#9198a1}.axis{stroke:#30363d}.k0{fill:#768390}.k1{fill:#4493f8}.k2{fill:#d98c45}"
    ".w{stroke:#e6edf3}}";

static void text(FILE *to, double x, double y, const char *classes, const char *anchor,
                 const char *words)
{
    fprintf(to, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\" text-anchor=\"%s\">", x, y, classes,
            anchor);
    show_xml_text(to, words, SIZE_MAX);
    fputs("</text>\n", to);
}

static void bar(FILE *to, const struct results *r, size_t i, enum metric m, double x, double y,
                double scale)
{
    char value[16], words[64];
    const struct contestant *c = &r->all->one[i];
    struct spread s = figures_of(r, i, m);
    struct ratio ratio = figures_ratio(r, i, m);
    double middle = y + BAR / 2.0, low = x + s.min * scale, high = x + s.max * scale;
    bool best = i == figures_best(r, m) && r->all->count > 1;
    snprintf(words, sizeof words, "%s %.10s", c->name, c->version);
    text(to, x - 8, middle + 4, best ? "t b" : "t", "end", words);
    fprintf(to,
            "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\" class=\"k%d\"/>\n",
            x, y, s.median * scale, BAR, (int)c->kind);
    fprintf(to, "<path class=\"w\" d=\"M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6\"/>\n", low, middle,
            high, low, middle - 3, high, middle - 3);
    figures_text(value, m, s.median);
    if (i == 0)
        snprintf(words, sizeof words, "%s", value);
    else
        snprintf(words, sizeof words, "%s, %.2f%s", value, ratio.median,
                 ratio.known && !ratio.differs ? " \xE2\x89\x88" : "");
    text(to, high + 8, middle + 4, best ? "t b" : "s", "start", words);
}

static void chart(FILE *to, const struct results *r, enum metric m, double x, const char *title)
{
    double most = 0;
    for (size_t i = 0; i < r->all->count; i++)
        if (figures_takes_part(r, i) && figures_of(r, i, m).max > most)
            most = figures_of(r, i, m).max;
    double scale = most > 0 ? BAR_WIDTH / most : 0, left = x + NAMES_WIDTH, y = HEAD + TITLE;
    text(to, left, HEAD + 16, "t n", "start", title);
    for (size_t i = 0; i < r->all->count; i++) {
        if (!figures_takes_part(r, i))
            continue;
        bar(to, r, i, m, left, y, scale);
        y += STEP;
    }
    fprintf(to, "<path class=\"axis\" d=\"M%.1f %dV%.1f\"/>\n", left - 0.5, HEAD + TITLE - 5,
            y - STEP + BAR + 5);
}

void svg_print(FILE *to, const struct results *r)
{
    size_t rows = 0;
    char words[200];
    for (size_t i = 0; i < r->all->count; i++)
        rows += figures_takes_part(r, i);
    int width = 2 * MARGIN + 2 * CHART_WIDTH;
    int height = HEAD + TITLE + (int)rows * STEP + MARGIN;
    fprintf(to,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"ashlar compare\">\n<style>%s</style>\n"
            "<rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n",
            width, height, width, height, style, width - 1, height - 1);
    fprintf(to, "<text x=\"%d\" y=\"36\" class=\"t h\">", MARGIN);
    show_xml_text(to, r->subject->title, TITLE_LETTERS);
    fputs("</text>\n", to);
    snprintf(words, sizeof words,
             "medians of %zu runs in rotation, lowest and highest marked; ratios to %s; "
             "\xE2\x89\x88: no difference shown",
             r->rounds, r->all->one[0].name);
    text(to, MARGIN, 56, "s", "start", words);
    chart(to, r, figures_time(r), MARGIN, r->traced ? "time a call" : "wall time");
    chart(to, r, figures_memory(r), MARGIN + CHART_WIDTH,
          r->traced ? "peak memory of the blocks" : "peak RSS");
    fputs("</svg>\n", to);
}
