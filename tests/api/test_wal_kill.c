/*
 * A log whose writer is killed (ashlar/wal.h): a child with four threads appends, syncs and makes checkpoints, and says
 * in shared memory what was acknowledged and what is not needed any more; it is killed at a random moment, 200 times, on a
 * disk and in memory. Nothing that was acknowledged is missing, each thread's records are there once and in its order,
 * and the next child goes on where the last one was stopped.
 */
#include "wals.h"

#include "clock.h"
#include "process.h"
#include "tap.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { THREADS = 4 };

struct shared {
    unsigned acked[THREADS]; /* atomic: records 0 to acked - 1 are */
    unsigned begun[THREADS]; /* atomic: before they are appended */
    unsigned saved[THREADS]; /* atomic: of these the log may have lost records 0 to saved - 1 */
    unsigned long recycled;  /* atomic */
    unsigned ready;          /* atomic */
};

static struct shared *shared;
static unsigned next[THREADS];
static bool any[THREADS]; /* a record of the thread was read */
static struct ash_wal *wal;
static unsigned long recycled;

struct record {
    unsigned thread, number, copies[40];
};

static int read_back(void *user, uint64_t lsn, const void *data, size_t len)
{
    const struct record *r = data;
    unsigned *wrong = user;
    (void)lsn;
    size_t want = sizeof *r - 4 * (r->number % 40);
    if (r->thread >= THREADS || len != want) {
        ++*wrong;
        return 0;
    }
    if (!any[r->thread] && r->number <= shared->saved[r->thread])
        next[r->thread] = r->number; /* what was in front was dropped */
    any[r->thread] = true;
    *wrong += r->number != next[r->thread]++;
    for (size_t i = 2; i < len / 4; i++)
        *wrong += r->copies[i - 2] != r->number * 7 + r->thread;
    return 0;
}

/* What is synced is saved somewhere else, and maybe a record more of each thread. */
static void checkpoint(void)
{
    struct ash_wal_stats s;
    uint64_t lsn = ash_wal_synced(wal);
    for (unsigned i = 0; i < THREADS; i++)
        __atomic_store_n(&shared->saved[i], __atomic_load_n(&shared->begun[i], __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
    if (ash_wal_truncate(wal, lsn) != 0)
        abort();
    ash_wal_stats(wal, &s);
    __atomic_fetch_add(&shared->recycled, s.recycled > 0, __ATOMIC_RELAXED);
}

static void *write_on(void *arg)
{
    struct record r = {.thread = (unsigned)(uintptr_t)arg};
    for (r.number = next[r.thread];; r.number++) {
        for (unsigned i = 0; i < 40; i++)
            r.copies[i] = r.number * 7 + r.thread;
        size_t len = sizeof r - 4 * (r.number % 40), half = len / 3;
        struct iovec pieces[] = {{&r, half}, {(char *)&r + half, len - half}};
        uint64_t lsn;
        if (r.thread == 0 && r.number % 128 == 127)
            checkpoint();
        __atomic_store_n(&shared->begun[r.thread], r.number + 1, __ATOMIC_RELEASE);
        if (ash_wal_append(wal, pieces, 2, &lsn) != 0)
            abort();
        if (r.number % (1 + r.thread) != 0)
            continue; /* some threads sync each record, others a few at once */
        if (ash_wal_sync(wal, lsn) != 0)
            abort();
        __atomic_store_n(&shared->acked[r.thread], r.number + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* How many records are wrong; those of threads that have none left go on where they were saved. */
static unsigned read_all(const char *path)
{
    unsigned wrong = 0;
    memset(next, 0, sizeof next);
    memset(any, 0, sizeof any);
    if (ash_wal_replay(path, read_back, &wrong) != 0)
        wrong++;
    for (unsigned i = 0; i < THREADS; i++)
        if (!any[i])
            next[i] = shared->saved[i];
    return wrong;
}

static void live(const char *path)
{
    pthread_t thread;
    if (ash_wal_open(path, ASH_WAL_CONFIG(.buffer_bytes = 16384, .segment_bytes = 65536), &wal) != 0 ||
        read_all(path) > 0)
        _exit(1);
    for (unsigned i = 0; i < THREADS; i++) /* a checkpoint may come before a thread has begun */
        __atomic_store_n(&shared->begun[i], next[i], __ATOMIC_RELEASE);
    __atomic_store_n(&shared->ready, 1, __ATOMIC_RELEASE);
    for (uintptr_t i = 1; i < THREADS; i++)
        if (pthread_create(&thread, NULL, write_on, (void *)i) != 0)
            _exit(2);
    write_on(NULL);
}

static void kill_often(const char *path, unsigned rounds, unsigned seed)
{
    unsigned died = 0, missing = 0, wrong = 0;
    memset(shared, 0, sizeof *shared);
    for (unsigned round = 0; round < rounds; round++) {
        shared->ready = 0;
        pid_t child = fork();
        if (child == 0)
            live(path);
        int status = 0;
        while (!__atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE) && waitpid(child, &status, WNOHANG) == 0)
            sleep_ns(100000);
        seed = seed * 1103515245 + 12345;
        sleep_ns((long)(seed >> 8) % 15000000 * (under_valgrind() ? 60 : 1));
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        died += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        wrong += read_all(path);
        for (unsigned i = 0; i < THREADS; i++)
            missing += next[i] < shared->acked[i];
    }
    unsigned long acked = 0;
    for (unsigned i = 0; i < THREADS; i++)
        acked += shared->acked[i];
    char last[512];
    is_int(died, rounds, "killed each time");
    is_int(missing, 0, "nothing that was acknowledged is missing");
    is_int(wrong, 0, "all is whole and in order");
    ok(acked > 3 * rounds, "%lu records were acknowledged, %u segments are left", acked, wal_last(path, last));
    recycled += shared->recycled;
    wal_remove(wal_dir);
}

int main(void)
{
    const char *set = getenv("ASH_KILLS");
    unsigned rounds = set != NULL ? (unsigned)atoi(set) : under_valgrind() ? 5 : 100;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    kill_often(wal_path("killed"), rounds, 7);
    wal_in_memory();
    kill_often(wal_path("killed"), rounds, 8);
    ok(recycled > 0, "files had been used again in %lu checkpoints", recycled);
    return tap_done();
}
