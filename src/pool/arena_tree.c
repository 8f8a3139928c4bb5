/* The life of arenas: creation, cleanups, marks, and all that ends; merging and moving. */
#include "pool/arena.h"

#include "base/annotate.h"
#include "base/config.h"
#include "heap/error.h"
#include "heap/front.h"

#include <errno.h>
#include <string.h>

static const char *name_of(const struct arena *a)
{
    return a->name.text[0] != '\0' ? a->name.text : "(unnamed)";
}

/* True when cleanups of the arena or of one below are being run, which has been said. */
static bool in_cleanup(const struct arena *a, const char *verb)
{
    if (ASH_UNLIKELY(a->busy != 0))
        error_arena_busy(verb, name_of(a));
    return a->busy != 0;
}

/* ---- families ---- */

static void attach(struct arena *a, struct arena *parent)
{
    a->parent = parent;
    if (parent == NULL)
        return;
    a->born = ++parent->head.ash_serial;
    a->newer = NULL;
    a->older = parent->child;
    if (a->older != NULL)
        a->older->newer = a;
    parent->child = a;
}

static void detach(struct arena *a)
{
    if (a->parent == NULL)
        return;
    if (a->newer != NULL)
        a->newer->older = a->older;
    else
        a->parent->child = a->older;
    if (a->older != NULL)
        a->older->newer = a->newer;
    a->parent = a->newer = a->older = NULL;
}

/* True when `above` is the arena or one of those it descends from. */
static bool descends(const struct arena *a, const struct arena *above)
{
    while (a != NULL && a != above)
        a = a->parent;
    return a != NULL;
}

/* ---- creation ---- */

/* Puts the defaults in place of zeroes; false: it cannot be done as asked. */
static bool config_settle(struct ash_arena_config *c, const struct ash_arena_config *given)
{
    static const struct ash_arena_config fallback = {
        .first_chunk = ARENA_FIRST, .max_chunk = ARENA_CHUNK_MOST, .max_bytes = SIZE_MAX};
    *c = fallback;
    if (given == NULL)
        return true;
    if (!config_read(c, sizeof *c, given, sizeof c->struct_size) ||
        (c->flags & ~(unsigned)ASH_ARENA_DEBUG) != 0)
        return false;
    if (c->max_bytes == 0)
        c->max_bytes = fallback.max_bytes;
    if (c->max_chunk == 0)
        c->max_chunk = fallback.max_chunk;
    if (c->first_chunk == 0)
        c->first_chunk = fallback.first_chunk;
    else
        c->first_chunk = front_good_size(size_max(c->first_chunk, ARENA_FIRST_LEAST));
    c->first_chunk = align_down(size_min(c->first_chunk, c->max_bytes), ARENA_ALIGN);
    c->max_chunk = align_down(size_max(c->first_chunk, c->max_chunk), ARENA_ALIGN);
    return c->first_chunk >= ARENA_FIRST_LEAST;
}

/* Field by field: clearing the whole by a string instruction takes as long as all the rest. */
static void arena_init(struct arena *a, const struct ash_arena_config *c, struct arena_chunk *first)
{
    a->head.ash_serial = a->reset_at = first->born = 1;
    a->apart = a->spare = NULL;
    a->cleanups = NULL;
    a->child = a->newer = a->older = NULL;
    a->next_size = size_min(2 * c->first_chunk, c->max_chunk);
    a->max_chunk = c->max_chunk;
    a->held = first->size;
    a->max_bytes = c->max_bytes;
    a->refused = a->resets = 0;
    a->busy = 0;
    a->guarded = first->guarded;
    arena_chunk_use(a, first, (char *)(a + 1));
}

ASH_API struct ash_arena *ash_arena_create(struct ash_arena *parent, const char *name,
                                           const struct ash_arena_config *config)
{
    struct arena *above = arena_of(parent);
    struct ash_arena_config c;
    union arena_name own;
    if (!config_settle(&c, config) || !name_read(own.text, name, "")) {
        errno = EINVAL;
        return NULL;
    }
    bool guarded = (c.flags & ASH_ARENA_DEBUG) != 0 || annotate_wanted();
    guarded |= above != NULL && above->guarded;
    unsigned number = arena_number(&own);
    size_t size = arena_allowed(above, ARENA_FIRST_LEAST, c.first_chunk);
    struct arena_chunk *first = size != 0 ? arena_chunk_take(above, number, guarded, size) : NULL;
    if (first == NULL)
        return NULL;
    struct arena *a = (struct arena *)(void *)(first + 1);
    annotate_fresh(a, sizeof *a);
    arena_init(a, &c, first);
    a->name = own;
    a->number = number;
    attach(a, above);
    arena_count(number, ARENA_CREATED, 1);
    return &a->head;
}

