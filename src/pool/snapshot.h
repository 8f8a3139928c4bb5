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
 * Scans leave the pages that they have copied as they are, since a page's next write would cost a
 * fault, ten to thirty times its copy: so they are copied in every restore, until a sift, now and
 * then, finds that one holds what the image holds. Pages that every use writes thus never fault,
 * and those that one use wrote are not copied for ever: SCAN drops them, SCAN_UFFD protects them
 * again. Protected, they are still the process's own, which is worth it if they are written again,
 * as the fault is a third of a dropped page's; of images above SNAPSHOT_TRY_MAX, when those come to
 * more than a sixteenth, all are dropped. So a large heap takes its image, the pages that its uses
 * write, and that sixteenth; but of one whose uses write more than a tenth, any page is kept, since
 * then the faults of what was dropped would cost more than the whole image's copy; and where a use
 * writes more than half of it, a sift is not worth it for what is copied in vain.
 *
 * A sift finds cold pages between hot ones, so protecting them takes a call for each stretch. When
 * there are more cold pages than hot ones its scan protects what it finds, and the hot ones fault
 * at once, as they are copied. What is dropped goes by one call for 64 stretches.
 *
 * A scan is trusted only after a test on the very range: it must name the two pages that the test
 * writes, and no other. When an answer of the system is an error later on, the whole image is
 * copied; the mode is armed and tested anew (after a fork that is all it needs), and if that fails
 * it is given up for COPY, which is counted. Where there are no files in memory the image is
 * ordinary memory, and COPY serves.
 *
 * AUTO tries both in turn where either may win, on the guest's own uses: which is faster depends on
 * how many pages they write, how many of them are others each time, and where the image lies in the
 * caches. What decides is the mean of some restores, with the faults that the uses before them
 * took; it is tried again now and then. Either puts back the same bytes.
 *
 * Measured on 200 KiB to 2 MiB: a scan 1.0 us and 1.2 ns a page (2.5 with any other filter than
 * "written", which has a loop of its own in the system), a page found 18 ns, its copy 87 from the
 * second-level cache and some 250 from beyond; a fault 1.0 us on a protected page and 3.0 on one of
 * the file's, protecting a stretch 1.2.
 *
 * Rejected: the image in memory and the range with it, which is as fast and is everything twice:
 * eight heaps of 4 MiB took 85 % more than by malloc, this way 3 % less, and 5 % more if each
 * use writes elsewhere; which is the price, as dropped pages fault again: use and restore of 16
 * MiB with 25 of 100 pages elsewhere take 270 us for 110. Bringing pages in before they are
 * written (MADV_POPULATE_WRITE, one by one or by process_madvise), which takes 3.3 us a page
 * where the write's own fault takes 2.7; or mapping them for reading first, which makes that
 * 3.0. Protecting all pages after so many restores, since each hot page faults again (1.8 MiB,
 * 31 pages, in us, for 0, 2 and 8 others each time: 7.5, 20 and 38, this way 6.3, 16 and 35).
 * Comparing a page before it is copied, by pages, 512 bytes or lines, which takes what copying
 * does (95 to 99 ns), as do rep movsb, 16- and 32-byte moves (85 to 105).
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
/* Of an image beyond that: what is kept for nothing, unless uses write more than the second. */
enum { SNAPSHOT_KEPT_PART = 16, SNAPSHOT_MUCH_PART = 10 };

/* Zeroed: there is no image. All fields: owner. */
struct snapshot {
    unsigned char *at; /* the range; NULL: no image */
    size_t bytes;
    const unsigned char *image; /* of as many bytes, untouchable where that is free */
    enum ash_reset_mode mode;   /* in use, never AUTO */
    enum ash_reset_mode scan;   /* of AUTO, the mode that is tried against COPY; else AUTO */
    bool overlaid;              /* the range is a mapping of the image's file; else: no file */
    unsigned turn;              /* restores since AUTO began to try */
    unsigned round;             /* restores since the last sift */
    uint64_t base, wasted;      /* pages: the first of them copied, all later ones beyond that */
    uint64_t kept;              /* pages that sifts protected since they were counted or dropped */
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
