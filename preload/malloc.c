/*
 * malloc and its family, as C, POSIX and glibc name them: each is the front's function and the
 * rules that its standard adds. Alignments: posix_memalign wants a power of two that is a multiple
 * of a pointer's size; aligned_alloc a power of two (C17, glibc since 2.38); memalign takes
 * anything and rounds up, as glibc does.
 *
 * Requests above PTRDIFF_MAX fail with ENOMEM everywhere.
 */
#include "heap/front.h"
#include "os/os_mem.h"

#include <errno.h>

#define PUBLIC ASH_API __attribute__((nothrow))

PUBLIC void *malloc(size_t n);
PUBLIC void *calloc(size_t count, size_t n);
PUBLIC void *realloc(void *p, size_t n);
PUBLIC void *reallocarray(void *p, size_t count, size_t n);
PUBLIC void free(void *p);
PUBLIC void cfree(void *p);
PUBLIC void free_sized(void *p, size_t n);
PUBLIC void free_aligned_sized(void *p, size_t align, size_t n);
PUBLIC void *aligned_alloc(size_t align, size_t n);
PUBLIC int posix_memalign(void **out, size_t align, size_t n);
PUBLIC void *memalign(size_t align, size_t n);
PUBLIC void *valloc(size_t n);
PUBLIC void *pvalloc(size_t n);
PUBLIC size_t malloc_usable_size(void *p);

void *malloc(size_t n)
{
    return front_malloc(n);
}

void free(void *p)
{
    front_free(p);
}

void cfree(void *p)
{
    front_free(p);
}

void *calloc(size_t count, size_t n)
{
    return front_calloc(count, n);
}

void *realloc(void *p, size_t n)
{
    return front_realloc(p, n);
}

void *reallocarray(void *p, size_t count, size_t n)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, n, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(p, bytes); /* by its name: the program, or valgrind, may have its own */
}

void free_sized(void *p, size_t n)
{
    front_free_sized(p, n);
}

void free_aligned_sized(void *p, size_t align, size_t n)
{
    front_free_aligned(p, align, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    if (!is_pow2(align)) {
        errno = EINVAL;
        return NULL;
    }
    return front_aligned(align, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
    if (!is_pow2(align) || align % sizeof(void *) != 0)
        return EINVAL;
    int saved = errno;
    void *p = front_aligned(align, n);
    errno = saved;
    if (p == NULL)
        return ENOMEM;
    *out = p;
    return 0;
}

void *memalign(size_t align, size_t n)
{
    if (align > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t power = sizeof(void *);
    while (power < align)
        power *= 2;
    return front_aligned(power, n);
}

void *valloc(size_t n)
{
    return front_aligned(os_page_size(), n);
}

void *pvalloc(size_t n)
{
    size_t page = os_page_size();
    if (n > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    return front_aligned(page, align_up(n, page));
}

size_t malloc_usable_size(void *p)
{
    return front_usable(p);
}
