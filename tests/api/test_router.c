/*
 * The router (ashlar/router.h). The first test is how a program uses it; then the rules of patterns one by one, each
 * error, random sets of patterns against a matcher that tries all of them, threads, fork, and memory that runs out.
 */
#include "ashlar/layers.h"
#include "ashlar/malloc.h"
#include "api/github.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

static uint64_t random_state = 88172645463325252u;

static unsigned random_below(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)((random_state >> 32) * n >> 32);
}

static void *number(uintptr_t n)
{
    return (void *)n;
}

static struct ash_router_stats stats(const struct ash_router *r)
{
    struct ash_router_stats s = {.struct_size = sizeof s};
    ash_router_stats(r, &s);
    return s;
}

/* The pattern that a path belongs to, and its captures behind it: "/a/{x} x=1"; "" for none. */
static const char *route_of(const struct ash_router *r, const char *path)
{
    static char text[1024];
    struct ash_match m;
    size_t len = strlen(path);
    char *exact = malloc(len + 1); /* so that memcheck sees a byte read too much */
    memcpy(exact, path, len);
    int status = ash_router_match(r, exact, len, &m);
    int n = snprintf(text, sizeof text, "%s", status == 0 ? m.pattern : "");
    for (unsigned i = 0; status == 0 && i < m.n; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %s=%.*s", m.caps[i].name, (int)m.caps[i].len, m.caps[i].ptr);
    free(exact);
    return text;
}

static struct ash_router *router_of(unsigned flags, const char *const *patterns, unsigned n)
{
    struct ash_router *r = ash_router_create_with("test", ASH_ROUTER_CONFIG(.flags = flags));
    for (unsigned i = 0; i < n; i++)
        if (ash_router_add(r, patterns[i], number(i + 1), NULL) != 0)
            tap_line("# %s is refused", patterns[i]);
    ash_router_compile(r);
    return r;
}

#define ROUTER(flags, ...)                                                                                             \
    router_of(flags, (const char *const[]){__VA_ARGS__},                                                               \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* ---- how it is used ---- */

static int list_users, show_user, send_file;

static void test_example(void)
{
    struct ash_router *r = ash_router_create();
    const char *conflict;
    is_int(ash_router_add(r, "/users", &list_users, &conflict), 0, "a pattern of text");
    is_int(ash_router_add(r, "/users/{id}", &show_user, &conflict), 0, "one with a name");
    is_int(ash_router_add(r, "/files/{dir}/{*path}", &send_file, &conflict), 0, "one with a wildcard");
    is_int(ash_router_add(r, "/users/{name}", &show_user, &conflict), -EEXIST, "one that differs in the name alone");
    is_str(conflict, "/users/{id}", "the other is told");
    is_int(ash_router_compile(r), 0, "compiled");

    struct ash_match m;
    is_int(ash_router_match(r, "/users", 6, &m), 0, "text is found");
    ok(m.handler == &list_users && m.n == 0, "its handler");
    const char *path = "/files/images/2024/march/1.png";
    is_int(ash_router_match(r, path, strlen(path), &m), 0, "the wildcard");
    ok(m.handler == &send_file && m.n == 2, "its handler, and two captures");
    ok(m.caps[0].len == 6 && memcmp(m.caps[0].ptr, "images", 6) == 0, "the directory");
    const struct ash_capture *rest = ash_match_capture(&m, "path");
    ok(rest != NULL && rest->ptr == path + 14 && rest->len == 16, "the path: a view of what was matched");
    ok(ash_match_capture(&m, "id") == NULL, "no capture of another pattern");
    is_int(ash_router_match(r, "/nobody", 7, &m), -ENOENT, "a path of nobody");
    ok(m.handler == NULL && m.pattern == NULL && m.n == 0, "leaves nothing");
    is_int(ash_router_destroy(r), 0, "the end");
}

/* ---- rules ---- */

static void test_preference(void)
{
    struct ash_router *r =
        ROUTER(0, "/", "/a", "/a/", "/{x}", "/{*r}", "/a/b", "/a/{x}", "/{x}/b", "/{x}/c/{y}", "/a/c/d", "/v{n}", "/v{n}.json",
               "/ve{n}", "/{n}.xml", "/a/{*r}", "/{{x}}", "/long-text-of-more-than-sixteen", "/long-text-OF-more-than-sixteen");
    static const char *const cases[][2] = {
        {"/", "/"},
        {"", ""},
        {"a", ""},
        {"//", "/{*r} r=/"},
        {"/a", "/a"},
        {"/a/", "/a/"},
        {"/b", "/{x} x=b"},
        {"/b/", "/{*r} r=b/"},
        {"/a/b", "/a/b"},
        {"/a/c", "/a/{x} x=c"},
        {"/z/b", "/{x}/b x=z"},
        {"/a/c/d", "/a/c/d"},
        {"/a/c/e", "/a/{*r} r=c/e"},
        {"/z/c/e", "/{x}/c/{y} x=z y=e"},
        {"/z/c/", "/{*r} r=z/c/"},
        {"/z/c/e/f", "/{*r} r=z/c/e/f"},
        {"/v1", "/v{n} n=1"},
        {"/v", "/{x} x=v"},
        {"/v1.json", "/v{n}.json n=1"},
        {"/v.json", "/v{n} n=.json"},
        {"/ve1.json", "/ve{n} n=1.json"},
        {"/ve", "/v{n} n=e"},
        {"/v.xml", "/v{n} n=.xml"},
        {"/w.xml", "/{n}.xml n=w"},
        {"/.xml", "/{x} x=.xml"},
        {"/{x}", "/{{x}}"},
        {"/long-text-of-more-than-sixteen", "/long-text-of-more-than-sixteen"},
        {"/long-text-oF-more-than-sixteen", "/{x} x=long-text-oF-more-than-sixteen"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char what[100];
        snprintf(what, sizeof what, "\"%s\"", cases[i][0]);
        is_str(route_of(r, cases[i][0]), cases[i][1], what);
    }
    struct ash_match m;
    is_int(ash_router_match(r, "/a\0b", 4, &m), 0, "a NUL is a byte of the path");
    is_str(m.pattern, "/{x}", "and not the end of text");
    ash_router_destroy(r);
}

static void test_schemes(void)
{
    struct ash_router *r = ROUTER(0, "svc://orders/new", "svc://orders/{id}", "svc://{host}/ping", "svc+tls://orders/new",
                                  "svc://orders", "/orders/new");
    is_str(route_of(r, "svc://orders/new"), "svc://orders/new", "scheme, host, path");
    is_str(route_of(r, "svc://orders/7"), "svc://orders/{id} id=7", "a name in the path");
    is_str(route_of(r, "svc://stock/ping"), "svc://{host}/ping host=stock", "a name for the host");
    is_str(route_of(r, "svc://orders/ping"), "svc://orders/{id} id=ping", "text first, also there");
    is_str(route_of(r, "svc+tls://orders/new"), "svc+tls://orders/new", "another scheme");
    is_str(route_of(r, "svc://orders"), "svc://orders", "no path");
    is_str(route_of(r, "svc:/orders/new"), "", "one slash is not two");
    is_str(route_of(r, "/orders/new"), "/orders/new", "no scheme");
    is_str(route_of(r, "orders/new"), "", "neither");
    ash_router_destroy(r);
}

static void test_policies(void)
{
    struct ash_router *r =
        ROUTER(ASH_ROUTER_IGNORE_CASE, "/Users/{Id}", "/users/List", "/F{n}.Json", "/Subscriptions-Of-Everybody", "/@[`{{");
    is_str(route_of(r, "/USERS/Bob"), "/Users/{Id} Id=Bob", "any case, captures as they are");
    is_str(route_of(r, "/users/LIST"), "/users/List", "text of both patterns");
    is_str(route_of(r, "/fA.jSON"), "/F{n}.Json n=A", "beginnings and ends");
    is_str(route_of(r, "/SUBSCRIPTIONS-of-everybody"), "/Subscriptions-Of-Everybody", "long text");
    is_str(route_of(r, "/@[`{"), "/@[`{{", "what is beside the letters");
    is_str(route_of(r, "/`[@{"), "", "is not folded");
    is_str(route_of(r, "/\xd5sers/List"), "", "nor are other bytes");
    const char *conflict;
    is_int(ash_router_add(r, "/USERS/list", NULL, &conflict), -EEXIST, "the same but for case");
    is_str(conflict, "/users/List", "is told as it was added");
    ash_router_destroy(r);

    r = ROUTER(ASH_ROUTER_IGNORE_SLASH, "/", "/a/", "/b", "/c/{x}/", "/d/{*r}", "x://y/");
    is_str(route_of(r, "/a"), "/a/", "a slash in the pattern");
    is_str(route_of(r, "/a/"), "/a/", "in both");
    is_str(route_of(r, "/b/"), "/b", "in the path");
    is_str(route_of(r, "/b//"), "", "two are not one");
    is_str(route_of(r, "/c/1/"), "/c/{x}/ x=1", "behind a name");
    is_str(route_of(r, "/d/e/"), "/d/{*r} r=e", "behind a wildcard");
    is_str(route_of(r, "/d/"), "", "which is not empty");
    is_str(route_of(r, "/"), "/", "the root");
    is_str(route_of(r, "x://y"), "x://y/", "a host");
    is_int(ash_router_add(r, "/a", NULL, &conflict), -EEXIST, "the same but for the slash");
    is_str(conflict, "/a/", "is told");
    ash_router_destroy(r);
}

static void test_errors(void)
{
    static const struct {
        const char *pattern;
        int error;
    } bad[] = {{"", -EINVAL},
               {"a/b", -EINVAL},
               {"://host/a", -EINVAL},
               {"svc:///a", -EINVAL},
               {"svc://", -EINVAL},
               {"/{a", -EILSEQ},
               {"/{a/b}", -EILSEQ},
               {"/{", -EILSEQ},
               {"/a}", -EILSEQ},
               {"/a}b", -EILSEQ},
               {"/{a}}", -EILSEQ},
               {"/{a{b}", -EILSEQ},
               {"/{}", -ENODATA},
               {"/{*}", -ENODATA},
               {"/{a b}", -EBADMSG},
               {"/{a*}", -EBADMSG},
               {"/{01234567890123456789012345678901}", -EBADMSG},
               {"/{a}/{a}", -ENOTUNIQ},
               {"/{a}/{*a}", -ENOTUNIQ},
               {"/{a}{b}", -EMLINK},
               {"/{a}-{b}", -EMLINK},
               {"/{*a}/{*b}", -ENOTSUP},
               {"/{*a}/b", -ENOTEMPTY},
               {"/{*a}/", -ENOTEMPTY},
               {"/x{*a}", -EDOM},
               {"/{*a}x", -EDOM},
               {"/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{p}/{q}", -E2BIG}};
    struct ash_router *r = ash_router_create();
    const char *why;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        why = NULL;
        int status = ash_router_add(r, bad[i].pattern, NULL, &why);
        ok(status == bad[i].error && why != NULL && why[0] != '\0', "\"%s\": %d, %s", bad[i].pattern, status, why);
    }
    static char deep[2 * 65 + 1], longest[4097 + 1];
    for (unsigned i = 0; i < 65; i++)
        memcpy(deep + 2 * i, "/x", 2);
    is_int(ash_router_add(r, deep, NULL, &why), -ENAMETOOLONG, "65 segments");
    deep[2 * 64] = '\0';
    memset(longest, 'x', 4096);
    longest[0] = '/';
    is_int(ash_router_add(r, longest, NULL, &why), -ENAMETOOLONG, "4096 bytes");
    longest[4095] = '\0';
    is_int((int)stats(r).routes, 0, "nothing came in");
    is_int(ash_router_add(r, deep, number(1), &why), 0, "64 segments");
    ok(why == NULL, "nothing to tell");
    is_int(ash_router_add(r, longest, number(2), NULL), 0, "4095 bytes");
    const char *most = "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{pppppppppppppppppppppppppppppp}";
    is_int(ash_router_add(r, most, number(3), NULL), 0, "16 names");
    ash_router_compile(r);
    is_str(route_of(r, deep), deep, "the deepest is found");
    is_str(route_of(r, "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17"), "", "not with a segment more");
    struct ash_match m;
    is_int(ash_router_match(r, longest, 4095, &m), 0, "the longest");
    longest[4000] = 'y';
    is_int(ash_router_match(r, longest, 4095, &m), -ENOENT, "not with another byte");
    is_int(ash_router_match(r, "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16", 39, &m), 0, "16 captures");
    ok(m.n == 16 && m.caps[15].len == 2 && memcmp(m.caps[15].ptr, "16", 2) == 0, "the last of them");
    ash_router_destroy(r);
}

static void test_arguments(void)
{
    struct ash_router *r = ash_router_create();
    struct ash_match m;
    struct ash_router_stats s = {.struct_size = 8};
    const char *why = NULL;
    is_int(ash_router_destroy(NULL), -EINVAL, "destroy: no router");
    is_int(ash_router_add(NULL, "/", NULL, &why), -EINVAL, "add: no router");
    is_int(ash_router_add(r, NULL, NULL, &why), -EINVAL, "add: no pattern");
    is_int(ash_router_remove(NULL, "/"), -EINVAL, "remove: no router");
    is_int(ash_router_remove(r, NULL), -EINVAL, "remove: no pattern");
    is_int(ash_router_remove(r, "/{"), -EILSEQ, "remove: a wrong pattern");
    is_int(ash_router_remove(r, "/"), -ENOENT, "remove: one that is not there");
    is_int(ash_router_compile(NULL), -EINVAL, "compile: no router");
    is_int(ash_router_trim(NULL), -EINVAL, "trim: no router");
    is_int(ash_router_trim(r), 0, "trim: nothing was compiled");
    is_int(ash_router_match(NULL, "/", 1, &m), -EINVAL, "match: no router");
    is_int(ash_router_match(r, NULL, 1, &m), -EINVAL, "match: no path");
    is_int(ash_router_match(r, "/", 1, NULL), -EINVAL, "match: nowhere to");
    is_int(ash_router_match(r, "/", 1, &m), -ENOENT, "match: before the first compile");
    is_int((int)ash_router_steps(NULL, "/", 1), -EINVAL, "steps: no router");
    is_int((int)ash_router_steps(r, NULL, 1), -EINVAL, "steps: no path");
    is_int((int)ash_router_steps(r, "", 0), 0, "steps: none");
    is_int(ash_router_walk(r, NULL, NULL), -EINVAL, "walk: no function");
    is_int(ash_router_walk(NULL, NULL, NULL), -EINVAL, "walk: no router");
    is_int(ash_router_stats(NULL, &s), -EINVAL, "stats: no router");
    is_int(ash_router_stats(r, NULL), -EINVAL, "stats: nowhere to");
    is_int(ash_router_stats(r, &s), -EINVAL, "stats: too small a struct");
    is_int(ash_router_dump(NULL, 1), -EINVAL, "dump: no router");
    is_int(ash_router_dump(r, -1), -EBADF, "dump: no descriptor");
    is_int(ash_router_print(NULL, 1), -EINVAL, "print: no router");
    ok(ash_match_capture(NULL, "x") == NULL && ash_match_capture(&m, NULL) == NULL, "capture: neither");
    errno = 0;
    ok(ash_router_create_with("", NULL) == NULL && errno == EINVAL, "an empty name");
    errno = 0;
    ok(ash_router_create_with(NULL, ASH_ROUTER_CONFIG(.flags = 4)) == NULL && errno == EINVAL, "an unknown flag");
    is_int(ash_router_compile(r), 0, "no patterns compile");
    is_int(ash_router_match(r, "/", 1, &m), -ENOENT, "and match nothing");
    ash_router_destroy(r);
}

/* ---- changes ---- */

static void test_changes(void)
{
    struct ash_router *r = ROUTER(0, "/a", "/b/{x}");
    is_int(ash_router_add(r, "/c", number(3), NULL), 0, "added after a compile");
    is_str(route_of(r, "/c"), "", "it waits for the next");
    is_int((int)stats(r).pending, 1, "and is counted");
    const char *name, *pattern;
    struct ash_match m;
    ash_router_match(r, "/b/1", 4, &m);
    name = m.caps[0].name;
    pattern = m.pattern;
    is_int(ash_router_remove(r, "/b/{other}"), 0, "removed, by any name");
    is_str(route_of(r, "/b/2"), "/b/{x} x=2", "it waits likewise");
    is_int(ash_router_compile(r), 0, "compiled");
    is_str(route_of(r, "/c"), "/c", "there");
    is_str(route_of(r, "/b/2"), "", "gone");
    is_int((int)stats(r).retired, 1, "the older block is kept");
    ok(stats(r).retired_bytes > 0 && stats(r).bytes > 0, "its bytes are told");
    is_int(ash_router_trim(r), 1, "until it is trimmed");
    is_int((int)stats(r).retired, 0, "none is left");
    ok(strcmp(name, "x") == 0 && strcmp(pattern, "/b/{x}") == 0, "names and patterns of removed routes live on");
    for (int i = 0; i < 5; i++)
        ash_router_compile(r);
    is_int(ash_router_trim(r), 5, "five at once");
    is_str(route_of(r, "/a"), "/a", "the last one stays");
    is_int((int)stats(r).compiles, 7, "compiles are counted");
    ash_router_destroy(r);
}

static int collect(const char *pattern, void *handler, void *user)
{
    (void)handler;
    strcat(user, pattern);
    return strcmp(pattern, "/{x}") == 0 ? 7 : 0;
}

static const char *text_of(int (*write_text)(const struct ash_router *, int), const struct ash_router *r)
{
    static char text[4096];
    int ends[2];
    if (pipe(ends) != 0)
        return "";
    is_int(write_text(r, ends[1]), 0, "written");
    close(ends[1]);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    close(ends[0]);
    return text;
}

static void test_looking(void)
{
    char walked[200] = "";
    struct ash_router *r = ROUTER(0, "/{x}", "/b/{y}z/{{", "/b", "svc://h", "/b/{*all}");
    is_int(ash_router_walk(r, collect, walked), 7, "a walk that its function ends");
    is_str(walked, "/b/b/{y}z/{{/b/{*all}/{x}", "in the order of preference");
    is_str(text_of(ash_router_print, r),
           "/b  -> /b\n  /{y}z\n    /{{  -> /b/{y}z/{{\n  /{*all}  -> /b/{*all}\n/{x}  -> /{x}\n"
           "svc:\n  /\n    /h  -> svc://h\n",
           "the tree");
    const char *dump = text_of(ash_router_dump, r);
    ok(strstr(dump, "router test: 5 patterns, 0 changes") != NULL, "the name and the number");
    ok(strstr(dump, "matched 5  nodes 8  deepest 3  ") != NULL, "what was compiled: %s", dump);
    ash_router_destroy(r);
}

/* ---- many ---- */

static void shuffle(const char **patterns, unsigned n)
{
    for (unsigned i = n; i > 1; i--) {
        unsigned k = random_below(i);
        const char *swap = patterns[k];
        patterns[k] = patterns[i - 1];
        patterns[i - 1] = swap;
    }
}

static void test_github(void)
{
    struct ash_router *r = router_of(0, github_patterns, GITHUB_PATTERNS);
    is_int((int)stats(r).compiled, GITHUB_PATTERNS, "a large service");
    ok(stats(r).bytes <= 65536, "in a block of %d bytes", (int)stats(r).bytes);
    int wrong = 0;
    for (unsigned i = 0; i < GITHUB_PATTERNS; i++) {
        char path[200];
        struct ash_match m;
        size_t len = github_path(path, github_patterns[i]);
        wrong += ash_router_match(r, path, len, &m) != 0 || m.handler != number(i + 1);
        wrong += ash_router_steps(r, path, len) > 10;
    }
    is_int(wrong, 0, "each path to its own, in ten steps at most");
    ash_router_destroy(r);
}

/* Text whose hashes are alike in every part that tables are made of, and ten thousand siblings. */
static void test_siblings(void)
{
    enum { MANY = 10000 };
    struct ash_router *r = ash_router_create();
    char pattern[64];
    int wrong = 0;
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(pattern, sizeof pattern, i % 2 ? "/siblings%06u" : "/s/%u/{x}", i);
        wrong += ash_router_add(r, pattern, number(i + 1), NULL) != 0;
    }
    for (unsigned i = 0; i < 200; i++) { /* the same eight bytes in front and at the end, and one length */
        snprintf(pattern, sizeof pattern, "/headhead-%03u-tailtail", i);
        wrong += ash_router_add(r, pattern, number(MANY + i + 1), NULL) != 0;
    }
    is_int(wrong, 0, "ten thousand patterns");
    is_int(ash_router_compile(r), 0, "compile");
    int64_t steps = 0;
    for (unsigned i = 0; i < MANY; i++) {
        struct ash_match m;
        size_t len = (size_t)snprintf(pattern, sizeof pattern, i % 2 ? "/siblings%06u" : "/s/%u/x", i);
        wrong += ash_router_match(r, pattern, len, &m) != 0 || m.handler != number(i + 1);
        steps += ash_router_steps(r, pattern, len);
    }
    for (unsigned i = 0; i < 200; i++) {
        struct ash_match m;
        size_t len = (size_t)snprintf(pattern, sizeof pattern, "/headhead-%03u-tailtail", i);
        wrong += ash_router_match(r, pattern, len, &m) != 0 || m.handler != number(MANY + i + 1);
    }
    is_int(wrong, 0, "each is found");
    ok(steps < 4 * MANY, "in few steps: %d for %d", (int)steps, MANY);
    ash_router_destroy(r);
}

/* A tree in which every level has two ways, and a path that fits all of them until its end. */
static void test_adversary(void)
{
    enum { LEVELS = 10, DEEP = 1 << 20 };
    struct ash_router *r = ash_router_create();
    char pattern[LEVELS * 8 + 8];
    for (unsigned ways = 0; ways < 1u << LEVELS; ways++) {
        size_t n = 0;
        for (unsigned level = 0; level < LEVELS; level++)
            n += (size_t)snprintf(pattern + n, sizeof pattern - n, ways >> level & 1 ? "/{n%u}" : "/a", level);
        snprintf(pattern + n, sizeof pattern - n, "/end");
        ash_router_add(r, pattern, NULL, NULL);
    }
    ash_router_compile(r);
    int64_t nodes = (int64_t)stats(r).nodes;
    is_int(nodes, (2 << LEVELS) - 2 + (1 << LEVELS), "a full tree of two ways");
    int64_t steps = ash_router_steps(r, "/a/a/a/a/a/a/a/a/a/a/no", 23);
    is_int(steps, nodes, "a path that fits until the end looks at each once");
    char *deep = malloc(DEEP);
    for (unsigned i = 0; i < DEEP; i++)
        deep[i] = i % 2 ? 'a' : '/';
    steps = ash_router_steps(r, deep, DEEP);
    is_int(steps, nodes, "a path of half a million segments at no more");
    memset(deep + 1, 'a', DEEP - 1);
    ok(ash_router_steps(r, deep, DEEP) <= 2, "a segment of a million bytes is two steps at most");
    memset(deep, '/', DEEP);
    is_int(ash_router_steps(r, deep, DEEP), 2, "slashes alone: an empty segment is neither text nor a name");
    free(deep);
    ash_router_destroy(r);
}

/* ---- against a matcher that tries every pattern ---- */

enum { SEGMENTS = 5, TEXT = 8 };

struct naive {
    char text[SEGMENTS * TEXT + 1];
    unsigned segments;
    struct {
        int kind; /* 0 text, 1 mixed, 2 name, 3 rest: the order of preference */
        char before[TEXT], after[TEXT];
    } at[SEGMENTS];
};

/* Segments of the letters a and b, so that many patterns fit a path. */
static void naive_draw(struct naive *p)
{
    static const char *const texts[] = {"", "a", "b", "ab", "aab"};
    memset(p, 0, sizeof *p);
    p->segments = 1 + random_below(SEGMENTS);
    for (unsigned i = 0; i < p->segments; i++) {
        p->at[i].kind = (int)random_below(i + 1 == p->segments && random_below(8) == 0 ? 4 : 3);
        if (p->at[i].kind < 2)
            strcpy(p->at[i].before, texts[random_below(5)]);
        if (p->at[i].kind == 1)
            strcpy(p->at[i].after, texts[random_below(5)]);
        if (p->at[i].kind == 1 && p->at[i].before[0] == '\0' && p->at[i].after[0] == '\0')
            p->at[i].kind = 2;
        char name[8] = "";
        if (p->at[i].kind > 0)
            snprintf(name, sizeof name, p->at[i].kind == 3 ? "{*n%u}" : "{n%u}", i);
        sprintf(p->text + strlen(p->text), "/%s%s%s", p->at[i].before, name, p->at[i].after);
    }
}

/* What the pattern makes of the path, as route_of writes it, or false. */
static int naive_match(const struct naive *p, const char *path, char *out)
{
    int n = sprintf(out, "%s", p->text);
    for (unsigned i = 0; i < p->segments; i++) {
        if (*path++ != '/')
            return 0;
        size_t len = p->at[i].kind == 3 ? strlen(path) : strcspn(path, "/");
        size_t before = strlen(p->at[i].before), after = strlen(p->at[i].after);
        if (p->at[i].kind == 0 ? len != before : len <= before + after)
            return 0;
        if (memcmp(path, p->at[i].before, before) != 0 || memcmp(path + len - after, p->at[i].after, after) != 0)
            return 0;
        if (p->at[i].kind > 0)
            n += sprintf(out + n, " n%u=%.*s", i, (int)(len - before - after), path + before);
        path += len;
    }
    return *path == '\0';
}

static int naive_better(const struct naive *a, const struct naive *b)
{
    for (unsigned i = 0; i < a->segments && i < b->segments; i++) {
        if (a->at[i].kind != b->at[i].kind)
            return a->at[i].kind < b->at[i].kind;
        size_t before[2] = {strlen(a->at[i].before), strlen(b->at[i].before)};
        size_t after[2] = {strlen(a->at[i].after), strlen(b->at[i].after)};
        if (before[0] != before[1])
            return before[0] > before[1];
        if (after[0] != after[1])
            return after[0] > after[1];
    }
    return 0;
}

static void test_random(unsigned seed, unsigned flags)
{
    enum { SETS = 60, MOST = 60, PATHS = 400 };
    static struct naive drawn[MOST];
    static char want[1024], got[1024];
    int wrong = 0, found = 0, refused = 0;
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
    for (unsigned set = 0; set < SETS; set++) {
        struct ash_router *r[2];
        const char *order[MOST];
        unsigned n = 0;
        r[0] = ash_router_create_with(NULL, ASH_ROUTER_CONFIG(.flags = flags));
        r[1] = ash_router_create_with(NULL, ASH_ROUTER_CONFIG(.flags = flags));
        for (unsigned i = 0; i < MOST; i++) {
            naive_draw(&drawn[n]);
            int known = 0;
            for (unsigned k = 0; k < n; k++)
                known |= strcmp(drawn[k].text, drawn[n].text) == 0;
            int status = ash_router_add(r[0], drawn[n].text, NULL, NULL);
            wrong += status != (known ? -EEXIST : 0);
            refused += known;
            if (!known) {
                order[n] = drawn[n].text;
                n++;
            }
        }
        shuffle(order, n);
        for (unsigned i = 0; i < n; i++)
            wrong += ash_router_add(r[1], order[i], NULL, NULL) != 0;
        ash_router_compile(r[0]);
        ash_router_compile(r[1]);
        wrong += stats(r[0]).bytes != stats(r[1]).bytes || stats(r[0]).nodes != stats(r[1]).nodes;
        for (unsigned i = 0; i < PATHS; i++) {
            char path[100] = "/";
            unsigned len = 1 + random_below(i % 4 == 0 ? 98 : 20);
            for (unsigned k = 1; k < len; k++)
                path[k] = random_below(3) == 0 ? '/' : "ab"[random_below(2)];
            path[len] = '\0';
            const struct naive *best = NULL;
            char text[1024];
            want[0] = '\0';
            for (unsigned k = 0; k < n; k++)
                if (naive_match(&drawn[k], path, text) && (best == NULL || naive_better(&drawn[k], best))) {
                    best = &drawn[k];
                    strcpy(want, text);
                }
            strcpy(got, route_of(r[0], path));
            int bad = strcmp(got, want) != 0 || strcmp(route_of(r[1], path), want) != 0;
            if (bad && wrong == 0)
                tap_line("# set %u, %s: got \"%s\", want \"%s\"", set, path, got, want);
            wrong += bad || ash_router_steps(r[0], path, len) > (int64_t)stats(r[0]).nodes;
            found += best != NULL;
        }
        ash_router_destroy(r[0]);
        ash_router_destroy(r[1]);
    }
    is_int(wrong, 0, "random sets and paths agree with trying every pattern, in two orders");
    ok(found > SETS * PATHS / 10 && found < SETS * PATHS, "seed %u: %d of %d found, %d patterns twice", seed, found,
       SETS * PATHS, refused);
}

/* ---- threads, fork, memory ---- */

struct race {
    struct ash_router *r;
    _Atomic(int) over;
};

/* Every state has /n/0 to /n/k and no more: whoever finds one finds all below it. */
static void *reader(void *arg)
{
    struct race *race = arg;
    uintptr_t wrong = 0, seen = 0;
    while (!race->over) {
        struct ash_match m;
        int known = 1;
        for (unsigned i = 64; i-- > 0;) {
            char path[16];
            size_t len = (size_t)snprintf(path, sizeof path, "/n/%u/x", i);
            int status = ash_router_match(race->r, path, len, &m);
            if (status == 0) {
                wrong += m.handler != number(i + 1) || m.n != 1 || m.caps[0].ptr != path + len - 1;
                known = 0;
                seen++;
            } else
                wrong += !known;
        }
    }
    return number(wrong != 0 ? 0 : seen + 1);
}

static void test_threads(unsigned threads)
{
    struct race race = {.r = ash_router_create()};
    pthread_t id[8];
    for (unsigned i = 0; i < threads; i++)
        pthread_create(&id[i], NULL, reader, &race);
    int failed = 0;
    for (unsigned i = 0; i < 64; i++) {
        char pattern[16];
        snprintf(pattern, sizeof pattern, "/n/%u/{x}", i);
        failed += ash_router_add(race.r, pattern, number(i + 1), NULL) != 0 || ash_router_compile(race.r) != 0;
        usleep(500);
    }
    race.over = 1;
    int wrong = 0;
    for (unsigned i = 0; i < threads; i++) {
        void *result;
        pthread_join(id[i], &result);
        wrong += result == NULL;
    }
    is_int(failed, 0, "patterns are added and compiled");
    ok(wrong == 0, "while %u threads match: what they see is whole", threads);
    is_int(ash_router_trim(race.r), 63, "what they may have read goes when they are done");
    ash_router_destroy(race.r);
}

static void test_fork(void)
{
    struct ash_router *r = ROUTER(0, "/a", "/b/{x}");
    pid_t child = fork();
    if (child == 0) {
        int good = strcmp(route_of(r, "/b/1"), "/b/{x} x=1") == 0 && ash_router_add(r, "/c", NULL, NULL) == 0 &&
                   ash_router_compile(r) == 0 && strcmp(route_of(r, "/c"), "/c") == 0 && ash_router_trim(r) == 1 &&
                   ash_router_destroy(r) == 0;
        _exit(good ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    is_int(status, 0, "a child matches, adds and compiles");
    is_str(route_of(r, "/c"), "", "in a copy of its own");
    ash_router_destroy(r);
}

static void test_memory(void)
{
    struct ash_router *r = ROUTER(0, "/a");
    int refused = 0, odd = 0;
    size_t limit, used;
    ash_limit_get(&limit, &used);
    if (ash_limit_set(used + (1 << 20)) != 0) {
        skip("limits are not to be had", 3);
        ash_router_destroy(r);
        return;
    }
    for (unsigned i = 0; i < 20000; i++) {
        char pattern[64];
        const char *why;
        snprintf(pattern, sizeof pattern, "/%u/{name}/and/more", i);
        int status = ash_router_add(r, pattern, NULL, &why);
        refused += status == -ENOMEM;
        odd += status != 0 && (status != -ENOMEM || why == NULL);
    }
    odd += ash_router_compile(r) != -ENOMEM;
    ash_limit_set(0);
    ok(refused > 0 && odd == 0, "without memory patterns are refused: %d", refused);
    is_str(route_of(r, "/a"), "/a", "what was compiled stays");
    is_int(ash_router_compile(r), 0, "with memory the rest is compiled");
    is_int((int)stats(r).routes, 20001 - refused, "and nothing is lost");
    is_str(route_of(r, "/0/x/and/more"), "/0/{name}/and/more name=x", "the first of them");
    ash_router_destroy(r);
}

int main(void)
{
    test_example();
    test_preference();
    test_schemes();
    test_policies();
    test_errors();
    test_arguments();
    test_changes();
    test_looking();
    test_github();
    test_siblings();
    test_adversary();
    for (unsigned seed = 1; seed <= 4; seed++)
        test_random(seed, seed == 4 ? ASH_ROUTER_IGNORE_CASE : 0);
    test_threads(2);
    test_threads(8);
    test_fork();
    test_memory();
    return tap_done();
}
