#include "heap/slab.h"

#include "base/bits.h"
#include "heap/error.h"
#include "info/options.h"

uintptr_t block_key;
size_t slab_slack_at, slab_links_at;

enum { WORD_BITS = 64 };

void slab_boot(void)
{
    size_t most = 0;
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++)
        most = size_max(most, class_blocks(cls));
    size_t words = (most + WORD_BITS - 1) / WORD_BITS;
    slab_slack_at = sizeof(struct slab) + words * sizeof(uint64_t);
    slab_links_at = slab_slack_at + most * sizeof(uint16_t);
    size_t end = options.harden ? slab_links_at + most * sizeof(uint16_t) : slab_slack_at;
    chunk_boot(align_up(end, ASH_CACHE_LINE));
}

struct slab *slab_init(struct heap *h, size_t unit, unsigned cls, bool zero)
{
    struct slab *s = chunk_header(unit);
    unsigned blocks = class_blocks(cls);
    unsigned words = (blocks + WORD_BITS - 1) / WORD_BITS;
    store_relaxed(&s->owner, h);
    store_relaxed(&s->remote, 0);
    s->unit = (uint32_t)unit;
    store_relaxed(&s->units, class_units(cls));
    store_relaxed(&s->cls, (uint8_t)cls);
    s->next = s->prev = NULL;
    s->list = SLAB_UNLISTED;
    s->blocks = s->free = blocks;
    s->fresh = 0;
    s->zero = zero;
    for (unsigned i = 0; i < words; i++)
        s->bits[i] = ~(uint64_t)0;
    if (blocks % WORD_BITS != 0)
        s->bits[words - 1] = bits_mask(0, blocks % WORD_BITS);
    s->summary = bits_mask(0, words);
    store_relaxed(&s->kind, UNIT_SMALL);
    classmap_set(unit, slab_units(s), cls);
    return s;
}

struct chain slab_take(struct slab *s, unsigned max)
{
    size_t size = class_size(slab_class(s));
    char *base = slab_base(s);
    uint32_t fresh = s->zero ? s->fresh : s->blocks;
    uint32_t index = 0;
    struct block anchor;
    struct chain c = {.tail = &anchor};
    while (c.count < max && s->summary != 0) {
        unsigned i = bits_lowest(s->summary);
        uint64_t word = s->bits[i];
        do {
            index = i * WORD_BITS + bits_lowest(word);
            struct block *p = (struct block *)(base + index * size);
            word &= word - 1;
            c.tail->next = p;
            c.tail = p;
            p->mark = index >= fresh ? block_fresh_mark(p) : block_mark(p);
        } while (++c.count < max && word != 0);
        s->bits[i] = word;
        if (word == 0)
            s->summary &= s->summary - 1;
    }
    s->free -= c.count;
    if (index >= s->fresh)
        s->fresh = index + 1;
    c.head = anchor.next;
    return c;
}

struct block *slab_put(struct slab *s, struct block *p)
{
    unsigned cls = slab_class(s);
    uint64_t summary = s->summary;
    uint32_t count = 0;
    do {
        struct block *next = p->next;
        __builtin_prefetch(next);
        unsigned index = class_index(cls, p);
        uint64_t bit = (uint64_t)1 << (index % WORD_BITS);
        uint64_t word = s->bits[index / WORD_BITS];
        if (ASH_UNLIKELY(index >= s->blocks || (word & bit) != 0)) {
            error_double_free(p);
            next = NULL;
        } else {
            s->bits[index / WORD_BITS] = word | bit;
            summary |= (uint64_t)1 << (index / WORD_BITS);
            count++;
        }
        p = next;
    } while (p != NULL && slab_holds(s, p));
    s->summary = summary;
    s->free += count;
    return p;
}

/* The place of one of the bits that are set. */
static unsigned bits_any(uint64_t x, unsigned from)
{
    uint64_t above = x & (~(uint64_t)0 << (from % WORD_BITS));
    return bits_lowest(above != 0 ? above : x);
}

unsigned slab_take_random(struct slab *s, uint64_t random, unsigned max, void **out,
                          const void **untouched)
{
    size_t size = class_size(slab_class(s));
    char *base = slab_base(s);
    /* of the words that were reached, and one more: pages are touched as they are needed */
    unsigned reach = s->fresh / WORD_BITS + 2;
    uint64_t near = reach < WORD_BITS ? s->summary & bits_mask(0, reach) : s->summary;
    unsigned i = bits_any(near != 0 ? near : s->summary, (unsigned)(random >> 32));
    uint64_t word = s->bits[i];
    unsigned count = 0;
    *untouched = base + (s->zero ? s->fresh : s->blocks) * size;
    do {
        unsigned bit = bits_any(word, (unsigned)(random >> 58));
        unsigned index = i * WORD_BITS + bit;
        word &= ~((uint64_t)1 << bit);
        random = random * 6364136223846793005u + 1442695040888963407u;
        out[count++] = base + index * size;
        if (index >= s->fresh)
            s->fresh = index + 1;
    } while (count < max && word != 0);
    s->bits[i] = word;
    if (word == 0)
        s->summary &= ~((uint64_t)1 << i);
    s->free -= count;
    return count;
}

void slab_put_linked(struct slab *s, struct chain c)
{
    unsigned index = class_index(slab_class(s), c.head);
    for (unsigned n = c.count; n > 0; n--) {
        s->bits[index / WORD_BITS] |= (uint64_t)1 << (index % WORD_BITS);
        s->summary |= (uint64_t)1 << (index / WORD_BITS);
        index = slab_links(s)[index];
    }
    s->free += c.count;
}

int slab_check(const struct slab *s)
{
    int faults = 0;
    unsigned count = 0;
    unsigned words = (s->blocks + WORD_BITS - 1) / WORD_BITS;
    for (unsigned i = 0; i < words; i++) {
        count += bits_count(s->bits[i]);
        faults += (s->bits[i] != 0) != ((s->summary >> i & 1) != 0);
    }
    if (s->blocks % WORD_BITS != 0)
        faults += (s->bits[words - 1] & ~bits_mask(0, s->blocks % WORD_BITS)) != 0;
    faults += count != s->free;
    faults +=
        s->blocks != class_blocks(slab_class(s)) || slab_units(s) != class_units(slab_class(s));
    for (unsigned i = 0; i < slab_units(s); i++)
        faults += load_relaxed(&classmap[s->unit + i]) != slab_class(s);
    return faults;
}
