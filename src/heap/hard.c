/*
 * Small blocks of hardened mode; see hard.h. Large ones are in hardlarge.c.
 *
 * A block's way, of which only the first and the last step touch what the program sees:
 *
 *   live -> cleared, waiting -> each time that many wait, a random half of them goes home
 *        -> its slab -> ready: taken by the batch, looked at, in random order -> live
 *
 * A block that is not live is all zero but for its seal (heap/canary.h): lists are arrays, and
 * chains between threads are linked beside the blocks. So nothing is led astray by what is written
 * to a free block.
 *
 * The free that finds the seal of a live block makes it that of a free one. Two threads that free a
 * block at the same instant may both go on, and the block waits in two places: the second to go
 * home finds it free already, or live again, and says so. (An exchange would name it at once, and
 * costs each free 20 cycles.)
 */
#include "heap/hard.h"

#include "base/bits.h"
#include "heap/canary.h"
#include "heap/error.h"
#include "heap/hardlarge.h"
#include "heap/remote.h"
#include "heap/slabs.h"
#include "mem/meta.h"
#include "os/os_mem.h"

#include <string.h>

enum {
    WAITING = 256,           /* freed blocks that wait, of each heap, at most … */
    WAITING_BYTES = 1 << 20, /* … or fewer, when they are more than this */
    READY = 32,              /* blocks of a class that are ready, at most … */
    READY_BYTES = 8 * 1024,  /* … or fewer, but one, when they are more than this */
    READY_START_BYTES = 512, /* what the first fill of a class makes ready, or one */
    CLEAR_MOST = 512,        /* up to so many bytes are cleared without a call of libc */
    WHOLE = 4 * 1024,        /* blocks from here on are looked at as a whole when they go home:
                                their slabs hold few, and often are given back at once */
    GROUPS = 16              /* other heaps' slabs that blocks are gathered for at a time */
};

/* Blocks of a class that are handed out next. */
struct ready {
    unsigned count;
    void *block[READY];
};

struct hard {
    uint64_t random;
    unsigned count; /* of waiting[] */
    size_t bytes;   /* in them */
    void *waiting[WAITING];
    struct ready ready[CLASS_COUNT];
};

/* Its high bits are the random ones. */
ASH_INLINE uint64_t random_next(struct hard *q)
{
    q->random = q->random * 6364136223846793005u + 1442695040888963407u;
    return q->random;
}

/* The heap's own; NULL: no memory for it. */
static ASH_COLD struct hard *hard_open(struct heap *h)
{
    struct hard *q = meta_take(sizeof *q);
    if (q == NULL)
        return NULL;
    os_random(&q->random, sizeof q->random);
    h->hard = q;
    return q;
}

ASH_INLINE struct hard *hard_of(struct heap *h)
{
    return ASH_LIKELY(h->hard != NULL) ? h->hard : hard_open(h);
}

/* ---- live blocks ---- */

/* Says what became of a block whose seal is not that of a live one; its slack, 0 if it is free. */
static ASH_COLD unsigned broken(const void *p, size_t size, uint64_t key, uint64_t seal)
{
    size_t end = size - CANARY_BYTES;
    unsigned like;
    unsigned slack = seal_guess(key, seal, size_min(size, UINT16_MAX), &like);
    if (seal_like(seal, seal_of_free(key)) > like) {
        error_double_free(p);
        return 0;
    }
    if (slack == SEAL_NONE) {
        error_overflow_far(p, end);
        slack = CANARY_BYTES;
    } else {
        canary_report(p, size - slack, end, seal ^ seal_of_live(key, slack));
    }
    return slack;
}

/* The slack of a live block; 0 when `p` is none, which has been said. */
static ASH_NOINLINE unsigned live_slack(const char *verb, unsigned cls, const void *p, uint64_t key)
{
    if (ASH_UNLIKELY(!class_is_block(&size_classes.of[cls], p))) {
        const char *base = slab_base(slab_of(cls, p));
        error_interior(verb, p, base + class_index(cls, p) * class_size(cls));
        return 0;
    }
    size_t size = class_size(cls);
    uint64_t seal = load_acquire(seal_at(p, size)); /* the block's content; pairs with seal_live */
    unsigned slack = seal_slack(key, seal);
    return ASH_LIKELY(slack != SEAL_NONE) ? slack : broken(p, size, key, seal);
}

