/*
 * The files of one directory, by its descriptor: for what is kept from process to process. Nothing
 * here sets errno or allocates; answers are 0 or a value, or a negative errno. All descriptors are
 * closed on exec.
 */
#ifndef ASH_OS_DIR_H
#define ASH_OS_DIR_H

#include "base/base.h"

/* Opens a directory, made (0700) if it is not there; the descriptor, for os_close. */
int os_dir_open(const char *path);

/* Creates a file to write to (0600) that was not there; the descriptor. */
int os_dir_create(int dir, const char *name);

/* Opens a file to read, symbolic links excepted; the descriptor. */
int os_dir_read(int dir, const char *name);

/* Opens a file that is there to write to, symbolic links excepted; the descriptor. */
int os_dir_write(int dir, const char *name);

/* The directory that this one is in; the descriptor. */
int os_dir_above(int dir);

/* Takes the directory for this open descriptor and its copies: 0, -EBUSY when another has it. */
int os_dir_lock(int dir);

/* Gives it back, although a process that is about to exec may have a copy. */
void os_dir_unlock(int dir);

/* In one step: `to` is the old file or the new one at any instant. */
int os_dir_rename(int dir, const char *from, const char *to);
int os_dir_remove(int dir, const char *name);

/* Calls `fn` with each name, "." and ".." too. */
int os_dir_each(int dir, void (*fn)(void *ctx, const char *name), void *ctx);

/* Sets the time of modification. */
int os_dir_stamp(int fd, int64_t mtime_ns);

/* What was written is on the device, of a file or a directory. */
int os_dir_sync(int fd);

/* The same of a file's bytes and length, and nothing else of it. */
int os_dir_sync_data(int fd);

/* Has what was written there begin its way to the device; the sync that follows has less to do. */
void os_dir_write_out(int fd, uint64_t at, size_t n);

/* All of the `n` bytes at a place of a file. Reading less than that, at its end, is -EIO. */
int os_dir_write_at(int fd, const void *bytes, size_t n, uint64_t at);
int os_dir_read_at(int fd, void *bytes, size_t n, uint64_t at);

/* Maps the first `n` bytes of a file for reading; NULL when refused. For os_dir_unmap. */
void *os_dir_map(int fd, size_t n);
void os_dir_unmap(void *at, size_t n);

/* Nanoseconds of the calendar, as files are stamped with. */
int64_t os_dir_now(void);

#endif
