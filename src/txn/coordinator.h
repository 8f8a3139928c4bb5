/*
 * A coordinator's part of two-phase commit, over txn/deal. All of it validates and takes its memory
 * first, and then cannot fail.
 */
#ifndef ASH_COORDINATOR_H
#define ASH_COORDINATOR_H

#include "txn/deal.h"

/* A new transaction of these shards, which are valid. 0, -EAGAIN or -ENOMEM. */
int coordinator_begin(struct ash_2pc *site, const uint32_t *shards, unsigned n, uint64_t *id);

/* A vote, an acknowledgement or a question came from `msg->from`. */
int coordinator_hear(struct ash_2pc *site, const struct ash_2pc_msg *msg);

/* Nothing was heard of all this time. 0 or -ENOMEM. */
int coordinator_retry(struct ash_2pc *site, struct deal *deal);

/* 0 or -ENOMEM; it is ASKING. */
int coordinator_abort(struct ash_2pc *site, struct deal *deal);

/* A record: of a commit that was decided, or of its end. */
int coordinator_recover(struct ash_2pc *site, const struct ash_2pc_msg *record);

#endif
