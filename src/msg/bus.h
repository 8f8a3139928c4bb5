/*
 * The bus (ashlar/bus.h): subsystems, each a lane (msg/lane) with a router, and workers.
 *
 *  1. A sender finds the subsystem by its name in `table`, an open hash that only grows, and pushes
 *     into its lane: the only routing on its side. The worker matches the pattern: a match is 400
 *     bytes of captures that point into the message, and no smaller than the message itself, so it
 *     is made where it is used.
 *  2. A worker looks at the lanes in turn. Of an ordered one it claims the lane and takes a batch,
 *     which is in the subsystem, not with the worker: if its thread ends in a handler, whoever
 *     claims the lane next goes on behind the message that was being handled. Of an unordered one
 *     it takes one message, so that a handler that blocks keeps no other message waiting.
 *  3. Workers sleep and are woken as those of an executor (os/park), a message or a lane given
 *     back being the task. Threads of the bus come first in `worker`, then the pollers, which sleep
 *     in ash_bus_wait; the last is the place of a thread that drains a bus without threads.
 *  4. What was sent is the ring's count of pushes, so that sending counts nothing. `delivered` and
 *     `dead` are counted by the claimer, or by locked adds, after the fact; read before the ring's
 *     count they are never more. Whoever reads them equal has acquired what all handlers wrote.
 *  5. Whoever may have handled the last message (a worker that is about to sleep, a poller that
 *     returns) passes a fence and wakes who drains; who drains counts itself, passes a fence, and
 *     compares the counts. One of the two sees the other. Of a bus without threads who drains works
 *     too, and senders, behind the fence of 3, look whether it sleeps.
 *  6. When all lanes are closed (BUS_SHUT) and nothing is pending there will be no more messages:
 *     whoever sees that first tells all who sleep, threads end and pollers return.
 *
 * A forked child: the thread that forked may be in a handler, whose lane stays claimed; everything
 * else is let go at once, and the messages in the rings are freed at the child's first use.
 *
 * Rejected: a match at the sender (see 1); batches for unordered workers (a handler that blocks
 * would hold up to 63 others, and what is given back has lost its place); freeing messages one by
 * one, 9 ns each more than 16 at a time.
 */
#ifndef ASH_BUS_H
#define ASH_BUS_H

#include "ashlar/bus.h"
#include "base/name.h"
#include "msg/lane.h"
#include "msg/msg.h"
#include "msg/replies.h"
#include "os/os_fork.h"
#include "os/os_lock.h"
#include "os/park.h"
#include "vm/shown.h"

#include <pthread.h>

enum {
    BUS_BATCH = 64, /* messages that leave an ordered lane at once */
    BUS_AHEAD = 4,  /* messages between the one that is handled and the one that is fetched */
    BUS_FREED = 16, /* and that are freed at once */
    BUS_TABLE = 2 * ASH_BUS_SUBSYSTEMS, /* places of `table` */
};

/* Of ash_bus.state. */
enum {
    BUS_STARTING = 1, /* threads are to be started: after a fork, or when one could not be */
    BUS_STOPPED = 2,  /* nothing comes in any more */
    BUS_DROPPING = 4, /* messages become dead letters instead of being handled */
    BUS_ENDING = 8,   /* threads end when they find nothing */
    BUS_FORKED = 16,  /* the rings have the parent's messages; STARTING is set as well */
    BUS_SHUT = 32     /* all lanes are closed: threads end when nothing is pending */
};

/* What a pattern stands for. */
struct handler {
    void (*fn)(struct ash_msg *msg, const struct ash_match *match, void *user);
    void *user;
    struct handler *next; /* under the bus' lock */
    char pattern[];       /* whole */
};

/* Messages that a worker has: msg[freed .. at) have been handled, msg[at .. count) have not. */
struct batch {
    uint32_t at, count, freed;
    struct ash_msg *msg[BUS_BATCH];
};

struct subsystem {
    struct ash_bus *bus; /* const, and likewise: */
    unsigned index;      /* in ash_bus.subsystem */
    size_t name_len;
    char name[NAME_CAP];
    struct ash_router *router;  /* anyone matches; changed under the bus' lock */
    struct handler *handlers;   /* under the bus' lock */
    _Atomic(uint64_t) patterns; /* atomic: changed under the bus' lock */
    struct shown *shown;        /* const */
    _Atomic(uint32_t) changed;  /* atomic: patterns were added, and are not compiled */
    _Atomic(uint64_t) before;   /* atomic: pushes that are not this process', before it forked */
    _Atomic(uint64_t) refused;  /* atomic: counter, several writers */
    /* atomic: counted after the fact, by the claimer or by locked adds; publish what was done */
    ASH_LINE_ALIGNED _Atomic(uint64_t) delivered;
    _Atomic(uint64_t) dead;
    struct batch batch; /* the claimer's */
    struct lane lane;
};

