/*
 * Shards: which of them a key belongs to, and transactions over several of them.
 *
 *     uint32_t shard = ash_shard_of(account, 16);
 *
 * A transaction whose keys lie in one shard is that shard's own business. One whose keys lie in
 * several is committed in two phases: its coordinator asks each of them to prepare; when all have
 * voted yes it decides to commit, else to abort, and tells them. A struct ash_2pc is one site's
 * part in all this, as coordinator and as participant, of any number of transactions at once. It is
 * a state machine and nothing more: it has no clock, no thread, no file and no socket. Events go
 * in, each with the time; actions come out, and the caller carries them out, in order:
 *
 *     ash_2pc_receive(site, msg, len, now);                  // or _prepare, _vote, _timeout
 *     while (ash_2pc_next(site, &action) > 0)
 *         switch (action.kind) {
 *         case ASH_2PC_VOTE:      ash_2pc_vote(site, action.id, try_lock(action.id), now); break;
 *         case ASH_2PC_LOG:       append(action.record, action.record_len); break;
 *         case ASH_2PC_FORCE:     append(action.record, action.record_len); sync(); break;
 *         case ASH_2PC_SEND:      send(action.msg->to, action.msg, action.msg_len); break;
 *         case ASH_2PC_COMMITTED: apply(action.id); unlock(action.id); break;
 *         case ASH_2PC_ABORTED:   unlock(action.id); break;
 *         }
 *     sleep_until(ash_2pc_due(site));                        // then ash_2pc_timeout(site, now)
 *
 * Who groups its commits takes many actions, appends their records, syncs once, and then does the
 * rest: all that counts is that nothing is sent, answered or applied before the records in front of
 * it are on stable storage.
 *
 * Messages may be lost, doubled, delayed and reordered, and sites may crash at any instant and lose
 * all but what was forced: every site decides the same. The protocol is presumed abort (C. Mohan,
 * B. Lindsay, R. Obermarck: Transaction management in the R* distributed database management
 * system, ACM TODS 11, 1986): what a coordinator does not know of was aborted, so aborts need no
 * record and no acknowledgement. A participant that voted yes and hears nothing asks the
 * coordinator and then the others as well (cooperative termination). Whatever is over on all sides
 * is forgotten, and each message of a coordinator says below which id that holds, so a late double
 * of an old message finds its transaction over however old it is.
 *
 * Functions that return int give 0 or a negative errno; after an error nothing has changed.
 * Arguments may not be NULL unless it is said.
 *
 * Threads: a site is used by one thread at a time; ash_2pc_stats and _dump by any.
 *
 * Cost: some 100 ns for each event and its actions; memory for each transaction that is
 * not over, 64 bytes and 32 for each of its shards, of the allocator's.
 *
 * Caveats
 *   A participant that voted yes holds its keys until it hears the decision: when the coordinator
 *   is gone for good, and all others voted yes too, for ever. That is two-phase commit. Whether a
 *   participant waits for a key, votes no at once or looks who is older, is its own choice; a wait
 *   in a circle ends when the coordinator gives up.
 *   Messages and records are structs in the machine's byte order: all sites have the same one.
 *   A log must be given back whole: a site that lost a part of it may decide differently.
 */
#ifndef ASHLAR_SHARD_H
#define ASHLAR_SHARD_H

#include <ashlar/config.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The shard, 0 to shards - 1, of a key; 0 for `shards` 0. Even for any keys, and the same for ever,
 * in every process and on every machine. When a shard is added only the keys that it gets move, one
 * in as many as there are shards. Cost: some 5 ns when `shards` is a power of two, up to 15 when it
 * is not (what cannot be foreseen is branched on), however many there are. After M. Coluzzi, A.
 * Brocco, A. Antonucci, T. Leidi: BinomialHash (2024).
 */
uint32_t ash_shard_of(uint64_t key, uint32_t shards);

/* ---- two-phase commit ---- */

struct ash_2pc;

enum {
    ASH_2PC_SHARDS_MAX = 65535, /* of a system; they are numbered from 0 */
    ASH_2PC_MEMBERS_MAX = 128   /* of a transaction */
};

