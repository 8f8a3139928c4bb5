/*
 * Logs when power is lost or the device fails: the system calls below the log are wrapped (-Wl,--wrap), so that the
 * test knows what was synced and what was only written, of files and of the directory. After each of many losses the
 * files are as a device could leave them: what was synced, and of the rest some sectors, in no order, and the first
 * of the changes of names. All that was acknowledged has to be there.
 */
#include "api/wals.h"

#include "os/os_dir.h"
#include "tap.h"
#include "txn/walfile.h"

enum { FILES = 64, SECTOR = 512, WRITES = 4096, CHANGES = 256 };

/* What the device has of each file; the rest of what was written is in the page cache. */
struct image {
    uint64_t inode;
    unsigned char *bytes; /* synced */
    size_t size;
};

struct pending { /* written, not synced */
    uint64_t inode;
    uint64_t at;
    size_t n;
    unsigned char *bytes;
};

struct name {
    char text[32];
    uint64_t inode;
};

struct change { /* of a name; "" where there is none */
    char from[32], to[32];
    uint64_t inode;
};

static struct image image[FILES];
static struct pending pending[WRITES];
static struct name name[FILES]; /* in the directory, synced */
static struct change change[CHANGES];
static unsigned images, pendings, names, changes, calls, fail_at, seed = 1;
static int fail_with;
static bool is_dead; /* what the log still does is not done any more */

static unsigned draw(unsigned n)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % n;
}

static uint64_t inode_of(int fd, bool *is_dir)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        abort();
    if (is_dir != NULL)
        *is_dir = S_ISDIR(st.st_mode);
    return st.st_ino;
}

