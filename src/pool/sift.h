/*
 * Putting back the pages of a range that were written, and no others: a private mapping of a file,
 * whose content is the range's image. One thread at a time.
 *
 * The system names the pages that are no longer the file's; or where it watches the range (of
 * userfaultfd), those that were written since they were protected.
 *
 * Scans leave the pages that they have copied as they are, since a page's next write would cost a
 * fault, ten to thirty times its copy: so they are copied in every restore, until a sift, now and
 * then, finds that one holds what the image holds. Pages that every use writes thus never fault,
 * and those that one use wrote are not copied for ever: they are dropped, or where the range is
 * watched, protected again. Protected, they are still the process's own, which is worth it if they
 * are written again, as the fault is a third of a dropped page's; of ranges above SIFT_SMALL, when
 * those come to more than a sixteenth, all are dropped. So a large heap takes its image, the pages
 * that its uses write, and that sixteenth; but of one whose uses write more than a tenth, any page
 * is kept, since then the faults of what was dropped would cost more than the whole image's copy;
 * and where a use writes more than half of it, a sift is not worth it for what is copied in vain.
 *
 * A sift finds cold pages between hot ones, so protecting them takes a call for each stretch. When
 * there are more cold pages than hot ones its scan protects what it finds, and the hot ones fault
 * at once, as they are copied. What is dropped goes by one call for 64 stretches.
 *
 * A scan is trusted only after a test on the very range: it must name the two pages that the test
 * writes, and no other.
 *
 * Measured on 200 KiB to 2 MiB: a scan 1.0 us and 1.2 ns a page (2.5 with any other filter than
 * "written", which has a loop of its own in the system), a page found 18 ns, its copy 87 from the
 * second-level cache and some 250 from beyond; a fault 1.0 us on a protected page and 3.0 on one of
 * the file's, protecting a stretch 1.2.
 *
 * Rejected: bringing pages in before they are written (MADV_POPULATE_WRITE, one by one or by
 * process_madvise), which takes 3.3 us a page where the write's own fault takes 2.7; or mapping
 * them for reading first, which makes that 3.0. Protecting all pages after so many restores, since
 * each hot page faults again (1.8 MiB, 31 pages, in us, for 0, 2 and 8 others each time: 7.5, 20
 * and 38, this way 6.3, 16 and 35). Comparing a page before it is copied, by pages, 512 bytes or
 * lines, which takes what copying does (95 to 99 ns), as do rep movsb, 16- and 32-byte moves (85 to
 * 105).
 */
#ifndef ASH_SIFT_H
#define ASH_SIFT_H

#include "base/base.h"

enum { SIFT_ROUND = 64 }; /* restores between two sifts at most */

/*
 * Of a range beyond SIFT_SMALL: what is kept for nothing, unless uses write more than the second
 * part of it.
 */
#define SIFT_SMALL (2 * MIB)
enum { SIFT_KEPT_PART = 16, SIFT_MUCH_PART = 10 };

/* All fields: owner. */
struct sift {
    unsigned char *at; /* the range, whole pages */
    size_t bytes;
    const unsigned char *image; /* of as many bytes */
    bool watched;               /* by the system; else pages that are not the file's are found */
    unsigned round;             /* restores since the last sift */
    uint64_t base, wasted;      /* pages: the first of them copied, all later ones beyond that */
    uint64_t kept;              /* pages that sifts protected since they were counted or dropped */
    uint64_t cost;              /* of the last sift, in copies of a page */
    uint64_t fault_ns;          /* a write to a protected page, in the test */
    uint64_t pages;             /* that the last restore copied */
};

/*
 * The range is as the image is. Notes writes to it from now on, in the way of `watched`. False: not
 * on this system, or what it says is wrong.
 */
bool sift_arm(struct sift *s);

/* The pages that were written are as the image is. -errno: the range is anyhow. */
int sift_restore(struct sift *s);

#endif
