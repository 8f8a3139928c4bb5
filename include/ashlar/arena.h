/*
 * ashlar/arena.h: memory that lives and dies together.
 *
 * An arena hands out memory by moving a pointer through chunks, and takes all of it back at once:
 * by a reset, by going back to a mark, or with its end. Arenas form a tree, as PostgreSQL's memory
 * contexts do: what is done to one is done to its children first. Cleanups (a file to close, a
 * reference to drop) hang on an arena and run, newest first, when the memory goes.
 *
 *     struct ash_arena *txn = ash_arena_create(NULL, "txn", NULL);
 *     struct row *row = ash_arena_alloc(txn, sizeof *row);
 *     struct ash_mark savepoint = ash_arena_mark(txn);
 *     char *note = ash_arena_printf(txn, "row %d", row->id);
 *     ash_arena_rollback(txn, savepoint);         the note is gone, the row is not
 *     ash_arena_reset(txn);                       everything is
 *     ash_arena_destroy(txn);
 *
 * Sizes are bytes. Memory is aligned to 16 bytes. Functions that return pointers answer NULL and
 * set errno (ENOMEM: no memory, or a limit; EINVAL: an argument that is none), those that return
 * int 0 or a negative errno. Unless it is said otherwise, no argument may be NULL.
 *
 * Threads: a tree of arenas is used by one thread at a time and no lock is taken; different trees
 * are used by different threads freely, and a tree may be handed from one to another. After a fork
 * the child has a copy of each.
 *
 * Cost: an allocation that the chunk has room for is six instructions, inline. A new chunk costs a
 * malloc; chunks double from first_chunk to max_chunk.
 *
 * Caveats
 *   There is no free: memory comes back by reset, rollback and destroy alone, but for the block
 *   allocated last, which ash_arena_realloc lengthens and shortens in place. Blocks share cache
 *   lines; use ash_arena_aligned for those that threads write to side by side. A pointer into an
 *   arena is dead after a reset, and nothing tells, but for the flag ASH_ARENA_DEBUG. C++
 *   destructors do not run: register a cleanup.
 */
#ifndef ASHLAR_ARENA_H
#define ASHLAR_ARENA_H

#include <ashlar/config.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#define ASH_ARENA_PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))
#else
#define ASH_ARENA_PRINTF(text, first)
#endif

/* The beginning of an arena, for the functions that are compiled in; not for programs. */
struct ash_arena {
    char *ash_at;    /* the next block */
    char *ash_end;   /* of the room behind it */
    char *ash_begin; /* of the blocks in the same chunk */
    uint64_t ash_serial;
};

enum {
    /*
     * For finding mistakes. Blocks have guards before and behind them, looked at when they go and
     * by ash_arena_audit: a write past either end is reported. Memory is filled with 0xcd when it
     * is handed out and with 0xdd when it goes. ash_arena_realloc checks the size that it is told,
     * and moves whatever grows. A child has the flag when its parent does. Under valgrind, and in a
     * library built with -fsanitize=address, every arena has it, and a use of memory that has gone
     * is reported by those.
     */
    ASH_ARENA_DEBUG = 1
};

/* Settings; 0 is the default. Fill it in with ASH_ARENA_CONFIG(.max_bytes = 1 << 20). */
struct ash_arena_config {
    size_t struct_size;
    size_t first_chunk; /* bytes, 8 KiB; it holds the arena's own record of 0.3 KiB too */
    size_t max_chunk;   /* bytes, 1 MiB; a block above an eighth of it gets a chunk of its own */
    size_t max_bytes;   /* of chunks, those of all descendants included; none */
    unsigned flags;     /* ASH_ARENA_DEBUG */
};

#define ASH_ARENA_CONFIG(...) ASH_CONFIG(struct ash_arena_config, __VA_ARGS__)

/* A place in the life of an arena: a value, to be given to ash_arena_rollback. */
struct ash_mark {
    char *ash_at;
    uint64_t ash_serial;
};

/*
 * What is to be done when memory goes. It is the caller's memory, often a part of what it cleans
 * up; it must stay until it has run or was cancelled. The caller fills in `fn` and `arg`.
 */
struct ash_cleanup {
    void (*fn)(void *arg);
    void *arg;
    struct ash_cleanup *ash_older; /* the arena's */
    uint64_t ash_serial;
};

/* ---- life ---- */

/*
 * A new arena, a child of `parent` unless that is NULL. `name` is for statistics and messages:
 * copied, up to 31 printable ASCII characters without quotes and backslashes, not unique, or NULL.
 * `config` = NULL is all defaults. NULL and EINVAL: the name, an unknown flag, a max_bytes that
 * does not hold the smallest first chunk (512 bytes); NULL and ENOMEM. Cost: about that of a
 * malloc.
 */
