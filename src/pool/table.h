/*
 * An array of pointers that grows and whose entries never move: parts of 16, 32, 64 ... entries,
 * made when the first of them is needed. Any thread may read, fill and enlarge it at any time, and
 * nobody waits; of two threads that make the same part, the second gives its own back.
 *
 * What an entry is for, and when it may be overwritten, is its user's business. Parts are kept
 * until table_fini.
 */
#ifndef ASH_TABLE_H
#define ASH_TABLE_H

#include "base/atomic.h"
#include "base/bits.h"

enum { TABLE_FIRST = 16, TABLE_PARTS = 28 };

/* All zero is an empty table. */
struct table {
    _Atomic(_Atomic(void *) *) part[TABLE_PARTS]; /* atomic: NULL, then const */
};

/* The part that holds entry `i`, and where. */
ASH_INLINE unsigned table_part(uint32_t i, size_t *at)
{
    uint64_t n = (uint64_t)i + TABLE_FIRST;
    unsigned top = bits_highest(n);
    *at = n - ((uint64_t)1 << top);
    return top - bits_lowest(TABLE_FIRST);
}

/* The entry, NULL where none was made. */
ASH_INLINE void *table_get(const struct table *t, uint32_t i)
{
    size_t at;
    unsigned k = table_part(i, &at);
    _Atomic(void *) *part = load_acquire(&t->part[k]);    /* its zeroes; pairs with table_slot */
    return part == NULL ? NULL : load_acquire(&part[at]); /* pairs with whoever filled it */
}

/* The entry's place, for release stores; NULL: no memory. */
_Atomic(void *) *table_slot(struct table *t, uint32_t i);

/* Nobody else uses the table. */
void table_fini(struct table *t);

#endif
