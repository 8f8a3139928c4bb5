/*
 * A pattern of the router, taken apart, and the order in which patterns are preferred.
 *
 * Routes that are kept sorted by route_compare have everything in place: two that compare equal are
 * ambiguous; those with a common beginning are neighbours, so a tree is a walk over the array; and
 * the array, and all that is made of it, is the same for any order of insertion.
 */
#ifndef ASH_ROUTE_H
#define ASH_ROUTE_H

#include "base/base.h"

#include "ashlar/arena.h"
#include "ashlar/router.h"

/* In the order of preference. */
enum part_kind { PART_TEXT, PART_MIXED, PART_NAME, PART_REST };

/* What stands between two slashes. */
struct part {
    const char *text; /* the text, or what stands before and after the name; no NUL behind it */
    uint16_t len;     /* of the text, or of what stands before the name */
    uint16_t after;   /* of what stands after it */
    uint8_t kind;     /* enum part_kind */
};

/* All const once it is parsed, but `shared`, which is the compiler's. */
struct route {
    void *handler;
    const char *pattern; /* as it was given */
    struct part *part;
    const char *name[ASH_ROUTER_CAPTURES];
    bool rooted;   /* begins with a slash, which is not part of a segment */
    uint8_t parts; /* how many */
    uint8_t names;
    uint8_t shared; /* parts in common with the route before it */
};

/*
 * Parses a pattern into memory of the arena: 0 and the route, or what ash_router_add returns, and
 * in *why a sentence. What was taken from the arena then is the caller's to roll back.
 */
int route_parse(struct ash_arena *arena, const char *pattern, unsigned flags, struct route **out,
                const char **why);

/* Which of two is preferred: negative for `a`, 0 when they differ in names at most. */
int route_compare(const struct route *a, const struct route *b);

/* How many parts two routes have in common, from the left. */
unsigned route_shared(const struct route *a, const struct route *b);

#endif
