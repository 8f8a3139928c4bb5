/*
 * Compiled artifacts: bytes that are made once from a content (a source text) under a configuration
 * (flags, version of the compiler), kept in memory and, if there is a directory, on disk for later
 * processes.
 *
 *     struct ash_artcache *code = ash_artcache_create("code", ASH_ARTCACHE_CONFIG(.dir = dir));
 *     struct ash_artcache_key key = {source, source_len, "v2 -O", 5};
 *     struct ash_artifact a;
 *     if (ash_artcache_get_or_build(code, &key, compile, NULL, -1, &a) == 0) {
 *         run(a.data, a.len);
 *         ash_artcache_release(code, &a);
 *     }
 *
 * Looked for in memory, then on disk, then built: by one caller, while all others with this key
 * wait. A build that fails is told to the caller that ran it and is not kept; those who waited try
 * themselves, one after the other.
 *
 * The key is hashed to 128 bits (two hashes of 64 bits, of multiplications; not cryptographic),
 * which name the file. The whole key is kept as well, in memory and in the file, and compared: two
 * keys with one hash cost builds, never a wrong artifact.
 *
 * On disk: a file is written under a name of its own, and renamed when it is whole. It carries a
 * checksum over all its bytes, verified when this cache first meets it, and again when its size,
 * inode or time has changed. A file that is cut off or damaged is a miss and is removed. Without
 * ASH_ARTCACHE_SYNC nothing is flushed: after a loss of power some files may be damaged in this
 * sense. Any number of processes may use one directory; each of them may build what no other has
 * finished. When a budget is exceeded, what was used longest ago goes first, until 70 % of it are
 * left; use is noted to the minute in the file's time of modification.
 *
 * Threads: every function may be called by any thread at any time. Nothing is held while `build`
 * runs or a file is read or written, other than the key's place. A forked child goes on: what other
 * threads were building it builds itself.
 *
 * Caveats:
 *  - The directory's files are believed as far as the checksum goes, which an attacker can compute:
 *    keep it writable by its user alone. It is made with mode 0700.
 *  - Files are mapped. They are never changed in place by caches; whoever truncates one makes its
 *    readers crash (SIGBUS), as with every mapping.
 *  - Artifacts that are in use stay until they are released, whatever the budget. One that takes
 *    more than 70 % of the memory's budget is not kept in memory, of the disk's budget not on disk.
 *  - In a forked child, artifacts in the hands of its parent's other threads are never released.
 *  - Not for signal handlers. Not for directories on file systems without rename, or of machines of
 *    another byte order: that is a miss, always.
 */
#ifndef ASHLAR_ARTCACHE_H
#define ASHLAR_ARTCACHE_H

#include <ashlar/config.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_artcache;

struct ash_artcache_key {
    const void *content; /* NULL if content_len is 0 */
    size_t content_len;
    const void *config; /* likewise */
    size_t config_len;
};

/* What a caller has of an artifact. `data` is aligned to 64 bytes and never written. */
struct ash_artifact {
    const void *data;
    size_t len;
    void *owner; /* the cache's */
};

enum {
    ASH_ARTCACHE_SYNC = 1, /* files and the directory are flushed (fsync) as they are written */
    ASH_ARTCACHE_TRUST = 2 /* sizes and keys of files are checked, not the checksum */
};

struct ash_artcache_config {
    size_t struct_size;  /* of this struct: ASH_ARTCACHE_CONFIG sets it */
    const char *dir;     /* made if it is not there, its parent has to be; NULL: memory alone */
    size_t memory_bytes; /* of artifacts and keys, mapped ones too; 0 for 64 MiB */
    uint64_t disk_bytes; /* 0 for 256 MiB */
    unsigned disk_files; /* 0 for 4096 */
    unsigned flags;      /* ASH_ARTCACHE_..., or-ed */
};

