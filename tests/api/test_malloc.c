/*
 * malloc and its family as a program sees them: sizes, alignment, contents, errno, limits of arguments. Runs itself
 * again with ASHLAR_GRAIN=16.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

void free_sized(void *, size_t);
void free_aligned_sized(void *, size_t, size_t);
void cfree(void *);

static size_t grain;
static volatile size_t huge = SIZE_MAX; /* hidden from the compiler's own checks */

/* Sizes around every power of two and through the small range, to 1 MiB. */
static size_t next_size(size_t n)
{
    return n < 2048 ? n + 1 : n + n / 37 + 1;
}

static void test_sizes(void)
{
    int misaligned = 0, small = 0, wasteful = 0, good = 0;
    for (size_t n = 0; n <= 1 << 20; n = next_size(n)) {
        char *p = malloc(n);
        size_t holds = malloc_usable_size(p);
        misaligned += (uintptr_t)p % grain != 0;
        small += holds < n;
        wasteful += n > 512 && (holds - n) * 8 > holds;
        good += ash_good_size(n) != holds;
        memset(p, 0xa5, holds);
        free(p);
    }
    is_int(misaligned, 0, "every pointer is aligned to the grain");
    is_int(small, 0, "every block holds what was asked for");
    is_int(wasteful, 0, "waste is at most 12.5 % above 512 bytes");
    is_int(good, 0, "ash_good_size foretells what a block holds");
}

static void test_lines(void)
{
    enum { N = 4000 };
    static char *p[N];
    int shared = 0;
    for (int i = 0; i < N; i++) {
        p[i] = malloc((size_t)i % 200);
        memset(p[i], i, (size_t)i % 200);
    }
    for (int i = 1; i < N; i++)
        shared += (uintptr_t)p[i] / 64 == (uintptr_t)p[i - 1] / 64;
    ok(grain == 16 ? shared > 0 : shared == 0, "blocks share cache lines in grain 16 only");
    int damaged = 0;
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < i % 200; k++)
            damaged += p[i][k] != (char)i;
        free(p[i]);
    }
    is_int(damaged, 0, "no block overlaps another");
}

static void test_calloc(void)
{
    int dirty = 0;
    for (int round = 0; round < 3; round++)
        for (size_t n = 1; n <= 4 << 20; n = n * 3 / 2 + 1) {
            char *p = calloc(1, n);
            for (size_t i = 0; i < n; i++)
                dirty += p[i] != 0;
            memset(p, 0xff, malloc_usable_size(p));
            free(p);
        }
    is_int(dirty, 0, "calloc is zero, fresh or used before");
    errno = 0;
    ok(calloc(huge / 2, 3) == NULL && errno == ENOMEM, "calloc: a product that overflows");
    char *p = calloc(0, 10);
    ok(p != NULL, "calloc of nothing is a block");
    free(p);
}

static void test_realloc(void)
{
    unsigned char *p = realloc(NULL, 1);
    int damaged = 0;
    size_t n = 1;
    p[0] = 7;
    while (n < 3 << 20) {
        size_t m = next_size(n);
        p = realloc(p, m);
        for (size_t i = n; i < m; i++)
            p[i] = (unsigned char)(i * 7 + 7);
        damaged += p[n / 2] != (unsigned char)(n / 2 * 7 + 7) || p[n - 1] != (unsigned char)((n - 1) * 7 + 7);
        n = m;
    }
    for (size_t i = 0; i < n; i++)
        damaged += p[i] != (unsigned char)(i * 7 + 7);
    while (n > 1) {
        n = n * 2 / 3;
        p = realloc(p, n);
        damaged += p[n - 1] != (unsigned char)((n - 1) * 7 + 7) || p[0] != 7;
    }
    is_int(damaged, 0, "realloc keeps the contents, growing and shrinking");
    ok(realloc(p, 0) == NULL, "realloc to nothing frees");
    p = malloc(100);
    void *volatile kept = p;
    errno = 0;
    ok(realloc(p, huge / 2 + 1) == NULL && errno == ENOMEM, "realloc to too much: ENOMEM");
    errno = 0;
    ok(reallocarray(p, huge / 2, 4) == NULL && errno == ENOMEM, "reallocarray: a product that overflows");
    p = reallocarray(kept, 10, 30);
    ok(p != NULL && malloc_usable_size(p) >= 300, "reallocarray");
    free(p);
}

