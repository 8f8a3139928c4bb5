/*
 * The allocator under its own names (ashlar/malloc.h), whether malloc is replaced or not: what each function returns, what
 * it does to errno, and that every block is counted once. Runs itself again with ASHLAR_GRAIN=16.
 */
#include "ashlar/ashlar.h"
#include "again.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { MIB = 1 << 20 };

static volatile size_t huge = SIZE_MAX; /* hidden from the compiler's own checks */

static struct ash_stats stats(void)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
    return s;
}

static long live(void)
{
    return (long)stats().live_blocks;
}

static int is_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return 0;
    return 1;
}

/* NULL and the error; errno was 0 before. */
static void is_refused(const void *p, int error, const char *what)
{
    ok(p == NULL && errno == error, "%s", what);
    errno = 0;
}

/* ---- single blocks ---- */

static void test_malloc(void)
{
    static const size_t sizes[] = {0, 1, 16, 64, 65, 1000, 1024, 1025, 65536, 65537, 100000, MIB};
    long before = live();
    int wrong = 0, uncounted = 0, leaked = 0;
    errno = 42;
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t n = sizes[i];
        unsigned char *p = ash_malloc(n);
        wrong += p == NULL || ash_usable_size(p) < n || ash_usable_size(p) != ash_good_size(n);
        uncounted += live() != before + 1;
        memset(p, 0xff, n);
        ash_free(p);
        leaked += live() != before;
    }
    is_int(wrong, 0, "ash_malloc: blocks hold what ash_good_size says");
    is_int(uncounted, 0, "each is counted");
    is_int(leaked, 0, "ash_free gives each back");
    ash_free(NULL);
    is_int(errno, 42, "errno is kept");
    is_int((long)ash_usable_size(NULL), 0, "ash_usable_size(NULL)");
    is_int((long)ash_good_size(64), 64, "a block of 64 bytes holds 64");
    ok(ash_good_size(100000) >= 100000 && ash_good_size(huge) == huge, "ash_good_size of large blocks");
    errno = 0;
    is_refused(ash_malloc(huge), ENOMEM, "ash_malloc: too much");
    is_refused(ash_malloc(huge / 2 + 1), ENOMEM, "ash_malloc: more than PTRDIFF_MAX");
}

static void test_calloc(void)
{
    int dirty = 0, small = 0;
    for (int round = 0; round < 3; round++)
        for (size_t n = 1; n <= 200000; n = n * 5 / 2 + 1) {
            unsigned char *p = ash_calloc(3, n), *q = ash_calloc(n, 3);
            small += ash_usable_size(p) < 3 * n || ash_usable_size(q) < 3 * n;
            dirty += !is_zero(p, 3 * n) || !is_zero(q, 3 * n);
            memset(p, 0xff, ash_usable_size(p));
            memset(q, 0xff, ash_usable_size(q));
            ash_free(p);
            ash_free(q);
        }
    is_int(small, 0, "ash_calloc holds the product");
    is_int(dirty, 0, "all zero, fresh or used before");
    errno = 0;
    is_refused(ash_calloc(huge / 4 + 2, 4), ENOMEM, "ash_calloc: a product that overflows to 4");
    is_refused(ash_calloc(4, huge / 4 + 2), ENOMEM, "in either order");
    void *p = ash_calloc(0, 8);
    ok(p != NULL, "ash_calloc of nothing is a block");
    ash_free(p);
}

static void test_realloc(void)
{
    long before = live();
    char *p = ash_realloc(NULL, 1000);
    is_int((long)ash_usable_size(p), (long)ash_good_size(1000), "ash_realloc(NULL) allocates");
    memset(p, 5, 1000);
    is_ptr(ash_realloc(p, ash_usable_size(p)), p, "to all that it holds: it stays");
    is_ptr(ash_realloc(p, 600), p, "to more than half: it stays");
    p = ash_realloc(p, 100000);
    is_int(live(), before + 1, "grown, it is one block");
    ok(ash_usable_size(p) >= 100000 && p[0] == 5 && p[999] == 5, "with its contents");
    errno = 0;
    char *volatile kept = p;
    is_refused(ash_realloc(p, huge), ENOMEM, "ash_realloc: too much");
    ok(live() == before + 1 && kept[999] == 5, "the block is as it was");
    p = ash_realloc(kept, 10);
    ok(ash_usable_size(p) == ash_good_size(10) && p[9] == 5, "shrunk");
    ok(ash_realloc(p, 0) == NULL && live() == before, "to nothing: freed");
    p = ash_realloc(NULL, 0);
    ok(p != NULL, "ash_realloc(NULL, 0) is a block");
    ash_free(p);
}

