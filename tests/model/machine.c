/*
 * The threads of a scenario: coroutines on stacks of their own, all in one thread of the process. A thread runs until
 * its next atomic access, posts it, and asks the search who goes next; if that is another thread it switches there.
 * So when a thread is chosen, every thread's next access is known.
 *
 * A run ends when all threads have, when the search sees that it repeats another, or when something fails. Then
 * control returns to machine_run, and what is left on the threads' stacks is forgotten: they own nothing.
 */
#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { STACK = 128 * 1024, NOTE = 120, OWNS = 4 };
enum run_end { RUN_ON, RUN_DONE, RUN_REPEATS, RUN_FAILED };

int machine_thread = -1;
bool machine_checking;

static const struct scenario *scenario;
static ucontext_t home, contexts[THREADS];
static jmp_buf given_up; /* where a failure outside of threads goes */
static _Alignas(64) char stacks[THREADS][STACK];
static uintptr_t frame; /* machine_run's, from where the program's own stack goes down */
static struct op posted[THREADS];
static bool live[THREADS];
static enum run_end end;
static bool starting;
static char failure[512];

/* Variables of which each thread has its own; the last copy is that of setup and check. */
static struct own {
    void *p;
    uintptr_t copy[THREADS + 1];
} owns[OWNS];
static unsigned own_count;

/* The schedule so far, for a failure's message. */
static struct step_note {
    int thread;
    const struct model_site *site;
    unsigned location;
    char text[NOTE];
} notes[STEPS];
static unsigned note_count;

/* ---- the schedule ---- */

void machine_note(const char *format, ...)
{
    if (!search.verbose || note_count == 0)
        return;
    char *text = notes[note_count - 1].text;
    size_t n = strlen(text);
    if (n != 0)
        n += (size_t)snprintf(text + n, NOTE - n, ", ");
    va_list args;
    va_start(args, format);
    vsnprintf(text + n, NOTE - n, format, args);
    va_end(args);
}

static const char *order_name(enum model_order order)
{
    static const char *const names[] = {"relaxed", "acquire", "release", "acq_rel"};
    return names[order];
}

static bool same_note(const struct step_note *a, const struct step_note *b)
{
    return a->thread == b->thread && a->site == b->site && a->location == b->location && strcmp(a->text, b->text) == 0;
}

static void print_failure(void)
{
    static char path[STEPS * 2 + 1];
    search_path(path, sizeof path);
    printf("# %s: %s\n", scenario->name, end == RUN_FAILED ? failure : "nothing failed in this run");
    for (unsigned i = 0; i < note_count; i++) {
        const struct step_note *n = &notes[i];
        if (i != 0 && i + 1 < note_count && same_note(n, n - 1) && same_note(n, n + 1))
            continue; /* of many the first and the last */
        const struct model_site *site = n->site;
        const char *file = strrchr(site->file, '/');
        printf("# %3u  %*sthread %d  %s %s(%s) at %s:%d: %s\n", i + 1, 4 * n->thread, "", n->thread, site->function,
               site->wrapper, memory_place(n->location), file == NULL ? site->file : file + 1, site->line, n->text);
        if (site->fault != 0)
            printf("#      (changed by the mutant; its order in the source: %s)\n", order_name(site->order));
    }
    printf("# to see this run again: --replay %s %s\n", path, scenario->name);
}

void model_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(failure, sizeof failure, format, args);
    va_end(args);
    end = RUN_FAILED;
    if (scenario == NULL) {
        printf("# setup: %s\n", failure);
        fflush(stdout);
        _Exit(3);
    }
    if (machine_thread < 0)
        longjmp(given_up, 1);
    setcontext(&home);
    abort();
}

int model_self(void)
{
    return machine_thread;
}

/* ---- threads ---- */

void model_own(void *p)
{
    model_require(own_count < OWNS, "more than %d variables that threads have of their own", OWNS);
    owns[own_count++].p = p;
}

