/*
 * Bounded queues between threads: the protocol, on a ring that somebody else has memory for.
 *
 * Positions count all items ever pushed and popped: `tail` is the next to be pushed, `head` the
 * next to be popped, 0 <= tail - head <= capacity. Position p lives in cell p & mask; a round is
 * once through all cells, p >> shift. Bit 63 of `tail` is CLOSED.
 *
 * ASH_SPSC
 *  1. The producer writes items behind `tail` and moves it with one compare-and-swap, which fails
 *     only when the ring was closed meanwhile: then nothing was pushed.
 *  2. The consumer reads items behind `head` and moves it with a store. Each side keeps the other's
 *     position as it saw it last, and looks again only when that is not enough.
 *  At any instant a copy of the ring (fork) is one in which the call under way did not happen.
 *
 * ASH_MPSC, ASH_MPMC: each cell has a turn,
 *      2 * round       free, for the push of that round
 *      2 * round + 1   full, for the pop of that round
 *  so zeroed memory is an empty ring.
 *  3. A push counts the free cells from `tail` on and claims them with one compare-and-swap of
 *     `tail`. If it succeeds they are free still: nobody else can have taken those positions.
 *  4. It writes the items and then turns the cells full from the last to the first.
 *  5. A pop does the same with `head` and full cells, reads, and turns them free for the next
 *     round. The one consumer of ASH_MPSC moves `head` with a store.
 *  A cell that is not as wanted means full or empty, unless its turn is ahead: then the position
 *  was a stale one. The turn was acquired after the position had been moved, so reading the
 *  position again gives a newer one.
 *
 * Nobody waits for another's step 4 or 5, as the queues do that move a second pair of positions in
 * order (rte_ring): a thread preempted there would stop all others, and with more threads than
 * processors it is, for milliseconds. Its head and tail synchronisation modes (RTS, HTS) shorten
 * the wait and keep it.
 *
 * Waiting, without a fence and with a system call only where somebody sleeps:
 *  6. A consumer counts itself in `waiters`, reads `event`, looks at the word that will tell of the
 *     next item, and sleeps if `event` is as it was. The word is `tail` (SPSC) or the turn of
 *     the cell at `head`; the look is a read-modify-write that changes nothing.
 *  7. A push tells of its items by a read-modify-write of that word; then it reads `waiters`, and
 *     if there are any changes `event` and wakes as many as it has items.
 *  Both are of one word, so one comes first. If it is the look, the push has acquired all before
 *  it: it sees the waiter counted, and its change of `event` comes after the reading of it.
 *  If it is the push, the look sees the item. Step 4 ends with the first cell of a batch
 *  because that is the only one at which `head` can stand until then. Who finds `head` at one
 *  of the others acquires, by way of the pop that moved it, that the batch is published.
 *  8. A consumer that slept and found an item looks, in the same way, at the position behind it,
 *     and wakes another if that is full: the push that filled it may have told sleepers while an
 *     earlier one was still under way, which then woke for its own items alone.
 *  9. Closing sets CLOSED, changes `event`, wakes all. A push that wakes on a closed ring wakes all
 *     too: its items may be the last.
 */
#ifndef ASH_RING_H
#define ASH_RING_H

#include "ashlar/ring.h"
#include "base/atomic.h"

/* Of ASH_MPSC and ASH_MPMC; ASH_SPSC has the items alone. */
struct ring_cell {
    _Atomic(uint64_t) turn; /* atomic: see above; publishes the item, and its having been read */
    void *item;             /* who has claimed the position */
};

struct ash_ring {
    enum ash_ring_kind kind; /* const */
    unsigned shift;          /* const: log2 of the capacity */
    uint64_t mask;           /* const: capacity - 1 */
    struct ring_cell *cells; /* const; NULL for ASH_SPSC */
    void **items;            /* const; NULL for the others */

    ASH_LINE_ALIGNED _Atomic(uint64_t) tail; /* atomic: position | CLOSED */
    uint64_t head_seen;                      /* producer of ASH_SPSC: `head` was here at least */

    ASH_LINE_ALIGNED _Atomic(uint64_t) head; /* atomic: position */
    uint64_t tail_seen;                      /* consumer of ASH_SPSC: likewise */

    /* Read by every push, written only where somebody sleeps. */
    ASH_LINE_ALIGNED _Atomic(uint32_t) waiters; /* atomic: consumers in ring_wait that may sleep */
    _Atomic(uint32_t) event;                    /* atomic: changes before sleepers are woken */
    _Atomic(uint64_t) sleeps, wakes;            /* atomic: counters, several writers */

    ASH_LINE_ALIGNED _Atomic(uint64_t) full; /* atomic: counter, several writers */
};

#define RING_CLOSED ((uint64_t)1 << 63)

/* Bytes for the cells or items of a ring, which `ring_init` takes zeroed. */
size_t ring_bytes(unsigned shift, enum ash_ring_kind kind);
void ring_init(struct ash_ring *r, unsigned shift, enum ash_ring_kind kind, void *memory);

/* As the public functions of those names. */
unsigned ring_push(struct ash_ring *r, void *const *items, unsigned n);
unsigned ring_pop(struct ash_ring *r, void **items, unsigned n);
int ring_wait(struct ash_ring *r, int64_t timeout_ns);
bool ring_ready(const struct ash_ring *r);

/* The same without a first look that costs nothing. */
int ring_wait_slow(struct ash_ring *r, int64_t timeout_ns);

void ring_close(struct ash_ring *r);
unsigned ring_recover(struct ash_ring *r);

#endif
