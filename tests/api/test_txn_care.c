/*
 * Transactions (ashlar/txn.h): every answer and the edges, undoing, storing, and no memory.
 */
#include "ashlar/layers.h"
#include "ashlar/malloc.h"
#include "tap.h"
#include "txns.h"

#include <errno.h>
#include <stdlib.h>

#ifdef __SANITIZE_THREAD__
enum { WATCHED = 1 };
#else
enum { WATCHED = 0 };
#endif

/* ---- settings ---- */

static void test_create(void)
{
    struct ash_txnmgr_config bad[] = {
        {.struct_size = 4},
        {.struct_size = sizeof bad[0], .name = ""},
        {.struct_size = sizeof bad[0], .name = "a name that is much too long to be one"},
        {.struct_size = sizeof bad[0], .limit = (1 << 24) + 1},
        {.struct_size = sizeof bad[0], .queue = (1 << 24) + 1},
        {.struct_size = sizeof bad[0], .keys = 65537},
        {.struct_size = sizeof bad[0], .way = (enum ash_txn_way)3},
        {.struct_size = sizeof bad[0], .arena_first = 255},
        {.struct_size = sizeof bad[0], .arena_max = 255},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        ok(ash_txnmgr_create(NULL, &bad[i]) == NULL && errno == EINVAL, "EINVAL: settings %u", i);
    }
    struct ash_txnmgr *a = ash_txnmgr_create(NULL, ASH_TXNMGR_CONFIG(.name = "same")), *b;
    b = ash_txnmgr_create(NULL, ASH_TXNMGR_CONFIG(.name = "same"));
    ok(a != NULL && b != NULL, "two of one name");
    is_int((int)stats(a).limit, 4096, "the default limit");
    is_int(ash_txnmgr_destroy(a), 0, "the end of one");
    is_int(ash_txnmgr_destroy(b), 0, "of the other");
    is_int(ash_txnmgr_destroy(NULL), 0, "of none");
}

/* ---- limits ---- */

static void test_limits(void)
{
    struct ash_txn *t[8], *done[8];
    int ran = 0;
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, ASH_TXNMGR_CONFIG(.limit = 5, .queue = 4, .keys = 3));
    for (int i = 0; i < 5; i++)
        t[i] = ash_txn_begin(m);
    errno = 0;
    ok(ash_txn_begin(m) == NULL && errno == EAGAIN, "EAGAIN: five are in flight");
    errno = 0;
    ok(ash_txn_begin_wait(m, 1000000) == NULL && errno == ETIMEDOUT, "ETIMEDOUT: and still are");
    is_int((int)stats(m).refused, 2, "counted");
    for (int i = 0; i < 4; i++)
        is_int(ash_txn_submit(t[i], good, &ran), 0, "submitted");
    is_int(ash_txn_submit(t[4], good, &ran), -EAGAIN, "EAGAIN: the queue is full");
    is_int((int)stats(m).queued, 4, "as the figures say");
    is_int((int)ash_txn_poll_batch(m, done, 3), 3, "polled");
    is_int(ash_txn_submit(t[4], good, &ran), 0, "now it is not");
    is_int((int)ash_txn_poll_batch(m, done + 3, 5), 1, "done before");
    is_int((int)ash_txn_poll_batch(m, done + 4, 4), 1, "and the last");
    is_int(ran, 5, "all have run");
    for (int i = 0; i < 5; i++)
        ash_txn_end(done[i]);
    is_int((int)ash_txn_poll_batch(m, done, 8), 0, "nothing is left");
    is_int((int)stats(m).in_flight, 0, "none in flight");

    uint64_t keys[] = {1, 2, 3, 4};
    struct ash_txn *k = ash_txn_begin(m);
    is_int(ash_txn_writes(k, keys, 4), -E2BIG, "E2BIG: four keys of three");
    is_int(ash_txn_writes(k, keys, 2), 0, "two");
    is_int(ash_txn_reads(k, keys, 2), -E2BIG, "E2BIG: four in both calls");
    is_int(ash_txn_reads(k, keys, 1), 0, "three");
    is_int(ash_txn_reads(k, NULL, 0), 0, "none more");
    is_int(ash_txn_writes(k, NULL, 1), -EINVAL, "EINVAL: no keys");
    is_int(ash_txn_submit(k, good, &ran), 0, "submitted");
    is_int(ash_txn_writes(k, keys, 0), -EBUSY, "EBUSY: too late for keys");
    is_int(ash_txn_reads(k, keys, 0), -EBUSY, "for those read, too");
    is_int(ash_txn_submit(k, good, &ran), -EBUSY, "EBUSY: submitted twice");
    errno = 0;
    ok(ash_txn_alloc(k, 8) == NULL && errno == EBUSY, "EBUSY: it is its body's now");
    ok(ash_txn_save(k, &ran, sizeof ran) == -EBUSY && ash_txn_undo(k, free, NULL) == -EBUSY && ash_txn_savepoint(k) == -EBUSY &&
           ash_txn_rollback_to(k, 0) == -EBUSY && ash_txn_record(k, "", 0) == -EBUSY,
       "EBUSY: so is all that is in it");
    is_int(ash_txn_wait(k, -1), 0, "waited for");
    is_int(ash_txn_wait(k, 0), 0, "again");
    ash_txn_end(k);
    ok(ash_txn_key("alice", 5) == ash_txn_key("alice", 5) && ash_txn_key("alice", 5) != ash_txn_key("alicf", 5) &&
           ash_txn_key("a", 1) != ash_txn_key("a\0", 2),
       "names have keys");
    is_int(ash_txnmgr_destroy(m), 0, "the end");
}

