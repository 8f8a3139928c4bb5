/*
 * Mappings that come and go: a place that one thread has unmapped is given to another thread by the
 * kernel, which orders the two. The memory model cannot know that from system calls, so the word
 * below says it.
 */
#ifndef ASH_ISOMAP_H
#define ASH_ISOMAP_H

#include "base/atomic.h"
#include "os/os_mem.h"

/*
 * atomic: a read-modify-write with release before each unmapping, so that whoever maps the place
 * later, and acquires, comes after all use of the old mapping.
 */
extern ASH_HIDDEN _Atomic(uint64_t) isomap_gone;

ASH_INLINE void isomap_unmap(void *at, size_t n)
{
    or_release(&isomap_gone, 1); /* the mapping's use; pairs with isomap_came */
    os_unmap(at, n);
}

/* To be called behind everything that maps at a place of the kernel's choice. */
ASH_INLINE void isomap_came(void)
{
    (void)load_acquire(&isomap_gone); /* pairs with isomap_unmap */
}

ASH_INLINE void *isomap_map(size_t n)
{
    void *at = os_map(n);
    isomap_came();
    return at;
}

#endif
