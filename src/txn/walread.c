#include "txn/walread.h"

#include "ashlar/malloc.h"
#include "base/fmt.h"
#include "os/os_dir.h"
#include "os/os_file.h"

#include <errno.h>
#include <string.h>

enum { DIGITS = 16 };

void wal_name(char out[WAL_NAME], uint64_t begin)
{
    fmt_text(out, WAL_NAME, "%016jx.wal", begin);
}

/* ---- which segments there are ---- */

int wal_list_add(struct wal_list *list, uint64_t begin)
{
    if (list->count == list->room) {
        unsigned room = list->room > 0 ? 2 * list->room : 16;
        uint64_t *more = ash_realloc(list->begin, room * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        list->begin = more;
        list->room = room;
    }
    unsigned i = list->count++;
    for (; i > 0 && list->begin[i - 1] > begin; i--)
        list->begin[i] = list->begin[i - 1];
    list->begin[i] = begin;
    return 0;
}

void wal_list_drop(struct wal_list *list)
{
    memmove(list->begin, list->begin + 1, --list->count * sizeof *list->begin);
}

static void list_name(void *ctx, const char *name)
{
    struct wal_list *list = ctx;
    char again[WAL_NAME];
    uint64_t begin = 0;
    for (unsigned i = 0; i < DIGITS; i++) {
        char c = name[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return;
        begin = begin << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    wal_name(again, begin);
    if (strcmp(name, again) == 0 && wal_list_add(list, begin) != 0)
        list->failed = true;
}

int wal_list_read(struct wal_list *list, int dir)
{
    *list = (struct wal_list){.count = 0};
    int status = os_dir_each(dir, list_name, list);
    return status != 0 ? status : list->failed ? -ENOMEM : 0;
}

void wal_list_free(struct wal_list *list)
{
    ash_free(list->begin);
    *list = (struct wal_list){.count = 0};
}

/* ---- what is in them ---- */

/* A file that is used again has another head before anything else of it changes. */
static int still_same(int fd, const void *head)
{
    unsigned char now[WAL_HEAD];
    int status = os_dir_read_at(fd, now, WAL_HEAD, 0);
    return status == 0 && memcmp(now, head, WAL_HEAD) != 0 ? -EBADMSG : status;
}

/* All of a file, or its first `most` bytes. */
static int load_file(int fd, struct wal_scan *s, uint64_t most, bool is_last)
{
    struct os_file_info info;
    int status = os_file_info(fd, &info);
    if (status != 0)
        return status;
    size_t size = size_min(info.size, most);
    void *bytes = ash_malloc(size_max(size, WAL_HEAD));
    if (bytes == NULL)
        return -ENOMEM;
    status = os_dir_read_at(fd, bytes, size, 0);
    if (status == 0)
        status = wal_scan_begin(s, bytes, size, is_last) ? still_same(fd, bytes) : -EBADMSG;
    if (status != 0)
        ash_free(bytes);
    return status;
}

int wal_load(struct wal_scan *s, int dir, const struct wal_list *list, unsigned i, bool is_last)
{
    char name[WAL_NAME];
    uint64_t begin = list->begin[i];
    uint64_t most = is_last ? UINT64_MAX : WAL_HEAD + list->begin[i + 1] - begin;
    wal_name(name, begin);
    int fd = os_dir_read(dir, name);
    if (fd < 0)
        return fd;
    int status = load_file(fd, s, most, is_last);
    os_close(fd);
    if (status == 0 && s->head.begin != begin) {
        ash_free((void *)(uintptr_t)s->bytes);
        status = -EBADMSG;
    }
    return status;
}

/* The head of a segment in the list; false: there is none that is good. */
static bool read_head(struct wal_head *head, int dir, const struct wal_list *list, unsigned i)
{
    char name[WAL_NAME];
    wal_name(name, list->begin[i]);
    int fd = os_dir_read(dir, name);
    bool good = fd >= 0 && os_dir_read_at(fd, head, sizeof *head, 0) == 0 &&
                wal_head_is_good(head) && head->begin == list->begin[i];
    if (fd >= 0)
        os_close(fd);
    return good;
}

/* A walk over all of a log. */
struct walk {
    int (*fn)(void *user, uint64_t lsn, const void *data, size_t len);
    void *user;
    struct ash_wal_report report;
    uint64_t log; /* of the first segment */
};

static int damaged(struct walk *w, uint64_t begin, uint64_t at)
{
    wal_name(w->report.damaged_file, begin);
    w->report.damaged_at = at;
    return -EBADMSG;
}

static int walk_records(struct walk *w, struct wal_scan *s, enum wal_found *found)
{
    int status = 0;
    while (status == 0 && (*found = wal_scan_next(s)) == WAL_RECORD) {
        w->report.records++;
        w->report.bytes += s->len;
        w->report.end_lsn = wal_scan_lsn(s);
        if (w->fn != NULL)
            status = w->fn(w->user, wal_scan_lsn(s), s->data, s->len);
    }
    return status;
}

/* Reads the segment again and goes on where it is. */
static int load_again(struct wal_scan *s, int dir, const struct wal_list *list, unsigned i)
{
    struct wal_scan again;
    int status = wal_load(&again, dir, list, i, s->is_last);
    if (status != 0)
        return status;
    ash_free((void *)(uintptr_t)s->bytes);
    again.at = s->at;
    again.synced = s->synced;
    *s = again;
    return 0;
}

/* All records of a segment, whose head is good. */
static int walk_segment(struct walk *w, struct wal_scan *s, int dir, const struct wal_list *list,
                        unsigned i)
{
    enum wal_found found = WAL_END;
    size_t tried = 0; /* where it was damaged before it was read again */
    int status = walk_records(w, s, &found);
    while (status == 0 && found == WAL_DAMAGED && s->is_last && s->at != tried) {
        tried = s->at;
        status = load_again(s, dir, list, i);
        if (status == 0)
            status = walk_records(w, s, &found);
    }
    if (status != 0)
        return status;
    w->report.end_lsn = wal_scan_lsn(s);
    if (found == WAL_TORN)
        w->report.torn_bytes = s->left;
    return found == WAL_DAMAGED ? damaged(w, s->head.begin, s->at) : 0;
}

static int walk_list(struct walk *w, int dir, const struct wal_list *list)
{
    struct wal_scan s;
    struct wal_head next;
    int status = list->count > 0 ? 0 : -ENOENT;
    for (unsigned i = 0; i < list->count && status == 0; i++) {
        uint64_t begin = list->begin[i];
        bool any = i + 1 < list->count && read_head(&next, dir, list, i + 1);
        bool gap = any && next.before != begin;
        status = wal_load(&s, dir, list, i, !any || gap); /* to where the next one truly begins */
        if (status == -EBADMSG)
            return damaged(w, begin, 0);
        if (status != 0)
            return status;
        if (i == 0) {
            w->log = s.head.log;
            w->report.first_lsn = w->report.end_lsn = begin;
        }
        if (s.head.log != w->log || begin != w->report.end_lsn)
            status = damaged(w, begin, 0); /* of another log */
        else
            status = walk_segment(w, &s, dir, list, i);
        if (status == 0 && gap) /* the one that should follow is missing */
            status = damaged(w, w->report.end_lsn, 0);
        w->report.segments++;
        ash_free((void *)(uintptr_t)s.bytes);
    }
    return status;
}

static int walk_log(struct walk *w, const char *path)
{
    struct wal_list list;
    int dir = os_open_read(path);
    if (dir < 0)
        return dir;
    int status = wal_list_read(&list, dir);
    if (status == 0)
        status = walk_list(w, dir, &list);
    wal_list_free(&list);
    os_close(dir);
    return status;
}

ASH_API int ash_wal_replay(const char *path,
                           int (*fn)(void *user, uint64_t lsn, const void *data, size_t len),
                           void *user)
{
    struct walk w = {.fn = fn, .user = user};
    return path == NULL || fn == NULL ? -EINVAL : walk_log(&w, path);
}

ASH_API int ash_wal_check(const char *path, struct ash_wal_report *out)
{
    struct walk w = {.fn = NULL};
    if (path == NULL || out == NULL)
        return -EINVAL;
    int status = walk_log(&w, path);
    *out = w.report;
    return status;
}