/* One block to 1 GiB by steps, of which only the first MiB and the last page of each step are touched. */
static void test_growth(void)
{
    size_t n = 1 << 20, moves = 0, lost = 0;
    char *p = malloc(n);
    memset(p, 3, n);
    char *fence = NULL;
    while (n < (size_t)1 << 30) {
        n += n / 4;
        char *q = realloc(p, n);
        if (q == NULL)
            break;
        moves += q != p;
        p = q;
        p[n - 1] = 4;
        lost += p[0] != 3 || p[(1 << 20) - 1] != 3;
        if (fence == NULL)
            fence = malloc(200000); /* something in the way: the pages have to move */
    }
    ok(n >= (size_t)1 << 30, "a block grows to 1 GiB");
    ok(lost == 0, "with its contents, in %zu moves", moves);
    free(fence);
    free(p);
}

static void test_aligned(void)
{
    int misaligned = 0, failed = 0;
    for (size_t align = 1; align <= (size_t)64 << 20; align *= 2)
        for (size_t n = 0; n < 300000; n = n * 5 + 1) {
            char *p = aligned_alloc(align, n);
            failed += p == NULL || malloc_usable_size(p) < n;
            misaligned += (uintptr_t)p % align != 0;
            if (p != NULL)
                memset(p, 1, n);
            p = realloc(p, n + 1);
            free(p);
        }
    is_int(failed, 0, "aligned_alloc to 64 MiB");
    is_int(misaligned, 0, "alignment is kept");
    void *p = (void *)1;
    errno = 5;
    is_int(posix_memalign(&p, 3, 10), EINVAL, "posix_memalign: 3");
    is_int(posix_memalign(&p, 4, 10), EINVAL, "posix_memalign: less than a pointer");
    is_int(posix_memalign(&p, 0, 10), EINVAL, "posix_memalign: 0");
    is_int(posix_memalign(&p, 64, SIZE_MAX - 100), ENOMEM, "posix_memalign: too much");
    ok(p == (void *)1 && errno == 5, "which leaves the pointer and errno alone");
    is_int(posix_memalign(&p, 4096, 10), 0, "posix_memalign");
    ok((uintptr_t)p % 4096 == 0, "to a page");
    free_aligned_sized(p, 4096, 10);
    errno = 0;
    ok(aligned_alloc(3, 10) == NULL && errno == EINVAL, "aligned_alloc: 3");
    errno = 0;
    ok(aligned_alloc(0, 10) == NULL && errno == EINVAL, "aligned_alloc: 0");
    errno = 0;
    ok(aligned_alloc((size_t)1 << 60, 10) == NULL && errno == ENOMEM, "aligned_alloc: 2^60");
    p = memalign(100, 10);
    ok((uintptr_t)p % 128 == 0, "memalign rounds up");
    free(p);
    p = valloc(1);
    void *q = pvalloc(1);
    ok((uintptr_t)p % 4096 == 0 && (uintptr_t)q % 4096 == 0 && malloc_usable_size(q) >= 4096, "valloc, pvalloc");
    free(p);
    cfree(q);
}

static void test_absurd(void)
{
    static const size_t sizes[] = {SIZE_MAX,        SIZE_MAX - 4096,        (size_t)PTRDIFF_MAX + 1,
                                   PTRDIFF_MAX,     (size_t)1 << 62,        (size_t)1 << 47};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        errno = 0;
        void *p = malloc(sizes[i]);
        ok(p == NULL && errno == ENOMEM, "malloc(%zx): ENOMEM", sizes[i]);
        free(p);
    }
    errno = 77;
    free(malloc(10));
    free(malloc(10000000));
    free(NULL);
    is_int(errno, 77, "success and free leave errno alone");
    is_int((long)malloc_usable_size(NULL), 0, "malloc_usable_size(NULL)");
    free_sized(malloc(100), 100);
    free_sized(NULL, 100);
}

