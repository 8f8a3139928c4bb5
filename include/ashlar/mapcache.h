/*
 * ashlar/mapcache.h: files mapped once and shared.
 *
 * Opening a file that is mapped already costs a look-up and no system call; a mapping that nobody
 * uses stays for the next open, within a budget of bytes and until it has been unused for a time.
 *
 *     struct ash_mapcache *files = ash_mapcache_create(NULL);
 *     struct ash_map map;
 *     if (ash_mapcache_open(files, "/srv/page.html", 0, 0, 0, &map) == 0) {
 *         write(fd, map.data, map.len);
 *         ash_mapcache_close(files, &map);
 *     }
 *
 * A file is known by its path and, of what the path leads to, device, inode, size and time of
 * modification. Where one of those has changed (a file replaced by rename, or written to), the next
 * open that looks maps the file anew; those who have the old mapping keep it until they close it.
 *
 * When an open looks. With each open asking the kernel, an open costs a system call. By default it
 * asks when the last answer is older than 10 ms (revalidate_ns): a replaced file is seen at most so
 * much later. ASH_MAPCACHE_VALIDATE asks each time. A program that replaces files itself calls
 * ash_mapcache_invalidate, and the next open sees the new file at once.
 *
 * Nothing is unmapped under its user: trimming, the budget and replacement concern mappings that
 * are not open. Memory of an open map may be handed on as slices of a buf, with ash_mapcache_close
 * in the release callback of ash_buf_wrap.
 *
 * Threads: any thread may call anything but ash_mapcache_destroy, and a map may be closed by
 * another thread than opened it. Opens of mapped files take no lock; those that map do, one at a
 * time for each cache. After fork the child has the same cache and maps and may go on using both.
 *
 * Caveats
 *   The pages are the file's, shared with whoever writes to it: a program that reads while another
 *   writes in place sees both. When a file is truncated while it is mapped, touching a page beyond
 *   the new end raises SIGBUS, as with any mapping: replace files by rename. A relative path is
 *   looked up as it is written; after chdir it may lead to the file it led to before, for as long
 *   as revalidate_ns. Two paths of one file are two mappings. Files that are not regular are not
 *   mapped. A struct ash_map may be moved by assignment; to close both copies is an error, which is
 *   reported (and aborts; ASHLAR_ON_ERROR=warn goes on) where nobody else has the file open.
 */
#ifndef ASHLAR_MAPCACHE_H
#define ASHLAR_MAPCACHE_H

#include <ashlar/config.h>

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_mapcache;

/* Fields that are 0 have the value in brackets. */
struct ash_mapcache_config {
    size_t struct_size;
    const char *name;      /* in statistics, at most 31 printable characters ["mapcache"] */
    size_t max_bytes;      /* of all mappings; beyond it, unused ones go, oldest first [1 GiB] */
    int64_t max_age_ns;    /* an unused mapping goes after that; negative: never [60 s] */
    int64_t revalidate_ns; /* trust in what the kernel said; negative: for ever [10 ms] */
    unsigned max_maps;     /* at a time, at most 1,048,576 [1024] */
    unsigned flags;        /* ASH_MAPCACHE_VALIDATE [0] */
};

#define ASH_MAPCACHE_CONFIG(...) ASH_CONFIG(struct ash_mapcache_config, __VA_ARGS__)

enum { ASH_MAPCACHE_VALIDATE = 1 }; /* ask the kernel at every open */

/* How the bytes will be used; the first two exclude each other. */
enum {
    ASH_MAP_SEQUENTIAL = 1, /* from front to back: read far ahead; for the whole mapping */
    ASH_MAP_RANDOM = 2,     /* here and there: do not read ahead; for the whole mapping */
    ASH_MAP_WILLNEED = 4,   /* begin to read the part that is opened */
    ASH_MAP_POPULATE = 8    /* read that part and enter it in the page tables before returning */
};

/* An open map, or part of one. `data` and `len` are to be read. {0} is none. */
struct ash_map {
    const unsigned char *data;
    size_t len;
    void *entry; /* the library's */
};

/*
 * Makes a cache. NULL is the default configuration. NULL and EINVAL: a name, a flag or a number
 * that is not allowed; ENOMEM. Ages are looked at when an open has to ask the kernel or to map; see
 * ash_mapcache_trim for programs that stop opening.
 */
struct ash_mapcache *ash_mapcache_create(const struct ash_mapcache_config *config);

/* Unmaps everything. -EBUSY while maps are open, and nothing has happened; NULL is fine. */
int ash_mapcache_destroy(struct ash_mapcache *c);

/*
 * Opens `len` bytes of a file from `off` on, to be read; `len` = 0 means to its end. `hints` are
 * ASH_MAP_ values or 0. 0, or with `out` set to {0}:
 *   -EINVAL   an argument is NULL, `off` negative, hints are wrong, or the file is not regular
 *   -EISDIR   it is a directory
 *   -ERANGE   the file ends before the part does (it may just have been truncated)
 *   -ENOBUFS  max_maps files are open
 *   -ENOMEM   the system, or the limit, has no memory
 *   and what open(2) and mmap(2) answer: -ENOENT, -EACCES, -EMFILE ...
 * A file of no bytes has a map with len 0 and data that is not NULL. Cost: some 40 ns for a file
 * that is mapped and not due to be looked at, 1 us if it is, else about 5 us.
 */
int ash_mapcache_open(struct ash_mapcache *c, const char *path, off_t off, size_t len,
                      unsigned hints, struct ash_map *out);

/* Opens what `map` has once more, to be closed by itself. */
void ash_mapcache_share(struct ash_mapcache *c, const struct ash_map *map, struct ash_map *out);

/* Gives a map up; it is {0} then. {0} is fine. Cost: about 10 ns. */
void ash_mapcache_close(struct ash_mapcache *c, struct ash_map *map);

/*
 * Makes the next open of `path` map it anew, or of every path (NULL). 0, or -ENOENT when it was not
 * mapped.
 */
int ash_mapcache_invalidate(struct ash_mapcache *c, const char *path);

/*
 * Unmaps what has been unused for `max_age_ns` (0: all that is unused; negative: nothing for its
 * age), then of the unused the oldest while there are more than `max_bytes`. Returns 0.
 */
int ash_mapcache_trim(struct ash_mapcache *c, int64_t max_age_ns, size_t max_bytes);

struct ash_mapcache_stats {
    uint64_t opens;        /* that succeeded */
    uint64_t hits;         /* of those, found mapped */
    uint64_t validations;  /* times that an open of a mapped file asked the kernel */
    uint64_t maps;         /* files mapped */
    uint64_t unmaps;       /* and unmapped again */
    uint64_t in_use;       /* mappings that are open now */
    uint64_t mapped_bytes; /* of all mappings, open or not */
};

/*
 * 0, or -EINVAL when `out` is NULL. Cost: a walk over max_maps records. The same is in every format
 * of ash_stats_dump.
 */
int ash_mapcache_stats(const struct ash_mapcache *c, struct ash_mapcache_stats *out);

/* Writes a line about the cache and one for each mapping; 0 or the negative errno of the write. */
int ash_mapcache_dump(struct ash_mapcache *c, int fd);

#ifdef __cplusplus
}
#endif

#endif
