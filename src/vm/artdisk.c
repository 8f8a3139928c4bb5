#include "vm/artdisk.h"

#include "ashlar/malloc.h"
#include "base/fmt.h"
#include "base/hash.h"
#include "os/os_clock.h"
#include "os/os_dir.h"
#include "os/os_file.h"
#include "os/os_mem.h"

#include <errno.h>

#define FILE_MAGIC  0x3130545241485341u /* "ASHART01" where the low byte comes first */
#define NS_PER_S    ((int64_t)1000000000)
#define TOUCH_NS    (60 * NS_PER_S)
#define LEFTOVER_NS (3600 * NS_PER_S) /* no write of one file takes that long */

enum { ALIGN = 64, FRESH_PART = 16, KEEP_PERCENT = 70, FILE_NAME = 40 };

struct header {
    uint64_t magic;
    uint64_t hash[2];
    uint64_t content_len;
    uint64_t config_len;
    uint64_t len;
    uint64_t reserved;
    uint64_t checksum; /* over this struct with 0 in this place, and all that follows */
};

_Static_assert(sizeof(struct header) == ALIGN, "the key begins behind the header");

static void name_of(char out[FILE_NAME], const uint64_t hash[2])
{
    fmt_text(out, FILE_NAME, "%016jx%016jx.art", hash[0], hash[1]);
}

/* Where the data begins; 0 when the lengths are those of no file. */
static uint64_t data_at(const struct header *h)
{
    const uint64_t most = (uint64_t)1 << 60;
    if (h->content_len > most || h->config_len > most || h->len > most)
        return 0;
    return align_up(sizeof *h + h->content_len + h->config_len, ALIGN);
}

static struct header header_of(const struct artifact *a)
{
    return (struct header){.magic = FILE_MAGIC,
                           .hash = {a->hash[0], a->hash[1]},
                           .content_len = a->key.content_len,
                           .config_len = a->key.config_len,
                           .len = a->len};
}

/* The header's own checksum is not looked at, nor the zeroes before the data. */
static uint64_t checksum_of(const struct header *h, const struct ash_artcache_key *key,
                            const void *data)
{
    struct header plain = *h;
    plain.checksum = 0;
    uint64_t sum = hash_bytes(&plain, sizeof plain, HASH_K0);
    sum = hash_bytes(key->content, h->content_len, sum);
    sum = hash_bytes(key->config, h->config_len, sum);
    return hash_bytes(data, h->len, sum);
}

/* ---- rule 2: what was verified ---- */

static _Atomic(uint64_t) *verified_place(struct artdisk *d, const uint64_t hash[2])
{
    return &d->verified[hash[0] % ARTDISK_VERIFIED];
}

static uint64_t stamp_of(const uint64_t hash[2], const struct os_file_info *file)
{
    uint64_t words[] = {hash[0],     hash[1],    file->device,
                        file->inode, file->size, (uint64_t)file->mtime_ns};
    return hash_bytes(words, sizeof words, HASH_K2);
}

static bool is_verified(struct artdisk *d, const uint64_t hash[2], const struct os_file_info *file)
{
    return load_relaxed(verified_place(d, hash)) == stamp_of(hash, file);
}

/* Stamps an open file with the present time, and remembers it as verified. */
static void stamp_verified(struct artdisk *d, int fd, const uint64_t hash[2])
{
    struct os_file_info file;
    os_dir_stamp(fd, os_dir_now());
    if (os_file_info(fd, &file) == 0)
        store_relaxed(verified_place(d, hash), stamp_of(hash, &file));
}

/* ---- reading ---- */

enum verdict { GOOD, DAMAGED, FOREIGN };

/* Nothing but zeroes stands before the data; the checksum is without them. */
static bool is_padded(const unsigned char *from, const unsigned char *data)
{
    while (from < data && *from == 0)
        from++;
    return from == data;
}

/* FOREIGN: a whole file, of another key with this hash. */
static enum verdict judge(struct artdisk *d, const struct artifact *a, const void *map,
                          const struct os_file_info *file)
{
    const struct header *h = map;
    uint64_t at = data_at(h);
    if (h->magic != FILE_MAGIC || at == 0 || at + h->len != file->size)
        return DAMAGED;
    const unsigned char *content = (const unsigned char *)(h + 1);
    struct ash_artcache_key key = {content, h->content_len, content + h->content_len,
                                   h->config_len};
    if (!is_padded(content + h->content_len + h->config_len, (const unsigned char *)map + at))
        return DAMAGED;
    if ((d->flags & ASH_ARTCACHE_TRUST) == 0 && !is_verified(d, a->hash, file) &&
        checksum_of(h, &key, (const unsigned char *)map + at) != h->checksum)
        return DAMAGED;
    return artifact_is(a, &key, h->hash) ? GOOD : FOREIGN;
}

