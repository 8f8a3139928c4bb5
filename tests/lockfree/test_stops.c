/*
 * Lock-freedom: threads are stopped by a signal wherever they are inside the library, and stay stopped in the handler
 * while every other thread finishes its operations, some of them ending and starting meanwhile; then they go on, and at
 * the end everything verifies.
 *
 * Eight victims, each at home on slow paths of its own, are stopped at the same time. A stop counts when the interrupted
 * instruction is the library's; no function is taken again before the others had their chance, so that the stops spread
 * over the slow paths instead of crowding on the hit paths. The functions and their stops are listed.
 *
 * ASH_TEST_LONG=1: more stops, a million operations at each.
 */
#include "ashlar/ashlar.h"
#include "library.h"
#include "load.h"
#include "tap.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>

enum { VICTIMS = 8, PATIENCE = 60 /* seconds without the operations being done: somebody waits */ };

struct victim {
    _Alignas(64) _Atomic(int) tid;   /* of its thread of the moment; 0: between two */
    _Atomic(int) where;              /* the function that it is stopped in, or -1 */
    void (*work)(struct victim *, unsigned);
    int ends;                        /* a thread does `work` once, then ends */
    unsigned seed;
};

static __thread struct victim *self; /* NULL in all other threads, which are never stopped */
static _Atomic(int) stops[LIBRARY_FUNCTIONS_MAX];
static _Atomic(int) quota;           /* stops that a function may have by now */
static _Atomic(int) wanted;          /* a stop is asked for */
static _Atomic(long) misses;         /* signals that came elsewhere, or to a function that has had enough */
static _Atomic(int) stop;

static volatile size_t impossible = (size_t)1 << 46; /* hidden from the compiler */

/* ---- what the victims do ---- */

enum { MANY = 600 };

/* Blocks of one class, more than a cache holds: refills from slabs, then lists that go home. */
static void work_refill(struct victim *v, unsigned i)
{
    unsigned char *held[MANY];
    size_t n = 16 + load_draw(&v->seed) % (i % 8 == 0 ? 30000 : 900);
    for (int k = 0; k < MANY; k++)
        held[k] = load_make(n, 3);
    for (int k = 0; k < MANY; k++)
        load_free(held[(unsigned)k * 7 % MANY]);
}

/* Frees what others allocated, leaves blocks to them. */
static void work_remote(struct victim *v, unsigned i)
{
    for (int k = 0; k < 200; k++) {
        unsigned slot = load_draw(&v->seed) % LOAD_SLOTS;
        size_t n = 16 + load_draw(&v->seed) % 500;
        load_free(atomic_exchange(&load_slots[slot], i % 2 == 0 ? NULL : load_make(n, 3)));
    }
}

/* Large blocks that grow in place, by moving pages and by copying, and shrink. */
static void work_large(struct victim *v, unsigned i)
{
    size_t n = 66000 + load_draw(&v->seed) % 400000;
    unsigned char *p = load_make(n, i), *wall = load_make(70000, 3);
    for (int k = 0; k < 3; k++) {
        n = n * 2 - 100;
        p = realloc(p, n);
        load_mark(p, n);
    }
    p = realloc(p, 50000);
    load_mark(p, 50000);
    load_free(p);
    load_free(wall);
    if (i % 64 == 0)
        load_free(load_make((size_t)40 << 20, 3)); /* fresh chunks */
}

/* A short life: a heap is opened, orphans are adopted, blocks stay behind. */
static void work_life(struct victim *v, unsigned i)
{
    for (unsigned k = 0; k < 20 + i % 200; k++)
        load_operation(&v->seed);
}

/* A life of nothing but frees, or of one allocation. */
static void work_stub(struct victim *v, unsigned i)
{
    unsigned slot = load_draw(&v->seed) % LOAD_SLOTS;
    if (i % 2 == 0)
        load_free(atomic_exchange(&load_slots[slot], NULL));
    else
        load_free(atomic_exchange(&load_slots[slot], load_make(16 + i % 3000, i)));
}

/* Gives everything back, again and again. */
static void work_trim(struct victim *v, unsigned i)
{
    for (unsigned k = 0; k < 20; k++)
        load_operation(&v->seed);
    if (i % 2 == 0)
        malloc_trim(0);
    else
        ash_trim();
}

/* Requests that no memory is enough for: the allocator tries everything before it says so. */
static void work_refused(struct victim *v, unsigned i)
{
    struct ash_stats s = {.struct_size = sizeof s};
    void *two[2];
    load_operation(&v->seed);
    free(malloc(impossible));
    if (i % 4 == 0 && ash_malloc_batch((size_t[]){100, impossible}, two, 2) == 0)
        abort();
    if (i % 4 == 2)
        ash_stats_get(&s);
}

