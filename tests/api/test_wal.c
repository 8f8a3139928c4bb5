/*
 * Write-ahead logs (ashlar/wal.h). The first test is a counter that survives its process; then every function with its
 * answers, segments and checkpoints, ends torn at every byte, damage, threads, errors of the file system.
 */
#include "wals.h"

#include "ashlar/stats.h"
#include "tap.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

static struct ash_wal_stats stats(struct ash_wal *w)
{
    struct ash_wal_stats s;
    ash_wal_stats(w, &s);
    return s;
}

/* ---- how it is used ---- */

struct counter {
    long value;
    uint64_t lsn; /* of the last change */
};

static int redo(void *user, uint64_t lsn, const void *data, size_t len)
{
    struct counter *c = user;
    long by;
    if (len != sizeof by || lsn <= c->lsn)
        return -EPROTO;
    memcpy(&by, data, sizeof by);
    c->value += by;
    c->lsn = lsn;
    return 0;
}

static void test_example(void)
{
    const char *path = wal_path("counter");
    struct ash_wal *wal;
    is_int(ash_wal_open(path, NULL, &wal), 0, "a log");
    for (long by = 1; by <= 100; by++) {
        struct iovec record = {&by, sizeof by};
        uint64_t lsn;
        if (ash_wal_append(wal, &record, 1, &lsn) != 0 || (by % 10 == 0 && ash_wal_sync(wal, lsn) != 0))
            abort();
    }
    is_int((long long)stats(wal).syncs, 10, "a sync for each ten records");
    is_int(ash_wal_close(wal), 0, "the end");

    struct counter c = {0};
    is_int(ash_wal_open(path, NULL, &wal), 0, "again");
    is_int(ash_wal_replay(path, redo, &c), 0, "what was there");
    is_int(c.value, 5050, "all of it");
    is_int((long long)c.lsn, (long long)ash_wal_synced(wal) - 24, "up to the mark at the end");
    is_int(ash_wal_close(wal), 0, "the end");
}

/* ---- each function ---- */

static int collect(void *user, uint64_t lsn, const void *data, size_t len)
{
    (void)lsn;
    char *text = user;
    snprintf(text + strlen(text), 512 - strlen(text), "%.*s,", (int)len, (const char *)data);
    return 0;
}

static int stop_at_two(void *user, uint64_t lsn, const void *data, size_t len)
{
    (void)lsn, (void)data, (void)len;
    return ++*(int *)user == 2 ? 77 : 0;
}

static void test_append(void)
{
    const char *path = wal_path("append");
    struct ash_wal *w = wal_reopen(path, ASH_WAL_CONFIG(.name = "log", .buffer_bytes = 4096));
    uint64_t a = 0, b = 0, c = 0;
    struct iovec pieces[] = {{(char[]){'o', 'n'}, 2}, {NULL, 0}, {(char[]){'e'}, 1}};
    static char large[4096];
    is_int(ash_wal_append(w, pieces, 3, &a), 0, "a record of three pieces");
    is_int(wal_put(w, "two", 3, &b), 0, "one of one");
    is_int(wal_put(w, "three", 5, NULL), 0, "one whose place nobody wants");
    ok(a > 0 && b > a, "places grow");
    is_int((long long)ash_wal_synced(w), 0, "nothing is synced");
    is_int(ash_wal_sync(w, b), 0, "now the second is");
    ok(ash_wal_synced(w) >= b, "and says so");
    is_int(wal_put(w, large, sizeof large - 64, &c), 0, "the largest record");
    is_int(wal_put(w, large, sizeof large - 63, NULL), -EMSGSIZE, "larger");
    is_int(ash_wal_append(w, (struct iovec[]){{large, SIZE_MAX - 8}, {large, 100}}, 2, NULL), -EMSGSIZE,
           "lengths that wrap");
    is_int(wal_put(w, "", 0, NULL), -EINVAL, "nothing");
    is_int(ash_wal_append(w, pieces, 0, NULL), -EINVAL, "no pieces");
    is_int(ash_wal_append(w, (struct iovec[]){{NULL, 4}}, 1, NULL), -EINVAL, "NULL and a length");
    is_int(ash_wal_append(NULL, pieces, 3, NULL), -EINVAL, "no log");
    is_int(ash_wal_sync(w, c + 1), -EINVAL, "a place that is not there");
    is_int(ash_wal_sync(w, UINT64_MAX), 0, "all there is");
    is_int((long long)ash_wal_synced(w), (long long)c, "is synced");
    is_int(ash_wal_sync(w, 0), 0, "nothing");
    int seen = 0;
    is_int(ash_wal_replay(path, stop_at_two, &seen), 77, "replay ends with what its function returns");
    is_int(seen, 2, "at once");
    struct ash_wal_stats s = stats(w);
    ok(s.records == 4 && s.bytes == 3 + 3 + 5 + 4032 && s.segments == 1 && s.error == 0 && s.end_lsn == c,
       "the figures");
    int pipes[2];
    char text[512] = "";
    if (pipe(pipes) != 0)
        exit(99);
    is_int(ash_wal_dump(w, pipes[1]), 0, "as text");
    ok(read(pipes[0], text, sizeof text - 1) > 0 && strstr(text, "wal log: end ") == text &&
           strstr(text, "records 4 (3.9 KiB)"),
       "which reads well: %s", text);
    is_int(ash_stats_dump(pipes[1], ASH_JSON), 0, "with the others");
    close(pipes[1]);
    char all[65536];
    size_t n = 0;
    for (ssize_t got; (got = read(pipes[0], all + n, sizeof all - 1 - n)) > 0;)
        n += (size_t)got;
    all[n] = '\0';
    close(pipes[0]);
    ok(strstr(all, "\"wals\"") != NULL && strstr(all, "\"log\"") != NULL, "it is there");
    is_int(ash_wal_close(w), 0, "closed");
    char got[512] = "";
    is_int(ash_wal_replay(path, collect, got), 0, "all records");
    got[14] = '\0';
    is_str(got, "one,two,three,", "in order");
    is_int(ash_wal_close(NULL), 0, "closing nothing");
}

