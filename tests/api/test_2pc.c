/*
 * Two-phase commit (ashlar/shard.h). The first test is a bank in two shards; then every function with its answers, what
 * is lost and comes twice, recovery from every prefix of a log, no memory. Whether all sites agree whatever happens is
 * test_2pc_sim's question.
 */
#include "ashlar/malloc.h"
#include "ashlar/shard.h"
#include "ashlar/stats.h"
#include "tap.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define MS ((int64_t)1000000)

static struct ash_2pc_stats stats(const struct ash_2pc *site)
{
    struct ash_2pc_stats s;
    ash_2pc_stats(site, &s);
    return s;
}

/* ---- how it is used: one thread, two shards, messages in a queue ---- */

enum { ALICE = 0, BOB = 1 }; /* each lives in the shard of that number */

struct bank {
    struct ash_2pc *site[2];
    long balance[2], change[2];
    bool locked[2];
    struct ash_2pc_msg mail[64];
    unsigned sent, read;
    int told; /* the client */
};

static void carry_out(struct bank *b, uint32_t shard, const struct ash_2pc_action *a, int64_t now)
{
    bool can = !b->locked[shard] && b->balance[shard] + b->change[shard] >= 0;
    switch (a->kind) {
    case ASH_2PC_VOTE:
        ash_2pc_vote(b->site[shard], a->id, can, now);
        b->locked[shard] |= can;
        break;
    case ASH_2PC_SEND:
        memcpy(&b->mail[b->sent++], a->msg, a->msg_len);
        break;
    case ASH_2PC_COMMITTED:
        if (a->roles == ASH_2PC_PARTICIPANT) {
            b->balance[shard] += b->change[shard];
            b->locked[shard] = false;
        } else {
            b->told = 1;
        }
        break;
    case ASH_2PC_ABORTED:
        if (a->roles == ASH_2PC_PARTICIPANT)
            b->locked[shard] = false;
        else
            b->told = -1;
        break;
    default: /* records: see test_durable */
        break;
    }
}

static int transfer(struct bank *b, long amount)
{
    const uint32_t shards[] = {ALICE, BOB};
    struct ash_2pc_action action;
    uint64_t id;
    int64_t now = 0;
    b->change[ALICE] = -amount;
    b->change[BOB] = amount;
    b->sent = b->read = 0;
    b->told = 0;
    if (ash_2pc_prepare(b->site[ALICE], shards, 2, now, &id) != 0)
        abort();
    do {
        for (uint32_t shard = 0; shard < 2; shard++)
            while (ash_2pc_next(b->site[shard], &action) > 0)
                carry_out(b, shard, &action, now);
        const struct ash_2pc_msg *msg = &b->mail[b->read];
        if (b->read < b->sent && ash_2pc_receive(b->site[msg->to], msg, sizeof *msg, now) != 0)
            abort();
    } while (b->read++ < b->sent);
    return b->told;
}

static void test_example(void)
{
    struct bank b = {.balance = {100, 0}};
    for (uint32_t shard = 0; shard < 2; shard++) {
        b.site[shard] = ash_2pc_create("bank", ASH_2PC_CONFIG(.shard = shard, .shards = 2));
        ash_2pc_start(b.site[shard], 0);
    }
    is_int(transfer(&b, 60), 1, "60 go from one shard to the other");
    ok(b.balance[ALICE] == 40 && b.balance[BOB] == 60, "where they are now");
    is_int(transfer(&b, 60), -1, "60 more are not there");
    ok(b.balance[ALICE] == 40 && b.balance[BOB] == 60, "and nothing has changed");
    is_int(transfer(&b, -10), 1, "10 come back");
    ok(b.balance[ALICE] == 50 && b.balance[BOB] == 50 && !b.locked[ALICE] && !b.locked[BOB], "nothing is locked");
    struct ash_2pc_stats s = stats(b.site[ALICE]);
    ok(s.begun == 3 && s.committed == 2 && s.aborted == 1 && s.open == 0 && s.in_doubt == 0, "the figures");
    is_int((long long)s.sent, 3 + 3 + 1,
           "three questions, three decisions, and the last once more for a vote that crossed it");
    is_int((long long)stats(b.site[BOB]).forced, 3 + 2, "the other shard forces its votes and the commits");
    ash_2pc_destroy(b.site[ALICE]);
    ash_2pc_destroy(b.site[BOB]);
}

/* ---- each function ---- */

