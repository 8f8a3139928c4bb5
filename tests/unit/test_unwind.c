/*
 * The unwinder against stacks of known shape: frames of any size, of variable size, of signal handlers on either stack, and
 * of libc between ours. Each stack is whole: it has as many frames as were called, and ends where main's ends.
 */
#include "prof/unwind.h"
#include "tap.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 128 };
static uintptr_t base[DEPTH], stack[DEPTH]; /* main's, and one that was taken deeper */
static unsigned base_n, stack_n;
static volatile int sink;

static ASH_NOINLINE void take(void)
{
    stack_n = unwind(stack, DEPTH, NULL, 0);
    sink++;
}

/* Frames of `name`, of so many bytes each, around `inner`. */
#define FRAMES(name, bytes)                          \
    static ASH_NOINLINE void name(int frames, void (*inner)(void)) \
    {                                                \
        volatile char room[bytes];                   \
        room[frames] = 1;                            \
        if (frames > 1)                              \
            name(frames - 1, inner);                 \
        else                                         \
            inner();                                 \
        room[frames]++;                              \
    }
FRAMES(small, 64)
FRAMES(page, 2000)
FRAMES(large, 70000)
FRAMES(huge, 600000)

static ASH_NOINLINE void variable(int frames, void (*inner)(void))
{
    volatile char *room = __builtin_alloca((size_t)frames * 333);
    room[frames] = 1;
    page(frames, inner);
    room[frames]++;
}

static ASH_NOINLINE void aligned(int frames, void (*inner)(void))
{
    _Alignas(256) volatile char room[256];
    room[frames] = 1;
    small(frames, inner);
    room[frames]++;
}

static void on_signal(int signal)
{
    (void)signal;
    page(3, take);
}

static void raise_it(void)
{
    raise(SIGUSR1);
    sink++;
}

static int compare(const void *a, const void *b)
{
    if (stack_n == 0)
        page(3, take);
    return *(const int *)a - *(const int *)b;
}

static void sort_it(void)
{
    int x[] = {3, 1, 2};
    qsort(x, 3, sizeof x[0], compare);
    sink++;
}

/* The stack that was taken has `frames` more than main's and ends as that one does, behind main's own place. */
static void is_whole(unsigned frames, bool exact, const char *what)
{
    unsigned rest = base_n - 2; /* what called main */
    bool ends = stack_n > rest && memcmp(stack + stack_n - rest, base + 2, rest * sizeof *base) == 0;
    ok(ends && (exact ? stack_n == base_n + frames : stack_n > base_n + frames), "%s", what);
    if (!ends || (exact && stack_n != base_n + frames))
        tap_line("# %u frames, main has %u", stack_n, base_n);
    stack_n = 0;
}

int main(void)
{
    take();
    base_n = stack_n;
    memcpy(base, stack, sizeof base);
    ok(base_n > 2, "main is called by something");
    stack_n = 0;
    small(40, take);
    is_whole(40, true, "forty small frames");
    page(20, take);
    is_whole(20, true, "frames of two thousand bytes");
    large(5, take);
    is_whole(5, true, "frames of seventy thousand");
    huge(2, take);
    is_whole(2, true, "frames of six hundred thousand");
    variable(7, take);
    is_whole(8, true, "a frame of variable size");
    aligned(5, take);
    is_whole(6, true, "a frame that aligns its stack");
    page(100, take);
    is_whole(100, true, "a hundred frames");

    static _Alignas(16) char other[64 * 1024];
    const stack_t alternative = {.ss_sp = other, .ss_size = sizeof other};
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    variable(4, raise_it);
    is_whole(5 + 1 + 1 + 3, false, "through a signal handler");
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR1, &action, NULL);
    ok(sigaltstack(&alternative, NULL) == 0, "another stack for signals");
    large(2, raise_it);
    if (getenv("ASH_TEST_RUNNER") == NULL)
        is_whole(2 + 1 + 1 + 3, false, "through a handler on a stack of its own");
    else
        skip("an emulator has no table of its signal frames", 1);
    stack_n = 0;
    large(3, sort_it);
    is_whole(3 + 1 + 1 + 3, false, "through libc's qsort");

    page(60, take);
    unsigned all = stack_n, few = 0;
    uintptr_t top[4];
    few = unwind(top, 4, NULL, 0);
    ok(all > 60 && few == ASH_COUNT(top), "no more than there is room for");
    return tap_done();
}
