/*
 * The one constructor and the one destructor of the library.
 *
 * The allocator does not need them: it boots at its first call, which may come long before. They
 * are for what a process shows: the options are read even where nothing is ever allocated, and
 * statistics are written when it exits by exit() or by returning from main. A process that ends by
 * _exit or a signal writes none.
 */
#include "heap/boot.h"
#include "run/dump.h"
#include "run/profile.h"

__attribute__((constructor(101))) static void start(void)
{
    boot();
    dump_init();
    profile_init();
}

__attribute__((destructor(101))) static void finish(void)
{
    dump_at_exit();
    profile_at_exit();
}
