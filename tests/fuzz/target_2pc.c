/*
 * Three sites of two-phase commit get what an input says: transactions, votes, messages in any order, twice or never,
 * time, crashes and checkpoints, and messages and records that somebody has written over. As long as none of those was
 * taken, every transaction has one outcome; whatever comes, no site says something of what it was not asked.
 */
#include "fuzz.h"

#include "ashlar/shard.h"

#include <errno.h>
#include <string.h>

enum { SITES = 3, TXNS = 64, MAIL = 128, LOG = 512 };

struct record {
    unsigned char bytes[sizeof(struct ash_2pc_msg)];
    int len;
};

static struct ash_2pc *site[SITES];
static struct record log_of[SITES][LOG];
static unsigned logged[SITES], forced[SITES];
static struct ash_2pc_msg mail[MAIL];
static unsigned mails;
static uint64_t ids[TXNS];
static int outcome[TXNS];
static unsigned txns;
static bool is_honest; /* nothing was written over that was taken */
static int64_t now;

static int *outcome_of(uint64_t id)
{
    for (unsigned t = 0; t < txns; t++)
        if (ids[t] == id)
            return &outcome[t];
    return NULL;
}

static void decided(uint64_t id, bool commit)
{
    int *known = outcome_of(id), is = commit ? 1 : 2;
    CHECK(known != NULL || !is_honest, "id %llx was decided, nobody began it", (unsigned long long)id);
    if (known == NULL)
        return;
    CHECK(*known == 0 || *known == is || !is_honest, "id %llx was decided twice", (unsigned long long)id);
    *known = is;
}

/* All actions; votes wait for the input. */
static void run(unsigned i)
{
    struct ash_2pc_action a;
    while (ash_2pc_next(site[i], &a) > 0) {
        if (a.kind == ASH_2PC_SEND && mails < MAIL) {
            memset(&mail[mails], 0, sizeof mail[0]);
            memcpy(&mail[mails++], a.msg, a.msg_len);
        } else if (a.kind == ASH_2PC_COMMITTED || a.kind == ASH_2PC_ABORTED) {
            decided(a.id, a.kind == ASH_2PC_COMMITTED);
        } else if ((a.kind == ASH_2PC_LOG || a.kind == ASH_2PC_FORCE) && logged[i] < LOG) {
            struct record *r = &log_of[i][logged[i]++];
            memcpy(r->bytes, a.record, a.record_len);
            r->len = (int)a.record_len;
            if (a.kind == ASH_2PC_FORCE)
                forced[i] = logged[i];
        }
        if (logged[i] == LOG) /* its log is full: what it forgets now, it may have promised */
            is_honest = false;
    }
}

static void start(unsigned i)
{
    struct ash_2pc_action what;
    site[i] = ash_2pc_create("fuzz", ASH_2PC_CONFIG(.shard = i, .shards = SITES, .retry_ns = 1000, .tries = 3));
    for (unsigned k = 0; k < logged[i]; k++) {
        int status = ash_2pc_recover(site[i], log_of[i][k].bytes, sizeof log_of[i][k].bytes, &what);
        CHECK(status == log_of[i][k].len || !is_honest, "record %u of site %u: %d", k, i, status);
    }
    CHECK(ash_2pc_start(site[i], now) == 0, "start");
    run(i);
}

static void crash(struct input *in, unsigned i)
{
    ash_2pc_destroy(site[i]);
    logged[i] = forced[i] + take_below(in, logged[i] - forced[i] + 1);
    fuzz_trace("    site %u crashes, %u records are left\n", i, logged[i]);
    start(i);
}

static void deliver(struct input *in)
{
    unsigned k = take_below(in, mails), how = (unsigned)take(in, 1);
    struct ash_2pc_msg msg = mail[k];
    bool bent = how % 16 == 0;
    if (bent)
        ((unsigned char *)&msg)[take_below(in, 40)] ^= (unsigned char)take(in, 1);
    if (how % 4 != 1)
        mail[k] = mail[--mails];
    unsigned to = msg.to < SITES ? msg.to : 0;
    int status = ash_2pc_receive(site[to], &msg, how % 32 == 7 ? take_below(in, sizeof msg) : sizeof msg, now);
    fuzz_trace("    word %u of %llx from %u to %u%s: %d\n", msg.word, (unsigned long long)msg.id, msg.from, msg.to,
               bent ? ", bent" : "", status);
    if (bent && status == 0)
        is_honest = false;
    CHECK(status == 0 || status == -EINVAL || status == -EPROTO || status == -EAGAIN, "receive: %d", status);
    CHECK(status == 0 || bent || how % 32 == 7 || !is_honest, "a message was refused: %d", status);
    run(to);
}

static void begin(struct input *in, unsigned i)
{
    uint32_t shards[SITES];
    unsigned n = 0, which = 1 + take_below(in, 7);
    for (uint32_t s = 0; s < SITES; s++)
        if (which >> s & 1)
            shards[n++] = s;
    if (txns == TXNS || ash_2pc_prepare(site[i], shards, n, now, &ids[txns]) != 0)
        return;
    fuzz_trace("    site %u begins %llx\n", i, (unsigned long long)ids[txns]);
    outcome[txns++] = 0;
    run(i);
}

static void bent_record(struct input *in, unsigned i)
{
    struct ash_2pc_action what;
    struct ash_2pc *other = ash_2pc_create("bent", ASH_2PC_CONFIG(.shard = i, .shards = SITES));
    for (unsigned k = 0; k < logged[i]; k++) {
        struct record r = log_of[i][k];
        if (take_below(in, 4) == 0)
            r.bytes[take_below(in, 40)] ^= (unsigned char)take(in, 1);
        int status = ash_2pc_recover(other, r.bytes, take_below(in, 8) == 0 ? take_below(in, 64) : sizeof r.bytes, &what);
        CHECK(status > 0 || status == -EINVAL || status == -EPROTO, "recover: %d", status);
    }
    ash_2pc_start(other, now);
    while (ash_2pc_next(other, &what) > 0)
        ;
    ash_2pc_destroy(other);
}

void fuzz_2pc(struct input *in)
{
    txns = mails = 0;
    now = 0;
    is_honest = true;
    memset(logged, 0, sizeof logged);
    memset(forced, 0, sizeof forced);
    for (unsigned i = 0; i < SITES; i++)
        start(i);
    while (input_left(in)) {
        unsigned what = (unsigned)take(in, 1), i = what / 16 % SITES;
        switch (what % 16) {
        case 0: case 1: begin(in, i); break;
        case 2: case 3: case 4:
            if (txns > 0) {
                uint64_t id = ids[take_below(in, txns)];
                int status = ash_2pc_vote(site[i], id, (int)take(in, 1) % 4 != 0, now);
                fuzz_trace("    site %u votes on %llx: %d\n", i, (unsigned long long)id, status);
                run(i);
            }
            break;
        case 5: crash(in, i); break;
        case 6:
            if (ash_2pc_checkpoint(site[i]) == 0)
                run(i);
            break;
        case 7: bent_record(in, i); break;
        case 8:
            if (txns > 0 && ash_2pc_decide(site[i], ids[take_below(in, txns)], (int)take(in, 1) % 2, now) == 0)
                run(i);
            break;
        case 9: case 10:
            now += 1 + take_below(in, 5000);
            CHECK(ash_2pc_timeout(site[i], now) == 0 && ash_2pc_due(site[i]) > now, "timeout");
            run(i);
            break;
        default:
            if (mails > 0)
                deliver(in);
        }
    }
    for (unsigned i = 0; i < SITES; i++)
        ash_2pc_destroy(site[i]);
}