struct ash_2pc_config {
    size_t struct_size;
    uint32_t shard;    /* this one */
    uint32_t shards;   /* all there are, 1 to ASH_2PC_SHARDS_MAX; the same or more after a crash */
    unsigned max_open; /* transactions under way, of each of the two roles; 0 for 65536 */
    unsigned tries;    /* to get all votes, then the coordinator aborts; 0 for 5, at most 32 */
    int64_t
        retry_ns; /* from the first try to the second; it doubles, up to 64 times; 0 for 10 ms */
};

#define ASH_2PC_CONFIG(...) ASH_CONFIG(struct ash_2pc_config, __VA_ARGS__)

/* What sites say to each other. */
enum ash_2pc_word {
    ASH_2PC_PREPARE = 1, /* coordinator: can you commit it? The data go along with it */
    ASH_2PC_YES,         /* participant: I can, and will keep to it */
    ASH_2PC_NO,          /* participant: it is to be aborted */
    ASH_2PC_COMMIT,      /* coordinator, or a participant that was asked */
    ASH_2PC_ABORT,       /* the same */
    ASH_2PC_ACK,         /* participant: I have committed it, for ever */
    ASH_2PC_ASK          /* participant that voted yes: what became of it? */
};

/* A message: the first msg_len bytes are sent, as they stand. */
struct ash_2pc_msg {
    uint64_t id;
    uint64_t floor; /* of this coordinator's: what is below is over for `to` */
    uint16_t from, to;
    uint16_t word;                        /* enum ash_2pc_word */
    uint16_t count;                       /* of `shards`, in ASH_2PC_PREPARE */
    uint16_t shards[ASH_2PC_MEMBERS_MAX]; /* all participants */
};

enum ash_2pc_kind {
    ASH_2PC_SEND = 1,  /* `msg` to msg->to; with PREPARE, the data of its part of `id` */
    ASH_2PC_LOG,       /* `record` to the log, some time */
    ASH_2PC_FORCE,     /* `record` to stable storage before anything that comes after */
    ASH_2PC_VOTE,      /* lock what `id` needs here and check it, then ash_2pc_vote: now or later */
    ASH_2PC_COMMITTED, /* `id` is: tell the client (coordinator), apply and unlock (participant) */
    ASH_2PC_ABORTED,   /* likewise; a participant that voted no is not told */
    ASH_2PC_ENDED      /* coordinator: `id` is committed everywhere, nobody will ask again */
};

enum { ASH_2PC_COORDINATOR = 1, ASH_2PC_PARTICIPANT = 2 };

struct ash_2pc_action {
    enum ash_2pc_kind kind;
    unsigned roles; /* in which the site is meant: one of the two; both in ash_2pc_recover */
    uint64_t id;
    const struct ash_2pc_msg *msg; /* valid until the next call, like `record` */
    size_t msg_len;
    const void *record;
    size_t record_len;
    int with_data; /* the record is a yes vote: the data to be applied go into the log with it */
};

/*
 * A site. `name` is for statistics: copied, 1 to 31 printable ASCII characters without quotes and
 * backslashes; NULL for "2pc". NULL and EINVAL or ENOMEM. It starts with ash_2pc_recover, once for
 * each record of its log, if there are any, and ash_2pc_start.
 */
struct ash_2pc *ash_2pc_create(const char *name, const struct ash_2pc_config *config);

/* Forgets everything that is not in the log. NULL is fine. */
void ash_2pc_destroy(struct ash_2pc *site);

/*
 * Gives a record back, in the order of the log, before ash_2pc_start. `len` may be larger than the
 * record, by the data written with it: the result is the record's own length. `what` says what the
 * record means for the data: ASH_2PC_VOTE, this site has voted yes, keep the data and lock the
 * keys; ASH_2PC_COMMITTED and ASH_2PC_ABORTED; else kind is 0. In `roles` COMMITTED may have both
 * bits. -EINVAL: it is no record of this site's; -EPROTO: it contradicts those before it; -EBUSY:
 * the site was started; -ENOMEM.
 */
