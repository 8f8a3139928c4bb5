/* ashlar/heap.h: a heap's life as a guest sees it, then every function with its errors. */
#include "draw.h"
#include "tap.h"

#include <ashlar/heap.h>
#include <ashlar/stats.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

static struct ash_heap_stats stats(const struct ash_heap *h)
{
    struct ash_heap_stats s;
    memset(&s, 0xff, sizeof s);
    ash_heap_stats(h, &s);
    return s;
}

/* ---- an example: a guest whose memory is one heap ---- */

struct word {
    struct word *next;
    char text[];
};

/* A guest: it keeps every word that it is told, and knows nothing of snapshots. */
struct guest {
    struct ash_heap *heap;
    struct word *words;
    unsigned count;
};

static int guest_tell(struct guest *g, const char *text)
{
    struct word *w = ash_heap_malloc(g->heap, sizeof *w + strlen(text) + 1);
    if (w == NULL)
        return -ENOMEM;
    strcpy(w->text, text);
    w->next = g->words;
    g->words = w;
    g->count++;
    return 0;
}

static void example(void)
{
    struct ash_heap *heap = ash_heap_create("guest", MIB, 0);
    struct guest *g = ash_heap_calloc(heap, 1, sizeof *g); /* the guest lives in its heap, too */
    g->heap = heap;
    guest_tell(g, "started");
    ash_heap_snapshot(heap, ASH_RESET_AUTO);
    uint64_t live = stats(heap).live_bytes;

    int told = 0;
    for (int request = 0; request < 100; request++) {
        guest_tell(g, "a secret of this request");
        guest_tell(g, "and another");
        told += g->count == 3;
        ash_heap_restore(heap);
    }
    is_int(told, 100, "each request finds the guest as it was started");
    is_int(g->count, 1, "and leaves nothing behind");
    is_str(g->words->text, "started", "what was there at the snapshot is there");
    is_int((long)stats(heap).live_bytes, (long)live, "the heap holds what it held");

    while (guest_tell(g, "a request that runs wild") == 0)
        ;
    is_int(errno, ENOMEM, "memory ends at the heap's limit, for the guest alone");
    ash_heap_restore(heap);
    is_int(guest_tell(g, "ok"), 0, "after a restore there is room again");
    ash_heap_destroy(heap);
}

/* ---- create ---- */

static void refuses(const char *name, size_t bytes, unsigned flags, const char *what)
{
    errno = 0;
    struct ash_heap *h = ash_heap_create(name, bytes, flags);
    ok(h == NULL && errno == EINVAL, "ash_heap_create: %s is EINVAL", what);
}

static void test_create(void)
{
    refuses(NULL, MIB, 0, "no name");
    refuses("0123456789012345678901234567890x", MIB, 0, "a name of 32 characters");
    refuses("a\nb", MIB, 0, "a control character");
    refuses("a\"b", MIB, 0, "a quote");
    refuses("a", 64 * KIB - 1, 0, "too little");
    refuses("a", ((size_t)32 << 30) + 1, 0, "too much");
    refuses("a", SIZE_MAX, 0, "all there is");
    refuses("a", MIB, 0x80, "an unknown flag");
    struct ash_heap *h = ash_heap_create("0123456789012345678901234567890", (size_t)32 << 30, 0);
    if (h != NULL) {
        ok(ash_heap_malloc(h, 3 << 20) != NULL, "the largest heap, and a name of 31 characters");
        ash_heap_destroy(h);
    } else
        skip("address space is limited", 1);
    ash_heap_destroy(NULL);
    h = ash_heap_create("", 64 * KIB, 0);
    is_int((long)stats(h).limit_bytes, 64 * 1024, "the least heap, without a name");
    is_int((long)stats(h).live_blocks, 0, "is empty");
    void *all = ash_heap_malloc(h, 64 * KIB);
    ok(all != NULL, "one block can take all of the limit");
    memset(all, 1, 64 * KIB);
    ok(ash_heap_malloc(h, 1) == NULL && errno == ENOMEM, "nothing is left then");
    is_int((long)stats(h).refused, 1, "which is counted");
    ash_heap_free(h, all);
    is_int((long)stats(h).live_bytes, 0, "and all comes back");
    is_int(ash_heap_stats(h, NULL), -EINVAL, "ash_heap_stats of NULL");
    ash_heap_destroy(h);
}

