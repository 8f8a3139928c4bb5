/*
 * The image of a range of pages, and four ways of putting it back. The range is private memory of
 * one thread at a time, this module's to remap in place.
 *
 *   COPY       the whole image is copied. 0.03 us a page in the cache: nothing is cheaper up to
 *              some hundred KiB, whatever was written.
 *   SCAN       the range is a private mapping of the image's file; the pages that are no longer the
 *              file's are copied. A page once written stays copied, so each restore copies it.
 *   SCAN_UFFD  the system notes which pages are written, and those are copied. A protected page
 *              costs a fault at its first write, so pages are protected anew only now and then,
 *              at least every SNAPSHOT_ROUND restores: the hot ones are copied without a fault.
 *   DROP       the private mapping's pages are dropped: a page read is the file's, a page written
 *              costs a fault in every use. Needs no memory of its own between uses.
 *
 * A scan is trusted only after a test on the very range: it must name the two pages that the test
 * writes, and no other. When an answer of the system is an error later on, the whole image is
 * copied; the mode is armed and tested anew (after a fork that is all it needs), and if that fails
 * it is given up for COPY, which is counted.
 */
#ifndef ASH_SNAPSHOT_H
#define ASH_SNAPSHOT_H

#include "ashlar/heap.h"
#include "base/base.h"

enum { SNAPSHOT_ROUND = 1024 };
/*
 * AUTO copies images up to the first size, and without a scan up to the second. The first is where
 * use and restore together break even; QuickJS, rotated in one run, in us: image of 155 KiB, 25
 * pages written, COPY 8.2, SCAN_UFFD 9.1; 187 KiB 9.5 and 9.6; 228 KiB 10.8 and 10.2; 330 KiB 13.9
 * and 10.1.
 */
#define SNAPSHOT_COPY_MAX     (192 * KIB)
#define SNAPSHOT_COPY_AT_MOST (2 * MIB)

/* Zeroed: there is no image. All fields: owner. */
struct snapshot {
    unsigned char *at; /* the range; NULL: no image */
    size_t bytes;
    const unsigned char *image; /* of as many bytes, untouchable where that is free */
    enum ash_reset_mode mode;   /* never AUTO */
    bool overlaid;              /* the range is a mapping of the image's file */
    unsigned round;             /* restores since the pages were protected */
    uint64_t fresh, wasted;     /* pages: the first of them copied, all later ones beyond that */
    uint64_t dirty_pages;       /* that the last restore copied; DROP does not know: 0 */
    uint64_t fallbacks;         /* modes that were given up */
};

/*
 * Makes the image of [at, at + bytes), whole pages, and arms `mode`, or what serves in its place.
 * There is no image before. -ENOMEM: there is none after, and the range is as it was.
 */
int snapshot_take(struct snapshot *s, void *at, size_t bytes, enum ash_reset_mode mode);

/* Puts the image back. */
void snapshot_restore(struct snapshot *s);

/* Copies all of the image, whatever the mode. */
void snapshot_copy(struct snapshot *s);

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
