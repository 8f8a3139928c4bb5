/*
 * A bump allocator over blocks. The first block is static, so that a small process maps nothing for
 * its records; later ones come from the system.
 *
 * Invariant: block->used only grows; the bytes [offset, offset + n) that a fetch-add returned
 * belong to its caller alone if they lie inside the block. An offset past the end marks the block
 * as finished for everybody. Orders: the current block is published with release after its fields
 * are set; readers acquire.
 */
#include "mem/meta.h"

#include "base/anchor.h"
#include "base/atomic.h"
#include "os/os_mem.h"

struct meta_block {
    _Atomic(size_t) used; /* atomic: bytes taken from `bytes` */
    size_t room;          /* const: bytes in `bytes`; 0 in the static block */
    ASH_LINE_ALIGNED unsigned char bytes[];
};

enum { FIRST_ROOM = 64 * 1024, BLOCK_BYTES = 512 * 1024 };

/* All zero, so that it costs the file nothing and the process only the pages it reaches. */
union meta_first {
    struct meta_block block;
    char bytes[sizeof(struct meta_block) + FIRST_ROOM];
};
extern ASH_HIDDEN union meta_first meta_first;
ASH_TABLE union meta_first meta_first;

static _Atomic(struct meta_block *) current = &meta_first.block;
static _Atomic(uint64_t) total;

static struct meta_block *block_create(size_t n)
{
    size_t size = align_up(size_max(n + sizeof(struct meta_block), BLOCK_BYTES), 65536);
    struct meta_block *b = os_map(size);
    if (b != NULL)
        b->room = size - sizeof *b;
    return b;
}

void *meta_take(size_t n)
{
    n = align_up(n, ASH_CACHE_LINE);
    for (;;) {
        struct meta_block *b =
            load_acquire(&current); /* pairs with the release below: room is set */
        size_t at = add_relaxed(&b->used, n);
        size_t room = b->room != 0 ? b->room : FIRST_ROOM;
        if (at + n <= room) {
            add_relaxed(&total, n);
            return b->bytes + at;
        }
        struct meta_block *next = block_create(n);
        if (next == NULL)
            return NULL;
        if (!cas_strong_release(&current, &b, next)) /* its room; pairs with the load above */
            os_unmap(next, next->room + sizeof *next); /* another thread brought a block first */
    }
}

uint64_t meta_bytes(void)
{
    ANCHOR("meta", total);
    return load_relaxed(&total);
}