/* ---- blocks ---- */

static void test_blocks(void)
{
    struct ash_heap *h = ash_heap_create("blocks", 16 * MIB, 0);
    char *a = ash_heap_malloc(h, 1), *b = ash_heap_malloc(h, 17), *c = ash_heap_malloc(h, 0);
    ok(b == a + 16 && c == b + 32, "blocks are packed, without headers");
    is_int((long)ash_heap_usable(h, a), 16, "usable: 16");
    is_int((long)ash_heap_usable(h, b), 32, "usable: 32");
    is_int((long)ash_heap_usable(h, c), 16, "a block of no bytes");
    is_int((long)ash_heap_usable(h, NULL), 0, "usable of NULL");
    is_int((long)ash_heap_usable(h, a + 1) + (long)ash_heap_usable(h, b + 16) + (long)ash_heap_usable(h, &h), 0,
           "usable of what is no block");
    ok(ash_heap_owns(h, a) && ash_heap_owns(h, a + 8 * MIB) && !ash_heap_owns(h, a - 1) && !ash_heap_owns(h, &a) &&
           !ash_heap_owns(h, NULL) && !ash_heap_owns(h, a + 16 * MIB), "ash_heap_owns");
    errno = 42;
    ash_heap_free(h, NULL);
    ash_heap_free(h, b);
    is_int(errno, 42, "free keeps errno");
    is_int((long)ash_heap_usable(h, b), 0, "usable of a freed block");
    is_ptr(ash_heap_malloc(h, 20), b, "a freed block is used again");
    ok(ash_heap_malloc(h, SIZE_MAX) == NULL && errno == ENOMEM, "all there is");
    ok(ash_heap_malloc(h, SIZE_MAX / 2) == NULL && ash_heap_malloc(h, 17 * MIB) == NULL, "too much");
    ok(ash_heap_calloc(h, SIZE_MAX / 2, 3) == NULL && errno == ENOMEM, "an overflow in calloc");
    ok(ash_heap_realloc(h, a, SIZE_MAX) == NULL && errno == ENOMEM && ash_heap_realloc(h, a, 17 * MIB) == NULL,
       "realloc beyond the limit");
    is_int((long)ash_heap_usable(h, a), 16, "leaves the block");
    ok(ash_heap_aligned(h, 3, 10) == NULL && errno == EINVAL, "an alignment of 3");
    ok(ash_heap_aligned(h, 0, 10) == NULL && errno == EINVAL, "an alignment of 0");
    ok(ash_heap_aligned(h, (size_t)1 << 63, 10) == NULL && errno == ENOMEM, "an alignment beyond memory");
    int aligned = 1;
    for (size_t align = 1; align <= 64 * KIB; align *= 2) {
        void *p = ash_heap_aligned(h, align, 100);
        aligned &= p != NULL && (uintptr_t)p % align == 0 && ash_heap_usable(h, p) == 112;
        ash_heap_free(h, p);
    }
    ok(aligned, "ash_heap_aligned: every alignment");
    is_int((long)stats(h).live_blocks, 3, "nothing else is live");
    ash_heap_free(h, a), ash_heap_free(h, b), ash_heap_free(h, c);
    is_ptr(ash_heap_malloc(h, 16 * MIB), a, "free memory joins");
    ash_heap_destroy(h);
}

