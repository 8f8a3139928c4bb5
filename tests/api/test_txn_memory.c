/*
 * What transactions have in memory: blocks, keys, what stays for the next one, what is counted, and what happens when there
 * is none.
 */
#include "process.h"
#include "draw.h"
#include "tap.h"
#include "txns.h"

#include "ashlar/malloc.h"
#include "ashlar/txn.h"

#include <errno.h>
#include <string.h>

#ifdef __SANITIZE_THREAD__
enum { WATCHED = 1 };
#else
enum { WATCHED = 0 };
#endif

static uint64_t random_state = 1;

static uint64_t draw(uint64_t n)
{
    return draw_from(&random_state) % n;
}

static int nothing(struct ash_txn *txn, void *arg)
{
    (void)txn;
    (void)arg;
    return 0;
}

/* ---- blocks ---- */

static void test_blocks(void)
{
    enum { BLOCKS = 2000 };
    static unsigned char *block[BLOCKS];
    static size_t size[BLOCKS];
    unsigned good_ones = 0, aligned = 0, bad = 0;
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, NULL);
    for (unsigned round = 0; round < 20; round++) {
        struct ash_txn *t = ash_txn_begin(m);
        for (unsigned i = 0; i < BLOCKS; i++) {
            size[i] = draw(16) != 0 ? draw(200) : draw(20000);
            block[i] = ash_txn_alloc(t, size[i]);
            if (block[i] == NULL)
                continue;
            memset(block[i], (int)(i & 255), size[i]);
            aligned += (uintptr_t)block[i] % 16 == 0;
            good_ones++;
        }
        for (unsigned i = 0; i < BLOCKS; i++)
            for (size_t k = 0; k < size[i]; k++)
                bad += block[i][k] != (i & 255);
        for (unsigned i = 1; i < BLOCKS; i++)
            bad += block[i] == block[i - 1]; /* those of nothing as well */
        ash_txn_end(t);
    }
    is_int((int)good_ones, 20 * BLOCKS, "blocks of 0 to 20,000 bytes");
    is_int((int)aligned, 20 * BLOCKS, "aligned to 16 bytes");
    is_int((int)bad, 0, "none lies in another");
    struct ash_txn *t = ash_txn_begin(m);
    errno = 0;
    ok(ash_txn_alloc(t, SIZE_MAX) == NULL && errno == ENOMEM, "ENOMEM: all there is");
    errno = 0;
    ok(ash_txn_alloc(t, PTRDIFF_MAX / 2) == NULL && errno == ENOMEM, "and half of it");
    ok(ash_txn_alloc(t, 1) != NULL, "one is to be had");
    ash_txn_end(t);
    is_int(ash_txnmgr_destroy(m), 0, "the end");
}

static int greedy(struct ash_txn *txn, void *arg)
{
    int *got = arg;
    errno = 0;
    while (ash_txn_alloc(txn, 1000) != NULL)
        ++*got;
    return -errno;
}

static int large(struct ash_txn *txn, void *arg)
{
    return memset(ash_txn_alloc(txn, *(int *)arg), 1, (size_t) * (int *)arg) == NULL;
}

static void test_bound(void)
{
    int got = 0;
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, ASH_TXNMGR_CONFIG(.arena_max = 65536));
    is_int(run_status(m, greedy, &got), -ENOMEM, "a transaction's memory has a bound");
    ok(got >= 50 && got < 66, "%d blocks of 1000 bytes in 64 KiB", got);
    got = 0;
    struct ash_txn *t = ash_txn_begin(m);
    int savepoint = ash_txn_savepoint(t);
    for (int i = 0; i < 100; i++) {
        got += ash_txn_alloc(t, 60000) != NULL;
        got += ash_txn_alloc(t, 60000) != NULL; /* is too much */
        ash_txn_rollback_to(t, savepoint);
    }
    is_int(got, 100, "what a savepoint takes back is there again");
    ash_txn_end(t);
    is_int(ash_txnmgr_destroy(m), 0, "the end");
}

/* ---- what is counted, and what stays ---- */

