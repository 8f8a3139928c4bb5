/*
 * Reading a public config struct, whose first field is size_t struct_size: the caller may have been
 * compiled against a version with fewer fields (the others are 0, their defaults) or with more.
 */
#ifndef ASH_BASE_CONFIG_H
#define ASH_BASE_CONFIG_H

#include "base/base.h"

#include <string.h>

/*
 * Copies `from` into `to`, of `size` bytes. NULL is all defaults. False when struct_size does not
 * hold the first `least` bytes (a struct that was not filled in by its macro), or when a field that
 * this version does not know is set: it cannot be done as asked.
 */
ASH_INLINE bool config_read(void *to, size_t size, const void *from, size_t least)
{
    size_t given;
    memset(to, 0, size);
    if (from == NULL)
        return true;
    memcpy(&given, from, sizeof given);
    if (given < least || given > 4096)
        return false;
    for (size_t i = size; i < given; i++)
        if (((const unsigned char *)from)[i] != 0)
            return false;
    memcpy(to, from, size_min(size, given));
    return true;
}

#endif
