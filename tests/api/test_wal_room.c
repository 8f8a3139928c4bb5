/*
 * The files of a log (ashlar/wal.h): they have their full size from the beginning, the next one is there before it is
 * needed, those that a checkpoint drops are used again, and what they held is never taken for records. Then
 * directories in which something is missing or strange, and a log that is read while it is written.
 */
#include "wals.h"

#include "process.h"
#include "tap.h"

#include <pthread.h>
#include <sys/mount.h>

enum { SEGMENT = 65536 };

static const struct ash_wal_config config = {
    .struct_size = sizeof config, .buffer_bytes = 8192, .segment_bytes = SEGMENT, .spares = 2};

static struct ash_wal_stats stats(struct ash_wal *w)
{
    struct ash_wal_stats s;
    ash_wal_stats(w, &s);
    return s;
}

static int status_of(const char *dir, const char *name, struct stat *st)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return lstat(path, st);
}

static bool is_there(const char *dir, const char *name)
{
    struct stat st;
    return status_of(dir, name, &st) == 0;
}

static uint64_t last_inode(const char *dir)
{
    char last[512];
    struct stat st;
    wal_last(dir, last);
    return stat(last, &st) == 0 ? st.st_ino : 0;
}

/* Records of 1000 bytes, each synced, numbered. */
static uint64_t fill(struct ash_wal *w, unsigned from, unsigned n)
{
    unsigned record[250] = {0};
    uint64_t lsn = 0;
    for (unsigned i = from; i < from + n; i++) {
        for (unsigned k = 0; k < 250; k++)
            record[k] = i + k;
        if (wal_put(w, record, sizeof record, &lsn) != 0 || ash_wal_sync(w, lsn) != 0)
            return 0;
    }
    return lsn;
}

struct seen {
    unsigned first, next, count;
    bool wrong;
};

static int see(void *user, uint64_t lsn, const void *data, size_t len)
{
    struct seen *s = user;
    const unsigned *record = data;
    (void)lsn;
    for (unsigned k = 0; k < len / 4; k++)
        s->wrong |= record[k] != record[0] + k;
    if (s->count++ == 0)
        s->first = record[0];
    else
        s->wrong |= record[0] != s->next;
    s->next = record[0] + 1;
    return 0;
}

/* ---- room ---- */

/* What a new log of the usual size begins with, and what follows. */
static void test_young(void)
{
    const char *path = wal_path("young");
    char last[512];
    struct stat st;
    struct ash_wal *w = wal_reopen(path, NULL);
    wal_last(path, last);
    ok(stat(last, &st) == 0 && st.st_size == 1 << 20, "a new log begins with 1 MiB");
    is_int(ash_wal_prepare(w), 0, "room for more");
    ok(status_of(path, "0.spare", &st) == 0 && st.st_size == 2 << 20, "is twice as large");
    static char record[64000];
    uint64_t lsn;
    for (off_t size = 2 << 20; size <= 16 << 20; size *= 2) {
        for (uint64_t segments = stats(w).segments; stats(w).segments == segments;)
            if (wal_put(w, record, sizeof record, &lsn) != 0 || ash_wal_sync(w, lsn) != 0)
                abort();
        wal_last(path, last);
        ok(stat(last, &st) == 0 && st.st_size == size, "then %d MiB", (int)(size >> 20));
    }
    ash_wal_prepare(w);
    ok(status_of(path, "0.spare", &st) == 0 && st.st_size == 16 << 20, "and no more than that");
    is_int(ash_wal_truncate(w, ash_wal_synced(w)), 0, "the small ones");
    ok(!is_there(path, "1.spare"), "are not used again");
    ash_wal_close(w);
}

static void test_ahead(void)
{
    const char *path = wal_path("ahead");
    char last[512];
    struct stat st;
    struct ash_wal *w = wal_reopen(path, &config);
    wal_last(path, last);
    ok(stat(last, &st) == 0 && st.st_size == SEGMENT && st.st_blocks * 512 >= SEGMENT,
       "a file of full size, without holes");
    fill(w, 0, 10);
    ok(!is_there(path, "0.spare"), "a log of few records makes no room");
    fill(w, 10, 20);
    ok(status_of(path, "0.spare", &st) == 0 && st.st_size == SEGMENT && st.st_blocks * 512 >= SEGMENT,
       "half full there is room for the next");
    ok(!is_there(path, "new.tmp") && stats(w).segments == 1, "which is not in use");
    uint64_t inode = st.st_ino;
    fill(w, 30, 40);
    is_int((long long)stats(w).segments, 2, "the next segment");
    ok(last_inode(path) == inode, "is that file");
    ash_wal_close(w);
    struct seen seen = {0};
    is_int(ash_wal_replay(path, see, &seen), 0, "replayed");
    ok(!seen.wrong && seen.first == 0 && seen.count == 70, "all records");
}