static void test_realloc(void)
{
    struct ash_heap *h = ash_heap_create("realloc", 16 * MIB, 0);
    char *p = ash_heap_realloc(h, NULL, 100);
    memset(p, 7, 100);
    is_ptr(ash_heap_realloc(h, p, 5 * MIB), p, "the last block grows in place");
    ok(p[99] == 7 && p[5 * MIB - 1] == 0, "with what it held");
    char *q = ash_heap_malloc(h, 1000);
    is_ptr(ash_heap_realloc(h, p, 2 * MIB), p, "shrinking is in place");
    is_int((long)ash_heap_usable(h, p), 2 * MIB, "and sizes of megabytes are told");
    is_ptr(ash_heap_realloc(h, p, 3 * MIB), p, "growth into what is free behind");
    is_ptr(ash_heap_realloc(h, p, 5 * MIB), p, "all of it");
    char *moved = ash_heap_realloc(h, p, 5 * MIB + 1);
    ok(moved != p && moved[99] == 7, "a block that cannot grow moves");
    is_int((long)ash_heap_usable(h, p), 0, "and leaves its place");
    ok(ash_heap_realloc(h, moved, 0) == NULL, "realloc to nothing frees");
    is_int((long)stats(h).live_blocks, 1, "it did");
    ash_heap_free(h, q);
    memset(ash_heap_malloc(h, MIB), 0xee, MIB);
    ash_heap_reset(h);
    is_int((long)stats(h).live_blocks, 0, "ash_heap_reset: empty");
    char *z = ash_heap_malloc(h, MIB);
    size_t dirt = 0;
    for (size_t i = 0; i < MIB; i++)
        dirt += z[i] != 0;
    is_int((long)dirt, 0, "and zero again");
    ash_heap_destroy(h);
}

/* ---- against a model ---- */

enum { SLOTS = 400 };

/* Random calls; every block keeps its pattern, and the records are whole all the time. */
static void test_model(uint64_t seed)
{
    struct ash_heap *h = ash_heap_create("model", 4 * MIB, 0);
    struct {
        unsigned char *p;
        size_t n;
    } slot[SLOTS] = {{NULL, 0}};
    uint64_t first = seed, live = 0;
    int bad = 0;
    for (int step = 0; step < 60000 && !bad; step++) {
        unsigned i = (unsigned)(draw_from(&seed) % SLOTS), call = (unsigned)(draw_from(&seed) % 8);
        size_t n = draw_from(&seed) % (draw_from(&seed) % 50 == 0 ? 100000 : draw_from(&seed) % 10 == 0 ? 5000 : 300);
        unsigned char *p = slot[i].p;
        for (size_t k = 0; p != NULL && k < slot[i].n; k += 1 + slot[i].n / 7)
            bad += p[k] != (unsigned char)(i + slot[i].n);
        if (p != NULL && call > 1) {
            ash_heap_free(h, p);
            p = NULL;
        } else if (p != NULL) {
            n = n == 0 ? 1 : n;
            unsigned char *q = ash_heap_realloc(h, p, n);
            size_t keep = n < slot[i].n ? n : slot[i].n;
            for (size_t k = 0; q != NULL && k < keep; k++)
                bad += q[k] != (unsigned char)(i + slot[i].n);
            if (q == NULL)
                n = slot[i].n;
            p = q == NULL ? p : q;
        } else if (call == 0)
            p = ash_heap_aligned(h, (size_t)16 << draw_from(&seed) % 8, n);
        else if (call == 1) {
            p = ash_heap_calloc(h, 1, n);
            for (size_t k = 0; p != NULL && k < n; k++)
                bad += p[k] != 0;
        } else
            p = ash_heap_malloc(h, n);
        slot[i].p = p;
        slot[i].n = p != NULL ? n : 0;
        if (p != NULL) {
            memset(p, (int)(i + n), n);
            bad += ash_heap_usable(h, p) < n || ash_heap_usable(h, p) > n + 31 || (uintptr_t)p % 16 != 0;
        }
        if (step % 2000 == 0) {
            bad += ash_heap_snapshot(h, ASH_RESET_COPY) != 0;
            bad += ash_heap_verify(h);
        }
    }
    for (int i = 0; i < SLOTS; i++)
        live += ash_heap_usable(h, slot[i].p);
    is_int((long)stats(h).live_bytes, (long)live, "the heap's count of live bytes is theirs");
    for (int i = 0; i < SLOTS; i++)
        ash_heap_free(h, slot[i].p);
    ok(bad == 0, "60,000 random calls, seed %llu", (unsigned long long)first);
    is_int((long)stats(h).live_blocks, 0, "all is free in the end");
    ok(ash_heap_malloc(h, 4 * MIB) != NULL, "and in one piece");
    ash_heap_destroy(h);
}

