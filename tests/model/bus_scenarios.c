/*
 * Scenarios of a bus as a whole (msg/bus): what is sent is handled, and who drains, waits or stops does not sleep on.
 * A handler writes to its message's body, and to a word that whoever has drained the bus reads: a drain that ends too
 * early is a data race.
 */
#include "scenario.h"

#include "ashlar/pool.h"
#include "msg/bus.h"
#include "pool/ring.h"

#include <errno.h>
#include <string.h>

enum { MSGS = 2 };

static struct ash_bus *bus;
static struct ash_msgpool pool;
static struct ash_msg *msgs[MSGS];
static unsigned handled[THREADS + 1]; /* plain: by the thread; the last: at the end */
static unsigned sent[THREADS];        /* by the thread */

/* `delivered` and `dead`, which drains compare, are counted at sites of these names. */
static const char *const counts[] = {"c", NULL};

/* ---- a router that has one pattern ---- */

static struct handler *added, *route; /* plain: under the bus' lock; what was compiled */
static bool no_route;

struct ash_router *ash_router_create(void)
{
    return (struct ash_router *)(void *)&route;
}

int ash_router_destroy(struct ash_router *r)
{
    (void)r;
    return 0;
}

int ash_router_add(struct ash_router *r, const char *pattern, void *h, const char **conflict)
{
    (void)r, (void)pattern, (void)conflict;
    added = h;
    return 0;
}

int ash_router_compile(struct ash_router *r)
{
    (void)r;
    route = added;
    return 0;
}

int ash_router_trim(struct ash_router *r)
{
    (void)r;
    return 0;
}

int ash_router_match(const struct ash_router *r, const char *path, size_t len, struct ash_match *match)
{
    (void)r, (void)path, (void)len;
    match->n = 0;
    match->handler = route;
    return no_route ? -ENOENT : 0;
}

/* ---- the beginning ---- */

static unsigned all_handled(void)
{
    unsigned n = 0;
    for (int k = 0; k <= THREADS; k++)
        n += handled[k];
    return n;
}

static void handle(struct ash_msg *m, const struct ash_match *match, void *user)
{
    (void)match;
    model_require(user == &pool && ((unsigned char *)m->body)[0] == 1, "another message");
    ((unsigned char *)m->body)[0] = 2;
    handled[model_self() < 0 ? THREADS : model_self()]++;
}

static void dead(struct ash_msg *m, enum ash_bus_reason reason, void *user)
{
    model_require(reason == ASH_BUS_NO_HANDLER, "it has a handler");
    handle(m, NULL, user);
}

static void message(unsigned i, const char *target)
{
    pool = (struct ash_msgpool){.objects = scenario_pool(256), .room = 128, .target_most = 64, .at = 64};
    struct ash_msg *m = ash_pool_get(pool.objects);
    m->pool = &pool;
    store_relaxed(&m->refs, 1);
    model_require(ash_msg_reset(m, target, strlen(target), "", 1) == 0, "no message");
    msg_parts(m); /* which are found when it is sent */
    ((unsigned char *)m->body)[0] = 1;
    msgs[i] = m;
}

static void make(unsigned workers, unsigned capacity, unsigned flags)
{
    scenario_boot();
    model_own(&bus_self);
    model_own(&errno);
    bus = ash_bus_create(ASH_BUS_CONFIG(.workers = workers, .pollers = workers == 0 ? 2 : 0, .capacity = capacity,
                                        .dead = dead, .user = &pool));
    model_require(bus != NULL, "no bus");
    model_require(ash_bus_subsystem(bus, "disk", ASH_BUS_SUBSYSTEM_CONFIG(.flags = flags)) == 0, "no subsystem");
    model_require(ash_bus_on(bus, "disk://a", handle, &pool) == 0, "no handler");
    route = added;
    store_relaxed(&bus->subsystem[0]->changed, 0); /* compiled */
    for (unsigned i = 0; i < MSGS; i++)
        message(i, "disk://a");
    model_name(&bus->state, "state");
    model_name(&bus->drainers, "drainers");
    model_name(&bus->quiet, "quiet");
    model_name(&bus->parking.searching, "searching");
    model_name(&bus->parking.idle[0], "idle");
    model_name(&bus->lock.word, "lock");
    model_name(&bus->subsystem[0]->delivered, "delivered");
    model_name(&bus->subsystem[0]->lane.claimed, "claimed");
    model_name(&bus->subsystem[0]->lane.ring->tail, "tail");
    model_name(&bus->subsystem[0]->lane.ring->head, "head");
}