static void test_prepare(void)
{
    const char *path = wal_path("prepare");
    struct stat st;
    struct ash_wal *w = wal_reopen(path, &config);
    is_int(ash_wal_prepare(w), 0, "room on request");
    ok(status_of(path, "0.spare", &st) == 0 && st.st_size == SEGMENT, "is there");
    is_int(ash_wal_prepare(w), 0, "asked again");
    ok(!is_there(path, "1.spare"), "there is no more of it");
    ash_wal_close(w);
    w = wal_reopen(path, &config);
    ok(status_of(path, "0.spare", &st) == 0, "it outlives the log");
    fill(w, 0, 70);
    ok(last_inode(path) == st.st_ino, "and is used");
    ash_wal_close(w);
    w = wal_reopen(path, ASH_WAL_CONFIG(.buffer_bytes = 8192, .segment_bytes = SEGMENT - 1000));
    fill(w, 70, 70);
    char last[512];
    wal_last(path, last);
    is_int(stat(last, &st) == 0 ? st.st_size : -1, SEGMENT, "sizes are rounded up");
    ash_wal_close(w);
    w = wal_reopen(path, ASH_WAL_CONFIG(.buffer_bytes = 8192, .segment_bytes = 2 * SEGMENT));
    ok(!is_there(path, "0.spare"), "spares of another size go");
    is_int(ash_wal_prepare(w), 0, "and one of this size");
    ok(status_of(path, "0.spare", &st) == 0 && st.st_size == 2 * SEGMENT, "comes");
    ash_wal_close(w);
    is_int(ash_wal_prepare(NULL), -EINVAL, "no log");
    struct ash_wal *bad = NULL;
    is_int(ash_wal_open(path, ASH_WAL_CONFIG(.spares = 65), &bad), -EINVAL, "too many spares");
    is_int(ash_wal_open(path, ASH_WAL_CONFIG(.segment_bytes = (size_t)2 << 30), &bad), -EINVAL, "large segments");
}

static void test_again(void)
{
    const char *path = wal_path("again");
    struct ash_wal *w = wal_reopen(path, &config);
    uint64_t inode[64], files = 0;
    unsigned most = 0, next = 0;
    for (unsigned i = 0; i < 60; i++) {
        uint64_t lsn = fill(w, next, 50), known = 0;
        next += 50;
        for (unsigned k = 0; k < files; k++)
            known |= inode[k] == last_inode(path);
        if (known == 0)
            inode[files++] = last_inode(path);
        if (ash_wal_truncate(w, lsn) != 0)
            abort();
        most = stats(w).segments > most ? (unsigned)stats(w).segments : most;
    }
    struct ash_wal_stats s = stats(w);
    ok(s.removed + s.recycled > 40 && s.recycled > 30, "%d files were used again, %d removed", (int)s.recycled,
       (int)s.removed);
    ok(files <= 4, "the log lived in %d files", (int)files);
    ok(is_there(path, "1.spare") && !is_there(path, "2.spare"), "two are kept");
    struct seen seen = {0};
    struct ash_wal_report r;
    is_int(ash_wal_replay(path, see, &seen), 0, "replayed");
    ok(!seen.wrong && seen.next == next && seen.count <= 70, "none of the records before: %u to %u", seen.first,
       seen.next);
    is_int(ash_wal_check(path, &r), 0, "checked");
    is_int((long long)r.torn_bytes, 0, "what they held before is no torn end");
    ash_wal_close(w);
    w = wal_reopen(path, &config);
    ok(w != NULL && fill(w, next, 100) > 0, "opened, it goes on");
    ash_wal_close(w);
    memset(&seen, 0, sizeof seen);
    is_int(ash_wal_replay(path, see, &seen), 0, "replayed");
    ok(!seen.wrong && seen.next == next + 100, "all is there");
}

