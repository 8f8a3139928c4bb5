/*
 * The terminal as a screen: its second page, without echo or line editing, put back as it was at
 * every end: of the command, by a signal, by a fault of our own, and while stopped by Ctrl-Z.
 */
#ifndef ASHLAR_TOOLS_SCREEN_H
#define ASHLAR_TOOLS_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

/* Takes the terminal of standard input and output; false: there is none. */
bool screen_open(void);

/* Puts it back. More than once is once. */
void screen_close(void);

/* Its size, else what COLUMNS and LINES say, else 80 x 24. Also without a screen. */
void screen_size(int *rows, int *columns);

/* Shows a page rendered with SCREEN_END behind its lines. */
#define SCREEN_END "\033[K\r\n"
void screen_show(const char *text, size_t length);

enum screen_event { SCREEN_TIME, SCREEN_RESIZED, SCREEN_ENDED };

/*
 * Waits for a key, at most `ms`: the key, or 0 and what happened: the time is over, the terminal
 * has another size or was away, or a signal asks us to end.
 */
int screen_key(int ms, enum screen_event *event);

/* Ends by the signal that asked us to, if one did; the screen is closed. */
void screen_obey(void);

/* Whether the environment says that it shows UTF-8. */
bool screen_has_utf8(void);

#endif
