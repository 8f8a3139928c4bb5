/*
 * The memory of a transaction: blocks cut from chunks, all of which go when it ends. An arena
 * (ashlar/arena.h) without what a transaction has no use for: names, children, cleanups, clocks.
 * Three words in the record and two in each chunk are all there is to it; an arena for each
 * transaction took 0.3 KiB.
 *
 *  1. Blocks are cut from the newest chunk. A place is a chunk and an address in it: going back to
 *     it frees the chunks that came later.
 *  2. The first chunk is as large as the manager's settings say; each that comes behind it has 256
 *     bytes, and in large transactions about a quarter of what there is.
 *  3. The first one stays with the record for its next transaction, the others go.
 *  4. So there are few sizes, each a class of malloc's: what one transaction gives back fits what
 *     the next one takes, in any order. Rejected: a first chunk as large as others have needed. It
 *     saves calls of malloc and cache misses (50 ns a chunk with 4096 in flight), but its size
 *     changes with what comes, and each that it had leaves slabs behind that are no longer full:
 *     where transactions differ they held twice as much memory. Who knows what they need says so.
 *
 * Under valgrind and AddressSanitizer each block is a chunk of its own with a margin behind it, and
 * none stays.
 */
#ifndef ASH_TXNMEM_H
#define ASH_TXNMEM_H

#include "base/base.h"
#include "vm/tally.h"

enum { TXNMEM_ALIGN = 16 };

/* What a chunk begins with: in the line of its first block, which is touched in any case. */
struct txnmem_chunk {
    struct txnmem_chunk *older;
    size_t size; /* const: bytes, of all of it */
};

_Static_assert(sizeof(struct txnmem_chunk) == TXNMEM_ALIGN, "a chunk's room is whole units");

/* Of a transaction; all of it its owner's. Zeroed it is empty. */
struct txnmem {
    char *at, *end; /* room in the newest chunk */
    struct txnmem_chunk *newest;
};

/* A place in it. */
struct txnmem_mark {
    struct txnmem_chunk *chunk;
    char *at;
};

/* What the transactions of a manager have in common. */
struct txnmem_rule {
    size_t first;        /* const: bytes of first chunks */
    size_t most;         /* const: of all chunks of a transaction; 0: no bound */
    bool stays;          /* const: first chunks do */
    struct tally *tally; /* const: counts the bytes of all chunks, */
    unsigned count;      /* const: as this */
};

/* A block where the chunk has no room for it; NULL: no memory. */
void *txnmem_alloc_slow(struct txnmem *m, const struct txnmem_rule *rule, size_t n);

/* `n` bytes, aligned to TXNMEM_ALIGN; NULL: no memory. */
ASH_INLINE void *txnmem_alloc(struct txnmem *m, const struct txnmem_rule *rule, size_t n)
{
    char *p = m->at;
    if (ASH_UNLIKELY(n - 1 >= (size_t)(m->end - p))) /* nothing as well: it gets an address */
        return txnmem_alloc_slow(m, rule, n);
    m->at = p + align_up(n, TXNMEM_ALIGN);
    return p;
}

ASH_INLINE struct txnmem_mark txnmem_mark(const struct txnmem *m)
{
    return (struct txnmem_mark){m->newest, m->at};
}

void txnmem_rollback(struct txnmem *m, const struct txnmem_rule *rule, struct txnmem_mark mark);

/* All blocks go; a chunk may stay. */
void txnmem_clear(struct txnmem *m, const struct txnmem_rule *rule);

/* All chunks go. */
void txnmem_fini(struct txnmem *m, const struct txnmem_rule *rule);

#endif
