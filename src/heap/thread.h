/*
 * A thread's life with its heap.
 *
 *   none  --first slow path-->  attached  --the thread's exit key runs-->  ended
 *
 * An ended thread may go on calling: frees go past any cache to the blocks' slabs, and an
 * allocation borrows a heap for that one call. So destructors that run later, in any order, work,
 * and nothing of theirs is left behind when the thread is gone.
 */
#ifndef ASH_THREAD_H
#define ASH_THREAD_H

#include "heap/heap.h"

/* Makes the exit key. Part of boot. */
void thread_boot(void);

/*
 * The heap to allocate from in this call; NULL: no memory. To be given to thread_leave afterwards.
 * Boot has been done.
 */
struct heap *thread_enter(void);
void thread_leave(struct heap *h);

/*
 * Has `fn` called at the end of every thread that has a heap, while it still has it: for what
 * layers above keep for each thread. At most 8, kept for ever; the same one twice is once.
 */
void thread_at_end(void (*fn)(void));

/* A round of housekeeping is begun: every thread takes part at its next slow path. */
void thread_round(void);

/*
 * Called on slow paths with an attached heap: now and then looks at the clock and does what is due.
 */
void thread_tick(struct heap *h);

#endif
