/*
 * The router against a naive one, which splits patterns and paths at slashes, tries every pattern, and prefers among
 * those that fit as the header says. Patterns are added, refused and removed; each path is matched after a compile, the
 * captures and the pattern compared.
 */
#include "fuzz.h"

#include "ashlar/router.h"
#include "base/base.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUTES = 40, SEGMENTS = 80, TEXT = 400 };
enum kind { TEXT_ONLY, MIXED, NAME, REST };

/* A segment of a pattern, braces undone: before{name}after, or `before` alone. */
struct segment {
    enum kind kind;
    char before[TEXT], after[TEXT], name[TEXT];
    size_t before_len, after_len;
};

struct naive {
    char pattern[TEXT];
    bool rooted;
    unsigned n;
    struct segment segment[SEGMENTS];
};

static struct naive routes[ROUTES];
static unsigned count, flags;

/* ---- patterns ---- */

static bool name_is_good(const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && strchr("-._", name[i]) == NULL)
            return false;
    return n > 0 && n <= 31;
}

/* One segment, which has no slash; false: it is none. */
static bool segment_read(struct segment *s, const char *at, size_t n)
{
    bool named = false, rest = false;
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < n;) {
        if (at[i] == '{' && !(i + 1 < n && at[i + 1] == '{')) {
            size_t end = i + 1;
            while (end < n && at[end] != '}' && at[end] != '{')
                end++;
            rest = i + 1 < n && at[i + 1] == '*';
            size_t from = i + 1 + rest;
            if (end == n || at[end] == '{' || named || !name_is_good(at + from, end - from))
                return false;
            memcpy(s->name, at + from, end - from);
            named = true;
            i = end + 1;
            continue;
        }
        if (at[i] == '{' || at[i] == '}') {
            if (i + 1 >= n || at[i + 1] != at[i])
                return false;
            i++;
        }
        char c = flags & ASH_ROUTER_IGNORE_CASE ? (char)tolower((unsigned char)at[i]) : at[i];
        if (named)
            s->after[s->after_len++] = c;
        else
            s->before[s->before_len++] = c;
        i++;
    }
    bool text = s->before_len + s->after_len > 0;
    s->kind = rest ? REST : named && text ? MIXED : named ? NAME : TEXT_ONLY;
    return !(rest && text);
}

static bool pattern_begins(const char *p)
{
    size_t n = 0;
    if (p[0] == '/')
        return true;
    while (isalnum((unsigned char)p[n]) || (p[n] != '\0' && strchr("-._+", p[n]) != NULL))
        n++;
    return n > 0 && strncmp(p + n, "://", 3) == 0 && p[n + 3] != '\0' && p[n + 3] != '/';
}

static bool pattern_read(struct naive *r, const char *pattern)
{
    if (!pattern_begins(pattern))
        return false;
    strcpy(r->pattern, pattern);
    r->rooted = pattern[0] == '/';
    r->n = 0;
    unsigned names = 0;
    for (const char *at = pattern + r->rooted;; at++) {
        size_t n = strcspn(at, "/");
        struct segment *s = &r->segment[r->n++];
        if (r->n > ASH_ROUTER_SEGMENTS || !segment_read(s, at, n))
            return false;
        names += s->kind != TEXT_ONLY;
        at += n;
        if (s->kind == REST && *at != '\0')
            return false;
        for (unsigned i = 0; i + 1 < r->n && s->kind != TEXT_ONLY; i++)
            if (r->segment[i].kind != TEXT_ONLY && strcmp(r->segment[i].name, s->name) == 0)
                return false;
        if (*at == '\0')
            break;
    }
    struct segment *last = &r->segment[r->n - 1];
    if ((flags & ASH_ROUTER_IGNORE_SLASH) && r->n > 1 && last->kind == TEXT_ONLY && last->before_len == 0)
        r->n--;
    return names <= ASH_ROUTER_CAPTURES;
}

