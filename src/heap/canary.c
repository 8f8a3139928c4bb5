#include "heap/canary.h"

#include "heap/block.h"
#include "heap/error.h"

#include <string.h>

enum { LOOK = 1024, WORD = sizeof(uint64_t) };

/* The pattern's byte in every place; never 0, which overflows are made of most often. */
ASH_INLINE uint64_t pattern_of(const void *p)
{
    uint64_t mixed = block_mark(p) * 0x9e3779b97f4a7c15u;
    return (mixed >> 56 | 1) * 0x0101010101010101u;
}

ASH_INLINE void word_put(char *at, uint64_t word)
{
    memcpy(at, &word, WORD);
}

ASH_INLINE uint64_t word_at(const char *at)
{
    uint64_t word;
    memcpy(&word, at, WORD);
    return word;
}

/* Words from the first byte on, and one that ends with the last: they overlap. */
void canary_fill(void *p, size_t n, size_t end)
{
    char *at = (char *)p + n;
    size_t room = size_min(end - n, LOOK);
    uint64_t pattern = pattern_of(p);
    if (room < WORD) {
        memcpy(at, &pattern, room);
        return;
    }
    for (size_t i = 0; i + WORD < room; i += WORD)
        word_put(at + i, pattern);
    word_put(at + room - WORD, pattern);
}

static ASH_COLD void find_hurt(const void *p, size_t n, size_t room, uint64_t pattern)
{
    const unsigned char *at = (const unsigned char *)p + n;
    for (size_t i = 0; i < room; i++)
        if (at[i] != (unsigned char)pattern) {
            error_overflow(p, n, n + i);
            return;
        }
}

void canary_check(const void *p, size_t n, size_t end)
{
    const char *at = (const char *)p + n;
    size_t room = size_min(end - n, LOOK);
    uint64_t pattern = pattern_of(p);
    uint64_t hurt = 0;
    if (room < WORD) {
        find_hurt(p, n, room, pattern);
        return;
    }
    for (size_t i = 0; i + WORD < room; i += WORD)
        hurt |= word_at(at + i) ^ pattern;
    if (ASH_UNLIKELY((hurt | (word_at(at + room - WORD) ^ pattern)) != 0))
        find_hurt(p, n, room, pattern);
}
