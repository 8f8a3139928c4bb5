/*
 * Snapshot and restore: every mode puts back every byte, over growth, forks and many cycles.
 */
#include "heap_world.h"
#include "process.h"
#include "tap.h"

#include <errno.h>
#include <sys/mman.h>

/* Pages of [p, p + n) that are resident. */
static int resident_pages(char *p, size_t n)
{
    static unsigned char map[40 * MIB / 4096];
    size_t page = (size_t)getpagesize();
    p = (char *)(((uintptr_t)p + page - 1) & ~(uintptr_t)(page - 1));
    int count = mincore(p, n - page, map) == 0 ? 0 : 1 << 30;
    for (size_t i = 0; i < (n - page) / page; i++)
        count += map[i] & 1;
    return count;
}

/* ---- every mode ---- */

/* `cycles` uses, each put back; a hundredth of them compared byte by byte. */
static void test_cycles(enum ash_reset_mode mode, size_t each, unsigned flags, int cycles)
{
    struct world w;
    world_open(&w, each, mode, flags);
    struct ash_heap_stats before = stats(w.heap);
    int bad = 0;
    long resident = 0;
    for (int cycle = 1; cycle <= cycles; cycle++) {
        pollute(&w, 20);
        bad += ash_heap_restore(w.heap) != 0;
        if (cycle % 100 == 0 || cycle < 100)
            bad += !is_back(&w, &before); /* which brings every page in */
        if (cycle == cycles / 500 * 100)
            resident = resident_kib();
    }
    struct ash_heap_stats after = stats(w.heap);
    ok(bad == 0 && after.restores == (uint64_t)cycles, "%s, image of %zu KiB: %d cycles of pollution, all put back",
       mode_name[mode], (size_t)before.image_bytes / 1024, cycles);
    if (cycles < 500)
        skip("too few cycles to see growth", 1);
    else
        ok(resident_kib() <= resident + 1024, "no growth");
    ok(after.mismatches == 0, "no mismatch");
    ok(mode == ASH_RESET_AUTO ? after.mode != 0 : after.mode == mode || after.fallbacks > 0,
       "mode %s serves, fallbacks: %d", mode_name[after.mode], (int)after.fallbacks);
    world_close(&w);
}

static void test_growth(enum ash_reset_mode mode)
{
    struct world w;
    world_open(&w, 2000, mode, 0);
    struct ash_heap_stats before = stats(w.heap);
    for (int i = 0; i < 50000; i++)
        ash_heap_malloc(w.heap, 100 + i % 50);
    ash_heap_restore(w.heap);
    ash_heap_malloc(w.heap, MIB);
    void *large = ash_heap_malloc(w.heap, 20 * MIB);
    is_int((long)ash_heap_usable(w.heap, large), 20 * MIB, "a large block where many small ones were");
    ash_heap_restore(w.heap);
    char *much = ash_heap_malloc(w.heap, 40 * MIB);
    memset(much, 0xaa, 40 * MIB);
    is_int(ash_heap_restore(w.heap), 0, "a guest that took 40 MiB is put back");
    ok(is_back(&w, &before), "%s: byte by byte", mode_name[mode]);
    ok(resident_pages(much, 40 * MIB) < 100, "its memory is given back");
    char *again = ash_heap_malloc(w.heap, 40 * MIB);
    size_t dirt = 0;
    for (size_t i = 0; i < 40 * MIB; i++)
        dirt += again[i] != 0;
    ok(again == much && dirt == 0, "and what the next one gets there is zero");
    is_int(ash_heap_trim(w.heap), 0, "ash_heap_trim");
    ok(is_back(&w, &before), "leaves the heap as its image is");
    memset(w.p[0], 1, w.span);
    is_int(ash_heap_restore(w.heap), 0, "all of the image written over");
    ok(is_back(&w, &before), "is put back");
    ash_heap_restore(w.heap);
    ok(is_back(&w, &before), "twice is once");
    w.p[5][0] ^= 1;
    is_int(ash_heap_verify(w.heap), 1, "ash_heap_verify sees one byte in one page");
    is_int(ash_heap_snapshot(w.heap, mode), 0, "a second snapshot");
    memset(w.p[0], 3, w.n[0]);
    ash_heap_restore(w.heap);
    w.copy[w.p[5] - w.p[0]] ^= 1;
    ok(is_back(&w, &before), "is what is put back from now on");
    ash_heap_reset(w.heap);
    is_int(ash_heap_restore(w.heap), -EINVAL, "ash_heap_reset forgets it");
    struct ash_heap_stats empty = stats(w.heap);
    ok(empty.live_bytes == 0 && empty.image_bytes == 0 && empty.mode == 0, "and everything else");
    char *fresh = ash_heap_malloc(w.heap, w.span);
    dirt = 0;
    for (size_t i = 0; i < w.span; i++)
        dirt += fresh[i] != 0;
    is_int((long)dirt, 0, "its memory is zero");
    world_close(&w);
}

/* Pages that were written once are not copied for ever. */
static void test_rounds(void)
{
    struct world w;
    world_open(&w, 8000, ASH_RESET_SCAN_UFFD, 0);
    memset(w.p[0], 1, w.span);
    ash_heap_restore(w.heap);
    uint64_t all = stats(w.heap).dirty_pages;
    for (int cycle = 0; cycle < 1100; cycle++) {
        w.p[7][cycle % 50]++;
        ash_heap_restore(w.heap);
    }
    struct ash_heap_stats s = stats(w.heap);
    if (s.mode == ASH_RESET_SCAN_UFFD)
        ok(all > 300 && s.dirty_pages < 5, "SCAN_UFFD: a use that wrote %d pages is forgotten: %d", (int)all,
           (int)s.dirty_pages);
    else
        skip("no userfaultfd on this system", 1);
    world_close(&w);
}

