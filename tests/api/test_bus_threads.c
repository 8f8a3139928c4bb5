/*
 * Buses under many threads: senders by every way of sending, workers of the bus and pollers, ordered and unordered
 * subsystems, rings that are often full, threads that end in handlers, stops in the middle. Each message has its sender
 * and its number in it; at the end every one must have been delivered, become a dead letter, or been refused, once, and of
 * an ordered subsystem in the order of its sender. Choices are by seeds.
 */
#include "buses.h"

enum { SENDERS = 8, SUBSYSTEMS = 4, MESSAGES = 12000, BATCH = 32 };

/* Subsystems 0 and 1 are ordered, 2 and 3 are not. */
static const char *const names[SUBSYSTEMS] = {"aa", "bb", "cc", "dd"};

struct load {
    uint32_t sender, number;
};

struct world {
    struct ash_bus *bus;
    struct ash_msgpool *pool;
    unsigned endings; /* a handler in so many ends its thread; 0: none */
    int wrong_order[SUBSYSTEMS];               /* plain: by ordered handlers, one at a time each */
    uint32_t next[SUBSYSTEMS][SENDERS];        /* plain, likewise: the number that may come next at least */
    atomic_ullong delivered, dead, lost, late; /* by handlers and the function for dead letters */
    atomic_ullong handled;                     /* handlers that were begun */
    atomic_int inside[SUBSYSTEMS];             /* handlers that run */
    atomic_int overlaps;                       /* of an ordered subsystem */
    atomic_int finished;                       /* senders */
};

struct sender {
    pthread_t id;
    struct world *w;
    uint32_t number, seed;
    unsigned long long sent, refused, canceled;
};

