/*
 * What a restore must not miss, and what AUTO does: writes by the system and by other threads, memory locked, forks at
 * every moment, mappings counted; each in every mode.
 */
#include "tap.h"

#include <ashlar/heap.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

static const char *const mode_name[] = {"AUTO", "COPY", "SCAN", "SCAN_UFFD", "DROP"};

enum { PAGE = 4096 }; /* the stride of writes; pages may be larger */

static struct ash_heap_stats stats(const struct ash_heap *h)
{
    struct ash_heap_stats s;
    ash_heap_stats(h, &s);
    return s;
}

/* A heap whose image is one block of `n` bytes; byte k holds k / PAGE + k. */
struct world {
    struct ash_heap *heap;
    unsigned char *p;
    size_t n;
};

static unsigned char content(size_t k)
{
    return (unsigned char)(k / PAGE + k);
}

static struct world world_open(size_t n, enum ash_reset_mode mode)
{
    struct world w = {.heap = ash_heap_create(mode_name[mode], 16 * MIB, 0), .n = n};
    w.p = ash_heap_malloc(w.heap, n);
    for (size_t k = 0; k < n; k++)
        w.p[k] = content(k);
    if (ash_heap_snapshot(w.heap, mode) != 0)
        abort();
    return w;
}

/* Restores, and compares every byte. */
static int is_back(struct world *w)
{
    int bad = ash_heap_restore(w->heap) != 0;
    for (size_t k = 0; k < w->n; k++)
        bad |= w->p[k] != content(k);
    return !bad && ash_heap_verify(w->heap) == 0;
}

/* One use: `hot` pages from the first on, and one somewhere else. */
static void use(struct world *w, size_t hot, size_t turn)
{
    for (size_t i = 0; i < hot; i++)
        w->p[i * PAGE + 7]++;
    w->p[turn * 31 % (w->n / PAGE) * PAGE + 9]++;
}

/* ---- writes that are not the guest's own instructions ---- */

static void *write_all(void *arg)
{
    struct world *w = arg;
    memset(w->p, 0x55, w->n);
    return NULL;
}

static void test_writers(enum ash_reset_mode mode)
{
    struct world w = world_open(512 * KIB, mode);
    int zero = open("/dev/zero", O_RDONLY), bad = 0;
    for (int round = 0; round < 5; round++) {
        bad += read(zero, w.p + 100, w.n - 200) != (ssize_t)(w.n - 200) || w.p[5000] != 0;
        bad += !is_back(&w);
    }
    close(zero);
    ok(bad == 0, "%s: read(2) into the heap is put back", mode_name[mode]);

    unsigned char from[64] = {1, 2, 3};
    struct iovec here = {from, sizeof from}, there = {w.p + 40000, sizeof from};
    if (process_vm_writev(getpid(), &here, 1, &there, 1, 0) == (ssize_t)sizeof from)
        ok(w.p[40001] == 2 && is_back(&w), "and what process_vm_writev wrote");
    else
        skip("process_vm_writev is not allowed", 1);

    pthread_t thread;
    pthread_create(&thread, NULL, write_all, &w);
    pthread_join(thread, NULL);
    ok(w.p[1] == 0x55 && is_back(&w), "and what another thread wrote");
    struct ash_heap_stats s = stats(w.heap);
    ok(mode == ASH_RESET_AUTO || s.mode == mode || s.fallbacks > 0, "in mode %s", mode_name[s.mode]);
    ash_heap_destroy(w.heap);
}

static void test_locked(enum ash_reset_mode mode)
{
    struct world w = world_open(128 * KIB, mode);
    if (mlock(w.p, w.n) != 0) {
        skip("memory cannot be locked", 1);
    } else {
        int bad = 0;
        for (size_t turn = 0; turn < 200; turn++) {
            use(&w, 5, turn);
            bad += !is_back(&w);
        }
        is_int(bad, 0, "locked memory is put back");
    }
    ash_heap_destroy(w.heap);
}

/* A heap is used and restored by two threads in turn. */
struct relay {
    struct world w;
    int bad;
};

static void *runner(void *arg)
{
    struct relay *r = arg;
    for (size_t turn = 0; turn < 300; turn++) {
        r->bad += r->w.p[7] != content(7);
        use(&r->w, 20, turn);
        ash_heap_free(r->w.heap, ash_heap_malloc(r->w.heap, turn));
        r->bad += ash_heap_restore(r->w.heap) != 0;
    }
    return NULL;
}

