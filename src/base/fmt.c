#include "base/fmt.h"

#include <errno.h>
#include <string.h>

enum { DIGITS_MAX = 20 }; /* of 2^64 - 1 in decimal */

/* One conversion as it stands in the format. */
struct spec {
    bool left;
    bool zero;
    size_t width;
    size_t precision;
    unsigned longs; /* 0 int, 1 long, 2 long long */
};

/* A va_list that can be passed by address: as a parameter it decays on some machines. */
struct args {
    va_list list;
};

void fmt_init(struct fmt *f, char *buf, size_t cap, fmt_write *write, void *ctx)
{
    *f = (struct fmt){.buf = buf, .cap = cap, .write = write, .ctx = ctx};
}

static void fmt_flush(struct fmt *f)
{
    if (f->len > 0 && f->failed == 0)
        f->failed = f->write(f->ctx, f->buf, f->len);
    f->len = 0;
}

int fmt_end(struct fmt *f)
{
    if (f->write == NULL)
        f->buf[f->len] = '\0';
    else
        fmt_flush(f);
    return f->failed;
}

/* Bytes that fit now; makes room where there is a writer. 0 means that the text ends here. */
static size_t fmt_room(struct fmt *f)
{
    if (f->failed != 0)
        return 0;
    if (f->write != NULL && f->len == f->cap)
        fmt_flush(f);
    size_t room = f->cap - (f->write == NULL) - f->len;
    if (f->write == NULL && room == 0)
        f->failed = -EOVERFLOW;
    return f->failed == 0 ? room : 0;
}

void fmt_put(struct fmt *f, const char *s, size_t n)
{
    while (n > 0) {
        size_t part = size_min(n, fmt_room(f));
        if (part == 0)
            return;
        memcpy(f->buf + f->len, s, part);
        f->len += part;
        s += part;
        n -= part;
    }
}

void fmt_pad(struct fmt *f, char c, size_t n)
{
    while (n > 0) {
        size_t part = size_min(n, fmt_room(f));
        if (part == 0)
            return;
        memset(f->buf + f->len, c, part);
        f->len += part;
        n -= part;
    }
}

static void put_text(struct fmt *f, const struct spec *spec, const char *s)
{
    s = s != NULL ? s : "(null)";
    size_t n = strnlen(s, spec->precision);
    size_t pad = spec->width > n ? spec->width - n : 0;
    if (!spec->left)
        fmt_pad(f, ' ', pad);
    fmt_put(f, s, n);
    if (spec->left)
        fmt_pad(f, ' ', pad);
}

static void put_number(struct fmt *f, const struct spec *spec, const char *prefix, uint64_t v,
                       unsigned base)
{
    char digits[DIGITS_MAX];
    char *end = digits + sizeof digits;
    char *s = end;
    do {
        *--s = "0123456789abcdef"[v % base];
        v /= base;
    } while (v != 0);

    size_t n = (size_t)(end - s);
    size_t prefix_n = strlen(prefix);
    size_t pad = spec->width > n + prefix_n ? spec->width - n - prefix_n : 0;
    bool zeroes = spec->zero && !spec->left;
    if (!spec->left && !zeroes)
        fmt_pad(f, ' ', pad);
    fmt_put(f, prefix, prefix_n);
    if (zeroes)
        fmt_pad(f, '0', pad);
    fmt_put(f, s, n);
    if (spec->left)
        fmt_pad(f, ' ', pad);
}

static uint64_t next_unsigned(const struct spec *spec, struct args *args)
{
    if (spec->longs == 0)
        return va_arg(args->list, unsigned);
    return spec->longs == 1 ? va_arg(args->list, unsigned long)
                            : va_arg(args->list, unsigned long long);
}

static int64_t next_signed(const struct spec *spec, struct args *args)
{
    if (spec->longs == 0)
        return va_arg(args->list, int);
    return spec->longs == 1 ? va_arg(args->list, long) : va_arg(args->list, long long);
}

static void put_signed(struct fmt *f, const struct spec *spec, int64_t v)
{
    put_number(f, spec, v < 0 ? "-" : "", v < 0 ? -(uint64_t)v : (uint64_t)v, 10);
}

/* Puts one conversion; false when `letter` is none. */
static bool convert(struct fmt *f, const struct spec *spec, char letter, struct args *args)
{
    switch (letter) {
    case 's':
        put_text(f, spec, va_arg(args->list, const char *));
        return true;
    case 'c':
        put_text(f, spec, (char[2]){(char)va_arg(args->list, int), '\0'});
        return true;
    case 'd':
    case 'i':
        put_signed(f, spec, next_signed(spec, args));
        return true;
    case 'u':
        put_number(f, spec, "", next_unsigned(spec, args), 10);
        return true;
    case 'x':
        put_number(f, spec, "", next_unsigned(spec, args), 16);
        return true;
    case 'p':
        put_number(f, spec, "0x", (uintptr_t)va_arg(args->list, void *), 16);
        return true;
    case '%':
        fmt_put(f, "%", 1);
        return true;
    default:
        return false;
    }
}

/* A width or a precision: digits, or '*' for an argument (a negative one is left to the caller). */
static const char *parse_int(const char *s, struct args *args, int *out)
{
    if (*s == '*') {
        *out = va_arg(args->list, int);
        return s + 1;
    }
    for (*out = 0; *s >= '0' && *s <= '9'; s++)
        *out = *out < 100000 ? *out * 10 + (*s - '0') : *out;
    return s;
}

