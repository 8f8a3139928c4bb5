/*
 * Size classes: from a size to a class without division or search, and from a place in a slab to a
 * block.
 *
 * Classes are numbered 1..88 in ascending size; 0 means "not a small block".
 *    1..40   up to 1 KiB, from a table by 16-byte step. Grain 64 uses 25..40 (64, 128 … 1024);
 *            grain 16 all of them (16, 32 … 512, 576 … 1024).
 *   41..88   8 steps a doubling to 64 KiB, by shifts: waste stays below 1/9.
 * Both grains share the arithmetic: the fast path does not know the grain.
 *
 * A block's index is offset * reciprocal >> 64, and the offset is that of a block's first byte
 * exactly when the low half of the product is below the reciprocal (Lemire, Kaser, Kurz: Faster
 * remainder by direct computation, 2019), exact for offsets below 2^19 and sizes below 2^17.
 *
 * A slab has 1, 2, 4 or 8 units, so that it holds at least 8 blocks, and is aligned to its own
 * size.
 */
#ifndef ASH_SIZECLASS_H
#define ASH_SIZECLASS_H

#include "mem/classmap.h"

enum {
    CLASS_COUNT = 89,
    CLASS_TABLE_LAST = 40, /* the class of TABLE_MAX */
    TABLE_MAX = 1024,      /* sizes up to this go by the table */
    SMALL_MAX = 64 * 1024, /* larger ones are large blocks */
    SLAB_BLOCKS_MAX = UNIT_BYTES / 16
};

/*
 * The hit paths scale a class once, by the size that this record and the heap's list of the class
 * share.
 */
enum { CLASS_STRIDE = 16 };

struct size_class {
    uint64_t reciprocal;  /* ceil(2^64 / size); 0 for classes out of use */
    uint32_t size;        /* bytes in a block */
    uint32_t offset_mask; /* slab bytes - 1: p & mask is the offset of p in its slab */
};

struct size_classes {
    struct size_class of[CLASS_COUNT];
    unsigned first;                     /* the smallest class in use */
    size_t align;                       /* of every block, at least */
    uint16_t table[TABLE_MAX / 16 + 1]; /* (n + 15) / 16 -> class * CLASS_STRIDE */
};

_Static_assert(sizeof(struct size_class) == CLASS_STRIDE, "the hit paths scale a class once");

extern ASH_HIDDEN struct size_classes size_classes; /* const after boot */

/* grain: 16 or 64. */
void sizeclass_boot(unsigned grain);

/* The class for `n` in TABLE_MAX + 1 .. SMALL_MAX. */
ASH_INLINE unsigned class_of_medium(size_t n)
{
    unsigned top = 63u ^ (unsigned)__builtin_clzll(n - 1);
    return (unsigned)((n - 1) >> (top - 3)) + (top << 3) - (8 + (10 << 3) - (CLASS_TABLE_LAST + 1));
}

/* The class for `n` <= SMALL_MAX, times CLASS_STRIDE. */
ASH_INLINE size_t class_scaled(size_t n)
{
    return ASH_LIKELY(n <= TABLE_MAX) ? size_classes.table[(n + 15) >> 4]
                                      : (size_t)class_of_medium(n) * CLASS_STRIDE;
}

/* The class for `n` <= SMALL_MAX. */
ASH_INLINE unsigned class_of(size_t n)
{
    return (unsigned)(class_scaled(n) / CLASS_STRIDE);
}

ASH_INLINE const struct size_class *class_at(size_t scaled)
{
    return (const struct size_class *)((const char *)size_classes.of + scaled);
}

ASH_INLINE size_t class_size(unsigned cls)
{
    return size_classes.of[cls].size;
}

ASH_INLINE unsigned class_units(unsigned cls)
{
    return (size_classes.of[cls].offset_mask >> UNIT_SHIFT) + 1;
}

ASH_INLINE unsigned class_blocks(unsigned cls)
{
    const struct size_class *c = &size_classes.of[cls];
    return (unsigned)(((unsigned __int128)(c->offset_mask + (uint64_t)1) * c->reciprocal) >> 64);
}

/* True when `p`, which lies in a slab of the class, is the first byte of a block. */
ASH_INLINE bool class_is_block(const struct size_class *c, const void *p)
{
    return ((uintptr_t)p & c->offset_mask) * c->reciprocal < c->reciprocal;
}

/* The index in its slab of the block that `p` lies in. */
ASH_INLINE unsigned class_index(unsigned cls, const void *p)
{
    const struct size_class *c = &size_classes.of[cls];
    return (unsigned)(((unsigned __int128)((uintptr_t)p & c->offset_mask) * c->reciprocal) >> 64);
}

#endif