static void test_threads(enum ash_reset_mode mode)
{
    struct relay r = {.w = world_open(512 * KIB, mode)};
    for (int leg = 0; leg < 4; leg++) {
        pthread_t thread;
        pthread_create(&thread, NULL, runner, &r);
        pthread_join(thread, NULL);
        runner(&r);
    }
    ok(r.bad == 0 && is_back(&r.w), "%s: threads take turns, eight times 300 restores", mode_name[mode]);
    ash_heap_destroy(r.w.heap);
}

/* ---- what is hot ---- */

/* Pages written by every use are copied and cost no fault; pages written once are left alone again. */
static void test_hot(void)
{
    struct world w = world_open(3 * MIB, ASH_RESET_SCAN_UFFD);
    size_t page = (size_t)getpagesize();
    int bad = 0;
    uint64_t most = 0;
    memset(w.p, 1, w.n);
    bad += !is_back(&w);
    for (size_t turn = 0; turn < 2000; turn++) {
        use(&w, 40, turn);
        bad += ash_heap_restore(w.heap) != 0;
        if (turn > 200 && stats(w.heap).dirty_pages > most)
            most = stats(w.heap).dirty_pages;
    }
    bad += !is_back(&w);
    if (stats(w.heap).mode != ASH_RESET_SCAN_UFFD) {
        skip("no userfaultfd on this system", 2);
    } else {
        is_int(bad, 0, "2000 uses of 40 pages and another one each time");
        uint64_t hot = 40 * PAGE / page + 3;
        ok(most >= hot - 4 && most < 3 * hot, "copy %d pages at most", (int)most);
    }
    ash_heap_destroy(w.heap);
}

/* ---- memory ---- */

