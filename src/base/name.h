/*
 * Names that programs give to things: copied, 1 to 31 printable ASCII characters without quotes and
 * backslashes, so that every format of output can show them as they stand.
 */
#ifndef ASH_NAME_H
#define ASH_NAME_H

#include "base/base.h"

enum { NAME_CAP = 32 };

/*
 * Copies `name` into `out`, filled up with zeroes; NULL is `fallback`, as it stands. False, and
 * `out` untouched, when it is no name.
 */
bool name_read(char out[NAME_CAP], const char *name, const char *fallback);

#endif
