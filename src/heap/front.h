/*
 * The front: what malloc and its family are. The hit paths are here, inline; everything else is
 * behind one call of a function whose name ends in _slow. The only module that sets errno: ENOMEM
 * when an allocation returns NULL, EINVAL when it is realloc's for a wrong pointer; freeing leaves
 * errno alone.
 *
 * free checks, in this order: is the class map's answer a class whose list has room (no: a large
 * block, a foreign pointer, a full list, a thread without a heap, or time to look at the clock); is
 * it the first byte of a block; is it marked free.
 */
#ifndef ASH_FRONT_H
#define ASH_FRONT_H

#include "heap/bin.h"

void *front_malloc_slow(size_t n);
void *front_calloc_slow(size_t n);
void *front_aligned_any(size_t align, size_t n);
void front_free_slow(void *p);
void front_free_sized_slow(void *p, size_t n);

/* The class for `n`, times CLASS_STRIDE; false when no class is so large. */
ASH_INLINE bool front_class(size_t n, size_t *cls)
{
    if (ASH_LIKELY(n <= TABLE_MAX))
        *cls = size_classes.table[(n + 15) >> 4];
    else if (ASH_LIKELY(n <= SMALL_MAX))
        *cls = class_of_medium(n) * CLASS_STRIDE;
    else
        return false;
    return true;
}

/* A block of the class, which is given times CLASS_STRIDE; NULL: the slow path has to. */
ASH_INLINE void *front_malloc_class(struct heap *h, size_t cls)
{
    struct block *p = bin_pop(heap_bin(h, cls));
    if (ASH_LIKELY(p != NULL))
        p->mark = 0;
    return p;
}

ASH_INLINE void *front_malloc(size_t n)
{
    size_t cls;
    void *p = ASH_LIKELY(front_class(n, &cls)) ? front_malloc_class(heap_self(), cls) : NULL;
    return ASH_LIKELY(p != NULL) ? p : front_malloc_slow(n);
}

/* Frees a block of the class, which is given times CLASS_STRIDE; false: the slow path has to. */
ASH_INLINE bool front_free_class(struct heap *h, void *p, size_t cls)
{
    struct bin *b = heap_bin(h, cls);
    uint64_t word = load_relaxed(&b->word);
    if (ASH_UNLIKELY((word & (BIN_FULL | BIN_TICK)) != 0 || !class_is_block(class_at(cls), p) ||
                     block_is_marked(p)))
        return false;
    bin_push(b, word, p);
    return true;
}

/* The class of a block, times CLASS_STRIDE; false for what lies outside the window. */
ASH_INLINE bool front_class_of(const void *p, size_t *cls)
{
    size_t unit = unit_of(p);
    if (ASH_UNLIKELY(unit >= WINDOW_UNITS))
        return false;
    *cls = (size_t)load_relaxed(&classmap[unit]) * CLASS_STRIDE;
    return true;
}

ASH_INLINE void front_free(void *p)
{
    size_t cls;
    if (ASH_UNLIKELY(!front_class_of(p, &cls) || !front_free_class(heap_self(), p, cls)))
        front_free_slow(p);
}

/* Reports a size that the block cannot have been asked for with. */
ASH_INLINE void front_free_sized(void *p, size_t n)
{
    size_t cls;
    if (ASH_UNLIKELY(!front_class_of(p, &cls) || n > SMALL_MAX || cls != class_scaled(n) ||
                     !front_free_class(heap_self(), p, cls)))
        front_free_sized_slow(p, n);
}

/* `align` is a power of two. */
ASH_INLINE void *front_aligned(size_t align, size_t n)
{
    return ASH_LIKELY(align <= size_classes.align) ? front_malloc(n) : front_aligned_any(align, n);
}

void *front_calloc(size_t count, size_t n);
void *front_realloc(void *p, size_t n);

/* Reports likewise; the block was asked for with an alignment too. */
void front_free_aligned(void *p, size_t align, size_t n);

/* Bytes that the block holds; 0 for NULL. */
size_t front_usable(const void *p);

/* Bytes that a block of `n` bytes will hold. */
size_t front_good_size(size_t n);

/*
 * Empties this thread's cache, gives every idle slab and all free memory back to the system; other
 * threads' caches follow at their next slow path. 1 when memory was given back, else 0.
 */
int front_trim(void);

#endif