static void test_aligned(void)
{
    enum { HELD = 8 };
    int wrong = 0;
    long before = live();
    errno = 42;
    for (size_t align = 1; align <= 4 * MIB; align *= 2) {
        void *p[HELD];
        for (size_t i = 0; i < HELD; i++) {
            p[i] = ash_aligned_alloc(align, 100 * i);
            wrong += p[i] == NULL || (uintptr_t)p[i] % align != 0 || ash_usable_size(p[i]) < 100 * i;
        }
        ash_free_batch(p, HELD);
    }
    is_int(wrong, 0, "ash_aligned_alloc");
    ok(live() == before && errno == 42, "nothing is left, errno neither");
    errno = 0;
    is_refused(ash_aligned_alloc(0, 10), EINVAL, "ash_aligned_alloc: 0");
    is_refused(ash_aligned_alloc(24, 10), EINVAL, "ash_aligned_alloc: 24");
    is_refused(ash_aligned_alloc(huge, 10), EINVAL, "ash_aligned_alloc: all bits");
    is_refused(ash_aligned_alloc(huge / 2 + 1, 10), ENOMEM, "ash_aligned_alloc: 2^63");
    is_refused(ash_aligned_alloc(4096, huge / 2 + 1), ENOMEM, "ash_aligned_alloc: too much");
}

/* ---- ash_free_sized ---- */

/* The child's status when it frees a block of `n` bytes as one of `claimed`; what it says is not shown. */
static int free_sized_as(size_t n, size_t claimed)
{
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        ash_free_sized(ash_malloc(n), claimed);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return status;
}

static void test_free_sized(void)
{
    static const size_t sizes[] = {0, 1, 64, 1000, 1024, 20000, 65536, 65537, MIB};
    long before = live();
    errno = 42;
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        ash_free_sized(ash_malloc(sizes[i]), sizes[i]);
    ash_free_sized(NULL, 100);
    is_int(live(), before, "ash_free_sized gives back");
    is_int(errno, 42, "errno is kept");
    const char *mode = getenv("ASHLAR_ON_ERROR");
    if (mode != NULL && strcmp(mode, "warn") == 0) {
        skip("wrong sizes do not abort", 2);
        return;
    }
    int status = free_sized_as(1024, 1025);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "more than the block holds: reported");
    status = free_sized_as(1000, 100);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "much less: reported");
}

/* ---- batches ---- */

static void test_batch(void)
{
    enum { N = 100 };
    size_t sizes[N];
    void *p[N + 1];
    for (size_t i = 0; i < N; i++)
        sizes[i] = i * i * 13;
    p[N] = sizes;
    long before = live();
    errno = 42;
    is_int(ash_malloc_batch(sizes, p, N), 0, "ash_malloc_batch");
    is_int(live(), before + N, "as many blocks");
    int wrong = 0;
    for (size_t i = 0; i < N; i++) {
        wrong += ash_usable_size(p[i]) != ash_good_size(sizes[i]);
        memset(p[i], (int)i, sizes[i]);
    }
    for (size_t i = 1; i < N; i++)
        wrong += ((unsigned char *)p[i])[sizes[i] - 1] != i;
    is_int(wrong, 0, "each of its own size");
    is_ptr(p[N], sizes, "and no more");
    for (size_t i = 0; i < N; i += 7) {
        ash_free(p[i]);
        p[i] = NULL;
    }
    ash_free_batch(p, N);
    is_int(live(), before, "ash_free_batch frees all, and passes over NULLs");
    for (size_t bad = 0; bad < N; bad += N - 1) {
        size_t size = sizes[bad];
        sizes[bad] = SIZE_MAX;
        is_int(ash_malloc_batch(sizes, p, N), -ENOMEM, "ash_malloc_batch: all or nothing");
        ok(p[0] == NULL && p[N - 1] == NULL, "NULLs are left");
        is_int(live(), before, "nothing leaks");
        sizes[bad] = size;
    }
    is_int(ash_malloc_batch(sizes, p, 0), 0, "a batch of none");
    ash_free_batch(p, 0);
    is_int(live(), before, "allocates and frees nothing");
    is_int(errno, 42, "errno is kept, failure or not");
}

/* ---- the process ---- */

