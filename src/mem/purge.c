/*
 * The word `due` is a ticket: whoever moves it on makes the pass. Nobody waits for the pass, and a
 * thread that is stopped in the middle of one delays the units that it has claimed, nothing else.
 */
#include "mem/purge.h"

#include "base/atomic.h"
#include "info/options.h"
#include "mem/reserve.h"
#include "os/os_clock.h"

static _Atomic(uint64_t) due;

bool purge_tick(void)
{
    uint64_t now = os_clock_ms();
    uint64_t at = load_relaxed(&due);
    if (now < at || !cas_relaxed(&due, &at, now + options.purge_ms / 2 + 1))
        return false;
    reserve_purge(options.purge_ms == 0);
    return true;
}
