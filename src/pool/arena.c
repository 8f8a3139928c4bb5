/* Limits, chunks and allocation; marks, cleanups and trees are in pool/arena_tree.c. */
#include "pool/arena.h"

#include "base/annotate.h"
#include "heap/error.h"
#include "heap/front.h"

#include <errno.h>
#include <string.h>

_Static_assert(offsetof(struct arena, head) == 0, "arena_of");

/* ---- chunks ---- */

void arena_charge(struct arena *a, size_t bytes)
{
    for (; a != NULL; a = a->parent)
        a->held += bytes;
}

void arena_discharge(struct arena *a, size_t bytes)
{
    for (; a != NULL; a = a->parent)
        a->held -= bytes;
}

/* Makes a chunk of memory that has been charged. */
static struct arena_chunk *chunk_init(void *memory, size_t size, unsigned number, bool guarded)
{
    struct arena_chunk *c = memory;
    *c = (struct arena_chunk){.size = size, .at = (char *)(c + 1), .guarded = guarded};
    arena_count(number, ARENA_BLOCKS_TAKEN, 1);
    arena_count(number, ARENA_BYTES_TAKEN, size);
    if (guarded)
        annotate_none(c + 1, size - sizeof *c);
    return c;
}

struct arena_chunk *arena_chunk_take(struct arena *a, unsigned number, bool guarded, size_t size)
{
    void *memory = front_malloc(size);
    if (memory == NULL)
        return NULL;
    arena_charge(a, size);
    return chunk_init(memory, size, number, guarded);
}

/* The blocks of a chunk that is not in use go. */
static void chunk_wipe(struct arena_chunk *c)
{
    char *begin = (char *)(c + 1);
    if (c->guarded)
        guard_wipe(&c->guards, begin, c->at);
    c->at = begin;
}

void arena_chunk_free(unsigned number, struct arena_chunk *c)
{
    chunk_wipe(c);
    if (c->guarded)
        annotate_fresh(c + 1, c->size - sizeof *c);
    arena_count(number, ARENA_BLOCKS_GIVEN, 1);
    arena_count(number, ARENA_BYTES_GIVEN, c->size);
    front_free(c);
}

void arena_chunk_give(struct arena *a, struct arena_chunk *c)
{
    arena_discharge(a, c->size);
    arena_chunk_free(a->number, c);
}

void arena_chunk_retire(struct arena *a, struct arena_chunk *c)
{
    chunk_wipe(c);
    if (a->spare != NULL && a->spare->size >= c->size) {
        arena_chunk_give(a, c);
        return;
    }
    if (a->spare != NULL)
        arena_chunk_give(a, a->spare);
    c->older = NULL;
    a->spare = c;
}

void arena_chunk_use(struct arena *a, struct arena_chunk *c, char *at)
{
    a->chunk = c;
    a->head.ash_at = at;
    a->head.ash_end = a->guarded ? at : arena_chunk_end(c);
    a->head.ash_begin = a->guarded ? at : arena_chunk_begin(a, c);
}

/* ---- limits ---- */

/* What the limits up to the root leave. */
static size_t limits_leave(const struct arena *a)
{
    size_t left = SIZE_MAX;
    for (; a != NULL; a = a->parent)
        left = size_min(left, a->max_bytes > a->held ? a->max_bytes - a->held : 0);
    return left;
}

size_t arena_allowed(struct arena *a, size_t least, size_t want)
{
    size_t left = limits_leave(a);
    for (struct arena *above = a; left < least && above != NULL; above = above->parent)
        if (above->spare != NULL) {
            arena_chunk_give(above, above->spare);
            above->spare = NULL;
            left = limits_leave(a);
        }
    if (ASH_LIKELY(left >= least))
        return size_min(want, align_down(left, ARENA_ALIGN));
    a->refused++;
    arena_count(a->number, ARENA_REFUSED, 1);
    errno = ENOMEM;
    return 0;
}

/* ---- allocation ---- */

