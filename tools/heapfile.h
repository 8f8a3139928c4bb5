/*
 * A heap profile in gperftools' text format, as ASHLAR_PROFILE writes it: the stacks with what the
 * samples stand for, and the mapped files.
 */
#ifndef ASHLAR_TOOLS_HEAPFILE_H
#define ASHLAR_TOOLS_HEAPFILE_H

#include <stddef.h>
#include <stdint.h>

struct heap_stack {
    double live_blocks, live_bytes, all_blocks, all_bytes; /* scaled up from the samples */
    size_t frames;
    uint64_t *frame; /* return addresses, innermost first */
};

struct heap_map {
    uint64_t from, to, offset;
    const char *path;
};

struct heapfile {
    double mean;    /* bytes between samples; 0: all blocks were counted */
    double samples; /* allocations that were sampled */
    struct heap_stack *stacks;
    size_t stack_count;
    struct heap_map *maps; /* of code */
    size_t map_count;
    uint64_t *frames; /* all of them */
};

/*
 * Reads `text`, which ends with NUL, is changed and has to stay. NULL, or what is wrong with it, in
 * *line.
 */
const char *heapfile_read(struct heapfile *h, char *text, unsigned *line);
void heapfile_free(struct heapfile *h);

#endif
