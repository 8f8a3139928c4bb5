/*
 * What is said of a wrong pointer, and what happens then: the process is aborted, or goes on
 * without the call having done anything when ASHLAR_ON_ERROR=warn.
 */
#ifndef ASH_ERROR_H
#define ASH_ERROR_H

#include "base/base.h"

ASH_COLD void error_double_free(const void *p);
/* verb: "free", "realloc" … the call that was made. */
ASH_COLD void error_foreign(const char *verb, const void *p);
ASH_COLD void error_interior(const char *verb, const void *p, const void *block);
ASH_COLD void error_pooled(const char *verb, const void *p); /* it is an object of a pool */
ASH_COLD void error_size(const void *p, size_t n, size_t holds);
ASH_COLD void error_align(const void *p, size_t align);
/* Hardened mode: the byte at offset `at` was written, behind the block's end or after its free. */
ASH_COLD void error_overflow(const void *p, size_t n, size_t at);
ASH_COLD void error_used_after_free(const void *p, size_t at);
/* Default mode: a free block of `size` bytes was written, and leads to `next` now. */
ASH_COLD void error_link(size_t size, const void *next);
/* Overwritten is all that says how many of at most `n` bytes it has. */
ASH_COLD void error_overflow_far(const void *p, size_t n);
/* More bytes were cut off a buf than it has; `verb` is the call. */
ASH_COLD void error_buf_cut(const char *verb, size_t n, size_t len);
/* A value of a buf gives back more references than there are: it was dropped twice. */
ASH_COLD void error_buf_refs(const void *owner, uint64_t have, uint64_t refs);
/* A map of a file was closed that nobody has open. */
ASH_COLD void error_map_closed(const void *data);
/* Arenas; the first two and the last only where they have guards. Sizes as they were asked for. */
ASH_COLD void error_underflow(const void *p);
ASH_COLD void error_realloc_size(const void *p, size_t n, size_t has);
ASH_COLD void error_arena_busy(const char *verb, const char *name);
ASH_COLD void error_arena_mark(const char *name);
ASH_COLD void error_arena_cleanup(const char *name, const void *node);

/* The same for an object of the pool of that name. `what` says it all: "which was put already". */
ASH_COLD void error_pool_put(const char *pool, const void *p, const char *what);
ASH_COLD void error_pool_object(const char *pool, const void *p, const char *what);
ASH_COLD void error_pool_overrun(const char *pool, const void *p, size_t n, size_t at);
ASH_COLD void error_pool_written(const char *pool, const void *p, size_t at);
/* There is no pool at `pool` that it could be put into. */
ASH_COLD void error_pool_gone(const void *p, const void *pool);
/* An isolated heap's; what: "foreign pointer ", or nothing for a double free. */
ASH_COLD void error_heap(const char *verb, const char *what, const void *p, const char *heap);

#endif
