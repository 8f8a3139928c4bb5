/*
 * A thread's heap: its caches of free blocks, its slabs, its counters. One thread at a time uses a
 * heap; when the thread ends, the heap waits for the next one. Heaps are never given back, so a
 * pointer to one is good for ever.
 *
 * Counters have one writer, the heap's thread. Of a class,
 *   length of the list  L = cap - room
 *   allocations           = hits + misses
 *   frees                 = L + hits - taken + flushed + direct
 * since the list grows by blocks taken from slabs and blocks freed, and shrinks by hits and by
 * blocks flushed; a miss hands its block over without putting it on the list. So frees are counted
 * without being counted.
 *
 * Class 0 stands for large blocks: misses are allocations, `direct` are frees, `taken` and
 * `flushed` count the bytes of the two.
 */
#ifndef ASH_HEAP_H
#define ASH_HEAP_H

#include "heap/slab.h"
#include "info/options.h"

/*
 * One size class of the thread's cache: a last-in first-out list and one word
 *      hits : 48 | 0x8000 - room : 16
 * whose bit 15 says that the list is full. Bit 29, set for every other run of 8192 hits, says that
 * it is time to look at the clock: freeing tests both bits at once, so that a program which never
 * misses still gives memory back. The slow path then moves the hits that the bit stands for to
 * heap_class.hits.
 */
struct bin {
    struct block *head;     /* owner */
    _Atomic(uint64_t) word; /* owner writes, statistics read */
};

_Static_assert(sizeof(struct bin) == CLASS_STRIDE, "the hit paths scale a class once");

#define BIN_BLOCK ((uint64_t)1)
#define BIN_FULL  ((uint64_t)1 << 15)
#define BIN_HIT   ((uint64_t)1 << 16)
#define BIN_TICK  ((uint64_t)1 << 29)

/* The rest of a class, which the hit paths do not touch. Counters: single writer. */
struct heap_class {
    ASH_LINE_ALIGNED struct slab *partial; /* owner: slabs with free blocks, the one in use first */
    struct slab *full;                     /* owner: slabs without */
    struct slab *returned; /* owner: slabs off the inbox, not yet collected, linked by `link` */
    struct block *spare;   /* owner: a second list, of spare_count blocks */
    _Atomic(uint32_t) spare_count;
    _Atomic(uint32_t) cap;  /* owner: the length that the list may reach; 0 before the first use */
    uint32_t batch;         /* owner: blocks that the next refill takes */
    uint32_t missed;        /* owner: a miss since the list was last full */
    _Atomic(uint64_t) hits; /* those that have left the list's word */
    _Atomic(uint64_t) misses;       /* allocations by the slow path */
    _Atomic(uint64_t) taken;        /* blocks from slabs to the list */
    _Atomic(uint64_t) flushed;      /* blocks from the list back to slabs */
    _Atomic(uint64_t) direct;       /* blocks freed past the list */
    _Atomic(uint64_t) remote_frees; /* blocks sent to a slab that is another heap's, or none's */
    _Atomic(uint64_t) created;      /* slabs */
    _Atomic(uint64_t) released; /* slabs; a slab may be released by another heap than its creator */
    uint64_t seen;              /* owner: activity at the last idle check */
};

struct heap {
    struct bin bin[CLASS_COUNT];
    uint32_t id;             /* const: index in heap_table */
    uint32_t events;         /* owner: slow paths since the last look at the clock */
    uint64_t epoch;          /* owner: the last housekeeping round it took part in */
    struct hard *hard;       /* owner: what hardened mode keeps */
    struct sampler *sampler; /* owner: what the heap profile keeps */
    char *classes;           /* const: the first group of its classes; see heap_class */
    size_t stride;           /* const: bytes from each group to the next */
    /* atomic: slabs with remote frees, unit + 1; see remote.h */
    ASH_LINE_ALIGNED _Atomic(uint32_t) inbox;
};

