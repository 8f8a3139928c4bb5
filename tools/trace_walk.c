#include "trace_walk.h"

#include <stdlib.h>
#include <sys/mman.h>

/* The thread's next event; marks that come before it are passed. */
static void advance(struct walk_thread *t)
{
    t->more = trace_next(&t->cursor, &t->event);
}

static bool is_mark(const struct walk_thread *t)
{
    return t->event.op == TRACE_OTHER;
}

static int mark_order(const void *a, const void *b)
{
    const struct walk_thread *x = *(struct walk_thread *const *)a,
                             *y = *(struct walk_thread *const *)b;
    return x->mark < y->mark ? -1 : x->mark > y->mark;
}

bool walk_begin(struct walk *w, const struct trace *t)
{
    *w = (struct walk){.trace = t,
                       .threads = calloc(t->thread_count + 1, sizeof *w->threads),
                       .order = calloc(t->thread_count + 1, sizeof *w->order),
                       .active = calloc(t->thread_count + 1, sizeof *w->active)};
    if (w->threads == NULL || w->order == NULL || w->active == NULL) {
        walk_end(w);
        return false;
    }
    for (size_t i = 0; i < t->thread_count; i++) {
        struct walk_thread *one = &w->threads[i];
        size_t bytes = (t->threads[i].objects + 1) * sizeof *one->objects;
        one->trace = &t->threads[i];
        one->objects = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (one->objects == MAP_FAILED) {
            one->objects = NULL;
            walk_end(w);
            return false;
        }
        trace_rewind(&one->cursor, one->trace);
        advance(one);
        one->mark = is_mark(one) ? one->event.mark : 0;
        w->order[i] = one;
    }
    qsort(w->order, t->thread_count, sizeof *w->order, mark_order);
    return true;
}

void walk_end(struct walk *w)
{
    for (size_t i = 0; w->threads != NULL && i < w->trace->thread_count; i++) {
        struct walk_thread *one = &w->threads[i];
        if (one->objects != NULL)
            munmap(one->objects, (one->trace->objects + 1) * sizeof *one->objects);
    }
    free(w->threads);
    free(w->order);
    free(w->active);
}

static void unblock_all(struct walk *w)
{
    for (size_t i = 0; i < w->active_count; i++)
        w->active[i]->blocked = false;
    w->moved = false;
}

/* When each waits for another one, which no recording does, none of these blocks will come. */
static void give_up_waiting(struct walk *w)
{
    for (size_t i = 0; i < w->active_count; i++)
        advance(w->active[i]);
    w->contradictions += w->active_count;
}

/* Of the threads that can go on, the one whose part has the lowest mark; NULL: there is none. */
static struct walk_thread *choose(struct walk *w)
{
    for (;;) {
        struct walk_thread *best = NULL;
        size_t kept = 0;
        for (size_t i = 0; i < w->active_count; i++) {
            struct walk_thread *t = w->active[i];
            if (!t->more)
                continue;
            w->active[kept++] = t;
            if (!t->blocked && (best == NULL || t->mark < best->mark))
                best = t;
        }
        w->active_count = kept;
        if (w->begun < w->trace->thread_count &&
            (best == NULL || w->order[w->begun]->mark < best->mark))
            best = w->active[w->active_count++] = w->order[w->begun++];
        if (best != NULL || w->active_count == 0)
            return best;
        if (!w->moved)
            give_up_waiting(w);
        unblock_all(w);
    }
}

/* The object that the event ends; NULL: it ends none, or one that the trace does not have. */
static struct walk_object *find_ended(struct walk *w, struct walk_thread *t, bool *missing)
{
    const struct trace_event *e = &t->event;
    struct walk_thread *owner = t;
    *missing = false;
    if (e->op != TRACE_FREE && e->op != TRACE_REALLOC && e->op != TRACE_FREE_REMOTE &&
        e->op != TRACE_REALLOC_REMOTE)
        return NULL;
    if (e->op == TRACE_FREE_REMOTE || e->op == TRACE_REALLOC_REMOTE)
        owner = &w->threads[trace_thread_find(w->trace, e->thread)];
    *missing = owner == &w->threads[w->trace->thread_count] ||
               !trace_has(owner->trace, e->object) || owner->objects[e->object].birth == WALK_ENDED;
    return *missing ? NULL : &owner->objects[e->object];
}

static bool is_birth(const struct trace_event *e)
{
    return e->op != TRACE_FREE && e->op != TRACE_FREE_REMOTE;
}

/* Carries the thread's event out; false when it is none that is shown. */
static bool step_take(struct walk *w, struct walk_thread *t, struct walk_object *ended,
                      bool missing, struct walk_step *step)
{
    *step = (struct walk_step){.event = t->event, .thread = t};
    if (missing) {
        w->contradictions++;
        if (!is_birth(&t->event))
            return false;
        step->event.op = TRACE_MALLOC; /* a block begins all the same */
    }
    if (ended != NULL) {
        step->ended = *ended;
        ended->birth = WALK_ENDED;
    }
    if (is_birth(&t->event))
        t->objects[t->event.made] = (struct walk_object){++w->clock, t->event.size};
    return true;
}

bool walk_next(struct walk *w, struct walk_step *step)
{
    for (;;) {
        struct walk_thread *t = w->current;
        if (t == NULL || !t->more || t->blocked) {
            if ((w->current = t = choose(w)) == NULL)
                return false;
        }
        if (is_mark(t)) {
            t->mark = t->event.mark;
            advance(t);
            unblock_all(w);
            w->current = NULL;
            continue;
        }
        bool missing;
        struct walk_object *ended = find_ended(w, t, &missing);
        if (ended != NULL && ended->birth == 0) {
            t->blocked = true;
            continue;
        }
        bool shown = step_take(w, t, ended, missing, step);
        advance(t);
        w->moved = true;
        if (shown)
            return true;
    }
}