static void send(unsigned i)
{
    int status = ash_bus_send(bus, msgs[i]);
    model_require(status == 0 || status == -ECANCELED || status == -EAGAIN, "it cannot be sent");
    if (model_self() >= 0)
        sent[model_self()] += status == 0;
}

static void polled(void)
{
    make(0, MSGS, 0);
}

static void polled_sent(void)
{
    polled();
    send(0);
}

static void polled_dead(void)
{
    polled_sent();
    no_route = true;
}

static void unordered_sent(void)
{
    make(0, MSGS, ASH_BUS_UNORDERED);
    send(0);
}

/* What was added last is not compiled. */
static void unordered_changed(void)
{
    unordered_sent();
    send(1);
    route = NULL;
    store_relaxed(&bus->subsystem[0]->changed, 1);
}

/* One more has to wait for room. */
static void polled_full(void)
{
    make(0, 1, 0);
    send(0);
}

static void threaded(void)
{
    make(1, MSGS, 0);
}

static void threaded_sent(void)
{
    threaded();
    send(0);
}

/* ---- threads ---- */

static void send_0(void)
{
    send(0);
}

static void send_wait_1(void)
{
    int status = ash_bus_send_wait(bus, msgs[1], -1);
    model_require(status == 0 || status == -ECANCELED, "a wait for ever has ended");
    sent[model_self()] += status == 0;
}

static void drain(void)
{
    model_require(ash_bus_drain(bus, -1) == 0, "a wait for ever has ended");
}

/* What was sent before is handled, and what handlers wrote is seen. */
static void drain_1(void)
{
    drain();
    model_require(all_handled() == 1, "%u are handled", all_handled());
}

static void poll_0(void)
{
    ash_bus_poll(bus, 0, MSGS);
}

static void poll_1(void)
{
    ash_bus_poll(bus, 1, MSGS);
}

static void wait_0(void)
{
    model_require(ash_bus_wait(bus, 0, -1) == 0, "nothing is there");
}

static void wait_1(void)
{
    model_require(ash_bus_wait(bus, 1, -1) == 0, "nothing is there");
}

/* There is a message, or all have been handled and no more will come. */
static void wait_over(void)
{
    int status = ash_bus_wait(bus, 0, -1);
    model_require(status == 0 || (status == -ECANCELED && all_handled() == 1), "it is over too early");
}

static void wait_poll(void)
{
    model_require(ash_bus_wait(bus, 0, -1) == 0, "a wait for ever has ended");
    model_require(ash_bus_poll(bus, 0, 1) == 1, "nothing is there");
}

static void wait_shut(void)
{
    model_require(ash_bus_wait(bus, 0, -1) == -ECANCELED, "a wait for ever has ended");
}

static void stop(void)
{
    model_require(ash_bus_stop(bus, -1) == 0, "it does not stop");
}

static void send_stop(void)
{
    send(0);
    stop();
}

static void thread_0(void)
{
    bus_thread(&bus->worker[0]);
}

static void polled_net(void)
{
    polled();
    message(1, "net://a");
}

/* A subsystem more. */
static void add_net(void)
{
    model_require(ash_bus_subsystem(bus, "net", NULL) == 0, "no subsystem");
}

static void add_send_net(void)
{
    add_net();
    model_require(ash_bus_send(bus, msgs[1]) == 0, "it cannot be sent");
}

static void send_net(void)
{
    int status = ash_bus_send(bus, msgs[1]);
    model_require(status == 0 || status == -ENOENT, "it cannot be sent");
    sent[model_self()] += status == 0;
}

/* ---- the end ---- */

static void check_rest(void)
{
    model_require(load_relaxed(&bus->drainers) == 0, "somebody is said to drain");
    model_require(load_relaxed(&bus->parking.searching) == 0 && !park_any_idle(&bus->parking), "somebody is left");
    for (unsigned i = 0; i < bus_places(bus); i++)
        model_require(load_relaxed(&bus->worker[i].taken) == 0, "a place is taken still");
}

static void check_1(void)
{
    check_rest();
    model_require(all_handled() == 1 && bus_pending(bus) == 0, "%u are handled, %lu pending", all_handled(),
                  (unsigned long)bus_pending(bus));
}

static void check_none(void)
{
    check_rest();
    model_require(bus_pending(bus) == 0, "there is one");
}

static void check_both(void)
{
    check_rest();
    model_require(all_handled() == MSGS && bus_pending(bus) == 0, "%u are handled", all_handled());
}

static void check_late(void)
{
    check_rest();
    model_require(bus_pending(bus) + all_handled() == sent[0], "one is lost");
}

static void check_full(void)
{
    check_rest();
    model_require(all_handled() == 1 + sent[0] && bus_pending(bus) == 0, "one is lost");
}

