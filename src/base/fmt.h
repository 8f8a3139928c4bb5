/*
 * Formatted text without stdio: into a buffer, or through a buffer into a writer.
 *
 * Rules:
 *  1. Nothing here allocates, locks, reads the locale or touches errno, so all of it may run inside
 *     malloc, in a signal handler and before libc has started.
 *  2. The conversions are %s %c %d %i %u %x %p %%, with the lengths l, ll, z and j, the flags '-'
 *     and '0', a width, and a precision for %s; width and precision may be '*'. Anything else is
 *     copied as it stands.
 *  3. Errors stick: after the first failed write the rest of the text is dropped, and fmt_end tells
 *     why.
 */
#ifndef ASH_FMT_H
#define ASH_FMT_H

#include "base/base.h"

#include <stdarg.h>

/* Takes `n` bytes; 0, or a negative errno. */
typedef int fmt_write(void *ctx, const char *s, size_t n);

struct fmt {
    char *buf;
    size_t cap;       /* at least 1 */
    size_t len;       /* bytes in buf, not yet written */
    fmt_write *write; /* NULL: the text stays in buf and is cut at cap - 1 */
    void *ctx;
    int failed; /* 0, or the first error */
};

void fmt_init(struct fmt *f, char *buf, size_t cap, fmt_write *write, void *ctx);

/*
 * Ends the text: writes what is left, or sets the closing NUL where there is no writer. Returns 0,
 * the first write error, or -EOVERFLOW when the text was cut.
 */
int fmt_end(struct fmt *f);

void fmt_put(struct fmt *f, const char *s, size_t n);
void fmt_pad(struct fmt *f, char c, size_t n);
void fmt_printf(struct fmt *f, const char *format, ...) ASH_PRINTF(2, 3);
void fmt_vprintf(struct fmt *f, const char *format, va_list args) ASH_PRINTF(2, 0);

/* Formats into `out`, NUL included, cut at `cap`; returns the length. */
size_t fmt_text(char *out, size_t cap, const char *format, ...) ASH_PRINTF(3, 4);

/* Numbers as people read them, at most 15 characters: */
void fmt_bytes_text(char out[16], uint64_t n); /* 64 B, 1.5 KiB, 12.0 MiB */
void fmt_count_text(char out[16], uint64_t n); /* 1,234 and, from ten million on, 12.3 M */
void fmt_time_text(char out[16], uint64_t ns); /* 850 ns, 12.3 us, 4.5 ms, 1.2 s */

/* The same as values, with room for a word behind them. */
struct fmt_number {
    char s[24];
};

struct fmt_number fmt_bytes(uint64_t n);
struct fmt_number fmt_count(uint64_t n);

#endif
