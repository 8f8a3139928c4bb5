/*
 * ashlar report: statistics and heap profiles as a page, or a profile as folded stacks. What a file
 * holds is told by how it begins.
 */
#include "ashlar.h"
#include "flame.h"
#include "page.h"
#include "show.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILES_MAX = 1000 };

struct input {
    const char *path;
    char *text;
    struct json *stats; /* NULL: it is a profile */
    struct heapfile heap;
    struct names *names;
};

struct request {
    const char *out; /* NULL: standard output */
    bool folded;
    enum flame_of which;
    struct input *inputs;
    size_t count;
};

static int help(void)
{
    puts("usage: ashlar report [OPTION...] FILE...\n\n"
         "Makes a page (HTML, with all that it needs inside) of statistics that were written with\n"
         "ASHLAR_STATS=json:PATH and of heap profiles that were written with ASHLAR_PROFILE=PATH.\n"
         "Of several files of statistics it shows the last, and how they changed.\n\n"
         "  -o PATH       where it goes; else standard output\n"
         "  --folded      folded stacks of a profile instead, for tools of flame graphs\n"
         "  --allocated   with --folded: all that was allocated, not what is live\n");
    return STATUS_OK;
}

static int unusable(const char *path, const char *why)
{
    return failed("report: %s: %s", path, why);
}

/* All of a file, with a NUL behind it; NULL, and errno. */
static char *read_all(const char *path, size_t *size)
{
    FILE *f = fopen(path, "re");
    char *text = NULL;
    size_t room = 0, n = 0, got = 1;
    while (f != NULL && got > 0) {
        if (room - n < 4096) {
            char *more = realloc(text, room = 2 * room + 65536);
            if (more == NULL)
                break;
            text = more;
        }
        got = fread(text + n, 1, room - n - 1, f);
        n += got;
    }
    bool whole = f != NULL && got == 0 && ferror(f) == 0;
    int error = errno;
    if (f != NULL)
        fclose(f);
    if (!whole) {
        free(text);
        errno = error;
        return NULL;
    }
    text[n] = '\0';
    *size = n;
    return text;
}

static int read_stats(struct input *in, size_t n)
{
    const char *wrong;
    in->stats = json_read(in->text, n, &wrong);
    if (in->stats == NULL && wrong == NULL)
        return unusable(in->path, strerror(ENOMEM));
    if (in->stats == NULL) {
        fprintf(stderr, "ashlar: report: %s: not JSON at byte %td\n", in->path, wrong - in->text);
        return STATUS_FAILED;
    }
    const struct json *format = json_get(in->stats, "format");
    const struct json *totals = json_get(in->stats, "totals");
    if (format == NULL || totals == NULL || totals->type != JSON_OBJECT)
        return unusable(in->path, "JSON, but not statistics of Ashlar");
    if (format->number != 1)
        return unusable(in->path, "statistics of another version of Ashlar");
    return STATUS_OK;
}

static int read_heap(struct input *in)
{
    unsigned line = 0;
    const char *wrong = heapfile_read(&in->heap, in->text, &line);
    if (wrong != NULL) {
        fprintf(stderr, "ashlar: report: %s:%u: %s\n", in->path, line, wrong);
        return STATUS_FAILED;
    }
    in->names = names_of(&in->heap);
    return in->names != NULL ? STATUS_OK : unusable(in->path, strerror(ENOMEM));
}

static int read_input(struct input *in)
{
    size_t n = 0;
    in->text = read_all(in->path, &n);
    if (in->text == NULL)
        return unusable(in->path, strerror(errno));
    if (in->text[strspn(in->text, " \t\r\n")] == '{')
        return read_stats(in, n);
    if (strncmp(in->text, "heap profile:", 13) == 0)
        return read_heap(in);
    return unusable(in->path, "neither statistics in JSON nor a heap profile");
}

static void input_free(struct input *in)
{
    names_free(in->names);
    heapfile_free(&in->heap);
    free(in->stats);
    free(in->text);
}

/* ---- writing ---- */

