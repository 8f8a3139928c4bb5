/*
 * The router (ashlar/router.h). The first test is how a program uses it; then the rules of patterns one by one, each
 * error, changes, and what it shows. Many patterns, threads and the rest are in test_router_many.c.
 */
#include "ashlar/layers.h"
#include "api/routes.h"
#include "tap.h"

#include <errno.h>
#include <stdlib.h>

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
    struct ash_router_stats s;
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
    return tap_done();
}
