#include "mirror.h"

#include "base/atomic.h"
#include "heap/boot.h"
#include "heap/heap.h"
#include "pool/arena_count.h"
#include "pool/bufcount.h"
#include "pool/isoview.h"
#include "pool/mapcache.h"
#include "pool/pool_stats.h"
#include "pool/respool.h"
#include "run/emit.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <unistd.h>

enum { PAGES_MAX = 1 << 18, KINDS_MAX = 64, RESTARTS_MAX = 16, PATIENCE_S = 10 };

/* The entries of the library that is inside this program. */
extern const struct anchor own_first[] __asm__("__start_ashlar_anchor");
extern const struct anchor own_behind[] __asm__("__stop_ashlar_anchor");

static struct run {
    int pid;
    bool busy; /* what stops at an address is ours to mend */
    sigjmp_buf out;
    struct sigaction fault_before, alarm_before;
    size_t page_bytes, count;
    void *page[PAGES_MAX];
} run;

/* ---- pages ---- */

static void *page_take(uintptr_t at)
{
    void *page = mmap((void *)at, run.page_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    run.page[run.count++] = page;
    return page == (void *)at && target_read(run.pid, at, page, run.page_bytes) ? page : NULL;
}

/* On the stack of the code that was stopped; all calls here may be made in a signal handler. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)context;
    uintptr_t at = (uintptr_t)info->si_addr & ~(uintptr_t)(run.page_bytes - 1);
    if (!run.busy || info->si_code != SEGV_MAPERR) {
        sigaction(signal, &run.fault_before, NULL); /* a fault of our own: it comes again at once */
        return;
    }
    if (run.count == PAGES_MAX || page_take(at) == NULL)
        siglongjmp(run.out, 1);
}

static void on_alarm(int signal)
{
    (void)signal;
    if (run.busy)
        siglongjmp(run.out, 1);
}

static void pages_drop(void)
{
    while (run.count > 0)
        munmap(run.page[--run.count], run.page_bytes);
}

/* ---- variables ---- */

static void *own_address(const struct anchor *own)
{
    return (void *)((uintptr_t)own + (uintptr_t)(intptr_t)own->distance);
}

static bool is_named(const struct anchor *own, const char *name)
{
    return strncmp(own->name, name, ANCHOR_NAME) == 0;
}

/* There is one of that name. */
static void *own_variable(const char *name)
{
    const struct anchor *own = own_first;
    while (own < own_behind && !is_named(own, name))
        own++;
    return own < own_behind ? own_address(own) : NULL;
}

/*
 * All variables but the table of heaps, of which the part in use is read afterwards: the rest of
 * its two MiB was never touched.
 */
static enum mirror_state variables_read(const struct target *t)
{
    const struct anchor *heaps = NULL;
    for (const struct anchor *own = own_first; own < own_behind; own++) {
        uint64_t at = target_variable(t, own);
        if (at == 0)
            return MIRROR_OTHER;
        if (is_named(own, "heap_table"))
            heaps = own;
        else if (own->distance != 0 && !target_read(t->pid, at, own_address(own), own->size))
            return MIRROR_GONE;
    }
    size_t used = size_min(heap_count(), HEAPS_MAX) * sizeof heap_table[0];
    if (heaps == NULL || !target_read(t->pid, target_variable(t, heaps), heap_table, used))
        return MIRROR_GONE;
    return *(const unsigned *)own_variable("boot") == BOOT_READY ? MIRROR_READY : MIRROR_IDLE;
}

/* ---- kinds of named things ---- */

static bool no_row(size_t *at, struct emit_row *row)
{
    (void)at;
    (void)row;
    return false;
}

