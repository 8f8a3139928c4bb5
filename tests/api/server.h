/*
 * What the tests of ashlar/respool.h share: a server, and connections to it, which their pools are of.
 */
#ifndef ASH_TESTS_SERVER_H
#define ASH_TESTS_SERVER_H

#include "ashlar/respool.h"
#include "clock.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>

static const int64_t ms = 1000000, s = 1000000000;

struct connection {
    int is_open, is_broken;
    _Atomic(int) users; /* who have it now: never more than one */
    unsigned uses;
};

static struct server {
    _Atomic(int) open, most, opens, closes, checks; /* now; at a time; in all */
    _Atomic(int) refuses;                           /* an errno for everybody who connects */
    _Atomic(int) slow_ms;
    struct ash_respool *pool; /* callbacks use it: no lock is held while they run */
} server;

static inline int server_open(void **res, void *user)
{
    struct server *srv = user;
    struct ash_respool_stats st;
    if (srv->pool != NULL)
        ash_respool_stats(srv->pool, &st);
    if (srv->slow_ms != 0)
        usleep((unsigned)srv->slow_ms * 1000);
    int refused = srv->refuses; /* looked at once: it changes */
    if (refused != 0)
        return -refused;
    struct connection *c = calloc(1, sizeof *c);
    c->is_open = 1;
    srv->opens++;
    int open = ++srv->open, most = srv->most;
    while (open > most && !atomic_compare_exchange_weak(&srv->most, &most, open))
        ;
    *res = c;
    return 0;
}

static inline void server_close(void *res, void *user)
{
    struct server *srv = user;
    struct connection *c = res;
    if (srv->pool != NULL && ash_respool_release(srv->pool, res) != -EINVAL)
        _exit(98); /* it is the pool's no more */
    srv->open--;
    srv->closes += c->is_open;
    free(c);
}

static inline int server_check(void *res, void *user)
{
    ((struct server *)user)->checks++;
    return ((struct connection *)res)->is_broken;
}

#define SERVER .open = server_open, .close = server_close, .user = &server

static inline struct ash_respool_stats stats(struct ash_respool *pool)
{
    struct ash_respool_stats st;
    memset(&st, 0xff, sizeof st);
    ash_respool_stats(pool, &st);
    return st;
}

static inline struct ash_respool *make(const struct ash_respool_config *config)
{
    memset(&server, 0, sizeof server);
    struct ash_respool *pool = ash_respool_create("test", config);
    if (pool == NULL) {
        tap_line("Bail out! no pool: %s", strerror(errno));
        _exit(1);
    }
    return server.pool = pool;
}

/* At the end of each test everything is closed, once. */
static inline void end(struct ash_respool *pool, const char *what)
{
    int status = ash_respool_destroy(pool);
    ok(status == 0 && server.open == 0 && server.opens == server.closes, "%s: all that was opened is closed", what);
}

static inline struct connection *get(struct ash_respool *pool)
{
    void *res = NULL;
    return ash_respool_acquire(pool, &res, 0) == 0 ? res : NULL;
}

static inline int get_status(struct ash_respool *pool, int64_t timeout_ns)
{
    void *res;
    return ash_respool_acquire(pool, &res, timeout_ns);
}

#endif
