/*
 * Matching. One body, route_find, is compiled into each function below with its last arguments
 * constant: paths of less than 16 bytes are held in registers, since loads of eight bytes would
 * read beyond them; those of less than 64 have all their slashes in one word; and the plain form
 * does not fold case.
 */
#include "msg/routes.h"
#include "msg/words.h"

#include <errno.h>
#include <string.h>

enum span { SPAN_16 = 16, SPAN_64 = 64, SPAN_ANY };

/* A path and the segment [from, to) of it, `from` = len + 1 behind the last. */
struct walk {
    const char *path;
    size_t len;
    size_t from, to;
    size_t window;      /* `slashes` are of the 64 bytes from here on; 0 but for SPAN_ANY */
    uint64_t slashes;   /* bit i: byte i, not before `from`, is one; the path's end is too */
    uint64_t low, high; /* SPAN_16: the path, filled up with zeroes */
};

/* The slashes of the window. Loads go back to bytes before it, never beyond the path. */
ASH_INLINE uint64_t window_slashes(const struct walk *w, enum span span)
{
    size_t left = w->len - w->window, n = size_min(left, 64), i = 0;
    uint64_t bits = span != SPAN_ANY || left < 64 ? (uint64_t)1 << left : 0;
    if (span == SPAN_16)
        return bits | slashes_words(w->low, w->high);
    const char *p = w->path + w->window;
    for (; i + 16 <= n; i += 16)
        bits |= slashes_16(p + i) << i;
    if (i < n)
        bits |= slashes_16(p + n - 16) >> (16 - (n - i)) << i;
    return bits;
}

/* Finds the end of the segment at `from`. */
ASH_INLINE void walk_find(struct walk *w, enum span span)
{
    while (span == SPAN_ANY && w->slashes == 0) {
        w->window += 64;
        w->slashes = window_slashes(w, span);
    }
    w->to = w->window + (size_t)__builtin_ctzll(w->slashes);
}

ASH_INLINE void walk_next(struct walk *w)
{
    w->from = w->to + 1;
    w->slashes &= w->slashes - 1;
}

ASH_INLINE void walk_start(struct walk *w, size_t from, enum span span)
{
    w->from = from;
    w->window = span == SPAN_ANY ? from & ~(size_t)63 : 0;
    w->slashes = window_slashes(w, span) >> (from & 63) << (from & 63);
}

ASH_INLINE void walk_begin(struct walk *w, enum span span)
{
    if (span == SPAN_16 && w->len >= 8) {
        w->low = word_at(w->path);
        w->high = word_at(w->path + w->len - 8) >> 4 * (16 - w->len) >> 4 * (16 - w->len);
    } else if (span == SPAN_16)
        w->low = hash_tail((const unsigned char *)w->path, w->len);
    walk_start(w, w->path[0] == '/', span);
}

/* Where segment number `k` begins, which there is. Out of the way, since few paths go back. */
static ASH_NOINLINE size_t segment_begin(const char *path, size_t len, unsigned k)
{
    size_t from = path[0] == '/';
    while (k-- > 0)
        from = (size_t)((const char *)memchr(path + from, '/', len - from) - path) + 1;
    return from;
}

/* Goes back to segment number `k`. */
ASH_INLINE void walk_back(struct walk *w, unsigned k, enum span span)
{
    walk_start(w, segment_begin(w->path, w->len, k), span);
    walk_find(w, span);
}

/* text_equal where it is seldom needed. */
static ASH_NOINLINE bool text_equal_far(const char *text, const char *own, size_t n, bool fold)
{
    return text_equal(text, own, n, fold);
}

/* The segment as nodes hold it: see struct node. */
struct segment {
    uint64_t head, tail;
};

ASH_INLINE struct segment walk_segment(const struct walk *w, enum span span, bool fold)
{
    const char *end = w->path + w->to;
    size_t n = w->to - w->from;
    struct segment s = {.tail = n};
    if (n > 8) {
        s.head = word_at(w->path + w->from);
        s.tail = word_at(end - 8);
        s.tail = fold ? word_lower(s.tail) : s.tail;
    } else if (span == SPAN_16)
        s.head = word_head(word_from(w->low, w->high, w->from), n);
    else if (w->to >= 8) /* the eight bytes before its end; in two steps, since n may be 0 */
        s.head = word_at(end - 8) >> 4 * (8 - n) >> 4 * (8 - n);
    else
        s.head = word_head(word_at(w->path) >> 8 * w->from, n);
    s.head = fold ? word_lower(s.head) : s.head;
    return s;
}

/* The child that is the segment's text, or NULL. */
ASH_INLINE const struct node *node_child(const struct routes *t, const struct node *n,
                                         const struct walk *w, enum span span, bool fold,
                                         uint64_t *steps)
{
    struct segment s = walk_segment(w, span, fold);
    const uint32_t *slots = (const uint32_t *)(const void *)((const char *)t + n->slots);
    size_t len = w->to - w->from;
    uint32_t at = slots[routes_hash(s.head, s.tail) >> n->shift & n->mask];
    for (; at != 0; at = routes_node(t, at)->chain) {
        const struct node *child = routes_node(t, at);
        if (steps != NULL)
            ++*steps;
        if (child->head != s.head || child->tail != s.tail)
            continue;
        if (len <= 8 || (child->len == len &&
                         (len <= 16 || text_equal_far(w->path + w->from,
                                                      (const char *)t + child->text, len, fold))))
            return child;
    }
    return NULL;
}

