#include "heap/sizeclass.h"

#include "base/anchor.h"

struct size_classes size_classes;

/* Bytes in a block of class `cls`; grain 64 leaves the classes below 25 out. */
static size_t size_at(unsigned cls)
{
    if (cls <= 32)
        return (size_t)cls * 16;
    if (cls <= CLASS_TABLE_LAST)
        return 512 + (size_t)(cls - 32) * 64;
    unsigned step = cls - (CLASS_TABLE_LAST + 1);
    return ((size_t)TABLE_MAX << (step / 8)) / 8 * (9 + step % 8);
}

/* In grain 64 the 16 classes of the table are 64 apart: 25 is 64 bytes. */
static size_t size_in_grain(unsigned cls, unsigned grain)
{
    return grain == 64 && cls <= CLASS_TABLE_LAST ? (size_t)(cls - 24) * 64 : size_at(cls);
}

static uint32_t slab_mask(size_t size)
{
    size_t bytes = UNIT_BYTES;
    while (bytes / size < 8)
        bytes *= 2;
    return (uint32_t)(bytes - 1);
}

void sizeclass_boot(unsigned grain)
{
    ANCHOR("size_classes", size_classes);
    size_classes.first = grain == 64 ? 25 : 1;
    size_classes.align = grain;
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        size_t size = size_in_grain(cls, grain);
        struct size_class *c = &size_classes.of[cls];
        c->size = (uint32_t)size;
        c->reciprocal = ~(uint64_t)0 / size + 1;
        c->offset_mask = slab_mask(size);
    }
    unsigned cls = size_classes.first;
    for (unsigned i = 0; i <= TABLE_MAX / 16; i++) {
        while (class_size(cls) < (size_t)i * 16)
            cls++;
        size_classes.table[i] = (uint16_t)(cls * CLASS_STRIDE);
    }
}
