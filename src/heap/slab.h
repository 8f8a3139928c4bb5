/*
 * A slab: 1, 2, 4 or 8 units cut into blocks of one size class, owned by one heap at a time. This
 * record is the unit header of its first unit (mem/chunk.h); the same record describes a large
 * block.
 *
 *   blocks of the slab = free (a bit is set) + on the remote word + out (in caches or with the
 *   program)
 *
 * Free blocks are bits and nothing else: no list runs through the slab that a stray write could
 * break, blocks are taken lowest address first (pages are touched only when they are reached,
 * neighbours are used together), and freeing a free block is seen exactly, since its bit is set
 * already.
 *
 * Who writes what: fields marked "owner" belong to the thread whose heap owns the slab, or to
 * whoever popped the slab from an orphan stack. Passing the slab on goes through `remote` (see
 * heap/remote.h) or through the reserve's free bits, both of which publish the rest.
 */
#ifndef ASH_SLAB_H
#define ASH_SLAB_H

#include "base/atomic.h"
#include "heap/block.h"
#include "heap/sizeclass.h"
#include "mem/chunk.h"

struct heap;

enum unit_kind {
    UNIT_NONE,  /* free, or inside a run, or never used */
    UNIT_SMALL, /* the first unit of a slab */
    UNIT_LARGE, /* the first unit of a large block */
    UNIT_FREED, /* the first unit of a large block or slab that was given back */
    UNIT_POOL,  /* any unit of a pool's memory; of the rest of the header only `pool` is in use */
};

enum slab_list { SLAB_UNLISTED, SLAB_PARTIAL, SLAB_FULL };

struct slab {
    _Atomic(uint64_t) remote;     /* atomic: see heap/remote.h */
    _Atomic(struct heap *) owner; /* atomic: written by the owner-to-be; NULL for orphans */
    _Atomic(uint32_t) link;       /* atomic: the next slab of an inbox or orphan stack, unit + 1 */
    _Atomic(uint32_t) kind;       /* atomic: enum unit_kind */
    uint32_t unit;                /* const while in use */
    _Atomic(uint32_t) units;      /* atomic: const for slabs; of a large block: its holder's, who
                                     changes it; others read it for messages */
    size_t bytes;                 /* of a large block: usable bytes; its holder's */
    uint32_t guard;               /* of a large block: untouchable units before it, in hard mode */
    _Atomic(uint8_t) cls;         /* atomic: const while in use; read later for messages */
    _Atomic(void *) pool;         /* atomic: const while in use; the record of a pool's chunk; of a
                                     large block its site, see heap/sample.h */

    ASH_LINE_ALIGNED struct slab *next; /* owner: list of its heap */
    struct slab *prev;                  /* owner */
    uint64_t summary;                   /* owner: which words of `bits` are not 0 */
    uint32_t free;                      /* owner: bits that are set */
    uint32_t blocks;                    /* const while in use */
    uint32_t fresh;                     /* owner: blocks from this index on were never handed out */
    uint8_t list;                       /* owner: enum slab_list */
    bool zero;                          /* owner: blocks from `fresh` on read as zero */
    uint64_t bits[];                    /* owner: 1 = free */
};

/* A chain of blocks, linked by `next`; `tail->next` is not set. */
struct chain {
    struct block *head, *tail;
    unsigned count;
};

/* Sets the size of the unit headers; after sizeclass_boot. */
void slab_boot(void);

/*
 * Prepares the header of a run of class_units(cls) units as a slab with all blocks free, owned by
 * `h`.
 */
struct slab *slab_init(struct heap *h, size_t unit, unsigned cls, bool zero);

/* Takes up to `max` >= 1 free blocks, lowest address first; the slab has at least one. */
struct chain slab_take(struct slab *s, unsigned max);

/*
 * Puts the blocks of a list back that lie in the slab, up to the first that does not, which it
 * returns. Of a block that is free already, or was written to since it was freed, it says so, and
 * leaves the rest of the list: it may be a circle, or lead anywhere.
 */
struct block *slab_put(struct slab *s, struct block *list);

/*
 * Hardened mode, see heap/hard.h. Takes 1 to `max` free blocks of a random neighbourhood, in random
 * order; the slab has at least one. Those that were never handed out before are zero.
 */
unsigned slab_take_random(struct slab *s, uint64_t random, unsigned max, void **out);

/* The same as slab_put for a chain whose links are beside the blocks, and all in the slab. */
void slab_put_linked(struct slab *s, struct chain c);

/* Checks the record against itself; counts faults. */
int slab_check(const struct slab *s);

/* Hardened mode, see heap/hard.h: of each block the index of the one behind it in a chain. */
extern ASH_HIDDEN size_t slab_links_at; /* const after boot */

ASH_INLINE uint16_t *slab_links(struct slab *s)
{
    return (uint16_t *)((char *)s + slab_links_at);
}

ASH_INLINE uint32_t slab_units(const struct slab *s)
{
    return load_relaxed(&s->units);
}

ASH_INLINE unsigned slab_class(const struct slab *s)
{
    return load_relaxed(&s->cls);
}

ASH_INLINE char *slab_base(const struct slab *s)
{
    return unit_address(s->unit);
}

/* The slab of a block of class `cls`. */
ASH_INLINE struct slab *slab_of(unsigned cls, const void *p)
{
    size_t unit = unit_of(p) & ~(size_t)(class_units(cls) - 1);
    return chunk_header(unit);
}

/* True when a block of the slab's class lies in it. */
ASH_INLINE bool slab_holds(const struct slab *s, const void *p)
{
    return (unit_of(p) & ~(size_t)(slab_units(s) - 1)) == s->unit;
}

ASH_INLINE bool slab_is_idle(const struct slab *s)
{
    return s->free == s->blocks;
}

/* Puts one block back; false: it is free already. */
ASH_INLINE bool slab_put_index(struct slab *s, unsigned index)
{
    uint64_t bit = (uint64_t)1 << (index % 64);
    uint64_t *word = &s->bits[index / 64];
    if (ASH_UNLIKELY((*word & bit) != 0))
        return false;
    *word |= bit;
    s->summary |= (uint64_t)1 << (index / 64);
    s->free++;
    return true;
}

#endif
