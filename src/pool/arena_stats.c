/* What there is in an arena: statistics, the table of a tree, guards. All of it only reads. */
#include "base/fmt.h"
#include "os/os_file.h"
#include "pool/arena.h"

#include <errno.h>
#include <string.h>

enum {
    DUMP_BUFFER = 2048,
    DUMP_CHILDREN = 100, /* of an arena are shown one by one */
    DUMP_INDENT = 16     /* levels are indented */
};

/* The lists of chunks, one behind the other. */
static const struct arena_chunk *first_chunk(const struct arena *a, unsigned list)
{
    return list == 0 ? a->chunk : list == 1 ? a->apart : a->spare;
}

#define FOR_EACH_CHUNK(a, c)                                                                       \
    for (unsigned list = 0; list < 3; list++)                                                      \
        for (const struct arena_chunk *c = first_chunk((a), list); c != NULL; c = c->older)

/* The next arena of the tree below `top`, parents first; NULL: that was the last. */
static const struct arena *next_below(const struct arena *top, const struct arena *a,
                                      bool with_children)
{
    if (with_children && a->child != NULL)
        return a->child;
    while (a != top && a->older == NULL)
        a = a->parent;
    return a != top ? a->older : NULL;
}

ASH_API int ash_arena_contains(const struct ash_arena *arena, const void *p)
{
    const struct arena *a = arena_of(arena);
    FOR_EACH_CHUNK(a, c)
    {
        uintptr_t begin = (uintptr_t)arena_chunk_begin(a, c);
        if ((uintptr_t)p - begin < (uintptr_t)arena_chunk_at(a, c) - begin)
            return 1;
    }
    return 0;
}

ASH_API int ash_arena_audit(const struct ash_arena *arena)
{
    const struct arena *top = arena_of(arena);
    int faults = 0;
    for (const struct arena *a = top; a != NULL; a = next_below(top, a, true))
        FOR_EACH_CHUNK(a, c)
    faults += guard_check(c->guards);
    return faults;
}

/* ---- statistics ---- */

/* The five figures of the table. */
struct figures {
    uint64_t arenas, blocks, total, free;
};

static void figures_add(struct figures *f, const struct arena *a)
{
    f->arenas++;
    FOR_EACH_CHUNK(a, c)
    {
        f->blocks++;
        f->total += c->size;
        f->free += (uint64_t)(arena_chunk_end(c) - arena_chunk_at(a, c));
    }
}

static unsigned level_of(const struct arena *a)
{
    unsigned level = 0;
    while ((a = a->parent) != NULL)
        level++;
    return level;
}

ASH_API int ash_arena_stats(const struct ash_arena *arena, struct ash_arena_stats *out)
{
    const struct arena *a = arena_of(arena);
    struct figures f = {0};
    if (out == NULL)
        return -EINVAL;
    figures_add(&f, a);
    *out = (struct ash_arena_stats){
        .level = level_of(a),
        .blocks = f.blocks,
        .total = f.total,
        .free = f.free,
        .used = f.total - f.free,
        .tree_total = a->held,
        .limit = a->max_bytes != SIZE_MAX ? a->max_bytes : 0,
        .refused = a->refused,
        .resets = a->resets,
    };
    memcpy(out->name, a->name.text, sizeof out->name);
    for (const struct arena *child = a->child; child != NULL; child = child->older)
        out->children++;
    for (const struct ash_cleanup *node = a->cleanups; node != NULL; node = node->ash_older)
        out->cleanups++;
    return 0;
}

/* ---- the table ---- */

struct dump {
    struct fmt f;
    unsigned top; /* the level at which it begins */
    struct figures sum;
};

static void put_row(struct dump *d, unsigned level, const char *name, const struct figures *f)
{
    unsigned below = level - d->top;
    int indent = 2 * (int)(below < DUMP_INDENT ? below : DUMP_INDENT);
    fmt_printf(&d->f, "%*s%-*s %5u %8ju %12ju %12ju %12ju\n", indent, "", 40 - indent, name, level,
               (uintmax_t)f->blocks, (uintmax_t)f->total, (uintmax_t)f->free,
               (uintmax_t)(f->total - f->free));
}

/* What is left of a parent's children, `a` the first, with all below them, as one line. */
static void put_rest(struct dump *d, const struct arena *a, unsigned level)
{
    struct figures rest = {0};
    char name[ARENA_NAME];
    for (; a != NULL; a = a->older)
        for (const struct arena *below = a; below != NULL; below = next_below(a, below, true))
            figures_add(&rest, below);
    fmt_text(name, sizeof name, "%ju more", (uintmax_t)rest.arenas);
    put_row(d, level, name, &rest);
    d->sum.arenas += rest.arenas;
    d->sum.blocks += rest.blocks;
    d->sum.total += rest.total;
    d->sum.free += rest.free;
}

/* The number of elder siblings shown already, told from the list. */
static bool is_shown(const struct arena *a)
{
    unsigned before = 0;
    while ((a = a->newer) != NULL && before < DUMP_CHILDREN)
        before++;
    return before < DUMP_CHILDREN;
}

static void put_tree(struct dump *d, const struct arena *top)
{
    unsigned level = d->top;
    for (const struct arena *a = top, *next; a != NULL; a = next) {
        if (a == top || is_shown(a)) {
            struct figures f = {0};
            figures_add(&f, a);
            figures_add(&d->sum, a);
            put_row(d, level, a->name.text[0] != '\0' ? a->name.text : "(unnamed)", &f);
            next = next_below(top, a, true);
        } else {
            put_rest(d, a, level);
            next = next_below(top, a->parent, false);
        }
        level = next != NULL ? level_of(next) : 0;
    }
}

ASH_API int ash_arena_dump(const struct ash_arena *arena, int fd)
{
    char buf[DUMP_BUFFER], name[ARENA_NAME];
    struct dump d = {.top = level_of(arena_of(arena))};
    fmt_init(&d.f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&d.f, "%-40s %5s %8s %12s %12s %12s\n", "arena", "level", "blocks", "total", "free",
               "used");
    put_tree(&d, arena_of(arena));
    fmt_text(name, sizeof name, "%ju arenas", (uintmax_t)d.sum.arenas);
    fmt_printf(&d.f, "%-40s %5s %8ju %12ju %12ju %12ju\n", name, "", (uintmax_t)d.sum.blocks,
               (uintmax_t)d.sum.total, (uintmax_t)d.sum.free,
               (uintmax_t)(d.sum.total - d.sum.free));
    return fmt_end(&d.f);
}
