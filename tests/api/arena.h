/*
 * What the tests of arenas have in common: their figures, refusals, and cleanups that leave a trail.
 */
#ifndef ASH_TESTS_ARENA_H
#define ASH_TESTS_ARENA_H

#include "ashlar/ashlar.h"
#include "tap.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#define HELPER __attribute__((unused)) static

enum { KIB = 1024, MIB = 1024 * 1024 };

HELPER struct ash_arena_stats stats(const struct ash_arena *arena)
{
    struct ash_arena_stats s;
    ash_arena_stats(arena, &s);
    return s;
}

/* Blocks and bytes that the process has. */
HELPER uint64_t live(void)
{
    struct ash_stats s;
    s.struct_size = sizeof s;
    ash_stats_get(&s);
    return s.live_bytes;
}

HELPER struct ash_arena *arena_new(struct ash_arena *parent)
{
    return ash_arena_create(parent, "test", NULL);
}

HELPER void is_refused(const void *p, int error, const char *what)
{
    ok(p == NULL && errno == error, "%s", what);
    errno = 0;
}

/* No guards: places and figures are known. */
HELPER int is_exact(void)
{
    struct ash_arena *a = arena_new(NULL);
    char *p = ash_arena_alloc(a, 16), *next = ash_arena_alloc(a, 16);
    ash_arena_destroy(a);
    return next == p + 16;
}

/* ---- the order of ends ---- */

static char trail[256];

HELPER void leave(void *arg)
{
    strcat(trail, arg);
}

HELPER struct ash_cleanup *on(struct ash_arena *a, char *text)
{
    struct ash_cleanup *node = ash_arena_alloc(a, sizeof *node);
    node->fn = leave;
    node->arg = text;
    ash_arena_on_reset(a, node);
    return node;
}

HELPER void is_trail(const char *want, const char *what)
{
    is_str(trail, want, what);
    trail[0] = '\0';
}

__attribute__((unused)) static char t1[] = "1", t2[] = "2", t3[] = "3", tx[] = "x", ty[] = "y", tz[] = "z";

#endif
