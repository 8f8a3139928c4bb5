/* Directories for tests of logs, and what is in them. */
#ifndef ASH_TESTS_WALS_H
#define ASH_TESTS_WALS_H

#include "ashlar/wal.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char wal_dir[64];
static const char *wal_base = "/tmp";

__attribute__((unused)) static const char *wal_path(const char *name)
{
    static char path[4][160];
    static unsigned turn;
    char *p = path[turn++ % 4];
    if (wal_dir[0] == '\0') {
        snprintf(wal_dir, sizeof wal_dir, "%s/ashlar-wal-XXXXXX", wal_base);
        if (mkdtemp(wal_dir) == NULL)
            exit(99);
    }
    snprintf(p, sizeof path[0], "%s/%s", wal_dir, name);
    return p;
}

/* Memory instead of a disk, where that is not what is asked: the first directory of the two that can be written to. */
__attribute__((unused)) static void wal_in_memory(void)
{
    wal_dir[0] = '\0';
    wal_base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

/* Removes a directory and the files in it, and directories in it with theirs. */
__attribute__((unused)) static void wal_remove(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        char name[512];
        snprintf(name, sizeof name, "%s/%s", path, d->d_name);
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && unlink(name) != 0)
            wal_remove(name);
    }
    if (dir != NULL)
        closedir(dir);
    rmdir(path);
}

/* The path of the last segment, and how many there are. */
__attribute__((unused)) static unsigned wal_last(const char *path, char out[512])
{
    unsigned count = 0;
    char best[64] = "";
    DIR *dir = opendir(path);
    for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;)
        if (strlen(d->d_name) == 20 && strcmp(d->d_name + 16, ".wal") == 0) {
            count++;
            if (strcmp(d->d_name, best) > 0)
                snprintf(best, sizeof best, "%.20s", d->d_name);
        }
    if (dir != NULL)
        closedir(dir);
    snprintf(out, 512, "%s/%s", path, best);
    return count;
}

/* A whole file, in memory of its own. */
__attribute__((unused)) static unsigned char *wal_slurp(const char *file, size_t *n)
{
    struct stat st;
    int fd = open(file, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0)
        exit(99);
    unsigned char *bytes = malloc((size_t)st.st_size + 1);
    *n = (size_t)st.st_size;
    if (read(fd, bytes, *n) != (ssize_t)*n)
        exit(99);
    close(fd);
    return bytes;
}

__attribute__((unused)) static void wal_spill(const char *file, const void *bytes, size_t n)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
        exit(99);
    close(fd);
}

/* One record, of one piece. */
__attribute__((unused)) static int wal_put(struct ash_wal *w, const void *bytes, size_t n, uint64_t *lsn)
{
    struct iovec piece = {(void *)(uintptr_t)bytes, n};
    return ash_wal_append(w, &piece, 1, lsn);
}

/* NULL, and it says why. */
__attribute__((unused)) static struct ash_wal *wal_reopen(const char *path, const struct ash_wal_config *config)
{
    struct ash_wal *w = NULL;
    int status = ash_wal_open(path, config, &w);
    if (status != 0)
        tap_line("# %s: %s", path, strerror(-status));
    return w;
}

#endif
