#include "txn/walroom.h"

#include "base/fmt.h"
#include "os/os_dir.h"
#include "os/os_file.h"
#include "txn/walread.h"

#include <errno.h>

#define NEW_NAME "new.tmp"

#define FIRST MIB /* of a new log, at most */

enum { ZEROES = 64 * KIB };

int wal_zero(int fd, uint64_t from, uint64_t to)
{
    static char zeroes[ZEROES]; /* never written to: no memory of its own */
    int status = 0;
    while (status == 0 && from < to) {
        size_t n = size_min(to - from, ZEROES - from % ZEROES);
        status = os_dir_write_at(fd, zeroes, n, from);
        from += n;
    }
    return status;
}

static void spare_name(char out[WAL_NAME], unsigned number)
{
    fmt_text(out, WAL_NAME, "%u.spare", number);
}

int wal_room_open(struct wal_room *r)
{
    struct os_file_info info;
    char name[WAL_NAME];
    int status = 0;
    r->fd = -1;
    wal_room_follow(r, 0);
    os_dir_remove(r->dir, NEW_NAME);
    for (unsigned i = 0; status == 0; i++) {
        spare_name(name, i);
        if (os_name_info(r->dir, name, &info) != 0)
            break;
        if (r->spares == i && i < r->most && info.regular && info.size == r->segment_bytes)
            r->spares++;
        else
            status = os_dir_remove(r->dir, name);
    }
    return status;
}

static void drop_new(struct wal_room *r)
{
    int fd = r->fd;
    r->fd = -1; /* first: a child that is forked meanwhile closes what it finds here */
    r->at = 0;
    if (fd < 0)
        return;
    os_close(fd);
    os_dir_remove(r->dir, NEW_NAME);
}

static int finish_new(struct wal_room *r)
{
    char name[WAL_NAME];
    spare_name(name, r->spares);
    int status = os_dir_sync(r->fd);
    if (status == 0)
        status = os_dir_rename(r->dir, NEW_NAME, name);
    if (status == 0)
        r->spares++;
    return status;
}

static int fill_new(struct wal_room *r, size_t upto)
{
    int status = 0;
    upto = size_min(upto, r->next_bytes);
    if (r->fd < 0) {
        status = os_dir_create(r->dir, NEW_NAME);
        if (status >= 0)
            r->fd = status;
        status = status < 0 ? status : 0;
    }
    if (status == 0)
        status = wal_zero(r->fd, r->at, upto);
    if (status != 0)
        return status;
    os_dir_write_out(r->fd, r->at, upto - r->at);
    r->at = upto;
    return 0;
}

int wal_room_step(struct wal_room *r, size_t upto)
{
    bool full = r->at >= r->next_bytes;
    int status = full ? finish_new(r) : fill_new(r, upto);
    r->refused = status != 0;
    if (full || r->refused)
        drop_new(r);
    return status;
}

int wal_room_make(struct wal_room *r)
{
    int status = 0;
    while (status == 0 && r->spares == 0)
        status = wal_room_step(r, SIZE_MAX);
    return status;
}

void wal_room_follow(struct wal_room *r, size_t bytes)
{
    r->bytes = bytes;
    r->next_bytes = size_max(r->at, size_min(r->segment_bytes, size_max(FIRST, 2 * bytes)));
}

/* Whether the file held something before, which begins with a head. */
static int was_used(struct wal_room *r, const char *name, bool *used)
{
    uint64_t magic = 0;
    int fd = os_dir_read(r->dir, name);
    int status = fd < 0 ? fd : os_dir_read_at(fd, &magic, sizeof magic, 0);
    *used = magic != 0;
    if (fd >= 0)
        os_close(fd);
    return status;
}

static int begin_segment(struct wal_room *r, int fd, const char *from, const struct wal_head *head)
{
    char name[WAL_NAME];
    wal_name(name, head->begin);
    int status = os_dir_write_at(fd, head, sizeof *head, 0);
    if (status == 0)
        status = os_dir_sync_data(fd);
    if (status == 0)
        status = os_dir_rename(r->dir, from, name);
    if (status == 0)
        r->spares--;
    return status == 0 ? os_dir_sync(r->dir) : status;
}

int wal_room_take(struct wal_room *r, uint64_t log, uint64_t begin, uint64_t before)
{
    struct os_file_info info;
    char name[WAL_NAME];
    bool used = false;
    int status = wal_room_make(r);
    if (status != 0)
        return status;
    spare_name(name, r->spares - 1);
    status = was_used(r, name, &used);
    struct wal_head head = wal_head_make(log, begin, before, used);
    if (status == 0 && !wal_head_is_good(&head))
        status = -EOVERFLOW;
    int fd = status == 0 ? os_dir_write(r->dir, name) : status;
    if (fd < 0)
        return fd;
    status = os_file_info(fd, &info);
    if (status == 0)
        status = begin_segment(r, fd, name, &head);
    if (status == 0) {
        wal_room_follow(r, info.size);
        return fd;
    }
    os_close(fd);
    return status;
}

int wal_room_give(struct wal_room *r, uint64_t begin)
{
    struct os_file_info info;
    char name[WAL_NAME], spare[WAL_NAME];
    wal_name(name, begin);
    spare_name(spare, r->spares);
    int status = os_name_info(r->dir, name, &info);
    bool keep = status == 0 && r->spares < r->most && info.size == r->segment_bytes;
    if (status == 0)
        status = keep ? os_dir_rename(r->dir, name, spare) : os_dir_remove(r->dir, name);
    if (status != 0)
        return status;
    r->spares += keep;
    r->failed = os_dir_sync(r->dir);
    return keep;
}

void wal_room_close(struct wal_room *r)
{
    drop_new(r);
}
