/*
 * A bank in three shards that survives kill -9: two-phase commit (ashlar/shard.h) over a log for each shard
 * (ashlar/wal.h). This is how the two go together; the tables are arrays, the network is a queue in memory.
 *
 *  1. Actions are taken from a site until there are no more. Records are appended, with the data of a vote behind them;
 *     everything else waits in a list.
 *  2. When something was to be forced the log is synced, once for all of them. Then the list is carried out.
 *  3. Now and then a shard writes its balances and ash_2pc_checkpoint into the log, and drops what is in front of that.
 *  4. After a crash the log is replayed: votes lock their accounts, decisions move the money, and ash_2pc_start asks
 *     for those that are in doubt.
 *
 * A parent kills the process again and again. In shared memory it keeps what no crash takes: which transfers a client
 * was told of, and what was decided by whom. Each new life has to agree with all of it.
 */
#include "wals.h"

#include "ashlar/shard.h"
#include "clock.h"
#include "process.h"
#include "tap.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { SHARDS = 3, ACCOUNTS = 8, BALANCE = 1000, TRANSFERS = 1 << 17, WAITING = 4096 };

#define MS ((int64_t)1000000)

/* ---- what is in the log: one of these two, then bytes ---- */

enum { RECORD_2PC = 1, RECORD_BALANCES };

struct part { /* of a transfer, in one shard */
    uint32_t account, transfer;
    int64_t change;
};

struct balances {
    int64_t balance[ACCOUNTS];
    unsigned char applied[TRANSFERS / 8];
};

/* ---- a shard ---- */

struct held { /* a transfer that was asked for here and is not decided */
    uint64_t id;
    struct part part;
};

struct shard {
    struct ash_2pc *site;
    struct ash_wal *wal;
    char path[160];
    struct balances now;
    uint64_t lock[ACCOUNTS]; /* an id, or 0 */
    struct held held[WAITING];
    unsigned helds;
    struct held asked; /* what came with the last question: most are doubles that nobody votes on */
    unsigned records;  /* since the last checkpoint */
};

struct message { /* PREPARE has its part with it */
    struct ash_2pc_msg msg;
    size_t len;
    struct part part;
};

static struct shard shard[SHARDS];
static struct message mail[WAITING];
static unsigned mail_first, mails;
static uint64_t ids[TRANSFERS]; /* of this life's transfers */
static struct part parts[TRANSFERS][2];
static uint32_t homes[TRANSFERS][2];

/* What the parent remembers. */
struct witness {
    unsigned begun; /* transfers, in all lives */
    unsigned char told[TRANSFERS];
    unsigned char decided[TRANSFERS]; /* 1 committed, 2 aborted */
    unsigned wrong, kinds[3], recovered, truncated;
    unsigned ready; /* atomic: this life is past its recovery */
};

static struct witness *witness;

static void need(bool good, const char *what)
{
    if (!good) {
        tap_line("# %s", what);
        __atomic_add_fetch(&witness->wrong, 1, __ATOMIC_RELAXED);
        _exit(1);
    }
}

static struct held *held_find(struct shard *s, uint64_t id)
{
    for (unsigned i = 0; i < s->helds; i++)
        if (s->held[i].id == id)
            return &s->held[i];
    return NULL;
}

static void decided(uint32_t transfer, int decision)
{
    need(witness->decided[transfer] == 0 || witness->decided[transfer] == decision, "decided twice, differently");
    witness->decided[transfer] = (unsigned char)decision;
}

/* Applies or drops the part, and unlocks its account. */
static void finish(struct shard *s, uint64_t id, bool commit)
{
    struct held *h = held_find(s, id);
    need(h != NULL, "a decision without data");
    struct part *p = &h->part;
    decided(p->transfer, commit ? 1 : 2);
    if (commit) {
        need((s->now.applied[p->transfer / 8] >> p->transfer % 8 & 1) == 0, "applied twice");
        s->now.applied[p->transfer / 8] |= (unsigned char)(1 << p->transfer % 8);
        s->now.balance[p->account] += p->change;
    }
    if (s->lock[p->account] == id)
        s->lock[p->account] = 0;
    *h = s->held[--s->helds];
}

