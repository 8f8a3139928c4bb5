/* Playing a trace back, in this process and with its malloc. */
#ifndef ASHLAR_TOOLS_REPLAY_H
#define ASHLAR_TOOLS_REPLAY_H

#include "trace.h"

/* What is written to a block when it is new. */
enum replay_touch { TOUCH_NONE, TOUCH_FIRST, TOUCH_PAGES, TOUCH_ALL, TOUCHES };

extern const char *const replay_touches[TOUCHES];

struct replay_figures {
    uint64_t calls;   /* made */
    uint64_t skipped; /* not made: the block's beginning is missing, or was refused */
    uint64_t refused; /* allocations that failed */
    uint64_t broken;  /* blocks that lost their contents in realloc */
    uint64_t misaligned;
    int64_t ns; /* in the calls and the first writes, all threads together */
    int64_t wall_ns;
    int64_t rss;   /* bytes: the peak, above what the process had before */
    bool stuck;    /* the trace contradicts itself; it was not played to the end */
    char why[120]; /* it could not be played; "" else */
};

void replay_play(const struct trace *t, enum replay_touch touch, struct replay_figures *f);

#endif
