/*
 * txnload: transfers between accounts through the whole of a transaction (begin, memory, keys,
 * submission, body, poll, status, end), for as long as one likes.
 *
 *   txnload MODE [SECONDS [ACCOUNTS [BODY_NS [WORKERS [WINDOW [WAY]]]]]]
 *   WAY is that of enum ash_txn_way, 0 if it is not given: as is measured.
 *     tps      in one thread, and the executor's: the mean, and the worst second against it
 *     pair     one thread submits, another polls
 *     locks    no manager: as many threads as `tps` has, each with orders from malloc, and a mutex
 *              for each of 1024 stripes of accounts, two of which are locked in their order
 *     ratio    as tps, in turns with a manager that has no executor: how many times as fast
 *     latency  in one thread, half as many as it could do, each when it is due
 *     stored   in one thread, each acknowledged when a log has it (ashlar/wal.h), against a write
 *     two        and an fdatasync for each; the same with a thread that submits: seconds take turns
 *
 * The body's cost is measured by a loop over the same transfers before.
 */
#include <ashlar/layers.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, MANY = 1 << 16, SECONDS_MOST = 3600 };

struct order {
    uint64_t from, to;
};

static struct load {
    long seconds, accounts, body_ns, workers, window, way;
    unsigned rounds; /* of work in a body */
    uint64_t *account;
    struct ash_exec *exec;
    struct ash_txnmgr *mgr;
    struct ash_wal *wal; /* NULL: nothing is stored */
    bool stop;           /* atomic */
} load = {.seconds = 5, .accounts = 1000, .body_ns = 0, .workers = 1, .window = 256};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "txnload: %s\n", what);
    exit(1);
}

