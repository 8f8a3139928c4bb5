/*
 * The call stack of the calling thread, without libgcc: which may not be loaded, costs 0.5 us a
 * call on the stack, and is libgcc's to lock.
 *
 * Where the caller of a function was, is told by the tables that every library carries for
 * exceptions (.eh_frame): where the frame's base is (register and offset) and at which offsets from
 * it the return address and the frame pointer were saved. What a table says of a return address is
 * remembered in a cache, so that a known call costs some ten instructions. Tables are read as far
 * as compilers need them: a base from the stack or frame pointer or from a word there; frames of
 * signal handlers are known by their mark. Code without tables is followed by its frame pointer.
 *
 * Nothing is trusted: a word is read only in a page that the kernel was asked about in this walk,
 * and each frame lies above the one before. A stack that is damaged, or is none, ends early.
 *
 * Any thread, also in a signal handler: no lock, no allocation. A library that is closed and
 * another that is loaded in its place may be taken for each other.
 */
#ifndef ASH_UNWIND_H
#define ASH_UNWIND_H

#include "base/base.h"

struct unwind_range {
    uintptr_t from, to;
};

/*
 * The return addresses of at most `max` calls, innermost first; how many. Those in one of the
 * `skips` ranges that the stack begins with are left out.
 */
unsigned unwind(uintptr_t *out, unsigned max, const struct unwind_range *skip, unsigned skips);

#endif