/* The block holds `n` bytes from now on; those behind them are not the program's. */
ASH_INLINE void seal_live(void *p, size_t n, size_t size, uint64_t key)
{
    canary_fill(p, n, size - CANARY_BYTES, key);
    store_release(seal_at(p, size), seal_of_live(key, (unsigned)(size - n)));
}

/* ---- free blocks ---- */

/* Says which byte of a free block was written, or that it is live; what is free is cleared. */
static ASH_COLD bool written(void *p, size_t size, uint64_t key)
{
    const char *bytes = p;
    size_t end = size - CANARY_BYTES;
    size_t at = 0;
    uint64_t seal = load_relaxed(seal_at(p, size));
    if (seal_slack(key, seal) != SEAL_NONE) {
        error_double_free(p);
        return false;
    }
    while (at < end && bytes[at] == 0)
        at++;
    if (at == end)
        at += bits_lowest(seal ^ seal_of_free(key)) / 8;
    error_used_after_free(p, at);
    memset(p, 0, end);
    seal_free(p, size, key);
    return true;
}

/*
 * Looks at the seal of a free block and at its first `look` bytes, where most writes after a free
 * go; both sizes are multiples of 16. False: it is not free, which has been said.
 */
static ASH_NOINLINE bool free_check(void *p, size_t size, size_t look)
{
    const uint64_t *word = p;
    uint64_t key = canary_key(p);
    const canary_vector *pair = p;
    size_t pairs = size_min(look, size - sizeof *pair) / sizeof *pair;
    canary_vector seen = {word[2 * pairs], load_relaxed(seal_at(p, size)) ^ seal_of_free(key)};
    for (size_t i = 0; i < pairs; i++)
        seen |= pair[i];
    if (ASH_UNLIKELY((seen[0] | seen[1]) != 0))
        return written(p, size, key);
    return true;
}

/* ---- allocation ---- */

/* Blocks more, or less, that are ready: see struct bin. */
ASH_INLINE void ready_count(struct heap *h, unsigned cls, uint64_t change)
{
    _Atomic(uint64_t) *word = &h->bin[cls].word;
    store_relaxed(word, load_relaxed(word) + change);
}

/* Adds blocks of a slab to those that are ready, and looks at them. */
static void ready_add(struct hard *q, struct ready *b, struct slab *s, unsigned most)
{
    unsigned cls = slab_class(s);
    size_t size = class_size(cls);
    const void *untouched = slab_base(s) + s->fresh * size;
    unsigned first = b->count;
    b->count += slab_take_random(s, random_next(q), most - first, b->block + first);
    for (unsigned i = first; i < b->count; i++)
        __builtin_prefetch(b->block[i]);
    for (unsigned i = first; i < b->count; i++)
        if (b->block[i] < untouched)
            free_check(b->block[i], size, size);
}

/* Blocks that the next fill makes ready: twice as many as the last. */
static unsigned ready_next(struct heap_class *hc, size_t size)
{
    size_t most = size_min(READY, size_max(1, READY_BYTES / size));
    size_t n = hc->batch != 0 ? hc->batch : size_max(1, READY_START_BYTES / size);
    hc->batch = (uint32_t)size_min(2 * n, most);
    return (unsigned)size_min(n, most);
}

/* Makes blocks ready, out of one slab at least; false: no memory. */
static bool ready_fill(struct heap *h, struct hard *q, unsigned cls)
{
    struct ready *b = &q->ready[cls];
    struct heap_class *hc = heap_class(h, cls);
    if (hc->partial == NULL)
        slabs_collect(h);
    unsigned most = ready_next(hc, class_size(cls));
    bool guest = slabs_is_guest(h, cls, most * class_size(cls));
    struct slab *s = slabs_find(h, cls);
    if (s == NULL)
        return false;
    do {
        ready_add(q, b, s, most);
        if (guest)
            slabs_share(h, s);
        else if (s->free == 0)
            slabs_settle(h, s);
    } while (!guest && b->count < most && (s = hc->partial) != NULL);
    return true;
}

