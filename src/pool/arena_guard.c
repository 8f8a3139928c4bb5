#include "pool/arena_guard.h"

#include "base/annotate.h"
#include "heap/error.h"

#include <string.h>

static uint64_t guard_word(const struct guard *g)
{
    uint64_t x = (uintptr_t)g ^ ((uintptr_t)g->older << 1) ^ (g->n << 20);
    return x * 0x9e3779b97f4a7c15u ^ 0xa5c3a5c3a5c3a5c3u;
}

static unsigned char *guard_block(struct guard *g)
{
    return (unsigned char *)(g + 1);
}

/* A tail reaches to the next multiple of 16 behind it. */
static size_t guard_tail(size_t n)
{
    return align_up(n + GUARD_TAIL, 16) - n;
}

static void guard_open(struct guard *g)
{
    annotate_whole(g, sizeof *g);
}

static void guard_close(struct guard *g)
{
    annotate_none(g, sizeof *g);
}

void *guard_put(struct guard **newest, char *at, size_t align, size_t n, int fill, char **end)
{
    uintptr_t place = align_up((uintptr_t)at + sizeof(struct guard), size_max(align, 16));
    unsigned char *block = (unsigned char *)at + (place - (uintptr_t)at);
    struct guard *g = (struct guard *)(void *)(block - sizeof(struct guard));
    size_t tail = guard_tail(n);
    annotate_fresh(g, sizeof *g + n + tail);
    *g = (struct guard){.older = *newest, .n = n};
    g->word = guard_word(g);
    memset(block, fill, n);
    memset(block + n, GUARD_BYTE, tail);
    if (fill == GUARD_FRESH)
        annotate_fresh(block, n);
    annotate_none(block + n, tail);
    guard_close(g);
    *newest = g;
    *end = (char *)block + n + tail;
    return block;
}

struct guard *guard_find(void *p)
{
    struct guard *g = (struct guard *)p - 1;
    if (((uintptr_t)p & 15) != 0)
        return NULL;
    guard_open(g);
    bool sound = g->word == guard_word(g);
    guard_close(g);
    return sound ? g : NULL;
}

size_t guard_size(struct guard *g)
{
    guard_open(g);
    size_t n = g->n;
    guard_close(g);
    return n;
}

void guard_shrink(struct guard *g, size_t n)
{
    unsigned char *block = guard_block(g);
    guard_open(g);
    size_t old = g->n;
    g->n = n;
    g->word = guard_word(g);
    guard_close(g);
    annotate_fresh(block + n, old - n + guard_tail(old));
    memset(block + n, GUARD_GONE, old - n);
    memset(block + n, GUARD_BYTE, guard_tail(n));
    annotate_none(block + n, old - n + guard_tail(old));
}

/* Looks at an open guard and at its tail: 0, or 1 when it was written to, which has been said. */
static int guard_look(struct guard *g)
{
    unsigned char *block = guard_block(g);
    if (g->word != guard_word(g)) {
        error_underflow(block);
        return 1;
    }
    size_t tail = guard_tail(g->n), i = 0;
    annotate_whole(block + g->n, tail);
    while (i < tail && block[g->n + i] == GUARD_BYTE)
        i++;
    annotate_none(block + g->n, tail);
    if (i < tail)
        error_overflow(block, g->n, g->n + i);
    return i < tail;
}

int guard_check(struct guard *newest)
{
    int faults = 0;
    for (struct guard *g = newest, *older; g != NULL; g = older) {
        guard_open(g);
        bool sound = g->word == guard_word(g);
        faults += guard_look(g);
        older = sound ? g->older : NULL;
        guard_close(g);
    }
    return faults;
}

void guard_wipe(struct guard **newest, char *from, char *to)
{
    while (*newest != NULL && (char *)*newest >= from) {
        struct guard *g = *newest;
        guard_open(g);
        *newest = g->word == guard_word(g) ? g->older : NULL;
        guard_look(g);
        guard_close(g);
    }
    annotate_fresh(from, (size_t)(to - from));
    memset(from, GUARD_GONE, (size_t)(to - from));
    annotate_none(from, (size_t)(to - from));
}
