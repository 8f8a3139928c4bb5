/*
 * The window lies at a random multiple of 4 MiB far from where the kernel puts mappings, and its
 * chunks are mapped one by one: works under `ulimit -v`, since nothing is reserved ahead. Where
 * such places cannot be had (small address spaces, tools that own the layout) the window is
 * reserved in one piece where the kernel likes, as much as it gives.
 */
#include "mem/chunk.h"

#include "base/anchor.h"
#include "base/bits.h"
#include "info/options.h"
#include "mem/meta.h"
#include "os/os_mem.h"

#include <errno.h>

size_t chunk_header_bytes;
ASH_TABLE struct chunk chunks[WINDOW_CHUNKS];

static size_t window_chunks; /* const after boot */
static bool window_reserved; /* const after boot: the window is one PROT_NONE mapping */
static _Atomic(size_t) top;  /* chunks from this on were never mapped; below, most are */
static _Atomic(uint64_t) mapped_chunks;
static _Atomic(uint64_t) settled; /* chunks below this are mapped or foreign, for good */

void chunk_boot(size_t header_bytes)
{
    chunk_header_bytes = header_bytes;
}

size_t chunk_window_units(void)
{
    return window_chunks * CHUNK_UNITS;
}

bool chunk_window_is_remote(void)
{
    return !window_reserved;
}

size_t chunk_count(void)
{
    return load_relaxed(&top); /* a bound: records below that are not set yet have no unit free */
}

uint64_t chunk_mapped_bytes(void)
{
    ANCHOR("mapped", mapped_chunks);
    return load_relaxed(&mapped_chunks) << CHUNK_SHIFT;
}

size_t chunk_align_unit(size_t unit, size_t align)
{
    size_t first = window.base >> UNIT_SHIFT;
    return align_up(first + unit, align) - first;
}

/* ---- the window ---- */

static int map(size_t chunk, size_t n)
{
    void *at = unit_address(chunk * CHUNK_UNITS);
    int status = window_reserved ? os_commit(at, n * CHUNK_BYTES) : os_map_at(at, n * CHUNK_BYTES);
    if (status == 0 && options.thp != OPTION_THP_DEFAULT)
        os_huge_pages(at, n * CHUNK_BYTES, options.thp == OPTION_THP_ALWAYS);
    return status;
}

/* One attempt at a random window inside [from, from + span): maps its first chunk. */
static int window_try(uintptr_t from, uintptr_t span, size_t count)
{
    uint64_t random;
    os_random(&random, sizeof random);
    window.base = align_down(from + random % span, CHUNK_BYTES);
    window_chunks = count;
    return map(0, 1);
}

static int window_reserve(void)
{
    window_reserved = true;
    for (size_t count = WINDOW_CHUNKS / 4; count >= 16; count /= 4) {
        char *at = os_reserve((count + 1) * CHUNK_BYTES);
        if (at != NULL) {
            window.base = align_up((uintptr_t)at, CHUNK_BYTES);
            window_chunks = count;
            return map(0, 1);
        }
    }
    return -ENOMEM;
}

/* Their shadow memory fixes which addresses a program may use. */
extern void __tsan_init(void) __attribute__((weak));
extern void __msan_init(void) __attribute__((weak));

static int window_choose(void)
{
    enum { TRIES = 4 };
    bool hint = __tsan_init == NULL && __msan_init == NULL;
    for (int i = 0; hint && i < TRIES; i++)
        if (window_try((uintptr_t)1 << 45, (uintptr_t)1 << 45, WINDOW_CHUNKS) == 0)
            return 0;
    for (int i = 0; hint && i < TRIES; i++) /* 39-bit address spaces */
        if (window_try((uintptr_t)1 << 36, (uintptr_t)1 << 37, WINDOW_CHUNKS / 16) == 0)
            return 0;
    return window_reserve();
}

/* ---- mapping chunks ---- */

ASH_INLINE bool chunk_claim(size_t chunk)
{
    uintptr_t seen = load_relaxed(&chunks[chunk].state);
    while (seen == CHUNK_UNMAPPED)
        if (cas_relaxed(&chunks[chunk].state, &seen, CHUNK_CLAIMED))
            return true;
    return false;
}

/* Ends the claims of chunks that could not be mapped. */
static void unclaim(size_t chunk, size_t n, enum chunk_state state)
{
    for (size_t i = 0; i < n; i++)
        store_relaxed(&chunks[chunk + i].state, state);
}

