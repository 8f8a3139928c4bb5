#include "heap/front.h"

#include "heap/boot.h"
#include "heap/error.h"
#include "heap/hard.h"
#include "heap/hardlarge.h"
#include "heap/large.h"
#include "heap/remote.h"
#include "heap/sample.h"
#include "heap/slabs.h"
#include "heap/thread.h"
#include "mem/purge.h"
#include "mem/reserve.h"
#include "os/os_mem.h"

#include <errno.h>
#include <string.h>

/* What an allocation asks for. */
struct request {
    size_t n;
    size_t align; /* for large blocks */
    unsigned cls; /* 0: large */
    bool zero;    /* out: the block reads as zero, but for its first two words if it is small */
};

/* ---- allocation ---- */

static void *take_small(struct heap *h, struct request *r)
{
    struct block *p = bin_refill(h, r->cls);
    if (p != NULL) {
        r->zero = p->mark == block_fresh_mark(p);
        p->mark = 0;
    }
    return p;
}

/* Where there is a heap profile. */
static ASH_COLD void *take_sampled(struct heap *h, struct request *r)
{
    void *p;
    if (r->cls == 0) {
        p = large_alloc(h, r->n, r->align, &r->zero);
        if (p != NULL)
            sample_large(h, p);
        return p;
    }
    r->zero = false;
    p = sample_take(h, r->cls, r->align);
    if (p == NULL) {
        p = take_small(h, r);
        sample_fit(h, r->cls);
    }
    return p;
}

static void *take(struct heap *h, struct request *r)
{
    if (ASH_UNLIKELY(options.harden)) {
        r->cls = 0;
        r->zero = true;
        return hard_alloc(h, r->n, r->align);
    }
    if (ASH_UNLIKELY(sample_mean != 0))
        return take_sampled(h, r);
    if (r->cls == 0)
        return large_alloc(h, r->n, r->align, &r->zero);
    return take_small(h, r);
}
/* Gives up what the heap keeps for reuse, and what others left. */
static void give_up(struct heap *h)
{
    thread_round();
    bin_drain(h);
    hard_flush(h);
    hardlarge_reap();
    slabs_collect(h);
    slabs_shrink(h);
    slabs_reap(h);
}

/* The last resort before NULL: everything that can be given up is. */
static void *take_hard(struct heap *h, struct request *r)
{
    give_up(h);
    purge_pass(true);
    return take(h, r);
}

/* Units of the reserve without which the request fails; in hardened mode, the most it may be. */
static size_t request_units(const struct request *r)
{
    if (r->cls != 0)
        return class_units(r->cls);
    if (options.harden && r->n <= SMALL_MAX && r->align <= SMALL_MAX)
        return class_units(CLASS_COUNT - 1);
    size_t guards = options.harden ? size_max(r->align >> UNIT_SHIFT, 1) + 1 : 0;
    return guards + (r->n >> UNIT_SHIFT) + ((r->n & (UNIT_BYTES - 1)) != 0);
}

/* False for what no window holds: giving up what is kept for reuse would not help. */
static bool request_may_fit(const struct request *r)
{
    return size_max(request_units(r), r->align >> UNIT_SHIFT) <= chunk_window_units();
}

static void *request_slow(struct request *r)
{
    void *p = NULL;
    struct heap *h = r->n <= PTRDIFF_MAX && boot() ? thread_enter() : NULL;
    if (h != NULL) {
        thread_tick(h);
        p = take(h, r);
        if (ASH_UNLIKELY(p == NULL) && request_may_fit(r))
            p = take_hard(h, r);
        thread_leave(h);
    }
    if (ASH_UNLIKELY(p == NULL)) {
        if (r->n <= PTRDIFF_MAX)
            reserve_refused(request_units(r));
        errno = ENOMEM;
    }
    return p;
}

/* Without a heap the tables may not be there yet: boot comes before the class. */
static struct request request_of(size_t n, size_t align)
{
    struct request r = {.n = n, .align = align};
    if (n <= SMALL_MAX && boot())
        r.cls = class_of(n);
    return r;
}

/* Hardened mode's own hit path: a block that is ready, or NULL. */
ASH_INLINE void *ready(size_t n)
{
    if (ASH_LIKELY(!options.harden) || !heap_is_real(heap_hard))
        return NULL;
    return hard_hit(heap_hard, n);
}

void *front_malloc_slow(size_t n)
{
    void *p = ready(n);
    if (p != NULL)
        return p;
    struct request r = request_of(n, 1);
    return request_slow(&r);
}

/* Clears what of the block may not be zero. */
ASH_INLINE void *cleared(struct block *p, size_t n, bool zero)
{
    if (!zero)
        return memset(p, 0, n);
    p->next = NULL;
    return p;
}

void *front_calloc_slow(size_t n)
{
    void *p = ready(n);
    if (p != NULL)
        return p;
    struct request r = request_of(n, 1);
    p = request_slow(&r);
    if (p == NULL || (r.cls == 0 && r.zero))
        return p;
    return cleared(p, n, r.zero);
}