static void test_wrong(void)
{
    struct ash_wal *w = NULL;
    struct ash_wal_config unset = {.struct_size = 0, .buffer_bytes = 8192};
    struct ash_wal_report r;
    char got[512] = "";
    is_int(ash_wal_open(NULL, NULL, &w), -EINVAL, "no path");
    is_int(ash_wal_open(wal_path("x"), NULL, NULL), -EINVAL, "no place for the log");
    is_int(ash_wal_open(wal_path("x"), &unset, &w), -EINVAL, "a config without its size");
    is_int(ash_wal_open(wal_path("x"), ASH_WAL_CONFIG(.buffer_bytes = 100), &w), -EINVAL, "a small buffer");
    is_int(ash_wal_open(wal_path("x"), ASH_WAL_CONFIG(.segment_bytes = 100), &w), -EINVAL, "small segments");
    is_int(ash_wal_open(wal_path("x"), ASH_WAL_CONFIG(.name = "a\"b"), &w), -EINVAL, "a quote in its name");
    is_int(ash_wal_open(wal_path("no/such/place"), NULL, &w), -ENOENT, "nothing above it");
    wal_spill(wal_path("file"), "x", 1);
    is_int(ash_wal_open(wal_path("file"), NULL, &w), -ENOTDIR, "a file");
    is_int(ash_wal_replay(wal_path("absent"), collect, got), -ENOENT, "no log");
    is_int(ash_wal_replay(wal_path("file"), collect, got), -ENOTDIR, "a file");
    is_int(ash_wal_replay(wal_path("x"), NULL, got), -EINVAL, "no function");
    is_int(ash_wal_check(wal_path("absent"), &r), -ENOENT, "no log to check");
    is_int(ash_wal_check(wal_path("absent"), NULL), -EINVAL, "no report");
    is_int(ash_wal_sync(NULL, 0), -EINVAL, "sync of nothing");
    is_int(ash_wal_truncate(NULL, 0), -EINVAL, "truncate of nothing");
    is_int(ash_wal_stats(NULL, NULL), -EINVAL, "figures of nothing");
    is_int(ash_wal_dump(NULL, 1), -EINVAL, "text of nothing");
    ok(w == NULL, "and no log");
}

static void test_lock(void)
{
    const char *path = wal_path("lock");
    struct ash_wal *w = wal_reopen(path, NULL), *second = NULL;
    is_int(ash_wal_open(path, NULL, &second), -EBUSY, "open twice in a process");
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(ash_wal_open(path, NULL, &second) == -EBUSY ? 0 : 1);
    waitpid(child, &status, 0);
    is_int(status, 0, "and in two");
    ash_wal_close(w);
    is_int(ash_wal_open(path, NULL, &second), 0, "when it was closed it can be");
    ash_wal_close(second);
}

