/*
 * Pools of resources (ashlar/respool.h). The first part is how programs use them; then every function with its edges,
 * and a fake clock. Threads are in test_respool_threads.c.
 */
#include "api/server.h"

#include "ashlar/stats.h"

/* ---- what a program does with one ---- */

static void example(void)
{
    struct ash_respool *pool = ash_respool_create(
        "example", ASH_RESPOOL_CONFIG(.min = 1, .soft_max = 4, .hard_max = 8, .ttl_ns = 600 * s,
                                      .open = server_open, .close = server_close, .check = server_check,
                                      .user = &server, .check_ns = s));
    int good = 0;
    for (int request = 0; request < 100; request++) {
        void *res;
        int status = ash_respool_acquire(pool, &res, 50 * ms);
        if (status != 0) {
            tap_line("# no connection: %s", strerror(-status));
            continue;
        }
        struct connection *c = res;
        c->uses++;
        good++;
        if (request % 10 == 9)
            ash_respool_invalidate(pool, c); /* it broke while it was used */
        else
            ash_respool_release(pool, c);
        ash_respool_maintain(pool, -1); /* now and then, from a timer */
    }
    is_int(good, 100, "example: every request had a connection");
    is_int(server.opens, 11, "example: one connection, and another after each that broke");
    ash_respool_close(pool); /* the program ends */
    is_int(ash_respool_destroy(pool), 0, "example: the pool is destroyed");
    is_int(server.open, 0, "example: nothing is left open");
}

/* ---- each function ---- */

static void refused(const char *name, const struct ash_respool_config *config, const char *what)
{
    errno = 0;
    ok(ash_respool_create(name, config) == NULL && errno == EINVAL, "%s: EINVAL", what);
}

static void test_create(void)
{
    memset(&server, 0, sizeof server);
    refused("x", NULL, "no configuration");
    refused("x", ASH_RESPOOL_CONFIG(.hard_max = 1), "no open");
    refused(NULL, ASH_RESPOOL_CONFIG(SERVER), "no name");
    refused("", ASH_RESPOOL_CONFIG(SERVER), "an empty name");
    refused("a name of thirty-two characters.", ASH_RESPOOL_CONFIG(SERVER), "a long name");
    refused("a\nb", ASH_RESPOOL_CONFIG(SERVER), "a name of two lines");
    refused("a\"b", ASH_RESPOOL_CONFIG(SERVER), "a name with a quote");
    refused("x", ASH_RESPOOL_CONFIG(SERVER, .min = 3, .hard_max = 2), "min above hard_max");
    refused("x", ASH_RESPOOL_CONFIG(SERVER, .min = 3, .soft_max = 2), "min above soft_max");
    refused("x", ASH_RESPOOL_CONFIG(SERVER, .soft_max = 3, .hard_max = 2), "soft_max above hard_max");
    refused("x", ASH_RESPOOL_CONFIG(SERVER, .ttl_ns = -1), "a negative age");
    refused("x", ASH_RESPOOL_CONFIG(SERVER, .idle_ns = -1), "a negative idle time");
    refused("x", ASH_RESPOOL_CONFIG(SERVER, .check_ns = -1), "a negative check time");
    refused("x", ASH_RESPOOL_CONFIG(SERVER, .order = (enum ash_respool_order)2), "no such order");
    struct ash_respool_config short_one = {.struct_size = 8, SERVER};
    refused("x", &short_one, "a struct_size that holds nothing");
    is_int(server.opens, 0, "nothing was opened for them");

    struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .min = 3));
    is_int(server.opens, 3, "min are opened at once");
    struct ash_respool_stats st = stats(pool);
    ok(st.open == 3 && st.idle == 3 && st.in_use == 0 && st.opened == 3 && st.misses == 0, "and idle");
    end(pool, "create");

    memset(&server, 0, sizeof server);
    server.refuses = ECONNREFUSED;
    pool = ash_respool_create("down", ASH_RESPOOL_CONFIG(SERVER, .min = 3));
    ok(pool != NULL && stats(pool).open == 0 && stats(pool).open_failures == 1, "no server: a pool all the same");
    is_int(ash_respool_maintain(pool, -1), -ECONNREFUSED, "maintenance tries again");
    is_int(get_status(pool, -1), -ECONNREFUSED, "an acquire is told");
    server.refuses = 0;
    is_int(ash_respool_maintain(pool, -1), 0, "until it succeeds");
    is_int((long)stats(pool).idle, 3, "then there are min");
    end(pool, "no server");
}

