/*
 * Environments through options_parse, and the same through a second reading of what ashlar(7) says of the values (a
 * lint test keeps the manual and the table equal). The result of every option is compared, and every line that is said.
 */
#include "fuzz.h"

#include "info/options.h"

#include <ctype.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { OPTIONS = 64, VARIABLES = 6, TEXT = 256, SHOWN = 80, LINE = 512, SAID = 8192 };

/* ---- the second reading ---- */

static const struct option *rows[OPTIONS];
static unsigned row_count;

static int add_row(const struct option *o, void *arg)
{
    (void)arg;
    if (row_count < OPTIONS)
        rows[row_count++] = o;
    return 0;
}

/* Digits and a unit; false: it is no number, or none that 64 bits hold. */
static bool read_number(const char *text, enum option_type type, uint64_t *out)
{
    static const struct {
        enum option_type type;
        const char *unit;
        unsigned __int128 factor;
    } units[] = {
        {OPTION_TYPE_BYTES, "B", 1},
        {OPTION_TYPE_BYTES, "K", KIB},   {OPTION_TYPE_BYTES, "KB", KIB},        {OPTION_TYPE_BYTES, "KiB", KIB},
        {OPTION_TYPE_BYTES, "M", MIB},   {OPTION_TYPE_BYTES, "MB", MIB},        {OPTION_TYPE_BYTES, "MiB", MIB},
        {OPTION_TYPE_BYTES, "G", GIB},   {OPTION_TYPE_BYTES, "GB", GIB},        {OPTION_TYPE_BYTES, "GiB", GIB},
        {OPTION_TYPE_BYTES, "T", KIB * GIB}, {OPTION_TYPE_BYTES, "TB", KIB * GIB},
        {OPTION_TYPE_BYTES, "TiB", KIB * GIB},
        {OPTION_TYPE_MS, "ms", 1},       {OPTION_TYPE_MS, "s", 1000},           {OPTION_TYPE_MS, "min", 60000},
    };
    unsigned __int128 v = 0;
    const char *s = text;
    for (; *s >= '0' && *s <= '9'; s++)
        if ((v = v * 10 + (unsigned)(*s - '0')) > UINT64_MAX)
            return false;
    if (s == text)
        return false;
    unsigned __int128 factor = *s == '\0';
    for (size_t i = 0; i < ASH_COUNT(units); i++)
        if (units[i].type == type && strcasecmp(units[i].unit, s) == 0)
            factor = units[i].factor;
    if (factor == 0 || v * factor > UINT64_MAX)
        return false;
    *out = (uint64_t)(v * factor);
    return true;
}

/* Signals that a handler may return from, of those that have names here. */
static int read_signal(const char *text)
{
    static const struct {
        const char *name;
        int number;
    } names[] = {{"HUP", SIGHUP},   {"USR1", SIGUSR1},   {"USR2", SIGUSR2}, {"QUIT", SIGQUIT},
                 {"PROF", SIGPROF}, {"WINCH", SIGWINCH}, {"URG", SIGURG},   {"IO", SIGIO}};
    for (size_t i = 0; i < ASH_COUNT(names); i++)
        if (strcasecmp(names[i].name, text) == 0 ||
            (strncasecmp(text, "SIG", 3) == 0 && strcasecmp(names[i].name, text + 3) == 0))
            return names[i].number;
    return 0;
}

static bool signal_is_fatal(uint64_t number)
{
    static const int fatal[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP};
    for (size_t i = 0; i < ASH_COUNT(fatal); i++)
        if (number == (uint64_t)fatal[i])
            return true;
    return false;
}

/* One of the alternatives, as it stands in the manual, and a value: do they fit? *number: the result, if it is one. */
static bool fits(const struct option *o, const char *alternative, const char *value, uint64_t *number)
{
    const char *dots = strstr(alternative, "..");
    const char *bracket = strstr(alternative, "[:PATH]");
    uint64_t low, high;
    if (bracket != NULL) {
        size_t n = (size_t)(bracket - alternative);
        return strncmp(value, alternative, n) == 0 && (value[n] == '\0' || (value[n] == ':' && value[n + 1] != '\0'));
    }
    if (dots != NULL) {
        char first[TEXT];
        snprintf(first, sizeof first, "%.*s", (int)(dots - alternative), alternative);
        return read_number(first, o->type, &low) && read_number(dots + 2, o->type, &high) &&
               read_number(value, o->type, number) && *number >= low && *number <= high &&
               !(o->type == OPTION_TYPE_SIGNAL && signal_is_fatal(*number));
    }
    if (o->type == OPTION_TYPE_NUMBER)
        return read_number(alternative, o->type, &low) && read_number(value, o->type, number) && *number == low;
    if (o->type == OPTION_TYPE_SIGNAL) {
        *number = (uint64_t)read_signal(value);
        return *number != 0 && read_signal(alternative) == (int)*number;
    }
    return strcmp(alternative, value) == 0;
}

