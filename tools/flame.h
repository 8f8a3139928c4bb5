/*
 * Call stacks as a tree: folded, a line for each stack (Gregg's format), and as a flame graph.
 */
#ifndef ASHLAR_TOOLS_FLAME_H
#define ASHLAR_TOOLS_FLAME_H

#include "symbols.h"

#include <stdbool.h>
#include <stdio.h>

enum flame_of { FLAME_LIVE, FLAME_ALL };

/* Lines "outermost;...;innermost BYTES", equal stacks as one. */
bool flame_folded(FILE *out, const struct heapfile *h, const struct names *names,
                  enum flame_of which);

/* An <svg> element of the page; false: there is no memory. */
bool flame_svg(FILE *out, const struct heapfile *h, const struct names *names, enum flame_of which);

#endif
