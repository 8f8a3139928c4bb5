/*
 * From addresses of a process to names of functions, by the symbol tables of the files that it had
 * mapped.
 */
#ifndef ASHLAR_TOOLS_SYMBOLS_H
#define ASHLAR_TOOLS_SYMBOLS_H

#include "heapfile.h"

/* The names of the frames of a profile: `names[i]` is that of h->frames[i]. */
struct names {
    const char **of;
    struct place *places; /* of the mappings */
    size_t count;
    void *rooms, *text; /* what names stand in that are in no file */
};

/*
 * Looks up every frame: a function's name, in C++ as it is written where c++filt is installed; or
 * the file's and the offset in it; or the address. NULL: there is no memory.
 */
struct names *names_of(const struct heapfile *h);
void names_free(struct names *n);

#endif