/* Maps an open file; NULL if it is no artifact's at all. */
static void *map_file(int fd, struct os_file_info *file)
{
    if (os_file_info(fd, file) != 0 || !file->regular || file->size < sizeof(struct header) ||
        file->size > PTRDIFF_MAX)
        return NULL;
    return os_dir_map(fd, file->size);
}

static bool load_from(struct artdisk *d, struct artifact *a, int fd, const char *name)
{
    struct os_file_info file = {.size = 0};
    void *map = map_file(fd, &file);
    enum verdict verdict = map != NULL ? judge(d, a, map, &file) : DAMAGED;
    if (verdict == GOOD) {
        const struct header *h = map;
        a->map = map;
        a->map_len = file.size;
        a->len = h->len;
        a->data = (const unsigned char *)map + data_at(h);
        if (os_dir_now() - file.mtime_ns > TOUCH_NS || os_dir_now() < file.mtime_ns)
            stamp_verified(d, fd, a->hash);
        else
            store_relaxed(verified_place(d, a->hash), stamp_of(a->hash, &file));
        return true;
    }
    bool removed = false;
    if (map != NULL)
        os_dir_unmap(map, file.size);
    if (verdict == DAMAGED && (map != NULL || file.size < sizeof(struct header)))
        removed = os_dir_remove(d->dir, name) == 0;
    if (removed)
        add_relaxed(&d->damaged, 1);
    return false;
}

bool artdisk_load(struct artdisk *d, struct artifact *a)
{
    char name[FILE_NAME];
    if (d->dir < 0)
        return false;
    name_of(name, a->hash);
    int fd = os_dir_read(d->dir, name);
    if (fd < 0)
        return false;
    bool found = load_from(d, a, fd, name);
    os_close(fd);
    a->touched_ms = os_clock_ms();
    return found;
}

void artdisk_touch(struct artdisk *d, const struct artifact *a)
{
    char name[FILE_NAME];
    struct os_file_info file;
    name_of(name, a->hash);
    int fd = d->dir < 0 ? -1 : os_dir_read(d->dir, name);
    if (fd < 0)
        return;
    if (os_file_info(fd, &file) == 0 && is_verified(d, a->hash, &file))
        stamp_verified(d, fd, a->hash);
    else
        os_dir_stamp(fd, os_dir_now());
    os_close(fd);
}

/* ---- writing ---- */

static int write_all(int fd, const void *bytes, size_t n)
{
    return n > 0 ? os_write_all(fd, bytes, n) : 0;
}

static int write_file(int fd, const struct artifact *a, struct header *h)
{
    static const char zeroes[ALIGN];
    h->checksum = checksum_of(h, &a->key, a->data);
    size_t pad = data_at(h) - sizeof *h - h->content_len - h->config_len;
    int status = write_all(fd, h, sizeof *h);
    if (status == 0)
        status = write_all(fd, a->key.content, a->key.content_len);
    if (status == 0)
        status = write_all(fd, a->key.config, a->key.config_len);
    if (status == 0)
        status = write_all(fd, zeroes, pad);
    return status == 0 ? write_all(fd, a->data, a->len) : status;
}

static int store_as(struct artdisk *d, const struct artifact *a, struct header *h, const char *name)
{
    char temporary[FILE_NAME];
    uint64_t random[2];
    os_random(random, sizeof random);
    fmt_text(temporary, sizeof temporary, "%016jx%016jx.tmp", random[0], random[1]);
    int fd = os_dir_create(d->dir, temporary);
    if (fd < 0)
        return fd;
    bool sync = (d->flags & ASH_ARTCACHE_SYNC) != 0;
    int status = write_file(fd, a, h);
    if (status == 0) /* a process that renames after us may verify its file once more, no harm */
        stamp_verified(d, fd, a->hash);
    if (status == 0 && sync)
        status = os_dir_sync(fd);
    os_close(fd);
    if (status == 0)
        status = os_dir_rename(d->dir, temporary, name);
    if (status != 0)
        os_dir_remove(d->dir, temporary);
    else if (sync)
        status = os_dir_sync(d->dir);
    return status;
}

void artdisk_store(struct artdisk *d, const struct artifact *a)
{
    char name[FILE_NAME];
    struct header h = header_of(a);
    uint64_t size = data_at(&h) + a->len;
    if (d->dir < 0 || size > d->max_bytes / 100 * KEEP_PERCENT)
        return;
    name_of(name, a->hash);
    if (store_as(d, a, &h, name) != 0) {
        add_relaxed(&d->errors, 1);
        return;
    }
    uint64_t bytes = add_relaxed(&d->new_bytes, size) + size;
    uint64_t files = add_relaxed(&d->new_files, 1) + 1;
    if (load_relaxed(&d->bytes) + bytes > d->max_bytes || bytes > d->max_bytes / FRESH_PART ||
        load_relaxed(&d->files) + files > d->max_files || files > d->max_files / FRESH_PART)
        artdisk_look(d);
}

