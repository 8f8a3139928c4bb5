#include "pool/store.h"

#include "base/bits.h"
#include "heap/front.h"
#include "mem/reserve.h"

enum { UNITS_MOST = 64, WASTE_PART = 33, FRESH_SHIFT = 32 };

/* Units in a chunk: the first number that wastes little, or else the one that wastes least. */
static size_t choose_units(size_t stride)
{
    size_t least = (stride + UNIT_BYTES - 1) >> UNIT_SHIFT;
    size_t best = least;
    for (size_t k = least; k <= size_max(least, UNITS_MOST); k++) {
        size_t waste = (k << UNIT_SHIFT) % stride;
        if (waste * WASTE_PART <= k << UNIT_SHIFT)
            return k;
        if (waste * best < (best << UNIT_SHIFT) % stride * k)
            best = k;
    }
    return best;
}

ASH_COLD bool store_init(struct store *s, size_t size, size_t align, size_t before, size_t behind)
{
    size_t most = (size_t)1 << 46;
    if (size > most || align > most)
        return false;
    s->size = size;
    s->before = align_up(before, align);
    s->stride = align_up(s->before + size + behind, align);
    s->units = choose_units(s->stride);
    s->align = size_max(align >> UNIT_SHIFT, 1);
    s->per_chunk = (uint32_t)((s->units << UNIT_SHIFT) / s->stride);
    s->bits = s->per_chunk == 1 ? 0 : bits_highest(s->per_chunk - 1) + 1;
    s->zeroes = bits_lowest(s->stride);
    uint64_t odd = s->stride >> s->zeroes;
    s->inverse = odd; /* right in the lowest three bits; each round doubles their number */
    for (int round = 0; round < 5; round++)
        s->inverse *= 2 - odd * s->inverse;
    return true;
}

/* ---- chunks ---- */

/* A run with headers for all its units, or RESERVE_NONE. */
static size_t run_take(const struct store *s)
{
    struct run run = reserve_take(s->units, s->align);
    if (run.unit != RESERVE_NONE && !chunk_ensure(run.unit, s->units)) {
        reserve_give(run.unit, s->units);
        run.unit = RESERVE_NONE;
    }
    return run.unit;
}

/* Finds a number for the chunk, and enters it there. */
static bool chunk_enter(struct store *s, struct store_chunk *c)
{
    uint32_t most = (uint32_t)(((uint64_t)1 << (32 - s->bits)) - 1);
    for (c->number = load_relaxed(&s->low); c->number < most; c->number++) {
        _Atomic(void *) *slot = table_slot(&s->chunks, c->number);
        void *seen = NULL;
        if (slot == NULL)
            return false;
        /* release: the record; pairs with table_get */
        if (load_relaxed(slot) == NULL && cas_strong_release(slot, &seen, c)) {
            uint32_t top = load_relaxed(&s->top);
            while (top <= c->number && !cas_relaxed(&s->top, &top, c->number + 1))
                ;
            store_relaxed(&s->low, c->number + 1);
            return true;
        }
    }
    return false;
}

static void run_give(struct store *s, size_t unit)
{
    for (size_t i = 0; i < s->units; i++) {
        struct slab *header = chunk_header(unit + i);
        store_relaxed(&header->kind, UNIT_NONE);
        store_relaxed(&header->pool, NULL);
    }
    reserve_give(unit, s->units);
}

static ASH_COLD struct store_chunk *chunk_make(struct store *s)
{
    struct store_chunk *c = front_calloc(1, sizeof *c);
    size_t unit = c == NULL ? RESERVE_NONE : run_take(s);
    if (c != NULL && unit == RESERVE_NONE) {
        (void)front_trim(); /* what the heaps keep for reuse may make room */
        unit = run_take(s);
    }
    if (unit == RESERVE_NONE) {
        reserve_refused(s->units << UNIT_SHIFT);
        front_free(c);
        return NULL;
    }
    c->store = s;
    c->unit = unit;
    c->first = (char *)unit_address(unit) + s->before;
    if (!chunk_enter(s, c)) {
        reserve_give(unit, s->units);
        front_free(c);
        return NULL;
    }
    for (size_t i = 0; i < s->units; i++) {
        struct slab *header = chunk_header(unit + i);
        store_relaxed(&header->pool, c);
        store_release(&header->kind, UNIT_POOL); /* the record; pairs with store_chunk_of */
    }
    add_relaxed(&s->bytes, s->units << UNIT_SHIFT);
    return c;
}

ASH_COLD void store_give(struct store *s, struct store_chunk *c)
{
    store_relaxed(table_slot(&s->chunks, c->number), NULL);
    if (c->number < load_relaxed(&s->low))
        store_relaxed(&s->low, c->number);
    run_give(s, c->unit);
    sub_relaxed(&s->bytes, s->units << UNIT_SHIFT);
    front_free(c);
}

