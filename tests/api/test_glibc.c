/*
 * glibc's statistics and tuning calls, against ash_stats_get and against what the program did. Nothing allocates between
 * two readings that are compared. Runs itself again with ASHLAR_GRAIN=16.
 */
#include "ashlar/ashlar.h"
#include "again.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { SMALL = 500, LARGE = 3, FULL = 300, FULL_SIZE = 5120, MIB = 1 << 20, TEXT_MAX = 1 << 16 };

static struct ash_stats stats(void)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
    return s;
}

static uint64_t free_blocks(void)
{
    uint64_t sum = 0;
    struct ash_class_stats c;
    for (unsigned cls = 0; ash_stats_class(cls, &c) == 0; cls++)
        sum += c.capacity - c.live;
    return sum;
}

/* ---- a state in which no two figures are the same ---- */

static void *small[SMALL], *large[LARGE], *full[FULL];

static struct ash_class_stats class_of(size_t size)
{
    struct ash_class_stats c = {0};
    for (unsigned cls = 0; c.size != size && ash_stats_class(cls, &c) == 0; cls++)
        ;
    return c;
}

/*
 * Live small and large blocks, free ones in caches and in slabs, free memory that is still resident, and a class without
 * free blocks.
 */
static void fill(void)
{
    int n = 0;
    do
        full[n++] = malloc(FULL_SIZE);
    while (n < FULL && class_of(FULL_SIZE).live < class_of(FULL_SIZE).capacity);
    for (int i = 0; i < SMALL; i++)
        small[i] = malloc(i % 2 == 0 ? 1000 : 1);
    for (int i = 0; i < SMALL; i += 3) {
        free(small[i]);
        small[i] = NULL;
    }
    for (int i = 0; i < LARGE; i++)
        large[i] = malloc((size_t)(i + 1) * MIB);
    free(large[0]);
    large[0] = NULL;
}

static void empty(void)
{
    for (int i = 0; i < SMALL; i++)
        free(small[i]);
    for (int i = 0; i < LARGE; i++)
        free(large[i]);
    for (int i = 0; i < FULL; i++) {
        free(full[i]);
        full[i] = NULL;
    }
}

/* ---- mallinfo2, mallinfo ---- */

static void test_mallinfo2(void)
{
    fill();
    struct ash_stats s = stats();
    struct mallinfo2 m = mallinfo2();
    ok(s.cached_bytes != 0 && s.slab_free_bytes != 0 && s.dirty_bytes != 0 && s.cached_bytes != s.dirty_bytes,
       "free memory in caches, in slabs and beside them");
    is_int((long)m.arena, (long)(s.slab_bytes + s.dirty_bytes), "arena");
    is_int((long)m.ordblks, (long)free_blocks(), "ordblks");
    is_int((long)m.hblks, (long)s.large_live_blocks, "hblks");
    is_int((long)m.hblkhd, (long)s.large_live_bytes, "hblkhd");
    is_int((long)m.uordblks, (long)(s.live_bytes - s.large_live_bytes), "uordblks");
    is_int((long)m.fordblks, (long)(s.cached_bytes + s.slab_free_bytes + s.dirty_bytes), "fordblks");
    is_int((long)m.keepcost, (long)s.dirty_bytes, "keepcost");
    ok(m.smblks == 0 && m.usmblks == 0 && m.fsmblks == 0, "nothing in fastbins");
    ok(m.uordblks + m.fordblks <= m.arena, "what is used and what is free lie in the arena");
    empty();
}

static void test_deltas(void)
{
    malloc_trim(0);
    struct mallinfo2 a = mallinfo2();
    void *p = malloc(1000);
    struct mallinfo2 b = mallinfo2();
    is_int((long)(b.uordblks - a.uordblks), (long)malloc_usable_size(p), "a small block counts in uordblks");
    is_int((long)(b.hblks - a.hblks), 0, "and in no other place");
    free(p);
    is_int((long)mallinfo2().uordblks, (long)a.uordblks, "and no more when it was freed");
    p = malloc(MIB);
    b = mallinfo2();
    ok(b.hblks == a.hblks + 1 && b.hblkhd == a.hblkhd + MIB && b.uordblks == a.uordblks, "a large block: hblks, hblkhd");
    free(p);
    struct mallinfo2 c = mallinfo2();
    is_int((long)(c.keepcost - b.keepcost), MIB, "freed, it is what malloc_trim would give back");
    is_int((long)(c.fordblks - b.fordblks), MIB, "and free");
    is_int((long)(c.arena - b.arena), MIB, "in the arena");
}

