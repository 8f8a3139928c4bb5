/*
 * The heap profile: which call stacks allocated what is live, and what was ever allocated; and
 * leaks, blocks that nothing leads to any more.
 *
 * Both are for a process that was started with ASHLAR_PROFILE=PATH or ASHLAR_LEAKS=1, see
 * ashlar(7), which write them when it exits. These functions write them at other times.
 *
 * The profile is sampled: of the bytes allocated, one in ASHLAR_PROFILE_BYTES on average (512 KiB)
 * has the block that it lies in recorded with its call stack. A block of `size` bytes is so with
 * the probability 1 - exp(-size / mean), and stands for the inverse of that in blocks like it.
 * The sizes are those that blocks occupy. The text is the one that gperftools made common
 * ("heap_v2"), with the samples as they are; pprof and `ashlar report` scale them up.
 *
 * Caveats:
 *  - A figure that n samples stand behind is good to about 1 / sqrt(n).
 *  - A large block that realloc resizes in place counts as freed and allocated anew.
 *  - Of a stack at most 128 calls are kept, the innermost ones. Code without unwind tables is
 *    followed by its frame pointers, as far as it keeps them.
 *  - A block is no leak if anything in memory looks like a pointer into it: registers and stacks of
 *    all threads as they happen to be, data of all libraries, mappings, and blocks that are no
 *    leaks themselves. So some leaks are not found; of other threads' registers nothing is known.
 */
#ifndef ASHLAR_PROFILE_H
#define ASHLAR_PROFILE_H

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Writes the heap profile to the descriptor `fd`, with the list of mapped files behind it. 0,
 * -ENOTSUP when the process has no profile, or the negative errno of the write that failed. Any
 * thread, also in a signal handler; allocates nothing. Cost: some milliseconds for thousands of
 * stacks.
 */
int ash_profile_dump(int fd);

/*
 * Writes a table of leaks to `fd`: by class with their count and bytes, and the stacks of those
 * that the profile holds. The number of leaked blocks (INT_MAX at most), -ENOTSUP when neither
 * option was set, -ENOMEM, or the negative errno of the write that failed. Other threads may go on,
 * but what they move meanwhile may be taken for a leak. Cost: a walk over all of the process's
 * memory, about a second for each GiB.
 */
int ash_leaks_dump(int fd);

#ifdef __cplusplus
}
#endif

#endif
