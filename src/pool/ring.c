#include "pool/ring.h"

#include "base/bits.h"
#include "os/os_clock.h"
#include "os/os_wait.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

enum { FREE, FULL };    /* what a turn adds to twice the round */
enum { COPY_CALL = 8 }; /* items from which on memcpy is faster */

size_t ring_bytes(unsigned shift, enum ash_ring_kind kind)
{
    return (kind == ASH_SPSC ? sizeof(void *) : sizeof(struct ring_cell)) << shift;
}

void ring_init(struct ash_ring *r, unsigned shift, enum ash_ring_kind kind, void *memory)
{
    memset(r, 0, sizeof *r);
    r->kind = kind;
    r->shift = shift;
    r->mask = ((uint64_t)1 << shift) - 1;
    if (kind == ASH_SPSC)
        r->items = memory;
    else
        r->cells = memory;
}

/* Wakes `n` sleepers, all of a closed ring. */
static ASH_COLD void ring_wake(struct ash_ring *r, unsigned n)
{
    add_release(&r->event, 1); /* CLOSED; pairs with ring_wait_slow */
    add_relaxed(&r->wakes, 1);
    os_wake(&r->event, (load_relaxed(&r->tail) & RING_CLOSED) != 0 ? UINT_MAX : n);
}

/* The last act of a push: see rule 7. */
ASH_INLINE void ring_tell(struct ash_ring *r, unsigned n)
{
    if (ASH_UNLIKELY(load_relaxed(&r->waiters) != 0))
        ring_wake(r, n);
}

static ASH_COLD unsigned push_refused(struct ash_ring *r, unsigned taken)
{
    add_relaxed(&r->full, 1);
    return taken;
}

/* ---- one producer, one consumer ---- */

/* A call of memcpy costs more than the few items of a small batch. */
ASH_INLINE void copy(void **to, void *const *from, size_t n)
{
    if (n >= COPY_CALL)
        memcpy(to, from, n * sizeof *to);
    else
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
}

static unsigned spsc_push(struct ash_ring *r, void *const *items, unsigned n)
{
    uint64_t tail = load_relaxed(&r->tail);
    if (ASH_UNLIKELY((tail & RING_CLOSED) != 0))
        return 0;
    uint64_t capacity = r->mask + 1, room = capacity - (tail - r->head_seen);
    if (room < n) {
        r->head_seen = load_acquire(&r->head); /* the items are read; pairs with spsc_pop */
        room = capacity - (tail - r->head_seen);
    }
    size_t k = size_min(n, room), at = tail & r->mask;
    size_t first = size_min(k, capacity - at); /* up to the end of the memory */
    copy(r->items + at, items, first);
    if (ASH_UNLIKELY(first != k))
        copy(r->items, items + first, k - first);
    if (ASH_LIKELY(k != 0)) {
        /* release: the items, to spsc_pop; acquire: waiters, from ring_look */
        if (ASH_UNLIKELY(!cas_strong_acq_rel(&r->tail, &tail, tail + k)))
            return 0;
        ring_tell(r, (unsigned)k);
    }
    return ASH_LIKELY(k == n) ? n : push_refused(r, (unsigned)k);
}

static unsigned spsc_pop(struct ash_ring *r, void **items, unsigned n)
{
    uint64_t head = load_relaxed(&r->head);
    if (r->tail_seen - head < n)
        r->tail_seen = load_acquire(&r->tail) & ~RING_CLOSED; /* pairs with spsc_push */
    size_t k = size_min(n, r->tail_seen - head), at = head & r->mask;
    size_t first = size_min(k, r->mask + 1 - at);
    copy(items, r->items + at, first);
    if (ASH_UNLIKELY(first != k))
        copy(items + first, r->items, k - first);
    if (k != 0)
        store_release(&r->head, head + k); /* the items are read; pairs with spsc_push */
    return (unsigned)k;
}

/* ---- many producers, one consumer or many ---- */

ASH_INLINE struct ring_cell *cell_of(const struct ash_ring *r, uint64_t at)
{
    return &r->cells[at & r->mask];
}

ASH_INLINE uint64_t turn_of(const struct ash_ring *r, uint64_t at, unsigned state)
{
    return (at >> r->shift) * 2 + state;
}

/* How many cells from `at` on, up to `n`, are in that state for their positions. */
ASH_INLINE unsigned cells_ready(const struct ash_ring *r, uint64_t at, unsigned n, unsigned state)
{
    unsigned k = 0;
    /* The item, or that it was read; pairs with push_publish and mp_pop. */
    while (k < n && load_acquire(&cell_of(r, at + k)->turn) == turn_of(r, at + k, state))
        k++;
    return k;
}

/* Turns the cells of a push full: see rules 4 and 7. */
ASH_INLINE void push_publish(struct ash_ring *r, uint64_t at, unsigned k)
{
    for (unsigned i = k - 1; i != 0; i--) /* the item, to cells_ready */
        store_release(&cell_of(r, at + i)->turn, turn_of(r, at + i, FULL));
    /* release: the item, likewise, and the other cells; acquire: waiters, from ring_look */
    exchange_acq_rel(&cell_of(r, at)->turn, turn_of(r, at, FULL));
}

static unsigned mp_push(struct ash_ring *r, void *const *items, unsigned n)
{
    uint64_t tail = load_relaxed(&r->tail);
    unsigned k;
    do {
        if (ASH_UNLIKELY((tail & RING_CLOSED) != 0))
            return 0;
        k = cells_ready(r, tail, n, FREE);
        if (ASH_UNLIKELY(k == 0)) {
            uint64_t seen = tail;
            tail = load_relaxed(&r->tail);
            if (tail == seen)
                return push_refused(r, 0);
        }
    } while (k == 0 || !cas_relaxed(&r->tail, &tail, tail + k)); /* the cells publish, not tail */

    for (unsigned i = 0; i < k; i++)
        cell_of(r, tail + i)->item = items[i];
    push_publish(r, tail, k);
    ring_tell(r, k);
    return ASH_LIKELY(k == n) ? n : push_refused(r, k);
}

