/*
 * Which pages of this process were written: the ioctl PAGEMAP_SCAN (Linux 6.7) on
 * /proc/self/pagemap, and userfaultfd's asynchronous write protection. Nothing here sets errno;
 * answers are 0 or more, or a negative errno (no such kernel, /proc not mounted or not readable
 * after setuid, system call filtered). Any thread.
 *
 * The two descriptors belong to the process and are opened at first use. A descriptor that a child
 * inherits speaks of its parent, so their numbers stand in a page that fork wipes: the child opens
 * its own.
 */
#ifndef ASH_OS_PAGEMAP_H
#define ASH_OS_PAGEMAP_H

#include "base/base.h"

struct os_page_range {
    uint64_t start, end; /* addresses */
    uint64_t categories;
};

enum os_page_kind {
    OS_PAGES_COPIED,  /* of a private mapping of a file: no longer the file's */
    OS_PAGES_WRITTEN, /* under os_pages_watch: written since they were protected */
    OS_PAGES_TAKEN,   /* the same, and the scan protects those that it finds */
    OS_PAGES_COLD,    /* of both: in memory, copied, but not written since */
};

/*
 * Looks through [*from, end) for pages of a kind: how many ranges it has put into `out`, and sets
 * `*from` to where the next call has to go on (`end`: done). At least one range of room. -EPERM:
 * OS_PAGES_WRITTEN of a range that is not watched, by the child of a fork for one.
 */
long os_pages_scan(uintptr_t *from, uintptr_t end, enum os_page_kind kind,
                   struct os_page_range *out, size_t room);

/* Has the system note which pages of the range will be written; os_pages_protect begins it. */
int os_pages_watch(void *at, size_t n);

/* Marks all pages of a watched range as not written. */
int os_pages_protect(void *at, size_t n);

/*
 * os_purge for the first `n` of `ranges`, OS_PAGES_RANGES at most: by one call where the system has
 * it (Linux 6.14), which is a third of the price when each is a page.
 */
enum { OS_PAGES_RANGES = 64 };
int os_pages_drop(const struct os_page_range *ranges, size_t n);

#endif
