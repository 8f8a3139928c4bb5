/*
 * The memory of a transaction: blocks cut from chunks, all of which go when it ends. An arena
 * (ashlar/arena.h) without what a transaction has no use for: names, children, cleanups, clocks.
 * Four words in the record and two in each chunk are all there is to it; an arena for each
 * transaction took 0.3 KiB.
 *
 *  1. Blocks are cut from the newest chunk. A place is a chunk and an address in it: going back to
 *     it frees the chunks that came later.
 *  2. The first chunk is as large as transactions are found to need (`learned`), so that one does
 *     for most; those that come behind it add a quarter, so that no more than that is lost. Sizes
 *     are those of a coarse grid, so that what is freed fits what comes.
 *  3. Learning: what a transaction needed moves `learned` towards it, up by a quarter at most, down
 *     by 1/64. Where sizes differ it comes to rest where one in six needs a second chunk: that is
 *     less memory than the largest for all, and few calls of malloc.
 *  4. At the end the first chunk stays with the record for its next transaction, if its size is
 *     about what was learned. So steady work takes nothing from malloc.
 *
 * Under valgrind and AddressSanitizer each block is a chunk of its own with a margin behind it, and
 * none stays.
 */
#ifndef ASH_TXNMEM_H
#define ASH_TXNMEM_H

#include "base/atomic.h"
#include "vm/tally.h"

enum { TXNMEM_ALIGN = 16, TXNMEM_LEAST = 256 };

struct txnmem_chunk {
    struct txnmem_chunk *older;
    size_t size; /* const: bytes, this record among them; a multiple of TXNMEM_ALIGN */
};

/* Of a transaction; all of it its owner's. Zeroed it is empty. */
struct txnmem {
    char *at, *end; /* room in the newest chunk */
    struct txnmem_chunk *newest;
    size_t before; /* bytes used in the others */
};

/* A place in it. */
struct txnmem_mark {
    struct txnmem_chunk *chunk;
    char *at;
    size_t before;
};

/* What the transactions of a manager have in common. */
struct txnmem_rule {
    size_t first_least, keep, most; /* const: bounds of `learned`; of all chunks of one, 0: none */
    struct tally *tally;            /* const: counts the bytes of all chunks, */
    unsigned count;                 /* const: as this */
    _Atomic(size_t) learned; /* atomic: a hint; one of two changes at the same time may be lost */
};

/* A block where the chunk has no room for it; NULL: no memory. */
void *txnmem_alloc_slow(struct txnmem *m, struct txnmem_rule *rule, size_t n);

/* `n` bytes, aligned to TXNMEM_ALIGN; NULL: no memory. */
ASH_INLINE void *txnmem_alloc(struct txnmem *m, struct txnmem_rule *rule, size_t n)
{
    char *p = m->at;
    if (ASH_UNLIKELY(n - 1 >= (size_t)(m->end - p))) /* nothing as well: it gets an address */
        return txnmem_alloc_slow(m, rule, n);
    m->at = p + align_up(n, TXNMEM_ALIGN);
    return p;
}

ASH_INLINE bool txnmem_has_grown(const struct txnmem *m)
{
    return m->newest != NULL && m->newest->older != NULL;
}

ASH_INLINE struct txnmem_mark txnmem_mark(const struct txnmem *m)
{
    return (struct txnmem_mark){m->newest, m->at, m->before};
}

void txnmem_rollback(struct txnmem *m, struct txnmem_rule *rule, struct txnmem_mark mark);

/* What it needed until now is what others will need. */
void txnmem_learn(const struct txnmem *m, struct txnmem_rule *rule);

/* All blocks go; a chunk may stay. */
void txnmem_clear(struct txnmem *m, struct txnmem_rule *rule);

/* All chunks go. */
void txnmem_fini(struct txnmem *m, struct txnmem_rule *rule);

#endif
