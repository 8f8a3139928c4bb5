/*
 * Limits of the system and of the library, reached: RLIMIT_AS, RLIMIT_DATA, vm.max_map_count, ASHLAR_LIMIT, ash_limit_set.
 * Allocations fail with NULL and ENOMEM, what is held keeps its content, everything verifies, and after some of it was
 * freed, or the limit was lifted, work goes on. Each in a process of its own, single-threaded and with four threads.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { MIB = 1 << 20, THREADS = 4, SKIPPED = 77 };

struct node {
    struct node *next;
    size_t n;
};

/* What one thread holds. */
struct hoard {
    struct node *first;
    size_t count, bytes;
    int wrong;
};

/* Takes all that can be had, up to `most` bytes: 1 when the end came first. */
static int fill(struct hoard *h, unsigned seed, size_t most)
{
    while (h->bytes < most) {
        seed = seed * 1664525 + 1013904223;
        size_t n = 16 + (seed >> 8) % (seed % 16 == 0 ? 2000000 : 60000);
        errno = 0;
        struct node *p = (seed >> 4) % 4 == 0 ? calloc(1, n) : malloc(n);
        if (p == NULL) {
            h->wrong += errno != ENOMEM;
            return 1;
        }
        *p = (struct node){h->first, n};
        ((char *)p)[n - 1] = n > sizeof *p ? 7 : ((char *)p)[n - 1];
        h->first = p;
        h->count++;
        h->bytes += n;
    }
    return 0;
}

/* A block that cannot grow any more stays as it was. */
static void grow(struct hoard *h)
{
    for (size_t n = 100000; h->first != NULL && n < (size_t)1 << 40; n *= 2) {
        struct node before = *h->first;
        errno = 0;
        struct node *p = realloc(h->first, n);
        if (p == NULL) {
            h->wrong += errno != ENOMEM || h->first->next != before.next || h->first->n != before.n;
            return;
        }
        h->wrong += p->next != before.next || p->n != before.n;
        p->n = n;
        ((char *)p)[n - 1] = 7;
        h->first = p;
    }
    h->wrong++;
}

static void drop(struct hoard *h)
{
    for (struct node *p = h->first, *next; p != NULL; p = next) {
        next = p->next;
        h->wrong += p->n > sizeof *p && ((char *)p)[p->n - 1] != 7;
        free(p);
    }
    h->first = NULL;
    h->count = h->bytes = 0;
}

static void *thread_main(void *arg)
{
    struct hoard *h = arg;
    for (unsigned round = 0; round < 5; round++) {
        fill(h, round * 977 + (unsigned)(size_t)h, (size_t)2 << 30);
        drop(h);
    }
    return NULL;
}

static size_t most = (size_t)4 << 30;

/* 0: the limit was met as it should be, and work went on. */
static int meet(void)
{
    struct hoard h = {0};
    int met = fill(&h, 1, most);
    size_t first = h.bytes;
    int good = met && h.count > 10 && ash_verify() == 0;
    grow(&h);
    good &= ash_verify() == 0;
    drop(&h);
    met = fill(&h, 2, most);
    good &= met && h.bytes > first / 2; /* what was freed can be had again */
    drop(&h);
    struct hoard hoards[THREADS] = {{0}};
    pthread_t t[THREADS];
    int started = 0;
    while (started < THREADS && pthread_create(&t[started], NULL, thread_main, &hoards[started]) == 0)
        started++;
    for (int i = 0; i < started; i++) {
        pthread_join(t[i], NULL);
        h.wrong += hoards[i].wrong;
    }
    void *p = malloc(5 * MIB);
    good &= p != NULL && ash_verify() == 0;
    free(p);
    return good && h.wrong == 0 ? 0 : 1;
}

/* ---- the limits ---- */

static int address_space(void)
{
    struct rlimit r = {400 * (rlim_t)MIB, RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &r) != 0)
        return SKIPPED;
    return meet();
}

static int data(void)
{
    struct rlimit r = {300 * (rlim_t)MIB, RLIM_INFINITY};
    if (setrlimit(RLIMIT_DATA, &r) != 0)
        return SKIPPED;
    return meet();
}

