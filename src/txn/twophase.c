/*
 * Two-phase commit as it is called (ashlar/shard.h): checks what comes in, and hands it to the one
 * of the two roles that it is for. See txn/deal.h for the protocol.
 *
 * A message to the site itself is not an action: it is received when it is the next in the queue,
 * so behind the records in front of it. Those may not be on stable storage then, when the caller
 * takes many actions before it syncs; but what comes of it is sent behind the sync, and what is
 * remembered in memory is lost with them.
 */
#include "ashlar/malloc.h"
#include "base/config.h"
#include "base/fmt.h"
#include "os/os_file.h"
#include "txn/coordinator.h"
#include "txn/participant.h"
#include "vm/shown.h"

#include <errno.h>

#define RETRY_DEFAULT ((int64_t)10 * 1000 * 1000)
#define RETRY_MOST    (INT64_MAX >> LEVELS)

enum { OPEN_DEFAULT = 65536, TRIES_DEFAULT = 5, TRIES_MOST = 32 };

static void clock_set(struct ash_2pc *site, int64_t now)
{
    if (now > site->now)
        site->now = now;
}

/* ---- what comes in ---- */

static bool shards_are_good(const struct ash_2pc *site, const struct ash_2pc_msg *body, size_t len)
{
    if (body->count > ASH_2PC_MEMBERS_MAX || len < body_size(body->count))
        return false;
    for (unsigned i = 0; i < body->count; i++)
        if (body->shards[i] >= site->config.shards)
            return false;
    return true;
}

static bool list_has(const struct ash_2pc_msg *body, uint32_t shard)
{
    unsigned i = 0;
    while (i < body->count && body->shards[i] != shard)
        i++;
    return i < body->count;
}

/* Whether it is a message to this site, from a site that may say so. */
static bool message_is_good(const struct ash_2pc *site, const struct ash_2pc_msg *msg, size_t len)
{
    uint32_t coordinator = id_shard(msg->id), self = site->config.shard;
    if (len < body_size(0) || !shards_are_good(site, msg, len) || msg->to != self ||
        msg->from >= site->config.shards || coordinator >= site->config.shards)
        return false;
    if (msg->floor != 0 && id_shard(msg->floor) != coordinator)
        return false;
    switch (msg->word) {
    case ASH_2PC_PREPARE:
        return msg->from == coordinator && list_has(msg, self);
    case ASH_2PC_COMMIT:
    case ASH_2PC_ABORT:
        return msg->from == coordinator || coordinator != self;
    case ASH_2PC_YES:
    case ASH_2PC_NO:
    case ASH_2PC_ACK:
        return coordinator == self;
    default:
        return msg->word == ASH_2PC_ASK;
    }
}

static int hear(struct ash_2pc *site, const struct ash_2pc_msg *msg)
{
    bool is_told =
        msg->word == ASH_2PC_PREPARE || msg->word == ASH_2PC_COMMIT || msg->word == ASH_2PC_ABORT;
    return is_told || id_shard(msg->id) != site->config.shard ? participant_hear(site, msg)
                                                              : coordinator_hear(site, msg);
}

ASH_API int ash_2pc_receive(struct ash_2pc *site, const struct ash_2pc_msg *msg, size_t len,
                            int64_t now)
{
    if (site == NULL || msg == NULL || !site->started || !message_is_good(site, msg, len))
        return -EINVAL;
    clock_set(site, now);
    return hear(site, msg);
}

ASH_API int ash_2pc_prepare(struct ash_2pc *site, const uint32_t *shards, unsigned n, int64_t now,
                            uint64_t *id)
{
    if (site == NULL || shards == NULL || id == NULL || !site->started || n == 0 ||
        n > ASH_2PC_MEMBERS_MAX)
        return -EINVAL;
    for (unsigned i = 0; i < n; i++) {
        if (shards[i] >= site->config.shards)
            return -EINVAL;
        for (unsigned j = 0; j < i; j++)
            if (shards[j] == shards[i])
                return -EINVAL;
    }
    clock_set(site, now);
    return coordinator_begin(site, shards, n, id);
}

ASH_API int ash_2pc_vote(struct ash_2pc *site, uint64_t id, int yes, int64_t now)
{
    if (site == NULL || !site->started || id_shard(id) >= site->config.shards)
        return -EINVAL;
    clock_set(site, now);
    return participant_vote(site, id, yes != 0);
}