void *front_calloc(size_t count, size_t n)
{
    size_t bytes;
    if (ASH_UNLIKELY(__builtin_mul_overflow(count, n, &bytes))) {
        errno = ENOMEM;
        return NULL;
    }
    if (ASH_LIKELY(bytes <= SMALL_MAX)) {
        struct block *p = bin_pop(&heap_self()->bin[class_of(bytes)]);
        if (ASH_LIKELY(p != NULL)) {
            bool zero = p->mark == block_fresh_mark(p);
            p->mark = 0;
            return cleared(p, bytes, zero);
        }
    }
    return front_calloc_slow(bytes);
}

/*
 * The smallest class that holds `n` bytes and whose blocks all lie at multiples of `align` <=
 * SMALL_MAX: the class of a multiple of `align` is one.
 */
static unsigned class_aligned(size_t align, size_t n)
{
    return class_of(align_up(size_max(n, 1), align));
}

static ASH_NOINLINE void *aligned_slow(size_t align, size_t n)
{
    struct request r = {.n = n, .align = align};
    if (n <= SMALL_MAX && align <= SMALL_MAX && boot())
        r.cls = class_aligned(align, n);
    else if (!options.harden)
        r.n = size_max(n, 1);
    return request_slow(&r);
}

void *front_aligned_any(size_t align, size_t n)
{
    struct heap *h = heap_self();
    if (ASH_LIKELY(n <= SMALL_MAX && align <= SMALL_MAX && heap_is_real(h))) {
        struct block *p = bin_pop(&h->bin[class_aligned(align, n)]);
        if (ASH_LIKELY(p != NULL)) {
            p->mark = 0;
            return p;
        }
    }
    return aligned_slow(align, n);
}

/* ---- freeing ---- */

/*
 * The block is marked as free: is it? Its own list or its slab may prove it, else the mark itself
 * does.
 */
static bool check_small(const char *verb, unsigned cls, const void *p)
{
    if (ASH_UNLIKELY(!class_is_block(&size_classes.of[cls], p))) {
        const char *base = slab_base(slab_of(cls, p)) + class_index(cls, p) * class_size(cls);
        if (sample_mean != 0 && block_is_marked(base))
            error_double_free(p); /* it was sampled */
        else
            error_interior(verb, p, base);
        return false;
    }
    if (block_is_marked(p)) {
        error_double_free(p);
        return false;
    }
    return true;
}

/* Bytes in a block of the class; HOLDS_NONE when `p` is none, which has been said. */
static size_t holds_small(const char *verb, unsigned cls, const void *p)
{
    if (ASH_UNLIKELY(sample_mean != 0) && !class_is_block(&size_classes.of[cls], p)) {
        size_t bytes = sample_holds(cls, p);
        if (bytes != HOLDS_NONE)
            return bytes;
    }
    return check_small(verb, cls, p) ? class_size(cls) : HOLDS_NONE;
}

static void free_large(struct heap *h, void *p)
{
    struct slab *s = large_find("free", p);
    if (s == NULL)
        return;
    if (ASH_UNLIKELY(sample_mean != 0))
        sample_large_end(sample_large_site(s), s->bytes);
    if (!large_free(h, s))
        error_double_free(p);
}

static void free_small(struct heap *h, unsigned cls, void *p)
{
    struct block *around = ASH_UNLIKELY(sample_mean != 0) ? sample_around(cls, p) : NULL;
    if (ASH_UNLIKELY(around != NULL)) {
        sample_end(around);
        p = around;
    } else if (!check_small("free", cls, p)) {
        return;
    }
    if (!heap_is_real(h)) {
        bin_free_direct(h, cls, p);
        return;
    }
    struct bin *b = &h->bin[cls];
    if ((load_relaxed(&b->word) & (BIN_FULL | BIN_TICK)) != 0) {
        bin_attend(h, cls);
        if (ASH_UNLIKELY(sample_mean != 0)) {
            sample_fit(h, cls);
            if (bin_room(b) == 0) {
                bin_free_direct(h, cls, p);
                return;
            }
        }
    }
    bin_push(b, load_relaxed(&b->word), p);
}

static ASH_NOINLINE void free_any(void *p)
{
    int saved = errno;
    if (boot()) {
        unsigned cls = classmap_at(p);
        struct heap *h = heap_attached();
        if (h == HEAP_NONE)
            h = thread_enter();
        if (h == NULL)
            h = heap_attached();
        bool tick = true;
        if (ASH_UNLIKELY(options.harden))
            tick = hard_free_slow(h, p);
        else if (cls != 0)
            free_small(h, cls, p);
        else
            free_large(h, p);
        if (tick && heap_is_real(h))
            thread_tick(h);
    }
    errno = saved;
}

void front_free_slow(void *p)
{
    struct heap *h = heap_hard;
    if (p == NULL)
        return;
    if (ASH_LIKELY(!options.harden) || !heap_is_real(h))
        free_any(p);
    else if (hard_free(h, p))
        thread_tick(h);
}

