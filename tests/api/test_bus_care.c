/*
 * The bus with care (ashlar/bus.h): every error and edge, what blocks and what must not, replies that come late, marks,
 * stops and drains against time, and what is shown. Threads that end, memory and forks are in test_bus_life.c.
 */
#include "buses.h"
#include "ashlar/stats.h"

#include <limits.h>

/* ---- arguments ---- */

static void test_config(void)
{
    static const struct ash_bus_config unset = {.struct_size = 0};
    const struct ash_bus_config *bad[] = {&unset,
                                          ASH_BUS_CONFIG(.name = ""),
                                          ASH_BUS_CONFIG(.name = "a\"b"),
                                          ASH_BUS_CONFIG(.workers = ASH_BUS_WORKERS + 1),
                                          ASH_BUS_CONFIG(.pollers = ASH_BUS_WORKERS + 1),
                                          ASH_BUS_CONFIG(.capacity = ASH_BUS_CAPACITY + 1),
                                          ASH_BUS_CONFIG(.stack_bytes = 1)};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        ok(ash_bus_create(bad[i]) == NULL && errno == EINVAL, "refused: config %u", i);
    }
    struct ash_bus *bus = ash_bus_create(
        ASH_BUS_CONFIG(.workers = ASH_BUS_WORKERS, .stack_bytes = 64 * 1024 + (size_t)PTHREAD_STACK_MIN));
    is_int((int)bus_stats(bus).workers, ASH_BUS_WORKERS, "as many threads as there may be, of small stacks");
    is_int(ash_bus_destroy(bus), 0, "the end");
}