ASH_API int ash_2pc_decide(struct ash_2pc *site, uint64_t id, int commit, int64_t now)
{
    if (site == NULL || !site->started)
        return -EINVAL;
    struct deal *deal = deal_find(&site->own, id);
    if (deal == NULL)
        return -ENOENT;
    clock_set(site, now);
    if (deal->state == COMMITTING)
        return commit ? 0 : -EPROTO;
    return commit ? -EBUSY : coordinator_abort(site, deal);
}

static int retry(struct ash_2pc *site, struct deal *deal)
{
    return deal->state == ASKING || deal->state == COMMITTING ? coordinator_retry(site, deal)
                                                              : participant_retry(site, deal);
}

ASH_API int ash_2pc_timeout(struct ash_2pc *site, int64_t now)
{
    if (site == NULL || !site->started)
        return -EINVAL;
    clock_set(site, now);
    struct deal *deal;
    while ((deal = deal_due(site)) != NULL && deal->due <= site->now) {
        if (retry(site, deal) != 0)
            return -ENOMEM;
        count_up(site, COUNT_RETRIES);
    }
    return 0;
}

ASH_API int64_t ash_2pc_due(const struct ash_2pc *site)
{
    const struct deal *deal = deal_due(site);
    return deal != NULL ? deal->due : INT64_MAX;
}

/* ---- what goes out ---- */

ASH_API int ash_2pc_next(struct ash_2pc *site, struct ash_2pc_action *action)
{
    const struct queued *q;
    while ((q = queue_pop(site)) != NULL) {
        const struct ash_2pc_msg *body = &q->body;
        size_t len = body_size(body->count);
        bool is_record = q->kind == ASH_2PC_LOG || q->kind == ASH_2PC_FORCE;
        if (q->kind == ASH_2PC_SEND && body->to == site->config.shard) {
            struct ash_2pc_msg copy;
            memcpy(&copy, body, len);
            hear(site, &copy); /* what it has no memory for is as if it was lost */
            continue;
        }
        *action = (struct ash_2pc_action){.kind = q->kind, .roles = q->roles, .id = body->id};
        if (q->kind == ASH_2PC_SEND) {
            action->msg = body;
            action->msg_len = len;
        } else if (is_record) {
            action->record = body;
            action->record_len = len;
            action->with_data = body->word == RECORD_PREPARED;
        }
        return 1;
    }
    return 0;
}

/* ---- the log ---- */

static bool record_is_good(const struct ash_2pc *site, const struct ash_2pc_msg *record, size_t len)
{
    if (len < body_size(0) || !shards_are_good(site, record, len) ||
        record->from != site->config.shard || id_shard(record->id) >= site->config.shards)
        return false;
    switch (record->word) {
    case RECORD_RESERVE:
    case RECORD_ENDED:
        return id_shard(record->id) == site->config.shard;
    case RECORD_DECIDED:
        return id_shard(record->id) == site->config.shard && record->count > 0;
    case RECORD_PREPARED:
        return list_has(record, site->config.shard);
    default:
        return record->word > RECORD_RESERVE && record->word <= RECORD_LAST;
    }
}

/* The coordinator's record says it of this site's own part as well: rule 4. */
static int recover_decided(struct ash_2pc *site, const struct ash_2pc_msg *record,
                           struct ash_2pc_action *what)
{
    int status = coordinator_recover(site, record);
    if (status != 0)
        return status;
    what->kind = ASH_2PC_COMMITTED;
    what->roles = ASH_2PC_COORDINATOR;
    struct deal *part = deal_find(&site->others, record->id);
    enum ash_2pc_kind kind = 0;
    if (part != NULL && part->state == PREPARED)
        status = participant_recover(site, record, &kind);
    if (kind == ASH_2PC_COMMITTED)
        what->roles |= ASH_2PC_PARTICIPANT;
    return status;
}

static int recover(struct ash_2pc *site, const struct ash_2pc_msg *record,
                   struct ash_2pc_action *what)
{
    switch (record->word) {
    case RECORD_RESERVE:
        if (record->id > site->next_id)
            site->next_id = record->id;
        site->reserved_id = site->next_id;
        return 0;
    case RECORD_FLOOR:
        peer_raise(site, id_shard(record->id), record->id);
        return 0;
    case RECORD_ENDED:
        return coordinator_recover(site, record);
    case RECORD_DECIDED:
        return recover_decided(site, record, what);
    default:
        what->roles = ASH_2PC_PARTICIPANT;
        return participant_recover(site, record, &what->kind);
    }
}

