/*
 * What stands behind the bytes of a block in hardened mode: a pattern, and in the last word of a
 * small block its seal.
 *
 * The pattern is one word repeated, made of the block's address and the process's secrets, no byte
 * of it 0, which overflows are made of most often. It is compared a word at a time, and a copy of a
 * neighbour's does not pass for it. Only the first KiB behind the bytes carries it.
 *
 * The seal says what the block is. It is a key of the block's own, exclusive-or
 *      slack * SEAL_TIMES    live; slack = size of the block - bytes asked for, >= 8
 *      SEAL_FREE             free
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
#define SEAL_FREE  ((uint64_t)0xffffffff)         /* no slack's product */
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

/*
 * A pattern that begins in the line that ends the block is filled and compared as a line, under a
 * mask: as many steps for any number of bytes, and no branch. The seal, which ends the line, is put
 * in later, and left out.
 */
enum { CANARY_LINE = 64 };

typedef uint64_t canary_vector __attribute__((vector_size(16), aligned(1), may_alias));

/* As many zeroes as ones: the line that begins at k has k ones at its end. */
extern ASH_HIDDEN const unsigned char canary_masks[2 * CANARY_LINE];

/*
 * True when the pattern of a block of `size` bytes, `slack` of which are behind the program's, lies
 * in its last line.
 */
ASH_INLINE bool canary_is_short(size_t slack, size_t size)
{
    return size >= CANARY_LINE && slack <= CANARY_LINE;
}

/* Writes that pattern; the seal is due. `last` is the line. */
ASH_INLINE void canary_fill_line(void *last, size_t slack, uint64_t key)
{
    uint64_t pattern = canary_pattern(key);
    const canary_vector *mask = (const void *)(canary_masks + slack);
    canary_vector *at = last;
    at[0] = (at[0] & ~mask[0]) | (pattern & mask[0]);
    at[1] = (at[1] & ~mask[1]) | (pattern & mask[1]);
    at[2] = (at[2] & ~mask[2]) | (pattern & mask[2]);
    at[3] = (at[3] & ~mask[3]) | (pattern & mask[3]);
}

/* True when it is whole. */
ASH_INLINE bool canary_line_is_whole(const void *last, size_t slack, uint64_t key)
{
    uint64_t pattern = canary_pattern(key);
    const canary_vector *mask = (const void *)(canary_masks + slack);
    const canary_vector *at = last;
    canary_vector hurt = ((at[0] ^ pattern) & mask[0]) | ((at[1] ^ pattern) & mask[1]) |
                         ((at[2] ^ pattern) & mask[2]);
    canary_vector sealed = (at[3] ^ pattern) & mask[3];
    return (hurt[0] | hurt[1] | sealed[0]) == 0;
}

/* Any pattern, in [n, end) of the block at `p`, word by word; `end` is a multiple of 8. */
void canary_fill(void *p, size_t n, size_t end, uint64_t key);

/* Says where it is hurt, if it is. */
void canary_check(const void *p, size_t n, size_t end, uint64_t key);

/* Says which byte was written: of the pattern, or of the seal, whose bits that were are `seal`. */
ASH_COLD void canary_report(const void *p, size_t n, size_t end, uint64_t seal);

/* ---- the seal of a block of `size` bytes ---- */

ASH_INLINE _Atomic(uint64_t) *seal_at(const void *p, size_t size)
{
    return (_Atomic(uint64_t) *)((uintptr_t)p + size - CANARY_BYTES);
}

ASH_INLINE uint64_t seal_of_live(uint64_t key, unsigned slack)
{
    return key ^ slack * SEAL_TIMES;
}

ASH_INLINE uint64_t seal_of_free(uint64_t key)
{
    return key ^ SEAL_FREE;
}

/* The slack in the seal of a live block; SEAL_NONE when it is none. */
ASH_INLINE unsigned seal_slack(uint64_t key, uint64_t seal)
{
    unsigned slack = (seal ^ key) & 0xffff;
    return ASH_LIKELY(seal == seal_of_live(key, slack)) ? slack : SEAL_NONE;
}

/* Makes a block free whose content was cleared. */
ASH_INLINE void seal_free(void *p, size_t size, uint64_t key)
{
    store_relaxed(seal_at(p, size), seal_of_free(key));
}

/* Bytes that two seals have in common. */
ASH_COLD unsigned seal_like(uint64_t seal, uint64_t other);

/*
 * The slack up to `most` whose seal has most bytes in common with one that was hit, and how many;
 * SEAL_NONE: none has enough to tell.
 */
ASH_COLD unsigned seal_guess(uint64_t key, uint64_t seal, size_t most, unsigned *like);

#endif
