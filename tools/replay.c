/*
 * ashlar replay: plays a trace back under an allocator, as often as is asked for, each time in a
 * process of its own; with --here once, in this process.
 */
#include "replay.h"

#include "ashlar.h"
#include "compare.h"
#include "show.h"

#include "base/fmt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TIMES = 5, TIMES_MAX = 1000 };

struct plan {
    const char *path, *with;
    long times;
    enum replay_touch touch;
    bool here, json;
};

static int help(void)
{
    puts("usage: ashlar replay [OPTION...] FILE\n\n"
         "Makes the calls of a trace of `ashlar record` again: the same threads, sizes and "
         "order.\n\n"
         "  --with NAME|LIBRARY  the allocator (ashlar); `ashlar compare --list` names those here\n"
         "  -n TIMES             how often (5)\n"
         "  --touch=WHAT         what is written to a new block: none, its first bytes, all, or\n"
         "                       one byte of every page (pages, the default)\n"
         "  --json               figures for programs\n"
         "  --here               once, in this process, with the malloc that it has");
    return STATUS_OK;
}

/* ---- in this process ---- */

static double per_call(const struct replay_figures *f)
{
    return f->calls > 0 ? (double)f->ns / (double)f->calls : 0;
}

static bool is_whole(const struct replay_figures *f)
{
    return !f->stuck && f->skipped == 0 && f->refused == 0 && f->broken == 0 && f->why[0] == '\0';
}

/* What did not go as it was recorded; misaligned blocks are told, and play all the same. */
static void complain(const char *path, const struct replay_figures *f)
{
    if (f->why[0] != '\0')
        fprintf(stderr, "ashlar: %s: %s\n", path, f->why);
    if (f->stuck)
        fprintf(stderr, "ashlar: %s: threads wait for each other: the trace contradicts itself\n",
                path);
    else if (f->skipped != 0)
        fprintf(stderr, "ashlar: %s: %" PRIu64 " calls end blocks that the trace does not have\n",
                path, f->skipped);
    if (f->refused != 0)
        fprintf(stderr, "ashlar: %s: %" PRIu64 " allocations failed\n", path, f->refused);
    if (f->broken != 0)
        fprintf(stderr, "ashlar: %s: %" PRIu64 " blocks lost their contents in realloc\n", path,
                f->broken);
    if (f->misaligned != 0)
        fprintf(stderr, "ashlar: %s: %" PRIu64 " blocks are not aligned as was asked for\n", path,
                f->misaligned);
}

static void print_line(const struct trace *t, const struct replay_figures *f)
{
    printf("{\"calls\": %" PRIu64 ", \"threads\": %zu, \"ns_per_call\": %.3f, \"ns\": %" PRId64
           ", \"wall_ns\": %" PRId64 ", \"peak_bytes\": %" PRId64 ", \"skipped\": %" PRIu64
           ", \"refused\": %" PRIu64 ", \"broken\": %" PRIu64 ", \"misaligned\": %" PRIu64
           ", \"stuck\": %s}\n",
           f->calls, t->thread_count, per_call(f), f->ns, f->wall_ns, f->rss, f->skipped,
           f->refused, f->broken, f->misaligned, f->stuck ? "true" : "false");
}

static int play_here(const struct trace *t, const struct plan *p)
{
    struct replay_figures f;
    char time[16], peak[16], calls[16];
    replay_play(t, p->touch, &f);
    complain(p->path, &f);
    if (p->json) {
        print_line(t, &f);
    } else {
        figures_text(time, METRIC_CALL, per_call(&f));
        fmt_bytes_text(peak, f.rss > 0 ? (uint64_t)f.rss : 0);
        fmt_count_text(calls, f.calls);
        printf("%s calls, %s each; peak of the blocks %s\n", calls, time, peak);
    }
    return is_whole(&f) ? STATUS_OK : STATUS_FAILED;
}

/* ---- in others ---- */

/* Plays it once under the allocator; false when that failed, which its process has said. */
static bool play_once(const struct plan *p, struct contestant *who, bool last, double v[2])
{
    char self[PATH_MAX] = "", line[1024], *settings[8];
    char touch[32];
    struct child_figures f;
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return usage_error("replay: /proc is not mounted"), false;
    snprintf(touch, sizeof touch, "--touch=%s", replay_touches[p->touch]);
    char *command[] = {self,
                       (char[]){"replay"},
                       (char[]){"--here"},
                       (char[]){"--json"},
                       touch,
                       (char *)(uintptr_t)p->path,
                       NULL};
    peers_settings(who, settings);
    int out = memfd_create("figures", MFD_CLOEXEC);
    struct child_plan plan = {.command = command,
                              .settings = settings,
                              .in = -1,
                              .out = out,
                              .err = last ? STDERR_FILENO : -1};
    int error = child_run(&plan, &f);
    ssize_t n = pread(out, line, sizeof line - 1, 0);
    line[n > 0 ? n : 0] = '\0';
    close(out);
    if (error != 0)
        fprintf(stderr, "ashlar: replay: %s\n", strerror(error));
    v[0] = figures_in(line, "ns_per_call");
    v[1] = figures_in(line, "peak_bytes");
    if (last && error == 0 && f.status > STATUS_USAGE && child_interrupted == 0)
        fprintf(stderr, "ashlar: replay under %s: %s\n", who->name,
                f.status > 128 ? strsignal(f.status - 128) : "it could not be run");
    return error == 0 && f.status == STATUS_OK;
}

