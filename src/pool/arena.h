/*
 * An arena from inside; ashlar/arena.h tells what it is for.
 *
 * 1. Memory comes in chunks from the core, blocks of the size classes below 64 KiB and large ones
 *    above. The first chunk begins with the arena's own record, so creating and destroying one is a
 *    malloc and a free. Chunks double up to max_chunk.
 * 2. Blocks are cut from the chunk in use, the newest of `chunk`. Chunks that no block will be cut
 *    from are `apart`: a block above max_chunk / 8 has one of its own, so that no more than that is
 *    lost when a chunk is left, and what was merged comes here, in time order like all else. One
 *    empty chunk is `spare`: the largest that a reset or a rollback left over.
 * 3. `head.ash_serial` is the arena's clock. It moves when a chunk is taken, a cleanup registered,
 *    a child attached or the arena reset, and each of these keeps the time it came at. A mark is a
 *    place in the chunk in use and a time: if the clock shows the same time still, going back is to
 *    set the place; else all that is newer goes. No allocation moves the clock, so a mark costs an
 *    allocation nothing. It never goes back: a mark that is no more is found by its place, which
 *    lies in no chunk that is left, or by its time, which is older than the last reset.
 * 4. Lists are newest first and times in them never grow: what is to go is a list's beginning.
 * 5. `held` is what the chunks of the arena and all its descendants have together. A chunk is
 *    charged to every arena from its own to the root, before it is used: a limit is on a subtree.
 * 6. What ends goes in this order: children (so, all below), cleanups, chunks. While there are
 *    children or cleanups left, which a cleanup may add, it begins again. The walk is a loop, not a
 *    recursion: a tree may be deep.
 * 7. With guards (pool/arena_guard.h) the inline paths find no room ever: `head.ash_begin`,
 *    `ash_at` and `ash_end` are the same place. So they need no test for them.
 *
 * A record is the property of the thread that uses its tree; nothing here is shared.
 *
 * Considered: per-chunk positions in marks instead of times (a mark of five words, returned through
 * memory; every list to be searched), and the previous mark on a stack (marks would have to be
 * given back).
 */
#ifndef ASH_POOL_ARENA_H
#define ASH_POOL_ARENA_H

/* The library defines them: it is what they fall back to. */
#define ASH_ARENA_OUT_OF_LINE 1
#include "ashlar/arena.h"
#include "base/base.h"
#include "pool/arena_count.h"
#include "pool/arena_guard.h"

enum {
    ARENA_ALIGN = 16,
    ARENA_FIRST_LEAST = 512,
    ARENA_FIRST = 8 * 1024,
    ARENA_CHUNK_MOST = 1024 * 1024,
    ARENA_ALONE = 8,  /* a block above max_chunk / this has a chunk of its own */
    ARENA_BLOCKS = 4, /* a new chunk holds at least as many blocks like the one it is taken for */
};

/* All of it: the owner. Blocks follow, ARENA_ALIGN-aligned as this is. */
struct arena_chunk {
    struct arena_chunk *older;
    size_t size;          /* const: bytes, this record among them */
    char *at;             /* where its blocks end; of the chunk in use, head.ash_at says it */
    uint64_t born;        /* the time at which it came */
    struct guard *guards; /* of its blocks, newest first */
    bool alone;           /* const: it was taken for a single block */
    bool guarded;         /* its blocks have guards */
};

_Static_assert(sizeof(struct arena_chunk) % ARENA_ALIGN == 0, "blocks follow");

/* All of it: the owner. */
struct arena {
    struct ash_arena head; /* first: room in the chunk in use, and the time, ash_serial */
    struct arena_chunk *chunk, *apart, *spare;
    struct ash_cleanup *cleanups;
    struct arena *parent;
    struct arena *child;         /* the newest */
    struct arena *newer, *older; /* siblings */
    uint64_t born;               /* the parent's time when it was attached */
    uint64_t reset_at;           /* the time of the last reset */
    size_t next_size;            /* of the next chunk */
    size_t max_chunk;            /* const */
    size_t held;                 /* bytes, see rule 5 */
    size_t max_bytes;            /* SIZE_MAX: no limit */
    uint64_t refused, resets;
    unsigned number; /* const: of the name, for counters */
    unsigned busy;   /* how many runs of cleanups, here and below, are not at their end */
    bool guarded;    /* const: ASH_ARENA_DEBUG */
    union arena_name name;
};

_Static_assert(sizeof(struct arena) + sizeof(struct arena_chunk) < ARENA_FIRST_LEAST,
               "the smallest first chunk has room left");

ASH_INLINE struct arena *arena_of(const struct ash_arena *arena)
{
    return (struct arena *)(uintptr_t)arena;
}

ASH_INLINE char *arena_chunk_end(const struct arena_chunk *c)
{
    return (char *)(uintptr_t)c + c->size;
}

/* Where the blocks of a chunk begin: behind the record of the arena if that is here. */
ASH_INLINE char *arena_chunk_begin(const struct arena *a, const struct arena_chunk *c)
{
    char *begin = (char *)(uintptr_t)(c + 1);
    return begin == (const char *)a ? begin + sizeof *a : begin;
}

/* Where the blocks of a chunk end. */
ASH_INLINE char *arena_chunk_at(const struct arena *a, const struct arena_chunk *c)
{
    return c == a->chunk ? a->head.ash_at : c->at;
}

/*
 * A chunk of `size` bytes; NULL and ENOMEM. It is charged to `a` and those above it, whose limits
 * have been asked (NULL: none), and counted on the name with the number.
 */
struct arena_chunk *arena_chunk_take(struct arena *a, unsigned number, bool guarded, size_t size);

/* Cuts blocks from `c`, the newest of the list, from `at` on. */
void arena_chunk_use(struct arena *a, struct arena_chunk *c, char *at);

/* A chunk goes, whatever it holds; what is charged is left to the caller. */
void arena_chunk_free(unsigned number, struct arena_chunk *c);

/* The same, and `a` and those above it are discharged. */
void arena_chunk_give(struct arena *a, struct arena_chunk *c);

/* A chunk is in use no more: it becomes the spare one, or goes, whichever of the two is smaller. */
void arena_chunk_retire(struct arena *a, struct arena_chunk *c);

/* `bytes` of chunks come to an arena and those above it, or go; `a` may be NULL. */
void arena_charge(struct arena *a, size_t bytes);
void arena_discharge(struct arena *a, size_t bytes);

/*
 * How many bytes the limits of the arena (NULL: none) and those above it allow it to take: `want`,
 * or fewer, but not fewer than `least`; 0 when they do not allow that, errno is ENOMEM then and it
 * has been counted. Spare chunks are given up before.
 */
size_t arena_allowed(struct arena *a, size_t least, size_t want);

/*
 * A block where the chunk in use may have no room; NULL and ENOMEM. `align` is a power of two and
 * at least ARENA_ALIGN.
 */
void *arena_alloc_any(struct arena *a, size_t align, size_t n, bool zero);

#endif
