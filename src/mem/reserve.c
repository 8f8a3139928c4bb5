/*
 * See reserve.h for the rules.
 *
 * Hints (`low`) only shorten scans: a hint that is too high hides free units until a scan from the
 * bottom, which always comes before a chunk is mapped; one that is too low costs a few loads.
 */
#include "mem/reserve.h"

#include "base/anchor.h"
#include "base/bits.h"
#include "info/options.h"
#include "mem/chunk.h"
#include "mem/purge.h"

#include <errno.h>

static _Atomic(size_t) low;          /* hint: chunks below this have no free unit */
static _Atomic(uint64_t) used_units; /* in runs that are out */
static _Atomic(uint64_t) peak_units;
static _Atomic(uint64_t) limit_units;
static _Atomic(uint64_t) refusal_count;

int reserve_boot(void)
{
    store_relaxed(&limit_units, options.limit >> UNIT_SHIFT);
    return chunk_open_window();
}

/* ---- accounting ---- */

/* What may be resident: in use, or free and not purged. */
ASH_INLINE uint64_t resident_units(void)
{
    return load_relaxed(&used_units) + purge_dirty();
}

/* A request too large for the limit is never counted, so that it takes nobody else's room. */
static bool used_add_limited(size_t units, uint64_t limit)
{
    uint64_t used = load_relaxed(&used_units);
    do {
        if (used + units > limit)
            return false;
    } while (!cas_relaxed(&used_units, &used, used + units));
    if (resident_units() > limit)
        purge_pass(true);
    atomic_max(&peak_units, used + units);
    return true;
}

/*
 * Counts `units` as out, within the limit: free memory that is still resident counts against it as
 * well.
 */
static bool used_add(size_t units)
{
    uint64_t limit = load_relaxed(&limit_units);
    if (ASH_UNLIKELY(limit != 0))
        return used_add_limited(units, limit);
    atomic_max(&peak_units, add_relaxed(&used_units, units) + units);
    return true;
}

void reserve_refused(size_t units)
{
    uint64_t limit = load_relaxed(&limit_units);
    if (limit != 0 && load_relaxed(&used_units) + units > limit)
        add_relaxed(&refusal_count, 1);
}

int reserve_limit_set(size_t bytes)
{
    if (bytes != 0 && bytes < CHUNK_BYTES)
        return -EINVAL;
    store_relaxed(&limit_units, bytes >> UNIT_SHIFT);
    return 0;
}

void reserve_limit_get(size_t *limit, size_t *used)
{
    *limit = (size_t)load_relaxed(&limit_units) << UNIT_SHIFT;
    *used = (size_t)load_relaxed(&used_units) << UNIT_SHIFT;
}

void reserve_totals_get(struct reserve_totals *out)
{
    ANCHOR("used", used_units);
    ANCHOR("peak", peak_units);
    ANCHOR("limit", limit_units);
    ANCHOR("refusals", refusal_count);
    out->used = load_relaxed(&used_units) << UNIT_SHIFT;
    out->peak = load_relaxed(&peak_units) << UNIT_SHIFT;
    out->limit = load_relaxed(&limit_units) << UNIT_SHIFT;
    out->refusals = load_relaxed(&refusal_count);
}

uint64_t reserve_free_bits(size_t chunk)
{
    return load_acquire(&chunks[chunk].free);
}

/* ---- bits of a run ---- */

/* The part of the run [unit, unit + units) in the chunk of `unit`: its mask, and its length. */
ASH_INLINE uint64_t part_mask(size_t unit, size_t units, unsigned *part)
{
    unsigned at = unit % CHUNK_UNITS;
    *part = (unsigned)size_min(units, CHUNK_UNITS - at);
    return bits_mask(at, *part);
}

static void bits_give(size_t unit, size_t units)
{
    for (unsigned part; units != 0; unit += part, units -= part) {
        uint64_t mask = part_mask(unit, units, &part);
        or_release(&chunks[unit / CHUNK_UNITS].free,
                   mask); /* the run's content; pairs with bits_claim */
    }
}

/* Claims exactly these units, or none of them. */
static bool bits_claim(size_t unit, size_t units)
{
    size_t left = units;
    size_t at = unit;
    for (unsigned part; left != 0; at += part, left -= part) {
        struct chunk *c = &chunks[at / CHUNK_UNITS];
        uint64_t mask = part_mask(at, left, &part);
        uint64_t seen = load_relaxed(&c->free);
        do {
            if ((seen & mask) != mask) {
                bits_give(unit, at - unit);
                return false;
            }
        } while (!cas_acquire(&c->free, &seen, seen & ~mask)); /* pairs with bits_give */
    }
    return true;
}

/* Marks an owned run dirty; true when none of it was. */
static bool run_soil(size_t unit, size_t units)
{
    bool zero = true;
    for (unsigned part; units != 0; unit += part, units -= part) {
        struct chunk *c = &chunks[unit / CHUNK_UNITS];
        uint64_t mask = part_mask(unit, units, &part);
        uint64_t dirty =
            load_relaxed(&c->dirty) & mask; /* the owner's bits: nobody else changes them */
        if (dirty != mask)
            or_relaxed(&c->dirty, mask);
        if (dirty != 0) {
            zero = false;
            purge_dirty_add(-(int64_t)bits_count(dirty));
            if ((load_relaxed(&c->aged) & mask) != 0)
                and_relaxed(&c->aged, ~mask);
        }
    }
    return zero;
}

/* ---- finding a run ---- */

