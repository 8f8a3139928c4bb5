#include "os/os_memfd.h"

#include "os/os_file.h"
#include "os/os_syscall.h"

#include <sys/mman.h>
#include <sys/resource.h>

enum { CLOSE_ON_EXEC = 1 }; /* MFD_CLOEXEC */

/* A write beyond the process's limit for files, which it has for these as well, is a signal. */
static bool is_file_allowed(size_t n)
{
    uint64_t limit[2];
    long status = os_syscall6(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)limit, 0, 0);
    return status < 0 || limit[0] >= n;
}

int os_memfd_create(const void *from, size_t n)
{
    if (!is_file_allowed(n))
        return -EFBIG;
    int fd = (int)os_syscall3(SYS_memfd_create, "ashlar image", CLOSE_ON_EXEC, 0);
    if (fd < 0)
        return fd;
    int status = os_write_all(fd, from, n);
    if (status == 0)
        return fd;
    os_close(fd);
    return status;
}

static long map_file(int fd, void *at, size_t n, int prot, int flags)
{
    return os_syscall6(SYS_mmap, (long)at, (long)n, prot, flags, fd, 0);
}

const void *os_memfd_view(int fd, size_t n)
{
    long got = map_file(fd, NULL, n, PROT_READ, MAP_SHARED | MAP_NORESERVE);
    return got < 0 && got > -4096 ? NULL : (const void *)got;
}

int os_memfd_overlay(int fd, void *at, size_t n)
{
    long got = map_file(fd, at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE);
    return got < 0 && got > -4096 ? (int)got : 0;
}
