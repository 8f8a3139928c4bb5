#include "txn/deal.h"

#include "ashlar/malloc.h"
#include "os/check.h"

#include <errno.h>
#include <string.h>

enum { SLOTS_FIRST = 64, SWEEP_LEAST = 16, QUEUE_FIRST = 4096 };

/* ---- the table ---- */

static struct deal **slot_of(const struct deals *deals, uint64_t id)
{
    uint64_t hash = (id ^ id >> SHARD_BITS) * 0x9e3779b97f4a7c15u;
    return &deals->slot[hash >> 32 & deals->mask];
}

/*
 * Twice the slots; when there is no memory the chains are longer instead. False: there is no slot.
 */
static bool table_grow(struct deals *deals)
{
    struct deals more = {.mask = deals->slot == NULL ? SLOTS_FIRST - 1 : 2 * deals->mask + 1,
                         .count = deals->count};
    more.slot = ash_calloc(more.mask + 1, sizeof(struct deal *));
    if (more.slot == NULL)
        return deals->slot != NULL;
    for (size_t i = 0; deals->slot != NULL && i <= deals->mask; i++)
        for (struct deal *d = deals->slot[i], *next; d != NULL; d = next) {
            struct deal **to = slot_of(&more, d->id);
            next = d->chain;
            d->chain = *to;
            *to = d;
        }
    ash_free(deals->slot);
    *deals = more;
    return true;
}

struct deal *deal_find(const struct deals *deals, uint64_t id)
{
    struct deal *d = deals->slot != NULL ? *slot_of(deals, id) : NULL;
    while (d != NULL && d->id != id)
        d = d->chain;
    return d;
}

struct deal *deal_add(struct deals *deals, uint64_t id, unsigned parts)
{
    if ((deals->slot == NULL || deals->count > deals->mask) && !table_grow(deals))
        return NULL;
    size_t size = sizeof(struct deal) + parts * sizeof(struct part);
    struct deal *d = ash_malloc(size);
    if (d == NULL)
        return NULL;
    memset(d, 0, size);
    struct deal **slot = slot_of(deals, id);
    d->id = id;
    d->count = (uint16_t)parts;
    d->chain = *slot;
    *slot = d;
    deals->count++;
    return d;
}

void deal_drop(struct ash_2pc *site, struct deals *deals, struct deal *deal)
{
    struct deal **at = slot_of(deals, deal->id);
    while (*at != deal)
        at = &(*at)->chain;
    *at = deal->chain;
    deals->count--;
    deal_untime(site, deal);
    ash_free(deal);
}

struct part *deal_part(struct deal *deal, uint32_t shard)
{
    for (unsigned i = 0; i < deal->count; i++)
        if (deal->part[i].shard == shard)
            return &deal->part[i];
    return NULL;
}

/* ---- timers ---- */

static struct timers *timers_of(struct ash_2pc *site, const struct deal *deal)
{
    return &site->timers[size_min(deal->tries, LEVELS) - 1];
}

void deal_time(struct ash_2pc *site, struct deal *deal)
{
    deal_untime(site, deal);
    if (deal->tries < UINT8_MAX)
        deal->tries++;
    struct timers *t = timers_of(site, deal);
    int64_t wait = site->config.retry_ns << (t - site->timers);
    deal->due = site->now > INT64_MAX - wait ? INT64_MAX : site->now + wait;
    deal->timed = true;
    deal->after = NULL;
    deal->before = t->last;
    *(t->last != NULL ? &t->last->after : &t->first) = deal;
    t->last = deal;
}

void deal_untime(struct ash_2pc *site, struct deal *deal)
{
    if (!deal->timed)
        return;
    struct timers *t = timers_of(site, deal);
    *(deal->before != NULL ? &deal->before->after : &t->first) = deal->after;
    *(deal->after != NULL ? &deal->after->before : &t->last) = deal->before;
    deal->timed = false;
}

struct deal *deal_due(const struct ash_2pc *site)
{
    struct deal *first = NULL;
    for (unsigned i = 0; i < LEVELS; i++) {
        struct deal *d = site->timers[i].first;
        if (d != NULL && (first == NULL || d->due < first->due))
            first = d;
    }
    return first;
}

/* ---- what is open, what is over ---- */

/* Nearly always at the end: ids grow. Records of a log come in the order of the decisions. */
void part_open(struct ash_2pc *site, struct part *part)
{
    struct peer *peer = &site->peer[part->shard];
    struct part *older = peer->newest;
    while (older != NULL && older->id > part->id)
        older = older->older;
    struct part *newer = older != NULL ? older->newer : peer->oldest;
    part->older = older;
    part->newer = newer;
    *(older != NULL ? &older->newer : &peer->oldest) = part;
    *(newer != NULL ? &newer->older : &peer->newest) = part;
    part->open = true;
}

void part_close(struct ash_2pc *site, struct part *part)
{
    struct peer *peer = &site->peer[part->shard];
    *(part->older != NULL ? &part->older->newer : &peer->oldest) = part->newer;
    *(part->newer != NULL ? &part->newer->older : &peer->newest) = part->older;
    part->open = false;
}

uint64_t peer_floor(const struct ash_2pc *site, uint32_t shard)
{
    const struct part *oldest = site->peer[shard].oldest;
    return oldest != NULL ? oldest->id : site->next_id;
}

