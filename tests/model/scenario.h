/*
 * What the scenarios share: preparations, and the units of the window that threads hold.
 *
 * Units are told apart by what is written to them: every thread that believes to own a unit writes to it, so that two
 * owners, or an owner and the purge, are a data race unless the one's end comes before the other's beginning.
 */
#ifndef ASH_MODEL_SCENARIO_H
#define ASH_MODEL_SCENARIO_H

#include "model.h"

#include "mem/reserve.h"

struct ash_exec;
struct ash_pool;
struct park_slot;
struct worker;

/* The modules of mem and heap as a process has them after boot: one chunk mapped, no heap; nobody holds units. */
void scenario_boot(void);

/* Takes every unit but the last `left` of the first chunk. */
void scenario_fill(size_t left);

/* Uses up the static block of records but for `left` bytes. */
void scenario_fill_records(size_t left);

/* Takes a run of the reserve, sees that it is zero if that is said, and writes to it; RESERVE_NONE: none. */
size_t scenario_take(size_t units, size_t align);

/* The units are the caller's: writes to each. */
void scenario_use(size_t unit, size_t units);

/* The calling thread has them still when it ends; RESERVE_NONE: nothing. */
void scenario_keep(size_t unit, size_t units);

/* Units that are kept are neither free nor clean, those that are in use are counted exactly, and the dirty ones. */
void scenario_check_units(void);

/* An executor as it runs, without its threads; `w` has room for guests as well. */
void scenario_exec(struct ash_exec *e, struct worker *w, struct park_slot *slot, unsigned workers);

/* Blocks of the first library's that were not given back. */
int scenario_blocks(void);

/* A pool; whoever puts an object back writes to all of it. */
struct ash_pool *scenario_pool(size_t bytes);

/* The clock of the stand-in system. */
extern uint64_t system_ms;

/* What is to be done at the end of the calling thread, which is the last that it does. */
void system_thread_ends(void);

/* Keys of threads that there are. */
unsigned system_keys(void);

/* Bytes that are mapped for records beyond the first, static block. */
size_t system_mapped(void);

#endif