/* ---- cleanups ---- */

static bool registered(const struct arena *a, const struct ash_cleanup *node)
{
    const struct ash_cleanup *c = a->cleanups;
    while (c != NULL && c != node)
        c = c->ash_older;
    return c != NULL;
}

ASH_API void ash_arena_on_reset(struct ash_arena *arena, struct ash_cleanup *node)
{
    struct arena *a = arena_of(arena);
    if (ASH_UNLIKELY(a->guarded) && registered(a, node)) {
        error_arena_cleanup(name_of(a), node);
        return;
    }
    node->ash_older = a->cleanups;
    node->ash_serial = ++a->head.ash_serial;
    a->cleanups = node;
}

ASH_API int ash_arena_cancel(struct ash_arena *arena, struct ash_cleanup *node)
{
    struct ash_cleanup **at = &arena_of(arena)->cleanups;
    while (*at != NULL && *at != node)
        at = &(*at)->ash_older;
    if (*at == NULL)
        return -ENOENT;
    *at = node->ash_older;
    return 0;
}

/* ---- ends ---- */

static void give_list(unsigned number, struct arena_chunk *c)
{
    for (struct arena_chunk *older; c != NULL; c = older) {
        older = c->older;
        arena_chunk_free(number, c);
    }
}

/* All of an arena without children and cleanups goes; its record is in the oldest chunk. */
static void finish(struct arena *a)
{
    unsigned number = a->number;
    arena_discharge(a->parent, a->held);
    detach(a);
    a->chunk->at = a->head.ash_at;
    give_list(number, a->spare);
    give_list(number, a->apart);
    give_list(number, a->chunk);
    arena_count(number, ARENA_DESTROYED, 1);
}

/*
 * While cleanups run, neither the arena nor one above it may be reset, moved or destroyed: so the
 * way back to the root is the same at the end.
 */
static void set_busy(struct arena *a, unsigned more)
{
    for (; a != NULL; a = a->parent)
        a->busy += more;
}

/* Children and cleanups of the arena that came after `since` go, those of its descendants all. */
static void empty(struct arena *top, uint64_t since)
{
    struct arena *a = top;
    set_busy(top, 1);
    for (;;) {
        uint64_t kept = a == top ? since : 0;
        struct ash_cleanup *node = a->cleanups;
        if (a->child != NULL && a->child->born > kept) {
            a = a->child;
            a->busy = 1;
        } else if (node != NULL && node->ash_serial > kept) {
            a->cleanups = node->ash_older;
            node->fn(node->arg);
        } else if (a != top) {
            struct arena *gone = a;
            a = a->parent;
            finish(gone);
        } else {
            break;
        }
    }
    set_busy(top, -1u);
}

/* Chunks that came after `since` go or become the spare one. */
static void shrink(struct arena *a, uint64_t since)
{
    for (struct arena_chunk *c; (c = a->apart) != NULL && c->born > since;) {
        a->apart = c->older;
        arena_chunk_give(a, c);
    }
    a->chunk->at = a->head.ash_at;
    for (struct arena_chunk *c; (c = a->chunk)->born > since;) {
        a->chunk = c->older;
        arena_chunk_retire(a, c);
    }
}

/* Goes back to `at` in the chunk in use. */
static void back(struct arena *a, char *at)
{
    struct arena_chunk *c = a->chunk;
    if (c->guarded && at < c->at)
        guard_wipe(&c->guards, at, c->at);
    arena_chunk_use(a, c, at);
}

ASH_API void ash_arena_reset(struct ash_arena *arena)
{
    struct arena *a = arena_of(arena);
    if (in_cleanup(a, "reset"))
        return;
    if (a->child != NULL || a->cleanups != NULL)
        empty(a, 0);
    shrink(a, 1); /* the first chunk came at 1 */
    back(a, (char *)(a + 1));
    a->reset_at = ++a->head.ash_serial;
    a->resets++;
    arena_count(a->number, ARENA_RESETS, 1);
}

ASH_API void ash_arena_destroy(struct ash_arena *arena)
{
    struct arena *a = arena_of(arena);
    if (a == NULL || in_cleanup(a, "destroy"))
        return;
    if (a->child != NULL || a->cleanups != NULL)
        empty(a, 0);
    finish(a);
}

/* ---- marks ---- */

ASH_API struct ash_mark ash_arena_mark(struct ash_arena *arena)
{
    return (struct ash_mark){arena->ash_at, arena->ash_serial};
}

/* True when the mark lies in the chunk that was in use at its time. */
static bool mark_stands(const struct arena *a, struct ash_mark mark)
{
    const struct arena_chunk *c = a->chunk;
    if (mark.ash_serial < a->reset_at || mark.ash_serial > a->head.ash_serial)
        return false;
    while (c->born > mark.ash_serial)
        c = c->older;
    char *begin = arena_chunk_begin(a, c);
    return (uintptr_t)mark.ash_at - (uintptr_t)begin <=
           (uintptr_t)arena_chunk_end(c) - (uintptr_t)begin;
}

