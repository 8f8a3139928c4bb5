/*
 * Atomics by the name of their order, and the page on the memory model.
 *
 * Rules of this project:
 *  1. Shared words are declared _Atomic and touched through these wrappers only. The name at the
 *     call says the order; the comment at the call says what is published and which load or store
 *     it pairs with.
 *  2. relaxed: the word carries no other data (counters, hints, marks of a class map that a
 *     pointer's own hand-over already orders). acquire/release: the word publishes other memory.
 *     seq_cst: no access. Where two threads each write a word and then read the other's (the deque
 *     of txn/, os/park), fence_seq_cst stands between: one of them sees what the other wrote. It
 *     publishes nothing.
 *  3. A counter has one writer. counter_add is a relaxed load and store, no locked instruction;
 *     readers merge what all writers hold and may see a count a moment old, never a torn one.
 *  4. Compare-and-swap takes the expected value by address, as C11 does, and is the weak form:
 *     callers loop. Where one attempt is the answer, cas_strong_*.
 *
 * There is no race that is called benign: ThreadSanitizer runs without a suppression file.
 */
#ifndef ASH_ATOMIC_H
#define ASH_ATOMIC_H

#include "base/base.h"

#include <stdatomic.h>

#define load_relaxed(p)     atomic_load_explicit((p), memory_order_relaxed)
#define load_acquire(p)     atomic_load_explicit((p), memory_order_acquire)
#define store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)

#define exchange_acq_rel(p, v) atomic_exchange_explicit((p), (v), memory_order_acq_rel)
#define exchange_acquire(p, v) atomic_exchange_explicit((p), (v), memory_order_acquire)
#define exchange_release(p, v) atomic_exchange_explicit((p), (v), memory_order_release)

#define cas_relaxed(p, expected, v)                                                                \
    atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_relaxed,              \
                                          memory_order_relaxed)
#define cas_acquire(p, expected, v)                                                                \
    atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_acquire,              \
                                          memory_order_relaxed)
#define cas_release(p, expected, v)                                                                \
    atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_release,              \
                                          memory_order_relaxed)
#define cas_acq_rel(p, expected, v)                                                                \
    atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_acq_rel,              \
                                          memory_order_acquire)

#define cas_strong_relaxed(p, expected, v)                                                         \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_relaxed,            \
                                            memory_order_relaxed)
#define cas_strong_acquire(p, expected, v)                                                         \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_acquire,            \
                                            memory_order_relaxed)
#define cas_strong_release(p, expected, v)                                                         \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_release,            \
                                            memory_order_relaxed)
#define cas_strong_acq_rel(p, expected, v)                                                         \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_acq_rel,            \
                                            memory_order_acquire)

#define add_relaxed(p, v) atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define add_release(p, v) atomic_fetch_add_explicit((p), (v), memory_order_release)
#define sub_relaxed(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_relaxed)
#define sub_acq_rel(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_acq_rel)
#define or_relaxed(p, v)  atomic_fetch_or_explicit((p), (v), memory_order_relaxed)
#define or_release(p, v)  atomic_fetch_or_explicit((p), (v), memory_order_release)
#define or_acq_rel(p, v)  atomic_fetch_or_explicit((p), (v), memory_order_acq_rel)
#define and_relaxed(p, v) atomic_fetch_and_explicit((p), (v), memory_order_relaxed)
#define and_acquire(p, v) atomic_fetch_and_explicit((p), (v), memory_order_acquire)

/*
 * Of two threads, each with the fence between a store and a load of the word that the other stores
 * to, one at least reads what the other stored. (gcc warns that the thread sanitizer draws no
 * conclusions from a fence: none are to be drawn.)
 */
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif
#define fence_seq_cst() atomic_thread_fence(memory_order_seq_cst)

/*
 * A child that another thread forks has all of this thread's stores before some instruction, and
 * none behind it: the machine sees to that, here the compiler does.
 */
#define fence_fork() atomic_signal_fence(memory_order_seq_cst)

/* The same for a thread that a signal's handler takes out of here by siglongjmp. */
#define fence_left() atomic_signal_fence(memory_order_seq_cst)

/* Words of structs in public headers, whose types say nothing of it: relaxed. */
#define load_plain(p)     __atomic_load_n((p), __ATOMIC_RELAXED)
#define store_plain(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)

/* Single-writer counter: see rule 3. */
ASH_INLINE void counter_add(_Atomic(uint64_t) *c, uint64_t n)
{
    store_relaxed(c, load_relaxed(c) + n);
}

/* Raises `*p` to at least `v`; for high-water marks that several threads write. */
ASH_INLINE void atomic_max(_Atomic(uint64_t) *p, uint64_t v)
{
    uint64_t seen = load_relaxed(p);
    while (seen < v && !cas_relaxed(p, &seen, v))
        ;
}

#endif
