/*
 * Making the compiled form: sizes first, then everything at its place in memory of that size. The
 * slots come last, since how many there will be is known at the end; the block is then copied to
 * memory of its exact size.
 */
#include "msg/routes.h"

#include "ashlar/malloc.h"
#include "msg/words.h"

#include <errno.h>
#include <string.h>

enum {
    SLOTS_FOR_ONE = 16,   /* slots at most for each child that is text */
    SPREAD_SMALL = 128,   /* up to so many children, slots are doubled until none is shared */
    DOUBLINGS = 3,        /* at most, for these */
    SHIFTS_SMALL = 32,    /* choices of bits for these */
    SHIFTS_LARGE = 2,     /* and for others */
    NODES_MOST = 1 << 25, /* so that offsets fit 32 bits */
};

struct build {
    struct routes *t;
    struct route *const *route;
    uint32_t node; /* offset of the next one, and likewise: */
    uint32_t target;
    uint32_t text;
    uint32_t slots;
};

/* Two roots that lead nowhere. */
static const struct {
    struct routes head;
    ASH_LINE_ALIGNED struct node root;
} nothing = {.head = {.root = {ASH_CACHE_LINE, ASH_CACHE_LINE}, .bytes = 2 * ASH_CACHE_LINE}};

_Static_assert(sizeof(struct routes) <= ASH_CACHE_LINE, "nodes begin at the second line");

const struct routes *routes_none(void)
{
    return &nothing.head;
}

static void *at(struct build *b, uint32_t offset)
{
    return (char *)b->t + offset;
}

static uint32_t target_put(struct build *b, const struct route *r)
{
    uint32_t offset = b->target;
    struct target *to = at(b, offset);
    *to = (struct target){.handler = r->handler, .pattern = r->pattern, .names = r->names};
    memcpy(to->name, r->name, r->names * sizeof r->name[0]);
    b->target += (uint32_t)(sizeof *to + r->names * sizeof r->name[0]);
    return offset;
}

/* What a part is compared with. */
static void part_put(struct build *b, struct node *n, const struct part *part)
{
    size_t len = (size_t)part->len + part->after;
    n->kind = part->kind;
    n->len = part->len;
    n->after = part->after;
    if (part->kind == PART_TEXT) {
        memcpy(&n->head, part->text, size_min(len, 8));
        n->tail = len;
        if (len > 8)
            memcpy(&n->tail, part->text + len - 8, 8);
    }
    if (len == 0 || (part->kind == PART_TEXT && len <= 16))
        return;
    n->text = b->text;
    memcpy(at(b, b->text), part->text, len);
    b->text += (uint32_t)len;
}

/* Puts children into slots by these bits of their hash: how many share one. */
static size_t slots_try(struct build *b, uint32_t first, size_t count, uint32_t slots,
                        unsigned shift, uint32_t *slot)
{
    size_t shared = 0;
    memset(slot, 0, slots * sizeof slot[0]);
    for (size_t i = count; i-- > 0;) {
        struct node *child = (struct node *)at(b, first) + i;
        uint32_t *own = &slot[routes_hash(child->head, child->tail) >> shift & (slots - 1)];
        shared += *own != 0;
        child->chain = *own;
        *own = first + (uint32_t)(i * sizeof *child);
    }
    return shared;
}

/* The table of a node's `count` children that are text, from `first` on. */
static void slots_put(struct build *b, struct node *n, uint32_t first, size_t count)
{
    bool small = count <= SPREAD_SMALL;
    unsigned bits = 0;
    while ((size_t)1 << bits < count)
        bits++;
    unsigned most = count == 1 ? 0 : bits + (small ? DOUBLINGS : 1);
    size_t least = SIZE_MAX;
    for (; bits <= most && least > 0; bits++)
        for (unsigned down = 0; down < (small ? SHIFTS_SMALL : SHIFTS_LARGE) && least > 0; down++) {
            unsigned shift = 64 - size_max(bits, 1) - down; /* high bits depend on all below */
            size_t shared = slots_try(b, first, count, 1u << bits, shift, at(b, b->slots));
            if (shared < least) {
                least = shared;
                n->mask = (1u << bits) - 1;
                n->shift = (uint8_t)shift;
            }
        }
    slots_try(b, first, count, n->mask + 1, n->shift, at(b, b->slots));
    n->slots = b->slots;
    b->slots += (n->mask + 1) * (uint32_t)sizeof(uint32_t);
}

