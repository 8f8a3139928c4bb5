#include "canvas.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const sequences[STYLES] = {
    [STYLE_PLAIN] = "\033[0m",     [STYLE_TITLE] = "\033[0;7m",  [STYLE_HEAD] = "\033[0;1m",
    [STYLE_DIM] = "\033[0;2m",     [STYLE_GREEN] = "\033[0;32m", [STYLE_CYAN] = "\033[0;36m",
    [STYLE_YELLOW] = "\033[0;33m", [STYLE_BLUE] = "\033[0;34m",  [STYLE_MAGENTA] = "\033[0;35m",
    [STYLE_RED] = "\033[0;1;31m",
};

enum { SEQUENCE_MAX = 12 };

bool canvas_create(struct canvas *c, int rows, int columns, bool utf8)
{
    *c = (struct canvas){.rows = rows < 1 ? 1 : rows, .columns = columns < 1 ? 1 : columns};
    c->utf8 = utf8;
    c->cell = calloc((size_t)c->rows * (size_t)c->columns, sizeof *c->cell);
    return c->cell != NULL;
}

void canvas_destroy(struct canvas *c)
{
    free(c->cell);
}

static void put(struct canvas *c, int row, int column, enum style style, const char *glyph)
{
    if (row < 0 || row >= c->rows || column < 0 || column >= c->columns)
        return;
    struct cell *cell = &c->cell[(size_t)row * (size_t)c->columns + (size_t)column];
    cell->style = (unsigned char)style;
    size_t n = strlen(glyph);
    memset(cell->glyph, 0, sizeof cell->glyph);
    memcpy(cell->glyph, glyph, n < sizeof cell->glyph ? n : sizeof cell->glyph);
}

int canvas_text(struct canvas *c, int row, int column, enum style style, const char *text)
{
    for (; *text != '\0'; text++, column++)
        put(c, row, column, style, (char[]){*text < ' ' || *text > '~' ? '?' : *text, '\0'});
    return column;
}

int canvas_print(struct canvas *c, int row, int column, enum style style, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return canvas_text(c, row, column, style, text);
}

void canvas_right(struct canvas *c, int row, int end, enum style style, const char *text)
{
    canvas_text(c, row, end - (int)strlen(text), style, text);
}

void canvas_paint(struct canvas *c, int row, int column, int n, enum style style)
{
    for (int i = column < 0 ? 0 : column; row < c->rows && i < column + n && i < c->columns; i++)
        c->cell[(size_t)row * (size_t)c->columns + (size_t)i].style = (unsigned char)style;
}

/* `part` of `whole` in units of which the whole has `units`; anything is 1 at least. */
static int scaled(uint64_t part, uint64_t whole, int units)
{
    if (part == 0 || whole == 0)
        return 0;
    double n = (double)part / (double)whole * units;
    return n >= units ? units : n < 1 ? 1 : (int)n;
}

void canvas_bar(struct canvas *c, int row, int column, int width, enum style style, uint64_t part,
                uint64_t whole)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int n = scaled(part, whole, width * 8);
    for (int i = 0; i < n / 8; i++)
        put(c, row, column + i, style, c->utf8 ? "█" : "#");
    if (c->utf8 && n % 8 != 0)
        put(c, row, column + n / 8, style, eighths[n % 8]);
    else if (n != 0 && n < 8)
        put(c, row, column, style, "#");
}

void canvas_shade(struct canvas *c, int row, int column, int n, enum style style, int shade)
{
    static const char *const blocks[] = {"█", "▓", "▒", "░", "▚", "·"};
    static const char *const letters[] = {"#", "+", "%", "=", "-", "."};
    for (int i = 0; i < n; i++)
        put(c, row, column + i, style, (c->utf8 ? blocks : letters)[shade]);
}

void canvas_history(struct canvas *c, int row, int column, int width, enum style style,
                    const uint64_t *values, int n)
{
    static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const letters[] = {"_", "_", ".", "-", "-", "=", "*", "#"};
    int from = n > width ? n - width : 0;
    uint64_t most = 0;
    for (int i = from; i < n; i++)
        most = values[i] > most ? values[i] : most;
    for (int i = from; i < n; i++) {
        int height = scaled(values[i], most, 8);
        put(c, row, column + width - (n - i), style,
            (c->utf8 ? blocks : letters)[height > 0 ? height - 1 : 0]);
    }
}

/* The columns of a row up to its last cell that shows something. */
static int used_columns(const struct canvas *c, const struct cell *row, bool colours)
{
    int n = c->columns;
    while (n > 0 && (row[n - 1].glyph[0] == '\0' || row[n - 1].glyph[0] == ' ') &&
           !(colours && row[n - 1].style == STYLE_TITLE))
        n--;
    return n;
}

char *canvas_render(const struct canvas *c, bool colours, const char *end, size_t *length)
{
    size_t line = (size_t)c->columns * (sizeof c->cell->glyph + SEQUENCE_MAX) + SEQUENCE_MAX;
    char *text = malloc((size_t)c->rows * (line + strlen(end)) + 1), *out = text;
    if (text == NULL)
        return NULL;
    for (int r = 0; r < c->rows; r++) {
        const struct cell *row = &c->cell[(size_t)r * (size_t)c->columns];
        int style = STYLE_PLAIN, n = used_columns(c, row, colours);
        for (int i = 0; i < n; i++) {
            if (colours && row[i].style != style)
                out = stpcpy(out, sequences[style = row[i].style]);
            size_t k = strnlen(row[i].glyph, sizeof row[i].glyph);
            memcpy(out, k > 0 ? row[i].glyph : " ", k > 0 ? k : 1);
            out += k > 0 ? k : 1;
        }
        if (style != STYLE_PLAIN)
            out = stpcpy(out, sequences[STYLE_PLAIN]);
        out = stpcpy(out, end);
    }
    *out = '\0';
    *length = (size_t)(out - text);
    return text;
}
