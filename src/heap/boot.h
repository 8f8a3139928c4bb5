/*
 * Starting up, once, by whichever call comes first: in the dynamic loader, before any constructor.
 */
#ifndef ASH_BOOT_H
#define ASH_BOOT_H

#include "base/base.h"

enum boot_state { BOOT_NONE, BOOT_RUNNING, BOOT_READY };

/*
 * True when the allocator is ready. False: the system refuses the first mapping; it may be tried
 * again.
 */
bool boot(void);

#endif
