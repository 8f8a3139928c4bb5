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
 *  4. A group lies in one segment. The segment is synced before the next one is begun; that is made
 *     under another name, synced, renamed, and the directory synced, all before it is written to.
 *  5. The first error stays (`failed`): nothing is written or synced after it.
 *  6. Opened, a log is rewritten from its last mark on, byte for byte: a sync that failed may have
 *     left pages in memory that the kernel takes for written.
 *
 * Rejected: a thread of its own that writes (a program that does not wait pays two switches for
 * nothing); a fixed wait before each sync (a lone caller pays it for nobody).
 */
#include "ashlar/wal.h"

#include "ashlar/malloc.h"
#include "base/config.h"
#include "base/fmt.h"
#include "os/os_clock.h"
#include "os/os_dir.h"
#include "os/os_file.h"
#include "os/os_fork.h"
#include "os/os_lock.h"
#include "os/os_mem.h"
#include "os/os_wait.h"
#include "txn/walread.h"
#include "vm/shown.h"

#include <errno.h>
#include <limits.h>

#define BUFFER_DEFAULT  MIB
#define BUFFER_MOST     GIB
#define SEGMENT_DEFAULT (16 * MIB)
#define BYTES_LEAST     (4 * KIB)
#define NEW_NAME        "new.tmp"

enum { FRAMES_ROOM = 64, /* of a buffer, that no record has */ COMPANY_PART = 8 };

enum { COUNT_RECORDS, COUNT_BYTES, COUNT_GROUPS, COUNT_SYNCS, COUNT_WAITS, COUNT_REMOVED, COUNTS };

struct ash_wal {
    size_t buffer_bytes, segment_bytes; /* const */
    char name[NAME_CAP];                /* const */
    int dir;                            /* const */
    uint64_t log;                       /* const: the log's number */
    struct os_fork fork;
    struct shown *shown; /* const; NULL: there was no memory for it */

    ASH_LINE_ALIGNED struct os_lock lock; /* over the next lines */
    char *fill, *spare;                   /* spare is the writer's while it writes */
    uint64_t fill_begin;                  /* lsn */
    size_t fill_len;                      /* 0, or the mark's room and frames */
    bool writing, removing;               /* somebody is at it */
    bool is_child;                        /* of the process that opened it */
    unsigned waiters;                     /* asleep */
    unsigned callers, expected; /* in ash_wal_sync: now, and when the last sync was done */
    int64_t sync_ns;            /* that a sync takes, about */
    int failed;                 /* 0 or the first error */
    struct wal_list segments;

    int fd;                   /* of the last segment: the writer changes it, under the lock */
    uint64_t begin;           /* the writer: where that begins */
    uint64_t written;         /* the writer: lsn */
    bool marked;              /* the writer: nothing follows the last mark */
    _Atomic(uint64_t) synced; /* atomic: lsn; the writer sets it, anyone reads */
    ASH_LINE_ALIGNED _Atomic(uint32_t) event; /* atomic: changes when a writer is done */
    _Atomic(uint64_t) count[COUNTS];          /* atomic: written under the lock, anyone reads */
};

static uint64_t end_of(const struct ash_wal *w)
{
    return w->fill_begin + w->fill_len;
}

/* ---- segments ---- */

/* Its descriptor. */
static int make_segment(struct ash_wal *w, uint64_t begin)
{
    char name[WAL_NAME];
    struct wal_head head = wal_head_make(w->log, begin);
    wal_name(name, begin);
    os_dir_remove(w->dir, NEW_NAME);
    int fd = os_dir_create(w->dir, NEW_NAME);
    if (fd < 0)
        return fd;
    int status = os_dir_write_at(fd, &head, sizeof head, 0);
    if (status == 0)
        status = os_dir_sync(fd);
    if (status == 0)
        status = os_dir_rename(w->dir, NEW_NAME, name);
    if (status == 0)
        status = os_dir_sync(w->dir);
    if (status == 0)
        return fd;
    os_close(fd);
    return status;
}

/* Rule 4. A fork finds a descriptor that is open. */
static int next_segment(struct ash_wal *w)
{
    int status = os_dir_sync_data(w->fd);
    int fd = status == 0 ? make_segment(w, w->written) : status;
    if (fd < 0)
        return fd;
    store_release(&w->synced, w->written);
    w->begin = w->written;
    os_lock(&w->lock);
    int old = w->fd;
    w->fd = fd;
    status = wal_list_add(&w->segments, w->begin);
    os_unlock(&w->lock);
    os_close(old);
    return status;
}