static void test_names(void)
{
    struct scene s;
    scene_open(&s, 0, 0, 3);
    static const char *const bad[] = {"", "a:b", "a/b", "a?b", "a{b", "a}b", "a\"b", "a\nb", NULL,
                                      "12345678901234567890123456789012"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ok(ash_bus_subsystem(s.bus, bad[i], NULL) == -EINVAL, "no name: %u", i);
    const struct ash_bus_subsystem_config *wrong[] = {
        ASH_BUS_SUBSYSTEM_CONFIG(.flags = 2), ASH_BUS_SUBSYSTEM_CONFIG(.capacity = ASH_BUS_CAPACITY + 1),
        ASH_BUS_SUBSYSTEM_CONFIG(.capacity = 8, .high = 9), ASH_BUS_SUBSYSTEM_CONFIG(.high = 2, .low = 2),
        ASH_BUS_SUBSYSTEM_CONFIG(.low = 1)};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        ok(ash_bus_subsystem(s.bus, "x", wrong[i]) == -EINVAL, "no settings: %u", i);
    is_int(ash_bus_subsystem(s.bus, "1234567890123456789012345678901", NULL), 0, "a name of 31");
    is_int(ash_bus_subsystem(s.bus, "1234567890123456789012345678901", NULL), -EEXIST, "which is there");
    is_int((long long)subsystem_stats(s.bus, "1234567890123456789012345678901").capacity, 4, "rings are powers of two");
    for (int i = 1; i < ASH_BUS_SUBSYSTEMS; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        if (ash_bus_subsystem(s.bus, name, NULL) != 0)
            ok(0, "subsystem %d", i);
    }
    is_int(ash_bus_subsystem(s.bus, "more", NULL), -ENOSPC, "64 and no more");
    is_int(ash_bus_on(s.bus, "more://", pass, &s), -ENOSPC, "by a pattern neither");
    is_int(ash_bus_on(s.bus, "s63://x", pass, &s), 0, "a pattern of one that is there");
    is_int(send(&s, "s63://x"), 0, "the last is found");
    is_int(send(&s, "s64://x"), -ENOENT, "one behind it is not");
    is_int(ash_bus_poll(s.bus, 7, 9), 1, "and handled");
    scene_close(&s, "names");
}

static void test_patterns(void)
{
    struct scene s;
    scene_open(&s, 0, 0, 0);
    char longer[5000];
    memset(longer, 'x', sizeof longer);
    memcpy(longer, "a://", 4);
    longer[sizeof longer - 1] = '\0';
    const struct {
        const char *pattern;
        int status;
    } cases[] = {{"a://b/{c}", 0},     {"a://b/{d}", -EEXIST}, {"a://", 0},           {"a:/b", -EINVAL},
                 {"/b", -EINVAL},      {"://b", -EINVAL},      {NULL, -EINVAL},       {"a://{", -EILSEQ},
                 {"a://{}", -ENODATA}, {"a://{*x}/y", -ENOTEMPTY}, {longer, -ENAMETOOLONG}, {"a://{x}/{y}/{*z}", 0}};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ok(ash_bus_on(s.bus, cases[i].pattern, pass, &s) == cases[i].status, "pattern %u", i);
    is_int(ash_bus_on(s.bus, "a://c", NULL, &s), -EINVAL, "no function");
    is_int(ash_bus_on(NULL, "a://c", pass, &s), -EINVAL, "no bus");
    is_int((int)subsystem_stats(s.bus, "a").handlers, 3, "three were added");
    is_int(ash_bus_on(s.bus, "new://{", pass, &s), -EILSEQ, "a bad pattern of a subsystem that is not there");
    is_int(send(&s, "new://x"), -ENOENT, "adds none");
    is_int(ash_bus_subsystem(s.bus, "new", NULL), 0, "which may be added still");
    static const char *const fit[] = {"a://b/1", "a://", "a://x/y/z/", "a://x/y/z/z?q"};
    static const char *const unfit[] = {"a://b/", "a://x", "a://x/y"};
    for (unsigned i = 0; i < 4; i++)
        send(&s, fit[i]);
    for (unsigned i = 0; i < 3; i++)
        send(&s, unfit[i]);
    is_int(ash_bus_poll(s.bus, 0, UINT_MAX), 7, "seven are handled");
    ok(s.done == 4 && s.dead[ASH_BUS_NO_HANDLER] == 3, "four fit, three do not");
    is_int(ash_bus_on(s.bus, "a://x", pass, &s), 0, "a pattern that comes later");
    send(&s, unfit[1]);
    ash_bus_poll(s.bus, 0, 1);
    is_int(s.done, 5, "is found");
    scene_close(&s, "patterns");
}

static void test_refused(void)
{
    struct scene s;
    scene_open(&s, 0, 1, 4);
    struct ash_bus *limited = ash_bus_create(ASH_BUS_CONFIG(.max_body = 10));
    ash_bus_subsystem(limited, "a", NULL);
    ash_bus_on(s.bus, "a://{x}", pass, &s);
    struct ash_msg *m = message(s.pool, "a://b", NULL, 11), *small = message(s.pool, "a://b", NULL, 10);
    is_int(ash_bus_send(limited, m), -EMSGSIZE, "a body over the limit");
    is_int(ash_bus_send(limited, small), 0, "one at the limit");
    is_int(ash_bus_destroy(limited), 0, "it has no handler, and ends");
    is_int(ash_bus_send(NULL, m), -EINVAL, "no bus");
    is_int(ash_bus_send(s.bus, NULL), -EINVAL, "no message");
    is_int(ash_bus_send_wait(NULL, m, -1), -EINVAL, "no bus");
    is_int(ash_bus_send_batch(NULL, &m, 1) + ash_bus_send_grouped(NULL, &m, 1), 0, "no bus: none taken");
    is_int(ash_bus_send_batch(s.bus, NULL, 1) + ash_bus_send_grouped(s.bus, NULL, 1), 0, "no array: likewise");
    is_int(ash_bus_send_batch(s.bus, &m, 0) + ash_bus_send_grouped(s.bus, &m, 0), 0, "an empty one");
    ash_msg_free(m);
    is_int(send(&s, "/a"), -EINVAL, "a target without subsystem");
    is_int(send(&s, "://a"), -EINVAL, "an empty one");
    is_int(send(&s, "aa://b"), -ENOENT, "an unknown one");
    for (int i = 0; i < 4; i++)
        send(&s, "a://b");
    is_int(send(&s, "a://b"), -EAGAIN, "a full ring");
    m = message(s.pool, "a://b", NULL, 0);
    is_int(ash_bus_send_wait(s.bus, m, 2 * MS), -ETIMEDOUT, "no room in time");
    is_int(ash_bus_send_wait(s.bus, m, 0), -EAGAIN, "no time at all");
    ash_msg_free(m);
    is_int((int)subsystem_stats(s.bus, "a").refused, 3, "counted where they belong");
    is_int((int)bus_stats(s.bus).refused, 6, "and all together");
    is_int((int)subsystem_stats(s.bus, "a").waited, 1, "one waited");
    errno = 0;
    ok(ash_bus_poll(s.bus, 1, 9) == 0 && errno == EINVAL, "no such poller");
    errno = 0;
    ok(ash_bus_poll(NULL, 0, 9) == 0 && errno == EINVAL, "nor of no bus");
    is_int(ash_bus_wait(s.bus, 1, 0), -EINVAL, "it cannot wait either");
    is_int(ash_bus_poll(s.bus, 0, 0), 0, "none at most");
    is_int(ash_bus_drain(s.bus, -1), 0, "who drains handles them");
    is_int(s.done, 4, "all four");
    is_int(ash_bus_stop(s.bus, -1), 0, "stopped");
    is_int(send(&s, "a://b"), -ECANCELED, "nothing comes in");
    m = message(s.pool, "a://b", NULL, 0);
    is_int(ash_bus_send_wait(s.bus, m, -1), -ECANCELED, "nor by waiting");
    ash_msg_free(m);
    is_int(ash_bus_on(s.bus, "a://c", pass, &s), -ECANCELED, "no handler either");
    is_int(ash_bus_subsystem(s.bus, "c", NULL), -ECANCELED, "nor subsystem");
    is_int(ash_bus_wait(s.bus, 0, -1), -ECANCELED, "a poller is told");
    is_int(ash_bus_stop(s.bus, -1), 0, "stopping twice");
    ok(ash_bus_drain(NULL, 0) == -EINVAL && ash_bus_stop(NULL, 0) == -EINVAL && ash_bus_destroy(NULL) == -EINVAL,
       "no bus");
    scene_close(&s, "refused");
}

/* ---- many at once ---- */

/* Numbers are in the metadata; -1 for the end. */
static void check_rest(struct ash_msg **m, unsigned from, unsigned n, const int *want, const char *what)
{
    int wrong = 0;
    uint64_t number;
    for (unsigned i = from; i < n; i++) {
        wrong += ash_msg_meta(m[i], 1, &number) != 0 || (int)number != want[i - from];
        ash_msg_free(m[i]);
    }
    is_int(wrong, 0, what);
}

/* That every message of `was` is in `m`, once: a program that has further references finds them there. */
static int missing(struct ash_msg **m, struct ash_msg **was, unsigned n)
{
    int none = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned found = 0;
        for (unsigned k = 0; k < n; k++)
            found += m[k] == was[i];
        none += found != 1;
    }
    return none;
}

