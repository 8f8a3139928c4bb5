#include "heap/sample.h"

#include "base/bits.h"
#include "heap/bin.h"
#include "heap/large.h"
#include "mem/meta.h"
#include "os/os_mem.h"

uint64_t sample_mean;

static struct sample_sink sink; /* const after sample_start */

/* A heap's own. */
struct sampler {
    uint64_t random;
    uint64_t due[CLASS_COUNT]; /* 1 + the allocation of the class that is sampled; 0: not drawn */
};

/* What stands in front of a sampled block, at the beginning of the block around it. */
struct sample {
    struct block block; /* its mark says that this is one */
    struct site *site;
    size_t bytes;    /* of the sampled block, which counts for as many */
    uint32_t offset; /* of the sampled block in the one around it */
};

enum {
    FRONT = ASH_CACHE_LINE,   /* bytes before a sampled block, at least */
    TICK = BIN_TICK / BIN_HIT /* hits to a tick, at most */
};

_Static_assert(sizeof(struct sample) <= FRONT, "a sample's record fits in front of its block");

/* Neither of the two marks of a free block, nor likely anywhere else. */
ASH_INLINE uintptr_t sample_mark(const void *around)
{
    return block_mark(around) ^ (uintptr_t)0x5a5a5a5a5a5a5a5a;
}

/* ---- drawing ---- */

/* -ln of a random number in (0, 1], times 2^32: log2 bit by bit, by squaring. */
static uint64_t exponential(uint64_t random)
{
    random |= 1;
    unsigned top = bits_highest(random);
    uint64_t m = random << (63 - top); /* in [1, 2), times 2^63 */
    uint64_t log2 = top;
    for (unsigned i = 0; i < 32; i++) {
        uint64_t square = (uint64_t)(((unsigned __int128)m * m) >> 64); /* times 2^62 */
        bool two = square >> 63 != 0;
        log2 = log2 << 1 | two;
        m = two ? square : square << 1;
    }
    uint64_t minus = ((uint64_t)64 << 32) - log2;
    return (uint64_t)(((unsigned __int128)minus * 0xb17217f7d1cf79acu) >> 64); /* ln 2 */
}

/* How many blocks of `size` bytes go by until one is sampled. */
static uint64_t draw(struct sampler *r, size_t size)
{
    r->random = r->random * 6364136223846793005u + 1442695040888963407u;
    uint64_t word = r->random ^ r->random >> 32; /* the low bits of the state alone are poor */
    double blocks = (double)exponential(word) * 0x1p-32 * (double)sample_mean / (double)size;
    return blocks < UINT32_MAX ? (uint64_t)blocks : UINT32_MAX;
}

static struct sampler *sampler_of(struct heap *h)
{
    if (ASH_UNLIKELY(h->sampler == NULL)) {
        struct sampler *r = meta_take(sizeof *r);
        if (r != NULL)
            os_random(&r->random, sizeof r->random);
        h->sampler = r;
    }
    return h->sampler;
}

/* Allocations of the class so far. */
static uint64_t made(struct heap *h, unsigned cls)
{
    struct heap_class *hc = heap_class(h, cls);
    return load_relaxed(&hc->hits) + load_relaxed(&hc->misses) +
           load_relaxed(&h->bin[cls].word) / BIN_HIT;
}

/* Allocations that go by until the one that is sampled. */
static uint64_t left(struct heap *h, struct sampler *r, unsigned cls)
{
    uint64_t *due = &r->due[cls];
    if (ASH_UNLIKELY(*due == 0))
        *due = made(h, cls) + draw(r, class_size(cls)) + 1;
    return *due - 1 - made(h, cls);
}

/* ---- the list ---- */

/* The list keeps its newest `keep` blocks of `length`; the others go to the spare one. */
static void cut(struct heap_class *hc, struct bin *b, unsigned length, unsigned keep)
{
    uint32_t spare = load_relaxed(&hc->spare_count);
    store_relaxed(&hc->spare_count, spare + length - keep);
    counter_add(&hc->flushed, length - keep);
    if (spare == 0) { /* the spare may be long, and what is kept is short */
        struct block **end = &b->head;
        for (unsigned i = 0; i < keep; i++)
            end = &(*end)->next;
        hc->spare = *end;
        *end = NULL;
        return;
    }
    for (; length > keep; length--) {
        struct block *p = b->head;
        b->head = p->next;
        p->next = hc->spare;
        hc->spare = p;
    }
}

