#include "heap/error.h"

#include "info/options.h"
#include "os/check.h"

#define error_say(...)                                                                             \
    (options.on_error == OPTION_ON_ERROR_WARN ? warn_line(__VA_ARGS__) : fatal(__VA_ARGS__))

void error_double_free(const void *p)
{
    error_say("double free of %p", p);
}

void error_foreign(const char *verb, const void *p)
{
    error_say("%s of foreign pointer %p", verb, p);
}

void error_interior(const char *verb, const void *p, const void *block)
{
    error_say("%s of interior pointer %p (block %p)", verb, p, block);
}

void error_size(const void *p, size_t n, size_t holds)
{
    error_say("free_sized of %p with wrong size %zu (block holds %zu)", p, n, holds);
}

void error_align(const void *p, size_t align)
{
    error_say("free_aligned_sized of %p with wrong alignment %zu", p, align);
}

void error_overflow(const void *p, size_t n, size_t at)
{
    error_say("overflow of %p: it has %zu bytes, and byte %zu was written", p, n, at);
}

void error_used_after_free(const void *p, size_t at)
{
    error_say("use after free of %p: byte %zu was written", p, at);
}

void error_heap(const char *verb, const char *what, const void *p, const char *heap)
{
    error_say("%s of %s%p in heap %s", verb, what, p, heap);
}
