/*
 * Text in words of eight bytes, as the router compares it: the first byte is the lowest. No
 * function reads a byte that is not part of the text it was given.
 */
#ifndef ASH_WORDS_H
#define ASH_WORDS_H

#include "base/base.h"
#include "base/bits.h"
#include "base/hash.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first byte of a word is its lowest");

#define WORD_ONES (~(uint64_t)0 / 0xff) /* 0x01 in each byte */

ASH_INLINE uint64_t word_at(const char *p)
{
    return hash_word((const unsigned char *)p);
}

/* The first `n` bytes of a word, `n` up to 8 or more. */
ASH_INLINE uint64_t word_head(uint64_t w, size_t n)
{
    return n >= 8 ? w : w & (((uint64_t)1 << 8 * n) - 1);
}

/* The eight bytes from byte `from` on, up to 15, of the sixteen in two words. */
ASH_INLINE uint64_t word_from(uint64_t low, uint64_t high, size_t from)
{
    return from < 8 ? low >> 8 * from | high << 4 * (8 - from) << 4 * (8 - from)
                    : high >> 8 * (from - 8);
}

/* ASCII letters in lower case, all eight bytes at a time; a byte above 0x7f stays. */
ASH_INLINE uint64_t word_lower(uint64_t w)
{
    uint64_t low = w & 0x7f * WORD_ONES;
    uint64_t from_a = low + (0x80 - 'A') * WORD_ONES;
    uint64_t above_z = low + (0x7f - 'Z') * WORD_ONES;
    return w | ((from_a ^ above_z) & ~w & 0x80 * WORD_ONES) >> 2;
}

ASH_INLINE char char_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* `text` against `own`, which is in lower case already when `fold` is set. */
ASH_INLINE bool text_equal(const char *text, const char *own, size_t n, bool fold)
{
    if (n < 8) {
        for (size_t i = 0; i < n; i++)
            if ((fold ? char_lower(text[i]) : text[i]) != own[i])
                return false;
        return true;
    }
    for (size_t i = 0;; i = size_min(i + 8, n - 8)) {
        uint64_t w = word_at(text + i);
        if ((fold ? word_lower(w) : w) != word_at(own + i))
            return false;
        if (i == n - 8)
            return true;
    }
}

/* ---- where a byte is: bit i is set where byte i of the text is `c` ---- */

#if defined(__SSE2__)

ASH_INLINE uint64_t bytes_of(__m128i text, char c)
{
    return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(text, _mm_set1_epi8(c)));
}

ASH_INLINE uint64_t bytes_16(const char *p, char c)
{
    return bytes_of(_mm_loadu_si128((const __m128i *)(const void *)p), c);
}

ASH_INLINE uint64_t slashes_words(uint64_t low, uint64_t high)
{
    return bytes_of(_mm_set_epi64x((long long)high, (long long)low), '/');
}

#else

ASH_INLINE uint64_t bytes_8(uint64_t w, char c)
{
    uint64_t x = w ^ (uint8_t)c * WORD_ONES; /* zero where there is one */
    uint64_t none = ((x & 0x7f * WORD_ONES) + 0x7f * WORD_ONES) | x;
    return ((~none & 0x80 * WORD_ONES) >> 7) * 0x0102040810204080u >> 56;
}

ASH_INLINE uint64_t bytes_16(const char *p, char c)
{
    return bytes_8(word_at(p), c) | bytes_8(word_at(p + 8), c) << 8;
}

ASH_INLINE uint64_t slashes_words(uint64_t low, uint64_t high)
{
    return bytes_8(low, '/') | bytes_8(high, '/') << 8;
}

#endif

ASH_INLINE uint64_t slashes_16(const char *p)
{
    return bytes_16(p, '/');
}

/* The place of the first `c`, `n` if there is none; for texts of 16 to 64 bytes without a call. */
ASH_INLINE size_t text_find(const char *p, size_t n, char c)
{
    if (n < 16 || n > 64) {
        const char *at = memchr(p, c, n);
        return at != NULL ? (size_t)(at - p) : n;
    }
    uint64_t found = bytes_16(p, c) | bytes_16(p + n - 16, c) << (n - 16);
    if (n > 32)
        found |= bytes_16(p + 16, c) << 16 | bytes_16(p + n - 32, c) << (n - 32);
    return found != 0 ? bits_lowest(found) : n;
}

#endif
