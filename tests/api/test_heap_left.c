/*
 * A guest that is left by siglongjmp at any instruction, those of the heap's own functions included: a restore puts
 * everything back, also beyond the image, where only the heap knows what has been touched.
 */
#include "tap.h"

#include <ashlar/heap.h>

#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>

#if defined(__x86_64__)

#include "../lockfree/step.h"

enum { BLOCKS = 500, BLOCK = 1968, CALLS = 3 };

static sigjmp_buf out;
static volatile long left; /* instructions, until the guest is */

static void on_step(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info, (void)context;
    if (--left == 0)
        siglongjmp(out, 1);
}

/* What touches memory far beyond the image. */
static void use(struct ash_heap *h, int calls, int stepped)
{
    void *p = NULL;
    for (int i = 0; i < calls; i++) {
        if (i == stepped)
            step_begin();
        if (i == 0)
            p = ash_heap_malloc(h, 300000);
        else if (i == 1)
            p = ash_heap_realloc(h, p, 600000);
        else
            ash_heap_calloc(h, 3, 100000);
    }
    step_end();
}

/* False when the guest came to the end before it was to be left. */
static bool is_left(struct ash_heap *h, int calls, long instructions)
{
    if (sigsetjmp(out, 1) != 0)
        return true;
    left = instructions;
    use(h, calls, calls - 1);
    return false;
}

/* Blocks over all that was touched have the sizes asked for, and are of memory that is zero. */
static int faults(struct ash_heap *h)
{
    static const unsigned char zero[BLOCK];
    int wrong = ash_heap_verify(h) != 0;
    void *p[BLOCKS];
    for (int i = 0; i < BLOCKS; i++)
        p[i] = ash_heap_malloc(h, BLOCK);
    for (int i = 0; i < BLOCKS; i++)
        wrong += ash_heap_usable(h, p[i]) != BLOCK || memcmp(p[i], zero, BLOCK) != 0;
    return wrong;
}

static void test_mode(const char *name, enum ash_reset_mode mode)
{
    struct ash_heap *h = ash_heap_create("left", 1 << 20, 0);
    ash_heap_malloc(h, 2000);
    ash_heap_snapshot(h, mode);
    use(h, CALLS, -1); /* the linker's part */
    int wrong = ash_heap_restore(h) != 0;
    long stops = 0;
    for (int calls = 1; calls <= CALLS; calls++)
        for (long n = 1; is_left(h, calls, n); n++, stops++) {
            wrong += ash_heap_restore(h) != 0;
            wrong += faults(h);
            wrong += ash_heap_restore(h) != 0;
        }
    ok(wrong == 0 && stops > 50 * CALLS, "%s: left at %ld instructions, %d faults", name, stops, wrong);
    ash_heap_destroy(h);
}

int main(void)
{
    step_init(on_step);
    test_mode("COPY", ASH_RESET_COPY);
    test_mode("SCAN_UFFD", ASH_RESET_SCAN_UFFD);
    return tap_done();
}

#else
int main(void)
{
    skip("only x86-64 can step a thread of its own", 1);
    return tap_done();
}
#endif