/* A new chunk with room for `need` bytes; one that is no larger where memory is short. */
static struct arena_chunk *chunk_grown(struct arena *a, size_t need)
{
    size_t least = sizeof(struct arena_chunk) + need, want = a->next_size;
    while (want < ARENA_BLOCKS * need)
        want *= 2;
    want = size_min(want, a->max_chunk);
    a->next_size = size_min(2 * want, a->max_chunk);
    size_t size = arena_allowed(a, least, want);
    if (size == 0)
        return NULL;
    int saved = errno;
    struct arena_chunk *c = arena_chunk_take(a, a->number, a->guarded, size);
    if (ASH_UNLIKELY(c == NULL)) {
        c = arena_chunk_take(a, a->number, a->guarded, least);
        errno = c != NULL ? saved : ENOMEM;
    }
    return c;
}

/* A chunk with room for `need` bytes comes into use. */
static bool chunk_next(struct arena *a, size_t need)
{
    struct arena_chunk *c = a->spare;
    if (c != NULL && c->size - sizeof *c >= need)
        a->spare = NULL;
    else if ((c = chunk_grown(a, need)) == NULL)
        return false;
    a->chunk->at = a->head.ash_at;
    c->older = a->chunk;
    c->born = ++a->head.ash_serial;
    c->guarded = a->guarded;
    arena_chunk_use(a, c, (char *)(c + 1));
    return true;
}

/* A block in the room of a chunk from `at` on; `*end` is set to where the next one begins. */
static void *place(struct arena_chunk *c, bool guarded, char *at, size_t align, size_t n, bool zero,
                   char **end)
{
    if (guarded)
        return guard_put(&c->guards, at, align, n, zero ? 0 : GUARD_FRESH, end);
    char *p = at + (-(uintptr_t)at & (align - 1));
    *end = p + align_up(n, ARENA_ALIGN);
    return p;
}

/* A chunk for one block, which needs `need` bytes of it. */
static void *alloc_alone(struct arena *a, size_t align, size_t n, size_t need, bool zero)
{
    size_t least = sizeof(struct arena_chunk) + need;
    size_t size = align_down(front_good_size(least), ARENA_ALIGN);
    if (arena_allowed(a, size, size) == 0)
        return NULL;
    void *memory = zero ? front_calloc(1, size) : front_malloc(size);
    if (memory == NULL)
        return NULL;
    arena_charge(a, size);
    struct arena_chunk *c = chunk_init(memory, size, a->number, a->guarded);
    c->alone = true;
    c->born = ++a->head.ash_serial;
    c->older = a->apart;
    a->apart = c;
    return place(c, a->guarded, (char *)(c + 1), align, n, zero, &c->at);
}

void *arena_alloc_any(struct arena *a, size_t align, size_t n, bool zero)
{
    if (ASH_UNLIKELY(n > PTRDIFF_MAX / 2 || align > PTRDIFF_MAX / 4)) {
        errno = ENOMEM;
        return NULL;
    }
    size_t need = align_up(n, ARENA_ALIGN) + (align - ARENA_ALIGN);
    if (a->guarded)
        need += GUARD_SPARE;
    if (need > (size_t)(arena_chunk_end(a->chunk) - a->head.ash_at)) {
        if (need > a->max_chunk / ARENA_ALONE)
            return alloc_alone(a, align, n, need, zero);
        if (!chunk_next(a, need))
            return NULL;
    }
    char *end;
    void *p = place(a->chunk, a->guarded, a->head.ash_at, align, n, zero, &end);
    if (a->guarded)
        arena_chunk_use(a, a->chunk, end);
    else
        a->head.ash_at = end;
    return zero && !a->guarded ? memset(p, 0, n) : p;
}

ASH_API void *ash_arena_alloc_slow(struct ash_arena *arena, size_t n)
{
    return arena_alloc_any(arena_of(arena), ARENA_ALIGN, n, false);
}

