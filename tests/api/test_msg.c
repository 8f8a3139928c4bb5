/*
 * Messages (ashlar/msg.h). The first test is how a program uses them; then each function with its errors and edges,
 * messages that go from thread to thread, ids, memory that runs out, fork, and what is counted.
 */
#include "ashlar/layers.h"
#include "ashlar/malloc.h"
#include "ashlar/ring.h"
#include "ashlar/stats.h"
#include "process.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { RETRIES = 1, PRIORITY = 2, CLIENT = 3 };

static struct ash_msgpool_stats stats(const struct ash_msgpool *pool)
{
    struct ash_msgpool_stats s;
    ash_msgpool_stats(pool, &s);
    return s;
}

/* A part of the target as a text of C. */
static const char *part(const char *(*get)(const struct ash_msg *, size_t *), const struct ash_msg *m)
{
    static char text[512];
    size_t n;
    const char *p = get(m, &n);
    snprintf(text, sizeof text, "%.*s", (int)n, p);
    return text;
}

/* ---- how they are used ---- */

struct order {
    uint32_t item, count;
};

static int stock;

static void test_example(void)
{
    struct ash_msgpool *pool = ash_msgpool_create("orders", ASH_MSGPOOL_CONFIG(.prealloc = 100));
    struct ash_router *router = ash_router_create();
    ash_router_add(router, "orders://items/{item}", &stock, NULL);
    ash_router_compile(router);

    struct order order = {.item = 7, .count = 2};
    const char *target = "orders://items/7?full=1&lang=de";
    ash_msgpool_tick(pool, 1000);
    struct ash_msg *m = ash_msg_new(pool, target, strlen(target), &order, sizeof order);
    ok(m != NULL, "a message");
    is_int(ash_msg_set_meta(m, RETRIES, 3), 0, "metadata");

    size_t n;
    uint64_t retries = 0;
    const struct order *got = ash_msg_body(m, &n);
    ok(n == sizeof order && got != &order && got->count == 2, "its body is a copy");
    is_str(part(ash_msg_subsystem, m), "orders", "the subsystem");
    is_str(part(ash_msg_path, m), "items/7", "the path");
    is_str(part(ash_msg_query, m), "full=1&lang=de", "the query");
    const char *lang = ash_msg_query_value(m, "lang", &n);
    ok(lang != NULL && n == 2 && memcmp(lang, "de", 2) == 0, "a value of it");
    ok(ash_msg_meta(m, RETRIES, &retries) == 0 && retries == 3, "the metadata again");
    is_int(ash_msg_time(m), 1000, "the time of the last tick");

    struct ash_match match;
    const char *route = ash_msg_route(m, &n);
    is_int(ash_router_match(router, route, n, &match), 0, "it is routed");
    ok(match.handler == &stock && match.caps[0].len == 1 && match.caps[0].ptr[0] == '7', "to its handler");

    ash_msg_free(m);
    is_int((int)stats(pool).created, 0, "of those that were made beforehand");
    is_int((int)stats(pool).reused, 1, "one was used");
    is_int(ash_msgpool_destroy(pool), 0, "the end");
    ash_router_destroy(router);
}

/* ---- pools ---- */