static void test_arguments(void)
{
    int ran = 0;
    struct ash_txn *out;
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, NULL);
    struct ash_txn *t = ash_txn_begin(m);
    errno = 0;
    ok(ash_txn_begin(NULL) == NULL && errno == EINVAL && ash_txn_begin_wait(NULL, 0) == NULL, "EINVAL: no manager");
    ok(ash_txn_submit(NULL, good, &ran) == -EINVAL && ash_txn_submit(t, NULL, NULL) == -EINVAL, "EINVAL: no body");
    ok(ash_txn_wait(NULL, 0) == -EINVAL && ash_txn_wait(t, 0) == -EINVAL, "EINVAL: what was not submitted is not waited for");
    ok(ash_txn_poll_batch(NULL, &out, 1) == 0 && ash_txn_poll_batch(m, NULL, 1) == 0 && ash_txn_poll_wait(m, &out, 0, -1) == 0,
       "nothing to poll");
    ok(ash_txn_status(NULL) == -EINVAL && ash_txn_arg(NULL) == NULL && ash_txn_arg(t) == NULL, "no status");
    ok(ash_txn_save(NULL, &ran, 4) == -EINVAL && ash_txn_save(t, NULL, 4) == -EINVAL && ash_txn_undo(t, NULL, NULL) == -EINVAL &&
           ash_txn_on_commit(t, NULL, NULL) == -EINVAL && ash_txn_on_abort(NULL, NULL, NULL) == -EINVAL &&
           ash_txn_record(t, NULL, 1) == -EINVAL && ash_txn_rollback_to(t, 0) == -EINVAL && ash_txn_savepoint(NULL) == -EINVAL,
       "EINVAL: nothing");
    errno = 0;
    ok(ash_txn_alloc(NULL, 1) == NULL && errno == EINVAL, "EINVAL: no transaction");
    ok(ash_txnmgr_stats(m, NULL) == -EINVAL && ash_txnmgr_stats(NULL, &(struct ash_txnmgr_stats){0}) == -EINVAL &&
           ash_txnmgr_dump(NULL, 1) == -EINVAL && ash_txnmgr_shutdown(NULL) == -EINVAL,
       "EINVAL: figures");
    ash_txn_end(NULL);
    ash_txn_end(t);
    ash_txnmgr_destroy(m);
}

/* ---- what bodies may not do ---- */

