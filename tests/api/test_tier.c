/*
 * Tiers (ashlar/tier.h). The first test is how a runtime uses them; then thresholds, cool-downs, failures, executors,
 * many threads at one function, demotion and fork.
 */
#include "ashlar/layers.h"
#include "clock.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { NONE = -1 };

static struct ash_tier_stats stats(struct ash_tier *t)
{
    struct ash_tier_stats s;
    ash_tier_stats(t, &s);
    return s;
}

/* ---- how it is used ---- */

struct function {
    struct ash_tier_fn *tier;
    int (*code)(int); /* what compile made, valid from tier 1 on */
    int interpreted, compiled;
};

static int fast_square(int x)
{
    return x * x;
}

static int compile_square(void *arg, unsigned tier, void *user)
{
    struct function *f = arg;
    (void)tier;
    ++*(int *)user;
    f->code = fast_square;
    return 0;
}

static int call(struct function *f, int x)
{
    if (ash_tier_hit(f->tier) == 0) {
        f->interpreted++;
        return x * x; /* the interpreter */
    }
    f->compiled++;
    return f->code(x);
}

static void test_example(void)
{
    int compilations = 0;
    struct ash_tier *t = ash_tier_create("example", ASH_TIER_CONFIG(.compile = compile_square, .user = &compilations,
                                                                    .tiers = 2, .cooldown_ns = {NONE}));
    struct function f = {.interpreted = 0};
    f.tier = ash_tier_register(t, "square", &f);
    int wrong = 0;
    for (int i = 0; i < 1000; i++)
        wrong += call(&f, i) != i * i;
    is_int(wrong, 0, "a function is called 1000 times");
    is_int(compilations, 1, "and compiled once");
    is_int(f.interpreted, 99, "at its 100th call");
    is_int(f.compiled, 901, "which is the first that is fast");
    is_int(ash_tier_unregister(t, f.tier), 0, "the function is gone");
    is_int(ash_tier_destroy(t), 0, "the end");
}

/* ---- settings ---- */

static int compile_any(void *arg, unsigned tier, void *user)
{
    (void)arg, (void)tier, (void)user;
    return 0;
}

static void test_create(void)
{
    struct ash_tier_config bad[] = {
        {.struct_size = sizeof bad[0]},
        {.struct_size = sizeof bad[0], .compile = compile_any, .tiers = 1},
        {.struct_size = sizeof bad[0], .compile = compile_any, .tiers = ASH_TIER_MAX + 1},
        {.struct_size = sizeof bad[0], .compile = compile_any, .calls = {1000, 10, 5000}},
        {.struct_size = sizeof bad[0], .compile = compile_any, .calls = {UINT64_MAX}, .tiers = 2},
        {.struct_size = sizeof bad[0], .compile = compile_any, .cooldown_ns = {INT64_MAX}},
        {.struct_size = 0, .compile = compile_any},
    };
    errno = 0;
    ok(ash_tier_create("t", NULL) == NULL && errno == EINVAL, "EINVAL: nothing to compile with");
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        ok(ash_tier_create("t", &bad[i]) == NULL && errno == EINVAL, "EINVAL: settings %u", i);
    }
    errno = 0;
    ok(ash_tier_create("a name of more than 31 characters", ASH_TIER_CONFIG(.compile = compile_any)) == NULL &&
           errno == EINVAL,
       "EINVAL: a long name");
    struct ash_tier *t = ash_tier_create(NULL, ASH_TIER_CONFIG(.compile = compile_any, .tiers = ASH_TIER_MAX));
    ok(t != NULL, "eight tiers");
    struct ash_tier_stats s;
    is_int(ash_tier_stats(t, NULL), -EINVAL, "stats: nowhere to");
    is_int(ash_tier_stats(NULL, &s), -EINVAL, "stats: no tiers");
    is_int(ash_tier_dump(NULL, 1), -EINVAL, "dump: no tiers");
    is_int(ash_tier_dump(t, -1), -EBADF, "dump: no descriptor");
    errno = 0;
    ok(ash_tier_register(NULL, "f", NULL) == NULL && errno == EINVAL, "register: no tiers");
    errno = 0;
    ok(ash_tier_register(t, NULL, NULL) == NULL && errno == EINVAL, "register: no name");
    is_int(ash_tier_unregister(t, NULL), -EINVAL, "unregister: no function");
    is_int(ash_tier_demote(NULL, 0), -EINVAL, "demote: no function");
    is_int(ash_tier_destroy(NULL), -EINVAL, "destroy: no tiers");
    struct ash_tier_fn *f = ash_tier_register(t, "a function whose name is longer than is shown", NULL);
    struct ash_tier *other = ash_tier_create(NULL, ASH_TIER_CONFIG(.compile = compile_any));
    is_int(ash_tier_unregister(other, f), -EINVAL, "unregister: another's function");
    is_int(ash_tier_destroy(other), 0, "destroyed");
    is_int(ash_tier_destroy(t), 0, "with its functions");
}