/* Below 0: `a` is preferred; 0: they are the same but for names. */
static int segment_compare(const struct segment *a, const struct segment *b)
{
    if (a->kind != b->kind)
        return (int)a->kind - (int)b->kind;
    if (a->before_len != b->before_len && a->kind != TEXT_ONLY)
        return a->before_len > b->before_len ? -1 : 1;
    if (a->after_len != b->after_len)
        return a->after_len > b->after_len ? -1 : 1;
    return a->before_len != b->before_len ? 1 : memcmp(a->before, b->before, TEXT) != 0   ? 1
                                            : memcmp(a->after, b->after, TEXT) != 0 ? 1
                                                                                    : 0;
}

static int route_prefer(const struct naive *a, const struct naive *b)
{
    if (a->rooted != b->rooted)
        return 1;
    for (unsigned i = 0; i < a->n && i < b->n; i++) {
        int order = segment_compare(&a->segment[i], &b->segment[i]);
        if (order != 0)
            return order;
    }
    return a->n == b->n ? 0 : 1;
}

/* ---- paths ---- */

static bool text_is(const char *path, const char *own, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = flags & ASH_ROUTER_IGNORE_CASE ? (char)tolower((unsigned char)path[i]) : path[i];
        if (c != own[i])
            return false;
    }
    return true;
}

static bool route_fits(const struct naive *r, const char *path, size_t len, struct ash_capture *caps)
{
    if (len == 0 || (path[0] == '/') != r->rooted)
        return false;
    size_t from = r->rooted;
    unsigned names = 0;
    for (unsigned i = 0; i < r->n; i++) {
        const struct segment *s = &r->segment[i];
        if (from > len)
            return false;
        const char *slash = memchr(path + from, '/', len - from);
        size_t to = slash == NULL || s->kind == REST ? len : (size_t)(slash - path), n = to - from;
        size_t fixed = s->before_len + s->after_len;
        if (s->kind == TEXT_ONLY ? n != fixed : n <= fixed)
            return false;
        if (!text_is(path + from, s->before, s->before_len) || !text_is(path + to - s->after_len, s->after, s->after_len))
            return false;
        if (s->kind != TEXT_ONLY)
            caps[names++] = (struct ash_capture){s->name, path + from + s->before_len, n - fixed};
        from = to + 1;
    }
    return from == len + 1;
}

/* ---- operations ---- */

static const char *const pieces[] = {"a", "b", "ab", "aa", "A", "items", "a-long-segment", "{x}", "{y}", "a{x}", "{x}b",
                                     "a{x}b", "aa{y}", "items{y}", "{*x}", "{{", "}}", "", ".", "0123456789abcdefghijk"};

/* Segments of the list, or bytes of an alphabet that makes most patterns wrong. */
static void take_text(struct input *in, char *out, unsigned most, bool is_path)
{
    static const char letters[] = "//aabbAx{}{}*:.-\xff";
    size_t n = 0;
    unsigned how = (unsigned)take(in, 1), segments = 1 + take_below(in, how % 16 == 0 ? 70 : most);
    if (how % 8 == 7)
        n = (size_t)sprintf(out, "ab://h");
    for (unsigned i = 0; i < segments && n < TEXT - 40; i++) {
        out[n++] = '/';
        if (how % 8 == 6) {
            for (unsigned k = take_below(in, 12); k > 0; k--)
                out[n++] = letters[take_below(in, sizeof letters - 1)];
        } else {
            const char *piece = pieces[take_below(in, is_path ? 7 : ASH_COUNT(pieces))];
            n += (size_t)sprintf(out + n, "%s", is_path && take_below(in, 8) == 0 ? "items0b" : piece);
        }
    }
    out[n] = '\0';
    if (how % 32 == 5)
        memmove(out, out + 1, n);
}

