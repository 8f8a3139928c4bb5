/*
 * Large blocks of hardened mode: between units that cannot be touched. Behind the block's last page
 * nothing can be touched either; what is left of that page carries a canary.
 */
#ifndef ASH_HARDLARGE_H
#define ASH_HARDLARGE_H

#include "heap/heap.h"

void *hardlarge_alloc(struct heap *h, size_t n, size_t align);
void hardlarge_free(struct heap *h, void *p);
size_t hardlarge_usable(const char *verb, const void *p);
bool hardlarge_resize(struct heap *h, void *p, size_t n);

/* Gives the freed blocks that wait back to the reserve. */
void hardlarge_reap(void);

#endif