static uint32_t random_next(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static struct world *world; /* for handlers, whose `user` is the subsystem */

static void handle(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    unsigned k = (unsigned)(uintptr_t)user;
    struct world *w = world;
    size_t len;
    struct load load;
    memcpy(&load, ash_msg_body(msg, &len), sizeof load);
    int others = atomic_fetch_add(&w->inside[k], 1);
    if (k < 2) {
        if (others != 0)
            atomic_fetch_add(&w->overlaps, 1);
        w->wrong_order[k] += load.number < w->next[k][load.sender] || match->n != 1;
        w->next[k][load.sender] = load.number + 1;
    }
    atomic_fetch_sub(&w->inside[k], 1);
    if (w->endings != 0 && atomic_fetch_add(&w->handled, 1) % w->endings == w->endings - 1)
        pthread_exit(NULL);
    atomic_fetch_add_explicit(&w->delivered, 1, memory_order_relaxed);
}

static void count_dead(struct ash_msg *msg, enum ash_bus_reason reason, void *user)
{
    struct world *w = user;
    (void)msg;
    atomic_fetch_add(&w->dead, 1);
    atomic_fetch_add(&w->lost, reason == ASH_BUS_LOST);
}

static struct ash_msg *make(struct sender *s, unsigned k)
{
    char target[32];
    struct load load = {s->number, (uint32_t)(s->sent + s->canceled + s->refused)};
    int len = snprintf(target, sizeof target, "%s://%s/%u", names[k], random_next(&s->seed) % 16 ? "to" : "of",
                       random_next(&s->seed) % 4);
    struct ash_msg *m = ash_msg_new(s->w->pool, target, (size_t)len, &load, sizeof load);
    if (m == NULL)
        abort();
    return m;
}

/* One that is refused is freed, or offered again: either is counted. */
static void send_one(struct sender *s, unsigned how)
{
    struct ash_msg *m = make(s, random_next(&s->seed) % SUBSYSTEMS);
    int status = how == 0 ? ash_bus_send(s->w->bus, m) : ash_bus_send_wait(s->w->bus, m, how == 1 ? -1 : MS);
    if (status == 0) {
        s->sent++;
        return;
    }
    s->refused++;
    s->canceled += status == -ECANCELED;
    ash_msg_free(m);
    if (status != -EAGAIN && status != -ETIMEDOUT && status != -ECANCELED)
        abort();
}

static void send_many(struct sender *s, bool grouped)
{
    struct ash_msg *m[BATCH];
    unsigned n = 1 + random_next(&s->seed) % BATCH, row = 1 + random_next(&s->seed) % 8, k = 0;
    unsigned long long before = s->sent;
    for (unsigned i = 0; i < n; i++) {
        if (i % row == 0)
            k = random_next(&s->seed) % SUBSYSTEMS;
        m[i] = make(s, k);
        s->sent++;
    }
    unsigned taken = grouped ? ash_bus_send_grouped(s->w->bus, m, n) : ash_bus_send_batch(s->w->bus, m, n);
    s->sent = before + taken;
    s->refused += n - taken;
    for (unsigned i = taken; i < n; i++)
        ash_msg_free(m[i]);
}

static void *sender_main(void *arg)
{
    struct sender *s = arg;
    while (s->sent + s->refused < MESSAGES && s->canceled == 0) {
        unsigned how = random_next(&s->seed) % 5;
        if (how < 3)
            send_one(s, how);
        else
            send_many(s, how == 4);
        if (random_next(&s->seed) % 64 == 0)
            sched_yield();
    }
    atomic_fetch_add(&s->w->finished, 1);
    return NULL;
}

struct poller {
    pthread_t id;
    unsigned number;
    struct world *w;
};

static void *poller_main(void *arg)
{
    struct poller *p = arg;
    int status;
    while ((status = ash_bus_wait(p->w->bus, p->number, -1)) == 0)
        ash_bus_poll(p->w->bus, p->number, 1 + p->number * 20);
    return status == -ECANCELED ? p : NULL;
}

static struct ash_bus *make_bus(struct world *w, unsigned workers, unsigned pollers, unsigned capacity)
{
    struct ash_bus *bus = ash_bus_create(
        ASH_BUS_CONFIG(.workers = workers, .pollers = pollers, .capacity = capacity, .dead = count_dead, .user = w));
    for (uintptr_t k = 0; k < SUBSYSTEMS; k++) {
        char pattern[32];
        snprintf(pattern, sizeof pattern, "%s://to/{x}", names[k]);
        if (k >= 2)
            ash_bus_subsystem(bus, names[k], ASH_BUS_SUBSYSTEM_CONFIG(.flags = ASH_BUS_UNORDERED));
        ash_bus_on(bus, pattern, handle, (void *)k);
    }
    return bus;
}

static void run(unsigned senders, unsigned workers, unsigned pollers, unsigned capacity, unsigned endings, bool stopped,
                uint32_t seed)
{
    static struct world w;
    struct sender s[SENDERS];
    struct poller p[SENDERS];
    unsigned long long sent = 0, refused = 0;
    memset(&w, 0, sizeof w);
    world = &w;
    w.endings = endings;
    w.pool = ash_msgpool_create(NULL, NULL);
    w.bus = make_bus(&w, workers, pollers, capacity);
    for (unsigned i = 0; i < senders; i++) {
        s[i] = (struct sender){.w = &w, .number = i, .seed = seed + i};
        pthread_create(&s[i].id, NULL, sender_main, &s[i]);
    }
    for (unsigned i = 0; i < pollers; i++) {
        p[i] = (struct poller){.w = &w, .number = i};
        pthread_create(&p[i].id, NULL, poller_main, &p[i]);
    }
    int status = 0;
    if (stopped) {
        UNTIL(bus_stats(w.bus).sent >= senders * (MESSAGES / 4));
        while ((status = ash_bus_stop(w.bus, 0)) == -ETIMEDOUT)
            sched_yield();
    }
    for (unsigned i = 0; i < senders; i++) {
        pthread_join(s[i].id, NULL);
        sent += s[i].sent;
        refused += s[i].refused;
    }
    int drained = ash_bus_drain(w.bus, -1);
    struct ash_bus_stats t = bus_stats(w.bus);
    if (status == 0)
        status = ash_bus_stop(w.bus, -1);
    for (unsigned i = 0; i < pollers; i++)
        pthread_join(p[i].id, NULL);
    ok(status == 0 && drained == 0, "%u senders, %u workers, %u pollers, rings of %u%s%s: drained and stopped", senders,
       workers, pollers, capacity, endings != 0 ? ", threads end" : "", stopped ? ", stopped in the middle" : "");
    ok(t.sent == sent && t.refused == refused && t.pending == 0 && t.sent == t.delivered + t.dead,
       "seed %u: sent %llu = delivered %llu + dead %llu, refused %llu", seed, (unsigned long long)t.sent,
       (unsigned long long)t.delivered, (unsigned long long)t.dead, (unsigned long long)t.refused);
    ok(t.delivered == w.delivered && t.dead == w.dead && t.lost == w.lost, "as handlers say, %llu threads ended",
       (unsigned long long)w.lost);
    ok(w.wrong_order[0] == 0 && w.wrong_order[1] == 0 && w.overlaps == 0, "ordered ones were in order, one at a time");
    ok(ash_bus_destroy(w.bus) == 0 && in_use(w.pool) == 0 && ash_msgpool_destroy(w.pool) == 0, "no message is left");
}

/* ---- drains of a bus without threads ---- */

static void *trickle(void *arg)
{
    struct scene *s = arg;
    for (unsigned i = 0; !s->go; i++) {
        send(s, "a://pass");
        while (bus_stats(s->bus).pending != 0 && !s->go)
            ;
        for (volatile unsigned k = i % 64; k != 0; k--)
            ;
    }
    return NULL;
}

/* What is sent just when the one who drains has found nothing, and would sleep, is handled all the same. */
static void test_trickle(void)
{
    pthread_t thread;
    struct scene s;
    bool slow = false;
    scene_open(&s, 0, 0, 16);
    ash_bus_on(s.bus, "a://pass", pass, &s);
    pthread_create(&thread, NULL, trickle, &s);
    for (unsigned i = 0; i < 100000 && !slow; i++) {
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        ash_bus_drain(s.bus, (int64_t)4000 * MS);
        clock_gettime(CLOCK_MONOTONIC, &end);
        slow = end.tv_sec - begin.tv_sec >= 3;
    }
    s.go = 1;
    pthread_join(thread, NULL);
    ok(!slow, "no drain sleeps while there is something to do");
    ash_bus_drain(s.bus, -1);
    scene_close(&s, "trickle");
}

int main(void)
{
    run(1, 1, 0, 1024, 0, false, 1);
    run(2, 2, 0, 64, 0, false, 2);
    run(4, 4, 0, 16, 0, false, 3);
    run(8, 8, 0, 1024, 0, false, 4);
    run(8, 2, 2, 4, 0, false, 5);
    run(2, 0, 3, 256, 0, false, 6);
    run(4, 3, 0, 64, 500, false, 7);
    run(4, 2, 0, 1024, 0, true, 8);
    run(8, 4, 2, 32, 0, true, 9);
    run(2, 1, 0, 1, 0, false, 10);
    test_trickle();
    return tap_done();
}
