/* The processes that have Ashlar in. */
#ifndef ASHLAR_TOOLS_LIST_H
#define ASHLAR_TOOLS_LIST_H

#include "draw.h"

struct list {
    struct listed *all; /* largest first */
    size_t n;
    size_t forbidden; /* processes that could not be looked at */
    bool overlap;     /* one of them lies where this program lies */
};

/*
 * Looks at all processes. Rates are those since `before`, whose processes are looked up by number;
 * NULL: none. False: no memory, or no /proc.
 */
bool list_read(struct list *l, const struct list *before);
void list_free(struct list *l);

#endif
