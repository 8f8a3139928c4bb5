/*
 * ashlar compare: allocators beside each other, on a command or a trace. Its parts, in the order of
 * their work: who takes part (compare_peers), whether it takes effect and what the command prints
 * (compare_check), what the figures say (compare_figures), and how they are shown (compare_table,
 * compare_svg).
 */
#ifndef ASHLAR_TOOLS_COMPARE_H
#define ASHLAR_TOOLS_COMPARE_H

#include "child.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { CONTESTANTS_MAX = 24, ROUNDS_MAX = 1000, NAME_BYTES = 32 };

/* ---- who ---- */

enum contestant_kind { KIND_GLIBC, KIND_ASHLAR, KIND_PEER };

struct contestant {
    char name[NAME_BYTES], version[NAME_BYTES];
    enum contestant_kind kind;
    char library[PATH_MAX];                         /* "" for the C library's own */
    char preload[PATH_MAX + 16], grain[NAME_BYTES]; /* for the environment */
};

struct contestants {
    struct contestant one[CONTESTANTS_MAX];
    size_t count;
};

/* The C library, Ashlar with both grains, then every peer that is installed. */
void peers_find(struct contestants *all);
/* Leaves only the names in the list, separated by commas. False, and said, at an unknown one. */
bool peers_choose(struct contestants *all, const char *names);
/* The one that is meant by its name, or by PATH or NAME=PATH and then added. NULL: said why. */
struct contestant *peers_one(struct contestants *all, const char *what);
/* Prints the version of the malloc that this process has, where it can be asked. */
int peers_print_own(void);
/* What selects it, in the form of child_plan; the number, with room for more behind. */
size_t peers_settings(struct contestant *c, char **to);

/* ---- the command ---- */

struct subject {
    char **command;
    const char *stdin_path; /* NULL: /dev/null */
    const char *trace;      /* NULL: a command */
    const char *title;
};

/* The standard input for one run, or -1 for /dev/null. */
int subject_input(const struct subject *s);

/* ---- the check ---- */

struct check {
    bool left_out[CONTESTANTS_MAX];  /* it does not work, or takes no effect */
    bool failed[CONTESTANTS_MAX];    /* the command failed, or printed something else */
    char note[CONTESTANTS_MAX][240]; /* what is wrong; "" else */
    char remark[240];                /* on the command itself; "" else */
    int status;                      /* the command's, under the first one */
};

/*
 * Runs the command once under each allocator, with the dynamic linker writing down whose malloc is
 * bound. False: it cannot be run at all, or was interrupted; said why.
 */
bool check_run(struct contestants *all, const struct subject *s, bool outputs, struct check *c);

/* ---- figures ---- */

enum metric {
    METRIC_WALL,
    METRIC_CPU,
    METRIC_RSS,
    METRIC_FAULTS,
    METRIC_MAJOR,
    METRIC_SWITCHES,
    METRIC_CALL, /* ns a call of a replayed trace */
    METRIC_LIVE, /* bytes that a replayed trace needed at its peak */
    METRICS
};

extern const char *const metric_names[METRICS]; /* as in JSON */

struct sample {
    double value[METRICS];
    int status;
};

struct results {
    struct contestants *all;
    const struct subject *subject;
    struct check *check;
    struct sample *samples; /* [round * all->count + contestant] */
    size_t rounds;          /* complete ones */
    size_t warmups;
    bool failed[CONTESTANTS_MAX]; /* in a timed run */
    bool traced;                  /* METRIC_CALL and METRIC_LIVE are there */
    bool interrupted;
};

struct spread {
    double min, median, max;
};

/*
 * A ratio to the first contestant: the median of the rounds' own ratios, and an interval that holds
 * the true one in at least 95 of 100 such comparisons. It comes from ranks alone, so whatever noise
 * the machine has is in it.
 */
struct ratio {
    double median, low, high;
    bool known;   /* there are rounds enough for the interval: 6 */
    bool differs; /* the interval does not hold 1 */
};

struct spread figures_of(const struct results *r, size_t contestant, enum metric m);
struct ratio figures_ratio(const struct results *r, size_t contestant, enum metric m);
/* The contestant with the lowest median of those that take part. */
size_t figures_best(const struct results *r, enum metric m);
bool figures_takes_part(const struct results *r, size_t contestant);

/* The metrics that stand for time and memory. */
enum metric figures_time(const struct results *r);
enum metric figures_memory(const struct results *r);

/* The number behind a name in a line of JSON; 0 where it is not. */
double figures_in(const char *line, const char *name);
/* A value with its unit, as a person reads it. */
void figures_text(char out[16], enum metric m, double value);

/* ---- shown ---- */

void table_print(FILE *to, const struct results *r);
void table_markdown(FILE *to, const struct results *r);
void table_json(FILE *to, const struct results *r);
void svg_print(FILE *to, const struct results *r);

#endif
