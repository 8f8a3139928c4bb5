/*
 * ashlar/router.h: which handler a path belongs to.
 *
 *     struct ash_router *r = ash_router_create();
 *     ash_router_add(r, "/users", list, NULL);
 *     ash_router_add(r, "/users/{id}", show, NULL);
 *     ash_router_add(r, "/files/{*path}", file, NULL);
 *     ash_router_compile(r);
 *     struct ash_match m;
 *     if (ash_router_match(r, "/users/7", 8, &m) == 0)
 *         ... m.handler is show, m.caps[0] is {"id", "7", 1}
 *
 * Patterns begin with a slash, or with scheme://host, and are made of segments between slashes:
 *
 *     text              that text
 *     {name}            one segment, not empty
 *     pre{name}post     a segment with that beginning and end, and at least a byte in between
 *     {*name}           the last segment of the pattern: all that is left of the path, not empty
 *     {{  }}            a brace
 *
 * Where several patterns fit a path, the leftmost segment in which they differ decides: text before
 * pre{name}post (the longer beginning first, then the longer end) before {name} before {*name}.
 * That is an order of all patterns, whenever they were added; a pattern that differs from another
 * in the names alone would have the same place, and is refused. A choice that leads nowhere is
 * taken back: with /{a}/x and /b/y, the path /b/x is one of the first pattern.
 *
 * Threads: one thread at a time adds, removes, compiles, trims and looks at the router. Matching
 * needs nothing of that: any number of threads match at any time, also while another compiles, and
 * see the patterns of the last ash_router_compile that was complete, whole. A child of fork goes on
 * with a copy; if another thread than the forking one was changing the router, it may only match.
 *
 * Errors: NULL and errno, or a negative errno; -EINVAL for NULL where it is not allowed.
 *
 * Cost: a match is linear in the path, and looks at no pattern's segment twice: see
 * ash_router_steps. 15 to 30 ns for paths of an ordinary service, whether there are ten routes or
 * ten thousand.
 *
 * Caveats
 *   Bytes are compared as they are: whoever decodes %2F decodes captures, after matching, and cuts
 *   the query off before. Captures point into the path and live as long as it does; names and the
 *   pattern live as long as the router. What was added is not matched before ash_router_compile.
 *   An earlier state is kept for those who may be reading it, until ash_router_trim.
 */
#ifndef ASHLAR_ROUTER_H
#define ASHLAR_ROUTER_H

#include <ashlar/config.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_router;

#define ASH_ROUTER_CAPTURES 16   /* in a pattern */
#define ASH_ROUTER_SEGMENTS 64   /* in a pattern */
#define ASH_ROUTER_PATTERN  4095 /* bytes in a pattern */

enum {
    ASH_ROUTER_IGNORE_CASE = 1, /* of ASCII letters, in the text of patterns */
    ASH_ROUTER_IGNORE_SLASH = 2 /* one slash at the end of patterns and paths does not count */
};

struct ash_router_config {
    size_t struct_size; /* of this struct: ASH_ROUTER_CONFIG sets it */
    unsigned flags;     /* ASH_ROUTER_..., or-ed */
};

#define ASH_ROUTER_CONFIG(...) ASH_CONFIG(struct ash_router_config, __VA_ARGS__)

/* What a name of the pattern stands for: `len` bytes of the path. Not terminated by a NUL. */
struct ash_capture {
    const char *name;
    const char *ptr;
    size_t len;
};

struct ash_match {
    void *handler;
    const char *pattern; /* as it was added */
    unsigned n;          /* of caps, in the pattern's order */
    struct ash_capture caps[ASH_ROUTER_CAPTURES];
};

/* A router without patterns. NULL with ENOMEM. */
struct ash_router *ash_router_create(void);

/*
 * The same with a name and settings. `name` is copied: 1 to 31 printable ASCII characters without
 * quotes and backslashes; NULL for "router". NULL with EINVAL or ENOMEM.
 */
struct ash_router *ash_router_create_with(const char *name, const struct ash_router_config *config);

