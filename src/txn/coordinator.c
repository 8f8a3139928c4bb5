#include "txn/coordinator.h"

#include <errno.h>

/* ---- decisions ---- */

/* The last vote has come; there is room for it all. */
static void commit(struct ash_2pc *site, struct deal *deal)
{
    deal_untime(site, deal);
    deal->state = COMMITTING;
    deal->waiting = deal->count;
    deal->tries = 0;
    queue_record_list(site, true, RECORD_DECIDED, deal);
    queue_told(site, ASH_2PC_COMMITTED, ASH_2PC_COORDINATOR, deal->id);
    for (unsigned i = 0; i < deal->count; i++)
        queue_send(site, ASH_2PC_COMMIT, deal->id, deal->part[i].shard);
    deal_time(site, deal);
    count_up(site, COUNT_COMMITTED);
}

/* Presumed abort: nothing is written, and nothing remembered. */
int coordinator_abort(struct ash_2pc *site, struct deal *deal)
{
    if (queue_room(site, deal->count + 1u, 0) != 0)
        return -ENOMEM;
    for (unsigned i = 0; i < deal->count; i++)
        part_close(site, &deal->part[i]);
    queue_told(site, ASH_2PC_ABORTED, ASH_2PC_COORDINATOR, deal->id);
    for (unsigned i = 0; i < deal->count; i++)
        queue_send(site, ASH_2PC_ABORT, deal->id, deal->part[i].shard);
    deal_drop(site, &site->own, deal);
    count_up(site, COUNT_ABORTED);
    count_down(site, COUNT_OPEN);
    return 0;
}

/* ---- what is heard ---- */

static int hear_yes(struct ash_2pc *site, struct deal *deal, struct part *part)
{
    if (deal->state == COMMITTING) { /* it did not hear, if it has not acknowledged */
        if (part->open)
            queue_send(site, ASH_2PC_COMMIT, deal->id, part->shard);
        return 0;
    }
    if (part->yes)
        return 0;
    if (deal->waiting == 1 && queue_room(site, deal->count + 2u, deal->count) != 0)
        return -ENOMEM;
    part->yes = true;
    if (--deal->waiting == 0)
        commit(site, deal);
    return 0;
}

static int hear_ack(struct ash_2pc *site, struct deal *deal, struct part *part)
{
    if (deal->state != COMMITTING)
        return -EPROTO;
    if (!part->open)
        return 0;
    part_close(site, part);
    if (--deal->waiting > 0)
        return 0;
    queue_record(site, false, RECORD_ENDED, deal->id);
    queue_told(site, ASH_2PC_ENDED, ASH_2PC_COORDINATOR, deal->id);
    deal_drop(site, &site->own, deal);
    count_down(site, COUNT_OPEN);
    return 0;
}

int coordinator_hear(struct ash_2pc *site, const struct ash_2pc_msg *msg)
{
    struct deal *deal = deal_find(&site->own, msg->id);
    if (msg->id >= site->next_id)
        return -EINVAL;
    if (queue_room(site, 2, 0) != 0)
        return -ENOMEM;
    if (deal == NULL) { /* aborted, or acknowledged by all: then who asks is a double */
        if (msg->word == ASH_2PC_YES || msg->word == ASH_2PC_ASK)
            queue_send(site, ASH_2PC_ABORT, msg->id, msg->from);
        count_up(site, COUNT_STALE);
        return 0;
    }
    struct part *part = deal_part(deal, msg->from);
    if (part == NULL)
        return -EINVAL;
    switch (msg->word) {
    case ASH_2PC_YES:
    case ASH_2PC_ASK: /* who asks has voted yes */
        return hear_yes(site, deal, part);
    case ASH_2PC_ACK:
        return hear_ack(site, deal, part);
    default: /* no; its yes came first and counts, if the decision was made */
        return deal->state == ASKING ? coordinator_abort(site, deal) : 0;
    }
}

/* ---- the beginning ---- */

static void reserve_ids(struct ash_2pc *site)
{
    if (site->next_id < site->reserved_id)
        return;
    site->reserved_id = site->next_id + RESERVE_STEP * ID_STEP;
    queue_record(site, true, RECORD_RESERVE, site->reserved_id);
}

int coordinator_begin(struct ash_2pc *site, const uint32_t *shards, unsigned n, uint64_t *id)
{
    if (load_relaxed(&site->count[COUNT_OPEN]) >= site->config.max_open)
        return -EAGAIN;
    if (queue_room(site, n + 1u, n) != 0)
        return -ENOMEM;
    struct deal *deal = deal_add(&site->own, site->next_id, n);
    if (deal == NULL)
        return -ENOMEM;
    reserve_ids(site);
    site->next_id += ID_STEP;
    deal->state = ASKING;
    deal->waiting = (uint16_t)n;
    for (unsigned i = 0; i < n; i++) {
        deal->part[i] = (struct part){.id = deal->id, .shard = (uint16_t)shards[i]};
        part_open(site, &deal->part[i]);
    }
    for (unsigned i = 0; i < n; i++)
        queue_send_list(site, deal, shards[i]);
    deal_time(site, deal);
    count_up(site, COUNT_BEGUN);
    count_up(site, COUNT_OPEN);
    *id = deal->id;
    return 0;
}

int coordinator_retry(struct ash_2pc *site, struct deal *deal)
{
    if (deal->state == ASKING && deal->tries >= site->config.tries)
        return coordinator_abort(site, deal);
    if (queue_room(site, deal->count, deal->count) != 0)
        return -ENOMEM;
    for (unsigned i = 0; i < deal->count; i++) {
        struct part *part = &deal->part[i];
        if (deal->state == ASKING && !part->yes)
            queue_send_list(site, deal, part->shard);
        if (deal->state == COMMITTING && part->open)
            queue_send(site, ASH_2PC_COMMIT, deal->id, part->shard);
    }
    deal_time(site, deal);
    return 0;
}

/* ---- after a crash ---- */

int coordinator_recover(struct ash_2pc *site, const struct ash_2pc_msg *record)
{
    struct deal *deal = deal_find(&site->own, record->id);
    if (record->word == RECORD_ENDED) {
        if (deal == NULL)
            return 0; /* the beginning was left behind by a checkpoint */
        for (unsigned i = 0; i < deal->count; i++)
            part_close(site, &deal->part[i]);
        deal_drop(site, &site->own, deal);
        count_down(site, COUNT_OPEN);
        return 0;
    }
    if (deal != NULL)
        return 0;
    deal = deal_add(&site->own, record->id, record->count);
    if (deal == NULL)
        return -ENOMEM;
    deal->state = COMMITTING;
    deal->waiting = record->count;
    for (unsigned i = 0; i < record->count; i++) {
        deal->part[i] = (struct part){.id = deal->id, .shard = record->shards[i], .yes = true};
        part_open(site, &deal->part[i]);
    }
    count_up(site, COUNT_OPEN);
    return 0;
}
