/*
 * See reserve.h for the rules.
 *
 * Hints (`low`) only shorten scans: a hint that is too high hides free units until a scan from the
 * bottom, which always comes before a chunk is mapped; one that is too low costs a few loads.
 *
 * Chunk states: UNMAPPED -> CLAIMED (compare-and-swap) -> MAPPED, or back to UNMAPPED when the
 * system refuses, or FOREIGN for good when somebody else's mapping lies there.
 *
 * The window lies at a random multiple of 4 MiB far from where the kernel puts mappings, and its
 * chunks are mapped one by one: works under `ulimit -v`, since nothing is reserved ahead. Where
 * such places cannot be had (small address spaces, tools that own the layout) the window is
 * reserved in one piece where the kernel likes, as much as it gives.
 */
#include "mem/reserve.h"

#include "base/bits.h"
#include "info/options.h"
#include "os/os_clock.h"
#include "os/os_mem.h"

#include <errno.h>

enum { PURGE_SLACK = 32 }; /* units given back beyond what a bound asks for */

enum chunk_state { UNMAPPED, CLAIMED, MAPPED, FOREIGN };

struct chunk_words {
    _Atomic(uint64_t) free;
    _Atomic(uint64_t) dirty;
    _Atomic(uint64_t) aged;
    _Atomic(unsigned) state;
};

extern ASH_HIDDEN struct chunk_words reserve_words[WINDOW_CHUNKS];
ASH_TABLE struct chunk_words reserve_words[WINDOW_CHUNKS];
static size_t window_chunks;         /* const after boot */
static bool window_reserved;         /* const after boot: the window is one PROT_NONE mapping */
static _Atomic(size_t) top;          /* chunks below this have been mapped */
static _Atomic(size_t) low;          /* hint: chunks below this have no free unit */
static _Atomic(uint64_t) used_units; /* in runs that are out */
static _Atomic(uint64_t) peak_units;
static _Atomic(int64_t)
    dirty_units; /* free and dirty; a moment negative while a give is under way */
static _Atomic(uint64_t) mapped_chunks;
static _Atomic(uint64_t) purged_units, purge_count, purge_time, refusal_count;
static _Atomic(uint64_t) limit_units;

/* ---- the window ---- */

static int chunks_map(size_t chunk, size_t n)
{
    void *at = unit_address(chunk * CHUNK_UNITS);
    int status = window_reserved ? os_commit(at, n * CHUNK_BYTES) : os_map_at(at, n * CHUNK_BYTES);
    if (status == 0 && options.thp != OPTION_THP_DEFAULT)
        os_huge_pages(at, n * CHUNK_BYTES, options.thp == OPTION_THP_ALWAYS);
    return status;
}

/* One attempt at a random window inside [from, from + span): maps its first chunk. */
static int window_try(uintptr_t from, uintptr_t span, size_t chunks)
{
    uint64_t random;
    os_random(&random, sizeof random);
    window.base = align_down(from + random % span, CHUNK_BYTES);
    window_chunks = chunks;
    return chunks_map(0, 1);
}

static int window_reserve(void)
{
    window_reserved = true;
    for (size_t chunks = WINDOW_CHUNKS / 4; chunks >= 16; chunks /= 4) {
        char *at = os_reserve((chunks + 1) * CHUNK_BYTES);
        if (at != NULL) {
            window.base = align_up((uintptr_t)at, CHUNK_BYTES);
            window_chunks = chunks;
            return chunks_map(0, 1);
        }
    }
    return -ENOMEM;
}

#if defined(__SANITIZE_THREAD__)
#define WINDOW_BY_HINT false /* its shadow memory fixes which addresses a program may use */
#else
#define WINDOW_BY_HINT true
#endif

static int window_choose(void)
{
    enum { TRIES = 4 };
    for (int i = 0; WINDOW_BY_HINT && i < TRIES; i++)
        if (window_try((uintptr_t)1 << 45, (uintptr_t)1 << 45, WINDOW_CHUNKS) == 0)
            return 0;
    for (int i = 0; WINDOW_BY_HINT && i < TRIES; i++) /* 39-bit address spaces */
        if (window_try((uintptr_t)1 << 36, (uintptr_t)1 << 37, WINDOW_CHUNKS / 16) == 0)
            return 0;
    return window_reserve();
}

int reserve_boot(void)
{
    window_reserved = false;
    store_relaxed(&limit_units, options.limit >> UNIT_SHIFT);
    if (window_choose() != 0) {
        window.base = 0;
        return -ENOMEM;
    }
    store_relaxed(&mapped_chunks, 1);
    store_relaxed(&reserve_words[0].state, MAPPED);
    store_release(&reserve_words[0].free,
                  ~(uint64_t)0); /* pairs with claims: the chunk is mapped */
    store_release(&top, 1);
    return 0;
}

