/*
 * Slabs of a heap, and the table of all heaps.
 *
 * A slab of a heap is on one of two lists of its class: `partial` (has free blocks) or `full`. A slab that
 * becomes idle (all blocks free) goes back to the reserve unless it is the only partial one of its class:
 * that one stays for the next allocation, until heap_shrink.
 *
 * Closed heaps are bits in a bitmap; opening one is a compare-and-swap that clears its bit. No stack, so no
 * ABA question. Orders: closing releases what the thread left in the heap, opening acquires it.
 *
 * A forked child has the heaps of the threads that did not come along: they are never closed, so nobody opens
 * them, and frees into their slabs go to the remote word, which is right at every instant.
 */
#include "heap/heap.h"

#include "base/bits.h"
#include "heap/error.h"
#include "heap/remote.h"
#include "mem/meta.h"
#include "mem/reserve.h"

const struct heap heap_none = {.bin = {[0 ... CLASS_COUNT - 1] = {NULL, BIN_FULL}}};
const struct heap heap_ended = {.bin = {[0 ... CLASS_COUNT - 1] = {NULL, BIN_FULL}}};
ASH_TABLE struct heap heap_late;

ASH_TLS struct heap *heap_tls = (struct heap *)(uintptr_t)&heap_none;

ASH_TABLE _Atomic(struct heap *) heap_table[HEAPS_MAX];
ASH_TABLE _Atomic(uint64_t) heap_closed[HEAPS_MAX / 64];
static _Atomic(unsigned) heaps;
static _Atomic(unsigned) open_heaps;

/* ---- the table ---- */

unsigned heap_count(void)
{
    return load_acquire(&heaps); /* pairs with heap_create */
}

unsigned heap_open_count(void)
{
    return load_relaxed(&open_heaps);
}

/* Claims the closed heap `id`, if it is closed. */
static bool closed_claim(unsigned id)
{
    _Atomic(uint64_t) *word = &heap_closed[id / 64];
    uint64_t bit = (uint64_t)1 << (id % 64);
    uint64_t seen = load_relaxed(word);
    while ((seen & bit) != 0)
        if (cas_acquire(word, &seen, seen & ~bit)) /* pairs with heap_close */
            return true;
    return false;
}

static struct heap *heap_create(void)
{
    struct heap *h = load_relaxed(&heaps) < HEAPS_MAX ? meta_take(sizeof(struct heap)) : NULL;
    if (h == NULL)
        return NULL;
    for (unsigned cls = 0; cls < CLASS_COUNT; cls++)
        store_relaxed(&h->bin[cls].word, BIN_FULL);
    unsigned id = load_relaxed(&heaps);
    do {
        if (id == HEAPS_MAX)
            return NULL;
    } while (!cas_acq_rel(&heaps, &id, id + 1));
    h->id = id;
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
            if (closed_claim(id))
                h = load_acquire(&heap_table[id]);
        }
    }
    if (h == NULL)
        h = heap_create();
    if (h != NULL)
        add_relaxed(&open_heaps, 1);
    return h;
}

void heap_close(struct heap *h)
{
    sub_relaxed(&open_heaps, 1);
    or_release(&heap_closed[h->id / 64], (uint64_t)1 << (h->id % 64)); /* pairs with closed_claim */
}

/* ---- lists ---- */

static struct slab **list_of(struct heap *h, struct slab *s, enum slab_list list)
{
    struct heap_class *hc = &h->of[s->cls];
    return list == SLAB_PARTIAL ? &hc->partial : &hc->full;
}

static void list_remove(struct heap *h, struct slab *s)
{
    if (s->list == SLAB_UNLISTED)
        return;
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        *list_of(h, s, s->list) = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    s->list = SLAB_UNLISTED;
}

static void list_push(struct heap *h, struct slab *s, enum slab_list list)
{
    struct slab **head = list_of(h, s, list);
    s->prev = NULL;
    s->next = *head;
    if (s->next != NULL)
        s->next->prev = s;
    *head = s;
    s->list = list;
}

/* ---- slabs ---- */

static void slab_release(struct heap *h, struct slab *s)
{
    list_remove(h, s);
    counter_add(&h->of[s->cls].released, 1);
    store_relaxed(&s->owner, NULL);
    store_relaxed(&s->kind, UNIT_FREED);
    classmap_set(s->unit, s->units, 0);
    reserve_give(s->unit, s->units);
}