static struct ash_txnmgr *inner;
static struct ash_txn *other;

static int forbidden(struct ash_txn *txn, void *arg)
{
    struct ash_txn *out;
    int *answer = arg;
    answer[0] = ash_txn_submit(other, good, &answer[7]);
    errno = 0;
    answer[1] = ash_txn_begin_wait(inner, -1) == NULL ? errno : 0;
    answer[2] = (int)ash_txn_poll_batch(inner, &out, 1);
    answer[3] = (int)ash_txn_poll_wait(inner, &out, 1, -1);
    answer[4] = ash_txn_wait(txn, -1);
    answer[5] = ash_txnmgr_destroy(inner);
    answer[6] = ash_txn_writes(txn, NULL, 0);
    return 7; /* no errno */
}

static void test_inside(unsigned workers, enum ash_txn_way way)
{
    int answer[8] = {0};
    struct ash_exec *e = workers != 0 ? ash_exec_create(workers, NULL) : NULL;
    inner = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.way = way));
    other = ash_txn_begin(inner);
    is_int(run_status(inner, forbidden, answer), -EINVAL, "a positive answer is an abort");
    ok(answer[0] == -EDEADLK && answer[1] == EDEADLK && answer[2] == 0 && answer[3] == 0 && answer[4] == -EDEADLK &&
           answer[5] == -EDEADLK && answer[6] == -EBUSY,
       "a body does not submit, and waits for nothing");
    is_int(ash_txn_submit(other, good, &answer[7]), 0, "outside it is submitted");
    is_int(ash_txn_wait(other, -1), 0, "and runs");
    is_int(answer[7], 1, "once");
    ash_txn_end(other);
    is_int((int)stats(inner).aborted, 1, "one aborted");
    is_int(ash_txnmgr_destroy(inner), 0, "the end");
    ash_exec_destroy(e);
}

/* ---- undoing ---- */

static char order[200];

static void note(void *what)
{
    strcat(order, what);
}

static void hook(struct ash_txn *txn, void *what)
{
    (void)txn;
    strcat(order, what);
}

static char A[] = "a", B[] = "b", C[] = "c", D[] = "d", E[] = "e", YES[] = "+", NO[] = "-";
static int number;
static unsigned released;

static void release(void *data, void *user)
{
    (void)data;
    ++*(unsigned *)user;
}

static int attach(struct ash_txn *txn)
{
    struct ash_buf b;
    return ash_buf_wrap(&b, A, 1, release, &released) != 0 ? -ENOMEM : ash_txn_attach(txn, b);
}

static int savepoints(struct ash_txn *txn, void *arg)
{
    const struct iovec *iov;
    unsigned count;
    int *step = arg, bad = 0;
    bad |= ash_txn_undo(txn, note, A) | ash_txn_on_commit(txn, hook, YES) | ash_txn_on_abort(txn, hook, NO);
    bad |= ash_txn_save(txn, &number, sizeof number) | ash_txn_record(txn, A, 1) | attach(txn);
    number = 1;
    int first = ash_txn_savepoint(txn);
    bad |= ash_txn_undo(txn, note, B) | ash_txn_save(txn, &number, sizeof number) | ash_txn_on_commit(txn, hook, YES) | attach(txn);
    for (int i = 0; i < 9; i++)
        bad |= ash_txn_record(txn, B, 1);
    number = 2;
    int second = ash_txn_savepoint(txn);
    bad |= ash_txn_undo(txn, note, C) | ash_txn_undo(txn, note, D);
    number = 3;
    if (bad != 0 || first != 0 || second != 1)
        return -EIO;
    strcat(order, "[");
    if (ash_txn_rollback_to(txn, second) != 0 || number != 3 || ash_txn_rollback_to(txn, first) != 0 || number != 1)
        return -EIO;
    strcat(order, "]");
    if (ash_txn_rollback_to(txn, second) != -EINVAL || ash_txn_rollback_to(txn, 7) != -EINVAL || released != 1)
        return -EIO;
    ash_txn_records(txn, &iov, &count);
    if (count != 1 || iov[0].iov_base != A || ash_txn_savepoint(txn) != 2)
        return -EIO;
    bad = ash_txn_undo(txn, note, E) | ash_txn_save(txn, &number, sizeof number);
    number = 5;
    return bad != 0 ? -EIO : *step;
}

