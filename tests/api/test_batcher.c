/*
 * Calls in batches (ashlar/batcher.h). The first test is how a program uses it; then order, keys, cancelling, deadlines,
 * functions that submit themselves, errors, threads, fork.
 */
#include "ashlar/layers.h"
#include "ashlar/malloc.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { MS = 1000000 };

static struct ash_batcher_stats stats(struct ash_batcher *b)
{
    struct ash_batcher_stats s;
    ash_batcher_stats(b, &s);
    return s;
}

/* What happened, as a text: "f[1 2] g[3] 1=.. 2=.." */
static char events[4096];

static void event(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t n = strlen(events);
    vsnprintf(events + n, sizeof events - n, format, args);
    va_end(args);
}

static const char *events_take(void)
{
    static char text[sizeof events];
    strcpy(text, events);
    events[0] = '\0';
    return text;
}

/* ---- how it is used ---- */

struct row {
    int id, value;
};

/* Rows of a table, all that are wanted in one query. */
static void lookup(struct ash_batch_call *const *calls, unsigned n, void *user)
{
    struct row *table = user;
    event("query of %u;", n);
    for (unsigned i = 0; i < n; i++) {
        const int *id = calls[i]->arg;
        if (*id < 3)
            calls[i]->result = &table[*id];
        else
            calls[i]->status = -ENOENT;
    }
}

static void answer(const struct ash_batch_call *call)
{
    const struct row *row = call->result;
    const char *client = call->user;
    event(" %s: %d", client, call->status == 0 ? row->value : call->status);
}

static void test_example(void)
{
    struct row table[3] = {{0, 10}, {1, 11}, {2, 12}};
    int id[] = {2, 7, 0};
    struct ash_batcher *b =
        ash_batcher_create("lookups", ASH_BATCHER_CONFIG(.max_calls = 100, .max_wait_ns = 2 * MS, .done = answer));
    int rows = ash_batcher_add(b, lookup, table);
    char alice[] = "alice", bob[] = "bob", carol[] = "carol", dave[] = "dave";
    ash_batcher_tick(b, 5 * MS);
    is_int(ash_batcher_submit(b, (unsigned)rows, &id[0], 100 + 2, alice, NULL), 0, "a call");
    ash_batcher_submit(b, (unsigned)rows, &id[1], 100 + 7, bob, NULL);
    ash_batcher_submit(b, (unsigned)rows, &id[0], 100 + 2, carol, NULL);
    ash_batcher_submit(b, (unsigned)rows, &id[2], 100 + 0, dave, NULL);
    is_int(ash_batcher_tick(b, 6 * MS), 0, "a millisecond later it is not due");
    is_str(events_take(), "", "and nothing was called");
    is_int((long long)ash_batcher_due(b), 7 * MS, "but it will be");
    is_int(ash_batcher_tick(b, 7 * MS), 4, "then it is");
    is_str(events_take(), "query of 3; alice: 12 bob: -2 carol: 12 dave: 10",
           "one query, equal calls in it once, answers in the order of the calls");
    is_int(ash_batcher_destroy(b), 0, "the end");
}

/* ---- order ---- */

/* Results are the arguments; an argument of 13 fails. */
static void f_run(struct ash_batch_call *const *calls, unsigned n, void *user)
{
    event("%s[", (const char *)user);
    for (unsigned i = 0; i < n; i++) {
        event("%s%d", i > 0 ? " " : "", (int)(intptr_t)calls[i]->arg);
        calls[i]->result = calls[i]->arg;
        calls[i]->status = calls[i]->arg == (void *)13 ? -EIO : 0;
    }
    event("] ");
}

static void f_done(const struct ash_batch_call *call)
{
    if (call->status != 0)
        event("%d:%d ", (int)call->ticket, call->status);
    else
        event("%d=%d ", (int)call->ticket, (int)(intptr_t)call->result);
}

static char f_name[] = "f", g_name[] = "g", h_name[] = "h";