/* ---- when ---- */

struct record {
    int count;
    unsigned tier[16];
    uint64_t calls[16];
    int64_t at_ns[16];
    struct ash_tier_fn *fn;
    int fail; /* so many times */
};

static int compile_recorded(void *arg, unsigned tier, void *user)
{
    struct record *r = arg;
    (void)user;
    if (r->count < 16) {
        r->tier[r->count] = tier;
        r->calls[r->count] = r->fn->calls;
        r->at_ns[r->count] = now_ns();
    }
    r->count++;
    return r->fail-- > 0 ? -1 : 0;
}

static void test_thresholds(void)
{
    struct record r = {.fail = 0};
    struct ash_tier *t =
        ash_tier_create(NULL, ASH_TIER_CONFIG(.compile = compile_recorded, .cooldown_ns = {NONE, NONE, NONE}));
    r.fn = ash_tier_register(t, "f", &r);
    unsigned before = 0, jumps = 0;
    for (int i = 0; i < 100000; i++) {
        unsigned tier = ash_tier_hit(r.fn);
        jumps += tier != before && tier != before + 1;
        before = tier;
    }
    is_int(r.count, 3, "three transitions by default");
    ok(r.tier[0] == 1 && r.tier[1] == 2 && r.tier[2] == 3, "to the tiers 1, 2, 3");
    ok(r.calls[0] == 100 && r.calls[1] == 1000 && r.calls[2] == 10000, "at 100, 1000, 10000 calls");
    is_int(jumps, 0, "callers see them one by one");
    is_int(ash_tier_level(r.fn), 3, "the highest");
    is_int((int)r.fn->calls, 100000, "calls go on being counted");
    is_int((int)stats(t).in_tier[3], 1, "one function in tier 3");
    ash_tier_destroy(t);
}

static void test_cooldowns(void)
{
    struct record r = {.fail = 0};
    int64_t begin = now_ns();
    struct ash_tier *t = ash_tier_create(NULL, ASH_TIER_CONFIG(.compile = compile_recorded, .tiers = 3));
    r.fn = ash_tier_register(t, "f", &r);
    for (int i = 0; i < 5000; i++)
        ash_tier_hit(r.fn);
    if (now_ns() - begin < 9000000)
        is_int(r.count, 0, "5000 calls at once: not before 10 ms");
    else
        skip("this machine is slow", 1);
    while (r.count < 2 && now_ns() - begin < (int64_t)10 * 1000000000) {
        ash_tier_hit(r.fn);
        sleep_ns(1000);
    }
    is_int(r.count, 2, "later it is compiled, twice");
    ok(r.at_ns[0] - begin >= 10000000, "after 10 ms: %d us", (int)((r.at_ns[0] - begin) / 1000));
    ok(r.at_ns[1] - r.at_ns[0] >= 100000000, "and 100 ms more: %d us", (int)((r.at_ns[1] - r.at_ns[0]) / 1000));
    ash_tier_destroy(t);
}