ASH_API int ash_2pc_recover(struct ash_2pc *site, const void *record, size_t len,
                            struct ash_2pc_action *what)
{
    if (site == NULL || record == NULL || what == NULL)
        return -EINVAL;
    if (site->started)
        return -EBUSY;
    struct ash_2pc_msg copy = {.id = 0}; /* the log's need not be aligned */
    memcpy(&copy, record, size_min(len, sizeof copy));
    if (!record_is_good(site, &copy, len))
        return -EINVAL;
    *what = (struct ash_2pc_action){.id = copy.id};
    int status = recover(site, &copy, what);
    return status == 0 ? (int)body_size(copy.count) : status;
}

/* Calls `fn` for all deals of a table until it fails. */
static int each_deal(struct ash_2pc *site, const struct deals *deals,
                     int (*fn)(struct ash_2pc *site, struct deal *deal))
{
    int status = 0;
    for (size_t i = 0; deals->slot != NULL && i <= deals->mask; i++)
        for (struct deal *d = deals->slot[i]; d != NULL && status == 0; d = d->chain)
            status = fn(site, d);
    return status;
}

static int retry_in_doubt(struct ash_2pc *site, struct deal *deal)
{
    return deal->state == PREPARED ? participant_retry(site, deal) : 0;
}

ASH_API int ash_2pc_start(struct ash_2pc *site, int64_t now)
{
    if (site == NULL)
        return -EINVAL;
    if (site->started)
        return -EBUSY;
    site->now = now;
    if (each_deal(site, &site->own, coordinator_retry) != 0 ||
        each_deal(site, &site->others, retry_in_doubt) != 0)
        return -ENOMEM; /* asked for twice does no harm */
    site->started = true;
    return 0;
}

static int write_decided(struct ash_2pc *site, struct deal *deal)
{
    if (deal->state == COMMITTING)
        queue_record_list(site, false, RECORD_DECIDED, deal);
    return 0;
}

static int write_part(struct ash_2pc *site, struct deal *deal)
{
    if (deal->state == PREPARED)
        queue_record_list(site, false, RECORD_PREPARED, deal);
    else if (deal->state != VOTING)
        queue_record(site, false, deal->state == ABORTED ? RECORD_ABORTED : RECORD_COMMITTED,
                     deal->id);
    return 0;
}

/* An own part that is in doubt is written before the decision, as it was the first time. */
ASH_API int ash_2pc_checkpoint(struct ash_2pc *site)
{
    if (site == NULL || !site->started)
        return -EINVAL;
    size_t records = site->own.count + site->others.count + site->config.shards + 1;
    if (queue_room(site, records, ASH_2PC_MEMBERS_MAX) != 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < site->config.shards; i++)
        if (site->peer[i].floor != 0)
            queue_record(site, false, RECORD_FLOOR, site->peer[i].floor);
    each_deal(site, &site->others, write_part);
    each_deal(site, &site->own, write_decided);
    queue_record(site, true, RECORD_RESERVE, size_max(site->reserved_id, site->next_id));
    return 0;
}

/* ---- life ---- */

static const struct ash_stats_column columns[] = {
    SHOWN_COLUMN("begun", COUNTER, COUNT, "Transactions begun as coordinator."),
    SHOWN_COLUMN("committed", COUNTER, COUNT, "Of these, decided to commit."),
    SHOWN_COLUMN("aborted", COUNTER, COUNT, "Of these, decided to abort."),
    SHOWN_COLUMN("sent", COUNTER, COUNT, "Messages to other sites."),
    SHOWN_COLUMN("forced", COUNTER, COUNT, "Records that were to be forced."),
    SHOWN_COLUMN("logged", COUNTER, COUNT, "Other records."),
    SHOWN_COLUMN("retries", COUNTER, COUNT, "Times that nothing was heard."),
    SHOWN_COLUMN("stale", COUNTER, COUNT, "Messages of transactions that were over."),
    SHOWN_COLUMN("open", GAUGE, COUNT, "As coordinator, not over."),
    SHOWN_COLUMN("voting", GAUGE, COUNT, "As participant, no vote yet."),
    SHOWN_COLUMN("in_doubt", GAUGE, COUNT, "As participant, waiting for the decision."),
    SHOWN_COLUMN("remembered", GAUGE, COUNT, "Outcomes that late messages may ask for."),
    SHOWN_COLUMN("actions", GAUGE, COUNT, "Actions that wait to be taken."),
};