/* Two sites of three, driven by hand. */
struct pair {
    struct ash_2pc *a, *b;
};

static struct ash_2pc *make(uint32_t shard)
{
    struct ash_2pc *site =
        ash_2pc_create(NULL, ASH_2PC_CONFIG(.shard = shard, .shards = 3, .tries = 2, .retry_ns = MS));
    ash_2pc_start(site, 0);
    return site;
}

static struct pair pair_make(void)
{
    return (struct pair){make(0), make(1)};
}

static void pair_drop(struct pair *p)
{
    ash_2pc_destroy(p->a);
    ash_2pc_destroy(p->b);
}

/* The next action of that kind; those in front of it are dropped. */
static bool find(struct ash_2pc *site, enum ash_2pc_kind kind, struct ash_2pc_action *a)
{
    int more;
    while ((more = ash_2pc_next(site, a)) > 0 && a->kind != kind)
        ;
    return more > 0;
}

/* The next message, copied; word 0: there is none. */
static struct ash_2pc_msg mail(struct ash_2pc *site)
{
    struct ash_2pc_action a;
    struct ash_2pc_msg msg = {.word = 0};
    if (find(site, ASH_2PC_SEND, &a))
        memcpy(&msg, a.msg, a.msg_len);
    return msg;
}

static int give(struct ash_2pc *site, const struct ash_2pc_msg *msg)
{
    return ash_2pc_receive(site, msg, sizeof *msg, 0);
}

/* Site a asks b, which has prepared; its yes is in `yes`. */
static uint64_t prepared(struct pair *p, struct ash_2pc_msg *prepare, struct ash_2pc_msg *yes)
{
    uint64_t id = 0;
    ash_2pc_prepare(p->a, (uint32_t[]){1}, 1, 0, &id);
    *prepare = mail(p->a);
    give(p->b, prepare);
    ash_2pc_vote(p->b, id, 1, 0);
    *yes = mail(p->b);
    return id;
}

static void test_create(void)
{
    static const struct ash_2pc_config bad[] = {
        {0, 0, 1, 0, 0, 0},
        {sizeof bad[0], 0, 0, 0, 0, 0},
        {sizeof bad[0], 3, 3, 0, 0, 0},
        {sizeof bad[0], 0, 65536, 0, 0, 0},
        {sizeof bad[0], 0, 1, 0, 33, 0},
        {sizeof bad[0], 0, 1, 0, 0, -1},
        {sizeof bad[0], 0, 1, 0, 0, INT64_MAX},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        ok(ash_2pc_create(NULL, &bad[i]) == NULL && errno == EINVAL, "EINVAL: config %u", i);
    }
    errno = 0;
    ok(ash_2pc_create(NULL, NULL) == NULL && errno == EINVAL, "no config: it has to say which shard");
    ok(ash_2pc_create("a\"b", ASH_2PC_CONFIG(.shards = 1)) == NULL && errno == EINVAL, "a quote in the name");
    struct ash_2pc *site = ash_2pc_create("one", ASH_2PC_CONFIG(.shards = 1));
    uint64_t id;
    is_int(ash_2pc_prepare(site, (uint32_t[]){0}, 1, 0, &id), -EINVAL, "nothing before the start");
    is_int(ash_2pc_timeout(site, 0), -EINVAL, "nor this");
    is_int(ash_2pc_checkpoint(site), -EINVAL, "nor this");
    is_int(ash_2pc_start(site, 0), 0, "started");
    is_int(ash_2pc_start(site, 0), -EBUSY, "once");
    ok(ash_2pc_due(site) == INT64_MAX, "nothing is due");
    ash_2pc_destroy(site);
    ash_2pc_destroy(NULL);
}