/* False: the value is not allowed. *number: the place of the word that fits, or the number. */
static bool allowed(const struct option *o, const char *value, uint64_t *number)
{
    if (o->type == OPTION_TYPE_PATH)
        return *value != '\0';
    char copy[TEXT];
    snprintf(copy, sizeof copy, "%s", o->values);
    char *rest = copy;
    uint64_t place = 0;
    for (char *one = strsep(&rest, "|"); one != NULL; one = strsep(&rest, "|"), place++) {
        *number = place;
        if (fits(o, one, value, number))
            return true;
    }
    return false;
}

static void check_field(const struct option *o, const char *value)
{
    uint64_t want = 0, got;
    const void *field = (const char *)&options + o->offset;
    CHECK(allowed(o, value, &want), "%s: \"%s\" is the value in use", o->name, value);
    switch (o->type) {
    case OPTION_TYPE_PATH:
    case OPTION_TYPE_TARGET:
        CHECK(strcmp(*(const char *const *)field, value) == 0, "%s is \"%s\", not \"%s\"", o->name,
              *(const char *const *)field, value);
        return;
    case OPTION_TYPE_BYTES: got = *(const uint64_t *)field; break;
    case OPTION_TYPE_SIGNAL: got = (uint64_t) * (const int *)field; break;
    default: got = *(const unsigned *)field;
    }
    CHECK(got == want, "%s=%s is %" PRIu64 ", not %" PRIu64, o->name, value, got, want);
}

/* ---- environments ---- */

static const char *const words[] = {
    "0", "1", "2", "16", "64", "abort", "warn", "never", "default", "always", "text", "json", "prom", ":", "/tmp/x",
    "%p", "K", "k", "M", "G", "T", "B", "iB", "KiB", "mb", "ms", "s", "min", "MIN", "..", "-", "+", " ", "USR1", "SIG",
    "hup", "1024T", "1025T", "3600000", "3600001", "60min", "18446744073709551615", "18446744073709551616",
    "4294967296", "9", "=",
};

/* Appends words, numbers and other bytes. */
static void take_text(struct input *in, char *out, size_t cap)
{
    size_t n = 0;
    for (unsigned left = take_below(in, 5); left > 0 && n + 24 < cap; left--) {
        unsigned how = (unsigned)take(in, 1);
        if (how < 150)
            n += (size_t)snprintf(out + n, cap - n, "%s", words[how % ASH_COUNT(words)]);
        else if (how < 190)
            n += (size_t)snprintf(out + n, cap - n, "%" PRIu64, take_number(in));
        else if (how < 200)
            n += (size_t)snprintf(out + n, cap - n, "%0*d", (int)take_below(in, 120), 7);
        else if ((out[n] = (char)take(in, 1)) != '\0')
            n++;
        n = n < cap - 1 ? n : cap - 1;
    }
    out[n] = '\0';
}

static void take_variable(struct input *in, char *out, size_t cap)
{
    unsigned how = (unsigned)take(in, 1);
    size_t n;
    if (how < 200) {
        n = (size_t)snprintf(out, cap, "%s", rows[how % row_count]->name);
    } else if (how < 230) { /* nearly one */
        n = (size_t)snprintf(out, cap, "%s", rows[how % row_count]->name);
        unsigned at = 7 + take_below(in, (unsigned)n - 7);
        out[at] = (char)take(in, 1);
        n = strlen(out);
    } else {
        n = (size_t)snprintf(out, cap, "%s", how < 250 ? "ASHLAR_" : "ASHLAR");
        take_text(in, out + n, cap - n);
        n = strlen(out);
    }
    if (how % 16 != 15 && n + 1 < cap) {
        out[n++] = '=';
        if (take(in, 1) < 40 && how < 200) /* the default, and more */
            n += (size_t)snprintf(out + n, cap - n, "%s", rows[how % row_count]->fallback);
        take_text(in, out + n, cap - n);
    }
}