static void test_many(void)
{
    static const char *const targets[] = {"a://x", "a://x", "b://x", "a://x", "c://x", "b://x", "a://x", "/", "a://x"};
    struct ash_msg *m[2000], *was[1200];
    struct scene s;
    scene_open(&s, 0, 0, 1024);
    ash_bus_subsystem(s.bus, "a", ASH_BUS_SUBSYSTEM_CONFIG(.capacity = 4));
    ash_bus_on(s.bus, "a://x", pass, &s);
    ash_bus_on(s.bus, "b://x", pass, &s);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 9; i++) {
            m[i] = message(s.pool, targets[i], NULL, 0);
            ash_msg_set_meta(m[i], 1, i);
        }
        if (round == 0) {
            is_int(ash_bus_send_batch(s.bus, m, 9), 4, "a batch: up to the one that has no subsystem");
            check_rest(m, 4, 9, (const int[]){4, 5, 6, 7, 8}, "the others are as they were");
        } else if (round == 1) {
            memcpy(was, m, 9 * sizeof *m);
            is_int(ash_bus_send_grouped(s.bus, m, 9), 6, "grouped: all that can be");
            is_int(missing(m, was, 9), 0, "the array has the same messages");
            check_rest(m, 6, 9, (const int[]){4, 7, 8}, "the others are sorted behind, in their order");
        } else {
            is_int(ash_bus_send_batch(s.bus, m + 7, 2), 0, "a batch that begins with a bad one");
            check_rest(m, 0, 9, (const int[]){0, 1, 2, 3, 4, 5, 6, 7, 8}, "is left alone");
        }
        ash_bus_drain(s.bus, -1);
    }
    /* More than are sorted at once: those of a full subsystem stay together, in order. */
    for (unsigned i = 0; i < 1200; i++) {
        m[i] = message(s.pool, i % 3 == 0 ? "a://x" : "b://x", NULL, 0);
        ash_msg_set_meta(m[i], 1, i);
    }
    int want[1200];
    for (int i = 0; i < 396; i++)
        want[i] = 12 + 3 * i;
    memcpy(was, m, sizeof was);
    is_int(ash_bus_send_grouped(s.bus, m, 1200), 804, "one subsystem is full after four");
    is_int(missing(m, was, 1200), 0, "none is missing");
    check_rest(m, 804, 1200, want, "the rest of it comes back in order");
    is_int((int)subsystem_stats(s.bus, "a").refused, 397, "and is counted");
    ash_bus_drain(s.bus, -1);
    for (unsigned i = 0; i < 2000; i++)
        m[i] = message(s.pool, "b://x", NULL, 0);
    is_int(ash_bus_send_batch(s.bus, m, 2000), 1024, "as much as the ring takes");
    for (unsigned i = 1024; i < 2000; i++)
        ash_msg_free(m[i]);
    ash_bus_drain(s.bus, -1);
    scene_close(&s, "many");
}

