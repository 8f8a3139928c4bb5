/*
 * What a site of a two-phase commit remembers (ashlar/shard.h): a deal for each transaction that it
 * coordinates, and one for each that it takes part in; of each other site, what is open with it;
 * the timers; the actions that wait to be carried out.
 *
 * An id is a number that its coordinator counts up, times 2^16, plus the coordinator's shard. So of
 * one coordinator's transactions the later one has the larger id, also over crashes: numbers are
 * reserved in the log, RESERVE_STEP at a time, before they are used.
 *
 *     coordinator   ASKING --all yes--> COMMITTING --all acknowledged--> gone
 *                      \--a no, or time--> gone
 *     participant   VOTING --yes--> PREPARED --decision--> COMMITTED or ABORTED --floor--> gone
 *                      \--no, or asked by another participant--> ABORTED
 *
 *  1. A coordinator has each of its parts in a list of that shard's, in order of ids, until the
 *     shard has acknowledged the commit or the transaction was aborted. The oldest of a list (or
 *     the next id, if there is none) is that shard's floor: what is below is over there, and
 *     messages about it are doubles. The floor goes out with each message.
 *  2. A participant remembers outcomes until the floor has passed them. So a PREPARE that comes
 *     late or twice finds an outcome or is below the floor, and is no new transaction; and what is
 *     remembered is bounded by what its coordinators have open.
 *  3. To abort for another participant's sake, before a vote, is a promise: the record is forced
 *     before it is told (`sure`). To vote no is none: the coordinator will not commit without.
 *  4. Where the coordinator is a participant itself its commit record is the participant's too, and
 *     its vote need not be forced: both are in one log, the vote in front.
 *
 * Rejected: outcomes kept for some time (a double that is older is a new transaction, and money is
 * moved twice); outcomes kept for ever; the vote "read only" of R*, whose giver forgets that it
 * voted: asked by others it would abort what was committed.
 *
 * Deals are of many lengths and die in any order, so they come from the allocator's size classes.
 */
#ifndef ASH_DEAL_H
#define ASH_DEAL_H

#include "ashlar/shard.h"
#include "base/atomic.h"
#include "base/name.h"

enum { LEVELS = 7, SHARD_BITS = 16, RESERVE_STEP = 1 << 20 };

#define ID_STEP ((uint64_t)1 << SHARD_BITS)

enum deal_state { ASKING, COMMITTING, VOTING, PREPARED, COMMITTED, ABORTED };

/* One shard's part of a transaction. What is not the shard's number is the coordinator's alone. */
struct part {
    struct part *older, *newer; /* of that shard's open parts: rule 1 */
    uint64_t id;
    uint16_t shard; /* const */
    bool open;      /* in the list */
    bool yes;       /* has voted so */
};

struct deal {
    struct deal *chain;          /* of the table's slot */
    struct deal *before, *after; /* of the timer's list, while `timed` */
    struct deal *remembered;     /* of the coordinator's peer: older outcomes */
    uint64_t id;                 /* const */
    int64_t due;
    uint8_t state; /* enum deal_state */
    uint8_t tries;
    bool timed;
    bool sure;        /* ABORTED: for ever, whatever is lost */
    bool told;        /* ABORTED: the caller hears of it by an action */
    uint16_t count;   /* const: of parts */
    uint16_t waiting; /* votes or acknowledgements that are missing */
    struct part part[];
};

struct peer {
    struct part *oldest, *newest; /* as coordinator: rule 1 */
    uint64_t floor;               /* as participant: what that coordinator said last */
    struct deal *remembered;      /* the newest outcome: rule 2 */
    unsigned count, kept;         /* of outcomes: now, and behind the last sweep */
};

struct deals {
    struct deal **slot;
    size_t mask, count;
};

struct timers {
    struct deal *first, *last; /* in order of `due`: all of a list wait equally long */
};

/* The head of an action in the queue; its message or record follows. */
struct queued {
    uint32_t size; /* of both, a multiple of 8 */
    uint16_t kind; /* enum ash_2pc_kind */
    uint16_t roles;
    struct ash_2pc_msg body; /* as many of its shards as it has */
};