static void test_prepare(void)
{
    struct ash_2pc *site = ash_2pc_create("few", ASH_2PC_CONFIG(.shard = 2, .shards = 200, .max_open = 2));
    uint32_t many[ASH_2PC_MEMBERS_MAX + 1];
    uint64_t a, b, c;
    for (uint32_t i = 0; i < ASH_2PC_MEMBERS_MAX + 1; i++)
        many[i] = i;
    ash_2pc_start(site, 0);
    is_int(ash_2pc_prepare(site, many, 0, 0, &a), -EINVAL, "no participants");
    is_int(ash_2pc_prepare(site, many, ASH_2PC_MEMBERS_MAX + 1, 0, &a), -EINVAL, "too many");
    is_int(ash_2pc_prepare(site, (uint32_t[]){1, 200}, 2, 0, &a), -EINVAL, "one that is none");
    is_int(ash_2pc_prepare(site, (uint32_t[]){1, 2, 1}, 3, 0, &a), -EINVAL, "one twice");
    is_int(ash_2pc_prepare(site, NULL, 1, 0, &a), -EINVAL, "NULL");
    is_int(ash_2pc_prepare(site, many, ASH_2PC_MEMBERS_MAX, 0, &a), 0, "as many as can be");
    is_int(ash_2pc_prepare(site, many, 1, 0, &b), 0, "another");
    ok(b > a && ash_2pc_coordinator_of(a) == 2, "ids grow, and name their coordinator");
    is_int(ash_2pc_prepare(site, many, 1, 0, &c), -EAGAIN, "max_open are under way");
    struct ash_2pc_action act;
    ok(ash_2pc_next(site, &act) > 0 && act.kind == ASH_2PC_FORCE, "numbers are reserved first");
    unsigned sent = 0;
    while (ash_2pc_next(site, &act) > 0) /* one is to itself */
        sent += act.kind == ASH_2PC_SEND && act.msg->word == ASH_2PC_PREPARE;
    is_int(sent, ASH_2PC_MEMBERS_MAX - 1 + 1, "a message to each of the others");
    is_int(ash_2pc_decide(site, b, 0, 0), 0, "the caller aborts one");
    is_int(ash_2pc_prepare(site, many, 1, 0, &c), 0, "so there is room");
    ash_2pc_destroy(site);
}

static void test_messages(void)
{
    struct pair p = pair_make();
    struct ash_2pc_msg prepare, yes, bad;
    struct ash_2pc_action a;
    uint64_t id = prepared(&p, &prepare, &yes);
    struct {
        const char *what;
        size_t len;
        struct ash_2pc_msg msg;
    } wrong[] = {
        {"half a head", 10, yes},
        {"a list that is not there", offsetof(struct ash_2pc_msg, shards), prepare},
        {"a list that is too long", sizeof yes, {.id = id, .from = 1, .word = ASH_2PC_YES, .count = 129}},
        {"for another site", sizeof yes, {.id = id, .from = 1, .to = 2, .word = ASH_2PC_YES}},
        {"from no site", sizeof yes, {.id = id, .from = 3, .word = ASH_2PC_YES}},
        {"no word", sizeof yes, {.id = id, .from = 1, .word = 0}},
        {"a word that is none", sizeof yes, {.id = id, .from = 1, .word = 9}},
        {"a vote of who has no part", sizeof yes, {.id = id, .from = 2, .word = ASH_2PC_YES}},
        {"a question of who has none", sizeof yes, {.id = id, .from = 2, .word = ASH_2PC_ASK}},
        {"an id that was never given", sizeof yes, {.id = id + (1 << 16), .from = 1, .word = ASH_2PC_YES}},
        {"a decision about its own", sizeof yes, {.id = id, .from = 1, .word = ASH_2PC_COMMIT}},
        {"an id of no coordinator", sizeof yes, {.id = id | 7, .from = 1, .word = ASH_2PC_YES}},
        {"a floor of another", sizeof yes, {.id = id, .floor = 1, .from = 1, .word = ASH_2PC_YES}},
    };
    struct ash_2pc_stats before = stats(p.a);
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        is_int(ash_2pc_receive(p.a, &wrong[i].msg, wrong[i].len, 0), -EINVAL, wrong[i].what);
    struct ash_2pc_stats after = stats(p.a);
    ok(memcmp(&before, &after, sizeof before) == 0, "nothing has changed");
    bad = (struct ash_2pc_msg){.id = id, .from = 1, .word = ASH_2PC_ACK};
    is_int(give(p.a, &bad), -EPROTO, "an acknowledgement of what is not decided");
    bad = prepare;
    bad.count = 0;
    is_int(give(p.b, &bad), -EINVAL, "a question to nobody");
    bad = (struct ash_2pc_msg){.id = id, .from = 2, .to = 1, .word = ASH_2PC_COMMIT};
    is_int(give(p.b, &bad), -EINVAL, "a decision from who has no part");
    bad = (struct ash_2pc_msg){.id = id + (5 << 16), .from = 0, .to = 1, .word = ASH_2PC_COMMIT};
    is_int(give(p.b, &bad), -EPROTO, "a commit of what was never prepared");

    is_int(give(p.b, &prepare), 0, "asked twice");
    is_int(mail(p.b).word, ASH_2PC_YES, "it says yes twice");
    is_int(give(p.a, &yes), 0, "the vote");
    ok(ash_2pc_next(p.a, &a) > 0 && a.kind == ASH_2PC_FORCE, "the decision is forced");
    ok(ash_2pc_next(p.a, &a) > 0 && a.kind == ASH_2PC_COMMITTED && a.roles == ASH_2PC_COORDINATOR && a.id == id,
       "then told");
    struct ash_2pc_msg commit = mail(p.a);
    is_int(commit.word, ASH_2PC_COMMIT, "and sent");
    is_int(give(p.a, &yes), 0, "the vote again");
    is_int(mail(p.a).word, ASH_2PC_COMMIT, "it has not heard");
    is_int(give(p.b, &commit), 0, "now it has");
    ok(ash_2pc_next(p.b, &a) > 0 && a.kind == ASH_2PC_FORCE, "it forces it");
    ok(ash_2pc_next(p.b, &a) > 0 && a.kind == ASH_2PC_COMMITTED && a.roles == ASH_2PC_PARTICIPANT,
       "then it is applied");
    struct ash_2pc_msg ack = mail(p.b);
    is_int(give(p.b, &commit), 0, "the decision again");
    ok(ash_2pc_next(p.b, &a) > 0 && a.kind == ASH_2PC_SEND && a.msg->word == ASH_2PC_ACK,
       "is acknowledged again, and that is all");
    is_int(give(p.a, &ack), 0, "the acknowledgement");
    ok(find(p.a, ASH_2PC_ENDED, &a) && a.id == id, "it is over");
    is_int(give(p.a, &ack), 0, "once more");
    is_int(give(p.a, &yes), 0, "a late double of the vote");
    struct ash_2pc_msg abort = mail(p.a);
    is_int(abort.word, ASH_2PC_ABORT, "is answered by who has forgotten it");
    is_int(give(p.b, &abort), 0, "which is no matter to who has not");
    is_int(give(p.b, &prepare), 0, "a late double of the question");
    ok(ash_2pc_next(p.b, &a) == 0, "is none");
    ok(stats(p.b).stale >= 2 && stats(p.a).open == 0, "they are counted");
    pair_drop(&p);
}