void deal_remember(struct ash_2pc *site, struct deal *deal, enum deal_state outcome)
{
    struct peer *peer = &site->peer[id_shard(deal->id)];
    deal_untime(site, deal);
    if (deal->id < peer->floor) {
        deal_drop(site, &site->others, deal);
        return;
    }
    deal->state = (uint8_t)outcome;
    deal->remembered = peer->remembered;
    peer->remembered = deal;
    peer->count++;
    count_up(site, COUNT_REMEMBERED);
}

/*
 * Those below go when there are twice as many as were left the last time: a look at two for each.
 */
static void peer_sweep(struct ash_2pc *site, struct peer *peer)
{
    for (struct deal **at = &peer->remembered; *at != NULL;) {
        struct deal *d = *at;
        if (d->id >= peer->floor) {
            at = &d->remembered;
            continue;
        }
        *at = d->remembered;
        peer->count--;
        count_down(site, COUNT_REMEMBERED);
        deal_drop(site, &site->others, d);
    }
    peer->kept = peer->count;
}

void peer_raise(struct ash_2pc *site, uint32_t shard, uint64_t floor)
{
    struct peer *peer = &site->peer[shard];
    if (floor <= peer->floor)
        return;
    peer->floor = floor;
    if (peer->count >= 2 * peer->kept + SWEEP_LEAST)
        peer_sweep(site, peer);
}

/* ---- the queue ---- */

static size_t queued_size(unsigned shards)
{
    return align_up(offsetof(struct queued, body) + body_size(shards), 8);
}

int queue_room(struct ash_2pc *site, size_t n, unsigned shards)
{
    size_t need = n * queued_size(shards), used = site->queue_tail - site->queue_head;
    if (need <= site->queue_room - site->queue_tail)
        return 0;
    if (site->queue_head > 0)
        memmove(site->queue, site->queue + site->queue_head, used);
    site->queue_head = 0;
    site->queue_tail = used;
    if (need <= site->queue_room - used)
        return 0;
    size_t room = size_max(2 * site->queue_room, size_max(used + need, QUEUE_FIRST));
    char *queue = ash_realloc(site->queue, room);
    if (queue == NULL)
        return -ENOMEM;
    site->queue = queue;
    site->queue_room = room;
    return 0;
}

ASH_INLINE struct queued *push(struct ash_2pc *site, enum ash_2pc_kind kind, unsigned role,
                               unsigned word, uint64_t id, unsigned shards)
{
    struct queued *q = (struct queued *)(void *)(site->queue + site->queue_tail);
    size_t size = queued_size(shards);
    ASH_ASSERT(size <= site->queue_room - site->queue_tail);
    q->size = (uint32_t)size;
    q->kind = (uint16_t)kind;
    q->roles = (uint16_t)role;
    q->body.id = id;
    q->body.floor = 0;
    q->body.from = (uint16_t)site->config.shard;
    q->body.to = 0;
    q->body.word = (uint16_t)word;
    q->body.count = (uint16_t)shards;
    site->queue_tail += size;
    count_up(site, COUNT_ACTIONS);
    return q;
}

static void fill_shards(struct queued *q, const struct deal *deal)
{
    for (unsigned i = 0; i < deal->count; i++)
        q->body.shards[i] = deal->part[i].shard;
}

/* The floor is for those whose coordinator this site is. */
static struct queued *push_send(struct ash_2pc *site, unsigned word, uint64_t id, uint32_t to,
                                unsigned shards)
{
    struct queued *q = push(site, ASH_2PC_SEND, 0, word, id, shards);
    q->body.to = (uint16_t)to;
    q->body.floor = id_shard(id) == site->config.shard ? peer_floor(site, to) : 0;
    if (to != site->config.shard)
        count_up(site, COUNT_SENT);
    return q;
}

void queue_send(struct ash_2pc *site, enum ash_2pc_word word, uint64_t id, uint32_t to)
{
    push_send(site, word, id, to, 0);
}

void queue_send_list(struct ash_2pc *site, const struct deal *deal, uint32_t to)
{
    fill_shards(push_send(site, ASH_2PC_PREPARE, deal->id, to, deal->count), deal);
}

static struct queued *push_record(struct ash_2pc *site, bool force, unsigned record, uint64_t id,
                                  unsigned shards)
{
    count_up(site, force ? COUNT_FORCED : COUNT_LOGGED);
    return push(site, force ? ASH_2PC_FORCE : ASH_2PC_LOG, 0, record, id, shards);
}

void queue_record(struct ash_2pc *site, bool force, unsigned record, uint64_t id)
{
    push_record(site, force, record, id, 0);
}

void queue_record_list(struct ash_2pc *site, bool force, unsigned record, const struct deal *deal)
{
    fill_shards(push_record(site, force, record, deal->id, deal->count), deal);
}

void queue_told(struct ash_2pc *site, enum ash_2pc_kind kind, unsigned role, uint64_t id)
{
    push(site, kind, role, 0, id, 0);
}

const struct queued *queue_pop(struct ash_2pc *site)
{
    if (site->queue_head == site->queue_tail) {
        site->queue_head = site->queue_tail = 0;
        return NULL;
    }
    const struct queued *q = (const struct queued *)(void *)(site->queue + site->queue_head);
    site->queue_head += q->size;
    count_down(site, COUNT_ACTIONS);
    return q;
}
