/*
 * Sampling of allocations for the heap profile (ASHLAR_PROFILE): on average one block for every
 * `sample_mean` bytes, each by itself with the probability 1 - exp(-size / mean), so that a sample
 * stands for 1 / (1 - exp(-size / mean)) blocks of its size.
 *
 * The hit paths know nothing of it. Of each class it is drawn beforehand how many allocations go by
 * until the next one is sampled (blocks of one class are of one size, so the number is geometric,
 * and independent draws of the classes are the same as one Poisson process over all bytes). Let
 * `left` be what remains of that number:
 *
 *   length of the list <= left
 *
 * whenever the thread is not in a slow path. So the list has run out by the allocation that is
 * sampled, however the program mixes allocations and frees, and that one comes by the slow path.
 * A pop takes one of both. A free adds to the list alone: the list may hold half of `left` (its cap
 * is lowered to that), and the tick of the list's word, which frees look at anyway, is set to come
 * when `left` has shrunk to the cap; the free that finds it halves both anew. That is one slow path
 * for each halving, ten for each sample of small blocks. What is beyond the cap waits on the
 * class's spare list.
 *
 * A sampled block has 64 bytes or more in front, which hold its record, in a block of the class
 * that has room for both. So it begins inside a block of its class, which free takes for wrong and
 * leaves to the slow path, where the record says what it is: frees of all other blocks cost what
 * they always do, and of no sample the end is missed. Large blocks, which never hit, have the
 * record in their header; one that is resized where it lies is drawn for again.
 *
 * Rejected: a countdown of bytes at every allocation, 12 instructions more for each; a unit of its
 * own for each sampled block, 64 KiB of the limit for every 512.
 *
 * Not in hardened mode, whose allocations have paths of their own.
 */
#ifndef ASH_SAMPLE_H
#define ASH_SAMPLE_H

#include "heap/heap.h"

/* Where a sampled block came from: the profile library's. */
struct site;

/* The profile library's functions. Any thread; they allocate nothing. */
struct sample_sink {
    struct site *(*take)(size_t bytes); /* a block was sampled: its site by the caller's stack */
    void (*give)(struct site *site, size_t bytes); /* and is freed */
};

/* Bytes between two samples on average; 0: nothing is sampled. Set once, before main. */
extern ASH_HIDDEN uint64_t sample_mean;

/* Begins to sample, of what the calling thread, and threads that come, allocate from now on. */
void sample_start(uint64_t mean, const struct sample_sink *sink);

/*
 * A sampled block in place of the one of class `cls` that is about to be allocated by the slow
 * path; NULL: it is not one to be sampled, or there is no memory for it.
 */
void *sample_take(struct heap *h, unsigned cls, size_t align);

/* After a slow path of the class: makes its list as short as sampling needs it. */
void sample_fit(struct heap *h, unsigned cls);

/*
 * The block of class `cls` that the live sampled block at `p` lies in; NULL: there is none.
 * sample_holds: the bytes of the sampled block.
 */
struct block *sample_around(unsigned cls, const void *p);
size_t sample_holds(unsigned cls, const void *p);

/* The sampled block inside the live block at `around`, NULL: there is none; and then its site. */
char *sample_inside(void *around);
struct site *sample_site(const void *around);

/* The sampled block ends; the block around it is to be freed. */
void sample_end(struct block *around);

/*
 * A large block begins at `p`: draws for it; `h` may be no real heap. One that ends had the site
 * and the bytes given, where the site is not NULL.
 */
void sample_large(struct heap *h, void *p);
void sample_large_end(struct site *site, size_t bytes);

/* The site of a large block; NULL: it is not sampled. */
ASH_INLINE struct site *sample_large_site(const struct slab *s)
{
    return load_relaxed(&s->pool);
}

#endif
