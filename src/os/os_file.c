#include "os/os_file.h"

#include "os/os_syscall.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>

enum {
    FD_HIGH = 500, /* above what shells and daemons number by hand, below the usual limit of 1024 */
    FD_LOWER = 10, /* where the limit is lower than that */
};

/* Waits until `fd` takes more, a second at most; 0, or -EAGAIN when it does not. */
static int wait_writable(int fd)
{
    struct pollfd poll = {.fd = fd, .events = POLLOUT};
    struct timespec second = {.tv_sec = 1};
    long ready;
    do
        ready = os_syscall6(SYS_ppoll, (long)&poll, 1, (long)&second, 0, 0, 0);
    while (ready == -EINTR);
    return ready > 0 ? 0 : -EAGAIN;
}

int os_write_all(int fd, const char *s, size_t n)
{
    while (n > 0) {
        long wrote = os_syscall3(SYS_write, fd, s, n);
        if (wrote == -EAGAIN)
            wrote = wait_writable(fd);
        else if (wrote == 0)
            wrote = -EIO;
        if (wrote < 0 && wrote != -EINTR)
            return (int)wrote;
        if (wrote > 0) {
            s += wrote;
            n -= (size_t)wrote;
        }
    }
    return 0;
}

int os_write_fmt(void *fd, const char *s, size_t n)
{
    return os_write_all(*(int *)fd, s, n);
}

static int open_at(const char *path, int flags)
{
    long fd;
    do
        fd =
            os_syscall6(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC | O_NOCTTY, 0644, 0, 0);
    while (fd == -EINTR);
    return (int)fd;
}

int os_open_write(const char *path)
{
    return open_at(path, O_WRONLY | O_CREAT | O_TRUNC);
}

int os_open_read(const char *path)
{
    return open_at(path, O_RDONLY | O_NONBLOCK);
}

long os_read_small(const char *path, char *buf, size_t cap)
{
    int fd = open_at(path, O_RDONLY);
    if (fd < 0)
        return fd;
    size_t have = 0;
    long got = 1;
    while (have < cap - 1 && got != 0) {
        got = os_syscall3(SYS_read, fd, buf + have, cap - 1 - have);
        if (got < 0 && got != -EINTR)
            break;
        have += got > 0 ? (size_t)got : 0;
    }
    os_close(fd);
    buf[have] = '\0';
    return got < 0 && got != -EINTR ? got : (long)have;
}

long os_read(int fd, void *buf, size_t n)
{
    long got;
    do
        got = os_syscall3(SYS_read, fd, buf, n);
    while (got == -EINTR);
    return got;
}

void os_close(int fd)
{
    os_syscall3(SYS_close, fd, 0, 0);
}

int os_dup_high(int fd)
{
    long copy = os_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FD_HIGH);
    if (copy == -EINVAL || copy == -EMFILE)
        copy = os_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FD_LOWER);
    return (int)copy;
}

static void info_of(const struct stat *st, struct os_file_info *out)
{
    *out = (struct os_file_info){
        .device = (uint64_t)st->st_dev,
        .inode = (uint64_t)st->st_ino,
        .size = (uint64_t)st->st_size,
        .mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
        .regular = S_ISREG(st->st_mode),
        .directory = S_ISDIR(st->st_mode),
    };
}

int os_file_info(int fd, struct os_file_info *out)
{
    int saved = errno;
    struct stat st;
    int status = fstat(fd, &st) == 0 ? 0 : -errno;
    errno = saved;
    if (status == 0)
        info_of(&st, out);
    return status;
}

static int info_at(int dir, const char *path, int flags, struct os_file_info *out)
{
    int saved = errno;
    struct stat st;
    int status = fstatat(dir, path, &st, flags) == 0 ? 0 : -errno;
    errno = saved;
    if (status == 0)
        info_of(&st, out);
    return status;
}

int os_path_info(const char *path, struct os_file_info *out)
{
    return info_at(AT_FDCWD, path, 0, out);
}

int os_name_info(int dir, const char *name, struct os_file_info *out)
{
    return info_at(dir, name, AT_SYMLINK_NOFOLLOW, out);
}

int os_file_id(int fd, struct os_file_id *out)
{
    struct os_file_info info;
    int status = os_file_info(fd, &info);
    if (status == 0)
        *out = (struct os_file_id){.device = info.device, .inode = info.inode};
    return status;
}

int os_cwd(char *buf, size_t cap)
{
    long n = os_syscall3(SYS_getcwd, buf, cap, 0);
    if (n < 0)
        return (int)n;
    return n > 1 && buf[0] == '/' ? 0 : -ENOENT;
}

const char *os_error_text(int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return "permission denied";
    case EAGAIN:
        return "the reader does not keep up";
    case EBADF:
        return "bad file descriptor";
    case EDQUOT:
        return "disk quota exceeded";
    case EFBIG:
        return "file too large";
    case EIO:
        return "input/output error";
    case EISDIR:
        return "is a directory";
    case ELOOP:
        return "too many levels of symbolic links";
    case EMFILE:
    case ENFILE:
        return "too many open files";
    case ENAMETOOLONG:
        return "file name too long";
    case ENOENT:
        return "no such file or directory";
    case ENOSPC:
        return "no space left on device";
    case ENOTDIR:
        return "not a directory";
    case ENXIO:
        return "no such device";
    case EPIPE:
        return "broken pipe";
    case EROFS:
        return "read-only file system";
    case ETXTBSY:
        return "text file busy";
    default:
        return NULL;
    }
}