/* A size that a block of `holds` bytes may have been asked for with: see front_realloc. */
ASH_INLINE bool size_fits(size_t n, size_t holds)
{
    if (ASH_UNLIKELY(options.harden))
        return n == holds;
    return n <= holds && (n >= holds / 2 || holds == class_size(size_classes.first));
}

/* Bytes in the block at `p`; HOLDS_NONE when `p` was wrong, which has been said, or is NULL. */
static size_t holds(const char *verb, const void *p)
{
    if (p == NULL || !boot())
        return HOLDS_NONE;
    if (ASH_UNLIKELY(options.harden))
        return hard_usable(verb, p);
    unsigned cls = classmap_at(p);
    if (ASH_LIKELY(cls != 0))
        return holds_small(verb, cls, p);
    struct slab *s = large_find(verb, p);
    return s != NULL ? s->bytes : HOLDS_NONE;
}

void front_free_sized_slow(void *p, size_t n)
{
    size_t bytes = holds("free_sized", p);
    if (bytes == HOLDS_NONE)
        return;
    if (size_fits(n, bytes))
        front_free(p);
    else
        error_size(p, n, bytes);
}

void front_free_aligned(void *p, size_t align, size_t n)
{
    size_t bytes = holds("free_aligned_sized", p);
    if (bytes == HOLDS_NONE)
        return;
    if (n > bytes || (options.harden && !size_fits(n, bytes)))
        error_size(p, n, bytes);
    else if (!is_pow2(align) || ((uintptr_t)p & (align - 1)) != 0)
        error_align(p, align);
    else
        front_free(p);
}

/* ---- realloc ---- */

/*
 * What to ask for when a block of `old` bytes is to hold `n` at another place. One that grows by
 * little is likely to grow again: it skips a class, so that a text that is lengthened bit by bit is
 * copied half as often. (A quarter more is no faster, and cost redis with long lists 10 % memory.)
 */
ASH_INLINE size_t size_to_grow(size_t old, size_t n)
{
    if (n <= old || n > old + old / 8 || n > SMALL_MAX || options.harden)
        return n;
    return size_min(old + old / 8 + old / 16, SMALL_MAX);
}

static ASH_NOINLINE void *realloc_copy(void *p, size_t old, size_t n)
{
    void *fresh = front_malloc(size_to_grow(old, n));
    if (fresh != NULL) {
        memcpy(fresh, p, size_min(old, n));
        front_free(p);
    }
    return fresh;
}

/* large_resize, which to the heap profile is a free and an allocation. */
static void *resize_large(struct slab *s, size_t n)
{
    struct heap *h = heap_self();
    struct site *site = sample_large_site(s);
    size_t old = s->bytes;
    void *p = large_resize(h, s, n);
    if (ASH_LIKELY(sample_mean == 0) || p == NULL || front_usable(p) == old)
        return p;
    sample_large_end(site, old);
    sample_large(h, p);
    return p;
}

static ASH_NOINLINE void *realloc_large(void *p, size_t n)
{
    struct slab *s = large_find("realloc", p);
    if (s == NULL) {
        errno = EINVAL;
        return NULL;
    }
    size_t old = s->bytes;
    if (n > SMALL_MAX) {
        void *same = resize_large(s, n);
        if (same != NULL)
            return same;
    } else if (size_fits(n, old)) {
        return p;
    }
    return realloc_copy(p, old, n);
}

static ASH_NOINLINE void *realloc_hard(void *p, size_t n)
{
    size_t old = hard_usable("realloc", p);
    if (old == HOLDS_NONE) {
        errno = EINVAL;
        return NULL;
    }
    return hard_resize(heap_attached(), p, old, n) ? p : realloc_copy(p, old, n);
}

void *front_realloc(void *p, size_t n)
{
    if (p == NULL)
        return front_malloc(n);
    if (n == 0) {
        front_free(p);
        return NULL;
    }
    if (ASH_UNLIKELY(options.harden))
        return realloc_hard(p, n);
    unsigned cls = classmap_at(p);
    if (ASH_UNLIKELY(cls == 0))
        return boot() ? realloc_large(p, n) : NULL;
    size_t old = holds_small("realloc", cls, p);
    if (ASH_UNLIKELY(old == HOLDS_NONE)) {
        errno = EINVAL;
        return NULL;
    }
    if (size_fits(n, old))
        return p;
    return realloc_copy(p, old, n);
}

/* ---- the rest ---- */

size_t front_usable(const void *p)
{
    size_t bytes = holds("malloc_usable_size", p);
    return bytes == HOLDS_NONE ? 0 : bytes;
}

size_t front_good_size(size_t n)
{
    if (boot() && options.harden)
        return n;
    if (n > SMALL_MAX)
        return n > PTRDIFF_MAX ? n : align_up(n, os_page_size());
    return boot() ? class_size(class_of(n)) : 0;
}

int front_trim(void)
{
    struct heap *h = boot() ? thread_enter() : NULL;
    if (h == NULL)
        return 0;
    give_up(h);
    thread_leave(h);
    return purge_pass(true) != 0;
}
