/*
 * The recorder's file: one for each process, from which threads take chunks to write their events
 * to. What is said of the format is in trace.h.
 *
 *   1. A chunk is mapped from the file, shared: what was written to it stays when the process dies,
 *      however that happens, or becomes another program. Its blocks are allocated before, so that a
 *      full disk is an error here and not a signal at a store.
 *   2. The file is opened anew for each chunk: programs close descriptors that they do not know.
 *   3. What belongs to a process lies in a page that a forked child finds full of zeroes. So it
 *      begins a file of its own at its first event, however it was forked, and no lock of a thread
 *      that it does not have is held in it.
 *   4. When a chunk cannot be had, that is said once, and nothing more is recorded; the program
 *      goes on.
 */
#ifndef ASHLAR_TOOLS_RECORDER_FILE_H
#define ASHLAR_TOOLS_RECORDER_FILE_H

#include "base/atomic.h"
#include "base/base.h"
#include "trace.h"

/* A chunk that a thread left when it ended: the next one goes on in it. */
struct file_spare {
    unsigned char *chunk, *at;
};

enum { FILE_SPARES = 200 };

struct file {
    _Atomic(uint32_t) epoch; /* atomic: number of its first thread; 0: not begun. Released last */
    _Atomic(uint32_t)
        lock; /* atomic: 1 while somebody begins the file, or takes or gives a spare */
    _Atomic(uint32_t) chunks;  /* atomic: made so far */
    _Atomic(uint64_t) marks;   /* atomic: given out so far */
    _Atomic(uint32_t) stopped; /* atomic: nothing more is recorded */
    uint64_t start_ns;         /* const once begun, as are the three below */
    uint64_t device, inode;
    uint32_t spare_count; /* lock */
    struct file_spare spare[FILE_SPARES];
};

enum { FILE_PAGE = 1 << 16 }; /* no machine has larger pages */

_Static_assert(sizeof(struct file) <= FILE_PAGE, "in one page, of any size");

extern unsigned char file_page[2 * FILE_PAGE];

/* The process's; its epoch is 0 before the first event and after a fork. */
ASH_INLINE struct file *file_own(void)
{
    return (struct file *)align_up((uintptr_t)file_page, FILE_PAGE);
}

/* Number of the last thread that has one; goes on in children. */
extern _Atomic(uint32_t) file_threads;

/* Opens the process's file, if that was not done. False: nothing is recorded. */
bool file_begin(void);

/* Room for events; false when there is none. */
bool file_take(struct file_spare *room);
void file_give(const struct file_spare *rest);
void file_seal(unsigned char *chunk, const unsigned char *at);

/* Nanoseconds since the file was begun. */
uint64_t file_ns(void);

/* The end of a chunk, and where the events begin. */
unsigned char *file_chunk_end(unsigned char *chunk);

#endif
