/*
 * Wrong frees: each is named to the letter and aborts; with ASHLAR_ON_ERROR=warn it is named and not obeyed. Each case
 * runs in a child whose standard error is read; a case prints the pointer that it is about to misuse first.
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

static int shown;

/* Announces the pointer of the message. */
static void show(const void *p)
{
    char line[64];
    int n = snprintf(line, sizeof line, "%p\n", p);
    if (write(shown, line, (size_t)n) != n)
        _exit(98);
}

/* Hides a pointer from the compiler's own checks. */
static void *hidden(void *p)
{
    __asm__ volatile("" : "+r"(p));
    return p;
}

static void *free_it(void *p)
{
    free(p);
    return NULL;
}

static void in_thread(void *p)
{
    pthread_t t;
    pthread_create(&t, NULL, free_it, p);
    pthread_join(t, NULL);
}

static void twice(size_t n)
{
    void *p = malloc(n);
    show(p);
    free(p);
    free(hidden(p));
}

static void double_small(void) { twice(100); }
static void double_medium(void) { twice(20000); }
static void double_large(void) { twice(1 << 20); }

static void double_remote(void)
{
    void *p = malloc(100);
    show(p);
    in_thread(p);
    free(hidden(p));
}

static void double_by_remote(void)
{
    void *p = malloc(100);
    show(p);
    free(p);
    in_thread(hidden(p));
}

static void double_large_remote(void)
{
    void *p = malloc(1 << 20);
    show(p);
    in_thread(p);
    free(hidden(p));
}

static void double_after_neighbour(void)
{
    void *p = malloc(100), *q = malloc(100);
    show(p);
    free(p);
    free(q);
    q = malloc(100);
    memset(q, 1, 100);
    free(hidden(p));
}

static void double_after_flush(void)
{
    enum { N = 5000 };
    static void *p[N];
    for (int i = 0; i < N; i++)
        p[i] = malloc(100);
    for (int i = 0; i < N; i += 2)
        free(p[i]);
    show(p[0]);
    ash_trim();
    free(hidden(p[0]));
}

static void double_after_slab(void)
{
    void *p = malloc(100);
    show(p);
    free(p);
    ash_trim();
    free(hidden(p));
}

/* A free block is written to, and found when it goes home. */
static void written_mark(void)
{
    char *p = malloc(128);
    show(p);
    free(p);
    ((char *)hidden(p))[10] ^= 1;
    ash_trim();
}

static void written_link(void)
{
    char *p = malloc(128);
    show(p);
    free(p);
    memset(hidden(p), 0x41, 8);
    ash_trim();
}

static void realloc_freed(void)
{
    void *p = malloc(100);
    show(p);
    free(p);
    p = realloc(hidden(p), 200);
}

static void foreign_stack(void)
{
    char block[64] = {0};
    show(block);
    free(hidden(block));
}

static void foreign_static(void)
{
    static char block[64];
    show(block);
    free(hidden(block));
}

static void foreign_realloc(void)
{
    static char block[64];
    show(block);
    void *p = realloc(hidden(block), 100);
    (void)p;
}

static void foreign_usable(void)
{
    static char block[64];
    show(block);
    (void)malloc_usable_size(hidden(block));
}

static void foreign_wild(void)
{
    show((void *)0x1234567890);
    free(hidden((void *)0x1234567890));
}

static void inside(size_t n, size_t by)
{
    char *p = malloc(n);
    show(p + by);
    show(p);
    free(hidden(p + by));
}

static void interior_small(void) { inside(200, 64); }
static void interior_medium(void) { inside(20000, 4096); }
static void interior_large(void) { inside(1 << 20, 65536); }
static void misaligned_small(void) { inside(200, 1); }
static void misaligned_large(void) { inside(1 << 20, 8); }

static void interior_realloc(void)
{
    char *p = malloc(200);
    show(p + 16);
    show(p);
    void *q = realloc(hidden(p + 16), 300);
    (void)q;
}

static void sized(size_t n, size_t wrong)
{
    char *p = malloc(n);
    show(p);
    free_sized(hidden(p), wrong);
}

static void sized_small(void) { sized(128, 300); }
static void sized_too_small(void) { sized(1000, 100); }
static void sized_large(void) { sized(1 << 20, 5); }

static void aligned_sized(size_t align, size_t n)
{
    char *p = aligned_alloc(64, 4096);
    show(p);
    free_aligned_sized(hidden(p), align, n);
}

static void aligned_too_large(void) { aligned_sized(64, 4097); }
static void aligned_otherwise(void) { aligned_sized((size_t)1 << 62, 4096); }
static void aligned_to_nothing(void) { aligned_sized(24, 4096); }

struct death {
    const char *name, *text; /* %1 and %2: the pointers shown */
    void (*run)(void);
};