static struct ash_batcher *batcher(unsigned max_calls)
{
    struct ash_batcher *b = ash_batcher_create(NULL, ASH_BATCHER_CONFIG(.max_calls = max_calls, .done = f_done));
    ash_batcher_add(b, f_run, f_name);
    ash_batcher_add(b, f_run, g_name);
    ash_batcher_add(b, f_run, h_name);
    return b;
}

static uint64_t submit(struct ash_batcher *b, unsigned function, intptr_t arg, uint64_t key)
{
    uint64_t ticket = 0;
    if (ash_batcher_submit(b, function, (void *)arg, key, NULL, &ticket) != 0)
        return 0;
    return ticket;
}

static void test_order(void)
{
    struct ash_batcher *b = batcher(6);
    submit(b, 1, 10, 0);
    submit(b, 0, 13, 0);
    submit(b, 1, 12, 0);
    submit(b, 2, 14, 0);
    submit(b, 0, 15, 0);
    is_str(events_take(), "", "five of six wait");
    is_int((int)submit(b, 1, 16, 0), 6, "the sixth is the last");
    is_str(events_take(), "g[10 12 16] f[13 15] h[14] 1=10 2:-5 3=12 4=14 5=15 6=16 ",
           "functions by their first call, each with its own; answers in the order of submission");
    submit(b, 0, 1, 0);
    is_int(ash_batcher_flush(b), 1, "a flush makes what there is");
    is_str(events_take(), "f[1] 7=1 ", "tickets go on");
    is_int(ash_batcher_flush(b), 0, "or nothing");
    is_str(events_take(), "", "and calls nobody");
    struct ash_batcher_stats s = stats(b);
    ok(s.submitted == 7 && s.completed == 7 && s.failed == 1 && s.runs == 4, "calls are counted");
    ok(s.batches == 2 && s.full == 1 && s.flushed == 1 && s.timed == 0, "and batches by their cause");
    is_int(ash_batcher_destroy(b), 0, "the end");
}

static void test_keys(void)
{
    struct ash_batcher *b = batcher(100);
    submit(b, 0, 1, 5);
    submit(b, 1, 2, 5);
    submit(b, 0, 3, 5);
    submit(b, 0, 4, 6);
    submit(b, 0, 5, 0);
    submit(b, 0, 6, 0);
    submit(b, 1, 13, 7);
    submit(b, 1, 8, 7);
    ash_batcher_flush(b);
    is_str(events_take(), "f[1 4 5 6] g[2 13] 1=1 2=2 3=1 4=4 5=5 6=6 7:-5 8:-5 ",
           "equal function and key are one call, failed ones too; 0 is no key");
    is_int((int)stats(b).merged, 2, "two were merged");
    is_int((int)stats(b).failed, 1, "one call failed");
    submit(b, 0, 9, 5);
    ash_batcher_flush(b);
    is_str(events_take(), "f[9] 9=9 ", "a batch does not know the last one's keys");
    ash_batcher_destroy(b);
}

static void test_cancel(void)
{
    struct ash_batcher *b = batcher(100);
    uint64_t first = submit(b, 0, 1, 5), second = submit(b, 0, 2, 0), third = submit(b, 0, 3, 5);
    uint64_t fourth = submit(b, 1, 4, 6), fifth = submit(b, 1, 5, 6);
    is_int(ash_batcher_cancel(b, first), 0, "cancelled, while another wants the same");
    is_int(ash_batcher_cancel(b, first), -ENOENT, "once");
    is_int(ash_batcher_cancel(b, second), 0, "alone");
    is_int(ash_batcher_cancel(b, fourth), 0, "one of two");
    is_int(ash_batcher_cancel(b, fifth), 0, "and the other");
    is_int(ash_batcher_cancel(b, 0), -ENOENT, "no ticket");
    is_int(ash_batcher_cancel(b, fifth + 1), -ENOENT, "one that was not given yet");
    is_int(ash_batcher_flush(b), 5, "all are told");
    is_str(events_take(), "f[1] 1:-125 2:-125 3=1 4:-125 5:-125 ", "what nobody wants is not called");
    is_int(ash_batcher_cancel(b, third), -ENOENT, "too late");
    is_int((int)stats(b).cancelled, 4, "counted");
    ash_batcher_destroy(b);
}

