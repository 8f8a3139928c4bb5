/*
 * ASHLAR_HARDEN=1: classic misuses of the heap, by size. Each runs in a child whose standard error is read; what cannot
 * be named ends in a segmentation fault. Then what is no misuse, which has to work.
 */
#include "ashlar/ashlar.h"
#include "again.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

void free_sized(void *, size_t);
void free_aligned_sized(void *, size_t, size_t);

static const size_t sizes[] = {0, 1, 8, 24, 56, 64, 100, 1000, 1024, 4096, 20000, 65528, 65536, 100000, 1 << 20};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void *hidden(void *p)
{
    __asm__ volatile("" : "+r"(p));
    return p;
}

/* Other blocks of the size, so that what is reused is a matter of chance. */
static void churn(size_t n)
{
    for (int i = 0; i < 20000; i++)
        free(hidden(malloc(n)));
}

/* ---- misuses of a block of `n` bytes; each says where the message has to point, or nothing ---- */

static void overflow(size_t n, size_t by)
{
    volatile char *p = hidden(malloc(n));
    for (size_t i = 0; i < by; i++)
        p[n + i] ^= 1;
    free(hidden((void *)(uintptr_t)p));
}

static void overflow_1(size_t n) { overflow(n, 1); }
static void overflow_8(size_t n) { overflow(n, 8); }
static void overflow_64(size_t n) { overflow(n, 64); }

/* Into the neighbour below, whichever of many that is. */
static void underflow(size_t n)
{
    enum { BLOCKS = 300 };
    static volatile char *p[BLOCKS];
    for (int i = 0; i < BLOCKS; i++)
        p[i] = hidden(malloc(n));
    for (int i = 0; i < BLOCKS; i++)
        p[i][-1] ^= 1;
    for (int i = 0; i < BLOCKS; i++)
        free(hidden((void *)(uintptr_t)p[i]));
}

static void write_after_free(size_t n)
{
    volatile char *p = hidden(malloc(n));
    free(hidden((void *)(uintptr_t)p));
    p[n / 2] = 1;
    churn(n);
}

static void read_after_free(size_t n)
{
    volatile char *p = hidden(malloc(n));
    p[n / 2] = 7;
    free(hidden((void *)(uintptr_t)p));
    if (p[n / 2] == 0)
        abort(); /* cleared: as good as found */
}

static void double_free(size_t n)
{
    void *p = malloc(n);
    free(p);
    free(hidden(p));
}

static void double_free_later(size_t n)
{
    void *p = malloc(n);
    free(p);
    for (int i = 0; i < 10; i++)
        free(hidden(malloc(n)));
    free(hidden(p));
}

static void interior(size_t n) { free((char *)malloc(n) + 1); }
static void sized_less(size_t n) { n > 1 ? free_sized(malloc(n), n - 1) : abort(); }
static void sized_more(size_t n) { free_sized(malloc(n), n + 1); }

static void realloc_overflowed(size_t n)
{
    volatile char *p = hidden(malloc(n));
    p[n] ^= 1;
    free(realloc(hidden((void *)(uintptr_t)p), n * 3));
}

static const struct misuse {
    const char *name, *word; /* a word of the message */
    void (*run)(size_t n);
} misuses[] = {
    {"overflow by 1", "overflow of 0x", overflow_1},
    {"overflow by 8", "overflow of 0x", overflow_8},
    {"overflow by 64", "overflow of 0x", overflow_64},
    {"underflow", "overflow of 0x", underflow},
    {"write after free", "use after free of 0x", write_after_free},
    {"read after free", NULL, read_after_free},
    {"double free", "double free of 0x", double_free},
    {"double free, later", "double free of 0x", double_free_later},
    {"free of an interior pointer", "free of interior pointer 0x", interior},
    {"free_sized, a byte less", NULL, sized_less},
    {"free_sized, a byte more", "with wrong size", sized_more},
    {"realloc after an overflow", "overflow of 0x", realloc_overflowed},
};

/* Runs a misuse: its status, and what it said. */
static int run(const struct misuse *m, size_t n, char *said)
{
    int err[2];
    if (pipe(err) != 0)
        abort();
    pid_t child = fork();
    if (child == 0) {
        dup2(err[1], STDERR_FILENO);
        m->run(n);
        _exit(0);
    }
    close(err[1]);
    ssize_t got = 0, k;
    while ((k = read(err[0], said + got, 255 - (size_t)got)) > 0)
        got += k;
    said[got] = '\0';
    close(err[0]);
    int status;
    waitpid(child, &status, 0);
    return status;
}

