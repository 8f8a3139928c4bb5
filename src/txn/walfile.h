/*
 * The bytes of a log's segments (ashlar/wal.h), without files and memory.
 *
 *     segment   head (64 bytes) | frames | zeroes, or what the file held before
 *     frame     frame head (16 bytes) | data | zeroes to a multiple of 8
 *     name      the lsn at which it begins in 16 hexadecimal digits, ".wal"
 *
 *  1. A frame is a record, or a mark, which begins each group: up to which lsn the log had been
 *     synced when the group was written.
 *  2. A frame's checksum covers all of it but itself and is seeded by the log's random number and
 *     the frame's lsn, so what is left of another log or another place is no frame, and neither are
 *     zeroes. The frame at lsn x of a segment that begins at lsn b stands at 64 + x - b.
 *  3. Files have their full size, all of it written once, before they become segments, and are used
 *     again (txn/walroom.h). So a segment's frames end where the next one begins, by its name,
 *     whatever is behind them.
 *  4. A place where a frame should be and none is, in the last segment, is the end of the log
 *     unless some mark behind it says that more had been synced: that is damage. Groups that were
 *     not synced reach the device in any order, so good frames behind the place prove nothing; but
 *     they have to go before that place is written again, or they would follow what is there then.
 *     Bytes that are not zero behind it are a torn group, where the file had not been used before.
 *  5. A segment is synced before the next one is made, so in all others every such place is damage.
 *     Each head names the segment in front, so a file that is missing is known.
 *
 * Rejected: one checksum a group (damage to one record takes all of them), a table of places (it
 * would have to be synced too), a last frame that seals a segment (the next one's name says it),
 * and cutting files to their size (used again, they would have to be filled anew).
 */
#ifndef ASH_WALFILE_H
#define ASH_WALFILE_H

#include "base/base.h"

enum { WAL_HEAD = 64, WAL_FRAME = 16, WAL_MARK = 24 };

struct wal_head {
    uint64_t magic;
    uint64_t log;    /* the log's random number, the same in all its segments */
    uint64_t begin;  /* the lsn of the first frame */
    uint64_t before; /* where the segment in front begins; of the first: its own begin */
    uint64_t used;   /* 1: the file held something else before */
    uint64_t rest[2];
    uint64_t sum; /* over all in front of it */
};

struct wal_head wal_head_make(uint64_t log, uint64_t begin, uint64_t before, bool used);
bool wal_head_is_good(const struct wal_head *head);

/* Bytes of a record's frame. */
ASH_INLINE size_t wal_frame_size(size_t len)
{
    return align_up(WAL_FRAME + len, 8);
}

/* Begins a record's frame: its `len` bytes of data go behind WAL_FRAME. */
void wal_frame_open(void *frame, size_t len);

/*
 * Ends a group of `n` bytes at lsn `at`: makes the mark, for which there is room at its beginning,
 * and the checksums of the frames behind it.
 */
void wal_group_close(void *group, size_t n, uint64_t synced, uint64_t log, uint64_t at);

enum wal_found { WAL_RECORD, WAL_END, WAL_TORN, WAL_DAMAGED };

struct wal_scan {
    const unsigned char *bytes; /* the whole segment; aligned to 8 bytes */
    size_t size;
    struct wal_head head;
    size_t at;       /* in the file: behind what was found last */
    size_t left;     /* at the end of the last segment: bytes behind that, to the last but zeroes */
    uint64_t synced; /* by the last mark */
    bool is_last;    /* rule 4 */
    const void *data;
    size_t len;
};

/* False: the head is none. */
bool wal_scan_begin(struct wal_scan *s, const void *bytes, size_t size, bool is_last);

/* The next record, in `data` and `len`; or the end, `at` the place of the torn or damaged frame. */
enum wal_found wal_scan_next(struct wal_scan *s);

ASH_INLINE uint64_t wal_scan_lsn(const struct wal_scan *s)
{
    return s->head.begin + s->at - WAL_HEAD;
}

#endif