/* ---- accounting ---- */

/* What may be resident: in use, or free and not purged. */
ASH_INLINE uint64_t resident_units(void)
{
    int64_t dirty = load_relaxed(&dirty_units);
    return load_relaxed(&used_units) + (dirty > 0 ? (uint64_t)dirty : 0);
}

/*
 * Counts `units` as out, within the limit: free memory that is still resident counts against it as
 * well.
 */
static bool used_add(size_t units)
{
    uint64_t limit = load_relaxed(&limit_units);
    uint64_t used = add_relaxed(&used_units, units) + units;
    if (ASH_UNLIKELY(limit != 0)) {
        if (resident_units() > limit)
            reserve_purge(true);
        if (used > limit) {
            sub_relaxed(&used_units, units);
            return false;
        }
    }
    atomic_max(&peak_units, used);
    return true;
}

void reserve_refused(size_t n)
{
    uint64_t limit = load_relaxed(&limit_units);
    if (limit != 0 && load_relaxed(&used_units) + (n >> UNIT_SHIFT) >= limit)
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
    int64_t dirty = load_relaxed(&dirty_units);
    out->used = load_relaxed(&used_units) << UNIT_SHIFT;
    out->peak = load_relaxed(&peak_units) << UNIT_SHIFT;
    out->dirty = dirty > 0 ? (uint64_t)dirty << UNIT_SHIFT : 0;
    out->mapped = load_relaxed(&mapped_chunks) << CHUNK_SHIFT;
    out->purged = load_relaxed(&purged_units) << UNIT_SHIFT;
    out->purges = load_relaxed(&purge_count);
    out->purge_ns = load_relaxed(&purge_time);
    out->limit = load_relaxed(&limit_units) << UNIT_SHIFT;
    out->refusals = load_relaxed(&refusal_count);
}

size_t reserve_chunks(void)
{
    return load_acquire(&top); /* pairs with chunks_publish: the words below it are set */
}

uint64_t reserve_free_bits(size_t chunk)
{
    return load_acquire(&reserve_words[chunk].free);
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
        or_release(&reserve_words[unit / CHUNK_UNITS].free,
                   mask); /* the run's content; pairs with bits_claim */
    }
}

/* Claims exactly these units, or none of them. */
static bool bits_claim(size_t unit, size_t units)
{
    size_t left = units;
    size_t at = unit;
    for (unsigned part; left != 0; at += part, left -= part) {
        struct chunk_words *w = &reserve_words[at / CHUNK_UNITS];
        uint64_t mask = part_mask(at, left, &part);
        uint64_t seen = load_relaxed(&w->free);
        do {
            if ((seen & mask) != mask) {
                bits_give(unit, at - unit);
                return false;
            }
        } while (!cas_acquire(&w->free, &seen, seen & ~mask)); /* pairs with bits_give */
    }
    return true;
}