ASH_API void ash_arena_rollback_slow(struct ash_arena *arena, struct ash_mark mark)
{
    struct arena *a = arena_of(arena);
    if (in_cleanup(a, "rollback"))
        return;
    if (!mark_stands(a, mark)) {
        error_arena_mark(name_of(a));
        return;
    }
    empty(a, mark.ash_serial);
    shrink(a, mark.ash_serial);
    back(a, mark.ash_at);
}

ASH_API void ash_arena_rollback(struct ash_arena *arena, struct ash_mark mark)
{
    uintptr_t begin = (uintptr_t)arena->ash_begin;
    if (ASH_LIKELY(mark.ash_serial == arena->ash_serial &&
                   (uintptr_t)mark.ash_at - begin <= (uintptr_t)arena->ash_end - begin))
        arena->ash_at = mark.ash_at;
    else
        ash_arena_rollback_slow(arena, mark);
}

/* ---- merging and moving ---- */

/* What was charged for `a` to those above it is charged to `parent` and those above that. */
static int recharge(struct arena *a, struct arena *parent)
{
    int saved = errno;
    arena_discharge(a->parent, a->held);
    bool allowed = parent == NULL || arena_allowed(parent, a->held, a->held) != 0;
    arena_charge(allowed ? parent : a->parent, a->held);
    errno = saved;
    return allowed ? 0 : -ENOMEM;
}

ASH_API int ash_arena_reparent(struct ash_arena *arena, struct ash_arena *parent)
{
    struct arena *a = arena_of(arena), *above = arena_of(parent);
    if (descends(above, a))
        return -EINVAL;
    if (a->busy != 0)
        return -EBUSY;
    if (recharge(a, above) != 0)
        return -ENOMEM;
    detach(a);
    attach(a, above);
    return 0;
}

/* A chunk is counted on the other name. */
static void recount(const struct arena *into, const struct arena *from, size_t bytes)
{
    arena_count(from->number, ARENA_BLOCKS_GIVEN, 1);
    arena_count(from->number, ARENA_BYTES_GIVEN, bytes);
    arena_count(into->number, ARENA_BLOCKS_TAKEN, 1);
    arena_count(into->number, ARENA_BYTES_TAKEN, bytes);
}

/* Puts a list of chunks on top of those apart. */
static void merge_chunks(struct arena *into, const struct arena *from, struct arena_chunk *c)
{
    for (struct arena_chunk *older; c != NULL; c = older) {
        older = c->older;
        recount(into, from, c->size);
        c->born = into->head.ash_serial;
        c->older = into->apart;
        into->apart = c;
    }
}

static void merge_cleanups(struct arena *into, struct arena *from)
{
    struct ash_cleanup **end = &from->cleanups;
    for (; *end != NULL; end = &(*end)->ash_older)
        (*end)->ash_serial = into->head.ash_serial;
    *end = into->cleanups;
    into->cleanups = from->cleanups;
}

static void merge_children(struct arena *into, struct arena *from)
{
    struct arena *oldest = from->child;
    while (oldest != NULL && oldest->older != NULL)
        oldest = oldest->older;
    for (struct arena *child = oldest, *newer; child != NULL; child = newer) {
        newer = child->newer;
        attach(child, into);
    }
}

ASH_API int ash_arena_merge(struct ash_arena *into_arena, struct ash_arena *from_arena)
{
    struct arena *into = arena_of(into_arena), *from = arena_of(from_arena);
    if (descends(into, from))
        return -EINVAL;
    if (from->busy != 0)
        return -EBUSY;
    if (recharge(from, into) != 0)
        return -ENOMEM;
    detach(from);
    into->head.ash_serial++;
    from->chunk->at = from->head.ash_at;
    merge_children(into, from);
    merge_cleanups(into, from);
    merge_chunks(into, from, from->apart);
    merge_chunks(into, from, from->chunk);
    if (from->spare != NULL) {
        recount(into, from, from->spare->size);
        arena_chunk_retire(into, from->spare);
    }
    arena_count(from->number, ARENA_DESTROYED, 1);
    return 0;
}

ASH_API struct ash_arena *ash_arena_parent(const struct ash_arena *arena)
{
    struct arena *above = arena_of(arena)->parent;
    return above != NULL ? &above->head : NULL;
}

ASH_API void ash_arena_limit(struct ash_arena *arena, size_t max_bytes)
{
    arena_of(arena)->max_bytes = max_bytes != 0 ? max_bytes : SIZE_MAX;
}
