/*
 * What the tests of the router share: routers from lists of patterns, and what they say of a path.
 */
#ifndef ASH_TESTS_ROUTES_H
#define ASH_TESTS_ROUTES_H

#include "ashlar/layers.h"
#include "tap.h"

#include <stdint.h>
#include <stdlib.h>

__attribute__((unused)) static void *number(uintptr_t n)
{
    return (void *)n;
}

__attribute__((unused)) static struct ash_router_stats stats(const struct ash_router *r)
{
    struct ash_router_stats s;
    ash_router_stats(r, &s);
    return s;
}

/* The pattern that a path belongs to, and its captures behind it: "/a/{x} x=1"; "" for none. */
__attribute__((unused)) static const char *route_of(const struct ash_router *r, const char *path)
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

__attribute__((unused)) static struct ash_router *router_of(unsigned flags, const char *const *patterns, unsigned n)
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

#endif