/*
 * The bits of a word at which a run may begin so that its address is a multiple of `align` < 64
 * units.
 */
ASH_INLINE uint64_t align_bits(size_t align)
{
    static const uint64_t starts[] = {~(uint64_t)0,       0x5555555555555555, 0x1111111111111111,
                                      0x0101010101010101, 0x0001000100010001, 0x0000000100000001};
    return align >= CHUNK_UNITS ? 1 : starts[bits_lowest(align)];
}

/* A run inside one word, `units` <= 64. */
static size_t find_short(size_t from, unsigned units, size_t align)
{
    uint64_t starts = align_bits(align);
    size_t end = chunk_count();
    for (size_t c = from; c < end; c++) {
        uint64_t seen = load_relaxed(&chunks[c].free);
        while (seen != 0) {
            uint64_t fits = bits_runs(seen, units) & starts;
            if (fits == 0)
                break;
            uint64_t warm = bits_runs(seen & load_relaxed(&chunks[c].dirty), units) & starts;
            unsigned at = bits_lowest(warm != 0 ? warm : fits);
            uint64_t mask = bits_mask(at, units);
            if (cas_acquire(&chunks[c].free, &seen, seen & ~mask)) /* pairs with bits_give */
                return c * CHUNK_UNITS + at;
        }
    }
    return RESERVE_NONE;
}

/* The units of a chunk that a run may consist of. */
ASH_INLINE uint64_t bits_wanted(size_t chunk, bool dirty)
{
    uint64_t free = load_relaxed(&chunks[chunk].free);
    return dirty ? free & load_relaxed(&chunks[chunk].dirty) : free;
}

/*
 * A run of any length, over the borders of chunks; with `dirty`, one whose pages are all there
 * already.
 */
static size_t find_long(size_t units, size_t align, bool dirty)
{
    size_t end = chunk_count() * CHUNK_UNITS;
    size_t start = chunk_align_unit(0, align);
    size_t unit = start;
    while (unit < end) {
        uint64_t rest = bits_wanted(unit / CHUNK_UNITS, dirty) >> (unit % CHUNK_UNITS);
        unsigned room = CHUNK_UNITS - unit % CHUNK_UNITS;
        unsigned ones = ~rest == 0 ? CHUNK_UNITS : bits_lowest(~rest);
        unit += ones < room ? ones : room;
        if (unit - start >= units) {
            if (bits_claim(start, units))
                return start;
            start =
                chunk_align_unit(start + 1, align); /* another thread took a part: on from here */
            unit = start;
        } else if (ones < room) {
            start = unit = chunk_align_unit(unit + 1, align);
        }
    }
    return RESERVE_NONE;
}

static size_t find(size_t units, size_t align)
{
    if (units > CHUNK_UNITS / 2 || align > CHUNK_UNITS) {
        bool try_dirty = purge_dirty() >= units;
        size_t unit = try_dirty ? find_long(units, align, true) : RESERVE_NONE;
        return unit != RESERVE_NONE ? unit : find_long(units, align, false);
    }
    size_t from = load_relaxed(&low);
    size_t unit = find_short(from, (unsigned)units, align);
    if (unit != RESERVE_NONE) {
        if (units == 1 && unit / CHUNK_UNITS > from)
            (void)!cas_relaxed(&low, &from, unit / CHUNK_UNITS);
        return unit;
    }
    return from == 0 ? RESERVE_NONE : find_short(0, (unsigned)units, align);
}

/* ---- the interface ---- */

struct run reserve_take(size_t units, size_t align)
{
    struct run r = {RESERVE_NONE, false};
    if (units > chunk_window_units() || align > chunk_window_units() || !used_add(units))
        return r;
    r.unit = find(units, align);
    for (int status = -EEXIST; r.unit == RESERVE_NONE && status == -EEXIST;)
        status = chunk_grow(units, align, &r.unit);
    if (r.unit == RESERVE_NONE)
        sub_relaxed(&used_units, units);
    else
        r.zero = run_soil(r.unit, units);
    return r;
}

bool reserve_extend(size_t unit, size_t units, bool *zero)
{
    if (unit + units > chunk_window_units() || !used_add(units))
        return false;
    chunk_map_range(unit, units);
    if (!bits_claim(unit, units)) {
        sub_relaxed(&used_units, units);
        return false;
    }
    *zero = run_soil(unit, units);
    return true;
}

void reserve_give(size_t unit, size_t units)
{
    purge_dirty_add((int64_t)units);
    bits_give(unit, units);
    sub_relaxed(&used_units, units);
    size_t chunk = unit / CHUNK_UNITS;
    size_t hint = load_relaxed(&low);
    while (hint > chunk && !cas_relaxed(&low, &hint, chunk))
        ;
    uint64_t peak = load_relaxed(&peak_units);
    uint64_t bound = peak + peak / 8 + (options.cache >> UNIT_SHIFT);
    uint64_t resident = resident_units();
    if (ASH_UNLIKELY(options.purge_ms == 0))
        purge_pass(true);
    else if (ASH_UNLIKELY(resident > bound))
        purge_far(resident - bound);
}

void reserve_give_zero(size_t unit, size_t units)
{
    size_t at = unit;
    size_t left = units;
    for (unsigned part; left != 0; at += part, left -= part)
        and_relaxed(&chunks[at / CHUNK_UNITS].dirty, ~part_mask(at, left, &part));
    purge_dirty_add(-(int64_t)units); /* reserve_give takes them for dirty */
    reserve_give(unit, units);
}