/* The last records of a file that was used before, torn at each byte: behind it is what it held then. */
static void test_stale(void)
{
    const char *path = wal_path("stale");
    const struct ash_wal_config small = {
        .struct_size = sizeof small, .buffer_bytes = 4096, .segment_bytes = 8192, .spares = 1};
    struct ash_wal *w = wal_reopen(path, &small);
    char last[512], spare[512];
    uint64_t lsn = fill(w, 0, 15), ends[4]; /* too few in the last to make room for another */
    is_int(ash_wal_truncate(w, lsn), 0, "one file is kept");
    snprintf(spare, sizeof spare, "%s/0.spare", path);
    size_t n, held;
    unsigned char *before = wal_slurp(spare, &held);
    uint64_t segments = stats(w).segments + stats(w).recycled;
    unsigned next = 15;
    for (; stats(w).segments + stats(w).recycled == segments; next++)
        fill(w, next, 1);
    for (unsigned i = 0; i < 4; i++)
        ends[i] = fill(w, next++, 1);
    wal_last(path, last);
    unsigned char *now = wal_slurp(last, &n), *image = malloc(n);
    uint64_t begin = strtoull(strrchr(last, '/') + 1, NULL, 16);
    ok(n == 8192 && held == n && before[0] != 0 && memcmp(now + 7000, before + 7000, n - 7000) == 0,
       "it holds what it held");
    ash_wal_close(w);
    unsigned bad = 0;
    for (size_t cut = 64 + ends[1] - begin; cut <= 64 + ends[3] - begin; cut++) {
        struct seen seen = {0};
        struct ash_wal_report r;
        unsigned want = next - 2;
        for (unsigned i = 2; i < 4; i++)
            want += cut >= 64 + ends[i] - begin;
        memcpy(image, now, cut);
        memcpy(image + cut, before + cut, n - cut);
        if (memcmp(image, now, 64 + ends[2] - begin) == 0 && want == next - 2)
            want++; /* the byte was the same before */
        if (memcmp(image, now, 64 + ends[3] - begin) == 0)
            want = next;
        wal_spill(last, image, n);
        bad += ash_wal_replay(path, see, &seen) != 0 || seen.wrong || seen.next != want;
        bad += ash_wal_check(path, &r) != 0 || r.torn_bytes != 0;
        if (cut % 16 != 0)
            continue;
        w = wal_reopen(path, &small);
        bad += w == NULL || fill(w, want, 2) == 0 || ash_wal_close(w) != 0;
        memset(&seen, 0, sizeof seen);
        bad += ash_wal_replay(path, see, &seen) != 0 || seen.wrong || seen.next != want + 2;
    }
    is_int(bad, 0, "torn at each byte it ends there, and goes on from there");
    free(before);
    free(now);
    free(image);
}

static void test_no_space(void)
{
    const char *path = wal_path("space");
    char log[200], filler[200];
    mkdir(path, 0700);
    if (mount("none", path, "tmpfs", 0, "size=256k") != 0) {
        skip("tmpfs cannot be mounted", 7);
        return;
    }
    snprintf(log, sizeof log, "%s/log", path);
    snprintf(filler, sizeof filler, "%s/filler", path);
    struct ash_wal *w = wal_reopen(log, &config);
    static char bytes[160 * 1024];
    wal_spill(filler, bytes, sizeof bytes); /* less than a file is left */
    is_int(ash_wal_prepare(w), -ENOSPC, "no room for the next segment");
    ok(!is_there(log, "new.tmp") && stats(w).error == 0, "leaves nothing, and the log is good");
    unsigned good = 0;
    uint64_t lsn = 0, synced = 0;
    while (fill(w, good, 1) > 0)
        good++;
    synced = ash_wal_synced(w);
    is_int(stats(w).error, ENOSPC, "until it is needed");
    ok(good > 55 && good < 64, "all %u records that fit were acknowledged", good);
    is_int(wal_put(w, "x", 1, &lsn), -ENOSPC, "no more are taken");
    ok(ash_wal_synced(w) == synced && ash_wal_close(w) == -ENOSPC, "and none said to be there");
    unlink(filler);
    w = wal_reopen(log, &config);
    struct seen seen = {0};
    ok(ash_wal_replay(log, see, &seen) == 0 && !seen.wrong && seen.next >= good && fill(w, seen.next, 70) > 0,
       "with space again it goes on");
    ash_wal_close(w);
    umount(path);
}

/* ---- what is strange ---- */

static void spill_in(const char *path, const char *name, const void *bytes, size_t n)
{
    char file[512];
    snprintf(file, sizeof file, "%s/%s", path, name);
    wal_spill(file, bytes, n);
}

