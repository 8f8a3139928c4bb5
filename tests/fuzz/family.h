/*
 * malloc's family under names of its own: preload/malloc.c is compiled with this header in front of it, and so is what
 * calls it. The process keeps its libc's malloc, so every block that the library counts is one that the model knows,
 * and all of it runs under sanitizers too.
 */
#ifndef ASH_TESTS_FAMILY_H
#define ASH_TESTS_FAMILY_H

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define malloc             family_malloc
#define calloc             family_calloc
#define realloc            family_realloc
#define reallocarray       family_reallocarray
#define free               family_free
#define cfree              family_cfree
#define free_sized         family_free_sized
#define free_aligned_sized family_free_aligned_sized
#define aligned_alloc      family_aligned_alloc
#define posix_memalign     family_posix_memalign
#define memalign           family_memalign
#define valloc             family_valloc
#define pvalloc            family_pvalloc
#define malloc_usable_size family_malloc_usable_size

void *malloc(size_t n);
void *calloc(size_t count, size_t n);
void *realloc(void *p, size_t n);
void *reallocarray(void *p, size_t count, size_t n);
void free(void *p);
void cfree(void *p);
void free_sized(void *p, size_t n);
void free_aligned_sized(void *p, size_t align, size_t n);
void *aligned_alloc(size_t align, size_t n);
int posix_memalign(void **out, size_t align, size_t n);
void *memalign(size_t align, size_t n);
void *valloc(size_t n);
void *pvalloc(size_t n);
size_t malloc_usable_size(void *p);

#endif
