#include "pool/depot.h"

#include "base/bits.h"
#include "heap/front.h"
#include "os/os_process.h"

enum { BLOCK_LEAST = 4096, BATCHES_LEAST = 8 };

ASH_COLD void depot_init(struct depot *d, unsigned room, bool single)
{
    d->room = room;
    d->bytes = (uint32_t)(sizeof(struct batch) + room * sizeof(uint32_t));
    d->single = single;
    size_t block = BLOCK_LEAST;
    while (block < (size_t)d->bytes * BATCHES_LEAST)
        block *= 2;
    d->per_block = (uint32_t)(block / d->bytes);
    d->shift = bits_highest(d->per_block) + !is_pow2(d->per_block);
}

ASH_COLD void depot_fini(struct depot *d)
{
    for (uint32_t i = 0; i < load_relaxed(&d->top); i++)
        front_free(table_get(&d->blocks, i));
    table_fini(&d->blocks);
    store_relaxed(&d->top, 0);
    store_relaxed(&d->blocks_made, 0);
    for (unsigned i = 0; i < DEPOT_STACKS; i++)
        store_relaxed(&d->stack[i], 0);
}

struct batch *depot_batch(const struct depot *d, uint32_t b)
{
    char *block = table_get(&d->blocks, (b - 1) >> d->shift);
    return (struct batch *)(void *)(block + (size_t)((b - 1) & ((1u << d->shift) - 1)) * d->bytes);
}

uint32_t depot_below(const struct depot *d, uint32_t b)
{
    return load_relaxed(&depot_batch(d, b)->link);
}

/* ---- the stacks ---- */

/* Pushes a chain that is linked from `first` down to `last`. */
static void push_chain(struct depot *d, enum depot_stack which, uint32_t first, uint32_t last)
{
    _Atomic(uint64_t) *head = &d->stack[which];
    struct batch *lowest = depot_batch(d, last);
    uint64_t seen = load_relaxed(head);
    for (;;) {
        uint64_t next = (seen & ~(uint64_t)UINT32_MAX) | first;
        store_relaxed(&lowest->link, (uint32_t)seen);
        if (d->single) {
            store_relaxed(head, next);
            return;
        }
        if (cas_release(head, &seen, next)) /* the batch; pairs with depot_pop */
            return;
    }
}

void depot_push(struct depot *d, enum depot_stack which, uint32_t b)
{
    push_chain(d, which, b, b);
}

/* Fetches the rest of a batch along with its first line, which holds the link. */
static void fetch(const struct depot *d, uint32_t b)
{
    const char *batch = (const char *)depot_batch(d, b);
    for (uint32_t at = ASH_CACHE_LINE; at < d->bytes; at += ASH_CACHE_LINE)
        __builtin_prefetch(batch + at);
}

uint32_t depot_pop(struct depot *d, enum depot_stack which)
{
    _Atomic(uint64_t) *head = &d->stack[which];
    for (;;) {
        uint64_t seen =
            load_acquire(head); /* the batch's link and content; pairs with push_chain */
        uint32_t b = (uint32_t)seen;
        if (b == 0)
            return 0;
        fetch(d, b);
        uint64_t tag = (seen >> 32) + 1;
        uint64_t next = tag << 32 | depot_below(d, b);
        if (d->single) {
            store_relaxed(head, next);
            return b;
        }
        if (cas_relaxed(head, &seen, next))
            return b;
    }
}

uint32_t depot_first(const struct depot *d, enum depot_stack which)
{
    return (uint32_t)load_acquire(&d->stack[which]); /* pairs with push_chain */
}

/* ---- batches ---- */

/* Makes a block of blank batches. */
static ASH_COLD bool grow(struct depot *d)
{
    size_t bytes = (size_t)d->per_block * d->bytes;
    char *block = front_malloc(bytes);
    if (block == NULL)
        return false;
    uint32_t number = add_relaxed(&d->top, 1);
    _Atomic(void *) *slot = table_slot(&d->blocks, number);
    if (slot == NULL) {
        front_free(block);
        return false;
    }
    store_release(slot, block); /* pairs with table_get */
    uint32_t first = (number << d->shift) + 1;
    for (uint32_t i = 0; i < d->per_block; i++) {
        struct batch *batch = depot_batch(d, first + i);
        store_relaxed(&batch->link, first + i + 1);
        batch->count = 0;
    }
    add_relaxed(&d->blocks_made, 1);
    push_chain(d, DEPOT_BLANK, first, first + d->per_block - 1);
    return true;
}

bool depot_ensure(struct depot *d, uint64_t objects)
{
    uint64_t block = (uint64_t)d->per_block * d->room;
    while (load_relaxed(&d->blocks_made) * block < objects)
        if (!grow(d))
            return false;
    return true;
}

uint32_t depot_blank(struct depot *d)
{
    uint32_t b;
    while ((b = depot_pop(d, DEPOT_BLANK)) == 0)
        if (!grow(d))
            return 0;
    return b;
}

void depot_return(struct depot *d, enum depot_stack which, uint32_t b)
{
    depot_push(d, depot_batch(d, b)->count == 0 ? DEPOT_BLANK : which, b);
}

/* Appends a number to a batch that the caller holds, and puts that where it belongs. */
static void append(struct depot *d, enum depot_stack which, uint32_t b, uint32_t object)
{
    struct batch *batch = depot_batch(d, b);
    batch->object[batch->count++] = object;
    depot_push(d, which, b);
}

/*
 * Looks for room further down, all above it held meanwhile. Other threads may hold what has room,
 * each one batch for a moment.
 */
static ASH_COLD void squeeze(struct depot *d, enum depot_stack which, uint32_t object)
{
    for (;; os_yield()) {
        uint32_t first = 0, last = 0, b;
        while ((b = depot_pop(d, which)) != 0 && depot_batch(d, b)->count == d->room) {
            store_relaxed(&depot_batch(d, b)->link, first);
            first = b;
            last = last == 0 ? b : last;
        }
        if (first != 0)
            push_chain(d, which, first, last);
        if (b == 0)
            b = depot_blank(d);
        if (b != 0) {
            append(d, which, b, object);
            return;
        }
    }
}

void depot_put(struct depot *d, enum depot_stack which, uint32_t object)
{
    uint32_t b = depot_pop(d, which);
    if (b != 0 && depot_batch(d, b)->count == d->room) {
        depot_push(d, which, b);
        b = 0;
    }
    if (b == 0)
        b = depot_blank(d);
    if (b != 0)
        append(d, which, b, object);
    else
        squeeze(d, which, object);
}
