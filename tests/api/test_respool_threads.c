/*
 * Pools of resources (ashlar/respool.h) between threads: who waits and who is served, closing, load, fork.
 */
#include "api/server.h"

#include "ashlar/stats.h"

/* ---- waiting ---- */

struct waiter {
    struct ash_respool *pool;
    pthread_t thread;
    struct connection *got;
    int status;
    unsigned order; /* which of all waiters it was that was served */
};

static _Atomic(unsigned) served;

static void *wait_for_one(void *arg)
{
    struct waiter *w = arg;
    void *res = NULL;
    w->status = ash_respool_acquire(w->pool, &res, 60 * s);
    w->order = served++;
    w->got = res;
    return NULL;
}

/* Starts waiters one behind the other: each stands in the queue before the next comes. */
static void queue_up(struct ash_respool *pool, struct waiter *w, unsigned n)
{
    uint64_t before = stats(pool).waiting;
    served = 0;
    for (unsigned i = 0; i < n; i++) {
        w[i] = (struct waiter){.pool = pool};
        pthread_create(&w[i].thread, NULL, wait_for_one, &w[i]);
        while (stats(pool).waiting < before + i + 1)
            sched_yield();
    }
}

static void join(struct waiter *w)
{
    pthread_join(w->thread, NULL);
}

static void test_queue(void)
{
    enum { WAITERS = 5 };
    struct waiter w[WAITERS];
    struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .hard_max = 1));
    struct connection *c = get(pool);
    queue_up(pool, w, WAITERS);
    is_int(ash_respool_destroy(pool), -EBUSY, "not while somebody waits");
    int wrong = 0;
    for (unsigned i = 0; i < WAITERS; i++) {
        ash_respool_release(pool, c);
        wrong += get(pool) != NULL; /* it went to who waits, not to who comes */
        join(&w[i]);
        wrong += w[i].status != 0 || w[i].got != c || w[i].order != i;
    }
    is_int(wrong, 0, "first come, first served, and nobody overtakes");
    queue_up(pool, w, 2);
    ash_respool_invalidate(pool, c);
    join(&w[0]);
    ok(w[0].status == 0 && w[0].got != NULL && server.opens == 2 && server.most == 1,
       "one that broke is replaced for who waits, closed first");
    server.refuses = ECONNRESET;
    ash_respool_invalidate(pool, w[0].got);
    join(&w[1]);
    is_int(w[1].status, -ECONNRESET, "an open that fails is told to who waited for it");
    queue_up(pool, w, 0);
    server.refuses = 0;
    c = get(pool);
    server.refuses = ECONNRESET;
    queue_up(pool, w, 3);
    ash_respool_invalidate(pool, c);
    for (int i = 0; i < 3; i++)
        join(&w[i]);
    ok(w[0].status == -ECONNRESET && w[1].status == -ECONNRESET && w[2].status == -ECONNRESET,
       "and the next one tries");
    is_int((long)stats(pool).open, 0, "nothing is open");
    end(pool, "queue");
}

/* Waiters whose time is over leave the queue, wherever they stand in it. */
static void test_queue_timeouts(void)
{
    struct waiter w[2];
    struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .hard_max = 1));
    struct connection *c = get(pool);
    is_int(get_status(pool, 10 * ms), -ETIMEDOUT, "alone in the queue");
    queue_up(pool, w, 1);
    is_int(get_status(pool, 10 * ms), -ETIMEDOUT, "last in the queue");
    queue_up(pool, w + 1, 1);
    is_int((long)stats(pool).waiting, 2, "the others still wait");
    ash_respool_release(pool, c);
    join(&w[0]);
    ash_respool_release(pool, w[0].got);
    join(&w[1]);
    ok(w[0].got == c && w[1].got == c, "and are served");
    ash_respool_release(pool, c);
    end(pool, "timeouts");
}

static void test_close(void)
{
    enum { WAITERS = 3 };
    struct waiter w[WAITERS];
    struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .hard_max = 2, .min = 1));
    struct connection *a = get(pool), *b = get(pool);
    queue_up(pool, w, WAITERS);
    ash_respool_close(pool);
    int wrong = 0;
    for (int i = 0; i < WAITERS; i++) {
        join(&w[i]);
        wrong += w[i].status != -ECANCELED;
    }
    is_int(wrong, 0, "closed: who waits is told");
    is_int(get_status(pool, -1), -ECANCELED, "who comes, too");
    is_int(ash_respool_destroy(pool), -EBUSY, "two are in use");
    ash_respool_release(pool, a);
    is_int(server.closes, 1, "they are closed when they come back");
    ash_respool_invalidate(pool, b);
    is_int(ash_respool_maintain(pool, -1), 0, "and not replaced");
    is_int((long)stats(pool).open, 0, "none is open");
    ash_respool_close(pool);
    end(pool, "close");

    pool = make(ASH_RESPOOL_CONFIG(SERVER, .min = 3));
    ash_respool_close(pool);
    is_int(server.closes, 3, "idle ones are closed at once");
    end(pool, "close idle");
}

