#include "heap/slabs.h"

#include "heap/remote.h"
#include "mem/reserve.h"
#include "os/os_mem.h"

/*
 * Slabs of a class from which on it counts as growing, and a fresh slab is brought in as a whole: a
 * page costs a fifth less than by its own fault, for at most 1/32 of the class's memory ahead of
 * use. A program that fills 300 MiB runs in 0.95 of the time.
 */
enum { GROWING_SLABS = 32 };

/* A batch that fills a page, or more, is worth a slab of the heap's own. */
enum { GUEST_BYTES = 4 * 1024 };

/* ---- lists ---- */

static struct slab **list_of(struct heap *h, struct slab *s, enum slab_list list)
{
    struct heap_class *hc = heap_class(h, slab_class(s));
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
    counter_add(&heap_class(h, slab_class(s))->released, 1);
    store_relaxed(&s->owner, NULL);
    store_relaxed(&s->kind, UNIT_FREED);
    classmap_set(s->unit, slab_units(s), 0);
    reserve_give(s->unit, slab_units(s));
}

bool slabs_settle(struct heap *h, struct slab *s)
{
    struct heap_class *hc = heap_class(h, slab_class(s));
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

struct block *slabs_put(struct heap *h, struct slab *s, struct block *list)
{
    bool was_full = s->free == 0;
    list = slab_put(s, list);
    if (ASH_UNLIKELY(was_full || slab_is_idle(s)))
        slabs_settle(h, s);
    return list;
}

/* ---- what other threads freed ---- */

/*
 * Takes in the chain of a slab that came off a list and settles it: false when it was given back.
 */
static bool collect_from(struct heap *h, struct slab *s)
{
    struct chain c = remote_take(s);
    if (c.head != NULL && ASH_UNLIKELY(options.harden))
        slab_put_linked(s, c);
    else if (c.head != NULL)
        slab_put(s, c.head);
    return slabs_settle(h, s);
}

/* Sorts the slabs of the inbox by class; they stay listed, so that more may be freed meanwhile. */
static void inbox_sort(struct heap *h)
{
    struct slab *next;
    for (struct slab *s = remote_inbox(h); s != NULL; s = next) {
        struct heap_class *hc = heap_class(h, slab_class(s));
        next = remote_next(s);
        remote_link(s, hc->returned);
        hc->returned = s;
    }
}

struct chain slabs_returned(struct heap *h, unsigned cls, unsigned least)
{
    struct heap_class *hc = heap_class(h, cls);
    inbox_sort(h);
    while (hc->returned != NULL) {
        struct slab *s = hc->returned;
        hc->returned = remote_next(s);
        struct chain c = remote_take(s);
        if (c.count >= least)
            return c;
        if (c.head != NULL)
            slabs_put(h, s, c.head);
    }
    return (struct chain){NULL, NULL, 0};
}

void slabs_collect(struct heap *h)
{
    inbox_sort(h);
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        struct heap_class *hc = heap_class(h, cls);
        while (hc->returned != NULL) {
            struct slab *s = hc->returned;
            hc->returned = remote_next(s);
            collect_from(h, s);
        }
    }
}

static struct slab *adopt(struct heap *h, unsigned cls)
{
    struct slab *s;
    while ((s = remote_adopt(h, cls)) != NULL) {
        s->list = SLAB_UNLISTED;
        collect_from(h, s);
        if (heap_class(h, cls)->partial != NULL)
            return heap_class(h, cls)->partial;
    }
    return NULL;
}

static struct slab *slab_create(struct heap *h, unsigned cls)
{
    struct heap_class *hc = heap_class(h, cls);
    unsigned units = class_units(cls);
    struct run r = reserve_take(units, units);
    if (r.unit == RESERVE_NONE)
        return NULL;
    if (!chunk_ensure(r.unit, units)) {
        reserve_give(r.unit, units);
        return NULL;
    }
    struct slab *s = slab_init(h, r.unit, cls, r.zero);
    if (r.zero && slabs_count(hc) >= GROWING_SLABS)
        os_populate(slab_base(s), units * (size_t)UNIT_BYTES);
    list_push(h, s, SLAB_PARTIAL);
    counter_add(&hc->created, 1);
    return s;
}

struct slab *slabs_find(struct heap *h, unsigned cls)
{
    struct heap_class *hc = heap_class(h, cls);
    if (hc->partial != NULL)
        return hc->partial;
    struct slab *s = adopt(h, cls);
    return s != NULL ? s : slab_create(h, cls);
}

bool slabs_is_guest(struct heap *h, unsigned cls, size_t bytes)
{
    struct heap_class *hc = heap_class(h, cls);
    return h->id != 0 && bytes < GUEST_BYTES && hc->partial == NULL && hc->full == NULL;
}

void slabs_share(struct heap *h, struct slab *s)
{
    list_remove(h, s);
    if (!remote_orphan(s))
        slabs_settle(h, s);
}

void slabs_shrink(struct heap *h)
{
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        struct slab *next;
        for (struct slab *s = heap_class(h, cls)->partial; s != NULL; s = next) {
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

void slabs_abandon(struct heap *h)
{
    slabs_collect(h);
    slabs_shrink(h);
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        list_abandon(h, heap_class(h, cls)->partial);
        list_abandon(h, heap_class(h, cls)->full);
    }
}

void slabs_reap(struct heap *h)
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
                slabs_settle(h, kept);
        }
    }
    for (unsigned id = 0, n = heap_count(); id < n; id++) {
        struct heap *other = load_acquire(&heap_table[id]);
        if (other != NULL && load_relaxed(&other->inbox) != 0 && heap_reopen(id)) {
            slabs_abandon(other);
            heap_close(other);
        }
    }
}
