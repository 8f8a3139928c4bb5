#include "pool/snapshot.h"

#include "base/annotate.h"
#include "os/os_clock.h"
#include "os/os_file.h"
#include "os/os_memfd.h"
#include "os/os_pagemap.h"
#include "pool/isomap.h"

#include <errno.h>
#include <string.h>

/*
 * In copies of a page that is not hot, and so not in the second-level cache: SIFT_CALL, what a call
 * for a stretch of pages costs; SIFT_FAULT, a page that is the file's again and written again.
 * TRIAL_*: a trial is three windows of restores by scan and three by copying; the first of each is
 * to settle, the better one of the others counts. The winner serves until the next.
 */
enum { SIFT_CALL = 4, SIFT_FAULT = 12 };
enum { TRIAL_WINDOW = 16, TRIAL_SCANS = 3 * TRIAL_WINDOW, TRIAL_END = 2 * TRIAL_SCANS };
enum { TRIAL_EVERY = 1 << 15 };

/* ---- scans ---- */

/* Stretches of pages to be dropped, many by one call. */
struct drops {
    size_t n;
    struct os_page_range ranges[OS_PAGES_RANGES];
};

/* One pass over the pages that a scan finds. */
struct sweep {
    struct snapshot *s;
    enum os_page_kind kind;
    struct drops *drops;   /* of those that drop */
    size_t cold, cold_end; /* a sift's: pages to be let go, as offsets; cold_end 0: none */
    uint64_t calls, pages; /* a sift's: stretches that were let go, and the cold pages of them */
};

/* What a restore looks for. */
static struct sweep sweep_of(struct snapshot *s)
{
    bool watched = s->mode == ASH_RESET_SCAN_UFFD;
    return (struct sweep){.s = s, .kind = watched ? OS_PAGES_WRITTEN : OS_PAGES_COPIED};
}

