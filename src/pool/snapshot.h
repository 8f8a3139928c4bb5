/*
 * The image of a range of pages, and four ways of putting it back. The range is private memory of
 * one thread at a time, this module's to remap in place.
 *
 *   COPY       the whole image is copied. 0.03 to 0.09 us a page in the cache: nothing is cheaper
 *              up to some hundred KiB, whatever was written.
 *   SCAN       the range is a private mapping of the image's file; the pages that are no longer the
 *              file's are copied. A page once written stays copied, so each restore copies it.
 *   SCAN_UFFD  the system notes which pages are written, and those are copied. A protected page
 *              costs a fault at its first write, ten times its copy, and then none: so pages stay
 *              unprotected and are copied in every restore, until a sift, now and then, finds that
 *              one holds what the image holds, and protects it again. What every use writes is thus
 *              never protected, and what one use wrote is not copied for ever.
 *   DROP       the private mapping's pages are dropped: a page read is the file's, a page written
 *              costs a fault in every use. Needs no memory of its own between uses.
 *
 * A scan is trusted only after a test on the very range: it must name the two pages that the test
 * writes, and no other. When an answer of the system is an error later on, the whole image is
 * copied; the mode is armed and tested anew (after a fork that is all it needs), and if that fails
 * it is given up for COPY, which is counted.
 *
 * AUTO tries both in turn where either may win, on the guest's own uses: which is faster depends on
 * how many pages they write, how many of them are others each time, and where the image lies in the
 * caches. What decides is the mean of some restores, with the faults that the uses before them
 * took; it is tried again now and then. Either puts back the same bytes.
 *
 * Measured on 200 KiB to 2 MiB: a scan 1.0 us and 1.2 ns a page (2.5 with any other filter than
 * "written", which has a loop of its own in the system), a page found 18 ns, its copy 87 from the
 * second-level cache and some 250 from beyond; a fault 0.96 us, protecting a stretch 1.2. Rejected:
 * protecting all pages after so many restores, since each hot page faults again (use and restore of
 * 1.8 MiB, 31 pages, in us, for 0, 2 and 8 others each time: 7.5, 20 and 38, this way 6.3, 16 and
 * 35; of 16 MiB, 100 pages, 0 and 25 others: 37 and 150, this way 26 and 125); comparing a page
 * before it is copied, by pages, 512 bytes or lines, which takes what copying does (95 to 99 ns),
 * as do rep movsb, 16- and 32-byte moves (85 to 105).
 */
#ifndef ASH_SNAPSHOT_H
#define ASH_SNAPSHOT_H

#include "ashlar/heap.h"
#include "base/base.h"

enum { SNAPSHOT_ROUND = 64 }; /* restores between two sifts at most */

/*
 * AUTO just copies up to the first size, where a scan's system call alone costs as much; and tries
 * scans against copies up to the second.
 */
#define SNAPSHOT_COPY_MAX (64 * KIB)
#define SNAPSHOT_TRY_MAX  (2 * MIB)

/* Zeroed: there is no image. All fields: owner. */
struct snapshot {
    unsigned char *at; /* the range; NULL: no image */
    size_t bytes;
    const unsigned char *image; /* of as many bytes, untouchable where that is free */
    enum ash_reset_mode mode;   /* in use, never AUTO */
    enum ash_reset_mode scan;   /* of AUTO, the mode that is tried against COPY; else AUTO */
    bool overlaid;              /* the range is a mapping of the image's file */
    unsigned turn;              /* restores since AUTO began to try */
    unsigned round;             /* restores since the last sift */
    uint64_t base, wasted;      /* pages: the first of them copied, all later ones beyond that */
    uint64_t sift_cost;         /* of the last sift, in copies of a page */
    uint64_t fault_ns;          /* a write to a protected page, when the mode was tested */
    uint64_t window_ns;         /* of a trial's scans and faults until now */
    uint64_t copy_ns, scan_ns;  /* what AUTO found; 0: it has not tried */
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
