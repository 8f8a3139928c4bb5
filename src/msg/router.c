/*
 * The public functions of ashlar/router.h: an array of routes in the order of preference, of which
 * a compile makes the block that is matched.
 *
 * `now` is all that matches share with the router's thread. It is replaced whole, by a release
 * store that publishes the block; older blocks stay in a list until the program says that nobody
 * reads them. Rejected: to count readers, which costs each match two locked instructions.
 */
#include "ashlar/router.h"

#include "ashlar/arena.h"
#include "ashlar/malloc.h"
#include "base/atomic.h"
#include "base/config.h"
#include "base/fmt.h"
#include "base/name.h"
#include "msg/routes.h"
#include "os/os_file.h"

#include <errno.h>

enum { ROOM_FIRST = 32, FLAGS_ALL = ASH_ROUTER_IGNORE_CASE | ASH_ROUTER_IGNORE_SLASH };

struct ash_router {
    _Atomic(const struct routes *) now; /* atomic: never NULL; written by the router's thread */
    unsigned flags;                     /* const */
    /* Owned by the router's thread: */
    struct ash_arena *arena; /* patterns; its children hold the blocks */
    struct route **route;    /* sorted */
    size_t count, room;
    struct routes *made; /* the block that is `now`, and by `older` all before; NULL at first */
    uint64_t pending, compiles;
    char name[NAME_CAP]; /* const */
};

/* ---- life ---- */

ASH_API struct ash_router *ash_router_create_with(const char *name,
                                                  const struct ash_router_config *config)
{
    struct ash_router_config read;
    char copy[NAME_CAP];
    if (!config_read(&read, sizeof read, config, sizeof(size_t)) ||
        !name_read(copy, name, "router") || (read.flags & ~(unsigned)FLAGS_ALL) != 0) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_router *r = ash_calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->arena = ash_arena_create(NULL, copy, NULL);
    if (r->arena == NULL) {
        ash_free(r);
        errno = ENOMEM;
        return NULL;
    }
    memcpy(r->name, copy, sizeof copy);
    r->flags = read.flags;
    store_relaxed(&r->now, routes_none());
    return r;
}

ASH_API struct ash_router *ash_router_create(void)
{
    return ash_router_create_with(NULL, NULL);
}

ASH_API int ash_router_destroy(struct ash_router *r)
{
    if (r == NULL)
        return -EINVAL;
    ash_arena_destroy(r->arena);
    ash_free(r->route);
    ash_free(r);
    return 0;
}

/* ---- patterns ---- */