static void test_failures(void)
{
    struct record r = {.fail = 3};
    struct ash_tier *t = ash_tier_create(
        NULL, ASH_TIER_CONFIG(.compile = compile_recorded, .tiers = 2, .calls = {10}, .cooldown_ns = {5 * 1000000}));
    r.fn = ash_tier_register(t, "f", &r);
    int64_t begin = now_ns();
    while (ash_tier_hit(r.fn) == 0 && now_ns() - begin < (int64_t)20 * 1000000000)
        sleep_ns(1000);
    is_int(r.count, 4, "three failures, then a success");
    int early = 0;
    for (int i = 1; i < 4; i++)
        early += r.at_ns[i] - r.at_ns[i - 1] < (int64_t)5000000 << i;
    is_int(early, 0, "each after twice the time: 10, 20, 40 ms");
    is_int((int)stats(t).failures, 3, "failures are counted");
    is_int((int)stats(t).transitions, 1, "the transition too");
    for (int i = 0; i < 10000; i++)
        ash_tier_hit(r.fn);
    is_int(r.count, 4, "that was all");
    ash_tier_destroy(t);
}

/* As generated code counts: by the words of the function alone. */
static void test_generated(void)
{
    struct record r = {.fail = 0};
    struct ash_tier *t = ash_tier_create(
        NULL, ASH_TIER_CONFIG(.compile = compile_recorded, .tiers = 3, .calls = {10, 20}, .cooldown_ns = {NONE, NONE}));
    r.fn = ash_tier_register(t, "f", &r);
    unsigned level[3] = {0};
    for (int i = 0; i < 40; i++) {
        if (++r.fn->calls >= r.fn->limit)
            ash_tier_hot(r.fn);
        level[ash_tier_level(r.fn)]++;
    }
    ok(level[0] == 9 && level[1] == 10 && level[2] == 21, "code that counts by itself rises at the 10th and 20th call");
    is_int(ash_tier_demote(r.fn, 0), 0, "down again");
    ash_tier_hot(r.fn);
    is_int(ash_tier_level(r.fn), 0, "who calls ash_tier_hot before the limit is not taken at its word");
    is_int(r.count, 2, "two compilations");
    ash_tier_destroy(t);
}

static void test_demote(void)
{
    struct record r = {.fail = 0};
    struct ash_tier *t = ash_tier_create(
        NULL, ASH_TIER_CONFIG(.compile = compile_recorded, .tiers = 3, .calls = {10, 20}, .cooldown_ns = {NONE, NONE}));
    r.fn = ash_tier_register(t, "f", &r);
    for (int i = 0; i < 30; i++)
        ash_tier_hit(r.fn);
    is_int(ash_tier_level(r.fn), 2, "at the top");
    is_int(ash_tier_demote(r.fn, 2), -EINVAL, "to where it is: refused");
    is_int(ash_tier_demote(r.fn, 7), -EINVAL, "higher: refused");
    is_int(ash_tier_demote(r.fn, 0), 0, "down to 0");
    for (int i = 0; i < 9; i++)
        ash_tier_hit(r.fn);
    is_int(ash_tier_level(r.fn), 0, "calls count anew");
    is_int(ash_tier_hit(r.fn), 1, "and lead to tier 1 again");
    is_int(r.count, 3, "a third compilation");
    is_int((int)stats(t).demotions, 1, "one demotion");
    ash_tier_destroy(t);
}

/* ---- threads ---- */

enum { FUNCTIONS = 100, TIERS = 5 };

struct shared {
    struct ash_tier_fn *fn;
    unsigned compiled[TIERS]; /* how often, by tier */
    unsigned inside;          /* compilations under way */
    unsigned made;            /* the tier that compile has made; read by those who saw it */
};

static struct shared shared[FUNCTIONS];
static unsigned at_once, unseen;

static int compile_shared(void *arg, unsigned tier, void *user)
{
    struct shared *s = arg;
    (void)user;
    if (__atomic_add_fetch(&s->inside, 1, __ATOMIC_RELAXED) != 1)
        __atomic_add_fetch(&at_once, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&s->compiled[tier], 1, __ATOMIC_RELAXED);
    __atomic_store_n(&s->made, tier, __ATOMIC_RELAXED); /* what publishes it is the tier */
    __atomic_sub_fetch(&s->inside, 1, __ATOMIC_RELAXED);
    return 0;
}

static void *hammer(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20000; i++)
        for (int f = 0; f < FUNCTIONS; f += 1 + i % 3) {
            unsigned tier = ash_tier_hit(shared[f].fn);
            if (__atomic_load_n(&shared[f].made, __ATOMIC_RELAXED) < tier)
                __atomic_add_fetch(&unseen, 1, __ATOMIC_RELAXED);
        }
    return NULL;
}

