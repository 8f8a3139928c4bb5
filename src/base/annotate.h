/*
 * What memcheck and AddressSanitizer are told of memory that is managed inside of larger blocks.
 * Without either nothing is left of it; under valgrind each is a request of a few instructions.
 *
 * annotate_none: the bytes must not be touched. annotate_fresh: they may be, and hold nothing yet.
 * annotate_whole: they may be, and hold something.
 */
#ifndef ASH_ANNOTATE_H
#define ASH_ANNOTATE_H

#include "base/base.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ANNOTATE_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ANNOTATE_ASAN 1
#endif

#if defined(ANNOTATE_ASAN)

#include <sanitizer/asan_interface.h>

ASH_INLINE bool annotate_wanted(void)
{
    return true;
}
#define annotate_none(p, n)  __asan_poison_memory_region((p), (n))
#define annotate_fresh(p, n) __asan_unpoison_memory_region((p), (n))
#define annotate_whole(p, n) __asan_unpoison_memory_region((p), (n))

#elif defined(HAVE_VALGRIND_VALGRIND_H)

#include <valgrind/memcheck.h>

ASH_INLINE bool annotate_wanted(void)
{
    return RUNNING_ON_VALGRIND != 0;
}
#define annotate_none(p, n)  ((void)VALGRIND_MAKE_MEM_NOACCESS((p), (n)))
#define annotate_fresh(p, n) ((void)VALGRIND_MAKE_MEM_UNDEFINED((p), (n)))
#define annotate_whole(p, n) ((void)VALGRIND_MAKE_MEM_DEFINED((p), (n)))

#else

ASH_INLINE bool annotate_wanted(void)
{
    return false;
}
#define annotate_none(p, n)  ((void)(p), (void)(n))
#define annotate_fresh(p, n) ((void)(p), (void)(n))
#define annotate_whole(p, n) ((void)(p), (void)(n))

#endif

#endif