/* ---- what blocks ---- */

static void test_blocked(void)
{
    struct scene s;
    scene_open(&s, 3, 0, 64);
    ash_bus_subsystem(s.bus, "free", ASH_BUS_SUBSYSTEM_CONFIG(.flags = ASH_BUS_UNORDERED));
    ash_bus_on(s.bus, "slow://block", block, &s);
    ash_bus_on(s.bus, "slow://pass", pass, &s);
    ash_bus_on(s.bus, "other://pass", pass, &s);
    ash_bus_on(s.bus, "free://pass", pass, &s);
    ash_bus_on(s.bus, "free://block", block, &s);
    send(&s, "slow://block");
    send(&s, "free://block");
    UNTIL(s.begun == 2);
    for (int i = 0; i < 10; i++) {
        send(&s, "slow://pass");
        send(&s, "other://pass");
        send(&s, "free://pass");
    }
    UNTIL(s.done == 20);
    is_int(s.done, 20, "other subsystems go on, and an unordered one with other workers");
    is_int((long long)subsystem_stats(s.bus, "slow").pending, 11, "its own, being ordered, waits");
    is_int(ash_bus_drain(s.bus, 5 * MS), -ETIMEDOUT, "a drain does not wait for ever");
    is_int(ash_bus_stop(s.bus, 5 * MS), -ETIMEDOUT, "nor a stop");
    s.go = 1;
    is_int(ash_bus_stop(s.bus, -1), 0, "which ends when it goes on");
    ok(s.done == 22 && s.dead[ASH_BUS_STOPPED] == 10, "what it held back are dead letters");
    scene_close(&s, "blocked");
}

static void *send_waiting(void *arg)
{
    struct scene *s = arg;
    struct ash_msg *m = message(s->pool, "a://pass", NULL, 0);
    s->status = ash_bus_send_wait(s->bus, m, -1);
    if (s->status != 0)
        ash_msg_free(m);
    return NULL;
}

static void test_room(void)
{
    for (int stops = 0; stops < 2; stops++) {
        pthread_t thread;
        struct scene s;
        scene_open(&s, 0, 1, 2);
        ash_bus_on(s.bus, "a://pass", pass, &s);
        send(&s, "a://pass");
        send(&s, "a://pass");
        pthread_create(&thread, NULL, send_waiting, &s);
        UNTIL(subsystem_stats(s.bus, "a").waited == 1);
        sleep_ns(MS);
        if (stops)
            ash_bus_stop(s.bus, 0);
        else
            ash_bus_poll(s.bus, 0, 1);
        pthread_join(thread, NULL);
        is_int(s.status, stops ? -ECANCELED : 0, stops ? "who waits for room is told of a stop" : "or of room");
        ash_bus_drain(s.bus, -1);
        scene_close(&s, "room");
    }
}

static void test_marks(void)
{
    struct scene s;
    scene_open(&s, 0, 0, 0);
    ash_bus_subsystem(s.bus, "a", ASH_BUS_SUBSYSTEM_CONFIG(.capacity = 8, .high = 8, .low = 0));
    ash_bus_on(s.bus, "a://pass", pass, &s);
    for (int round = 1; round <= 3; round++) {
        for (int i = 0; i < 8; i++)
            send(&s, "a://pass");
        ok(s.marks[1] == round && s.marks[0] == round - 1, "high, time %d", round);
        ash_bus_poll(s.bus, 0, 7);
        is_int(s.marks[0], round - 1, "not low yet");
        for (int i = 0; i < 7; i++)
            send(&s, "a://pass");
        is_int(s.marks[1], round, "high again without having been low is nothing");
        ash_bus_poll(s.bus, 0, 8);
        is_int(s.marks[0], round, "low");
    }
    is_int((int)subsystem_stats(s.bus, "a").highs, 3, "three times");
    scene_close(&s, "marks");
}

