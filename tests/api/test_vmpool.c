/*
 * Pools of VMs (ashlar/vmpool.h). The first test is how a server uses one: a script is run for each request, in an
 * engine that knows nothing of the requests before. Then what a use can do to an engine, and that it is undone.
 */
#include "bench/engines/engines.h"
#include "tap.h"

#include <ashlar/vm.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>

/* ---- how it is used ---- */

static int vm_init(void *user, struct ash_heap *heap, void **root)
{
    const struct engine *e = user;
    *root = engine_open(e, heap, e->extract);
    return *root == NULL ? -ENOMEM : 0;
}

static int vm_enter(void *user, void *root)
{
    engine_enter(user, root);
    return 0;
}

static struct ash_vmpool *pool_of(const struct engine *e, size_t heap_bytes)
{
    return ash_vmpool_create(e->name, &(struct ash_vm_ops){.init = vm_init, .enter = vm_enter},
                             ASH_VMPOOL_CONFIG(.heap_bytes = heap_bytes, .max = 2, .flags = ASH_VM_STICKY),
                             (void *)(uintptr_t)e);
}

struct server {
    struct ash_vmpool *pool;
    const struct engine *engine;
    int first, served, wrong;
};

static void *serve(void *arg)
{
    struct server *s = arg;
    for (int i = s->first; i < s->first + 500; i++) {
        char row[100], value[32], want[32];
        int n = snprintf(row, sizeof row, "{\"id\": %d, \"name\": \"row %d\", \"value\": %d}", i, i, 7 * i);
        snprintf(want, sizeof want, "%d", 7 * i);
        struct ash_vm *vm;
        if (ash_vmpool_acquire(s->pool, &vm, -1) != 0)
            break;
        s->wrong +=
            s->engine->call(ash_vm_root(vm), row, (size_t)n, value, sizeof value) != 0 || strcmp(value, want) != 0;
        ash_vmpool_release(s->pool, vm, 0);
        s->served++;
    }
    return NULL;
}

static void test_example(void)
{
    const struct engine *e = engine_find("toy");
    struct ash_vmpool *pool = pool_of(e, 8 << 20);
    struct server s[4];
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) {
        s[i] = (struct server){.pool = pool, .engine = e, .first = 1000 * i};
        pthread_create(&thread[i], NULL, serve, &s[i]);
    }
    int served = 0, wrong = 0;
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        served += s[i].served;
        wrong += s[i].wrong;
    }
    struct ash_vmpool_stats stats;
    ash_vmpool_stats(pool, &stats);
    is_int(served, 2000, "four threads serve 2000 requests");
    is_int(wrong, 0, "each has its own row's value");
    ok(stats.created >= 1 && stats.created <= 2, "in no more than two engines: %d", (int)stats.created);
    is_int((int)stats.acquires, 2000, "which were acquired so often");
    is_int((int)(stats.hits + stats.created), 2000, "and made when there was none");
    is_int(ash_vmpool_destroy(pool), 0, "the end");
}

/* ---- what a use may do ---- */

static void test_spoilt(const struct engine *e)
{
    struct ash_vmpool *pool = pool_of(e, 32 << 20);
    struct ash_vm *vm;
    char text[100] = "";
    ash_vmpool_acquire(pool, &vm, 0);
    is_int(e->run(ash_vm_root(vm), e->spoiled, text, sizeof text), 0, "a new engine");
    is_str(text, e->clean, "has nothing of others");
    is_int(e->run(ash_vm_root(vm), e->spoil, text, sizeof text), 0, "a global, a prototype, a function, a pending job");
    int failed = e->run(ash_vm_root(vm), e->spoiled, text, sizeof text);
    ok(failed || strcmp(text, e->clean) != 0, "are spoilt: %s", text);
    ash_vmpool_release(pool, vm, 0);
    ash_vmpool_acquire(pool, &vm, 0);
    is_int(e->run(ash_vm_root(vm), e->spoiled, text, sizeof text), 0, "the next user's engine");
    is_str(text, e->clean, "has nothing of that");
    ash_vmpool_release(pool, vm, 0);
    ash_vmpool_destroy(pool);
}

static jmp_buf out;

static void leave(void)
{
    longjmp(out, 1);
}

