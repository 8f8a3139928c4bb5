#include "mem/purge.h"

#include "base/anchor.h"
#include "base/annotate.h"
#include "base/bits.h"
#include "info/options.h"
#include "mem/chunk.h"
#include "os/os_clock.h"
#include "os/os_mem.h"

enum { PURGE_SLACK = 32 }; /* units given back beyond what a bound asks for */

static _Atomic(int64_t) dirty_units; /* a moment negative while a give is under way */
static _Atomic(uint64_t) purged_units, purge_count, purge_time;
static _Atomic(uint64_t) due; /* ms: when the next pass is to be made, 0 = never looked */

void purge_dirty_add(int64_t units)
{
    add_relaxed(&dirty_units, units);
}

uint64_t purge_dirty(void)
{
    int64_t units = load_relaxed(&dirty_units);
    return units > 0 ? (uint64_t)units : 0;
}

void purge_totals_get(struct purge_totals *out)
{
    ANCHOR("dirty", dirty_units);
    ANCHOR("purged", purged_units);
    ANCHOR("purges", purge_count);
    ANCHOR("purge_time", purge_time);
    out->dirty = purge_dirty() << UNIT_SHIFT;
    out->purged = load_relaxed(&purged_units) << UNIT_SHIFT;
    out->purges = load_relaxed(&purge_count);
    out->purge_ns = load_relaxed(&purge_time);
}

/* Gives back the memory of the claimed units `mask` of a chunk; the bits that the kernel took. */
static uint64_t pages_purge(size_t chunk, uint64_t mask)
{
    uint64_t done = 0;
    while (mask != 0) {
        unsigned at = bits_lowest(mask);
        uint64_t rest = mask >> at;
        unsigned n = ~rest == 0 ? CHUNK_UNITS : bits_lowest(~rest);
        uint64_t part = bits_mask(at, n);
        void *pages = unit_address(chunk * CHUNK_UNITS + at);
        if (os_purge(pages, (size_t)n << UNIT_SHIFT) == 0) {
            annotate_whole(pages, (size_t)n << UNIT_SHIFT); /* zero, which memcheck cannot know */
            done |= part;
        }
        mask &= ~part;
    }
    return done;
}

/* Claims the free units of `old`, gives back their memory and frees them again: how many were. */
static size_t units_purge(size_t chunk, uint64_t old)
{
    struct chunk *c = &chunks[chunk];
    uint64_t seen = load_relaxed(&c->free);
    while ((old &= seen) != 0 && !cas_acquire(&c->free, &seen, seen & ~old))
        ; /* pairs with the release of whoever freed the units */
    if (old == 0)
        return 0;
    uint64_t done = pages_purge(chunk, old & load_relaxed(&c->dirty));
    and_relaxed(&c->dirty, ~done);
    and_relaxed(&c->aged, ~old);
    purge_dirty_add(-(int64_t)bits_count(done));
    or_release(&c->free, old); /* pairs with claims: purged and marked so */
    return bits_count(done);
}

/* The free units of a chunk whose memory is still there. */
ASH_INLINE uint64_t bits_idle(size_t chunk)
{
    return load_relaxed(&chunks[chunk].free) & load_relaxed(&chunks[chunk].dirty);
}

static size_t purge_account(size_t units, uint64_t began)
{
    if (units != 0) {
        add_relaxed(&purged_units, units);
        add_relaxed(&purge_count, 1);
        add_relaxed(&purge_time, os_clock_ns() - began);
    }
    return units << UNIT_SHIFT;
}

size_t purge_pass(bool all)
{
    size_t given = 0;
    uint64_t began = os_clock_ns();
    for (size_t c = 0, end = chunk_count(); c < end; c++) {
        uint64_t idle = bits_idle(c);
        uint64_t old = all ? idle : idle & load_relaxed(&chunks[c].aged);
        if (old != 0)
            given += units_purge(c, old);
        if ((idle & ~old) != 0)
            or_relaxed(&chunks[c].aged, idle & ~old);
    }
    return purge_account(given, began);
}

void purge_far(size_t units)
{
    size_t given = 0;
    uint64_t began = os_clock_ns();
    for (size_t c = chunk_count(); c-- > 0 && given < units + PURGE_SLACK;) {
        uint64_t idle = bits_idle(c);
        if (idle != 0)
            given += units_purge(c, idle);
    }
    purge_account(given, began);
}

bool purge_tick(void)
{
    uint64_t now = os_clock_ms();
    uint64_t at = load_relaxed(&due);
    if (now < at || !cas_relaxed(&due, &at, now + options.purge_ms / 2 + 1) || at == 0)
        return false;
    purge_pass(options.purge_ms == 0);
    return true;
}
