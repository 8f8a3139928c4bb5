#include "os/os_dir.h"

#include "os/os_file.h"
#include "os/os_syscall.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h> /* UTIME_OMIT, for musl */
#include <time.h>

enum { NAMES_BUFFER = 4096 };

/* A record of getdents64, as the kernel writes it; its name follows. */
struct dirent_head {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
};

#define DIRENT_NAME (offsetof(struct dirent_head, type) + 1)

static int open_in(int dir, const char *name, int flags)
{
    long fd;
    do
        fd = os_syscall6(SYS_openat, dir, (long)name, flags | O_CLOEXEC | O_NOCTTY, 0600, 0, 0);
    while (fd == -EINTR);
    return (int)fd;
}

int os_dir_open(const char *path)
{
    long status = os_syscall3(SYS_mkdirat, AT_FDCWD, path, 0700);
    if (status < 0 && status != -EEXIST && status != -EROFS)
        return (int)status;
    return open_in(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
}

int os_dir_create(int dir, const char *name)
{
    return open_in(dir, name, O_WRONLY | O_CREAT | O_EXCL);
}

int os_dir_read(int dir, const char *name)
{
    return open_in(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
}

int os_dir_write(int dir, const char *name)
{
    return open_in(dir, name, O_WRONLY | O_NOFOLLOW);
}

int os_dir_above(int dir)
{
    return open_in(dir, "..", O_RDONLY | O_DIRECTORY);
}

int os_dir_lock(int dir)
{
    int status = (int)os_syscall3(SYS_flock, dir, LOCK_EX | LOCK_NB, 0);
    return status == -EAGAIN ? -EBUSY : status;
}

void os_dir_unlock(int dir)
{
    os_syscall3(SYS_flock, dir, LOCK_UN, 0);
}

int os_dir_rename(int dir, const char *from, const char *to)
{
    return (int)os_syscall6(SYS_renameat2, dir, (long)from, dir, (long)to, 0, 0);
}

int os_dir_remove(int dir, const char *name)
{
    return (int)os_syscall3(SYS_unlinkat, dir, name, 0);
}

int os_dir_each(int dir, void (*fn)(void *ctx, const char *name), void *ctx)
{
    _Alignas(struct dirent_head) char buf[NAMES_BUFFER];
    int fd = open_in(dir, ".", O_RDONLY | O_DIRECTORY); /* an offset of its own */
    if (fd < 0)
        return fd;
    long got;
    while ((got = os_syscall3(SYS_getdents64, fd, buf, sizeof buf)) > 0)
        for (long at = 0; at < got;) {
            const struct dirent_head *d = (const struct dirent_head *)(const void *)(buf + at);
            fn(ctx, (const char *)d + DIRENT_NAME);
            at += d->length;
        }
    os_close(fd);
    return (int)got;
}

int os_dir_stamp(int fd, int64_t mtime_ns)
{
    struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = (time_t)(mtime_ns / 1000000000), .tv_nsec = (long)(mtime_ns % 1000000000)}};
    return (int)os_syscall6(SYS_utimensat, fd, 0, (long)times, 0, 0, 0);
}

int os_dir_sync(int fd)
{
    return (int)os_syscall3(SYS_fsync, fd, 0, 0);
}

int os_dir_sync_data(int fd)
{
    return (int)os_syscall3(SYS_fdatasync, fd, 0, 0);
}

void os_dir_write_out(int fd, uint64_t at, size_t n)
{
    os_syscall6(SYS_sync_file_range, fd, (long)at, (long)n, SYNC_FILE_RANGE_WRITE, 0, 0);
}

int os_dir_write_at(int fd, const void *bytes, size_t n, uint64_t at)
{
    for (size_t done = 0; done < n;) {
        long wrote = os_syscall6(SYS_pwrite64, fd, (long)((const char *)bytes + done),
                                 (long)(n - done), (long)(at + done), 0, 0);
        if (wrote == 0)
            return -EIO;
        if (wrote < 0 && wrote != -EINTR)
            return (int)wrote;
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    return 0;
}

int os_dir_read_at(int fd, void *bytes, size_t n, uint64_t at)
{
    for (size_t done = 0; done < n;) {
        long got = os_syscall6(SYS_pread64, fd, (long)((char *)bytes + done), (long)(n - done),
                               (long)(at + done), 0, 0);
        if (got == 0)
            return -EIO;
        if (got < 0 && got != -EINTR)
            return (int)got;
        done += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

void *os_dir_map(int fd, size_t n)
{
    long got = os_syscall6(SYS_mmap, 0, (long)n, PROT_READ, MAP_PRIVATE, fd, 0);
    return got < 0 && got > -4096 ? NULL : (void *)got;
}

void os_dir_unmap(void *at, size_t n)
{
    os_syscall3(SYS_munmap, at, n, 0);
}

int64_t os_dir_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