/* Pages of the process's own in the mappings that hold the block; -1: not known. */
static long own_pages(const struct world *w)
{
    char line[512];
    uintptr_t from, to, begin = (uintptr_t)w->p;
    size_t kib = 0, all = 0;
    int inside = 0;
    FILE *f = fopen("/proc/self/smaps", "r");
    if (f == NULL)
        return -1;
    while (fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
            inside = from < begin + w->n && begin < to;
        else if (inside && sscanf(line, "Anonymous: %zu", &kib) == 1)
            all += kib;
    fclose(f);
    return (long)(all * KIB / PAGE);
}

/* Beside its image a heap takes what uses write again, little of what they wrote once, and when trimmed nothing. */
static void test_memory(size_t n, enum ash_reset_mode mode)
{
    struct world w = world_open(n, mode);
    long pages = (long)(n / PAGE), most = own_pages(&w);
    uint64_t x = 1;
    int bad = 0;
    for (int turn = 0; turn < 300; turn++) {
        for (size_t i = 0; i < 50; i++) {
            x = x * 6364136223846793005 + 1442695040888963407;
            w.p[(i < 20 ? i * 3 : x >> 33) % (n / PAGE) * PAGE + 50]++;
        }
        long own = turn >= 200 ? own_pages(&w) : 0;
        most = own > most ? own : most;
        bad += ash_heap_restore(w.heap) != 0;
    }
    bad += !is_back(&w);
    enum ash_reset_mode got = (enum ash_reset_mode)stats(w.heap).mode;
    bool scans = got == ASH_RESET_SCAN || got == ASH_RESET_SCAN_UFFD;
    long bound = got == ASH_RESET_DROP ? 60 : scans && n > 2 * MIB ? 50 + pages / 5 : pages + pages / 32 + 10;
    ok(bad == 0 && most < bound, "%s: beside its image of %ld pages a heap takes %ld", mode_name[mode], pages, most);
    bad += ash_heap_trim(w.heap) != 0;
    long idle = own_pages(&w);
    ok(bad == 0 && idle < 5, "%s: and %ld when trimmed", mode_name[mode], idle);
    ok(is_back(&w), "it is whole");
    ash_heap_destroy(w.heap);
}

/* ---- AUTO ---- */

static void test_auto_small(void)
{
    struct world w = world_open(40 * KIB, ASH_RESET_AUTO);
    for (size_t turn = 0; turn < 200; turn++)
        ash_heap_restore(w.heap);
    struct ash_heap_stats s = stats(w.heap);
    ok(s.mode == ASH_RESET_COPY && s.copy_ns == 0 && s.fallbacks == 0, "AUTO copies a small image, and tries nothing");
    ash_heap_destroy(w.heap);
}

/* AUTO tries both, and serves with what was the faster one; and again, after many restores. */
static void test_auto(size_t n, size_t hot)
{
    struct world w = world_open(n, ASH_RESET_AUTO);
    int bad = 0, fallbacks = (int)stats(w.heap).fallbacks;
    uint64_t first[2] = {0, 0}, changes = 0;
    enum ash_reset_mode scan = (enum ash_reset_mode)stats(w.heap).mode;
    for (size_t turn = 0; turn < 33500; turn++) {
        use(&w, hot, turn);
        bad += turn % 500 == 0 || turn < 120 ? !is_back(&w) : ash_heap_restore(w.heap) != 0;
        struct ash_heap_stats s = stats(w.heap);
        if (turn == 100) {
            first[0] = s.copy_ns, first[1] = s.scan_ns;
            ok(s.copy_ns != 0 && s.scan_ns != 0, "AUTO, %zu KiB and %zu hot pages: a copy takes %d ns, a scan %d ns",
               n / KIB, hot, (int)s.copy_ns, (int)s.scan_ns);
        }
        if (turn >= 100 && turn < 32000)
            bad += s.mode != (s.scan_ns < s.copy_ns ? scan : ASH_RESET_COPY);
        changes += s.copy_ns != first[0] || s.scan_ns != first[1];
    }
    struct ash_heap_stats s = stats(w.heap);
    is_int(bad, 0, "the faster one serves, and all is put back");
    ok(changes > 0 && s.mode == (s.scan_ns < s.copy_ns ? scan : ASH_RESET_COPY), "it has been tried again");
    is_int((int)s.fallbacks, fallbacks, "nothing was given up");
    ash_heap_destroy(w.heap);
}

/* ---- fork ---- */

static int status_of(pid_t child)
{
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

/* A fork in the middle of a use after each number of restores, so also in every turn of AUTO's trial. */
static void test_fork(enum ash_reset_mode mode)
{
    struct world w = world_open(300 * KIB, mode);
    uint64_t fallbacks = stats(w.heap).fallbacks;
    int bad = 0;
    for (size_t turn = 0; turn < 110; turn++) {
        use(&w, 10, turn);
        if (turn % 5 == 0) {
            pid_t child = fork();
            if (child == 0) {
                int wrong = 0;
                for (size_t again = 0; again < 12; again++) {
                    wrong += !is_back(&w);
                    use(&w, 10, again);
                }
                _exit(wrong + (stats(w.heap).fallbacks > fallbacks));
            }
            use(&w, 12, turn);
            bad += !is_back(&w);
            bad += status_of(child) != 0;
        } else
            bad += ash_heap_restore(w.heap) != 0;
    }
    ok(bad == 0 && is_back(&w) && stats(w.heap).fallbacks == fallbacks, "%s: forks after 0 to 110 restores",
       mode_name[mode]);
    ash_heap_destroy(w.heap);
}

/* ---- mappings ---- */

static int mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    int lines = 0, c;
    while (f != NULL && (c = getc(f)) != EOF)
        lines += c == '\n';
    if (f != NULL)
        fclose(f);
    return lines;
}

static void test_mappings(enum ash_reset_mode mode)
{
    enum { HEAPS = 20 };
    struct world w[HEAPS];
    int before = mappings();
    for (int i = 0; i < HEAPS; i++)
        w[i] = world_open(256 * KIB, mode);
    int each = (mappings() - before) / HEAPS; /* some of those that came may be others */
    ok(before > 0 && each <= 4, "%s: a heap with its image is %d mappings", mode_name[mode], each);
    for (int i = 0; i < HEAPS; i++)
        ash_heap_destroy(w[i].heap);
    ok(mappings() <= before + 2, "which all go with it");
}

int main(void)
{
    for (int mode = ASH_RESET_AUTO; mode <= ASH_RESET_DROP; mode++) {
        test_writers((enum ash_reset_mode)mode);
        test_locked((enum ash_reset_mode)mode);
        test_threads((enum ash_reset_mode)mode);
        test_fork((enum ash_reset_mode)mode);
        test_mappings((enum ash_reset_mode)mode);
        test_memory(6 * MIB, (enum ash_reset_mode)mode);
        test_memory(MIB, (enum ash_reset_mode)mode);
    }
    test_hot();
    test_auto_small();
    test_auto(200 * KIB, 30);
    test_auto(1800 * KIB, 30);
    return tap_done();
}