ASH_COLD void store_fini(struct store *s)
{
    for (uint32_t i = 0; i < load_relaxed(&s->top); i++) {
        struct store_chunk *c = table_get(&s->chunks, i);
        if (c != NULL)
            store_give(s, c);
    }
    table_fini(&s->chunks);
    store_relaxed(&s->top, 0);
    store_relaxed(&s->low, 0);
    store_relaxed(&s->fresh, 0);
    store_relaxed(&s->carved, 0);
}

/* ---- objects that were never used ---- */

ASH_INLINE uint32_t fresh_chunk(uint64_t fresh)
{
    return (uint32_t)(fresh >> FRESH_SHIFT); /* its number + 1 */
}

uint32_t store_carve(struct store *s, uint32_t *out, uint32_t n)
{
    for (;;) {
        uint64_t seen = load_acquire(&s->fresh); /* the chunk; pairs with the release below */
        uint32_t chunk = fresh_chunk(seen);
        uint32_t next = (uint32_t)seen;
        uint32_t left = chunk == 0 ? 0 : s->per_chunk - next;
        if (left == 0) {
            struct store_chunk *c = chunk_make(s);
            if (c == NULL)
                return 0;
            uint64_t fresh = (uint64_t)(c->number + 1) << FRESH_SHIFT;
            if (!cas_strong_release(&s->fresh, &seen, fresh)) /* the chunk; pairs with the load */
                store_give(s, c);
            continue;
        }
        uint32_t take = n < left ? n : left;
        if (cas_relaxed(&s->fresh, &seen, seen + take)) {
            add_relaxed(&s->carved, take);
            for (uint32_t i = 0; i < take; i++)
                out[i] = (chunk - 1) << s->bits | (next + take - 1 - i);
            return take;
        }
    }
}

uint32_t store_carved(const struct store *s, const struct store_chunk *c)
{
    uint64_t fresh = load_acquire(&s->fresh); /* pairs with store_carve */
    return fresh_chunk(fresh) == c->number + 1 ? (uint32_t)fresh : s->per_chunk;
}

bool store_retire(struct store *s, const struct store_chunk *c, uint32_t held)
{
    uint64_t seen = load_acquire(&s->fresh); /* pairs with store_carve */
    if (fresh_chunk(seen) != c->number + 1)
        return held == s->per_chunk;
    return (uint32_t)seen == held && cas_strong_relaxed(&s->fresh, &seen, 0);
}

uint32_t store_left(const struct store *s)
{
    uint64_t seen = load_relaxed(&s->fresh);
    return fresh_chunk(seen) == 0 ? 0 : s->per_chunk - (uint32_t)seen;
}

/* ---- objects and their numbers ---- */

struct store_chunk *store_chunk_of(const void *p)
{
    size_t unit = unit_of(p);
    const struct slab *header = unit < WINDOW_UNITS ? chunk_header_or_null(unit) : NULL;
    if (header == NULL || load_acquire(&header->kind) != UNIT_POOL) /* pairs with chunk_make */
        return NULL;
    return load_relaxed(&header->pool);
}

/* The index of an object in that chunk, per_chunk or more for anything else: see store.h. */
ASH_INLINE uint64_t index_in(const struct store *s, const struct store_chunk *c, const void *p)
{
    uint64_t product = (uint64_t)((const char *)p - c->first) * s->inverse;
    return product >> s->zeroes | product << (-s->zeroes & 63);
}

uint32_t store_number(const struct store *s, const void *p)
{
    uint32_t number;
    void *obj = (void *)(uintptr_t)p;
    return store_numbers(s, &obj, 1, &number) != 0 ? number : STORE_NONE;
}

uint32_t store_numbers(const struct store *s, void *const *objs, uint32_t n, uint32_t *numbers)
{
    const struct store_chunk *c = store_chunk_of(objs[0]);
    if (ASH_UNLIKELY(c == NULL || c->store != s))
        return 0;
    const struct store where = {.inverse = s->inverse, .zeroes = s->zeroes};
    uint32_t most = s->per_chunk;
    uint32_t base = c->number << s->bits;
    uint32_t i = 0;
    for (; i < n; i++) {
        uint64_t index = index_in(&where, c, objs[i]);
        if (index >= most)
            break;
        numbers[i] = base | (uint32_t)index;
    }
    return i;
}

void store_objects(const struct store *s, const uint32_t *numbers, uint32_t n, void **objs)
{
    size_t stride = s->stride;
    unsigned bits = s->bits;
    for (uint32_t i = 0; i < n;) {
        uint64_t chunk = (uint64_t)numbers[i] >> bits;
        char *first = store_chunk(s, numbers[i])->first;
        for (; i < n && (uint64_t)numbers[i] >> bits == chunk; i++)
            objs[i] = first + (numbers[i] - (uint32_t)(chunk << bits)) * stride;
    }
}

struct store_chunk *store_chunk(const struct store *s, uint32_t number)
{
    return table_get(&s->chunks, (uint32_t)((uint64_t)number >> s->bits));
}

void *store_object(const struct store *s, uint32_t number)
{
    void *obj;
    store_objects(s, &number, 1, &obj);
    return obj;
}
