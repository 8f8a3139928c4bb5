#include "pool/sift.h"

#include "base/annotate.h"
#include "os/os_clock.h"
#include "os/os_mem.h"
#include "os/os_pagemap.h"

#include <errno.h>
#include <string.h>

/*
 * In copies of a page that is not hot, and so not in the second-level cache: COST_CALL, what a call
 * for a stretch of pages costs; COST_FAULT, a page that is the file's again and written again.
 */
enum { COST_CALL = 4, COST_FAULT = 12 };

/* ---- scans ---- */

/* Stretches of pages to be dropped, many by one call. */
struct drops {
    size_t n;
    struct os_page_range ranges[OS_PAGES_RANGES];
};

/* One pass over the pages that a scan finds. */
struct sweep {
    struct sift *s;
    enum os_page_kind kind;
    struct drops *drops;   /* of those that drop */
    size_t cold, cold_end; /* a sift's: pages to be let go, as offsets; cold_end 0: none */
    uint64_t calls, pages; /* a sift's: stretches that were let go, and the cold pages of them */
};

/* What a restore looks for. */
static struct sweep sweep_of(struct sift *s)
{
    return (struct sweep){.s = s, .kind = s->watched ? OS_PAGES_WRITTEN : OS_PAGES_COPIED};
}

/* Calls `each` for every stretch found: the pages in all, or a negative errno. */
static long sweep(struct sweep *w, int (*each)(struct sweep *w, size_t off, size_t n))
{
    struct sift *s = w->s;
    struct os_page_range ranges[OS_PAGES_RANGES];
    uintptr_t begin = (uintptr_t)s->at, end = begin + s->bytes, from = begin;
    size_t found = 0;
    while (from < end) {
        uintptr_t before = from;
        long got = os_pages_scan(&from, end, w->kind, ranges, OS_PAGES_RANGES);
        if (got < 0 || from <= before || from > end)
            return got < 0 ? got : -EIO;
        annotate_whole(ranges, (size_t)got * sizeof ranges[0]); /* the system has filled them */
        for (long r = 0; r < got; r++) {
            uintptr_t start = (uintptr_t)ranges[r].start, stop = (uintptr_t)ranges[r].end;
            if (start < begin || stop > end || start >= stop)
                return -EIO;
            int status = each(w, start - begin, stop - start);
            if (status < 0)
                return status;
            found += stop - start;
        }
    }
    return (long)(found / os_page_size());
}

static int each_ignored(struct sweep *w, size_t off, size_t n)
{
    (void)w, (void)off, (void)n;
    return 0;
}

static int each_copied(struct sweep *w, size_t off, size_t n)
{
    memcpy(w->s->at + off, w->s->image + off, n);
    return 0;
}

/* ---- sifts ---- */

static int drops_end(struct drops *d)
{
    int status = os_pages_drop(d->ranges, d->n);
    d->n = 0;
    return status;
}

static int each_dropped(struct sweep *w, size_t off, size_t n)
{
    struct drops *d = w->drops;
    uint64_t start = (uintptr_t)w->s->at + off;
    d->ranges[d->n++] = (struct os_page_range){.start = start, .end = start + n};
    return d->n == OS_PAGES_RANGES ? drops_end(d) : 0;
}

/*
 * Cold pages are protected again, unless the scan has done that; or where nothing is protected, the
 * file's again.
 */
static int cold_release(struct sweep *w)
{
    if (w->cold_end == 0)
        return 0;
    size_t n = w->cold_end - w->cold;
    int status = 0;
    if (w->kind == OS_PAGES_WRITTEN)
        status = os_pages_protect(w->s->at + w->cold, n);
    else if (w->kind == OS_PAGES_COPIED)
        status = each_dropped(w, w->cold, n);
    w->cold_end = 0;
    w->calls += w->kind == OS_PAGES_WRITTEN;
    return status;
}

/*
 * A page that differs from the image is hot, and copied; one that does not is cold. Cold pages with
 * none between them that is hot go by one call: what else is there is as cold already.
 */
static int each_sifted(struct sweep *w, size_t off, size_t n)
{
    struct sift *s = w->s;
    size_t page = os_page_size();
    int status = 0;
    for (size_t end = off + n; off < end && status == 0; off += page)
        if (memcmp(s->at + off, s->image + off, page) != 0) {
            status = cold_release(w);
            memcpy(s->at + off, s->image + off, page);
        } else {
            if (w->cold_end == 0)
                w->cold = off;
            w->cold_end = off + page;
            w->pages++;
        }
    return status;
}

