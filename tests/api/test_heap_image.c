/*
 * Snapshot and restore: every mode puts back every byte, on a system that has it and on one that has not (its system
 * calls are then refused by a filter), over growth, forks and many cycles.
 */
#include "process.h"
#include "tap.h"

#include <ashlar/heap.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

static const char *const mode_name[] = {"AUTO", "COPY", "SCAN", "SCAN_UFFD", "DROP"};

static struct ash_heap_stats stats(const struct ash_heap *h)
{
    struct ash_heap_stats s;
    ash_heap_stats(h, &s);
    return s;
}

static uint64_t draw(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* ---- a heap with content, and what its content was ---- */

enum { BLOCKS = 200 };

struct world {
    struct ash_heap *heap;
    unsigned char *p[BLOCKS];
    size_t n[BLOCKS];
    unsigned char *copy; /* of the first to the last byte */
    size_t span;
    uint64_t seed;
};

static void world_open(struct world *w, size_t each, enum ash_reset_mode mode, unsigned flags)
{
    w->heap = ash_heap_create(mode_name[mode], 64 * MIB, flags);
    w->seed = each + 1;
    void *gap[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        w->n[i] = each / 2 + draw(&w->seed) % each;
        w->p[i] = ash_heap_malloc(w->heap, w->n[i]);
        gap[i] = ash_heap_malloc(w->heap, draw(&w->seed) % 200);
        for (size_t k = 0; k < w->n[i]; k++)
            w->p[i][k] = (unsigned char)draw(&w->seed);
    }
    for (int i = 0; i < BLOCKS; i += 2)
        ash_heap_free(w->heap, gap[i]);
    w->span = (size_t)(w->p[BLOCKS - 1] + w->n[BLOCKS - 1] - w->p[0]);
    if (ash_heap_snapshot(w->heap, mode) != 0)
        abort();
    w->copy = malloc(w->span);
    memcpy(w->copy, w->p[0], w->span);
}

static void world_close(struct world *w)
{
    free(w->copy);
    ash_heap_destroy(w->heap);
}

/* What a guest does in one use: writes here and there, frees, allocates, now and then much. */
static void pollute(struct world *w, unsigned calls)
{
    void *mine[64] = {NULL};
    char freed[BLOCKS] = {0};
    for (unsigned c = 0; c < calls; c++) {
        unsigned i = (unsigned)(draw(&w->seed) % BLOCKS), k = (unsigned)(draw(&w->seed) % 64);
        switch (draw(&w->seed) % 4) {
        case 0:
            if (!freed[i])
                w->p[i][draw(&w->seed) % w->n[i]] = (unsigned char)draw(&w->seed);
            break;
        case 1:
            if (!freed[i])
                ash_heap_free(w->heap, w->p[i]);
            freed[i] = 1;
            break;
        default:
            mine[k] = ash_heap_realloc(w->heap, mine[k], 1 + draw(&w->seed) % 3000);
            memset(mine[k], 0xdd, ash_heap_usable(w->heap, mine[k]));
        }
    }
}

static int is_back(struct world *w, const struct ash_heap_stats *before)
{
    struct ash_heap_stats now = stats(w->heap);
    return memcmp(w->copy, w->p[0], w->span) == 0 && now.live_bytes == before->live_bytes &&
           now.live_blocks == before->live_blocks && now.used_bytes == before->used_bytes &&
           ash_heap_verify(w->heap) == 0;
}

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
        size_t at = i < COUNT ? (size_t)i : draw(&seed) % COUNT;
        void *junk = ash_heap_malloc(h, draw(&seed) % 64);
        asked -= i < COUNT ? 0 : size[at];
        ash_heap_free(h, i < COUNT ? NULL : block[at]);
        size[at] = least + draw(&seed) % (most - least + 1);
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

static int status_of(pid_t child)
{
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

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

/* ---- systems that cannot ---- */

/* From now on the system call has no effect and returns -error. */
static int refuse(int number, int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0;
}

enum { SKIPPED = 77 };

/* A world on a system without the call; `late`: it is refused once the image is made. The mode then; 50 and up: wrong. */
static int mode_without(int number, int error, enum ash_reset_mode mode, size_t each, int late)
{
    pid_t child = fork();
    if (child == 0) {
        struct world w;
        if (!late && refuse(number, error))
            _exit(SKIPPED);
        world_open(&w, each, mode, 0);
        struct ash_heap_stats before = stats(w.heap);
        pollute(&w, 50);
        if (late && refuse(number, error))
            _exit(SKIPPED);
        int bad = 0;
        for (int cycle = 0; cycle < 20; cycle++) {
            bad += ash_heap_restore(w.heap) != 0 || !is_back(&w, &before);
            pollute(&w, 50);
        }
        _exit((bad != 0 ? 50 : 0) + (int)stats(w.heap).mode + (stats(w.heap).fallbacks == 0 ? 10 : 0));
    }
    return status_of(child);
}

static void falls_back(int got, enum ash_reset_mode want, const char *what)
{
    if (got == SKIPPED)
        skip("no system call filters", 1);
    else
        is_int(got, want, what);
}

/*
 * An image of which each use writes so many of 100 pages, one in three of them wherever it falls, so that pages turn
 * cold; now few, now many: the number of restores that were wrong.
 */
static int wrong_restores(enum ash_reset_mode mode, size_t each, int cycles)
{
    static const unsigned percents[] = {1, 61, 1, 9, 17, 25};
    struct world w;
    world_open(&w, each, mode, 0);
    struct ash_heap_stats before = stats(w.heap);
    size_t pages = w.span / 4096;
    int wrong = 0;
    for (int cycle = 0; cycle < cycles * 6; cycle++) {
        size_t written = pages * percents[cycle / cycles] / 100;
        for (size_t i = 0; i < written; i++) {
            size_t page = i % 3 == 0 ? draw(&w.seed) % pages : i * 31 % pages;
            w.p[0][page * 4096 + 8]++; /* the content of a block, or a gap */
        }
        wrong += ash_heap_restore(w.heap) != 0 || (cycle % 10 == 9 && !is_back(&w, &before));
    }
    wrong += stats(w.heap).fallbacks != before.fallbacks;
    world_close(&w);
    return wrong;
}

static void test_shares(void)
{
    is_int(wrong_restores(ASH_RESET_AUTO, 6000, 150), 0, "AUTO: uses that write few or many of the pages");
    is_int(wrong_restores(ASH_RESET_COPY, 6000, 20), 0, "COPY");
    is_int(wrong_restores(ASH_RESET_SCAN, 14000, 150), 0, "SCAN");
    is_int(wrong_restores(ASH_RESET_SCAN_UFFD, 14000, 150), 0, "SCAN_UFFD");
    is_int(wrong_restores(ASH_RESET_DROP, 6000, 20), 0, "DROP");
    pid_t child = fork();
    if (child == 0) {
        if (refuse(SYS_process_madvise, EINVAL))
            _exit(SKIPPED);
        _exit(wrong_restores(ASH_RESET_SCAN, 14000, 70) + wrong_restores(ASH_RESET_SCAN_UFFD, 14000, 70) != 0);
    }
    falls_back(status_of(child), 0, "the same where stretches are dropped one by one");
}

/* AUTO comes back to a scan that serves no more, by the time that it tries again. */
static void test_tried_again(void)
{
    enum { EVERY = 1 << 15 }; /* restores from one trial to the next */
    struct world w;
    world_open(&w, 8000, ASH_RESET_AUTO, 0);
    struct ash_heap_stats before = stats(w.heap);
    for (int cycle = 0; cycle < EVERY; cycle++) {
        w.p[7][0]++;
        ash_heap_restore(w.heap);
    }
    enum ash_reset_mode mode = stats(w.heap).mode;
    pid_t child = mode == ASH_RESET_SCAN_UFFD ? fork() : -1;
    if (child == 0) {
        int bad = 0;
        if (refuse(SYS_userfaultfd, EPERM))
            _exit(SKIPPED);
        for (int cycle = 0; cycle < 100; cycle++) {
            w.p[7][0]++;
            bad += ash_heap_restore(w.heap) != 0 || !is_back(&w, &before);
        }
        _exit(bad + stats(w.heap).mode);
    }
    falls_back(child > 0 ? status_of(child) : SKIPPED, ASH_RESET_COPY, "a scan that has failed is not tried again");
    world_close(&w);
}

/* Files may be no larger than a page, those in memory too: another one would be a signal. */
static void test_small_files(void)
{
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {4096, RLIM_INFINITY};
        struct world w;
        setrlimit(RLIMIT_FSIZE, &limit);
        world_open(&w, 3000, ASH_RESET_SCAN_UFFD, 0);
        struct ash_heap_stats before = stats(w.heap);
        pollute(&w, 50);
        _exit(ash_heap_restore(w.heap) != 0 || !is_back(&w, &before) ? 50 : (int)before.mode);
    }
    is_int(status_of(child), ASH_RESET_COPY, "a limit for the size of files: COPY serves");
}

static void test_fallbacks(void)
{
    falls_back(mode_without(SYS_ioctl, ENOTTY, ASH_RESET_SCAN, 3000, 0), ASH_RESET_COPY, "no scan: COPY serves for SCAN");
    falls_back(mode_without(SYS_ioctl, ENOTTY, ASH_RESET_SCAN_UFFD, 3000, 0), ASH_RESET_COPY, "and for SCAN_UFFD");
    falls_back(mode_without(SYS_ioctl, ENOTTY, ASH_RESET_AUTO, 3000, 0), ASH_RESET_COPY, "and for AUTO, below 2 MiB");
    falls_back(mode_without(SYS_ioctl, ENOTTY, ASH_RESET_AUTO, 30000, 0), ASH_RESET_DROP, "DROP above it");
    falls_back(mode_without(SYS_memfd_create, ENOSYS, ASH_RESET_DROP, 3000, 0), ASH_RESET_COPY, "no files: COPY for DROP");
    falls_back(mode_without(SYS_ioctl, 0, ASH_RESET_SCAN, 3000, 0), ASH_RESET_COPY, "a scan that finds nothing");
    falls_back(mode_without(SYS_madvise, 0, ASH_RESET_DROP, 3000, 0), ASH_RESET_COPY, "pages that are dropped in vain");
    falls_back(mode_without(SYS_openat, EACCES, ASH_RESET_SCAN_UFFD, 3000, 0), ASH_RESET_COPY, "no /proc");
    falls_back(mode_without(SYS_ioctl, EINTR, ASH_RESET_SCAN, 3000, 1), ASH_RESET_COPY, "a scan that fails later");
    falls_back(mode_without(SYS_ioctl, EINTR, ASH_RESET_SCAN_UFFD, 3000, 1), ASH_RESET_COPY, "likewise SCAN_UFFD");
    falls_back(mode_without(SYS_ioctl, 0, ASH_RESET_SCAN, 3000, 1), ASH_RESET_COPY, "a scan that finds nothing later");
    falls_back(mode_without(SYS_madvise, EINVAL, ASH_RESET_DROP, 3000, 1), (enum ash_reset_mode)(ASH_RESET_DROP + 10),
               "pages that cannot be dropped are copied");
    int uffd = mode_without(SYS_userfaultfd, EPERM, ASH_RESET_SCAN_UFFD, 3000, 0);
    ok(uffd == SKIPPED || uffd == ASH_RESET_SCAN || uffd == ASH_RESET_COPY, "no userfaultfd: SCAN, or COPY");
}

/* Out of address space: a snapshot that fails leaves the heap, and one that works is whole. */
static void test_no_memory(void)
{
    pid_t child = fork();
    if (child == 0) {
        struct world w;
        int refused = 0, bad = 0;
        world_open(&w, 30000, ASH_RESET_DROP, 0);
        struct ash_heap_stats before = stats(w.heap);
        struct rlimit limit = {0, RLIM_INFINITY};
        setrlimit(RLIMIT_AS, &limit);
        for (int mode = 0; mode <= ASH_RESET_DROP; mode++) {
            refused += ash_heap_snapshot(w.heap, (enum ash_reset_mode)mode) == -ENOMEM;
            bad += memcmp(w.copy, w.p[0], w.span) != 0;
        }
        pollute(&w, 20);
        bad += ash_heap_restore(w.heap) != 0 || !is_back(&w, &before);
        errno = 0;
        bad += ash_heap_create("none", MIB, 0) != NULL || errno != ENOMEM;
        _exit(bad != 0 ? 1 : refused != 5 ? 2 : 0);
    }
    is_int(status_of(child), 0, "without address space snapshots are refused, and the one there is stays");
}

/* A page that is exchanged behind the heap's back, unseen by the scan, is seen by the comparison. */
static void test_mismatch(void)
{
    struct world w;
    world_open(&w, 3000, ASH_RESET_SCAN, ASH_HEAP_VERIFY);
    struct ash_heap_stats before = stats(w.heap);
    size_t page = (size_t)getpagesize();
    void *at = (void *)(((uintptr_t)w.p[100] + page) & ~(uintptr_t)(page - 1));
    if (before.mode != ASH_RESET_SCAN ||
        mmap(at, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at) {
        skip("no scan on this system", 3);
    } else {
        is_int(ash_heap_restore(w.heap), 0, "a page has been exchanged");
        ok(is_back(&w, &before), "ASH_HEAP_VERIFY puts it right");
        ok(stats(w.heap).mismatches == 1 && stats(w.heap).mode == ASH_RESET_COPY, "counts it, and trusts no scan again");
    }
    world_close(&w);
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
    test_fallbacks();
    test_shares();
    test_tried_again();
    test_small_files();
    test_no_memory();
    test_mismatch();
    return tap_done();
}