static void test_errors(void)
{
    struct ash_heap *h = ash_heap_create("errors", MIB, 0);
    is_int(ash_heap_restore(h), -EINVAL, "restore before a snapshot");
    is_int(ash_heap_verify(h), -EINVAL, "verify before a snapshot");
    is_int(ash_heap_trim(h), -EINVAL, "trim before a snapshot");
    is_int(ash_heap_snapshot(h, (enum ash_reset_mode)5), -EINVAL, "no such mode");
    is_int(ash_heap_snapshot(h, ASH_RESET_SCAN), 0, "a snapshot of an empty heap");
    void *p = ash_heap_malloc(h, 100);
    ash_heap_restore(h);
    is_ptr(ash_heap_malloc(h, 100), p, "restores to an empty heap");
    ash_heap_destroy(h);
}

/* What the image costs beside what it holds. */
static void test_compact(size_t least, size_t most, int replaced)
{
    enum { COUNT = 5000 };
    static void *block[COUNT];
    static size_t size[COUNT];
    struct ash_heap *h = ash_heap_create("compact", 256 * MIB, 0);
    uint64_t seed = 1, asked = 0;
    for (int i = 0; i < COUNT + replaced; i++) {
        size_t at = i < COUNT ? (size_t)i : draw_from(&seed) % COUNT;
        void *junk = ash_heap_malloc(h, draw_from(&seed) % 64);
        asked -= i < COUNT ? 0 : size[at];
        ash_heap_free(h, i < COUNT ? NULL : block[at]);
        size[at] = least + draw_from(&seed) % (most - least + 1);
        block[at] = ash_heap_malloc(h, size[at]);
        asked += size[at];
        ash_heap_free(h, junk);
    }
    ash_heap_free(h, ash_heap_malloc(h, 3 * MIB));
    ash_heap_snapshot(h, ASH_RESET_COPY);
    double ratio = (double)stats(h).image_bytes / (double)asked;
    ok(ratio <= 1.15, "an image of blocks of %d to %d bytes, %d of them replaced, is at most 1.15 of them: %.3f",
       (int)least, (int)most, replaced, ratio);
    ash_heap_destroy(h);
}

/* ---- fork ---- */

static void test_fork(enum ash_reset_mode mode)
{
    struct world w;
    world_open(&w, 3000, mode, 0);
    struct ash_heap_stats before = stats(w.heap);
    pollute(&w, 50);
    pid_t child = fork();
    if (child == 0) {
        int bad = 0;
        for (int cycle = 0; cycle < 50; cycle++) {
            bad += ash_heap_restore(w.heap) != 0 || !is_back(&w, &before);
            pollute(&w, 30);
        }
        pid_t grandchild = fork();
        if (grandchild == 0) {
            bad += ash_heap_restore(w.heap) != 0 || !is_back(&w, &before);
            _exit(bad != 0);
        }
        bad += status_of(grandchild);
        bad += stats(w.heap).fallbacks > before.fallbacks;
        ash_heap_destroy(w.heap);
        _exit(bad != 0);
    }
    int bad = 0;
    for (int cycle = 0; cycle < 50; cycle++) {
        bad += ash_heap_restore(w.heap) != 0 || !is_back(&w, &before);
        pollute(&w, 30);
    }
    is_int(status_of(child), 0, "the child of a fork in the middle of a use, and its child, restore");
    ok(bad == 0 && stats(w.heap).fallbacks == before.fallbacks, "%s: so does the parent, meanwhile", mode_name[mode]);
    world_close(&w);
}

static void test_shares(void)
{
    is_int(wrong_restores(ASH_RESET_AUTO, 6000, 150), 0, "AUTO: uses that write few or many of the pages");
    is_int(wrong_restores(ASH_RESET_COPY, 6000, 20), 0, "COPY");
    is_int(wrong_restores(ASH_RESET_SCAN, 14000, 150), 0, "SCAN");
    is_int(wrong_restores(ASH_RESET_SCAN_UFFD, 14000, 150), 0, "SCAN_UFFD");
    is_int(wrong_restores(ASH_RESET_DROP, 6000, 20), 0, "DROP");
}

/* argv[1]: cycles of each mode. */
int main(int argc, char **argv)
{
    int cycles = argc > 1 ? atoi(argv[1]) : 20000;
    test_errors();
    test_compact(8, 127, 0);
    test_compact(16, 512, 0);
    test_compact(100, 20000, 0);
    test_compact(16, 512, 20000);
    test_compact(100, 20000, 20000);
    for (int mode = ASH_RESET_AUTO; mode <= ASH_RESET_DROP; mode++) {
        int drop = mode == ASH_RESET_DROP;
        test_cycles((enum ash_reset_mode)mode, 300, 0, drop ? cycles / 4 : cycles * 9 / 8);
        test_cycles((enum ash_reset_mode)mode, 8000, 0, 500);
        test_cycles((enum ash_reset_mode)mode, 1000, ASH_HEAP_VERIFY, 500);
        test_growth((enum ash_reset_mode)mode);
        test_fork((enum ash_reset_mode)mode);
    }
    test_rounds();
    test_shares();
    return tap_done();
}
