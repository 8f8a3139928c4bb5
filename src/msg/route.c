#include "msg/route.h"

#include "msg/words.h"

#include <errno.h>
#include <string.h>

enum { NAME_MOST = 31 };

/* A pattern being read. */
struct reader {
    const char *at;  /* the next character */
    char *text;      /* where the next byte of text goes */
    char *name;      /* where the next name goes */
    struct route *r; /* what has been read */
    bool fold;
    bool rest; /* a {*name} was read */
    const char *why;
};

static int fail(struct reader *p, int error, const char *why)
{
    p->why = why;
    return error;
}

static bool is_name_char(char c)
{
    return (char_lower(c) >= 'a' && char_lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
}

/* {name} or {*name}, from the brace on. */
static int read_name(struct reader *p, struct part *part)
{
    struct route *r = p->r;
    bool rest = p->at[1] == '*';
    const char *begin = p->at + 1 + rest;
    size_t n = strcspn(begin, "{}/");
    if (begin[n] != '}')
        return fail(p, -EILSEQ, "a brace is not closed");
    if (part->kind != PART_TEXT)
        return fail(p, -EMLINK, "two names stand in one segment");
    if (rest && p->rest)
        return fail(p, -ENOTSUP, "there are two wildcards");
    if (n == 0)
        return fail(p, -ENODATA, "a name is empty");
    for (size_t i = 0; i < n; i++)
        if (!is_name_char(begin[i]))
            return fail(p, -EBADMSG, "a name holds more than letters, digits, - . _");
    if (n > NAME_MOST)
        return fail(p, -EBADMSG, "a name is longer than 31 characters");
    if (r->names == ASH_ROUTER_CAPTURES)
        return fail(p, -E2BIG, "there are more than 16 names");
    memcpy(p->name, begin, n);
    p->name[n] = '\0';
    for (unsigned i = 0; i < r->names; i++)
        if (strcmp(r->name[i], p->name) == 0)
            return fail(p, -ENOTUNIQ, "a name stands twice");
    r->name[r->names++] = p->name;
    p->name += n + 1;
    part->kind = rest ? PART_REST : PART_NAME;
    p->rest |= rest;
    p->at = begin + n + 1;
    return 0;
}

/* Up to the next slash or the end. */
static int read_part(struct reader *p)
{
    struct route *r = p->r;
    if (r->parts == ASH_ROUTER_SEGMENTS)
        return fail(p, -ENAMETOOLONG, "there are more than 64 segments");
    struct part *part = &r->part[r->parts++];
    *part = (struct part){.text = p->text, .kind = PART_TEXT};
    while (*p->at != '\0' && *p->at != '/') {
        char c = *p->at;
        if (c == '{' && p->at[1] != '{') {
            int status = read_name(p, part);
            if (status != 0)
                return status;
            continue;
        }
        bool brace = c == '{' || c == '}';
        if (brace && p->at[1] != c)
            return fail(p, -EILSEQ, "a brace is closed that was not opened");
        *p->text++ = p->fold ? char_lower(c) : c;
        *(part->kind == PART_TEXT ? &part->len : &part->after) += 1;
        p->at += 1 + brace;
    }
    if (part->kind == PART_NAME && part->len + part->after > 0)
        part->kind = PART_MIXED;
    if (part->kind == PART_REST && part->len + part->after > 0)
        return fail(p, -EDOM, "a wildcard shares its segment with text");
    return 0;
}

static int read_all(struct reader *p)
{
    for (;; p->at++) {
        int status = read_part(p);
        if (status != 0)
            return status;
        if (*p->at == '\0')
            break;
    }
    if (p->rest && p->r->part[p->r->parts - 1].kind != PART_REST)
        return fail(p, -ENOTEMPTY, "something follows a wildcard");
    return 0;
}

/* The length of "scheme://" when a host follows, or 0. */
static size_t scheme_length(const char *pattern)
{
    size_t n = 0;
    while (is_name_char(pattern[n]) || pattern[n] == '+')
        n++;
    bool host = n > 0 && strncmp(pattern + n, "://", 3) == 0 && strcspn(pattern + n + 3, "/") > 0;
    return host ? n + 3 : 0;
}

static unsigned count_parts(const char *pattern)
{
    unsigned n = 1;
    for (; *pattern != '\0'; pattern++)
        n += *pattern == '/';
    return n;
}

int route_parse(struct ash_arena *arena, const char *pattern, unsigned flags, struct route **out,
                const char **why)
{
    size_t len = strlen(pattern);
    bool rooted = pattern[0] == '/';
    if (!rooted && scheme_length(pattern) == 0) {
        *why = "a pattern begins with a slash or with scheme://host";
        return -EINVAL;
    }
    if (len > ASH_ROUTER_PATTERN) {
        *why = "it is longer than 4095 bytes";
        return -ENAMETOOLONG;
    }
    unsigned parts = (unsigned)size_min(count_parts(pattern), ASH_ROUTER_SEGMENTS);
    *why = "there is no memory";
    struct route *r = ash_arena_zalloc(arena, sizeof *r);
    struct part *part = ash_arena_alloc(arena, parts * sizeof *part);
    char *own = ash_arena_strdup(arena, pattern);
    /* The text; every name has a NUL in place of a brace. */
    char *text = ash_arena_alloc(arena, 2 * len + 2);
    if (r == NULL || part == NULL || own == NULL || text == NULL)
        return -ENOMEM;
    *r = (struct route){.pattern = own, .part = part, .rooted = rooted};
    struct reader p = {.at = pattern + rooted,
                       .text = text,
                       .name = text + len + 1,
                       .r = r,
                       .fold = flags & ASH_ROUTER_IGNORE_CASE};
    int status = read_all(&p);
    if ((flags & ASH_ROUTER_IGNORE_SLASH) && status == 0 && r->parts > 1 &&
        part[r->parts - 1].kind == PART_TEXT && part[r->parts - 1].len == 0)
        r->parts--;
    *out = r;
    *why = p.why;
    return status;
}

/* ---- the order ---- */

static int compare(size_t a, size_t b)
{
    return (a > b) - (a < b);
}

static int part_compare(const struct part *a, const struct part *b)
{
    if (a->kind != b->kind)
        return compare(a->kind, b->kind);
    if (a->kind == PART_TEXT) {
        int text = memcmp(a->text, b->text, size_min(a->len, b->len));
        return text != 0 ? text : compare(a->len, b->len);
    }
    if (a->len != b->len)
        return compare(b->len, a->len); /* the longer beginning */
    if (a->after != b->after)
        return compare(b->after, a->after);
    return memcmp(a->text, b->text, (size_t)a->len + a->after);
}

unsigned route_shared(const struct route *a, const struct route *b)
{
    unsigned n = 0;
    while (a->rooted == b->rooted && n < a->parts && n < b->parts &&
           part_compare(&a->part[n], &b->part[n]) == 0)
        n++;
    return n;
}

int route_compare(const struct route *a, const struct route *b)
{
    if (a->rooted != b->rooted)
        return a->rooted ? -1 : 1;
    unsigned n = route_shared(a, b);
    if (n == a->parts || n == b->parts)
        return compare(a->parts, b->parts);
    return part_compare(&a->part[n], &b->part[n]);
}
