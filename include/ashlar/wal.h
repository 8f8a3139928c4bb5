/*
 * A write-ahead log: what has to survive a crash is appended to it, and synced before anybody is
 * told.
 *
 *     struct ash_wal *wal;
 *     int status = ash_wal_open("/var/lib/bank/log", NULL, &wal);  // one process at a time
 *     ash_wal_replay("/var/lib/bank/log", redo, bank);             // what was there
 *
 *     struct iovec record[] = {{&head, sizeof head}, {data, len}};
 *     uint64_t lsn;
 *     if (ash_wal_append(wal, record, 2, &lsn) == 0 && ash_wal_sync(wal, lsn) == 0)
 *         tell_the_client();
 *
 * A record's place is its lsn, the number of the byte behind it in all that was ever written; it
 * grows, and records are in the order of their lsns. Appending copies a record into memory, without
 * a system call; the log is then synced for many at once: whoever asks while a sync is under way
 * waits for its end, and one of those who did syncs for all of them (group commit).
 *
 * The log is a directory of segments, files that are written one after the other. A checkpoint is
 * the program's: when all that a range of records says has been saved elsewhere (or written to the
 * log again), ash_wal_truncate drops segments that lie before it.
 *
 * A segment's file has its full size, written with zeroes once, before it becomes one: a sync then
 * changes nothing but the record's bytes, where a file that grows has its new size journaled each
 * time. Files of segments that were dropped are used again. Those who are done with a sync when a
 * quarter of a segment is used make the next one's file, each a small part of it, after its own
 * record and with nobody waiting; ash_wal_prepare makes all of it at a better time. A new log
 * begins with a file of 1 MiB, and each is at most twice as large as the last.
 *
 * Each record has a checksum, and each group of records says up to where the log was synced when it
 * was written. So what a crash leaves at the end, records half written or out of order, is told
 * apart from damage: it ends the log if no later group says that it had been synced.
 *
 * After a write or a sync that failed nothing is acknowledged any more: the kernel may have dropped
 * the data and say nothing the next time (PostgreSQL's "fsyncgate", 2018). Every call answers with
 * that error then; only to open the log anew, which writes what was not known to be synced once
 * more, tells what is there.
 *
 * Functions that return int give 0 or a negative errno, of the system call that failed where there
 * is one.
 *
 * Threads: ash_wal_append, _sync, _truncate, _stats and _dump may be called by any thread at any
 * time; a sync holds nobody up but those who wait for it, until the buffer is full.
 *
 * Cost: a small record some 100 ns, its checksum and its share of a write among them; a sync one
 * write and one fdatasync for all who wait. A sync may wait for those whom the last one served to
 * come back, for an eighth of its time at most. Between a quarter and three of a segment some
 * callers return later by a part of the next file, about the time of another sync; the two that end
 * that file and begin it by three. Memory: two buffers. Files: `spares` and a segment more than the
 * records need.
 *
 * Caveats
 *   The last group before a crash has nobody behind it who says that it was synced: damage to it on
 *   the device is taken for a torn end. ash_wal_close leaves a mark.
 *   Replay shows whole segments, so the first records may be older than what was truncated, and
 *   records that were never synced may be there as well: apply what is not applied yet.
 *   Replay and check of a log that is truncated meanwhile may find a file gone or written anew, and
 *   say -ENOENT or -EBADMSG.
 *   A forked child cannot use its parent's log: all calls answer -EPERM there, but for
 *   ash_wal_close.
 *   The lock is flock(2)'s; on file systems that have none for directories, opening fails.
 */
#ifndef ASHLAR_WAL_H
#define ASHLAR_WAL_H

#include <ashlar/config.h>

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_wal;

struct ash_wal_config {
    size_t struct_size;
    const char *name;     /* for statistics: 1 to 31 printable characters; copied; NULL for "wal" */
    size_t buffer_bytes;  /* of each buffer, and of a record at most; 0 for 1 MiB, 4 KiB to 1 GiB */
    size_t segment_bytes; /* of a file, in time; 0 for 16 MiB, 4 KiB to 1 GiB, in steps of 4 KiB */
    unsigned spares;      /* unused files that are kept; 0 for 2, one of them ahead; 64 at most */
};

#define ASH_WAL_CONFIG(...) ASH_CONFIG(struct ash_wal_config, __VA_ARGS__)

