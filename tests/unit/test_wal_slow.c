/*
 * Logs on devices that are slow or fail while several threads write (ashlar/wal.h): the system calls below the log are
 * wrapped (-Wl,--wrap). Nothing is acknowledged before the sync that it needs has returned, and nothing after one that
 * failed, to none of the threads, although the next one would succeed.
 */
#include "api/wals.h"

#include "clock.h"
#include "os/os_dir.h"
#include "tap.h"

#include <pthread.h>

enum { THREADS = 4, DELAY_MS = 50 };

static unsigned slow_ms;     /* atomic: how long a sync takes */
static unsigned syncs_begun; /* atomic */
static unsigned syncs_done;  /* atomic */
static unsigned fail_sync;   /* atomic: the number of the sync that fails, or 0 */
static unsigned fail_write;  /* atomic: of the write */
static unsigned writes;      /* atomic */

int __real_os_dir_write_at(int fd, const void *bytes, size_t n, uint64_t at);
int __wrap_os_dir_write_at(int fd, const void *bytes, size_t n, uint64_t at);
int __real_os_dir_sync_data(int fd);
int __wrap_os_dir_sync_data(int fd);

int __wrap_os_dir_write_at(int fd, const void *bytes, size_t n, uint64_t at)
{
    unsigned number = __atomic_add_fetch(&writes, 1, __ATOMIC_RELAXED);
    if (number == __atomic_load_n(&fail_write, __ATOMIC_RELAXED)) { /* a part of it, and then no more */
        __real_os_dir_write_at(fd, bytes, n / 2, at);
        return -EIO;
    }
    return __real_os_dir_write_at(fd, bytes, n, at);
}

int __wrap_os_dir_sync_data(int fd)
{
    unsigned number = __atomic_add_fetch(&syncs_begun, 1, __ATOMIC_SEQ_CST);
    unsigned ms = __atomic_load_n(&slow_ms, __ATOMIC_RELAXED);
    if (ms > 0)
        sleep_ns((long)ms * 1000000);
    if (number == __atomic_load_n(&fail_sync, __ATOMIC_RELAXED))
        return -EIO;
    int status = __real_os_dir_sync_data(fd);
    __atomic_add_fetch(&syncs_done, 1, __ATOMIC_SEQ_CST);
    return status;
}

static const struct ash_wal_config config = {.struct_size = sizeof config, .segment_bytes = 1 << 20};

/* ---- slow ---- */

static unsigned early;