static void test_threads(unsigned count)
{
    pthread_t thread[8];
    struct ash_tier *t =
        ash_tier_create(NULL, ASH_TIER_CONFIG(.compile = compile_shared, .tiers = TIERS, .calls = {100, 300, 900, 2700},
                                              .cooldown_ns = {NONE, NONE, NONE, NONE}));
    memset(shared, 0, sizeof shared);
    at_once = unseen = 0;
    for (int i = 0; i < FUNCTIONS; i++)
        shared[i].fn = ash_tier_register(t, "f", &shared[i]);
    for (unsigned i = 0; i < count; i++)
        pthread_create(&thread[i], NULL, hammer, NULL);
    for (unsigned i = 0; i < count; i++)
        pthread_join(thread[i], NULL);
    int wrong = 0;
    for (int f = 0; f < FUNCTIONS; f++)
        for (int tier = 1; tier < TIERS; tier++)
            wrong += shared[f].compiled[tier] != 1;
    is_int(wrong, 0, "each transition of 100 functions happened once");
    is_int((int)stats(t).transitions, FUNCTIONS * (TIERS - 1), "no more and no fewer");
    is_int(at_once, 0, "no function was compiled twice at a time");
    is_int(unseen, 0, "a tier is seen after what compile made for it");
    is_int(ash_tier_destroy(t), 0, "nothing is under way");
}

/* Threads that register, call and unregister, while others look on. */
static void *come_and_go(void *arg)
{
    for (int i = 0; i < 3000; i++) {
        struct ash_tier_fn *f = ash_tier_register(arg, "short", &shared[0]);
        for (int k = 0; k < 150; k++)
            ash_tier_hit(f);
        if (ash_tier_unregister(arg, f) != 0)
            __atomic_add_fetch(&unseen, 1, __ATOMIC_RELAXED);
        if (i % 64 == 0)
            stats(arg);
    }
    return NULL;
}

static void test_come_and_go(void)
{
    pthread_t thread[4];
    struct ash_tier *t =
        ash_tier_create(NULL, ASH_TIER_CONFIG(.compile = compile_any, .tiers = 2, .cooldown_ns = {NONE}));
    unseen = 0;
    for (unsigned i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, come_and_go, t);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    is_int(unseen, 0, "4 threads register and unregister 3000 functions each");
    is_int((int)stats(t).functions, 0, "none is left");
    is_int((int)stats(t).transitions, 12000, "each was compiled");
    ash_tier_destroy(t);
}

/* ---- executors ---- */

/* One that runs what it was given when told to. */
struct queue {
    void (*fn[64])(void *);
    void *arg[64];
    int count, refuse;
};

static int queue_spawn(struct ash_exec *exec, void (*fn)(void *), void *arg)
{
    struct queue *q = (struct queue *)(void *)exec;
    if (q->refuse > 0) {
        q->refuse--;
        return -EAGAIN;
    }
    q->fn[q->count] = fn;
    q->arg[q->count++] = arg;
    return 0;
}

static void test_executor(void)
{
    struct queue q = {.refuse = 1};
    struct record r = {.fail = 0};
    struct ash_tier *t = ash_tier_create(NULL, ASH_TIER_CONFIG(.compile = compile_recorded, .tiers = 2, .calls = {10},
                                                               .cooldown_ns = {NONE}, .spawn = queue_spawn,
                                                               .exec = (struct ash_exec *)(void *)&q));
    r.fn = ash_tier_register(t, "f", &r);
    for (int i = 0; i < 10; i++)
        ash_tier_hit(r.fn);
    is_int((int)stats(t).refused, 1, "the executor is full");
    is_int(q.count, 0, "it has nothing");
    for (int i = 0; i < 1000; i++)
        ash_tier_hit(r.fn);
    is_int(q.count, 1, "later it has the job, once");
    ok(r.count == 0 && ash_tier_level(r.fn) == 0, "which waits; callers do not");
    is_int((int)stats(t).compiling, 1, "as the figures say");
    is_int(ash_tier_unregister(t, r.fn), -EBUSY, "unregister: not now");
    is_int(ash_tier_demote(r.fn, 0), -EBUSY, "demote: not now");
    is_int(ash_tier_destroy(t), -EBUSY, "destroy: not now");
    q.fn[0](q.arg[0]);
    is_int(ash_tier_level(r.fn), 1, "when it has run, the tier is there");
    q.fn[0](q.arg[0]);
    is_int(r.count, 1, "run a second time by mistake, it does nothing");
    is_int(ash_tier_destroy(t), 0, "destroyed");
}

