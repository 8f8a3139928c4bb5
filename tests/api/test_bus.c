/*
 * The bus as a program uses it (ashlar/bus.h): each test is a small program that checks itself. Errors and edges are in
 * test_bus_care.c, many threads in test_bus_threads.c.
 */
#include "buses.h"

/* ---- an order goes to its handler ---- */

struct order {
    uint32_t item, count;
};

struct stock {
    int sold[10];
    char last[32];
};

static void sell(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    struct stock *stock = user;
    size_t len;
    const struct order *order = ash_msg_body(msg, &len);
    const struct ash_capture *id = ash_match_capture(match, "id");
    stock->sold[order->item] += (int)order->count;
    snprintf(stock->last, sizeof stock->last, "%.*s by %s", (int)id->len, id->ptr, match->pattern);
}

static void test_order(void)
{
    struct stock stock = {0};
    struct ash_msgpool *pool = ash_msgpool_create("orders", NULL);
    struct ash_bus *bus = ash_bus_create(ASH_BUS_CONFIG(.name = "shop", .workers = 1));
    is_int(ash_bus_on(bus, "orders://items/{id}", sell, &stock), 0, "a handler for a pattern");

    struct ash_msg *m = message(pool, "orders://items/7?full=1", &(struct order){.item = 7, .count = 2}, 8);
    is_int(ash_bus_send(bus, m), 0, "a message is sent; it is the bus' now");
    m = message(pool, "nowhere://", NULL, 0);
    is_int(ash_bus_send(bus, m), -ENOENT, "one that is refused");
    ash_msg_free(m); /* is the sender's still */

    is_int(ash_bus_drain(bus, -1), 0, "everything has been handled");
    is_int(stock.sold[7], 2, "what the handler wrote is seen");
    is_str(stock.last, "7 by orders://items/{id}", "it had the captures and the pattern");
    struct ash_bus_stats s = bus_stats(bus);
    ok(s.sent == 1 && s.delivered == 1 && s.refused == 1 && s.pending == 0, "and was counted");
    is_int(ash_bus_destroy(bus), 0, "the end");
    is_int(ash_msgpool_destroy(pool), 0, "no message is left");
}

/* ---- a program with its own loop: no threads ---- */

static void count_up(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    (void)msg;
    (void)match;
    ++*(int *)user;
}

static void test_loop(void)
{
    int ticks = 0;
    struct ash_msgpool *pool = ash_msgpool_create(NULL, NULL);
    struct ash_bus *bus = ash_bus_create(NULL);
    ash_bus_on(bus, "clock://tick", count_up, &ticks);
    struct ash_msg *m[100];
    for (unsigned i = 0; i < 100; i++)
        m[i] = message(pool, "clock://tick", NULL, 0);
    is_int(ash_bus_send_batch(bus, m, 100), 100, "a batch is sent");
    is_int(ticks, 0, "nobody works yet");
    is_int(ash_bus_wait(bus, 0, -1), 0, "there is something to do");
    is_int(ash_bus_poll(bus, 0, 70), 70, "some of it");
    is_int(ash_bus_poll(bus, 0, 70), 30, "the rest");
    is_int(ash_bus_wait(bus, 0, MS), -ETIMEDOUT, "there is no more");
    is_int(ticks, 100, "each was handled");
    ash_bus_destroy(bus);
    ash_msgpool_destroy(pool);
}

/* ---- a question and its answer ---- */

struct desk {
    struct ash_bus *bus;
    struct ash_msgpool *pool;
};

static void answer_sum(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    const struct desk *desk = user;
    int sum = 0;
    for (unsigned i = 0; i < match->n; i++)
        for (size_t k = 0; k < match->caps[i].len; k++)
            sum += match->caps[i].ptr[k] - '0';
    ash_bus_reply(desk->bus, msg, message(desk->pool, "", &sum, sizeof sum));
}

