/*
 * An isolated heap: a region that holds a struct iso, its image, and its record, which is all that
 * a restore does not put back; and what is told of heaps: names, statistics, which one a pointer
 * belongs to. Records are never returned, so that statistics may read them at any time; a destroyed
 * heap's serves the next one.
 */
#ifndef ASH_ISOVIEW_H
#define ASH_ISOVIEW_H

#include "ashlar/heap.h"
#include "base/atomic.h"
#include "base/name.h"
#include "pool/iso.h"
#include "pool/snapshot.h"
#include "run/emit.h"

enum { ISOHEAP_NAME = NAME_CAP, ISOHEAP_BYTES_MIN = 64 * 1024 };
#define ISOHEAP_BYTES_MAX (32 * GIB)
/* Growth beyond the image is cleared up to this size, and given back to the system above it. */
#define ISOHEAP_KEEP (256 * KIB)

/* What other threads may see, as of the last slow call; each has one writer. */
struct isoheap_seen {
    _Atomic(uint64_t) live_bytes, used_bytes, image_bytes, dirty_pages;
    _Atomic(uint64_t) restores, fallbacks, mismatches, refused;
};

struct ash_heap {
    struct ash_heap *link;   /* const once pushed: the record made before */
    _Atomic(uint64_t) state; /* atomic: generation and two bits, see isoview.c */
    _Atomic(uint64_t) name[ISOHEAP_NAME / sizeof(uint64_t)]; /* atomic: under `state` */
    _Atomic(uint64_t) place; /* atomic: region's first 4 KiB page << 28 | its pages; 0: none */
    struct isoheap_seen seen;
    struct iso *iso;       /* const while the heap exists, as all up to the image */
    unsigned char *region; /* whole pages around iso */
    size_t region_bytes;
    size_t limit;
    unsigned flags;
    struct snapshot snapshot; /* owner */
    size_t image_bytes;       /* owner: of the stretch at the snapshot, 0 without one */
};

extern ASH_HIDDEN struct emit_kind heaps_kind;

/* A record of no heap, for the caller alone; NULL: no memory. */
struct ash_heap *isoview_take(void);
void isoview_give(struct ash_heap *h);

/* The heap exists, with its region, from here to there; others may see it. */
void isoview_open(struct ash_heap *h, const char name[ISOHEAP_NAME]);
void isoview_close(struct ash_heap *h);

/* The heap's name, for messages of its owner. */
void isoview_name(const struct ash_heap *h, char out[ISOHEAP_NAME]);

/*
 * Whether `p` points into the heap's region, also of a heap that may be gone; and the heap whose
 * region it is, NULL for none. Any thread. The heap that `p` is of is not destroyed meanwhile.
 */
bool isoview_holds(const struct ash_heap *h, const void *p);
struct ash_heap *isoview_find(const void *p);

/* ash_heap_free, which tells what the block held; 0: nothing was freed. */
ASH_NOINLINE size_t isoheap_free(struct ash_heap *h, void *p);

/* Shows others the figures of now. */
void isoview_update(struct ash_heap *h);

#endif