static void test_misuse(void)
{
    struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .hard_max = 2));
    void *res;
    int local;
    is_int(ash_respool_acquire(NULL, &res, 0), -EINVAL, "no pool");
    is_int(ash_respool_acquire(pool, NULL, 0), -EINVAL, "nowhere to put it");
    is_int(ash_respool_release(pool, &local), -EINVAL, "a stranger is not taken back");
    is_int(ash_respool_release(NULL, &local), -EINVAL, "nor by nobody");
    is_int(ash_respool_invalidate(pool, &local), -EINVAL, "nor closed");
    is_int(ash_respool_invalidate(NULL, &local), -EINVAL, "nor by nobody");
    is_int(ash_respool_maintain(NULL, 0), -EINVAL, "maintaining nothing");
    is_int(ash_respool_stats(NULL, NULL), -EINVAL, "statistics of nothing");
    is_int(ash_respool_dump(NULL, 1), -EINVAL, "nor as text");
    is_int(ash_respool_destroy(NULL), 0, "destroying nothing is fine");
    ash_respool_close(NULL);
    struct connection *c = get(pool);
    is_int(ash_respool_destroy(pool), -EBUSY, "not while one is in use");
    is_int(ash_respool_release(pool, c), 0, "a release");
    is_int(ash_respool_release(pool, c), -EINVAL, "a second one");
    is_int(ash_respool_invalidate(pool, c), -EINVAL, "an idle one is not the caller's to close");
    is_int((long)stats(pool).idle, 1, "it is idle once");
    end(pool, "misuse");
}

/* An open that returns what is open already: a table by pointer cannot tell them apart. */
static int open_same(void **res, void *user)
{
    *res = user;
    return 0;
}

static void test_same(void)
{
    int one;
    struct ash_respool *pool = ash_respool_create("same", ASH_RESPOOL_CONFIG(.open = open_same, .user = &one));
    void *res;
    is_int(ash_respool_acquire(pool, &res, 0), 0, "one");
    is_int(get_status(pool, 0), -EEXIST, "the same again: -EEXIST");
    is_int((long)stats(pool).open, 1, "one is open");
    ash_respool_release(pool, res);
    is_int(ash_respool_destroy(pool), 0, "and closed, without a callback");
}

static int open_positive(void **res, void *user)
{
    (void)res, (void)user;
    return EACCES;
}

static void test_limits(void)
{
    struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .min = 1, .soft_max = 2, .hard_max = 4));
    struct connection *c[4];
    for (int i = 0; i < 4; i++)
        c[i] = get(pool);
    ok(c[3] != NULL && server.opens == 4, "as many as hard_max are opened");
    is_int(get_status(pool, 0), -ETIMEDOUT, "no more, without a wait");
    int64_t from = now_ns();
    is_int(get_status(pool, 20 * ms), -ETIMEDOUT, "nor with one");
    ok(now_ns() - from >= 20 * ms, "which takes its time");
    is_int(server.opens, 4, "and opens none");
    struct ash_respool_stats st = stats(pool);
    ok(st.misses == 3 && st.hits == 1 && st.timeouts == 2 && st.waits == 1 && st.waiting == 0 && st.wait_ns >= 20000000,
       "all is counted");
    for (int i = 0; i < 4; i++)
        ash_respool_release(pool, c[i]);
    st = stats(pool);
    ok(st.idle == 2 && st.open == 2 && server.closes == 2, "more than soft_max are not kept");
    c[0] = get(pool);
    ok(server.opens == 4 && stats(pool).hits == 2, "an idle one is used again");
    ash_respool_release(pool, c[0]);
    end(pool, "limits");

    pool = make(ASH_RESPOOL_CONFIG(SERVER));
    enum { MANY = 300 };
    static struct connection *many[MANY];
    int missing = 0;
    for (int i = 0; i < MANY; i++)
        missing += (many[i] = get(pool)) == NULL;
    for (int i = 0; i < MANY; i++)
        missing += ash_respool_release(pool, many[i]) != 0;
    is_int(missing, 0, "without limits there are as many as are asked for");
    is_int((long)stats(pool).idle, MANY, "and all are kept");
    end(pool, "no limits");

    pool = ash_respool_create("positive", ASH_RESPOOL_CONFIG(.open = open_positive));
    is_int(get_status(pool, -1), -EACCES, "an open that returns an errno is understood");
    is_int(ash_respool_destroy(pool), 0, "and has opened nothing");
}