/* ---- handlers that use the bus ---- */

static void use_bus(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    struct scene *s = user;
    errno = 0;
    unsigned polled = ash_bus_poll(s->bus, 0, 9);
    ok(polled == 0 && errno == EBUSY, "in a handler: the poller is busy");
    is_int(ash_bus_drain(s->bus, 0), -EDEADLK, "no drain");
    is_int(ash_bus_stop(s->bus, 0), -EDEADLK, "no stop");
    is_int(ash_bus_destroy(s->bus), -EDEADLK, "no end");
    is_int(ash_bus_on(s->bus, "late://pass", pass, s), 0, "another handler");
    is_int(send(s, "late://pass"), 0, "a message");
    is_int(ash_bus_poll(s->bus, 1, 9), 1, "work of other pollers");
    ash_msg_ref(msg);
    s->kept = msg;
    (void)match;
}

static void change_target(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    (void)match;
    is_int(ash_msg_reset(msg, "use://pass", 10, NULL, 0), 0, "a handler may make it another message");
    pass(msg, match, user);
}

static void test_inside(void)
{
    struct scene s;
    scene_open(&s, 0, 2, 256);
    ash_bus_on(s.bus, "use://bus", use_bus, &s);
    ash_bus_on(s.bus, "use://change", change_target, &s);
    ash_bus_on(s.bus, "use://pass", pass, &s);
    send(&s, "use://bus");
    is_int(ash_bus_poll(s.bus, 0, 9), 1, "a handler that uses the bus");
    is_int(s.done, 1, "what it sent was handled");
    size_t n;
    ok(memcmp(ash_msg_target(s.kept, &n), "use://bus", 9) == 0 && in_use(s.pool) == 1, "what it kept is there");
    ash_msg_free(s.kept);
    send(&s, "use://change");
    send(&s, "use://pass");
    send(&s, "use://change");
    is_int(ash_bus_poll(s.bus, 0, 9), 3, "a row with changes");
    is_int(s.done, 4, "each by its own target");
    scene_close(&s, "inside");
}

/* ---- requests ---- */

static void keep(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    (void)match;
    ash_msg_ref(msg);
    ((struct scene *)user)->kept = msg;
    atomic_fetch_add(&((struct scene *)user)->begun, 1);
}

static void *reply_later(void *arg)
{
    struct scene *s = arg;
    UNTIL(s->begun == 1);
    sleep_ns(MS);
    s->status = ash_bus_reply(s->bus, s->kept, message(s->pool, "yes", NULL, 0));
    ash_msg_free(s->kept);
    return NULL;
}

static void test_requests(void)
{
    struct scene s;
    struct ash_msg *reply;
    pthread_t thread;
    scene_open(&s, 1, 0, 4);
    ash_bus_on(s.bus, "a://keep", keep, &s);
    ash_bus_on(s.bus, "a://end", end_thread, &s);
    ash_bus_on(s.bus, "b://block", block, &s);
    struct ash_msg *m = message(s.pool, "a://keep", NULL, 0);
    ok(ash_bus_request(NULL, m, 0, &reply) == -EINVAL && ash_bus_request(s.bus, NULL, 0, &reply) == -EINVAL &&
           ash_bus_request(s.bus, m, 0, NULL) == -EINVAL && ash_bus_reply(NULL, m, m) == -EINVAL &&
           ash_bus_reply(s.bus, NULL, m) == -EINVAL && ash_bus_reply(s.bus, m, NULL) == -EINVAL,
       "arguments");
    pthread_create(&thread, NULL, reply_later, &s);
    is_int(ash_bus_request(s.bus, m, -1, &reply), 0, "a reply from another thread, later");
    pthread_join(thread, NULL);
    size_t n;
    ok(s.status == 0 && memcmp(ash_msg_target(reply, &n), "yes", 3) == 0, "is the one");
    ash_msg_free(reply);

    is_int(ash_bus_request(s.bus, message(s.pool, "a://keep", NULL, 0), 5 * MS, &reply), -ETIMEDOUT, "none in time");
    ok(reply == NULL, "and none there");
    UNTIL(s.begun == 2);
    is_int(ash_bus_reply(s.bus, s.kept, message(s.pool, "late", NULL, 0)), 0, "a late one is taken");
    is_int(s.dead[ASH_BUS_LATE], 1, "as a dead letter");
    ash_msg_free(s.kept);
    is_int(ash_bus_request(s.bus, message(s.pool, "a://end", NULL, 0), -1, &reply), -EPIPE, "its handler ended");
    m = message(s.pool, "c://x", NULL, 0);
    is_int(ash_bus_request(s.bus, m, -1, &reply), -ENOENT, "one that is refused");
    ash_msg_free(m);

    send(&s, "b://block");
    UNTIL(s.begun == 4);
    for (int i = 0; i < 4; i++)
        send(&s, "b://block");
    m = message(s.pool, "b://block", NULL, 0);
    is_int(ash_bus_request(s.bus, m, 2 * MS, &reply), -EAGAIN, "no room in time");
    ash_msg_free(m);
    s.go = 1;
    ash_bus_drain(s.bus, -1);
    struct ash_bus_stats t = bus_stats(s.bus);
    ok(t.requests == 3 && t.answered == 1 && t.timeouts == 1 && t.late == 1 && t.dead == 1, "all counted");
    scene_close(&s, "requests");
}

