/*
 * info/options: defaults, every type with good and bad values, unknown names with and without a
 * suggestion, empty and repeated variables, and a process that must not obey its environment. What
 * is said on standard error is caught in a pipe and compared as a whole.
 */
#include "tap.h"

#include "info/options.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SAID_CAP = 8192, ENV_MAX = 16 };

static char said[SAID_CAP]; /* what the last parse said */

/* Parses up to three variables; what it says goes to `said`. */
static void parse_as(bool secure, const char *a, const char *b, const char *c)
{
    char *envp[ENV_MAX] = {NULL};
    const char *const given[] = {"PATH=/bin", a, b, c, "HOME=/"};
    size_t n = 0;
    for (size_t i = 0; i < ASH_COUNT(given); i++)
        if (given[i] != NULL)
            envp[n++] = strdup(given[i]);

    int fds[2];
    int keep = dup(STDERR_FILENO);
    if (keep < 0 || pipe(fds) != 0)
        abort();
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    options_parse(envp, secure);
    dup2(keep, STDERR_FILENO);
    close(keep);
    ssize_t got = read(fds[0], said, sizeof said - 1);
    said[got > 0 ? got : 0] = '\0';
    close(fds[0]);

    static char kept[SAID_CAP]; /* options.stats points into what is freed here */
    if (options.stats != NULL)
        options.stats = strncpy(kept, options.stats, sizeof kept - 1);
    for (size_t i = 0; i < n; i++)
        free(envp[i]);
}

static void parse(const char *variable)
{
    parse_as(false, variable, NULL, NULL);
}

static void test_defaults(void)
{
    options_parse(NULL, false);
    is_int(options.grain, 64, "grain is 64");
    is_int(options.on_error, OPTION_ON_ERROR_ABORT, "a wrong free aborts");
    is_int((long long)options.limit, 0, "no limit");
    ok(options.purge_ms > 0 && options.purge_ms <= 3600000, "purge after a while");
    is_int(options.thp, OPTION_THP_DEFAULT, "huge pages as the system has them");
    ok(options.cache > 0, "a cache");
    is_str(options.stats, "0", "no statistics");
    is_int(options.stats_signal, 0, "no signal");
    parse(NULL);
    is_str(said, "", "an environment without our names is silent");
}

static int default_is_allowed(const struct option *o, void *arg)
{
    char variable[256];
    snprintf(variable, sizeof variable, "%s=%s", o->name, o->fallback);
    parse(variable);
    ok(said[0] == '\0', "%s: the default is an allowed value", o->name);
    ok(strncmp(o->name, "ASHLAR_", 7) == 0 && o->help[0] != '\0' && o->values[0] != '\0',
       "%s has help and values", o->name);
    ++*(int *)arg;
    return 0;
}

static int stop_at_second(const struct option *o, void *arg)
{
    (void)o;
    return ++*(int *)arg == 2 ? 99 : 0;
}

static void test_each(void)
{
    int count = 0;
    is_int(options_each(default_is_allowed, &count), 0, "each option is shown");
    ok(count >= 8, "all of them");
    count = 0;
    is_int(options_each(stop_at_second, &count), 99, "the walk stops with the caller's answer");
}

static void test_choices(void)
{
    parse("ASHLAR_GRAIN=16");
    is_int(options.grain, 16, "GRAIN=16");
    parse("ASHLAR_ON_ERROR=warn");
    is_int(options.on_error, OPTION_ON_ERROR_WARN, "ON_ERROR=warn");
    parse("ASHLAR_THP=always");
    is_int(options.thp, OPTION_THP_ALWAYS, "THP=always");
    parse("ASHLAR_THP=never");
    is_int(options.thp, OPTION_THP_NEVER, "THP=never");
    is_str(said, "", "good values are silent");

    parse("ASHLAR_GRAIN=32");
    is_int(options.grain, 64, "a bad value leaves the default");
    is_str(said, "ashlar: ASHLAR_GRAIN=32 ignored: allowed is 16|64 (default 64)\n",
           "and is named, with what is allowed");
    parse("ASHLAR_ON_ERROR=Abort");
    is_str(said, "ashlar: ASHLAR_ON_ERROR=Abort ignored: allowed is abort|warn (default abort)\n",
           "words are compared as they are written");
}