#define ASH_ARTCACHE_CONFIG(...) ASH_CONFIG(struct ash_artcache_config, __VA_ARGS__)

struct ash_artcache_stats {
    uint64_t hits;           /* found in memory */
    uint64_t shared;         /* had by waiting for another caller's build */
    uint64_t disk_hits;      /* found on disk */
    uint64_t builds;         /* that succeeded */
    uint64_t failures;       /* builds that did not */
    uint64_t timeouts;       /* callers that did not wait long enough, or at all */
    uint64_t evictions;      /* left memory for the budget */
    uint64_t disk_evictions; /* files that were removed for a budget */
    uint64_t damaged;        /* files that were removed because they were cut off or damaged */
    uint64_t disk_errors;    /* artifacts that could not be written */
    uint64_t entries;        /* in memory now */
    uint64_t bytes;          /* of these */
    uint64_t in_use;         /* artifacts that were not released yet */
    uint64_t disk_files;     /* as of the last look into the directory, and those written since */
    uint64_t disk_bytes;
};

/*
 * Makes a cache. `name` is copied: 1 to 31 printable ASCII characters without quotes and
 * backslashes; NULL for "artifacts". NULL with EINVAL, ENOMEM, or what the directory could not be
 * opened with. Cost: a look at each file of the directory.
 */
struct ash_artcache *ash_artcache_create(const char *name,
                                         const struct ash_artcache_config *config);

/* Ends it; the files stay. 0, -EBUSY while artifacts are in use or built, -EINVAL for NULL. */
int ash_artcache_destroy(struct ash_artcache *cache);

/*
 * The artifact of `key`, made by `build` if it is nowhere; `build` = NULL looks only. While another
 * thread makes it, waits `timeout_ns` nanoseconds at most (negative: for ever, 0: not at all).
 *
 * `build` sets `*data` to a block from ash_malloc or its family of at least `*len` bytes, which
 * belongs to the cache from then on, or to NULL if `*len` is 0. It returns 0, or a negative errno,
 * which this call returns then (a positive number is -ECANCELED). It may use this cache, but not
 * ask for its own key, which is -EDEADLK. The key that it is given is a copy.
 *
 * 0, and `out` is to be released; -ENOENT if there is nothing and no `build`; -EAGAIN if another
 * thread makes it and `timeout_ns` is 0; -ETIMEDOUT; -EDEADLK; -ENOMEM; -EINVAL; what `build`
 * returned. Failing to write to disk is counted, not told. Cost: in memory about 80 ns for keys of
 * some dozens of bytes; on disk about 10 us, and a pass over the bytes at the first meeting.
 */
int ash_artcache_get_or_build(struct ash_artcache *cache, const struct ash_artcache_key *key,
                              int (*build)(const struct ash_artcache_key *key, void **data,
                                           size_t *len, void *user),
                              void *user, int64_t timeout_ns, struct ash_artifact *out);

/* Gives an artifact back and clears `a`. A cleared one is nothing. */
void ash_artcache_release(struct ash_artcache *cache, struct ash_artifact *a);

/*
 * Forgets a key, in memory and on disk; those who use the artifact keep it. 0, -ENOENT if it was
 * nowhere, -EBUSY while it is being made, -EINVAL.
 */
int ash_artcache_remove(struct ash_artcache *cache, const struct ash_artcache_key *key);

/*
 * Lets memory go of all artifacts that are not in use, and looks through the directory, which
 * removes leftovers of processes that crashed and what is above the budgets. 0 or -EINVAL.
 */
int ash_artcache_trim(struct ash_artcache *cache);

/* Reads the figures: 0, or -EINVAL. */
int ash_artcache_stats(struct ash_artcache *cache, struct ash_artcache_stats *out);

/* Writes them as text: 0, -EINVAL or the errno of the write that failed. */
int ash_artcache_dump(struct ash_artcache *cache, int fd);

#ifdef __cplusplus
}
#endif

#endif
