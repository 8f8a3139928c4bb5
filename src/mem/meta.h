/*
 * Memory for the allocator's own records: heaps, unit headers. It is never given back, so a stale
 * pointer to a record always points at a record: that is what lets lock-free stacks read a node
 * that another thread has just popped (see heap/remote.c).
 */
#ifndef ASH_META_H
#define ASH_META_H

#include "base/base.h"

/*
 * `n` zeroed bytes, cache-line aligned, for ever; NULL when the system refuses. Any thread, lock-
 * free.
 */
void *meta_take(size_t n);

/* Bytes handed out so far. */
uint64_t meta_bytes(void);

#endif
