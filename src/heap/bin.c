#include "heap/bin.h"

#include "heap/error.h"
#include "heap/remote.h"
#include "heap/slabs.h"

enum {
    CAP_START_BYTES = 4 * 1024, /* what a list may hold at first … */
    CAP_START_LEAST = 2,        /* … but at least so many blocks */
    CAP_START_MOST = 64,
    CAP_BYTES = 256 * 1024, /* what it may hold after doubling … */
    CAP_LEAST = 4,          /* … but at least so many blocks */
    CAP_MOST = 1024,
    BATCH_START_BYTES = 512,
    BATCH_START_MOST = 8,
    BATCH_BYTES = 16 * 1024,
    BATCH_MOST = 256,
    GROUPS = 16 /* slabs that one flush gathers blocks for at a time */
};

ASH_INLINE unsigned clamp(size_t n, unsigned least, unsigned most)
{
    return n < least ? least : n > most ? most : (unsigned)n;
}

/* ---- sending blocks home ---- */

struct group {
    struct slab *slab;
    struct chain chain;
};

static void group_send(struct heap *h, struct group *g)
{
    if (g->slab == NULL)
        return;
    counter_add(&h->of[g->slab->cls].remote_frees, g->chain.count);
    remote_push(g->slab, g->chain);
    g->slab = NULL;
}

static void group_add(struct heap *h, struct group *groups, struct slab *s, struct block *p)
{
    struct group *g = &groups[(s->unit / s->units) % GROUPS];
    if (g->slab != s) {
        group_send(h, g);
        g->slab = s;
        g->chain = (struct chain){p, p, 1};
        return;
    }
    p->next = g->chain.head;
    g->chain.head = p;
    g->chain.count++;
}

/* Sends a list home; returns its length. */
static unsigned send_home(struct heap *h, unsigned cls, struct block *p)
{
    struct group groups[GROUPS];
    for (unsigned i = 0; i < GROUPS; i++)
        groups[i].slab = NULL;
    unsigned count = 0;
    for (struct block *next; p != NULL; p = next, count++) {
        next = p->next;
        __builtin_prefetch(next);
        struct slab *s = slab_of(cls, p);
        if (load_relaxed(&s->owner) != h)
            group_add(h, groups, s, p);
        else if (ASH_UNLIKELY(!slabs_put(h, s, p)))
            error_double_free(p);
    }
    for (unsigned i = 0; i < GROUPS; i++)
        group_send(h, &groups[i]);
    return count;
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
    unsigned cap = load_relaxed(&h->of[cls].cap);
    if (cap < to) {
        store_relaxed(&h->of[cls].cap, to);
        room_add(&h->bin[cls], to - cap);
    }
}

/* Sends the list home but for its newest `keep` blocks. */
static void trim_to(struct heap *h, unsigned cls, unsigned keep)
{
    struct bin *b = &h->bin[cls];
    struct block *rest = b->head;
    if (keep == 0) {
        b->head = NULL;
    } else {
        struct block *last = rest;
        for (unsigned i = 1; i < keep; i++)
            last = last->next;
        rest = last->next;
        last->next = NULL;
    }
    unsigned count = send_home(h, cls, rest);
    room_add(b, count);
    counter_add(&h->of[cls].flushed, count);
}

static void spill(struct heap *h, unsigned cls)
{
    struct heap_class *hc = &h->of[cls];
    unsigned cap = load_relaxed(&hc->cap);
    unsigned most = clamp(CAP_BYTES / class_size(cls), CAP_LEAST, CAP_MOST);
    if (cap == 0)
        cap_raise(h, cls, cap_start(cls));
    else if (hc->missed != 0 && cap < most)
        cap_raise(h, cls, (unsigned)size_min(2 * (size_t)cap, most));
    else
        trim_to(h, cls, cap / 2);
    hc->missed = 0;
}

void bin_attend(struct heap *h, unsigned cls)
{
    struct bin *b = &h->bin[cls];
    uint64_t word = load_relaxed(&b->word);
    if ((word & BIN_TICK) != 0) {
        counter_add(&h->of[cls].hits, BIN_TICK / BIN_HIT);
        store_relaxed(&b->word, word - BIN_TICK);
        h->events = 0;
    }
    if ((word & BIN_FULL) != 0)
        spill(h, cls);
}

/* ---- refill ---- */

struct block *bin_refill(struct heap *h, unsigned cls)
{
    struct heap_class *hc = &h->of[cls];
    struct slab *s = slabs_find(h, cls);
    if (s == NULL)
        return NULL;
    size_t size = class_size(cls);
    unsigned batch =
        hc->batch != 0 ? hc->batch : clamp(BATCH_START_BYTES / size, 1, BATCH_START_MOST);
    struct chain c = slab_take(s, batch);
    if (s->free == 0)
        slabs_settle(h, s);
    while (c.count < batch && hc->partial != NULL) {
        s = hc->partial;
        struct chain more = slab_take(s, batch - c.count);
        if (s->free == 0)
            slabs_settle(h, s);
        c.tail->next = more.head;
        c.tail = more.tail;
        c.count += more.count;
    }
    c.tail->next = NULL;
    hc->missed = 1;
    hc->batch = (uint32_t)size_min(2 * (size_t)batch, clamp(BATCH_BYTES / size, 1, BATCH_MOST));
    cap_raise(h, cls, (unsigned)size_max(cap_start(cls), 2 * (size_t)batch));
    counter_add(&hc->misses, 1);
    counter_add(&hc->taken, c.count - 1);
    h->bin[cls].head = c.head->next;
    room_sub(&h->bin[cls], c.count - 1);
    return c.head;
}

/* ---- one by one, and all ---- */

void bin_free_direct(struct heap *h, unsigned cls, void *p)
{
    struct slab *s = slab_of(cls, p);
    struct block *b = p;
    heap_count_up(h, cls, direct, 1);
    if (load_relaxed(&s->owner) == h) {
        if (!slabs_put(h, s, p))
            error_double_free(p);
        return;
    }
    b->mark = block_mark(b);
    heap_count_up(h, cls, remote_frees, 1);
    remote_push(s, (struct chain){b, b, 1});
}

bool bin_holds(const struct heap *h, unsigned cls, const void *p)
{
    const struct block *b = h->bin[cls].head;
    while (b != NULL && b != p)
        b = b->next;
    return b != NULL;
}

void bin_drain(struct heap *h)
{
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++)
        if (h->bin[cls].head != NULL)
            trim_to(h, cls, 0);
}

/* Changes with every allocation and every free of the class that uses the list. */
static uint64_t activity_of(struct heap *h, unsigned cls)
{
    uint64_t moved = load_relaxed(&h->of[cls].hits) + load_relaxed(&h->of[cls].misses);
    return load_relaxed(&h->bin[cls].word) + moved * BIN_HIT;
}

void bin_drain_idle(struct heap *h)
{
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        struct heap_class *hc = &h->of[cls];
        uint64_t activity = activity_of(h, cls);
        if (activity == hc->seen && h->bin[cls].head != NULL) {
            trim_to(h, cls, 0);
            hc->batch = 0;
            activity = activity_of(h, cls);
        }
        hc->seen = activity;
    }
}