/* ---- many threads ---- */

struct load {
    struct ash_respool *pool;
    unsigned seed;
    _Atomic(int) rounds;
    int failed, shared, got;
};

static void *use(void *arg)
{
    struct load *l = arg;
    for (int i = 0; i < l->rounds; i++) {
        void *res;
        l->seed = l->seed * 1664525 + 1013904223;
        int status = ash_respool_acquire(l->pool, &res, (l->seed >> 8) % 4 == 0 ? (int)(l->seed >> 12) % 200000 : -1);
        if (status != 0) {
            l->failed += status != -ETIMEDOUT && status != -ECONNRESET;
            continue;
        }
        struct connection *c = res;
        l->got++;
        l->shared += c->users++ != 0 || !c->is_open;
        if ((l->seed >> 10) % 8 == 0)
            sched_yield();
        c->uses++;
        c->is_broken = (l->seed >> 16) % 50 == 0;
        l->shared += --c->users != 0;
        if ((l->seed >> 20) % 32 == 0)
            l->failed += ash_respool_invalidate(l->pool, c) != 0;
        else
            l->failed += ash_respool_release(l->pool, c) != 0;
        if ((l->seed >> 9) % 256 == 0)
            ash_respool_maintain(l->pool, -1);
    }
    return NULL;
}

static void test_load(unsigned threads, unsigned hard_max, enum ash_respool_order order)
{
    enum { MAX = 8, rounds = 3000 };
    struct load l[MAX];
    pthread_t t[MAX];
    struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .min = 1, .soft_max = (hard_max + 1) / 2,
                                                       .hard_max = hard_max,
                                                       .max_uses = 100, .order = order, .check = server_check,
                                                       .check_ns = ms, .ttl_ns = 50 * ms));
    for (unsigned i = 0; i < threads; i++) {
        l[i] = (struct load){.pool = pool, .seed = i + 1, .rounds = rounds};
        pthread_create(&t[i], NULL, use, &l[i]);
    }
    for (int i = 0; i < 20; i++) { /* the server goes away and comes back */
        usleep(1000);
        server.refuses = i % 2 == 0 ? ECONNRESET : 0;
    }
    server.refuses = 0;
    unsigned failed = 0, shared = 0;
    uint64_t got = 0;
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(t[i], NULL);
        failed += (unsigned)l[i].failed;
        shared += (unsigned)l[i].shared;
        got += (uint64_t)l[i].got;
    }
    struct ash_respool_stats st = stats(pool);
    ok(failed == 0 && shared == 0, "%u threads, %u connections: %u calls failed, %u shared", threads, hard_max, failed,
       shared);
    ok(server.most <= (int)hard_max, "never more than hard_max were open: %d", server.most);
    ok(st.in_use == 0 && st.waiting == 0 && st.open == st.idle && (int)st.open == server.open &&
           (int)st.opened == server.opens && (int)st.closed == server.closes && st.hits + st.misses >= got,
       "the figures agree with the server's");
    end(pool, "load");
}

/* A child's statistics work, whoever held the lock when it was forked. */
static void test_fork(void)
{
    enum { rounds = 1 << 30 };
    struct load l[2];
    pthread_t t[2];
    struct ash_respool *pool = make(ASH_RESPOOL_CONFIG(SERVER, .hard_max = 1));
    for (unsigned i = 0; i < 2; i++) {
        l[i] = (struct load){.pool = pool, .seed = i + 1, .rounds = rounds};
        pthread_create(&t[i], NULL, use, &l[i]);
    }
    int bad = 0;
    for (int i = 0; i < 30; i++) {
        pid_t child = fork();
        if (child == 0) {
            int ends[2];
            alarm(30);
            server.pool = NULL; /* the parent's is not to be used here */
            if (pipe(ends) != 0 || ash_stats_dump(ends[1], ASH_TEXT) != 0)
                _exit(1);
            struct ash_respool *own = ash_respool_create("child", ASH_RESPOOL_CONFIG(SERVER, .hard_max = 1));
            struct connection *c = get(own);
            _exit(c == NULL || ash_respool_release(own, c) != 0 || ash_respool_destroy(own) != 0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        bad += status != 0;
    }
    for (unsigned i = 0; i < 2; i++) {
        l[i].rounds = 0;
        pthread_join(t[i], NULL);
    }
    is_int(bad, 0, "fork under load: the child reads statistics and has pools of its own");
    end(pool, "fork");
}

int main(void)
{
    alarm(300);
    test_queue();
    test_queue_timeouts();
    test_close();
    test_load(2, 1, ASH_LIFO);
    test_load(4, 3, ASH_FIFO);
    test_load(8, 2, ASH_LIFO);
    test_fork();
    return tap_done();
}