static void check_net(void)
{
    struct subsystem *net = bus_find(bus, "net", 3);
    model_require(net != NULL && bus_pending(bus) == sent[1], "one is lost");
}

const struct scenario bus_scenarios[] = {
    {.name = "bus-drain-poll",
     .invariant = "the last message is polled while one who drains begins to sleep, or has the place to handle it",
     .setup = polled_sent,
     .thread = {drain_1, poll_0},
     .check = check_1,
     .loud = counts},
    {.name = "bus-drain-send",
     .invariant = "a message is sent to a bus without threads while one who drains begins to sleep",
     .setup = polled,
     .thread = {send_0, drain},
     .check = check_late,
     .loud = counts},
    {.name = "bus-wait",
     .invariant = "a message comes while a poller begins to sleep",
     .setup = polled,
     .thread = {send_0, wait_poll},
     .check = check_1,
     .loud = counts},
    {.name = "bus-wait-stop",
     .invariant = "a bus is stopped while a poller begins to sleep: it is told",
     .setup = polled,
     .thread = {stop, wait_shut},
     .check = check_none,
     .loud = counts},
    {.name = "bus-thread",
     .invariant = "a thread handles the last message and goes to sleep while another drains and stops the bus",
     .setup = threaded_sent,
     .thread = {drain_1, thread_0, stop},
     .check = check_1,
     .loud = counts,
     .full_only = true,
     .most = 200000},
    {.name = "bus-stop",
     .invariant = "a bus is stopped while its thread searches: what was sent is handled, and the thread ends",
     .setup = threaded_sent,
     .thread = {stop, thread_0},
     .check = check_1,
     .loud = counts,
     .full_only = true,
     .most = 200000},
    {.name = "bus-send-stop",
     .invariant = "a message is sent while the bus is being stopped: it is handled, or refused",
     .setup = polled,
     .thread = {send_0, stop},
     .check = check_late,
     .loud = counts},
    {.name = "bus-send-wait-stop",
     .invariant = "one waits for room while the bus is being stopped: it has room, or is told that it is stopped",
     .setup = polled_full,
     .thread = {send_wait_1, stop},
     .check = check_full,
     .loud = counts},
    {.name = "bus-subsystem",
     .invariant = "a message is sent to a subsystem that is being added: it is not there, or whole",
     .setup = polled_net,
     .thread = {add_net, send_net},
     .check = check_net,
     .loud = counts},
    {.name = "bus-subsystem-poll",
     .invariant = "a poller looks while a subsystem is being added: it is not there, or whole",
     .setup = polled,
     .thread = {add_net, poll_0},
     .check = check_none,
     .loud = counts},
    {.name = "bus-subsystem-wait",
     .invariant = "a poller sleeps while a subsystem is being added, and a message sent to it",
     .setup = polled_net,
     .thread = {add_send_net, wait_poll},
     .check = check_1,
     .loud = counts},
    {.name = "bus-subsystem-drain",
     .invariant = "one drains while a subsystem is being added",
     .setup = polled,
     .thread = {add_net, drain},
     .check = check_none,
     .loud = counts},
    {.name = "bus-drain-dead",
     .invariant = "the last message becomes a dead letter while one who drains begins to sleep",
     .setup = polled_dead,
     .thread = {drain_1, poll_0},
     .check = check_1,
     .loud = counts},
    {.name = "bus-drain-unordered",
     .invariant = "the last message of an unordered subsystem is handled while one who drains begins to sleep",
     .setup = unordered_sent,
     .thread = {drain_1, poll_0},
     .check = check_1,
     .loud = counts},
    {.name = "bus-compile",
     .invariant = "two pollers have a message each where a pattern was added: one compiles, both match",
     .setup = unordered_changed,
     .thread = {poll_0, poll_1},
     .check = check_both,
     .loud = counts},
    {.name = "bus-wait-two",
     .invariant = "two pollers find a message without sleeping",
     .setup = polled_sent,
     .thread = {wait_0, wait_1},
     .check = check_rest},
    {.name = "bus-wait-over",
     .invariant = "a bus is stopped behind the last message while a poller waits: it is over when that is handled",
     .setup = polled,
     .thread = {wait_over, send_stop},
     .check = check_1,
     .loud = counts,
     .full_only = true,
     .most = 40000},
    {.name = "bus-drain-two",
     .invariant = "two drain a bus without threads: one handles, both see it done",
     .setup = polled_sent,
     .thread = {drain_1, drain_1},
     .check = check_1,
     .loud = counts,
     .full_only = true},
    {.name = NULL},
};
