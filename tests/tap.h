/*
 * The test anything protocol for C programs, without allocation: the tests replace malloc.
 *
 *     ok(cond, "what is shown, %d", detail);
 *     return tap_done();
 */
#ifndef ASH_TESTS_TAP_H
#define ASH_TESTS_TAP_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int tap_count, tap_failures;

__attribute__((format(printf, 1, 2), unused)) static void tap_line(const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    n = n < (int)sizeof line - 1 ? n : (int)sizeof line - 2;
    line[n] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)n + 1) < 0)
        _exit(99);
}

__attribute__((format(printf, 2, 3), unused)) static int ok(int cond, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    tap_line("%sok %d - %s", cond ? "" : "not ", ++tap_count, what);
    tap_failures += !cond;
    return cond;
}

__attribute__((unused)) static int is_int(long long got, long long want, const char *what)
{
    if (!ok(got == want, "%s", what))
        tap_line("# got %lld, want %lld", got, want);
    return got == want;
}

__attribute__((unused)) static int is_str(const char *got, const char *want, const char *what)
{
    int same = got != NULL && strcmp(got, want) == 0;
    if (!ok(same, "%s", what))
        tap_line("# got \"%s\", want \"%s\"", got == NULL ? "(null)" : got, want);
    return same;
}

__attribute__((unused)) static int is_ptr(const void *got, const void *want, const char *what)
{
    if (!ok(got == want, "%s", what))
        tap_line("# got %p, want %p", got, want);
    return got == want;
}

__attribute__((unused)) static void skip(const char *why, int n)
{
    while (n-- > 0)
        tap_line("ok %d # SKIP %s", ++tap_count, why);
}

/* The plan and the exit status. */
__attribute__((unused)) static int tap_done(void)
{
    tap_line("1..%d", tap_count);
    return tap_failures != 0;
}

#endif
