/*
 * ashlar/malloc.h: the allocator under its own names.
 *
 * The functions do what malloc and its family do in a program that runs under libashlar, and work
 * as well where malloc is left to libc (a library built with --disable-malloc). Any thread may call
 * any of them at any time, from a thread's first instruction to its last destructor; none takes a
 * lock. Blocks may be freed by any thread. Sizes are bytes.
 *
 * Every block is aligned to 64 bytes and shares no cache line with another; with ASHLAR_GRAIN=16 in
 * the environment small blocks are aligned to 16.
 *
 * Cost: a hit in the thread's cache is about 20 instructions for ash_malloc and 35 for ash_free,
 * wrong frees checked.
 *
 * Caveats
 *   A block from here must go back here: ash_free of a pointer of another allocator is reported
 *   (`ashlar: free of foreign pointer 0x…`) and aborts, as do double frees and pointers into a
 *   block. ASHLAR_ON_ERROR=warn reports and goes on. The limit counts whole slabs (64 KiB and more)
 *   and large blocks, not the bytes that were asked for. ash_verify is exact only while no other
 *   thread allocates or frees.
 */
#ifndef ASHLAR_MALLOC_H
#define ASHLAR_MALLOC_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * At least `n` bytes, or NULL and ENOMEM. `n` = 0 gives a block of the smallest class, to be freed.
 */
void *ash_malloc(size_t n);

/* The same for `count` * `n` bytes, all zero. Memory fresh from the system is not cleared again. */
void *ash_calloc(size_t count, size_t n);

/*
 * Makes the block at `p` hold `n` bytes, in place or by moving it; the old pointer is invalid if
 * another one is returned. `p` = NULL allocates; `n` = 0 frees and returns NULL. NULL and ENOMEM
 * leave the block as it was. A block keeps its place while `n` is between half and all of what it
 * holds.
 */
void *ash_realloc(void *p, size_t n);

/* A block whose address is a multiple of `align`: any power of two, else NULL and EINVAL. */
void *ash_aligned_alloc(size_t align, size_t n);

/* NULL is fine. errno is kept. */
void ash_free(void *p);

/*
 * The same, for a block that was asked for with `n` bytes; a wrong `n` is reported like a wrong
 * free.
 */
void ash_free_sized(void *p, size_t n);

/* Bytes that the block holds, all of which may be used; 0 for NULL. */
size_t ash_usable_size(const void *p);

/* Bytes that a block of `n` bytes would hold. */
size_t ash_good_size(size_t n);

/*
 * `count` blocks of the given sizes into `out`, all of them or none: 0, or -ENOMEM, and then `out`
 * holds NULLs. A refusal because of the limit is counted once; a batch larger than the limit as a
 * whole takes nothing first. Cost: a little less than that of the single calls.
 */
int ash_malloc_batch(const size_t *sizes, void **out, size_t count);

/* Frees `count` blocks; NULLs among them are fine. */
void ash_free_batch(void *const *ptrs, size_t count);

/*
 * A cap on the memory in use by this process's allocator, in bytes; 0 for none. Allocations beyond
 * it return NULL and ENOMEM after freed memory was given back to the system. 0, or -EINVAL below 4
 * MiB. A cap lower than what is in use stops further growth only.
 */
int ash_limit_set(size_t bytes);

/* The cap and the bytes that count against it. */
void ash_limit_get(size_t *limit, size_t *used);

/*
 * Gives back to the system all that can be: this thread's cache, idle slabs, free memory. Other
 * threads' caches follow the next time they leave their fast path. 1 when memory was given back,
 * else 0. Cost: proportional to the memory; a few milliseconds for a GiB.
 */
int ash_trim(void);

/*
 * Walks all records and this thread's cache: the number of faults found, each said on standard
 * error.
 */
int ash_verify(void);

#ifdef __cplusplus
}
#endif

#endif
