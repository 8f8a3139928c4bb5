#include "heapfile.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRAMES_MAX = 4096 }; /* of a stack */

/* What a sample of that size on average stands for. */
static double scale(double blocks, double bytes, double mean)
{
    return mean > 0 && bytes > 0 ? -1 / expm1(-bytes / blocks / mean) : 1;
}

/* One line less; it ends with NUL then. NULL: there is none left. */
static char *take_line(char **rest)
{
    char *line = *rest;
    if (*line == '\0')
        return NULL;
    size_t n = strcspn(line, "\n");
    *rest = line + n + (line[n] != '\0');
    line[n] = '\0';
    return line;
}

/* "N: BYTES [N: BYTES] @": *rest stands behind it. */
static bool take_counts(const char *line, double counts[4], const char **rest)
{
    uint64_t n[4];
    int used = 0;
    if (sscanf(line, " %" SCNu64 ": %" SCNu64 " [ %" SCNu64 ": %" SCNu64 "] @%n", &n[0], &n[1],
               &n[2], &n[3], &used) != 4 ||
        used == 0)
        return false;
    for (int i = 0; i < 4; i++)
        counts[i] = (double)n[i];
    *rest = line + used;
    return true;
}

/* The frames of a line go to `at`; how many. */
static size_t take_frames(const char *text, uint64_t *at)
{
    size_t n = 0;
    char *end;
    for (;; text = end) {
        at[n] = strtoull(text, &end, 16);
        if (end == text)
            return n;
        n++;
    }
}

static bool read_header(struct heapfile *h, const char *line)
{
    static const char begin[] = "heap profile: ";
    const char *rest;
    double counts[4];
    char kind[16];
    uint64_t mean = 0;
    if (strncmp(line, begin, sizeof begin - 1) != 0 ||
        !take_counts(line + sizeof begin - 1, counts, &rest) ||
        sscanf(rest, " %15[a-z_0-9]/%" SCNu64, kind, &mean) < 1)
        return false;
    bool sampled = strcmp(kind, "heap_v2") == 0;
    h->mean = sampled ? (double)mean : 0;
    h->samples = counts[2];
    return sampled || strcmp(kind, "heapprofile") == 0;
}

static bool read_stack(struct heapfile *h, const char *line, uint64_t **fresh)
{
    struct heap_stack *s = &h->stacks[h->stack_count];
    const char *rest;
    double n[4];
    if (!take_counts(line, n, &rest))
        return false;
    double live = scale(n[0], n[1], h->mean), all = scale(n[2], n[3], h->mean);
    *s = (struct heap_stack){n[0] * live, n[1] * live, n[2] * all, n[3] * all, 0, *fresh};
    s->frames = take_frames(rest, *fresh);
    if (s->frames > FRAMES_MAX)
        return false;
    *fresh += s->frames;
    h->stack_count++;
    return true;
}

/* A line of /proc/PID/maps; only code is kept. */
static void read_map(struct heapfile *h, char *line)
{
    struct heap_map m;
    char mode[5];
    int used = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n", &m.from, &m.to, mode,
               &m.offset, &used) == 4 &&
        used != 0 && line[used] != '\0' && strchr(mode, 'x') != NULL) {
        m.path = line + used;
        h->maps[h->map_count++] = m;
    }
}

const char *heapfile_read(struct heapfile *h, char *text, unsigned *number)
{
    size_t lines = 1;
    for (const char *c = text; *c != '\0'; c++)
        lines += *c == '\n';
    *h = (struct heapfile){
        .stacks = calloc(lines, sizeof *h->stacks),
        .maps = calloc(lines, sizeof *h->maps),
        .frames = calloc(strlen(text) / 2 + 1, sizeof *h->frames),
    };
    if (h->stacks == NULL || h->maps == NULL || h->frames == NULL)
        return "too large for the memory there is";
    *number = 1;
    char *line = take_line(&text);
    if (line == NULL || !read_header(h, line))
        return "not a heap profile that this program knows";
    uint64_t *fresh = h->frames;
    bool maps = false;
    while ((line = take_line(&text)) != NULL) {
        ++*number;
        if (strcmp(line, "MAPPED_LIBRARIES:") == 0)
            maps = true;
        else if (maps)
            read_map(h, line);
        else if (*line != '\0' && !read_stack(h, line, &fresh))
            return "not a line of a heap profile";
    }
    return maps ? NULL : "a heap profile without its end";
}

void heapfile_free(struct heapfile *h)
{
    free(h->stacks);
    free(h->maps);
    free(h->frames);
}