static ASH_NOINLINE void *small_alloc(struct heap *h, unsigned cls, size_t n)
{
    struct hard *q = hard_of(h);
    if (q == NULL)
        return NULL;
    struct ready *b = &q->ready[cls];
    if (b->count != 0) {
        ready_count(h, cls, BIN_HIT - BIN_BLOCK);
    } else {
        if (!ready_fill(h, q, cls))
            return NULL;
        struct heap_class *hc = heap_class(h, cls);
        counter_add(&hc->misses, 1);
        counter_add(&hc->taken, b->count - 1);
        ready_count(h, cls, b->count - 1);
    }
    void *p = b->block[--b->count];
    seal_live(p, n, class_size(cls), canary_key(p));
    return p;
}

void *hard_hit(struct heap *h, size_t n)
{
    struct hard *q = h->hard;
    if (ASH_UNLIKELY(n > SMALL_MAX - CANARY_BYTES || q == NULL))
        return NULL;
    unsigned cls = class_of(n + CANARY_BYTES);
    struct ready *b = &q->ready[cls];
    if (ASH_UNLIKELY(b->count == 0))
        return NULL;
    size_t size = class_size(cls);
    size_t slack = size - n;
    if (ASH_UNLIKELY(!canary_is_short(slack, size)))
        return small_alloc(h, cls, n);
    ready_count(h, cls, BIN_HIT - BIN_BLOCK);
    void *p = b->block[--b->count];
    uint64_t key = canary_key(p);
    canary_fill_line((char *)p + size - CANARY_LINE, slack, key);
    store_release(seal_at(p, size), seal_of_live(key, (unsigned)slack)); /* as seal_live */
    return p;
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

static void group_add(struct heap *h, struct group *groups, struct slab *s, unsigned cls, void *p)
{
    struct group *g = &groups[(s->unit / class_units(cls)) % GROUPS];
    if (g->slab == s) {
        slab_links(s)[class_index(cls, p)] = (uint16_t)class_index(cls, g->chain.head);
        g->chain.head = p;
        g->chain.count++;
    } else {
        remote_send(h, g);
        *g = (struct group){s, {p, p, 1}};
    }
}

/* Sends blocks home, whose slabs may then be given back: looks at them before. */
static ASH_NOINLINE void send_home(struct heap *h, void *const *block, unsigned count)
{
    struct group groups[GROUPS];
    for (unsigned i = 0; i < GROUPS; i++)
        groups[i].slab = NULL;
    for (unsigned i = 0; i < count; i++) {
        void *p = block[i];
        unsigned cls = classmap_at(p);
        struct slab *s = slab_of(cls, p);
        size_t size = class_size(cls);
        if (!free_check(p, size, size < WHOLE ? 2 * CANARY_BYTES : size))
            continue;
        if (load_relaxed(&s->owner) != h) {
            group_add(h, groups, s, cls, p);
            continue;
        }
        if (ASH_UNLIKELY(!slab_put_index(s, class_index(cls, p))))
            error_double_free(p);
        else if (s->free == 1 || slab_is_idle(s))
            slabs_settle(h, s);
    }
    for (unsigned i = 0; i < GROUPS; i++)
        remote_send(h, &groups[i]);
}

/* Of the blocks that wait, each leaves as a coin falls, or all do. */
static ASH_NOINLINE void leave(struct heap *h, struct hard *q, bool all)
{
    void *leaving[WAITING];
    unsigned stay = 0, leave = 0;
    uint64_t coins = 0;
    for (unsigned i = 0; i < q->count; i++) {
        void *p = q->waiting[i];
        coins = i % 64 == 0 ? random_next(q) ^ random_next(q) >> 32 : coins >> 1;
        if (all || (coins & 1) != 0) {
            __builtin_prefetch(p);
            leaving[leave++] = p;
        } else {
            q->waiting[stay++] = p;
        }
    }
    q->bytes = stay == 0 ? 0 : q->bytes / q->count * stay;
    q->count = stay;
    send_home(h, leaving, leave);
}

/*
 * Lets a cleared block wait; true when others had to leave for that. It does not leave itself: a
 * write to what was just freed is found at the latest when it does.
 */
ASH_INLINE bool wait_add(struct heap *h, struct hard *q, void *p, size_t size)
{
    bool full = q->count == WAITING || q->bytes + size > WAITING_BYTES;
    if (ASH_UNLIKELY(full))
        leave(h, q, false);
    q->waiting[q->count++] = p;
    q->bytes += size;
    return full;
}

bool hard_free_slow(struct heap *h, void *p)
{
    unsigned cls = classmap_at(p);
    if (cls == 0) {
        hardlarge_free(h, p);
        return true;
    }
    uint64_t key = canary_key(p);
    unsigned slack = live_slack("free", cls, p, key);
    if (slack == 0)
        return false;
    size_t size = class_size(cls);
    canary_check(p, size - slack, size - CANARY_BYTES, key);
    memset(p, 0, size);
    seal_free(p, size, key);
    heap_count_up(h, cls, direct, 1);
    struct hard *q = heap_is_real(h) ? hard_of(h) : NULL;
    if (q != NULL)
        return wait_add(h, q, p, size);
    send_home(h, &p, 1);
    return true;
}

bool hard_free(struct heap *h, void *p)
{
    unsigned cls = classmap_at(p);
    const struct size_class *c = &size_classes.of[cls];
    if (ASH_UNLIKELY(!class_is_block(c, p) || c->size > CLEAR_MOST || c->size % CANARY_LINE != 0 ||
                     h->hard == NULL))
        return hard_free_slow(h, p);
    size_t size = c->size;
    uint64_t key = canary_key(p);
    uint64_t seal = load_acquire(seal_at(p, size)); /* the block's content; pairs with seal_live */
    unsigned slack = seal_slack(key, seal);
    if (ASH_UNLIKELY(!canary_is_short(slack, size) ||
                     !canary_line_is_whole((char *)p + size - CANARY_LINE, slack, key)))
        return hard_free_slow(h, p); /* of a block with more slack, too */
    counter_add(&heap_class(h, cls)->direct, 1);
    for (char *at = p; at < (char *)p + size; at += CANARY_LINE)
        memset(at, 0, CANARY_LINE);
    seal_free(p, size, key);
    return wait_add(h, h->hard, p, size);
}

size_t hard_usable(const char *verb, const void *p)
{
    unsigned cls = classmap_at(p);
    if (cls == 0)
        return hardlarge_usable(verb, p);
    unsigned slack = live_slack(verb, cls, p, canary_key(p));
    return slack == 0 ? HOLDS_NONE : class_size(cls) - slack;
}

bool hard_resize(struct heap *h, void *p, size_t old, size_t n)
{
    unsigned cls = classmap_at(p);
    if (cls == 0)
        return hardlarge_resize(h, p, n);
    size_t size = class_size(cls);
    if (n > size - CANARY_BYTES || n < size / 2)
        return false;
    uint64_t key = canary_key(p);
    canary_check(p, old, size - CANARY_BYTES, key);
    if (n > old)
        memset((char *)p + old, 0, n - old);
    seal_live(p, n, size, key);
    return true;
}

ASH_COLD void hard_forget(struct heap *h)
{
    struct hard *q = h->hard;
    if (q == NULL)
        return;
    memset(q->waiting + q->count, 0, sizeof q->waiting - q->count * sizeof *q->waiting);
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        struct ready *b = &q->ready[cls];
        memset(b->block + b->count, 0, sizeof b->block - b->count * sizeof *b->block);
    }
}

ASH_COLD void hard_flush(struct heap *h)
{
    struct hard *q = h->hard;
    if (q == NULL)
        return;
    leave(h, q, true);
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++) {
        struct ready *b = &q->ready[cls];
        struct heap_class *hc = heap_class(h, cls);
        if (hc->batch == 0)
            continue; /* not used */
        ready_count(h, cls, -(uint64_t)b->count);
        counter_add(&hc->flushed, b->count);
        send_home(h, b->block, b->count);
        b->count = 0;
        hc->batch = 0;
    }
}