static void test_vote(void)
{
    struct pair p = pair_make();
    struct ash_2pc_msg prepare, yes, abort;
    struct ash_2pc_action a;
    uint64_t id = prepared(&p, &prepare, &yes), next;
    is_int(ash_2pc_vote(p.b, id, 1, 0), 0, "yes twice");
    is_int(ash_2pc_vote(p.b, id, 0, 0), -EPROTO, "no after yes");
    is_int(ash_2pc_vote(p.b, id + (1 << 16), 1, 0), -ENOENT, "nobody asked");
    is_int(ash_2pc_vote(p.b, id | 7, 1, 0), -EINVAL, "no id");
    ash_2pc_prepare(p.a, (uint32_t[]){1, 2}, 2, 0, &next);
    prepare = mail(p.a);
    give(p.b, &prepare);
    is_int(ash_2pc_vote(p.b, next, 0, 0), 0, "no");
    is_int(ash_2pc_vote(p.b, next, 0, 0), 0, "no twice");
    is_int(ash_2pc_vote(p.b, next, 1, 0), -EPROTO, "yes after no");
    struct ash_2pc_msg no = mail(p.b);
    ok(no.word == ASH_2PC_NO && give(p.a, &no) == 0, "one no");
    ok(find(p.a, ASH_2PC_ABORTED, &a) && a.id == next && a.roles == ASH_2PC_COORDINATOR, "aborts it");
    ok(!find(p.b, ASH_2PC_ABORTED, &a), "who said no is not told");

    ash_2pc_prepare(p.a, (uint32_t[]){1}, 1, 0, &next);
    do
        prepare = mail(p.a);
    while (prepare.id != next);
    give(p.b, &prepare);
    is_int(ash_2pc_decide(p.a, next, 1, 0), -EBUSY, "commit is not for the caller to decide");
    is_int(ash_2pc_decide(p.a, next, 0, 0), 0, "abort is");
    is_int(ash_2pc_decide(p.a, next, 0, 0), -ENOENT, "then it is over");
    abort = mail(p.a);
    give(p.b, &abort);
    is_int(ash_2pc_vote(p.b, next, 1, 0), -ECANCELED, "a vote that comes too late");
    ok(find(p.b, ASH_2PC_ABORTED, &a) && a.id == next && a.roles == ASH_2PC_PARTICIPANT, "as it is told");
    give(p.a, &yes);
    is_int(ash_2pc_decide(p.a, id, 1, 0), 0, "committed is committed");
    is_int(ash_2pc_decide(p.a, id, 0, 0), -EPROTO, "and nothing else");
    pair_drop(&p);
}