/* ---- records ---- */

static void append(struct shard *s, const struct ash_2pc_action *a)
{
    uint64_t kind = RECORD_2PC, lsn;
    struct held *h = a->with_data ? held_find(s, a->id) : NULL;
    struct part none = {.change = 0};
    struct iovec pieces[] = {{&kind, sizeof kind},
                             {(void *)(uintptr_t)a->record, a->record_len},
                             {h != NULL ? &h->part : &none, a->with_data ? sizeof none : 0}};
    need(!a->with_data || h != NULL, "a vote without data");
    need(ash_wal_append(s->wal, pieces, 3, &lsn) == 0, "append");
    s->records++;
}

static int replay(void *user, uint64_t lsn, const void *data, size_t len)
{
    struct shard *s = user;
    struct ash_2pc_action what;
    uint64_t kind;
    const char *rest = (const char *)data + sizeof kind;
    (void)lsn;
    memcpy(&kind, data, sizeof kind);
    if (kind == RECORD_BALANCES) {
        memcpy(&s->now, rest, sizeof s->now);
        s->records = 0;
        return 0;
    }
    s->records++;
    int used = ash_2pc_recover(s->site, rest, len - sizeof kind, &what);
    if (used < 0)
        return used;
    if (what.kind == ASH_2PC_VOTE) {
        struct held *h = &s->held[s->helds++];
        h->id = what.id;
        memcpy(&h->part, rest + used, sizeof h->part);
        s->lock[h->part.account] = what.id;
    } else if (what.kind != 0 && (what.roles & ASH_2PC_PARTICIPANT) != 0) {
        witness->recovered++;
        finish(s, what.id, what.kind == ASH_2PC_COMMITTED);
    }
    return 0;
}

/* ---- actions ---- */

/* The transfer of this life, newest first. */
static unsigned transfer_of(uint64_t id)
{
    unsigned t = witness->begun;
    while (t-- > 0)
        if (ids[t] == id)
            return t;
    return TRANSFERS;
}

static void deliver(const struct ash_2pc_msg *msg, size_t len)
{
    struct message *m = &mail[(mail_first + mails++) % WAITING];
    need(mails <= WAITING, "too much mail");
    memcpy(&m->msg, msg, len);
    m->len = len;
    if (msg->word == ASH_2PC_PREPARE) {
        unsigned t = transfer_of(msg->id);
        m->part = parts[t][homes[t][0] == msg->to ? 0 : 1];
    }
}

static void vote(struct shard *s, uint64_t id)
{
    need(s->asked.id == id, "a question without data");
    struct held *h = &s->held[s->helds++];
    *h = s->asked;
    struct part *p = &h->part;
    bool can = s->lock[p->account] == 0 && s->now.balance[p->account] + p->change >= 0;
    if (can)
        s->lock[p->account] = id;
    int status = ash_2pc_vote(s->site, id, can, now_ns());
    need(status == 0 || status == -ECANCELED, "a vote");
    if (status == 0 && !can)
        *h = s->held[--s->helds];
}

static void carry_out(struct shard *s, const struct ash_2pc_action *a)
{
    if (a->kind == ASH_2PC_VOTE) {
        vote(s, a->id);
    } else if (a->kind == ASH_2PC_COMMITTED || a->kind == ASH_2PC_ABORTED) {
        bool commit = a->kind == ASH_2PC_COMMITTED;
        witness->kinds[commit ? 1 : 2]++;
        if (a->roles == ASH_2PC_PARTICIPANT)
            finish(s, a->id, commit);
        if (a->roles == ASH_2PC_COORDINATOR) {
            unsigned t = transfer_of(a->id);
            decided(t, commit ? 1 : 2);
            witness->told[t] = commit;
        }
    }
}

