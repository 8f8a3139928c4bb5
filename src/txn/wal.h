/*
 * The log that is written (ashlar/wal.h): two buffers, and one thread at a time that writes.
 *
 *     lsn   ... synced ... written | group being written | group being filled ... end
 *
 *  1. Records are copied into the group being filled, under the lock; the first finds room for the
 *     group's mark in front of it. The bytes of a record are hashed when its group is written.
 *  2. Whoever needs a group written, for a sync or for room, and finds nobody at it, is the writer:
 *     takes the group, leaves the other buffer to be filled, and writes without the lock. Who
 *     comes meanwhile waits for `event`; when the writer is done, one of those whose record was not
 *     in the group is the next writer, for all of them.
 *  3. Those whom a sync has served come back with their next records a moment after the next writer
 *     could begin, and would wait for the one after that: two halves in turns. So who would write
 *     waits for as many callers as there were when the last sync was done, at most for an eighth of
 *     the time that a sync takes; the one that makes them complete writes at once.
 *  4. A group lies in one segment. The segment is synced before the next one is begun
 *     (txn/walroom.h).
 *  5. The first error stays (`failed`): nothing is written or synced after it.
 *  6. Opened, a log is rewritten from its last mark on, byte for byte: a sync that failed may have
 *     left pages in memory that the kernel takes for written.
 *  7. The room for the next segment is filled bit by bit, by callers whose sync is done, while
 *     nobody waits for them: from the segment's first quarter on, so that it is there when three
 *     are used. What fails there is no failure of the log; the writer that needs the room tries
 *     again.
 *
 * Rejected: a thread of its own that writes (a program that does not wait pays two switches for
 * nothing); a fixed wait before each sync (a lone caller pays it for nobody).
 */
#ifndef ASH_WAL_H
#define ASH_WAL_H

#include "ashlar/wal.h"

#include "base/name.h"
#include "os/os_fork.h"
#include "os/os_lock.h"
#include "txn/walread.h"
#include "txn/walroom.h"

enum { WAL_FRAMES_ROOM = 64 }; /* of a buffer, that no record has */

enum {
    COUNT_RECORDS,
    COUNT_BYTES,
    COUNT_GROUPS,
    COUNT_SYNCS,
    COUNT_WAITS,
    COUNT_REMOVED,
    COUNT_RECYCLED,
    COUNTS
};

struct ash_wal {
    size_t buffer_bytes; /* const */
    char name[NAME_CAP]; /* const */
    uint64_t log;        /* const: the log's number */
    struct os_fork fork;
    struct shown *shown; /* const; NULL: there was no memory for it */

    ASH_LINE_ALIGNED struct os_lock lock; /* over the next lines */
    char *fill, *spare;                   /* spare is the writer's while it writes */
    uint64_t fill_begin;                  /* lsn */
    size_t fill_len;                      /* 0, or the mark's room and frames */
    bool writing, removing;               /* somebody is the writer, or truncates */
    bool busy;                            /* somebody is at the room */
    bool is_child;                        /* of the process that opened it */
    unsigned waiters;                     /* asleep */
    unsigned callers, expected; /* in ash_wal_sync: now, and when the last sync was done */
    int64_t sync_ns;            /* that a sync takes, about */
    int failed;                 /* 0 or the first error */
    struct wal_list segments;
    struct wal_room room; /* whoever is busy with it; when nobody is, under the lock */

    int fd;                   /* of the last segment: the writer changes it, under the lock */
    uint64_t begin;           /* where that begins: the same */
    uint64_t size;            /* of its file: the same */
    uint64_t written;         /* the writer: lsn */
    bool marked;              /* the writer: nothing follows the last mark */
    _Atomic(uint64_t) synced; /* atomic: lsn; the writer sets it, anyone reads */
    ASH_LINE_ALIGNED _Atomic(uint32_t) event; /* atomic: changes when somebody is done */
    _Atomic(uint64_t) count[COUNTS];          /* atomic: written under the lock, anyone reads */
};

ASH_INLINE uint64_t wal_end(const struct ash_wal *w)
{
    return w->fill_begin + w->fill_len;
}

/* Takes the group and writes it. The lock is held, before and after, and nobody writes. */
void wal_write(struct ash_wal *w, bool sync);

#endif