/* Claims full cells from *at on; 0: empty. */
ASH_INLINE unsigned pop_claim(struct ash_ring *r, uint64_t *at, unsigned n)
{
    uint64_t head = load_relaxed(&r->head);
    for (;;) {
        unsigned k = cells_ready(r, head, n, FULL);
        *at = head;
        if (k == 0) {
            head = load_relaxed(&r->head);
            if (head == *at)
                return 0;
        } else if (r->kind == ASH_MPSC) {
            store_relaxed(&r->head, head + k); /* nobody else claims by it */
            return k;
        } else if (cas_release(&r->head, &head, head + k)) { /* to ring_look */
            return k;
        }
    }
}

static unsigned mp_pop(struct ash_ring *r, void **items, unsigned n)
{
    uint64_t at;
    unsigned k = pop_claim(r, &at, n);
    for (unsigned i = 0; i < k; i++) {
        struct ring_cell *c = cell_of(r, at + i);
        items[i] = c->item;
        store_release(&c->turn, turn_of(r, at + i, FREE) + 2); /* it is read; to cells_ready */
    }
    return k;
}

unsigned ring_push(struct ash_ring *r, void *const *items, unsigned n)
{
    if (n == 0)
        return 0;
    return r->kind == ASH_SPSC ? spsc_push(r, items, n) : mp_push(r, items, n);
}

unsigned ring_pop(struct ash_ring *r, void **items, unsigned n)
{
    if (n == 0)
        return 0;
    return r->kind == ASH_SPSC ? spsc_pop(r, items, n) : mp_pop(r, items, n);
}

/* ---- waiting ---- */

/*
 * The look of rules 6 and 8 at the position `ahead` of `head`: 0, -EAGAIN, or -ECANCELED.
 *
 * The read-modify-write releases what this thread did before (it is counted), to the push that
 * comes next.
 */
static int ring_look(struct ash_ring *r, unsigned ahead)
{
    uint64_t head, tail, turn;
    if (r->kind == ASH_SPSC) {
        head = load_relaxed(&r->head); /* the caller's own */
        tail = or_release(&r->tail, 0);
        if ((tail & ~RING_CLOSED) != head)
            return 0;
    } else {
        do { /* again if `head` was stale */
            /* what is published there; pairs with pop_claim */
            head = load_acquire(&r->head) + ahead;
            turn = or_acq_rel(&cell_of(r, head)->turn, 0); /* acquire: the newer head */
        } while (turn > turn_of(r, head, FULL));
        if (turn == turn_of(r, head, FULL))
            return 0;
        tail = load_relaxed(&r->tail);
    }
    return tail == (head | RING_CLOSED) ? -ECANCELED : -EAGAIN;
}

int ring_wait_slow(struct ash_ring *r, int64_t timeout_ns)
{
    int64_t until = os_until(timeout_ns), left = -1;
    bool slept = false;
    int status = -EAGAIN;
    add_relaxed(&r->waiters, 1);
    while (status == -EAGAIN) {
        uint32_t event = load_acquire(&r->event); /* CLOSED; pairs with ring_wake */
        status = ring_look(r, 0);
        if (status == -EAGAIN && (left = os_left(until)) == 0)
            status = -ETIMEDOUT;
        if (status == -EAGAIN) {
            slept = true;
            add_relaxed(&r->sleeps, 1);
            os_wait(&r->event, event, left);
        }
    }
    sub_relaxed(&r->waiters, 1);
    if (r->kind == ASH_MPMC && slept && status == 0 && load_relaxed(&r->waiters) != 0 &&
        ring_look(r, 1) == 0)
        ring_wake(r, 1);
    return status;
}

bool ring_ready(const struct ash_ring *r)
{
    uint64_t head = load_relaxed(&r->head);
    return r->kind == ASH_SPSC ? (load_relaxed(&r->tail) & ~RING_CLOSED) != head
                               : cells_ready(r, head, 1, FULL) != 0;
}

int ring_wait(struct ash_ring *r, int64_t timeout_ns)
{
    return ring_ready(r) ? 0 : ring_wait_slow(r, timeout_ns);
}

void ring_close(struct ash_ring *r)
{
    or_relaxed(&r->tail, RING_CLOSED);
    ring_wake(r, UINT_MAX);
}

/* ---- mending ---- */

/* Of each position between `head` and `tail` that has its item, the item moves down. */
unsigned ring_recover(struct ash_ring *r)
{
    uint64_t head = load_relaxed(&r->head), closed = load_relaxed(&r->tail) & RING_CLOSED;
    uint64_t tail = load_relaxed(&r->tail) & ~RING_CLOSED, to = head;
    unsigned mended = 0;
    store_relaxed(&r->waiters, 0);
    if (r->kind == ASH_SPSC)
        return 0;
    for (uint64_t from = head; from != tail; from++) {
        if (load_relaxed(&cell_of(r, from)->turn) == turn_of(r, from, FULL))
            cell_of(r, to++)->item = cell_of(r, from)->item;
        else
            mended++;
    }
    for (uint64_t at = head; at != head + r->mask + 1; at++) {
        uint64_t turn = turn_of(r, at, at < to ? FULL : FREE);
        mended += at >= tail && load_relaxed(&cell_of(r, at)->turn) != turn;
        store_relaxed(&cell_of(r, at)->turn, turn);
    }
    store_relaxed(&r->tail, to | closed);
    return mended;
}
