#include "txn/wal.h"

#include "os/os_clock.h"
#include "os/os_dir.h"
#include "os/os_file.h"
#include "os/os_wait.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define SLICE      (64 * KIB)
#define SLICE_MOST MIB

enum { COMPANY_PART = 8 };

/* ---- who does what ---- */

/* Until somebody is done, or for some time. The lock is held, before and after. */
static void wait_for_event(struct ash_wal *w, int64_t timeout_ns)
{
    uint32_t event = load_relaxed(&w->event);
    w->waiters++;
    os_unlock(&w->lock);
    os_wait(&w->event, event, timeout_ns);
    os_lock(&w->lock);
    w->waiters--;
}

static void tell_event(struct ash_wal *w)
{
    if (w->waiters > 0) {
        add_relaxed(&w->event, 1); /* under the lock, as is its reading */
        os_wake(&w->event, UINT_MAX);
    }
}

/* The lock is held, and given back; the room is the caller's. */
static void room_enter(struct ash_wal *w)
{
    while (w->busy)
        wait_for_event(w, -1);
    w->busy = true;
    os_unlock(&w->lock);
}

/* The lock is held afterwards. */
static void room_leave(struct ash_wal *w)
{
    os_lock(&w->lock);
    w->busy = false;
    tell_event(w);
}

/* ---- writing ---- */

/* Rule 4. A fork finds a descriptor that is open. */
static int next_segment(struct ash_wal *w)
{
    int status = load_relaxed(&w->synced) < w->written ? os_dir_sync_data(w->fd) : 0;
    if (status != 0)
        return status;
    os_lock(&w->lock);
    room_enter(w);
    int fd = wal_room_take(&w->room, w->log, w->written, w->begin);
    room_leave(w);
    int old = w->fd;
    if (fd >= 0) {
        w->fd = fd;
        w->begin = w->written;
        w->size = w->room.bytes;
        status = wal_list_add(&w->segments, w->begin);
    }
    os_unlock(&w->lock);
    if (fd < 0)
        return fd;
    store_release(&w->synced, w->written); /* as in write_group */
    os_close(old);
    return status;
}

/* Without the lock: rule 2. */
static int write_group(struct ash_wal *w, char *group, size_t n, bool sync)
{
    int status = 0;
    uint64_t size = w->written - w->begin;
    if (n > 0 && size > 0 && WAL_HEAD + size + n > w->size)
        status = next_segment(w);
    if (n > 0 && status == 0) {
        wal_group_close(group, n, load_relaxed(&w->synced), w->log, w->written);
        status = os_dir_write_at(w->fd, group, n, WAL_HEAD + w->written - w->begin);
    }
    if (status == 0) {
        w->written += n;
        w->marked = n == WAL_MARK || (w->marked && n == 0);
    }
    if (sync && status == 0)
        status = os_dir_sync_data(w->fd);
    if (sync && status == 0) /* release: what callers do after; pairs with ash_wal_sync */
        store_release(&w->synced, w->written);
    return status;
}

void wal_write(struct ash_wal *w, bool sync)
{
    char *group = w->fill;
    size_t n = w->fill_len;
    w->writing = true;
    w->fill = w->spare;
    w->spare = group; /* at once: a child that is forked meanwhile has each of them once */
    w->fill_begin += n;
    w->fill_len = 0;
    counter_add(&w->count[COUNT_GROUPS], n > 0);
    counter_add(&w->count[COUNT_SYNCS], sync);
    os_unlock(&w->lock);
    int64_t from = (int64_t)os_clock_ns();
    int status = write_group(w, group, n, sync);
    int64_t took = (int64_t)os_clock_ns() - from;
    os_lock(&w->lock);
    if (sync) {
        w->sync_ns += (took - w->sync_ns) / 4;
        w->expected = w->callers;
    }
    w->writing = false;
    if (w->failed == 0)
        w->failed = status;
    tell_event(w);
}

/* Has room made for a frame of so many bytes, and for a mark. The lock is held. */
static int make_room(struct ash_wal *w, size_t n)
{
    while (w->failed == 0 && w->fill_len + WAL_MARK + n > w->buffer_bytes) {
        if (w->writing) {
            counter_add(&w->count[COUNT_WAITS], 1);
            wait_for_event(w, -1);
        } else {
            wal_write(w, false);
        }
    }
    return w->failed;
}

static void copy_pieces(char *to, const struct iovec *pieces, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (pieces[i].iov_len > 0) {
            memcpy(to, pieces[i].iov_base, pieces[i].iov_len);
            to += pieces[i].iov_len;
        }
}

