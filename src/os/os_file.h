/*
 * Files and descriptors, as system calls. Nothing here sets errno, allocates or is a cancellation
 * point; answers are 0 or a value, or a negative errno. All of it may run in a signal handler and
 * inside malloc.
 */
#ifndef ASH_OS_FILE_H
#define ASH_OS_FILE_H

#include "base/base.h"

/* What a descriptor refers to: two descriptors of one open or reopened file give equal ids. */
struct os_file_id {
    uint64_t device;
    uint64_t inode;
};

/*
 * Writes all of `s`, going on after short writes and signals. A descriptor that does not block is
 * waited for, at most a second at a time, then -EAGAIN.
 */
int os_write_all(int fd, const char *s, size_t n);

/* The same as a fmt_write (base/fmt.h), which is given a pointer to the descriptor. */
int os_write_fmt(void *fd, const char *s, size_t n);

/* Opens a file for writing, created (0644) or emptied, closed on exec; the descriptor. */
int os_open_write(const char *path);

/* Opens a file for reading, closed on exec; never waits for a pipe's other end. The descriptor. */
int os_open_read(const char *path);

/* Reads the file's first cap - 1 bytes and ends them with NUL; the number of bytes. */
long os_read_small(const char *path, char *buf, size_t cap);

/* Reads at most `n` bytes; how many, 0 at the end. */
long os_read(int fd, void *buf, size_t n);

void os_close(int fd);

/*
 * A second descriptor of the same file, numbered where programs do not look for theirs, closed on
 * exec.
 */
int os_dup_high(int fd);

int os_file_id(int fd, struct os_file_id *out);

/* What is known of a file; all of it is equal as long as it is the same file, not written to. */
struct os_file_info {
    uint64_t device, inode;
    uint64_t size;
    int64_t mtime_ns;
    bool regular, directory;
};

/* Of the file behind a descriptor, of the one that a path leads to, and of one in a directory. */
int os_file_info(int fd, struct os_file_info *out);
int os_path_info(const char *path, struct os_file_info *out);
int os_name_info(int dir, const char *name, struct os_file_info *out);

/* The working directory with its closing NUL, an absolute path; -ENOENT where it has none. */
int os_cwd(char *buf, size_t cap);

/* What an errno (positive) means, in lower case; NULL for those that files do not give. */
const char *os_error_text(int error);

#endif