/* Rules 1 and 2. */
static bool run(struct shard *s)
{
    static struct {
        struct ash_2pc_action action;
        struct ash_2pc_msg msg;
    } list[256];
    unsigned n = 0;
    bool force = false, any = false;
    while (n < 256 && ash_2pc_next(s->site, &list[n].action) > 0) {
        struct ash_2pc_action *a = &list[n].action;
        any = true;
        if (a->kind == ASH_2PC_LOG || a->kind == ASH_2PC_FORCE) {
            append(s, a);
            force |= a->kind == ASH_2PC_FORCE;
        } else {
            if (a->kind == ASH_2PC_SEND)
                memcpy(&list[n].msg, a->msg, a->msg_len);
            n++;
        }
    }
    if (force)
        need(ash_wal_sync(s->wal, UINT64_MAX) == 0, "sync");
    for (unsigned i = 0; i < n; i++)
        if (list[i].action.kind == ASH_2PC_SEND)
            deliver(&list[i].msg, list[i].action.msg_len);
        else
            carry_out(s, &list[i].action);
    return any;
}

/* Rule 3. */
static void checkpoint(struct shard *s)
{
    uint64_t kind = RECORD_BALANCES, lsn;
    struct iovec pieces[] = {{&kind, sizeof kind}, {&s->now, sizeof s->now}};
    while (run(s))
        ;
    need(ash_wal_append(s->wal, pieces, 2, &lsn) == 0 && ash_2pc_checkpoint(s->site) == 0, "checkpoint");
    while (run(s))
        ;
    need(ash_wal_truncate(s->wal, lsn - sizeof s->now - 64) == 0, "truncate"); /* in front of the balances */
    struct ash_wal_stats st;
    ash_wal_stats(s->wal, &st);
    witness->truncated += st.removed + st.recycled > 0;
    s->records = 0;
}

static void receive(void)
{
    struct message *m = &mail[mail_first];
    struct shard *s = &shard[m->msg.to];
    mail_first = (mail_first + 1) % WAITING;
    mails--;
    if (m->msg.word == ASH_2PC_PREPARE)
        s->asked = (struct held){m->msg.id, m->part};
    need(ash_2pc_receive(s->site, &m->msg, m->len, now_ns()) == 0, "receive");
    while (run(s))
        ;
}

/* ---- lives ---- */

static void begin(unsigned seed)
{
    unsigned t = witness->begun;
    if (t == TRANSFERS)
        return;
    unsigned from = seed % SHARDS, to = (from + 1 + (seed >> 4) % (SHARDS - 1)) % SHARDS;
    int64_t amount = 1 + (seed >> 8) % 90;
    parts[t][0] = (struct part){(seed >> 10) % ACCOUNTS, t, -amount};
    parts[t][1] = (struct part){(seed >> 14) % ACCOUNTS, t, amount};
    homes[t][0] = from;
    homes[t][1] = to;
    witness->begun = t + 1;
    need(ash_2pc_prepare(shard[from].site, homes[t], 2, now_ns(), &ids[t]) == 0, "prepare");
    shard[from].asked = (struct held){ids[t], parts[t][0]}; /* its own part needs no message */
    while (run(&shard[from]))
        ;
}

static void wake(void)
{
    for (unsigned i = 0; i < SHARDS; i++) {
        need(ash_2pc_timeout(shard[i].site, now_ns()) == 0, "timeout");
        while (run(&shard[i]))
            ;
    }
    if (mails > 0)
        receive();
}

