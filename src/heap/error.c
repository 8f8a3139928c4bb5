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

void error_pooled(const char *verb, const void *p)
{
    error_say("%s of %p, which is an object of a pool", verb, p);
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

void error_overflow_far(const void *p, size_t n)
{
    error_say("overflow of %p: it has at most %zu bytes, and byte %zu was written", p, n, n);
}

void error_link(size_t size, const void *next)
{
    error_say("use after free of a block of %zu bytes: it leads to %p", size, next);
}

void error_used_after_free(const void *p, size_t at)
{
    error_say("use after free of %p: byte %zu was written", p, at);
}

void error_buf_cut(const char *verb, size_t n, size_t len)
{
    error_say("%s of %zu bytes of a buf that has %zu", verb, n, len);
}

void error_buf_refs(const void *owner, uint64_t have, uint64_t refs)
{
    error_say("double drop of a buf (owner %p has %llu references, %llu given back)", owner,
              (unsigned long long)have, (unsigned long long)refs);
}

void error_map_closed(const void *data)
{
    error_say("close of a map of %p that is not open", data);
}

void error_underflow(const void *p)
{
    error_say("underflow of %p: the bytes before it were written", p);
}

void error_realloc_size(const void *p, size_t n, size_t has)
{
    error_say("realloc of %p with wrong size %zu (it has %zu)", p, n, has);
}

void error_arena_busy(const char *verb, const char *name)
{
    error_say("%s of arena %s from within its own cleanup", verb, name);
}

void error_arena_mark(const char *name)
{
    error_say("rollback of arena %s to a mark that is no more, or of another arena", name);
}

void error_arena_cleanup(const char *name, const void *node)
{
    error_say("cleanup %p of arena %s registered twice", node, name);
}

void error_pool_put(const char *pool, const void *p, const char *what)
{
    error_say("pool %s: put of %p, %s", pool, p, what);
}

void error_pool_object(const char *pool, const void *p, const char *what)
{
    error_say("pool %s: object %p: %s", pool, p, what);
}

void error_pool_overrun(const char *pool, const void *p, size_t n, size_t at)
{
    error_say("pool %s: overflow of %p: it has %zu bytes, and byte %zu was written", pool, p, n,
              at);
}

void error_pool_written(const char *pool, const void *p, size_t at)
{
    error_say("pool %s: use after put of %p: byte %zu was written", pool, p, at);
}

void error_pool_gone(const void *p, const void *pool)
{
    error_say("put of %p into %p, which is no pool", p, pool);
}

void error_heap(const char *verb, const char *what, const void *p, const char *heap)
{
    error_say("%s of %s%p in heap %s", verb, what, p, heap);
}
