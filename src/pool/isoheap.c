/*
 * ash_heap_ of the public header: records, the region, and what goes round iso and snapshot. The
 * hit path is one call of iso behind the check of the pointer.
 */
#include "heap/error.h"
#include "pool/isomap.h"
#include "pool/isoview.h"

#include <errno.h>
#include <string.h>

_Static_assert(offsetof(struct iso, base) == sizeof(struct iso), "blocks follow the header");

/* ---- the region ---- */

static size_t below_base(size_t limit)
{
    return align_up(iso_below(limit) + sizeof(struct iso), os_page_size());
}

static bool region_map(struct ash_heap *h, size_t limit)
{
    h->limit = align_up(limit, os_page_size());
    h->region_bytes = below_base(h->limit) + h->limit;
    h->region = isomap_map(h->region_bytes);
    if (h->region == NULL)
        return false;
    size_t below = below_base(h->limit);
    os_huge_pages(h->region, h->region_bytes, false); /* pages are what is counted and given back */
    h->iso = (struct iso *)(void *)(h->region + below - sizeof(struct iso));
    iso_init(h->iso, h->limit);
    return true;
}

/* What [from, to) holds becomes zero: cleared where that is short, else given back. */
static void wipe(unsigned char *from, unsigned char *to)
{
    if (from >= to)
        return;
    size_t n = (size_t)(to - from), keep = size_min(n, ISOHEAP_KEEP);
    memset(from, 0, keep);
    unsigned char *page = (unsigned char *)align_up((uintptr_t)from + keep, os_page_size());
    if (page < to && os_purge(page, align_up((size_t)(to - page), os_page_size())) == 0)
        to = page;
    if (from + keep < to)
        memset(from + keep, 0, (size_t)(to - from) - keep);
}

/* ---- records ---- */

ASH_API struct ash_heap *ash_heap_create(const char *name, size_t reserve_bytes, unsigned flags)
{
    char copy[ISOHEAP_NAME];
    const char *given = name != NULL && name[0] == '\0' ? NULL : name; /* it may be empty */
    if (name == NULL || !name_read(copy, given, "") || reserve_bytes < ISOHEAP_BYTES_MIN ||
        reserve_bytes > ISOHEAP_BYTES_MAX || (flags & ~(unsigned)ASH_HEAP_VERIFY) != 0) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_heap *h = isoview_take();
    if (h != NULL && !region_map(h, reserve_bytes)) {
        isoview_give(h);
        h = NULL;
    }
    if (h == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    h->flags = flags;
    h->snapshot = (struct snapshot){0};
    h->image_bytes = 0;
    isoview_open(h, copy);
    return h;
}

ASH_API void ash_heap_destroy(struct ash_heap *h)
{
    if (h == NULL)
        return;
    isoview_close(h);
    snapshot_abandon(&h->snapshot);
    isomap_unmap(h->region, h->region_bytes);
    isoview_give(h);
}

/* ---- blocks ---- */

static void *refuse(struct ash_heap *h, int error)
{
    if (error == ENOMEM)
        counter_add(&h->seen.refused, 1);
    errno = error;
    return NULL;
}

/* Names what is wrong with `p`, which is no live block. */
ASH_COLD static void report(const struct ash_heap *h, const char *verb, const void *p)
{
    static const char *const what[] = {
        [ISO_FOREIGN] = "foreign pointer ",
        [ISO_INTERIOR] = "interior pointer ",
        [ISO_FREED] = "freed block ",
    };
    enum iso_fault fault = iso_fault_of(h->iso, p);
    char name[ISOHEAP_NAME];
    isoview_name(h, name);
    if (fault == ISO_FREED && verb[0] == 'f')
        error_heap("double free", "", p, name);
    else
        error_heap(verb, what[fault], p, name);
}

ASH_API void *ash_heap_malloc(struct ash_heap *h, size_t n)
{
    void *p = iso_malloc(h->iso, n);
    return ASH_LIKELY(p != NULL) ? p : refuse(h, ENOMEM);
}

ASH_API void *ash_heap_calloc(struct ash_heap *h, size_t count, size_t n)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, n, &bytes))
        return refuse(h, ENOMEM);
    void *p = iso_calloc(h->iso, bytes);
    return ASH_LIKELY(p != NULL) ? p : refuse(h, ENOMEM);
}

ASH_API void *ash_heap_aligned(struct ash_heap *h, size_t align, size_t n)
{
    if (!is_pow2(align))
        return refuse(h, EINVAL);
    void *p = iso_aligned(h->iso, size_max(align, ISO_GRANULE), n);
    return ASH_LIKELY(p != NULL) ? p : refuse(h, ENOMEM);
}

size_t isoheap_free(struct ash_heap *h, void *p)
{
    size_t had = iso_free(h->iso, p);
    if (ASH_UNLIKELY(had == 0) && p != NULL)
        report(h, "free", p);
    return had;
}

