/*
 * Threads that must get on while another one is stopped: each allocates by every call of the family, hands blocks to
 * the others through a table, checks and frees what it finds there, and ends after some thousand operations, to be
 * followed by a new one. They count their operations.
 */
#ifndef ASH_TESTS_LOAD_H
#define ASH_TESTS_LOAD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { LOAD_THREADS = 3, LOAD_SLOTS = 1024 };

extern _Atomic(unsigned char *) load_slots[LOAD_SLOTS];

/* Set: operations ask for fresh address space now and then, up to 16 GiB of it, which they do not touch. */
extern _Atomic(int) load_grows;

/* The next number of a sequence whose state is `*s`. */
unsigned load_draw(unsigned *s);

/* A block of `n` >= 16 bytes that load_free will know; allocated by the call that `how` chooses. */
unsigned char *load_make(size_t n, unsigned how);

/* Marks a block anew, after it was resized to `n`. */
void load_mark(unsigned char *p, size_t n);

/* Counts a block whose content is not what it should be, and frees it. NULL is fine. */
void load_free(unsigned char *p);

/* A usual operation on the table. */
void load_operation(unsigned *s);

/* Starts the threads; ends them and empties the table: the number of damaged blocks. */
void load_start(void);
long load_finish(void);

/* To be called before load_start: the threads sleep but for what load_progress lets them do. */
void load_in_turns(void);

/* Waits until each thread has made `operations` more: false when one makes none for `seconds`. Fine in a handler. */
int load_progress(uint64_t operations, int seconds);

#endif