/* ---- fork ---- */

static int slow_begun;

static int compile_slow(void *arg, unsigned tier, void *user)
{
    (void)arg, (void)tier, (void)user;
    __atomic_store_n(&slow_begun, 1, __ATOMIC_RELEASE);
    sleep_ms(300);
    return 0;
}

static void *heat(void *arg)
{
    for (int i = 0; i < 20; i++)
        ash_tier_hit(arg);
    return NULL;
}

static void test_fork(void)
{
    pthread_t thread;
    struct ash_tier *t = ash_tier_create(
        NULL, ASH_TIER_CONFIG(.compile = compile_slow, .tiers = 2, .calls = {10}, .cooldown_ns = {NONE}));
    struct ash_tier_fn *f = ash_tier_register(t, "f", NULL);
    pthread_create(&thread, NULL, heat, f);
    while (!__atomic_load_n(&slow_begun, __ATOMIC_ACQUIRE))
        sleep_ms(1);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        int was_idle = stats(t).compiling == 0;
        unsigned tier = ash_tier_hit(f); /* compiles by itself */
        struct ash_tier_fn *more = ash_tier_register(t, "more", NULL);
        _exit(was_idle && tier == 1 && more != NULL && ash_tier_destroy(t) == 0 ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    is_int(status, 0, "the child compiles what another thread was at");
    pthread_join(thread, NULL);
    is_int(ash_tier_level(f), 1, "the parent's goes on as if nothing had been");
    is_int((int)stats(t).transitions, 1, "once");
    ash_tier_destroy(t);
}

/* A fork in the middle of compile, as of a runtime that starts a compiler: the child may come back from it. */
static int fork_status;

static int compile_forking(void *arg, unsigned tier, void *user)
{
    (void)arg, (void)tier;
    pid_t child = fork();
    *(pid_t *)user = child;
    if (child > 0)
        waitpid(child, &fork_status, 0);
    return 0;
}

static void test_fork_inside(void)
{
    pid_t pid = -1;
    struct ash_tier *t = ash_tier_create(NULL, ASH_TIER_CONFIG(.compile = compile_forking, .user = &pid, .tiers = 2,
                                                               .calls = {10}, .cooldown_ns = {NONE}));
    struct ash_tier_fn *f = ash_tier_register(t, "f", NULL);
    for (int i = 0; i < 10; i++)
        ash_tier_hit(f);
    int good = ash_tier_level(f) == 1 && stats(t).transitions == 1 && ash_tier_destroy(t) == 0;
    if (pid == 0)
        _exit(!good);
    is_int(fork_status, 0, "a child that comes back from compile has its tier");
    ok(good, "and so has the parent");
}

static void test_dump(void)
{
    struct ash_tier *t =
        ash_tier_create("js", ASH_TIER_CONFIG(.compile = compile_any, .tiers = 2, .cooldown_ns = {NONE}));
    char text[2048] = "";
    int fd[2];
    struct ash_tier_fn *f = ash_tier_register(t, "add", NULL);
    ash_tier_register(t, "cold", NULL);
    for (int i = 0; i < 123; i++)
        ash_tier_hit(f);
    if (pipe(fd) != 0)
        _exit(99);
    is_int(ash_tier_dump(t, fd[1]), 0, "dump");
    ok(read(fd[0], text, sizeof text - 1) > 0 && strstr(text, "tier js: 2 functions, 1 transitions") != NULL,
       "the figures");
    ok(strstr(text, "  add                             tier 1  calls 123\n") != NULL, "and the functions");
    close(fd[0]);
    close(fd[1]);
    ash_tier_destroy(t);
}

int main(void)
{
    test_example();
    test_create();
    test_thresholds();
    test_cooldowns();
    test_failures();
    test_generated();
    test_demote();
    test_threads(2);
    test_threads(8);
    test_come_and_go();
    test_executor();
    test_fork();
    test_fork_inside();
    test_dump();
    return tap_done();
}
