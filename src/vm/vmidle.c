#include "vm/vmidle.h"

#include "ashlar/malloc.h"

#include <string.h>

#define VM_MASK  (((uint64_t)1 << 32) - 1)
#define TAG_NEXT ((uint64_t)1 << 32)

ASH_INLINE bool is_vm(uint32_t vm)
{
    return vm != VMIDLE_NONE && vm != VMIDLE_WANTED;
}

ASH_INLINE uint32_t top_of(uint64_t head)
{
    return (uint32_t)(head & VM_MASK);
}

/* The head that follows `head`, with another top. */
ASH_INLINE uint64_t head_with(uint64_t head, uint32_t top)
{
    return ((head & ~VM_MASK) + TAG_NEXT) | top;
}

bool vmidle_init(struct vmidle *v, unsigned n, unsigned lines)
{
    memset(v, 0, sizeof *v);
    v->lines = lines;
    v->below = ash_calloc(n + 1, sizeof *v->below);
    return v->below != NULL;
}

void vmidle_fini(struct vmidle *v)
{
    ash_free(v->below);
}

static bool push(struct vmidle *v, uint32_t vm)
{
    uint64_t head = load_relaxed(&v->head);
    do {
        if (top_of(head) == VMIDLE_WANTED)
            return false;
        store_relaxed(&v->below[vm], top_of(head));
    } while (!cas_release(&v->head, &head, head_with(head, vm))); /* pairs with vmidle_pop */
    return true;
}

bool vmidle_put(struct vmidle *v, unsigned line, uint32_t vm)
{
    uint32_t seen = VMIDLE_NONE;
    if (ASH_UNLIKELY(line >= v->lines))
        return push(v, vm);
    /* release: the VM; pairs with take_from */
    if (ASH_LIKELY(cas_strong_release(&v->own[line].vm, &seen, vm)))
        return true;
    return seen != VMIDLE_WANTED && push(v, vm);
}

ASH_INLINE uint32_t take_from(_Atomic(uint32_t) *place)
{
    uint32_t seen = load_relaxed(place);
    while (is_vm(seen))
        if (cas_acquire(place, &seen, VMIDLE_NONE)) /* the VM; pairs with vmidle_put */
            return seen;
    return VMIDLE_NONE;
}

uint32_t vmidle_take_own(struct vmidle *v, unsigned line)
{
    return line < v->lines ? take_from(&v->own[line].vm) : VMIDLE_NONE;
}

uint32_t vmidle_pop(struct vmidle *v)
{
    uint64_t head = load_acquire(&v->head); /* the top's link; pairs with push */
    while (is_vm(top_of(head))) {
        uint32_t below = load_relaxed(&v->below[top_of(head)]);
        if (cas_acq_rel(&v->head, &head, head_with(head, below))) /* the VM; pairs with push */
            return top_of(head);
    }
    return VMIDLE_NONE;
}

uint32_t vmidle_peek(const struct vmidle *v, unsigned line)
{
    uint32_t seen = load_relaxed(&v->own[line].vm);
    return is_vm(seen) ? seen : VMIDLE_NONE;
}

uint32_t vmidle_take_any(struct vmidle *v)
{
    uint32_t vm = vmidle_pop(v);
    for (unsigned line = 0; vm == VMIDLE_NONE && line < v->lines; line++)
        vm = take_from(&v->own[line].vm);
    return vm;
}

/* Marks the stack if it is empty; else takes its top. */
static uint32_t want_stack(struct vmidle *v)
{
    uint64_t head = load_relaxed(&v->head);
    while (top_of(head) == VMIDLE_NONE)
        if (cas_relaxed(&v->head, &head, head_with(head, VMIDLE_WANTED)))
            return VMIDLE_NONE;
    return vmidle_pop(v);
}

uint32_t vmidle_want(struct vmidle *v)
{
    uint32_t vm;
    while ((vm = want_stack(v)) == VMIDLE_NONE && top_of(load_relaxed(&v->head)) != VMIDLE_WANTED)
        ;
    for (unsigned line = 0; vm == VMIDLE_NONE && line < v->lines; line++)
        vm = exchange_acquire(&v->own[line].vm, VMIDLE_WANTED); /* pairs with vmidle_put */
    if (vm != VMIDLE_NONE)
        vmidle_unwant(v);
    return vm;
}

void vmidle_unwant(struct vmidle *v)
{
    for (unsigned line = 0; line < v->lines; line++) {
        uint32_t wanted = VMIDLE_WANTED;
        cas_strong_relaxed(&v->own[line].vm, &wanted, VMIDLE_NONE);
    }
    uint64_t head = load_relaxed(&v->head);
    while (top_of(head) == VMIDLE_WANTED &&
           !cas_relaxed(&v->head, &head, head_with(head, VMIDLE_NONE)))
        ;
}