/* Records are bodies with words of their own. */
enum {
    RECORD_RESERVE = 64,
    RECORD_PREPARED,
    RECORD_COMMITTED,
    RECORD_ABORTED,
    RECORD_DECIDED,
    RECORD_ENDED,
    RECORD_FLOOR,
    RECORD_LAST = RECORD_FLOOR
};

enum {
    COUNT_BEGUN,
    COUNT_COMMITTED,
    COUNT_ABORTED,
    COUNT_SENT,
    COUNT_FORCED,
    COUNT_LOGGED,
    COUNT_RETRIES,
    COUNT_STALE,
    COUNT_OPEN,
    COUNT_VOTING,
    COUNT_DOUBT,
    COUNT_REMEMBERED,
    COUNT_ACTIONS,
    COUNTS
};

struct ash_2pc {
    struct ash_2pc_config config; /* const, defaults filled in */
    char name[NAME_CAP];          /* const */
    bool started;
    int64_t now;
    uint64_t next_id, reserved_id; /* the next, and the first that is not reserved */
    struct deals own, others;      /* as coordinator, as participant */
    struct timers timers[LEVELS];
    char *queue; /* of `struct queued` */
    size_t queue_head, queue_tail, queue_room;
    struct shown *shown;
    _Atomic(uint64_t) count[COUNTS]; /* atomic: the site's thread writes, anyone reads */
    struct peer peer[];              /* by shard */
};

ASH_INLINE uint32_t id_shard(uint64_t id)
{
    return (uint32_t)(id & (ID_STEP - 1));
}

ASH_INLINE void count_up(struct ash_2pc *site, unsigned which)
{
    counter_add(&site->count[which], 1);
}

ASH_INLINE void count_down(struct ash_2pc *site, unsigned which)
{
    counter_add(&site->count[which], UINT64_MAX);
}

/* ---- deals ---- */

struct deal *deal_find(const struct deals *deals, uint64_t id);

/* A deal of so many parts, in the table; NULL: no memory. */
struct deal *deal_add(struct deals *deals, uint64_t id, unsigned parts);
void deal_drop(struct ash_2pc *site, struct deals *deals, struct deal *deal);
struct part *deal_part(struct deal *deal, uint32_t shard); /* NULL: it has none */

/* Has it looked at after the deal's next interval; deal_untime is fine for one without a timer. */
void deal_time(struct ash_2pc *site, struct deal *deal);
void deal_untime(struct ash_2pc *site, struct deal *deal);
struct deal *deal_due(const struct ash_2pc *site); /* the first whose time it is, or will be */

/* ---- rules 1 and 2 ---- */

void part_open(struct ash_2pc *site, struct part *part);
void part_close(struct ash_2pc *site, struct part *part);
uint64_t peer_floor(const struct ash_2pc *site, uint32_t shard);

/* The participant's deal is over with that outcome, COMMITTED or ABORTED; it may be gone then. */
void deal_remember(struct ash_2pc *site, struct deal *deal, enum deal_state outcome);

/* The coordinator says that all below is over. */
void peer_raise(struct ash_2pc *site, uint32_t shard, uint64_t floor);

/* ---- actions ---- */

/* Room for `n` actions, with a list of so many shards each: 0 or -ENOMEM. All of an event's. */
int queue_room(struct ash_2pc *site, size_t n, unsigned shards);

/* These cannot fail. */
void queue_send(struct ash_2pc *site, enum ash_2pc_word word, uint64_t id, uint32_t to);
void queue_send_list(struct ash_2pc *site, const struct deal *deal, uint32_t to);
void queue_record(struct ash_2pc *site, bool force, unsigned record, uint64_t id);
void queue_record_list(struct ash_2pc *site, bool force, unsigned record, const struct deal *deal);
void queue_told(struct ash_2pc *site, enum ash_2pc_kind kind, unsigned role, uint64_t id);

/* The next one, valid until something is pushed; NULL: none. */
const struct queued *queue_pop(struct ash_2pc *site);

/* Bytes of a message or record with a list of so many. */
ASH_INLINE size_t body_size(unsigned shards)
{
    return offsetof(struct ash_2pc_msg, shards) + shards * sizeof(uint16_t);
}

#endif