static void test_pools(void)
{
    struct ash_msgpool_config unset = {.struct_size = 0};
    const struct {
        const char *name;
        const struct ash_msgpool_config *config;
        int error;
    } bad[] = {{"", NULL, EINVAL},
               {"a\"b", NULL, EINVAL},
               {NULL, &unset, EINVAL},
               {NULL, ASH_MSGPOOL_CONFIG(.room = 63), EINVAL},
               {NULL, ASH_MSGPOOL_CONFIG(.room = (size_t)1 << 40), EINVAL},
               {NULL, ASH_MSGPOOL_CONFIG(.slots = 17), EINVAL},
               {NULL, ASH_MSGPOOL_CONFIG(.prealloc = 10, .capacity = 9), EINVAL}};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        ok(ash_msgpool_create(bad[i].name, bad[i].config) == NULL && errno == bad[i].error, "refused: %u", i);
    }
    struct ash_msgpool *pool = ash_msgpool_create("twice", ASH_MSGPOOL_CONFIG(.capacity = 4, .prealloc = 2));
    errno = 0;
    ok(ash_msgpool_create("twice", NULL) == NULL && errno == EEXIST, "a name that is taken");
    is_int((int)stats(pool).bytes, 192, "a message for 64 bytes is 192");
    is_int((int)stats(pool).pool_size, 2, "two were made");
    struct ash_msg *m[4];
    for (unsigned i = 0; i < 4; i++)
        m[i] = ash_msg_new(pool, "/", 1, NULL, 64);
    errno = 0;
    ok(m[3] != NULL && ash_msg_new(pool, "/", 1, NULL, 64) == NULL && errno == ENOBUFS, "four and no more");
    is_int((int)stats(pool).created, 2, "two had to be made");
    is_int((int)stats(pool).reused, 2, "two were there");
    is_int((int)(stats(pool).reuse_rate * 100), 50, "a rate of one half");
    is_int(ash_msgpool_destroy(pool), -EBUSY, "not while messages are out");
    ash_msg_free(m[0]);
    m[0] = ash_msg_new(pool, "/", 1, NULL, 64);
    ok(m[0] != NULL && stats(pool).reused == 3 && stats(pool).in_use == 4, "one that was freed is used again");
    for (unsigned i = 0; i < 4; i++)
        ash_msg_free(m[i]);
    int ends[2];
    char text[512] = "";
    struct ash_msgpool_stats s;
    if (pipe(ends) == 0) {
        is_int(ash_msgpool_dump(pool, ends[1]), 0, "a dump");
        ok(read(ends[0], text, sizeof text - 1) > 0 &&
               strstr(text, "messages twice: poolSize 4  in use 0  created 2  reused 3  reuseRate 60.0 %") != NULL,
           "says it: %s", text);
        close(ends[0]);
        close(ends[1]);
    }
    is_int(ash_msgpool_dump(pool, -1), -EBADF, "not to no descriptor");
    is_int(ash_msgpool_dump(NULL, 1), -EINVAL, "nor of no pool");
    is_int(ash_msgpool_stats(pool, NULL), -EINVAL, "stats: nowhere to");
    is_int(ash_msgpool_stats(NULL, &s), -EINVAL, "stats: no pool");
    is_int(ash_msgpool_destroy(NULL), -EINVAL, "destroy: no pool");
    is_int(ash_msgpool_destroy(pool), 0, "the end");
}

/* ---- targets ---- */

static void test_targets(void)
{
    static const struct {
        const char *target, *subsystem, *path, *query, *route;
    } cases[] = {{"", "", "", "", ""},
                 {"/a/b", "", "/a/b", "", "/a/b"},
                 {"/a?", "", "/a", "", "/a"},
                 {"/a?b?c", "", "/a", "b?c", "/a"},
                 {"svc://a/b?c", "svc", "a/b", "c", "svc://a/b"},
                 {"svc://", "svc", "", "", "svc://"},
                 {"svc:/a", "", "svc:/a", "", "svc:/a"},
                 {"svc:", "", "svc:", "", "svc:"},
                 {"/a?x=svc://y", "", "/a", "x=svc://y", "/a"},
                 {"?q", "", "", "q", ""},
                 {"a:b://c", "", "a:b://c", "", "a:b://c"}};
    struct ash_msgpool *pool = ash_msgpool_create(NULL, NULL);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *target = cases[i].target;
        struct ash_msg *m = ash_msg_new(pool, target, strlen(target), NULL, 0);
        for (unsigned again = 0; again < 2; again++)
            ok(strcmp(part(ash_msg_query, m), cases[i].query) == 0 &&
                   strcmp(part(ash_msg_subsystem, m), cases[i].subsystem) == 0 &&
                   strcmp(part(ash_msg_path, m), cases[i].path) == 0 &&
                   strcmp(part(ash_msg_route, m), cases[i].route) == 0 &&
                   strcmp(part(ash_msg_target, m), target) == 0,
               "parts of \"%s\"", target);
        ash_msg_free(m);
    }
    const char *query = "/?a=1&bb=2&b=&c&=e&a=3";
    struct ash_msg *m = ash_msg_new(pool, query, strlen(query), NULL, 0);
    static const char *const values[][2] = {{"a", "1"}, {"bb", "2"}, {"b", ""}, {"c", ""}, {"", "e"}, {"d", NULL}};
    for (unsigned i = 0; i < sizeof values / sizeof values[0]; i++) {
        size_t n = 99;
        const char *got = ash_msg_query_value(m, values[i][0], &n);
        ok(values[i][1] == NULL ? got == NULL
                                : got != NULL && n == strlen(values[i][1]) && memcmp(got, values[i][1], n) == 0,
           "value of \"%s\"", values[i][0]);
    }
    ash_msg_free(m);
    ash_msgpool_destroy(pool);
}

