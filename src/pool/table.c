#include "pool/table.h"

#include "base/bits.h"
#include "heap/front.h"

enum { TABLE_FIRST = 16 };

/* The part that holds entry `i`, and where. */
ASH_INLINE unsigned table_part(uint32_t i, size_t *at)
{
    uint64_t n = (uint64_t)i + TABLE_FIRST;
    unsigned top = bits_highest(n);
    *at = n - ((uint64_t)1 << top);
    return top - bits_lowest(TABLE_FIRST);
}

void *table_get(const struct table *t, uint32_t i)
{
    size_t at;
    unsigned k = table_part(i, &at);
    _Atomic(void *) *part = load_acquire(&t->part[k]);    /* its zeroes; pairs with table_slot */
    return part == NULL ? NULL : load_acquire(&part[at]); /* pairs with whoever filled it */
}

_Atomic(void *) *table_slot(struct table *t, uint32_t i)
{
    size_t at;
    unsigned k = table_part(i, &at);
    _Atomic(void *) *part = load_acquire(&t->part[k]); /* pairs with the release below */
    if (part == NULL) {
        _Atomic(void *) *fresh = front_calloc((size_t)TABLE_FIRST << k, sizeof *fresh);
        if (fresh == NULL)
            return NULL;
        if (cas_strong_acq_rel(&t->part[k], &part, fresh)) /* its zeroes; pairs with table_get */
            part = fresh;
        else
            front_free(fresh);
    }
    return &part[at];
}

void table_fini(struct table *t)
{
    for (unsigned k = 0; k < TABLE_PARTS; k++) {
        front_free(load_relaxed(&t->part[k]));
        store_relaxed(&t->part[k], NULL);
    }
}