/* The limit is 64 MiB: a batch that passes it at its end, and one that is larger as a whole. */
static void test_batch_limit(void)
{
    const size_t ends[] = {100, 20 * MIB, 20 * MIB, 1000, 20 * MIB, 20 * MIB, 100};
    const size_t whole[] = {100, 40 * MIB, 40 * MIB};
    const size_t fits[] = {100, 20 * MIB, 20 * MIB, 1000};
    void *p[7];
    long hits = (long)stats().limit_hits, before = live(), used = (long)stats().used_bytes;
    is_int(ash_malloc_batch(ends, p, 7), -ENOMEM, "a batch whose last blocks are beyond the limit");
    is_int(live(), before, "leaves nothing");
    is_int((long)stats().limit_hits, hits + 1, "is counted once");
    long large = (long)stats().misses;
    is_int(ash_malloc_batch(whole, p, 3), -ENOMEM, "a batch that is larger than the limit");
    is_int((long)stats().limit_hits, hits + 2, "is counted");
    is_int((long)stats().misses, large, "and takes nothing first");
    is_int(ash_malloc_batch(fits, p, 4), 0, "one that fits");
    ash_free_batch(p, 4);
    ok((long)stats().used_bytes <= used + 2 * MIB, "and goes");
}

static void test_limit(void)
{
    size_t limit = 1, used = 1;
    ash_limit_get(&limit, &used);
    is_int((long)limit, (long)stats().limit_bytes, "ash_limit_get: the limit");
    is_int((long)used, (long)stats().used_bytes, "and what counts against it");
    is_int(ash_limit_set(64 * MIB), 0, "ash_limit_set");
    ash_limit_get(&limit, &used);
    is_int((long)limit, 64 * MIB, "is told");
    is_int(ash_limit_set(1), -EINVAL, "a limit that is too small");
    is_int(ash_limit_set(4 * MIB - 1), -EINVAL, "or just too small");
    ash_limit_get(&limit, &used);
    is_int((long)limit, 64 * MIB, "changes nothing");
    long hits = (long)stats().limit_hits;
    errno = 0;
    is_refused(ash_malloc(100 * MIB), ENOMEM, "beyond the limit: ENOMEM");
    is_int((long)stats().limit_hits, hits + 1, "counted");
    test_batch_limit();
    is_int(ash_limit_set(4 * MIB), 0, "the least limit");
    is_int(ash_limit_set(0), 0, "none");
    ash_limit_get(&limit, &used);
    is_int((long)limit, 0, "is 0");
    void *p = ash_malloc(100 * MIB);
    ok(p != NULL, "memory again");
    ash_limit_get(&limit, &used);
    ok(used >= 100 * MIB, "which is in use");
    ash_free(p);
}

static void test_trim(void)
{
    ash_trim();
    is_int(ash_trim(), 0, "ash_trim: nothing to give back");
    ash_free(ash_malloc(MIB));
    ok(stats().dirty_bytes >= MIB, "a freed block stays resident");
    is_int(ash_trim(), 1, "ash_trim gives it back");
    is_int((long)stats().dirty_bytes, 0, "all of it");
}

/* A write to a freed block destroys its mark, which ash_verify sees. */
static void test_verify(void)
{
    is_int(ash_verify(), 0, "ash_verify: no fault");
    void **p = ash_malloc(100), *volatile *hidden = p;
    ash_free(p);
    void *mark = hidden[1];
    hidden[1] = NULL;
    int kept = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO);
    int faults = ash_verify();
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(null);
    hidden[1] = mark;
    is_int(faults, 1, "a fault");
    is_int(ash_verify(), 0, "none again");
}

/* ---- before the library's constructor ---- */

static int first_status = 1;
static size_t first_limit;

/* The first call of all: what the environment says comes before it, not after. */
static void first(int argc, char **argv, char **envp)
{
    (void)argc, (void)argv, (void)envp;
    size_t used;
    first_status = ash_limit_set(64 * MIB);
    ash_free(ash_malloc(100));
    ash_limit_get(&first_limit, &used);
    ash_limit_set(0);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **, char **) = first;

static void test_first(void)
{
    if (first_status == 1) {
        skip("libc does not run .preinit_array", 2);
        return;
    }
    is_int(first_status, 0, "ash_limit_set as the first call");
    is_int((long)first_limit, 64 * MIB, "the limit stays");
}

int main(int argc, char **argv)
{
    test_first();
    test_malloc();
    test_calloc();
    test_realloc();
    test_aligned();
    test_free_sized();
    test_batch();
    test_limit();
    test_trim();
    test_verify();
    if (argc == 1)
        run_again_in_grain_16(argv);
    return tap_done();
}
