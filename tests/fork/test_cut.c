/*
 * What the library builds on in a forked child, asked of the kernel: the child's memory is the parent's at one instant,
 * though the fork takes milliseconds in which other threads go on. So the child sees a thread's stores up to one of
 * them, and none behind that; and what a thread stored after it had read from another, only together with that.
 *
 * A thread stores a number that grows to many words, one after another, each in a page of its own, all over the memory
 * of a large process; others pass it on in the same way. Whatever the instant, no word is ahead of the one before it.
 * That the test would see another cut is shown by a copy which the first thread makes itself, page after page, while
 * the others go on.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { THREADS = 3, WORDS_MOST = 1024, PAGE = 4096, PLACES = 4 * THREADS * WORDS_MOST, SECONDS = 2 };

static char below[PAGE]; /* the first words are here, the others in a large block */
static _Atomic(uint64_t) *word[THREADS][WORDS_MOST];
static unsigned words;
static _Atomic(int) stop;

static void *pass_on(void *arg)
{
    size_t k = (size_t)arg;
    for (uint64_t n = 0; !atomic_load_explicit(&stop, memory_order_relaxed);) {
        n = k == 0 ? n + 1 : atomic_load_explicit(word[k - 1][words - 1], memory_order_acquire);
        for (unsigned i = 0; i < words; i++)
            atomic_store_explicit(word[k][i], n, memory_order_release);
    }
    return NULL;
}

static uint64_t image[THREADS][WORDS_MOST];

static void look(unsigned k, unsigned i)
{
    image[k][i] = atomic_load_explicit(word[k][i], memory_order_relaxed);
}

/* 1 when there was no such instant. */
static int is_cut(void)
{
    int cut = image[0][words - 1] + 1 < image[0][0]; /* the first thread is one ahead at most */
    for (unsigned k = 0; k < THREADS; k++)
        for (unsigned i = k == 0; i < words; i++)
            cut |= image[k][i] > (i == 0 ? image[k - 1][words - 1] : image[k][i - 1]);
    return cut;
}

/* Looks at all words, the first pages last, so that what is passed on meanwhile is seen. */
static int is_cut_by_hand(void)
{
    for (unsigned k = 0; k < THREADS; k++)
        for (unsigned i = 0; i < words; i++) {
            look(k, i);
            if (i % 8 == 0)
                sched_yield();
        }
    return is_cut();
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct outcome {
    unsigned forks, moved, cuts;
    int64_t ns;
} outcome;

/* Forks once; `*shown` is what the child saw of the first word. */
static void fork_once(_Atomic(uint64_t) *shown)
{
    int status;
    uint64_t before = atomic_load(word[0][0]);
    int64_t began = now_ns();
    pid_t child = fork();
    if (child == 0) {
        for (unsigned k = 0; k < THREADS; k++)
            for (unsigned i = 0; i < words; i++)
                look(k, i);
        *shown = image[0][0];
        _exit(is_cut());
    }
    outcome.ns += now_ns() - began;
    if (child < 0 || waitpid(child, &status, 0) != child)
        status = -1;
    outcome.forks++;
    outcome.cuts += status != 0;
    outcome.moved += *shown > before;
}

static void test(char *memory, unsigned n)
{
    static unsigned place[PLACES];
    pthread_t thread[THREADS];
    unsigned s = n;
    _Atomic(uint64_t) *shown = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < PLACES; i++)
        place[i] = i;
    words = n;
    for (unsigned i = 0; i < THREADS * n; i++) { /* anywhere, each in a page of its own */
        s = s * 1664525 + 1013904223;
        unsigned j = i + (s >> 8) % (PLACES - i), other = place[j];
        place[j] = place[i];
        place[i] = other;
        word[i / n][i % n] = (_Atomic(uint64_t) *)(void *)(memory + (size_t)other * PAGE);
    }
    for (unsigned k = 0; k < THREADS; k++)
        word[k][0] = (_Atomic(uint64_t) *)(void *)(below + k * 64);
    for (unsigned k = 0; k < THREADS; k++)
        for (unsigned i = 0; i < n; i++)
            atomic_store(word[k][i], 0);
    stop = 0;
    for (size_t k = 0; k < THREADS; k++)
        pthread_create(&thread[k], NULL, pass_on, (void *)k);

    outcome = (struct outcome){0, 0, 0, 0};
    for (int64_t end = now_ns() + SECONDS * (int64_t)1000000000; now_ns() < end;) {
        usleep(300);
        fork_once(shown);
    }
    unsigned tries = 1;
    while (tries < 100000 && !is_cut_by_hand())
        tries++;
    stop = 1;
    for (unsigned k = 0; k < THREADS; k++)
        pthread_join(thread[k], NULL);
    is_int(outcome.cuts, 0, "a child has the memory of one instant");
    ok(tries < 100000, "a copy by hand has not");
    tap_line("# %u words: %u forks of %lld us; in %u the threads went on; %u copies by hand", n, outcome.forks,
             (long long)(outcome.ns / 1000 / outcome.forks), outcome.moved, tries);
    munmap(shown, PAGE);
}

int main(void)
{
    size_t bytes = (size_t)PLACES * PAGE;
    char *memory = malloc(bytes);
    alarm(300);
    if (memory == NULL)
        return 1;
    madvise(memory, bytes, MADV_NOHUGEPAGE); /* large tables make long forks */
    memset(memory, 0, bytes);
    test(memory, 16);         /* the processor knows their pages by heart */
    test(memory, WORDS_MOST); /* it does not */
    free(memory);
    return tap_done();
}
