/*
 * Freed blocks wait in a ring of slots, any thread's: a slot holds a run that only the thread that
 * swaps it out may use. They are cleared and keep their pages, since to bring in a page again costs
 * four times what clearing it does (blocks of 5 to 25 MiB: 7.9 times the default's time, and 2.9
 * so), as long as they are no more than KEPT_BYTES and an eighth of the memory in use; larger ones
 * hold nothing but address space, and the oldest leave.
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

enum { WAITING = 32, WAIT_UNITS = 256, KEPT_BYTES = 8 << 20 };

#define RUN_GONE ((uint64_t)1 << 31) /* its pages are */

/* atomic: unit : 32 | RUN_GONE | units : 31 of a run that cannot be touched; 0 */
static _Atomic(uint64_t) waiting[WAITING];
static _Atomic(unsigned) turn;
static _Atomic(uint64_t) kept; /* units in `waiting`, or about to be */

ASH_INLINE size_t page_end(size_t n)
{
    return align_up(n, os_page_size());
}

/* Behind the bytes, to the end of their last page. */
static void fill(void *p, size_t n)
{
    canary_fill(p, n, page_end(n), canary_key(p));
}

static void check(const void *p, size_t n)
{
    canary_check(p, n, page_end(n), canary_key(p));
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

/* Units that `kept` may reach. */
static size_t kept_most(void)
{
    size_t limit, used;
    reserve_limit_get(&limit, &used);
    return (KEPT_BYTES + used / 8) >> UNIT_SHIFT;
}

/* The next slot in turn holds the run; the one that it held leaves. */
static ASH_NOINLINE void slot_put(uint64_t run)
{
    unsigned slot = add_relaxed(&turn, 1) % WAITING;
    run = exchange_acq_rel(&waiting[slot], run); /* the run's pages are its holder's */
    if (run == 0)
        return;
    size_t units = run & (RUN_GONE - 1);
    if ((run & RUN_GONE) == 0)
        sub_relaxed(&kept, units);
    give(run >> 32, units, (run & RUN_GONE) != 0);
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
    size_t most = kept_most();
    bool gone = units > most && os_purge(unit_address(unit), units << UNIT_SHIFT) == 0;
    if (gone && units > WAIT_UNITS) {
        give(unit, units, true);
        return;
    }
    if (!gone) {
        memset(p, 0, page_end(n));
        add_relaxed(&kept, units);
    }
    os_protect(p, page_end(n));
    slot_put((uint64_t)unit << 32 | units | (gone ? RUN_GONE : 0));
    for (unsigned i = 1; i < WAITING && load_relaxed(&kept) > most; i++)
        slot_put(0);
}

size_t hardlarge_usable(const char *verb, const void *p)
{
    struct slab *s = large_find(verb, p);
    return s == NULL ? HOLDS_NONE : s->bytes;
}

ASH_COLD bool hardlarge_resize(struct heap *h, void *p, size_t n)
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

ASH_COLD void hardlarge_reap(void)
{
    for (unsigned i = 0; i < WAITING; i++)
        slot_put(0);
}
