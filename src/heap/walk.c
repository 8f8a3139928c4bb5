#include "heap/walk.h"

#include "heap/boot.h"
#include "heap/canary.h"
#include "heap/hard.h"
#include "mem/reserve.h"

/* What a walk does with each block. */
struct visit {
    void (*fn)(const struct walk_block *, void *);
    void *arg;
};

/* A block that is not free in its slab is the program's, or waits in a cache with a mark. */
static bool is_live(const struct slab *s, unsigned index, const struct block *p)
{
    if ((load_plain(&s->bits[index / 64]) >> (index % 64) & 1) != 0)
        return false;
    if (options.harden) {
        uint64_t key = canary_key(p);
        uint64_t seal = load_relaxed(seal_at((void *)(uintptr_t)p, class_size(slab_class(s))));
        return seal_slack(key, seal) != SEAL_NONE;
    }
    uintptr_t mark = load_plain(&p->mark);
    return mark != block_mark(p) && mark != block_fresh_mark(p);
}

static void visit_slab(const struct visit *v, struct slab *s)
{
    unsigned cls = slab_class(s);
    size_t size = class_size(cls);
    for (unsigned i = 0; i < s->blocks; i++) {
        char *p = slab_base(s) + i * size;
        if (!is_live(s, i, (struct block *)(void *)p))
            continue;
        struct walk_block b = {.at = p, .bytes = size};
        char *inside = sample_mean != 0 ? sample_inside(p) : NULL;
        if (inside != NULL)
            b = (struct walk_block){inside, sample_holds(cls, inside), sample_site(p), false};
        v->fn(&b, v->arg);
    }
}

/* The unit behind what begins at `unit`. */
static size_t visit_unit(const struct visit *v, size_t unit)
{
    bool is_free = (reserve_free_bits(unit / CHUNK_UNITS) >> (unit % CHUNK_UNITS) & 1) != 0;
    struct slab *s = is_free ? NULL : chunk_header_or_null(unit);
    struct walk_block b = {.at = unit_address(unit), .bytes = UNIT_BYTES};
    switch (s == NULL ? UNIT_NONE : load_acquire(&s->kind)) { /* pairs with slab_init */
    case UNIT_SMALL:
        visit_slab(v, s);
        return unit + slab_units(s);
    case UNIT_LARGE:
        b.bytes = s->bytes;
        b.site = sample_mean != 0 ? sample_large_site(s) : NULL;
        v->fn(&b, v->arg);
        return unit + slab_units(s);
    case UNIT_POOL:
        b.pool = true;
        v->fn(&b, v->arg);
        break;
    }
    return unit + 1;
}

void walk_live(void (*fn)(const struct walk_block *, void *), void *arg)
{
    struct visit v = {fn, arg};
    if (!boot())
        return;
    if (options.harden && heap_is_real(heap_hard))
        hard_forget(heap_hard);
    for (size_t unit = 0, end = chunk_count() * CHUNK_UNITS; unit < end;)
        unit = visit_unit(&v, unit);
}
