/*
 * In a build that measures coverage (--enable-coverage) the library has this inside: a process that aborts, as the
 * tests of wrong frees want it to, writes its counters first. That allocates: not in hardened mode, where the damage
 * that was found would be found once more.
 */
#include "info/options.h"

#include <signal.h>

void __gcov_dump(void);

static void write_counters(int number)
{
    signal(number, SIG_DFL); /* where abort goes on to */
    if (!options.harden)
        __gcov_dump();
}

__attribute__((constructor)) static void watch_abort(void)
{
    signal(SIGABRT, write_counters);
}