static unsigned own_index(int thread)
{
    return thread < 0 ? THREADS : (unsigned)thread;
}

static void own_switch(int from, int to)
{
    for (struct own *o = owns; o < owns + own_count; o++) {
        memcpy(&o->copy[own_index(from)], o->p, sizeof o->copy[0]);
        memcpy(o->p, &o->copy[own_index(to)], sizeof o->copy[0]);
    }
}

static void go_to(int thread)
{
    int self = machine_thread;
    if (thread == self)
        return;
    own_switch(self, thread);
    ucontext_t *from = self < 0 ? &home : &contexts[self];
    machine_thread = thread;
    swapcontext(from, thread < 0 ? &home : &contexts[thread]);
}

/* Where control goes from here: a thread, or -1 to machine_run. */
static int whose_turn(void)
{
    if (starting)
        return -1;
    bool any = false;
    for (int t = 0; t < THREADS; t++)
        any |= live[t];
    if (!any) {
        end = RUN_DONE;
        return -1;
    }
    int next = search_next();
    if (next < 0)
        end = RUN_REPEATS;
    return next;
}

const struct op *machine_pending(int thread)
{
    return live[thread] ? &posted[thread] : NULL;
}

unsigned machine_step(const struct op *op)
{
    posted[machine_thread] = *op;
    if (note_count == STEPS)
        model_fail("after %d accesses the threads have not ended", STEPS);
    go_to(whose_turn());
    struct step_note *n = &notes[note_count++];
    n->thread = machine_thread;
    n->site = op->site;
    n->location = op->location;
    n->text[0] = '\0';
    return search_choice();
}

/* The threads' stacks, what check has on the program's own, and variables of which each has its own. */
bool machine_is_own(uintptr_t p)
{
    for (const struct own *o = owns; o < owns + own_count; o++)
        if (p - (uintptr_t)o->p < sizeof o->copy[0])
            return true;
    return (p >= (uintptr_t)stacks && p < (uintptr_t)stacks + sizeof stacks) || (p <= frame && frame - p < STACK);
}

static void thread_main(void)
{
    scenario->thread[machine_thread]();
    live[machine_thread] = false;
    go_to(whose_turn());
    abort();
}

static void thread_create(int t)
{
    if (scenario->thread[t] == NULL)
        return;
    live[t] = true;
    for (struct own *o = owns; o < owns + own_count; o++)
        memcpy(&o->copy[own_index(t)], o->p, sizeof o->copy[0]); /* as setup has left it */
    memory_thread_begin(t, scenario->spurious);
    getcontext(&contexts[t]);
    contexts[t].uc_stack.ss_sp = stacks[t];
    contexts[t].uc_stack.ss_size = STACK;
    contexts[t].uc_link = NULL;
    makecontext(&contexts[t], thread_main, 0);
    go_to(t);
}

/* Runs the scenario once along the search's path; how it ended. */
static void run(void)
{
    if (setjmp(given_up) != 0)
        return;
    starting = true;
    for (int t = 0; t < THREADS && end == RUN_ON; t++)
        thread_create(t);
    starting = false;
    if (end == RUN_ON)
        go_to(whose_turn());
    if (end == RUN_DONE && scenario->check != NULL) {
        machine_checking = true;
        scenario->check();
    }
}

bool machine_run(const struct scenario *s)
{
    scenario = s;
    frame = (uintptr_t)__builtin_frame_address(0);
    note_count = 0;
    end = RUN_ON;
    memset(live, 0, sizeof live);
    memory_begin();
    run();
    machine_thread = -1;
    machine_checking = false;
    if (search.verbose && (end == RUN_FAILED || search.replay != NULL))
        print_failure();
    if (end == RUN_DONE)
        search.executions++;
    else if (end == RUN_REPEATS)
        search.repeats++;
    if (end == RUN_DONE && search.each != NULL)
        search.each();
    plain_rewind();
    return end != RUN_FAILED;
}
