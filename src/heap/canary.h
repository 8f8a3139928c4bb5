/*
 * What stands behind the bytes of a block in hardened mode: a pattern, and in the last word of a
 * small block its seal.
 *
 * The pattern is one word repeated, made of the block's address and the process's secrets, no byte
 * of it 0, which overflows are made of most often. It is compared a word at a time, and a copy of a
 * neighbour's does not pass for it. Only the first KiB behind the bytes carries it.
 *
 * The seal says what the block is. It is a key of the block's own, exclusive-or
 *      SEAL_LIVE ^ slack * SEAL_TIMES    live; slack = size of the block - bytes asked for, >= 8
 *      SEAL_FREE ^ link * SEAL_TIMES     free; link = index of the next block of a chain
 * so that anything else, a copy of another block's seal included, is seen by one comparison, and
 * one that was hit in part still tells how many bytes there were.
 *
 * Why in the block and not beside it: the line is in the cache of whoever allocates or frees. Words
 * beside the memory, 32 blocks to a line, were pulled from thread to thread by each of them:
 * producer and consumer took three times as long.
 */
#ifndef ASH_CANARY_H
#define ASH_CANARY_H

#include "base/atomic.h"
#include "heap/block.h"

enum {
    CANARY_BYTES = 8, /* every small block has at least so many behind its bytes: the seal */
    CANARY_LOOK = 1024
};

#define SEAL_TIMES ((uint64_t)0x9e3779b97f4a0001) /* the low 16 bits of a product are the value */
#define SEAL_LIVE  ((uint64_t)0)
#define SEAL_FREE  ((uint64_t)0xffffffff) /* halves that differ: no seal is of both kinds */
#define SEAL_NONE  (~0u)

extern ASH_HIDDEN uint64_t canary_secret; /* const after boot: random, odd */

/* The block's own: nothing is learnt of it from another block's. */
ASH_INLINE uint64_t canary_key(const void *p)
{
    uint64_t mixed = block_mark(p) * canary_secret;
    return mixed ^ mixed >> 32;
}

ASH_INLINE uint64_t canary_pattern(uint64_t key)
{
    return key | 0x0101010101010101u;
}

/* Words at multiples of 8: of the first, the bytes before `n` are the program's. */
ASH_INLINE uint64_t canary_mask(size_t n)
{
    return ~(uint64_t)0 << (n % 8 * 8);
}

/* Writes the pattern to [n, end) of the block at `p`; `end` is a multiple of 8. */
ASH_INLINE void canary_fill(void *p, size_t n, size_t end, uint64_t key)
{
    uint64_t pattern = canary_pattern(key);
    uint64_t mask = canary_mask(n);
    end = size_min(end, n + CANARY_LOOK);
    if (n >= end)
        return;
    uint64_t *word = (uint64_t *)p + n / 8;
    uint64_t *last = (uint64_t *)p + end / 8;
    *word = (*word & ~mask) | (pattern & mask);
    while (++word < last)
        *word = pattern;
}

/* The same: true when the pattern is whole. */
ASH_INLINE bool canary_is_whole(const void *p, size_t n, size_t end, uint64_t key)
{
    uint64_t pattern = canary_pattern(key);
    end = size_min(end, n + CANARY_LOOK);
    if (n >= end)
        return true;
    const uint64_t *word = (const uint64_t *)p + n / 8;
    const uint64_t *last = (const uint64_t *)p + end / 8;
    uint64_t hurt = (*word ^ pattern) & canary_mask(n);
    while (++word < last)
        hurt |= *word ^ pattern;
    return hurt == 0;
}

/* Says which byte was written: of the pattern, or the lowest set one of `seal`, which begins at `end`. */
ASH_COLD void canary_report(const void *p, size_t n, size_t end, uint64_t seal);

/* Says where the pattern is hurt, if it is. */
ASH_INLINE void canary_check(const void *p, size_t n, size_t end, uint64_t key)
{
    if (ASH_UNLIKELY(!canary_is_whole(p, n, end, key)))
        canary_report(p, n, end, 0);
}

/* ---- the seal of a block of `size` bytes ---- */

ASH_INLINE _Atomic(uint64_t) *seal_at(const void *p, size_t size)
{
    return (_Atomic(uint64_t) *)((uintptr_t)p + size - CANARY_BYTES);
}

ASH_INLINE uint64_t seal_make(uint64_t key, uint64_t kind, unsigned value)
{
    return key ^ kind ^ value * SEAL_TIMES;
}

/* The slack or link in a seal of that kind; SEAL_NONE when it is none. */
ASH_INLINE unsigned seal_value(uint64_t key, uint64_t kind, uint64_t seal)
{
    uint64_t times = seal ^ key ^ kind;
    unsigned value = times & 0xffff;
    return ASH_LIKELY(times == value * SEAL_TIMES) ? value : SEAL_NONE;
}

/*
 * The slack or link up to `most` whose seal of that kind has most bytes in common with one that was
 * hit; SEAL_NONE: none has enough. *same: how many.
 */
ASH_COLD unsigned seal_guess(uint64_t key, uint64_t kind, uint64_t seal, size_t most, unsigned *same);

/* Makes a block free whose content was cleared, with a link in it. */
ASH_INLINE void seal_free(void *p, size_t size, unsigned link)
{
    store_relaxed(seal_at(p, size), seal_make(canary_key(p), SEAL_FREE, link));
}

/* A block that was never handed out has no seal yet. */
ASH_INLINE bool seal_is_free(uint64_t key, uint64_t seal)
{
    return seal == 0 || seal_value(key, SEAL_FREE, seal) != SEAL_NONE;
}

#endif
