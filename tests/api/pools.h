/*
 * What the tests of pools share: a place for objects, and constructors that count.
 */
#ifndef ASH_TESTS_POOLS_H
#define ASH_TESTS_POOLS_H

#include "ashlar/ashlar.h"
#include "tap.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

enum { MANY = 5000 };

static void *objs[MANY];

__attribute__((unused)) static struct ash_pool_stats stats(const struct ash_pool *pool)
{
    struct ash_pool_stats s;
    memset(&s, 0xff, sizeof s);
    if (ash_pool_stats(pool, &s) != 0)
        memset(&s, 0, sizeof s);
    return s;
}

__attribute__((unused)) static int compare(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (void *const *)a, y = (uintptr_t) * (void *const *)b;
    return (x > y) - (x < y);
}

/* Sorts the first `n` of objs: are they all different, `stride` apart at least, and at multiples of `align`? */
__attribute__((unused)) static int disjoint(unsigned n, size_t stride, size_t align)
{
    qsort(objs, n, sizeof *objs, compare);
    for (unsigned i = 0; i < n; i++)
        if ((uintptr_t)objs[i] % align != 0 || (i != 0 && (uintptr_t)objs[i] - (uintptr_t)objs[i - 1] < stride))
            return 0;
    return 1;
}

/* Gets up to `n`; how many. */
__attribute__((unused)) static unsigned get_many(struct ash_pool *pool, unsigned n)
{
    unsigned i = 0;
    while (i < n && (objs[i] = ash_pool_get(pool)) != NULL)
        i++;
    return i;
}

__attribute__((unused)) static void put_many(struct ash_pool *pool, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        ash_pool_put(pool, objs[i]);
}

struct calls {
    int made, reset, ended, fail_at, error;
};

__attribute__((unused)) static int made(void *obj, void *user)
{
    struct calls *c = user;
    if (++c->made == c->fail_at)
        return c->error;
    *(int *)obj = 1000 + c->made;
    return 0;
}

__attribute__((unused)) static void was_reset(void *obj, void *user)
{
    ((struct calls *)user)->reset += *(int *)obj > 1000;
}

__attribute__((unused)) static void ended(void *obj, void *user)
{
    ((struct calls *)user)->ended += *(int *)obj > 1000;
    *(int *)obj = 0;
}

__attribute__((unused)) static struct ash_pool *counted(struct calls *c, unsigned flags, unsigned prealloc,
                                                        unsigned capacity)
{
    return ash_pool_create("counted", ASH_POOL_CONFIG(.obj_size = 60, .flags = flags, .prealloc = prealloc,
                                                      .capacity = capacity, .ctor = made, .reset = was_reset,
                                                      .dtor = ended, .user = c));
}

#endif
