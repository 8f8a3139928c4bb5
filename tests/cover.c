/*
 * In a build that measures coverage (--enable-coverage) the library has this inside: a process that aborts, as the
 * tests of wrong frees want it to, writes its counters first.
 */
#include <signal.h>

void __gcov_dump(void);

static void write_counters(int number)
{
    __gcov_dump();
    signal(number, SIG_DFL); /* where abort goes on to */
}

__attribute__((constructor)) static void watch_abort(void)
{
    signal(SIGABRT, write_counters);
}