static void test_timeout(void)
{
    struct pair p = pair_make();
    struct ash_2pc *c = make(2);
    struct ash_2pc_msg prepare, yes, msg;
    struct ash_2pc_action a;
    uint64_t id;
    ash_2pc_prepare(p.a, (uint32_t[]){1, 2}, 2, 0, &id);
    prepare = mail(p.a);
    is_int(ash_2pc_due(p.a), MS, "something is due after retry_ns");
    is_int(ash_2pc_timeout(p.a, MS - 1), 0, "not before");
    msg = mail(p.a);
    ok(msg.to == 2 && mail(p.a).word == 0, "nothing but the second message of the beginning");
    give(p.b, &prepare);
    ash_2pc_vote(p.b, id, 1, 0);
    yes = mail(p.b);
    is_int(give(p.a, &yes), 0, "one of them votes");
    is_int(ash_2pc_timeout(p.a, MS), 0, "then");
    msg = mail(p.a);
    ok(msg.word == ASH_2PC_PREPARE && msg.to == 2 && mail(p.a).word == 0, "who has not voted is asked again");
    is_int(ash_2pc_due(p.a), 3 * MS, "twice as long");

    is_int(ash_2pc_timeout(p.b, MS), 0, "the participant waits as well");
    msg = mail(p.b);
    ok(msg.word == ASH_2PC_ASK && msg.to == 0 && mail(p.b).word == 0, "and asks the coordinator");
    is_int(ash_2pc_timeout(p.b, 3 * MS), 0, "then");
    mail(p.b);
    msg = mail(p.b);
    ok(msg.word == ASH_2PC_ASK && msg.to == 2, "the other participant too");
    is_int(give(c, &msg), 0, "who was never asked to prepare");
    ok(ash_2pc_next(c, &a) > 0 && a.kind == ASH_2PC_FORCE, "forces an abort");
    msg = mail(c);
    ok(msg.word == ASH_2PC_ABORT && msg.to == 1, "and says so");
    is_int(give(p.b, &msg), 0, "so the first is free");
    ok(find(p.b, ASH_2PC_ABORTED, &a), "without the coordinator");
    prepare.to = 2;
    is_int(give(c, &prepare), 0, "the question comes at last");
    is_int(mail(c).word, ASH_2PC_NO, "and is answered no");
    is_int(ash_2pc_timeout(p.a, 3 * MS), 0, "the coordinator gives up");
    ok(find(p.a, ASH_2PC_ABORTED, &a) && a.id == id, "and aborts");
    ok(ash_2pc_due(p.a) == INT64_MAX && ash_2pc_due(p.b) == INT64_MAX, "nothing is due any more");
    ok(stats(p.a).retries == 2 && stats(p.a).open == 0 && stats(p.b).in_doubt == 0, "and nothing open");
    ash_2pc_destroy(c);
    pair_drop(&p);
}

/* ---- the log ---- */

struct records {
    unsigned char at[64][sizeof(struct ash_2pc_msg)];
    size_t len[64];
    unsigned n;
    bool with_data[64];
};

/* Carries out a's and b's actions, records of site b kept, and leaves out one kind of message. */
static void settle(struct pair *p, struct records *of_b, int lost, int64_t now)
{
    struct ash_2pc_action a;
    bool more = true;
    while (more) {
        more = false;
        for (unsigned i = 0; i < 2; i++) {
            struct ash_2pc *site = i == 0 ? p->a : p->b, *other = i == 0 ? p->b : p->a;
            while (ash_2pc_next(site, &a) > 0) {
                more = true;
                if (a.kind == ASH_2PC_VOTE)
                    ash_2pc_vote(site, a.id, 1, now);
                else if (a.kind == ASH_2PC_SEND && a.msg->word != lost)
                    ash_2pc_receive(other, a.msg, a.msg_len, now);
                else if (i == 1 && (a.kind == ASH_2PC_LOG || a.kind == ASH_2PC_FORCE)) {
                    memcpy(of_b->at[of_b->n], a.record, a.record_len);
                    of_b->with_data[of_b->n] = a.with_data;
                    of_b->len[of_b->n++] = a.record_len;
                }
            }
        }
    }
}

