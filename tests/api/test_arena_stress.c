/*
 * Random calls on trees of arenas beside a plain record of what must be there: every block's contents, every cleanup
 * that must have run. Alone, in 2, 4 and 8 threads that hand trees to one another, in children forked in the middle,
 * with guards, and without memory.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { ARENAS = 12, BLOCKS = 400, CLEANUPS = 100, MARKS = 4, STEPS = 8000 };

struct place {
    struct ash_arena *arena; /* NULL: free */
    int parent;              /* -1: a root */
    long came;               /* under that parent */
    int marks;
    struct ash_mark mark[MARKS];
    long mark_time[MARKS];
};

struct block {
    unsigned char *p; /* NULL: free */
    size_t n, safe;   /* bytes it has; bytes it has after any rollback that leaves it */
    int owner;
    long came;
    unsigned char fill;
};

struct world {
    uint64_t state;
    long time, cleaned, expected;
    unsigned flags;
    int wrong;
    struct place place[ARENAS];
    struct block block[BLOCKS];
    struct {
        int used, owner;
        long came;
    } cleanup[CLEANUPS];
};

static unsigned below(struct world *w, unsigned n)
{
    w->state = w->state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((w->state >> 33) % n);
}

static size_t some_size(struct world *w)
{
    unsigned kind = below(w, 100);
    return kind < 70 ? below(w, 200) : kind < 97 ? below(w, 6000) : below(w, 400000);
}

/* ---- the record ---- */

static int some_arena(struct world *w)
{
    int i = (int)below(w, ARENAS);
    while (w->place[i].arena == NULL)
        i = (i + 1) % ARENAS;
    return i;
}

/* Blocks and cleanups that came after `time` are gone. */
static void forget(struct world *w, int owner, long time)
{
    for (int i = 0; i < BLOCKS; i++) {
        struct block *b = &w->block[i];
        if (b->p != NULL && b->owner == owner && b->came > time)
            b->p = NULL;
        else if (b->p != NULL && b->owner == owner)
            b->n = b->safe < b->n ? b->safe : b->n;
    }
    for (int i = 0; i < CLEANUPS; i++)
        if (w->cleanup[i].used && w->cleanup[i].owner == owner && w->cleanup[i].came > time) {
            w->cleanup[i].used = 0;
            w->expected++;
        }
}

static void forget_children(struct world *w, int parent, long time)
{
    for (int i = 0; i < ARENAS; i++)
        if (w->place[i].arena != NULL && w->place[i].parent == parent && w->place[i].came > time) {
            forget_children(w, i, -1);
            forget(w, i, -1);
            w->place[i].arena = NULL;
        }
}

static void check(struct world *w)
{
    for (int i = 0; i < BLOCKS; i++)
        for (size_t k = 0; w->block[i].p != NULL && k < w->block[i].n; k++)
            w->wrong += w->block[i].p[k] != w->block[i].fill;
    w->wrong += w->cleaned != w->expected;
}

/* ---- steps ---- */

static void step_create(struct world *w)
{
    for (int i = 0; i < ARENAS; i++)
        if (w->place[i].arena == NULL) {
            int roots = 0, parent;
            for (int k = 0; k < ARENAS; k++)
                roots += w->place[k].arena != NULL;
            parent = roots > 0 && below(w, 4) > 0 ? some_arena(w) : -1;
            struct ash_arena *a = ash_arena_create(parent < 0 ? NULL : w->place[parent].arena, "stress",
                                                   ASH_ARENA_CONFIG(.first_chunk = below(w, 3000), .flags = w->flags));
            if (a != NULL)
                w->place[i] = (struct place){.arena = a, .parent = parent, .came = ++w->time};
            return;
        }
}

static void step_alloc(struct world *w)
{
    int owner = some_arena(w), i = 0;
    struct ash_arena *a = w->place[owner].arena;
    size_t n = some_size(w);
    while (i < BLOCKS && w->block[i].p != NULL)
        i++;
    if (i == BLOCKS)
        return;
    unsigned how = below(w, 4);
    unsigned char *p = how == 0   ? ash_arena_zalloc(a, n)
                       : how == 1 ? ash_arena_aligned(a, (size_t)1 << below(w, 13), n)
                                  : ash_arena_alloc(a, n);
    if (p == NULL)
        return;
    for (size_t k = 0; how == 0 && k < n; k++)
        w->wrong += p[k] != 0;
    struct block *b = &w->block[i];
    *b = (struct block){p, n, n, owner, ++w->time, (unsigned char)below(w, 256)};
    memset(p, b->fill, n);
}

