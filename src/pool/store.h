/*
 * The memory of a pool: chunks of equal objects, and the numbers by which the depot knows them.
 *
 * A chunk is a run of 64 KiB units, as few as leave less than 3 % at its end (objects of 4096 bytes
 * fit a unit exactly, since nothing but objects lies in it). Every unit's header (mem/chunk.h)
 * points to the chunk's record: a pointer becomes its chunk with two loads, without a look at the
 * memory it points to, and what is no object of this pool is told by that and by one
 * multiplication.
 *
 * An object's number is chunk << bits | index. To get the index from the offset, that is multiplied
 * with the inverse of the stride's odd part modulo 2^64 and rotated by its zeroes: exact for
 * multiples of the stride, and at least 2^64 / stride for anything else (Granlund and Montgomery,
 * Division by Invariant Integers using Multiplication, PLDI 1994, section 9).
 *
 * Objects that were never used are taken from one chunk at a time, in address order:
 *      fresh = {chunk + 1 : 32 | next index : 32}
 * describes that completely, so a compare-and-swap that finds the same value again is right
 * whatever happened in between. Whoever finds it used up makes a chunk and swaps that in; of two
 * who do so, the second gives its chunk back. So every chunk but the current one has been handed
 * out in full.
 */
#ifndef ASH_STORE_H
#define ASH_STORE_H

#include "heap/slab.h"
#include "pool/table.h"

#define STORE_NONE UINT32_MAX

struct store;

struct store_chunk {
    struct store *store;      /* const */
    char *first;              /* const: the first object */
    size_t unit;              /* const */
    uint32_t number;          /* const */
    uint32_t held;            /* trimmer: free objects of it that the trimmer holds */
    uint32_t trim;            /* trimmer: the trim that the other two are of */
    bool doomed;              /* trimmer: it goes */
    struct store_chunk *next; /* trimmer: doomed too */
};

struct store {
    size_t size;           /* const: of an object, as its user has it */
    size_t stride;         /* const: from one object to the next */
    size_t before;         /* const: bytes of the stride that lie before the object */
    uint64_t inverse;      /* const */
    size_t units;          /* const: of a chunk */
    size_t align;          /* const: of a chunk, in units */
    unsigned zeroes;       /* const: trailing ones of the stride */
    unsigned bits;         /* const: of the index in an object's number */
    uint32_t per_chunk;    /* const: objects */
    struct table chunks;   /* atomic: records; NULL for chunks that were given back */
    _Atomic(uint32_t) top; /* atomic: chunks have numbers below this */
    _Atomic(uint32_t) low; /* hint: chunks below this number exist; too high wastes numbers */
    ASH_LINE_ALIGNED _Atomic(uint64_t) fresh; /* atomic: see above */
    _Atomic(uint64_t) bytes;                  /* atomic: in chunks */
    _Atomic(uint64_t) carved;                 /* atomic: objects that have been handed out */
};

/*
 * `s` is all zero, or was ended. Objects of `size` bytes at multiples of `align`, with `before` and
 * `behind` bytes round each; false when that is more than an address space holds.
 */
bool store_init(struct store *s, size_t size, size_t align, size_t before, size_t behind);

/* Gives every chunk back. Nobody else uses the store. */
void store_fini(struct store *s);

/*
 * Numbers of up to `n` objects that were never used, to `out`, the lowest address last; how many: 0
 * when there is no memory.
 */
uint32_t store_carve(struct store *s, uint32_t *out, uint32_t n);

/* Gives a chunk back whose objects are all the caller's; see store_retire. */
void store_give(struct store *s, struct store_chunk *c);

/*
 * Objects of the chunk that have been carved, all of which the caller holds if they are `held`:
 * true when no more will be, so that it may be released.
 */
bool store_retire(struct store *s, const struct store_chunk *c, uint32_t held);

/* Objects of the chunk that have been carved so far. */
uint32_t store_carved(const struct store *s, const struct store_chunk *c);

/* Objects of the current chunk that have not been carved. */
uint32_t store_left(const struct store *s);

/* The pool's chunk that `p` lies in, of whatever pool; NULL when in none. */
struct store_chunk *store_chunk_of(const void *p);

/* The object's number, STORE_NONE for what is no object of this store. */
uint32_t store_number(const struct store *s, const void *p);

/*
 * The numbers of those at the beginning of a list of `n` that are objects of one chunk; how many: 0
 * when the first is no object of this store. Neighbours cost a multiplication each.
 */
uint32_t store_numbers(const struct store *s, void *const *objs, uint32_t n, uint32_t *numbers);

/* The objects with those numbers. */
void store_objects(const struct store *s, const uint32_t *numbers, uint32_t n, void **objs);

ASH_INLINE uint32_t store_index(const struct store *s, uint32_t number)
{
    return number & (uint32_t)(((uint64_t)1 << s->bits) - 1);
}

struct store_chunk *store_chunk(const struct store *s, uint32_t number);

/* The object with that number. */
void *store_object(const struct store *s, uint32_t number);

#endif