struct ash_arena *ash_arena_create(struct ash_arena *parent, const char *name,
                                   const struct ash_arena_config *config);

/*
 * Destroys the children, runs the cleanups, newest first, and gives all memory back but for the
 * first chunk and the largest other one, which are used again. Blocks with a chunk of their own are
 * not kept. Marks become invalid.
 *
 * While cleanups run, all memory of the arena is still there. A cleanup may allocate from it, and
 * register further cleanups and create children, which go the same way; it must not reset, roll
 * back or destroy the arena that it is called for, nor one above it: that is reported (`ashlar:
 * reset of arena txn from within its own cleanup`) and aborts, or does nothing with
 * ASHLAR_ON_ERROR=warn.
 */
void ash_arena_reset(struct ash_arena *arena);

/* The same, and the arena itself goes too. NULL is fine. Cost: a free for each chunk. */
void ash_arena_destroy(struct ash_arena *arena);

/* ---- allocation ---- */

/* `n` bytes. `n` = 0 gives a pointer, not NULL, that the next block may share. */
void *ash_arena_alloc(struct ash_arena *arena, size_t n);

/* The same at a multiple of `align`: any power of two, else NULL and EINVAL. */
void *ash_arena_aligned(struct ash_arena *arena, size_t align, size_t n);

/* The same as ash_arena_alloc, all zero. Fresh memory of large blocks is not cleared again. */
void *ash_arena_zalloc(struct ash_arena *arena, size_t n);

/*
 * Makes the block at `p`, allocated with `old` bytes from this arena, hold `n`. The block allocated
 * last is lengthened and shortened where it is, and one with a chunk of its own by moving its
 * pages; others are copied when they grow, and stay when they shrink. `p` = NULL allocates. NULL
 * and ENOMEM leave the block as it was. An alignment above 16 is not kept. A rollback to a mark
 * older than the growth leaves such a block the `old` bytes at least.
 */
void *ash_arena_realloc(struct ash_arena *arena, void *p, size_t old, size_t n);

/* A copy of `n` bytes. */
void *ash_arena_memdup(struct ash_arena *arena, const void *from, size_t n);

/* A copy of a text, of its first `n` characters at most for strndup. NULL gives NULL and EINVAL. */
char *ash_arena_strdup(struct ash_arena *arena, const char *s);
char *ash_arena_strndup(struct ash_arena *arena, const char *s, size_t n);

/* What printf(3) would write. NULL and what vsnprintf(3) set where the format cannot be met. */
char *ash_arena_printf(struct ash_arena *arena, const char *format, ...) ASH_ARENA_PRINTF(2, 3);
char *ash_arena_vprintf(struct ash_arena *arena, const char *format, va_list args)
    ASH_ARENA_PRINTF(2, 0);

/* What ash_arena_alloc does where the chunk has no room: not for programs. */
void *ash_arena_alloc_slow(struct ash_arena *arena, size_t n);

/* ---- savepoints ---- */

/* Where the arena is now. Cost: two loads, inline. */
struct ash_mark ash_arena_mark(struct ash_arena *arena);

/*
 * Goes back to the mark: children created or attached since are destroyed, cleanups registered
 * since run, newest first, and what was allocated since is free again; of the chunks taken since
 * the largest is kept for use. The mark stays valid, marks made after it do not. A mark from before
 * the last reset, one whose memory has gone, and one of another arena are reported and nothing is
 * done. Cost: ten instructions, inline, when nothing but room in the chunk was taken since.
 */
void ash_arena_rollback(struct ash_arena *arena, struct ash_mark mark);

/* What ash_arena_rollback does in all other cases: not for programs. */
void ash_arena_rollback_slow(struct ash_arena *arena, struct ash_mark mark);

/* ---- cleanups ---- */

/*
 * Has node->fn called with node->arg once, when the arena is reset, rolled back or destroyed. A
 * node is registered once at a time; an arena with ASH_ARENA_DEBUG reports the second time.
 */
void ash_arena_on_reset(struct ash_arena *arena, struct ash_cleanup *node);

/* Forgets a cleanup: 0, or -ENOENT. Cost: the number of cleanups registered after it. */
int ash_arena_cancel(struct ash_arena *arena, struct ash_cleanup *node);

/* ---- trees ---- */

