/*
 * Matching. One body, route_find, is compiled into each function below with its last arguments
 * constant: paths shorter than 16 bytes are held in registers, since loads of eight bytes would
 * read beyond them; and the plain form does not fold case.
 */
#include "msg/routes.h"
#include "msg/words.h"

#include <errno.h>

struct view {
    const char *path;
    const char *end;
    unsigned __int128 all; /* a short path, filled up with zeroes */
};

/* Eight bytes from `p` on; what lies beyond the path is undefined or zero. */
ASH_INLINE uint64_t view_word(const struct view *v, const char *p, bool shorter)
{
    if (shorter)
        return (uint64_t)(v->all >> 8 * (p - v->path));
    const char *last = v->end - 8, *from = p < last ? p : last;
    return word_at(from) >> (8 * (p - from) & 63);
}

/* Bit i is set where byte `from` + i is a slash, for the next 64 bytes at most. */
ASH_INLINE uint64_t view_slashes(const struct view *v, size_t from, bool shorter)
{
    if (shorter)
        return slashes_words((uint64_t)v->all, (uint64_t)(v->all >> 64));
    size_t len = size_min((size_t)(v->end - v->path) - from, 64), i = 0;
    const char *p = v->path + from;
    uint64_t bits = 0;
    for (; i + 16 <= len; i += 16)
        bits |= slashes_16(p + i) << i;
    if (i < len) /* the last 16 bytes, of which the first were seen */
        bits |= slashes_16(p + len - 16) >> (16 - (len - i)) << i;
    return bits;
}

/*
 * Where segments begin, `begin[0]` being given: `begin[k + 1] - 1` is the end of segment k. Returns
 * how many there are, `most` if there are more.
 */
ASH_INLINE unsigned view_split(const struct view *v, const char **begin, unsigned most,
                               bool shorter)
{
    size_t len = (size_t)(v->end - v->path), skip = (size_t)(begin[0] - v->path);
    unsigned n = 0;
    for (size_t from = 0; from < len; from += 64, skip = 0)
        for (uint64_t bits = view_slashes(v, from, shorter) >> skip << skip; bits != 0;
             bits &= bits - 1) {
            begin[++n] = v->path + from + __builtin_ctzll(bits) + 1;
            if (n == most)
                return n;
        }
    begin[++n] = v->end + 1;
    return n;
}

/* A segment of the path, as nodes are compared with it. */
struct segment {
    const char *text;
    size_t len;
    uint64_t head; /* its first eight bytes, filled up with zeroes; folded, as the others */
    uint64_t tail; /* its last eight if there are more, or zero */
    uint64_t hash;
};

ASH_INLINE bool node_is_text(const struct routes *t, const struct node *n, const struct segment *s,
                             bool fold)
{
    if (n->head != s->head || n->tail != s->tail || n->len != s->len)
        return false;
    return s->len <= 16 || text_equal(s->text, (const char *)t + n->text, s->len, fold);
}

/* The child that is the segment's text, or NULL. */
ASH_INLINE const struct node *node_child(const struct routes *t, const struct node *n,
                                         const struct segment *s, bool fold, uint64_t *steps)
{
    const uint32_t *slots = (const uint32_t *)(const void *)((const char *)t + n->slots);
    for (uint32_t at = slots[s->hash >> n->shift & n->mask]; at != 0;) {
        const struct node *child = routes_node(t, at);
        if (steps != NULL)
            ++*steps;
        if (node_is_text(t, child, s, fold))
            return child;
        at = child->chain;
    }
    return NULL;
}

/* Whether a node that is not text takes the segment at `text`; and what it captures. */
ASH_INLINE bool node_takes(const struct routes *t, const struct node *n, const char *text,
                           const char *end, const char *path_end, bool fold,
                           struct ash_capture *out)
{
    if (n->kind == PART_REST)
        end = path_end;
    size_t len = (size_t)(end - text);
    if (len <= (size_t)n->len + n->after)
        return false;
    if (n->kind == PART_MIXED) {
        const char *own = (const char *)t + n->text;
        if (!text_equal(text, own, n->len, fold) ||
            !text_equal(end - n->after, own + n->len, n->after, fold))
            return false;
    }
    out->ptr = text + n->len;
    out->len = len - n->len - n->after;
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
                          struct ash_match *out, uint64_t *steps, bool shorter, bool fold)
{
    struct view v = {.path = path, .end = path + len};
    if (shorter)
        v.all =
            hash_tail((const unsigned char *)path, size_min(len, 8)) |
            (unsigned __int128)(len > 8 ? hash_tail((const unsigned char *)path + 8, len - 8) : 0)
                << 64;
    bool rooted = path[0] == '/';
    const char *begin[ASH_ROUTER_SEGMENTS + 2];
    begin[0] = path + rooted;
    unsigned count = view_split(&v, begin, t->deepest + 1, shorter), depth = 0;
    const struct node *n = routes_node(t, t->root[rooted]);
    for (;;) {
        uint32_t next = n->fail;
        if (depth < count) {
            struct segment s = {.text = begin[depth],
                                .len = (size_t)(begin[depth + 1] - 1 - begin[depth])};
            s.head = word_head(view_word(&v, s.text, shorter), s.len);
            s.tail = s.len > 8 ? word_at(s.text + s.len - 8) : 0;
            if (fold) {
                s.head = word_lower(s.head);
                s.tail = word_lower(s.tail);
            }
            s.hash = routes_hash(s.head, s.tail, s.len);
            const struct node *child = node_child(t, n, &s, fold, steps);
            if (child != NULL) {
                n = child;
                depth++;
                continue;
            }
            next = n->other;
        } else if (n->target != 0)
            return route_found(t, n, out);
        for (;; next = n->fail) { /* no text fits: on to the next node that is none */
            if (next == 0)
                return route_missed(out);
            n = routes_node(t, next);
            depth = n->depth;
            if (steps != NULL)
                ++*steps;
            if (node_takes(t, n, begin[depth - 1], begin[depth] - 1, v.end, fold,
                           &out->caps[n->names - 1]))
                break;
        }
        if (n->kind == PART_REST)
            return route_found(t, n, out);
    }
}

static ASH_NOINLINE int find_folded(const struct routes *t, const char *path, size_t len,
                                    struct ash_match *out)
{
    return len < 16 ? route_find(t, path, len, out, NULL, true, true)
                    : route_find(t, path, len, out, NULL, false, true);
}

static ASH_NOINLINE int find_short(const struct routes *t, const char *path, size_t len,
                                   struct ash_match *out)
{
    return route_find(t, path, len, out, NULL, true, false);
}

static ASH_NOINLINE int find_long(const struct routes *t, const char *path, size_t len,
                                  struct ash_match *out)
{
    return route_find(t, path, len, out, NULL, false, false);
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
    return len < 16 ? find_short(t, path, len, out) : find_long(t, path, len, out);
}

ASH_COLD int routes_match_counted(const struct routes *t, const char *path, size_t len,
                                  struct ash_match *out, uint64_t *steps)
{
    *steps = 0;
    if (len == 0)
        return route_missed(out);
    len = cut_slash(t, path, len);
    bool fold = t->flags & ASH_ROUTER_IGNORE_CASE;
    return len < 16 ? route_find(t, path, len, out, steps, true, fold)
                    : route_find(t, path, len, out, steps, false, fold);
}
