/* Sending: see msg/bus.h. */
#include "msg/bus.h"

#include "base/bits.h"
#include "base/hash.h"
#include "msg/words.h"
#include "os/os_clock.h"

#include <errno.h>
#include <string.h>

void bus_cross(struct subsystem *s, enum lane_event event)
{
    struct ash_bus *b = s->bus;
    for (; event != LANE_NONE; event = lane_cross(&s->lane))
        if (b->mark != NULL)
            b->mark(b, s->name, event == LANE_HIGH, b->user);
}

/* ---- one ---- */

ASH_INLINE bool subsystem_is(const struct subsystem *s, const char *name, size_t len)
{
    return s->name_len == len && text_equal(name, s->name, len, false);
}

ASH_INLINE struct subsystem *subsystem_find(struct ash_bus *b, const char *name, size_t len)
{
    for (uint64_t i = hash_bytes(name, len, 0);; i++) {
        struct subsystem *s = load_acquire(&b->table[i % BUS_TABLE]); /* pairs with subsystem_add */
        if (s == NULL || subsystem_is(s, name, len))
            return s;
    }
}

struct subsystem *bus_find(struct ash_bus *b, const char *name, size_t len)
{
    return subsystem_find(b, name, len);
}

unsigned bus_place(struct ash_bus *b, const char *name, size_t len)
{
    uint64_t i = hash_bytes(name, len, 0);
    while (load_relaxed(&b->table[i % BUS_TABLE]) != NULL)
        i++;
    return i % BUS_TABLE;
}

/* Where a message goes; `guess` is where the one before it went, or NULL. 0 or why it does not. */
ASH_INLINE int bus_route(struct ash_bus *b, const struct ash_msg *m, struct subsystem *guess,
                         struct subsystem **to)
{
    const char *name = msg_target(m);
    size_t len = msg_parts(m).subsystem;
    *to = NULL;
    if (ASH_UNLIKELY(len == 0))
        return -EINVAL;
    *to = guess != NULL && subsystem_is(guess, name, len) ? guess : subsystem_find(b, name, len);
    if (ASH_UNLIKELY(*to == NULL))
        return -ENOENT;
    return ASH_LIKELY(m->body_len <= b->max_body) ? 0 : -EMSGSIZE;
}

static ASH_NOINLINE void count_refused(struct ash_bus *b, struct subsystem *s, unsigned n)
{
    _Atomic(uint64_t) *refused = s != NULL ? &s->refused : &b->refused;
    add_relaxed(refused, n);
}

/* Messages were pushed. */
ASH_INLINE void bus_sent(struct ash_bus *b, struct subsystem *s)
{
    enum lane_event event = lane_cross(&s->lane);
    park_tell(&b->parking);
    if (ASH_UNLIKELY(load_relaxed(&b->drainers) != 0) && b->workers == 0)
        bus_tell_quiet(b); /* of a bus without threads they handle messages */
    if (ASH_UNLIKELY(event != LANE_NONE))
        bus_cross(s, event);
}

/* The first of `n` messages, as far as there is room for them: how many. */
ASH_INLINE unsigned bus_push(struct ash_bus *b, struct subsystem *s, struct ash_msg *const *msgs,
                             unsigned n)
{
    unsigned k = ash_ring_push(s->lane.ring, (void *const *)(const void *)msgs, n);
    if (ASH_LIKELY(k != 0))
        bus_sent(b, s);
    return k;
}

/*
 * The ring takes nothing. Who comes just as it is closed may not see that the bus is stopped, and
 * be told to try again; who has slept for room sees it (lane_close).
 */
ASH_INLINE int bus_full(const struct ash_bus *b)
{
    return (load_relaxed(&b->state) & BUS_STOPPED) != 0 ? -ECANCELED : -EAGAIN;
}

ASH_API int ash_bus_send(struct ash_bus *b, struct ash_msg *m)
{
    struct subsystem *s;
    if (ASH_UNLIKELY(b == NULL || m == NULL))
        return -EINVAL;
    bus_use(b);
    int status = bus_route(b, m, NULL, &s);
    if (ASH_LIKELY(status == 0)) {
        if (ASH_LIKELY(bus_push(b, s, &m, 1) != 0))
            return 0;
        status = bus_full(b);
    }
    count_refused(b, s, 1);
    return status;
}

/* 0, -EAGAIN when the time is over, or as ash_bus_send. */
static int send_until(struct ash_bus *b, struct ash_msg *m, int64_t until)
{
    struct subsystem *s;
    bus_use(b);
    int status = bus_route(b, m, NULL, &s);
    if (status == 0) {
        if (bus_push(b, s, &m, 1) != 0)
            return 0;
        if ((load_relaxed(&b->state) & BUS_STOPPED) == 0 && lane_push_wait(&s->lane, m, until)) {
            bus_sent(b, s);
            return 0;
        }
        status = bus_full(b);
    }
    count_refused(b, s, 1);
    return status;
}

ASH_API int ash_bus_send_wait(struct ash_bus *b, struct ash_msg *m, int64_t timeout_ns)
{
    if (timeout_ns == 0 || b == NULL || m == NULL)
        return ash_bus_send(b, m);
    int status = send_until(b, m, os_until(timeout_ns));
    return status == -EAGAIN ? -ETIMEDOUT : status;
}

/* ---- many ---- */

