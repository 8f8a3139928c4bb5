/*
 * The life of logs: opening, closing, forks, and what they show.
 */
#include "txn/wal.h"

#include "ashlar/malloc.h"
#include "base/config.h"
#include "base/fmt.h"
#include "os/os_dir.h"
#include "os/os_file.h"
#include "os/os_mem.h"
#include "vm/shown.h"

#include <errno.h>
#include <string.h>

#define BUFFER_DEFAULT  MIB
#define BUFFER_MOST     GIB
#define SEGMENT_DEFAULT (16 * MIB)
#define SEGMENT_MOST    GIB
#define BYTES_LEAST     (4 * KIB)
#define SEGMENT_STEP    (4 * KIB)

enum { SPARES_DEFAULT = 2, SPARES_MOST = 64 };

/* ---- forks ---- */

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
        os_close(w->room.dir);
        if (w->room.fd >= 0)
            os_close(w->room.fd);
    }
    os_unlock(&w->lock);
}

/* ---- figures ---- */

static const struct ash_stats_column columns[] = {
    SHOWN_COLUMN("records", COUNTER, COUNT, "Records appended."),
    SHOWN_COLUMN("bytes", COUNTER, BYTES, "Bytes of those records."),
    SHOWN_COLUMN("groups", COUNTER, COUNT, "Writes."),
    SHOWN_COLUMN("syncs", COUNTER, COUNT, "Syncs."),
    SHOWN_COLUMN("waits", COUNTER, COUNT, "Appends that found both buffers full."),
    SHOWN_COLUMN("removed", COUNTER, COUNT, "Segments removed."),
    SHOWN_COLUMN("recycled", COUNTER, COUNT, "Segments whose files are used again."),
};

_Static_assert(ASH_COUNT(columns) == COUNTS, "a column for each count");

static void read_values(const void *wal, uint64_t *values)
{
    shown_counts(values, ((const struct ash_wal *)wal)->count, COUNTS);
}

SHOWN_KIND(kind, "wals", "wal", columns, read_values)

/* ---- opening ---- */

static int begin_log(struct ash_wal *w)
{
    os_random(&w->log, sizeof w->log);
    int above = os_dir_above(w->room.dir);
    int status = above >= 0 ? os_dir_sync(above) : above;
    if (status == -EACCES) /* whoever may read it has made ours there */
        status = 0;
    if (above >= 0)
        os_close(above);
    w->fd = status == 0 ? wal_room_take(&w->room, w->log, 0, 0) : status;
    w->marked = true;
    w->size = w->room.bytes;
    return w->fd >= 0 ? wal_list_add(&w->segments, 0) : w->fd;
}

/*
 * Rule 6; and from its end on the segment is zeroes, for what is torn could go on behind what comes
 * (rule 4 of txn/walfile.h).
 */
static int mend_tail(struct ash_wal *w, const struct wal_scan *s)
{
    size_t from = WAL_HEAD + (s->synced - s->head.begin);
    int status = os_dir_write_at(w->fd, s->bytes + from, s->at - from, from);
    if (status == 0)
        status = wal_zero(w->fd, s->at, s->at + s->left);
    if (status == 0)
        status = os_dir_sync(w->fd);
    return status == 0 ? os_dir_sync(w->room.dir) : status;
}

static int resume_log(struct ash_wal *w)
{
    struct wal_scan s;
    char name[WAL_NAME];
    int status = wal_load(&s, w->room.dir, &w->segments, w->segments.count - 1, true);
    if (status != 0)
        return status;
    enum wal_found found;
    while ((found = wal_scan_next(&s)) == WAL_RECORD)
        ;
    w->log = s.head.log;
    w->begin = s.head.begin;
    w->size = s.size;
    wal_room_follow(&w->room, s.size);
    w->written = wal_scan_lsn(&s);
    w->marked = w->written - s.synced <= WAL_MARK;
    wal_name(name, w->begin);
    w->fd = found == WAL_DAMAGED ? -EBADMSG : os_dir_write(w->room.dir, name);
    status = w->fd < 0 ? w->fd : mend_tail(w, &s);
    ash_free((void *)(uintptr_t)s.bytes);
    return status;
}

static int open_dir(struct ash_wal *w, const char *path)
{
    w->room.dir = os_dir_open(path);
    int status = w->room.dir < 0 ? w->room.dir : os_dir_lock(w->room.dir);
    if (status == 0)
        status = wal_list_read(&w->segments, w->room.dir);
    if (status == 0)
        status = wal_room_open(&w->room);
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
    if (!w->is_child)
        wal_room_close(&w->room);
    if (w->fd >= 0 && !w->is_child)
        os_close(w->fd);
    if (w->room.dir >= 0 && !w->is_child) {
        os_dir_unlock(w->room.dir); /* a child of vfork has it open until it execs */
        os_close(w->room.dir);
    }
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
    if (config->spares == 0)
        config->spares = SPARES_DEFAULT;
    return config->buffer_bytes >= BYTES_LEAST && config->buffer_bytes <= BUFFER_MOST &&
           config->segment_bytes >= BYTES_LEAST && config->segment_bytes <= SEGMENT_MOST &&
           config->spares <= SPARES_MOST;
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
    w->room = (struct wal_room){.dir = -1,
                                .fd = -1,
                                .segment_bytes = align_up(read.segment_bytes, SEGMENT_STEP),
                                .most = read.spares};
    w->fd = -1;
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
        wal_write(w, true);
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
        .recycled = load_relaxed(&w->count[COUNT_RECYCLED]),
        .end_lsn = wal_end(w),
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
                        "  records %ju (%s)  groups %ju  syncs %ju  waits %ju  removed %ju  "
                        "recycled %ju\n",
                        w->name, s.end_lsn, s.synced_lsn, s.segments, error != NULL ? error : "yes",
                        s.records, bytes, s.groups, s.syncs, s.waits, s.removed, s.recycled);
    return os_write_all(fd, text, n);
}