void sample_fit(struct heap *h, unsigned cls)
{
    struct sampler *r = sampler_of(h);
    if (r == NULL)
        return;
    struct heap_class *hc = heap_class(h, cls);
    struct bin *b = &h->bin[cls];
    uint64_t ahead = left(h, r, cls);
    uint32_t length = load_relaxed(&hc->cap) - bin_room(b);
    uint32_t cap = (uint32_t)size_min(load_relaxed(&hc->cap), ahead / 2);
    if (length > cap) {
        cut(hc, b, length, cap);
        length = cap;
    }
    /* The hits that the tick is nearer than in other modes are put away with a minus. */
    uint64_t start = TICK - size_min(ahead - cap, TICK);
    uint64_t hits = load_relaxed(&hc->hits) + load_relaxed(&b->word) / BIN_HIT - start;
    store_relaxed(&hc->cap, cap);
    store_relaxed(&b->word, start * BIN_HIT + BIN_FULL - (cap - length));
    store_relaxed(&hc->hits, hits);
}

/* ---- small blocks ---- */

/* A block of the class that is not counted as an allocation on the way to its own next sample. */
static struct block *block_aside(struct heap *h, struct sampler *r, unsigned cls)
{
    left(h, r, cls); /* drawn */
    struct block *p = bin_pop(&h->bin[cls]);
    if (p == NULL)
        p = bin_refill(h, cls);
    if (p != NULL)
        r->due[cls]++;
    sample_fit(h, cls);
    return p;
}

/* For a block that no class has room for with its record: a large one, as large as its class is. */
static void *take_large(struct heap *h, unsigned cls, size_t align)
{
    bool zero;
    void *p = large_alloc(h, class_size(cls), align, &zero);
    if (p != NULL) {
        struct slab *s = chunk_header(unit_of(p));
        store_relaxed(&s->pool, sink.take(s->bytes));
    }
    return p;
}

/* The block holds as much as any of its class. */
static void *take_small(struct heap *h, struct sampler *r, unsigned cls, size_t align)
{
    size_t bytes = class_size(cls);
    size_t front = size_max(FRONT, align);
    if (bytes + front > SMALL_MAX)
        return take_large(h, cls, align);
    unsigned around = class_of(align_up(bytes + front, align));
    struct sample *s = (struct sample *)(void *)block_aside(h, r, around);
    if (s == NULL)
        return NULL;
    *s = (struct sample){
        .block.mark = sample_mark(s),
        .site = sink.take(bytes),
        .bytes = bytes,
        .offset = (uint32_t)front,
    };
    return (char *)s + front;
}

void *sample_take(struct heap *h, unsigned cls, size_t align)
{
    struct sampler *r = sampler_of(h);
    if (r == NULL || left(h, r, cls) != 0)
        return NULL;
    void *p = take_small(h, r, cls, align);
    r->due[cls] = made(h, cls) + draw(r, class_size(cls)) + 1;
    if (p == NULL)
        r->due[cls]++; /* one that is not sampled follows at once: this one */
    return p;
}

char *sample_inside(void *around)
{
    struct sample *s = around;
    return s->block.mark == sample_mark(s) ? (char *)s + s->offset : NULL;
}

struct site *sample_site(const void *around)
{
    return ((const struct sample *)around)->site;
}

struct block *sample_around(unsigned cls, const void *p)
{
    char *base = slab_base(slab_of(cls, p)) + class_index(cls, p) * class_size(cls);
    return sample_inside(base) == p ? (struct block *)(void *)base : NULL;
}

size_t sample_holds(unsigned cls, const void *p)
{
    struct sample *s = (struct sample *)sample_around(cls, p);
    return s != NULL ? s->bytes : HOLDS_NONE;
}

void sample_end(struct block *around)
{
    struct sample *s = (struct sample *)around;
    s->block.mark = 0;
    sink.give(s->site, s->bytes);
}

/* ---- large blocks ---- */

void sample_large(struct heap *h, void *p)
{
    struct slab *s = chunk_header(unit_of(p));
    struct sampler *r = heap_is_real(h) ? sampler_of(h) : NULL;
    bool sampled = r != NULL && draw(r, s->bytes) == 0;
    store_relaxed(&s->pool, sampled ? sink.take(s->bytes) : NULL);
}

void sample_large_end(struct site *site, size_t bytes)
{
    if (site != NULL)
        sink.give(site, bytes);
}

void sample_start(uint64_t mean, const struct sample_sink *to)
{
    struct heap *h = heap_self();
    if (heap_is_real(h))
        bin_drain(h); /* lists are as long as they like until now */
    sink = *to;
    sample_mean = mean;
}