static void test_deadline(void)
{
    struct ash_batcher *b = batcher(100);
    is_int((int)ash_batcher_due(b), -1, "nothing is due");
    ash_batcher_tick(b, 10 * MS);
    submit(b, 0, 1, 0);
    ash_batcher_tick(b, 10 * MS + MS / 2);
    submit(b, 0, 2, 0);
    is_int(ash_batcher_due(b), 11 * MS, "the first call's time counts");
    is_int(ash_batcher_tick(b, 9 * MS), 0, "time does not go back");
    is_int(ash_batcher_tick(b, 11 * MS), 2, "due");
    is_int((int)stats(b).timed, 1, "counted");
    submit(b, 0, 3, 0);
    is_int(ash_batcher_due(b), 12 * MS, "the next batch counts from its own first");
    ash_batcher_flush(b);
    ash_batcher_destroy(b);
    b = ash_batcher_create(NULL, ASH_BATCHER_CONFIG(.max_wait_ns = -1));
    ash_batcher_add(b, f_run, f_name);
    submit(b, 0, 1, 0);
    is_int((int)ash_batcher_due(b), -1, "one that waits for ever is never due");
    is_int(ash_batcher_tick(b, INT64_MAX), 0, "whatever the time");
    is_int(ash_batcher_flush(b), 1, "a flush makes it, and nobody has to be told");
    ash_batcher_destroy(b);
    b = ash_batcher_create(NULL, ASH_BATCHER_CONFIG(.max_wait_ns = 10));
    ash_batcher_add(b, f_run, f_name);
    ash_batcher_tick(b, INT64_MAX - 5);
    submit(b, 0, 1, 0);
    is_int(ash_batcher_tick(b, INT64_MAX), 1, "the end of time is a time");
    ash_batcher_destroy(b);
    events_take();
}

/* ---- functions that use the batcher ---- */

static struct ash_batcher *inner;
static int inner_submits, inner_refused, inner_flush, inner_destroy;

static void submitting_run(struct ash_batch_call *const *calls, unsigned n, void *user)
{
    (void)user;
    (void)calls;
    event("run of %u;", n);
    inner_flush = ash_batcher_flush(inner);
    inner_destroy = ash_batcher_destroy(inner);
    while (inner_submits > 0 && ash_batcher_submit(inner, 0, NULL, 0, NULL, NULL) == 0)
        inner_submits--;
    inner_refused = inner_submits > 0 ? ash_batcher_submit(inner, 0, NULL, 0, NULL, NULL) : 0;
}

static void test_within(void)
{
    inner = ash_batcher_create(NULL, ASH_BATCHER_CONFIG(.max_calls = 3));
    ash_batcher_add(inner, submitting_run, NULL);
    inner_submits = 7;
    for (int i = 0; i < 3; i++)
        ash_batcher_submit(inner, 0, NULL, 0, NULL, NULL);
    is_str(events_take(), "run of 3;run of 3;run of 3;", "what a function submits is made after its batch, if it is full");
    is_int((int)stats(inner).waiting, 1, "or waits");
    is_int(inner_flush, -EBUSY, "a flush within one does nothing");
    is_int(inner_destroy, -EBUSY, "nor can it be destroyed");
    inner_submits = 9;
    ash_batcher_flush(inner);
    ok(stats(inner).refused > 0, "beyond a full batch it is refused: %d", (int)stats(inner).refused);
    ash_batcher_flush(inner);
    is_int(ash_batcher_destroy(inner), 0, "the end");
    events_take();
}

