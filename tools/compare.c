/*
 * ashlar compare: a command, or a trace, under the C library's malloc, Ashlar with both grains and
 * every peer that is installed.
 *
 * A round runs each contestant once, and every round begins with another one: so what the machine
 * does meanwhile meets all of them. Ratios are taken within a round. Each run is a process of its
 * own, started by this small program, in a process group that an interrupt ends.
 */
#include "compare.h"

#include "ashlar.h"
#include "os/os_clock.h"
#include "show.h"
#include "trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    ROUNDS_LEAST = 6, /* fewer tell nothing from noise */
    ROUNDS_MOST = 20, /* where nobody asks for more */
    ADDED_MAX = 16
};

#define ROUNDS_TIME 60e9 /* ns that the rounds should take where nobody says how many */

struct plan {
    size_t rounds; /* 0: what fits */
    size_t warmups;
    const char *with[ADDED_MAX];
    size_t with_count;
    const char *only, *json, *markdown, *svg;
    bool check;
    struct subject subject;
};

static int help(void)
{
    puts("usage: ashlar compare [OPTION...] [--] COMMAND [ARGUMENT...]\n"
         "       ashlar compare [OPTION...] --trace FILE\n\n"
         "Runs COMMAND under glibc, Ashlar (grain 64 and 16) and every installed peer, in "
         "rotation.\n\n"
         "  -n ROUNDS        runs of each (what a minute has room for, 6 to 20)\n"
         "  --warmup N       runs of each before, which are not counted (1)\n"
         "  --with [NAME=]LIBRARY\n"
         "                   one more allocator; may be given several times\n"
         "  --only NAMES     these allocators alone, separated by commas; the first is the base\n"
         "  --trace FILE     replays a trace of `ashlar record`\n"
         "  --stdin FILE     standard input of each run (a redirected file is used without it)\n"
         "  --no-check       do not compare what COMMAND prints\n"
         "  --json FILE      every sample; - is standard output, and then nothing else is there\n"
         "  --markdown FILE  a table\n"
         "  --svg FILE       a picture\n"
         "  --list           name the allocators that are here\n\n"
         "Exit status: 0; 1 when COMMAND failed or printed something else under some; 2 for a "
         "wrong\n"
         "command line.");
    return STATUS_OK;
}

static int list(const struct contestants *all)
{
    for (size_t i = 0; i < all->count; i++) {
        const struct contestant *c = &all->one[i];
        printf("%-12s %-12s %s\n", c->name, c->version,
               c->library[0] != '\0' ? c->library : "the C library's own");
    }
    return STATUS_OK;
}

/* ---- runs ---- */

/* The line of `ashlar replay --here --json`. */
static void read_replay(int fd, struct sample *s, char *note, size_t size)
{
    char text[1024];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    s->value[METRIC_CALL] = figures_in(text, "ns_per_call");
    s->value[METRIC_LIVE] = figures_in(text, "peak_bytes");
    if (figures_in(text, "misaligned") > 0)
        snprintf(note, size, "%.0f blocks are not aligned as was asked for",
                 figures_in(text, "misaligned"));
}

/* False: it could not be started. */
static bool run_one(struct results *r, size_t i, struct sample *s)
{
    char *settings[8];
    struct child_figures f;
    peers_settings(&r->all->one[i], settings);
    int in = subject_input(r->subject);
    int out = r->traced ? memfd_create("figures", MFD_CLOEXEC) : -1;
    struct child_plan plan = {
        .command = r->subject->command, .settings = settings, .in = in, .out = out, .err = -1};
    int error = child_run(&plan, &f);
    if (in >= 0)
        close(in);
    if (error == 0) {
        *s = (struct sample){.status = f.status};
        s->value[METRIC_WALL] = (double)f.wall_ns;
        s->value[METRIC_CPU] = (double)(f.user_ns + f.system_ns);
        s->value[METRIC_RSS] = (double)f.rss;
        s->value[METRIC_FAULTS] = (double)f.minor_faults;
        s->value[METRIC_MAJOR] = (double)f.major_faults;
        s->value[METRIC_SWITCHES] = (double)(f.waits + f.preempts);
        if (r->traced)
            read_replay(out, s, r->check->note[i], sizeof r->check->note[i]);
        if (f.status != r->check->status && child_interrupted == 0)
            r->failed[i] = true;
    }
    if (out >= 0)
        close(out);
    return error == 0;
}

/* A round, its samples to `to`; false when it was not completed. */
static bool run_round(struct results *r, size_t round, struct sample *to, uint64_t begin,
                      size_t rounds)
{
    size_t count = r->all->count;
    for (size_t k = 0; k < count; k++) {
        size_t i = (round + k) % count;
        char what[100];
        if (!figures_takes_part(r, i))
            continue;
        snprintf(what, sizeof what, "%s, round %zu of %zu", r->all->one[i].name, round + 1, rounds);
        show_progress((int64_t)(os_clock_ns() - begin),
                      ((double)(round * count + k)) / (double)(rounds * count), what);
        if (!run_one(r, i, &to[i]) || child_interrupted != 0)
            return false;
    }
    return true;
}