/*
 * Classes are kept in groups, and the groups of one range of classes of several heaps side by side:
 * a thread that uses a few classes touches a part of a page, not pages of its own.
 */
enum {
    CLASS_GROUP = 4,
    CLASS_GROUPS = (CLASS_COUNT + 2 * CLASS_GROUP - 2) / CLASS_GROUP,
    CLASS_GROUP_BYTES = CLASS_GROUP * sizeof(struct heap_class)
};

_Static_assert(CLASS_GROUP_BYTES % ASH_CACHE_LINE == 0,
               "no line of a group is shared by two heaps");

/* What a wrong pointer holds. */
#define HOLDS_NONE SIZE_MAX

enum {
    HEAPS_MAX = 1 << 18,
    EVENTS_PER_LOOK = 64 /* slow paths between two looks at the clock */
};

/*
 * What a thread has before its first slow path, and after its end: the lists of a heap, all empty,
 * no room anywhere. The rest of a heap is not there, but its alignment is.
 */
extern ASH_HIDDEN ASH_LINE_ALIGNED const struct bin heap_none[CLASS_COUNT];
extern ASH_HIDDEN ASH_LINE_ALIGNED const struct bin heap_ended[CLASS_COUNT];

#define HEAP_NONE  ((struct heap *)(uintptr_t)heap_none)
#define HEAP_ENDED ((struct heap *)(uintptr_t)heap_ended)

extern ASH_HIDDEN ASH_TLS struct heap *heap_tls;  /* the one that the hit paths use */
extern ASH_HIDDEN ASH_TLS struct heap *heap_hard; /* in hardened mode, whose hit paths use none */

/*
 * Counters of frees by threads without a heap, and nothing else: several writers, locked adds.
 */
extern ASH_HIDDEN struct heap_class heap_late[CLASS_COUNT];

extern ASH_HIDDEN _Atomic(struct heap *) heap_table[HEAPS_MAX];

/* The rest of a class of a real heap. */
ASH_INLINE struct heap_class *heap_class(const struct heap *h, unsigned cls)
{
    unsigned place = cls + CLASS_GROUP - 1; /* class 0 is alone, the others begin a group */
    char *group = h->classes + place / CLASS_GROUP * h->stride;
    return (struct heap_class *)group + place % CLASS_GROUP;
}

ASH_INLINE struct heap *heap_self(void)
{
    return heap_tls;
}

ASH_INLINE bool heap_is_real(const struct heap *h)
{
    return h != HEAP_NONE && h != HEAP_ENDED;
}

/* The thread's heap for slow paths: the same, but for hardened mode. */
ASH_INLINE struct heap *heap_attached(void)
{
    return ASH_UNLIKELY(options.harden) ? heap_hard : heap_tls;
}

/* Counts `n` on the counter `field` of class `cls`, whether the thread has a heap or not. */
#define heap_count_up(h, cls, field, n)                                                            \
    (ASH_LIKELY(heap_is_real(h)) ? counter_add(&heap_class(h, cls)->field, (n))                    \
                                 : (void)add_relaxed(&heap_late[cls].field, (n)))

/* Heaps made so far: the bound of walks over heap_table, whose entries may be NULL for a moment. */
unsigned heap_count(void);

/*
 * A heap for the calling thread, or for a single call in a thread that has ended; NULL: no memory.
 */
struct heap *heap_open(void);

/* Opens the heap `id` if it is closed; false when another thread was faster, or it is in use. */
bool heap_reopen(unsigned id);

/* Puts a heap that holds nothing any more up for the next thread. */
void heap_close(struct heap *h);

/* The list of a class, which is given times CLASS_STRIDE. */
ASH_INLINE struct bin *heap_bin(struct heap *h, size_t scaled)
{
    return (struct bin *)((char *)h->bin + scaled);
}

/* Heaps in use. */
unsigned heap_open_count(void);

#endif
