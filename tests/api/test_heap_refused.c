/*
 * Snapshot and restore where the system has not what a mode wants, from the beginning or from some time on: its calls
 * are refused by a filter, memory and files are limited. Another mode serves, and every byte is put back.
 */
#include "heap_world.h"
#include "tap.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

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

static void test_one_by_one(void)
{
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

int main(void)
{
    test_fallbacks();
    test_one_by_one();
    test_tried_again();
    test_small_files();
    test_no_memory();
    test_mismatch();
    return tap_done();
}
