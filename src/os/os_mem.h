/*
 * Address space from the kernel. All sizes and places are multiples of the page size. Nothing here
 * sets errno; answers are 0 or a negative errno. Any thread may call any of it.
 */
#ifndef ASH_OS_MEM_H
#define ASH_OS_MEM_H

#include "base/base.h"

/* The page size of this process, in bytes: 4, 16 or 64 KiB. */
size_t os_page_size(void);

/*
 * Maps `n` bytes of zeroed private memory at exactly `at`. -EEXIST: something is there already
 * (nothing was changed), -ENOMEM: refused, or beyond the end of the address space.
 */
int os_map_at(void *at, size_t n);

/* Maps `n` bytes of zeroed private memory at a place of the kernel's choice; NULL when refused. */
void *os_map(size_t n);

/*
 * Address space alone, at a place of the kernel's choice: nothing in it can be touched. NULL when
 * refused.
 */
void *os_reserve(size_t n);

/* Makes a part of an os_reserve range usable, zeroed: 0 or -ENOMEM. */
int os_commit(void *at, size_t n);

void os_unmap(void *at, size_t n);

/*
 * Makes pages untouchable, and touchable again with what they held; 0 or the kernel's reason (too
 * many mappings, for one).
 */
int os_protect(void *at, size_t n);
int os_unprotect(void *at, size_t n);

/*
 * Gives the pages' memory back; the next touch finds zeroes. A failure (locked memory, for one)
 * leaves the content as it was and is answered with the kernel's reason.
 */
int os_purge(void *at, size_t n);

/*
 * Brings the pages of a range in that will be written soon: one call instead of a fault each. Does
 * nothing before Linux 5.14.
 */
void os_populate(void *at, size_t n);

/*
 * Moves the pages of [from, from + n) to [to, to + n), both of them mapped before and after; `from`
 * reads as zeroes then. -ENOSYS: it cannot be done (before Linux 5.7, or the source is more than
 * one mapping); `from` is as it was then, and `to` is mapped anew, so nobody else may have a reason
 * to map something there.
 */
int os_move(void *from, void *to, size_t n);

/* Asks for (true) or against (false) transparent huge pages in a range. Advice: no answer. */
void os_huge_pages(void *at, size_t n, bool wanted);

/*
 * Maps the first `n` bytes (more than 0, any number) of a file, shared and to be read; 0 or a
 * negative errno. os_unmap takes the number rounded up to pages.
 */
int os_map_file(int fd, size_t n, void **out);

/* Advice on a range that is mapped, at least the pages it touches: no answer. */
enum os_advice { OS_NORMAL, OS_SEQUENTIAL, OS_RANDOM, OS_WILLNEED, OS_POPULATE_READ };
void os_advise(const void *at, size_t n, enum os_advice advice);

/*
 * Fills `out` with random bytes; never blocks, never fails (falls back to clock and address bits).
 */
void os_random(void *out, size_t n);

#endif
