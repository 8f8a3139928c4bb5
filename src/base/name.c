#include "base/name.h"

#include <string.h>

bool name_read(char out[NAME_CAP], const char *name, const char *fallback)
{
    const char *from = name != NULL ? name : fallback;
    size_t n = from != NULL ? strnlen(from, NAME_CAP) : 0;
    if (n == NAME_CAP || from == NULL || (n == 0 && name != NULL))
        return false;
    for (size_t i = 0; i < n; i++)
        if (from[i] < ' ' || from[i] > '~' || from[i] == '"' || from[i] == '\\')
            return false;
    memset(out, 0, NAME_CAP);
    memcpy(out, from, n);
    return true;
}
