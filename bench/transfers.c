#include "handtxn.h"
#include "transfers.h"

#include "ashlar/txn.h"
#include "os/os_clock.h"
#include "txn/deque.h"
#include "txn/dispatch.h"

#include <stdlib.h>
#include <string.h>

enum { STRIPES = 1024, PLACES = 4096, KEYS_MOST = 16 };

struct account {
    uint64_t balance;
};

struct transfer {
    struct dispatch_txn head;
    struct transfers *all;
    struct sched_request request[2];
    uint64_t key[2];
};

struct transfers {
    struct account *account;
    unsigned accounts;
    unsigned rounds; /* of work in a body */
    struct ash_exec *exec;
    struct dispatch dispatch;
    struct ash_txnmgr *mgr;
    struct hand_mgr hand;
    pthread_mutex_t stripe[STRIPES];
    struct dispatch_txn *head[TRANSFERS];
    struct transfer transfer[TRANSFERS];
};

static uint64_t state = 88172645463325252u;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* A chain of multiplications, each of which waits for the one before. */
static ASH_NOINLINE uint64_t work(uint64_t x, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    return x;
}

/* The order shows: what moves depends on what is there. */
static void body(struct dispatch_txn *txn)
{
    struct transfer *r = (struct transfer *)(void *)txn;
    struct account *from = &r->all->account[r->key[0]], *to = &r->all->account[r->key[1]];
    uint64_t moved = work(from->balance ^ to->balance, r->all->rounds) & 1023;
    from->balance -= moved;
    to->balance += moved;
}

static unsigned rounds_of(unsigned ns)
{
    enum { MANY = 2000000 };
    static double round_ns;
    for (int i = round_ns == 0 ? 0 : 5; i < 5; i++) {
        uint64_t begin = os_clock_ns();
        state = work(state, MANY) | 1;
        double measured = (double)(os_clock_ns() - begin) / MANY;
        round_ns = round_ns == 0 || measured < round_ns ? measured : round_ns;
    }
    return (unsigned)(ns / round_ns);
}

struct transfers *transfers_create(unsigned accounts, unsigned body_ns, unsigned workers)
{
    struct transfers *t = aligned_alloc(64, (sizeof *t + 63) / 64 * 64);
    if (t == NULL)
        abort();
    memset(t, 0, sizeof *t);
    t->account = calloc(accounts, sizeof *t->account);
    t->exec = ash_exec_create(workers, NULL);
    if (t->account == NULL || t->exec == NULL ||
        dispatch_init(&t->dispatch, t->exec, (struct dispatch_calls){.body = body}) != 0)
        abort();
    t->mgr = ash_txnmgr_create(t->exec, ASH_TXNMGR_CONFIG(.keys = 2));
    if (t->mgr == NULL)
        abort();
    hand_init(&t->hand, TRANSFERS / 4);
    t->accounts = accounts;
    t->rounds = rounds_of(body_ns);
    for (unsigned i = 0; i < STRIPES; i++)
        pthread_mutex_init(&t->stripe[i], NULL);
    for (unsigned i = 0; i < TRANSFERS; i++) {
        struct transfer *r = &t->transfer[i];
        r->all = t;
        r->key[0] = draw() % accounts;
        r->key[1] = (r->key[0] + 1 + draw() % (accounts - 1)) % accounts;
        r->head = (struct dispatch_txn){.writes = r->key, .write_count = 2};
        r->head.sched.request = r->request;
        t->head[i] = &r->head;
    }
    return t;
}

void transfers_destroy(struct transfers *t)
{
    dispatch_fini(&t->dispatch);
    if (ash_txnmgr_destroy(t->mgr) != 0)
        abort();
    ash_exec_destroy(t->exec);
    free(t->account);
    free(t);
}

void transfers_loop(struct transfers *t)
{
    for (unsigned i = 0; i < TRANSFERS; i++)
        body(&t->transfer[i].head);
}

void transfers_striped(struct transfers *t, unsigned thread, unsigned threads)
{
    for (unsigned i = thread; i < TRANSFERS; i += threads) {
        struct transfer *r = &t->transfer[i];
        unsigned a = r->key[0] % STRIPES, b = r->key[1] % STRIPES;
        pthread_mutex_lock(&t->stripe[a < b ? a : b]);
        if (a != b)
            pthread_mutex_lock(&t->stripe[a < b ? b : a]);
        body(&r->head);
        if (a != b)
            pthread_mutex_unlock(&t->stripe[a < b ? b : a]);
        pthread_mutex_unlock(&t->stripe[a < b ? a : b]);
    }
}

void transfers_dispatch(struct transfers *t, int way)
{
    dispatch_force(&t->dispatch, (enum dispatch_way)way);
    if (dispatch_run(&t->dispatch, t->head, TRANSFERS, TRANSFERS, NULL) != 0)
        abort();
}

double transfers_parallel(const struct transfers *t)
{
    const uint64_t *count = t->dispatch.count;
    return 100.0 * (double)count[DISPATCH_PARALLEL] / (double)(count[0] + count[1] + 1);
}