/* Ends it: no other call may be under way. 0, or -EINVAL for NULL. */
int ash_router_destroy(struct ash_router *router);

/*
 * Adds a pattern, which is copied, for `handler`, any pointer. 0, or an error that leaves the
 * router as it was. Unless `conflict` is NULL it is set: NULL after success; after -EEXIST the
 * pattern that is in the way; after other errors a sentence that says what is wrong.
 *
 *     -EEXIST        another pattern differs in the names alone
 *     -EINVAL        NULL, or it begins neither with a slash nor with scheme://host
 *     -EILSEQ        a brace without its partner
 *     -ENODATA       a name of no characters
 *     -EBADMSG       a name with other characters than letters, digits, - . _, or more than 31
 *     -ENOTUNIQ      a name twice
 *     -EMLINK        two names in a segment
 *     -ENOTSUP       two {*name}
 *     -ENOTEMPTY     something behind the segment of a {*name}
 *     -EDOM          other text in that segment
 *     -E2BIG         more than ASH_ROUTER_CAPTURES names
 *     -ENAMETOOLONG  more than ASH_ROUTER_SEGMENTS segments or ASH_ROUTER_PATTERN bytes
 *     -ENOMEM
 *
 * Cost: a comparison with some of the patterns, about 0.5 us.
 */
int ash_router_add(struct ash_router *router, const char *pattern, void *handler,
                   const char **conflict);

/*
 * Removes the pattern that is this one but for names: 0; -ENOENT when there is none; or as of
 * ash_router_add. Matches find it until the next compile.
 */
int ash_router_remove(struct ash_router *router, const char *pattern);

/*
 * Makes one block of memory of the patterns, for matching, and has all later matches use it. 0 or
 * -ENOMEM; -EFBIG beyond 2^25 segments. Cost: about 1 us for each pattern.
 */
int ash_router_compile(struct ash_router *router);

/*
 * Gives back what earlier compiles made: how many of them, or -EINVAL. No match that began before
 * the last compile may still be under way.
 */
int ash_router_trim(struct ash_router *router);

/*
 * The pattern that the `len` bytes at `path` belong to: 0, or -ENOENT, and `out` has no handler and
 * no captures. Of `out->caps` only the first `out->n` are written. Takes no lock, writes nothing
 * but `out`.
 */
int ash_router_match(const struct ash_router *router, const char *path, size_t len,
                     struct ash_match *out);

/*
 * How many segments of patterns a match of this path would look at, for finding out what a set of
 * patterns costs. It is never more than ash_router_stats says there are nodes; -EINVAL.
 */
int64_t ash_router_steps(const struct ash_router *router, const char *path, size_t len);

/* The capture of that name, or NULL. */
const struct ash_capture *ash_match_capture(const struct ash_match *match, const char *name);

/*
 * Calls `fn` for each pattern that was added, in the order in which they are preferred, until it
 * returns something else than 0, which is returned; else 0, or -EINVAL. `fn` must not change the
 * router.
 */
int ash_router_walk(const struct ash_router *router,
                    int (*fn)(const char *pattern, void *handler, void *user), void *user);

/* Writes the patterns as a tree: 0, -EINVAL or the negative errno of the write. */
int ash_router_print(const struct ash_router *router, int fd);

struct ash_router_stats {
    uint64_t routes;        /* patterns that were added and not removed */
    uint64_t pending;       /* additions and removals since the last compile */
    uint64_t compiled;      /* patterns that are matched */
    uint64_t nodes;         /* segments of these, those that they share counted once */
    uint64_t deepest;       /* segments in the longest of them */
    uint64_t bytes;         /* in the block that matches read */
    uint64_t compiles;      /* made so far */
    uint64_t retired;       /* blocks of earlier compiles that are kept */
    uint64_t retired_bytes; /* in these */
};

/* Reads the figures: 0, or -EINVAL. */
int ash_router_stats(const struct ash_router *router, struct ash_router_stats *out);

/* Writes them as text: 0, -EINVAL or the negative errno of the write. */
int ash_router_dump(const struct ash_router *router, int fd);

#ifdef __cplusplus
}
#endif

#endif
