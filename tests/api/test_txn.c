/*
 * Transactions (ashlar/txn.h), as a program uses them: a bank whose orders arrive in messages. Orders move money between
 * accounts; some cannot be met and change nothing; each that is met is written to a log before its customer hears of it.
 */
#include "ashlar/layers.h"
#include "ashlar/stats.h"
#include "process.h"
#include "tap.h"

#include <errno.h>
#include <stdlib.h>

enum { ALICE, BOB, CAROL, ACCOUNTS };

static struct account {
    const char *owner;
    int64_t balance;
} account[ACCOUNTS] = {{"alice", 100}, {"bob", 50}, {"carol", 0}};

/* ---- the log: what has committed, in order, in as few writes as can be ---- */

static char log_text[1024];
static unsigned log_writes, log_lines;
static int log_error;

static int log_write(struct ash_txn *const *txns, unsigned n, void *user)
{
    char *at = log_text + strlen(log_text);
    if (log_error != 0)
        return log_error;
    for (unsigned i = 0; i < n; i++) {
        const struct iovec *iov;
        unsigned count;
        ash_txn_records(txns[i], &iov, &count);
        for (unsigned k = 0; k < count; k++) {
            memcpy(at, iov[k].iov_base, iov[k].iov_len);
            at += iov[k].iov_len;
        }
        *at = '\0';
        log_lines++;
    }
    ++*(unsigned *)user;
    return 0;
}

/* ---- orders ---- */

struct order {
    int from, to;
    int64_t amount;
    struct ash_buf text; /* a view into the message that it came in */
};

static char replies[1024], done_text[] = "done. ", refused_text[] = "refused. ";

static void reply(struct ash_txn *txn, void *text)
{
    (void)txn;
    strcat(replies, text);
}

/* The body: it is alone with the two accounts. */
static int transfer(struct ash_txn *txn, void *arg)
{
    struct order *o = arg;
    struct account *from = &account[o->from], *to = &account[o->to];
    if (ash_txn_save(txn, &from->balance, sizeof from->balance) != 0 || ash_txn_save(txn, &to->balance, sizeof to->balance) != 0)
        return -ENOMEM;
    from->balance -= o->amount;
    to->balance += o->amount;
    if (from->balance < 0)
        return -EDQUOT; /* what was saved is put back */
    return ash_txn_record(txn, o->text.data, o->text.len);
}

/* A message is "FROM TO AMOUNT\n" in a buf; what is kept of it is a slice. */
static struct ash_txn *order(struct ash_txnmgr *bank, const char *message)
{
    struct ash_txn *txn = ash_txn_begin(bank);
    struct order *o = txn == NULL ? NULL : ash_txn_alloc(txn, sizeof *o);
    struct ash_buf in;
    if (o == NULL || ash_buf_alloc(&in, strlen(message), 0) != 0)
        abort();
    memcpy(in.data, message, in.len);
    o->text = ash_buf_slice(&in, 0, in.len);
    ash_buf_drop(&in);
    char from[16], to[16];
    if (sscanf(message, "%15s %15s %ld", from, to, (long *)&o->amount) != 3 || ash_txn_attach(txn, o->text) != 0)
        abort();
    for (int i = 0; i < ACCOUNTS; i++) {
        o->from = strcmp(account[i].owner, from) == 0 ? i : o->from;
        o->to = strcmp(account[i].owner, to) == 0 ? i : o->to;
    }
    uint64_t keys[] = {ash_txn_key(from, strlen(from)), ash_txn_key(to, strlen(to))};
    ash_txn_writes(txn, keys, 2);
    ash_txn_on_commit(txn, reply, done_text);
    ash_txn_on_abort(txn, reply, refused_text);
    if (ash_txn_submit(txn, transfer, o) != 0)
        abort();
    return txn;
}