static void is_clamped(int got, size_t want, const char *what)
{
    is_int(got, want > INT_MAX ? INT_MAX : (int)want, what);
}

static void compare_mallinfo(const char *when)
{
    struct mallinfo2 m = mallinfo2();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    struct mallinfo o = mallinfo();
#pragma GCC diagnostic pop
    tap_line("# mallinfo %s", when);
    is_clamped(o.arena, m.arena, "arena");
    is_clamped(o.ordblks, m.ordblks, "ordblks");
    is_clamped(o.hblks, m.hblks, "hblks");
    is_clamped(o.hblkhd, m.hblkhd, "hblkhd");
    is_clamped(o.uordblks, m.uordblks, "uordblks");
    is_clamped(o.fordblks, m.fordblks, "fordblks");
    is_clamped(o.keepcost, m.keepcost, "keepcost");
    ok(o.smblks == 0 && o.usmblks == 0 && o.fsmblks == 0, "the rest is 0");
}

static void test_mallinfo(void)
{
    fill();
    compare_mallinfo("of small numbers");
    empty();
    void *p = malloc((size_t)3 << 30); /* address space alone: it is not touched */
    if (p == NULL) {
        skip("no 3 GiB of address space", 17);
        return;
    }
    ok(mallinfo2().hblkhd > INT_MAX, "more than an int holds");
    compare_mallinfo("of a large block that is live");
    free(p);
    compare_mallinfo("of a large block that is free");
}

/* ---- malloc_trim, mallopt, malloc_stats ---- */

static void test_trim(void)
{
    malloc_trim(0);
    is_int((long)mallinfo2().keepcost, 0, "after malloc_trim nothing is kept");
    is_int(malloc_trim(0), 0, "malloc_trim: nothing to give back");
    free(malloc(MIB));
    is_int(malloc_trim(0), 1, "malloc_trim: a block");
    free(malloc(MIB));
    is_int(malloc_trim(4096), 1, "whatever it is asked to leave");
    is_int((long)mallinfo2().keepcost, 0, "all of it");
}

static void test_mallopt(void)
{
    static const int parameters[] = {M_MXFAST,       M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX,
                                     M_CHECK_ACTION, M_PERTURB,        1000,      M_ARENA_TEST,     M_ARENA_MAX};
    int refused = 0;
    for (unsigned i = 0; i < sizeof parameters / sizeof parameters[0]; i++)
        for (int value = -1; value <= 1; value++)
            refused += mallopt(parameters[i], value) != 1;
    is_int(refused, 0, "mallopt takes everything");
    size_t before = mallinfo2().hblks;
    unsigned char *p = calloc(1, 1000);
    is_int((long)(mallinfo2().hblks - before), 0, "M_MMAP_THRESHOLD changes nothing");
    int dirty = 0;
    for (int i = 0; i < 1000; i++)
        dirty += p[i] != 0;
    is_int(dirty, 0, "nor does M_PERTURB");
    free(p);
}

static char text[TEXT_MAX], other[TEXT_MAX];

/* What was written to the file `fd`. */
static char *contents(int fd, char *out)
{
    ssize_t n = pread(fd, out, TEXT_MAX - 1, 0);
    out[n < 0 ? 0 : n] = '\0';
    return out;
}

static void test_malloc_stats(void)
{
    int got = memfd_create("got", 0), want = memfd_create("want", 0), kept = dup(STDERR_FILENO);
    dup2(got, STDERR_FILENO);
    malloc_stats();
    dup2(kept, STDERR_FILENO);
    ash_stats_dump(want, ASH_TEXT);
    ok(strlen(contents(want, other)) > 100, "there are statistics");
    ok(strcmp(contents(got, text), other) == 0, "malloc_stats writes the same to standard error");
    close(got);
    close(want);
    close(kept);
}

/* ---- malloc_info ---- */

static FILE *file;
static int file_fd;

/* Opened once, with a buffer: nothing allocates while malloc_info writes. */
static void open_file(void)
{
    static char buffer[TEXT_MAX];
    file_fd = memfd_create("info", 0);
    file = fdopen(file_fd, "w");
    setvbuf(file, buffer, _IOFBF, sizeof buffer);
}

/* What is free is in slabs then, not in caches. */
static int info(int options)
{
    malloc_trim(0);
    rewind(file);
    int status = malloc_info(options, file);
    fflush(file);
    contents(file_fd, text);
    return status;
}