/* ---- segments ---- */

static int count_records(void *user, uint64_t lsn, const void *data, size_t len)
{
    uint64_t *first = user, n;
    (void)lsn;
    memcpy(&n, data, sizeof n);
    if (len < sizeof n || (first[1] > 0 && n != first[0] + first[1]))
        return -EPROTO;
    if (first[1]++ == 0)
        first[0] = n;
    return 0;
}

static void test_segments(void)
{
    const char *path = wal_path("segments");
    const struct ash_wal_config config = {.struct_size = sizeof config, .buffer_bytes = 4096, .segment_bytes = 8192};
    struct ash_wal *w = wal_reopen(path, &config);
    char record[100] = "", last[512];
    uint64_t place[1000], seen[2] = {0, 0};
    for (uint64_t i = 0; i < 1000; i++) {
        memcpy(record, &i, sizeof i);
        if (wal_put(w, record, sizeof record, &place[i]) != 0)
            abort();
    }
    is_int(ash_wal_truncate(w, UINT64_MAX), -EINVAL, "what is not synced cannot be dropped");
    is_int(ash_wal_sync(w, place[999]), 0, "1000 records");
    unsigned many = wal_last(path, last);
    ok(many > 10 && stats(w).segments == many, "in %u segments", many);
    is_int(ash_wal_replay(path, count_records, seen), 0, "replayed");
    ok(seen[0] == 0 && seen[1] == 1000, "all of them");
    is_int(ash_wal_truncate(w, place[499]), 0, "the first half is not needed any more");
    seen[1] = 0;
    is_int(ash_wal_replay(path, count_records, seen), 0, "what is left");
    ok(seen[0] > 300 && seen[0] <= 500 && seen[0] + seen[1] == 1000, "begins at %d", (int)seen[0]);
    struct ash_wal_stats s = stats(w);
    ok(s.removed + s.recycled == many - wal_last(path, last) && s.recycled == 2, "the others are gone, or used again");
    is_int(ash_wal_truncate(w, place[999]), 0, "all of it");
    is_int(wal_last(path, last), 1, "leaves one");
    ash_wal_close(w);
    w = wal_reopen(path, &config);
    ok(w != NULL && stats(w).segments == 1 && stats(w).end_lsn >= place[999], "places go on after that");
    uint64_t next;
    is_int(wal_put(w, record, sizeof record, &next), 0, "another");
    ok(next > place[999], "behind the others");
    ash_wal_close(w);
}

/* ---- ends that are torn, and damage ---- */

enum { FULL = 8192 };

static const struct ash_wal_config short_ones = {.struct_size = sizeof short_ones, .segment_bytes = FULL};

/* Five records of one group each, as a file up to its last; `ends` are the places behind them. */
static unsigned char *make_file(const char *path, char file[512], size_t *n, uint64_t ends[5])
{
    struct ash_wal *w = wal_reopen(path, &short_ones);
    for (unsigned i = 0; i < 5; i++) {
        char text[40];
        int len = snprintf(text, sizeof text, "record %u%.*s", i, (int)i * 3, "and so on and on");
        if (wal_put(w, text, (size_t)len, &ends[i]) != 0 || ash_wal_sync(w, ends[i]) != 0)
            abort();
    }
    wal_last(path, file);
    unsigned char *bytes = wal_slurp(file, n); /* without the mark at the end */
    is_int((long long)*n, FULL, "a file has its full size");
    *n = 64 + ends[4];
    ash_wal_close(w);
    return bytes;
}

static int count_only(void *user, uint64_t lsn, const void *data, size_t len)
{
    (void)lsn, (void)data, (void)len;
    ++*(int *)user;
    return 0;
}

