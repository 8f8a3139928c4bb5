/*
 * Pieces of a page of HTML: one file with its style and drawings inside, without scripts and
 * without anything from elsewhere; light or dark as the reader prefers.
 */
#ifndef ASHLAR_TOOLS_PAGE_H
#define ASHLAR_TOOLS_PAGE_H

#include "json.h"

#include <stdint.h>
#include <stdio.h>

void page_begin(FILE *out, const char *title);
void page_end(FILE *out);

/* Numbers of a file, which may be any, as people read them. */
void page_bytes(char out[16], double n);
void page_count(char out[16], double n);
void page_time(char out[16], double ns);

/* Statistics as ASHLAR_STATS=json has them: of a process, … */
void page_stats(FILE *out, const struct json *stats);

/* … and of the same process, or its like, over time; at least two. */
void page_timeline(FILE *out, const struct json *const *stats, const char *const *names,
                   size_t count);

#endif
