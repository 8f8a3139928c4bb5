/*
 * Small blocks of hardened mode; see hard.h. Large ones are in hardlarge.c.
 *
 * A block's way, of which only the first and the last step touch what the program sees:
 *
 *   live -> cleared, in the quarantine -> leaving: gathered until they go home together
 *        -> its slab -> ready: taken by the batch, looked at, in random order -> live
 *
 * No step writes a link into a block: batches are arrays, and chains between threads are linked
 * beside the blocks. So a block that is not live is all zero, and nothing can be led astray by what
 * is written to it. (One block at a time, with the links in them, took twice as long.)
 *
 * slack[] is the one word that two threads may race for: the exchange that finds it not 0 is the
 * free; acquire and release order the block's content between the threads that pass it on.
 */
#include "heap/hard.h"

#include "heap/canary.h"
#include "heap/error.h"
#include "heap/hardlarge.h"
#include "heap/remote.h"
#include "heap/slabs.h"
#include "mem/meta.h"
#include "os/os_mem.h"

#include <string.h>

enum {
    QUARANTINE = 256,     /* blocks that wait, of each heap … */
    QUARANTINE_BIG = 16,  /* … of those above … */
    BIG_BYTES = 4 * 1024, /* … this size; so they are at most 1 MiB */
    BATCH = 16,           /* blocks of a class that are ready, or leaving, at most … */
    BATCH_BYTES = 4 * 1024
};

/* Free blocks of a class. */
struct batch {
    void *block[BATCH];
    unsigned count;
};

struct hard {
    uint64_t random;
    void *waiting[QUARANTINE];
    struct batch ready[CLASS_COUNT], leaving[CLASS_COUNT];
};

ASH_INLINE unsigned batch_most(unsigned cls)
{
    return (unsigned)size_max(1, size_min(BATCH, BATCH_BYTES / class_size(cls)));
}

static uint64_t random_next(struct hard *q)
{
    q->random = q->random * 6364136223846793005u + 1442695040888963407u;
    return q->random ^ q->random >> 32;
}

/* The heap's own; NULL: no memory for it. */
static ASH_NOINLINE struct hard *hard_open(struct heap *h)
{
    h->hard = meta_take(sizeof *h->hard);
    if (h->hard != NULL)
        os_random(&h->hard->random, sizeof h->hard->random);
    return h->hard;
}

ASH_INLINE struct hard *hard_of(struct heap *h)
{
    return ASH_LIKELY(h->hard != NULL) ? h->hard : hard_open(h);
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
    if (ASH_UNLIKELY(!class_is_block(&size_classes.of[cls], p))) {
        error_interior(verb, p, slab_base(at.slab) + class_index(cls, p) * class_size(cls));
        at.slack = NULL;
    } else if (ASH_UNLIKELY(load_relaxed(at.slack) == 0)) {
        error_double_free(p);
        at.slack = NULL;
    }
    return at;
}

/* ---- allocation ---- */

static ASH_COLD void written(void *p, size_t size)
{
    const char *bytes = p;
    size_t at = 0;
    while (bytes[at] == 0)
        at++;
    error_used_after_free(p, at);
    memset(p, 0, size);
}

/* Says so when a free block is not all zero, and clears it again. Sizes are multiples of 16. */
ASH_INLINE void cleared_check(void *p, size_t size)
{
    const uint64_t *word = p;
    uint64_t any = 0;
    for (size_t i = 0; i < size / sizeof *word; i += 2)
        any |= word[i] | word[i + 1];
    if (ASH_UNLIKELY(any != 0))
        written(p, size);
}

/* Makes blocks of the class ready; false: no memory. */
static bool refill(struct heap *h, struct hard *q, unsigned cls)
{
    struct batch *b = &q->ready[cls];
    if (h->of[cls].partial == NULL)
        slabs_collect(h);
    struct slab *s = slabs_find(h, cls);
    if (s == NULL)
        return false;
    const void *untouched;
    b->count = slab_take_random(s, random_next(q), batch_most(cls), b->block, &untouched);
    if (s->free == 0)
        slabs_settle(h, s);
    size_t size = class_size(cls);
    for (unsigned i = 0; i < b->count; i++)
        __builtin_prefetch(b->block[i]);
    for (unsigned i = 0; i < b->count; i++)
        if (b->block[i] < untouched)
            cleared_check(b->block[i], size);
    return true;
}

/* One of the blocks that are ready. */
ASH_INLINE void *batch_pop(struct batch *b, unsigned cls, size_t n)
{
    void *p = b->block[--b->count];
    canary_fill(p, n, class_size(cls));
    store_release(place_of(cls, p).slack, (uint16_t)(class_size(cls) - n)); /* pairs with free */
    return p;
}

void *hard_hit(struct heap *h, size_t n)
{
    if (n > SMALL_MAX - CANARY_BYTES || ASH_UNLIKELY(h->hard == NULL))
        return NULL;
    unsigned cls = class_of(n + CANARY_BYTES);
    struct batch *b = &h->hard->ready[cls];
    if (b->count == 0)
        return NULL;
    counter_add(&h->of[cls].hits, 1);
    counter_add(&h->of[cls].taken, 1); /* it was on no list: see heap.h */
    return batch_pop(b, cls, n);
}

