#include "txn/participant.h"

#include <errno.h>

static bool is_below(const struct ash_2pc *site, uint64_t id)
{
    return id < site->peer[id_shard(id)].floor;
}

static bool is_coordinator(const struct ash_2pc *site, uint64_t id)
{
    return id_shard(id) == site->config.shard;
}

/* Counts are of states: one goes down, deal_remember raises another. */
static void leave_state(struct ash_2pc *site, const struct deal *deal)
{
    count_down(site, deal->state == VOTING ? COUNT_VOTING : COUNT_DOUBT);
}

/* ---- prepare, vote ---- */

static int hear_prepare(struct ash_2pc *site, const struct ash_2pc_msg *msg, struct deal *deal)
{
    if (deal != NULL) {
        if (deal->state == PREPARED)
            queue_send(site, ASH_2PC_YES, msg->id, msg->from);
        else if (deal->state == ABORTED)
            queue_send(site, ASH_2PC_NO, msg->id, msg->from);
        return 0;
    }
    if (is_below(site, msg->id)) {
        count_up(site, COUNT_STALE);
        return 0;
    }
    if (load_relaxed(&site->count[COUNT_VOTING]) + load_relaxed(&site->count[COUNT_DOUBT]) >=
        site->config.max_open)
        return -EAGAIN;
    deal = deal_add(&site->others, msg->id, msg->count);
    if (deal == NULL)
        return -ENOMEM;
    deal->state = VOTING;
    for (unsigned i = 0; i < msg->count; i++)
        deal->part[i].shard = msg->shards[i];
    count_up(site, COUNT_VOTING);
    queue_told(site, ASH_2PC_VOTE, ASH_2PC_PARTICIPANT, msg->id);
    return 0;
}

/* Aborts before the decision; `sure` is a promise (rule 3 of deal.h). */
static void give_up(struct ash_2pc *site, struct deal *deal, bool sure)
{
    uint64_t id = deal->id;
    if (sure)
        queue_record(site, true, RECORD_ABORTED, id);
    deal->sure = sure;
    leave_state(site, deal);
    deal_remember(site, deal, ABORTED);
    queue_send(site, ASH_2PC_NO, id, id_shard(id));
}

static int vote_again(const struct deal *deal, bool yes)
{
    if (deal->state == ABORTED && deal->told)
        return -ECANCELED;
    return yes == (deal->state != ABORTED) ? 0 : -EPROTO;
}

int participant_vote(struct ash_2pc *site, uint64_t id, bool yes)
{
    struct deal *deal = deal_find(&site->others, id);
    if (deal == NULL)
        return is_below(site, id) ? -ECANCELED : -ENOENT;
    if (deal->state != VOTING)
        return vote_again(deal, yes);
    if (queue_room(site, 2, deal->count) != 0)
        return -ENOMEM;
    if (!yes) {
        give_up(site, deal, false);
        return 0;
    }
    leave_state(site, deal);
    deal->state = PREPARED;
    count_up(site, COUNT_DOUBT);
    queue_record_list(site, !is_coordinator(site, id), RECORD_PREPARED, deal); /* rule 4 */
    queue_send(site, ASH_2PC_YES, id, id_shard(id));
    deal_time(site, deal);
    return 0;
}

/* ---- decisions ---- */

static int hear_commit(struct ash_2pc *site, const struct ash_2pc_msg *msg, struct deal *deal)
{
    uint64_t id = msg->id;
    if (deal == NULL && !is_below(site, id))
        return -EPROTO; /* it was never prepared here */
    if (deal != NULL && deal->state != PREPARED && deal->state != COMMITTED)
        return -EPROTO;
    if (deal != NULL && deal->state == PREPARED) {
        if (!is_coordinator(site, id)) /* rule 4 */
            queue_record(site, true, RECORD_COMMITTED, id);
        queue_told(site, ASH_2PC_COMMITTED, ASH_2PC_PARTICIPANT, id);
        leave_state(site, deal);
        deal_remember(site, deal, COMMITTED);
    } else {
        count_up(site, COUNT_STALE);
    }
    queue_send(site, ASH_2PC_ACK, id, id_shard(id));
    return 0;
}

/*
 * Of one that was never heard of nothing is kept: should its PREPARE come late, and be voted on,
 * the coordinator says once more that it is aborted.
 */
static int hear_abort(struct ash_2pc *site, const struct ash_2pc_msg *msg, struct deal *deal)
{
    if (deal == NULL || (deal->state != VOTING && deal->state != PREPARED)) {
        count_up(site, COUNT_STALE); /* a committed one: it answered a double of the vote */
        return 0;
    }
    if (deal->state == PREPARED)
        queue_record(site, false, RECORD_ABORTED, msg->id);
    queue_told(site, ASH_2PC_ABORTED, ASH_2PC_PARTICIPANT, msg->id);
    leave_state(site, deal);
    deal->sure = deal->told = true;
    deal_remember(site, deal, ABORTED);
    return 0;
}

