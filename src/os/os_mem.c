/*
 * mmap and its relatives, as system calls. MAP_NORESERVE throughout: an allocator asks for address
 * space ahead of use, and the commit charge of pages that nobody touches helps nobody.
 */
#include "os/os_mem.h"

#include "os/os_clock.h"
#include "os/os_syscall.h"

#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { MAP_COMMON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE };

ASH_INLINE bool is_failure(long answer)
{
    return answer < 0 && answer > -4096;
}

static long map_raw(void *at, size_t n, int prot, int flags)
{
    return os_syscall6(SYS_mmap, (long)at, (long)n, prot, flags, -1, 0);
}

size_t os_page_size(void)
{
    return getauxval(AT_PAGESZ);
}

int os_map_at(void *at, size_t n)
{
    long got = map_raw(at, n, PROT_READ | PROT_WRITE, MAP_COMMON | MAP_FIXED_NOREPLACE);
    if (is_failure(got))
        return got == -EEXIST ? -EEXIST : -ENOMEM;
    if (got != (long)at) { /* a kernel or an emulator that takes the place as a hint only */
        os_unmap((void *)got, n);
        return -EEXIST;
    }
    return 0;
}

void *os_map(size_t n)
{
    long got = map_raw(NULL, n, PROT_READ | PROT_WRITE, MAP_COMMON);
    return is_failure(got) ? NULL : (void *)got;
}

void *os_reserve(size_t n)
{
    long got = map_raw(NULL, n, PROT_NONE, MAP_COMMON);
    return is_failure(got) ? NULL : (void *)got;
}

int os_commit(void *at, size_t n)
{
    long got = map_raw(at, n, PROT_READ | PROT_WRITE, MAP_COMMON | MAP_FIXED);
    return is_failure(got) ? -ENOMEM : 0;
}

void os_unmap(void *at, size_t n)
{
    os_syscall3(SYS_munmap, at, n, 0);
}

int os_protect(void *at, size_t n)
{
    return (int)os_syscall3(SYS_mprotect, at, n, PROT_NONE);
}

int os_unprotect(void *at, size_t n)
{
    return (int)os_syscall3(SYS_mprotect, at, n, PROT_READ | PROT_WRITE);
}

int os_purge(void *at, size_t n)
{
    return (int)os_syscall3(SYS_madvise, at, n, MADV_DONTNEED);
}

int os_move(void *from, void *to, size_t n)
{
    long got = os_syscall6(SYS_mremap, (long)from, (long)n, (long)n,
                           MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, (long)to, 0);
    if (!is_failure(got)) {
        os_commit(from, n); /* joins its neighbours again; and qemu takes the range for unmapped */
        return 0;
    }
    os_commit(to, n); /* kernels unmap the destination before they look at the source */
    return -ENOSYS;
}

void os_populate(void *at, size_t n)
{
    os_syscall3(SYS_madvise, at, n, MADV_POPULATE_WRITE);
}

void os_huge_pages(void *at, size_t n, bool wanted)
{
    os_syscall3(SYS_madvise, at, n, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

int os_map_file(int fd, size_t n, void **out)
{
    long got = os_syscall6(SYS_mmap, 0, (long)n, PROT_READ, MAP_SHARED, fd, 0);
    if (is_failure(got))
        return (int)got;
    *out = (void *)got;
    return 0;
}

void os_advise(const void *at, size_t n, enum os_advice advice)
{
    static const unsigned char of[] = {[OS_NORMAL] = MADV_NORMAL,
                                       [OS_SEQUENTIAL] = MADV_SEQUENTIAL,
                                       [OS_RANDOM] = MADV_RANDOM,
                                       [OS_WILLNEED] = MADV_WILLNEED,
                                       [OS_POPULATE_READ] = MADV_POPULATE_READ};
    uintptr_t begin = align_down((uintptr_t)at, os_page_size());
    os_syscall3(SYS_madvise, begin, (uintptr_t)at + n - begin, of[advice]);
}

void os_random(void *out, size_t n)
{
    long got = os_syscall3(SYS_getrandom, out, n, GRND_NONBLOCK);
    if (got == (long)n)
        return;
    uint64_t mix = os_clock_ns() ^ (uintptr_t)out;
    unsigned char *bytes = out;
    for (size_t i = 0; i < n; i++) {
        mix = mix * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (unsigned char)(mix >> 56);
    }
}