static void test_bytes(void)
{
    int bytes = 1 << 20;
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, NULL);
    struct ash_txn *t = ash_txn_begin(m);
    is_int((int)stats(m).arena_bytes, 0, "a transaction has no memory that it did not ask for");
    for (int i = 0; i < 100; i++)
        ash_txn_alloc(t, 1000);
    ok(stats(m).arena_bytes >= 100 * 1000 && stats(m).arena_bytes < 180 * 1000, "100,000 bytes are held by %d",
       (int)stats(m).arena_bytes);
    int savepoint = ash_txn_savepoint(t);
    uint64_t before = stats(m).arena_bytes;
    ash_txn_alloc(t, 500000);
    ok(stats(m).arena_bytes - before >= 500000, "a large block counts");
    ash_txn_rollback_to(t, savepoint);
    ok(stats(m).arena_bytes == before, "and no more when it has been taken back");
    ash_txn_end(t);
    ok(stats(m).arena_bytes <= 256, "of 100,000 bytes %d stay", (int)stats(m).arena_bytes);
    is_int(run_status(m, large, &bytes), 0, "a transaction of a megabyte");
    ok(stats(m).arena_bytes <= 256, "leaves nothing");
    is_int(ash_txnmgr_destroy(m), 0, "the end");
}

/* What is left of a transaction for the next one, where that is to have so much. */
static int left_of(size_t first, size_t keep, int bytes)
{
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, ASH_TXNMGR_CONFIG(.arena_first = first, .arena_keep = keep));
    run_status(m, large, &bytes);
    int left = (int)stats(m).arena_bytes;
    if (ash_txnmgr_destroy(m) != 0)
        abort();
    return left;
}

static void test_kept(void)
{
    if (memory_watched()) {
        skip("where memory is watched nothing stays", 4);
        return;
    }
    is_int(left_of(0, 0, 200), 256, "what a transaction begins with stays for the next one");
    is_int(left_of(0, 0, 1000), 0, "unless it was made larger");
    is_int(left_of(4096, 0, 1000), 4096, "more if it is asked for");
    is_int(left_of(4096, 4095, 1000), 0, "and not if that is too much to keep");
}

/* ---- keys: as many as one likes, in any order ---- */

enum { ACCOUNTS = 64, TXNS = 3000, EACH = 12 };

static uint64_t account[ACCOUNTS], expected[ACCOUNTS];

struct mix {
    unsigned writes, reads;
    uint64_t write[EACH], read[EACH];
};

static void mix_into(uint64_t *to, const struct mix *x)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < x->reads; i++)
        sum = sum * 31 + to[x->read[i]];
    for (unsigned i = 0; i < x->writes; i++)
        sum = to[x->write[i]] = to[x->write[i]] * 31 + sum + i;
}

static int mix_body(struct ash_txn *txn, void *arg)
{
    (void)txn;
    mix_into(account, arg);
    return 0;
}

static bool mix_keys(struct ash_txn *t, struct mix *x)
{
    int status = 0;
    x->writes = (unsigned)draw(EACH + 1);
    x->reads = (unsigned)draw(EACH + 1);
    for (unsigned i = 0; i < EACH; i++) {
        x->write[i] = draw(ACCOUNTS);
        x->read[i] = draw(ACCOUNTS);
        status |= i < x->writes ? ash_txn_writes(t, &x->write[i], 1) : 0; /* by turns: they grow together */
        status |= i < x->reads ? ash_txn_reads(t, &x->read[i], 1) : 0;
    }
    return status == 0;
}

static void test_keys(void)
{
    static struct mix mix[TXNS];
    struct ash_txn *done[64];
    unsigned submitted = 0, ended = 0, n;
    struct ash_exec *exec = ash_exec_create(3, NULL);
    struct ash_txnmgr *m = ash_txnmgr_create(exec, ASH_TXNMGR_CONFIG(.keys = 2 * EACH, .limit = 256, .way = ASH_TXN_PARALLEL));
    memset(account, 0, sizeof account);
    memset(expected, 0, sizeof expected);
    bool all = true;
    while (ended < TXNS) {
        struct ash_txn *t;
        while (submitted < TXNS && (t = ash_txn_begin(m)) != NULL) {
            struct mix *x = &mix[submitted++];
            all &= mix_keys(t, x) && ash_txn_submit(t, mix_body, x) == 0;
            mix_into(expected, x);
        }
        ended += n = ash_txn_poll_batch(m, done, 64);
        while (n > 0)
            ash_txn_end(done[--n]);
    }
    ok(all, "%u transactions of up to %u keys", TXNS, 2 * EACH);
    ok(memcmp(account, expected, sizeof account) == 0, "in parallel, as if one by one");
    is_int(ash_txnmgr_destroy(m), 0, "the end");
    ash_exec_destroy(exec);
}

