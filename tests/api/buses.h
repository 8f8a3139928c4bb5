/* What the tests of buses share. */
#ifndef ASH_TESTS_BUSES_H
#define ASH_TESTS_BUSES_H

#include "ashlar/layers.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

enum { MS = 1000 * 1000 };

static inline struct ash_bus_stats bus_stats(const struct ash_bus *bus)
{
    struct ash_bus_stats s = {.struct_size = sizeof s};
    ash_bus_stats(bus, &s);
    return s;
}

static inline struct ash_bus_subsystem_stats subsystem_stats(const struct ash_bus *bus, const char *name)
{
    struct ash_bus_subsystem_stats s = {.struct_size = sizeof s};
    if (ash_bus_subsystem_stats(bus, name, &s) != 0)
        memset(&s, 0xff, sizeof s);
    return s;
}

static inline struct ash_msg *message(struct ash_msgpool *pool, const char *target, const void *body, size_t len)
{
    struct ash_msg *m = ash_msg_new(pool, target, strlen(target), body, len);
    if (m == NULL)
        abort();
    return m;
}

/* Messages that are out. */
static inline long long in_use(const struct ash_msgpool *pool)
{
    struct ash_msgpool_stats s = {.struct_size = sizeof s};
    ash_msgpool_stats(pool, &s);
    return (long long)s.in_use;
}

static inline void sleep_ns(long ns)
{
    nanosleep(&(struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}, NULL);
}

/* Waits for another thread, ten seconds at most. */
#define UNTIL(condition)                                                                                              \
    for (int tries_ = 0; !(condition) && tries_ < 20000; tries_++)                                                    \
    sleep_ns(MS / 2)

#endif