/* ---- writing ---- */

/* Without the lock: rule 2. */
static int write_group(struct ash_wal *w, char *group, size_t n, bool sync)
{
    int status = 0;
    uint64_t size = w->written - w->begin;
    if (n > 0 && size > 0 && size + n > w->segment_bytes)
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

/* Takes the group and writes it. The lock is held, before and after, and nobody writes. */
static void be_writer(struct ash_wal *w, bool sync)
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
    if (w->waiters > 0) {
        add_relaxed(&w->event, 1); /* under the lock, as is its reading */
        os_wake(&w->event, UINT_MAX);
    }
}

/* Until a writer is done, or for some time. The lock is held, before and after. */
static void wait_for_writer(struct ash_wal *w, int64_t timeout_ns)
{
    uint32_t event = load_relaxed(&w->event);
    w->waiters++;
    os_unlock(&w->lock);
    os_wait(&w->event, event, timeout_ns);
    os_lock(&w->lock);
    w->waiters--;
}

/* Has room made for a frame of so many bytes, and for a mark. The lock is held. */
static int make_room(struct ash_wal *w, size_t n)
{
    while (w->failed == 0 && w->fill_len + WAL_MARK + n > w->buffer_bytes) {
        if (w->writing) {
            counter_add(&w->count[COUNT_WAITS], 1);
            wait_for_writer(w, -1);
        } else {
            be_writer(w, false);
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
        if (pieces[i].iov_len > w->buffer_bytes - FRAMES_ROOM - len)
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
            *lsn = end_of(w);
        counter_add(&w->count[COUNT_RECORDS], 1);
        counter_add(&w->count[COUNT_BYTES], len);
    }
    os_unlock(&w->lock);
    return status;
}

ASH_API int ash_wal_sync(struct ash_wal *w, uint64_t lsn)
{
    if (w == NULL)
        return -EINVAL;
    if (load_acquire(&w->synced) >= lsn) /* pairs with write_group */
        return 0;
    os_lock(&w->lock);
    if (lsn == UINT64_MAX)
        lsn = end_of(w);
    int status = lsn <= end_of(w) ? 0 : -EINVAL;
    bool patient = true;
    w->callers++;
    while (status == 0 && load_relaxed(&w->synced) < lsn) {
        status = w->failed;
        if (status == 0 && w->writing) {
            wait_for_writer(w, -1);
        } else if (status == 0 && patient && w->callers < w->expected) { /* rule 3 */
            wait_for_writer(w, w->sync_ns / COMPANY_PART);
            patient = false;
        } else if (status == 0) {
            be_writer(w, true);
        }
    }
    w->callers--;
    os_unlock(&w->lock);
    return status;
}

ASH_API uint64_t ash_wal_synced(const struct ash_wal *w)
{
    return load_acquire(&w->synced); /* pairs with write_group */
}

/* ---- checkpoints ---- */

/* The first segment, when nothing behind `lsn` is in it. The lock is held. */
static bool take_first(struct ash_wal *w, uint64_t lsn, char name[WAL_NAME])
{
    if (w->segments.count < 2 || w->segments.begin[1] > lsn)
        return false;
    wal_name(name, w->segments.begin[0]);
    return true;
}

/*
 * The directory is synced after each, so that no crash leaves an older segment without those
 * behind it.
 */
ASH_API int ash_wal_truncate(struct ash_wal *w, uint64_t lsn)
{
    char name[WAL_NAME];
    if (w == NULL)
        return -EINVAL;
    os_lock(&w->lock);
    int status = w->failed;
    if (status == 0 && lsn > load_relaxed(&w->synced))
        status = -EINVAL;
    bool mine = status == 0 && !w->removing; /* else somebody is at it */
    w->removing |= mine;
    while (mine && status == 0 && take_first(w, lsn, name)) {
        os_unlock(&w->lock);
        status = os_dir_remove(w->dir, name);
        if (status == 0)
            status = os_dir_sync(w->dir);
        os_lock(&w->lock);
        if (status == 0) {
            wal_list_drop(&w->segments);
            counter_add(&w->count[COUNT_REMOVED], 1);
        }
    }
    if (mine)
        w->removing = false;
    os_unlock(&w->lock);
    return status;
}

/* ---- life ---- */

static struct ash_wal *wal_of_fork(struct os_fork *self)
{
    return (struct ash_wal *)(void *)((char *)self - offsetof(struct ash_wal, fork));
}

static void wal_hold(struct os_fork *self)
{
    os_lock(&wal_of_fork(self)->lock);
}

/* A child that wrote would write over its parent; its copies of the descriptors keep the lock. */
static void wal_release(struct os_fork *self, bool child)
{
    struct ash_wal *w = wal_of_fork(self);
    if (child && !w->is_child) {
        w->is_child = true;
        w->failed = -EPERM;
        store_relaxed(&w->synced, 0); /* so that every sync looks at that */
        os_close(w->fd);
        os_close(w->dir);
    }
    os_unlock(&w->lock);
}

static const struct ash_stats_column columns[] = {
    SHOWN_COLUMN("records", COUNTER, COUNT, "Records appended."),
    SHOWN_COLUMN("bytes", COUNTER, BYTES, "Bytes of those records."),
    SHOWN_COLUMN("groups", COUNTER, COUNT, "Writes."),
    SHOWN_COLUMN("syncs", COUNTER, COUNT, "Syncs."),
    SHOWN_COLUMN("waits", COUNTER, COUNT, "Appends that found both buffers full."),
    SHOWN_COLUMN("removed", COUNTER, COUNT, "Segments removed."),
};

_Static_assert(ASH_COUNT(columns) == COUNTS, "a column for each count");

static void read_values(const void *wal, uint64_t *values)
{
    for (unsigned i = 0; i < COUNTS; i++)
        values[i] = load_relaxed(&((const struct ash_wal *)wal)->count[i]);
}

SHOWN_KIND(kind, "wals", "wal", columns, read_values)

static int begin_log(struct ash_wal *w)
{
    os_random(&w->log, sizeof w->log);
    int above = os_dir_above(w->dir);
    int status = above < 0 ? above : os_dir_sync(above);
    if (above >= 0)
        os_close(above);
    w->fd = status == 0 ? make_segment(w, 0) : status;
    w->marked = true;
    return w->fd >= 0 ? wal_list_add(&w->segments, 0) : w->fd;
}

/* Rule 6, and what is torn goes. */
static int mend_tail(struct ash_wal *w, const struct wal_scan *s)
{
    size_t from = WAL_HEAD + (s->synced - s->head.begin);
    int status = s->at < s->size ? os_dir_cut(w->fd, s->at) : 0;
    if (status == 0)
        status = os_dir_write_at(w->fd, s->bytes + from, s->at - from, from);
    if (status == 0)
        status = os_dir_sync(w->fd);
    return status == 0 ? os_dir_sync(w->dir) : status;
}

static int resume_log(struct ash_wal *w)
{
    struct wal_scan s;
    char name[WAL_NAME];
    int status = wal_load(&s, w->dir, &w->segments, w->segments.count - 1);
    if (status != 0)
        return status;
    enum wal_found found;
    while ((found = wal_scan_next(&s)) == WAL_RECORD)
        ;
    w->log = s.head.log;
    w->begin = s.head.begin;
    w->written = wal_scan_lsn(&s);
    w->marked = w->written - s.synced <= WAL_MARK;
    wal_name(name, w->begin);
    w->fd = found == WAL_DAMAGED ? -EBADMSG : os_dir_write(w->dir, name);
    status = w->fd < 0 ? w->fd : mend_tail(w, &s);
    ash_free((void *)(uintptr_t)s.bytes);
    return status;
}

static int open_dir(struct ash_wal *w, const char *path)
{
    w->dir = os_dir_open(path);
    int status = w->dir < 0 ? w->dir : os_dir_lock(w->dir);
    if (status == 0)
        status = wal_list_read(&w->segments, w->dir);
    if (status == 0)
        status = w->segments.count > 0 ? resume_log(w) : begin_log(w);
    if (status != 0)
        return status;
    w->fill_begin = w->written;
    store_relaxed(&w->synced, w->written);
    return 0;
}

static void wal_free(struct ash_wal *w)
{
    if (w->fd >= 0 && !w->is_child)
        os_close(w->fd);
    if (w->dir >= 0 && !w->is_child)
        os_close(w->dir);
    wal_list_free(&w->segments);
    ash_free(w->fill);
    ash_free(w->spare);
    ash_free(w);
}

static bool config_complete(struct ash_wal_config *config)
{
    if (config->buffer_bytes == 0)
        config->buffer_bytes = BUFFER_DEFAULT;
    if (config->segment_bytes == 0)
        config->segment_bytes = SEGMENT_DEFAULT;
    return config->buffer_bytes >= BYTES_LEAST && config->buffer_bytes <= BUFFER_MOST &&
           config->segment_bytes >= BYTES_LEAST;
}

ASH_API int ash_wal_open(const char *path, const struct ash_wal_config *config,
                         struct ash_wal **wal)
{
    struct ash_wal_config read;
    char copy[NAME_CAP];
    if (path == NULL || wal == NULL || !config_read(&read, sizeof read, config, sizeof(size_t)) ||
        !name_read(copy, read.name, "wal") || !config_complete(&read))
        return -EINVAL;
    struct ash_wal *w = ash_aligned_alloc(ASH_CACHE_LINE, sizeof *w);
    if (w == NULL)
        return -ENOMEM;
    memset(w, 0, sizeof *w);
    memcpy(w->name, copy, sizeof copy);
    w->buffer_bytes = read.buffer_bytes;
    w->segment_bytes = read.segment_bytes;
    w->dir = w->fd = -1;
    w->fork = (struct os_fork){.hold = wal_hold, .release = wal_release};
    w->fill = ash_malloc(w->buffer_bytes);
    w->spare = ash_malloc(w->buffer_bytes);
    int status = w->fill == NULL || w->spare == NULL ? -ENOMEM : open_dir(w, path);
    if (status == 0)
        status = os_fork_add(&w->fork);
    if (status != 0) {
        wal_free(w);
        return status;
    }
    w->shown = shown_open(&kind, w->name, w);
    *wal = w;
    return 0;
}

/* The mark at the end says that all in front of it was synced. */
ASH_API int ash_wal_close(struct ash_wal *w)
{
    if (w == NULL)
        return 0;
    int status = w->is_child ? 0 : ash_wal_sync(w, UINT64_MAX);
    os_lock(&w->lock);
    if (status == 0 && w->failed == 0 && !w->marked) {
        w->fill_len = WAL_MARK;
        be_writer(w, true);
        status = w->failed;
    }
    os_unlock(&w->lock);
    bool unread = shown_close(w->shown);
    os_fork_remove(&w->fork);
    if (unread)
        wal_free(w);
    return status;
}

/* ---- figures ---- */

ASH_API int ash_wal_stats(const struct ash_wal *wal, struct ash_wal_stats *out)
{
    if (wal == NULL || out == NULL)
        return -EINVAL;
    struct ash_wal *w = (struct ash_wal *)(uintptr_t)wal; /* for its lock */
    os_lock(&w->lock);
    *out = (struct ash_wal_stats){
        .records = load_relaxed(&w->count[COUNT_RECORDS]),
        .bytes = load_relaxed(&w->count[COUNT_BYTES]),
        .groups = load_relaxed(&w->count[COUNT_GROUPS]),
        .syncs = load_relaxed(&w->count[COUNT_SYNCS]),
        .waits = load_relaxed(&w->count[COUNT_WAITS]),
        .segments = w->segments.count,
        .removed = load_relaxed(&w->count[COUNT_REMOVED]),
        .end_lsn = end_of(w),
        .synced_lsn = load_relaxed(&w->synced),
        .error = (uint64_t)-w->failed,
    };
    os_unlock(&w->lock);
    return 0;
}

ASH_API int ash_wal_dump(const struct ash_wal *w, int fd)
{
    struct ash_wal_stats s;
    char text[384], bytes[16];
    if (ash_wal_stats(w, &s) != 0)
        return -EINVAL;
    fmt_bytes_text(bytes, s.bytes);
    const char *error = s.error == 0 ? "none" : os_error_text((int)s.error);
    size_t n = fmt_text(text, sizeof text,
                        "wal %s: end %ju, synced to %ju, %ju segments; error: %s\n"
                        "  records %ju (%s)  groups %ju  syncs %ju  waits %ju  removed %ju\n",
                        w->name, s.end_lsn, s.synced_lsn, s.segments, error != NULL ? error : "yes",
                        s.records, bytes, s.groups, s.syncs, s.waits, s.removed);
    return os_write_all(fd, text, n);
}