static void test_request(void)
{
    struct desk desk = {.bus = ash_bus_create(ASH_BUS_CONFIG(.workers = 2)), .pool = ash_msgpool_create(NULL, NULL)};
    ash_bus_on(desk.bus, "sum://{a}/{b}", answer_sum, &desk);
    struct ash_msg *reply, *m = message(desk.pool, "sum://12/34", NULL, 0);
    is_int(ash_bus_request(desk.bus, m, -1, &reply), 0, "a request is answered");
    size_t len;
    int sum = -1;
    if (reply != NULL)
        memcpy(&sum, ash_msg_body(reply, &len), sizeof sum);
    is_int(sum, 10, "rightly");
    ash_msg_free(reply); /* the reply is the caller's */
    m = message(desk.pool, "sum://1", NULL, 0);
    is_int(ash_bus_request(desk.bus, m, -1, &reply), -EPIPE, "one that nobody handles");
    struct ash_bus_stats s = bus_stats(desk.bus);
    ok(s.requests == 2 && s.answered == 1 && s.dead == 1, "is a dead letter");
    ash_bus_destroy(desk.bus);
    is_int(ash_msgpool_destroy(desk.pool), 0, "no message is left");
}

/* ---- back-pressure, and nothing lost ---- */

struct watch {
    int high, low, dead[ASH_BUS_LATE + 1];
};

static void watch_mark(struct ash_bus *bus, const char *subsystem, int is_high, void *user)
{
    struct watch *w = user;
    (void)bus;
    if (strcmp(subsystem, "jobs") == 0)
        ++*(is_high ? &w->high : &w->low);
}

static void watch_dead(struct ash_msg *msg, enum ash_bus_reason reason, void *user)
{
    (void)msg;
    ((struct watch *)user)->dead[reason]++;
}

static void test_pressure(void)
{
    struct watch w = {0};
    int done = 0;
    struct ash_msgpool *pool = ash_msgpool_create(NULL, NULL);
    struct ash_bus *bus = ash_bus_create(ASH_BUS_CONFIG(.mark = watch_mark, .dead = watch_dead, .user = &w));
    ash_bus_subsystem(bus, "jobs", ASH_BUS_SUBSYSTEM_CONFIG(.capacity = 16, .high = 12, .low = 4));
    ash_bus_on(bus, "jobs://run", count_up, &done);
    unsigned sent = 0;
    struct ash_msg *m = message(pool, "jobs://run", NULL, 0);
    while (ash_bus_send(bus, m) == 0) {
        m = message(pool, "jobs://run", NULL, 0);
        sent++;
    }
    is_int(sent, 16, "until its ring is full");
    is_int(ash_bus_send(bus, m), -EAGAIN, "a full ring says so at once");
    ok(w.high == 1 && w.low == 0, "the program was told once that it fills");
    ash_bus_poll(bus, 0, 11);
    ok(w.high == 1 && w.low == 0, "five are left");
    ash_bus_poll(bus, 0, 1);
    ok(w.high == 1 && w.low == 1, "four are left: it is told again");
    is_int(ash_bus_send(bus, m), 0, "there is room");
    m = message(pool, "jobs://other", NULL, 0);
    ash_bus_send(bus, m);
    is_int(ash_bus_poll(bus, 0, 100), 6, "the rest");
    is_int(w.dead[ASH_BUS_NO_HANDLER], 1, "one had no handler");
    for (unsigned i = 0; i < 3; i++)
        ash_bus_send(bus, message(pool, "jobs://run", NULL, 0));
    is_int(ash_bus_stop(bus, 0), 0, "stopped without waiting");
    is_int(w.dead[ASH_BUS_STOPPED], 3, "what had not begun became dead letters");
    struct ash_bus_stats s = bus_stats(bus);
    ok(s.sent == 21 && s.delivered == 17 && s.dead == 4 && s.pending == 0 && done == 17, "sent = delivered + dead");
    ash_bus_destroy(bus);
    is_int(ash_msgpool_destroy(pool), 0, "no message is left");
}

int main(void)
{
    test_order();
    test_loop();
    test_request();
    test_pressure();
    return tap_done();
}
