/*
 * The heap profile against exact counts. The program runs itself again with ASHLAR_PROFILE set and a small mean,
 * allocates in patterns that each have a section of code of their own, and reads the profile: what the samples of a
 * section stand for has to be what it allocated, within what chance allows, and exactly nothing may be live when all is
 * freed.
 */
#include "again.h"

#include "ashlar/malloc.h"
#include "ashlar/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEAN = 16384, LIVE = 4096 };

#define SECTION(name) __attribute__((noinline, noclone, section(#name)))
#define RANGE(name) \
    extern const char __start_##name[], __stop_##name[]; \
    static const struct range name##_range = {__start_##name, __stop_##name}

struct range {
    const char *from, *to;
};

/* What a section allocated: exactly, and by the profile with its variance. */
struct sum {
    double blocks, bytes, variance;
    double got_blocks, got_bytes, got_live;
};

static char *text; /* the profile */

static void read_profile(void)
{
    char path[] = "/tmp/ashlar-profile-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    if (ash_profile_dump(fd) != 0)
        abort();
    off_t n = lseek(fd, 0, SEEK_END);
    text = realloc(text, (size_t)n + 1);
    if (pread(fd, text, (size_t)n, 0) != n)
        abort();
    text[n] = '\0';
    close(fd);
}

/* Adds what the profile has of stacks whose innermost call is in the range. */
static void read_sum(const struct range *r, struct sum *s)
{
    read_profile();
    const char *end = strstr(text, "MAPPED_LIBRARIES");
    const char *line = strchr(text, '\n') + 1;
    for (; line < end; line = strchr(line, '\n') + 1) {
        double live, live_bytes, all, all_bytes;
        unsigned long long pc = 0;
        if (sscanf(line, "%lf: %lf [%lf: %lf] @ 0x%llx", &live, &live_bytes, &all, &all_bytes, &pc) != 5 ||
            (const char *)pc <= r->from || (const char *)pc > r->to)
            continue;
        double p = 1 - exp(-all_bytes / all / MEAN);
        s->got_blocks += all / p;
        s->got_bytes += all_bytes / p;
        s->got_live += live;
    }
}

static void check(const char *name, const struct range *r, struct sum *s)
{
    read_sum(r, s);
    double off = (s->got_bytes - s->bytes) / sqrt(s->variance);
    ok(fabs(off) < 4.5, "%s: %.0f bytes of %.0f, %.2f standard deviations", name, s->got_bytes, s->bytes, off);
    ok(s->got_live == 0, "%s: nothing is live, %.0f", name, s->got_live);
}

static void count(struct sum *s, size_t n)
{
    double size = (double)ash_good_size(n), p = 1 - exp(-size / MEAN);
    s->blocks++;
    s->bytes += size;
    s->variance += size * size * (1 - p) / p;
}

static unsigned long long seed = 1;

static unsigned random_below(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

/* ---- patterns ---- */

static _Thread_local void *volatile sink;

SECTION(in_pairs) static void pairs(size_t n, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        void *p = ash_malloc(n);
        sink = p;
        ash_free(p);
    }
}
RANGE(in_pairs);

SECTION(in_first) static void *first(size_t n)
{
    void *p = ash_malloc(n);
    sink = p;
    return p;
}
RANGE(in_first);

SECTION(in_middle) static void middle(void **p, unsigned n, size_t size)
{
    for (unsigned i = 0; i < n; i++)
        sink = p[i] = ash_malloc(size);
}
RANGE(in_middle);

SECTION(in_last) static void *last(size_t n)
{
    void *p = ash_calloc(1, n);
    sink = p;
    return p;
}
RANGE(in_last);

SECTION(in_mixed) static void *mixed(size_t n)
{
    void *p = ash_malloc(n);
    sink = p;
    return p;
}
RANGE(in_mixed);

SECTION(in_aligned) static void *aligned(size_t align, size_t n)
{
    void *p = ash_aligned_alloc(align, n);
    sink = p;
    return p;
}
RANGE(in_aligned);

SECTION(in_grown) static void *grown(void *p, size_t n)
{
    void *q = ash_realloc(p, n);
    sink = q;
    return q;
}
RANGE(in_grown);

SECTION(in_threads) static void *threaded(size_t n)
{
    void *p = ash_malloc(n);
    sink = p;
    return p;
}
RANGE(in_threads);

static void test_pairs(void)
{
    static const size_t sizes[] = {1, 100, 1000, 9000, 60000};
    struct sum s = {0};
    for (unsigned k = 0; k < 5; k++) {
        unsigned rounds = k < 3 ? 150000 : 20000;
        pairs(sizes[k], rounds);
        for (unsigned i = 0; i < rounds; i++)
            count(&s, sizes[k]);
    }
    check("pairs", &in_pairs_range, &s);
}

/* Each place in a batch is sampled as often as the others. */
static void test_batches(void)
{
    static const unsigned batches[] = {3, 32, 500};
    void *p[512];
    struct sum s[3];
    memset(s, 0, sizeof s);
    for (unsigned i = 0; i < 60000; i++) {
        unsigned n = batches[i % 3 == 2 && i % 16 != 2 ? 0 : i % 3];
        size_t size = 48 + 64 * (i % 7);
        p[0] = first(size);
        middle(p + 1, n - 2, size);
        p[n - 1] = last(size);
        for (unsigned k = 0; k < n; k++)
            ash_free(p[k]);
        count(&s[0], size);
        count(&s[2], size);
        for (unsigned k = 2; k < n; k++)
            count(&s[1], size);
    }
    check("the first of a batch", &in_first_range, &s[0]);
    check("the middle of a batch", &in_middle_range, &s[1]);
    check("the last of a batch", &in_last_range, &s[2]);
}