static void test_deterministic(void)
{
    struct ash_heap *h[2];
    char *base[2];
    int same = 1;
    for (int k = 0; k < 2; k++) {
        h[k] = ash_heap_create("twin", 4 * MIB, 0);
        base[k] = ash_heap_malloc(h[k], 1);
    }
    uint64_t seed = 5;
    char *p[2][64] = {{NULL}};
    for (int step = 0; step < 20000; step++) {
        unsigned i = (unsigned)(draw_from(&seed) % 64);
        size_t n = draw_from(&seed) % 2000;
        for (int k = 0; k < 2; k++)
            p[k][i] = ash_heap_realloc(h[k], p[k][i], n);
        same &= p[0][i] == NULL ? p[1][i] == NULL : p[0][i] - base[0] == p[1][i] - base[1];
    }
    ok(same, "the same calls give the same places");
    ash_heap_destroy(h[0]);
    ash_heap_destroy(h[1]);
}

/* ---- engines' hooks ---- */

struct JSMallocState {
    size_t malloc_count, malloc_size, malloc_limit;
    void *opaque;
};

static void test_hooks(void)
{
    struct ash_heap *h = ash_heap_create("engine", MIB, 0), *other = ash_heap_create("other", MIB, 0);
    char *p = ash_heap_lua_alloc(h, NULL, 5, 40);
    p = ash_heap_lua_alloc(h, p, 40, 400);
    ok(p != NULL && stats(h).live_bytes == 400, "ash_heap_lua_alloc");
    ok(ash_heap_lua_alloc(h, p, 400, 2 * MIB) == NULL && stats(h).live_bytes == 400, "refuses, and keeps the block");
    ok(ash_heap_lua_alloc(h, p, 400, 0) == NULL && ash_heap_lua_alloc(h, NULL, 0, 0) == NULL, "frees");
    is_int((long)stats(h).live_bytes, 0, "it did");

    struct {
        void *(*js_malloc)(struct JSMallocState *, size_t);
        void (*js_free)(struct JSMallocState *, void *);
        void *(*js_realloc)(struct JSMallocState *, void *, size_t);
        size_t (*js_malloc_usable_size)(const void *);
    } js = ASH_HEAP_QUICKJS;
    struct JSMallocState s = {0, 0, 1000, h};
    void *a = js.js_malloc(&s, 100), *b = js.js_realloc(&s, NULL, 10);
    ok(s.malloc_count == 2 && s.malloc_size == 112 + 16, "QuickJS: counts");
    b = js.js_realloc(&s, b, 200);
    ok(s.malloc_count == 2 && s.malloc_size == 112 + 208, "realloc");
    ok(js.js_malloc(&s, 900) == NULL && js.js_realloc(&s, b, 900) == NULL && js.js_malloc(&s, SIZE_MAX) == NULL,
       "its limit");
    is_int((long)js.js_malloc_usable_size(b), 208, "usable");
    ok(js.js_realloc(&s, NULL, 0) == NULL && js.js_realloc(&s, b, 0) == NULL, "realloc to nothing");
    js.js_free(&s, a);
    js.js_free(&s, NULL);
    ok(s.malloc_count == 0 && s.malloc_size == 0, "all is free");

    struct {
        void *(*js_calloc)(void *, size_t, size_t);
        void *(*js_malloc)(void *, size_t);
        void (*js_free)(void *, void *);
        void *(*js_realloc)(void *, void *, size_t);
        size_t (*js_malloc_usable_size)(const void *);
    } ng = ASH_HEAP_QUICKJS_NG;
    a = ng.js_calloc(h, 10, 10);
    b = ng.js_realloc(h, ng.js_malloc(h, 10), 100);
    char *c = ng.js_malloc(other, 33);
    ok(ng.js_malloc_usable_size(a) == 112 && ng.js_malloc_usable_size(b) == 112 && ng.js_malloc_usable_size(c) == 48,
       "quickjs-ng: usable of any heap's block");
    is_int((long)ng.js_malloc_usable_size(&s), 0, "of no block");
    ng.js_free(h, a);
    ng.js_free(h, b);
    is_int((long)stats(h).live_blocks, 0, "all is free");
    ash_heap_destroy(other);
    is_int((long)ng.js_malloc_usable_size(c), 0, "of a heap that is gone");
    ash_heap_destroy(h);
}