/* How many pages may be the process's own for nothing: any number where uses write as many. */
static size_t kept_most(const struct sift *s)
{
    size_t pages = s->bytes / os_page_size();
    bool any = s->bytes <= SIFT_SMALL || s->base > pages / SIFT_MUCH_PART;
    return any ? SIZE_MAX : pages / SIFT_KEPT_PART;
}

/* Cold pages of the process's own are the file's again once they are too many: all of them. */
static long thin(struct sift *s)
{
    size_t most = kept_most(s);
    if (s->kept <= most)
        return 0;
    struct drops drops;
    struct sweep w = {.s = s, .kind = OS_PAGES_COLD, .drops = &drops};
    drops.n = 0;
    long kept = sweep(&w, each_ignored);
    if (kept < 0)
        return kept;
    s->kept = (uint64_t)kept;
    if (s->kept <= most)
        return 0;
    s->kept = 0;
    long status = sweep(&w, each_dropped);
    return status < 0 ? status : drops_end(&drops);
}

static long sift(struct sift *s)
{
    struct drops drops;
    struct sweep w = sweep_of(s);
    drops.n = 0;
    w.drops = &drops;
    /* a fault for each hot page then, instead of a call for each that is cold */
    if (w.kind == OS_PAGES_WRITTEN && s->pages > 2 * s->base)
        w.kind = OS_PAGES_TAKEN;
    long pages = sweep(&w, each_sifted);
    if (pages < 0)
        return pages;
    long status = cold_release(&w);
    if (status == 0)
        status = drops_end(&drops);
    s->round = 0;
    s->wasted = 0;
    s->cost = (uint64_t)pages + COST_CALL * w.calls;
    if (w.kind == OS_PAGES_TAKEN)
        s->cost += COST_CALL * ((uint64_t)pages - w.pages);
    if (w.kind != OS_PAGES_COPIED)
        s->kept += w.pages;
    else
        s->cost += COST_FAULT * w.pages;
    if (status == 0)
        status = thin(s);
    return status < 0 ? status : pages;
}

/*
 * What a restore copies in vain grows with every use that writes elsewhere. It is time for a sift
 * when that has cost what the last sift did, or takes too much memory; and after a round, for what
 * was so from the beginning.
 */
static bool is_sift_due(const struct sift *s)
{
    if (s->base > s->bytes / os_page_size() / 2) /* nearly all are copied anyway */
        return s->round >= SIFT_ROUND;
    return s->round >= SIFT_ROUND || s->wasted > s->cost ||
           (s->round > 0 && s->pages > s->base && s->pages - s->base > kept_most(s));
}

static long copy_written(struct sift *s)
{
    struct sweep w = sweep_of(s);
    long pages = sweep(&w, each_copied);
    if (pages < 0)
        return pages;
    if (s->round++ == 0)
        s->base = (uint64_t)pages;
    s->wasted += (uint64_t)pages - size_min((size_t)pages, s->base);
    return pages;
}

int sift_restore(struct sift *s)
{
    long pages = is_sift_due(s) ? sift(s) : copy_written(s);
    if (pages < 0)
        return (int)pages;
    s->pages = (uint64_t)pages;
    return 0;
}

/* ---- the test ---- */

static void touch(unsigned char *at)
{
    volatile unsigned char *byte = at;
    *byte = *byte;
}

/* Names the scan what is written, and nothing else? The content stays as it is. */
static bool scan_is_right(struct sift *s)
{
    struct sweep w = sweep_of(s);
    size_t page = os_page_size();
    if (sweep(&w, each_ignored) != 0)
        return false;
    uint64_t begin = os_clock_ns();
    touch(s->at);
    touch(s->at + s->bytes - page);
    s->fault_ns = (os_clock_ns() - begin) / 2;
    return sweep(&w, each_ignored) == (s->bytes > page ? 2 : 1);
}

bool sift_arm(struct sift *s)
{
    s->round = 0;
    s->wasted = s->cost = s->kept = 0;
    int status = os_purge(s->at, s->bytes);
    if (status == 0 && s->watched) {
        touch(s->at); /* so that the test's writes are to pages of the process's own */
        touch(s->at + s->bytes - os_page_size());
        status = os_pages_watch(s->at, s->bytes);
        if (status == 0)
            status = os_pages_protect(s->at, s->bytes);
    }
    return status == 0 && scan_is_right(s);
}
