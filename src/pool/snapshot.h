/*
 * The image of a range of pages, and four ways of putting it back. The range is private memory of
 * one thread at a time, this module's to remap in place. The image is a file in memory, and the
 * range a private mapping of it: a page that was not written is the image's, and costs nothing of
 * its own.
 *
 *   COPY       the whole image is copied. 0.03 to 0.09 us a page in the cache: nothing is cheaper
 *              up to some hundred KiB, whatever was written. All pages are there twice.
 *   SCAN       the pages that are no longer the file's are copied.
 *   SCAN_UFFD  the system notes which pages are written, and those are copied.
 *   DROP       the private mapping's pages are dropped: a page read is the file's, a page written
 *              costs a fault in every use. Needs no memory of its own between uses.
 *
 * Scans are sift.h's. When an answer of the system is an error later on, the whole image is copied;
 * the mode is armed and tested anew (after a fork that is all it needs), and if that fails it is
 * given up for COPY, which is counted. DROP is tested by one page. Where there are no files in
 * memory the image is ordinary memory, and COPY serves.
 *
 * AUTO tries both in turn where either may win, on the guest's own uses: which is faster depends on
 * how many pages they write, how many of them are others each time, and where the image lies in the
 * caches. What decides is the mean of some restores, with the faults that the uses before them
 * took; it is tried again now and then. Either puts back the same bytes.
 *
 * Rejected: the image in memory and the range with it, which is as fast and is everything twice:
 * eight heaps of 4 MiB took 85 % more than by malloc, this way 3 % less, and 5 % more if each
 * use writes elsewhere; which is the price, as dropped pages fault again: use and restore of 16
 * MiB with 25 of 100 pages elsewhere take 270 us for 110.
 */
#ifndef ASH_SNAPSHOT_H
#define ASH_SNAPSHOT_H

#include "ashlar/heap.h"
#include "pool/sift.h"

/*
 * AUTO just copies up to the first size, where a scan's system call alone costs as much; and tries
 * scans against copies up to the second.
 */
#define SNAPSHOT_COPY_MAX (64 * KIB)
#define SNAPSHOT_TRY_MAX  SIFT_SMALL

/* Zeroed: there is no image. All fields: owner. */
struct snapshot {
    struct sift range;         /* `at` NULL: no image; that is untouchable where it is free */
    enum ash_reset_mode mode;  /* in use, never AUTO */
    enum ash_reset_mode scan;  /* of AUTO, the mode that is tried against COPY; else AUTO */
    bool overlaid;             /* the range is a mapping of the image's file; else: no file */
    unsigned turn;             /* restores since AUTO began to try */
    uint64_t window_ns;        /* of a trial's scans and faults until now */
    uint64_t copy_ns, scan_ns; /* what AUTO found; 0: it has not tried */
    uint64_t fallbacks;        /* modes that were given up */
};

/*
 * Makes the image of [at, at + bytes), whole pages, and arms `mode`, or what serves in its place.
 * There is no image before. -ENOMEM: there is none after, and the range is as it was.
 */
int snapshot_take(struct snapshot *s, void *at, size_t bytes, enum ash_reset_mode mode);

/* Puts the image back. */
void snapshot_restore(struct snapshot *s);

/* Puts the image back by copying it, now and from now on. */
void snapshot_distrust(struct snapshot *s);

/* The number of pages that differ from the image. */
size_t snapshot_differences(const struct snapshot *s);

/*
 * Gives the range's own memory back to the system where the image's file can stand for it. The
 * range is as the image is, before and after.
 */
void snapshot_trim(struct snapshot *s);

/*
 * Forgets the image; the range is ordinary memory again, with the same content. -ENOMEM: nothing
 * has been done.
 */
int snapshot_drop(struct snapshot *s);

/* The same for a range that is about to be unmapped. */
void snapshot_abandon(struct snapshot *s);

#endif