struct bus_worker {
    struct ash_bus *bus;         /* const */
    unsigned index;              /* const */
    pthread_t thread;            /* under the bus' lock */
    bool started;                /* under the bus' lock: it has a thread */
    struct subsystem *subsystem; /* owner: which it is handling; NULL outside */
    struct batch *batch;         /* owner: what it has of that: the subsystem's, or `own` */
    struct batch own;            /* owner: of one message of an unordered one */
    struct ash_msg *msg;         /* owner: in whose handler it is; NULL outside */
    struct bus_worker *outer;    /* owner: which its thread is besides, further out */
    uint32_t next;               /* owner: the subsystem that it looks at first */
    uint32_t generation;         /* owner: the bus' when it took its lane */
    _Atomic(uint32_t) taken;     /* atomic: a thread is this poller; hands the fields over */
    ASH_LINE_ALIGNED _Atomic(uint64_t) parked; /* atomic: owner counts, anyone reads */
};

struct ash_bus {
    unsigned workers, pollers; /* const, and likewise: */
    unsigned capacity;
    size_t max_body, stack_bytes;
    void (*dead)(struct ash_msg *msg, enum ash_bus_reason reason, void *user);
    void (*mark)(struct ash_bus *bus, const char *subsystem, int is_high, void *user);
    void *user;
    struct bus_worker *worker; /* workers, pollers, and the one that drains */
    struct park_slot *slots;   /* the memory of `parking` */
    struct shown *shown;
    char name[NAME_CAP];
    _Atomic(struct subsystem *) table[BUS_TABLE];    /* atomic: release publishes it */
    struct subsystem *subsystem[ASH_BUS_SUBSYSTEMS]; /* published by `subsystems` */
    ASH_LINE_ALIGNED _Atomic(uint32_t) state;        /* atomic: BUS_..., mostly 0 */
    _Atomic(uint32_t) subsystems;                    /* atomic: release publishes them */
    _Atomic(uint32_t) generation;                    /* atomic: forks behind this process */
    _Atomic(uint32_t) drainers;                      /* atomic: threads that drain */
    _Atomic(uint32_t) quiet;                         /* atomic: changes before they are woken */
    _Atomic(uint64_t) refused;                       /* atomic: of no subsystem */
    _Atomic(uint64_t) requests, answered, timeouts, late; /* atomic: several writers */
    _Atomic(uint64_t) lost;                               /* atomic: several writers */
    struct parking parking;
    struct replies replies;
    struct os_lock lock; /* over handlers, subsystems, starting and stopping threads */
    struct os_fork fork;
};

/* The worker that the calling thread is at the moment; NULL outside of handlers. */
ASH_HIDDEN extern ASH_TLS struct bus_worker *bus_self;

ASH_INLINE bool bus_inside(const struct ash_bus *b)
{
    struct bus_worker *w = bus_self;
    while (w != NULL && w->bus != b)
        w = w->outer;
    return w != NULL;
}

ASH_INLINE unsigned bus_places(const struct ash_bus *b)
{
    return b->workers + b->pollers + 1;
}

/* The subsystem of that name, or NULL; where one that is not there goes in `table`. */
struct subsystem *bus_find(struct ash_bus *b, const char *name, size_t len);
unsigned bus_place(struct ash_bus *b, const char *name, size_t len);

/* The lane's program is told of the marks that were passed. */
ASH_COLD void bus_cross(struct subsystem *s, enum lane_event event);

/* ---- buswork.c ---- */

/* A message that is not delivered: counted by the caller, shown, freed. */
ASH_COLD void bus_dead(struct ash_bus *b, struct ash_msg *m, enum ash_bus_reason reason);

/* A poller's place: false when another thread has it. */
bool place_enter(struct bus_worker *w);
void place_leave(struct bus_worker *w);

/* Handles up to `max` messages, until it finds none: how many. */
unsigned place_work(struct bus_worker *w, unsigned max);

/* The life of a thread of the bus. */
void bus_thread(struct bus_worker *w);

/* Some lane is open; behind a fence. */
bool bus_look(const struct ash_bus *b);

/* Its thread ends in a handler. */
ASH_COLD void bus_lost(struct bus_worker *w);

/* Wakes who drains, if anybody: rule 5; at the end of all messages, whoever sleeps. */
void bus_tell_quiet(struct ash_bus *b);

/* All that sleep look again. */
void bus_wake_all(struct ash_bus *b);

/* ---- buslife.c ---- */

/* Starts threads that are missing; in a child, after emptying the rings. */
ASH_COLD void bus_revive(struct ash_bus *b);

ASH_INLINE void bus_use(struct ash_bus *b)
{
    if (ASH_UNLIKELY((load_relaxed(&b->state) & BUS_STARTING) != 0))
        bus_revive(b);
}

/* A thread instead of that of `w`, which is ending. */
ASH_COLD void bus_replace(struct bus_worker *w);

/* ---- busstats.c ---- */

/* Messages that are not handled: exactly 0 only when none was pending at some moment. */
uint64_t bus_pending(const struct ash_bus *b);

/* Shows them in the statistics, if there is memory for that. */
struct shown *bus_show(const struct ash_bus *b);
struct shown *bus_show_subsystem(const struct subsystem *s);

#endif