uint64_t transfers_sum(const struct transfers *t)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < t->accounts; i++)
        sum = sum * 31 + t->account[i].balance;
    return sum;
}

/* ---- whole transactions ---- */

struct order {
    struct transfer *transfer;
    char rest[120];
};

static int order_body(struct ash_txn *txn, void *arg)
{
    (void)txn;
    body(&((struct order *)arg)->transfer->head);
    return 0;
}

static int transfer_body(struct ash_txn *txn, void *arg)
{
    (void)txn;
    body(arg);
    return 0;
}

static void transfer_submit(struct transfers *t, struct transfer *r, enum transfers_memory memory)
{
    struct ash_txn *txn = ash_txn_begin(t->mgr);
    struct order *o = memory == MEMORY_ARENA    ? ash_txn_alloc(txn, sizeof *o)
                      : memory == MEMORY_MALLOC ? t->hand.malloc(sizeof *o)
                                                : NULL;
    if (o != NULL)
        o->transfer = r;
    if (ash_txn_writes(txn, r->key, 2) != 0 ||
        ash_txn_submit(txn, o != NULL ? order_body : transfer_body,
                       o != NULL ? (void *)o : &r->head) != 0)
        abort();
}

/* Half of what may be in flight is submitted while the executor has the other half. */
void transfers_whole(struct transfers *t, enum transfers_memory memory)
{
    enum { AT_ONCE = 2048 };
    struct ash_txn *done[64];
    unsigned submitted = 0, ended = 0, n;
    while (ended < TRANSFERS) {
        for (unsigned i = 0; i < AT_ONCE && submitted < TRANSFERS && submitted - ended < 4096; i++)
            transfer_submit(t, &t->transfer[submitted++], memory);
        for (unsigned k = 0; k < AT_ONCE / 64; k++) {
            n = ash_txn_poll_batch(t->mgr, done, 64);
            for (unsigned i = 0; i < n; i++) {
                if (memory == MEMORY_MALLOC)
                    t->hand.free(ash_txn_arg(done[i]));
                ash_txn_end(done[i]);
            }
            ended += n;
        }
    }
}

/* ---- by hand ---- */

static int hand_body(struct hand_txn *txn, void *arg)
{
    (void)txn;
    body(&((struct order *)arg)->transfer->head);
    return 0;
}

static bool hand_one(struct transfers *t, struct transfer *r)
{
    struct hand_txn *txn = hand_begin(&t->hand);
    if (txn == NULL)
        return false;
    struct order *o = t->hand.malloc(sizeof *o);
    if (o == NULL)
        abort();
    o->transfer = r;
    hand_writes(&t->hand, txn, r->key, 2);
    hand_submit(&t->hand, txn, hand_body, o);
    return true;
}

void transfers_by_hand(struct transfers *t, bool queues)
{
    struct hand_txn *done[64];
    unsigned submitted = 0, ended = 0;
    t->hand.queues = queues;
    while (ended < TRANSFERS) {
        while (submitted < TRANSFERS && hand_one(t, &t->transfer[submitted]))
            submitted++;
        unsigned n = hand_poll(&t->hand, done, 64);
        ended += n;
        for (unsigned i = 0; i < n; i++) {
            t->hand.free(done[i]->arg);
            hand_end(&t->hand, done[i]);
        }
    }
}

/* ---- the deque ---- */

uint64_t tasks_push_take(unsigned n)
{
    static struct deque deque;
    struct task task = {NULL, &deque, NULL};
    uint64_t taken = 0;
    for (unsigned i = 0; i < n; i++)
        if (!deque_push(&deque, &task))
            abort();
    for (unsigned i = 0; i < n; i++)
        taken += deque_take(&deque, &task);
    return taken;
}

/* ---- places ---- */

struct places {
    struct sched sched;
    unsigned keys;
    struct sched_txn txn[PLACES];
    struct sched_request request[PLACES][KEYS_MOST];
    uint64_t key[PLACES][KEYS_MOST];
};

struct places *places_create(unsigned keys, unsigned of_keys)
{
    struct places *p = calloc(1, sizeof *p);
    if (p == NULL || keys > KEYS_MOST || sched_init(&p->sched) != 0)
        abort();
    p->keys = keys;
    for (unsigned i = 0; i < PLACES; i++) {
        p->txn[i].request = p->request[i];
        for (unsigned k = 0; k < keys; k++)
            p->key[i][k] = draw() % of_keys;
    }
    return p;
}

void places_run(struct places *p, unsigned window)
{
    struct sched_txn *ready = NULL, **last = &ready;
    for (unsigned i = 0; i < PLACES + window; i++) {
        if (i < PLACES) {
            if (!sched_reserve(&p->sched, p->keys))
                abort();
            sched_add(&p->sched, &p->txn[i], p->key[i], p->keys, NULL, 0);
        }
        if (i >= window) /* in serial order, so it is ready */
            sched_release(&p->sched, &p->txn[i - window], &last);
    }
}

void places_destroy(struct places *p)
{
    sched_fini(&p->sched);
    free(p);
}