static unsigned route_find(const struct naive *r)
{
    unsigned i = 0;
    while (i < count && route_prefer(&routes[i], r) != 0)
        i++;
    return i;
}

static void add(struct input *in, struct ash_router *r)
{
    char pattern[TEXT];
    const char *conflict = "";
    take_text(in, pattern, 6, false);
    if (count == ROUTES)
        return;
    struct naive *own = &routes[count];
    bool good = pattern_read(own, pattern);
    unsigned same = good ? route_find(own) : count;
    int status = ash_router_add(r, pattern, own, &conflict);
    fuzz_trace("    add \"%s\": %d\n", pattern, status);
    CHECK(good == (status == 0 || status == -EEXIST), "\"%s\": %d, %s", pattern, status, conflict);
    CHECK(status != 0 || conflict == NULL, "\"%s\": %s", pattern, conflict);
    if (!good)
        return;
    CHECK((status == -EEXIST) == (same < count), "\"%s\": %d, and %u is the same", pattern, status, same);
    CHECK(status == 0 || strcmp(conflict, routes[same].pattern) == 0, "\"%s\": in the way of %s", pattern, conflict);
    count += status == 0;
}

static void drop(struct input *in, struct ash_router *r)
{
    if (count == 0)
        return;
    unsigned i = take_below(in, count);
    fuzz_trace("    remove \"%s\"\n", routes[i].pattern);
    CHECK(ash_router_remove(r, routes[i].pattern) == 0, "\"%s\" was not there", routes[i].pattern);
    routes[i] = routes[--count];
}

static void match(struct input *in, const struct ash_router *r)
{
    char path[TEXT];
    struct ash_match m;
    struct ash_capture caps[ASH_ROUTER_CAPTURES], best_caps[ASH_ROUTER_CAPTURES];
    const struct naive *best = NULL;
    take_text(in, path, 6, true);
    size_t len = strlen(path), cut = len;
    char *exact = malloc(len + 1); /* so that a byte read too much is noticed by sanitizers */
    memcpy(exact, path, len);
    if ((flags & ASH_ROUTER_IGNORE_SLASH) && len > 1 && path[len - 1] == '/')
        cut = len - 1;
    for (unsigned i = 0; i < count; i++)
        if (route_fits(&routes[i], exact, cut, caps) && (best == NULL || route_prefer(&routes[i], best) < 0)) {
            best = &routes[i];
            memcpy(best_caps, caps, sizeof caps);
        }
    int status = ash_router_match(r, exact, len, &m);
    fuzz_trace("    match \"%s\": %s\n", path, status == 0 ? m.pattern : "none");
    CHECK((status == 0) == (best != NULL), "\"%s\": %d, not %s", path, status, best != NULL ? best->pattern : "none");
    if (status == 0) {
        CHECK(strcmp(m.pattern, best->pattern) == 0, "\"%s\" is of %s, not %s", path, m.pattern, best->pattern);
        for (unsigned i = 0; i < m.n; i++)
            CHECK(m.caps[i].ptr == best_caps[i].ptr && m.caps[i].len == best_caps[i].len &&
                      strcmp(m.caps[i].name, best_caps[i].name) == 0,
                  "\"%s\" of %s: capture %u is %.*s", path, m.pattern, i, (int)m.caps[i].len, m.caps[i].ptr);
    }
    free(exact);
}

void fuzz_routes(struct input *in)
{
    flags = take_below(in, 4);
    count = 0;
    struct ash_router *r = ash_router_create_with("fuzz", ASH_ROUTER_CONFIG(.flags = flags));
    while (input_left(in)) {
        for (unsigned n = take_below(in, 12); n > 0; n--)
            add(in, r);
        if (take_below(in, 8) == 0)
            drop(in, r);
        CHECK(ash_router_compile(r) == 0, "no memory");
        for (unsigned n = take_below(in, 40); n > 0; n--)
            match(in, r);
    }
    ash_router_destroy(r);
}