/* Torn at each byte, and behind it are so many bytes of `fill`, and zeroes to the end of the file. */
static void torn_everywhere(const unsigned char *bytes, size_t n, const uint64_t ends[5], const char *path,
                            const char *file, size_t rest, int fill, const char *what)
{
    unsigned char *image = malloc(FULL);
    int wrong = 0, wrong_open = 0;
    for (size_t cut = 64; cut <= n; cut++) {
        int want = 0, got = 0;
        size_t used = cut + rest;
        for (unsigned i = 0; i < 5; i++) {
            size_t whole = 64 + ends[i];
            while (bytes[whole - 1] == (rest > 0 ? fill : 0)) /* then its last bytes are there */
                whole--;
            want += whole <= cut;
        }
        memcpy(image, bytes, cut);
        memset(image + cut, fill, rest);
        memset(image + used, 0, FULL - used);
        wal_spill(file, image, FULL);
        for (size_t end = 64 + (want == 0 ? 0 : ends[want - 1]); used > end && image[used - 1] == 0;)
            used--;
        struct ash_wal_report r;
        wrong += ash_wal_replay(path, count_only, &got) != 0 || got != want || ash_wal_check(path, &r) != 0 ||
                 r.records != (unsigned)want || (used > r.end_lsn + 64 && r.torn_bytes != used - r.end_lsn - 64);
        struct ash_wal *w = wal_reopen(path, &short_ones); /* it goes, and what is appended comes there */
        uint64_t lsn = 0;
        got = 0;
        wrong_open += w == NULL || wal_put(w, "more", 4, &lsn) != 0 || ash_wal_close(w) != 0 ||
                      ash_wal_replay(path, count_only, &got) != 0 || got != want + 1 || ash_wal_check(path, &r) != 0 ||
                      r.torn_bytes != 0;
    }
    ok(wrong == 0, "torn at every byte, %s behind it: what is in front is there, and no damage", what);
    ok(wrong_open == 0, "and it goes on from there");
    free(image);
}

static void test_torn(void)
{
    const char *path = wal_path("torn");
    char file[512];
    size_t n;
    uint64_t ends[5];
    unsigned char *bytes = make_file(path, file, &n, ends);
    torn_everywhere(bytes, n, ends, path, file, 0, 0, "zeroes");
    torn_everywhere(bytes, n, ends, path, file, FULL - n, 0xa5, "something");
    wal_spill(file, bytes, 64 + ends[2] + 10);
    struct ash_wal *w = wal_reopen(path, &short_ones);
    int got = 0;
    ok(w != NULL && wal_put(w, "more", 4, NULL) == 0 && ash_wal_close(w) == 0, "a file that was cut is full");
    ok(ash_wal_replay(path, count_only, &got) == 0 && got == 4, "and is followed by another");
    char next[512];
    wal_last(path, next);
    unlink(next);
    wal_spill(file, bytes, 63);
    is_int(ash_wal_open(path, NULL, &w), -EBADMSG, "a head is never torn");
    free(bytes);
}

static void test_damage(void)
{
    const char *path = wal_path("damage");
    char file[512];
    size_t n;
    uint64_t ends[5];
    unsigned char *bytes = make_file(path, file, &n, ends);
    int unseen = 0, wrong_place = 0, invented = 0;
    size_t last_mark = 64 + ends[3]; /* what it says was synced is known to be */
    for (size_t at = 0; at < n; at++) {
        struct ash_wal_report r;
        int got = 0;
        bytes[at] ^= 0x10;
        wal_spill(file, bytes, n);
        int status = ash_wal_replay(path, count_only, &got);
        ash_wal_check(path, &r);
        bool in_synced = at < last_mark;
        unseen += in_synced && status != -EBADMSG;
        invented += !in_synced && status != 0;
        wrong_place +=
            status == -EBADMSG && (at < 64 ? r.damaged_at != 0 : r.damaged_at > at || at - r.damaged_at > 64);
        wrong_place += status == -EBADMSG && strcmp(r.damaged_file, strrchr(file, '/') + 1) != 0;
        struct ash_wal *w = NULL;
        unseen += in_synced && ash_wal_open(path, &short_ones, &w) != -EBADMSG;
        bytes[at] ^= 0x10;
    }
    is_int(unseen, 0, "a bit turned anywhere in what was synced is damage, and keeps it from being opened");
    is_int(wrong_place, 0, "and is found where it is");
    is_int(invented, 0, "in the last group it is a torn end");
    free(bytes);
}

