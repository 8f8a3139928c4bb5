/* What the tests of buses share. */
#ifndef ASH_TESTS_BUSES_H
#define ASH_TESTS_BUSES_H

#include "ashlar/layers.h"
#include "clock.h"
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

enum { MS = 1000 * 1000 };

static inline struct ash_bus_stats bus_stats(const struct ash_bus *bus)
{
    struct ash_bus_stats s;
    ash_bus_stats(bus, &s);
    return s;
}

static inline struct ash_bus_subsystem_stats subsystem_stats(const struct ash_bus *bus, const char *name)
{
    struct ash_bus_subsystem_stats s;
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
    struct ash_msgpool_stats s;
    ash_msgpool_stats(pool, &s);
    return (long long)s.in_use;
}

/* Waits for another thread, ten seconds at most. */
#define UNTIL(condition)                                                                                              \
    for (int tries_ = 0; !(condition) && tries_ < 20000; tries_++)                                                    \
    sleep_ns(MS / 2)

/* A handler's way to wait for the test, and to be watched by it. */
struct scene {
    struct ash_bus *bus;
    struct ash_msgpool *pool;
    atomic_int begun, done, go;
    atomic_int dead[ASH_BUS_LATE + 1], marks[2];
    struct ash_msg *kept;
    int status;
};

static inline void note_dead(struct ash_msg *msg, enum ash_bus_reason reason, void *user)
{
    struct scene *s = user;
    (void)msg;
    atomic_fetch_add(&s->dead[reason], 1);
}

static inline void note_mark(struct ash_bus *bus, const char *subsystem, int is_high, void *user)
{
    struct scene *s = user;
    (void)bus;
    (void)subsystem;
    atomic_fetch_add(&s->marks[is_high], 1);
}

static inline void pass(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    struct scene *s = user;
    (void)msg;
    (void)match;
    atomic_fetch_add(&s->done, 1);
}

static inline void block(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    struct scene *s = user;
    atomic_fetch_add(&s->begun, 1);
    UNTIL(s->go);
    pass(msg, match, user);
}

static inline void end_thread(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    (void)msg;
    (void)match;
    atomic_fetch_add(&((struct scene *)user)->begun, 1);
    pthread_exit(NULL);
}

static inline void scene_open(struct scene *s, unsigned workers, unsigned pollers, unsigned capacity)
{
    memset(s, 0, sizeof *s);
    s->pool = ash_msgpool_create(NULL, NULL);
    s->bus = ash_bus_create(ASH_BUS_CONFIG(.workers = workers, .pollers = pollers, .capacity = capacity,
                                           .dead = note_dead, .mark = note_mark, .user = s));
}

static inline void scene_close(struct scene *s, const char *what)
{
    struct ash_bus_stats t = bus_stats(s->bus);
    ok(t.pending == 0 && t.sent == t.delivered + t.dead, "%s: sent %d = delivered %d + dead %d", what, (int)t.sent,
       (int)t.delivered, (int)t.dead);
    ok(ash_bus_destroy(s->bus) == 0 && in_use(s->pool) == 0 && ash_msgpool_destroy(s->pool) == 0, "%s: nothing is left",
       what);
}

static inline int send(struct scene *s, const char *target)
{
    struct ash_msg *m = message(s->pool, target, NULL, 0);
    int status = ash_bus_send(s->bus, m);
    if (status != 0)
        ash_msg_free(m);
    return status;
}

#endif
