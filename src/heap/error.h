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
ASH_COLD void error_size(const void *p, size_t n, size_t holds);
ASH_COLD void error_align(const void *p, size_t align);
/* Hardened mode: the byte at offset `at` was written, behind the block's end or after its free. */
ASH_COLD void error_overflow(const void *p, size_t n, size_t at);
ASH_COLD void error_used_after_free(const void *p, size_t at);
/* An isolated heap's; what: "foreign pointer ", or nothing for a double free. */
ASH_COLD void error_heap(const char *verb, const char *what, const void *p, const char *heap);

#endif
