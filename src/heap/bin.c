#include "heap/bin.h"

#include "heap/error.h"
#include "heap/remote.h"
#include "heap/slabs.h"

enum {
    CAP_START_BYTES = 4 * 1024, /* what a list may hold at first … */
    CAP_START_LEAST = 2,        /* … but at least so many blocks */
    CAP_START_MOST = 64,
    CAP_BYTES = 256 * 1024, /* what it may hold after doubling … */
    CAP_LEAST = 16,         /* … but at least so many blocks */
    CAP_MOST = 1024,
    BATCH_GUEST_BYTES = 256,
    BATCH_START_BYTES = 512,
    BATCH_START_MOST = 8,
    BATCH_BYTES = 16 * 1024,
    BATCH_MOST = 256,
    RETURNED_LEAST = 8, /* a chain of other threads' frees this long is used as it is */
    WIDE_SLABS = 256,   /* a class of so many is too wide for the TLB */
    GROUPS = 16         /* slabs that one flush gathers blocks for at a time */
};

ASH_INLINE unsigned clamp(size_t n, unsigned least, unsigned most)
{
    return n < least ? least : n > most ? most : (unsigned)n;
}

/* ---- sending blocks home ---- */

/* Adds the blocks of a list that lie in slab `s`, up to the first that does not: returns that. */
static struct block *group_add(struct heap *h, struct group *groups, struct slab *s,
                               struct block *first)
{
    struct group *g = &groups[(s->unit / slab_units(s)) % GROUPS];
    struct block *last = first;
    struct block *next = first->next;
    unsigned count = 1;
    for (; next != NULL && slab_holds(s, next); count++) {
        last = next;
        next = last->next;
    }
    if (g->slab != s) {
        remote_send(h, g);
        g->slab = s;
        g->chain = (struct chain){first, last, count};
    } else {
        last->next = g->chain.head;
        g->chain.head = first;
        g->chain.count += count;
    }
    return next;
}

/* The slab of a block that a list leads to; NULL: to none of the class, which is said. */
ASH_INLINE struct slab *slab_at(unsigned cls, const struct block *p)
{
    if (ASH_LIKELY(classmap_at(p) == cls))
        return slab_of(cls, p);
    error_link(class_size(cls), p);
    return NULL;
}

/* Sends a list home in which other heaps' blocks are. */
static ASH_NOINLINE void send_mixed(struct heap *h, unsigned cls, struct block *p)
{
    struct group groups[GROUPS];
    for (unsigned i = 0; i < GROUPS; i++)
        groups[i].slab = NULL;
    while (p != NULL) {
        struct slab *s = slab_at(cls, p);
        if (s == NULL)
            break;
        p = load_relaxed(&s->owner) == h ? slabs_put(h, s, p) : group_add(h, groups, s, p);
    }
    for (unsigned i = 0; i < GROUPS; i++)
        remote_send(h, &groups[i]);
}

/* Sends a list home. */
static void send_home(struct heap *h, unsigned cls, struct block *p)
{
    while (p != NULL) {
        struct slab *s = slab_at(cls, p);
        if (s == NULL)
            return;
        if (load_relaxed(&s->owner) != h) {
            send_mixed(h, cls, p);
            return;
        }
        p = slabs_put(h, s, p);
    }
}

/* ---- bounds ---- */

ASH_INLINE void room_add(struct bin *b, unsigned n)
{
    store_relaxed(&b->word, load_relaxed(&b->word) - n * BIN_BLOCK);
}

ASH_INLINE void room_sub(struct bin *b, unsigned n)
{
    store_relaxed(&b->word, load_relaxed(&b->word) + n * BIN_BLOCK);
}

static unsigned cap_start(unsigned cls)
{
    return clamp(CAP_START_BYTES / class_size(cls), CAP_START_LEAST, CAP_START_MOST);
}

static void cap_raise(struct heap *h, unsigned cls, unsigned to)
{
    unsigned cap = load_relaxed(&heap_class(h, cls)->cap);
    if (cap < to) {
        store_relaxed(&heap_class(h, cls)->cap, to);
        room_add(&h->bin[cls], to - cap);
    }
}

/* ---- the spare list ---- */

static struct block *spare_take(struct heap_class *hc)
{
    struct block *list = hc->spare;
    hc->spare = NULL;
    store_relaxed(&hc->spare_count, 0);
    return list;
}

/*
 * Makes the list the spare one, which goes home. In a wide class that is only being freed the list
 * goes home itself: the spare's blocks have left every cache and the TLB by then (ten million
 * blocks freed in random order take 0.8 of the time; in a small class it costs what it saves).
 */
static void stash(struct heap *h, unsigned cls)
{
    struct heap_class *hc = heap_class(h, cls);
    struct bin *b = &h->bin[cls];
    struct block *list = b->head;
    unsigned count = load_relaxed(&hc->cap) - bin_room(b);
    b->head = NULL;
    room_add(b, count);
    counter_add(&hc->flushed, count);
    if (hc->spare == NULL || hc->missed != 0 || slabs_count(hc) < WIDE_SLABS) {
        struct block *spare = spare_take(hc);
        hc->spare = list;
        store_relaxed(&hc->spare_count, count);
        list = spare;
    }
    send_home(h, cls, list);
}

/* Sends both lists home; what the class has learnt is forgotten. */
static void empty(struct heap *h, unsigned cls)
{
    struct heap_class *hc = heap_class(h, cls);
    if (load_relaxed(&hc->cap) == 0 && hc->spare == NULL)
        return; /* not used */
    if (h->bin[cls].head != NULL)
        stash(h, cls);
    send_home(h, cls, spare_take(hc));
    room_sub(&h->bin[cls], load_relaxed(&hc->cap));
    store_relaxed(&hc->cap, 0);
    hc->batch = 0;
}

