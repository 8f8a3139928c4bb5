/*
 * Misuse of an isolated heap (ashlar/heap.h): named to the letter, then the process is aborted, or, with
 * ASHLAR_ON_ERROR=warn, nothing has happened and the heap is whole. Runs itself again with that.
 */
#include "again.h"

#include <ashlar/heap.h>

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#define MIB ((size_t)1024 * 1024)

/* Each gets a live block of 100 bytes, the heap's first, and tells whether what is left is right. */

static int double_free(struct ash_heap *h, char *p)
{
    ash_heap_free(h, p);
    ash_heap_free(h, p);
    return ash_heap_malloc(h, 100) == p && ash_heap_malloc(h, 100) != p;
}

/* The block has joined its neighbours, and is now in the middle of a free one. */
static int joined_free(struct ash_heap *h, char *p)
{
    char *q = ash_heap_malloc(h, 600);
    ash_heap_malloc(h, 1);
    ash_heap_free(h, p);
    ash_heap_free(h, q);
    ash_heap_snapshot(h, ASH_RESET_COPY);
    ash_heap_free(h, q);
    return ash_heap_malloc(h, 700) == p;
}

static int large_double_free(struct ash_heap *h, char *p)
{
    char *q = ash_heap_malloc(h, 100000);
    void *behind = ash_heap_malloc(h, 16);
    ash_heap_free(h, q);
    ash_heap_free(h, q);
    return ash_heap_malloc(h, 100000) == q && behind != NULL && ash_heap_usable(h, p) == 112;
}

static int free_after_restore(struct ash_heap *h, char *p)
{
    ash_heap_snapshot(h, ASH_RESET_AUTO);
    char *late = ash_heap_malloc(h, 50);
    ash_heap_restore(h);
    ash_heap_free(h, late);
    return ash_heap_verify(h) == 0 && ash_heap_usable(h, p) == 112;
}

static int foreign_free(struct ash_heap *h, char *p)
{
    static char foreign[64];
    ash_heap_free(h, foreign);
    return ash_heap_usable(h, p) == 112;
}

static int other_heaps_free(struct ash_heap *h, char *p)
{
    struct ash_heap *other = ash_heap_create("other", MIB, 0);
    void *q = ash_heap_malloc(other, 10);
    ash_heap_free(h, q);
    return ash_heap_usable(other, q) == 16 && ash_heap_usable(h, p) == 112;
}

static int below_free(struct ash_heap *h, char *p)
{
    ash_heap_free(h, p - 64);
    return ash_heap_usable(h, p) == 112;
}

static int beyond_free(struct ash_heap *h, char *p)
{
    ash_heap_free(h, p + 8 * MIB);
    return ash_heap_usable(h, p) == 112;
}

static int interior_free(struct ash_heap *h, char *p)
{
    ash_heap_free(h, p + 16);
    return ash_heap_usable(h, p) == 112;
}

static int odd_free(struct ash_heap *h, char *p)
{
    ash_heap_free(h, p + 3);
    return ash_heap_usable(h, p) == 112;
}

static int freed_realloc(struct ash_heap *h, char *p)
{
    ash_heap_free(h, p);
    errno = 0;
    return ash_heap_realloc(h, p, 5) == NULL && errno == EINVAL && ash_heap_malloc(h, 100) == p;
}

static int interior_realloc(struct ash_heap *h, char *p)
{
    errno = 0;
    return ash_heap_realloc(h, p + 32, 5) == NULL && errno == EINVAL && ash_heap_usable(h, p) == 112;
}

static int engines_double_free(struct ash_heap *h, char *p)
{
    struct {
        size_t malloc_count, malloc_size, malloc_limit;
        void *opaque;
    } state = {1, 112, 1000, h};
    ash_heap_quickjs_free((struct JSMallocState *)&state, p);
    ash_heap_quickjs_free((struct JSMallocState *)&state, p);
    return state.malloc_count == 0 && state.malloc_size == 0;
}

static const struct {
    int (*misuse)(struct ash_heap *, char *);
    const char *said;
} wrongs[] = {
    {double_free, "ashlar: double free of 0x"},
    {joined_free, "ashlar: double free of 0x"},
    {large_double_free, "ashlar: double free of 0x"},
    {free_after_restore, "ashlar: free of foreign pointer 0x"},
    {foreign_free, "ashlar: free of foreign pointer 0x"},
    {other_heaps_free, "ashlar: free of foreign pointer 0x"},
    {below_free, "ashlar: free of foreign pointer 0x"},
    {beyond_free, "ashlar: free of foreign pointer 0x"},
    {interior_free, "ashlar: free of interior pointer 0x"},
    {odd_free, "ashlar: free of interior pointer 0x"},
    {freed_realloc, "ashlar: realloc of freed block 0x"},
    {interior_realloc, "ashlar: realloc of interior pointer 0x"},
    {engines_double_free, "ashlar: double free of 0x"},
};

/* Whether `said` is the message, with an address and the heap's name, and nothing else. */
static int is_said(const char *said, const char *text)
{
    size_t n = strlen(text);
    if (strncmp(said, text, n) != 0)
        return 0;
    n += strspn(said + n, "0123456789abcdef");
    return strcmp(said + n, " in heap victim\n") == 0;
}

static void test_wrong(int (*misuse)(struct ash_heap *, char *), const char *text, int warns)
{
    int out[2];
    char said[400] = "";
    if (pipe(out) != 0)
        abort();
    pid_t child = fork();
    if (child == 0) {
        dup2(out[1], STDERR_FILENO);
        struct ash_heap *h = ash_heap_create("victim", MIB, 0);
        int right = misuse(h, ash_heap_malloc(h, 100));
        ash_heap_snapshot(h, ASH_RESET_COPY); /* verify wants one */
        _exit(right && ash_heap_verify(h) == 0 ? 0 : 1);
    }
    close(out[1]);
    size_t have = 0;
    ssize_t n;
    while (have < sizeof said - 1 && (n = read(out[0], said + have, sizeof said - 1 - have)) > 0)
        have += (size_t)n;
    close(out[0]);
    int status = 0;
    waitpid(child, &status, 0);
    ok(is_said(said, text), "\"%s... in heap victim\"", text);
    if (!is_said(said, text))
        printf("# got %s\n", said);
    if (warns)
        ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "nothing has happened, and the heap is whole");
    else
        ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "and abort");
}

int main(int argc, char **argv)
{
    const char *mode = getenv("ASHLAR_ON_ERROR");
    int warns = mode != NULL && strcmp(mode, "warn") == 0;
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++)
        test_wrong(wrongs[i].misuse, wrongs[i].said, warns);
    if (argc == 1 && !warns)
        run_again(argv, "ASHLAR_ON_ERROR", "warn", "the same with warnings (points on standard error)");
    return tap_done();
}
