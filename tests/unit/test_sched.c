/*
 * The scheduler and the dispatcher (txn/sched, txn/dispatch). The first test is how transactions get in each other's way
 * and out of it; then batches drawn at random, whose result has to be that of running them one by one, whichever order
 * and however many threads; memory, and the lack of it.
 */
#include "draw.h"
#include "tap.h"

#include "ashlar/malloc.h"
#include "ashlar/stats.h"
#include "txn/dispatch.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { MOST = 16 }; /* keys of a transaction */

struct txn {
    struct dispatch_txn head;
    struct sched_request request[MOST];
    uint64_t writes[MOST], reads[MOST];
    uint64_t number;
    bool ran;
};

static struct txn *txn_of(struct sched_txn *t)
{
    return (struct txn *)(void *)((char *)t - offsetof(struct txn, head.sched));
}

/* Adds one of the test's transactions. */
static bool add(struct sched *s, struct txn *t)
{
    t->head.sched.request = t->request;
    if (!sched_reserve(s, t->head.write_count + t->head.read_count))
        abort();
    return sched_add(s, &t->head.sched, t->writes, t->head.write_count, t->reads, t->head.read_count);
}

/* Which ones become ready by the end of one, in a word of their numbers. */
static const char *release(struct sched *s, struct txn *t)
{
    static char ready[16];
    struct sched_txn *first = NULL, **last = &first;
    size_t n = 0;
    sched_release(s, &t->head.sched, &last);
    for (; first != NULL; first = first->next_ready)
        ready[n++] = (char)('0' + txn_of(first)->number);
    ready[n] = '\0';
    sched_check(s);
    return ready;
}

/* ---- how it goes ---- */

enum { ALICE = 100, BOB, CAROL, DAVE };

static void test_example(void)
{
    struct sched s;
    struct txn transfer1 = {.head = {.write_count = 2}, .writes = {ALICE, BOB}, .number = 1};
    struct txn transfer2 = {.head = {.write_count = 2}, .writes = {CAROL, DAVE}, .number = 2};
    struct txn report3 = {.head = {.read_count = 4}, .reads = {ALICE, BOB, CAROL, DAVE}, .number = 3};
    struct txn report4 = {.head = {.read_count = 1}, .reads = {BOB}, .number = 4};
    struct txn transfer5 = {.head = {.write_count = 2}, .writes = {BOB, DAVE}, .number = 5};
    is_int(sched_init(&s), 0, "a scheduler");
    ok(add(&s, &transfer1), "Alice to Bob: runs at once");
    ok(add(&s, &transfer2), "Carol to Dave: at the same time");
    ok(!add(&s, &report3), "a report on all four waits for both");
    ok(!add(&s, &report4), "one on Bob for the first");
    ok(!add(&s, &transfer5), "Bob to Dave for all of them");
    is_str(release(&s, &transfer1), "4", "the first is done: the report on Bob runs");
    is_str(release(&s, &transfer2), "3", "the second: that on all, at the same time");
    is_str(release(&s, &report4), "", "one reader of Bob is left");
    is_str(release(&s, &report3), "5", "none: Bob may be written to");
    is_str(release(&s, &transfer5), "", "nobody waits");
    is_int((int)s.keys, 0, "no key is remembered");
    is_int((int)s.conflicts, 3, "three had to wait");
    sched_fini(&s);
}

static void test_cases(void)
{
    struct sched s;
    struct txn twice = {.head = {.write_count = 3, .read_count = 3}, .writes = {7, 7, 8}, .reads = {8, 9, 9}};
    struct txn none = {.number = 1}, reader = {.head = {.read_count = 1}, .reads = {9}, .number = 2};
    struct txn writer = {.head = {.write_count = 1}, .writes = {9}, .number = 3};
    struct txn late = {.head = {.read_count = 1}, .reads = {9}, .number = 4};
    struct txn later = {.head = {.read_count = 1}, .reads = {9}, .number = 5};
    sched_init(&s);
    ok(add(&s, &twice), "a key that is named twice, or to read and to write, is one");
    is_int((int)twice.head.sched.requests, 3, "with one request");
    ok(add(&s, &none), "a transaction without keys is ready");
    is_str(release(&s, &none), "", "and nothing waits for it");
    ok(add(&s, &reader), "readers share");
    ok(!add(&s, &writer), "a writer waits for both");
    ok(!add(&s, &late) && !add(&s, &later), "readers behind it wait for it: nobody is passed by");
    is_str(release(&s, &twice), "", "one reader is done");
    is_str(release(&s, &reader), "3", "both");
    is_str(release(&s, &writer), "45", "readers next to each other are let in together");
    is_str(release(&s, &late), "", "done");
    is_str(release(&s, &later), "", "done");
    is_int((int)s.keys, 0, "no key is remembered");
    /* The memory of a transaction that has ended is used again while a reader that came before it is there still. */
    struct txn first = {.head = {.read_count = 1}, .reads = {1}}, second = first;
    ok(add(&s, &first) && add(&s, &second), "two readers");
    release(&s, &second);
    second.head.read_count = 0;
    second.head.write_count = 1;
    second.writes[0] = 1;
    ok(!add(&s, &second), "a place in memory says nothing: the new one waits for the first reader");
    is_str(release(&s, &first), "0", "until that is done");
    release(&s, &second);
    sched_fini(&s);
}