ASH_API void ash_heap_free(struct ash_heap *h, void *p)
{
    isoheap_free(h, p);
}

ASH_API void *ash_heap_realloc(struct ash_heap *h, void *p, size_t n)
{
    if (p == NULL)
        return ash_heap_malloc(h, n);
    if (ASH_UNLIKELY(iso_find(h->iso, p) == SIZE_MAX)) {
        report(h, "realloc", p);
        return refuse(h, EINVAL);
    }
    if (n == 0) {
        ash_heap_free(h, p);
        return NULL;
    }
    void *moved = iso_realloc(h->iso, p, n);
    return ASH_LIKELY(moved != NULL) ? moved : refuse(h, ENOMEM);
}

ASH_API size_t ash_heap_usable(const struct ash_heap *h, const void *p)
{
    return iso_usable(h->iso, p);
}

ASH_API int ash_heap_owns(const struct ash_heap *h, const void *p)
{
    return (uintptr_t)p - (uintptr_t)h->iso->base < h->limit;
}

/* ---- the image ---- */

ASH_API int ash_heap_snapshot(struct ash_heap *h, enum ash_reset_mode mode)
{
    if ((unsigned)mode > ASH_RESET_DROP)
        return -EINVAL;
    if (h->snapshot.range.at != NULL && snapshot_drop(&h->snapshot) < 0)
        return -ENOMEM;
    iso_settle(h->iso);
    size_t page = os_page_size();
    uintptr_t low = (uintptr_t)iso_low(h->iso), high = (uintptr_t)iso_high(h->iso);
    uintptr_t from = align_down(low, page), to = align_up(high, page);
    int status = snapshot_take(&h->snapshot, (void *)from, to - from, mode);
    h->image_bytes = status == 0 ? high - low : 0;
    isoview_update(h);
    return status;
}

/*
 * Clears what a use has left on both sides of the image, before the image is back, which has an
 * older `high`.
 */
static void wipe_growth(struct ash_heap *h)
{
    const struct sift *s = &h->snapshot.range;
    size_t page = os_page_size();
    h->iso->high = (uint32_t)size_min(h->iso->high, h->limit / ISO_GRANULE);
    wipe((unsigned char *)align_down((uintptr_t)iso_low(h->iso), page), s->at);
    wipe(s->at + s->bytes, (unsigned char *)align_up((uintptr_t)iso_high(h->iso), page));
}

static int differences(const struct ash_heap *h)
{
    return (int)snapshot_differences(&h->snapshot) + iso_check(h->iso);
}

/* Of a restore that was wrong: the image is copied, and the mode not trusted again. */
ASH_COLD static void put_right(struct ash_heap *h)
{
    snapshot_distrust(&h->snapshot);
    counter_add(&h->seen.mismatches, 1);
}

ASH_API int ash_heap_restore(struct ash_heap *h)
{
    if (h->snapshot.range.at == NULL)
        return -EINVAL;
    isoview_update(h);
    wipe_growth(h);
    snapshot_restore(&h->snapshot);
    counter_add(&h->seen.restores, 1);
    if (ASH_UNLIKELY((h->flags & ASH_HEAP_VERIFY) != 0) && differences(h) != 0)
        put_right(h);
    return 0;
}

ASH_API int ash_heap_verify(struct ash_heap *h)
{
    return h->snapshot.range.at == NULL ? -EINVAL : differences(h);
}

/* The range of the image becomes zero, the image is forgotten. */
static void wipe_image(struct ash_heap *h)
{
    struct snapshot *s = &h->snapshot;
    unsigned char *at = s->range.at;
    size_t n = s->range.bytes;
    if (!s->overlaid)
        wipe(at, at + n);
    else if (os_commit(at, n) == 0)
        os_huge_pages(at, n, false);
    else
        memset(at, 0, n);
    snapshot_abandon(s);
    h->image_bytes = 0;
}

ASH_API void ash_heap_reset(struct ash_heap *h)
{
    if (h->snapshot.range.at != NULL) {
        wipe_growth(h);
        wipe_image(h);
    } else {
        size_t page = os_page_size();
        unsigned char *low = (unsigned char *)align_down((uintptr_t)iso_low(h->iso), page);
        wipe(low, (unsigned char *)align_up((uintptr_t)iso_high(h->iso), page));
    }
    iso_init(h->iso, h->limit);
    isoview_update(h);
}

ASH_API int ash_heap_trim(struct ash_heap *h)
{
    int status = ash_heap_restore(h);
    if (status < 0)
        return status;
    unsigned char *from = h->snapshot.range.at, *to = from + h->snapshot.range.bytes;
    os_purge(to, (size_t)(h->region + h->region_bytes - to));
    os_purge(h->region, (size_t)(from - h->region));
    snapshot_trim(&h->snapshot);
    return 0;
}