static void test_order(void)
{
    static const char *const names[] = {"LIFO", "FIFO"};
    for (int order = ASH_LIFO; order <= ASH_FIFO; order++) {
        struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .order = order));
        struct connection *c[3];
        int wrong = 0;
        for (int i = 0; i < 3; i++)
            c[i] = get(pool);
        for (int i = 0; i < 3; i++)
            ash_respool_release(pool, c[i]);
        for (int i = 0; i < 3; i++)
            wrong += get(pool) != c[order == ASH_LIFO ? 2 - i : i];
        is_int(wrong, 0, names[order]);
        for (int i = 0; i < 3; i++)
            ash_respool_release(pool, c[i]);
        end(pool, names[order]);
    }
}

/* ---- age, uses, checks ---- */

static void test_wear(void)
{
    struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .max_uses = 3));
    for (int i = 0; i < 9; i++)
        ash_respool_release(pool, get(pool));
    ok(server.opens == 3 && stats(pool).expired == 3, "max_uses: closed when it comes back");
    end(pool, "uses");

    pool = make(ASH_RESPOOL_CONFIG(SERVER, .min = 1, .ttl_ns = 30 * ms));
    struct connection *c = get(pool);
    usleep(50000);
    ash_respool_release(pool, c);
    ok(server.closes == 1 && stats(pool).open == 0, "ttl: closed when it comes back too old");
    ash_respool_release(pool, get(pool));
    usleep(50000);
    c = get(pool);
    ok(server.opens == 3 && server.closes == 2, "ttl: an idle one that is too old is replaced");
    ash_respool_release(pool, c);
    end(pool, "age");
}

static void test_check(void)
{
    struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .check = server_check));
    struct connection *c = get(pool);
    is_int(server.checks, 0, "a new one is not checked");
    ash_respool_release(pool, c);
    c = get(pool);
    is_int(server.checks, 1, "without check_ns, each acquire checks");
    c->is_broken = 1;
    ash_respool_release(pool, c);
    c = get(pool);
    ok(c != NULL && !c->is_broken && server.opens == 2 && server.closes == 1, "a broken one is replaced");
    is_int((long)stats(pool).check_failures, 1, "and counted");
    c->is_broken = 1;
    ash_respool_release(pool, c);
    server.refuses = ECONNREFUSED;
    is_int(get_status(pool, 0), -ECONNREFUSED, "if that can be done");
    is_int((long)stats(pool).open, 0, "else none is left");
    end(pool, "check");

    pool = make(ASH_RESPOOL_CONFIG(SERVER, .check = server_check, .check_ns = 60 * s));
    c = get(pool);
    ash_respool_release(pool, c);
    c = get(pool);
    is_int(server.checks, 0, "with check_ns, one that was just used is not checked");
    ash_respool_release(pool, c);
    ash_respool_maintain(pool, now_ns() + 30 * s);
    is_int(server.checks, 0, "nor by maintenance");
    ash_respool_maintain(pool, now_ns() + 61 * s);
    is_int(server.checks, 1, "until the time is over");
    ash_respool_maintain(pool, now_ns() + 62 * s);
    is_int(server.checks, 1, "a check is good for as long again");
    c->is_broken = 1;
    ash_respool_maintain(pool, now_ns() + 130 * s);
    ok(server.closes == 1 && stats(pool).check_failures == 1, "maintenance closes what is broken");
    end(pool, "check_ns");
}