static void test_errors(void)
{
    struct ash_batcher_config unset = {.struct_size = 0};
    errno = 0;
    ok(ash_batcher_create("", NULL) == NULL && errno == EINVAL, "an empty name");
    errno = 0;
    ok(ash_batcher_create(NULL, &unset) == NULL && errno == EINVAL, "a config without its size");
    errno = 0;
    ok(ash_batcher_create(NULL, ASH_BATCHER_CONFIG(.max_calls = 65537)) == NULL && errno == EINVAL, "too many calls");
    struct ash_batcher *b = ash_batcher_create("errors", NULL);
    is_int(ash_batcher_submit(b, 0, NULL, 0, NULL, NULL), -EINVAL, "no such function");
    is_int(ash_batcher_add(b, NULL, NULL), -EINVAL, "no function");
    is_int(ash_batcher_add(NULL, f_run, NULL), -EINVAL, "add: no batcher");
    is_int(ash_batcher_submit(NULL, 0, NULL, 0, NULL, NULL), -EINVAL, "submit: no batcher");
    is_int(ash_batcher_cancel(NULL, 1), -EINVAL, "cancel: no batcher");
    is_int(ash_batcher_tick(NULL, 1), -EINVAL, "tick: no batcher");
    is_int(ash_batcher_flush(NULL), -EINVAL, "flush: no batcher");
    is_int((int)ash_batcher_due(NULL), -EINVAL, "due: no batcher");
    is_int(ash_batcher_destroy(NULL), -EINVAL, "destroy: no batcher");
    is_int(ash_batcher_stats(b, NULL), -EINVAL, "stats: nowhere to");
    is_int(ash_batcher_dump(NULL, 1), -EINVAL, "dump: no batcher");
    is_int(ash_batcher_dump(b, -1), -EBADF, "dump: no descriptor");
    int last = -1;
    for (int i = 0; i < 1024; i++)
        last = ash_batcher_add(b, f_run, f_name);
    is_int(last, 1023, "1024 functions");
    is_int(ash_batcher_add(b, f_run, f_name), -ENOSPC, "and no more");
    submit(b, 1023, 1, 0);
    is_int(ash_batcher_destroy(b), -EBUSY, "not while a call waits");
    ash_batcher_flush(b);
    int ends[2];
    char text[512] = "";
    if (pipe(ends) == 0) {
        is_int(ash_batcher_dump(b, ends[1]), 0, "a dump");
        ok(read(ends[0], text, sizeof text - 1) > 0 && strstr(text, "batcher errors: submitted 1  refused 0") != NULL,
           "says it: %s", text);
        close(ends[0]);
        close(ends[1]);
    }
    is_int(ash_batcher_destroy(b), 0, "the end");
    events_take();
}

/* ---- threads ---- */

enum { THREADS = 8, CALLS = 20000 };

static struct ash_batcher *shared;
static _Atomic(uint64_t) told[THREADS * CALLS];
static _Atomic(uint64_t) cancels;
static uint64_t last_ticket, out_of_order, inside;

/* One batch at a time: these are plain. */
static void shared_run(struct ash_batch_call *const *calls, unsigned n, void *user)
{
    (void)user;
    inside++;
    for (unsigned i = 0; i < n; i++)
        calls[i]->result = (void *)((uintptr_t)calls[i]->arg + 1);
}

static void shared_done(const struct ash_batch_call *call)
{
    uintptr_t which = (uintptr_t)call->user;
    out_of_order += call->ticket != last_ticket + 1;
    last_ticket = call->ticket;
    /* Equal calls have the result of the first, whose argument is the key for all of them. */
    if (call->status == 0 && (uintptr_t)call->result != (uintptr_t)call->arg + 1)
        told[which] += 1000000;
    told[which]++;
}

static void *caller(void *arg)
{
    uintptr_t thread = (uintptr_t)arg;
    uint64_t state = thread * 77 + 1;
    for (uintptr_t i = 0; i < CALLS; i++) {
        uint64_t ticket, key = (state = state * 6364136223846793005u + 1) >> 60;
        while (ash_batcher_submit(shared, (unsigned)(state >> 40 & 3), (void *)(uintptr_t)key, key,
                                  (void *)(thread * CALLS + i), &ticket) == -EAGAIN)
            sched_yield();
        if (i % 16 == 0 && ash_batcher_cancel(shared, ticket) == 0)
            cancels++;
        if (i % 64 == 0)
            ash_batcher_flush(shared);
        if (i % 32 == 0)
            ash_batcher_tick(shared, (int64_t)i * 1000);
    }
    return NULL;
}

