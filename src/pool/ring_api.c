/*
 * The public functions of rings: memory for them, and what they show.
 */
#include "base/bits.h"
#include "base/fmt.h"
#include "heap/front.h"
#include "os/os_file.h"
#include "pool/ring.h"

#include <errno.h>
#include <inttypes.h>

enum { CAPACITY_MAX = 1 << 30 };

ASH_API struct ash_ring *ash_ring_create(unsigned capacity, enum ash_ring_kind kind)
{
    if (capacity == 0 || capacity > CAPACITY_MAX || (unsigned)kind > ASH_MPMC) {
        errno = EINVAL;
        return NULL;
    }
    unsigned shift = capacity == 1 ? 0 : bits_highest(capacity - 1) + 1;
    struct ash_ring *r = front_aligned(_Alignof(struct ash_ring), sizeof *r);
    void *memory = r == NULL ? NULL : front_calloc(1, ring_bytes(shift, kind));
    if (memory == NULL) {
        front_free(r);
        return NULL;
    }
    ring_init(r, shift, kind, memory);
    return r;
}

ASH_API int ash_ring_destroy(struct ash_ring *r)
{
    if (r == NULL)
        return 0;
    if (load_relaxed(&r->waiters) != 0)
        return -EBUSY;
    front_free(r->cells);
    front_free(r->items);
    front_free(r);
    return 0;
}

ASH_API unsigned ash_ring_push(struct ash_ring *r, void *const *items, unsigned n)
{
    return ring_push(r, items, n);
}

ASH_API unsigned ash_ring_pop(struct ash_ring *r, void **items, unsigned n)
{
    return ring_pop(r, items, n);
}

ASH_API int ash_ring_wait(struct ash_ring *r, int64_t timeout_ns)
{
    return ring_wait(r, timeout_ns);
}

ASH_API int ash_ring_ready(const struct ash_ring *r)
{
    return ring_ready(r);
}

ASH_API void ash_ring_close(struct ash_ring *r)
{
    ring_close(r);
}

ASH_API unsigned ash_ring_recover(struct ash_ring *r)
{
    return ring_recover(r);
}

ASH_API unsigned ash_ring_capacity(const struct ash_ring *r)
{
    return (unsigned)r->mask + 1;
}

ASH_API int ash_ring_stats(const struct ash_ring *r, struct ash_ring_stats *out)
{
    if (r == NULL || out == NULL)
        return -EINVAL;
    uint64_t head = load_relaxed(&r->head), tail = load_relaxed(&r->tail) & ~RING_CLOSED;
    tail = tail > head ? tail : head; /* they were read a moment apart */
    *out = (struct ash_ring_stats){.capacity = r->mask + 1,
                                   .count = size_min(tail - head, r->mask + 1),
                                   .pushed = tail,
                                   .popped = head,
                                   .full = load_relaxed(&r->full),
                                   .sleeps = load_relaxed(&r->sleeps),
                                   .wakes = load_relaxed(&r->wakes)};
    return 0;
}

ASH_API unsigned ash_ring_count(const struct ash_ring *r)
{
    struct ash_ring_stats s;
    ash_ring_stats(r, &s);
    return (unsigned)s.count;
}

ASH_API int ash_ring_dump(const struct ash_ring *r, int fd)
{
    static const char kinds[][5] = {[ASH_SPSC] = "SPSC", [ASH_MPSC] = "MPSC", [ASH_MPMC] = "MPMC"};
    struct ash_ring_stats s;
    char line[256];
    if (ash_ring_stats(r, &s) != 0)
        return -EINVAL;
    size_t n =
        fmt_text(line, sizeof line,
                 "ring %p: %s, %" PRIu64 " of %" PRIu64 " items%s; pushed %" PRIu64
                 ", popped %" PRIu64 ", full %" PRIu64 ", sleeps %" PRIu64 ", wakes %" PRIu64 "\n",
                 (const void *)r, kinds[r->kind], s.count, s.capacity,
                 (load_relaxed(&r->tail) & RING_CLOSED) != 0 ? ", closed" : "", s.pushed, s.popped,
                 s.full, s.sleeps, s.wakes);
    return os_write_all(fd, line, n);
}
