/*
 * A bus under load for a while: bus SECONDS. Two threads send by every way there is, bodies of 64 bytes and now and then of
 * a page; requests are answered, some too late; some handlers end their thread; buses come and go beside it. At the end
 * everything that was taken has been delivered or is a dead letter, and no message is left.
 */
#include "ashlar/layers.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SENDERS = 2, BATCH = 32, RARE = 20000, MS = 1000 * 1000 };

static struct ash_bus *bus;
static struct ash_msgpool *pool;
static atomic_ullong taken, handled, dead, late;
static atomic_int over;

static void work(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    (void)msg;
    (void)match;
    (void)user;
    atomic_fetch_add_explicit(&handled, 1, memory_order_relaxed);
}

static void reply(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    uint64_t id = ash_msg_id(msg);
    work(msg, match, user);
    if (id % 16 == 0) /* too late, mostly */
        nanosleep(&(struct timespec){.tv_nsec = MS}, NULL);
    struct ash_msg *m = ash_msg_new(pool, "", 0, &id, sizeof id);
    if (m == NULL || ash_bus_reply(bus, msg, m) != 0)
        abort();
}

static void end_thread(struct ash_msg *msg, const struct ash_match *match, void *user)
{
    (void)msg;
    (void)match;
    (void)user;
    pthread_exit(NULL);
}

static void note_dead(struct ash_msg *msg, enum ash_bus_reason reason, void *user)
{
    (void)msg;
    (void)user;
    atomic_fetch_add(reason == ASH_BUS_LATE ? &late : &dead, 1);
}

static struct ash_msg *make(unsigned long long n)
{
    static const char *const targets[] = {"work://items/{}", "any://items/{}", "work://none", "work://lines/{}/x"};
    static const char page[4096];
    const char *target = targets[n % 256 == 0 ? 2 : n / 4 % 2 ? n % 2 : 3];
    struct ash_msg *m = ash_msg_new(pool, target, strlen(target), page, n % 64 == 0 ? sizeof page : 64);
    if (m == NULL)
        abort();
    return m;
}

static void ask(void)
{
    struct ash_msg *answer, *m = ash_msg_new(pool, "ask://it", 8, NULL, 64);
    int status = ash_bus_request(bus, m, MS / 2, &answer);
    if (status == 0 || status == -ETIMEDOUT)
        atomic_fetch_add(&taken, 1);
    else
        ash_msg_free(m);
    ash_msg_free(answer);
}

/* A bus that lives for a few messages. */
static void other_bus(void)
{
    struct ash_bus *other = ash_bus_create(ASH_BUS_CONFIG(.name = "other", .workers = 1));
    ash_bus_on(other, "work://items/{x}", work, NULL);
    struct ash_msg *m[BATCH];
    for (unsigned i = 0; i < BATCH; i++)
        m[i] = ash_msg_new(pool, "work://items/1", 14, NULL, 64);
    unsigned k = ash_bus_send_batch(other, m, BATCH);
    atomic_fetch_add(&taken, k);
    if (k != BATCH || ash_bus_destroy(other) != 0)
        abort();
}

static void *sender(void *arg)
{
    struct ash_msg *m[BATCH];
    unsigned long long n = 0;
    while (!over) {
        unsigned k = 1 + n % BATCH, sent;
        for (unsigned i = 0; i < k; i++)
            m[i] = make(n++);
        if (k == 1)
            sent = ash_bus_send_wait(bus, m[0], MS) == 0;
        else
            sent = n % 2 ? ash_bus_send_batch(bus, m, k) : ash_bus_send_grouped(bus, m, k);
        atomic_fetch_add_explicit(&taken, sent, memory_order_relaxed);
        if (sent < k)
            sched_yield();
        while (sent < k)
            ash_msg_free(m[sent++]);
        if (n % 512 < BATCH)
            ask();
        if (n % RARE < BATCH && arg == NULL) {
            struct ash_msg *last = ash_msg_new(pool, "any://end", 9, NULL, 0);
            if (ash_bus_send_wait(bus, last, -1) != 0)
                abort();
            atomic_fetch_add(&taken, 1);
            other_bus();
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread[SENDERS];
    struct ash_bus_stats s;
    pool = ash_msgpool_create("messages", NULL);
    bus = ash_bus_create(ASH_BUS_CONFIG(.name = "soak", .workers = 2, .capacity = 512, .dead = note_dead));
    ash_bus_subsystem(bus, "any", ASH_BUS_SUBSYSTEM_CONFIG(.flags = ASH_BUS_UNORDERED));
    ash_bus_on(bus, "work://items/{x}", work, NULL);
    ash_bus_on(bus, "work://lines/{x}/{*rest}", work, NULL);
    ash_bus_on(bus, "any://items/{x}", work, NULL);
    ash_bus_on(bus, "any://end", end_thread, NULL);
    ash_bus_on(bus, "ask://it", reply, NULL);
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_create(&thread[i], NULL, sender, i == 0 ? NULL : &thread[i]);
    printf("begun\n");
    fflush(stdout);
    struct timespec left = {.tv_sec = argc > 1 ? atoi(argv[1]) : 60};
    while (nanosleep(&left, &left) != 0) /* statistics are written when a signal comes */
        ;
    over = 1;
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_join(thread[i], NULL);
    int drained = ash_bus_drain(bus, -1);
    ash_bus_stats(bus, &s);
    int exact = s.sent == s.delivered + s.dead && s.pending == 0 && taken == handled + dead && s.dead == dead &&
                s.late == late;
    printf("messages=%llu dead=%llu late=%llu threads ended=%llu exact=%d\n", (unsigned long long)taken,
           (unsigned long long)dead, (unsigned long long)late, (unsigned long long)s.lost, exact);
    return drained != 0 || !exact || s.lost == 0 || ash_bus_destroy(bus) != 0 || ash_msgpool_destroy(pool) != 0;
}