/* ---- at random ---- */

enum { KEYS_MOST = 4096, BATCH = 4096 };

static uint64_t values[KEYS_MOST], expected[KEYS_MOST];
static struct txn txns[BATCH];
static struct dispatch_txn *heads[BATCH];
static uint64_t state;

static uint64_t draw(void)
{
    return draw_from(&state);
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = (a ^ b) * 0x9e3779b97f4a7c15u;
    return x ^ x >> 31;
}

/* What is written depends on all that was read, and on who writes: no two orders of conflicting ones give the same. */
static void apply(const struct txn *t, uint64_t *v)
{
    uint64_t h = t->number;
    for (unsigned i = 0; i < t->head.read_count; i++)
        h = mix(h, v[t->reads[i]]);
    for (unsigned i = 0; i < t->head.write_count; i++)
        h = mix(h, v[t->writes[i]]);
    for (unsigned i = 0; i < t->head.write_count; i++)
        v[t->writes[i]] = mix(h, i);
}

static void body(struct dispatch_txn *t)
{
    struct txn *x = (struct txn *)(void *)t;
    apply(x, values);
    x->ran = true;
}

static const struct dispatch_calls calls = {.body = body};

/* `count` transactions on `keys` keys, with their serial result in `expected`. */
static void draw_batch(unsigned count, unsigned keys, unsigned most)
{
    for (unsigned k = 0; k < keys; k++)
        values[k] = expected[k] = draw();
    for (unsigned i = 0; i < count; i++) {
        struct txn *t = &txns[i];
        *t = (struct txn){.head = {.write_count = (unsigned)(draw() % most), .read_count = (unsigned)(draw() % most)},
                          .number = i};
        for (unsigned k = 0; k < most; k++) {
            t->writes[k] = draw() % keys;
            t->reads[k] = draw() % keys;
        }
        t->head.writes = t->writes;
        t->head.reads = t->reads;
        t->head.sched.request = t->request;
        heads[i] = &t->head;
        apply(t, expected);
    }
}

/* The same with `count` keys each, of which the first is the same for all, or else drawn as the others. */
static void draw_writers(unsigned keys, unsigned count, bool one_queue)
{
    draw_batch(BATCH, keys, MOST);
    memcpy(values, expected, sizeof values);
    for (unsigned i = 0; i < BATCH; i++) {
        struct txn *t = &txns[i];
        t->head.write_count = count;
        t->head.read_count = 0;
        t->writes[0] = one_queue ? 0 : t->writes[0];
        apply(t, expected);
    }
}

static bool as_expected(unsigned keys)
{
    return memcmp(values, expected, keys * sizeof values[0]) == 0;
}

/* The ready ones run in an order drawn at random, some before others have their places. */
static bool run_at_random(struct sched *s, unsigned count)
{
    static struct txn *ready[BATCH];
    unsigned n = 0, next = 0;
    while (next < count || n != 0) {
        if (next < count && (n == 0 || draw() % 2 != 0)) {
            if (add(s, &txns[next]))
                ready[n++] = &txns[next];
            next++;
        } else if (n != 0) {
            unsigned at = (unsigned)(draw() % n);
            struct txn *t = ready[at];
            struct sched_txn *first = NULL, **last = &first;
            ready[at] = ready[--n];
            body(&t->head);
            sched_release(s, &t->head.sched, &last);
            for (; first != NULL; first = first->next_ready)
                ready[n++] = txn_of(first);
        }
        if (n == 0 && next == count)
            break;
    }
    sched_check(s);
    return s->keys == 0;
}

static void test_oracle(unsigned seeds)
{
    struct sched s;
    unsigned wrong = 0, left = 0;
    sched_init(&s);
    for (unsigned seed = 1; seed <= seeds; seed++) {
        state = seed * 0x9e3779b97f4a7c15u;
        unsigned keys = 2 + (unsigned)(draw() % 60), most = 1 + (unsigned)(draw() % 6);
        draw_batch(60, keys, most);
        left += !run_at_random(&s, 60);
        if (!as_expected(keys) && wrong++ == 0)
            tap_line("# seed %u: not the serial result", seed);
    }
    is_int((int)wrong, 0, "batches drawn at random, run in orders drawn at random: the serial result");
    is_int((int)left, 0, "and nothing is left in the table");
    ok(s.conflicts > seeds, "%d of %u had to wait", (int)s.conflicts, 60 * seeds);
    sched_fini(&s);
}