static void test_undo(void)
{
    int status = 0;
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, NULL);
    number = 0;
    is_int(run_status(m, savepoints, &status), 0, "a commit");
    is_str(order, "[dcb]+", "what came behind the savepoints was undone, the hook from before is called");
    is_int(number, 5, "the rest stays");
    is_int((int)released, 2, "bufs are dropped");
    order[0] = '\0';
    released = 0;
    number = 0;
    status = -ENOSPC;
    is_int(run_status(m, savepoints, &status), -ENOSPC, "an abort");
    is_str(order, "[dcb]ea-", "all is undone, the last first, and then told");
    is_int(number, 0, "as it was");
    is_int((int)released, 2, "bufs are dropped");

    order[0] = '\0';
    struct ash_txn *t = ash_txn_begin(m);
    ash_txn_undo(t, note, A);
    ash_txn_on_abort(t, hook, NO);
    ash_txn_on_commit(t, hook, YES);
    ash_txn_save(t, &number, sizeof number);
    number = 4;
    ash_txn_end(t);
    is_str(order, "a-", "one that is given back before its submission is undone");
    is_int(number, 0, "as it was");
    is_int((int)(stats(m).completed), 2, "it is not counted as run");
    ash_txnmgr_destroy(m);
}

/* ---- hooks and store, over several ---- */

static int store_status;
static char stored[200];
static unsigned stores;

static int store(struct ash_txn *const *txns, unsigned n, void *user)
{
    struct ash_txn *out;
    stores++;
    for (unsigned i = 0; i < n; i++) {
        const struct iovec *iov;
        unsigned count;
        if (ash_txn_records(txns[i], &iov, &count) != 0 || count == 0 || ash_txn_status(txns[i]) != -EINPROGRESS)
            abort();
        strncat(stored, iov[0].iov_base, iov[0].iov_len);
    }
    if (ash_txn_poll_batch(*(struct ash_txnmgr **)user, &out, 1) != 0)
        abort();
    return store_status;
}

static int digit(struct ash_txn *txn, void *arg)
{
    ash_txn_save(txn, &number, sizeof number);
    number = 10 * number + (**(char **)arg - '0');
    ash_txn_on_commit(txn, hook, YES);
    ash_txn_on_abort(txn, hook, NO);
    if (**(char **)arg % 2 != 0)
        ash_txn_record(txn, *(char **)arg, 1);
    return **(char **)arg == '9' ? -EDOM : 0;
}

static int digits(struct ash_txnmgr *m, const char *text, int *status)
{
    struct ash_txn *done[16];
    static const char *at[16];
    unsigned n = (unsigned)strlen(text), got = 0;
    uint64_t key = 1;
    for (unsigned i = 0; i < n; i++) {
        struct ash_txn *t = ash_txn_begin(m);
        at[i] = text + i;
        ash_txn_writes(t, &key, 1);
        ash_txn_submit(t, digit, &at[i]);
    }
    while (got < n)
        got += ash_txn_poll_wait(m, done + got, n - got, -1);
    for (unsigned i = 0; i < n; i++) {
        status[i] = ash_txn_status(done[i]);
        ash_txn_end(done[i]);
    }
    return number;
}

