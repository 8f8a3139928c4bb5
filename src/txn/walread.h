/*
 * Reading logs: which segments there are, and what is in them. See txn/walfile.h for the format.
 *
 * A log may be read while it is written. Its last segment is not read in one instant, so a group
 * can be missing in what was read and a later one be there, with a mark that says that the first
 * one was synced. It was then, so it is there when the segment is read again; what is not is
 * damage.
 */
#ifndef ASH_WALREAD_H
#define ASH_WALREAD_H

#include "ashlar/wal.h"
#include "txn/walfile.h"

enum { WAL_NAME = 24 };

void wal_name(char out[WAL_NAME], uint64_t begin);

/* The segments of a log, by the lsn at which they begin, in order. */
struct wal_list {
    uint64_t *begin; /* ash_malloc's */
    unsigned count, room;
    bool failed; /* no memory */
};

int wal_list_add(struct wal_list *list, uint64_t begin); /* 0 or -ENOMEM */
void wal_list_drop(struct wal_list *list);               /* the first */
int wal_list_read(struct wal_list *list, int dir);
void wal_list_free(struct wal_list *list);

/*
 * Reads a segment, to where the next one begins when it is not taken for the last, for ash_free,
 * and begins to scan it; -EBADMSG: it is none.
 */
int wal_load(struct wal_scan *s, int dir, const struct wal_list *list, unsigned i, bool is_last);

#endif
