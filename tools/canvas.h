/*
 * A page of character cells: text is put at a row and a column, cut where the page ends, and shown
 * as a whole, with colours and blocks or without. What is drawn is the same for a terminal of any
 * size, a pipe, and a test.
 */
#ifndef ASHLAR_TOOLS_CANVAS_H
#define ASHLAR_TOOLS_CANVAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum style {
    STYLE_PLAIN,
    STYLE_TITLE, /* reversed */
    STYLE_HEAD,  /* bold */
    STYLE_DIM,
    STYLE_GREEN,
    STYLE_CYAN,
    STYLE_YELLOW,
    STYLE_BLUE,
    STYLE_MAGENTA,
    STYLE_RED,
    STYLES
};

struct cell {
    char glyph[4]; /* UTF-8, not ended when all four are in use; "" is a blank */
    unsigned char style;
};

struct canvas {
    int rows, columns;
    bool utf8;
    struct cell *cell;
};

/* All blank; false: no memory. Sizes below 1 are taken for 1. */
bool canvas_create(struct canvas *c, int rows, int columns, bool utf8);
void canvas_destroy(struct canvas *c);

/*
 * ASCII text from a column on, other bytes as '?'; the column behind it. What lies outside is cut.
 */
int canvas_text(struct canvas *c, int row, int column, enum style style, const char *text);
__attribute__((format(printf, 5, 6))) int canvas_print(struct canvas *c, int row, int column,
                                                       enum style style, const char *format, ...);

/* The same, ended at a column. */
void canvas_right(struct canvas *c, int row, int end, enum style style, const char *text);

/* Gives `n` cells a style. */
void canvas_paint(struct canvas *c, int row, int column, int n, enum style style);

/* A bar `part` / `whole` of `width` cells long, in eighths where there are such glyphs. */
void canvas_bar(struct canvas *c, int row, int column, int width, enum style style, uint64_t part,
                uint64_t whole);

/* `n` cells of one shade: 0 is the densest of 6, told apart without colours too. */
void canvas_shade(struct canvas *c, int row, int column, int n, enum style style, int shade);

/* The last `n` of values as a line of `width` cells, the newest at its right end. */
void canvas_history(struct canvas *c, int row, int column, int width, enum style style,
                    const uint64_t *values, int n);

/*
 * The page as text: with the terminal's sequences for styles, or without; each line without blanks
 * at its end, and then `end`. malloc'd; NULL: no memory.
 */
char *canvas_render(const struct canvas *c, bool colours, const char *end, size_t *length);

#endif