/* Every length of target and body round the block's end, in blocks of several sizes. */
static void test_lengths(void)
{
    static char text[4096], bytes[4096];
    int wrong = 0;
    unsigned external = 0;
    for (unsigned i = 0; i < sizeof text; i++) {
        text[i] = (char)('a' + i % 26);
        bytes[i] = (char)(i * 7);
    }
    for (size_t room = 64; room <= 256; room += 48)
        for (unsigned slots = 1; slots <= 4; slots += 3) {
            struct ash_msgpool *pool = ash_msgpool_create(NULL, ASH_MSGPOOL_CONFIG(.room = room, .slots = slots));
            size_t real = (size_t)stats(pool).bytes - 64 - 16 * slots;
            wrong += real < room || stats(pool).bytes % 64 != 0;
            for (size_t target = 0; target <= real; target++)
                for (size_t body = 0; body <= real + 20; body += body < 20 ? 1 : 7) {
                    struct ash_msg *m = ash_msg_new(pool, text, target, bytes, body);
                    if (target > real - 32) {
                        wrong += m != NULL || errno != ENAMETOOLONG;
                        continue;
                    }
                    size_t n, k;
                    const char *got = ash_msg_target(m, &n);
                    const char *at = ash_msg_body(m, &k);
                    for (unsigned s = 0; s < slots; s++)
                        wrong += ash_msg_set_meta(m, s, ~(uint64_t)s) != 0;
                    wrong += ash_msg_set_meta(m, slots, 1) != -ENOSPC;
                    wrong += n != target || memcmp(got, text, target) != 0;
                    wrong += k != body || (body > 0 && memcmp(at, bytes, body) != 0) || (body == 0 && at != NULL);
                    wrong += (uintptr_t)at % 16 != 0;
                    wrong += (ash_msg_buf(m) != NULL) != ((target + 15) / 16 * 16 + body > real);
                    external += ash_msg_buf(m) != NULL;
                    ash_msg_free(m);
                }
            wrong += ash_msgpool_destroy(pool) != 0;
        }
    is_int(wrong, 0, "targets and bodies of every length are whole");
    ok(external > 100, "%u bodies became bufs", external);
}

