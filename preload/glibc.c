/*
 * glibc's statistics and tuning calls, with this allocator's figures.
 *
 *   arena     slabs and resident free memory      uordblks  bytes in small blocks that are live
 *   ordblks   free blocks in slabs and caches     fordblks  bytes free in slabs, caches and units
 *   hblks     large blocks                        hblkhd    bytes in large blocks
 *   keepcost  what malloc_trim would give back at least
 *
 * glibc's own names for its malloc are here too: a block from one of them would be foreign to free.
 *
 * mallopt takes every parameter of glibc's and changes nothing: what they tune does not exist here,
 * and a program that sets them should not think that it failed.
 */
#include "ashlar/stats.h"
#include "heap/front.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>

static struct ash_stats totals(void)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
    return s;
}

static uint64_t free_blocks(void)
{
    uint64_t blocks = 0;
    struct ash_class_stats c;
    for (unsigned cls = 0; ash_stats_class(cls, &c) == 0; cls++)
        blocks += c.capacity > c.live ? c.capacity - c.live : 0;
    return blocks;
}

ASH_API struct mallinfo2 mallinfo2(void)
{
    struct ash_stats s = totals();
    return (struct mallinfo2){
        .arena = s.slab_bytes + s.dirty_bytes,
        .ordblks = free_blocks(),
        .hblks = s.large_live_blocks,
        .hblkhd = s.large_live_bytes,
        .uordblks = s.live_bytes - s.large_live_bytes,
        .fordblks = s.cached_bytes + s.slab_free_bytes + s.dirty_bytes,
        .keepcost = s.dirty_bytes,
    };
}

ASH_INLINE int as_int(size_t n)
{
    return n > INT_MAX ? INT_MAX : (int)n;
}

/* The old form, whose fields are too narrow: what does not fit is shown as the largest number. */
ASH_API struct mallinfo mallinfo(void)
{
    struct mallinfo2 m = mallinfo2();
    return (struct mallinfo){
        .arena = as_int(m.arena),
        .ordblks = as_int(m.ordblks),
        .hblks = as_int(m.hblks),
        .hblkhd = as_int(m.hblkhd),
        .uordblks = as_int(m.uordblks),
        .fordblks = as_int(m.fordblks),
        .keepcost = as_int(m.keepcost),
    };
}

ASH_API int malloc_trim(size_t pad)
{
    (void)pad;
    return front_trim();
}

ASH_API int mallopt(int parameter, int value)
{
    (void)parameter;
    (void)value;
    return 1;
}

ASH_API void malloc_stats(void)
{
    fflush(stderr);
    ash_stats_dump(fileno(stderr), ASH_TEXT);
}

static void info_class(FILE *out, const struct ash_class_stats *c)
{
    fprintf(out, "<size from=\"%zu\" to=\"%zu\" total=\"%llu\" count=\"%llu\"/>\n", c->size,
            c->size, (unsigned long long)((c->capacity - c->live) * c->size),
            (unsigned long long)(c->capacity - c->live));
}

/*
 * glibc's layout, version 1: one heap with the free blocks of each class and their sum, then the
 * sums over all heaps. As there, `system` is what small blocks come from, without large blocks.
 */
ASH_API int malloc_info(int flags, FILE *out)
{
    if (flags != 0)
        return EINVAL;
    struct ash_stats s = totals();
    struct ash_class_stats c;
    unsigned long long blocks = free_blocks();
    unsigned long long bytes = s.slab_free_bytes + s.cached_bytes;
    unsigned long long slabs = s.slab_bytes;
    unsigned long long peak =
        s.peak_bytes > slabs + s.large_live_bytes ? s.peak_bytes - s.large_live_bytes : slabs;
    fputs("<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n", out);
    for (unsigned cls = 0; ash_stats_class(cls, &c) == 0; cls++)
        if (c.capacity > c.live)
            info_class(out, &c);
    fprintf(out,
            "</sizes>\n"
            "<total type=\"fast\" count=\"0\" size=\"0\"/>\n"
            "<total type=\"rest\" count=\"%llu\" size=\"%llu\"/>\n"
            "<system type=\"current\" size=\"%llu\"/>\n"
            "<system type=\"max\" size=\"%llu\"/>\n"
            "<aspace type=\"total\" size=\"%llu\"/>\n"
            "<aspace type=\"mprotect\" size=\"%llu\"/>\n"
            "</heap>\n"
            "<total type=\"fast\" count=\"0\" size=\"0\"/>\n"
            "<total type=\"rest\" count=\"%llu\" size=\"%llu\"/>\n"
            "<total type=\"mmap\" count=\"%llu\" size=\"%llu\"/>\n"
            "<system type=\"current\" size=\"%llu\"/>\n"
            "<system type=\"max\" size=\"%llu\"/>\n"
            "<aspace type=\"total\" size=\"%llu\"/>\n"
            "<aspace type=\"mprotect\" size=\"%llu\"/>\n"
            "</malloc>\n",
            blocks, bytes, slabs, peak, slabs, slabs, blocks, bytes,
            (unsigned long long)s.large_live_blocks, (unsigned long long)s.large_live_bytes, slabs,
            peak, slabs, slabs);
    return 0;
}

ASH_API void *__libc_malloc(size_t n);
ASH_API void *__libc_calloc(size_t count, size_t n);
ASH_API void *__libc_realloc(void *p, size_t n);
ASH_API void *__libc_memalign(size_t align, size_t n);
ASH_API void *__libc_valloc(size_t n);
ASH_API void *__libc_pvalloc(size_t n);
ASH_API void __libc_free(void *p);

void *__libc_malloc(size_t n)
{
    return front_malloc(n);
}

void *__libc_calloc(size_t count, size_t n)
{
    return front_calloc(count, n);
}

void *__libc_realloc(void *p, size_t n)
{
    return front_realloc(p, n);
}

void *__libc_memalign(size_t align, size_t n)
{
    return memalign(align, n);
}

void *__libc_valloc(size_t n)
{
    return valloc(n);
}

void *__libc_pvalloc(size_t n)
{
    return pvalloc(n);
}

void __libc_free(void *p)
{
    front_free(p);
}
