/*
 * The kernel's structs are declared here, since the headers of most systems are older than the
 * interface. A scan always has a vector to fill: some kernels fault on one of length 0.
 */
#include "os/os_pagemap.h"

#include "base/atomic.h"
#include "os/os_file.h"
#include "os/os_mem.h"
#include "os/os_syscall.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

struct scan_arg { /* struct pm_scan_arg */
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t inverted, mask, anyof, wanted;
};
struct uffd_api {
    uint64_t api, features, ioctls;
};
struct uffd_register {
    uint64_t start, len, mode, ioctls;
};

#define IOCTL_SCAN          _IOWR('f', 16, struct scan_arg)
#define IOCTL_UFFD_API      _IOWR(0xAA, 0x3F, struct uffd_api)
#define IOCTL_UFFD_REGISTER _IOWR(0xAA, 0x00, struct uffd_register)

enum { SCAN_PROTECT = 1, SCAN_CHECK_WATCHED = 2 };
enum { PAGE_WRITTEN = 2, PAGE_FILE = 4, PAGE_PRESENT = 8, PAGE_SWAPPED = 16 };
enum { UFFD_API = 0xAA, UFFD_WP_UNPOPULATED = 1 << 13, UFFD_WP_ASYNC = 1 << 15 };
enum { UFFD_USER_MODE_ONLY = 1, UFFD_MODE_WP = 2 };
enum { PIDFD_SELF = -10000 };

/* Descriptors plus one; 0: not open in this process. */
struct opened {
    _Atomic(int) pagemap; /* atomic: a number; no memory is published by it */
    _Atomic(int) uffd;    /* atomic: likewise */
};

/* atomic: release once the page is wiped at fork; set once and for ever. */
static _Atomic(struct opened *) opened;

static struct opened *opened_get(void)
{
    struct opened *o = load_acquire(&opened); /* pairs with the release below: the advice */
    if (o != NULL)
        return o;
    size_t n = os_page_size();
    struct opened *made = os_map(n);
    if (made == NULL)
        return NULL;
    bool wiped = os_syscall3(SYS_madvise, made, n, MADV_WIPEONFORK) == 0;
    if (wiped && cas_strong_acq_rel(&opened, &o, made)) /* the advice; pairs with the load above */
        return made;
    os_unmap(made, n);
    return wiped ? o : NULL;
}

static int open_pagemap(void)
{
    return (int)os_syscall6(SYS_openat, AT_FDCWD, (long)"/proc/self/pagemap", O_RDONLY | O_CLOEXEC,
                            0, 0, 0);
}

static int open_uffd(void)
{
    int fd = (int)os_syscall3(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY, 0, 0);
    if (fd < 0)
        return fd;
    struct uffd_api api = {.api = UFFD_API, .features = UFFD_WP_ASYNC | UFFD_WP_UNPOPULATED};
    int status = (int)os_syscall3(SYS_ioctl, fd, IOCTL_UFFD_API, &api);
    if (status >= 0)
        return fd;
    os_close(fd);
    return status;
}

/* The descriptor of `slot`, opened when it is not; of two threads that open, one closes its own. */
static int descriptor(_Atomic(int) *slot, int (*open_it)(void))
{
    int have = load_relaxed(slot);
    if (have != 0)
        return have - 1;
    int low = open_it();
    if (low < 0)
        return low;
    int fd = os_dup_high(low);
    os_close(low);
    if (fd < 0)
        return fd;
    if (cas_strong_relaxed(slot, &have, fd + 1))
        return fd;
    os_close(fd);
    return have - 1;
}

static long scan(struct scan_arg *arg)
{
    struct opened *o = opened_get();
    int fd = o != NULL ? descriptor(&o->pagemap, open_pagemap) : -ENOMEM;
    return fd < 0 ? fd : os_syscall3(SYS_ioctl, fd, IOCTL_SCAN, arg);
}

/*
 * A page of a file that was protected before it was mapped looks like one that is swapped. So cold
 * pages must be present: what else is protected has no memory.
 */
long os_pages_scan(uintptr_t *from, uintptr_t end, enum os_page_kind kind,
                   struct os_page_range *out, size_t room)
{
    static const struct {
        uint64_t flags, inverted, mask, anyof, wanted;
    } kinds[] = {
        [OS_PAGES_COPIED] = {0, PAGE_FILE, PAGE_FILE, PAGE_PRESENT | PAGE_SWAPPED, PAGE_PRESENT},
        [OS_PAGES_WRITTEN] = {SCAN_CHECK_WATCHED, 0, PAGE_WRITTEN, 0, PAGE_WRITTEN},
        [OS_PAGES_TAKEN] = {SCAN_PROTECT | SCAN_CHECK_WATCHED, 0, PAGE_WRITTEN, 0, PAGE_WRITTEN},
        [OS_PAGES_COLD] = {SCAN_CHECK_WATCHED, PAGE_FILE | PAGE_WRITTEN,
                           PAGE_FILE | PAGE_WRITTEN | PAGE_PRESENT, 0, PAGE_PRESENT},
    };
    struct scan_arg arg = {
        .size = sizeof arg,
        .flags = kinds[kind].flags,
        .start = *from,
        .end = end,
        .vec = (uintptr_t)out,
        .vec_len = room,
        .inverted = kinds[kind].inverted,
        .mask = kinds[kind].mask,
        .anyof = kinds[kind].anyof,
        .wanted = kinds[kind].wanted,
    };
    long got = scan(&arg);
    if (got >= 0)
        *from = arg.walk_end;
    return got;
}

int os_pages_watch(void *at, size_t n)
{
    struct opened *o = opened_get();
    int fd = o != NULL ? descriptor(&o->uffd, open_uffd) : -ENOMEM;
    if (fd < 0)
        return fd;
    struct uffd_register range = {.start = (uintptr_t)at, .len = n, .mode = UFFD_MODE_WP};
    return (int)os_syscall3(SYS_ioctl, fd, IOCTL_UFFD_REGISTER, &range);
}

int os_pages_protect(void *at, size_t n)
{
    struct os_page_range ranges[64];
    for (uintptr_t from = (uintptr_t)at, end = from + n; from < end;) {
        struct scan_arg arg = {
            .size = sizeof arg,
            .flags = SCAN_PROTECT | SCAN_CHECK_WATCHED,
            .start = from,
            .end = end,
            .vec = (uintptr_t)ranges,
            .vec_len = ASH_COUNT(ranges),
            .mask = PAGE_WRITTEN,
            .wanted = PAGE_WRITTEN,
        };
        long got = scan(&arg);
        if (got < 0)
            return (int)got;
        if (arg.walk_end <= from)
            return -EIO;
        from = arg.walk_end;
    }
    return 0;
}

int os_pages_drop(const struct os_page_range *ranges, size_t n)
{
    struct iovec each[OS_PAGES_RANGES];
    long bytes = 0;
    for (size_t i = 0; i < n; i++) {
        each[i].iov_base = (void *)(uintptr_t)ranges[i].start;
        each[i].iov_len = (size_t)(ranges[i].end - ranges[i].start);
        bytes += (long)each[i].iov_len;
    }
    if (n == 0 || os_syscall6(SYS_process_madvise, PIDFD_SELF, (long)each, (long)n, MADV_DONTNEED,
                              0, 0) == bytes)
        return 0;
    int status = 0;
    for (size_t i = 0; i < n && status == 0; i++)
        status = os_purge(each[i].iov_base, each[i].iov_len);
    return status;
}