static void *small_alloc(struct heap *h, unsigned cls, size_t n)
{
    struct hard *q = hard_of(h);
    if (ASH_UNLIKELY(q == NULL))
        return NULL;
    struct batch *b = &q->ready[cls];
    struct heap_class *hc = &h->of[cls];
    if (b->count == 0 && !refill(h, q, cls))
        return NULL;
    counter_add(&hc->misses, 1);
    return batch_pop(b, cls, n);
}

void *hard_alloc(struct heap *h, size_t n, size_t align)
{
    if (n > SMALL_MAX - CANARY_BYTES || align > SMALL_MAX)
        return hardlarge_alloc(h, n, align);
    size_t size = align_up(n + CANARY_BYTES, align);
    if (size > SMALL_MAX || size - n > UINT16_MAX)
        return hardlarge_alloc(h, n, align);
    return small_alloc(h, class_of(size), n);
}

/* ---- freeing ---- */

/* Takes those blocks out of the batch that lie in the slab of its last one, as a chain. */
static struct slab *chain_take(unsigned cls, void **block, unsigned *count, struct chain *c)
{
    struct block *p = block[--*count];
    struct slab *s = slab_of(cls, p);
    unsigned kept = 0;
    *c = (struct chain){p, p, 1};
    for (unsigned i = 0; i < *count; i++) {
        if (!slab_holds(s, block[i])) {
            block[kept++] = block[i];
            continue;
        }
        p = block[i];
        slab_links(s)[class_index(cls, p)] = (uint16_t)class_index(cls, c->head);
        c->head = p;
        c->count++;
    }
    *count = kept;
    return s;
}

/*
 * Sends blocks of one class home, whose slab may then be given back: their first words, where most
 * writes after a free go, are looked at before.
 */
static void send_home(struct heap *h, unsigned cls, void **block, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        __builtin_prefetch(block[i]);
    for (unsigned i = 0; i < count; i++)
        if (ASH_UNLIKELY(((const uint64_t *)block[i])[0] != 0 ||
                         ((const uint64_t *)block[i])[1] != 0))
            written(block[i], class_size(cls));
    while (count != 0) {
        struct chain c;
        struct slab *s = chain_take(cls, block, &count, &c);
        if (load_relaxed(&s->owner) == h) {
            slab_put_linked(s, c);
            slabs_settle(h, s);
        } else {
            heap_count_up(h, cls, remote_frees, c.count);
            remote_push(s, c);
        }
    }
}

static void batch_flush(struct heap *h, unsigned cls, struct batch *b)
{
    send_home(h, cls, b->block, b->count);
    b->count = 0;
}

static bool leave(struct heap *h, struct hard *q, void *p)
{
    unsigned cls = classmap_at(p);
    struct batch *b = &q->leaving[cls];
    b->block[b->count++] = p;
    if (b->count < batch_most(cls))
        return false;
    batch_flush(h, cls, b);
    return true;
}

static bool small_free(struct heap *h, unsigned cls, void *p)
{
    struct place at = live_place("free", cls, p);
    if (at.slack == NULL)
        return false;
    size_t size = class_size(cls);
    unsigned slack = exchange_acq_rel(at.slack, 0); /* pairs with small_alloc, hard_resize */
    if (slack == 0) {
        error_double_free(p);
        return false;
    }
    canary_check(p, size - slack, size);
    memset(p, 0, size);
    heap_count_up(h, cls, direct, 1);
    struct hard *q = heap_is_real(h) ? hard_of(h) : NULL;
    if (q == NULL) {
        send_home(h, cls, &p, 1);
        return true;
    }
    void **slot = &q->waiting[random_next(q) % (size > BIG_BYTES ? QUARANTINE_BIG : QUARANTINE)];
    void *leaves = *slot;
    *slot = p;
    return leaves != NULL && leave(h, q, leaves);
}

bool hard_free(struct heap *h, void *p)
{
    unsigned cls = classmap_at(p);
    if (cls != 0)
        return small_free(h, cls, p);
    hardlarge_free(h, p);
    return true;
}

size_t hard_usable(const char *verb, const void *p)
{
    unsigned cls = classmap_at(p);
    if (cls == 0)
        return hardlarge_usable(verb, p);
    struct place at = live_place(verb, cls, p);
    return at.slack == NULL ? HOLDS_NONE : class_size(cls) - load_relaxed(at.slack);
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
    if (q == NULL)
        return;
    for (unsigned i = 0; i < QUARANTINE; i++) {
        if (q->waiting[i] != NULL)
            leave(h, q, q->waiting[i]);
        q->waiting[i] = NULL;
    }
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        batch_flush(h, cls, &q->leaving[cls]);
        batch_flush(h, cls, &q->ready[cls]);
    }
}