/* Batches of 4096 through the dispatcher, with threads. */
static void test_dispatch(unsigned workers, enum dispatch_way way, unsigned seeds)
{
    struct dispatch d;
    struct ash_exec *e = ash_exec_create(workers, NULL);
    unsigned wrong = 0;
    is_int(dispatch_init(&d, e, calls), 0, "a dispatcher");
    dispatch_force(&d, way);
    for (unsigned seed = 1; seed <= seeds; seed++) {
        size_t done;
        state = seed * 0x9e3779b97f4a7c15u;
        unsigned keys = seed % 4 == 0 ? 2 : seed % 4 == 1 ? 16 : seed % 4 == 2 ? 200 : KEYS_MOST;
        draw_batch(BATCH, keys, 4);
        d.batch_size = 1 + seed % DISPATCH_BATCH;
        wrong += dispatch_run(&d, heads, BATCH, BATCH, &done) != 0 || done != BATCH || !as_expected(keys);
        sched_check(&d.sched);
    }
    ok(wrong == 0, "%u workers, way %d: %u batches of %d have the serial result", workers, (int)way, seeds, BATCH);
    ok(way == DISPATCH_WAYS || (d.count[way] == (uint64_t)seeds * BATCH && d.sched.keys == 0), "all of them that way");
    dispatch_fini(&d);
    ash_exec_destroy(e);
}

/*
 * The same as lists that grow while they are run, a part at a time: what is said to be done is, and has had its effect,
 * while others may be under way.
 */
static void test_lists(unsigned workers, enum dispatch_way way, unsigned seeds)
{
    struct dispatch d;
    struct ash_exec *e = ash_exec_create(workers, NULL);
    unsigned wrong = 0, early = 0;
    dispatch_init(&d, e, calls);
    dispatch_force(&d, way);
    for (unsigned seed = 1; seed <= seeds; seed++) {
        state = seed * 0x9e3779b97f4a7c15u;
        unsigned keys = seed % 3 == 0 ? 16 : seed % 3 == 1 ? 200 : KEYS_MOST;
        draw_batch(BATCH, keys, 4);
        size_t n = 0, done = 0, checked = 0;
        while (n < BATCH || done < n) {
            n = size_min(n + draw() % 300, BATCH);
            if (draw() % 2 != 0)
                dispatch_more(&d, heads, n);
            size_t want = done + draw() % (n - done + 1);
            wrong += dispatch_run(&d, heads, n, want, &done) != 0 || done < want || done > n;
            for (; checked < done; checked++)
                wrong += !txns[checked].ran;
            early += done > want;
            if (done == n && n < BATCH) { /* the list is over: what follows is a new one */
                wrong += dispatch_run(&d, heads + n, BATCH - n, BATCH - n, &done) != 0 || done != BATCH - n;
                break;
            }
        }
        wrong += !as_expected(keys) || d.sched.keys != 0 || d.in_flight != 0;
        sched_check(&d.sched);
    }
    ok(wrong == 0, "%u workers, way %d: %u lists that grow have the serial result", workers, (int)way, seeds);
    ok(way != DISPATCH_PARALLEL || early > 0, "more may be done than was asked for");
    dispatch_fini(&d);
    ash_exec_destroy(e);
}

/* ---- deciding ---- */

static void long_body(struct dispatch_txn *t)
{
    struct txn *x = (struct txn *)(void *)t;
    for (int i = 0; i < 400; i++)
        x->number = mix(x->number, (uint64_t)i);
    body(t);
}

static void test_deciding(void)
{
    struct dispatch d;
    struct ash_exec *e = ash_exec_create(2, NULL);
    dispatch_init(&d, e, (struct dispatch_calls){.body = long_body});
    state = 1;
    draw_writers(2, 2, false);
    for (int i = 0; i < 30; i++)
        dispatch_run(&d, heads, BATCH, BATCH, NULL);
    ok(d.trials > 0, "two hot keys: the other way was tried, %d times", (int)d.trials);
    is_int((int)d.count[DISPATCH_PARALLEL], 0, "and what was seen of the conflicts was enough");
    dispatch_fini(&d);
    /* Lists far shorter than a trial: it goes on from one to the next. */
    dispatch_init(&d, e, (struct dispatch_calls){.body = long_body});
    draw_writers(KEYS_MOST, 1, false);
    for (int i = 0; i < 30 * BATCH / 64; i++)
        dispatch_run(&d, heads + i % (BATCH / 64) * 64, 64, 64, NULL);
    ok(d.trials > 0 && d.count[DISPATCH_PARALLEL] >= 256, "lists of 64: the other way was tried, %d times",
       (int)d.trials);
    dispatch_fini(&d);
    is_int(dispatch_init(&d, NULL, calls), 0, "without an executor");
    draw_batch(BATCH, 16, 3);
    is_int(dispatch_run(&d, heads, BATCH, BATCH, NULL), 0, "everything is run");
    ok(as_expected(16), "in order");
    dispatch_fini(&d);
    ash_exec_destroy(e);
}

