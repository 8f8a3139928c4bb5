/*
 * A heap with content, the bytes that it had at its snapshot, uses that change them, and whether all of them are back.
 */
#ifndef HEAP_WORLD_H
#define HEAP_WORLD_H

#include "draw.h"

#include <ashlar/heap.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

static const char *const mode_name[] = {"AUTO", "COPY", "SCAN", "SCAN_UFFD", "DROP"};

static inline struct ash_heap_stats stats(const struct ash_heap *h)
{
    struct ash_heap_stats s;
    ash_heap_stats(h, &s);
    return s;
}

enum { BLOCKS = 200 };

struct world {
    struct ash_heap *heap;
    unsigned char *p[BLOCKS];
    size_t n[BLOCKS];
    unsigned char *copy; /* of the first to the last byte */
    size_t span;
    uint64_t seed;
};

static inline void world_open(struct world *w, size_t each, enum ash_reset_mode mode, unsigned flags)
{
    w->heap = ash_heap_create(mode_name[mode], 64 * MIB, flags);
    w->seed = each + 1;
    void *gap[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        w->n[i] = each / 2 + draw_from(&w->seed) % each;
        w->p[i] = ash_heap_malloc(w->heap, w->n[i]);
        gap[i] = ash_heap_malloc(w->heap, draw_from(&w->seed) % 200);
        for (size_t k = 0; k < w->n[i]; k++)
            w->p[i][k] = (unsigned char)draw_from(&w->seed);
    }
    for (int i = 0; i < BLOCKS; i += 2)
        ash_heap_free(w->heap, gap[i]);
    w->span = (size_t)(w->p[BLOCKS - 1] + w->n[BLOCKS - 1] - w->p[0]);
    if (ash_heap_snapshot(w->heap, mode) != 0)
        abort();
    w->copy = malloc(w->span);
    memcpy(w->copy, w->p[0], w->span);
}

static inline void world_close(struct world *w)
{
    free(w->copy);
    ash_heap_destroy(w->heap);
}

/* What a guest does in one use: writes here and there, frees, allocates, now and then much. */
static inline void pollute(struct world *w, unsigned calls)
{
    void *mine[64] = {NULL};
    char freed[BLOCKS] = {0};
    for (unsigned c = 0; c < calls; c++) {
        unsigned i = (unsigned)(draw_from(&w->seed) % BLOCKS), k = (unsigned)(draw_from(&w->seed) % 64);
        switch (draw_from(&w->seed) % 4) {
        case 0:
            if (!freed[i])
                w->p[i][draw_from(&w->seed) % w->n[i]] = (unsigned char)draw_from(&w->seed);
            break;
        case 1:
            if (!freed[i])
                ash_heap_free(w->heap, w->p[i]);
            freed[i] = 1;
            break;
        default:
            mine[k] = ash_heap_realloc(w->heap, mine[k], 1 + draw_from(&w->seed) % 3000);
            memset(mine[k], 0xdd, ash_heap_usable(w->heap, mine[k]));
        }
    }
}

static inline int is_back(struct world *w, const struct ash_heap_stats *before)
{
    struct ash_heap_stats now = stats(w->heap);
    return memcmp(w->copy, w->p[0], w->span) == 0 && now.live_bytes == before->live_bytes &&
           now.live_blocks == before->live_blocks && now.used_bytes == before->used_bytes &&
           ash_heap_verify(w->heap) == 0;
}

/*
 * An image of which each use writes so many of 100 pages, one in three of them wherever it falls, so that pages turn
 * cold; now few, now many: the number of restores that were wrong.
 */
static inline int wrong_restores(enum ash_reset_mode mode, size_t each, int cycles)
{
    static const unsigned percents[] = {1, 61, 1, 9, 17, 25};
    struct world w;
    world_open(&w, each, mode, 0);
    struct ash_heap_stats before = stats(w.heap);
    size_t pages = w.span / 4096;
    int wrong = 0;
    for (int cycle = 0; cycle < cycles * 6; cycle++) {
        size_t written = pages * percents[cycle / cycles] / 100;
        for (size_t i = 0; i < written; i++) {
            size_t page = i % 3 == 0 ? draw_from(&w.seed) % pages : i * 31 % pages;
            w.p[0][page * 4096 + 8]++; /* the content of a block, or a gap */
        }
        wrong += ash_heap_restore(w.heap) != 0 || (cycle % 10 == 9 && !is_back(&w, &before));
    }
    wrong += stats(w.heap).fallbacks != before.fallbacks;
    world_close(&w);
    return wrong;
}

static inline int status_of(pid_t child)
{
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

#endif