static void test_changes(void)
{
    struct ash_msgpool *pool = ash_msgpool_create(NULL, NULL);
    char large[1000];
    memset(large, 'L', sizeof large);
    struct ash_msg *m = ash_msg_new(pool, "a://b", 5, "small", 5);
    uint64_t id = ash_msg_id(m), value;
    ok(id != 0 && ash_msg_trace(m) == id, "an id, and the trace is the same");
    ash_msg_set_trace(m, 42);
    is_int((int)ash_msg_trace(m), 42, "until it is set");
    ash_msg_set_meta(m, CLIENT, 1);
    ash_msg_set_meta(m, CLIENT, 2);
    ok(ash_msg_meta(m, CLIENT, &value) == 0 && value == 2, "a value of the same key replaces");
    is_int(ash_msg_meta(m, PRIORITY, &value), -ENOENT, "another key has none");
    is_str(part(ash_msg_subsystem, m), "a", "its subsystem");
    is_int(ash_msg_reset(m, "cc://d", 6, large, sizeof large), 0, "reset, to a body that is a buf");
    ok(ash_msg_id(m) != id && ash_msg_trace(m) == ash_msg_id(m), "another id");
    is_int(ash_msg_meta(m, CLIENT, &value), -ENOENT, "no metadata");
    is_str(part(ash_msg_subsystem, m), "cc", "parts are found anew");
    size_t n;
    const char *body = ash_msg_body(m, &n);
    ok(n == sizeof large && memcmp(body, large, n) == 0, "the body is whole");
    struct ash_buf slice = ash_buf_slice(ash_msg_buf(m), 10, 20);
    is_int(ash_msg_reset(m, "/", 1, "x", 1), 0, "reset to a small one");
    ok(ash_msg_buf(m) == NULL && slice.len == 20 && slice.data[0] == 'L', "a slice of the buf lives on");
    ash_buf_drop(&slice);
    is_int(ash_msg_reset(m, large, sizeof large, NULL, 0), -ENAMETOOLONG, "a target that is too long");
    is_int(ash_msg_reset(m, NULL, 1, NULL, 0), -EINVAL, "none where there are bytes");
    is_str(part(ash_msg_target, m), "/", "leave it as it was");
    struct ash_buf buf;
    ash_buf_alloc(&buf, 5, 0);
    memcpy(buf.data, "given", 5);
    is_int(ash_msg_set_buf(m, buf), 0, "a buf for the body");
    body = ash_msg_body(m, &n);
    ok(n == 5 && body == (char *)buf.data, "is not copied");
    struct ash_buf second;
    ash_buf_alloc(&second, 6, 0);
    is_int(ash_msg_set_buf(m, second), 0, "another one");
    ash_msg_ref(m);
    is_int(ash_msg_reset(m, "/", 1, NULL, 0), -EBUSY, "no reset of what has two owners");
    is_int(ash_msg_set_buf(m, (struct ash_buf){0}), -EBUSY, "nor another body");
    ash_msg_free(m);
    ok(ash_msg_body(m, &n) != NULL && n == 6, "the other owner has it still");
    ash_msg_free(m);
    ash_msg_free(NULL);
    struct ash_buf_stats bufs;
    ash_buf_stats(&bufs);
    is_int((int)bufs.live, 0, "every buf was dropped");
    errno = 0;
    ok(ash_msg_new(NULL, "/", 1, NULL, 0) == NULL && errno == EINVAL, "no pool");
    errno = 0;
    ok(ash_msg_new(pool, NULL, 1, NULL, 0) == NULL && errno == EINVAL, "no target where there are bytes");
    m = ash_msg_new(pool, NULL, 0, NULL, 0);
    ok(m != NULL, "no target at all");
    int ends[2];
    char text[256] = "";
    ash_msg_set_meta(m, PRIORITY, 9);
    if (pipe(ends) == 0) {
        is_int(ash_msg_dump(m, ends[1]), 0, "a line about it");
        ok(read(ends[0], text, sizeof text - 1) > 0 && strstr(text, "body 0  refs 1") != NULL &&
               strstr(text, "  2=9\n") != NULL,
           "says it: %s", text);
        close(ends[0]);
        close(ends[1]);
    }
    ash_msg_free(m);
    is_int(ash_msgpool_destroy(pool), 0, "the end");
}