/*
 * Another participant is in doubt: says what is known, and that it is to be aborted if it can be.
 */
static int hear_ask(struct ash_2pc *site, const struct ash_2pc_msg *msg, struct deal *deal)
{
    uint64_t id = msg->id;
    if (deal == NULL) {
        if (is_below(site, id))
            return 0; /* it was over here: the coordinator knows */
        deal = deal_add(&site->others, id, 0);
        if (deal == NULL)
            return -ENOMEM;
        deal_remember(site, deal, ABORTED);
    }
    switch (deal->state) {
    case COMMITTED:
        queue_send(site, ASH_2PC_COMMIT, id, msg->from);
        break;
    case VOTING:
        queue_told(site, ASH_2PC_ABORTED, ASH_2PC_PARTICIPANT, id);
        deal->told = true;
        give_up(site, deal, true);
        queue_send(site, ASH_2PC_ABORT, id, msg->from);
        break;
    case ABORTED:
        if (!deal->sure)
            queue_record(site, true, RECORD_ABORTED, id);
        deal->sure = true;
        queue_send(site, ASH_2PC_ABORT, id, msg->from);
        break;
    default:
        break;
    }
    return 0;
}

int participant_hear(struct ash_2pc *site, const struct ash_2pc_msg *msg)
{
    bool from_coordinator = msg->from == id_shard(msg->id);
    if (queue_room(site, 4, 0) != 0)
        return -ENOMEM;
    if (from_coordinator)
        peer_raise(site, msg->from, msg->floor);
    struct deal *deal = deal_find(&site->others, msg->id);
    if (!from_coordinator && deal != NULL && deal->count > 0 && deal_part(deal, msg->from) == NULL)
        return -EINVAL;
    switch (msg->word) {
    case ASH_2PC_PREPARE:
        return hear_prepare(site, msg, deal);
    case ASH_2PC_COMMIT:
        return hear_commit(site, msg, deal);
    case ASH_2PC_ABORT:
        return hear_abort(site, msg, deal);
    default:
        return hear_ask(site, msg, deal);
    }
}

/* The coordinator first; when it does not answer, all the others as well. */
int participant_retry(struct ash_2pc *site, struct deal *deal)
{
    if (queue_room(site, deal->count + 1u, 0) != 0)
        return -ENOMEM;
    uint32_t coordinator = id_shard(deal->id);
    queue_send(site, ASH_2PC_ASK, deal->id, coordinator);
    bool ask_all = deal->tries > 1 && coordinator != site->config.shard;
    for (unsigned i = 0; i < deal->count && ask_all; i++) {
        uint32_t to = deal->part[i].shard;
        if (to != coordinator && to != site->config.shard)
            queue_send(site, ASH_2PC_ASK, deal->id, to);
    }
    deal_time(site, deal);
    return 0;
}

/* ---- after a crash ---- */

static int recover_vote(struct ash_2pc *site, const struct ash_2pc_msg *record,
                        enum ash_2pc_kind *kind)
{
    struct deal *deal = deal_find(&site->others, record->id);
    if (deal != NULL)
        return deal->state == PREPARED ? 0 : -EPROTO;
    deal = deal_add(&site->others, record->id, record->count);
    if (deal == NULL)
        return -ENOMEM;
    deal->state = PREPARED;
    for (unsigned i = 0; i < record->count; i++)
        deal->part[i].shard = record->shards[i];
    count_up(site, COUNT_DOUBT);
    *kind = ASH_2PC_VOTE;
    return 0;
}

int participant_recover(struct ash_2pc *site, const struct ash_2pc_msg *record,
                        enum ash_2pc_kind *kind)
{
    if (record->word == RECORD_PREPARED)
        return recover_vote(site, record, kind);
    enum deal_state outcome = record->word == RECORD_ABORTED ? ABORTED : COMMITTED;
    struct deal *deal = deal_find(&site->others, record->id);
    if (deal == NULL) { /* the vote was left behind by a checkpoint, or there was none */
        deal = deal_add(&site->others, record->id, 0);
        if (deal == NULL)
            return -ENOMEM;
    } else if (deal->state == PREPARED) {
        leave_state(site, deal);
        *kind = outcome == COMMITTED ? ASH_2PC_COMMITTED : ASH_2PC_ABORTED;
    } else {
        return deal->state == outcome ? 0 : -EPROTO;
    }
    deal->sure = true;
    deal_remember(site, deal, outcome);
    return 0;
}
