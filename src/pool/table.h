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

enum { TABLE_PARTS = 28 };

/* All zero is an empty table. */
struct table {
    _Atomic(_Atomic(void *) *) part[TABLE_PARTS]; /* atomic: NULL, then const */
};

/* The entry, NULL where none was made. */
void *table_get(const struct table *t, uint32_t i);

/* The entry's place, for release stores; NULL: no memory. */
_Atomic(void *) *table_slot(struct table *t, uint32_t i);

/* Nobody else uses the table. */
void table_fini(struct table *t);

#endif