static void test_runaway(const struct engine *e, int count)
{
    struct ash_vmpool *pool = pool_of(e, 4 << 20);
    volatile int wrong = 0, left = 0;
    for (volatile int i = 0; i < count; i++) {
        struct ash_vm *volatile vm;
        struct ash_vm *got;
        char text[100];
        wrong += ash_vmpool_acquire(pool, &got, 0) != 0;
        vm = got;
        if (setjmp(out) == 0) {
            engine_on_tick(e, ash_vm_root(vm), leave);
            e->run(ash_vm_root(vm), e->endless, text, sizeof text);
        } else {
            left = left + 1;
        }
        wrong += ash_vmpool_release(pool, vm, 0) != 0;
        wrong += ash_vmpool_acquire(pool, &got, 0) != 0;
        wrong += e->run(ash_vm_root(got), e->spoiled, text, sizeof text) != 0 || strcmp(text, e->clean) != 0;
        wrong += ash_vmpool_release(pool, got, 0) != 0;
    }
    is_int(left, count, "scripts without an end are left by longjmp");
    is_int(wrong, 0, "and the engine works after each");
    ash_vmpool_destroy(pool);
}

static void test_hungry(const struct engine *e)
{
    struct ash_vmpool *pool = pool_of(e, 2 << 20);
    struct ash_vm *vm;
    char text[100];
    ash_vmpool_acquire(pool, &vm, 0);
    ok(e->run(ash_vm_root(vm), e->hungry, text, sizeof text) != 0, "a script over its memory limit fails: %.40s", text);
    is_int(ash_vmpool_release(pool, vm, 0), 0, "it goes back");
    ash_vmpool_acquire(pool, &vm, 0);
    ok(e->call(ash_vm_root(vm), "{\"value\": 12}", 13, text, sizeof text) == 0 && strcmp(text, "12") == 0,
       "with all its memory");
    ash_vmpool_release(pool, vm, 0);
    ash_vmpool_destroy(pool);
}

/* ---- very often ---- */

static int cycles(int fallback)
{
    const char *set = getenv("ASH_TEST_CYCLES");
    return set != NULL ? atoi(set) : fallback;
}

static void test_cycles(const struct engine *e, int count)
{
    struct ash_vmpool *pool =
        ash_vmpool_create(e->name, &(struct ash_vm_ops){.init = vm_init, .enter = vm_enter},
                          ASH_VMPOOL_CONFIG(.heap_bytes = 8 << 20, .verify_every = 97), (void *)(uintptr_t)e);
    struct ash_heap_stats before = {0}, after;
    int wrong = 0, grown = 0;
    for (int i = 0; i < count; i++) {
        struct ash_vm *vm;
        char row[64], text[32], want[32];
        wrong += ash_vmpool_acquire(pool, &vm, 0) != 0;
        ash_heap_stats(ash_vm_heap(vm), &after);
        if (i == 0)
            before = after;
        grown += after.used_bytes != before.used_bytes || after.live_blocks != before.live_blocks;
        int n = snprintf(row, sizeof row, "{\"name\": \"%d\", \"value\": %d}", i % 1000, i);
        snprintf(want, sizeof want, "%d", i);
        wrong += e->call(ash_vm_root(vm), row, (size_t)n, text, sizeof text) != 0 || strcmp(text, want) != 0;
        if (i % 16 == 0)
            e->run(ash_vm_root(vm), e->spoil, text, sizeof text);
        wrong += ash_vmpool_release(pool, vm, 0) != 0;
    }
    struct ash_vmpool_stats stats;
    ash_vmpool_stats(pool, &stats);
    is_int(wrong, 0, "many cycles, each with the right answer");
    is_int(grown, 0, "none of which finds a heap that has grown");
    double ratio = (double)before.image_bytes / (double)before.live_bytes;
    ok(ratio <= 1.15, "or an image that is more than 1.15 of what the engine uses: %.3f of %d KiB", ratio,
       (int)(before.live_bytes >> 10));
    ok(stats.created == 1 && stats.mismatches == 0, "one VM, which is its image's like: %d cycles of %s", count,
       e->name);
    ash_vmpool_destroy(pool);
}

int main(void)
{
    test_example();
    for (const struct engine *const *e = engines; *e != NULL; e++) {
        tap_line("# %s", (*e)->name);
        test_spoilt(*e);
        test_runaway(*e, 100);
        test_hungry(*e);
        test_cycles(*e, cycles(e == engines ? 100000 : 20000));
    }
    return tap_done();
}
