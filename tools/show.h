/* What commands show: progress on a terminal, and text in formats that quote. */
#ifndef ASHLAR_TOOLS_SHOW_H
#define ASHLAR_TOOLS_SHOW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Whether a terminal reads it that wants colours (NO_COLOR, TERM=dumb). */
bool show_colours(FILE *to);

/* A bar on standard error with the time that is left; nothing where that is no terminal. */
void show_progress(int64_t elapsed_ns, double done, const char *what);
void show_progress_end(void);

/*
 * Texts that may hold anything: what is not valid UTF-8, or controls a terminal beyond ASCII, is
 * shown as U+FFFD. At most `letters` of them, the last being dots where a text is cut.
 */

/* For a terminal or a file of text: ASCII's controls become '?'. */
void show_text(FILE *to, const char *s, size_t letters);
/* Between quotes. */
void show_json_text(FILE *to, const char *s);
/* For text and attributes of XML and HTML. */
void show_xml_text(FILE *to, const char *s, size_t letters);

/* Opens a file to write to, "-" being standard output. NULL: said why. */
FILE *show_open(const char *path);
/* False, and said, when not everything was written. */
bool show_close(FILE *to, const char *path);

#endif
