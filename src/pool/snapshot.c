#include "pool/snapshot.h"

#include "os/os_file.h"
#include "os/os_memfd.h"
#include "os/os_pagemap.h"
#include "pool/isomap.h"

#include <errno.h>
#include <string.h>

enum { RANGES = 64, FAULT_COPIES = 16 };

/* ---- scans ---- */

/* Of the pages that a scan found: copied back if `copy`, and counted; a negative errno. */
static long scan_pages(struct snapshot *s, bool copy)
{
    enum os_page_kind kind = s->mode == ASH_RESET_SCAN_UFFD ? OS_PAGES_WRITTEN : OS_PAGES_COPIED;
    struct os_page_range ranges[RANGES] = {0};
    uintptr_t begin = (uintptr_t)s->at, end = begin + s->bytes, from = begin;
    size_t found = 0;
    while (from < end) {
        uintptr_t before = from;
        long got = os_pages_scan(&from, end, kind, ranges, RANGES);
        if (got < 0 || from <= before || from > end)
            return got < 0 ? got : -EIO;
        for (long r = 0; r < got; r++) {
            uintptr_t start = (uintptr_t)ranges[r].start, stop = (uintptr_t)ranges[r].end;
            if (start < begin || stop > end || start >= stop)
                return -EIO;
            if (copy)
                memcpy(s->at + (start - begin), s->image + (start - begin), stop - start);
            found += stop - start;
        }
    }
    return (long)(found / os_page_size());
}

static void touch(unsigned char *at)
{
    volatile unsigned char *byte = at;
    *byte = *byte;
}

/* Names the scan what is written, and nothing else? The content stays as it is. */
static bool scan_is_right(struct snapshot *s)
{
    size_t page = os_page_size();
    if (scan_pages(s, false) != 0)
        return false;
    touch(s->at);
    touch(s->at + s->bytes - page);
    return scan_pages(s, false) == (s->bytes > page ? 2 : 1);
}

/* The range is as the image is. Makes writes to it be noted from now on. */
static bool scan_arm(struct snapshot *s)
{
    s->round = 0;
    if (s->mode == ASH_RESET_SCAN_UFFD &&
        (os_pages_watch(s->at, s->bytes) < 0 || os_pages_protect(s->at, s->bytes) < 0))
        return false;
    return scan_is_right(s);
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

/* A negative errno leaves neither an image nor a changed range. */
static int mode_begin(struct snapshot *s, unsigned char *at, size_t bytes, enum ash_reset_mode mode)
{
    s->at = at;
    s->bytes = bytes;
    s->mode = mode;
    bool in_file = mode == ASH_RESET_SCAN || mode == ASH_RESET_DROP;
    int status = in_file ? image_in_file(s) : image_in_memory(s);
    if (status < 0) {
        s->at = NULL;
        return status;
    }
    if ((mode != ASH_RESET_SCAN && mode != ASH_RESET_SCAN_UFFD) || scan_arm(s))
        return 0;
    status = snapshot_drop(s);
    if (status == 0)
        return -ENOSYS;
    s->mode = ASH_RESET_COPY; /* no memory to undo the overlay with: it stays, and is copied to */
    s->fallbacks++;
    return 0;
}

/* The modes to try in turn; COPY is the last word. */
static unsigned modes_for(enum ash_reset_mode mode, size_t bytes, enum ash_reset_mode out[4])
{
    unsigned n = 0;
    if (mode == ASH_RESET_SCAN_UFFD || (mode == ASH_RESET_AUTO && bytes > SNAPSHOT_COPY_MAX))
        out[n++] = ASH_RESET_SCAN_UFFD;
    if (n > 0 || mode == ASH_RESET_SCAN)
        out[n++] = ASH_RESET_SCAN;
    if (mode == ASH_RESET_DROP || (mode == ASH_RESET_AUTO && bytes > SNAPSHOT_COPY_AT_MOST))
        out[n++] = ASH_RESET_DROP;
    out[n++] = ASH_RESET_COPY;
    return n;
}

int snapshot_take(struct snapshot *s, void *at, size_t bytes, enum ash_reset_mode mode)
{
    enum ash_reset_mode modes[4];
    unsigned n = modes_for(mode, bytes, modes);
    for (unsigned i = 0; i < n; i++) {
        if (mode_begin(s, at, bytes, modes[i]) == 0)
            return 0;
        s->fallbacks += i + 1 < n;
    }
    return -ENOMEM;
}

/* ---- putting back ---- */

void snapshot_copy(struct snapshot *s)
{
    memcpy(s->at, s->image, s->bytes);
    s->dirty_pages = s->bytes / os_page_size();
}

/* The mode has failed. After a fork it comes back; otherwise the image is copied from now on. */
static void recover(struct snapshot *s)
{
    snapshot_copy(s);
    if (s->mode == ASH_RESET_SCAN_UFFD && scan_arm(s))
        return;
    s->mode = ASH_RESET_COPY;
    s->fallbacks++;
}

/*
 * Pages stay unprotected once written, so what a restore copies in vain grows with every use that
 * writes elsewhere. Protecting them anew costs a fault for each page of a use, some 16 times its
 * copy: it is time when as much has been wasted. `fresh` is what the first use after it wrote.
 */
static bool is_round_over(struct snapshot *s, uint64_t pages)
{
    if (s->round++ == 0) {
        s->fresh = pages;
        s->wasted = 0;
    }
    s->wasted += pages - size_min(pages, s->fresh);
    return s->round == SNAPSHOT_ROUND || s->wasted > FAULT_COPIES * (s->fresh + 2);
}

static void restore_scanned(struct snapshot *s)
{
    long pages = scan_pages(s, true);
    if (pages < 0) {
        recover(s);
        return;
    }
    s->dirty_pages = (uint64_t)pages;
    if (s->mode != ASH_RESET_SCAN_UFFD || !is_round_over(s, s->dirty_pages))
        return;
    s->round = 0;
    if (os_pages_protect(s->at, s->bytes) < 0)
        recover(s);
}

void snapshot_restore(struct snapshot *s)
{
    switch (s->mode) {
    case ASH_RESET_SCAN:
    case ASH_RESET_SCAN_UFFD:
        restore_scanned(s);
        break;
    case ASH_RESET_DROP:
        s->dirty_pages = 0;
        if (os_purge(s->at, s->bytes) < 0) /* locked memory */
            snapshot_copy(s);
        break;
    default:
        snapshot_copy(s);
    }
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