static uint64_t draw_from(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t draw(void)
{
    static uint64_t state = 88172645463325252u;
    return draw_from(&state);
}

/* ---- the transfer ---- */

static uint64_t work(uint64_t x, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    return x;
}

static void transfer(uint64_t from, uint64_t to)
{
    uint64_t moved = work(load.account[from] ^ load.account[to], load.rounds) & 1023;
    load.account[from] -= moved;
    load.account[to] += moved;
}

static void order_fill(struct order *o, uint64_t random)
{
    o->from = (random >> 32) * (uint64_t)load.accounts >> 32;
    o->to = (random & UINT32_MAX) * (uint64_t)load.accounts >> 32;
}

static int body(struct ash_txn *txn, void *arg)
{
    struct order *o = arg;
    transfer(o->from, o->to);
    return load.wal == NULL ? 0 : ash_txn_record(txn, o, sizeof *o);
}

/* The records of a step: one sync for all of them. */
static int store(struct ash_txn *const *txns, unsigned n, void *user)
{
    uint64_t lsn = 0;
    int status = 0;
    (void)user;
    for (unsigned i = 0; i < n && status == 0; i++) {
        const struct iovec *record;
        unsigned count;
        ash_txn_records(txns[i], &record, &count);
        status = ash_wal_append(load.wal, record, count, &lsn);
    }
    return status == 0 ? ash_wal_sync(load.wal, lsn) : status;
}

static bool submit_one(void)
{
    struct ash_txn *t = ash_txn_begin(load.mgr);
    if (t == NULL)
        return false;
    struct order *o = ash_txn_alloc(t, sizeof *o);
    order_fill(o, draw());
    if (ash_txn_writes(t, (uint64_t[]){o->from, o->to}, 2) != 0 || ash_txn_submit(t, body, o) != 0)
        die("a transaction was refused");
    return true;
}

static void end_one(struct ash_txn *t)
{
    if (ash_txn_status(t) != 0)
        die("a transaction was aborted");
    ash_txn_end(t);
}

static unsigned poll_some(void)
{
    struct ash_txn *done[BATCH];
    unsigned n = ash_txn_poll_batch(load.mgr, done, BATCH);
    for (unsigned i = 0; i < n; i++)
        end_one(done[i]);
    return n;
}

/* What one transfer costs by itself, with its numbers drawn: ns. */
static double loop_ns(void)
{
    double best = 0;
    for (int k = 0; k < 5; k++) {
        int64_t begin = now_ns();
        for (int i = 0; i < MANY; i++) {
            uint64_t r = draw();
            transfer((r >> 32) * (uint64_t)load.accounts >> 32,
                     (r & UINT32_MAX) * (uint64_t)load.accounts >> 32);
        }
        double ns = (double)(now_ns() - begin) / MANY;
        best = k == 0 || ns < best ? ns : best;
    }
    return best;
}

static struct ash_txnmgr *manager(struct ash_exec *exec, long limit)
{
    struct ash_txnmgr *m =
        ash_txnmgr_create(exec, ASH_TXNMGR_CONFIG(.keys = 2, .limit = (unsigned)limit,
                                                  .way = (enum ash_txn_way)load.way,
                                                  .store = load.wal ? store : NULL));
    if (m == NULL)
        die("no memory");
    return m;
}

static void setup(long limit)
{
    load.account = calloc((size_t)load.accounts, sizeof *load.account);
    load.exec = load.workers == 0 ? NULL : ash_exec_create((unsigned)load.workers, NULL);
    load.mgr = manager(load.exec, limit);
    if (load.account == NULL)
        die("no memory");
    uint64_t x = 1;
    double round = 0;
    for (int k = 0; k < 5; k++) {
        int64_t begin = now_ns();
        x = work(x, 1000000);
        double ns = (double)(now_ns() - begin) / 1e6;
        round = k == 0 || ns < round ? ns : round;
    }
    load.account[0] = x & 1;
    load.rounds = (unsigned)((double)load.body_ns / round);
}

static struct ash_txnmgr_stats stats(void)
{
    struct ash_txnmgr_stats s;
    ash_txnmgr_stats(load.mgr, &s);
    return s;
}

static void teardown(void)
{
    while (stats().in_flight != 0)
        poll_some();
    if (ash_txnmgr_destroy(load.mgr) != 0)
        die("transactions are left");
    ash_exec_destroy(load.exec);
    free(load.account);
}

/* ---- transactions a second ---- */

static double tps_of[SECONDS_MOST];

/* The mean, and the worst second against it. */
static void mean_show(double loop)
{
    double sum = 0, worst = 0;
    long n = load.seconds;
    for (long i = 0; i < n; i++) {
        sum += tps_of[i];
        worst = i == 0 || tps_of[i] < worst ? tps_of[i] : worst;
    }
    printf("%ld accounts, body %.0f ns: %.2f M/s (%.0f ns each), worst second of %ld %.2f of the "
           "mean; loop %.2f M/s",
           load.accounts, loop, sum / (double)n / 1e6, 1e9 * (double)n / sum, n,
           worst * (double)n / sum, 1e3 / loop);
}

static void tps_show(double loop)
{
    struct ash_txnmgr_stats s = stats();
    mean_show(loop);
    printf("; parallel %.0f%%, %.1f a step, p50 %.1f us, p99 %.1f us\n",
           100.0 * (double)s.parallel / (double)(s.completed + 1),
           (double)s.completed / (double)(s.steps + 1), (double)s.p50_ns / 1e3,
           (double)s.p99_ns / 1e3);
}

/*
 * As many as the gate lets in are submitted, and polled until none are left, and so on: how many a
 * second.
 */
static double rounds_of(int64_t ns)
{
    uint64_t done = 0;
    int64_t begin = now_ns(), now = begin;
    for (; now - begin < ns; now = now_ns())
        for (int k = 0; k < 16; k++) {
            while (submit_one())
                ;
            for (unsigned n = 1; n != 0; done += n)
                n = poll_some();
        }
    return (double)done * 1e9 / (double)(now - begin);
}

static void tps(void)
{
    setup(load.window);
    double loop = loop_ns();
    for (long second = 0; second < load.seconds; second++)
        tps_of[second] = rounds_of(1000000000);
    tps_show(loop);
    teardown();
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Turns of 10 ms, so that what disturbs disturbs both. */
static void ratio(void)
{
    enum { TURNS = 50, TURN_NS = 10000000 };
    static double of[2][TURNS * SECONDS_MOST], quotient[TURNS * SECONDS_MOST];
    setup(load.window);
    double loop = loop_ns();
    struct ash_txnmgr *mgr[2] = {manager(NULL, load.window), load.mgr};
    size_t n = (size_t)load.seconds * TURNS;
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < 2; k++) {
            load.mgr = mgr[k];
            of[k][i] = rounds_of(TURN_NS);
        }
        quotient[i] = of[1][i] / of[0][i];
    }
    struct ash_txnmgr_stats s = stats();
    for (int k = 0; k < 2; k++)
        qsort(of[k], n, sizeof of[k][0], by_value);
    qsort(quotient, n, sizeof quotient[0], by_value);
    printf("%ld accounts, body %.0f ns, %ld in flight: alone %.0f ns each, with %ld workers %.0f; "
           "%.2f times as fast, from %.2f to %.2f, at best %.2f; parallel %.0f%%\n",
           load.accounts, loop, load.window, 1e9 / of[0][n / 2], load.workers, 1e9 / of[1][n / 2],
           quotient[n / 2], quotient[0], quotient[n - 1], of[1][n - 1] / of[0][n - 1],
           100.0 * (double)s.parallel / (double)(s.completed + 1));
    if (ash_txnmgr_destroy(mgr[0]) != 0)
        die("transactions are left");
    teardown();
}