/* The place of a route: of the one that compares equal, or where it belongs. */
static bool route_search(const struct ash_router *r, const struct route *key, size_t *place)
{
    size_t low = 0, high = r->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = route_compare(key, r->route[middle]);
        if (order == 0) {
            *place = middle;
            return true;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    *place = low;
    return false;
}

static bool router_grow(struct ash_router *r)
{
    if (r->count < r->room)
        return true;
    size_t room = r->room == 0 ? ROOM_FIRST : 2 * r->room;
    struct route **route = ash_realloc(r->route, room * sizeof *route);
    if (route == NULL)
        return false;
    r->route = route;
    r->room = room;
    return true;
}

ASH_API int ash_router_add(struct ash_router *r, const char *pattern, void *handler,
                           const char **conflict)
{
    const char *ignored;
    if (conflict == NULL)
        conflict = &ignored;
    *conflict = "there is no router or no pattern";
    if (r == NULL || pattern == NULL)
        return -EINVAL;
    struct ash_mark before = ash_arena_mark(r->arena);
    struct route *route;
    size_t place;
    int status = route_parse(r->arena, pattern, r->flags, &route, conflict);
    if (status == 0 && route_search(r, route, &place)) {
        *conflict = r->route[place]->pattern;
        status = -EEXIST;
    }
    if (status == 0 && !router_grow(r)) {
        *conflict = "there is no memory";
        status = -ENOMEM;
    }
    if (status != 0) {
        ash_arena_rollback(r->arena, before);
        return status;
    }
    route->handler = handler;
    memmove(&r->route[place + 1], &r->route[place], (r->count - place) * sizeof r->route[0]);
    r->route[place] = route;
    r->count++;
    r->pending++;
    *conflict = NULL;
    return 0;
}

ASH_API int ash_router_remove(struct ash_router *r, const char *pattern)
{
    if (r == NULL || pattern == NULL)
        return -EINVAL;
    struct ash_mark before = ash_arena_mark(r->arena);
    struct route *key;
    const char *why;
    size_t place = 0;
    int status = route_parse(r->arena, pattern, r->flags, &key, &why);
    if (status == 0 && !route_search(r, key, &place))
        status = -ENOENT;
    ash_arena_rollback(r->arena, before);
    if (status != 0)
        return status;
    r->count--;
    memmove(&r->route[place], &r->route[place + 1], (r->count - place) * sizeof r->route[0]);
    r->pending++;
    return 0;
}

/* ---- compiled ---- */

ASH_API int ash_router_compile(struct ash_router *r)
{
    if (r == NULL)
        return -EINVAL;
    struct routes *made;
    int status = routes_compile(r->arena, r->route, r->count, r->flags, &made);
    if (status != 0)
        return status;
    made->older = r->made;
    r->made = made;
    r->pending = 0;
    r->compiles++;
    store_release(&r->now, made); /* the block; pairs with router_now */
    return 0;
}

ASH_API int ash_router_trim(struct ash_router *r)
{
    if (r == NULL)
        return -EINVAL;
    int trimmed = 0;
    if (r->made != NULL)
        for (struct routes *older; (older = r->made->older) != NULL; trimmed++) {
            r->made->older = older->older;
            ash_arena_destroy(older->arena);
        }
    return trimmed;
}

/* acquire: the block; pairs with ash_router_compile */
ASH_INLINE const struct routes *router_now(const struct ash_router *r)
{
    return load_acquire(&r->now);
}

ASH_API int ash_router_match(const struct ash_router *r, const char *path, size_t len,
                             struct ash_match *out)
{
    if (ASH_UNLIKELY(r == NULL || path == NULL || out == NULL))
        return -EINVAL;
    return routes_match(router_now(r), path, len, out);
}

ASH_API int64_t ash_router_steps(const struct ash_router *r, const char *path, size_t len)
{
    struct ash_match match;
    uint64_t steps;
    if (r == NULL || path == NULL)
        return -EINVAL;
    routes_match_counted(router_now(r), path, len, &match, &steps);
    return (int64_t)steps;
}

ASH_API const struct ash_capture *ash_match_capture(const struct ash_match *match, const char *name)
{
    for (unsigned i = 0; match != NULL && name != NULL && i < match->n; i++)
        if (strcmp(match->caps[i].name, name) == 0)
            return &match->caps[i];
    return NULL;
}

/* ---- looking at it ---- */

ASH_API int ash_router_walk(const struct ash_router *r,
                            int (*fn)(const char *pattern, void *handler, void *user), void *user)
{
    if (r == NULL || fn == NULL)
        return -EINVAL;
    for (size_t i = 0; i < r->count; i++) {
        int status = fn(r->route[i]->pattern, r->route[i]->handler, user);
        if (status != 0)
            return status;
    }
    return 0;
}

ASH_API int ash_router_stats(const struct ash_router *r, struct ash_router_stats *out)
{
    if (r == NULL || out == NULL)
        return -EINVAL;
    const struct routes *now = router_now(r);
    *out = (struct ash_router_stats){
        .routes = r->count,
        .pending = r->pending,
        .compiled = now->count,
        .nodes = now->nodes,
        .deepest = now->deepest,
        .bytes = now->bytes,
        .compiles = r->compiles,
    };
    if (r->made != NULL)
        for (const struct routes *t = r->made->older; t != NULL; t = t->older) {
            out->retired++;
            out->retired_bytes += t->bytes;
        }
    return 0;
}

ASH_API int ash_router_dump(const struct ash_router *r, int fd)
{
    struct ash_router_stats s;
    int status = ash_router_stats(r, &s);
    if (status != 0)
        return status;
    char buf[512], bytes[16], retired[16];
    struct fmt f;
    fmt_bytes_text(bytes, s.bytes);
    fmt_bytes_text(retired, s.retired_bytes);
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "router %s: %ju patterns, %ju changes not compiled\n", r->name, s.routes,
               s.pending);
    fmt_printf(&f, "  matched %ju  nodes %ju  deepest %ju  %s  compiles %ju  retired %ju, %s\n",
               s.compiled, s.nodes, s.deepest, bytes, s.compiles, s.retired, retired);
    return fmt_end(&f);
}

/* A segment as it is written in a pattern: that is, with braces doubled. */
static void print_part(struct fmt *f, const struct part *part, const char *name)
{
    size_t len = (size_t)part->len + part->after;
    for (size_t i = 0; i <= len; i++) {
        if (i == part->len && part->kind != PART_TEXT)
            fmt_printf(f, part->kind == PART_REST ? "{*%s}" : "{%s}", name);
        if (i == len)
            break;
        fmt_put(f, &part->text[i], 1);
        if (part->text[i] == '{' || part->text[i] == '}')
            fmt_put(f, &part->text[i], 1);
    }
}

ASH_API int ash_router_print(const struct ash_router *r, int fd)
{
    if (r == NULL)
        return -EINVAL;
    char buf[1024];
    struct fmt f;
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    for (size_t i = 0; i < r->count; i++) {
        const struct route *route = r->route[i];
        unsigned shared = i > 0 ? route_shared(r->route[i - 1], route) : 0, names = 0;
        for (unsigned k = 0; k < route->parts; k++) {
            const struct part *part = &route->part[k];
            const char *name = part->kind != PART_TEXT ? route->name[names++] : "";
            if (k < shared)
                continue;
            fmt_pad(&f, ' ', (size_t)2 * k);
            fmt_put(&f, "/", k > 0 || route->rooted);
            print_part(&f, part, name);
            if (k + 1 == route->parts)
                fmt_printf(&f, "  -> %s", route->pattern);
            fmt_put(&f, "\n", 1);
        }
    }
    return fmt_end(&f);
}
