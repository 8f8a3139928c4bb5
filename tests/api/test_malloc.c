/*
 * malloc and its family as a program sees them: sizes, alignment, contents, errno, limits of arguments. Runs itself
 * again with ASHLAR_GRAIN=16.
 */
#include "ashlar/ashlar.h"
#include "again.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

void free_sized(void *, size_t);
void free_aligned_sized(void *, size_t, size_t);
void cfree(void *);
void *pvalloc(size_t); /* musl declares none */

static size_t grain;
static volatile size_t huge = SIZE_MAX; /* hidden from the compiler's own checks, as are these */
static volatile size_t nothing = 0, three = 3, far = (size_t)1 << 60;

static long live(void)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
    return (long)s.live_blocks;
}

/* NULL and the error; errno was 0 before. */
static void is_refused(void *p, int error, const char *what)
{
    ok(p == NULL && errno == error, "%s", what);
    errno = 0;
}

/* Sizes around every power of two and through the small range, to 1 MiB. */
static size_t next_size(size_t n)
{
    return n < 2048 ? n + 1 : n + n / 37 + 1;
}

static void test_sizes(void)
{
    enum { SMALL = 65536 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int misaligned = 0, small = 0, wasteful = 0, good = 0;
    for (size_t n = 0; n <= 1 << 20; n = next_size(n)) {
        char *p = malloc(n);
        size_t holds = malloc_usable_size(p);
        misaligned += (uintptr_t)p % grain != 0;
        small += holds < n;
        wasteful += n > 512 && (holds - n) * 8 > holds && (n <= SMALL || holds - n >= page);
        good += ash_good_size(n) != holds;
        memset(p, 0xa5, holds);
        free(p);
    }
    is_int(misaligned, 0, "every pointer is aligned to the grain");
    is_int(small, 0, "every block holds what was asked for");
    is_int(wasteful, 0, "waste is at most 12.5 % above 512 bytes, or less than a page of a large block");
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
    is_refused(calloc(huge / 2, 3), ENOMEM, "calloc: a product that overflows");
    is_refused(calloc(huge / 4 + 2, 4), ENOMEM, "calloc: to 4");
    is_refused(calloc(4, huge / 4 + 2), ENOMEM, "calloc: to 4, in the other order");
    is_refused(calloc(2, huge / 4 + 1), ENOMEM, "calloc: more than PTRDIFF_MAX");
    int wrong = 0;
    for (size_t n = 1; n < 100000; n *= 3) {
        unsigned char *p = calloc(n, 7), *q = calloc(7, n);
        wrong += malloc_usable_size(p) != ash_good_size(7 * n) || malloc_usable_size(q) != ash_good_size(7 * n);
        wrong += p[7 * n - 1] != 0 || q[7 * n - 1] != 0;
        free(p);
        free(q);
    }
    is_int(wrong, 0, "calloc holds the product");
    char *p = calloc(0, 10), *q = calloc(10, 0);
    ok(p != NULL && q != NULL, "calloc of nothing is a block");
    free(p);
    free(q);
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
    long before = live();
    ok(realloc(p, 0) == NULL && live() == before - 1, "realloc to nothing frees");
    p = realloc(NULL, 0);
    ok(p != NULL && live() == before, "realloc of nothing to nothing is a block");
    free(p);
    p = malloc(128);
    is_ptr(realloc(p, 128), p, "realloc to the size that it has");
    free(p);
    before = live();
    p = malloc(100);
    p[99] = 9;
    unsigned char *volatile kept = p; /* hidden from the compiler, for which the block is gone */
    errno = 0;
    is_refused(realloc(p, huge / 2 + 1), ENOMEM, "realloc: more than PTRDIFF_MAX");
    is_refused(reallocarray(kept, huge / 2, 4), ENOMEM, "reallocarray: a product that overflows");
    is_refused(reallocarray(kept, huge / 4 + 2, 4), ENOMEM, "reallocarray: to 4");
    is_refused(reallocarray(kept, 4, huge / 4 + 2), ENOMEM, "reallocarray: to 4, in the other order");
    ok(live() == before + 1 && kept[99] == 9, "the block is as it was");
    p = reallocarray(kept, 10, 30);
    ok(malloc_usable_size(p) == ash_good_size(300) && p[99] == 9 && live() == before + 1, "reallocarray");
    ok(reallocarray(p, 0, 30) == NULL && live() == before, "reallocarray to nothing frees");
    p = reallocarray(NULL, 30, 10);
    ok(malloc_usable_size(p) == ash_good_size(300) && live() == before + 1, "reallocarray of nothing allocates");
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

/* A text that is lengthened bit by bit skips every other class; a step of its own size is given as asked for. */
static void test_append(void)
{
    char *p = malloc(1024);
    size_t moves = 0, sizes = 0;
    for (size_t n = 1024; n <= 16384; n += 40) {
        size_t before = malloc_usable_size(p);
        p = realloc(p, n);
        moves += malloc_usable_size(p) != before;
    }
    for (size_t n = 1025; n <= 16384; n = ash_good_size(n) + 1)
        sizes++;
    ok(moves > 0 && moves <= sizes / 2 + 1, "a text lengthened bit by bit moves at every other class: %zu of %zu", moves,
       sizes);
    free(p);
    p = realloc(malloc(1024), 1537);
    is_int(malloc_usable_size(p), ash_good_size(1537), "a longer step is given no more than it asks for");
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
    errno = 0;
    is_refused(aligned_alloc(three, 10), EINVAL, "aligned_alloc: 3");
    is_refused(aligned_alloc(nothing, 10), EINVAL, "aligned_alloc: 0");
    is_refused(aligned_alloc(huge, 10), EINVAL, "aligned_alloc: all bits");
    is_refused(aligned_alloc(far, 10), ENOMEM, "aligned_alloc: 2^60");
    is_refused(aligned_alloc(huge / 2 + 1, 10), ENOMEM, "aligned_alloc: 2^63");
    is_refused(aligned_alloc(4096, huge / 2 + 1), ENOMEM, "aligned_alloc: too much");
    void *p = aligned_alloc(4096, 1);
    is_int((long)malloc_usable_size(p), 4096, "aligned to a page, a byte takes a page");
    free(p);
}

static void test_posix_memalign(void)
{
    static const size_t wrong[] = {0, 1, 2, 3, 4, 7, 12, 24, 40, 4104};
    void *p = (void *)1;
    int accepted = 0;
    errno = 5;
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        accepted += posix_memalign(&p, wrong[i], 10) != EINVAL;
    is_int(accepted, 0, "posix_memalign: neither a power of two nor a multiple of a pointer");
    is_int(posix_memalign(&p, huge, 10), EINVAL, "posix_memalign: all bits");
    is_int(posix_memalign(&p, 64, SIZE_MAX - 100), ENOMEM, "posix_memalign: too much");
    is_int(posix_memalign(&p, huge / 2 + 1, 10), ENOMEM, "posix_memalign: 2^63");
    ok(p == (void *)1 && errno == 5, "which leaves the pointer and errno alone");
    int failed = 0, misaligned = 0;
    for (size_t align = sizeof(void *); align <= 1 << 20; align *= 2) {
        void *held[8];
        for (size_t i = 0; i < 8; i++) {
            failed += posix_memalign(&held[i], align, 100 * i) != 0 || malloc_usable_size(held[i]) < 100 * i;
            misaligned += (uintptr_t)held[i] % align != 0;
        }
        for (size_t i = 0; i < 8; i++)
            free(held[i]);
    }
    is_int(failed, 0, "posix_memalign, from a pointer's size on");
    is_int(misaligned, 0, "is aligned");
    is_int(errno, 5, "success leaves errno alone");
}

/* Several blocks of each: a single one may be aligned by chance. */
static void test_old_aligned(void)
{
    enum { HELD = 8 };
    static const size_t aligns[][2] = {{0, 8},     {1, 8},     {3, 8},       {8, 8},           {33, 64},
                                        {100, 128}, {128, 128}, {3000, 4096}, {100000, 131072}, {131072, 131072}};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *p[HELD], *q[HELD];
    for (unsigned i = 0; i < sizeof aligns / sizeof aligns[0]; i++) {
        int wrong = 0;
        for (size_t k = 0; k < HELD; k++) {
            p[k] = memalign(aligns[i][0], 10 * k);
            q[k] = aligned_alloc(aligns[i][1], 10 * k);
            wrong += p[k] == NULL || (uintptr_t)p[k] % aligns[i][1] != 0;
            wrong += malloc_usable_size(p[k]) != malloc_usable_size(q[k]);
        }
        ash_free_batch(p, HELD);
        ash_free_batch(q, HELD);
        ok(wrong == 0, "memalign: %zu is as good as %zu", aligns[i][0], aligns[i][1]);
    }
    int misaligned = 0, small = 0;
    for (size_t k = 0; k < HELD; k++) {
        p[k] = valloc(k * 20000);
        q[k] = pvalloc(k * 20000);
        misaligned += (uintptr_t)p[k] % page != 0 || (uintptr_t)q[k] % page != 0;
        small += malloc_usable_size(p[k]) < k * 20000 || malloc_usable_size(q[k]) < (k * 20000 + page - 1) / page * page;
    }
    is_int(misaligned, 0, "valloc and pvalloc are aligned to a page");
    is_int(small, 0, "pvalloc holds whole pages");
    ash_free_batch(p, HELD);
    ash_free_batch(q, HELD);
    p[0] = pvalloc(3 * page);
    q[0] = valloc(page);
    ok(malloc_usable_size(p[0]) == ash_good_size(3 * page) && malloc_usable_size(q[0]) == page, "and no more");
    free(p[0]);
    free(q[0]);
    errno = 0;
    is_refused(memalign(huge, 10), EINVAL, "memalign: no power of two is so large");
    is_refused(memalign(huge / 2 + 1, 10), ENOMEM, "memalign: 2^63");
    is_refused(memalign(far, 10), ENOMEM, "memalign: 2^60");
    is_refused(memalign(4096, huge), ENOMEM, "memalign: too much");
    is_refused(valloc(huge), ENOMEM, "valloc: too much");
    is_refused(pvalloc(huge), ENOMEM, "pvalloc: too much, even rounded up");
    is_refused(pvalloc(huge / 2), ENOMEM, "pvalloc: PTRDIFF_MAX");
}

/* Each way to free, with NULL and with blocks of every kind. */
static void test_frees(void)
{
    static const size_t sizes[] = {0, 10, 64, 1000, 65536, 65537, 10000000};
    long before = live();
    int left = 0;
    errno = 77;
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t n = sizes[i];
        free(malloc(n));
        left += live() != before;
        cfree(malloc(n));
        left += live() != before;
        free_sized(malloc(n), n);
        left += live() != before;
        for (size_t align = 8; align <= 1 << 20; align *= 8) {
            free_aligned_sized(aligned_alloc(align, n), align, n);
            left += live() != before;
        }
    }
    is_int(left, 0, "free, cfree, free_sized, free_aligned_sized give back");
    free(NULL);
    cfree(NULL);
    free_sized(NULL, 100);
    free_aligned_sized(NULL, 64, 100);
    is_int(errno, 77, "success and free leave errno alone");
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
    is_int((long)malloc_usable_size(NULL), 0, "malloc_usable_size(NULL)");
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
    test_append();
    test_aligned();
    test_posix_memalign();
    test_old_aligned();
    test_frees();
    test_absurd();
    test_counters();
    if (argc == 1)
        run_again_in_grain_16(argv);
    return tap_done();
}
