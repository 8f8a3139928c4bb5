/*
 * The checker as a test program.
 *
 *     model                            the short form, a part of `make check`
 *     model --full                     everything: `make model`
 *     model SCENARIO…                  these scenarios
 *     model --replay PATH SCENARIO     one run again, with its schedule
 *     model --mutant NAME SCENARIO     the scenario with a mutant, as the list of mutants names it
 *     model --mutants FILE SCENARIO…   all mutants of the files so named, with these scenarios
 *     model --limit N …                at most so many runs of each scenario
 */
#include "litmus.h"
#include "model.h"
#include "mutants.h"
#include "tap.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { SCENARIOS = 256 };

static const struct scenario *const tables[] = {
    mem_scenarios,   reserve_scenarios, remote_scenarios,  heap_scenarios,   ring_scenarios,
    arena_scenarios, depot_scenarios,   ringlog_scenarios, vmidle_scenarios, shown_scenarios,
    vm_scenarios,    txn_scenarios,     exec_scenarios,    drive_scenarios,  dispatch_scenarios,
    txnmgr_scenarios, gate_scenarios, lane_scenarios,   replies_scenarios, map_scenarios,
    msg_scenarios,   tally_scenarios,   vmpool_scenarios,  bus_scenarios,
};
static const struct scenario *scenarios[SCENARIOS];
static unsigned scenario_count;
static struct outcome outcomes[SCENARIOS];
/* Whose mutants the short form has. */
static const char *const short_files[] = {"remote.c", "pool/ring.c", "vm/ringlog.c", "txn/deque",
                                          "msg/lane", "txn/gate.c",  "vm/shown.c",   NULL};
static const char *files[2];   /* of --mutants */
static struct mutation chosen; /* of --mutant */
static unsigned chosen_count;

bool report(bool good, const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return ok(good, "%s", text);
}

void remark(const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tap_line("# %s", text);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void child(const struct scenario *s, const struct mutation *mutations, unsigned n, struct outcome *o)
{
    sites_prepare(s);
    for (unsigned i = 0; i < n; i++)
        sites_mutate(mutations[i].site, mutations[i].fault);
    if (s->most != 0)
        search.limit = s->most;
    s->setup();
    search_all(s);
    *o = (struct outcome){.failed = search.failed,
                          .cut = search.cut && s->most == 0,
                          .deepest = search.deepest,
                          .executions = search.executions,
                          .repeats = search.repeats};
    sites_reached(o->reached);
    fflush(stdout);
    _Exit(0);
}

struct outcome scenario_run(const struct scenario *s, const struct mutation *mutations, unsigned n, bool verbose)
{
    static struct outcome *shared;
    if (shared == NULL)
        shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(shared, 0, sizeof *shared);
    double began = now();
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        search.verbose = verbose;
        child(s, mutations, n, shared);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    shared->crashed = status != 0;
    shared->seconds = now() - began;
    return *shared;
}

static void scenario_test(unsigned i)
{
    const struct scenario *s = scenarios[i];
    struct outcome o = outcomes[i] = scenario_run(s, &chosen, chosen_count, true);
    ok(!o.failed && !o.crashed && !o.cut, "%s: %s", s->name, s->invariant);
    remark("%lu executions, %lu given up, %u steps at most, %.1f s%s%s", (unsigned long)o.executions,
           (unsigned long)o.repeats, o.deepest, o.seconds, s->most != 0 ? ", the first of more" : "",
           o.crashed ? ", crashed" : "");
}

static void scenarios_gather(const struct scenario *table, char **names, bool full)
{
    for (; table->name != NULL; table++) {
        bool wanted = names[0] == NULL && (full || !table->full_only);
        for (char **name = names; *name != NULL; name++)
            wanted |= strcmp(*name, table->name) == 0;
        if (wanted && scenario_count == SCENARIOS)
            abort();
        if (wanted)
            scenarios[scenario_count++] = table;
    }
}

int main(int argc, char **argv)
{
    bool full = false, all = argc == 1;
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--full") == 0)
            full = all = true;
        else if (strcmp(argv[i], "--replay") == 0 && i + 1 < argc)
            search.replay = argv[++i];
        else if (strcmp(argv[i], "--limit") == 0 && i + 1 < argc)
            search.limit = strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--mutants") == 0 && i + 1 < argc)
            files[0] = argv[++i];
        else if (strcmp(argv[i], "--mutant") == 0 && i + 1 < argc && mutant_find(argv[i + 1], &chosen))
            i += chosen_count = 1;
        else
            return 2;
    }
    for (unsigned k = 0; k < ASH_COUNT(tables); k++)
        scenarios_gather(tables[k], argv + i, full);
    if (all)
        litmus_test(full ? 400 : 40);
    for (unsigned k = 0; k < scenario_count; k++)
        scenario_test(k);
    if (all)
        mutants_test(scenarios, outcomes, scenario_count, full ? NULL : short_files);
    else if (files[0] != NULL)
        mutants_test(scenarios, outcomes, scenario_count, files);
    return tap_done();
}
