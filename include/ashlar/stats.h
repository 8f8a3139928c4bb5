/*
 * Statistics of the allocator: what the program allocated, from where it was served, and where the
 * memory is.
 *
 * The counters are always on and the same in every build. All byte figures are bytes, all times
 * nanoseconds, all others counts of blocks, calls or things.
 *
 * Where the memory is:
 *
 *     used_bytes >= slab_bytes + large_live_bytes
 *     slab_bytes >= (live_bytes - large_live_bytes) + cached_bytes + slab_free_bytes
 *
 * (the differences are the ends of large blocks and of slabs, too small for a block, and blocks on
 * their way from one thread to another). Of the memory that the program does not use,
 * slab_free_bytes is fragmentation: it returns to the system only when a whole slab becomes free.
 * dirty_bytes is memory that waits to be purged: it is in no use at all, stays resident for
 * ASHLAR_PURGE_MS to be used again cheaply, and then goes back. purge_ns is what giving it back has
 * cost.
 *
 * Threads: every function may be called from any thread at any time and takes no lock. The two that
 * read are also async-signal-safe, and so is ash_stats_dump.
 *
 * Caveats:
 *  - Each counter has one writer and readers add them up, so while other threads run, figures read
 *    together are a moment apart: hits + misses - frees may differ from live_blocks then. At rest
 *    the sums are exact.
 *  - live_bytes counts what blocks occupy, not what was asked for: malloc(65) counts as its class,
 *    128 bytes by default.
 *  - An allocation counts once it succeeded, and realloc counts as an allocation and a free where
 *    the block moves.
 *  - Large blocks are in no class: only the totals hold them, as misses.
 *  - The set of classes depends on ASHLAR_GRAIN; take sizes from ash_stats_class, not from an
 *    earlier run.
 *  - struct ash_stats grows at its end in later versions; struct_size keeps old programs right.
 */
#ifndef ASHLAR_STATS_H
#define ASHLAR_STATS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Totals of the process. */
struct ash_stats {
    size_t struct_size;         /* set by the caller: sizeof(struct ash_stats) */
    uint64_t hits;              /* allocations served from the thread's own cache */
    uint64_t misses;            /* all other allocations, large ones among them */
    uint64_t frees;             /* blocks freed */
    uint64_t live_blocks;       /* hits + misses - frees */
    uint64_t live_bytes;        /* what those blocks occupy, large ones among them */
    uint64_t large_live_blocks; /* blocks beyond the largest class (64 KiB) */
    uint64_t large_live_bytes;
    uint64_t cached_bytes;    /* free, in threads' caches: next to be handed out */
    uint64_t slab_free_bytes; /* free, beside live blocks in slabs: fragmentation */
    uint64_t slab_bytes;      /* slabs as a whole */
    uint64_t used_bytes;      /* slabs and large blocks; the figure that a limit bounds */
    uint64_t peak_bytes;      /* the most that used_bytes was */
    uint64_t dirty_bytes;     /* in no use, still resident, waiting to be purged */
    uint64_t mapped_bytes;    /* address space for all of the above; resident or not */
    uint64_t meta_bytes;      /* the allocator's own records */
    uint64_t purged_bytes;    /* returned to the system, in sum */
    uint64_t purges;          /* calls that returned it */
    uint64_t purge_ns;        /* time spent in those calls */
    uint64_t remote_frees; /* blocks sent home to a slab that their thread does not own, <= frees */
    uint64_t orphan_slabs; /* slabs that no thread owns: of ended ones, or shared by many */
    uint64_t threads;      /* threads that have a heap */
    uint64_t limit_bytes;  /* ASHLAR_LIMIT or ash_limit_set; 0 for none */
    uint64_t limit_hits;   /* allocations refused because of it */
};