static int number_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void print_figures(const struct trace *t, const struct plan *p, const struct contestant *who,
                          double *ns, double *peaks, long n)
{
    char low[16], middle[16], high[16], peak[16], calls[16];
    qsort(ns, (size_t)n, sizeof *ns, number_order);
    qsort(peaks, (size_t)n, sizeof *peaks, number_order);
    double median = (ns[(n - 1) / 2] + ns[n / 2]) / 2;
    if (p->json) {
        printf("{\"allocator\": ");
        show_json_text(stdout, who->name);
        printf(", \"version\": ");
        show_json_text(stdout, who->version);
        printf(", \"times\": %ld, \"calls\": %" PRIu64
               ", \"threads\": %zu, \"ns_per_call\": %.3f, \"ns_per_call_min\": %.3f, "
               "\"ns_per_call_max\": %.3f, \"peak_bytes\": %.0f}\n",
               n, trace_calls(t), t->thread_count, median, ns[0], ns[n - 1], peaks[n / 2]);
        return;
    }
    figures_text(low, METRIC_CALL, ns[0]);
    figures_text(middle, METRIC_CALL, median);
    figures_text(high, METRIC_CALL, ns[n - 1]);
    figures_text(peak, METRIC_LIVE, peaks[n / 2]);
    fmt_count_text(calls, trace_calls(t));
    printf("%s: %s calls by %zu thread%s, %ld time%s under %s %s\n"
           "  time a call         %s (lowest %s, highest %s), first writes included\n"
           "  peak of the blocks  %s\n",
           p->path, calls, t->thread_count, t->thread_count == 1 ? "" : "s", n, n == 1 ? "" : "s",
           who->name, who->version, middle, low, high, peak);
}

static int play_others(const struct trace *t, const struct plan *p)
{
    static struct contestants all;
    double ns[TIMES_MAX], peaks[TIMES_MAX];
    long done = 0;
    bool whole = true;
    peers_find(&all);
    struct contestant *who = peers_one(&all, p->with);
    if (who == NULL)
        return STATUS_USAGE;
    child_catch();
    for (long i = 0; i < p->times && child_interrupted == 0; i++) {
        double v[2] = {0, 0};
        bool good = play_once(p, who, i == 0, v);
        if (child_interrupted != 0)
            break;
        whole &= good;
        ns[done] = v[0];
        peaks[done++] = v[1];
    }
    if (done > 0 && ns[0] > 0)
        print_figures(t, p, who, ns, peaks, done);
    if (child_interrupted != 0)
        return 128 + child_interrupted;
    return whole ? STATUS_OK : STATUS_FAILED;
}

/* ---- the command line ---- */

static bool touch_option(const char *value, enum replay_touch *to)
{
    for (int i = 0; i < TOUCHES; i++)
        if (strcmp(value, replay_touches[i]) == 0) {
            *to = (enum replay_touch)i;
            return true;
        }
    return false;
}

static int parse_one(int argc, char **argv, int *i, struct plan *p)
{
    const char *arg = argv[*i];
    if (strcmp(arg, "--here") == 0 || strcmp(arg, "--json") == 0) {
        *(arg[2] == 'h' ? &p->here : &p->json) = true;
    } else if (strncmp(arg, "--touch=", 8) == 0) {
        if (!touch_option(arg + 8, &p->touch))
            return usage_error("replay: --touch takes none, first, pages or all, not '%s'",
                               arg + 8);
    } else if (strncmp(arg, "--with=", 7) == 0) {
        p->with = arg + 7;
    } else if (strcmp(arg, "--with") == 0 && *i + 1 < argc) {
        p->with = argv[++*i];
    } else if (strcmp(arg, "-n") == 0 && *i + 1 < argc) {
        char *end;
        p->times = strtol(argv[++*i], &end, 10);
        if (*end != '\0' || p->times < 1 || p->times > TIMES_MAX)
            return usage_error("replay: -n takes 1 to %d, not '%s'", TIMES_MAX, argv[*i]);
    } else {
        return usage_error(
            "replay: option '%s' is not known or lacks its value; see `ashlar replay --help`", arg);
    }
    return STATUS_OK;
}

int command_replay(int argc, char **argv)
{
    struct plan p = {.with = "ashlar", .times = TIMES, .touch = TOUCH_PAGES};
    struct trace t;
    for (int i = 1; i < argc; i++) {
        int status = STATUS_OK;
        if (strcmp(argv[i], "--help") == 0)
            return help();
        if (argv[i][0] == '-')
            status = parse_one(argc, argv, &i, &p);
        else if (p.path == NULL)
            p.path = argv[i];
        else
            status = usage_error("replay: '%s' is too much; it takes one trace", argv[i]);
        if (status != STATUS_OK)
            return status;
    }
    if (p.path == NULL)
        return usage_error("replay: no trace given; `ashlar record -o FILE -- PROGRAM` writes one");
    bool usable = trace_open(&t, p.path);
    int status = usable ? STATUS_OK : STATUS_FAILED;
    if (t.damage[0] != '\0')
        fprintf(stderr, "ashlar: %s: %s%s\n", p.path, t.damage, usable ? "; the rest is used" : "");
    if (usable)
        status = p.here ? play_here(&t, &p) : play_others(&t, &p);
    if (status == STATUS_OK && t.damage[0] != '\0')
        status = STATUS_FAILED;
    trace_close(&t);
    return status;
}
