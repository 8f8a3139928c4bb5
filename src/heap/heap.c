/*
 * The table of all heaps. Closed heaps are bits in a bitmap; opening one is a compare-and-swap that
 * clears its bit. No stack, so no ABA question. Orders: closing releases what the thread left in
 * the heap, opening acquires it.
 *
 * A forked child has the heaps of the threads that did not come along: they are never closed, so
 * nobody opens them, and frees into their slabs go to the remote word, which is right at every
 * instant. It needs no more than that, since its memory is the parent's at one instant, on whatever
 * pages the word, its chain and the records lie: a store that comes too late for the child holds
 * its thread until the fork is done, so none behind it is early (tools/guide/how-it-works.md;
 * tests/fork/test_cut.c asks the kernel). The exception are pages that a device may write to, which
 * are copied early. To validate each link in a child would take a mark of being one, which costs
 * every process a mapping and a system call at start, and could but say what was lost.
 */
#include "heap/heap.h"

#include "base/anchor.h"
#include "base/bits.h"
#include "mem/meta.h"

ASH_LINE_ALIGNED const struct bin heap_none[] = {[0 ... CLASS_COUNT - 1] = {NULL, BIN_FULL}};
ASH_LINE_ALIGNED const struct bin heap_ended[] = {[0 ... CLASS_COUNT - 1] = {NULL, BIN_FULL}};
ASH_TABLE struct heap_class heap_late[CLASS_COUNT];

ASH_TLS struct heap *heap_tls = HEAP_NONE;
ASH_TLS struct heap *heap_hard = HEAP_NONE;

ASH_TABLE _Atomic(struct heap *) heap_table[HEAPS_MAX];
extern ASH_HIDDEN _Atomic(uint64_t) heap_closed[HEAPS_MAX / 64];
ASH_TABLE _Atomic(uint64_t) heap_closed[HEAPS_MAX / 64];
static _Atomic(unsigned) heaps;

/*
 * Heaps are made in batches: the records, then the first group of classes of each, then the second
 * (10,000 threads with ten small blocks each take 2.7 KiB a thread for both, and took 12). The
 * first heap is alone, so that all that a process of one thread has lies on two pages or three.
 *
 * Batches form a chain that only grows at its end; `current` leads to one that may have heaps left,
 * or is before such a one. Threads that make a batch at the same time append all of theirs.
 */
enum { BATCH = 32, ALL_GROUPS = CLASS_GROUPS * CLASS_GROUP_BYTES };

struct batch {
    _Atomic(uint32_t) used;       /* atomic: heaps taken, or more */
    uint32_t count;               /* const: heaps in it */
    _Atomic(struct batch *) next; /* atomic: NULL until it is set, once */
    ASH_LINE_ALIGNED struct heap heap[];
};

static struct batch no_heaps; /* the chain's beginning */
static _Atomic(struct batch *) current = &no_heaps;
static _Atomic(unsigned) open_heaps;

unsigned heap_count(void)
{
    return load_relaxed(&heaps); /* a bound: entries of heap_table say what is there */
}

unsigned heap_open_count(void)
{
    ANCHOR("heaps", heaps);
    ANCHOR("heap_table", heap_table);
    ANCHOR("heap_late", heap_late);
    ANCHOR("open_heaps", open_heaps);
    return load_relaxed(&open_heaps);
}

bool heap_reopen(unsigned id)
{
    _Atomic(uint64_t) *word = &heap_closed[id / 64];
    uint64_t bit = (uint64_t)1 << (id % 64);
    uint64_t seen = load_relaxed(word);
    while ((seen & bit) != 0)
        if (cas_acquire(word, &seen, seen & ~bit)) { /* pairs with heap_close */
            add_relaxed(&open_heaps, 1);
            return true;
        }
    return false;
}

/* The batch behind `b`, the last but for those that come meanwhile; NULL: no memory. */
static struct batch *batch_append(struct batch *b)
{
    uint32_t count = b == &no_heaps ? 1 : BATCH;
    struct batch *more = meta_take(sizeof *more + count * (sizeof(struct heap) + ALL_GROUPS));
    if (more == NULL)
        return NULL;
    more->count = count;
    struct batch *next = NULL;
    /* release: its count, with heap_take; acquire: that of another batch, which is walked over */
    for (struct batch *at = b; !cas_strong_acq_rel(&at->next, &next, more); next = NULL)
        at = next;
    return load_acquire(&b->next);
}

/* A record that was never used before; NULL: no memory. */
static struct heap *heap_take(void)
{
    struct batch *b = load_acquire(&current); /* its count; pairs with the release below */
    uint32_t i;
    while ((i = add_relaxed(&b->used, 1)) >= b->count) {
        struct batch *next = load_acquire(&b->next); /* pairs with batch_append */
        if (next == NULL)
            next = batch_append(b);
        if (next == NULL)
            return NULL;
        cas_strong_release(&current, &b, next); /* its count; pairs with the load above */
        b = next;
    }
    struct heap *h = &b->heap[i];
    h->classes = (char *)&b->heap[b->count] + i * CLASS_GROUP_BYTES;
    h->stride = b->count * CLASS_GROUP_BYTES;
    return h;
}

static struct heap *heap_create(void)
{
    struct heap *h = load_relaxed(&heaps) < HEAPS_MAX ? heap_take() : NULL;
    if (h == NULL)
        return NULL;
    for (unsigned cls = 0; cls < CLASS_COUNT; cls++)
        store_relaxed(&h->bin[cls].word, BIN_FULL);
    unsigned id = load_relaxed(&heaps);
    do {
        if (id == HEAPS_MAX)
            return NULL;
    } while (!cas_relaxed(&heaps, &id, id + 1));
    h->id = id;
    add_relaxed(&open_heaps, 1);
    store_release(&heap_table[id], h); /* the heap's fields; pairs with walks */
    return h;
}

struct heap *heap_open(void)
{
    unsigned n = heap_count();
    struct heap *h = NULL;
    for (unsigned i = 0; i < n && h == NULL; i += 64) {
        uint64_t seen = load_relaxed(&heap_closed[i / 64]);
        while (seen != 0 && h == NULL) {
            unsigned id = i + bits_lowest(seen);
            seen &= seen - 1;
            if (heap_reopen(id))
                h = load_relaxed(&heap_table[id]); /* heap_reopen has acquired what is in it */
        }
    }
    return h != NULL ? h : heap_create();
}

void heap_close(struct heap *h)
{
    sub_relaxed(&open_heaps, 1);
    or_release(&heap_closed[h->id / 64], (uint64_t)1 << (h->id % 64)); /* pairs with heap_reopen */
}
