/*
 * Names that programs give to things: copied, 1 to 31 printable ASCII characters without quotes and
 * backslashes, so that every format of output can show them as they stand.
 */
#ifndef ASH_NAME_H
#define ASH_NAME_H

#include "base/base.h"

enum { NAME_CAP = 32 };

/* Copies `name` into `out`; NULL is `fallback`. False, and `out` undefined, when it is no name. */
ASH_INLINE bool name_read(char out[NAME_CAP], const char *name, const char *fallback)
{
    const char *from = name != NULL ? name : fallback;
    size_t n = 0;
    for (; n < NAME_CAP && from[n] != '\0'; n++) {
        if (from[n] < ' ' || from[n] > '~' || from[n] == '"' || from[n] == '\\')
            return false;
        out[n] = from[n];
    }
    if (n == 0 || n == NAME_CAP)
        return false;
    out[n] = '\0';
    return true;
}

#endif
