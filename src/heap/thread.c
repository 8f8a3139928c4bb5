/*
 * The exit key's destructor is the only notice of a thread's end that works in every libc.
 * pthread_setspecific may itself allocate (glibc, from the 33rd key on): it is called when the heap
 * is in place already.
 *
 * Threads that vanish without running destructors (in a forked child, or made by clone) leave their
 * heap open for ever: its blocks stay usable and can be freed, the heap is not used again.
 */
#include "heap/thread.h"

#include "heap/bin.h"
#include "heap/hard.h"
#include "heap/slabs.h"
#include "mem/purge.h"
#include "os/check.h"

#include <pthread.h>

static pthread_key_t key;
static bool has_key;
static _Atomic(uint64_t) round_number;

enum { ENDERS = 8 };
static _Atomic(void (*)(void)) enders[ENDERS];

void thread_at_end(void (*fn)(void))
{
    for (unsigned i = 0; i < ENDERS; i++) {
        void (*seen)(void) = NULL;
        if (cas_strong_acq_rel(&enders[i], &seen, fn) || seen == fn) /* pairs with thread_end */
            return;
    }
    fatal("more than %d modules ask for the ends of threads", ENDERS);
}

/* Gives back all that the heap holds. */
static void heap_empty_out(struct heap *h)
{
    bin_drain(h);
    hard_flush(h);
    slabs_abandon(h);
    heap_close(h);
}

static void thread_end(void *heap)
{
    for (unsigned i = 0; i < ENDERS; i++) {
        void (*fn)(void) = load_acquire(&enders[i]); /* pairs with thread_at_end */
        if (fn != NULL)
            fn();
    }
    heap_tls = heap_hard = HEAP_ENDED;
    heap_empty_out(heap);
}

void thread_boot(void)
{
    if (!has_key)
        has_key = pthread_key_create(&key, thread_end) == 0;
}

struct heap *thread_enter(void)
{
    struct heap *h = heap_attached();
    if (ASH_LIKELY(heap_is_real(h)))
        return h;
    bool ended = h == HEAP_ENDED;
    h = heap_open();
    if (h != NULL && !ended) {
        *(options.harden ? &heap_hard : &heap_tls) = h;
        h->epoch = load_relaxed(&round_number); /* it holds nothing that could be idle */
        if (has_key)
            pthread_setspecific(key, h);
    }
    return h;
}

void thread_leave(struct heap *h)
{
    if (ASH_UNLIKELY(h != heap_attached()))
        heap_empty_out(h);
}

void thread_round(void)
{
    add_relaxed(&round_number, 1);
}

void thread_tick(struct heap *h)
{
    if (++h->events < EVENTS_PER_LOOK)
        return;
    h->events = 0;
    if (purge_tick()) {
        thread_round();
        slabs_reap(h);
    }
    uint64_t now = load_relaxed(&round_number);
    if (h->epoch != now) {
        h->epoch = now;
        bin_drain_idle(h);
        slabs_collect(h);
    }
}