static int by_call(void)
{
    return ash_limit_set(100 * (size_t)MIB) == 0 ? meet() : 1;
}

static int by_environment(void)
{
    setenv("ASHLAR_LIMIT", "100M", 1);
    execl("/proc/self/exe", "test_limits", "meet", (char *)NULL);
    return 1;
}

/* Lifted and set again while the memory is held. */
static int lifted(void)
{
    struct hoard h = {0};
    ash_limit_set(50 * (size_t)MIB);
    int good = fill(&h, 3, most);
    ash_limit_set(0);
    size_t before = h.bytes;
    good &= !fill(&h, 4, before + 200 * (size_t)MIB);
    ash_limit_set(50 * (size_t)MIB); /* below what is in use: stops growth only */
    good &= malloc(20 * (size_t)MIB) == NULL && errno == ENOMEM;
    drop(&h);
    void *p = malloc(20 * (size_t)MIB);
    good &= p != NULL && ash_verify() == 0;
    free(p);
    return good && h.wrong == 0 ? 0 : 1;
}

/* Every second page of a range made unreadable: mappings until there may be no more. */
static int mappings(void)
{
    char text[32] = "";
    int fd = open("/proc/sys/vm/max_map_count", O_RDONLY);
    long count = fd >= 0 && read(fd, text, sizeof text - 1) > 0 ? atol(text) : 0;
    close(fd);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (count <= 0 || count > 300000)
        return SKIPPED;
    size_t n = (size_t)(count + 10) * page;
    char *range = mmap(NULL, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED)
        return SKIPPED;
    size_t at = 0;
    while (at < n && mprotect(range + at, page, PROT_NONE) == 0)
        at += 2 * page;
    if (at >= n)
        return SKIPPED;
    while (mmap(NULL, page, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
        ; /* the last few */
    /* The allocator's own mappings lie side by side and grow as one; those that do not are refused. */
    struct hoard h = {0};
    fill(&h, 5, 200 * (size_t)MIB);
    int good = ash_verify() == 0;
    grow(&h);
    ash_trim();
    drop(&h);
    good &= ash_verify() == 0;
    munmap(range, n);
    good &= !fill(&h, 6, 500 * (size_t)MIB);
    drop(&h);
    good &= ash_verify() == 0;
    return good && h.wrong == 0 ? 0 : 1;
}

/*
 * No address is left: a request is refused after one search of the window, not after one for each chunk that turns out to
 * be taken, which would be minutes. What no window holds is refused without giving up what is kept for reuse.
 */
static int addresses(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t n = (size_t)1 << 46; n >= page;)
        if (mmap(NULL, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
            n /= 2;
    alarm(15);
    struct hoard h = {0};
    int good = fill(&h, 7, most) && ash_verify() == 0;
    for (int i = 0; i < 1000; i++)
        good &= malloc(5 * MIB) == NULL && errno == ENOMEM;
    drop(&h);
    return good && h.wrong == 0 && fill(&h, 7, most) && h.count > 10 ? 0 : 1;
}

/* What nobody could have costs nobody his cache. */
static int too_large(void)
{
    static char *held[1000];
    struct ash_stats before = {.struct_size = sizeof before}, after = before;
    for (size_t i = 0; i < 1000; i++)
        held[i] = malloc(1000);
    for (size_t i = 0; i < 1000; i++)
        free(held[i]);
    ash_stats_get(&before);
    int good = malloc((size_t)1 << 50) == NULL && errno == ENOMEM && memalign((size_t)1 << 63, 10) == NULL && errno == ENOMEM;
    ash_stats_get(&after);
    return good && before.cached_bytes > 0 && after.cached_bytes == before.cached_bytes ? 0 : 1;
}

static void test(int (*limit)(void), const char *name)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(100);
        _exit(limit());
    }
    int status;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
        skip(name, 1);
    else
        is_int(status, 0, name);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return meet();
    test(address_space, "RLIMIT_AS");
    test(data, "RLIMIT_DATA");
    test(by_call, "ash_limit_set");
    test(by_environment, "ASHLAR_LIMIT");
    test(lifted, "a limit that is lifted and set again");
    test(mappings, "vm.max_map_count");
    test(addresses, "every address taken");
    test(too_large, "larger than any window");
    return tap_done();
}