int ash_2pc_recover(struct ash_2pc *site, const void *record, size_t len,
                    struct ash_2pc_action *what);

/*
 * All records have been given: asks after those in doubt, and tells of commits that were not
 * acknowledged. `now` is any clock that does not go back, in ns. -EBUSY the second time.
 */
int ash_2pc_start(struct ash_2pc *site, int64_t now);

/*
 * Begins a transaction of `n` participants, all different, this site among them or not: it gets
 * an id and they are asked to prepare. -EINVAL: a number that is none, or 0 or more than
 * ASH_2PC_MEMBERS_MAX of them; -EAGAIN: max_open are under way; -ENOMEM.
 */
int ash_2pc_prepare(struct ash_2pc *site, const uint32_t *shards, unsigned n, int64_t now,
                    uint64_t *id);

/*
 * A message came. Old and doubled ones are nothing special. -EINVAL: it is none, is not for this
 * site, or comes from a shard that has no part in the transaction; -EPROTO: it contradicts what is
 * known, which happens when somebody lost a part of a log; -EAGAIN: max_open are under way (the
 * coordinator will ask again); -ENOMEM, as if it had been lost.
 */
int ash_2pc_receive(struct ash_2pc *site, const struct ash_2pc_msg *msg, size_t len, int64_t now);

/*
 * This participant's vote, asked for by ASH_2PC_VOTE. After no (0) the data may be dropped.
 * -ENOENT: nobody asked; -ECANCELED: it was aborted meanwhile, as ASH_2PC_ABORTED says or has said;
 * -EPROTO: it voted otherwise before, or the decision was otherwise.
 */
int ash_2pc_vote(struct ash_2pc *site, uint64_t id, int yes, int64_t now);

/*
 * As coordinator: aborts a transaction that is not decided yet (`commit` 0). To commit is not for
 * the caller to decide: -EBUSY while votes are missing. Of a decided one, 0 when it was decided so,
 * else -EPROTO. -ENOENT: not one of this coordinator's, or over.
 */
int ash_2pc_decide(struct ash_2pc *site, uint64_t id, int commit, int64_t now);

/* Does what is due: at ash_2pc_due, or from time to time. */
int ash_2pc_timeout(struct ash_2pc *site, int64_t now);

/* When ash_2pc_timeout will have something to do; INT64_MAX for never. */
int64_t ash_2pc_due(const struct ash_2pc *site);

/* The next action: 1, or 0 when there is none; a message to this site itself goes on inside. */
int ash_2pc_next(struct ash_2pc *site, struct ash_2pc_action *action);

/*
 * Writes all that is to be remembered into the log once more, as actions ASH_2PC_LOG and a last one
 * ASH_2PC_FORCE: once they are carried out, what was in the log before the call is not needed by
 * this site any more. -ENOMEM.
 */
int ash_2pc_checkpoint(struct ash_2pc *site);

/* The coordinator's number, as it is in each id. */
static inline uint32_t ash_2pc_coordinator_of(uint64_t id)
{
    return (uint32_t)(id & 0xffff);
}

struct ash_2pc_stats {
    uint64_t open;       /* as coordinator: not decided, or not acknowledged by all */
    uint64_t voting;     /* as participant: asked, and the caller has not voted */
    uint64_t in_doubt;   /* as participant: voted yes, and waits for the decision */
    uint64_t remembered; /* as participant: decided, a late message may still come */
    uint64_t actions;    /* that wait to be taken */
    uint64_t begun;      /* as coordinator */
    uint64_t committed;
    uint64_t aborted;
    uint64_t sent;    /* messages, to others */
    uint64_t forced;  /* records */
    uint64_t logged;  /* records that were not forced */
    uint64_t retries; /* times that nothing was heard */
    uint64_t stale;   /* messages of transactions that were over */
};

int ash_2pc_stats(const struct ash_2pc *site, struct ash_2pc_stats *out);
int ash_2pc_dump(const struct ash_2pc *site, int fd);

#ifdef __cplusplus
}
#endif

#endif