ASH_API unsigned ash_bus_send_batch(struct ash_bus *b, struct ash_msg **msgs, unsigned n)
{
    struct subsystem *to, *next = NULL;
    unsigned sent = 0, i = 0;
    if (b == NULL || msgs == NULL || n == 0)
        return 0;
    bus_use(b);
    int status = bus_route(b, msgs[0], NULL, &next);
    while (status == 0 && sent < n) { /* msgs[i] goes to `next` */
        to = next;
        do
            status = ++i < n ? bus_route(b, msgs[i], to, &next) : 0;
        while (i < n && status == 0 && next == to);
        sent += bus_push(b, to, msgs + sent, i - sent);
        if (ASH_UNLIKELY(sent < i)) {
            next = to;
            break;
        }
    }
    if (ASH_UNLIKELY(sent < n))
        count_refused(b, next, n - sent);
    return sent;
}

enum { GROUPED = 256, NOWHERE = ASH_BUS_SUBSYSTEMS };

/* Messages by subsystem; the last group is of those that cannot be routed. */
struct groups {
    uint64_t seen, full;         /* subsystems: of these messages; that refused any so far */
    uint16_t taken[NOWHERE + 1]; /* of each group */
    uint8_t to[GROUPED];         /* by message */
    struct ash_msg *sorted[GROUPED];
};

/* Routes and sorts `n` messages; `end` is where each group ends. */
static void groups_sort(struct ash_bus *b, struct groups *g, struct ash_msg **msgs, unsigned n,
                        uint16_t end[NOWHERE + 1])
{
    struct subsystem *s = NULL;
    uint16_t count[NOWHERE + 1] = {0}, at = 0;
    g->seen = 0;
    for (unsigned i = 0; i < n; i++) {
        bool good = bus_route(b, msgs[i], s, &s) == 0;
        g->to[i] = good ? (uint8_t)s->index : NOWHERE;
        g->seen |= good ? (uint64_t)1 << s->index : 0;
        count[g->to[i]]++;
        if (ASH_UNLIKELY(!good))
            count_refused(b, s, 1);
    }
    for (unsigned k = 0; k <= NOWHERE; k++) {
        end[k] = at;
        at = (uint16_t)(at + count[k]);
    }
    for (unsigned i = 0; i < n; i++)
        g->sorted[end[g->to[i]]++] = msgs[i];
}

/* Sends `n` messages: how many; those are moved to the front, and all keep their order. */
static unsigned groups_send(struct ash_bus *b, struct groups *g, struct ash_msg **msgs, unsigned n)
{
    uint16_t end[NOWHERE + 1], begin = 0;
    unsigned sent = 0, front = 0, left = 0;
    groups_sort(b, g, msgs, n, end);
    g->taken[NOWHERE] = 0;
    for (uint64_t seen = g->seen; seen != 0; seen &= seen - 1) {
        unsigned k = bits_lowest(seen), size = (unsigned)(end[k] - begin), taken = 0;
        struct subsystem *s = b->subsystem[k];
        if ((g->full >> k & 1) == 0)
            taken = bus_push(b, s, g->sorted + begin, size);
        if (ASH_UNLIKELY(taken < size)) {
            g->full |= (uint64_t)1 << k;
            count_refused(b, s, size - taken);
        }
        g->taken[k] = (uint16_t)taken;
        sent += taken;
        begin = end[k];
    }
    for (unsigned i = 0; sent < n && i < n; i++) {
        if (g->taken[g->to[i]] == 0)
            g->sorted[left++] = msgs[i];
        else {
            g->taken[g->to[i]]--;
            msgs[front++] = msgs[i];
        }
    }
    memcpy(msgs + n - left, g->sorted, left * sizeof *msgs);
    return sent;
}

/* A part at a time: msgs[sent .. sent + left) were refused, those behind were not looked at. */
ASH_API unsigned ash_bus_send_grouped(struct ash_bus *b, struct ash_msg **msgs, unsigned n)
{
    struct groups g;
    unsigned sent = 0, left = 0;
    if (b == NULL || msgs == NULL)
        return 0;
    bus_use(b);
    g.full = 0;
    while (sent + left < n) {
        struct ash_msg **part = msgs + sent + left;
        unsigned size = (unsigned)size_min(n - sent - left, GROUPED);
        unsigned k = groups_send(b, &g, part, size);
        if (left != 0) { /* what was taken goes before those refused so far */
            memcpy(g.sorted, part, k * sizeof *part);
            memmove(part + k - left, part - left, left * sizeof *part);
            memcpy(part - left, g.sorted, k * sizeof *part);
        }
        sent += k;
        left += size - k;
    }
    return sent;
}

/* ---- asking ---- */

ASH_API int ash_bus_request(struct ash_bus *b, struct ash_msg *m, int64_t timeout_ns,
                            struct ash_msg **reply)
{
    struct request r;
    if (b == NULL || m == NULL || reply == NULL)
        return -EINVAL;
    *reply = NULL;
    int64_t until = os_until(timeout_ns);
    replies_open(&b->replies, &r, m->id);
    int status = send_until(b, m, until);
    if (status != 0) {
        if (!replies_withdraw(&b->replies, &r) && replies_wait(&r, -1) && r.reply != NULL)
            ash_bus_reply(b, m, r.reply); /* of one that was not asked: it is late */
        return status;
    }
    add_relaxed(&b->requests, 1);
    if (!replies_wait(&r, until) && replies_withdraw(&b->replies, &r)) {
        add_relaxed(&b->timeouts, 1);
        return -ETIMEDOUT;
    }
    replies_wait(&r, -1); /* it is being answered */
    *reply = r.reply;
    if (r.reply == NULL)
        return -EPIPE;
    add_relaxed(&b->answered, 1);
    return 0;
}

ASH_API int ash_bus_reply(struct ash_bus *b, const struct ash_msg *request, struct ash_msg *reply)
{
    if (b == NULL || request == NULL || reply == NULL)
        return -EINVAL;
    if (!replies_answer(&b->replies, request->id, reply)) {
        add_relaxed(&b->late, 1);
        bus_dead(b, reply, ASH_BUS_LATE);
    }
    return 0;
}
