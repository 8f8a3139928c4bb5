/*
 * Memory goes back: after a peak, by ordinary activity alone within a second and at once by trimming; and it stays flat
 * while one thread only frees, and while threads come and go and free each other's blocks. Judged by the resident
 * set that the system reports. ASH_TEST_SECONDS sets the length of the flat runs (2).
 */
#include "ashlar/ashlar.h"
#include "process.h"
#include "tap.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { PEAK_MIB = 1024, QUEUE = 4096 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A GiB of blocks of a size, all touched, all freed. */
static size_t peak(size_t n)
{
    size_t count = ((size_t)PEAK_MIB << 20) / n;
    void **chain = NULL;
    for (size_t i = 0; i < count; i++) {
        void **p = malloc(n);
        memset(p, 1, n);
        *p = chain;
        chain = p;
    }
    size_t high = resident_kib();
    for (void **next; chain != NULL; chain = next) {
        next = *chain;
        free(chain);
    }
    return high;
}

/* What a program does anyway: a few sizes in turn, most of which never leave the hit path. */
static void activity(double seconds, int mixed)
{
    for (double end = now() + seconds; now() < end;)
        for (unsigned i = 0; i < 1000; i++)
            free(malloc(mixed ? i % 300 * 8 : 100));
}

static void test_return(size_t n)
{
    size_t base = resident_kib();
    size_t high = peak(n);
    size_t after = high;
    int seconds = 0;
    for (; after >= base + 10240 && seconds < 10; seconds++) { /* one, if the machine has time for this program */
        activity(1, n != 512);
        after = resident_kib();
    }
    ok(high > base + PEAK_MIB * 1000 && after < base + 10240,
       "blocks of %zu: %zu MiB resident at the peak, %zu after %d s of %s", n, high >> 10, after >> 10, seconds,
       n == 512 ? "one size" : "several sizes");
    peak(n);
    is_int(malloc_trim(0), 1, "malloc_trim gives back");
    after = resident_kib();
    ok(after < base + 10240, "at once: %zu MiB", after >> 10);
}

/* A producer whose consumer does nothing but free. */
static _Atomic(void *) queue[QUEUE];
static _Atomic(unsigned) stop;

static void *consumer(void *arg)
{
    for (unsigned i = 0; !stop; i++)
        free(atomic_exchange(&queue[i % QUEUE], NULL));
    return arg;
}

static void test_free_only(double seconds)
{
    pthread_t t;
    stop = 0;
    pthread_create(&t, NULL, consumer, NULL);
    size_t early = 0, late = 0;
    unsigned s = 1;
    double begin = now();
    for (unsigned long i = 0; now() < begin + seconds; i++)
        for (unsigned k = 0; k < 10000; k++) {
            s = s * 1664525 + 1013904223;
            size_t n = 16 + (s >> 8) % 2000;
            char *p = malloc(n);
            p[0] = p[n - 1] = 1;
            void *old = atomic_exchange(&queue[(s >> 4) % QUEUE], p);
            free(old);
            if (k == 0 && now() < begin + seconds / 3)
                early = resident_kib();
        }
    late = resident_kib();
    stop = 1;
    pthread_join(t, NULL);
    for (unsigned i = 0; i < QUEUE; i++)
        free(atomic_exchange(&queue[i], NULL));
    ok(late < early + early / 20 + 2048, "flat with a thread that only frees: %zu KiB, then %zu", early, late);
}

static void *guest(void *arg)
{
    unsigned s = (unsigned)(size_t)arg;
    for (int i = 0; i < 300; i++) {
        s = s * 1664525 + 1013904223;
        size_t n = 16 + (s >> 8) % 3000;
        char *p = malloc(n);
        p[0] = p[n - 1] = 1;
        free(atomic_exchange(&queue[(s >> 4) % 512], p));
    }
    return NULL;
}

/*
 * How many threads meet decides how many heaps there are, and that takes thousands of them to show its most: the first
 * half of the run sets the level, and a leak of 300 bytes a thread exceeds it in the rest.
 */
static void test_churn(double seconds)
{
    size_t early = 0, late = 0, threads = 0, half = 0;
    double begin = now();
    while (half == 0 || threads < 2 * half) {
        pthread_t t[4];
        for (size_t i = 0; i < 4; i++)
            pthread_create(&t[i], NULL, guest, (void *)++threads);
        for (int i = 0; i < 4; i++)
            pthread_join(t[i], NULL);
        if (half == 0 && threads % 400 == 0) {
            size_t level = resident_kib();
            early = level > early ? level : early;
            half = now() > begin + seconds / 2 && threads >= 6000 ? threads : 0;
        }
    }
    late = resident_kib();
    for (unsigned i = 0; i < QUEUE; i++)
        free(atomic_exchange(&queue[i], NULL));
    ok(late < early + early / 10 + 1024, "flat through %zu threads: %zu KiB, then %zu", threads, early, late);
}

int main(void)
{
    const char *length = getenv("ASH_TEST_SECONDS");
    double seconds = length != NULL ? atof(length) : 2;
    test_return(512);
    test_return(64);
    test_return(20000);
    test_return(3 << 20);
    test_free_only(seconds);
    test_churn(seconds);
    is_int(ash_verify(), 0, "verifies");
    return tap_done();
}