/* Calls `each` for every stretch found: the pages in all, or a negative errno. */
static long sweep(struct sweep *w, int (*each)(struct sweep *w, size_t off, size_t n))
{
    struct snapshot *s = w->s;
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
    struct snapshot *s = w->s;
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
static size_t kept_most(const struct snapshot *s)
{
    size_t pages = s->bytes / os_page_size();
    bool any = s->bytes <= SNAPSHOT_TRY_MAX || s->base > pages / SNAPSHOT_MUCH_PART;
    return any ? SIZE_MAX : pages / SNAPSHOT_KEPT_PART;
}

/* Cold pages of the process's own are the file's again once they are too many: all of them. */
static long thin(struct snapshot *s)
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

static long sift(struct snapshot *s)
{
    struct drops drops;
    struct sweep w = sweep_of(s);
    drops.n = 0;
    w.drops = &drops;
    /* a fault for each hot page then, instead of a call for each that is cold */
    if (w.kind == OS_PAGES_WRITTEN && s->dirty_pages > 2 * s->base)
        w.kind = OS_PAGES_TAKEN;
    long pages = sweep(&w, each_sifted);
    if (pages < 0)
        return pages;
    long status = cold_release(&w);
    if (status == 0)
        status = drops_end(&drops);
    s->round = 0;
    s->wasted = 0;
    s->sift_cost = (uint64_t)pages + SIFT_CALL * w.calls;
    if (w.kind == OS_PAGES_TAKEN)
        s->sift_cost += SIFT_CALL * ((uint64_t)pages - w.pages);
    if (w.kind != OS_PAGES_COPIED)
        s->kept += w.pages;
    else
        s->sift_cost += SIFT_FAULT * w.pages;
    if (status == 0)
        status = thin(s);
    return status < 0 ? status : pages;
}

/*
 * What a restore copies in vain grows with every use that writes elsewhere. It is time for a sift
 * when that has cost what the last sift did, or takes too much memory; and after a round, for what
 * was so from the beginning.
 */
static bool is_sift_due(const struct snapshot *s)
{
    if (s->base > s->bytes / os_page_size() / 2) /* nearly all are copied anyway */
        return s->round >= SNAPSHOT_ROUND;
    return s->round >= SNAPSHOT_ROUND || s->wasted > s->sift_cost ||
           (s->round > 0 && s->dirty_pages > s->base && s->dirty_pages - s->base > kept_most(s));
}

static long copy_written(struct snapshot *s)
{
    if (is_sift_due(s))
        return sift(s);
    struct sweep w = sweep_of(s);
    long pages = sweep(&w, each_copied);
    if (pages < 0)
        return pages;
    if (s->round++ == 0)
        s->base = (uint64_t)pages;
    s->wasted += (uint64_t)pages - size_min((size_t)pages, s->base);
    return pages;
}

/* ---- the test of a mode ---- */

static void touch(unsigned char *at)
{
    volatile unsigned char *byte = at;
    *byte = *byte;
}

/* Names the scan what is written, and nothing else? The content stays as it is. */
static bool scan_is_right(struct snapshot *s)
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

/* The range is as the image is. Makes writes to it be noted from now on. */
static bool scan_arm(struct snapshot *s)
{
    s->round = 0;
    s->wasted = s->sift_cost = s->kept = 0;
    int status = os_purge(s->at, s->bytes);
    if (status == 0 && s->mode == ASH_RESET_SCAN_UFFD) {
        touch(s->at); /* so that the test's writes are to pages of the process's own */
        touch(s->at + s->bytes - os_page_size());
        status = os_pages_watch(s->at, s->bytes);
        if (status == 0)
            status = os_pages_protect(s->at, s->bytes);
    }
    return status == 0 && scan_is_right(s);
}

/* ---- modes ---- */

static int image_in_memory(struct snapshot *s)
{
    unsigned char *image = isomap_map(s->bytes);
    if (image == NULL)
        return -ENOMEM;
    memcpy(image, s->at, s->bytes);
    s->image = image;
    return 0;
}

static int image_in_file(struct snapshot *s)
{
    int fd = os_memfd_create(s->at, s->bytes);
    if (fd < 0)
        return fd;
    const void *view = os_memfd_view(fd, s->bytes);
    isomap_came();
    int status = view == NULL ? -ENOMEM : os_memfd_overlay(fd, s->at, s->bytes);
    os_close(fd);
    if (status == 0) {
        s->image = view;
        s->overlaid = true;
    } else if (view != NULL)
        isomap_unmap((void *)(uintptr_t)view, s->bytes);
    return status;
}

static void image_forget(struct snapshot *s)
{
    isomap_unmap((void *)(uintptr_t)s->image, s->bytes);
    *s = (struct snapshot){.dirty_pages = s->dirty_pages, .fallbacks = s->fallbacks};
}

/* The range is as the image is. False: the mode does not work here. */
static bool mode_begin(struct snapshot *s, enum ash_reset_mode mode)
{
    s->mode = mode;
    return mode == ASH_RESET_COPY || (s->overlaid && (mode == ASH_RESET_DROP || scan_arm(s)));
}

/* The modes to try in turn; COPY is the last word. */
static void modes_for(enum ash_reset_mode mode, size_t bytes, enum ash_reset_mode out[4])
{
    if (mode == ASH_RESET_SCAN_UFFD || (mode == ASH_RESET_AUTO && bytes > SNAPSHOT_COPY_MAX))
        *out++ = ASH_RESET_SCAN_UFFD;
    if (mode == ASH_RESET_SCAN_UFFD || mode == ASH_RESET_SCAN ||
        (mode == ASH_RESET_AUTO && bytes > SNAPSHOT_COPY_MAX))
        *out++ = ASH_RESET_SCAN;
    if (mode == ASH_RESET_DROP || (mode == ASH_RESET_AUTO && bytes > SNAPSHOT_TRY_MAX))
        *out++ = ASH_RESET_DROP;
    *out = ASH_RESET_COPY;
}

int snapshot_take(struct snapshot *s, void *at, size_t bytes, enum ash_reset_mode mode)
{
    enum ash_reset_mode modes[4], *next = modes;
    s->at = at;
    s->bytes = bytes;
    if (image_in_file(s) < 0 && image_in_memory(s) < 0) {
        s->at = NULL;
        return -ENOMEM;
    }
    for (modes_for(mode, bytes, modes); !mode_begin(s, *next); next++)
        s->fallbacks++;
    bool tries = mode == ASH_RESET_AUTO && bytes <= SNAPSHOT_TRY_MAX;
    s->scan = tries && s->mode != ASH_RESET_COPY ? s->mode : ASH_RESET_AUTO;
    s->turn = 0;
    return 0;
}

/* ---- putting back ---- */

static void copy_all(struct snapshot *s)
{
    memcpy(s->at, s->image, s->bytes);
    s->dirty_pages = s->bytes / os_page_size();
}

/* The mode does not work here, or no more. */
ASH_COLD static void give_up(struct snapshot *s)
{
    s->mode = ASH_RESET_COPY;
    s->scan = ASH_RESET_AUTO;
    s->fallbacks++;
}

void snapshot_distrust(struct snapshot *s)
{
    copy_all(s);
    if (s->mode != ASH_RESET_COPY)
        give_up(s);
}

/* The mode has failed. After a fork it comes back. */
ASH_COLD static void recover(struct snapshot *s)
{
    copy_all(s);
    if (s->mode != ASH_RESET_SCAN_UFFD || !scan_arm(s))
        give_up(s);
}

static void put_back(struct snapshot *s)
{
    long pages;
    switch (s->mode) {
    case ASH_RESET_SCAN:
    case ASH_RESET_SCAN_UFFD:
        pages = copy_written(s);
        if (pages < 0)
            recover(s);
        else
            s->dirty_pages = (uint64_t)pages;
        break;
    case ASH_RESET_DROP:
        s->dirty_pages = 0;
        if (os_purge(s->at, s->bytes) < 0) /* locked memory */
            copy_all(s);
        break;
    default:
        copy_all(s);
    }
}

/* ---- AUTO ---- */

/* The scan's mode serves from now on; the range is as the image is. */
static void scan_resume(struct snapshot *s)
{
    if (s->mode == s->scan)
        return;
    s->mode = s->scan;
    if (!scan_arm(s))
        give_up(s);
}

/* Of one restore in a trial: its time, with that of the faults before it. */
static void trial_note(struct snapshot *s, uint64_t ns)
{
    uint64_t *best = s->turn <= TRIAL_SCANS ? &s->scan_ns : &s->copy_ns;
    unsigned window = (s->turn - 1) % TRIAL_SCANS / TRIAL_WINDOW;
    s->window_ns += ns;
    if (s->turn % TRIAL_WINDOW != 0)
        return;
    uint64_t mean = s->window_ns / TRIAL_WINDOW;
    s->window_ns = 0;
    if (window == 1 || (window == 2 && mean < *best))
        *best = mean;
    if (s->turn == TRIAL_SCANS)
        s->mode = ASH_RESET_COPY;
    else if (s->turn == TRIAL_END && s->scan_ns < s->copy_ns)
        scan_resume(s);
}

ASH_NOINLINE static void restore_tried(struct snapshot *s)
{
    bool resuming = s->turn++ == 0;
    uint64_t pages_before = s->dirty_pages, begin = os_clock_ns();
    put_back(s);
    uint64_t ns = os_clock_ns() - begin;
    if (resuming)
        scan_resume(s);
    /* pages stay unprotected between sifts: what a scan finds more had a fault */
    if (s->dirty_pages > pages_before && s->mode != ASH_RESET_COPY)
        ns += s->fault_ns * (s->dirty_pages - pages_before);
    trial_note(s, ns);
}

void snapshot_restore(struct snapshot *s)
{
    if (s->scan == ASH_RESET_AUTO || s->turn >= TRIAL_END) {
        put_back(s);
        if (++s->turn >= TRIAL_EVERY)
            s->turn = 0;
    } else
        restore_tried(s);
}

size_t snapshot_differences(const struct snapshot *s)
{
    size_t page = os_page_size(), differ = 0;
    for (size_t off = 0; off < s->bytes; off += page)
        differ += memcmp(s->at + off, s->image + off, page) != 0;
    return differ;
}

void snapshot_trim(struct snapshot *s)
{
    if (s->overlaid)
        os_purge(s->at, s->bytes);
}

/* ---- the end ---- */

int snapshot_drop(struct snapshot *s)
{
    if (s->overlaid) {
        void *content = isomap_map(s->bytes);
        if (content == NULL)
            return -ENOMEM;
        memcpy(content, s->at, s->bytes);
        if (os_commit(s->at, s->bytes) < 0) {
            isomap_unmap(content, s->bytes);
            return -ENOMEM;
        }
        os_huge_pages(s->at, s->bytes, false);
        memcpy(s->at, content, s->bytes);
        isomap_unmap(content, s->bytes);
    }
    image_forget(s);
    return 0;
}

void snapshot_abandon(struct snapshot *s)
{
    if (s->at != NULL)
        image_forget(s);
}
