/*
 * base/fmt against snprintf, whole and cut and through a writer; numbers for people against the numbers; the expansion
 * of paths against a second one.
 */
#include "fuzz.h"

#include "base/fmt.h"
#include "run/dump.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"

enum { CAP = 2048 };

/* ---- formats ---- */

struct sink {
    char text[CAP];
    size_t n;
};

static int collect(void *ctx, const char *s, size_t n)
{
    struct sink *sink = ctx;
    CHECK(n > 0 && n < CAP - sink->n, "a write of %zu bytes", n);
    memcpy(sink->text + sink->n, s, n);
    sink->n += n;
    return 0;
}

/* The format and its arguments through snprintf; into a buffer of `cap` bytes; through one of them to a writer. */
static void same(size_t cap, const char *format, ...)
{
    char want[CAP], got[CAP];
    static struct sink sink;
    struct fmt f;
    va_list args, again, once_more;
    va_start(args, format);
    va_copy(again, args);
    va_copy(once_more, args);
    int n = vsnprintf(want, sizeof want, format, args);
    CHECK(n >= 0 && n < CAP, "snprintf of \"%s\"", format);
    fuzz_trace("    \"%s\" is \"%s\"\n", format, want);

    memset(got, '#', sizeof got);
    fmt_init(&f, got, cap, NULL, NULL);
    fmt_vprintf(&f, format, again);
    int status = fmt_end(&f);
    bool cut = (size_t)n >= cap;
    CHECK(status == (cut ? -EOVERFLOW : 0), "\"%s\" in %zu bytes: %d", format, cap, status);
    size_t shown = cut ? cap - 1 : (size_t)n;
    CHECK(memcmp(got, want, shown) == 0 && got[shown] == '\0' && got[cap] == '#',
          "\"%s\" in %zu bytes: \"%.*s\", not \"%s\"", format, cap, (int)cap, got, want);

    sink.n = 0;
    fmt_init(&f, got, cap, collect, &sink);
    fmt_vprintf(&f, format, once_more);
    CHECK(fmt_end(&f) == 0 && sink.n == (size_t)n && memcmp(sink.text, want, sink.n) == 0,
          "\"%s\": \"%.*s\", not \"%s\"", format, (int)sink.n, sink.text, want);
    va_end(once_more);
    va_end(again);
    va_end(args);
}

/* Plain text without NUL and '%'. */
static void take_plain(struct input *in, char *out, unsigned most)
{
    unsigned n = take_below(in, most);
    for (unsigned i = 0; i < n; i++) {
        out[i] = (char)take(in, 1);
        if (out[i] == '\0' || out[i] == '%')
            out[i] = '.';
    }
    out[n] = '\0';
}

/* Text, one conversion, text. What C leaves undefined ('0' with s, c and p; a precision but for s) is left out. */
static void one_format(struct input *in)
{
    static const char *const lengths[] = {"", "l", "ll", "z", "j"};
    char format[256], before[40], after[40], string[60], width[24] = "";
    size_t cap = 1 + take_below(in, 200);
    take_plain(in, before, sizeof before);
    take_plain(in, after, sizeof after);
    take_plain(in, string, sizeof string);
    char letter = "diuxscp%"[take_below(in, 8)];
    unsigned flags = (unsigned)take(in, 1), length = take_below(in, ASH_COUNT(lengths));
    bool number = letter == 'd' || letter == 'i' || letter == 'u' || letter == 'x';
    uint64_t v = take_number(in);
    if (flags & 4)
        snprintf(width, sizeof width, "%u", take_below(in, 100));
    int star = (int)take_below(in, 160) - 80;
    const char *minus = flags & 1 ? "-" : "", *zero = flags & 2 && number ? "0" : "";

    if (letter == 's') {
        snprintf(format, sizeof format, "%s%%%s%s%s%ss%s", before, minus, width, flags & 8 ? "." : "",
                 flags & 16 && flags & 8 ? "*" : "", after);
        flags & 16 && flags & 8 ? same(cap, format, star, string) : same(cap, format, string);
    } else if (letter == 'c') {
        snprintf(format, sizeof format, "%s%%%s%sc%s", before, minus, width, after);
        same(cap, format, (int)(v % 255 + 1));
    } else if (letter == 'p') {
        snprintf(format, sizeof format, "%s%%%s%sp%s", before, minus, width, after);
        same(cap, format, (void *)(uintptr_t)(v | 1));
    } else if (letter == '%') {
        snprintf(format, sizeof format, "%s%%%%%s", before, after);
        same(cap, format);
    } else if (flags & 8) {
        snprintf(format, sizeof format, "%s%%%s%s*%s%c%s", before, minus, zero, lengths[length], letter, after);
        length == 0 ? same(cap, format, star, (unsigned)v) : same(cap, format, star, v);
    } else {
        snprintf(format, sizeof format, "%s%%%s%s%s%s%c%s", before, minus, zero, width, lengths[length], letter, after);
        length == 0 ? same(cap, format, (unsigned)v) : same(cap, format, v);
    }
}