/* The end of the routes from `from` on that have the first `depth` parts in common. */
static size_t group_end(struct build *b, size_t from, size_t to, unsigned depth)
{
    size_t end = from + 1;
    while (end < to && b->route[end]->shared >= depth)
        end++;
    return end;
}

/*
 * Fills in the node of the routes [from, to), which share `n->depth` parts, and all below it. The
 * children lie one behind the other, so each knows where its next sibling will be.
 */
static void node_put(struct build *b, struct node *n, size_t from, size_t to)
{
    unsigned depth = n->depth;
    if (depth > b->t->deepest)
        b->t->deepest = depth;
    if (from < to && b->route[from]->parts == depth)
        n->target = target_put(b, b->route[from++]);

    uint32_t first = b->node, texts = 0, children = 0;
    for (size_t i = from; i < to; i = group_end(b, i, to, depth + 1)) {
        const struct part *part = &b->route[i]->part[depth];
        struct node *child = (struct node *)at(b, first) + children++;
        part_put(b, child, part);
        texts += part->kind == PART_TEXT;
        child->depth = (uint8_t)(depth + 1);
        child->names = (uint8_t)(n->names + (part->kind != PART_TEXT));
    }
    b->node += children * (uint32_t)sizeof *n;
    n->other = children > texts ? first + texts * (uint32_t)sizeof *n : n->fail;
    if (texts > 0)
        slots_put(b, n, first, texts);

    struct node *child = at(b, first);
    size_t i = from;
    for (uint32_t k = 0; k < children; k++, child++) {
        size_t end = group_end(b, i, to, depth + 1);
        if (k < texts)
            child->fail = n->other;
        else
            child->fail = k + 1 < children ? first + (k + 1) * (uint32_t)sizeof *n : n->fail;
        node_put(b, child, i, end);
        i = end;
    }
}

/* How much of everything there will be. False when it is too much. */
static bool build_measure(struct build *b, struct route *const *route, size_t count, size_t *most)
{
    size_t nodes = 2, targets = 0, text = 0;
    for (size_t i = 0; i < count; i++) {
        struct route *r = route[i];
        r->shared = i > 0 ? (uint8_t)route_shared(route[i - 1], r) : 0;
        nodes += r->parts - r->shared;
        targets += sizeof(struct target) + r->names * sizeof r->name[0];
        for (unsigned k = r->shared; k < r->parts; k++)
            text += (size_t)r->part[k].len + r->part[k].after;
    }
    size_t node = ASH_CACHE_LINE;
    size_t target = node + nodes * sizeof(struct node);
    size_t slots = align_up(target + targets + text, sizeof(uint32_t));
    *most = slots + nodes * SLOTS_FOR_ONE * sizeof(uint32_t);
    b->node = (uint32_t)node;
    b->target = (uint32_t)target;
    b->text = (uint32_t)(target + targets);
    b->slots = (uint32_t)slots;
    return nodes < NODES_MOST && *most < UINT32_MAX;
}

int routes_compile(struct ash_arena *parent, struct route *const *route, size_t count,
                   unsigned flags, struct routes **out)
{
    struct build b = {.route = route};
    size_t most, split = 0;
    if (!build_measure(&b, route, count, &most))
        return -EFBIG;
    b.t = ash_malloc(most);
    if (b.t == NULL)
        return -ENOMEM;
    memset(b.t, 0, b.slots); /* slots are cleared as they are tried */
    while (split < count && route[split]->rooted)
        split++;
    struct node *root = at(&b, b.node);
    for (unsigned rooted = 0; rooted < 2; rooted++, root++, b.node += (uint32_t)sizeof *root)
        b.t->root[rooted] = b.node;
    node_put(&b, root - 1, 0, split);
    node_put(&b, root - 2, split, count);
    b.t->flags = flags;
    b.t->count = (uint32_t)count;
    b.t->nodes = (b.node - b.t->root[1]) / (uint32_t)sizeof *root - 1;
    b.t->bytes = b.slots;

    struct ash_arena *arena = ash_arena_create(
        parent, "routes", ASH_ARENA_CONFIG(.first_chunk = b.t->bytes + 8 * ASH_CACHE_LINE));
    void *block = arena == NULL ? NULL : ash_arena_aligned(arena, ASH_CACHE_LINE, b.t->bytes);
    if (block != NULL) {
        b.t->arena = arena;
        *out = memcpy(block, b.t, b.t->bytes);
    } else if (arena != NULL)
        ash_arena_destroy(arena);
    ash_free(b.t);
    return block != NULL ? 0 : -ENOMEM;
}
