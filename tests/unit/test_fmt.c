/*
 * base/fmt: every conversion against snprintf, cutting, flushing, errors that stick, and the texts
 * for people at the edges of their units.
 */
#include "tap.h"

#include "base/fmt.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* The same format and arguments through both; what snprintf says is right. */
#define SAME(...)                                                                                  \
    do {                                                                                           \
        char got[256], want[256];                                                                  \
        fmt_text(got, sizeof got, __VA_ARGS__);                                                    \
        snprintf(want, sizeof want, __VA_ARGS__);                                                  \
        is_str(got, want, "as snprintf: " #__VA_ARGS__);                                           \
    } while (0)

static void test_conversions(void)
{
    SAME("plain");
    SAME("%s and %s", "one", "two");
    SAME("[%8s][%-8s][%.2s][%8.2s]", "abc", "abc", "abc", "abc");
    SAME("[%*s][%-*s][%*s]", 6, "ab", 6, "ab", -6, "ab");
    SAME("[%.*s][%.*s]", 1, "abc", -1, "abc");
    SAME("%c%c%c", 'x', '%', 'y');
    SAME("%d %d %d %i", 0, INT_MAX, INT_MIN, -7);
    SAME("[%5d][%-5d][%05d][%05d]", 42, 42, 42, -42);
    SAME("%u %lu %llu %zu", UINT_MAX, ULONG_MAX, ULLONG_MAX, SIZE_MAX);
    SAME("%ld %lld", LONG_MIN, LLONG_MIN);
    SAME("%x %lx %zx %08x", 0xbeefu, 0xdeadbeefcafeul, (size_t)0, 0xabcu);
    SAME("%" PRIu64 " %" PRId64 " %ju", UINT64_MAX, INT64_MIN, UINTMAX_MAX);
    SAME("%p", (void *)0x7f00deadbeef);
    SAME("100%% sure");
}

/* The compiler's format check, rightly, refuses these; what is not known is copied. */
static void test_unknown(void)
{
    static const char *const formats[] = {"%q!", "50%", "%5", "%-"};
    for (size_t i = 0; i < ASH_COUNT(formats); i++) {
        char got[32];
        struct fmt f;
        fmt_init(&f, got, sizeof got, NULL, NULL);
        const char *volatile format = formats[i];
        _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wformat-security\"")
            fmt_printf(&f, format);
        _Pragma("GCC diagnostic pop") fmt_end(&f);
        is_str(got, formats[i], "an unknown conversion is copied");
    }
    char got[32];
    const char *volatile none = NULL;
    fmt_text(got, sizeof got, "%s", none);
    is_str(got, "(null)", "a NULL string is named");
}

static void test_cut(void)
{
    char buf[8] = "zzzzzzz";
    struct fmt f;
    fmt_init(&f, buf, 5, NULL, NULL);
    fmt_printf(&f, "123456789");
    is_int(fmt_end(&f), -EOVERFLOW, "a text that does not fit is told");
    is_str(buf, "1234", "and cut, with its NUL");
    is_int(buf[5], 'z', "nothing is written past the end");

    fmt_init(&f, buf, 5, NULL, NULL);
    fmt_printf(&f, "1234");
    is_int(fmt_end(&f), 0, "a text that just fits is whole");

    fmt_init(&f, buf, 1, NULL, NULL);
    fmt_pad(&f, ' ', 3);
    fmt_end(&f);
    is_str(buf, "", "one byte holds the NUL alone");
    size_t n = fmt_text(buf, sizeof buf, "%d", 1234567890);
    is_int((long long)n, 7, "the length is what is there");
}

struct sink {
    char text[512];
    size_t n;
    int calls;
    int fail_at; /* call that fails, from 1; 0 = none */
};

static int sink_write(void *ctx, const char *s, size_t n)
{
    struct sink *sink = ctx;
    if (++sink->calls == sink->fail_at)
        return -ENOSPC;
    memcpy(sink->text + sink->n, s, n);
    sink->n += n;
    return 0;
}

static void test_writer(void)
{
    for (size_t cap = 1; cap <= 40; cap += 13) {
        struct sink sink = {.n = 0};
        char buf[64];
        struct fmt f;
        fmt_init(&f, buf, cap, sink_write, &sink);
        for (int i = 0; i < 10; i++)
            fmt_printf(&f, "%d-%6s;", i, "ab");
        is_int(fmt_end(&f), 0, "a writer takes all");
        ok(strcmp(sink.text, "0-    ab;1-    ab;2-    ab;3-    ab;4-    ab;5-    ab;6-    ab;"
                             "7-    ab;8-    ab;9-    ab;") == 0,
           "the text is whole through a buffer of %zu", cap);
    }
}

static void test_writer_fails(void)
{
    struct sink sink = {.fail_at = 2};
    char buf[4];
    struct fmt f;
    fmt_init(&f, buf, sizeof buf, sink_write, &sink);
    fmt_printf(&f, "0123456789abcdef");
    fmt_pad(&f, ' ', 100);
    is_int(fmt_end(&f), -ENOSPC, "the first write error is kept");
    is_int(sink.calls, 2, "and nothing is written after it");
    is_int((long long)sink.n, 4, "what was out stays out");
}

static void test_errno(void)
{
    char buf[32];
    errno = 77;
    fmt_text(buf, sizeof buf, "%s %d %zu", "a", 1, (size_t)2);
    fmt_bytes_text(buf, 123456789);
    is_int(errno, 77, "errno is kept");
}

struct human {
    uint64_t n;
    const char *want;
};

static void test_human(void (*text)(char out[16], uint64_t n), const struct human *cases,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char got[16];
        text(got, cases[i].n);
        is_str(got, cases[i].want, cases[i].want);
    }
}

int main(void)
{
    static const struct human bytes[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.0 KiB"},
        {1536, "1.5 KiB"},
        {65536, "64.0 KiB"},
        {1048575, "1.0 MiB"},
        {1048524, "1023.9 KiB"},
        {12582912, "12.0 MiB"},
        {(uint64_t)1 << 40, "1.0 TiB"},
        {UINT64_MAX, "16.0 EiB"},
    };
    static const struct human counts[] = {
        {0, "0"},
        {999, "999"},
        {1000, "1,000"},
        {1234567, "1,234,567"},
        {9999999, "9,999,999"},
        {10000000, "10.0 M"},
        {12345678, "12.3 M"},
        {9999949999, "9999.9 M"},
        {9999950000, "10.0 G"},
        {UINT64_MAX, "18.4 E"},
    };
    static const struct human times[] = {
        {0, "0 ns"},         {999, "999 ns"},         {1000, "1.0 us"},
        {12345, "12.3 us"},  {999949, "999.9 us"},    {999950, "1.0 ms"},
        {1500000, "1.5 ms"}, {500000000, "500.0 ms"}, {86400000000000, "86400.0 s"},
    };
    test_conversions();
    test_unknown();
    test_cut();
    test_writer();
    test_writer_fails();
    test_errno();
    test_human(fmt_bytes_text, bytes, ASH_COUNT(bytes));
    test_human(fmt_count_text, counts, ASH_COUNT(counts));
    test_human(fmt_time_text, times, ASH_COUNT(times));
    return tap_done();
}
