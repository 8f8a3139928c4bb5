/*
 * Small blocks of hardened mode; see hard.h. Large ones are in hardlarge.c.
 *
 * A block's way, of which only the first and the last step touch what the program sees:
 *
 *   live -> cleared, in the quarantine -> leaving: gathered until they go home together
 *        -> its slab -> ready: taken by the batch, looked at, in random order -> live
 *
 * A block that is not live is all zero but for its seal (heap/canary.h): batches are arrays, and a
 * chain between threads is linked by the seals, which cannot be forged. So nothing is led astray by
 * what is written to a free block.
 *
 * The free that finds the seal of a live block makes it that of a free one. Two threads that free a
 * block at the same instant may both go on, and the block waits in two quarantines: the second to
 * go home finds it free already, or live again, and says so. (An exchange would name it at once,
 * and costs each free 20 cycles.)
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
    QUARANTINE = 256,     /* blocks that wait, of each heap … */
    QUARANTINE_BIG = 16,  /* … of those above … */
    BIG_BYTES = 4 * 1024, /* … this size; so they are at most 1 MiB */
    WAIT_SHIFT = 64 - 8,     /* which leave of 64 random bits as many as index them */
    WAIT_BIG_SHIFT = 64 - 4,
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

/* Its high bits are the random ones. */
ASH_INLINE uint64_t random_next(struct hard *q)
{
    q->random = q->random * 6364136223846793005u + 1442695040888963407u;
    return q->random;
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

/* ---- live blocks ---- */

/* Says what became of a block whose seal is not that of a live one; its slack, 0 if it is free. */
static ASH_COLD unsigned broken(const void *p, size_t size, uint64_t key, uint64_t seal)
{
    size_t end = size - CANARY_BYTES;
    unsigned like_live, like_free;
    unsigned slack = seal_guess(key, SEAL_LIVE, seal, size_min(size, UINT16_MAX), &like_live);
    seal_guess(key, SEAL_FREE, seal, SLAB_BLOCKS_MAX, &like_free);
    if (seal == 0 || like_free > size_max(like_live, 3)) {
        error_double_free(p);
        return 0;
    }
    if (slack == SEAL_NONE || slack < CANARY_BYTES) {
        error_overflow_far(p, end);
        slack = CANARY_BYTES;
    } else {
        canary_report(p, size - slack, end, seal ^ seal_make(key, SEAL_LIVE, slack));
    }
    return slack;
}

/* The slack of a live block; 0 when `p` is none, which has been said. */
ASH_INLINE unsigned live_slack(const char *verb, unsigned cls, const void *p, uint64_t key)
{
    if (ASH_UNLIKELY(!class_is_block(&size_classes.of[cls], p))) {
        const char *base = slab_base(slab_of(cls, p));
        error_interior(verb, p, base + class_index(cls, p) * class_size(cls));
        return 0;
    }
    size_t size = class_size(cls);
    uint64_t seal = load_acquire(seal_at(p, size)); /* the block's content; pairs with seal_live */
    unsigned slack = seal_value(key, SEAL_LIVE, seal);
    return ASH_LIKELY(slack != SEAL_NONE) ? slack : broken(p, size, key, seal);
}

/* The block holds `n` bytes from now on; those behind them are not the program's. */
ASH_INLINE void seal_live(void *p, size_t n, size_t size, uint64_t key)
{
    canary_fill(p, n, size - CANARY_BYTES, key);
    store_release(seal_at(p, size), seal_make(key, SEAL_LIVE, (unsigned)(size - n)));
}

/* ---- free blocks ---- */

/* Says which byte of a free block was written, or that it is live; what is free is cleared. */
static ASH_COLD bool written(void *p, size_t size, uint64_t key)
{
    const char *bytes = p;
    size_t end = size - CANARY_BYTES;
    size_t at = 0;
    uint64_t seal = load_relaxed(seal_at(p, size));
    if (seal_value(key, SEAL_LIVE, seal) != SEAL_NONE) {
        error_double_free(p);
        return false;
    }
    while (at < end && bytes[at] == 0)
        at++;
    if (at == end) {
        unsigned same, link = seal_guess(key, SEAL_FREE, seal, SLAB_BLOCKS_MAX, &same);
        at += link == SEAL_NONE ? 0 : bits_lowest(seal ^ seal_make(key, SEAL_FREE, link)) / 8;
    }
    error_used_after_free(p, at);
    memset(p, 0, size);
    return true;
}

/*
 * Looks at the seal of a free block and at its first `look` bytes, where most writes after a free
 * go; both sizes are multiples of 16. False: it is not free, which has been said.
 */
ASH_INLINE bool free_check(void *p, size_t size, size_t look)
{
    const uint64_t *word = p;
    uint64_t key = canary_key(p);
    uint64_t seal = load_relaxed(seal_at(p, size));
    size_t words = size_min(look, size - CANARY_BYTES) / sizeof *word;
    uint64_t any = word[0];
    for (size_t i = 1; i + 1 < words; i += 2)
        any |= word[i] | word[i + 1];
    if (words % 2 == 0)
        any |= word[words - 1];
    return ASH_LIKELY(any == 0 && seal_is_free(key, seal)) || written(p, size, key);
}

ASH_INLINE void clear(void *p, size_t size)
{
    enum { STEP = 64, BY_STEPS = 512 };
    char *at = p;
    if (size > BY_STEPS || size % STEP != 0)
        memset(at, 0, size);
    else
        for (char *end = at + size; at < end; at += STEP)
            memset(at, 0, STEP);
}

/* ---- allocation ---- */

/* Blocks more, or less, that are ready: see struct bin. */
ASH_INLINE void ready_count(struct heap *h, unsigned cls, uint64_t change)
{
    _Atomic(uint64_t) *word = &h->bin[cls].word;
    store_relaxed(word, load_relaxed(word) + change);
}

/* Adds blocks of a slab to a batch, and looks at them. */
static void batch_add(struct heap *h, struct hard *q, struct batch *b, struct slab *s)
{
    unsigned cls = slab_class(s);
    size_t size = class_size(cls);
    const void *untouched = slab_base(s) + s->fresh * size;
    unsigned first = b->count;
    b->count += slab_take_random(s, random_next(q), batch_most(cls) - first, b->block + first);
    if (s->free == 0)
        slabs_settle(h, s);
    for (unsigned i = first; i < b->count; i++)
        __builtin_prefetch(b->block[i]);
    for (unsigned i = first; i < b->count; i++)
        if (b->block[i] < untouched)
            free_check(b->block[i], size, size);
}

/* Makes blocks ready, out of one slab at least; false: no memory. */
static bool batch_fill(struct heap *h, struct hard *q, unsigned cls)
{
    struct batch *b = &q->ready[cls];
    if (h->of[cls].partial == NULL)
        slabs_collect(h);
    struct slab *s = slabs_find(h, cls);
    if (s == NULL)
        return false;
    do
        batch_add(h, q, b, s);
    while (b->count < batch_most(cls) && (s = h->of[cls].partial) != NULL);
    return true;
}

ASH_INLINE void *batch_pop(struct batch *b, unsigned cls, size_t n)
{
    void *p = b->block[--b->count];
    seal_live(p, n, class_size(cls), canary_key(p));
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
    ready_count(h, cls, BIN_HIT - BIN_BLOCK);
    return batch_pop(b, cls, n);
}

static void *small_alloc(struct heap *h, unsigned cls, size_t n)
{
    struct hard *q = hard_of(h);
    if (ASH_UNLIKELY(q == NULL))
        return NULL;
    struct batch *b = &q->ready[cls];
    if (b->count != 0)
        ready_count(h, cls, BIN_HIT - BIN_BLOCK);
    else if (batch_fill(h, q, cls)) {
        counter_add(&h->of[cls].misses, 1);
        counter_add(&h->of[cls].taken, b->count - 1);
        ready_count(h, cls, (b->count - 1) * BIN_BLOCK);
    } else
        return NULL;
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

/*
 * Takes those blocks out of the batch that lie in slab `s`, as a chain; the last of the batch does.
 */
static struct chain chain_take(struct slab *s, unsigned cls, void **block, unsigned *count)
{
    struct block *p = block[--*count];
    struct chain c = {p, p, 1};
    size_t size = class_size(cls);
    unsigned kept = 0;
    for (unsigned i = 0; i < *count; i++) {
        p = block[i];
        if (!slab_holds(s, p)) {
            block[kept++] = p;
            continue;
        }
        seal_free(p, size, class_index(cls, c.head));
        c.head = p;
        c.count++;
    }
    *count = kept;
    return c;
}

/* Sends blocks of one class home, whose slabs may then be given back: looks at them before. */
static void send_home(struct heap *h, unsigned cls, void **block, unsigned count)
{
    size_t size = class_size(cls);
    unsigned others = 0;
    for (unsigned i = 0; i < count; i++) {
        __builtin_prefetch(block[i]);
        __builtin_prefetch(seal_at(block[i], size));
    }
    for (unsigned i = 0; i < count; i++) {
        void *p = block[i];
        struct slab *s = slab_of(cls, p);
        if (!free_check(p, size, 2 * CANARY_BYTES))
            continue;
        if (load_relaxed(&s->owner) == h)
            slabs_put_index(h, s, class_index(cls, p));
        else
            block[others++] = p;
    }
    while (others != 0) {
        struct slab *s = slab_of(cls, block[others - 1]);
        struct chain c = chain_take(s, cls, block, &others);
        heap_count_up(h, cls, remote_frees, c.count);
        remote_push(s, c);
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
    uint64_t key = canary_key(p);
    unsigned slack = live_slack("free", cls, p, key);
    if (ASH_UNLIKELY(slack == 0))
        return false;
    size_t size = class_size(cls);
    canary_check(p, size - slack, size - CANARY_BYTES, key);
    clear(p, size);
    store_relaxed(seal_at(p, size), seal_make(key, SEAL_FREE, 0));
    heap_count_up(h, cls, direct, 1);
    struct hard *q = heap_is_real(h) ? hard_of(h) : NULL;
    if (ASH_UNLIKELY(q == NULL)) {
        send_home(h, cls, &p, 1);
        return true;
    }
    uint64_t random = random_next(q);
    void **slot = &q->waiting[random >> (size > BIG_BYTES ? WAIT_BIG_SHIFT : WAIT_SHIFT)];
    void *leaves = *slot;
    *slot = p;
    return leaves != NULL && leave(h, q, leaves);
}

bool hard_free(struct heap *h, void *p)
{
    unsigned cls = classmap_at(p);
    if (ASH_LIKELY(cls != 0))
        return small_free(h, cls, p);
    hardlarge_free(h, p);
    return true;
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
        struct batch *ready = &q->ready[cls];
        ready_count(h, cls, -(uint64_t)ready->count);
        counter_add(&h->of[cls].flushed, ready->count);
        batch_flush(h, cls, ready);
        batch_flush(h, cls, &q->leaving[cls]);
    }
}
