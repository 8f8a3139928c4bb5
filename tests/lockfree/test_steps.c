/*
 * Lock-freedom, instruction by instruction: a thread is single-stepped through slow paths, and at every instruction of
 * the library it stands still until each of the other threads has made its operations. So no instruction of a path
 * leaves a state that another thread would wait for.
 *
 * The processor's trap flag makes the steps: a signal after each instruction, in whose handler the thread stands. An
 * instruction is stopped at the first time that it comes; loops are walked through after that. The functions are listed
 * with the number of their instructions. ASH_TEST_LONG=1: more operations, and the first five times on every path.
 */
#include "ashlar/ashlar.h"
#include "library.h"
#include "load.h"
#include "tap.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#if defined(__x86_64__)

#include "step.h"

enum { PATIENCE = 60, INSTRUCTIONS_MAX = 1 << 18 };

static volatile size_t impossible = (size_t)1 << 46; /* hidden from the compiler */

/* ---- paths: what is prepared untraced, what is stepped through, what is cleared up ---- */

enum { MANY = 200 };

static unsigned char *held[MANY];

static void hold(int n, size_t size)
{
    for (int i = 0; i < n; i++)
        held[i] = load_make(size, 3);
}

static void drop(int n)
{
    for (int i = 0; i < n; i++) {
        load_free(held[i]);
        held[i] = NULL;
    }
}

static void *hold_and_end(void *size)
{
    hold(MANY, *(size_t *)size);
    return NULL;
}

static void *drop_and_end(void *unused)
{
    drop(MANY);
    return unused;
}

static void in_thread(void *(*work)(void *), const void *arg)
{
    pthread_t t;
    if (pthread_create(&t, NULL, work, (void *)(uintptr_t)arg) != 0)
        abort();
    pthread_join(t, NULL);
}

static void nothing(void) {}

static void first_call(void) { free(malloc(100)); }

static void own_blocks(void) { hold(MANY, 2000); }
static void orphans(void) { in_thread(hold_and_end, &(size_t){1700}); }
static void drop_all(void) { drop(MANY); }
static void drop_half(void) { drop(MANY / 2); }

static void own_freed_by_other(void)
{
    hold(MANY, 1400);
    in_thread(drop_and_end, NULL);
}

static void hold_more(void) { hold(MANY, 1400); }

static void orphans_freed(void)
{
    in_thread(hold_and_end, &(size_t){2500});
    drop(MANY);
}

static void hold_adopted(void) { hold(MANY, 2500); }
static void trim(void) { malloc_trim(0); }

static void free_pages(void)
{
    hold(MANY, 3000);
    drop(MANY);
    free(malloc(3 << 20));
}

static void large(void)
{
    size_t n = 300000;
    unsigned char *p = load_make(n, 3), *wall = load_make(70000, 3);
    for (int k = 0; k < 2; k++, n *= 2)
        p = realloc(p, n * 2);
    p = realloc(p, 80000);
    p = realloc(p, 2000);
    free(p);
    load_free(wall);
    free(calloc(1, 66000));
}

static void grow(void) { load_grows = 1; }

static void fresh_chunks(void) { hold(1, (size_t)20 << 20); }
static void drop_one(void) { drop(1); }

static void refused(void) { free(malloc(impossible)); }

static void family(void)
{
    void *out[3], *p = NULL;
    free(calloc(7, 5));
    free(aligned_alloc(1024, 3000));
    free(aligned_alloc(1 << 18, 3000));
    free(memalign(64, 10));
    free(valloc(10));
    free(reallocarray(malloc(100), 30, 10));
    if (posix_memalign(&p, 256, 1000) == 0)
        free(p);
    if (ash_malloc_batch((size_t[]){10, 100, 1000}, out, 3) == 0)
        ash_free_batch(out, 3);
    ash_free_sized(malloc(1000), 1000);
    malloc_usable_size(NULL);
}

static void statistics(void)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
}

/* What a thread's end meets: blocks in its cache, slabs full and partial, blocks that others freed meanwhile. */
static void life(void)
{
    hold(MANY, 3500);
    unsigned s = 7;
    for (int i = 0; i < 300; i++)
        load_operation(&s);
    in_thread(drop_and_end, NULL);
    hold(200, 3500);
}