/* A record's sync begins after it was appended and is over when it is acknowledged. */
static void *write_slowly(void *log)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t lsn;
        if (wal_put(log, "slowly", 6, &lsn) != 0)
            abort();
        unsigned begun = __atomic_load_n(&syncs_begun, __ATOMIC_SEQ_CST);
        uint64_t synced = ash_wal_synced(log);
        if (synced < lsn && ash_wal_sync(log, lsn) != 0)
            abort();
        /* One that had begun before may have had it; it was not over then, since nothing said that it was synced. */
        unsigned done = __atomic_load_n(&syncs_done, __ATOMIC_SEQ_CST);
        if (synced < lsn && (done < begun || done == 0))
            __atomic_add_fetch(&early, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void test_slow(void)
{
    struct ash_wal *w = wal_reopen(wal_path("slow"), &config);
    pthread_t thread[THREADS];
    uint64_t lsn;
    __atomic_store_n(&slow_ms, DELAY_MS, __ATOMIC_RELAXED);
    wal_put(w, "first", 5, &lsn);
    int64_t from = now_ns();
    is_int(ash_wal_sync(w, lsn), 0, "a slow sync");
    ok(now_ns() - from >= DELAY_MS * 1000000LL, "takes its %d ms", DELAY_MS);
    pthread_create(&thread[0], NULL, write_slowly, w);
    sleep_ns(DELAY_MS * 1000000L / 2);
    ok(ash_wal_synced(w) == lsn, "nothing is said to be synced before it is");
    for (int i = 1; i < THREADS; i++)
        pthread_create(&thread[i], NULL, write_slowly, w);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    int64_t took = now_ns() - from;
    is_int(early, 0, "nor to any of the threads");
    struct ash_wal_stats s;
    ash_wal_stats(w, &s);
    ok(s.records == 17 && s.syncs < 17 && took < 17LL * 2 * DELAY_MS * 1000000, "they shared %d syncs", (int)s.syncs);
    is_int(wal_put(w, "unsynced", 8, NULL), 0, "appending does not wait for the device");
    __atomic_store_n(&slow_ms, 0, __ATOMIC_RELAXED);
    is_int(ash_wal_close(w), 0, "closed");
}

/* ---- failing ---- */

struct client {
    struct ash_wal *wal;
    unsigned number, acked; /* records 0 to acked - 1 were */
    int status;
    bool again; /* something was acknowledged after the error */
};

static void *write_until(void *arg)
{
    struct client *c = arg;
    for (unsigned i = 0; c->status == 0 && i < 100000; i++) {
        unsigned record[2] = {c->number, i};
        uint64_t lsn;
        c->status = wal_put(c->wal, record, sizeof record, &lsn);
        if (c->status == 0)
            c->status = ash_wal_sync(c->wal, lsn);
        if (c->status == 0)
            c->acked = i + 1;
    }
    uint64_t lsn;
    c->again = wal_put(c->wal, "again", 5, &lsn) == 0 || ash_wal_sync(c->wal, UINT64_MAX) == 0;
    return NULL;
}

static int read_clients(void *user, uint64_t lsn, const void *data, size_t len)
{
    unsigned *next = user, record[2];
    (void)lsn;
    memcpy(record, data, sizeof record);
    return len == sizeof record && record[0] < THREADS && record[1] == next[record[0]]++ ? 0 : -EPROTO;
}

static void fail_once(unsigned *which, const unsigned *now, unsigned after, const char *what)
{
    const char *path = wal_path(what);
    struct client client[THREADS];
    pthread_t thread[THREADS];
    struct ash_wal *w = wal_reopen(path, &config);
    unsigned next[THREADS] = {0}, wrong = 0, lost = 0, acked = 0;
    __atomic_store_n(which, __atomic_load_n(now, __ATOMIC_RELAXED) + after, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < THREADS; i++) {
        client[i] = (struct client){.wal = w, .number = i};
        pthread_create(&thread[i], NULL, write_until, &client[i]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    uint64_t synced = ash_wal_synced(w);
    for (unsigned i = 0; i < THREADS; i++) {
        wrong += client[i].status != -EIO || client[i].again;
        acked += client[i].acked;
    }
    __atomic_store_n(which, 0, __ATOMIC_RELAXED);
    wrong += ash_wal_truncate(w, synced) != -EIO || ash_wal_synced(w) != synced;
    wrong += ash_wal_close(w) != -EIO;
    ok(wrong == 0 && (acked > 0 || after == 1), "%s: all %d threads get the error, and nothing after it", what,
       THREADS);
    w = wal_reopen(path, &config);
    wrong = ash_wal_replay(path, read_clients, next) != 0;
    for (unsigned i = 0; i < THREADS; i++)
        lost += next[i] < client[i].acked;
    ok(w != NULL && wrong == 0 && lost == 0, "opened anew: %u records were acknowledged, all are there, each once",
       acked);
    ash_wal_close(w);
}

/* ---- a reader that is slow ---- */

static struct ash_wal *reused; /* between a file's head and the rest of it, this log uses the file again */

int __real_os_dir_read_at(int fd, void *bytes, size_t n, uint64_t at);
int __wrap_os_dir_read_at(int fd, void *bytes, size_t n, uint64_t at);

static void write_segments(struct ash_wal *w, unsigned n)
{
    static char record[3000];
    uint64_t lsn;
    for (unsigned i = 0; i < 2 * n; i++)
        if (wal_put(w, record, sizeof record, &lsn) != 0 || ash_wal_sync(w, lsn) != 0)
            abort();
}

int __wrap_os_dir_read_at(int fd, void *bytes, size_t n, uint64_t at)
{
    struct ash_wal *w = reused;
    if (w == NULL || n <= 64)
        return __real_os_dir_read_at(fd, bytes, n, at);
    int status = __real_os_dir_read_at(fd, bytes, 64, at);
    reused = NULL;
    for (unsigned i = 0; i < 3; i++) {
        write_segments(w, 1);
        if (ash_wal_truncate(w, ash_wal_synced(w)) != 0)
            abort();
    }
    return status != 0 ? status : __real_os_dir_read_at(fd, (char *)bytes + 64, n - 64, at + 64);
}

static int count_only(void *user, uint64_t lsn, const void *data, size_t len)
{
    (void)lsn, (void)data, (void)len;
    ++*(unsigned *)user;
    return 0;
}

static void test_reused(void)
{
    const char *path = wal_path("reused");
    const struct ash_wal_config small = {.struct_size = sizeof small, .buffer_bytes = 4096, .segment_bytes = 8192};
    struct ash_wal *w = wal_reopen(path, &small);
    unsigned records = 0;
    write_segments(w, 1);
    reused = w;
    is_int(ash_wal_replay(path, count_only, &records), -EBADMSG, "a file that is used again while it is read");
    is_int(records, 0, "is not taken for one that ends early");
    is_int(ash_wal_replay(path, count_only, &records), 0, "read again it is good");
    ash_wal_close(w);
}

int main(void)
{
    test_reused();
    test_slow();
    wal_remove(wal_dir);
    wal_in_memory();
    fail_once(&fail_sync, &syncs_begun, 50, "a sync fails");
    fail_once(&fail_write, &writes, 50, "a write is short and fails");
    fail_once(&fail_sync, &syncs_begun, 1, "the first sync fails");
    fail_once(&fail_sync, &syncs_begun, 3000, "a late sync fails");
    wal_remove(wal_dir);
    return tap_done();
}
