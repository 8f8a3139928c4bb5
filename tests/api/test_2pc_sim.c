/*
 * Two-phase commit in a simulated network (sim.h, sim_site.h), with ten thousand seeds: 2 to 100 sites, messages lost,
 * doubled, late and out of order, sites that crash between any two steps. In each, all parts of a transaction have one
 * outcome, money is conserved, what a client was told holds, and soon after the faults stop nothing is locked, in doubt
 * or remembered.
 *
 *     test_2pc_sim             seeds 1 to 10000 (ASH_SIM_SEEDS)
 *     test_2pc_sim SEED        one of them, with its last events
 */
#include "sim_site.h"
#include "process.h"
#include "tap.h"

static struct sim sim;

/* Every seed is another mixture; each eighth has no faults at all, each hundredth all sites. */
static struct plan plan_of(uint64_t seed)
{
    struct sim dice = {.random = seed * 77};
    struct plan p = {.seed = seed, .faulty_ns = 400 * MS};
    p.sites = seed % 100 == 0 ? SITES : 2 + sim_below(&dice, sim_below(&dice, 4) > 0 ? 6 : 30);
    p.txns = 20 + sim_below(&dice, 40);
    p.waits = sim_below(&dice, 2);
    p.group = 1 + (sim_below(&dice, 2) ? sim_below(&dice, 32) : 0);
    if (seed % 8 != 0)
        p.faults = (struct faults){sim_below(&dice, 200), sim_below(&dice, 300), sim_below(&dice, 200),
                                   sim_below(&dice, 3) > 0 ? sim_below(&dice, 15) : 0};
    return p;
}

static unsigned long seeds(void)
{
    const char *set = getenv("ASH_SIM_SEEDS");
    if (set != NULL)
        return strtoul(set, NULL, 10);
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    return 1000;
#endif
    return under_valgrind() ? 100 : 10000;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, last = argc > 1 ? first : seeds();
    uint64_t told = 0, aborted = 0, steps = 0, crashes = 0, lost = 0, doubled = 0, checkpoints = 0, failed = 0,
             remembered = 0;
    for (uint64_t seed = first; seed <= last; seed++) {
        struct plan plan = plan_of(seed);
        if (sim_run(&sim, &plan) != NULL && failed++ < 5)
            sim_print(&sim);
        else if (argc > 1) {
            sim.wrong = "all is well";
            sim_print(&sim);
        }
        for (unsigned t = 0; t < sim.txns; t++) {
            told += sim.txn[t].told;
            aborted += sim.txn[t].decided == 2;
        }
        steps += sim.steps;
        crashes += sim.crashes;
        lost += sim.lost;
        doubled += sim.doubled;
        checkpoints += sim.checkpoints;
        if (sim.most_remembered > remembered)
            remembered = sim.most_remembered;
        sim_end(&sim);
    }
    is_int((long long)failed, 0, "every seed: one outcome, no money lost, nothing left");
    printf("# %llu seeds: %llu committed, %llu aborted; %llu steps, %llu crashes, %llu lost, %llu doubled, %llu "
           "checkpoints; %llu "
           "outcomes remembered at most\n",
           (unsigned long long)(last - first + 1), (unsigned long long)told, (unsigned long long)aborted,
           (unsigned long long)steps, (unsigned long long)crashes, (unsigned long long)lost,
           (unsigned long long)doubled, (unsigned long long)checkpoints, (unsigned long long)remembered);
    fflush(stdout);
    if (argc == 1) {
        ok(told > 10 * last && aborted > 2 * last, "transactions of both kinds");
        ok(crashes > last && lost > last && doubled > last && checkpoints > last, "faults of all kinds");
    }
    return tap_done();
}
