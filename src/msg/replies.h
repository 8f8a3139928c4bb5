/*
 * Requests that wait for their replies: records on the stacks of those who wait, found by the id of
 * the message they sent. A lock over the table, which is held for a few instructions: who asks is
 * about to sleep, which costs a thousand times as much.
 *
 * A record is in the table from before its message is sent until it is answered, or its time is
 * over: whoever takes it out decides which of the two it was. After `state` is no longer WAITING
 * the record may be gone at any time: the futex is no more than an address then.
 */
#ifndef ASH_REPLIES_H
#define ASH_REPLIES_H

#include "base/atomic.h"
#include "os/os_lock.h"

struct ash_msg;

enum { REPLY_BUCKETS = 64 };
enum reply_state { REPLY_WAITING, REPLY_HERE, REPLY_NEVER };

struct request {
    uint64_t id;             /* const */
    struct ash_msg *reply;   /* who takes it out of the table writes; published by `state` */
    struct request *next;    /* under the lock */
    _Atomic(uint32_t) state; /* atomic: enum reply_state */
};

struct replies {
    struct os_lock lock;
    struct request *bucket[REPLY_BUCKETS]; /* under the lock */
};

/* From now on `r` may be answered. */
void replies_open(struct replies *t, struct request *r, uint64_t id);

/* True: nobody answers it any more, or ever did; false: it has been, or is about to be. */
bool replies_withdraw(struct replies *t, struct request *r);

/* Sleeps until it is answered, or the clock says `until` (negative: for ever); true: it is. */
bool replies_wait(struct request *r, int64_t until);

/* The reply to that message, NULL for none ever. False: nobody waits for it. */
bool replies_answer(struct replies *t, uint64_t id, struct ash_msg *reply);

#endif
