/*
 * hitpath BYTES [ROUNDS]: the calls of malloc and its family when the thread's cache can serve them
 * all.
 *
 * `compare --hitpath` runs it under callgrind, which counts the instructions of every call made
 * from the functions named hit_*: divided by the number of calls that is the length of each path,
 * whatever the allocator calls its functions. The rules: the calls go through pointers, so no
 * linker stub counts; a round takes four blocks and gives them back, so a cache never runs dry or
 * full; the warm-up calls are made from other functions.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 4, WARM_ROUNDS = 400 };

#define APART __attribute__((noinline))
/* Makes two functions with the same body differ, or the compiler keeps only one of them. */
#define DISTINCT() __asm__ volatile("" : : "i"(__LINE__))

struct calls {
    void *(*malloc)(size_t);
    void (*free)(void *);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void *(*operator_new)(size_t);
    void (*operator_delete)(void *);
    void (*operator_delete_sized)(void *, size_t);
};

static APART void hit_malloc(const struct calls *c, void **block, size_t n)
{
    DISTINCT();
    for (size_t i = 0; i < BLOCKS; i++)
        block[i] = c->malloc(n);
}

static APART void hit_free(const struct calls *c, void **block)
{
    DISTINCT();
    for (size_t i = 0; i < BLOCKS; i++)
        c->free(block[i]);
}

static APART void hit_calloc(const struct calls *c, void **block, size_t n)
{
    DISTINCT();
    for (size_t i = 0; i < BLOCKS; i++)
        block[i] = c->calloc(1, n);
}

static APART void hit_realloc(const struct calls *c, void **block, size_t n)
{
    DISTINCT();
    for (size_t i = 0; i < BLOCKS; i++)
        block[i] = c->realloc(block[i], n);
}

static APART void hit_aligned_alloc(const struct calls *c, void **block, size_t n)
{
    DISTINCT();
    for (size_t i = 0; i < BLOCKS; i++)
        block[i] = c->aligned_alloc(64, n);
}

static APART void hit_new(const struct calls *c, void **block, size_t n)
{
    DISTINCT();
    for (size_t i = 0; i < BLOCKS; i++)
        block[i] = c->operator_new(n);
}

static APART void hit_delete(const struct calls *c, void **block)
{
    DISTINCT();
    for (size_t i = 0; i < BLOCKS; i++)
        c->operator_delete(block[i]);
}

static APART void hit_delete_sized(const struct calls *c, void **block, size_t n)
{
    DISTINCT();
    for (size_t i = 0; i < BLOCKS; i++)
        c->operator_delete_sized(block[i], n);
}

/*
 * The same calls from a function that is not counted; also frees what hit_* allocated, and the
 * other way round.
 */
static APART void other_take(const struct calls *c, void **block, size_t n)
{
    DISTINCT();
    for (size_t i = 0; i < BLOCKS; i++)
        block[i] = c->malloc(n);
}

static APART void other_give(const struct calls *c, void **block)
{
    DISTINCT();
    for (size_t i = 0; i < BLOCKS; i++)
        c->free(block[i]);
}

static APART void other_take_aligned(const struct calls *c, void **block, size_t n)
{
    DISTINCT();
    for (size_t i = 0; i < BLOCKS; i++)
        block[i] = c->aligned_alloc(64, n);
}

static void rounds_c(const struct calls *c, void **block, size_t n, size_t rounds)
{
    for (size_t i = 0; i < rounds; i++) {
        hit_malloc(c, block, n);
        hit_free(c, block);
    }
    for (size_t i = 0; i < rounds; i++) {
        hit_calloc(c, block, n);
        other_give(c, block);
    }
    other_take(c, block, n);
    for (size_t i = 0; i < rounds; i++)
        hit_realloc(c, block, n); /* the size it has: the block stays */
    other_give(c, block);
    for (size_t i = 0; i < WARM_ROUNDS; i++) {
        other_take_aligned(c, block, n);
        other_give(c, block);
    }
    for (size_t i = 0; i < rounds; i++) {
        hit_aligned_alloc(c, block, n);
        other_give(c, block);
    }
}

/* Only where somebody defines the operators: this program is C and brings no C++ library. */
static void rounds_cxx(const struct calls *c, void **block, size_t n, size_t rounds)
{
    for (size_t i = 0; c->operator_new != NULL && c->operator_delete != NULL && i < rounds; i++) {
        hit_new(c, block, n);
        hit_delete(c, block);
    }
    for (size_t i = 0; c->operator_delete_sized != NULL && i < rounds; i++) {
        other_take(c, block, n);
        hit_delete_sized(c, block, n);
    }
}

int main(int argc, char **argv)
{
    long bytes = argc > 1 ? atol(argv[1]) : 64;
    long rounds = argc > 2 ? atol(argv[2]) : 2000;
    if (bytes < 1 || rounds < 1) {
        fputs("usage: hitpath BYTES [ROUNDS]\n", stderr);
        return 2;
    }
    struct calls c = {malloc, free, calloc, realloc, aligned_alloc, NULL, NULL, NULL};
    void *symbols[] = {dlsym(RTLD_DEFAULT, "_Znwm"), dlsym(RTLD_DEFAULT, "_ZdlPv"),
                       dlsym(RTLD_DEFAULT, "_ZdlPvm")};
    memcpy(&c.operator_new, &symbols[0], sizeof symbols[0]);
    memcpy(&c.operator_delete, &symbols[1], sizeof symbols[1]);
    memcpy(&c.operator_delete_sized, &symbols[2], sizeof symbols[2]);
    void *block[BLOCKS];
    for (size_t i = 0; i < WARM_ROUNDS; i++) {
        other_take(&c, block, (size_t)bytes);
        other_give(&c, block);
    }
    rounds_c(&c, block, (size_t)bytes, (size_t)rounds);
    rounds_cxx(&c, block, (size_t)bytes, (size_t)rounds);
    return 0;
}
