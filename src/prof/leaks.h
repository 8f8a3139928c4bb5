/*
 * Leaks: live blocks that nothing leads to. A conservative mark phase, as collectors of garbage
 * make it (Boehm and Weiser, 1988): every aligned word in the roots that looks like an address
 * inside a live block holds that block, and so does every word in a block that is held.
 *
 * Roots are all writable mappings of the process but the allocator's window: data of the program
 * and its libraries, stacks and thread-local storage of all threads, mappings of its own; the
 * memory of pools; the registers of the calling thread. What libc and the loader never free is held
 * by their data. Roots are read through the kernel, which says where nothing can be read.
 *
 * Nothing of this stands in a root: the table of blocks and the state lie in a mapping that is left
 * out, and of the own stack what is below the caller.
 *
 * Not found: a leak whose address happens to be somewhere, and one that is led to by a leak that is
 * not found. Reported although it is none: a block whose address stands nowhere as it is (in a
 * file, encoded, in a register of another thread alone), or is moved by a thread meanwhile.
 */
#ifndef ASH_LEAKS_H
#define ASH_LEAKS_H

#include "run/profile.h"

/*
 * Writes the table of live blocks and leaks to `fd`, and the stacks of those that have sites. How
 * many blocks leaked, or a negative errno. One at a time: -EBUSY.
 */
int leaks_put(int fd, const struct profile_host *host);

#endif