struct number {
    const char *text;
    uint64_t want;
    bool good;
};

static void test_bytes(void)
{
    static const struct number cases[] = {
        {"0", 0, true},
        {"1", 1, true},
        {"65536", 65536, true},
        {"100B", 100, true},
        {"64k", 65536, true},
        {"64KB", 65536, true},
        {"64KiB", 65536, true},
        {"3M", 3 * MIB, true},
        {"2g", 2 * GIB, true},
        {"1T", 1024 * GIB, true},
        {"1024T", (uint64_t)1 << 50, true},
        {"1025T", 0, false},
        {"18446744073709551615", 0, false},
        {"18446744073709551616", 0, false},
        {"99999999999999999999999999", 0, false},
        {"18014398509481984K", 0, false}, /* 2^64 */
        {"16777217T", 0, false},          /* 2^64 + 1 TiB */
        {"-1", 0, false},
        {"+1", 0, false},
        {" 1", 0, false},
        {"1 ", 0, false},
        {"1.5G", 0, false},
        {"0x10", 0, false},
        {"1KK", 0, false},
        {"1iB", 0, false},
        {"1P", 0, false},
        {"K", 0, false},
        {"..", 0, false},
        {"0..1", 0, false},
        {"lots", 0, false},
    };
    for (size_t i = 0; i < ASH_COUNT(cases); i++) {
        char variable[80];
        snprintf(variable, sizeof variable, "ASHLAR_LIMIT=%s", cases[i].text);
        parse(variable);
        ok(options.limit == cases[i].want && (said[0] == '\0') == cases[i].good,
           "bytes: '%s' is %s", cases[i].text, cases[i].good ? "right" : "refused");
    }
}

static void test_ms(void)
{
    static const struct number cases[] = {
        {"0", 0, true},           {"250", 250, true},    {"250ms", 250, true},
        {"2s", 2000, true},       {"1min", 60000, true}, {"3600000", 3600000, true},
        {"60min", 3600000, true}, {"3600001", 0, false}, {"61min", 0, false},
        {"2h", 0, false},         {"2K", 0, false},      {"4294967296", 0, false},
    };
    options_parse(NULL, false);
    uint64_t fallback = options.purge_ms;
    for (size_t i = 0; i < ASH_COUNT(cases); i++) {
        char variable[80];
        snprintf(variable, sizeof variable, "ASHLAR_PURGE_MS=%s", cases[i].text);
        parse(variable);
        ok(options.purge_ms == (cases[i].good ? cases[i].want : fallback) &&
               (said[0] == '\0') == cases[i].good,
           "milliseconds: '%s' is %s", cases[i].text, cases[i].good ? "right" : "refused");
    }
}

static void test_targets(void)
{
    static const char *const good[] = {"0",           "1",           "text",      "json",    "prom",
                                       "text:/tmp/x", "json:a%p.js", "prom:/a:b", "json:..."};
    static const char *const bad[] = {
        "2", "yes", "1:/tmp/x", "json:", "jsn", "JSON", "text/tmp", ":x"};
    char variable[80];
    for (size_t i = 0; i < ASH_COUNT(good); i++) {
        snprintf(variable, sizeof variable, "ASHLAR_STATS=%s", good[i]);
        parse(variable);
        ok(said[0] == '\0' && strcmp(options.stats, good[i]) == 0, "statistics to '%s'", good[i]);
    }
    for (size_t i = 0; i < ASH_COUNT(bad); i++) {
        snprintf(variable, sizeof variable, "ASHLAR_STATS=%s", bad[i]);
        parse(variable);
        ok(strstr(said, "allowed is 0|1|text[:PATH]|json[:PATH]|prom[:PATH]") != NULL &&
               strcmp(options.stats, "0") == 0,
           "statistics to '%s' refused", bad[i]);
    }
}