/* What must not happen ends the process, with a word about it. */
static void dies(void (*wrong)(struct ash_msg *), const char *word)
{
    int ends[2], status;
    char text[4096] = "";
    size_t len = 0;
    ssize_t n;
    if (pipe(ends) != 0)
        return;
    struct ash_msgpool *pool = ash_msgpool_create(NULL, NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        wrong(ash_msg_new(pool, "/", 1, NULL, 0));
        _exit(0);
    }
    close(ends[1]);
    while (len < sizeof text - 1 && (n = read(ends[0], text + len, sizeof text - 1 - len)) > 0)
        len += (size_t)n;
    waitpid(child, &status, 0);
    /* AddressSanitizer knows the pool's free objects, and comes first. */
    ok((WIFSIGNALED(status) && strstr(text, word) != NULL) || strstr(text, "use-after-poison") != NULL, "dies: %s", word);
    close(ends[0]);
    ash_msgpool_destroy(pool);
}

static void free_twice(struct ash_msg *m)
{
    ash_msg_free(m);
    ash_msg_free(m);
}

static void ref_freed(struct ash_msg *m)
{
    ash_msg_free(m);
    ash_msg_ref(m);
}

/* ---- threads ---- */

enum { MESSAGES = 20000 };

struct thread {
    pthread_t id;
    struct ash_msgpool *pool;
    struct ash_ring *in, *out;
    uint64_t *ids;
    unsigned wrong;
};

/* Makes messages, and frees a reference to each beside the one it hands on. */
static void *producer(void *arg)
{
    struct thread *t = arg;
    for (uint64_t i = 0; i < MESSAGES; i++) {
        struct ash_msg *m = ash_msg_new(t->pool, "x://y/z?q", 9, &i, i % 64 == 0 ? 0 : sizeof i);
        t->ids[i] = ash_msg_id(m);
        ash_msg_set_meta(m, 1, i);
        ash_msg_ref(m);
        void *item = m;
        while (ash_ring_push(t->out, &item, 1) == 0)
            sched_yield();
        ash_msg_free(m);
    }
    return NULL;
}