static bool put_profile(FILE *out, const struct input *in)
{
    char live[16], all[16], mean[16];
    double sum[2] = {0, 0};
    for (size_t i = 0; i < in->heap.stack_count; i++) {
        sum[0] += in->heap.stacks[i].live_bytes;
        sum[1] += in->heap.stacks[i].all_bytes;
    }
    page_bytes(live, sum[0]);
    page_bytes(all, sum[1]);
    page_bytes(mean, in->heap.mean);
    fprintf(out, "<h2>Live memory by call stack</h2>\n<p>%s, by ", live);
    show_xml_text(out, in->path, 120);
    fprintf(out, ": %.0f samples, one in %s on average.</p>\n", in->heap.samples, mean);
    if (!flame_svg(out, &in->heap, in->names, FLAME_LIVE))
        return false;
    fprintf(out, "<h2>Allocated memory by call stack</h2>\n<p>%s in the life of the process.</p>\n",
            all);
    return flame_svg(out, &in->heap, in->names, FLAME_ALL);
}

static bool put_page(FILE *out, const struct request *r)
{
    const struct json *stats[FILES_MAX];
    const char *names[FILES_MAX];
    size_t count = 0;
    bool done = true;
    char title[300];
    for (size_t i = 0; i < r->count; i++)
        if (r->inputs[i].stats != NULL) {
            stats[count] = r->inputs[i].stats;
            names[count++] = r->inputs[i].path;
        }
    if (count > 0)
        snprintf(title, sizeof title, "Ashlar: memory of process %.0f",
                 json_number(stats[count - 1], "pid"));
    else
        snprintf(title, sizeof title, "Ashlar: heap profile");
    page_begin(out, title);
    if (count > 1)
        page_timeline(out, stats, names, count);
    if (count > 0)
        page_stats(out, stats[count - 1]);
    for (size_t i = 0; i < r->count && done; i++)
        if (r->inputs[i].stats == NULL)
            done = put_profile(out, &r->inputs[i]);
    page_end(out);
    return done;
}

static bool put_folded(FILE *out, const struct request *r)
{
    bool done = true;
    for (size_t i = 0; i < r->count && done; i++)
        done = flame_folded(out, &r->inputs[i].heap, r->inputs[i].names, r->which);
    return done;
}

static int put(const struct request *r)
{
    FILE *out = r->out != NULL ? fopen(r->out, "we") : stdout;
    if (out == NULL)
        return unusable(r->out, strerror(errno));
    if (!(r->folded ? put_folded : put_page)(out, r)) {
        if (out != stdout)
            fclose(out);
        return unusable(r->out != NULL ? r->out : "standard output", strerror(ENOMEM));
    }
    bool whole = fflush(out) == 0 && ferror(out) == 0;
    if (out != stdout)
        whole &= fclose(out) == 0;
    return whole ? STATUS_OK
                 : unusable(r->out != NULL ? r->out : "standard output", strerror(errno));
}

static int read_and_put(struct request *r)
{
    int status = STATUS_OK;
    for (size_t i = 0; i < r->count && status == STATUS_OK; i++) {
        status = read_input(&r->inputs[i]);
        if (status == STATUS_OK && r->folded && r->inputs[i].stats != NULL)
            status = unusable(r->inputs[i].path, "statistics have no stacks to fold");
    }
    return status == STATUS_OK ? put(r) : status;
}

int command_report(int argc, char **argv)
{
    struct request r = {.inputs = calloc((size_t)argc + 1, sizeof *r.inputs)};
    int status = r.inputs != NULL ? STATUS_OK : failed("report: %s", strerror(ENOMEM));
    bool options = true;
    for (int i = 1; i < argc && status == STATUS_OK; i++) {
        const char *arg = argv[i];
        if (!options || arg[0] != '-' || arg[1] == '\0')
            r.inputs[r.count++].path = arg;
        else if (strcmp(arg, "--help") == 0)
            return help();
        else if (strcmp(arg, "--") == 0)
            options = false;
        else if (strcmp(arg, "-o") == 0 && i + 1 < argc)
            r.out = argv[++i];
        else if (strcmp(arg, "--folded") == 0)
            r.folded = true;
        else if (strcmp(arg, "--allocated") == 0)
            r.which = FLAME_ALL;
        else
            status = usage_error(
                "report: option '%s' is not known or lacks its value; see `ashlar report --help`",
                arg);
    }
    if (status == STATUS_OK && (r.count == 0 || r.count > FILES_MAX))
        status = usage_error("report: %s; see `ashlar report --help`",
                             r.count == 0 ? "no file given" : "too many files");
    if (status == STATUS_OK)
        status = read_and_put(&r);
    for (size_t i = 0; r.inputs != NULL && i < r.count; i++)
        input_free(&r.inputs[i]);
    free(r.inputs);
    return status;
}
