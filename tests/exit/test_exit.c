/*
 * Ends: of threads, with allocation in destructors of every round and after the library's own; of the process, with
 * allocation in atexit handlers and destructors, and while other threads allocate. Nothing is lost: the memory of
 * thousands of ended threads is used again.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { KEYS = 40 }; /* more than glibc keeps in place: pthread_setspecific allocates */

static pthread_key_t keys[KEYS];
static _Atomic(int) destructors;

static uint64_t stat_of(size_t offset)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
    return *(uint64_t *)((char *)&s + offset);
}

#define STAT(field) stat_of(offsetof(struct ash_stats, field))

/* Frees its value, and sets another for the next round, until the rounds are over. */
static void destructor(void *value)
{
    int *p = value;
    destructors++;
    int round = p[0], key = p[1];
    free(p);
    free(malloc(100 + (size_t)round));
    free(malloc(100000));
    if (round < 4) {
        p = malloc(64);
        p[0] = round + 1;
        p[1] = key;
        pthread_setspecific(keys[key], p);
    }
}

static void *thread_main(void *arg)
{
    for (int i = 0; i < KEYS; i++) {
        int *p = malloc(64);
        p[0] = 1;
        p[1] = i;
        pthread_setspecific(keys[i], p);
    }
    return arg;
}

static void *short_main(void *arg)
{
    void **handed = arg;
    free(*handed);
    *handed = malloc(500);
    for (int i = 0; i < 50; i++)
        free(malloc((size_t)i * 40));
    return NULL;
}

static void test_threads(void)
{
    for (int i = 0; i < KEYS; i++)
        pthread_key_create(&keys[i], destructor);
    enum { THREADS = 200 };
    free(malloc(1)); /* this thread has a heap from here on */
    uint64_t threads = STAT(threads), live = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_t t;
        pthread_create(&t, NULL, thread_main, NULL);
        pthread_join(t, NULL);
        if (i == 10)
            live = STAT(live_blocks);
    }
    ok(destructors >= THREADS * KEYS * 3, "destructors of several rounds ran: %d", (int)destructors);
    is_int((long)STAT(threads), (long)threads, "no heap of an ended thread stays open");
    /* Of the last round's values nobody frees: at most KEYS blocks a thread. */
    ok(STAT(live_blocks) - live <= (uint64_t)(THREADS - 10) * KEYS, "and no block is lost");
    for (int i = 0; i < KEYS; i++)
        pthread_key_delete(keys[i]);

    void *handed = NULL;
    uint64_t used = 0;
    for (int i = 0; i < 5000; i++) {
        pthread_t t;
        pthread_create(&t, NULL, short_main, &handed);
        pthread_join(t, NULL);
        if (i == 100)
            used = STAT(used_bytes);
    }
    ok(STAT(used_bytes) <= used + used / 20, "5000 short threads use no more memory than 100: %lu, %lu KiB",
       (unsigned long)STAT(used_bytes) >> 10, (unsigned long)used >> 10);
    ok(STAT(orphan_slabs) < 100, "orphans stay few: %lu", (unsigned long)STAT(orphan_slabs));
    free(handed);
    is_int(ash_verify(), 0, "verifies");
}

static void at_exit(void)
{
    void *p = malloc(1000);
    free(p);
    free(calloc(1, 1 << 20));
}

__attribute__((destructor(102))) static void late(void)
{
    free(malloc(123));
}

static void *busy(void *arg)
{
    for (unsigned s = 1;; s = s * 1664525 + 1013904223)
        free(malloc(1 + (s >> 8) % 5000));
    return arg;
}

enum leave { BY_EXIT, BY_RETURN, BY_QUICK_EXIT, BY_PTHREAD_EXIT };

static int leave(enum leave how)
{
    atexit(at_exit);
    at_quick_exit(at_exit);
    for (int i = 0; i < 8; i++) {
        pthread_t t;
        if (how != BY_PTHREAD_EXIT)
            pthread_create(&t, NULL, busy, NULL);
    }
    usleep(2000);
    if (how == BY_QUICK_EXIT)
        quick_exit(5);
    if (how == BY_PTHREAD_EXIT)
        pthread_exit(NULL);
    if (how == BY_EXIT)
        exit(5);
    return 5;
}

/* Runs this program again to leave as told, with a dump at exit. */
static void test_leave(const char *self, enum leave how, int want, const char *name)
{
    int good = 0, dumps = 0;
    enum { TIMES = 20 };
    for (int i = 0; i < TIMES; i++) {
        int err[2];
        if (pipe(err) != 0)
            abort();
        pid_t child = fork();
        if (child == 0) {
            char number[2] = {(char)('0' + how), '\0'};
            dup2(err[1], STDERR_FILENO);
            close(err[0]);
            setenv("ASHLAR_STATS", "1", 1);
            alarm(20);
            execl("/proc/self/exe", self, number, (char *)NULL);
            _exit(99);
        }
        close(err[1]);
        char text[4096];
        ssize_t n = 0, k;
        while ((k = read(err[0], text + n, sizeof text - 1 - (size_t)n)) > 0)
            n += k;
        text[n] = '\0';
        close(err[0]);
        int status;
        waitpid(child, &status, 0);
        good += WIFEXITED(status) && WEXITSTATUS(status) == want;
        dumps += strstr(text, "ashlar: statistics of process") != NULL;
    }
    is_int(good, TIMES, name);
    is_int(dumps, how == BY_QUICK_EXIT ? 0 : TIMES, "with a dump, where destructors run");
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return leave((enum leave)(argv[1][0] - '0'));
    test_threads();
    test_leave(argv[0], BY_EXIT, 5, "exit while eight threads allocate");
    test_leave(argv[0], BY_RETURN, 5, "return from main while eight threads allocate");
    test_leave(argv[0], BY_QUICK_EXIT, 5, "quick_exit while eight threads allocate");
    test_leave(argv[0], BY_PTHREAD_EXIT, 0, "pthread_exit of the last thread");
    return tap_done();
}