ASH_API void *ash_arena_alloc(struct ash_arena *arena, size_t n)
{
    char *p = arena->ash_at;
    if (ASH_UNLIKELY(n > (size_t)(arena->ash_end - p)))
        return arena_alloc_any(arena_of(arena), ARENA_ALIGN, n, false);
    arena->ash_at = p + align_up(n, ARENA_ALIGN);
    return p;
}

ASH_API void *ash_arena_zalloc(struct ash_arena *arena, size_t n)
{
    return n <= (size_t)(arena->ash_end - arena->ash_at)
               ? memset(ash_arena_alloc(arena, n), 0, n)
               : arena_alloc_any(arena_of(arena), ARENA_ALIGN, n, true);
}

ASH_API void *ash_arena_aligned(struct ash_arena *arena, size_t align, size_t n)
{
    if (!is_pow2(align)) {
        errno = EINVAL;
        return NULL;
    }
    align = size_max(align, ARENA_ALIGN);
    char *at = arena->ash_at;
    size_t room = (size_t)(arena->ash_end - at);
    size_t pad = -(uintptr_t)at & (align - 1);
    if (pad > room || n > room - pad)
        return arena_alloc_any(arena_of(arena), align, n, false);
    arena->ash_at = at + pad + align_up(n, ARENA_ALIGN);
    return at + pad;
}

/* ---- realloc ---- */

/* The newest chunk apart holds the block alone: the core's realloc makes it grow, by its pages. */
static void *realloc_alone(struct arena *a, size_t offset, size_t n)
{
    struct arena_chunk *c = a->apart;
    size_t old = c->size, size = align_up(offset + n, ARENA_ALIGN);
    if (size > old) {
        size = align_down(front_good_size(size), ARENA_ALIGN);
        if (arena_allowed(a, size - old, size - old) == 0)
            return NULL;
        struct arena_chunk *moved = front_realloc(c, size);
        if (moved == NULL)
            return NULL;
        arena_charge(a, size - old);
        arena_count(a->number, ARENA_BYTES_TAKEN, size - old);
        moved->size = size;
        a->apart = c = moved;
    }
    c->at = (char *)c + align_up(offset + n, ARENA_ALIGN);
    return (char *)c + offset;
}

static void *realloc_copy(struct ash_arena *arena, void *p, size_t old, size_t n)
{
    void *fresh = ash_arena_alloc(arena, n);
    return fresh == NULL ? NULL : memcpy(fresh, p, size_min(old, n));
}

/* A guarded block moves whenever it grows; what it leaves goes with the others. */
static void *realloc_guarded(struct ash_arena *arena, void *p, size_t old, size_t n)
{
    struct guard *g = old > 0 ? guard_find(p) : NULL; /* a block of nothing has none */
    if (g != NULL && guard_size(g) != old) {
        error_realloc_size(p, old, guard_size(g));
        old = guard_size(g);
    }
    if (n > old)
        return realloc_copy(arena, p, old, n);
    if (g != NULL && n < old && n > 0)
        guard_shrink(g, n);
    return p;
}

ASH_API void *ash_arena_realloc(struct ash_arena *arena, void *p, size_t old, size_t n)
{
    struct arena *a = arena_of(arena);
    if (p == NULL)
        return ash_arena_alloc(arena, n);
    if (ASH_UNLIKELY(n > PTRDIFF_MAX / 2)) {
        errno = ENOMEM;
        return NULL;
    }
    if (a->guarded)
        return realloc_guarded(arena, p, old, n);
    char *end = (char *)p + align_up(old, ARENA_ALIGN);
    if (end == arena->ash_at && n <= (size_t)(arena->ash_end - (char *)p)) {
        arena->ash_at = (char *)p + align_up(n, ARENA_ALIGN);
        return p;
    }
    if (a->apart != NULL && a->apart->alone && end == a->apart->at && n > 0)
        return realloc_alone(a, (size_t)((char *)p - (char *)a->apart), n);
    return n <= old ? p : realloc_copy(arena, p, old, n);
}