/* A transaction of very many keys, and what is left of them afterwards. */
static void test_many_keys(void)
{
    enum { MANY = 65536 };
    static uint64_t keys[MANY];
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, ASH_TXNMGR_CONFIG(.keys = MANY));
    uint64_t record = stats(m).record_bytes;
    ok(record <= 256, "a transaction of up to 65,536 keys begins with %d bytes", (int)record);
    struct ash_txn *t = ash_txn_begin(m), *done;
    for (unsigned i = 0; i < MANY; i++)
        keys[i] = i;
    is_int(ash_txn_writes(t, keys, 3), 0, "three keys");
    int savepoint = ash_txn_savepoint(t);
    is_int(ash_txn_reads(t, keys, MANY - 3), 0, "and all the others");
    is_int(ash_txn_reads(t, keys, 1), -E2BIG, "E2BIG: one more");
    ok(stats(m).arena_bytes >= MANY * sizeof keys[0], "they count");
    is_int(ash_txn_rollback_to(t, savepoint), 0, "back to where there were three");
    is_int(ash_txn_writes(t, keys, 1), -E2BIG, "E2BIG: keys stay");
    ash_txn_submit(t, nothing, NULL);
    ok(ash_txn_poll_batch(m, &done, 1) == 1 && ash_txn_status(done) == 0, "committed");
    ash_txn_end(done);
    ok(stats(m).arena_bytes < 4096, "their block is not kept");
    is_int(ash_txnmgr_destroy(m), 0, "the end");
}

/* ---- no memory ---- */

/* From now on the process gets so much, and no more. */
static void limit_to(size_t room)
{
    size_t limit, used;
    ash_trim();
    ash_limit_get(&limit, &used);
    if (ash_limit_set(used + room) != 0)
        abort();
}

/* What could not begin was not begun. */
static void test_begun(void)
{
    enum { MOST = 65536 };
    static struct ash_txn *t[MOST];
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, ASH_TXNMGR_CONFIG(.limit = MOST));
    unsigned n = 0;
    limit_to(256 * 1024);
    errno = 0;
    while (n < MOST && (t[n] = ash_txn_begin(m)) != NULL)
        n++;
    int refused = n < MOST ? errno : 0;
    unsigned failed = 0;
    for (unsigned i = 0; i < 9; i++)
        failed += ash_txn_begin(m) == NULL;
    ash_limit_set(0);
    is_int((int)failed, 9, "nor do others");
    ok(refused == ENOMEM, "ENOMEM: %u transactions begin in a quarter of a megabyte, no more", n);
    struct ash_txnmgr_stats s = stats(m);
    ok(s.begun == n && s.in_flight == n && s.refused == 0, "as many were begun, in the figures too: %d", (int)s.begun);
    for (unsigned i = 0; i < n; i++)
        ash_txn_end(t[i]);
    is_int((int)stats(m).in_flight, 0, "and have ended");
    is_int(ash_txnmgr_destroy(m), 0, "the end");
}

static void test_no_room_for_keys(void)
{
    static uint64_t keys[65536];
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, ASH_TXNMGR_CONFIG(.keys = 65536));
    struct ash_txn *t = ash_txn_begin(m);
    is_int(ash_txn_writes(t, keys, 2), 0, "two keys");
    limit_to(0);
    is_int(ash_txn_reads(t, keys, 65000), -ENOMEM, "ENOMEM: 65,000 more");
    ash_limit_set(0);
    is_int(ash_txn_writes(t, keys, 65534), 0, "none of them was added");
    is_int(ash_txn_reads(t, keys, 1), -E2BIG, "and the two were kept");
    ash_txn_end(t);
    is_int(ash_txnmgr_destroy(m), 0, "the end");
}

int main(void)
{
    test_blocks();
    test_bound();
    test_bytes();
    test_kept();
    test_keys();
    test_many_keys();
    if (WATCHED) {
        skip("the thread sanitizer leaves malloc, and its limit, out", 9);
    } else {
        void *ballast = ash_malloc(8 << 20); /* a limit is 4 MiB at least */
        test_begun();
        test_no_room_for_keys();
        ash_free(ballast);
    }
    return tap_done();
}