/* Every other call of the family. */
static void work_family(struct victim *v, unsigned i)
{
    size_t n = 16 + load_draw(&v->seed) % 2000;
    unsigned char *p = load_make(n, 0), *q = load_make(n, 1), *r = load_make(n, 2);
    free(memalign(4096, n));
    free(valloc(n));
    r = reallocarray(r, 3, n);
    load_mark(r, 3 * n);
    free(realloc(NULL, 0));
    load_free(q);
    load_free(r);
    ash_free_sized(p, n);
    free(aligned_alloc((size_t)1 << (16 + i % 6), n));
}

static struct victim victims[VICTIMS] = {
    {.work = work_refill}, {.work = work_remote},  {.work = work_large},           {.work = work_life, .ends = 1},
    {.work = work_trim},   {.work = work_refused}, {.work = work_stub, .ends = 1}, {.work = work_family},
};

static void *victim_main(void *arg)
{
    self = arg;
    self->tid = (int)syscall(SYS_gettid);
    do {
        self->work(self, load_draw(&self->seed));
    } while (!self->ends && !stop);
    return NULL; /* the tid stays: a stop may come in the destructors */
}

static void *keeper_main(void *arg)
{
    while (!stop) {
        pthread_t t;
        if (pthread_create(&t, NULL, victim_main, arg) != 0)
            abort();
        pthread_join(t, NULL);
    }
    return NULL;
}

/* ---- stopping them ---- */

static void stand_still(struct victim *v, int function)
{
    struct timespec nap = {0, 200000};
    v->where = function;
    while (wanted)
        nanosleep(&nap, NULL);
    v->where = -1;
}

static void on_stop(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    int saved = errno;
    struct victim *v = self;
    int f = v == NULL || !wanted ? -1 : library_find(library_interrupted(context));
    if (f >= 0 && stops[f]++ >= quota) {
        stops[f]--;
        f = -1;
    }
    if (f < 0)
        misses++;
    else
        stand_still(v, f);
    errno = saved;
}

/* Signals the victims until all are stopped, or for a while: how many are. */
static int stop_all(unsigned *seed)
{
    int stopped = 0;
    wanted = 1;
    for (int try = 0; try < 2000 && stopped < VICTIMS; try++) {
        stopped = 0;
        for (int i = 0; i < VICTIMS; i++) {
            if (victims[i].where >= 0)
                stopped++;
            else if (victims[i].tid != 0)
                syscall(SYS_tgkill, getpid(), victims[i].tid, SIGUSR1);
        }
        struct timespec nap = {0, 20000 + load_draw(seed) % 150000};
        nanosleep(&nap, NULL);
        if (try % 100 == 99)
            quota++;
    }
    return stopped;
}

static void release_all(void)
{
    wanted = 0;
    for (int i = 0; i < VICTIMS; i++)
        while (victims[i].where >= 0)
            usleep(100);
}

static void say_where(void)
{
    for (int i = 0; i < VICTIMS; i++)
        if (victims[i].where >= 0)
            tap_line("# victim %d is stopped in %s", i, library_name(victims[i].where));
}

/* The functions by name, several a line. */
static int say_stops(int functions)
{
    char line[110] = "#";
    int hit = 0;
    for (int f = 0; f < functions; f++) {
        if (stops[f] == 0)
            continue;
        hit++;
        size_t used = strlen(line);
        if (used + strlen(library_name(f)) + 8 > sizeof line) {
            tap_line("%s", line);
            used = 1;
        }
        snprintf(line + used, sizeof line - used, " %s %d", library_name(f), (int)stops[f]);
    }
    tap_line("%s", line);
    return hit;
}

int main(void)
{
    int functions = library_open();
    if (functions == 0) {
        skip("the library has no symbol table, or the machine is not known", 1);
        return tap_done();
    }
    int is_long = getenv("ASH_TEST_LONG") != NULL;
    int goal = is_long ? 480 : 200;
    uint64_t operations = is_long ? 1000000 : 30000;
    struct sigaction action = {.sa_sigaction = on_stop, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    pthread_t keepers[VICTIMS];
    load_grows = 1;
    load_start();
    for (int i = 0; i < VICTIMS; i++) {
        victims[i].where = -1;
        victims[i].seed = (unsigned)time(NULL) + (unsigned)i * 977;
        pthread_create(&keepers[i], NULL, keeper_main, &victims[i]);
    }
    unsigned seed = (unsigned)time(NULL);
    int stopped = 0, rounds = 0, good = 1;
    for (quota = 1; stopped < goal && rounds < goal && good; rounds++) {
        stopped += stop_all(&seed);
        good = load_progress(operations, PATIENCE);
        if (good)
            release_all();
        else
            say_where();
    }
    if (!ok(good, "three threads made %lu operations each while others stood still, %d times", (unsigned long)operations,
            rounds))
        _exit(1); /* those that wait will never end */
    ok(stopped >= goal, "%d stops inside the library, %ld signals elsewhere", stopped, (long)misses);
    ok(say_stops(functions) >= 30, "in many functions");
    stop = 1;
    for (int i = 0; i < VICTIMS; i++)
        pthread_join(keepers[i], NULL);
    is_int(load_finish(), 0, "no block was damaged");
    is_int(ash_verify(), 0, "everything verifies");
    return tap_done();
}