_Static_assert(ASH_COUNT(columns) == COUNTS, "a column for each count");

static void read_values(const void *site, uint64_t *values)
{
    shown_counts(values, ((const struct ash_2pc *)site)->count, COUNTS);
}

SHOWN_KIND(kind, "two_phase_commits", "two_phase_commit", columns, read_values)

/* Fills the defaults in; false when the settings make no sense. */
static bool config_complete(struct ash_2pc_config *config)
{
    if (config->max_open == 0)
        config->max_open = OPEN_DEFAULT;
    if (config->tries == 0)
        config->tries = TRIES_DEFAULT;
    if (config->retry_ns == 0)
        config->retry_ns = RETRY_DEFAULT;
    return config->shards >= 1 && config->shards <= ASH_2PC_SHARDS_MAX &&
           config->shard < config->shards && config->tries <= TRIES_MOST && config->retry_ns > 0 &&
           config->retry_ns <= RETRY_MOST;
}

ASH_API struct ash_2pc *ash_2pc_create(const char *name, const struct ash_2pc_config *config)
{
    struct ash_2pc_config read;
    char copy[NAME_CAP];
    if (!config_read(&read, sizeof read, config, offsetof(struct ash_2pc_config, max_open)) ||
        !name_read(copy, name, "2pc") || !config_complete(&read)) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_2pc *site = ash_calloc(1, sizeof *site + read.shards * sizeof site->peer[0]);
    if (site == NULL)
        return NULL;
    site->config = read;
    memcpy(site->name, copy, sizeof copy);
    site->next_id = ID_STEP + read.shard;
    site->shown = shown_open(&kind, site->name, site);
    return site;
}

static void deals_free(struct deals *deals)
{
    for (size_t i = 0; deals->slot != NULL && i <= deals->mask; i++)
        for (struct deal *d = deals->slot[i], *next; d != NULL; d = next) {
            next = d->chain;
            ash_free(d);
        }
    ash_free(deals->slot);
}

ASH_API void ash_2pc_destroy(struct ash_2pc *site)
{
    if (site == NULL)
        return;
    bool unread = shown_close(site->shown);
    deals_free(&site->own);
    deals_free(&site->others);
    ash_free(site->queue);
    if (unread)
        ash_free(site);
}

/* ---- figures ---- */

ASH_API int ash_2pc_stats(const struct ash_2pc *site, struct ash_2pc_stats *out)
{
    if (site == NULL || out == NULL)
        return -EINVAL;
    uint64_t v[COUNTS];
    read_values(site, v);
    *out = (struct ash_2pc_stats){
        .open = v[COUNT_OPEN],
        .voting = v[COUNT_VOTING],
        .in_doubt = v[COUNT_DOUBT],
        .remembered = v[COUNT_REMEMBERED],
        .actions = v[COUNT_ACTIONS],
        .begun = v[COUNT_BEGUN],
        .committed = v[COUNT_COMMITTED],
        .aborted = v[COUNT_ABORTED],
        .sent = v[COUNT_SENT],
        .forced = v[COUNT_FORCED],
        .logged = v[COUNT_LOGGED],
        .retries = v[COUNT_RETRIES],
        .stale = v[COUNT_STALE],
    };
    return 0;
}

ASH_API int ash_2pc_dump(const struct ash_2pc *site, int fd)
{
    struct ash_2pc_stats s;
    char text[512];
    if (ash_2pc_stats(site, &s) != 0)
        return -EINVAL;
    size_t n = fmt_text(text, sizeof text,
                        "2pc %s: shard %u of %u; %ju open, %ju voting, %ju in doubt, %ju "
                        "remembered, %ju actions\n"
                        "  begun %ju  committed %ju  aborted %ju  sent %ju  forced %ju  logged %ju"
                        "  retries %ju  stale %ju\n",
                        site->name, site->config.shard, site->config.shards, s.open, s.voting,
                        s.in_doubt, s.remembered, s.actions, s.begun, s.committed, s.aborted,
                        s.sent, s.forced, s.logged, s.retries, s.stale);
    return os_write_all(fd, text, n);
}
