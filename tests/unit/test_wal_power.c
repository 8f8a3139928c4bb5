/*
 * Logs when power is lost or the device fails: the system calls below the log are wrapped (-Wl,--wrap), so that the
 * test knows what was synced and what was only written. After each of thousands of losses the files are as a device
 * could leave them: what was synced, and of the rest some sectors, in no order. All that was acknowledged has to be
 * there.
 */
#include "api/wals.h"

#include "os/os_dir.h"
#include "tap.h"

enum { FILES = 64, SECTOR = 512 };

/* What the device has of each file, by name; the rest of what was written is in the page cache. */
struct image {
    char name[32];
    unsigned char *bytes; /* synced */
    size_t size;
};

struct pending { /* written, not synced */
    char name[32];
    uint64_t at;
    size_t n;
    unsigned char *bytes;
};

static struct image image[FILES];
static struct pending pending[4096];
static unsigned images, pendings, calls, fail_at, seed = 1;
static int fail_with;
static bool is_dead; /* what the log still does is not done any more */

static unsigned draw(unsigned n)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % n;
}

static void name_of(int fd, char out[32])
{
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(path, '/');
    snprintf(out, 32, "%.31s", slash != NULL ? slash + 1 : "");
}

static struct image *image_of(const char *name)
{
    for (unsigned i = 0; i < images; i++)
        if (strcmp(image[i].name, name) == 0)
            return &image[i];
    if (images == FILES)
        abort();
    memset(&image[images], 0, sizeof image[0]);
    strcpy(image[images].name, name);
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

static void synced(const char *name)
{
    unsigned left = 0;
    for (unsigned i = 0; i < pendings; i++)
        if (strcmp(pending[i].name, name) == 0) {
            image_write(image_of(name), pending[i].at, pending[i].bytes, pending[i].n);
            free(pending[i].bytes);
        } else {
            pending[left++] = pending[i];
        }
    pendings = left;
}

/* The n-th call fails. */
static bool fails(void)
{
    return fail_at > 0 && ++calls == fail_at;
}

int __real_os_dir_write_at(int fd, const void *bytes, size_t n, uint64_t at);
int __wrap_os_dir_write_at(int fd, const void *bytes, size_t n, uint64_t at);
int __real_os_dir_sync(int fd);
int __wrap_os_dir_sync(int fd);
int __real_os_dir_sync_data(int fd);
int __wrap_os_dir_sync_data(int fd);
int __real_os_dir_rename(int dir, const char *from, const char *to);
int __wrap_os_dir_rename(int dir, const char *from, const char *to);
int __real_os_dir_cut(int fd, uint64_t size);
int __wrap_os_dir_cut(int fd, uint64_t size);

int __wrap_os_dir_write_at(int fd, const void *bytes, size_t n, uint64_t at)
{
    struct pending *p = &pending[pendings];
    if (is_dead)
        return -EIO;
    if (pendings == sizeof pending / sizeof pending[0])
        abort();
    if (fails())
        n = draw((unsigned)n + 1); /* some of it was written */
    *p = (struct pending){.at = at, .n = n, .bytes = malloc(n + 1)};
    name_of(fd, p->name);
    memcpy(p->bytes, bytes, n);
    pendings++;
    int status = __real_os_dir_write_at(fd, bytes, n, at);
    return fail_at > 0 && calls == fail_at ? fail_with : status;
}

static int sync_it(int fd)
{
    char name[32];
    name_of(fd, name);
    if (is_dead)
        return -EIO;
    if (fails()) { /* and the kernel forgets that there was something to write */
        for (unsigned i = 0; i < pendings; i++)
            if (strcmp(pending[i].name, name) == 0)
                pending[i].n = 0;
        return fail_with;
    }
    synced(name);
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

int __wrap_os_dir_rename(int dir, const char *from, const char *to)
{
    if (is_dead || fails())
        return is_dead ? -EIO : fail_with;
    for (unsigned i = 0; i < pendings; i++) /* a file that is renamed before it is synced would lose them */
        if (strcmp(pending[i].name, from) == 0)
            abort();
    struct image *i = image_of(from);
    strcpy(i->name, to);
    return __real_os_dir_rename(dir, from, to);
}

int __wrap_os_dir_cut(int fd, uint64_t size)
{
    char name[32];
    name_of(fd, name);
    struct image *i = image_of(name);
    i->size = i->size < size ? i->size : size;
    return __real_os_dir_cut(fd, size);
}

/* The directory as the device has it: some sectors of what was not synced, others not. */
static void lose_power(const char *path)
{
    wal_remove(path);
    mkdir(path, 0700);
    unsigned kept = draw(5); /* of four sectors */
    for (unsigned p = 0; p < pendings; p++) {
        struct image *i = image_of(pending[p].name);
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
    for (unsigned i = 0; i < images; i++)
        if (image[i].size > 0) {
            char file[300];
            snprintf(file, sizeof file, "%s/%s", path, image[i].name);
            wal_spill(file, image[i].bytes, image[i].size);
        }
}

static void forget(const char *path)
{
    wal_remove(path);
    for (unsigned i = 0; i < images; i++)
        free(image[i].bytes);
    for (unsigned i = 0; i < pendings; i++)
        free(pending[i].bytes);
    images = pendings = fail_at = calls = 0;
}

static int read_on(void *user, uint64_t lsn, const void *data, size_t len)
{
    unsigned *next = user, got;
    (void)lsn;
    memcpy(&got, data, sizeof got);
    for (size_t i = sizeof got; i < len; i++)
        if (((const unsigned char *)data)[i] != (unsigned char)got)
            return -EBADMSG;
    return got == (*next)++ ? 0 : -EPROTO;
}

static const struct ash_wal_config config = {.struct_size = sizeof config, .buffer_bytes = 4096, .segment_bytes = 8192};

/* Appends and syncs now and then until it fails or `n` are in; how many are acknowledged. */
static unsigned write_on(struct ash_wal *w, unsigned first, unsigned n, int *status)
{
    unsigned acked = first;
    unsigned char bytes[1200];
    *status = 0;
    for (unsigned i = first; i < first + n && *status == 0; i++) {
        uint64_t lsn;
        memset(bytes, (int)i, sizeof bytes);
        memcpy(bytes, &i, sizeof i);
        *status = ash_wal_append(w, &(struct iovec){bytes, 4 + draw(sizeof bytes - 4)}, 1, &lsn);
        if (*status == 0 && draw(4) == 0 && (*status = ash_wal_sync(w, lsn)) == 0)
            acked = i + 1;
    }
    return acked;
}

/* Writes, loses power, opens, writes on. A log that is left open is one that was killed. */
static void test_power(void)
{
    unsigned lost = 0, bad = 0, rounds = 0, more = 0;
    for (unsigned turn = 0; turn < 150; turn++) {
        const char *path = wal_path("power");
        unsigned acked = 0;
        for (unsigned life = 0; life < 6; life++, rounds++) {
            struct ash_wal *w = NULL;
            unsigned next = 0;
            int status = ash_wal_open(path, &config, &w);
            bad += status != 0;
            if (status != 0)
                break;
            bad += ash_wal_replay(path, read_on, &next) != 0;
            lost += next < acked;
            more += next > acked;
            acked = write_on(w, next, 1 + draw(30), &status);
            bad += status != 0;
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
}

/* Each call fails once. */
static void test_errors(void)
{
    static const int errors[] = {-EIO, -ENOSPC, -EDQUOT};
    unsigned bad = 0, lost = 0, failed = 0, tried = 0, unsaid = 0;
    for (unsigned n = 1; n < 120; n++)
        for (unsigned e = 0; e < 3; e++, tried++) {
            const char *path = wal_path("errors");
            struct ash_wal *w = NULL;
            unsigned acked = 0, next = 0;
            fail_at = n;
            fail_with = errors[e];
            int status = ash_wal_open(path, &config, &w);
            if (status == 0) {
                acked = write_on(w, 0, 60, &status);
                if (status != 0) { /* it says so from now on, whatever is asked */
                    uint64_t synced_to = ash_wal_synced(w);
                    unsaid += ash_wal_append(w, &(struct iovec){&next, 1}, 1, NULL) != fail_with;
                    unsaid += ash_wal_sync(w, UINT64_MAX) != fail_with && synced_to != UINT64_MAX;
                    unsaid += ash_wal_synced(w) != synced_to;
                    unsaid += ash_wal_close(w) != fail_with;
                } else {
                    status = ash_wal_close(w);
                }
            }
            failed += status != 0;
            unsaid += status != 0 && status != fail_with;
            fail_at = 0;
            lose_power(path);
            bad += ash_wal_open(path, &config, &w) != 0 || ash_wal_replay(path, read_on, &next) != 0;
            lost += next < acked;
            bad += write_on(w, next, 5, &status) < next || status != 0 || ash_wal_close(w) != 0;
            forget(path);
        }
    ok(failed > tried / 2, "%u of %u logs failed", failed, tried);
    is_int(unsaid, 0, "and went on saying why");
    is_int(bad, 0, "each opens anew, and goes on");
    is_int(lost, 0, "nothing that was acknowledged is lost");
}

int main(void)
{
    wal_in_memory();
    test_power();
    test_errors();
    wal_remove(wal_dir);
    return tap_done();
}