/* z and j are as wide as one of the lengths in l, and the same type but for its name. */
static const char *parse_length(const char *s, unsigned *longs)
{
    *longs = 0;
    if (*s == 'z' || *s == 'j') {
        size_t bytes = *s == 'z' ? sizeof(size_t) : sizeof(uintmax_t);
        *longs = bytes == sizeof(unsigned) ? 0 : bytes == sizeof(unsigned long) ? 1 : 2;
        return s + 1;
    }
    for (; *s == 'l' && *longs < 2; s++)
        ++*longs;
    return s;
}

/* Reads flags, width, precision and length from behind the '%'; returns the letter's place. */
static const char *parse_spec(const char *s, struct args *args, struct spec *spec)
{
    *spec = (struct spec){.precision = SIZE_MAX};
    for (; *s == '-' || *s == '0'; s++) {
        spec->left |= *s == '-';
        spec->zero |= *s == '0';
    }
    int number;
    s = parse_int(s, args, &number);
    spec->left |= number < 0;
    spec->width = (size_t)(number < 0 ? -(int64_t)number : number);
    if (*s == '.') {
        s = parse_int(s + 1, args, &number);
        spec->precision = number < 0 ? SIZE_MAX : (size_t)number;
    }
    return parse_length(s, &spec->longs);
}

void fmt_vprintf(struct fmt *f, const char *format, va_list list)
{
    struct args args;
    va_copy(args.list, list);
    const char *s = format;
    while (*s != '\0') {
        size_t plain = strcspn(s, "%");
        fmt_put(f, s, plain);
        s += plain;
        if (*s == '\0')
            break;
        struct spec spec;
        const char *letter = parse_spec(s + 1, &args, &spec);
        if (!convert(f, &spec, *letter, &args))
            fmt_put(f, s, (size_t)(letter - s) + (*letter != '\0'));
        s = letter + (*letter != '\0');
    }
    va_end(args.list);
}

void fmt_printf(struct fmt *f, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fmt_vprintf(f, format, args);
    va_end(args);
}

size_t fmt_text(char *out, size_t cap, const char *format, ...)
{
    struct fmt f;
    fmt_init(&f, out, cap, NULL, NULL);
    va_list args;
    va_start(args, format);
    fmt_vprintf(&f, format, args);
    va_end(args);
    fmt_end(&f);
    return f.len;
}

static void put_tenths(char out[16], uint64_t tenths, const char *unit)
{
    fmt_text(out, 16, "%ju.%ju %s", (uintmax_t)(tenths / 10), (uintmax_t)(tenths % 10), unit);
}

void fmt_bytes_text(char out[16], uint64_t n)
{
    static const char units[][4] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (n < KIB) {
        fmt_text(out, 16, "%ju B", (uintmax_t)n);
        return;
    }
    for (unsigned i = 0, shift = 10;; i++, shift += 10) {
        uint64_t rest = n & (((uint64_t)1 << shift) - 1);
        uint64_t half = (uint64_t)1 << (shift - 1);
        uint64_t tenths = (n >> shift) * 10 + ((rest * 10 + half) >> shift);
        if (tenths < 10240 || i + 1 == ASH_COUNT(units)) {
            put_tenths(out, tenths, units[i]);
            return;
        }
    }
}

/*
 * `n` in the first of `count` units, each a thousand times the one before, which leaves it below
 * `most` tenths.
 */
static void put_scaled(char out[16], uint64_t n, const char (*units)[3], unsigned count,
                       uint64_t unit, uint64_t most)
{
    for (unsigned i = 0;; i++, unit *= 1000) {
        uint64_t tenth = unit / 10;
        uint64_t tenths = n / tenth + (n % tenth >= tenth / 2);
        if (tenths < most || i + 1 == count) {
            put_tenths(out, tenths, units[i]);
            return;
        }
    }
}

void fmt_count_text(char out[16], uint64_t n)
{
    static const char units[][3] = {"M", "G", "T", "P", "E"};
    if (n >= 10000000)
        put_scaled(out, n, units, ASH_COUNT(units), 1000000, 100000);
    else if (n >= 1000000)
        fmt_text(out, 16, "%u,%03u,%03u", (unsigned)(n / 1000000), (unsigned)(n / 1000 % 1000),
                 (unsigned)(n % 1000));
    else if (n >= 1000)
        fmt_text(out, 16, "%u,%03u", (unsigned)(n / 1000), (unsigned)(n % 1000));
    else
        fmt_text(out, 16, "%u", (unsigned)n);
}

void fmt_time_text(char out[16], uint64_t ns)
{
    static const char units[][3] = {"us", "ms", "s"};
    if (ns < 1000)
        fmt_text(out, 16, "%u ns", (unsigned)ns);
    else
        put_scaled(out, ns, units, ASH_COUNT(units), 1000, 10000);
}

struct fmt_number fmt_bytes(uint64_t n)
{
    struct fmt_number t;
    fmt_bytes_text(t.s, n);
    return t;
}

struct fmt_number fmt_count(uint64_t n)
{
    struct fmt_number t;
    fmt_count_text(t.s, n);
    return t;
}