static void test_api(void)
{
    size_t sizes[100];
    void *p[100];
    for (size_t i = 0; i < 100; i++)
        sizes[i] = i * i * 13;
    is_int(ash_malloc_batch(sizes, p, 100), 0, "ash_malloc_batch");
    ash_free_batch(p, 100);
    struct ash_stats before = {.struct_size = sizeof before}, after = before;
    sizes[99] = SIZE_MAX;
    ash_stats_get(&before);
    is_int(ash_malloc_batch(sizes, p, 100), -ENOMEM, "all or nothing");
    ash_stats_get(&after);
    is_int((long)after.live_blocks, (long)before.live_blocks, "and nothing leaks");
    is_int(ash_limit_set(1), -EINVAL, "a limit that is too small");
    size_t limit, used;
    is_int(ash_limit_set(64 << 20), 0, "ash_limit_set");
    ash_limit_get(&limit, &used);
    is_int((long)limit, 64 << 20, "ash_limit_get");
    errno = 0;
    void *big = ash_malloc(100 << 20);
    ok(big == NULL && errno == ENOMEM, "beyond the limit: ENOMEM");
    ash_stats_get(&after);
    is_int((long)after.limit_hits, (long)before.limit_hits + 1, "counted");
    ash_limit_set(0);
    big = ash_malloc(100 << 20);
    ok(big != NULL, "without it, memory again");
    memset(big, 1, 100 << 20);
    ash_free(big);
    is_int(ash_trim(), 1, "ash_trim gives it back");
    ok(ash_aligned_alloc(3, 1) == NULL && errno == EINVAL, "ash_aligned_alloc: 3");
    is_int(ash_verify(), 0, "ash_verify");
}

static void test_glibc(void)
{
    struct mallinfo2 a = mallinfo2();
    void *small = malloc(1000), *large = malloc(1 << 20);
    struct mallinfo2 b = mallinfo2();
    ok(b.uordblks - a.uordblks == malloc_usable_size(small), "mallinfo2: bytes in small blocks");
    ok(b.hblkhd - a.hblkhd == malloc_usable_size(large) && b.hblks - a.hblks == 1, "mallinfo2: large blocks");
    free(small);
    free(large);
    is_int(mallopt(M_MMAP_THRESHOLD, 1), 1, "mallopt accepts");
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    is_int(malloc_info(0, f), 0, "malloc_info");
    fclose(f);
    ok(strstr(text, "<malloc version=\"1\">") == text && strstr(text, "</malloc>\n") != NULL, "is XML of glibc's form");
    free(text);
    malloc_trim(0);
}

/* Counters: a class's hits, misses and frees change by exactly what the program does. */
static void test_counters(void)
{
    struct ash_class_stats a, b;
    unsigned cls = 0;
    while (ash_stats_class(cls, &a) == 0 && a.size < 320)
        cls++;
    void *p[100];
    for (int i = 0; i < 100; i++)
        p[i] = malloc(320);
    for (int i = 0; i < 60; i++)
        free(p[i]);
    ash_stats_class(cls, &b);
    is_int((long)(b.hits + b.misses - a.hits - a.misses), 100, "100 allocations");
    is_int((long)(b.frees - a.frees), 60, "60 frees");
    is_int((long)(b.live - a.live), 40, "40 live");
    for (int i = 60; i < 100; i++)
        free(p[i]);
    is_int(ash_stats_class(1000, &a), -EINVAL, "no such class");
    struct ash_stats s = {.struct_size = 3};
    is_int(ash_stats_get(&s), -EINVAL, "a struct that is too small");
}

int main(int argc, char **argv)
{
    const char *set = getenv("ASHLAR_GRAIN");
    grain = set == NULL ? 64 : (size_t)atoi(set);
    test_sizes();
    test_lines();
    test_calloc();
    test_realloc();
    test_growth();
    test_aligned();
    test_absurd();
    test_api();
    test_glibc();
    test_counters();
    int status = 0;
    if (argc == 1) {
        pid_t child = fork();
        if (child == 0) {
            setenv("ASHLAR_GRAIN", "16", 1);
            dup2(STDERR_FILENO, STDOUT_FILENO);
            execl("/proc/self/exe", argv[0], "again", (char *)NULL);
            _exit(99);
        }
        waitpid(child, &status, 0);
        is_int(status, 0, "all of it in grain 16 (points on standard error)");
    }
    return tap_done();
}