/*
 * The first chunk that may be had. A search from the window's start would be quadratic where other
 * mappings fill the window, as programs do that try what happens when addresses run out.
 */
static size_t first_unsettled(void)
{
    size_t c = load_relaxed(&settled);
    while (c < window_chunks && load_relaxed(&chunks[c].state) > CHUNK_CLAIMED)
        c++;
    atomic_max(&settled, c);
    return c;
}

/*
 * The first chunk of `n` unmapped ones in a row, claimed; its address is a multiple of `align`
 * units.
 */
static size_t claim_row(size_t n, size_t align)
{
    size_t from = first_unsettled() * CHUNK_UNITS;
    size_t c = chunk_align_unit(from, size_max(align, CHUNK_UNITS)) / CHUNK_UNITS;
    size_t step = size_max(align / CHUNK_UNITS, 1);
    for (; c + n <= window_chunks; c += step) {
        size_t got = 0;
        while (got < n && chunk_claim(c + got))
            got++;
        if (got == n)
            return c;
        unclaim(c, got, CHUNK_UNMAPPED);
    }
    return CHUNK_NONE;
}

/*
 * The chunks are mapped: all their units become free, but for the first `keep`, which the caller
 * owns.
 */
static void publish(size_t chunk, size_t n, size_t keep)
{
    add_relaxed(&mapped_chunks, n);
    for (size_t i = 0; i < n; i++) {
        size_t mine = size_min(keep, CHUNK_UNITS);
        keep -= mine;
        store_relaxed(&chunks[chunk + i].state, CHUNK_MAPPED);
        if (mine < CHUNK_UNITS) /* pairs with claims: the chunk is mapped */
            store_release(&chunks[chunk + i].free,
                          mine == 0 ? ~(uint64_t)0 : ~bits_mask(0, (unsigned)mine));
    }
    size_t seen = load_relaxed(&top);
    while (seen < chunk + n && !cas_relaxed(&top, &seen, chunk + n))
        ;
}

/* Maps one claimed chunk for everybody, as far as it can be had. */
static void map_one(size_t chunk)
{
    int status = map(chunk, 1);
    if (status == 0)
        publish(chunk, 1, 0);
    else
        unclaim(chunk, 1, status == -EEXIST ? CHUNK_FOREIGN : CHUNK_UNMAPPED);
}

int chunk_grow(size_t units, size_t align, size_t *unit)
{
    size_t n = (units + CHUNK_UNITS - 1) / CHUNK_UNITS;
    size_t c = claim_row(n, align);
    if (c == CHUNK_NONE)
        return -ENOMEM;
    int status = map(c, n);
    if (status == 0) {
        publish(c, n, units);
        *unit = c * CHUNK_UNITS;
    } else if (status == -ENOMEM) {
        unclaim(c, n, CHUNK_UNMAPPED);
    } else if (n == 1) {
        unclaim(c, 1, CHUNK_FOREIGN);
    } else { /* somebody's mapping is in the way: find out where */
        for (size_t i = 0; i < n; i++)
            map_one(c + i);
    }
    return status;
}

void chunk_map_range(size_t unit, size_t units)
{
    size_t last = (unit + units - 1) / CHUNK_UNITS;
    for (size_t c = unit / CHUNK_UNITS; c <= last; c++)
        if (chunk_claim(c))
            map_one(c);
}

int chunk_open_window(void)
{
    window_reserved = false;
    if (window_choose() != 0) {
        window.base = 0;
        return -ENOMEM;
    }
    publish(0, 1, 0);
    return 0;
}

/* ---- unit headers ---- */

bool chunk_ensure(size_t unit, size_t units)
{
    for (size_t c = unit / CHUNK_UNITS; c <= (unit + units - 1) / CHUNK_UNITS; c++) {
        uintptr_t seen = load_relaxed(&chunks[c].state);
        if (seen != CHUNK_MAPPED)
            continue;
        char *headers = meta_take(CHUNK_UNITS * chunk_header_bytes);
        if (headers == NULL)
            return false;
        /*
         * release: the zeroed headers; pairs with chunk_header. Two threads meet here only where
         * the first runs of a chunk are taken at the same moment; the loser's stays unused.
         */
        while (seen == CHUNK_MAPPED && !cas_release(&chunks[c].state, &seen, (uintptr_t)headers))
            ;
    }
    return true;
}