static void test_strange(void)
{
    const char *path = wal_path("strange"), *other = wal_path("other");
    struct ash_wal *w = wal_reopen(path, &config), *o = wal_reopen(other, &config);
    struct ash_wal_report r;
    struct seen seen = {0};
    char last[512], file[512];
    size_t n;
    fill(w, 0, 130);
    fill(o, 0, 10);
    ash_wal_close(w);
    ash_wal_close(o);
    spill_in(path, "README", "x", 1);
    spill_in(path, "0000000000000000.wal.bak", "x", 1);
    spill_in(path, "000000000000000G.wal", "x", 1);
    spill_in(path, "new.tmp", "half", 4);
    spill_in(path, "0.spare", "short", 5);
    w = wal_reopen(path, &config);
    ok(w != NULL && fill(w, 130, 10) > 0 && ash_wal_close(w) == 0, "files of other names are left alone");
    ok(is_there(path, "README") && is_there(path, "0000000000000000.wal.bak") && !is_there(path, "new.tmp"),
       "but for those that a crash leaves");
    is_int(ash_wal_replay(path, see, &seen), 0, "the log is good");
    ok(!seen.wrong && seen.count == 140, "all of it");
    unsigned segments = wal_last(path, last); /* and the one with a G */

    snprintf(file, sizeof file, "%s/0.spare", path);
    unlink(file);
    mkdir(file, 0700);
    is_int(ash_wal_open(path, &config, &w), -EISDIR, "a directory where a file should be");
    rmdir(file);

    snprintf(file, sizeof file, "%s/00000000000fffff.wal", path);
    wal_spill(file, "not a segment of a log, but long enough to have a head, if it were one at all", 77);
    is_int(ash_wal_open(path, &config, &w), -EBADMSG, "a file that is no segment where the last should be");
    ok(ash_wal_check(path, &r) == -EBADMSG && strcmp(r.damaged_file, "00000000000fffff.wal") == 0, "is named");
    unlink(file);

    char first[512];
    snprintf(first, sizeof first, "%s/0000000000000000.wal", path);
    snprintf(file, sizeof file, "%s/0000000000000000.wal", other);
    unsigned char *mine = wal_slurp(first, &n), *theirs = wal_slurp(file, &n);
    wal_spill(first, theirs, n);
    ok(ash_wal_check(path, &r) == -EBADMSG && r.damaged_file[0] != '\0', "the first segment of another log");
    wal_spill(first, mine, n / 2);
    ok(ash_wal_check(path, &r) == -EBADMSG && strcmp(r.damaged_file, "0000000000000000.wal") == 0 &&
           r.damaged_at > n / 3,
       "a segment cut in two");
    unlink(first);
    is_int(ash_wal_check(path, &r), 0, "without its first segment it is one that was truncated");
    ok(r.segments == segments - 2 && r.first_lsn > 60000, "and says where it begins: %d", (int)r.first_lsn);
    wal_spill(first, mine, n);
    is_int(ash_wal_check(path, &r), 0, "put back, it is good");
    is_int((long long)r.records, 140, "all of it");
    unlink(last);
    is_int(ash_wal_check(path, &r), 0, "the last one nobody misses");
    free(mine);
    free(theirs);
}

/* ---- read while it is written ---- */

struct writer {
    struct ash_wal *wal;
    unsigned acked; /* atomic */
    unsigned stop;  /* atomic */
};

static void *write_on(void *arg)
{
    struct writer *me = arg;
    for (unsigned i = 0; !__atomic_load_n(&me->stop, __ATOMIC_RELAXED) && i < 40000; i++) {
        if (fill(me->wal, i, 1) == 0)
            abort();
        __atomic_store_n(&me->acked, i + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void test_live(void)
{
    const char *path = wal_path("live"); /* in memory syncs take no time, so reading is slow */
    struct writer me = {.wal = wal_reopen(path, ASH_WAL_CONFIG(.segment_bytes = 4 << 20))};
    pthread_t thread;
    unsigned wrong = 0, missing = 0, reads = under_valgrind() ? 5 : 100;
    pthread_create(&thread, NULL, write_on, &me);
    for (unsigned i = 0; i < reads; i++) {
        struct seen seen = {0};
        unsigned acked = __atomic_load_n(&me.acked, __ATOMIC_ACQUIRE);
        wrong += ash_wal_replay(path, see, &seen) != 0 || seen.wrong || (seen.count > 0 && seen.first != 0);
        missing += seen.count < acked;
    }
    __atomic_store_n(&me.stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    ok(wrong == 0, "read %u times while it is written: whole and in order", reads);
    is_int(missing, 0, "all that was acknowledged when it began");
    ash_wal_close(me.wal);
}

int main(void)
{
    test_ahead();
    test_prepare();
    wal_remove(wal_dir);
    wal_in_memory();
    test_young();
    test_again();
    test_stale();
    test_no_space();
    test_strange();
    test_live();
    wal_remove(wal_dir);
    return tap_done();
}
