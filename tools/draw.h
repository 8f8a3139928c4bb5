/*
 * What `ashlar top` shows of a process, on a page of any size.
 */
#ifndef ASHLAR_TOOLS_DRAW_H
#define ASHLAR_TOOLS_DRAW_H

#include "canvas.h"
#include "sample.h"

enum draw_sort { DRAW_LIVE, DRAW_RATE };

enum { HISTORY = 240 };

/* The last figures, oldest first. */
struct history {
    int n;
    uint64_t live[HISTORY], rss[HISTORY], rate[HISTORY];
};

struct view {
    const struct target *target;
    const struct sample *before, *now; /* the same one at first */
    struct history history;
    enum draw_sort sort;
    int interval_ms;
    bool screen, paused, helps, ended;
};

void history_add(struct history *h, const struct sample *before, const struct sample *now);

void draw_process(struct canvas *c, const struct view *v);

/* One line of the list of processes. */
struct listed {
    int pid;
    char name[TARGET_NAME];
    char note[TARGET_WHY]; /* why there are no figures; "" */
    uint64_t live, rss, rate, allocations, at_ns;
    unsigned hits, threads;
};

void draw_list(struct canvas *c, const struct listed *all, size_t n, size_t forbidden);

/* "2 d 3 h", "3 h 12 min", "12 min 5 s", "5 s" */
void draw_time(char out[24], uint64_t ms);

#endif