static void test_bank(struct ash_exec *exec)
{
    struct ash_buf_stats before, after;
    struct ash_txnmgr *bank = ash_txnmgr_create(exec, ASH_TXNMGR_CONFIG(.name = "bank", .store = log_write, .user = &log_writes));
    struct ash_txn *done[8];
    ash_buf_stats(&before);
    struct ash_txn *a = order(bank, "alice bob 70\n"), *b = order(bank, "alice carol 70\n"), *c = order(bank, "bob carol 120\n");
    is_int(ash_txn_status(a), -EINPROGRESS, "nothing runs by itself");
    is_int(ash_txn_poll_batch(bank, done, 8), 3, "who polls runs them");
    ok(done[0] == a && done[1] == b && done[2] == c, "and gets them in the order of their submission");
    is_int(ash_txn_status(a), 0, "alice had 100: 70 go to bob");
    is_int(ash_txn_status(b), -EDQUOT, "she has no 70 for carol");
    is_int(ash_txn_status(c), 0, "bob has 120 for carol, thanks to the first");
    ok(account[ALICE].balance == 30 && account[BOB].balance == 0 && account[CAROL].balance == 120, "the accounts say so");
    is_str(log_text, "alice bob 70\nbob carol 120\n", "the log has what was met");
    is_int(log_writes, 1, "in one write");
    is_str(replies, "done. refused. done. ", "the customers were told, in order");
    for (int i = 0; i < 3; i++)
        ash_txn_end(done[i]);
    ash_buf_stats(&after);
    is_int((int)(after.copied_bytes - before.copied_bytes), 0, "no byte of the messages was copied");
    ok(after.live == before.live, "they have gone");

    log_error = -EIO;
    a = order(bank, "carol alice 20\n");
    b = order(bank, "alice bob 50\n");
    is_int(ash_txn_wait(b, -1), 0, "one may wait for one of them as well");
    is_int(ash_txn_status(b), -EIO, "the log could not be written");
    ok(account[ALICE].balance == 30 && account[BOB].balance == 0 && account[CAROL].balance == 120, "so nothing has happened");
    is_int(ash_txn_poll_batch(bank, done, 8), 1, "who was waited for does not come out");
    ok(done[0] == a && ash_txn_status(a) == -EIO, "the others do");
    ash_txn_end(a);
    ash_txn_end(b);
    is_int(ash_txnmgr_destroy(bank), 0, "the end");
}

/* ---- savepoints: try one thing, then another ---- */

static int64_t stock[3] = {0, 2, 5};

static int take(struct ash_txn *txn, int64_t *from, int64_t n)
{
    if (ash_txn_save(txn, from, sizeof *from) != 0)
        return -ENOMEM;
    *from -= n;
    return *from < 0 ? -ENOENT : 0;
}

/* Three of a kind, from the first shelf that has them; the box is taken in any case. */
static int pack(struct ash_txn *txn, void *boxes)
{
    if (take(txn, boxes, 1) != 0)
        return -ENOENT;
    int savepoint = ash_txn_savepoint(txn);
    for (int shelf = 0; shelf < 3; shelf++) {
        char *note = ash_txn_alloc(txn, 100);
        snprintf(note, 100, "shelf %d", shelf);
        if (take(txn, &stock[shelf], 3) == 0)
            return ash_txn_record(txn, note, strlen(note));
        ash_txn_rollback_to(txn, savepoint); /* the shelf is as it was, the note is gone, the box is not */
    }
    return -ENOENT;
}