static uint64_t inode_in(int dir, const char *file)
{
    struct stat st;
    return fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

static struct image *image_of(uint64_t inode)
{
    for (unsigned i = 0; i < images; i++)
        if (image[i].inode == inode)
            return &image[i];
    if (images == FILES)
        abort();
    image[images] = (struct image){.inode = inode};
    return &image[images++];
}

static void image_write(struct image *i, uint64_t at, const unsigned char *bytes, size_t n)
{
    if (at + n > i->size) {
        i->bytes = realloc(i->bytes, at + n);
        memset(i->bytes + i->size, 0, at + n - i->size);
        i->size = at + n;
    }
    memcpy(i->bytes + at, bytes, n);
}

static void synced(uint64_t inode)
{
    unsigned left = 0;
    for (unsigned i = 0; i < pendings; i++)
        if (pending[i].inode == inode) {
            image_write(image_of(inode), pending[i].at, pending[i].bytes, pending[i].n);
            free(pending[i].bytes);
        } else {
            pending[left++] = pending[i];
        }
    pendings = left;
}

/* ---- names ---- */

static void name_drop(const char *text)
{
    for (unsigned i = 0; i < names; i++)
        if (strcmp(name[i].text, text) == 0)
            name[i--] = name[--names];
}

static void apply(const struct change *c)
{
    name_drop(c->from);
    name_drop(c->to);
    if (c->to[0] == '\0')
        return;
    if (names == FILES)
        abort();
    strcpy(name[names].text, c->to);
    name[names++].inode = c->inode;
}

static void apply_first(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        apply(&change[i]);
    changes = 0;
}

static void changed(const char *from, const char *to, uint64_t inode)
{
    if (changes == CHANGES)
        abort();
    struct change *c = &change[changes++];
    snprintf(c->from, sizeof c->from, "%s", from);
    snprintf(c->to, sizeof c->to, "%s", to);
    c->inode = inode;
}

/* ---- the calls ---- */

/* The n-th call fails. */
static bool fails(void)
{
    return fail_at > 0 && ++calls == fail_at;
}

#define WRAPPED(result, call, args)                                                                                    \
    result __real_##call args;                                                                                         \
    result __wrap_##call args

WRAPPED(int, os_dir_write_at, (int fd, const void *bytes, size_t n, uint64_t at));
WRAPPED(int, os_dir_sync, (int fd));
WRAPPED(int, os_dir_sync_data, (int fd));
WRAPPED(int, os_dir_create, (int dir, const char *file));
WRAPPED(int, os_dir_rename, (int dir, const char *from, const char *to));
WRAPPED(int, os_dir_remove, (int dir, const char *file));

int __wrap_os_dir_write_at(int fd, const void *bytes, size_t n, uint64_t at)
{
    struct pending *p = &pending[pendings];
    if (is_dead)
        return -EIO;
    if (pendings == WRITES)
        abort();
    bool failed = fails();
    if (failed)
        n = draw((unsigned)n + 1); /* some of it was written */
    *p = (struct pending){.inode = inode_of(fd, NULL), .at = at, .n = n, .bytes = malloc(n + 1)};
    memcpy(p->bytes, bytes, n);
    pendings++;
    int status = __real_os_dir_write_at(fd, bytes, n, at);
    return failed ? fail_with : status;
}

static int sync_it(int fd)
{
    bool is_dir;
    uint64_t inode = inode_of(fd, &is_dir);
    if (is_dead)
        return -EIO;
    if (fails()) { /* and the kernel forgets that there was something to write */
        for (unsigned i = 0; i < pendings; i++)
            if (pending[i].inode == inode)
                pending[i].n = 0;
        return fail_with;
    }
    if (is_dir && inode == inode_in(AT_FDCWD, wal_dir))
        return 0; /* the one above */
    if (is_dir)
        apply_first(changes);
    else
        synced(inode);
    return 0;
}

int __wrap_os_dir_sync(int fd)
{
    return sync_it(fd);
}

int __wrap_os_dir_sync_data(int fd)
{
    return sync_it(fd);
}

int __wrap_os_dir_create(int dir, const char *file)
{
    if (is_dead || fails())
        return is_dead ? -EIO : fail_with;
    int fd = __real_os_dir_create(dir, file);
    if (fd >= 0)
        changed("", file, inode_of(fd, NULL));
    return fd;
}

int __wrap_os_dir_rename(int dir, const char *from, const char *to)
{
    if (is_dead || fails())
        return is_dead ? -EIO : fail_with;
    uint64_t inode = inode_in(dir, from);
    for (unsigned i = 0; i < pendings; i++) /* a file that is renamed before it is synced would lose them */
        if (pending[i].inode == inode)
            abort();
    int status = __real_os_dir_rename(dir, from, to);
    if (status == 0)
        changed(from, to, inode);
    return status;
}

int __wrap_os_dir_remove(int dir, const char *file)
{
    if (is_dead || fails())
        return is_dead ? -EIO : fail_with;
    int status = __real_os_dir_remove(dir, file);
    if (status == 0)
        changed(file, "", 0);
    return status;
}

/* The directory as the device has it: some sectors of what was not synced, and some changes of names, others not. */
static void lose_power(const char *path)
{
    static struct image kept_image[FILES];
    unsigned kept = draw(5); /* of four sectors */
    apply_first(draw(changes + 1));
    for (unsigned p = 0; p < pendings; p++) {
        struct image *i = image_of(pending[p].inode);
        for (size_t k = 0; k < pending[p].n;) {
            size_t n = SECTOR - (pending[p].at + k) % SECTOR;
            n = n < pending[p].n - k ? n : pending[p].n - k;
            if (draw(4) < kept)
                image_write(i, pending[p].at + k, pending[p].bytes + k, n);
            k += n;
        }
        free(pending[p].bytes);
    }
    pendings = 0;
    wal_remove(path);
    mkdir(path, 0700);
    for (unsigned i = 0; i < names; i++) { /* they are other files now */
        char file[300];
        struct image *of = image_of(name[i].inode);
        snprintf(file, sizeof file, "%s/%s", path, name[i].text);
        wal_spill(file, of->bytes, of->size);
        kept_image[i] = *of;
        *of = (struct image){.inode = name[i].inode};
        kept_image[i].inode = name[i].inode = inode_in(AT_FDCWD, file);
    }
    for (unsigned i = 0; i < images; i++)
        free(image[i].bytes);
    images = names;
    memcpy(image, kept_image, names * sizeof image[0]);
}

static void forget(const char *path)
{
    wal_remove(path);
    for (unsigned i = 0; i < images; i++)
        free(image[i].bytes);
    for (unsigned i = 0; i < pendings; i++)
        free(pending[i].bytes);
    images = pendings = names = changes = fail_at = calls = 0;
}

/* ---- what is written ---- */

/* A checkpoint says up to which record what is needed has been saved. */
struct reader {
    unsigned saved, next;
    bool any;
};

static int read_on(void *user, uint64_t lsn, const void *data, size_t len)
{
    struct reader *r = user;
    unsigned got;
    (void)lsn;
    memcpy(&got, data, sizeof got);
    for (size_t i = sizeof got; i < len; i++)
        if (((const unsigned char *)data)[i] != (unsigned char)got)
            return -EBADMSG;
    if (!r->any && got > r->saved)
        return -ENODATA;
    if (r->any && got != r->next)
        return -EPROTO;
    r->any = true;
    r->next = got + 1;
    return 0;
}

/* The number of the next record. */
static int read_all(const char *path, unsigned saved, unsigned *next)
{
    struct reader r = {.saved = saved, .next = saved};
    int status = ash_wal_replay(path, read_on, &r);
    *next = r.next;
    return status;
}

static const struct ash_wal_config config = {.struct_size = sizeof config, .buffer_bytes = 4096, .segment_bytes = 8192};

struct run {
    unsigned acked, saved;
    int status;
};

/* Appends, and now and then syncs and truncates, until it fails or `n` are in. */
static void write_on(struct ash_wal *w, unsigned first, unsigned n, struct run *run)
{
    unsigned char bytes[1200];
    run->status = 0;
    for (unsigned i = first; i < first + n && run->status == 0; i++) {
        uint64_t lsn;
        memset(bytes, (int)i, sizeof bytes);
        memcpy(bytes, &i, sizeof i);
        run->status = ash_wal_append(w, &(struct iovec){bytes, 4 + draw(sizeof bytes - 4)}, 1, &lsn);
        if (run->status != 0 || draw(4) > 0)
            continue;
        run->status = ash_wal_sync(w, lsn);
        if (run->status == 0)
            run->acked = i + 1;
        if (run->status == 0 && draw(12) == 0) {
            run->saved = i + 1;
            run->status = ash_wal_truncate(w, lsn);
        }
    }
}

/* Writes, loses power, opens, writes on. A log that is left open is one that was killed. */
static void test_power(void)
{
    unsigned lost = 0, bad = 0, rounds = 0, more = 0;
    uint64_t recycled = 0;
    for (unsigned turn = 0; turn < 150; turn++) {
        const char *path = wal_path("power");
        struct run run = {0, 0, 0};
        for (unsigned life = 0; life < 6; life++, rounds++) {
            struct ash_wal *w = NULL;
            struct ash_wal_stats s;
            unsigned next = 0;
            int status = ash_wal_open(path, &config, &w);
            bad += status != 0;
            if (status != 0)
                break;
            bad += read_all(path, run.saved, &next) != 0;
            lost += next < run.acked;
            more += next > run.acked;
            write_on(w, next, 1 + draw(60), &run);
            bad += run.status != 0;
            ash_wal_stats(w, &s);
            recycled += s.recycled;
            is_dead = true;
            ash_wal_close(w);
            is_dead = false;
            lose_power(path);
        }
        forget(path);
    }
    ok(rounds == 900 && bad == 0, "%u losses of power: every log opens and goes on", rounds);
    is_int(lost, 0, "nothing that was acknowledged is lost");
    ok(more > 0, "and sometimes more is there: %u", more);
    ok(recycled > rounds / 4, "files were used again: %d", (int)recycled);
}

/* Each call fails once. */
static void test_errors(void)
{
    static const int errors[] = {-EIO, -ENOSPC, -EDQUOT};
    unsigned bad = 0, lost = 0, failed = 0, tried = 0, unsaid = 0;
    for (unsigned n = 1; n < 160; n++)
        for (unsigned e = 0; e < 3; e++, tried++) {
            const char *path = wal_path("errors");
            struct ash_wal *w = NULL;
            struct run run = {0, 0, 0};
            unsigned next = 0;
            fail_at = n;
            fail_with = errors[e];
            int status = ash_wal_open(path, &config, &w);
            if (status == 0) {
                write_on(w, 0, 60, &run);
                status = run.status;
                struct ash_wal_stats s;
                ash_wal_stats(w, &s);
                if (s.error != 0) { /* it says so from now on, whatever is asked */
                    uint64_t synced_to = ash_wal_synced(w);
                    unsaid += ash_wal_append(w, &(struct iovec){&next, 1}, 1, NULL) != fail_with;
                    unsaid += ash_wal_sync(w, UINT64_MAX) != fail_with && synced_to != UINT64_MAX;
                    unsaid += ash_wal_truncate(w, 0) != fail_with || ash_wal_prepare(w) != fail_with;
                    unsaid += ash_wal_synced(w) != synced_to;
                    unsaid += ash_wal_close(w) != fail_with;
                } else {
                    bad += ash_wal_close(w) != 0 && calls < fail_at; /* a checkpoint failed, or room was not made */
                }
            }
            failed += status != 0;
            unsaid += status != 0 && status != fail_with;
            fail_at = 0;
            lose_power(path);
            bad += ash_wal_open(path, &config, &w) != 0 || read_all(path, run.saved, &next) != 0;
            lost += next < run.acked;
            write_on(w, next, 5, &run);
            bad += run.status != 0 || ash_wal_close(w) != 0;
            forget(path);
        }
    ok(failed > tried / 3, "%u of %u logs failed", failed, tried);
    is_int(unsaid, 0, "and went on saying why");
    is_int(bad, 0, "each opens anew, and goes on");
    is_int(lost, 0, "nothing that was acknowledged is lost");
}

/* A checkpoint whose names are not known to be synced: the file that it kept may still be a segment after a crash. */
static void test_names(void)
{
    const char *path = wal_path("names");
    struct ash_wal *w = wal_reopen(path, &config);
    struct run run = {0, 0, 0};
    unsigned next = 0;
    write_on(w, 0, 40, &run);
    is_int(ash_wal_sync(w, UINT64_MAX), 0, "all is synced");
    fail_at = 2; /* the first name is another, and the directory's sync fails */
    fail_with = -EIO;
    is_int(ash_wal_truncate(w, ash_wal_synced(w)), -EIO, "names that cannot be synced");
    ok(ash_wal_sync(w, UINT64_MAX) == -EIO && wal_put(w, "x", 1, NULL) == -EIO, "fail the log");
    is_int(ash_wal_close(w), -EIO, "to its end");
    lose_power(path);
    w = wal_reopen(path, &config);
    ok(read_all(path, 40, &next) == 0 && next == 40, "and all is there");
    write_on(w, next, 40, &run);
    ok(run.status == 0 && ash_wal_close(w) == 0, "opened anew it goes on");
    forget(path);
}

/* A log at the last places that there are. */
static void test_top(void)
{
    const uint64_t begin = UINT64_MAX / 2 - 7;
    static char file[8192];
    const char *path = wal_path("top");
    char segment[300];
    struct wal_head head = wal_head_make(1, begin, begin, false);
    struct run run = {0, 0, 0};
    unsigned next = 0;
    mkdir(path, 0700);
    memcpy(file, &head, sizeof head);
    snprintf(segment, sizeof segment, "%s/%016llx.wal", path, (unsigned long long)begin);
    wal_spill(segment, file, sizeof file);
    struct ash_wal *w = wal_reopen(path, &config);
    write_on(w, 0, 100, &run);
    ok(run.status == -EOVERFLOW && run.acked > 0, "places come to an end");
    is_int(ash_wal_close(w), -EOVERFLOW, "which is said");
    w = wal_reopen(path, &config);
    ok(read_all(path, 0, &next) == 0 && next >= run.acked && next < 100, "what was acknowledged is there");
    ash_wal_close(w);
    forget(path);
}

int main(void)
{
    wal_in_memory();
    test_power();
    test_errors();
    test_names();
    test_top();
    wal_remove(wal_dir);
    return tap_done();
}
