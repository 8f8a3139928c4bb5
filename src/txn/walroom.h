/*
 * The files of a log (ashlar/wal.h): room for its segments, made before it is needed.
 *
 *     N.wal      a segment (txn/walfile.h)
 *     N.spare    a file of full size to become one: 0 to `spares` - 1
 *     new.tmp    a spare that is being filled
 *
 *  1. A spare was filled with zeroes and synced, or was a segment that is not needed any more. So
 *     to write and sync a group changes nothing but its bytes: the size and the places on the
 *     device are known, and the file system's journal is left alone.
 *  2. A spare becomes a segment by its head, a sync, its new name, and a sync of the directory, in
 *     this order, before anything is written to it.
 *  3. A segment becomes a spare, or is removed, by its name and a sync of the directory: after any
 *     crash the segments that are left follow each other.
 *  4. What is in a spare does not matter (rule 2 of txn/walfile.h): one that a crash has left is
 *     taken by its size.
 *  5. One thread at a time calls these functions: whoever has made `busy` of struct ash_wal true.
 *  6. What is filled goes to the device at once, and the sync that makes it a spare is a step of
 *     its own, later: it finds nothing to write but the file's size and places. (All in one step
 *     took 11 ms of 16 MiB.)
 *  7. A new log begins with a file of 1 MiB, and each is at most twice the size of the last, up to
 *     `segment_bytes`: who makes a log does not wait for the full size.
 *
 * Measured on ext4, 100 bytes and 64 KiB written and synced behind those before, in turns, the
 * fastest tenth: a file that grows 285 and 366 us; zeroes 191 and 175; fallocate 169 and 179, but
 * in the mean a tenth slower with 64 KiB, since each unwritten place is journaled when it is first
 * written; pwritev2 with RWF_DSYNC 189 and 168, no gain; O_DIRECT with O_DSYNC 196 and 152, for
 * which groups would have to begin and end at blocks. FALLOC_FL_WRITE_ZEROES was not supported. A
 * record appended and synced took 121 and 210 us where, in turns, a file that grows took 168 and
 * 422.
 */
#ifndef ASH_WALROOM_H
#define ASH_WALROOM_H

#include "txn/walfile.h"

struct wal_room {
    int dir;              /* const: a descriptor */
    size_t segment_bytes; /* const */
    unsigned most;        /* const: spares that are kept */
    unsigned spares;
    size_t bytes;      /* of the last segment's file */
    size_t next_bytes; /* of new.tmp, when it is full */
    int fd;            /* of new.tmp, or -1 */
    size_t at;         /* so many bytes of it are zeroes */
    bool refused;      /* the last try to fill one failed */
    int failed;        /* why names could not be synced: the log fails with that */
};

/* Looks for spares, and removes what is none. */
int wal_room_open(struct wal_room *r);

/* Rule 6: fills new.tmp up to its first `upto` bytes, or makes a spare of it if it is full. */
int wal_room_step(struct wal_room *r, size_t upto);

/* All steps, if there is no spare. */
int wal_room_make(struct wal_room *r);

/* The last segment's file has so many bytes: rule 7. */
void wal_room_follow(struct wal_room *r, size_t bytes);

/*
 * Rule 2: the descriptor of the segment at lsn `begin`. Makes a spare if there is none. -EOVERFLOW:
 * no log gets that far.
 */
int wal_room_take(struct wal_room *r, uint64_t log, uint64_t begin, uint64_t before);

/* Rule 3. 1: it is a spare now; 0: it is gone; or why neither. */
int wal_room_give(struct wal_room *r, uint64_t begin);

void wal_room_close(struct wal_room *r);

/* Writes zeroes to a file from a place to another. */
int wal_zero(int fd, uint64_t from, uint64_t to);

#endif