static void test_store(unsigned workers, enum ash_txn_way way)
{
    int status[16];
    static struct ash_txnmgr *m;
    struct ash_exec *e = workers != 0 ? ash_exec_create(workers, NULL) : NULL;
    m = ash_txnmgr_create(e, ASH_TXNMGR_CONFIG(.store = store, .user = &m, .way = way));
    number = store_status = 0;
    order[0] = stored[0] = '\0';
    is_int(digits(m, "1294", status), 124, "three commit, one aborts");
    ok(status[0] == 0 && status[1] == 0 && status[2] == -EDOM && status[3] == 0, "as they say");
    is_str(stored, "1", "those with records are stored, unless they abort");
    is_str(order, "++-+", "hooks in the order of their submission");
    stores = 0;
    is_int(digits(m, "24", status), 12424, "none has a record");
    is_int((int)stores, 0, "so nothing is stored");
    number = 7;
    order[0] = stored[0] = '\0';
    store_status = -ENOSPC;
    is_int(digits(m, "21934", status), 7, "the store fails: all of the step is undone");
    ok(status[0] == -ENOSPC && status[1] == -ENOSPC && status[2] == -EDOM && status[3] == -ENOSPC && status[4] == -ENOSPC,
       "and says so, those without records too");
    is_str(stored, "13", "in order");
    is_str(order, "-----", "all hear of it");
    ok(stats(m).unstored == 4 && stats(m).stored == 3 && stats(m).aborted == 2 && stats(m).committed == 5, "counted");
    store_status = 5;
    digits(m, "1", status);
    is_int(status[0], -EINVAL, "a positive answer is a failure");
    store_status = 0;
    is_int(digits(m, "35", status), 735, "afterwards all is well");
    is_int(ash_txnmgr_destroy(m), 0, "the end");
    ash_exec_destroy(e);
}

static int more;

static void submit_more(struct ash_txn *txn, void *mgr)
{
    struct ash_txn *t = ash_txn_begin(mgr);
    (void)txn;
    if (++more < 100)
        ash_txn_on_commit(t, submit_more, mgr);
    if (ash_txn_submit(t, good, &number) != 0)
        abort();
}

static void test_chain(void)
{
    struct ash_txn *done[8];
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, NULL);
    unsigned n, all = 0;
    number = 0;
    submit_more(NULL, m);
    while ((n = ash_txn_poll_batch(m, done, 8)) != 0)
        for (unsigned i = 0; i < n; i++, all++)
            ash_txn_end(done[i]);
    ok(all == 100 && number == 100, "hooks begin and submit others");
    ash_txnmgr_destroy(m);
}

/* ---- memory ---- */

/* Every allocation may fail: then the call says so, and nothing has changed. */
static void test_no_memory(void)
{
    size_t limit, used;
    unsigned made = 0, lost = 0;
    for (size_t room = 0; room <= 4 << 20; room += 32768) {
        struct ash_txn *t[64], *done[64];
        unsigned n = 0, got = 0;
        int ran = 0;
        ash_trim();
        ash_limit_get(&limit, &used);
        ash_limit_set(used + room);
        struct ash_txnmgr *m = ash_txnmgr_create(NULL, NULL);
        while (m != NULL && n < 64 && (t[n] = ash_txn_begin(m)) != NULL && ash_txn_undo(t[n], note, A) == 0 &&
               ash_txn_submit(t[n], good, &ran) == 0)
            n++;
        while (got < n)
            got += ash_txn_poll_batch(m, done + got, n - got);
        for (unsigned i = 0; i < n; i++)
            ash_txn_end(done[i]);
        if (m != NULL && n < 64 && t[n] != NULL)
            ash_txn_end(t[n]);
        lost += ran != (int)n;
        made += m != NULL;
        if (ash_txnmgr_destroy(m) != 0)
            abort();
        ash_limit_set(0);
    }
    is_int((int)lost, 0, "under every limit, those that could be submitted have run");
    ok(made > 0 && ash_verify() == 0, "and %u of the managers could be made", made);
}

int main(void)
{
    test_create();
    test_limits();
    test_arguments();
    test_inside(0, ASH_TXN_ADAPTIVE);
    test_inside(2, ASH_TXN_PARALLEL);
    test_undo();
    test_store(0, ASH_TXN_ADAPTIVE);
    test_store(2, ASH_TXN_PARALLEL);
    test_chain();
    if (WATCHED)
        skip("the thread sanitizer leaves malloc out", 2);
    else
        test_no_memory();
    return tap_done();
}