bool artdisk_remove(struct artdisk *d, const uint64_t hash[2])
{
    char name[FILE_NAME];
    name_of(name, hash);
    return d->dir >= 0 && os_dir_remove(d->dir, name) == 0;
}

/* ---- rule 4: the budgets ---- */

struct found {
    int64_t mtime_ns;
    uint64_t size;
    uint64_t hash[2];
};

struct finding {
    struct artdisk *d;
    int64_t now_ns;
    struct found *files; /* a heap when the directory was read: the oldest on top */
    size_t count, room;
    uint64_t bytes;
    bool failed;
};

/* The number that 16 hexadecimal digits are, and what stands behind them; NULL if they are none. */
static const char *read_hex(const char *s, uint64_t *out)
{
    *out = 0;
    for (unsigned i = 0; i < 16; i++, s++) {
        unsigned digit = *s >= '0' && *s <= '9'   ? (unsigned)(*s - '0')
                         : *s >= 'a' && *s <= 'f' ? (unsigned)(*s - 'a' + 10)
                                                  : 16;
        if (digit == 16)
            return NULL;
        *out = *out << 4 | digit;
    }
    return s;
}

static void find(void *ctx, const char *name)
{
    struct finding *f = ctx;
    struct os_file_info file;
    uint64_t hash[2];
    const char *end = read_hex(name, &hash[0]);
    end = end != NULL ? read_hex(end, &hash[1]) : NULL;
    if (end == NULL || os_name_info(f->d->dir, name, &file) != 0 || !file.regular)
        return;
    if (strcmp(end, ".tmp") == 0 && f->now_ns - file.mtime_ns > LEFTOVER_NS)
        os_dir_remove(f->d->dir, name);
    if (strcmp(end, ".art") != 0 || f->failed)
        return;
    if (f->count == f->room) {
        size_t room = f->room > 0 ? 2 * f->room : 256;
        struct found *files = ash_realloc(f->files, room * sizeof *files);
        f->failed = files == NULL;
        if (f->failed)
            return;
        f->files = files;
        f->room = room;
    }
    f->files[f->count++] = (struct found){file.mtime_ns, file.size, {hash[0], hash[1]}};
    f->bytes += file.size;
}

/* Lets the file at `i` sink below those that are older. */
static void sink(struct found *files, size_t count, size_t i)
{
    struct found it = files[i];
    for (size_t c; (c = 2 * i + 1) < count; i = c) {
        if (c + 1 < count && files[c + 1].mtime_ns < files[c].mtime_ns)
            c++;
        if (it.mtime_ns <= files[c].mtime_ns)
            break;
        files[i] = files[c];
    }
    files[i] = it;
}

/* Removes the oldest until 70 % of both budgets are left, if one is exceeded. */
static void shrink(struct finding *f)
{
    struct artdisk *d = f->d;
    if (f->bytes <= d->max_bytes && f->count <= d->max_files)
        return;
    for (size_t i = f->count / 2; i-- > 0;)
        sink(f->files, f->count, i);
    while (f->count > 0 && (f->bytes > d->max_bytes / 100 * KEEP_PERCENT ||
                            f->count > d->max_files * KEEP_PERCENT / 100)) {
        f->bytes -= f->files[0].size;
        if (artdisk_remove(d, f->files[0].hash))
            add_relaxed(&d->evictions, 1);
        f->files[0] = f->files[--f->count];
        if (f->count > 0)
            sink(f->files, f->count, 0);
    }
}

void artdisk_look(struct artdisk *d)
{
    if (d->dir < 0 || !os_trylock(&d->look))
        return;
    struct finding f = {.d = d, .now_ns = os_dir_now()};
    store_relaxed(&d->new_bytes, 0); /* what is written from here on may count twice: no harm */
    store_relaxed(&d->new_files, 0);
    os_dir_each(d->dir, find, &f);
    if (!f.failed)
        shrink(&f);
    store_relaxed(&d->bytes, f.bytes);
    store_relaxed(&d->files, f.count);
    ash_free(f.files);
    os_unlock(&d->look);
}

int artdisk_open(struct artdisk *d, const char *path, uint64_t max_bytes, uint64_t max_files,
                 unsigned flags)
{
    d->dir = path != NULL ? os_dir_open(path) : -1;
    d->flags = flags;
    d->max_bytes = max_bytes;
    d->max_files = max_files;
    artdisk_look(d);
    return path != NULL && d->dir < 0 ? d->dir : 0;
}

void artdisk_close(struct artdisk *d)
{
    if (d->dir >= 0)
        os_close(d->dir);
}