/*
 * Moves everything of `from` into `into`: blocks stay where they are and live as long as `into`,
 * cleanups run with its, children become its children, all as if made now. `from` is no more, and
 * marks of it are invalid. 0; -EINVAL when `from` is `into` or above it; -EBUSY when `from` is
 * running its cleanups; -ENOMEM when a limit does not allow it, and nothing has changed. Cost: a
 * step for each chunk, cleanup and child; nothing is copied. The room left in the chunks of `from`
 * is not used.
 */
int ash_arena_merge(struct ash_arena *into, struct ash_arena *from);

/*
 * Makes the arena a child of `parent`, as if created now, or a tree of its own with NULL. 0,
 * -EINVAL when `parent` is the arena or below it, -EBUSY, -ENOMEM as above.
 */
int ash_arena_reparent(struct ash_arena *arena, struct ash_arena *parent);

/* NULL for the root of a tree. */
struct ash_arena *ash_arena_parent(const struct ash_arena *arena);

/*
 * A cap on the bytes of the chunks of the arena and all its descendants, 0 for none; allocations
 * beyond any cap between them and the root answer NULL and ENOMEM, and are counted; before, spare
 * chunks of the arena and those above are given up. A cap below what there is stops further growth
 * only.
 */
void ash_arena_limit(struct ash_arena *arena, size_t max_bytes);

/* ---- what there is ---- */

/* 1 when `p` points into a block of the arena itself, else 0. Cost: a step for each chunk. */
int ash_arena_contains(const struct ash_arena *arena, const void *p);

/*
 * The number of guards of ASH_ARENA_DEBUG, in the arena and its descendants, that were written to,
 * each said on standard error.
 */
int ash_arena_audit(const struct ash_arena *arena);

/* total = free + used. */
struct ash_arena_stats {
    char name[32];       /* "" where there is none */
    uint64_t level;      /* arenas above it */
    uint64_t blocks;     /* chunks */
    uint64_t total;      /* bytes in them */
    uint64_t free;       /* bytes of those in no block, unused ends of chunks among them */
    uint64_t used;       /* bytes in blocks, the padding between them and the arena's own record */
    uint64_t children;   /* direct ones */
    uint64_t cleanups;   /* registered now */
    uint64_t tree_total; /* `total` of the arena and all its descendants: what is limited */
    uint64_t limit;      /* max_bytes, 0 for none */
    uint64_t refused;    /* allocations for which a limit left no room */
    uint64_t resets;     /* and rollbacks are not among them */
};

/* 0, or -EINVAL when `out` is NULL. Cost: a step for each chunk, child and cleanup. */
int ash_arena_stats(const struct ash_arena *arena, struct ash_arena_stats *out);

/*
 * Writes a table of the arena and its descendants to the descriptor: name (indented), level,
 * blocks, total, free, used, and their sums. Of many children the first 100 are shown, the others
 * as one line. 0, or the negative errno of the write that failed. Allocates nothing.
 *
 * The statistics of the process (ashlar/stats.h) show what all arenas of one name hold together.
 */
int ash_arena_dump(const struct ash_arena *arena, int fd);

/*
 * The short ways, compiled into the caller's code. A compiler that does not inline calls the
 * library's functions, which are the same; so does a program that defines ASH_ARENA_OUT_OF_LINE.
 */
#if defined(__GNUC__) && !defined(ASH_ARENA_OUT_OF_LINE)
#define ASH_ARENA_INLINE extern __inline __attribute__((__gnu_inline__))

ASH_ARENA_INLINE void *ash_arena_alloc(struct ash_arena *arena, size_t n)
{
    char *p = arena->ash_at;
    if (__builtin_expect(n > (size_t)(arena->ash_end - p), 0))
        return ash_arena_alloc_slow(arena, n);
    arena->ash_at = p + ((n + 15) & ~(size_t)15);
    return p;
}

ASH_ARENA_INLINE struct ash_mark ash_arena_mark(struct ash_arena *arena)
{
    struct ash_mark mark = {arena->ash_at, arena->ash_serial};
    return mark;
}

/* A place that is not between the chunk's begin and end makes a large difference. */
ASH_ARENA_INLINE void ash_arena_rollback(struct ash_arena *arena, struct ash_mark mark)
{
    if (__builtin_expect(mark.ash_serial == arena->ash_serial &&
                             (uintptr_t)mark.ash_at - (uintptr_t)arena->ash_begin <=
                                 (uintptr_t)arena->ash_end - (uintptr_t)arena->ash_begin,
                         1))
        arena->ash_at = mark.ash_at;
    else
        ash_arena_rollback_slow(arena, mark);
}
#endif

#ifdef __cplusplus
}
#endif

#endif
