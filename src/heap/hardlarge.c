/*
 * Freed blocks wait in a ring of slots, any thread's: a slot holds a run that only the thread that
 * swaps it out may use. What they hold is address space, bounded by WAIT_UNITS for each; the pages
 * of those above KEPT_UNITS are gone. Smaller ones are cleared and keep theirs: to bring in a page
 * again costs four times what clearing it does.
 *
 * Making pages untouchable may fail where a process has too many mappings: the block then stands
 * without its guards.
 */
#include "heap/hardlarge.h"

#include "heap/canary.h"
#include "heap/error.h"
#include "heap/large.h"
#include "mem/reserve.h"
#include "os/os_mem.h"

#include <string.h>

enum { WAITING = 32, WAIT_UNITS = 256, KEPT_UNITS = 10 };

/* atomic: unit : 32 | units : 32 of a run whose pages cannot be touched; 0 */
static _Atomic(uint64_t) waiting[WAITING];
static _Atomic(unsigned) turn;

ASH_INLINE size_t page_end(size_t n)
{
    return align_up(n, os_page_size());
}

/* Behind the bytes, to the end of their last page. */
static void fill(void *p, size_t n)
{
    if (n < page_end(n))
        canary_fill_words(p, n, page_end(n), canary_key(p));
}

static void check(const void *p, size_t n)
{
    if (n < page_end(n) && !canary_words_are_whole(p, n, page_end(n), canary_key(p)))
        canary_report(p, n, page_end(n), 0);
}

void *hardlarge_alloc(struct heap *h, size_t n, size_t align)
{
    if (n > PTRDIFF_MAX - 2 * (size_t)UNIT_BYTES || align > PTRDIFF_MAX)
        return NULL;
    size_t units = size_max(1, (n + UNIT_BYTES - 1) >> UNIT_SHIFT);
    size_t guard = size_max(align >> UNIT_SHIFT, 1);
    struct run r = reserve_take(guard + units + 1, guard);
    if (r.unit == RESERVE_NONE)
        return NULL;
    size_t unit = r.unit + guard;
    if (!chunk_ensure(unit, 1)) {
        reserve_give(r.unit, guard + units + 1);
        return NULL;
    }
    char *p = unit_address(unit);
    os_protect(p - UNIT_BYTES, UNIT_BYTES);
    os_protect(p + page_end(n), ((units + 1) << UNIT_SHIFT) - page_end(n));
    if (!r.zero)
        memset(p, 0, n);
    struct slab *s = chunk_header(unit);
    s->guard = (uint32_t)guard;
    fill(p, n);
    return large_open(h, unit, units, n);
}

/*
 * Makes the run usable again and gives it to the reserve; the system may refuse: it stays lost.
 * gone: its pages are.
 */
static void give(size_t unit, size_t units, bool gone)
{
    if (os_unprotect(unit_address(unit), units << UNIT_SHIFT) != 0)
        return;
    if (gone)
        reserve_give_zero(unit, units);
    else
        reserve_give(unit, units);
}

static void slot_put(unsigned slot, uint64_t run)
{
    run = exchange_acq_rel(&waiting[slot], run); /* the run's pages are its holder's */
    if (run != 0)
        give(run >> 32, run & UINT32_MAX, (run & UINT32_MAX) > KEPT_UNITS);
}

void hardlarge_free(struct heap *h, void *p)
{
    struct slab *s = large_find("free", p);
    if (s == NULL)
        return;
    size_t unit = s->unit - s->guard;
    size_t units = s->guard + slab_units(s) + 1;
    size_t n = s->bytes;
    if (!large_close(h, s)) {
        error_double_free(p);
        return;
    }
    check(p, n);
    bool gone = units > KEPT_UNITS && os_purge(unit_address(unit), units << UNIT_SHIFT) == 0;
    if (!gone)
        memset(p, 0, page_end(n));
    if (units > WAIT_UNITS || gone != (units > KEPT_UNITS)) {
        give(unit, units, gone);
        return;
    }
    os_protect(unit_address(unit), units << UNIT_SHIFT);
    slot_put(add_relaxed(&turn, 1) % WAITING, (uint64_t)unit << 32 | units);
}

size_t hardlarge_usable(const char *verb, const void *p)
{
    struct slab *s = large_find(verb, p);
    return s == NULL ? HOLDS_NONE : s->bytes;
}

bool hardlarge_resize(struct heap *h, void *p, size_t n)
{
    struct slab *s = large_find("realloc", p);
    if (s == NULL || page_end(n) != page_end(s->bytes))
        return false;
    check(p, s->bytes);
    if (n > s->bytes)
        memset((char *)p + s->bytes, 0, n - s->bytes);
    heap_count_up(h, 0, flushed, s->bytes);
    heap_count_up(h, 0, taken, n);
    s->bytes = n;
    fill(p, n);
    return true;
}

void hardlarge_reap(void)
{
    for (unsigned i = 0; i < WAITING; i++)
        slot_put(i, 0);
}
