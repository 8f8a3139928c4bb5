/*
 * A participant's part of two-phase commit, over txn/deal. All of it validates and takes its memory
 * first, and then cannot fail.
 */
#ifndef ASH_PARTICIPANT_H
#define ASH_PARTICIPANT_H

#include "txn/deal.h"

/* PREPARE, COMMIT, ABORT, or the question of another participant. */
int participant_hear(struct ash_2pc *site, const struct ash_2pc_msg *msg);

int participant_vote(struct ash_2pc *site, uint64_t id, bool yes);

/* Nothing was heard of the decision: asks for it. 0 or -ENOMEM. */
int participant_retry(struct ash_2pc *site, struct deal *deal);

/* A record: of a vote or an outcome. `*kind` is what it means for the data. */
int participant_recover(struct ash_2pc *site, const struct ash_2pc_msg *record,
                        enum ash_2pc_kind *kind);

#endif