ASH_API int ash_wal_append(struct ash_wal *w, const struct iovec *pieces, unsigned n, uint64_t *lsn)
{
    size_t len = 0;
    if (w == NULL || pieces == NULL)
        return -EINVAL;
    for (unsigned i = 0; i < n; i++) {
        if (pieces[i].iov_len > w->buffer_bytes - WAL_FRAMES_ROOM - len)
            return -EMSGSIZE;
        if (pieces[i].iov_base == NULL && pieces[i].iov_len > 0)
            return -EINVAL;
        len += pieces[i].iov_len;
    }
    if (len == 0)
        return -EINVAL;
    os_lock(&w->lock);
    int status = make_room(w, wal_frame_size(len));
    if (status == 0) {
        if (w->fill_len == 0)
            w->fill_len = WAL_MARK;
        char *frame = w->fill + w->fill_len;
        wal_frame_open(frame, len);
        copy_pieces(frame + WAL_FRAME, pieces, n);
        w->fill_len += wal_frame_size(len);
        if (lsn != NULL)
            *lsn = wal_end(w);
        counter_add(&w->count[COUNT_RECORDS], 1);
        counter_add(&w->count[COUNT_BYTES], len);
    }
    os_unlock(&w->lock);
    return status;
}

/* ---- the room that comes next ---- */

/* Rule 7: so much of the next segment's room should be there now. The lock is held. */
static size_t room_due(const struct ash_wal *w)
{
    uint64_t used = w->fill_begin - w->begin, quarter = w->size / 4;
    return used <= quarter ? 0 : 2 * (used - quarter) * w->room.next_bytes / w->size;
}

/* The lock is held, before and after. */
static void prepare_some(struct ash_wal *w)
{
    if (w->busy || w->room.refused || w->room.spares > 0)
        return;
    size_t at = w->room.at, due = size_min(room_due(w), w->room.next_bytes);
    if (due == 0 || (at >= due && at < w->room.next_bytes))
        return;
    room_enter(w);
    wal_room_step(&w->room, size_max(at + SLICE, size_min(due, at + SLICE_MOST)));
    room_leave(w); /* a failure is noted there */
}

ASH_API int ash_wal_prepare(struct ash_wal *w)
{
    if (w == NULL)
        return -EINVAL;
    os_lock(&w->lock);
    int status = w->failed;
    if (status == 0) {
        room_enter(w);
        status = wal_room_make(&w->room);
        room_leave(w);
    }
    os_unlock(&w->lock);
    return status;
}

/* ---- syncing ---- */

ASH_API int ash_wal_sync(struct ash_wal *w, uint64_t lsn)
{
    if (w == NULL)
        return -EINVAL;
    if (load_acquire(&w->synced) >= lsn) /* pairs with write_group */
        return 0;
    os_lock(&w->lock);
    int status = lsn == UINT64_MAX ? w->failed : lsn > wal_end(w) ? -EINVAL : 0;
    lsn = size_min(lsn, wal_end(w));
    bool patient = true;
    w->callers++;
    while (status == 0 && load_relaxed(&w->synced) < lsn) {
        status = w->failed;
        if (status == 0 && w->writing) {
            wait_for_event(w, -1);
        } else if (status == 0 && patient && w->callers < w->expected) { /* rule 3 */
            wait_for_event(w, w->sync_ns / COMPANY_PART);
            patient = false;
        } else if (status == 0) {
            wal_write(w, true);
        }
    }
    w->callers--;
    if (status == 0)
        prepare_some(w);
    os_unlock(&w->lock);
    return status;
}

ASH_API uint64_t ash_wal_synced(const struct ash_wal *w)
{
    return load_acquire(&w->synced); /* pairs with write_group */
}

/* ---- checkpoints ---- */

/* The lock is held, before and after, but not while the first segment is given back. */
static int drop_first(struct ash_wal *w)
{
    uint64_t begin = w->segments.begin[0];
    room_enter(w);
    int kept = wal_room_give(&w->room, begin);
    room_leave(w);
    if (kept < 0)
        return kept;
    wal_list_drop(&w->segments);
    counter_add(&w->count[kept != 0 ? COUNT_RECYCLED : COUNT_REMOVED], 1);
    if (w->failed == 0)
        w->failed = w->room.failed;
    return w->failed;
}

ASH_API int ash_wal_truncate(struct ash_wal *w, uint64_t lsn)
{
    if (w == NULL)
        return -EINVAL;
    os_lock(&w->lock);
    int status = w->failed;
    if (status == 0 && lsn > load_relaxed(&w->synced))
        status = -EINVAL;
    bool mine = status == 0 && !w->removing; /* else somebody is at it */
    w->removing |= mine;
    while (mine && status == 0 && w->segments.count > 1 && w->segments.begin[1] <= lsn)
        status = drop_first(w);
    if (mine)
        w->removing = false;
    os_unlock(&w->lock);
    return status;
}
