/*
 * Waiting for a word to change: Linux's futex, private to the process. Nothing of malloc's family
 * reaches this; blocking calls of the layers above do (rings, pools with a timeout).
 *
 * The usual shape is: read the word, find that there is nothing to do, os_wait(word, what was
 * read). The kernel compares again under its own lock, so a change between the two is not missed;
 * whoever changes the word calls os_wake afterwards.
 */
#ifndef ASH_OS_WAIT_H
#define ASH_OS_WAIT_H

#include "base/atomic.h"

/*
 * Sleeps while `*word` is `expected`, at most `timeout_ns` nanoseconds (negative: for ever). 0 when
 * woken or the word has another value, which callers must tell apart by looking again; -ETIMEDOUT;
 * -EINTR after a signal's handler.
 */
int os_wait(_Atomic(uint32_t) *word, uint32_t expected, int64_t timeout_ns);

/* Wakes up to `n` of those who wait on the word. */
void os_wake(_Atomic(uint32_t) *word, unsigned n);

#endif