/* ---- what is said ---- */

static char want_said[SAID];
static size_t want_n;

/* A line as the library writes one: cut, and without control characters. */
__attribute__((format(printf, 1, 2))) static void want_line(const char *format, ...)
{
    char line[LINE * 2] = "ashlar: ";
    va_list args;
    va_start(args, format);
    vsnprintf(line + strlen(line), sizeof line - strlen(line), format, args);
    va_end(args);
    line[LINE - 2] = '\0';
    for (char *c = line; *c != '\0'; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            *c = '?';
    want_n += (size_t)snprintf(want_said + want_n, sizeof want_said - want_n, "%s\n", line);
}

static const struct option *row_of(const char *variable)
{
    size_t n = strcspn(variable, "=");
    for (unsigned i = 0; i < row_count; i++)
        if (strlen(rows[i]->name) == n && memcmp(rows[i]->name, variable, n) == 0)
            return rows[i];
    return NULL;
}

/* Takes the line about a name that is none of ours: the suggestion has to be an option. */
static const char *skip_unknown(const char *said, const char *variable)
{
    char want[LINE], name[TEXT];
    want_n = 0;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(variable, "="), variable);
    want_line("unknown option ASHLAR_%.*s ignored", SHOWN, name + 7);
    snprintf(want, sizeof want, "%.*s", (int)(want_n - 1), want_said);
    size_t n = strlen(want);
    CHECK(strncmp(said, want, n) == 0, "of \"%s\" was said: %s", variable, said);
    if (said[n] == '\n')
        return said + n + 1;
    for (unsigned i = 0; i < row_count; i++) {
        int tail = snprintf(want, sizeof want, " (did you mean %s?)\n", rows[i]->name);
        if (strncmp(said + n, want, (size_t)tail) == 0)
            return said + n + tail;
    }
    fuzz_fail(__FILE__, __LINE__, "a suggestion", "of \"%s\" was said: %s", variable, said);
}

static const char *skip_bad_value(const char *said, const struct option *o, const char *value)
{
    want_n = 0;
    want_line("%s=%.*s ignored: allowed is %s (default %s)", o->name, SHOWN, value, o->values, o->fallback);
    CHECK(strncmp(said, want_said, want_n) == 0, "of %s=%s was said: %s\nwanted: %s", o->name, value, said, want_said);
    return said + want_n;
}

/* One environment. */
static void one(struct input *in)
{
    static char text[VARIABLES][TEXT];
    char *envp[VARIABLES + 1];
    const char *in_use[OPTIONS] = {NULL}; /* the first value of each option */
    unsigned how = (unsigned)take(in, 1), count = how % VARIABLES;
    bool secure = how >= 240;
    for (unsigned i = 0; i < count; i++) {
        take_variable(in, text[i], TEXT);
        fuzz_trace("    \"%s\"\n", text[i]);
        envp[i] = text[i];
    }
    envp[count] = NULL;
    options_parse(envp, secure);

    const char *said = fuzz_said();
    for (unsigned i = 0; i < count && !secure; i++) {
        const struct option *o = row_of(text[i]);
        if (o == NULL && strncmp(text[i], "ASHLAR_", 7) == 0)
            said = skip_unknown(said, text[i]);
        unsigned row = 0;
        while (row < row_count && rows[row] != o)
            row++;
        if (row == row_count || in_use[row] != NULL)
            continue;
        const char *value = strchr(text[i], '=');
        value = value != NULL ? value + 1 : "";
        uint64_t number;
        bool good = allowed(o, value, &number);
        in_use[row] = good ? value : o->fallback;
        if (!good && value[0] != '\0')
            said = skip_bad_value(said, o, value);
    }
    CHECK(said[0] == '\0', "was said as well: %s", said);
    for (unsigned row = 0; row < row_count; row++)
        check_field(rows[row], in_use[row] != NULL ? in_use[row] : rows[row]->fallback);
}

void fuzz_options(struct input *in)
{
    struct options before = options;
    row_count = 0;
    options_each(add_row, NULL);
    while (input_left(in)) {
        fuzz_trace("environment\n");
        one(in);
    }
    options = before;
}