static void test_savepoints(void)
{
    int64_t boxes = 9;
    uint64_t keys[] = {1, 2, 3, 4};
    struct ash_txnmgr *shop = ash_txnmgr_create(NULL, NULL);
    for (int i = 0; i < 2; i++) {
        struct ash_txn *txn = ash_txn_begin(shop), *done;
        ash_txn_writes(txn, keys, 4);
        ash_txn_submit(txn, pack, &boxes);
        is_int(ash_txn_poll_batch(shop, &done, 1), 1, "packed, or not");
        if (i == 0) {
            is_int(ash_txn_status(done), 0, "the third shelf had three");
            ok(boxes == 8 && stock[0] == 0 && stock[1] == 2 && stock[2] == 2, "the others are as they were");
            is_ptr(ash_txn_arg(done), &boxes, "what it was submitted with");
        } else {
            is_int(ash_txn_status(done), -ENOENT, "no shelf has three more");
            ok(boxes == 8 && stock[2] == 2, "so the box was put back as well");
        }
        ash_txn_end(done);
    }
    is_int(ash_txnmgr_destroy(shop), 0, "the end");
}

/* ---- what it costs: nothing of malloc once it runs ---- */

static int read_both(struct ash_txn *txn, void *arg)
{
    int64_t *sum = ash_txn_alloc(txn, 200);
    *sum = account[ALICE].balance + account[BOB].balance;
    return *sum == *(int64_t *)arg ? 0 : -EIO;
}

/* 200 transactions, of a block each. */
static unsigned round_of(struct ash_txnmgr *m, int64_t *sum)
{
    struct ash_txn *done[64];
    uint64_t keys[] = {ALICE, BOB};
    unsigned good = 0, n;
    for (int i = 0; i < 200; i++) {
        struct ash_txn *txn = ash_txn_begin(m);
        ash_txn_reads(txn, keys, 2);
        ash_txn_submit(txn, read_both, sum);
    }
    while ((n = ash_txn_poll_batch(m, done, 64)) != 0)
        for (unsigned i = 0; i < n; i++) {
            good += ash_txn_status(done[i]) == 0;
            ash_txn_end(done[i]);
        }
    return good;
}

static void test_steady(void)
{
    struct ash_txnmgr *m = ash_txnmgr_create(NULL, ASH_TXNMGR_CONFIG(.name = "steady", .keys = 2));
    struct ash_txnmgr_stats s;
    int64_t sum = account[ALICE].balance + account[BOB].balance;
    unsigned good = round_of(m, &sum);
    struct ash_stats before = {.struct_size = sizeof before}, after = before;
    ash_stats_get(&before);
    for (int i = 0; i < 50; i++)
        good += round_of(m, &sum);
    ash_stats_get(&after);
    if (memory_watched())
        skip("memory is watched: each block is one of malloc's", 1);
    else
        is_int((int)(after.hits + after.misses - before.hits - before.misses), 0, "10,000 transactions without a malloc");
    is_int((int)good, 51 * 200, "which all have read the same");
    is_int(ash_txnmgr_stats(m, &s), 0, "figures");
    ok(s.begun == 51 * 200 && s.completed == s.begun && s.committed == s.begun && s.in_flight == 0 && s.queued == 0, "of them");
    ok(s.most == 200 && s.steps >= 51, "200 at a time");
    ok(s.record_bytes > 0 && s.record_bytes <= 192, "a transaction of two keys has %d bytes", (int)s.record_bytes);
    if (memory_watched())
        skip("nothing stays where memory is watched", 1);
    else
        ok(s.arena_bytes >= 200 * 256 && s.arena_bytes < 300 * 256, "200 of them have %d bytes of memory", (int)s.arena_bytes);
    ok(s.p50_ns > 0 && s.p50_ns <= s.p99_ns && s.p99_ns <= s.max_ns, "half were done in %d ns, 99 of 100 in %d", (int)s.p50_ns,
       (int)s.p99_ns);
    ash_txnmgr_destroy(m);
}

int main(void)
{
    struct ash_exec *exec = ash_exec_create(1, NULL);
    test_bank(exec);
    account[ALICE].balance = 100;
    account[BOB].balance = 50;
    account[CAROL].balance = log_error = 0;
    log_text[0] = replies[0] = '\0';
    log_writes = 0;
    test_bank(NULL);
    ash_exec_destroy(exec);
    test_savepoints();
    test_steady();
    return tap_done();
}