/* One size class. */
struct ash_class_stats {
    size_t size;   /* bytes in a block */
    uint64_t hits; /* as in struct ash_stats, of this class alone */
    uint64_t misses;
    uint64_t frees;
    uint64_t live; /* blocks in the program's hands: hits + misses - frees */
    uint64_t remote_frees;
    uint64_t slabs;    /* slabs of this class, those of other threads and orphans too */
    uint64_t capacity; /* blocks that they hold, live or free */
    uint64_t cached;   /* free blocks in threads' caches */
};

enum ash_format {
    ASH_TEXT,      /* a table to read */
    ASH_JSON,      /* one object: format, pid, totals, classes (an array; classes in use only) */
    ASH_PROMETHEUS /* text exposition format: ashlar_*, classes labelled {size="64"} */
};

/*
 * Reads the totals into `out`, whose struct_size says how large it is: no more than that is
 * written, and a field that this version does not know is left as it was.
 *
 * Returns 0, or -EINVAL when `out` is NULL or struct_size does not even hold the first counter.
 * Cost: a walk over the threads and their classes, some microseconds for a few threads.
 *
 *     struct ash_stats s;
 *     s.struct_size = sizeof s;
 *     if (ash_stats_get(&s) == 0)
 *         printf("%llu live\n", (unsigned long long)s.live_bytes);
 */
int ash_stats_get(struct ash_stats *out);

/*
 * Reads one size class into `out`. Classes are numbered from 0 in ascending order of size.
 *
 * Returns 0, or -EINVAL when `cls` is past the last class or `out` is NULL. Cost: a walk over the
 * threads.
 *
 *     struct ash_class_stats c;
 *     for (unsigned cls = 0; ash_stats_class(cls, &c) == 0; cls++)
 *         ...
 */
int ash_stats_class(unsigned cls, struct ash_class_stats *out);

/*
 * Writes all statistics to the descriptor `fd`. Classes that have never been used are left out.
 *
 * Returns 0, -EINVAL when `format` is none of the three, or the negative errno of the write that
 * failed (part of the text may be out then). errno is kept. Nothing is allocated. Cost: up to a
 * millisecond, and a write for every 2 KiB of text; a pipe without a reader raises SIGPIPE, as with
 * write().
 */
int ash_stats_dump(int fd, enum ash_format format);

/*
 * Named things of the program's own, shown with the statistics in every format: a table behind the
 * classes, an array in JSON, ashlar_SINGULAR_COLUMN{name="N"} for Prometheus. libashlar-layers
 * shows its pools and caches this way.
 */
enum { ASH_STATS_NAME = 32, ASH_STATS_VALUES = 20 };

enum ash_stats_type { ASH_STATS_COUNTER, ASH_STATS_GAUGE };
enum ash_stats_unit { ASH_STATS_COUNT, ASH_STATS_BYTES, ASH_STATS_NS };

struct ash_stats_column {
    const char *name; /* lower case letters, digits, underscores */
    const char *help; /* a sentence */
    enum ash_stats_type type;
    enum ash_stats_unit unit;
};

struct ash_stats_kind {
    const char *plural;   /* written as a column's name is: the table's heading, the array's name */
    const char *singular; /* in Prometheus names */
    const struct ash_stats_column *columns;
    size_t count; /* of columns, 1 to ASH_STATS_VALUES */
    /*
     * Reads a thing from `*at` on, which is 0 at first, into `name` (printable ASCII without quotes
     * and backslashes, NUL-terminated) and a value for each column, and sets `*at` behind it: 1, or
     * 0 when there is none. It may be called at any time by any thread, in a signal handler too,
     * so it takes no lock and allocates nothing.
     */
    int (*next)(size_t *at, char name[ASH_STATS_NAME], uint64_t values[ASH_STATS_VALUES]);
};

/*
 * Adds a kind of things for the life of the process; `kind` and all it points to stay. Once for
 * each. 0, -EINVAL when it is not as described above, or -ENOMEM.
 */
int ash_stats_add(const struct ash_stats_kind *kind);

#ifdef __cplusplus
}
#endif

#endif
