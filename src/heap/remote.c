#include "heap/remote.h"

#include "base/anchor.h"

#define COUNT_MASK ((uint64_t)0xffff)
#define HEAD_SHIFT 16
#define LISTED     ((uint64_t)1 << 32)
#define ORPHAN     ((uint64_t)1 << 33)

#define STACK_INDEX ((uint64_t)0xffffffff)
#define STACK_TAG   ((uint64_t)1 << 32)

static ASH_LINE_ALIGNED _Atomic(uint64_t) orphans[CLASS_COUNT];
static _Atomic(uint64_t) orphan_count;

static struct block *block_at(const struct slab *s, unsigned head)
{
    return head == 0 ? NULL
                     : (struct block *)(slab_base(s) + (head - 1) * class_size(slab_class(s)));
}

ASH_INLINE unsigned word_head(uint64_t word)
{
    return (unsigned)(word >> HEAD_SHIFT) & 0xffff;
}

/* Puts a chain before the blocks of the word. */
ASH_INLINE void chain_before(struct slab *s, struct chain c, unsigned head)
{
    if (ASH_UNLIKELY(options.harden))
        slab_links(s)[class_index(slab_class(s), c.tail)] = (uint16_t)(head - 1);
    else
        c.tail->next = block_at(s, head);
}

static void inbox_push(struct heap *h, struct slab *s)
{
    uint32_t head = load_relaxed(&h->inbox);
    do {
        store_relaxed(&s->link, head);
    } while (!cas_release(&h->inbox, &head, s->unit + 1)); /* the link; pairs with remote_inbox */
}

static void orphan_push(struct slab *s)
{
    _Atomic(uint64_t) *stack = &orphans[slab_class(s)];
    uint64_t head = load_relaxed(stack);
    uint64_t mine;
    do {
        store_relaxed(&s->link, (uint32_t)(head & STACK_INDEX));
        mine = (head & ~STACK_INDEX) | (s->unit + 1);
    } while (!cas_release(stack, &head, mine)); /* the link and the record; pairs with orphan_pop */
}

static struct slab *orphan_pop(unsigned cls)
{
    _Atomic(uint64_t) *stack = &orphans[cls];
    uint64_t head = load_acquire(stack); /* pairs with orphan_push */
    while ((head & STACK_INDEX) != 0) {
        struct slab *s = chunk_header((head & STACK_INDEX) - 1);
        uint64_t next = ((head & ~STACK_INDEX) + STACK_TAG) | load_relaxed(&s->link);
        /* acquire: as above, and where it fails, for the link of the slab that is there now */
        if (cas_acq_rel(stack, &head, next))
            return s;
    }
    return NULL;
}

void remote_push(struct slab *s, struct chain c)
{
    uint64_t head = class_index(slab_class(s), c.head) + 1;
    uint64_t seen = load_relaxed(&s->remote);
    uint64_t mine;
    do {
        chain_before(s, c, word_head(seen));
        mine = (seen & ORPHAN) | LISTED | head << HEAD_SHIFT | ((seen & COUNT_MASK) + c.count);
    } while (!cas_acq_rel(&s->remote, &seen, mine)); /* release: the links, with remote_take;
                                                        acquire: `owner`, with remote_adopt */
    if ((seen & LISTED) != 0)
        return;
    if ((seen & ORPHAN) != 0) {
        add_relaxed(&orphan_count, 1);
        orphan_push(s);
    } else {
        inbox_push(load_relaxed(&s->owner), s);
    }
}

void remote_send(struct heap *h, struct group *g)
{
    if (g->slab == NULL)
        return;
    heap_count_up(h, slab_class(g->slab), remote_frees, g->chain.count);
    remote_push(g->slab, g->chain);
    g->slab = NULL;
}

struct chain remote_take(struct slab *s)
{
    /* acquire: the links, with remote_push; release: `owner`, with the acquire there */
    uint64_t seen = exchange_acq_rel(&s->remote, 0);
    struct chain c = {.head = block_at(s, word_head(seen)), .count = (unsigned)(seen & COUNT_MASK)};
    return c;
}

struct slab *remote_inbox(struct heap *h)
{
    if (load_relaxed(&h->inbox) == 0)
        return NULL;
    uint32_t head = exchange_acquire(&h->inbox, 0); /* pairs with inbox_push */
    return head == 0 ? NULL : chunk_header(head - 1);
}

struct slab *remote_next(const struct slab *s)
{
    uint32_t link = load_relaxed(&s->link);
    return link == 0 ? NULL : chunk_header(link - 1);
}

void remote_link(struct slab *s, const struct slab *next)
{
    store_relaxed(&s->link, next == NULL ? 0 : next->unit + 1);
}

bool remote_is_listed(const struct slab *s)
{
    return (load_relaxed(&s->remote) & LISTED) != 0;
}

bool remote_orphan(struct slab *s)
{
    uint64_t seen = 0;
    while (!cas_relaxed(&s->remote, &seen, LISTED))
        if (seen != 0)
            return false;
    store_relaxed(&s->owner, NULL); /* nobody reads it for listing while LISTED is ours */
    uint64_t mine;
    seen = load_relaxed(&s->remote);
    do {
        bool stacked = s->free != 0 || word_head(seen) != 0;
        mine = (seen & ~LISTED) | ORPHAN | (stacked ? LISTED : 0);
    } while (
        !cas_release(&s->remote, &seen, mine)); /* the record; pairs with remote_push's acquire */
    if ((mine & LISTED) != 0) {
        add_relaxed(&orphan_count, 1);
        orphan_push(s);
    }
    return true;
}

struct slab *remote_adopt(struct heap *h, unsigned cls)
{
    if (ASH_LIKELY((load_relaxed(&orphans[cls]) & STACK_INDEX) == 0))
        return NULL;
    struct slab *s = orphan_pop(cls);
    if (s != NULL) {
        sub_relaxed(&orphan_count, 1);
        store_relaxed(&s->owner, h);
    }
    return s;
}

uint64_t remote_orphans(void)
{
    ANCHOR("orphans", orphan_count);
    return load_relaxed(&orphan_count);
}
