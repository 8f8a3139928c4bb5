/*
 * The compiled form of a set of routes: one block of memory, read by any number of threads, written
 * by none.
 *
 * The routes are a tree, a node for each segment, those with a common beginning shared. A match
 * goes down that tree, one segment of the path for each level:
 *
 *  1. Slashes are found 16 bytes at a time and kept as a word of bits for 64 of them, so a step
 *     to the next segment counts and clears one bit.
 *  2. Children that are text lie in a table, found by a hash of the segment's length and its first
 *     and last eight bytes. The compiler chooses which bits of the hash number the slots, so that
 *     in nearly all tables no two children share one; where they do they are chained. A node keeps
 *     those bytes too, so one line of memory is all that most comparisons read.
 *  3. What a segment decides is computed from the path alone, before the node is known, so the way
 *     down is one load, one shift and one load for a level. Nodes without children that are text
 *     spare the hash.
 *  4. If no text fits, the other children are tried in the order of preference. Each node holds
 *     where to go on when nothing below it fits: its next sibling that is not text, or the parent's
 *     place to go on. So there is no stack, and to go back costs one load.
 *
 * Invariant: the nodes of the tree, in the order of preference, are entered from left to right, and
 * none twice. So a match takes at most as many steps as there are nodes, whatever the path; each
 * step but the first may go back in the path, which is scanned again for that: 16 bytes at a time,
 * the path's length at most.
 *
 * Rejected: the places of all segments in an array, so that going back is a load, and comparisons
 * of long text and of beginnings and ends inline: both cost the way down its registers (40 ns a
 * path instead of 24, on the routes of bench_msg). A tree of bytes, as most routers have, whose
 * nodes are short and many. One hash table for all routes without names in front of the tree, which
 * costs every other path a hash of its own. A memo of (node, position): the position follows from
 * the node.
 */
#ifndef ASH_ROUTES_H
#define ASH_ROUTES_H

#include "base/base.h"
#include "base/hash.h"
#include "msg/route.h"

/* Offsets are in bytes from the struct routes on; 0 is nothing. All fields are const. */
struct node {
    uint64_t head; /* text: its first eight bytes, filled up with zeroes */
    uint64_t tail; /* text longer than eight bytes: its last eight; shorter: its length */
    uint32_t text; /* text longer than 16 bytes, or of before and after: all of it */
    uint16_t len;  /* of the text, or of what stands before the name */
    uint16_t after;
    uint32_t chain;  /* text: the sibling in the same slot */
    uint32_t slots;  /* uint32_t[mask + 1]: children that are text; 0 if there are none */
    uint32_t mask;   /* slots - 1 */
    uint32_t other;  /* the first child that is not text, or as `fail` */
    uint32_t fail;   /* where to go on when nothing below fits */
    uint32_t target; /* of the route that ends here */
    uint8_t shift;   /* of the hash */
    uint8_t kind;    /* enum part_kind */
    uint8_t depth;   /* segments from the root, this one included */
    uint8_t names;   /* on the way, its own included */
};

_Static_assert(sizeof(struct node) <= ASH_CACHE_LINE, "a node is one line");

/* A route that is matched. */
struct target {
    void *handler;
    const char *pattern;
    uint64_t names;
    const char *name[];
};

struct routes {
    struct routes *older;    /* the compile before; written by the router's thread alone */
    struct ash_arena *arena; /* that holds the block; NULL of the empty one */
    uint32_t root[2];        /* [1]: of paths that begin with a slash */
    uint32_t flags;          /* ASH_ROUTER_... */
    uint32_t deepest;        /* node */
    uint32_t count;          /* of routes */
    uint32_t nodes;          /* the two roots not counted */
    size_t bytes;            /* in all */
};

ASH_INLINE const struct node *routes_node(const struct routes *t, uint32_t offset)
{
    return (const struct node *)(const void *)((const char *)t + offset);
}

/* Of a segment's text. */
ASH_INLINE uint64_t routes_hash(uint64_t head, uint64_t tail)
{
    return head * HASH_K0 + tail * HASH_K1;
}

/* No routes: what a router has before its first compile. */
const struct routes *routes_none(void);

/*
 * Compiles `count` routes, sorted, into a block of a new arena under `parent`: 0, -ENOMEM or
 * -EFBIG.
 */
int routes_compile(struct ash_arena *parent, struct route *const *route, size_t count,
                   unsigned flags, struct routes **out);

/*
 * As ash_router_match; and the same with a count of the nodes that were looked at, ASH_COLD and
 * slower.
 */
int routes_match(const struct routes *t, const char *path, size_t len, struct ash_match *out);
int routes_match_counted(const struct routes *t, const char *path, size_t len,
                         struct ash_match *out, uint64_t *steps);

#endif
