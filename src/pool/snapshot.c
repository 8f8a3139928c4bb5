#include "pool/snapshot.h"

#include "os/os_clock.h"
#include "os/os_file.h"
#include "os/os_memfd.h"
#include "pool/isomap.h"

#include <errno.h>
#include <string.h>

/*
 * A trial is three windows of restores by scan and three by copying; the first of each is to
 * settle, the better one of the others counts. The winner serves until the next.
 */
enum { TRIAL_WINDOW = 16, TRIAL_SCANS = 3 * TRIAL_WINDOW, TRIAL_END = 2 * TRIAL_SCANS };
enum { TRIAL_EVERY = 1 << 15 };

/* ---- modes ---- */

static int image_in_memory(struct snapshot *s)
{
    unsigned char *image = isomap_map(s->range.bytes);
    if (image == NULL)
        return -ENOMEM;
    memcpy(image, s->range.at, s->range.bytes);
    s->range.image = image;
    return 0;
}

static int image_in_file(struct snapshot *s)
{
    int fd = os_memfd_create(s->range.at, s->range.bytes);
    if (fd < 0)
        return fd;
    const void *view = os_memfd_view(fd, s->range.bytes);
    isomap_came();
    int status = view == NULL ? -ENOMEM : os_memfd_overlay(fd, s->range.at, s->range.bytes);
    os_close(fd);
    if (status == 0) {
        s->range.image = view;
        s->overlaid = true;
    } else if (view != NULL)
        isomap_unmap((void *)(uintptr_t)view, s->range.bytes);
    return status;
}

static void image_forget(struct snapshot *s)
{
    isomap_unmap((void *)(uintptr_t)s->range.image, s->range.bytes);
    *s = (struct snapshot){.range.pages = s->range.pages, .fallbacks = s->fallbacks};
}

/* Is a page that was written the image's again? Emulators may ignore the advice, and agree. */
static bool drop_is_right(struct snapshot *s)
{
    unsigned char *at = s->range.at;
    *at ^= 1;
    bool right = os_purge(at, os_page_size()) == 0 && *at == *s->range.image;
    if (!right)
        *at ^= 1;
    return right;
}

/* The mode's own test. The range is as the image is, before and after. */
static bool mode_arm(struct snapshot *s)
{
    if (s->mode == ASH_RESET_COPY)
        return true;
    s->range.watched = s->mode == ASH_RESET_SCAN_UFFD;
    return s->overlaid && (s->mode == ASH_RESET_DROP ? drop_is_right(s) : sift_arm(&s->range));
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
    s->range.at = at;
    s->range.bytes = bytes;
    if (image_in_file(s) < 0 && image_in_memory(s) < 0) {
        s->range.at = NULL;
        return -ENOMEM;
    }
    for (modes_for(mode, bytes, modes); s->mode = *next, !mode_arm(s); next++)
        s->fallbacks++;
    bool tries = mode == ASH_RESET_AUTO && bytes <= SNAPSHOT_TRY_MAX;
    s->scan = tries && s->mode != ASH_RESET_COPY ? s->mode : ASH_RESET_AUTO;
    s->turn = 0;
    return 0;
}

/* ---- putting back ---- */

static void copy_all(struct snapshot *s)
{
    memcpy(s->range.at, s->range.image, s->range.bytes);
    s->range.pages = s->range.bytes / os_page_size();
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
    if (s->mode != ASH_RESET_SCAN_UFFD || !mode_arm(s))
        give_up(s);
}

static void put_back(struct snapshot *s)
{
    switch (s->mode) {
    case ASH_RESET_SCAN:
    case ASH_RESET_SCAN_UFFD:
        if (sift_restore(&s->range) < 0)
            recover(s);
        break;
    case ASH_RESET_DROP:
        s->range.pages = 0;
        if (os_purge(s->range.at, s->range.bytes) < 0) /* locked memory */
            copy_all(s);
        break;
    default:
        copy_all(s);
    }
}

/* ---- AUTO ---- */

/* The scan's mode, unless it was given up, serves from now on; the range is as the image is. */
static void scan_resume(struct snapshot *s)
{
    if (s->mode == s->scan || s->scan == ASH_RESET_AUTO)
        return;
    s->mode = s->scan;
    if (!mode_arm(s))
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
    uint64_t pages_before = s->range.pages, begin = os_clock_ns();
    put_back(s);
    uint64_t ns = os_clock_ns() - begin;
    if (resuming)
        scan_resume(s);
    /* pages stay unprotected between sifts: what a scan finds more had a fault */
    if (s->range.pages > pages_before && s->mode != ASH_RESET_COPY)
        ns += s->range.fault_ns * (s->range.pages - pages_before);
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
    for (size_t off = 0; off < s->range.bytes; off += page)
        differ += memcmp(s->range.at + off, s->range.image + off, page) != 0;
    return differ;
}

void snapshot_trim(struct snapshot *s)
{
    if (s->overlaid)
        os_purge(s->range.at, s->range.bytes);
}

/* ---- the end ---- */

int snapshot_drop(struct snapshot *s)
{
    if (s->overlaid) {
        void *content = isomap_map(s->range.bytes);
        if (content == NULL)
            return -ENOMEM;
        memcpy(content, s->range.at, s->range.bytes);
        if (os_commit(s->range.at, s->range.bytes) < 0) {
            isomap_unmap(content, s->range.bytes);
            return -ENOMEM;
        }
        os_huge_pages(s->range.at, s->range.bytes, false);
        memcpy(s->range.at, content, s->range.bytes);
        isomap_unmap(content, s->range.bytes);
    }
    image_forget(s);
    return 0;
}

void snapshot_abandon(struct snapshot *s)
{
    if (s->range.at != NULL)
        image_forget(s);
}