static const struct path {
    const char *name;
    void (*prepare)(void);
    void (*run)(void); /* NULL: the thread ends */
    void (*clear)(void);
} paths[] = {
    {"a thread's first call", nothing, first_call, nothing},
    {"refills", nothing, own_blocks, drop_all},
    {"frees of its own blocks", own_blocks, drop_all, nothing},
    {"frees of an ended thread's", orphans, drop_half, drop_all},
    {"collecting what others freed", own_freed_by_other, hold_more, drop_all},
    {"adopting orphans", orphans_freed, hold_adopted, drop_all},
    {"trimming", free_pages, trim, nothing},
    {"large blocks", nothing, large, nothing},
    {"a refused request", own_freed_by_other, refused, nothing},
    {"the rest of the family", nothing, family, nothing},
    {"statistics", nothing, statistics, nothing},
    {"a thread's end", life, NULL, drop_all},
    {"fresh chunks", grow, fresh_chunks, drop_one}, /* the last: walks over all chunks get longer */
};

/* ---- stepping ---- */

static unsigned char visits[INSTRUCTIONS_MAX]; /* of the instruction that begins at each byte of the code */
static unsigned char seen[INSTRUCTIONS_MAX];   /* the same, but not begun anew for each path */
static int is_long;
static unsigned most_visits = 1;
static uint64_t operations = 100;
static long stops;

/* The thread has come to its next instruction. */
static void on_step(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    uintptr_t ip = library_interrupted(context);
    size_t at = ip - library_base();
    int f = at < INSTRUCTIONS_MAX ? library_find(ip) : -1;
    if (f < 0 || visits[at] >= most_visits)
        return;
    visits[at]++;
    seen[at] = 1;
    stops++;
    if (load_progress(operations, PATIENCE))
        return;
    ok(0, "all other threads get on while one stands in %s, %lu bytes behind the first function", library_name(f),
       (unsigned long)at);
    _exit(1); /* those that wait will never end */
}

static pthread_key_t last_key; /* younger than the library's: its destructor runs behind that one */

static void last_destructor(void *value)
{
    const struct path *path = value;
    if (path->run == NULL) { /* the heap is gone already */
        load_free(held[0]);
        held[0] = NULL;
        free(malloc(40));
    }
    step_end();
}

static void *victim_main(void *arg)
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

static void walk(const struct path *path)
{
    stops = 0;
    if (is_long)
        memset(visits, 0, sizeof visits);
    in_thread(victim_main, path);
    if (path->run == NULL)
        path->clear();
    ok(stops > 0, "%s: %ld stops", path->name, stops);
}

/* The functions with the number of instructions stopped at, several a line. */
static int say_instructions(void)
{
    char line[110] = "#";
    int all = 0, f = -1, here = 0;
    for (size_t at = 0; at <= library_bytes() && at < INSTRUCTIONS_MAX; at++) {
        int next = seen[at] != 0 ? library_find(library_base() + at) : f;
        if (f >= 0 && (next != f || at == library_bytes())) {
            size_t used = strlen(line);
            if (used + strlen(library_name(f)) + 8 > sizeof line) {
                tap_line("%s", line);
                used = 1;
            }
            snprintf(line + used, sizeof line - used, " %s %d", library_name(f), here);
            here = 0;
        }
        f = next;
        here += seen[at] != 0;
        all += seen[at] != 0;
    }
    tap_line("%s", line);
    return all;
}

int main(void)
{
    if (library_open() == 0) {
        skip("the library has no symbol table", 1);
        return tap_done();
    }
    is_long = getenv("ASH_TEST_LONG") != NULL;
    if (is_long) {
        most_visits = 5;
        operations = 2000;
    }
    step_init(on_step);
    free(malloc(1)); /* the library has its key */
    pthread_key_create(&last_key, last_destructor);
    load_in_turns();
    load_start();
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        walk(&paths[i]);
    is_int(load_finish(), 0, "no block was damaged");
    is_int(ash_verify(), 0, "everything verifies");
    int instructions = say_instructions();
    ok(instructions > 3000, "each of the others made %lu operations at each of %d instructions", (unsigned long)operations,
       instructions);
    return tap_done();
}

#else

int main(void)
{
    skip("stepping in the own process is for x86-64", 1);
    return tap_done();
}

#endif
