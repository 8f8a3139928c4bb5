/*
 * What targets and drivers have in common: the table, checks that fail, and what the library says. Its messages are
 * caught where it writes them (-Wl,--wrap): a pipe in place of standard error would cost a system call a look.
 */
#include "fuzz.h"

#include "heap/sample.h"
#include "os/os_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TARGET(name, longest, inputs, what, modes) void fuzz_##name(struct input *in);
#include "targets.def"
#undef TARGET

const struct target fuzz_targets[] = {
#define TARGET(name, longest, inputs, what, modes) {#name, what, modes, longest, inputs, fuzz_##name},
#include "targets.def"
#undef TARGET
    {.name = NULL},
};

const struct target *fuzz_target(const char *name)
{
    const struct target *target = fuzz_targets;
    while (target->name != NULL && strcmp(target->name, name) != 0)
        target++;
    return target->name != NULL ? target : NULL;
}

uint64_t take_number(struct input *in)
{
    unsigned how = (unsigned)take(in, 1);
    switch (how % 4) {
    case 0: return take(in, 1 + how / 4 % 8);
    case 1: return ((uint64_t)1 << how / 4) + take(in, 1) % 3 - 1;
    case 2: return UINT64_MAX - take(in, 1);
    default: return how / 4;
    }
}

/* ---- messages ---- */

static char caught[1 << 16];
static size_t caught_n;
static bool catching;

int __real_os_write_all(int fd, const char *s, size_t n);
int __wrap_os_write_all(int fd, const char *s, size_t n);
int __wrap_os_write_fmt(void *fd, const char *s, size_t n);

int __wrap_os_write_all(int fd, const char *s, size_t n)
{
    if (!catching || fd != STDERR_FILENO)
        return __real_os_write_all(fd, s, n);
    CHECK(n < sizeof caught - caught_n, "too much was said, the last of it: %.*s", (int)n, s);
    memcpy(caught + caught_n, s, n);
    caught_n += n;
    return 0;
}

int __wrap_os_write_fmt(void *fd, const char *s, size_t n)
{
    return __wrap_os_write_all(*(int *)fd, s, n);
}

const char *fuzz_said(void)
{
    caught[caught_n] = '\0';
    caught_n = 0;
    return caught;
}

void fuzz_expect_silence(void)
{
    const char *got = fuzz_said();
    CHECK(got[0] == '\0', "said: \"%s\"", got);
}

void fuzz_expect_said(const char *format, ...)
{
    char want[1024] = "ashlar: ";
    size_t n = strlen(want);
    va_list args;
    va_start(args, format);
    n += (size_t)vsnprintf(want + n, sizeof want - n - 1, format, args);
    va_end(args);
    strcpy(want + n, "\n");
    const char *got = fuzz_said();
    CHECK(strcmp(got, want) == 0, "said:   \"%s\"\nwanted: \"%s\"", got, want);
}

void fuzz_fail(const char *file, int line, const char *condition, const char *format, ...)
{
    char what[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    dprintf(STDERR_FILENO, "%s:%d: not true: %s\n%s\n", file, line, condition, what);
    if (catching && caught_n > 0)
        dprintf(STDERR_FILENO, "the library had said: %.*s\n", (int)caught_n, caught);
    abort();
}

bool fuzz_tracing;

void fuzz_trace(const char *format, ...)
{
    if (!fuzz_tracing)
        return;
    va_list args;
    va_start(args, format);
    vdprintf(STDERR_FILENO, format, args);
    va_end(args);
}

/* ---- samples ---- */

bool fuzz_sampling;
static _Atomic(long) sampled;

static struct site *sample_take_site(size_t bytes)
{
    sampled++;
    return (struct site *)(bytes + 1);
}

static void sample_give_site(struct site *site, size_t bytes)
{
    CHECK((size_t)site == bytes + 1, "a sample of %zu bytes has ended as one of %zu", (size_t)site - 1, bytes);
    CHECK(--sampled >= 0, "more samples have ended than begun");
}

static void sample(void)
{
    static const struct sample_sink sink = {sample_take_site, sample_give_site};
    const char *mean = getenv("ASH_FUZZ_SAMPLE");
    if (mean != NULL && !fuzz_sampling)
        sample_start(strtoull(mean, NULL, 10), &sink);
    fuzz_sampling = mean != NULL;
}

void fuzz_run(const struct target *target, const unsigned char *bytes, size_t n)
{
    struct input in = {bytes, bytes + n};
    caught_n = 0;
    catching = true;
    sample();
    target->run(&in);
    fuzz_expect_silence();
    catching = false;
}