/* Groups that did not reach the device in front of some that did, and none was synced. */
static void test_out_of_order(void)
{
    const char *path = wal_path("order");
    char file[512];
    const struct ash_wal_config small = {.struct_size = sizeof small, .buffer_bytes = 4096, .segment_bytes = 65536};
    struct ash_wal *w = wal_reopen(path, &small);
    static char record[4096 - 64] = "x"; /* a group each */
    uint64_t lsn, second = 0;
    for (unsigned i = 0; i < 6; i++) {
        wal_put(w, record, sizeof record, i == 1 ? &second : &lsn);
        if (i == 0)
            ash_wal_sync(w, lsn);
    }
    wal_put(w, record, sizeof record, NULL); /* the others are written, for room */
    wal_last(path, file);
    size_t n;
    uint64_t first = second - 4096 + 24;
    unsigned char *bytes = wal_slurp(file, &n);
    ash_wal_close(w);
    memset(bytes + 64 + first, 0, 200);
    wal_spill(file, bytes, n);
    struct ash_wal_report r;
    is_int(ash_wal_check(path, &r), 0, "a hole in what was not synced is no damage");
    ok(r.records == 1 && r.torn_bytes > 2 * 4096, "but the end");
    /* What is written into the hole must not be followed by what is behind it. */
    w = wal_reopen(path, &small);
    is_int(wal_put(w, record, sizeof record, &lsn), 0, "another of that size");
    is_int(lsn == second && ash_wal_sync(w, lsn) == 0, 1, "comes to its place");
    is_int(ash_wal_check(path, &r), 0, "read while it is open");
    is_int((long long)r.records, 2, "it is the last");
    ash_wal_close(w);
    free(bytes);
}

static void test_missing(void)
{
    const char *path = wal_path("missing");
    const struct ash_wal_config config = {.struct_size = sizeof config, .buffer_bytes = 4096, .segment_bytes = 4096};
    struct ash_wal *w = wal_reopen(path, &config);
    char record[1000] = "", name[600];
    uint64_t lsn;
    for (unsigned i = 0; i < 40; i++) {
        wal_put(w, record, sizeof record, &lsn);
        ash_wal_sync(w, lsn);
    }
    ash_wal_close(w);
    DIR *dir = opendir(path);
    char names[32][32], other[32] = "";
    unsigned count = 0;
    for (struct dirent *d; (d = readdir(dir)) != NULL;)
        if (strlen(d->d_name) == 20 && count < 32)
            snprintf(names[count++], 32, "%.20s", d->d_name);
    closedir(dir);
    for (unsigned i = 0; i < count; i++) /* not the first, not the last */
        if (strcmp(names[i], "0000000000000000.wal") != 0 && (other[0] == '\0' || strcmp(names[i], other) < 0))
            strcpy(other, names[i]);
    snprintf(name, sizeof name, "%s/%s", path, other);
    unlink(name);
    struct ash_wal_report r;
    is_int(ash_wal_check(path, &r), -EBADMSG, "a segment is missing");
    ok(r.segments == 1 && r.damaged_at == 0 && strcmp(r.damaged_file, other) == 0, "it is said which: %s",
       r.damaged_file);
    int got = 0;
    is_int(ash_wal_replay(path, count_only, &got), -EBADMSG, "nothing behind it is shown");
    ok(got > 0 && got == (int)r.records, "what is in front is");
}

/* ---- errors of the file system ---- */

/* In a child: no file may grow beyond 64 KiB; files are larger. */
static void test_no_room(void)
{
    const char *path = wal_path("full");
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        struct ash_wal *w = wal_reopen(path, ASH_WAL_CONFIG(.buffer_bytes = 8192));
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){65536, 65536});
        char record[1000] = "";
        uint64_t lsn, good = 0;
        int status = 0;
        for (unsigned i = 0; i < 1000 && status == 0; i++) {
            status = wal_put(w, record, sizeof record, &lsn);
            if (status == 0)
                status = ash_wal_sync(w, lsn);
            good += status == 0;
        }
        if (status != -EFBIG || good == 0 || good >= 66)
            _exit(1);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){65536, 65536});
        if (wal_put(w, "x", 1, &lsn) != -EFBIG || ash_wal_sync(w, UINT64_MAX) != -EFBIG || stats(w).error != EFBIG)
            _exit(2);
        if (ash_wal_sync(w, ash_wal_synced(w)) != 0)
            _exit(3);
        _exit(ash_wal_close(w) == -EFBIG ? (int)good : 4);
    }
    int status = -1, got = 0;
    waitpid(child, &status, 0);
    ok(WIFEXITED(status) && WEXITSTATUS(status) > 4, "a file that cannot grow: the error stays, what was synced is");
    struct ash_wal *w = wal_reopen(path, NULL);
    is_int(ash_wal_replay(path, count_only, &got), 0, "opened anew");
    ok(got >= WEXITSTATUS(status), "all that were synced are there");
    uint64_t lsn;
    ok(wal_put(w, "x", 1, &lsn) == 0 && ash_wal_sync(w, lsn) == 0, "and it goes on");
    ash_wal_close(w);
}

