/*
 * Results of pure calls: a bounded map from (function, arguments) to result, both of them bytes.
 *
 *     struct ash_callcache *calls = ash_callcache_create("calls", NULL);
 *     size_t n = sizeof result;
 *     if (ash_callcache_get(calls, FIB, &x, sizeof x, &result, &n) != 0) {
 *         result = fib(x);
 *         ash_callcache_put(calls, FIB, &x, sizeof x, &result, sizeof result, 0);
 *     }
 *
 * Functions are numbers of the program's own choice. Arguments are compared byte for byte; the hash
 * alone never decides, and it is seeded anew for each cache. Results are copied in and out, so no
 * result is ever freed under its reader.
 *
 * What is not in use goes first: entries are kept in the order they came; when room is needed the
 * oldest is dropped, unless it was read since it came (or since it was last spared): then it counts
 * as new. This is second chance, or CLOCK: it does as well as least recently used and needs no
 * write when an entry that was read already is read again (F. J. Corbato, A Paging Experiment with
 * the Multics System, 1968). A result also ends with its time to live, 300 s unless told otherwise.
 *
 * Threads: every function may be called by any thread at any time. The cache is made of shards.
 * Readers take no lock: they read, and look whether a writer was at the shard meanwhile; after
 * a few vain attempts they take its lock, as writers do. A forked child goes on with a copy.
 *
 * Caveats:
 *  - A result that was computed before ash_callcache_invalidate and is put after it stays. Where a
 *    function's meaning changes, give it a new number, and invalidate the old one for the memory.
 *  - Padding in structs is part of the arguments: clear it, or every call is a miss.
 *  - Times are those of the coarse clock: a result may live some milliseconds longer.
 *  - A shard holds 1 / `shards` of the bytes and entries, and is full by itself.
 *  - The bytes are taken when the cache is made, and touched as they are first used.
 *  - Not for signal handlers.
 */
#ifndef ASHLAR_CALLCACHE_H
#define ASHLAR_CALLCACHE_H

#include <ashlar/config.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_callcache;

struct ash_callcache_config {
    size_t struct_size; /* of this struct: ASH_CALLCACHE_CONFIG sets it */
    size_t max_bytes;   /* entries and index; 0 for 16 MiB. At least 4 KiB a shard */
    unsigned
        max_entries; /* 0 for one for each 256 bytes; the index takes 11 to 22 bytes for each */
    unsigned shards; /* a power of two up to 256; 0 for 16, or fewer in a small cache */
    int64_t ttl_ns;  /* 0 for 300 s, negative for ever */
};

#define ASH_CALLCACHE_CONFIG(...) ASH_CONFIG(struct ash_callcache_config, __VA_ARGS__)

struct ash_callcache_stats {
    uint64_t hits;        /* found */
    uint64_t misses;      /* not found, or expired */
    uint64_t expired;     /* of these, found too late */
    uint64_t puts;        /* results that were taken */
    uint64_t refused;     /* that were too large */
    uint64_t evictions;   /* dropped to make room, expired or not */
    uint64_t spared;      /* not dropped, since they had been read */
    uint64_t invalidated; /* dropped by ash_callcache_invalidate and the like */
    uint64_t entries;     /* now, expired ones among them */
    uint64_t max_entries;
    uint64_t bytes;     /* in use by entries, those that were replaced not long ago among them */
    uint64_t max_bytes; /* for entries */
};

/*
 * Makes a cache. `name` is copied: 1 to 31 printable ASCII characters without quotes and
 * backslashes; NULL for "calls". NULL with EINVAL or ENOMEM.
 */
struct ash_callcache *ash_callcache_create(const char *name,
                                           const struct ash_callcache_config *config);

/* Ends it: no other call may be under way. 0, or -EINVAL for NULL. */
int ash_callcache_destroy(struct ash_callcache *cache);

/*
 * Looks for the result of `function` with the `args_len` bytes at `args` (NULL if none). `*len`
 * says how many bytes `result` takes, and then how many there are.
 *
 * 0; -ENOENT when it is not there; -ENOBUFS when it is longer than `*len`, which says then how
 * long; -EINVAL. Unless it is 0, what `result` holds is not defined. Cost: about 30 ns for short
 * arguments and results in the processor's caches.
 */
int ash_callcache_get(struct ash_callcache *cache, uint64_t function, const void *args,
                      size_t args_len, void *result, size_t *len);

/*
 * Keeps a result, in place of an earlier one with these arguments. `ttl_ns`: 0 for the cache's,
 * negative for ever. 0; -EFBIG when it is larger than a quarter of a shard, and the earlier one is
 * gone then; -EINVAL. Cost: about 90 ns, others dropped
 * for it included.
 */
int ash_callcache_put(struct ash_callcache *cache, uint64_t function, const void *args,
                      size_t args_len, const void *result, size_t len, int64_t ttl_ns);

/* Drops one result: 0, -ENOENT when it is not there, -EINVAL. */
int ash_callcache_invalidate(struct ash_callcache *cache, uint64_t function, const void *args,
                             size_t args_len);

/*
 * Drops all results of `function` whose arguments begin with the `len` bytes at `prefix`; with
 * `len` 0 those are all. How many, or -EINVAL. Cost: a walk over the cache, some 10 ns an entry.
 */
int64_t ash_callcache_invalidate_prefix(struct ash_callcache *cache, uint64_t function,
                                        const void *prefix, size_t len);

/* Drops everything: how many, or -EINVAL. */
int64_t ash_callcache_clear(struct ash_callcache *cache);

/* Reads the figures: 0, or -EINVAL. */
int ash_callcache_stats(struct ash_callcache *cache, struct ash_callcache_stats *out);

/* Writes them as text: 0, -EINVAL or the errno of the write that failed. */
int ash_callcache_dump(struct ash_callcache *cache, int fd);

#ifdef __cplusplus
}
#endif

#endif