static void spill(struct heap *h, unsigned cls)
{
    struct heap_class *hc = heap_class(h, cls);
    unsigned cap = load_relaxed(&hc->cap);
    unsigned most = clamp(CAP_BYTES / class_size(cls), CAP_LEAST, CAP_MOST);
    if (cap == 0)
        cap_raise(h, cls, cap_start(cls));
    else if (hc->missed != 0 && cap < most)
        cap_raise(h, cls, (unsigned)size_min(2 * (size_t)cap, most));
    else
        stash(h, cls);
    hc->missed = 0;
}

void bin_attend(struct heap *h, unsigned cls)
{
    struct bin *b = &h->bin[cls];
    uint64_t word = load_relaxed(&b->word);
    if ((word & BIN_TICK) != 0) {
        counter_add(&heap_class(h, cls)->hits, BIN_TICK / BIN_HIT);
        store_relaxed(&b->word, word - BIN_TICK);
        h->events = EVENTS_PER_LOOK;
    }
    if ((word & BIN_FULL) != 0)
        spill(h, cls);
}

/* ---- refill ---- */

/* Up to `most` blocks of the class's slabs, of which the first has one. */
static struct chain take_from(struct heap *h, struct slab *s, unsigned most)
{
    struct heap_class *hc = heap_class(h, slab_class(s));
    struct chain c = slab_take(s, most);
    if (s->free == 0)
        slabs_settle(h, s);
    while (c.count < most && hc->partial != NULL) {
        s = hc->partial;
        struct chain more = slab_take(s, most - c.count);
        if (s->free == 0)
            slabs_settle(h, s);
        c.tail->next = more.head;
        c.tail = more.tail;
        c.count += more.count;
    }
    c.tail->next = NULL;
    return c;
}

/* Up to `most` blocks of a slab that is nobody's again afterwards. */
static struct chain take_shared(struct heap *h, struct slab *s, unsigned most)
{
    struct chain c = slab_take(s, most);
    c.tail->next = NULL;
    slabs_share(h, s);
    return c;
}

/* Blocks of the heap's own: other threads' frees as they are, or out of slabs. count 0: none. */
static struct chain batch_take(struct heap *h, unsigned cls)
{
    struct heap_class *hc = heap_class(h, cls);
    size_t size = class_size(cls);
    bool guest = slabs_is_guest(h, cls, size_max(hc->batch, 1) * size);
    size_t start = (guest ? BATCH_GUEST_BYTES : BATCH_START_BYTES) / size;
    unsigned batch = hc->batch != 0 ? hc->batch : clamp(start, 1, BATCH_START_MOST);
    struct chain c = {NULL, NULL, 0};
    if (hc->partial == NULL)
        c = slabs_returned(h, cls, size_min(batch, RETURNED_LEAST));
    if (c.count == 0) {
        struct slab *s = slabs_find(h, cls);
        if (s == NULL)
            return c;
        c = guest ? take_shared(h, s, batch) : take_from(h, s, batch);
    }
    hc->missed = 1;
    hc->batch = (uint32_t)size_min(2 * (size_t)batch, clamp(BATCH_BYTES / size, 1, BATCH_MOST));
    cap_raise(h, cls, (unsigned)size_max(size_max(cap_start(cls), 2 * (size_t)batch), c.count));
    return c;
}

struct block *bin_refill(struct heap *h, unsigned cls)
{
    struct heap_class *hc = heap_class(h, cls);
    struct chain c = {.count = load_relaxed(&hc->spare_count)};
    if (c.count != 0)
        c.head = spare_take(hc);
    else
        c = batch_take(h, cls);
    if (c.count == 0)
        return NULL;
    counter_add(&hc->misses, 1);
    counter_add(&hc->taken, c.count - 1);
    h->bin[cls].head = c.head->next;
    room_sub(&h->bin[cls], c.count - 1);
    return c.head;
}

/* ---- one by one, and all ---- */

void bin_free_direct(struct heap *h, unsigned cls, void *p)
{
    struct block *b = p;
    struct slab *s = slab_of(cls, p);
    heap_count_up(h, cls, direct, 1);
    b->mark = block_mark(b);
    if (load_relaxed(&s->owner) == h) {
        b->next = NULL;
        slabs_put(h, s, b);
        return;
    }
    heap_count_up(h, cls, remote_frees, 1);
    remote_push(s, (struct chain){b, b, 1});
}

void bin_drain(struct heap *h)
{
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++)
        empty(h, cls);
}

/* Changes with every allocation and every free of the class that uses the list. */
static uint64_t activity_of(struct heap *h, unsigned cls)
{
    uint64_t moved =
        load_relaxed(&heap_class(h, cls)->hits) + load_relaxed(&heap_class(h, cls)->misses);
    return load_relaxed(&h->bin[cls].word) + moved * BIN_HIT;
}

void bin_drain_idle(struct heap *h)
{
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        struct heap_class *hc = heap_class(h, cls);
        if (load_relaxed(&hc->cap) == 0 && hc->spare == NULL)
            continue; /* not used, and its page may never have been touched */
        uint64_t activity = activity_of(h, cls);
        if (activity == hc->seen) {
            empty(h, cls);
            activity = activity_of(h, cls);
        }
        hc->seen = activity;
    }
}