/* Named and aborted, or stopped by the pages round a large block. */
static int found(const struct misuse *m, int status, const char *said)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV)
        return 1;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
        return 0;
    return m->word == NULL || strstr(said, m->word) != NULL;
}

static void test_misuses(void)
{
    for (size_t i = 0; i < sizeof misuses / sizeof *misuses; i++) {
        char said[256], missed[256] = "";
        for (size_t k = 0; k < SIZES; k++)
            if (!found(&misuses[i], run(&misuses[i], sizes[k], said), said))
                snprintf(missed + strlen(missed), sizeof missed - strlen(missed), "%zu: %s ", sizes[k], said);
        is_str(missed, "", misuses[i].name);
    }
}

/* ---- what is right ---- */

static int is_zero(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return 0;
    return 1;
}

static void test_right(void)
{
    int dirty = 0, unlike = 0, misaligned = 0, lost = 0;
    for (int round = 0; round < 300; round++)
        for (size_t k = 0; k < SIZES; k++) {
            char *p = malloc(sizes[k]), *q = calloc(1, sizes[k]), *r = aligned_alloc(256, sizes[k]);
            dirty += !is_zero(p, sizes[k]) || !is_zero(q, sizes[k]);
            unlike += malloc_usable_size(p) != sizes[k];
            misaligned += (uintptr_t)r % 256 != 0 || (uintptr_t)p % 16 != 0;
            memset(p, 1, sizes[k]);
            memset(q, 2, sizes[k]);
            memset(r, 3, sizes[k]);
            p = realloc(p, sizes[k] + 5);
            lost += !is_zero(p + sizes[k], 5);
            lost += sizes[k] != 0 && (p[0] != 1 || p[sizes[k] - 1] != 1);
            p = realloc(p, sizes[k] / 2 + 1);
            lost += p[sizes[k] / 2] != (sizes[k] != 0);
            free_sized(p, sizes[k] / 2 + 1);
            free(q);
            free(r);
        }
    for (size_t align = 16; align <= 1 << 20; align *= 2) {
        char *p = aligned_alloc(align, 0);
        unlike += malloc_usable_size(p) != 0;
        free_aligned_sized(p, align, 0);
    }
    is_int(dirty, 0, "memory is cleared");
    is_int(unlike, 0, "what is usable is what was asked for");
    is_int(misaligned, 0, "aligned");
    is_int(lost, 0, "realloc keeps the contents");
    is_int(ash_verify(), 0, "verifies");
}

/* ---- what is counted ---- */

static struct ash_stats stats(void)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
    return s;
}

enum { KEPT = 5000 };
static void *kept[2][KEPT];

/* Frees what the other thread has allocated, allocates as much. */
static void *swap_all(void *arg)
{
    for (int i = 0; i < KEPT; i++) {
        free(kept[0][i]);
        kept[1][i] = malloc(sizes[i % SIZES]);
    }
    return arg;
}

static void swap_in_thread(void)
{
    pthread_t t;
    if (pthread_create(&t, NULL, swap_all, NULL) != 0)
        abort();
    pthread_join(t, NULL);
}

static void test_counts(void)
{
    swap_in_thread(); /* libc keeps what it has allocated for a thread's stack */
    for (int i = 0; i < KEPT; i++)
        free(kept[1][i]);
    struct ash_stats before = stats();
    for (int i = 0; i < KEPT; i++)
        kept[0][i] = malloc(sizes[i % SIZES]);
    struct ash_stats full = stats();
    is_int((long long)(full.live_blocks - before.live_blocks), KEPT, "live blocks are counted");
    is_int((long long)(full.hits + full.misses - before.hits - before.misses), KEPT, "and allocations");
    swap_in_thread();
    struct ash_stats passed = stats();
    is_int((long long)(passed.live_blocks - full.live_blocks), 0, "another thread's frees and allocations too");
    ok(passed.remote_frees > full.remote_frees, "and what went home to another thread");
    for (int i = 0; i < KEPT; i++)
        free(kept[1][i]);
    struct ash_stats after = stats();
    is_int((long long)(after.live_blocks - before.live_blocks), 0, "all of them came back");
    is_int(ash_verify(), 0, "verifies");
}

int main(int argc, char **argv)
{
    if (argc == 1) {
        setenv("ASHLAR_HARDEN", "1", 1);
        execl("/proc/self/exe", argv[0], "hardened", (char *)NULL);
    }
    test_misuses();
    test_right();
    test_counts();
    if (strcmp(argv[1], "hardened") == 0)
        run_again_in_grain_16(argv);
    return tap_done();
}
