/*
 * Small blocks of hardened mode; see hard.h. Large ones are in hardlarge.c.
 *
 * slack[] is the one word that two threads may race for: the exchange that finds it not 0 is the
 * free; acquire and release order the block's content between the threads that pass it on.
 */
#include "heap/hard.h"

#include "heap/bin.h"
#include "heap/canary.h"
#include "heap/error.h"
#include "heap/hardlarge.h"
#include "heap/slabs.h"
#include "mem/meta.h"
#include "os/os_mem.h"

#include <string.h>

enum {
    QUARANTINE = 256,    /* blocks that wait, of each heap … */
    QUARANTINE_BIG = 16, /* … of those above … */
    BIG_BYTES = 4 * 1024 /* … this size; so they are at most 1 MiB */
};

struct hard {
    uint64_t random;
    void *waiting[QUARANTINE];
};

static uint64_t random_next(struct hard *q)
{
    q->random = q->random * 6364136223846793005u + 1442695040888963407u;
    return q->random ^ q->random >> 32;
}

/* The heap's own; NULL: no memory for it. */
static struct hard *quarantine_of(struct heap *h)
{
    if (h->hard == NULL && (h->hard = meta_take(sizeof *h->hard)) != NULL)
        os_random(&h->hard->random, sizeof h->hard->random);
    return h->hard;
}

struct place {
    struct slab *slab;
    _Atomic(uint16_t) *slack;
    unsigned cls;
};

ASH_INLINE struct place place_of(unsigned cls, const void *p)
{
    struct slab *s = slab_of(cls, p);
    return (struct place){s, &slab_slack(s)[class_index(cls, p)], cls};
}

/* The place of a live block; slack == NULL when `p` is none, which has been said. */
ASH_INLINE struct place live_place(const char *verb, unsigned cls, const void *p)
{
    struct place at = place_of(cls, p);
    if (!class_is_block(&size_classes.of[cls], p)) {
        error_interior(verb, p, slab_base(at.slab) + class_index(cls, p) * class_size(cls));
        at.slack = NULL;
    } else if (load_relaxed(at.slack) == 0) {
        error_double_free(p);
        at.slack = NULL;
    }
    return at;
}

/* Says so when bytes [from, size) of a free block are not zero, and clears them again. */
static void cleared_check(void *p, size_t from, size_t size)
{
    const unsigned char *bytes = p;
    if (bytes[from] == 0 && memcmp(bytes + from, bytes + from + 1, size - from - 1) == 0)
        return;
    size_t at = from;
    while (bytes[at] == 0)
        at++;
    error_used_after_free(p, at);
    memset(p, 0, size);
}

static unsigned class_for(size_t n, size_t align)
{
    unsigned cls = class_of(align_up(n + CANARY_BYTES, align));
    while ((class_size(cls) & (align - 1)) != 0)
        cls++;
    return cls;
}

static void *small_alloc(struct heap *h, unsigned cls, size_t n)
{
    struct heap_class *hc = &h->of[cls];
    struct hard *q = quarantine_of(h);
    if (hc->partial == NULL)
        slabs_collect(h);
    struct slab *s = q != NULL ? slabs_find(h, cls) : NULL;
    if (s == NULL)
        return NULL;
    bool fresh;
    struct block *p = slab_take_random(s, random_next(q), &fresh);
    if (s->free == 0)
        slabs_settle(h, s);
    if (!fresh) /* but for the link, by which it may have come home */
        cleared_check(p, sizeof p->next, class_size(cls));
    p->next = NULL;
    canary_fill(p, n, class_size(cls));
    store_release(place_of(cls, p).slack, (uint16_t)(class_size(cls) - n)); /* pairs with free */
    counter_add(&hc->misses, 1);
    return p;
}

void *hard_alloc(struct heap *h, size_t n, size_t align)
{
    n = size_max(n, 1);
    if (n > SMALL_MAX - CANARY_BYTES || align > SMALL_MAX ||
        align_up(n + CANARY_BYTES, align) > SMALL_MAX)
        return hardlarge_alloc(h, n, align);
    return small_alloc(h, class_for(n, align), n);
}

/* Back to its slab. */
static void go_home(struct heap *h, struct block *p)
{
    unsigned cls = classmap_at(p);
    cleared_check(p, 0, sizeof *p);
    bin_send(h, cls, p);
}

static void small_free(struct heap *h, unsigned cls, void *p)
{
    struct place at = live_place("free", cls, p);
    if (at.slack == NULL)
        return;
    size_t size = class_size(cls);
    unsigned slack = exchange_acq_rel(at.slack, 0); /* pairs with small_alloc, hard_resize */
    if (slack == 0) {
        error_double_free(p);
        return;
    }
    canary_check(p, size - slack, size);
    memset(p, 0, size);
    heap_count_up(h, cls, direct, 1);
    struct hard *q = heap_is_real(h) ? quarantine_of(h) : NULL;
    if (q != NULL) {
        void **slot =
            &q->waiting[random_next(q) % (size > BIG_BYTES ? QUARANTINE_BIG : QUARANTINE)];
        void *leaves = *slot;
        *slot = p;
        p = leaves;
    }
    if (p != NULL)
        go_home(h, p);
}

void hard_free(struct heap *h, void *p)
{
    unsigned cls = classmap_at(p);
    if (cls != 0)
        small_free(h, cls, p);
    else
        hardlarge_free(h, p);
}

size_t hard_usable(const char *verb, const void *p)
{
    unsigned cls = classmap_at(p);
    if (cls == 0)
        return hardlarge_usable(verb, p);
    struct place at = live_place(verb, cls, p);
    return at.slack == NULL ? 0 : class_size(cls) - load_relaxed(at.slack);
}

bool hard_resize(struct heap *h, void *p, size_t n)
{
    unsigned cls = classmap_at(p);
    if (cls == 0)
        return hardlarge_resize(h, p, n);
    struct place at = place_of(cls, p);
    size_t size = class_size(cls);
    size_t old = size - load_relaxed(at.slack);
    if (n > size - CANARY_BYTES || n < size / 2)
        return false;
    canary_check(p, old, size);
    if (n > old)
        memset((char *)p + old, 0, n - old);
    canary_fill(p, n, size);
    store_release(at.slack, (uint16_t)(size - n)); /* pairs with small_free */
    return true;
}

void hard_flush(struct heap *h)
{
    struct hard *q = h->hard;
    for (unsigned i = 0; q != NULL && i < QUARANTINE; i++) {
        struct block *p = q->waiting[i];
        q->waiting[i] = NULL;
        if (p != NULL)
            go_home(h, p);
    }
}