/* ---- what is shown ---- */

static const char *dumped(int (*dump)(const void *, int), const void *what)
{
    static char text[65536];
    int ends[2];
    ssize_t n = 0, k;
    text[0] = '\0';
    if (pipe(ends) != 0)
        return text;
    if (dump(what, ends[1]) != 0)
        text[0] = '\0';
    close(ends[1]);
    while ((k = read(ends[0], text + n, sizeof text - 1 - (size_t)n)) > 0)
        n += k;
    text[n] = '\0';
    close(ends[0]);
    return text;
}

static int dump_bus(const void *bus, int fd)
{
    return ash_bus_dump(bus, fd);
}

static int dump_stats(const void *format, int fd)
{
    return ash_stats_dump(fd, *(const enum ash_format *)format);
}

static void test_shown(void)
{
    struct scene s;
    scene_open(&s, 0, 0, 64);
    ash_bus_on(s.bus, "aa://pass", pass, &s);
    ash_bus_subsystem(s.bus, "bb", ASH_BUS_SUBSYSTEM_CONFIG(.flags = ASH_BUS_UNORDERED));
    send(&s, "aa://pass");
    send(&s, "aa://other");
    ash_bus_poll(s.bus, 0, 2);
    send(&s, "bb://other");
    const char *text = dumped(dump_bus, s.bus);
    ok(strstr(text, "sent 3  delivered 1  dead 1  pending 1  refused 0") != NULL &&
           strstr(text, "aa: 1 handlers, 0 of 64 pending; sent 2  delivered 1  dead 1") != NULL &&
           strstr(text, "bb (unordered): 0 handlers, 1 of 64 pending; sent 1") != NULL,
       "a dump says all");
    enum ash_format format = ASH_TEXT;
    text = dumped(dump_stats, &format);
    ok(strstr(text, "bus.aa") != NULL && strstr(text, "bus.bb") != NULL, "the statistics list it and its subsystems");
    format = ASH_JSON;
    ok(strstr(dumped(dump_stats, &format), "\"bus.aa\"") != NULL, "in JSON");
    format = ASH_PROMETHEUS;
    ok(strstr(dumped(dump_stats, &format), "bus.bb") != NULL, "for Prometheus");
    struct ash_bus_stats t;
    struct ash_bus_subsystem_stats u;
    is_int(ash_bus_stats(s.bus, NULL), -EINVAL, "figures to nowhere");
    is_int(ash_bus_stats(NULL, &t), -EINVAL, "no bus");
    is_int(ash_bus_subsystem_stats(s.bus, "aa", NULL), -EINVAL, "the same of a subsystem");
    is_int(ash_bus_subsystem_stats(s.bus, "cc", &u), -ENOENT, "which must be there");
    is_int(ash_bus_subsystem_stats(s.bus, NULL, &u), -EINVAL, "and have a name");
    is_int(ash_bus_dump(s.bus, -1), -EBADF, "no descriptor");
    is_int(ash_bus_dump(NULL, 1), -EINVAL, "no bus");
    ash_bus_drain(s.bus, -1);
    scene_close(&s, "shown");
    format = ASH_TEXT;
    ok(strstr(dumped(dump_stats, &format), "bus.aa") == NULL, "what is gone is not shown");
}

int main(void)
{
    test_config();
    test_names();
    test_patterns();
    test_refused();
    test_many();
    test_blocked();
    test_room();
    test_marks();
    test_inside();
    test_requests();
    test_shown();
    return tap_done();
}