static void test_signals(void)
{
    static const struct number cases[] = {
        {"USR1", SIGUSR1, true},  {"SIGUSR2", SIGUSR2, true},
        {"hup", SIGHUP, true},    {"12", 12, true},
        {"64", 64, true},         {"0", 0, true},
        {"KILL", 0, false},       {"9", 0, false},
        {"SIGSEGV", 0, false},    {"11", 0, false},
        {"65", 0, false},         {"SIG", 0, false},
        {"SIGSIGUSR1", 0, false}, {"USR3", 0, false},
        {"10s", 0, false},
    };
    for (size_t i = 0; i < ASH_COUNT(cases); i++) {
        char variable[80];
        snprintf(variable, sizeof variable, "ASHLAR_STATS_SIGNAL=%s", cases[i].text);
        parse(variable);
        ok(options.stats_signal == (int)cases[i].want && (said[0] == '\0') == cases[i].good,
           "signal '%s' is %s", cases[i].text, cases[i].good ? "right" : "refused");
    }
}

static void test_unknown(void)
{
    parse("ASHLAR_GRIAN=16");
    is_str(said, "ashlar: unknown option ASHLAR_GRIAN ignored (did you mean ASHLAR_GRAIN?)\n",
           "swapped letters are recognised");
    parse("ASHLAR_stats=1");
    is_str(said, "ashlar: unknown option ASHLAR_stats ignored (did you mean ASHLAR_STATS?)\n",
           "small letters too");
    parse("ASHLAR_PURGE=1");
    ok(strstr(said, "(did you mean ASHLAR_PURGE_MS?)") != NULL, "a missing part too");
    parse("ASHLAR_COLOUR=red");
    is_str(said, "ashlar: unknown option ASHLAR_COLOUR ignored\n",
           "what is like nothing is only named");
    parse("ASHLAR_=1");
    is_str(said, "ashlar: unknown option ASHLAR_ ignored\n", "no name at all");
    parse("ASHLAR_GRAIN");
    is_str(said, "", "a name without '=' is one without a value");
    parse("ASHLARGRAIN=1");
    is_str(said, "", "other names are not ours");

    char longest[4096];
    memset(longest, 'X', sizeof longest - 1);
    memcpy(longest, "ASHLAR_", 7);
    longest[sizeof longest - 1] = '\0';
    parse(longest);
    size_t n = strlen(said);
    ok(n > 0 && n < 512 && said[n - 1] == '\n' && strchr(said, '\n') == said + n - 1,
       "an endless name gives one line");
    memcpy(longest, "ASHLAR_LIMIT=", 13);
    parse(longest);
    n = strlen(said);
    ok(n > 0 && n < 512 && said[n - 1] == '\n', "an endless value too");
    parse("ASHLAR_GRAIN=1\n\033[2J6");
    is_str(said, "ashlar: ASHLAR_GRAIN=1??[2J6 ignored: allowed is 16|64 (default 64)\n",
           "control characters are not passed on");
}

static void test_environment(void)
{
    parse("ASHLAR_GRAIN=");
    is_int(options.grain, 64, "an empty value is none");
    is_str(said, "", "and not worth a word");
    parse_as(false, "ASHLAR_GRAIN=16", "ASHLAR_GRAIN=64", NULL);
    is_int(options.grain, 16, "of two the first counts, as for getenv");
    parse_as(false, "ASHLAR_LIMIT=x", "ASHLAR_LIMIT=1M", "ASHLAR_THP=never");
    is_int((long long)options.limit, 0, "even when it is bad");
    is_int(options.thp, OPTION_THP_NEVER, "and the others are read");
    parse_as(true, "ASHLAR_GRAIN=16", "ASHLAR_STATS=json:/etc/x", "ASHLAR_NONSENSE=1");
    is_int(options.grain, 64, "a secure process obeys nothing");
    is_str(options.stats, "0", "writes nothing");
    is_str(said, "", "and says nothing");
    char *envp[] = {(char[]){"ASHLAR_GRAIN=7"}, NULL};
    int keep = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    errno = 77;
    options_parse(envp, false);
    is_int(errno, 77, "errno is kept, even with standard error closed");
    dup2(keep, STDERR_FILENO);
    close(keep);
}

int main(void)
{
    test_defaults();
    test_each();
    test_choices();
    test_bytes();
    test_ms();
    test_targets();
    test_signals();
    test_unknown();
    test_environment();
    return tap_done();
}
