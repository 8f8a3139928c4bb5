/*
 * A child that is forked while another thread stands at any instruction of the library: that thread is not there, and
 * what it was changing stays as it is. The child takes all it can get and finds every block its own, and the parent's
 * blocks as they were; it gives everything back; the counters are right; of a pool that it ends, no object is destructed
 * twice.
 *
 * The thread is single-stepped with the processor's trap flag: a signal after each instruction, in whose handler it
 * stands while the first thread forks. An instruction is stopped at the first time that it comes in a path, or, with
 * ASH_TEST_LONG=1, the first five times.
 */
#include "../lockfree/library.h"
#include "ashlar/ashlar.h"
#include "tap.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#if defined(__x86_64__)

#include "../lockfree/step.h"

enum { INSTRUCTIONS_MAX = 1 << 18, PATIENCE = 60, MANY = 60, TAKEN = 100, OBJECTS = 400, BUSY = 40 };

static const size_t sizes[] = {64, 1400, 3500};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* ---- blocks that say whose they are ---- */

static unsigned char *make(size_t size, unsigned char mark)
{
    unsigned char *p = malloc(size);
    if (p != NULL)
        memset(p, mark, size);
    return p;
}

static int is_whole(const unsigned char *p, size_t size, unsigned char mark)
{
    for (size_t i = 0; i < size; i++)
        if (p[i] != mark)
            return 0;
    return 1;
}

/* ---- what the first thread has, and the other one is given ---- */

static unsigned char *kept[SIZES][MANY], *given[SIZES][MANY];

static void blocks_make(void)
{
    for (int s = 0; s < SIZES; s++)
        for (int i = 0; i < MANY; i++) {
            kept[s][i] = make(sizes[s], 1);
            given[s][i] = make(sizes[s], 2);
        }
}

static void blocks_drop(void)
{
    for (int s = 0; s < SIZES; s++)
        for (int i = 0; i < MANY; i++)
            free(kept[s][i]);
}

static struct ash_pool *pool;
static unsigned numbers;

struct object {
    unsigned number, ended;
};

static int object_init(void *obj, void *unused)
{
    (void)unused;
    *(struct object *)obj = (struct object){.number = numbers++};
    return 0;
}

static void object_fini(void *obj, void *unused)
{
    (void)unused;
    if (((struct object *)obj)->ended++ != 0)
        _exit(20);
}

/* ---- the child ---- */

static int take_all(void)
{
    static unsigned char *taken[SIZES][TAKEN];
    for (int s = 0; s < SIZES; s++)
        for (int i = 0; i < TAKEN; i++)
            if ((taken[s][i] = make(sizes[s], (unsigned char)i)) == NULL)
                return 1;
    for (int s = 0; s < SIZES; s++) {
        for (int i = 0; i < MANY; i++)
            if (!is_whole(kept[s][i], sizes[s], 1))
                return 2;
        for (int i = 0; i < TAKEN; i++) {
            if (!is_whole(taken[s][i], sizes[s], (unsigned char)i))
                return 3;
            free(taken[s][i]);
        }
    }
    unsigned char *large = make(500000, 9);
    if (large == NULL || !is_whole(large, 500000, 9))
        return 4;
    free(large);
    blocks_drop();
    ash_trim();
    struct ash_stats t = {.struct_size = sizeof t};
    ash_stats_get(&t);
    /* What the other thread had out or in hand, and the few blocks of libc. */
    return t.live_blocks > 20 * MANY || t.live_bytes > (64 << 20) || t.cached_bytes > (64 << 20) ? 5 : 0;
}

static int end_pool(void)
{
    static struct object *obj[OBJECTS];
    static unsigned char met[1 << 16];
    unsigned n = ash_pool_get_burst(pool, (void **)obj, OBJECTS);
    for (unsigned i = 0; i < n; i++)
        if (obj[i]->number >= sizeof met || met[obj[i]->number]++ != 0)
            return 10;
    ash_pool_put_bulk(pool, (void *const *)obj, n);
    int status = ash_pool_destroy(pool);
    return status == -EBUSY ? BUSY : status == 0 ? 0 : 11;
}

/* ---- the thread that is not there ---- */

static unsigned char *own[MANY];

/* Writes little: a string instruction is a step for each byte. */
static void hold(size_t size)
{
    for (int i = 0; i < MANY; i++)
        if ((own[i] = malloc(size)) != NULL)
            own[i][0] = own[i][size - 1] = 3;
}

static void drop(void)
{
    for (int i = 0; i < MANY; i++)
        free(own[i]);
}

static void nothing(void) {}

static void free_given(void)
{
    for (int s = 0; s < SIZES; s++)
        for (int i = 0; i < MANY; i++)
            free(given[s][i]);
    ash_trim();
}

static void come_and_go(void)
{
    hold(1400);
    drop();
    hold(3500);
    drop();
    ash_trim();
}

static void *leave_orphans(void *unused)
{
    hold(2500);
    return unused;
}

static void orphans(void)
{
    pthread_t t;
    pthread_create(&t, NULL, leave_orphans, NULL);
    pthread_join(t, NULL);
    for (int i = 0; i < MANY; i += 2)
        free(own[i]);
}

static void end_of_life(void)
{
    hold(3500);
    free_given();
    for (int i = 0; i < MANY; i += 2)
        free(own[i]);
    own[0] = NULL;
}