/* ---- memory ---- */

static uint64_t allocations(void)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
    return s.hits + s.misses;
}

static void test_memory(void)
{
    struct dispatch d;
    struct ash_exec *e = ash_exec_create(1, NULL);
    dispatch_init(&d, e, calls);
    dispatch_force(&d, DISPATCH_PARALLEL);
    state = 5;
    draw_batch(BATCH, KEYS_MOST, 4);
    d.batch_size = 8;
    for (int i = 0; i < 20; i++)
        dispatch_run(&d, heads, BATCH, BATCH, NULL);
    uint64_t before = allocations();
    for (int i = 0; i < 50; i++)
        dispatch_run(&d, heads, BATCH, BATCH, NULL);
    uint64_t more = allocations() - before;
    ok(more <= 2, "200,000 transactions more: %d allocations", (int)more);
    dispatch_fini(&d);
    ash_exec_destroy(e);
}

/* The memory runs out in the middle: what was not run is said, nothing is half done, and later it goes on. */
static void test_no_memory(void)
{
    unsigned short_of = 0, wrong = 0;
    struct ash_exec *e = ash_exec_create(1, NULL);
    void *ballast = ash_malloc(8 * MIB); /* there is no limit below 4 MiB */
    for (unsigned room = 0; room < 24; room++) {
        struct dispatch d;
        size_t limit, used, done = 0, again = 0;
        state = room + 1;
        draw_writers(KEYS_MOST, 6, true);
        if (dispatch_init(&d, e, calls) != 0)
            abort();
        dispatch_force(&d, DISPATCH_PARALLEL);
        d.batch_size = 1;
        ash_trim();
        ash_limit_get(&limit, &used);
        ash_limit_set(used + room * 65536);
        int status = dispatch_run(&d, heads, BATCH, BATCH, &done);
        ash_limit_set(0);
        short_of += status == -ENOMEM;
        wrong += (status == 0) != (done == BATCH) || (status != 0 && status != -ENOMEM);
        if (done < BATCH)
            wrong += dispatch_run(&d, heads + done, BATCH - done, BATCH - done, &again) != 0 || done + again != BATCH;
        wrong += !as_expected(KEYS_MOST);
        sched_check(&d.sched);
        dispatch_fini(&d);
    }
    is_int((int)wrong, 0, "without memory: what was not run is told, and run later");
    ok(short_of > 0, "that was so %u times", short_of);
    ash_free(ballast);
    ash_exec_destroy(e);
}

/* The checks notice what they are there for. */
static int child_dies(void (*fn)(struct sched *))
{
    int status;
    struct sched s;
    struct txn t = {.head = {.write_count = 1}, .writes = {1}}, u = t;
    sched_init(&s);
    add(&s, &t);
    add(&s, &u);
    pid_t pid = fork();
    if (pid == 0) {
        close(2);
        fn(&s);
        sched_check(&s);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    sched_fini(&s);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void break_nothing(struct sched *s)
{
    (void)s;
}

static void break_count(struct sched *s)
{
    s->keys++;
}

static void break_place(struct sched *s)
{
    struct sched_key *k = NULL;
    for (size_t i = 0; i <= s->mask; i++)
        if (s->bucket[i] != NULL) {
            k = s->bucket[i];
            s->bucket[i] = NULL;
        }
    s->bucket[0] = k;
    s->bucket[1] = NULL;
}

int main(void)
{
    test_example();
    test_cases();
    test_oracle(10000);
    for (unsigned workers = 1; workers <= 4; workers *= 2) {
        test_dispatch(workers, DISPATCH_PARALLEL, 40);
        test_dispatch(workers, DISPATCH_WAYS, 20);
        test_lists(workers, DISPATCH_PARALLEL, 20);
        test_lists(workers, DISPATCH_WAYS, 20);
    }
    test_dispatch(2, DISPATCH_SERIAL, 8);
    test_lists(2, DISPATCH_SERIAL, 8);
    test_deciding();
    test_memory();
    test_no_memory();
    is_int(child_dies(break_nothing), 0, "the check finds nothing");
    is_int(child_dies(break_count), 1, "a wrong count is found");
    is_int(child_dies(break_place), 1, "a key in another's place is");
    return tap_done();
}