static void *submit_for_ever(void *arg)
{
    while (!__atomic_load_n(&load.stop, __ATOMIC_RELAXED))
        if (!submit_one())
            sched_yield();
    return arg;
}

static void pair(void)
{
    pthread_t submitter;
    setup(load.window);
    double loop = loop_ns();
    pthread_create(&submitter, NULL, submit_for_ever, NULL);
    for (long second = 0; second < load.seconds; second++) {
        uint64_t done = 0;
        int64_t begin = now_ns(), now = begin;
        for (; now - begin < 1000000000; now = now_ns())
            for (int k = 0; k < 64; k++)
                done += poll_some();
        tps_of[second] = (double)done * 1e9 / (double)(now - begin);
    }
    __atomic_store_n(&load.stop, true, __ATOMIC_RELAXED);
    pthread_join(submitter, NULL);
    tps_show(loop);
    teardown();
}

/* ---- stored ---- */

static char scratch[256];

static void scratch_remove(void)
{
    DIR *dir = opendir(scratch);
    for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;)
        if (d->d_name[0] != '.')
            unlinkat(dirfd(dir), d->d_name, 0);
    if (dir != NULL)
        closedir(dir);
    rmdir(scratch);
}

/* For a second: a transfer, a write and an fdatasync, and the next. */
static double stored_plainly(int fd)
{
    uint64_t done = 0;
    int64_t begin = now_ns(), now = begin;
    for (; now - begin < 1000000000; now = now_ns(), done++) {
        uint64_t key[2] = {draw() % (uint64_t)load.accounts, draw() % (uint64_t)load.accounts};
        transfer(key[0], key[1]);
        if (write(fd, key, sizeof key) != sizeof key || fdatasync(fd) != 0)
            die("the file cannot be written");
    }
    return (double)done * 1e9 / (double)(now - begin);
}

static void *submit_for_a_while(void *arg)
{
    while (!__atomic_load_n(&load.stop, __ATOMIC_RELAXED))
        if (!submit_one())
            usleep(50); /* all that may be are under way: in a sync */
    return arg;
}

static double stored_by_log(bool two)
{
    pthread_t submitter;
    uint64_t done = 0;
    __atomic_store_n(&load.stop, false, __ATOMIC_RELAXED);
    int64_t begin = now_ns(), now = begin;
    if (two && pthread_create(&submitter, NULL, submit_for_a_while, NULL) != 0)
        die("no thread");
    for (; now - begin < 1000000000; now = now_ns()) {
        while (!two && submit_one())
            ;
        done += poll_some();
    }
    __atomic_store_n(&load.stop, true, __ATOMIC_RELAXED);
    if (two)
        pthread_join(submitter, NULL);
    while (stats().in_flight != 0)
        poll_some();
    return (double)done * 1e9 / (double)(now - begin);
}

static void stored(bool two)
{
    const char *base = getenv("ASH_BENCH_DIR");
    double best[2] = {0}, sum[2] = {0};
    snprintf(scratch, sizeof scratch, "%s/txnload-XXXXXX", base != NULL ? base : ".");
    if (mkdtemp(scratch) == NULL || ash_wal_open(scratch, NULL, &load.wal) != 0)
        die("no log");
    int dir = open(scratch, O_RDONLY | O_DIRECTORY);
    int fd = openat(dir, "plain", O_WRONLY | O_CREAT | O_APPEND, 0600);
    setup(load.window);
    for (long second = 0; second < load.seconds; second++)
        for (int kind = 0; kind < 2; kind++) {
            double tps = kind == 0 ? stored_plainly(fd) : stored_by_log(two);
            sum[kind] += tps;
            best[kind] = tps > best[kind] ? tps : best[kind];
        }
    struct ash_wal_stats s;
    ash_wal_stats(load.wal, &s);
    printf("%s: written and synced each %.0f/s, best second %.0f; stored by the log %.0f/s, best "
           "second %.0f, %.1f a sync; ratios %.1f and %.1f\n",
           two ? "two threads" : "one thread", sum[0] / (double)load.seconds, best[0],
           sum[1] / (double)load.seconds, best[1], (double)s.records / (double)s.syncs,
           sum[1] / sum[0], best[1] / best[0]);
    teardown();
    if (ash_wal_close(load.wal) != 0)
        die("the log failed");
    close(fd);
    close(dir);
    scratch_remove();
}

