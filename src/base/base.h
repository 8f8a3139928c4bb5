/*
 * Compiler attributes, constants of the machine, and alignment arithmetic. No state, no system
 * calls: every other header may include this one.
 */
#ifndef ASH_BASE_H
#define ASH_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ASH_API __attribute__((visibility("default")))
/* The same, for what the library calls itself: it calls its own, without the linker's table. */
#define ASH_API_OWN __attribute__((visibility("protected")))
/* For declarations of data: reached without the global offset table. */
#define ASH_HIDDEN              __attribute__((visibility("hidden")))
#define ASH_INLINE              static inline __attribute__((always_inline))
#define ASH_NOINLINE            __attribute__((noinline))
#define ASH_COLD                __attribute__((noinline, cold))
#define ASH_MALLOC              __attribute__((malloc))
/* A call in a return statement is a jump, also where nothing else is optimised (gcc). */
#if defined(__GNUC__) && !defined(__clang__)
#define ASH_TAIL_CALLS __attribute__((optimize("O2")))
#else
#define ASH_TAIL_CALLS
#endif
#define ASH_PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))
#define ASH_TLS                 __thread __attribute__((tls_model("initial-exec")))

#define ASH_LIKELY(x)   __builtin_expect(!!(x), 1)
#define ASH_UNLIKELY(x) __builtin_expect(!!(x), 0)

#define ASH_CACHE_LINE 64
/*
 * For large, sparsely touched tables (not static). Linkers place common symbols behind all others,
 * so the small variables share the page that ends the initialised data, which a starting process
 * touches anyway.
 */
#define ASH_TABLE        __attribute__((common, aligned(64)))
#define ASH_LINE_ALIGNED _Alignas(ASH_CACHE_LINE)

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define ASH_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* `align` is a power of two in all of these. */
ASH_INLINE size_t align_up(size_t n, size_t align)
{
    return (n + align - 1) & ~(align - 1);
}

ASH_INLINE size_t align_down(size_t n, size_t align)
{
    return n & ~(align - 1);
}

ASH_INLINE bool is_pow2(size_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

ASH_INLINE size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

ASH_INLINE size_t size_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