static void test_threads(unsigned threads)
{
    pthread_t id[THREADS];
    uint64_t wrong = 0;
    shared = ash_batcher_create("shared", ASH_BATCHER_CONFIG(.max_calls = 50, .done = shared_done));
    last_ticket = out_of_order = inside = 0;
    cancels = 0;
    memset(told, 0, sizeof told);
    for (unsigned i = 0; i < 4; i++)
        ash_batcher_add(shared, shared_run, NULL);
    for (uintptr_t i = 0; i < threads; i++)
        pthread_create(&id[i], NULL, caller, (void *)i);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(id[i], NULL);
    ash_batcher_flush(shared);
    for (unsigned i = 0; i < threads * CALLS; i++)
        wrong += told[i] != 1;
    struct ash_batcher_stats s = stats(shared);
    ok(wrong == 0, "%u threads: every call is told once, with its result", threads);
    is_int((long long)out_of_order, 0, "in the order of tickets");
    ok(s.submitted == threads * CALLS && s.completed == s.submitted && s.cancelled == cancels && s.waiting == 0,
       "and counted: %d cancelled, %d merged, %d refused", (int)s.cancelled, (int)s.merged, (int)s.refused);
    ok(s.batches == s.full + s.timed + s.flushed && s.runs == inside, "batches add up: %d", (int)s.batches);
    is_int(ash_batcher_destroy(shared), 0, "the end");
}

/* ---- fork ---- */

static _Atomic(int) held, hold;

static void holding_run(struct ash_batch_call *const *calls, unsigned n, void *user)
{
    (void)calls;
    (void)n;
    (void)user;
    held = 1;
    while (hold)
        sched_yield();
}

static void *flush_it(void *b)
{
    ash_batcher_flush(b);
    return NULL;
}

static void test_fork(void)
{
    struct ash_batcher *b = ash_batcher_create(NULL, NULL);
    pthread_t other;
    int status;
    ash_batcher_add(b, holding_run, NULL);
    submit(b, 0, 1, 0);
    hold = 1;
    held = 0;
    pthread_create(&other, NULL, flush_it, b);
    while (!held)
        sched_yield();
    submit(b, 0, 2, 0);
    pid_t child = fork();
    if (child == 0) {
        hold = 0;
        submit(b, 0, 3, 0);
        _exit(ash_batcher_flush(b) == 2 && ash_batcher_destroy(b) == 0 ? 0 : 1);
    }
    waitpid(child, &status, 0);
    is_int(status, 0, "in a child calls that wait are made; a batch of another thread is dropped");
    is_int(ash_batcher_flush(b), -EBUSY, "in the parent it is still being made");
    is_int(ash_batcher_tick(b, INT64_MAX), -EBUSY, "also when it is due");
    hold = 0;
    pthread_join(other, NULL);
    is_int(ash_batcher_flush(b), 1, "then the next one is");
    is_int(ash_batcher_destroy(b), 0, "the end");
}

static void test_memory(void)
{
    size_t limit, used;
    ash_limit_get(&limit, &used);
    if (ash_limit_set(used + (1 << 20)) != 0) {
        skip("limits are not to be had", 1);
        return;
    }
    errno = 0;
    struct ash_batcher *b = ash_batcher_create(NULL, ASH_BATCHER_CONFIG(.max_calls = 65536));
    int error = errno;
    ash_limit_set(0);
    ok(b == NULL && error == ENOMEM, "no memory, no batcher");
}

int main(void)
{
    test_example();
    test_order();
    test_keys();
    test_cancel();
    test_deadline();
    test_within();
    test_errors();
    test_threads(2);
    test_threads(8);
    test_fork();
    test_memory();
    return tap_done();
}