/*
 * Opens the log in the directory `path`, which is made if it is not there (what is above it has to
 * be), clears what a crash left half written, and syncs the rest. -EBUSY: it is open already, here
 * or in another process; -EBADMSG: it is damaged, as ash_wal_check tells, and nothing was changed;
 * -ENOSPC: no room for the first segment; -EINVAL, -ENOMEM. Files of other names are left alone.
 * Cost: reads the last segment; a new log writes its first (1 MiB of zeroes: 3 ms here).
 */
int ash_wal_open(const char *path, const struct ash_wal_config *config, struct ash_wal **wal);

/*
 * Writes and syncs what is left: 0, or why it could not be. Nobody uses it any more. NULL is fine.
 */
int ash_wal_close(struct ash_wal *wal);

/*
 * Takes a record of `n` pieces and says where it is. -EINVAL: no bytes, or what is none;
 * -EMSGSIZE: more than fit into a buffer (64 bytes less than it has); or the error that the log
 * has failed with. Waits when both buffers are full.
 */
int ash_wal_append(struct ash_wal *wal, const struct iovec *pieces, unsigned n, uint64_t *lsn);

/*
 * Returns 0 when all records up to `lsn` are on stable storage, or the error that the log failed
 * with: also -ENOSPC of the next segment's file, before anything in that is acknowledged.
 * UINT64_MAX is all that were appended before the call; beyond the end is -EINVAL.
 */
int ash_wal_sync(struct ash_wal *wal, uint64_t lsn);

/* Up to where it is synced. No call is made. */
uint64_t ash_wal_synced(const struct ash_wal *wal);

/*
 * Drops the segments that have no record behind `lsn`, which is synced (else -EINVAL): their files
 * are kept to be used again, as many as `spares`, or removed; the last one always stays. 0, why a
 * file could not be removed, or the error that the log failed with: also when the directory could
 * not be synced.
 */
int ash_wal_truncate(struct ash_wal *wal, uint64_t lsn);

/*
 * Makes room for the next segment now, if there is none, so that no sync has to: for a thread that
 * has the time, about once while a segment fills. 0, or why there is no room (-ENOSPC ...), after
 * which the log goes on; or the error that it failed with. Cost: a write and an fsync of all of
 * that file (16 MiB: 20 ms here).
 */
int ash_wal_prepare(struct ash_wal *wal);

/*
 * Calls `fn` with every record of the log in `path`, in order, until it returns something else than
 * 0, which is the result then. -EBADMSG when there is damage, behind the records that are in front
 * of it; -ENOENT without a log; -ENOMEM (a segment is read as a whole). The log may be open, and
 * should: then what is shown is on stable storage, and nobody else changes it. `data` is valid in
 * the call, aligned to 8 bytes.
 */
int ash_wal_replay(const char *path,
                   int (*fn)(void *user, uint64_t lsn, const void *data, size_t len), void *user);

/* What is in a log. */
struct ash_wal_report {
    uint64_t segments;
    uint64_t records;
    uint64_t bytes;        /* of the records */
    uint64_t first_lsn;    /* where the first segment begins */
    uint64_t end_lsn;      /* behind the last record that is good */
    uint64_t torn_bytes;   /* behind it, half written in a crash; 0 where a file is used again */
    char damaged_file[32]; /* the name of the segment, which may be missing, or "" */
    uint64_t damaged_at;   /* where in that file */
};

/* Reads all of it: 0; -EBADMSG, and `out` says where; or an error of reading. */
int ash_wal_check(const char *path, struct ash_wal_report *out);

struct ash_wal_stats {
    uint64_t records;  /* appended */
    uint64_t bytes;    /* of those records */
    uint64_t groups;   /* writes */
    uint64_t syncs;    /* calls of fdatasync */
    uint64_t waits;    /* appends that found both buffers full */
    uint64_t segments; /* there now */
    uint64_t removed;  /* segments, by ash_wal_truncate */
    uint64_t recycled; /* segments that it kept for their files */
    uint64_t end_lsn;  /* behind the last record */
    uint64_t synced_lsn;
    uint64_t error; /* the errno that it has failed with, or 0 */
};

int ash_wal_stats(const struct ash_wal *wal, struct ash_wal_stats *out);
int ash_wal_dump(const struct ash_wal *wal, int fd);

#ifdef __cplusplus
}
#endif

#endif