/* Whether `from` has `line` with the two numbers in it. */
__attribute__((format(printf, 2, 0))) static int has(const char *from, const char *line, uint64_t a, uint64_t b)
{
    char want[256];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(want, sizeof want, line, (unsigned long long)a, (unsigned long long)b);
#pragma GCC diagnostic pop
    return from != NULL && strstr(from, want) != NULL;
}

/* The lines of free blocks: one a class that has any, in ascending order; the sums of both columns. */
static int sizes_are_right(uint64_t *count, uint64_t *bytes)
{
    const char *at = strstr(text, "<sizes>\n");
    if (at == NULL)
        return 0;
    at += strlen("<sizes>\n");
    struct ash_class_stats c;
    for (unsigned cls = 0; ash_stats_class(cls, &c) == 0; cls++) {
        uint64_t blocks = c.capacity - c.live;
        if (blocks == 0)
            continue;
        char want[256];
        int n = snprintf(want, sizeof want, "<size from=\"%zu\" to=\"%zu\" total=\"%llu\" count=\"%llu\"/>\n", c.size,
                         c.size, (unsigned long long)(blocks * c.size), (unsigned long long)blocks);
        if (strncmp(at, want, (size_t)n) != 0)
            return 0;
        at += n;
        *count += blocks;
        *bytes += blocks * c.size;
    }
    return strncmp(at, "</sizes>\n", 9) == 0;
}

static void test_malloc_info(void)
{
    static const char head[] = "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n";
    static const char fast[] = "<total type=\"fast\" count=\"0\" size=\"0\"/>\n";
    static const char rest[] = "<total type=\"rest\" count=\"%llu\" size=\"%llu\"/>\n";
    static const char mapped[] = "<total type=\"mmap\" count=\"%llu\" size=\"%llu\"/>\n";
    static const char system[] = "<system type=\"current\" size=\"%llu\"/>\n<system type=\"max\" size=\"%llu\"/>\n"
                                 "<aspace type=\"total\"";
    open_file();
    void *least = malloc(1); /* of the first class, of which some are free */
    is_int(info(1), EINVAL, "malloc_info: options other than 0");
    is_int(info(-1), EINVAL, "less than 0");
    is_str(text, "", "nothing is written");

    fill();
    is_int(info(0), 0, "malloc_info");
    struct ash_stats s = stats();
    struct ash_class_stats c = class_of(FULL_SIZE);
    ok(c.live != 0 && c.live == c.capacity, "a class without free blocks");
    uint64_t count = 0, bytes = 0;
    size_t n = strlen(text);
    ok(strncmp(text, head, sizeof head - 1) == 0, "begins as glibc's");
    ok(n > 10 && strcmp(text + n - 10, "</malloc>\n") == 0, "and ends so");
    ok(sizes_are_right(&count, &bytes), "the free blocks of each class");
    ok(s.cached_bytes == 0 && bytes == s.slab_free_bytes && count == free_blocks(), "which are in slabs");
    ok(s.used_bytes != s.peak_bytes && s.peak_bytes != s.mapped_bytes, "use, peak and address space differ");
    uint64_t used = s.slab_bytes + s.large_live_bytes;
    uint64_t peak = s.peak_bytes > used ? s.peak_bytes - s.large_live_bytes : s.slab_bytes;
    char *end = strstr(text, "</heap>\n");
    ok(has(end, mapped, s.large_live_blocks, s.large_live_bytes), "large blocks, in the sums over all heaps");
    ok(end != NULL && strncmp(end + 8, fast, sizeof fast - 1) == 0 && has(end, rest, count, bytes), "the sums of free");
    ok(has(end, system, s.slab_bytes, peak), "memory of slabs and its peak");
    if (end != NULL)
        *end = '\0';
    ok(strstr(text, fast) != NULL && has(text, rest, count, bytes), "the same of the one heap");
    ok(has(text, system, s.slab_bytes, peak), "its slabs");
    ok(!has(text, mapped, s.large_live_blocks, s.large_live_bytes), "which has no large blocks");
    empty();
    free(least);
    fclose(file);
}

int main(int argc, char **argv)
{
    test_mallinfo2();
    test_deltas();
    test_mallinfo();
    test_trim();
    test_mallopt();
    test_malloc_stats();
    test_malloc_info();
    if (argc == 1)
        run_again_in_grain_16(argv);
    return tap_done();
}