static void step_realloc(struct world *w)
{
    struct block *b = &w->block[below(w, BLOCKS)];
    if (b->p == NULL || b->n != b->safe)
        return;
    size_t n = some_size(w);
    unsigned char *p = ash_arena_realloc(w->place[b->owner].arena, b->p, b->n, n);
    if (p == NULL)
        return;
    for (size_t k = 0; k < b->n && k < n; k++)
        w->wrong += p[k] != b->fill;
    if (p != b->p)
        *b = (struct block){p, n, n, b->owner, ++w->time, b->fill};
    b->safe = b->n < n ? b->n : n;
    b->n = n;
    memset(p, b->fill, n);
}

struct node {
    struct ash_cleanup cleanup;
    struct world *world;
};

static void cleaned(void *arg)
{
    struct node *n = arg;
    n->world->cleaned++;
}

static void step_cleanup(struct world *w)
{
    int owner = some_arena(w), i = 0;
    while (i < CLEANUPS && w->cleanup[i].used)
        i++;
    struct node *n = i < CLEANUPS ? ash_arena_alloc(w->place[owner].arena, sizeof *n) : NULL;
    if (n == NULL)
        return;
    *n = (struct node){.cleanup = {cleaned, n, NULL, 0}, .world = w};
    ash_arena_on_reset(w->place[owner].arena, &n->cleanup);
    w->cleanup[i].used = 1;
    w->cleanup[i].owner = owner;
    w->cleanup[i].came = ++w->time;
}

static void step_mark(struct world *w)
{
    struct place *l = &w->place[some_arena(w)];
    if (l->marks == MARKS)
        return;
    l->mark[l->marks] = ash_arena_mark(l->arena);
    l->mark_time[l->marks++] = ++w->time;
}

static void step_rollback(struct world *w)
{
    int i = some_arena(w);
    struct place *l = &w->place[i];
    if (l->marks == 0)
        return;
    int m = (int)below(w, (unsigned)l->marks);
    long time = l->mark_time[m];
    l->marks = m + 1;
    ash_arena_rollback(l->arena, l->mark[m]);
    forget_children(w, i, time);
    forget(w, i, time);
}

static void step_end(struct world *w)
{
    int i = some_arena(w), whole = below(w, 2) == 0;
    struct ash_arena *a = w->place[i].arena;
    forget_children(w, i, -1);
    forget(w, i, -1);
    w->place[i].marks = 0;
    if (whole)
        w->place[i].arena = NULL;
    whole ? ash_arena_destroy(a) : ash_arena_reset(a);
}

static int is_above(const struct world *w, int above, int i)
{
    while (i >= 0 && i != above)
        i = w->place[i].parent;
    return i >= 0;
}

static void step_merge(struct world *w)
{
    int into = some_arena(w), from = some_arena(w);
    int status = ash_arena_merge(w->place[into].arena, w->place[from].arena);
    w->wrong += (status == -EINVAL) != is_above(w, from, into);
    if (status != 0)
        return;
    w->time++;
    for (int i = 0; i < BLOCKS; i++)
        if (w->block[i].p != NULL && w->block[i].owner == from) {
            w->block[i].owner = into;
            w->block[i].came = w->time;
        }
    for (int i = 0; i < CLEANUPS; i++)
        if (w->cleanup[i].used && w->cleanup[i].owner == from) {
            w->cleanup[i].owner = into;
            w->cleanup[i].came = w->time;
        }
    for (int i = 0; i < ARENAS; i++)
        if (w->place[i].arena != NULL && w->place[i].parent == from) {
            w->place[i].parent = into;
            w->place[i].came = w->time;
        }
    w->place[from].arena = NULL;
}

static void step_move(struct world *w)
{
    int i = some_arena(w), parent = below(w, 3) == 0 ? -1 : some_arena(w);
    int status = ash_arena_reparent(w->place[i].arena, parent < 0 ? NULL : w->place[parent].arena);
    w->wrong += (status == -EINVAL) != (parent >= 0 && is_above(w, i, parent));
    if (status == 0) {
        w->place[i].parent = parent;
        w->place[i].came = ++w->time;
    }
}

