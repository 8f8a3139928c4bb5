/*
 * ashlar/ring.h: bounded queues of pointers between threads.
 *
 *     struct ash_ring *ring = ash_ring_create(1024, ASH_MPMC);
 *
 *     producers:  while (ash_ring_push(ring, &item, 1) == 0)
 *                     ... full: drop it, do something else, or yield ...
 *
 *     consumers:  while (ash_ring_wait(ring, -1) == 0) {
 *                     unsigned n = ash_ring_pop(ring, items, 32);
 *                     ...
 *                 }
 *
 * Items are any pointers, NULL among them; the ring neither follows nor frees them. They come out
 * in the order in which they were taken in, and what a producer wrote before it pushed an item is
 * seen by who pops it. A full ring and an empty one are ordinary answers, not errors.
 *
 * Threads: as the kind says. One producer and one consumer at a time of ASH_SPSC, any number of
 * producers and one consumer of ASH_MPSC, any number of both of ASH_MPMC. ash_ring_wait belongs to
 * consumers; ash_ring_close, _ready, _count, _capacity, _stats and _dump may be called by anybody
 * at any time.
 *
 * Progress: no call but ash_ring_wait ever waits. Push and pop retry only when another thread has
 * taken the places they were about to take, so of those that retry one is always done. Of ASH_MPSC
 * and ASH_MPMC, a producer that is stopped in the middle of a push hides its items and those behind
 * them from consumers, who find the ring empty there, until it goes on; a consumer stopped in the
 * middle of a pop keeps producers out of the places that it pops, which they reach one round later
 * and find full. Nobody spins for it meanwhile. Of ASH_SPSC neither happens.
 *
 * Cost: ASH_SPSC less than a nanosecond an item in batches of 64; every push has one locked
 * instruction (two for the other kinds), however many items it takes, and no system call unless a
 * consumer sleeps.
 *
 * Memory: 16 bytes an item, 8 for ASH_SPSC; pages of a large ring are touched when they are reached
 * for the first time.
 *
 * After the bounded queue of D. Vyukov (1024cores.net, 2010), with turns instead of sequence
 * numbers and with batches.
 *
 * Caveats
 *   ash_ring_pop may return 0 after ash_ring_wait returned 0: another consumer was faster. A thread
 *   that was told of items is expected to pop: the sleepers behind it count on it. The consumer of
 *   an ASH_SPSC ring and its producer may change over time, if the hand-over synchronises. Rings
 *   serve the threads of one process. A forked child has its own copy of each ring: of ASH_SPSC it
 *   is whole; of the others the parent's threads may have been in the middle of a call, and the
 *   child calls ash_ring_recover before it uses them.
 */
#ifndef ASHLAR_RING_H
#define ASHLAR_RING_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_ring;

/* Who pushes and who pops: one thread at a time (S) or many (M) producers and consumers. */
enum ash_ring_kind { ASH_SPSC, ASH_MPSC, ASH_MPMC };

struct ash_ring_stats {
    uint64_t capacity; /* items that fit */
    uint64_t count;    /* items in it */
    uint64_t pushed;   /* items that came in so far */
    uint64_t popped;   /* and went out */
    uint64_t full;     /* pushes that took less than they were given, closed rings not counted */
    uint64_t sleeps;   /* times that a consumer went to sleep in ash_ring_wait */
    uint64_t wakes;    /* system calls made to wake some */
};

/*
 * A ring for `capacity` items, rounded up to a power of two. NULL and EINVAL when `capacity` is 0
 * or above 2^30 or the kind is none of the three; NULL and ENOMEM.
 */
struct ash_ring *ash_ring_create(unsigned capacity, enum ash_ring_kind kind);

/*
 * Gives the ring's memory back, and forgets what is in it. 0, or -EBUSY while a thread is in
 * ash_ring_wait: close it first. No other thread uses the ring any more. NULL is fine.
 */
int ash_ring_destroy(struct ash_ring *ring);

/*
 * Takes the first of `n` items into the ring, as many as there is room for at once: returns how
 * many, 0 to `n`. 0 for a ring that is closed. Items of one call come out one behind the other.
 */
unsigned ash_ring_push(struct ash_ring *ring, void *const *items, unsigned n);

/* Moves up to `n` items from the ring to `items`: returns how many, 0 to `n`. */
unsigned ash_ring_pop(struct ash_ring *ring, void **items, unsigned n);

/*
 * Waits until there is an item to pop, for `timeout_ns` nanoseconds at most: negative for ever, 0
 * not at all. Returns 0, -ETIMEDOUT, or -ECANCELED when the ring is closed and all its items have
 * been popped. Signals do not end the wait. Cost: some loads when there is an item, else a system
 * call to sleep.
 */
int ash_ring_wait(struct ash_ring *ring, int64_t timeout_ns);

/*
 * Lets nothing in any more. What is in the ring can still be popped; then consumers that wait are
 * told. A push at the same time is either whole in the ring before it, or returns 0. Closing twice
 * is closing once; a closed ring stays closed.
 */
void ash_ring_close(struct ash_ring *ring);

/*
 * Whether there is an item to pop: 1 or 0. Any thread may ask; the answer is a moment old. Cost:
 * two or three loads of words that consumers read anyway, none of them the position of producers.
 */
int ash_ring_ready(const struct ash_ring *ring);

/* Items in the ring: exact at rest, else a moment old; with the items of pushes under way. */
unsigned ash_ring_count(const struct ash_ring *ring);

/* Items that fit. */
unsigned ash_ring_capacity(const struct ash_ring *ring);

/*
 * Mends a ring in a forked child, or after a thread was killed inside a call: forgets the calls
 * under way and who waits, and keeps every item that is whole, in order. Returns how many places
 * had to be mended. Nobody else uses the ring meanwhile. Cost: a look at each place.
 */
unsigned ash_ring_recover(struct ash_ring *ring);

/* 0, or -EINVAL when one of the two is NULL. */
int ash_ring_stats(const struct ash_ring *ring, struct ash_ring_stats *out);

/* Writes the statistics to the descriptor as one line of text: 0, or the negative errno. */
int ash_ring_dump(const struct ash_ring *ring, int fd);

#ifdef __cplusplus
}
#endif

#endif