static void test_mixed(void)
{
    static void *p[LIVE];
    struct sum s = {0};
    for (unsigned i = 0; i < 200000; i++) {
        unsigned k = random_below(LIVE);
        size_t n = 1 + random_below(random_below(2) ? 8192 : 200);
        n += random_below(64) == 0 ? 60000 + random_below(200000) : 0;
        ash_free(p[k]);
        p[k] = mixed(n);
        count(&s, n);
    }
    for (unsigned k = 0; k < LIVE; k++)
        ash_free(p[k]);
    check("mixed sizes", &in_mixed_range, &s);
}

static void test_aligned(void)
{
    void *p[64];
    struct sum s = {0};
    unsigned wrong = 0;
    for (unsigned i = 0; i < 40000; i++) {
        size_t align = (size_t)1 << (4 + i % 13), n = 1 + random_below(3000), big = (n + align - 1) / align * align;
        if (i >= 64)
            ash_free(p[i % 64]);
        p[i % 64] = aligned(align, n);
        wrong += (size_t)p[i % 64] % align != 0 || ash_usable_size(p[i % 64]) < n;
        count(&s, align > 64 ? big : n);
    }
    for (unsigned i = 0; i < 64; i++)
        ash_free(p[i]);
    is_int((int)wrong, 0, "alignments hold, of samples too");
    check("aligned blocks", &in_aligned_range, &s);
}

static void test_grown(void)
{
    struct sum s = {0};
    unsigned wrong = 0;
    for (unsigned i = 0; i < 300; i++) {
        unsigned char *p = NULL;
        size_t held = 0, most = i % 10 == 0 ? 3000000 : 20000;
        for (size_t n = 16; n < most; n += n / 4 + 13) {
            unsigned char *q = grown(p, n);
            size_t holds = ash_usable_size(q);
            wrong += holds < n || (p != NULL && q[0] != (unsigned char)i);
            q[0] = (unsigned char)i;
            q[n - 1] = 7;
            if (q != p || (holds != held && holds > 65536))
                count(&s, holds);
            p = q;
            held = holds;
        }
        ash_free(p);
    }
    is_int((int)wrong, 0, "what grows keeps its content");
    check("blocks that grow", &in_grown_range, &s);
}

enum { THREADS = 4, TURNS = 100 };
static void *handed[THREADS][1024];
static pthread_barrier_t barrier;

static size_t threaded_size(unsigned turn, unsigned i)
{
    return 32 + (turn * 31 + i * 7) % 700;
}

/* Each thread frees what the one before it has allocated. */
static void *thread_body(void *arg)
{
    unsigned self = (unsigned)(size_t)arg;
    for (unsigned turn = 0; turn < TURNS; turn++) {
        for (unsigned i = 0; i < 1024; i++)
            handed[self][i] = threaded(threaded_size(turn, i));
        pthread_barrier_wait(&barrier);
        for (unsigned i = 0; i < 1024; i++)
            ash_free(handed[(self + 1) % THREADS][i]);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void test_threads(void)
{
    struct sum s = {0};
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (unsigned round = 0; round < 3; round++) {
        pthread_t t[THREADS];
        for (size_t i = 0; i < THREADS; i++)
            pthread_create(&t[i], NULL, thread_body, (void *)i);
        for (size_t i = 0; i < THREADS; i++)
            pthread_join(t[i], NULL);
    }
    for (unsigned k = 0; k < 3 * THREADS; k++)
        for (unsigned turn = 0; turn < TURNS; turn++)
            for (unsigned i = 0; i < 1024; i++)
                count(&s, threaded_size(turn, i));
    check("threads that hand on", &in_threads_range, &s);
}

/* ---- the rest ---- */

static void test_samples(void)
{
    unsigned wrong = 0;
    for (unsigned i = 0; i < 20000; i++) {
        size_t n = random_below(5000);
        unsigned char *p = ash_calloc(1, n), *q = ash_malloc(n);
        for (size_t k = 0; k < n; k++)
            wrong += p[k] != 0;
        memset(q, 255, n);
        ash_free_sized(p, n);
        wrong += ash_usable_size(q) < n;
        ash_free(q);
    }
    is_int((int)wrong, 0, "sampled blocks are as others are: zeroed, large enough, freed by their size");
    is_int(ash_verify(), 0, "and all is in order");
}

static void test_fork(void)
{
    void *p = first(100000);
    pid_t child = fork();
    if (child == 0) {
        ash_free(p);
        pairs(1000, 10000);
        read_profile();
        _exit(strncmp(text, "heap profile: ", 14) == 0 && ash_verify() == 0 ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    is_int(status, 0, "a forked child goes on");
    ash_free(p);
    is_int(ash_profile_dump(-1), -EBADF, "a descriptor that is none");
}

static void test_off(void)
{
    is_int(ash_profile_dump(1), -ENOTSUP, "no profile without ASHLAR_PROFILE");
    is_int(ash_leaks_dump(1), -ENOTSUP, "nor a search for leaks");
}

static void all(void)
{
    test_pairs();
    test_batches();
    test_mixed();
    test_aligned();
    test_grown();
    test_threads();
    test_samples();
    test_fork();
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        all();
        return tap_done();
    }
    test_off();
    setenv("ASHLAR_PROFILE", "/dev/null", 1);
    setenv("ASHLAR_PROFILE_BYTES", "16K", 1);
    run_again(argv, "ASHLAR_GRAIN", "64", "all of it with a profile (points on standard error)");
    run_again_in_grain_16(argv);
    return tap_done();
}
