#include "heap/slab.h"

#include "base/bits.h"
#include "heap/canary.h"
#include "heap/error.h"
#include "info/options.h"

#include <string.h>

uintptr_t block_key;
size_t slab_links_at;

enum {
    WORD_BITS = 64,
    CHOICE_BYTES = 16 * 1024, /* random places are chosen among so many bytes of free blocks, … */
    CHOICE_LEAST = 2 /* … or so many blocks; more are reached for only where there are none */
};

void slab_boot(void)
{
    size_t most = 0;
    for (unsigned cls = size_classes.first; cls < CLASS_COUNT; cls++)
        most = size_max(most, class_blocks(cls));
    size_t words = (most + WORD_BITS - 1) / WORD_BITS;
    slab_links_at = sizeof(struct slab) + words * sizeof(uint64_t);
    size_t end = slab_links_at + (options.harden ? most * sizeof(uint16_t) : 0);
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

/* Says what is wrong with a block that came home. */
static ASH_COLD void wrong(unsigned cls, const struct block *p)
{
    if (!class_is_block(&size_classes.of[cls], p))
        error_link(class_size(cls), p);
    else if (block_is_intact(p))
        error_double_free(p);
    else
        error_used_after_free(p, offsetof(struct block, mark) +
                                     bits_lowest(p->mark ^ block_mark(p)) / 8);
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
        if (ASH_UNLIKELY(!class_is_block(&size_classes.of[cls], p) || index >= s->blocks ||
                         (word & bit) != 0 || !block_is_intact(p))) {
            wrong(cls, p);
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

/*
 * Blocks below `to` have been reached: they are sealed, and cleared where memory is used again. To
 * write to their pages first spares those that are only read then a second fault.
 */
static ASH_NOINLINE void fresh_raise(struct slab *s, unsigned to)
{
    size_t size = class_size(slab_class(s));
    if (to <= s->fresh)
        return;
    if (!s->zero)
        memset(slab_base(s) + s->fresh * size, 0, (to - s->fresh) * size);
    for (unsigned i = s->fresh; i < to; i++)
        seal_free(slab_base(s) + i * size, size, canary_key(slab_base(s) + i * size));
    s->fresh = to;
}

/* The place of one of the bits that are set. */
static unsigned bits_any(uint64_t x, unsigned from)
{
    uint64_t above = x & (~(uint64_t)0 << (from % WORD_BITS));
    return bits_lowest(above != 0 ? above : x);
}

/* Takes blocks of one word of the bitmap, of which `word` are candidates, in random order. */
static unsigned word_take(struct slab *s, unsigned i, uint64_t word, uint64_t random, unsigned max,
                          void **out)
{
    size_t size = class_size(slab_class(s));
    char *base = slab_base(s) + i * WORD_BITS * size;
    uint64_t left = word;
    unsigned count = 0;
    do {
        unsigned bit = bits_any(left, (unsigned)random);
        left &= ~((uint64_t)1 << bit);
        random = random >> 5 | random << 59;
        out[count++] = base + bit * size;
    } while (count < max && left != 0);
    uint64_t taken = word ^ left;
    s->bits[i] ^= taken;
    if (s->bits[i] == 0)
        s->summary ^= (uint64_t)1 << i;
    fresh_raise(s, i * WORD_BITS + bits_highest(taken) + 1);
    return count;
}

unsigned slab_take_random(struct slab *s, uint64_t random, unsigned max, void **out)
{
    size_t size = class_size(slab_class(s));
    unsigned choice = (unsigned)size_max(CHOICE_LEAST, CHOICE_BYTES / size);
    unsigned reached = s->free - (s->blocks - s->fresh); /* and free again */
    unsigned ahead = reached < choice ? choice - reached : 0;
    unsigned reach = (unsigned)size_min(s->fresh + ahead, s->blocks);
    unsigned last = (reach - 1) / WORD_BITS;
    uint64_t words = s->summary & bits_mask(0, last + 1);
    unsigned count = 0;
    do {
        unsigned i = bits_any(words, (unsigned)(random >> 32));
        uint64_t near = i < last ? ~(uint64_t)0 : bits_mask(0, reach - last * WORD_BITS);
        words &= ~((uint64_t)1 << i);
        if ((s->bits[i] & near) != 0)
            count += word_take(s, i, s->bits[i] & near, random, max - count, out + count);
    } while (count < max && words != 0);
    s->free -= count;
    return count;
}

void slab_put_linked(struct slab *s, struct chain c)
{
    unsigned index = class_index(slab_class(s), c.head);
    for (unsigned n = c.count; n > 0; n--) {
        if (ASH_UNLIKELY(!slab_put_index(s, index)))
            error_double_free(slab_base(s) + index * class_size(slab_class(s)));
        index = slab_links(s)[index];
    }
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