/* Marks an owned run dirty; true when none of it was. */
static bool run_soil(size_t unit, size_t units)
{
    bool zero = true;
    for (unsigned part; units != 0; unit += part, units -= part) {
        struct chunk_words *w = &reserve_words[unit / CHUNK_UNITS];
        uint64_t mask = part_mask(unit, units, &part);
        uint64_t dirty =
            load_relaxed(&w->dirty) & mask; /* the owner's bits: nobody else changes them */
        if (dirty != mask)
            or_relaxed(&w->dirty, mask);
        if (dirty != 0) {
            zero = false;
            sub_relaxed(&dirty_units, bits_count(dirty));
            if ((load_relaxed(&w->aged) & mask) != 0)
                and_relaxed(&w->aged, ~mask);
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
    size_t end = reserve_chunks();
    for (size_t c = from; c < end; c++) {
        uint64_t seen = load_relaxed(&reserve_words[c].free);
        while (seen != 0) {
            uint64_t fits = bits_runs(seen, units) & starts;
            if (fits == 0)
                break;
            uint64_t warm = bits_runs(seen & load_relaxed(&reserve_words[c].dirty), units) & starts;
            unsigned at = bits_lowest(warm != 0 ? warm : fits);
            uint64_t mask = bits_mask(at, units);
            if (cas_acquire(&reserve_words[c].free, &seen, seen & ~mask)) /* pairs with bits_give */
                return c * CHUNK_UNITS + at;
        }
    }
    return RESERVE_NONE;
}

/* The first unit >= `unit` whose address is a multiple of `align` units. */
ASH_INLINE size_t unit_align(size_t unit, size_t align)
{
    size_t first = window.base >> UNIT_SHIFT;
    return align_up(first + unit, align) - first;
}

/* The units of a chunk that a run may consist of. */
ASH_INLINE uint64_t bits_wanted(size_t chunk, bool dirty)
{
    uint64_t free = load_relaxed(&reserve_words[chunk].free);
    return dirty ? free & load_relaxed(&reserve_words[chunk].dirty) : free;
}

/*
 * A run of any length, over the borders of chunks; with `dirty`, one whose pages are all there
 * already.
 */
static size_t find_long(size_t units, size_t align, bool dirty)
{
    size_t end = reserve_chunks() * CHUNK_UNITS;
    size_t start = unit_align(0, align);
    size_t unit = start;
    while (unit < end) {
        uint64_t rest = bits_wanted(unit / CHUNK_UNITS, dirty) >> (unit % CHUNK_UNITS);
        unsigned room = CHUNK_UNITS - unit % CHUNK_UNITS;
        unsigned ones = ~rest == 0 ? CHUNK_UNITS : bits_lowest(~rest);
        unit += ones < room ? ones : room;
        if (unit - start >= units) {
            if (bits_claim(start, units))
                return start;
            start = unit_align(start + 1, align); /* another thread took a part: on from here */
            unit = start;
        } else if (ones < room) {
            start = unit = unit_align(unit + 1, align);
        }
    }
    return RESERVE_NONE;
}

static size_t find(size_t units, size_t align)
{
    if (units > CHUNK_UNITS / 2 || align > CHUNK_UNITS) {
        bool try_dirty = load_relaxed(&dirty_units) >= (int64_t)units;
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

/* ---- growing ---- */

/*
 * The first chunk of `n` unmapped ones in a row, claimed; its address is a multiple of `align`
 * units.
 */
static size_t chunks_claim(size_t n, size_t align)
{
    size_t c = unit_align(0, size_max(align, CHUNK_UNITS)) / CHUNK_UNITS;
    size_t step = size_max(align / CHUNK_UNITS, 1);
    for (; c + n <= window_chunks; c += step) {
        size_t got = 0;
        for (unsigned none = UNMAPPED; got < n; got++, none = UNMAPPED)
            if (load_relaxed(&reserve_words[c + got].state) != UNMAPPED ||
                !atomic_compare_exchange_strong(&reserve_words[c + got].state, &none, CLAIMED))
                break;
        if (got == n)
            return c;
        for (size_t i = 0; i < got; i++)
            store_relaxed(&reserve_words[c + i].state, UNMAPPED);
    }
    return RESERVE_NONE;
}

/*
 * The chunks are mapped: all their units become free, but for the first `keep`, which the caller
 * owns.
 */
static void chunks_publish(size_t chunk, size_t n, size_t keep)
{
    add_relaxed(&mapped_chunks, n);
    for (size_t i = 0; i < n; i++) {
        size_t mine = size_min(keep, CHUNK_UNITS);
        keep -= mine;
        store_relaxed(&reserve_words[chunk + i].state, MAPPED);
        if (mine < CHUNK_UNITS) /* pairs with claims: the chunk is mapped */
            store_release(&reserve_words[chunk + i].free,
                          mine == 0 ? ~(uint64_t)0 : ~bits_mask(0, (unsigned)mine));
    }
    size_t seen = load_relaxed(&top);
    while (seen < chunk + n && !cas_release(&top, &seen, chunk + n))
        ;
}

/* Maps fresh chunks and takes a run at their beginning. -EEXIST: try again elsewhere. */
static int grow(size_t units, size_t align, size_t *unit)
{
    size_t n = (units + CHUNK_UNITS - 1) / CHUNK_UNITS;
    size_t c = chunks_claim(n, align);
    if (c == RESERVE_NONE)
        return -ENOMEM;
    int status = chunks_map(c, n);
    if (status == 0) {
        chunks_publish(c, n, units);
        *unit = c * CHUNK_UNITS;
        return 0;
    }
    if (status == -ENOMEM) {
        for (size_t i = 0; i < n; i++)
            store_relaxed(&reserve_words[c + i].state, UNMAPPED);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) { /* somebody's mapping is in the way: find out where */
        int each = n == 1 ? status : chunks_map(c + i, 1);
        if (each == 0)
            chunks_publish(c + i, 1, 0);
        else
            store_relaxed(&reserve_words[c + i].state, each == -EEXIST ? FOREIGN : UNMAPPED);
    }
    return -EEXIST;
}

/* ---- the interface ---- */

struct run reserve_take(size_t units, size_t align)
{
    struct run r = {RESERVE_NONE, false};
    if (units > window_chunks * CHUNK_UNITS || align > window_chunks * CHUNK_UNITS ||
        !used_add(units))
        return r;
    r.unit = find(units, align);
    for (int status = -EEXIST; r.unit == RESERVE_NONE && status == -EEXIST;)
        status = grow(units, align, &r.unit);
    if (r.unit == RESERVE_NONE)
        sub_relaxed(&used_units, units);
    else
        r.zero = run_soil(r.unit, units);
    return r;
}

bool reserve_extend(size_t unit, size_t units, bool *zero)
{
    if (unit + units > window_chunks * CHUNK_UNITS || !used_add(units))
        return false;
    size_t last = (unit + units - 1) / CHUNK_UNITS;
    for (size_t c = unit / CHUNK_UNITS; c <= last;
         c++) { /* the chunks behind may not be mapped yet */
        unsigned none = UNMAPPED;
        if (load_relaxed(&reserve_words[c].state) != UNMAPPED ||
            !atomic_compare_exchange_strong(&reserve_words[c].state, &none, CLAIMED))
            continue;
        int status = chunks_map(c, 1);
        if (status == 0)
            chunks_publish(c, 1, 0);
        else
            store_relaxed(&reserve_words[c].state, status == -EEXIST ? FOREIGN : UNMAPPED);
    }
    if (!bits_claim(unit, units)) {
        sub_relaxed(&used_units, units);
        return false;
    }
    *zero = run_soil(unit, units);
    return true;
}

bool reserve_is_remote(void)
{
    return !window_reserved;
}

/* ---- purging ---- */

/* Gives back the memory of the claimed units `mask` of a chunk; the bits that the kernel took. */
static uint64_t pages_purge(size_t chunk, uint64_t mask)
{
    uint64_t done = 0;
    while (mask != 0) {
        unsigned at = bits_lowest(mask);
        uint64_t rest = mask >> at;
        unsigned n = ~rest == 0 ? CHUNK_UNITS : bits_lowest(~rest);
        uint64_t part = bits_mask(at, n);
        if (os_purge(unit_address(chunk * CHUNK_UNITS + at), (size_t)n << UNIT_SHIFT) == 0)
            done |= part;
        mask &= ~part;
    }
    return done;
}

/* Claims the free units of `old`, gives back their memory and frees them again: how many were. */
static size_t units_purge(size_t chunk, uint64_t old)
{
    struct chunk_words *w = &reserve_words[chunk];
    uint64_t seen = load_relaxed(&w->free);
    while ((old &= seen) != 0 && !cas_acquire(&w->free, &seen, seen & ~old))
        ; /* pairs with bits_give */
    if (old == 0)
        return 0;
    uint64_t done = pages_purge(chunk, old & load_relaxed(&w->dirty));
    and_relaxed(&w->dirty, ~done);
    and_relaxed(&w->aged, ~old);
    sub_relaxed(&dirty_units, bits_count(done));
    or_release(&w->free, old); /* pairs with claims: purged and marked so */
    return bits_count(done);
}

/* The free units of a chunk whose memory is still there. */
ASH_INLINE uint64_t bits_idle(size_t chunk)
{
    return load_relaxed(&reserve_words[chunk].free) & load_relaxed(&reserve_words[chunk].dirty);
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

size_t reserve_purge(bool all)
{
    size_t given = 0;
    uint64_t began = os_clock_ns();
    for (size_t c = 0, end = reserve_chunks(); c < end; c++) {
        uint64_t idle = bits_idle(c);
        uint64_t old = all ? idle : idle & load_relaxed(&reserve_words[c].aged);
        if (old != 0)
            given += units_purge(c, old);
        if ((idle & ~old) != 0)
            or_relaxed(&reserve_words[c].aged, idle & ~old);
    }
    return purge_account(given, began);
}

/*
 * Gives back at least `units`, if so many are free, from the far end: claiming begins at the near
 * one.
 */
static void purge_far(size_t units)
{
    size_t given = 0;
    uint64_t began = os_clock_ns();
    for (size_t c = reserve_chunks(); c-- > 0 && given < units;) {
        uint64_t idle = bits_idle(c);
        if (idle != 0)
            given += units_purge(c, idle);
    }
    purge_account(given, began);
}

/* ---- giving ---- */

void reserve_give(size_t unit, size_t units)
{
    add_relaxed(&dirty_units, (int64_t)units);
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
        reserve_purge(true);
    else if (ASH_UNLIKELY(resident > bound))
        purge_far(resident - bound + PURGE_SLACK);
}
