/*
 * A simulated network of sites that move money between accounts by two-phase commit (ashlar/shard.h). All that happens
 * follows from a seed: what messages are lost, doubled and delayed, when sites crash and what of their logs is left.
 *
 * A site's memory is its ash_2pc, its balances and its locks; a crash takes them, and all of the log that was not
 * forced but for a beginning of random length. Recovery has the log alone. An observer outside knows every decision
 * that any site acted on, and complains when two differ, a part is applied twice, or one that was applied is not there
 * in the end.
 *
 * Here is the world: chance, time, the network. What sites do in it is in sim_site.h.
 */
#ifndef ASH_TESTS_SIM_H
#define ASH_TESTS_SIM_H

#include "ashlar/shard.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SITES = 100, ACCOUNTS = 4, TXNS = 512, PARTS = 5, TRACE = 48, BALANCE = 100 };

#define MS ((int64_t)1000000)

/* What goes wrong, in 1000 messages or steps. */
struct faults {
    unsigned lost, doubled, late, crash;
};

struct plan {
    uint64_t seed;
    unsigned sites, txns;
    struct faults faults; /* until they stop */
    bool waits;           /* for locked accounts; else votes no */
    unsigned group;       /* actions taken before a sync */
    int64_t faulty_ns;
};

/* ---- what is there ---- */

struct entry { /* of a log: a record, with the data of a vote or all balances */
    unsigned char record[sizeof(struct ash_2pc_msg)];
    size_t len;
    unsigned account;
    long delta;
    bool is_balances;
    long balance[ACCOUNTS];
    uint64_t applied[TXNS / 64];
};

struct holder {
    uint64_t id;
    bool waiting;
    unsigned account;
    long delta;
    struct holder *next;
};

struct site {
    struct ash_2pc *machine; /* NULL: it is down */
    long balance[ACCOUNTS];
    uint64_t lock[ACCOUNTS]; /* an id, or 0 */
    uint64_t applied[TXNS / 64];
    struct holder *holders; /* transactions that it was asked about */
    struct entry *log;
    size_t len, forced, room;
    int64_t alarm;
};

struct txn { /* as the observer knows it */
    uint64_t id;
    unsigned parts, shard[PARTS], account[PARTS];
    long delta[PARTS];
    int decided; /* 0, 1 committed, 2 aborted */
    bool told;   /* the client, that it was committed */
};

enum happening { DELIVER, ALARM, BEGIN, RESTART };

struct event {
    int64_t at;
    uint64_t order;
    enum happening what;
    unsigned site;
    struct ash_2pc_msg *msg;
};

struct sim {
    struct plan plan;
    uint64_t random, order;
    int64_t now;
    struct site site[SITES];
    struct txn txn[TXNS];
    unsigned txns;
    struct event *heap;
    size_t events, room;
    uint64_t crashes, lost, doubled, checkpoints, steps, most_remembered;
    const char *wrong;
    struct {
        int64_t at;
        uint64_t id;
        unsigned site;
        int what, other;
    } trace[TRACE];
    unsigned traced;
    bool calm; /* no faults any more */
    bool show;
};

/* ---- chance, time, complaints ---- */

static uint64_t sim_random(struct sim *s)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static unsigned sim_below(struct sim *s, unsigned n)
{
    return (unsigned)((sim_random(s) >> 32) * n >> 32);
}

static bool sim_chance(struct sim *s, unsigned in_1000)
{
    return !s->calm && in_1000 > 0 && sim_below(s, 1000) < in_1000;
}

/* what: 0..99 a message's word, 100 + an action's kind, 200 crash, 201 restart, 202 begin, 203 checkpoint, 300 lost. */
static void sim_trace(struct sim *s, unsigned site, uint64_t id, int what, int other)
{
    unsigned i = s->traced++ % TRACE;
    s->trace[i].at = s->now;
    s->trace[i].id = id;
    s->trace[i].site = site;
    s->trace[i].what = what;
    s->trace[i].other = other;
}

static void sim_wrong(struct sim *s, const char *what)
{
    if (s->wrong == NULL)
        s->wrong = what;
}

static void sim_print(const struct sim *s)
{
    static const char *const words[] = {"?", "PREPARE", "YES", "NO", "COMMIT", "ABORT", "ACK", "ASK"};
    static const char *const kinds[] = {"?", "send", "log", "force", "vote", "committed", "aborted", "ended"};
    static const char *const others[] = {"crash", "restart", "begin", "checkpoint"};
    printf("# seed %llu: %s\n# %u sites, %s, groups of %u; the last events:\n", (unsigned long long)s->plan.seed,
           s->wrong, s->plan.sites, s->plan.waits ? "waits" : "votes no", s->plan.group);
    for (unsigned i = s->traced > TRACE ? s->traced - TRACE : 0; i < s->traced; i++) {
        int what = s->trace[i % TRACE].what;
        const char *text = what < 100   ? words[what]
                           : what < 200 ? kinds[what - 100]
                           : what < 300 ? others[what - 200]
                                        : "lost";
        printf("# %10.3f ms  site %-3u %-10s id %llx  %d\n", (double)s->trace[i % TRACE].at / 1e6,
               s->trace[i % TRACE].site, text, (unsigned long long)s->trace[i % TRACE].id, s->trace[i % TRACE].other);
    }
}

/* ---- events, by time ---- */

static bool event_before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void event_add(struct sim *s, int64_t at, enum happening what, unsigned site, struct ash_2pc_msg *msg)
{
    if (s->events == s->room) {
        s->room = s->room > 0 ? 2 * s->room : 256;
        s->heap = realloc(s->heap, s->room * sizeof *s->heap);
    }
    struct event e = {at, s->order++, what, site, msg};
    size_t i = s->events++;
    for (; i > 0 && event_before(&e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
}

static struct event event_take(struct sim *s)
{
    struct event first = s->heap[0], last = s->heap[--s->events];
    size_t i = 0;
    for (size_t c; (c = 2 * i + 1) < s->events; i = c) {
        if (c + 1 < s->events && event_before(&s->heap[c + 1], &s->heap[c]))
            c++;
        if (!event_before(&s->heap[c], &last))
            break;
        s->heap[i] = s->heap[c];
    }
    s->heap[i] = last;
    return first;
}

/* ---- the network ---- */

static void sim_carry(struct sim *s, const struct ash_2pc_msg *msg, size_t len)
{
    struct ash_2pc_msg *copy = calloc(1, sizeof *copy);
    memcpy(copy, msg, len);
    int64_t delay = MS / 10 + sim_below(s, (unsigned)MS);
    if (sim_chance(s, s->plan.faults.late))
        delay *= 1 + sim_below(s, 200);
    event_add(s, s->now + delay, DELIVER, msg->to, copy);
}

static void sim_send(struct sim *s, const struct ash_2pc_msg *msg, size_t len)
{
    if (sim_chance(s, s->plan.faults.lost)) {
        s->lost++;
        sim_trace(s, msg->from, msg->id, 300, msg->word);
        return;
    }
    sim_carry(s, msg, len);
    while (sim_chance(s, s->plan.faults.doubled)) {
        s->doubled++;
        sim_carry(s, msg, len);
    }
}

#endif