static const struct death deaths[] = {
    {"double free, small", "ashlar: double free of %1\n", double_small},
    {"double free, medium", "ashlar: double free of %1\n", double_medium},
    {"double free, large", "ashlar: double free of %1\n", double_large},
    {"double free, first by another thread", "ashlar: double free of %1\n", double_remote},
    {"double free, second by another thread", "ashlar: double free of %1\n", double_by_remote},
    {"double free, large, by another thread", "ashlar: double free of %1\n", double_large_remote},
    {"double free after a neighbour's reuse", "ashlar: double free of %1\n", double_after_neighbour},
    {"double free of a block back in its slab", "ashlar: double free of %1\n", double_after_flush},
    {"double free of a block whose slab is gone", "ashlar: double free of %1\n", double_after_slab},
    {"write after free", "ashlar: use after free of %1: byte 10 was written\n", written_mark},
    {"write after free, of the link", "ashlar: use after free of a block of 128 bytes: it leads to 0x4141414141414141\n", written_link},
    {"realloc of a freed block", "ashlar: double free of %1\n", realloc_freed},
    {"free of the stack", "ashlar: free of foreign pointer %1\n", foreign_stack},
    {"free of static memory", "ashlar: free of foreign pointer %1\n", foreign_static},
    {"free of a wild pointer", "ashlar: free of foreign pointer %1\n", foreign_wild},
    {"realloc of static memory", "ashlar: realloc of foreign pointer %1\n", foreign_realloc},
    {"malloc_usable_size of static memory", "ashlar: malloc_usable_size of foreign pointer %1\n", foreign_usable},
    {"interior, small", "ashlar: free of interior pointer %1 (block %2)\n", interior_small},
    {"interior, medium", "ashlar: free of interior pointer %1 (block %2)\n", interior_medium},
    {"interior, large", "ashlar: free of interior pointer %1 (block %2)\n", interior_large},
    {"misaligned, small", "ashlar: free of interior pointer %1 (block %2)\n", misaligned_small},
    {"misaligned, large", "ashlar: free of interior pointer %1 (block %2)\n", misaligned_large},
    {"realloc of an interior pointer", "ashlar: realloc of interior pointer %1 (block %2)\n", interior_realloc},
    {"free_sized, too large", "ashlar: free_sized of %1 with wrong size 300 (block holds 128)\n", sized_small},
    {"free_sized, too small", "ashlar: free_sized of %1 with wrong size 100 (block holds 1024)\n", sized_too_small},
    {"free_sized, large", "ashlar: free_sized of %1 with wrong size 5 (block holds 1048576)\n", sized_large},
    {"free_aligned_sized, too large", "ashlar: free_sized of %1 with wrong size 4097 (block holds 4096)\n", aligned_too_large},
    {"free_aligned_sized, not so aligned", "ashlar: free_aligned_sized of %1 with wrong alignment 4611686018427387904\n", aligned_otherwise},
    {"free_aligned_sized, no power of two", "ashlar: free_aligned_sized of %1 with wrong alignment 24\n", aligned_to_nothing},
};

/* Runs a case: its status, what it showed and what it said. */
static int run(const struct death *d, char *pointers, char *said)
{
    int out[2], err[2];
    if (pipe(out) != 0 || pipe(err) != 0)
        abort();
    pid_t child = fork();
    if (child == 0) {
        shown = out[1];
        dup2(err[1], STDERR_FILENO);
        d->run();
        _exit(0);
    }
    close(out[1]);
    close(err[1]);
    ssize_t n = read(out[0], pointers, 127), m = 0, k;
    pointers[n < 0 ? 0 : n] = '\0';
    while ((k = read(out[0], pointers + n, 127 - (size_t)n)) > 0)
        pointers[n += k] = '\0';
    while ((k = read(err[0], said + m, 511 - (size_t)m)) > 0)
        m += k;
    said[m] = '\0';
    close(out[0]);
    close(err[0]);
    int status;
    waitpid(child, &status, 0);
    return status;
}

static void expect(const char *text, char *pointers, char *want)
{
    char *first = strtok(pointers, "\n"), *second = strtok(NULL, "\n");
    for (; *text != '\0'; text++)
        if (*text != '%')
            *want++ = *text;
        else
            want = stpcpy(want, *++text == '1' ? first : second);
    *want = '\0';
}

int main(int argc, char **argv)
{
    const char *mode = getenv("ASHLAR_ON_ERROR");
    int warn = mode != NULL && strcmp(mode, "warn") == 0;
    for (unsigned i = 0; i < sizeof deaths / sizeof deaths[0]; i++) {
        char pointers[128], said[512], want[512];
        int status = run(&deaths[i], pointers, said);
        expect(deaths[i].text, pointers, want);
        is_str(said, want, deaths[i].name);
        ok(warn ? status == 0 : WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, warn ? "goes on" : "aborts");
    }
    if (argc == 1) {
        run_again(argv, "ASHLAR_ON_ERROR", "warn", "all of it with ASHLAR_ON_ERROR=warn (points on standard error)");
        run_again_in_grain_16(argv);
    }
    return tap_done();
}