static void test_maintain(void)
{
    struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .min = 2, .ttl_ns = 100 * s, .idle_ns = 10 * s));
    struct connection *c[5];
    int64_t began = now_ns();
    for (int i = 0; i < 5; i++)
        c[i] = get(pool);
    for (int i = 0; i < 4; i++)
        ash_respool_release(pool, c[i]);
    is_int(ash_respool_maintain(pool, began + 9 * s), 0, "nothing is due");
    is_int((long)stats(pool).open, 5, "nothing happens");
    ash_respool_maintain(pool, began + 11 * s);
    struct ash_respool_stats st = stats(pool);
    ok(st.open == 2 && st.idle == 1 && st.in_use == 1 && st.expired == 3, "idle ones above min are closed");
    ash_respool_maintain(pool, began + 102 * s);
    st = stats(pool);
    ok(st.open == 2 && st.idle == 1 && server.closes == 4 && server.opens == 6, "one past its age is replaced");
    is_int(ash_respool_invalidate(pool, c[4]), 0, "one that broke");
    is_int((long)stats(pool).open, 1, "is closed");
    ash_respool_maintain(pool, began);
    is_int((long)stats(pool).idle, 2, "maintenance opens up to min");
    server.refuses = EHOSTDOWN;
    is_int(ash_respool_maintain(pool, began + 300 * s), -EHOSTDOWN, "or says why not");
    is_int((long)stats(pool).open, 0, "what is too old goes all the same");
    end(pool, "maintain");
}

/* ---- statistics ---- */

static void test_show(void)
{
    static char text[1 << 16];
    int ends[2];
    struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .min = 2));
    struct ash_respool *other = ash_respool_create("the other one", ASH_RESPOOL_CONFIG(SERVER));
    struct connection *c = get(pool);
    if (pipe(ends) != 0)
        _exit(99);
    is_int(ash_respool_dump(pool, ends[1]), 0, "ash_respool_dump");
    ok(read(ends[0], text, sizeof text - 1) > 0, "writes something");
    ok(strstr(text, "respool test: open 2, idle 1, in_use 1, waiting 0, hits 1, misses 0, ") != NULL, "the figures: %s",
       text);
    is_int(ash_respool_dump(pool, -1), -EBADF, "to nowhere: -EBADF");
    memset(text, 0, sizeof text);
    is_int(ash_stats_dump(ends[1], ASH_PROMETHEUS), 0, "ash_stats_dump");
    ok(read(ends[0], text, sizeof text - 1) > 0, "writes more");
    ok(strstr(text, "ashlar_respool_in_use{name=\"test\"} 1\n") != NULL, "each pool is there");
    ok(strstr(text, "ashlar_respool_in_use{name=\"the other one\"} 0\n") != NULL, "the other one, too");
    is_int(ash_respool_destroy(other), 0, "destroyed");
    memset(text, 0, sizeof text);
    ash_stats_dump(ends[1], ASH_JSON);
    ok(read(ends[0], text, sizeof text - 1) > 0 && strstr(text, "\"name\": \"test\"") != NULL &&
           strstr(text, "the other one") == NULL,
       "it is gone");
    close(ends[0]);
    close(ends[1]);
    ash_respool_release(pool, c);
    end(pool, "statistics");
}

/* Records of pools are used again: making and destroying them does not use up memory. */
static void test_records(void)
{
    struct ash_stats before = {.struct_size = sizeof before}, after = before;
    ash_respool_destroy(make(ASH_RESPOOL_CONFIG(SERVER, .min = 20)));
    ash_stats_get(&before);
    for (int i = 0; i < 1000; i++)
        ash_respool_destroy(make(ASH_RESPOOL_CONFIG(SERVER, .min = 20)));
    ash_stats_get(&after);
    ok(after.meta_bytes == before.meta_bytes && after.live_blocks == before.live_blocks,
       "a thousand pools leave nothing");
}

int main(void)
{
    alarm(300);
    example();
    test_create();
    test_misuse();
    test_same();
    test_limits();
    test_order();
    test_wear();
    test_check();
    test_maintain();
    test_show();
    test_records();
    return tap_done();
}