/* Rule 4. */
static void recover(void)
{
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct shard *s = &shard[i];
        snprintf(s->path, sizeof s->path, "%s/shard%u", wal_dir, i);
        for (unsigned a = 0; a < ACCOUNTS; a++)
            s->now.balance[a] = BALANCE;
        s->site = ash_2pc_create("bank", ASH_2PC_CONFIG(.shard = i, .shards = SHARDS, .retry_ns = MS));
        need(ash_wal_open(s->path, ASH_WAL_CONFIG(.buffer_bytes = 65536, .segment_bytes = 65536), &s->wal) == 0,
             "open");
        need(ash_wal_replay(s->path, replay, s) == 0, "replay");
        need(ash_2pc_start(s->site, now_ns()) == 0, "start");
    }
}

/* Everything is decided, and as the parent has it. */
static void check(void)
{
    bool open = true;
    int64_t until = now_ns() + 20000 * MS, sum = 0;
    while (open) {
        need(now_ns() < until, "no end");
        wake();
        open = mails > 0;
        for (unsigned i = 0; i < SHARDS; i++) {
            struct ash_2pc_stats st;
            ash_2pc_stats(shard[i].site, &st);
            open |= st.open + st.voting + st.in_doubt + st.actions > 0;
        }
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        need(shard[i].helds == 0, "data that nobody needs");
        for (unsigned a = 0; a < ACCOUNTS; a++) {
            sum += shard[i].now.balance[a];
            need(shard[i].lock[a] == 0 && shard[i].now.balance[a] >= 0, "an account");
        }
    }
    need(sum == SHARDS * ACCOUNTS * BALANCE, "money was made or lost");
    for (unsigned t = 0; t < witness->begun; t++) {
        unsigned applied = 0;
        for (unsigned i = 0; i < SHARDS; i++)
            applied += shard[i].now.applied[t / 8] >> t % 8 & 1;
        need(applied == (witness->decided[t] == 1 ? 2 : 0), "not all parts are as decided");
        need(!witness->told[t] || applied == 2, "what the client was told is not so");
    }
}

static void live(unsigned seed)
{
    recover();
    check();
    __atomic_store_n(&witness->ready, 1, __ATOMIC_RELEASE);
    for (;;) {
        seed = seed * 1103515245 + 12345;
        if (mails < 8)
            begin(seed >> 8);
        wake();
        struct shard *s = &shard[(seed >> 20) % SHARDS];
        if (s->records > 300)
            checkpoint(s);
    }
}

int main(void)
{
    const char *set = getenv("ASH_KILLS");
    unsigned lives = set != NULL ? (unsigned)atoi(set) : under_valgrind() ? 2 : 60, killed = 0, seed = 3;
    wal_in_memory();
    wal_path("");
    witness = mmap(NULL, sizeof *witness, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < lives && witness->wrong == 0; i++) {
        int status = 0;
        witness->ready = 0;
        pid_t child = fork();
        if (child == 0)
            live(i);
        while (i % 4 != 3 && !__atomic_load_n(&witness->ready, __ATOMIC_ACQUIRE) && waitpid(child, &status, WNOHANG) == 0)
            sleep_ns(100000); /* each fourth may die in its recovery */
        seed = seed * 1103515245 + 12345;
        sleep_ns(1000000 + (long)(seed >> 8) % 30000000);
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    }
    is_int(killed, lives, "killed at any moment");
    is_int(witness->wrong, 0, "each new life agrees with those before it");
    recover();
    check();
    unsigned told = 0;
    for (unsigned t = 0; t < witness->begun; t++)
        told += witness->told[t];
    ok(told > lives && witness->kinds[2] > 0, "%u transfers, %u committed and told, %u parts aborted", witness->begun,
       told, witness->kinds[2]);
    ok(witness->recovered > 0 && witness->truncated > 0, "%u decisions read back, %u checkpoints", witness->recovered,
       witness->truncated);
    for (unsigned i = 0; i < SHARDS; i++) {
        ash_2pc_destroy(shard[i].site);
        ash_wal_close(shard[i].wal);
    }
    wal_remove(wal_dir);
    return tap_done();
}
