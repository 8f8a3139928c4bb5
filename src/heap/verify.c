#include "heap/verify.h"

#include "base/bits.h"
#include "heap/bin.h"
#include "heap/boot.h"
#include "mem/reserve.h"
#include "os/check.h"

static int fault(const char *what, const void *where)
{
    warn_line("verify: %s at %p", what, where);
    return 1;
}

/* A used unit is a pool's, begins a slab or a large block, or lies inside the one before it. */
static int verify_units(void)
{
    int faults = 0;
    size_t end = chunk_count() * CHUNK_UNITS;
    size_t covered = 0; /* units below this belong to a run that was seen */
    for (size_t unit = 0; unit < end; unit++) {
        bool is_free = (reserve_free_bits(unit / CHUNK_UNITS) >> (unit % CHUNK_UNITS) & 1) != 0;
        unsigned cls = load_relaxed(&classmap[unit]);
        if (is_free || unit < covered) {
            if (is_free && (cls != 0 || unit < covered))
                faults += fault("free unit inside a run", unit_address(unit));
            continue;
        }
        struct slab *s = chunk_header_or_null(unit);
        unsigned kind = s == NULL ? UNIT_NONE : load_acquire(&s->kind); /* pairs with slab_init */
        if (kind == UNIT_SMALL) {
            if (cls != slab_class(s) || slab_check(s) != 0)
                faults += fault("damaged slab", unit_address(unit));
            covered = unit + slab_units(s);
        } else if (kind == UNIT_LARGE) {
            if (cls != 0 || s->bytes > (size_t)slab_units(s) << UNIT_SHIFT)
                faults += fault("damaged large block", unit_address(unit));
            covered = unit + slab_units(s);
        } else if (kind == UNIT_POOL) {
            if (cls != 0 || load_relaxed(&s->pool) == NULL)
                faults += fault("damaged unit of a pool", unit_address(unit));
        }
    }
    return faults;
}

/*
 * Every block of a list is a block of its class, out of its slab, marked, and the length is right.
 */
static int verify_list(unsigned cls, const struct block *p, unsigned length)
{
    unsigned count = 0;
    for (; p != NULL; p = p->next, count++) {
        if (classmap_at(p) != cls || !class_is_block(&size_classes.of[cls], p))
            return fault("stray block in a cache", p);
        if (p->mark != block_mark(p) && p->mark != block_fresh_mark(p))
            return fault("cached block without its mark", p);
        unsigned index = class_index(cls, p);
        if ((slab_of(cls, p)->bits[index / 64] >> (index % 64) & 1) != 0)
            return fault("cached block that is free in its slab", p);
        if (count > length)
            break;
    }
    return count == length ? 0 : fault("cache of wrong length", p);
}

static int verify_bin(struct heap *h, unsigned cls)
{
    if (options.harden)
        return 0; /* its lists are arrays: see heap/hard.c */
    struct heap_class *hc = heap_class(h, cls);
    unsigned length = load_relaxed(&hc->cap) - bin_room(&h->bin[cls]);
    return verify_list(cls, h->bin[cls].head, length) +
           verify_list(cls, hc->spare, load_relaxed(&hc->spare_count));
}

/* The lists of slabs of a heap: each in its right place. */
static int verify_lists(struct heap *h, unsigned cls)
{
    int faults = 0;
    for (struct slab *s = heap_class(h, cls)->partial; s != NULL; s = s->next)
        if (s->free == 0 || s->list != SLAB_PARTIAL || slab_class(s) != cls ||
            load_relaxed(&s->owner) != h)
            faults += fault("slab on the wrong list", s);
    for (struct slab *s = heap_class(h, cls)->full; s != NULL; s = s->next)
        if (s->free != 0 || s->list != SLAB_FULL || slab_class(s) != cls ||
            load_relaxed(&s->owner) != h)
            faults += fault("slab on the wrong list", s);
    return faults;
}

int verify_all(void)
{
    if (!boot())
        return 0;
    int faults = verify_units();
    struct heap *h = heap_attached();
    for (unsigned cls = size_classes.first; heap_is_real(h) && cls < CLASS_COUNT; cls++)
        faults += verify_bin(h, cls) + verify_lists(h, cls);
    return faults;
}