/* Of the target's kinds all is readable; what reads their things is ours. */
static void kinds_adopt(void)
{
    static struct emit_kind *const ours[] = {&pools_kind, &arenas_kind,    &bufs_kind,
                                             &heaps_kind, &mapcaches_kind, &respools_kind};
    static struct emit_kind twin[KINDS_MAX];
    size_t n = 0;
    for (const struct emit_kind *k = emit_kinds(); k != NULL && n < KINDS_MAX; k = k->link, n++) {
        twin[n] = *k;
        twin[n].outer = NULL;
        twin[n].next = no_row;
        for (size_t i = 0; i < ASH_COUNT(ours) && k->outer == NULL; i++)
            if (strcmp(ours[i]->plural, k->plural) == 0 && ours[i]->count == k->count)
                twin[n].next = ours[i]->next;
    }
    for (size_t i = 0; i < n; i++)
        twin[i].link = i + 1 < n ? &twin[i + 1] : NULL;
    *(struct emit_kind **)own_variable("kinds") = n > 0 ? twin : NULL;
}

/* ---- the run ---- */

struct overlap {
    int pid;
    const struct target_mapping *own;
    bool found;
};

static bool meets(void *arg, const struct target_mapping *m)
{
    struct overlap *o = arg;
    o->found = m->from < o->own->to && o->own->from < m->to && m->mode[0] == 'r' &&
               strncmp(m->path, "[v", 2) != 0;
    return !o->found;
}

static bool meets_own(void *arg, const struct target_mapping *own)
{
    struct overlap *o = arg;
    o->own = own;
    return strncmp(own->path, "[v", 2) == 0 || (target_each_mapping(o->pid, meets, o) && !o->found);
}

static enum mirror_state guarded(void (*fn)(void *arg), void *arg)
{
    if (sigsetjmp(run.out, 1) != 0)
        return MIRROR_TORN;
    run.busy = true;
    kinds_adopt();
    fn(arg);
    return MIRROR_READY;
}

enum mirror_state mirror_run(const struct target *t, void (*fn)(void *arg), void *arg)
{
    struct overlap o = {.pid = t->pid};
    const struct sigaction mend = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    const struct sigaction leave = {.sa_handler = on_alarm};
    if (!target_is_there(t))
        return MIRROR_GONE;
    target_each_mapping(getpid(), meets_own, &o);
    if (o.found)
        return MIRROR_OVERLAP;
    enum mirror_state state = variables_read(t);
    if (state != MIRROR_READY)
        return state;
    run.pid = t->pid;
    run.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    sigaction(SIGSEGV, &mend, &run.fault_before);
    sigaction(SIGALRM, &leave, &run.alarm_before);
    alarm(PATIENCE_S);
    state = guarded(fn, arg);
    run.busy = false;
    alarm(0);
    sigaction(SIGALRM, &run.alarm_before, NULL);
    sigaction(SIGSEGV, &run.fault_before, NULL);
    pages_drop();
    return state == MIRROR_TORN && !target_is_there(t) ? MIRROR_GONE : state;
}

void mirror_restart(char **argv)
{
    const char *text = getenv("ASH_RESTARTS");
    int n = text != NULL ? atoi(text) : 0;
    char number[16];
    int flags = personality(0xffffffff);
    if (n >= RESTARTS_MAX)
        return;
    snprintf(number, sizeof number, "%d", n + 1);
    setenv("ASH_RESTARTS", number, 1);
    if (flags >= 0)
        personality((unsigned long)flags & ~(unsigned long)ADDR_NO_RANDOMIZE);
    execv("/proc/self/exe", argv);
}

void mirror_say(enum mirror_state state, const struct target *t, char why[TARGET_WHY])
{
    static const char *const text[] = {
        [MIRROR_READY] = "can be read",
        [MIRROR_GONE] = "has ended, or runs another program by now",
        [MIRROR_TORN] = "holds records that lead nowhere; try once more",
        [MIRROR_OTHER] = ("runs with an Ashlar that was built from other sources than this "
                          "program; use the `ashlar` that was installed with it"),
        [MIRROR_OVERLAP] = "lies where this program lies, start after start; try once more",
        [MIRROR_IDLE] = "has only just been started; try once more",
    };
    snprintf(why, TARGET_WHY, "process %d (%s) %s", t->pid, t->name, text[state]);
}