/* Fills the results in, as far as they come. False: no memory. */
static bool run_all(struct results *r, const struct plan *p)
{
    size_t count = r->all->count, rounds = p->rounds;
    struct sample ignored[CONTESTANTS_MAX];
    uint64_t begin = os_clock_ns();
    for (size_t i = 0; i < p->warmups; i++, r->warmups++)
        if (!run_round(r, i, ignored, begin, p->warmups))
            break;
    if (rounds == 0) {
        double once = (double)(os_clock_ns() - begin) / (double)(r->warmups > 0 ? r->warmups : 1);
        double fit = p->warmups > 0 ? ROUNDS_TIME / (once + 1) : ROUNDS_LEAST;
        rounds = fit < ROUNDS_LEAST ? ROUNDS_LEAST : fit > ROUNDS_MOST ? ROUNDS_MOST : (size_t)fit;
    }
    r->samples = calloc(rounds * count, sizeof *r->samples);
    if (r->samples == NULL)
        return false;
    begin = os_clock_ns();
    while (r->rounds < rounds && child_interrupted == 0 &&
           run_round(r, r->rounds, &r->samples[r->rounds * count], begin, rounds))
        r->rounds++;
    r->interrupted = child_interrupted != 0;
    show_progress_end();
    return true;
}

/* ---- what comes of it ---- */

static bool write_to(const char *path, void (*print)(FILE *to, const struct results *r),
                     const struct results *r)
{
    FILE *to;
    if (path == NULL)
        return true;
    if ((to = show_open(path)) == NULL)
        return false;
    print(to, r);
    return show_close(to, path);
}

static bool is_stdout(const char *path)
{
    return path != NULL && strcmp(path, "-") == 0;
}

static int report(struct results *r, const struct plan *p)
{
    bool failed = p->subject.trace != NULL ? r->check->status != 0 : r->check->status > 128;
    size_t taking_part = 0;
    for (size_t i = 0; i < r->all->count; i++) {
        taking_part += figures_takes_part(r, i);
        failed |= r->check->failed[i] || r->failed[i];
        if (r->failed[i] && r->check->note[i][0] == '\0')
            snprintf(r->check->note[i], sizeof r->check->note[i],
                     "the command's exit status was not always %d", r->check->status);
    }
    if (!is_stdout(p->json) && !is_stdout(p->markdown) && !is_stdout(p->svg))
        table_print(stdout, r);
    bool written = write_to(p->json, table_json, r);
    written &= write_to(p->markdown, table_markdown, r);
    written &= r->rounds == 0 || write_to(p->svg, svg_print, r);
    if (taking_part < 2 && r->all->count > 1)
        fputs("ashlar: compare: preloading takes no effect on this command: there is nothing to "
              "compare\n",
              stderr);
    if (r->interrupted)
        return 128 + child_interrupted;
    return failed || !written || (taking_part < 2 && r->all->count > 1) ? STATUS_FAILED : STATUS_OK;
}

static int compare(struct contestants *all, struct plan *p)
{
    static struct check check;
    struct results r = {
        .all = all, .subject = &p->subject, .check = &check, .traced = p->subject.trace != NULL};
    child_catch();
    show_progress(0, 0, "checking what the command does");
    bool runs = check_run(all, &p->subject, p->check && !r.traced, &check);
    show_progress_end();
    if (!runs)
        return child_interrupted != 0 ? 128 + child_interrupted : STATUS_FAILED;
    if (!run_all(&r, p))
        return usage_error("compare: out of memory"), STATUS_FAILED;
    int status = report(&r, p);
    free(r.samples);
    return status;
}

/* ---- the command line ---- */

/* The words in one, quoted where a shell would need it. */
static char *join(char **words)
{
    size_t size = 1;
    for (char **w = words; *w != NULL; w++)
        size += strlen(*w) + 3;
    char *all = malloc(size), *to = all;
    for (char **w = words; all != NULL && *w != NULL; w++) {
        bool quote = **w == '\0' || strpbrk(*w, " \t\n\"'$`\\|&;<>()*?[#~") != NULL;
        to += snprintf(to, size - (size_t)(to - all), "%s%s%s%s", w != words ? " " : "",
                       quote ? "'" : "", *w, quote ? "'" : "");
    }
    for (char *c = all; c != NULL && *c != '\0'; c++)
        if (*c == '\n' || *c == '\t')
            *c = ' ';
    return all;
}

static bool number_option(const char *value, size_t low, size_t high, size_t *to)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(value, &end, 10);
    if (*value < '0' || *value > '9' || *end != '\0' || errno != 0 || n < low || n > high)
        return false;
    *to = n;
    return true;
}

