/*
 * Sizes to classes and places to blocks, each against plain division, exhaustively, in both grains.
 */
#include "heap/sizeclass.h"
#include "tap.h"

static int wrong_sizes(unsigned grain)
{
    int wrong = 0;
    for (size_t n = 0; n <= SMALL_MAX; n++) {
        unsigned cls = class_of(n);
        size_t size = class_size(cls);
        wrong += size < n || size % grain != 0;
        wrong += cls > size_classes.first && class_size(cls - 1) >= n; /* the smallest that fits */
        wrong += n > 512 && (size - n) * 8 > size;                    /* waste <= 12.5 % */
    }
    return wrong;
}

static int wrong_places(void)
{
    int wrong = 0;
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        const struct size_class *c = &size_classes.of[cls];
        size_t slab = (size_t)c->offset_mask + 1;
        wrong += slab != class_units(cls) * (size_t)UNIT_BYTES || !is_pow2(slab);
        wrong += class_blocks(cls) != slab / c->size || class_blocks(cls) < 8;
        for (size_t offset = 0; offset < slab; offset++) {
            const void *p = (const void *)(uintptr_t)(((size_t)123 << CHUNK_SHIFT) + offset);
            wrong += class_index(cls, p) != offset / c->size;
            wrong += class_is_block(c, p) != (offset % c->size == 0);
        }
    }
    return wrong;
}

/* A size that is a multiple of a power of two has a class that is: what aligned allocation builds on. */
static int wrong_aligned(void)
{
    int wrong = 0;
    for (size_t align = 16; align <= SMALL_MAX; align *= 2)
        for (size_t n = align; n <= SMALL_MAX; n += align)
            wrong += class_size(class_of(n)) % align != 0;
    return wrong;
}

int main(void)
{
    static const unsigned grains[] = {16, 64};
    for (unsigned i = 0; i < ASH_COUNT(grains); i++) {
        sizeclass_boot(grains[i]);
        is_int(wrong_sizes(grains[i] == 64 ? 64 : 16), 0, "sizes, grain of the table");
        is_int(wrong_places(), 0, "places in slabs");
        is_int(wrong_aligned(), 0, "aligned sizes");
        is_int(class_size(size_classes.first), grains[i], "the smallest class is the grain");
        is_int(class_size(CLASS_COUNT - 1), SMALL_MAX, "the largest class");
    }
    return tap_done();
}
