/*
 * ASHLAR_HARDEN=1: an allocator that looks for misuse. The hit paths never see a heap then
 * (heap_tls stays HEAP_NONE), so every call comes through the slow ones and from there to here;
 * without the option nothing of this costs anything.
 *
 * Small blocks. Whether a block is live, and how many of its bytes were asked for, stands in its
 * seal, a keyed word at its very end (heap/canary.h); what a slab holds stands beside it as always.
 * The bytes between what was asked for and the seal carry a pattern. Both are looked at when the
 * block is freed: a free that is not one is seen, and a write past the end by its first byte. A
 * freed block is cleared, waits a random while, goes home without a link being written into it, and
 * is looked at again before it is handed out: a write after the free is found. Blocks are taken
 * from random places of a slab.
 *
 * Large blocks lie between pages that cannot be touched, and end where the pages behind begin;
 * freed ones are pages that cannot be touched, for a while.
 *
 * What is found: double and invalid frees of every kind, sizes that differ by one byte from what
 * was asked for, linear overflow, underflow into the block before, writes after free, reads of
 * large blocks after free. What is read after free or before it was written is zeroes. Not found:
 * a read past the end, a write that jumps over the pattern, a write after the block has been handed
 * out again.
 */
#ifndef ASH_HARD_H
#define ASH_HARD_H

#include "heap/heap.h"

/* `n` zeroed bytes out of what `h`, which is real, has ready; NULL: hard_alloc has to be asked. */
void *hard_hit(struct heap *h, size_t n);

/*
 * `n` zeroed bytes at a multiple of `align`, a power of two; NULL: no memory.
 */
void *hard_alloc(struct heap *h, size_t n, size_t align);

/*
 * Frees what `h`, which is real, was asked to, and says what is wrong with it. True when more was
 * done than to let the block wait: time for a tick.
 */
bool hard_free(struct heap *h, void *p);

/* The same for a heap that may not be real. */
bool hard_free_slow(struct heap *h, void *p);

/* Bytes that were asked for; HOLDS_NONE when `p` was wrong, which has been said. */
size_t hard_usable(const char *verb, const void *p);

/*
 * Makes the live block of `old` bytes hold `n` where it lies; false: it cannot, and nothing was
 * changed. `h` may be no real heap.
 */
bool hard_resize(struct heap *h, void *p, size_t old, size_t n);

/* Forgets addresses of blocks that the heap no longer holds: a search for leaks would find them. */
void hard_forget(struct heap *h);

/* Sends home what waits in the heap's quarantine. */
void hard_flush(struct heap *h);

#endif