static void test_recover(void)
{
    struct pair p = pair_make();
    struct records log = {.n = 0};
    struct ash_2pc_action what;
    uint64_t id[3];
    for (unsigned i = 0; i < 3; i++) { /* b coordinates the second */
        ash_2pc_prepare(i == 1 ? p.b : p.a, (uint32_t[]){0, 1}, 2, 0, &id[i]);
        settle(&p, &log, i == 2 ? ASH_2PC_COMMIT : 0, 0);
    }
    is_int(log.n, 7, "a vote and a decision; the numbers, a vote, the decision and the end; a vote");
    ok(log.with_data[0] && !log.with_data[1] && !log.with_data[2] && log.with_data[3] && log.with_data[6],
       "votes come with data");
    is_int((long long)stats(p.b).in_doubt, 1, "one in doubt");
    unsigned refused = 0, wrong = 0;
    for (unsigned n = 0; n <= log.n; n++) { /* a crash behind every record */
        struct ash_2pc *b = ash_2pc_create(NULL, ASH_2PC_CONFIG(.shard = 1, .shards = 3));
        unsigned votes = 0, commits = 0;
        for (unsigned i = 0; i < n; i++) {
            refused += ash_2pc_recover(b, log.at[i], sizeof log.at[i], &what) != (int)log.len[i];
            votes += what.kind == ASH_2PC_VOTE;
            commits += what.kind == ASH_2PC_COMMITTED && (what.roles & ASH_2PC_PARTICIPANT) != 0;
        }
        wrong += votes - commits != stats(b).in_doubt || ash_2pc_start(b, 0) != 0;
        ash_2pc_destroy(b);
    }
    is_int(refused, 0, "every record is taken");
    is_int(wrong, 0, "and votes without a decision are in doubt");

    ash_2pc_destroy(p.b);
    p.b = ash_2pc_create(NULL, ASH_2PC_CONFIG(.shard = 1, .shards = 3));
    struct records more = {.n = 0};
    for (unsigned i = 0; i < log.n; i++)
        ash_2pc_recover(p.b, log.at[i], log.len[i], &what);
    is_int(ash_2pc_recover(p.b, "x", 1, &what), -EINVAL, "a record that is none");
    struct ash_2pc_msg other;
    memcpy(&other, log.at[6], sizeof other);
    other.from = 2;
    is_int(ash_2pc_recover(p.b, &other, sizeof other, &what), -EINVAL, "one of another site");
    memcpy(&other, log.at[1], sizeof other); /* committed */
    other.word++;                            /* aborted */
    is_int(ash_2pc_recover(p.b, &other, sizeof other, &what), -EPROTO, "one that contradicts");
    is_int(ash_2pc_start(p.b, 0), 0, "started");
    is_int(ash_2pc_recover(p.b, log.at[0], log.len[0], &what), -EBUSY, "no records after the start");
    settle(&p, &more, 0, 0);
    ok(stats(p.b).in_doubt == 0 && stats(p.a).open == 0 && more.n == 1, "it asks, is told, and all is over");
    ash_2pc_prepare(p.b, (uint32_t[]){0, 1}, 2, 0, &id[2]);
    ok(id[2] > id[1] + ((uint64_t)1000 << 16), "no number is used again");
    settle(&p, &more, 0, 0);

    struct records kept = {.n = 0};
    is_int(ash_2pc_checkpoint(p.b), 0, "a checkpoint");
    settle(&p, &kept, 0, 0);
    ash_2pc_destroy(p.b);
    p.b = ash_2pc_create(NULL, ASH_2PC_CONFIG(.shard = 1, .shards = 3));
    for (unsigned i = 0; i < kept.n; i++)
        refused += ash_2pc_recover(p.b, kept.at[i], kept.len[i], &what) < 0;
    is_int(refused, 0, "is all that is needed");
    ash_2pc_start(p.b, 0);
    uint64_t last;
    ash_2pc_prepare(p.b, (uint32_t[]){0, 1}, 2, 0, &last);
    ok(last > id[2], "numbers go on");
    settle(&p, &kept, 0, 0);
    is_int((long long)stats(p.b).open, 0, "and so does the rest");
    pair_drop(&p);
}

