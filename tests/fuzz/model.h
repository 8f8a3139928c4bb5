/*
 * The model of the allocator that the target `malloc` compares it with: every block that the program holds, what it
 * wrote there, and what the statistics have to say. Built from what the public headers and the manual promise:
 *
 *   1. A block holds the size of the smallest class that the request fits (a whole number of pages above 64 KiB; in
 *      hardened mode the bytes asked for), at a multiple of its alignment, and overlaps no other.
 *   2. Its content is its holder's until it is freed; calloc's (in hardened mode everybody's) begins as zeroes.
 *   3. Of each class: hits + misses are the allocations, frees the frees, live the blocks in the program's hands.
 *   4. Under a limit, what is in use does not pass it; what is refused is counted.
 *
 * One thread at a time uses it.
 */
#ifndef ASH_TESTS_MODEL_H
#define ASH_TESTS_MODEL_H

#include "ashlar/ashlar.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BLOCKS = 4096,      /* slots for live blocks */
    SMALL = 64 * 1024,  /* the largest class */
    CANARY = 8,         /* bytes that hardened mode has behind each block, at least */
    BUDGET = 64 << 20   /* what live blocks may come to; requests are small when it is used up */
};

struct block {
    unsigned char *p; /* NULL: the slot is free */
    size_t n;         /* asked for */
    size_t holds;
    size_t align;     /* what it was asked for with; 0: none */
    size_t counts;    /* bytes that the statistics say it occupies */
    unsigned cls;     /* model.classes: large */
    unsigned fill;
    uint64_t born;
};

struct model {
    struct block blocks[BLOCKS];
    size_t sizes[128]; /* of the classes */
    unsigned classes;
    uint64_t live, live_bytes, born;
    uint64_t limit, refused;
};

extern struct model model;

/* At rest, with nothing live. */
void model_begin(void);

/* What a block of `n` bytes at a multiple of `align` (1: of nothing) holds, and of which class it is. */
size_t model_holds(size_t n, size_t align);
unsigned model_class(size_t n, size_t align);

/* The block was handed out into a free slot: checks it, fills it. `zero`: it has to be. */
void model_allocated(struct block *b, void *p, size_t n, size_t align, bool zero);

/* The block is about to be freed: its content is checked. */
void model_freed(struct block *b);

/* realloc answered `p`. */
void model_resized(struct block *b, void *p, size_t n);

/* An allocation answered NULL. */
void model_refused(size_t n, size_t align);

/* A batch failed: some blocks of it may have been handed out and taken back. */
void model_batch_refused(const size_t *sizes, size_t count);

/* The limit was set. */
void model_limit(size_t limit);

void model_check_content(const struct block *b);

/*
 * A pointer that was freed: the `i`th of the last ones, if it is surely still free and its slab surely still there,
 * since a block of its class beside it has been live all the time. NULL otherwise.
 */
enum { STALE = 64 };
void *model_stale(unsigned i);

/* The live block that `p` lies in, or NULL. */
struct block *model_find(const void *p);

/* Reads all statistics and compares. */
void model_check_counters(void);

#endif