/* ---- threads and statistics ---- */

static volatile int ended;

static void *churn(void *arg)
{
    uint64_t seed = (uintptr_t)arg + 1;
    uintptr_t bad = 0;
    for (int round = 0; round < 200; round++) {
        struct ash_heap *h = ash_heap_create("thread", MIB, 0);
        char *p[50];
        for (int i = 0; i < 50; i++) {
            size_t n = draw_from(&seed) % 3000 + 1;
            p[i] = ash_heap_malloc(h, n);
            bad += p[i] == NULL || ash_heap_block_usable(p[i]) < n;
            memset(p[i], (int)(intptr_t)arg, n);
        }
        ash_heap_snapshot(h, (enum ash_reset_mode)(draw_from(&seed) % 5));
        for (int i = 0; i < 50; i++)
            ash_heap_free(h, p[i]);
        ash_heap_restore(h);
        bad += (uintptr_t)ash_heap_verify(h) + (*p[49] != (char)(intptr_t)arg);
        ash_heap_destroy(h);
    }
    return (void *)bad;
}

static void *dump_all(void *arg)
{
    int null = open("/dev/null", O_WRONLY), *failed = arg;
    while (!__atomic_load_n(&ended, __ATOMIC_ACQUIRE))
        *failed |= ash_stats_dump(null, ASH_JSON);
    close(null);
    return NULL;
}

static void test_threads(int n)
{
    pthread_t worker[8], reader;
    uintptr_t bad = 0;
    int failed = 0;
    __atomic_store_n(&ended, 0, __ATOMIC_RELEASE);
    pthread_create(&reader, NULL, dump_all, &failed);
    for (int i = 0; i < n; i++)
        pthread_create(&worker[i], NULL, churn, (void *)(intptr_t)i);
    for (int i = 0; i < n; i++) {
        void *result;
        pthread_join(worker[i], &result);
        bad += (uintptr_t)result;
    }
    __atomic_store_n(&ended, 1, __ATOMIC_RELEASE);
    pthread_join(reader, NULL);
    ok(bad == 0 && failed == 0, "%d threads make, use and destroy heaps, statistics meanwhile", n);
}

static void test_shown(void)
{
    struct ash_heap *h = ash_heap_create("shown", MIB, 0);
    ash_heap_malloc(h, 1000);
    ash_heap_snapshot(h, ASH_RESET_COPY);
    ash_heap_restore(h);
    int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    static char text[65536];
    if (fd < 0) {
        skip("no temporary files", 3);
    } else {
        is_int(ash_stats_dump(fd, ASH_JSON), 0, "statistics");
        ssize_t n = pread(fd, text, sizeof text - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        ok(strstr(text, "\"heaps\": [") != NULL &&
               strstr(text, "{\"name\": \"shown\", \"live_bytes\": 1008, ") != NULL, "show the heap by its name");
        is_int(ash_heap_dump(h, fd), 0, "ash_heap_dump");
        memset(text, 0, sizeof text);
        n = pread(fd, text, sizeof text - 1, n);
        ok(strncmp(text, "heap shown: 1008 live bytes in 1 blocks", 39) == 0 && strstr(text, "mode copy, 1 restores"),
           "tells of this one");
        close(fd);
    }
    is_int(ash_heap_dump(h, -1), -EBADF, "a dump that cannot be written");
    ash_heap_destroy(h);
}

int main(void)
{
    example();
    test_create();
    test_blocks();
    test_realloc();
    for (uint64_t seed = 1; seed <= 3; seed++)
        test_model(seed);
    test_deterministic();
    test_hooks();
    test_threads(2);
    test_threads(8);
    test_shown();
    return tap_done();
}