/* Whether a node that is not text takes the segment; and what it captures. */
ASH_INLINE bool node_takes(const struct routes *t, const struct node *n, const struct walk *w,
                           bool fold, struct ash_capture *out)
{
    const char *text = w->path + w->from;
    size_t len = (n->kind == PART_REST ? w->len : w->to) - w->from;
    size_t fixed = (size_t)n->len + n->after;
    if (len <= fixed)
        return false;
    if (fixed > 0) {
        const char *own = (const char *)t + n->text;
        if (!text_equal_far(text, own, n->len, fold) ||
            !text_equal_far(text + len - n->after, own + n->len, n->after, fold))
            return false;
    }
    out->ptr = text + n->len;
    out->len = len - fixed;
    return true;
}

ASH_INLINE int route_found(const struct routes *t, const struct node *n, struct ash_match *out)
{
    const struct target *to = (const struct target *)(const void *)((const char *)t + n->target);
    out->handler = to->handler;
    out->pattern = to->pattern;
    out->n = n->names;
    for (unsigned i = 0; i < n->names; i++)
        out->caps[i].name = to->name[i];
    return 0;
}

static int route_missed(struct ash_match *out)
{
    out->handler = NULL;
    out->pattern = NULL;
    out->n = 0;
    return -ENOENT;
}

ASH_INLINE int route_find(const struct routes *t, const char *path, size_t len,
                          struct ash_match *out, uint64_t *steps, enum span span, bool fold)
{
    struct walk w = {.path = path, .len = len};
    walk_begin(&w, span);
    const struct node *n = routes_node(t, t->root[w.from]);
    for (;; walk_next(&w)) {
        for (; w.from <= len; walk_next(&w)) { /* as long as text fits */
            walk_find(&w, span);
            if (n->slots == 0)
                break;
            const struct node *child = node_child(t, n, &w, span, fold, steps);
            if (child == NULL)
                break;
            n = child;
        }
        bool ended = w.from > len;
        if (ended && n->target != 0)
            return route_found(t, n, out);
        uint32_t next = ended ? n->fail : n->other;
        unsigned depth = n->depth + 1u; /* of nodes that the segment is compared with */
        for (;; next = n->fail) {
            if (next == 0)
                return route_missed(out);
            n = routes_node(t, next);
            if (n->depth != depth) {
                depth = n->depth;
                walk_back(&w, depth - 1, span);
            }
            if (steps != NULL)
                ++*steps;
            if (node_takes(t, n, &w, fold, &out->caps[n->names - 1]))
                break;
        }
        if (n->kind == PART_REST)
            return route_found(t, n, out);
    }
}

static ASH_NOINLINE int find_folded(const struct routes *t, const char *path, size_t len,
                                    struct ash_match *out)
{
    return len < SPAN_16 ? route_find(t, path, len, out, NULL, SPAN_16, true)
                         : route_find(t, path, len, out, NULL, SPAN_ANY, true);
}

static ASH_NOINLINE int find_16(const struct routes *t, const char *path, size_t len,
                                struct ash_match *out)
{
    return route_find(t, path, len, out, NULL, SPAN_16, false);
}

static ASH_NOINLINE int find_64(const struct routes *t, const char *path, size_t len,
                                struct ash_match *out)
{
    return route_find(t, path, len, out, NULL, SPAN_64, false);
}

static ASH_NOINLINE int find_any(const struct routes *t, const char *path, size_t len,
                                 struct ash_match *out)
{
    return route_find(t, path, len, out, NULL, SPAN_ANY, false);
}

/* The slash at the end of a path that has another byte. */
static size_t cut_slash(const struct routes *t, const char *path, size_t len)
{
    bool cut = (t->flags & ASH_ROUTER_IGNORE_SLASH) && len > 1 && path[len - 1] == '/';
    return len - cut;
}

int routes_match(const struct routes *t, const char *path, size_t len, struct ash_match *out)
{
    if (ASH_UNLIKELY(len == 0))
        return route_missed(out);
    if (ASH_UNLIKELY(t->flags != 0)) {
        len = cut_slash(t, path, len);
        if (t->flags & ASH_ROUTER_IGNORE_CASE)
            return find_folded(t, path, len, out);
    }
    if (len < SPAN_16)
        return find_16(t, path, len, out);
    return len < SPAN_64 ? find_64(t, path, len, out) : find_any(t, path, len, out);
}

ASH_COLD int routes_match_counted(const struct routes *t, const char *path, size_t len,
                                  struct ash_match *out, uint64_t *steps)
{
    *steps = 0;
    if (len == 0)
        return route_missed(out);
    len = cut_slash(t, path, len);
    bool fold = t->flags & ASH_ROUTER_IGNORE_CASE;
    return len < SPAN_16 ? route_find(t, path, len, out, steps, SPAN_16, fold)
                         : route_find(t, path, len, out, steps, SPAN_ANY, fold);
}