static void adopt(void)
{
    for (int i = 0; i < MANY; i += 2)
        own[i] = malloc(2500);
}

static void large(void)
{
    void *p = malloc(300000), *wall = malloc(70000);
    p = realloc(p, 600000);
    p = realloc(p, 1200000);
    p = realloc(p, 80000);
    free(realloc(p, 200000));
    free(wall);
}

/* More than a magazine holds goes and comes, and once everything that is free is in the depot. */
static void objects(void)
{
    void *obj[40];
    for (int round = 1; round <= 2; round++) {
        for (unsigned n = 5; n <= 40; n += 7)
            if (ash_pool_get_bulk(pool, obj, n) == 0)
                ash_pool_put_bulk(pool, obj, n);
        for (int i = 0; i < 20; i++)
            obj[i] = ash_pool_get(pool);
        for (int i = 0; i < 20; i++)
            ash_pool_put(pool, obj[i]);
        if (round == 1)
            ash_pool_trim(pool);
        ash_tune((int64_t)round * 1000000000);
    }
}

static const struct path {
    const char *name;
    void (*prepare)(void);
    void (*run)(void); /* NULL: the thread ends */
    void (*clear)(void);
    int (*child)(void);
    unsigned every; /* in the short form */
} paths[] = {
    {"frees of the forking thread's blocks", nothing, free_given, nothing, take_all, 8},
    {"slabs that come and go", nothing, come_and_go, nothing, take_all, 8},
    {"adopting orphans", orphans, adopt, drop, take_all, 8},
    {"large blocks", nothing, large, nothing, take_all, 8},
    {"a thread's end", end_of_life, NULL, nothing, take_all, 8},
    {"a pool's objects", nothing, objects, nothing, end_pool, 8},
};

/* ---- stepping ---- */

static unsigned char visits[INSTRUCTIONS_MAX]; /* of the instruction that begins at each byte of the code */
static int is_long;
static unsigned most_visits;
static unsigned every, turn; /* of so many instructions, the one whose turn it is */
static _Atomic(int) standing; /* the thread stands in that function, from 1 on; GOING; or it has ENDED */
enum { GOING = 0, ENDED = -1 };

static void stand(int at)
{
    standing = at;
    syscall(SYS_futex, &standing, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void wait_while(int at)
{
    while (standing == at)
        syscall(SYS_futex, &standing, FUTEX_WAIT_PRIVATE, at, NULL, NULL, 0);
}

static void on_step(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    uintptr_t ip = library_interrupted(context);
    size_t at = ip - library_base();
    if (at >= INSTRUCTIONS_MAX || library_find(ip) < 0 || visits[at] >= most_visits)
        return;
    visits[at]++;
    if ((at + turn) % every != 0)
        return;
    stand(library_find(ip) + 1);
    wait_while(library_find(ip) + 1);
}

static pthread_key_t last_key; /* younger than the library's: its destructor runs behind that one */

static void last_destructor(void *unused)
{
    (void)unused;
    step_end();
    stand(ENDED);
}

static void *other_main(void *arg)
{
    const struct path *path = arg;
    path->prepare();
    pthread_setspecific(last_key, path);
    step_begin();
    if (path->run != NULL) {
        path->run();
        step_end();
        path->clear();
    }
    return NULL;
}

static struct outcome {
    int children, busy, failed;
} outcome;

/* The other thread stands in a function. */
static void fork_here(const struct path *path, int function)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE);
        _exit(path->child());
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        status = -1;
    outcome.children++;
    if (status == BUSY << 8)
        outcome.busy++;
    else if (status != 0 && outcome.failed++ < 5)
        tap_line("# %s, in %s: status 0x%x", path->name, library_name(function), (unsigned)status);
}

static void walk(const struct path *path)
{
    pthread_t t;
    outcome = (struct outcome){0, 0, 0};
    memset(visits, 0, sizeof visits);
    standing = GOING;
    every = is_long ? 1 : path->every;
    blocks_make();
    if (pthread_create(&t, NULL, other_main, (void *)(uintptr_t)path) != 0)
        abort();
    for (;;) {
        wait_while(GOING);
        if (standing == ENDED)
            break;
        fork_here(path, standing - 1);
        stand(GOING);
    }
    pthread_join(t, NULL);
    blocks_drop();
    ok(outcome.children > 0 && outcome.failed == 0 && outcome.busy < outcome.children,
       "%s: %d children, %d found objects out", path->name, outcome.children, outcome.busy);
}

int main(void)
{
    if (library_open() == 0) {
        skip("the library has no symbol table", 1);
        return tap_done();
    }
    is_long = getenv("ASH_TEST_LONG") != NULL;
    most_visits = is_long ? 5 : 1;
    turn = (unsigned)getpid();
    step_init(on_step);
    free(malloc(1)); /* the library has its key */
    pthread_key_create(&last_key, last_destructor);
    pool = ash_pool_create("instants", ASH_POOL_CONFIG(.obj_size = 64, .cache = 16, .ctor = object_init,
                                                       .dtor = object_fini));
    is_int(ash_pool_set_tuner(pool, ASH_TUNER_CONFIG(.interval_ns = 1)), 0, "a pool whose caches change");
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        walk(&paths[i]);
    is_int(ash_verify(), 0, "the parent verifies");
    return tap_done();
}

#else

int main(void)
{
    skip("stepping in the own process is for x86-64", 1);
    return tap_done();
}

#endif
