/*
 * Giving memory back as time passes, without a thread of its own: the slow paths of the allocator
 * call purge_tick, which does a pass over the reserve when one is due.
 */
#ifndef ASH_PURGE_H
#define ASH_PURGE_H

#include "base/base.h"

/*
 * True for one caller each half ASHLAR_PURGE_MS: it is due for the housekeeping of its layers, and
 * the reserve's pass has been made. Units that stay free go back after half to a whole period.
 */
bool purge_tick(void);

#endif