static void steps(struct world *w, int n)
{
    while (n-- > 0) {
        unsigned kind = below(w, 1000);
        int arenas = 0;
        for (int i = 0; i < ARENAS; i++)
            arenas += w->place[i].arena != NULL;
        if (arenas == 0 || kind < 30)
            step_create(w);
        else if (kind < 700)
            step_alloc(w);
        else if (kind < 800)
            step_realloc(w);
        else if (kind < 880)
            step_cleanup(w);
        else if (kind < 930)
            step_mark(w);
        else if (kind < 960)
            step_rollback(w);
        else if (kind < 975)
            step_end(w);
        else if (kind < 985)
            step_merge(w);
        else
            step_move(w);
        if (n % 64 == 0)
            check(w);
    }
}

static void end(struct world *w)
{
    check(w);
    for (int i = 0; i < ARENAS; i++)
        if (w->place[i].arena != NULL)
            w->wrong += ash_arena_audit(w->place[i].arena);
    for (int i = 0; i < ARENAS; i++)
        if (w->place[i].arena != NULL && w->place[i].parent < 0) {
            ash_arena_destroy(w->place[i].arena);
            forget_children(w, i, -1);
            forget(w, i, -1);
            w->place[i].arena = NULL;
        }
    w->wrong += w->cleaned != w->expected;
}

/* ---- threads ---- */

enum { THREADS_MAX = 8 };
static struct world worlds[THREADS_MAX];

static void *turn(void *arg)
{
    steps(arg, STEPS / 4);
    return NULL;
}

/* Each world goes through four threads; the last thing is done by the main one. */
static void test_threads(unsigned threads, unsigned flags)
{
    int wrong = 0;
    for (unsigned i = 0; i < threads; i++) {
        memset(&worlds[i], 0, sizeof worlds[i]);
        worlds[i].state = threads * 100 + i + flags;
        worlds[i].flags = flags;
    }
    for (int round = 0; round < 4; round++) {
        pthread_t t[THREADS_MAX];
        for (unsigned i = 0; i < threads; i++)
            pthread_create(&t[i], NULL, turn, &worlds[i]);
        for (unsigned i = 0; i < threads; i++)
            pthread_join(t[i], NULL);
    }
    for (unsigned i = 0; i < threads; i++) {
        end(&worlds[i]);
        wrong += worlds[i].wrong;
    }
    is_int(wrong, 0, "trees handed from thread to thread");
}

/* ---- forks ---- */

static void test_fork(void)
{
    struct world *w = &worlds[0];
    int failed = 0;
    memset(w, 0, sizeof *w);
    w->state = 77;
    for (int i = 0; i < 20; i++) {
        steps(w, 500);
        pid_t child = fork();
        if (child == 0) {
            steps(w, 2000);
            end(w);
            _exit(w->wrong != 0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        failed += status != 0;
    }
    end(w);
    is_int(failed, 0, "children go on with the trees they have");
    is_int(w->wrong, 0, "and so does their parent");
}

/* ---- without memory ---- */

static void test_without_memory(void)
{
    struct world *w = &worlds[0];
    memset(w, 0, sizeof *w);
    w->state = 5;
    size_t used, limit;
    ash_limit_get(&limit, &used);
    struct ash_arena *hog = ash_arena_create(NULL, "hog", NULL);
    ok(ash_limit_set(used + (8 << 20)) == 0, "a limit for the process");
    while (ash_arena_alloc(hog, 100000) != NULL)
        ;
    ok(errno == ENOMEM, "memory ends with ENOMEM");
    errno = 0;
    while (ash_arena_alloc(hog, 16) != NULL)
        ;
    ok(errno == ENOMEM, "for small blocks too, to the last");
    steps(w, STEPS);
    ash_arena_destroy(hog);
    steps(w, STEPS);
    end(w);
    is_int(w->wrong, 0, "where there is none, nothing is lost");
    ash_limit_set(0);
}

static uint64_t live_blocks(void)
{
    struct ash_stats s;
    s.struct_size = sizeof s;
    ash_stats_get(&s);
    return s.live_blocks;
}

int main(void)
{
    uint64_t before = live_blocks();
    for (unsigned seed = 0; seed < 5; seed++) {
        struct world *w = &worlds[0];
        memset(w, 0, sizeof *w);
        w->state = seed;
        w->flags = seed == 4 ? ASH_ARENA_DEBUG : 0;
        steps(w, STEPS);
        end(w);
        ok(w->wrong == 0 && w->expected > 100, "seed %u: %ld cleanups", seed, w->expected);
    }
    test_fork();
    test_without_memory();
    is_int((long)(live_blocks() - before), 0, "nothing is left in one thread");
    for (unsigned threads = 2; threads <= THREADS_MAX; threads *= 2)
        test_threads(threads, threads == 4 ? ASH_ARENA_DEBUG : 0);
    return tap_done();
}