/* Any bytes as a format: conversions that take no argument are left, and nothing may be read or written astray. */
static void any_format(struct input *in)
{
    char format[64], got[80];
    unsigned n = take_below(in, sizeof format);
    for (unsigned i = 0; i < n; i++) {
        format[i] = (char)take(in, 1);
        if (format[i] == '\0' || strchr("sdiuxcp*", format[i]) != NULL)
            format[i] = '%';
    }
    format[n] = '\0';
    fuzz_trace("    \"%s\" as it stands\n", format);
    size_t length = fmt_text(got, sizeof got, format, 1);
    CHECK(length <= n && got[length] == '\0', "\"%s\" is \"%s\"", format, got);
}

/* ---- numbers for people ---- */

/* "12.3 MiB": within half of the last digit that is shown, and never with more digits than the next unit needs. */
static void check_human(const char *text, uint64_t n, const char *const *units, const double *factors, size_t count)
{
    double shown = 0;
    char *end;
    char digits[32];
    unsigned k = 0;
    for (const char *s = text; *s != '\0'; s++)
        if (*s != ',')
            digits[k++] = *s;
    digits[k] = '\0';
    shown = strtod(digits, &end);
    bool tenths = strchr(digits, '.') != NULL;
    CHECK(strlen(text) <= 15 && end > digits, "%lu is \"%s\"", (unsigned long)n, text);
    for (size_t i = 0; i < count; i++)
        if (strcmp(end, units[i]) == 0) {
            double off = fabs(shown - (double)n / factors[i]);
            CHECK(off <= (tenths ? 0.05 : 0) * (1 + 1e-9) + shown * 1e-12, "%lu is \"%s\"", (unsigned long)n, text);
            return;
        }
    fuzz_fail(__FILE__, __LINE__, "a unit", "%lu is \"%s\"", (unsigned long)n, text);
}

static void one_number(struct input *in)
{
    static const char *const byte_units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
    static const double byte_factors[] = {0x1p0, 0x1p10, 0x1p20, 0x1p30, 0x1p40, 0x1p50, 0x1p60};
    static const char *const count_units[] = {"", " M", " G", " T", " P", " E"};
    static const double count_factors[] = {1, 1e6, 1e9, 1e12, 1e15, 1e18};
    static const char *const time_units[] = {" ns", " us", " ms", " s"};
    static const double time_factors[] = {1, 1e3, 1e6, 1e9};
    char text[16];
    uint64_t n = take_number(in);
    fmt_bytes_text(text, n);
    check_human(text, n, byte_units, byte_factors, ASH_COUNT(byte_units));
    fmt_count_text(text, n);
    check_human(text, n, count_units, count_factors, ASH_COUNT(count_units));
    if (n < (uint64_t)1 << 46) { /* beyond, seconds need more than 15 characters some time */
        fmt_time_text(text, n);
        check_human(text, n, time_units, time_factors, ASH_COUNT(time_units));
    }
}

/* ---- paths ---- */

static void one_path(struct input *in)
{
    static const char letters[] = "%%%%pp%p/ab.\xff";
    char path[100], want[1200], out[1202], number[16];
    unsigned n = take_below(in, sizeof path);
    for (unsigned i = 0; i < n; i++)
        path[i] = letters[take_below(in, sizeof letters - 1)];
    path[n] = '\0';
    int pid = (int)(take_number(in) % 4194304) + 1;
    size_t cap = 1 + take_below(in, 400), length = 0;
    snprintf(number, sizeof number, "%d", pid);
    for (const char *s = path; *s != '\0'; s++) {
        bool pair = s[0] == '%' && (s[1] == '%' || s[1] == 'p');
        const char *piece = pair && s[1] == 'p' ? number : (char[]){*s, '\0'};
        memcpy(want + length, piece, strlen(piece));
        length += strlen(piece);
        s += pair;
    }
    fuzz_trace("    \"%s\" in %zu bytes\n", path, cap);
    memset(out, '#', sizeof out);
    bool fitted = dump_expand(out, cap, path, pid);
    size_t shown = length < cap ? length : cap - 1;
    CHECK(fitted == (length < cap), "\"%s\" in %zu bytes: %d", path, cap, fitted);
    CHECK(memcmp(out, want, shown) == 0 && out[shown] == '\0' && out[cap] == '#', "\"%s\" is \"%s\", not \"%.*s\"",
          path, out, (int)length, want);
}

void fuzz_text(struct input *in)
{
    static void (*const kinds[])(struct input *) = {one_format, one_format, one_format, one_format,
                                                    any_format, one_number, one_number, one_path};
    while (input_left(in))
        kinds[take_below(in, ASH_COUNT(kinds))](in);
}