bool heap_settle(struct heap *h, struct slab *s)
{
    struct heap_class *hc = &h->of[s->cls];
    enum slab_list list = s->free != 0 ? SLAB_PARTIAL : SLAB_FULL;
    bool only = hc->partial == NULL || (hc->partial == s && s->next == NULL);
    if (slab_is_idle(s) && !only && !remote_is_listed(s)) {
        slab_release(h, s);
        return false;
    }
    if (s->list != list) {
        list_remove(h, s);
        list_push(h, s, list);
    }
    return true;
}

bool heap_put(struct heap *h, struct slab *s, const void *p)
{
    if (ASH_UNLIKELY(!slab_put(s, p)))
        return false;
    if (ASH_UNLIKELY(s->free == 1 || slab_is_idle(s)))
        heap_settle(h, s);
    return true;
}

/* Takes in the chain of a slab that came off a list and settles it: false when it was given back. */
static bool collect_from(struct heap *h, struct slab *s)
{
    struct chain c = remote_take(s);
    struct block *p = c.head;
    for (unsigned left = c.count; left != 0; left--) {
        struct block *next = p->next; /* of the last one: whatever lay there */
        if (!slab_put(s, p))
            error_double_free(p);
        p = next;
    }
    return heap_settle(h, s);
}

void heap_collect(struct heap *h)
{
    struct slab *s = remote_inbox(h);
    while (s != NULL) {
        struct slab *next = remote_next(s);
        collect_from(h, s);
        s = next;
    }
}

static struct slab *adopt(struct heap *h, unsigned cls)
{
    struct slab *s;
    while ((s = remote_adopt(h, cls)) != NULL) {
        s->list = SLAB_UNLISTED;
        collect_from(h, s);
        if (h->of[cls].partial != NULL)
            return h->of[cls].partial;
    }
    return NULL;
}

static struct slab *slab_create(struct heap *h, unsigned cls)
{
    unsigned units = class_units(cls);
    struct run r = reserve_take(units, units);
    if (r.unit == RESERVE_NONE)
        return NULL;
    if (!chunk_ensure(r.unit, units)) {
        reserve_give(r.unit, units);
        return NULL;
    }
    struct slab *s = slab_init(h, r.unit, cls, r.zero);
    list_push(h, s, SLAB_PARTIAL);
    counter_add(&h->of[cls].created, 1);
    return s;
}

struct slab *heap_slab(struct heap *h, unsigned cls)
{
    struct heap_class *hc = &h->of[cls];
    if (hc->partial != NULL)
        return hc->partial;
    heap_collect(h);
    if (hc->partial != NULL)
        return hc->partial;
    struct slab *s = adopt(h, cls);
    return s != NULL ? s : slab_create(h, cls);
}

void heap_shrink(struct heap *h)
{
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        struct slab *next;
        for (struct slab *s = h->of[cls].partial; s != NULL; s = next) {
            next = s->next;
            if (slab_is_idle(s) && !remote_is_listed(s))
                slab_release(h, s);
        }
    }
}

/* Makes every slab of a list an orphan, but for those that another thread is about to list. */
static void list_abandon(struct heap *h, struct slab *first)
{
    struct slab *next;
    for (struct slab *s = first; s != NULL; s = next) {
        next = s->next;
        enum slab_list list = s->list;
        list_remove(h, s);
        if (!remote_orphan(s))
            list_push(h, s, list);
    }
}

void heap_abandon(struct heap *h)
{
    heap_collect(h);
    heap_shrink(h);
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        list_abandon(h, h->of[cls].partial);
        list_abandon(h, h->of[cls].full);
    }
}

void heap_reap(struct heap *h)
{
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        struct slab *kept = NULL;
        struct slab *s;
        while ((s = remote_adopt(h, cls)) != NULL) {
            s->list = SLAB_UNLISTED;
            if (collect_from(h, s)) {
                list_remove(h, s);
                s->next = kept;
                kept = s;
            }
        }
        for (; kept != NULL; kept = s) {
            s = kept->next;
            if (slab_is_idle(kept) && !remote_is_listed(kept))
                slab_release(h, kept);
            else if (!remote_orphan(kept))
                heap_settle(h, kept);
        }
    }
    for (unsigned id = 0, n = heap_count(); id < n; id++) {
        struct heap *other = load_acquire(&heap_table[id]);
        if (other != NULL && load_relaxed(&other->inbox) != 0 && closed_claim(id)) {
            heap_abandon(other);
            or_release(&heap_closed[id / 64], (uint64_t)1 << (id % 64)); /* pairs with closed_claim */
        }
    }
}