/* ---- what it is without: locks ---- */

enum { STRIPES = 1024, THREADS_MOST = 64 };

/* Each in lines of its own. */
struct locker {
    _Alignas(64) uint64_t done;
    uint64_t random;
};

static pthread_mutex_t stripe[STRIPES];

static void *lock_for_ever(void *arg)
{
    struct locker *self = arg;
    while (!__atomic_load_n(&load.stop, __ATOMIC_RELAXED)) {
        struct order *o = malloc(sizeof *o);
        uint64_t r = draw_from(&self->random);
        order_fill(o, r);
        unsigned a = o->from % STRIPES, b = o->to % STRIPES;
        pthread_mutex_lock(&stripe[a < b ? a : b]);
        if (a != b)
            pthread_mutex_lock(&stripe[a < b ? b : a]);
        transfer(o->from, o->to);
        if (a != b)
            pthread_mutex_unlock(&stripe[a < b ? b : a]);
        pthread_mutex_unlock(&stripe[a < b ? a : b]);
        free(o);
        __atomic_store_n(&self->done, self->done + 1, __ATOMIC_RELAXED);
    }
    return arg;
}

static void locks(void)
{
    static struct locker locker[THREADS_MOST];
    pthread_t thread[THREADS_MOST];
    unsigned n = (unsigned)load.workers + 1;
    setup(load.window);
    double loop = loop_ns();
    for (unsigned i = 0; i < STRIPES; i++)
        pthread_mutex_init(&stripe[i], NULL);
    for (unsigned i = 0; i < n; i++) {
        locker[i].random = draw();
        pthread_create(&thread[i], NULL, lock_for_ever, &locker[i]);
    }
    uint64_t before = 0;
    int64_t begin = now_ns();
    for (long second = 0; second < load.seconds; second++) {
        uint64_t done = 0;
        usleep(1000000);
        for (unsigned i = 0; i < n; i++)
            done += __atomic_load_n(&locker[i].done, __ATOMIC_RELAXED);
        int64_t now = now_ns();
        tps_of[second] = (double)(done - before) * 1e9 / (double)(now - begin);
        before = done;
        begin = now;
    }
    __atomic_store_n(&load.stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    mean_show(loop);
    printf("; %u threads with locks\n", n);
    teardown();
}

/* ---- latency: one is due every so often; late ones are submitted at once ---- */

static void latency(void)
{
    setup(load.window);
    double loop = loop_ns();
    uint64_t done = 0;
    int64_t begin = now_ns(), now = begin;
    for (; now - begin < 500000000; now = now_ns()) {
        while (submit_one())
            ;
        for (unsigned n = 1; n != 0; done += n)
            n = poll_some();
    }
    double gap = 2.0 * (double)(now - begin) / (double)done;
    teardown();
    setup(load.window);
    uint64_t due = 0;
    for (begin = now_ns(); (now = now_ns()) - begin < load.seconds * 1000000000;) {
        for (; (double)due * gap < (double)(now - begin) && submit_one(); due++)
            ;
        poll_some();
    }
    struct ash_txnmgr_stats s = stats();
    printf("%ld accounts, body %.0f ns, %.2f M/s: p50 %.1f us, p99 %.1f us, at most %.1f us; %.1f "
           "a step\n",
           load.accounts, loop, 1e3 / gap, (double)s.p50_ns / 1e3, (double)s.p99_ns / 1e3,
           (double)s.max_ns / 1e3, (double)s.completed / (double)(s.steps + 1));
    teardown();
}

int main(int argc, char **argv)
{
    long *setting[] = {&load.seconds, &load.accounts, &load.body_ns,
                       &load.workers, &load.window,   &load.way};
    const char *mode = argc > 1 ? argv[1] : "";
    for (int i = 2; i < argc && i < 8; i++)
        *setting[i - 2] = atol(argv[i]);
    if (load.seconds < 1 || load.seconds > SECONDS_MOST || load.accounts < 2)
        die("1 to 3600 seconds, 2 accounts at least");
    if (strcmp(mode, "tps") == 0)
        tps();
    else if (strcmp(mode, "pair") == 0)
        pair();
    else if (strcmp(mode, "locks") == 0 && load.workers < THREADS_MOST)
        locks();
    else if (strcmp(mode, "ratio") == 0)
        ratio();
    else if (strcmp(mode, "latency") == 0)
        latency();
    else if (strcmp(mode, "stored") == 0 || strcmp(mode, "two") == 0)
        stored(mode[0] == 't');
    else
        die("tps, pair, locks, ratio, stored, two or latency");
    return 0;
}