/* An option's value: behind = or the next argument. NULL: this is another option. */
static const char *value_of(const char *option, int argc, char **argv, int *i)
{
    size_t n = strlen(option);
    if (strncmp(argv[*i], option, n) != 0)
        return NULL;
    if (argv[*i][n] == '=')
        return argv[*i] + n + 1;
    return argv[*i][n] == '\0' && *i + 1 < argc ? argv[++*i] : NULL;
}

/* Takes argv[*i], and its value, in. STATUS_OK, or the status to leave with. */
static int parse_one(int argc, char **argv, int *i, struct plan *p)
{
    const struct {
        const char *option, **to;
    } texts[] = {{"--only", &p->only},           {"--json", &p->json},
                 {"--markdown", &p->markdown},   {"--svg", &p->svg},
                 {"--trace", &p->subject.trace}, {"--stdin", &p->subject.stdin_path}};
    const char *v;
    if (strcmp(argv[*i], "--no-check") == 0) {
        p->check = false;
        return STATUS_OK;
    }
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++)
        if ((v = value_of(texts[k].option, argc, argv, i)) != NULL) {
            *texts[k].to = v;
            return STATUS_OK;
        }
    if ((v = value_of("-n", argc, argv, i)) != NULL)
        return number_option(v, 1, ROUNDS_MAX, &p->rounds)
                   ? STATUS_OK
                   : usage_error("compare: -n takes 1 to %d, not '%s'", ROUNDS_MAX, v);
    if ((v = value_of("--warmup", argc, argv, i)) != NULL)
        return number_option(v, 0, ROUNDS_MAX, &p->warmups)
                   ? STATUS_OK
                   : usage_error("compare: --warmup takes 0 to %d, not '%s'", ROUNDS_MAX, v);
    if ((v = value_of("--with", argc, argv, i)) != NULL) {
        if (p->with_count == ADDED_MAX)
            return usage_error("compare: --with is given more than %d times", ADDED_MAX);
        p->with[p->with_count++] = v;
        return STATUS_OK;
    }
    return usage_error(
        "compare: option '%s' is not known or lacks its value; see `ashlar compare --help`",
        argv[*i]);
}

/* STATUS_OK, or the status to leave with; *at becomes the place of the command. */
static int parse(int argc, char **argv, struct plan *p, int *at)
{
    int status = STATUS_OK;
    int i = 1;
    for (; i < argc && argv[i][0] == '-' && status == STATUS_OK; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        status = parse_one(argc, argv, &i, p);
    }
    *at = i;
    return status;
}

/* False, and said, when nothing of the trace can be used. */
static bool is_trace(const char *path)
{
    struct trace t;
    bool usable = trace_open(&t, path);
    if (t.damage[0] != '\0')
        fprintf(stderr, "ashlar: %s: %s%s\n", path, t.damage, usable ? "; the rest is used" : "");
    trace_close(&t);
    return usable;
}

static int complain(const struct plan *p, bool command)
{
    if (command == (p->subject.trace != NULL))
        return usage_error(command ? "compare: a command and --trace exclude each other"
                                   : "compare: no command given; see `ashlar compare --help`");
    if (is_stdout(p->json) + is_stdout(p->markdown) + is_stdout(p->svg) > 1)
        return usage_error("compare: two formats for standard output; give one of them a file");
    if (p->subject.stdin_path != NULL && access(p->subject.stdin_path, R_OK) != 0) {
        fprintf(stderr, "ashlar: compare: %s: %s\n", p->subject.stdin_path, strerror(errno));
        return STATUS_FAILED;
    }
    return p->subject.trace == NULL || is_trace(p->subject.trace) ? STATUS_OK : STATUS_FAILED;
}

int command_compare(int argc, char **argv)
{
    static struct contestants all;
    static char self[PATH_MAX];
    struct plan p = {.warmups = 1, .check = true};
    bool listing = argc == 2 && strcmp(argv[1], "--list") == 0;
    int i = 1, status = STATUS_OK;
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return help();
    if (argc == 2 && strcmp(argv[1], "--own-version") == 0)
        return peers_print_own();
    if (!listing && (status = parse(argc, argv, &p, &i)) == STATUS_OK)
        status = complain(&p, i < argc);
    if (status != STATUS_OK)
        return status;
    peers_find(&all);
    if (listing)
        return list(&all);
    for (size_t k = 0; k < p.with_count; k++)
        if (peers_one(&all, p.with[k]) == NULL)
            return STATUS_USAGE;
    if (p.only != NULL && !peers_choose(&all, p.only))
        return STATUS_USAGE;
    char *replay[] = {self,
                      (char[]){"replay"},
                      (char[]){"--here"},
                      (char[]){"--json"},
                      (char *)(uintptr_t)p.subject.trace,
                      NULL};
    p.subject.command = p.subject.trace != NULL ? replay : argv + i;
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return usage_error("compare: /proc is not mounted"), STATUS_FAILED;
    char *title = join(p.subject.trace != NULL ? replay + 4 : argv + i);
    p.subject.title = title != NULL ? title : argv[i];
    status = compare(&all, &p);
    free(title);
    return status;
}