static void *consumer(void *arg)
{
    struct thread *t = arg;
    for (uint64_t i = 0; i < MESSAGES; i++) {
        void *item;
        uint64_t value, body = i;
        while (ash_ring_pop(t->in, &item, 1) == 0)
            sched_yield();
        struct ash_msg *m = item;
        size_t n, k;
        const void *bytes = ash_msg_body(m, &n);
        const char *path = ash_msg_path(m, &k);
        t->wrong += ash_msg_meta(m, 1, &value) != 0 || value != i;
        t->wrong += n != 0 && memcmp(bytes, &body, n) != 0;
        t->wrong += k != 3 || memcmp(path, "y/z", 3) != 0;
        ash_msg_free(m);
    }
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void test_threads(unsigned pairs)
{
    struct thread t[16] = {0};
    struct ash_msgpool *pool = ash_msgpool_create("passed", NULL);
    uint64_t *ids = calloc((size_t)pairs * MESSAGES, sizeof *ids);
    unsigned wrong = 0;
    for (unsigned i = 0; i < pairs; i++) {
        struct ash_ring *ring = ash_ring_create(256, ASH_SPSC);
        t[2 * i] = (struct thread){.pool = pool, .out = ring, .ids = ids + (size_t)i * MESSAGES};
        t[2 * i + 1] = (struct thread){.pool = pool, .in = ring};
        pthread_create(&t[2 * i].id, NULL, producer, &t[2 * i]);
        pthread_create(&t[2 * i + 1].id, NULL, consumer, &t[2 * i + 1]);
    }
    for (unsigned i = 0; i < 2 * pairs; i++) {
        pthread_join(t[i].id, NULL);
        wrong += t[i].wrong;
    }
    for (unsigned i = 0; i < pairs; i++)
        ash_ring_destroy(t[2 * i].out);
    is_int((int)wrong, 0, "messages go from thread to thread, whole");
    qsort(ids, (size_t)pairs * MESSAGES, sizeof *ids, compare_ids);
    int twice = ids[0] == 0;
    for (size_t i = 1; i < (size_t)pairs * MESSAGES; i++)
        twice += ids[i] == ids[i - 1];
    is_int(twice, 0, "no id is given twice");
    struct ash_msgpool_stats s = stats(pool);
    is_int((long long)(s.created + s.reused), (long long)pairs * MESSAGES, "each was created or reused");
    is_int((int)s.in_use, 0, "all are back");
    ok(s.reuse_rate > 0.9, "%u pairs: reuse %d %%", pairs, (int)(100 * s.reuse_rate));
    free(ids);
    is_int(ash_msgpool_destroy(pool), 0, "the end");
}

/* ---- memory ---- */

static void test_no_malloc(void)
{
    struct ash_msgpool *pool = ash_msgpool_create(NULL, ASH_MSGPOOL_CONFIG(.room = 1024 + 32));
    struct ash_msg *m[100];
    char body[1024] = "";
    uint64_t before = 0;
    for (unsigned round = 0; round < 101; round++) {
        if (round == 1)
            before = allocations();
        for (unsigned i = 0; i < 100; i++) {
            m[i] = ash_msg_new(pool, "svc://host/path", 15, body, sizeof body);
            ash_msg_set_meta(m[i], i, i);
            ash_msg_ref(m[i]);
        }
        for (unsigned i = 0; i < 100; i++) {
            ash_msg_free(m[i]);
            ash_msg_reset(m[i], "/", 1, body, i);
            ash_msg_free(m[i]);
        }
    }
    is_int((long long)(allocations() - before), 0, "ten thousand messages, and no malloc");
    ash_msgpool_destroy(pool);
}

static void test_memory(void)
{
    struct ash_msgpool *pool = ash_msgpool_create(NULL, NULL);
    size_t limit, used;
    ash_limit_get(&limit, &used);
    if (ash_limit_set(used + (4 << 20)) != 0) { /* the least there is */
        skip("limits are not to be had", 3);
        return;
    }
    static struct ash_msg *m[1000];
    static char large[64 * 1024];
    unsigned made = 0, odd = 0;
    for (unsigned i = 0; i < 1000; i++) {
        errno = 0;
        m[i] = ash_msg_new(pool, "/", 1, large, sizeof large);
        made += m[i] != NULL;
        odd += m[i] == NULL && errno != ENOMEM;
    }
    struct ash_msg *other = m[0];
    int status = ash_msg_reset(other, "/other", 6, large, sizeof large);
    ash_limit_set(0);
    ok(made > 0 && made < 1000 && odd == 0, "%u large messages, then no memory", made);
    is_int(status, -ENOMEM, "nor for a reset");
    is_str(part(ash_msg_target, other), "/", "which leaves the message");
    for (unsigned i = 0; i < 1000; i++)
        ash_msg_free(m[i]);
    is_int(ash_msgpool_destroy(pool), 0, "nothing is lost");
}

static void test_fork(void)
{
    struct ash_msgpool *pool = ash_msgpool_create(NULL, NULL);
    struct ash_msg *m = ash_msg_new(pool, "svc://a", 7, "body", 4);
    pid_t child = fork();
    if (child == 0) {
        struct ash_msg *other = ash_msg_new(pool, "/b", 2, NULL, 64);
        size_t n;
        int good = other != NULL && memcmp(ash_msg_body(m, &n), "body", 4) == 0;
        ash_msg_free(other);
        ash_msg_free(m);
        _exit(good && ash_msgpool_destroy(pool) == 0 ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    is_int(status, 0, "a child has the messages and makes others");
    is_str(part(ash_msg_subsystem, m), "svc", "the parent's stays");
    ash_msg_free(m);
    is_int(ash_msgpool_destroy(pool), 0, "the end");
}

int main(void)
{
    test_example();
    test_pools();
    test_targets();
    test_lengths();
    test_changes();
    dies(free_twice, "double free of message");
    dies(ref_freed, "reference to a freed message");
    test_threads(1);
    test_threads(4);
    test_no_malloc();
    test_memory();
    test_fork();
    return tap_done();
}
