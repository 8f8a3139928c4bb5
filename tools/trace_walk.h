/*
 * Walks a trace as it happened: the events of all threads, one after the other, in an order that
 * could have been the recorded one. Marks come in their order, and no block ends before it began.
 */
#ifndef ASHLAR_TOOLS_TRACE_WALK_H
#define ASHLAR_TOOLS_TRACE_WALK_H

#include "trace.h"

struct walk_object {
    uint64_t birth; /* on the walk's clock; 0: not born, WALK_ENDED: no more */
    uint64_t size;
};

#define WALK_ENDED UINT64_MAX

struct walk_thread {
    const struct trace_thread *trace;
    struct trace_cursor cursor;
    struct trace_event event;    /* the one that comes next */
    struct walk_object *objects; /* of its numbering */
    uint64_t mark;               /* of the part that it is in */
    bool more;                   /* there is a next event */
    bool blocked;                /* it ends a block that is not born yet */
};

struct walk {
    const struct trace *trace;
    struct walk_thread *threads; /* as many as the trace has, in its order */
    struct walk_thread **order;  /* by their first marks */
    size_t begun;                /* of these, so many have begun */
    struct walk_thread **active; /* those that have begun and not ended */
    size_t active_count;
    struct walk_thread *current;
    bool moved;              /* something was taken since threads were last unblocked */
    uint64_t clock;          /* blocks that were handed out so far, realloc's included */
    uint64_t contradictions; /* ends of blocks that never begin, or end twice: not shown */
};

/* One call of malloc's family. */
struct walk_step {
    struct trace_event event;
    const struct walk_thread *thread;
    struct walk_object ended; /* birth 0: the event ends none */
};

/* False: no memory. */
bool walk_begin(struct walk *w, const struct trace *t);
/* The next call, with the clock as it is after it. False: that was all. */
bool walk_next(struct walk *w, struct walk_step *step);
void walk_end(struct walk *w);

#endif