static void test_full_device(void)
{
    const char *path = wal_path("tmpfs");
    mkdir(path, 0700);
    if (mount("none", path, "tmpfs", 0, "size=256k") != 0) {
        skip("tmpfs cannot be mounted", 4);
        return;
    }
    char log[200];
    snprintf(log, sizeof log, "%s/log", path);
    struct ash_wal *w = wal_reopen(log, ASH_WAL_CONFIG(.buffer_bytes = 8192, .segment_bytes = 65536));
    char record[1000] = "";
    uint64_t lsn, good = 0;
    int status = 0, got = 0;
    while (status == 0) {
        status = wal_put(w, record, sizeof record, &lsn);
        if (status == 0)
            status = ash_wal_sync(w, lsn);
        good += status == 0;
    }
    is_int(status, -ENOSPC, "no space left on the device");
    is_int(ash_wal_close(w), -ENOSPC, "which closing tells as well");
    w = wal_reopen(log, NULL);
    is_int(ash_wal_replay(log, count_only, &got), 0, "opened anew");
    ok((uint64_t)got >= good && good > 100, "all that were synced are there: %d", (int)good);
    ash_wal_close(w);
    umount(path);
}

/* ---- threads ---- */

enum { THREADS = 4, EACH = 2000 };

struct writer {
    struct ash_wal *wal;
    unsigned number;
    int failed;
};

static void *write_many(void *arg)
{
    struct writer *me = arg;
    for (unsigned i = 0; i < EACH; i++) {
        unsigned long head = (unsigned long)me->number << 32 | i;
        char rest[300];
        uint64_t lsn;
        memset(rest, (int)(me->number + i), sizeof rest);
        struct iovec pieces[] = {{&head, sizeof head}, {rest, i % sizeof rest}};
        me->failed += ash_wal_append(me->wal, pieces, 2, &lsn) != 0;
        if (i % 64 == 63)
            me->failed += ash_wal_sync(me->wal, lsn) != 0 || ash_wal_synced(me->wal) < lsn;
        if (i % 512 == 511)
            me->failed += ash_wal_truncate(me->wal, 1) != 0;
        if (i % 100 == 0)
            me->failed += ash_wal_prepare(me->wal) != 0;
    }
    return NULL;
}

struct order {
    unsigned next[THREADS];
    unsigned wrong;
    uint64_t lsn;
};

static int check_order(void *user, uint64_t lsn, const void *data, size_t len)
{
    struct order *o = user;
    unsigned long head;
    memcpy(&head, data, sizeof head);
    unsigned thread = (unsigned)(head >> 32), i = (unsigned)head;
    const unsigned char *rest = (const unsigned char *)data + sizeof head;
    o->wrong += thread >= THREADS || o->next[thread]++ != i || len != sizeof head + i % 300 || lsn <= o->lsn;
    for (size_t k = sizeof head; k < len; k++)
        o->wrong += rest[k - sizeof head] != (unsigned char)(thread + i);
    o->lsn = lsn;
    return 0;
}

static void test_threads(void)
{
    const char *path = wal_path("threads");
    struct ash_wal *w = wal_reopen(path, ASH_WAL_CONFIG(.buffer_bytes = 8192, .segment_bytes = 65536));
    pthread_t thread[THREADS];
    struct writer writer[THREADS];
    struct order order = {.wrong = 0};
    int failed = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        writer[i] = (struct writer){w, i, 0};
        pthread_create(&thread[i], NULL, write_many, &writer[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        failed += writer[i].failed;
    }
    is_int(failed, 0, "four threads write and sync");
    struct ash_wal_stats s = stats(w);
    ok(s.waits > 0 && s.segments > 10 && s.records == THREADS * EACH, "with small buffers, over %d segments",
       (int)s.segments);
    is_int(ash_wal_close(w), 0, "closed");
    is_int(ash_wal_replay(path, check_order, &order), 0, "replayed");
    is_int(order.wrong, 0, "each thread's records are whole and in its order");
    unsigned all = 0;
    for (unsigned i = 0; i < THREADS; i++)
        all += order.next[i];
    is_int(all, THREADS * EACH, "all of them");
}

int main(void)
{
    test_example();
    test_append();
    test_wrong();
    test_lock();
    test_segments();
    test_torn();
    test_damage();
    test_out_of_order();
    test_missing();
    test_no_room();
    test_full_device();
    test_threads();
    wal_remove(wal_dir);
    return tap_done();
}
