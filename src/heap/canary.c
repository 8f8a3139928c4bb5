#include "heap/canary.h"

#include "heap/block.h"
#include "heap/error.h"

#include <string.h>

enum { LOOK = 1024 };

static unsigned char pattern_of(const void *p)
{
    uint64_t mixed = block_mark(p) * 0x9e3779b97f4a7c15u;
    return (unsigned char)(mixed >> 56 | 1); /* never 0, which overflows are made of most often */
}

void canary_fill(void *p, size_t n, size_t end)
{
    memset((char *)p + n, pattern_of(p), size_min(end - n, LOOK));
}

void canary_check(const void *p, size_t n, size_t end)
{
    const unsigned char *at = (const unsigned char *)p + n;
    size_t room = size_min(end - n, LOOK);
    unsigned char pattern = pattern_of(p);
    if (room == 0 || (at[0] == pattern && memcmp(at, at + 1, room - 1) == 0))
        return;
    size_t i = 0;
    while (at[i] == pattern)
        i++;
    error_overflow(p, n, n + i);
}
