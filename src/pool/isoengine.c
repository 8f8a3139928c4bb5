/*
 * The allocator hooks of engines, on the public functions. QuickJS gives its hooks a struct in
 * which they are to keep the counts of blocks and bytes and to obey a limit; quickjs-ng does that
 * itself.
 */
#include "pool/isoview.h"

/* As QuickJS declares it. */
struct JSMallocState {
    size_t malloc_count;
    size_t malloc_size;
    size_t malloc_limit;
    void *opaque;
};

/* The heap that this thread's engine has allocated from: it asks for sizes right after that. */
static ASH_TLS struct ash_heap *latest;

ASH_API void *ash_heap_lua_alloc(void *ud, void *p, size_t old_size, size_t n)
{
    (void)old_size;
    if (n != 0)
        return ash_heap_realloc(ud, p, n);
    ash_heap_free(ud, p);
    return NULL;
}

ASH_API size_t ash_heap_block_usable(const void *p)
{
    struct ash_heap *h = latest;
    if (h == NULL || !isoview_holds(h, p))
        h = isoview_find(p);
    return h != NULL ? ash_heap_usable(h, p) : 0;
}

/* ---- QuickJS ---- */

/* Whether a block that holds `had` bytes may become one of `n`. */
static bool is_allowed(const struct JSMallocState *s, size_t had, size_t n)
{
    return n <= s->malloc_limit && s->malloc_size - had <= s->malloc_limit - n;
}

ASH_API void *ash_heap_quickjs_malloc(struct JSMallocState *s, size_t n)
{
    struct ash_heap *h = s->opaque;
    void *p = is_allowed(s, 0, n) ? ash_heap_malloc(h, n) : NULL;
    if (p == NULL)
        return NULL;
    latest = h;
    s->malloc_count++;
    s->malloc_size += iso_rounded(n);
    return p;
}

ASH_API void ash_heap_quickjs_free(struct JSMallocState *s, void *p)
{
    size_t had = isoheap_free(s->opaque, p);
    s->malloc_count -= had != 0;
    s->malloc_size -= had;
}

ASH_API void *ash_heap_quickjs_realloc(struct JSMallocState *s, void *p, size_t n)
{
    struct ash_heap *h = s->opaque;
    if (p == NULL)
        return n != 0 ? ash_heap_quickjs_malloc(s, n) : NULL;
    if (n == 0) {
        ash_heap_quickjs_free(s, p);
        return NULL;
    }
    size_t had = ash_heap_usable(h, p);
    void *moved = is_allowed(s, had, n) ? ash_heap_realloc(h, p, n) : NULL;
    if (moved == NULL)
        return NULL;
    latest = h;
    s->malloc_size += iso_rounded(n) - had;
    return moved;
}

/* ---- quickjs-ng ---- */

ASH_API void *ash_heap_quickjs_ng_calloc(void *heap, size_t count, size_t n)
{
    latest = heap;
    return ash_heap_calloc(heap, count, n);
}

ASH_API void *ash_heap_quickjs_ng_malloc(void *heap, size_t n)
{
    latest = heap;
    return ash_heap_malloc(heap, n);
}

ASH_API void ash_heap_quickjs_ng_free(void *heap, void *p)
{
    ash_heap_free(heap, p);
}

ASH_API void *ash_heap_quickjs_ng_realloc(void *heap, void *p, size_t n)
{
    latest = heap;
    return ash_heap_realloc(heap, p, n);
}