/* Thousands under way, over in any order, leave nothing behind. */
static void test_many(void)
{
    enum { MANY = 20000 };
    struct pair p = pair_make();
    struct records log = {.n = 0};
    struct ash_2pc_action a;
    static uint64_t id[MANY];
    for (unsigned i = 0; i < MANY; i++)
        if (ash_2pc_prepare(p.a, (uint32_t[]){1}, 1, 0, &id[i]) != 0)
            abort();
    is_int((long long)stats(p.a).open, MANY, "as many as max_open allows");
    while (ash_2pc_next(p.a, &a) > 0)
        if (a.kind == ASH_2PC_SEND)
            ash_2pc_receive(p.b, a.msg, a.msg_len, 0);
    while (ash_2pc_next(p.b, &a) > 0)
        ;
    for (unsigned i = MANY; i-- > 0;) { /* the newest first */
        ash_2pc_vote(p.b, id[i], i % 3 != 0, 0);
        settle(&p, &log, 0, 0);
        log.n = 0;
    }
    struct ash_2pc_stats s = stats(p.a), t = stats(p.b);
    ok(s.open == 0 && s.committed == MANY - (MANY + 2) / 3 && s.committed + s.aborted == MANY, "all are decided");
    ok(t.in_doubt == 0 && t.voting == 0, "on both sides");
    uint64_t last;
    for (unsigned i = 0; i < 2; i++) { /* the floor comes with the next message */
        ash_2pc_prepare(p.a, (uint32_t[]){1}, 1, 0, &last);
        settle(&p, &log, 0, 0);
    }
    ok(stats(p.b).remembered <= 17, "%d are remembered", (int)stats(p.b).remembered);
    int pipes[2];
    char text[512] = "";
    if (pipe(pipes) != 0)
        exit(99);
    is_int(ash_2pc_dump(p.b, pipes[1]), 0, "as text");
    ok(read(pipes[0], text, sizeof text - 1) > 0 && strstr(text, "2pc 2pc: shard 1 of 3; 0 open") == text,
       "which reads well: %s", strtok(text, "\n"));
    close(pipes[0]);
    close(pipes[1]);
    is_int(ash_2pc_dump(NULL, 1), -EINVAL, "of nothing");
    is_int(ash_2pc_stats(p.a, NULL), -EINVAL, "figures to nowhere");
    pair_drop(&p);
}

/* A limit that lets nothing more in: what fails leaves all as it was. */
static void test_no_memory(void)
{
    struct pair p = pair_make();
    struct ash_stats now = {.struct_size = sizeof now};
    uint64_t id;
    unsigned failed = 0, begun = 0;
    struct ash_2pc_stats before = stats(p.a);
    ash_stats_get(&now);
    is_int(ash_limit_set(now.used_bytes > 4 << 20 ? now.used_bytes : 4 << 20), 0, "a limit");
    while (failed == 0 && begun < 60000) {
        before = stats(p.a);
        int status = ash_2pc_prepare(p.a, (uint32_t[]){1}, 1, 0, &id);
        failed += status == -ENOMEM;
        begun += status == 0;
    }
    ash_limit_set(0);
    struct ash_2pc_stats after = stats(p.a);
    ok(failed == 1 && begun > 100, "no memory after %u", begun);
    ok(memcmp(&before, &after, sizeof before) == 0, "the call that failed did nothing");
    struct records log = {.n = 0};
    struct ash_2pc_action a;
    while (ash_2pc_next(p.a, &a) > 0)
        if (a.kind == ASH_2PC_SEND)
            ash_2pc_receive(p.b, a.msg, a.msg_len, 0);
    while (ash_2pc_next(p.b, &a) > 0) { /* its queue is long: a few at a time, the log is short */
        if (a.kind == ASH_2PC_VOTE)
            ash_2pc_vote(p.b, a.id, 0, 0);
        else if (a.kind == ASH_2PC_SEND)
            ash_2pc_receive(p.a, a.msg, a.msg_len, 0);
    }
    settle(&p, &log, 0, 0);
    is_int((long long)stats(p.a).aborted, begun, "and it goes on");
    pair_drop(&p);
}

int main(void)
{
    test_example();
    test_create();
    test_prepare();
    test_messages();
    test_vote();
    test_timeout();
    test_recover();
    test_no_memory();
    test_many();
    return tap_done();
}
