/*
 * Calls that no program should make. Each has to be named, in the words of the manual, and change nothing: the model is
 * not told of any.
 */
#include "family.h"
#include "operations.h"

#include "info/options.h"

#include <errno.h>
#include <unistd.h>

/* Each call that takes a block, with a pointer that is none. What it is called in the message is the answer. */
static const char *call_with(unsigned how, void *p)
{
    errno = 77;
    switch (how % 6) {
    case 0:
        CHECK(realloc(p, 100) == NULL && errno == EINVAL, "realloc of a wrong pointer");
        return "realloc";
    case 1:
        CHECK(malloc_usable_size(p) == 0, "a wrong pointer has a size");
        return "malloc_usable_size";
    case 2: free_sized(p, 64); return "free_sized";
    case 3: free_aligned_sized(p, 8, 64); return "free_aligned_sized";
    case 4: ash_free(p); return "free";
    default: free(p); return "free";
    }
}

void op_foreign(struct input *in)
{
    static char mine[256];
    unsigned how = (unsigned)take(in, 1), at = (unsigned)take(in, 1);
    void *pointers[] = {mine + at, &how, (void *)(uintptr_t)(at + 1), (void *)(UINTPTR_MAX - at),
                        (void *)(uintptr_t)op_foreign};
    void *p = pointers[how / 6 % 5];
    fuzz_trace("thread %u: wrong call %u with %p\n", self, how, p);
    const char *verb = call_with(how, p);
    fuzz_expect_said("%s of foreign pointer %p", verb, p);
}

void op_interior(struct input *in)
{
    struct block *b = take_live(in);
    unsigned how = (unsigned)take(in, 1);
    size_t off = take(in, 3);
    if (b == NULL)
        return;
    if (b->holds == 0)
        return;
    off = how / 6 % 2 == 0 ? off % b->holds : off % (b->holds / 64 + 1) * 64;
    if (off == 0 || off >= b->holds)
        return;
    fuzz_trace("thread %u: wrong call %u with block %u, %p, and %zu\n", self, how, slot_of(b), (void *)b->p, off);
    const char *verb = call_with(how, b->p + off);
    fuzz_expect_said("%s of interior pointer %p (block %p)", verb, (void *)(b->p + off), (void *)b->p);
}

/* A free block again, at once: nothing can have come between. */
void op_double_free(struct input *in)
{
    struct block *b = take_live(in);
    unsigned how = (unsigned)take(in, 1);
    if (b == NULL)
        return;
    unsigned char *p = b->p;
    release(b, 7);
    fuzz_trace("thread %u: wrong call %u with it again\n", self, how);
    call_with(how, p);
    fuzz_expect_said("double free of %p", (void *)p);
}

/* A block that was freed some time ago, by any thread. */
void op_stale_free(struct input *in)
{
    void *p = model_stale(take_below(in, STALE));
    unsigned how = (unsigned)take(in, 1);
    if (p == NULL)
        return;
    fuzz_trace("thread %u: wrong call %u with %p, which was freed before\n", self, how, p);
    call_with(how, p);
    fuzz_expect_said("double free of %p", p);
}

/* A write to the first words of a block that is free: hardened mode finds it at the latest when the block goes home. */
void op_stale_write(struct input *in)
{
    struct block *b = take_live(in);
    size_t at = take_below(in, 16);
    if (b == NULL || !options.harden || b->cls == model.classes)
        return;
    unsigned char *p = b->p;
    release(b, 7);
    fuzz_trace("thread %u: byte %zu of it written\n", self, at);
    p[at] = 0x55;
    ash_trim();
    fuzz_expect_said("use after free of %p: byte %zu was written", (void *)p, at);
}

void op_wrong_size(struct input *in)
{
    struct block *b = take_live(in);
    unsigned how = (unsigned)take(in, 1);
    size_t n = take_size(in);
    if (b == NULL)
        return;
    bool fits = options.harden ? n == b->holds : n <= b->holds && (n >= b->holds / 2 || b->holds == model.sizes[0]);
    if (how % 3 == 0) {
        size_t align = take_align(in);
        if ((uintptr_t)b->p % align == 0)
            return;
        fuzz_trace("thread %u: block %u freed with the alignment %zu\n", self, slot_of(b), align);
        free_aligned_sized(b->p, align, b->n);
        fuzz_expect_said("free_aligned_sized of %p with wrong alignment %zu", (void *)b->p, align);
    } else if (!fits) {
        fuzz_trace("thread %u: block %u freed with the size %zu\n", self, slot_of(b), n);
        how % 3 == 1 ? free_sized(b->p, n) : ash_free_sized(b->p, n);
        fuzz_expect_said("free_sized of %p with wrong size %zu (block holds %zu)", (void *)b->p, n, b->holds);
    }
}

/* A byte behind the block: hardened mode has to find it. */
void op_overflow(struct input *in)
{
    struct block *b = take_live(in);
    size_t over = take_below(in, CANARY);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (b == NULL || !options.harden || (b->cls == model.classes && (b->holds + over) / page != (b->holds - 1) / page))
        return;
    unsigned char *p = b->p;
    fuzz_trace("thread %u: block %u, %p, written %zu bytes behind its end\n", self, slot_of(b), (void *)p, over);
    p[b->holds + over] ^= 0x55;
    size_t n = b->holds;
    release(b, 7);
    fuzz_expect_said("overflow of %p: it has %zu bytes, and byte %zu was written", (void *)p, n, n + over);
}
