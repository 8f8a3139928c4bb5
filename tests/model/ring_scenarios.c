/*
 * Scenarios of rings. An item is the address of a word that its producer has written; who pops it writes to it, so an
 * item that is seen too early, or given to two, is a data race. At the end what was pushed must have been popped, or be
 * in the ring, once, and what one producer pushed in its order.
 */
#include "scenario.h"

#include "os/os_lock.h"
#include "pool/ring.h"

#include <errno.h>

enum { ITEMS = 4, CELLS = 4 };

static struct ash_ring ring;
static _Alignas(64) struct ring_cell cells[CELLS];
static unsigned data[THREADS][ITEMS];       /* of each producer */
static unsigned pushed[THREADS];            /* how many */
static unsigned *popped[THREADS][2 * ITEMS]; /* by each consumer, in that order */
static unsigned popped_count[THREADS];
static int waited[THREADS];

static void make(enum ash_ring_kind kind, unsigned shift)
{
    scenario_boot();
    ring_init(&ring, shift, kind, cells);
    model_name(&ring.tail, "tail");
    model_name(&ring.head, "head");
    model_name(&ring.event, "event");
    model_name(&ring.waiters, "waiters");
    static const char *const turns[CELLS] = {"turn 0", "turn 1", "turn 2", "turn 3"};
    for (unsigned i = 0; kind != ASH_SPSC && i < CELLS; i++)
        model_name(&cells[i].turn, turns[i]);
}

static unsigned push(unsigned n)
{
    int self = model_self();
    void *items[ITEMS];
    for (unsigned i = 0; i < n; i++) {
        data[self][pushed[self] + i] = 1;
        items[i] = &data[self][pushed[self] + i];
    }
    unsigned taken = ring_push(&ring, items, n);
    model_require(taken <= n, "more was taken than there was");
    pushed[self] += taken;
    return taken;
}

static unsigned pop(unsigned n)
{
    int self = model_self();
    void *items[ITEMS];
    unsigned got = ring_pop(&ring, items, n);
    model_require(got <= n, "more was popped than there was room for");
    for (unsigned i = 0; i < got; i++) {
        unsigned *item = items[i];
        model_require(++*item == 2, "an item was popped that is not whole");
        popped[self][popped_count[self]++] = item;
    }
    return got;
}

/* ---- threads ---- */

static void push_1(void)
{
    push(1);
}

static void push_1_1(void)
{
    push(1);
    push(1);
}

static void push_2(void)
{
    push(2);
}

static void push_2_1(void)
{
    push(2);
    push(1);
}

static void pop_1(void)
{
    pop(1);
}

static void pop_1_1(void)
{
    pop(1);
    pop(1);
}

static void pop_2(void)
{
    pop(2);
}

static void pop_2_2(void)
{
    pop(2);
    pop(2);
}

/* Sleeps until there is something; others may be faster. */
static void wait_pop_1(void)
{
    do
        waited[model_self()] = ring_wait(&ring, -1);
    while (waited[model_self()] == 0 && pop(1) == 0);
}

/* Sleeps until there is something, and leaves it. */
static void wait_only(void)
{
    waited[model_self()] = ring_wait_slow(&ring, -1);
}

static void push_wait(void)
{
    push(1);
    wait_only();
}

static void close_wait(void)
{
    ring_close(&ring);
    wait_only();
}

static void wait_pop_1_1(void)
{
    wait_pop_1();
    wait_pop_1();
}

/* As a worker does it: until the ring is closed and empty. */
static void wait_pop_all(void)
{
    while ((waited[model_self()] = ring_wait(&ring, -1)) == 0)
        pop(1);
}

static void close_ring(void)
{
    ring_close(&ring);
}

/* ---- what must hold ---- */

static unsigned count(void)
{
    unsigned n = 0;
    for (int t = 0; t < THREADS; t++)
        n += popped_count[t];
    return n;
}

static void check(void)
{
    unsigned before = count(), all = 0, more = 0;
    uint64_t inside = (load_relaxed(&ring.tail) & ~RING_CLOSED) - load_relaxed(&ring.head);
    void *item;
    while (ring_pop(&ring, &item, 1) != 0) {
        model_require(++*(unsigned *)item == 2, "an item is in the ring that is not whole");
        more++;
    }
    for (int t = 0; t < THREADS; t++)
        all += pushed[t];
    model_require(more == inside && before + more == all, "%u pushed, %u popped, %u left where %u should be", all,
                  before, more, (unsigned)inside);
    bool closed = (load_relaxed(&ring.tail) & RING_CLOSED) != 0;
    for (uint64_t i = 0; i <= ring.mask; i++) /* no cell was lost */
        model_require(ring_push(&ring, &item, 1) == !closed, "an empty ring has less room than it had");
    for (int t = 0; t < THREADS; t++) /* each consumer sees a producer's items in order */
        for (unsigned i = 0; i < popped_count[t]; i++)
            for (unsigned k = 0; k < i; k++)
                for (int p = 0; p < THREADS; p++)
                    model_require(!(popped[t][i] >= data[p] && popped[t][i] < data[p] + ITEMS) ||
                                      !(popped[t][k] >= data[p] && popped[t][k] < data[p] + ITEMS) ||
                                      popped[t][k] < popped[t][i],
                                  "items of one producer came out in another order");
    model_require(load_relaxed(&ring.waiters) == 0, "a waiter is counted that is not there");
}

/* All that was pushed has found a waiter. */
static void check_all_popped(void)
{
    unsigned all = 0;
    for (int t = 0; t < THREADS; t++)
        all += pushed[t];
    model_require(count() == all, "%u pushed, %u popped by those who waited", all, count());
    check();
}

static void check_canceled(void)
{
    check_all_popped();
    for (int t = 0; t < THREADS; t++)
        model_require(waited[t] == 0 || waited[t] == -ECANCELED, "a wait ended for another reason");
}

/* ---- the lock of os/os_lock.h, whose threads sleep in the same way ---- */

static struct os_lock lock;
static unsigned guarded;

static void lock_once(void)
{
    os_lock(&lock);
    guarded++;
    os_unlock(&lock);
}

static void lock_twice(void)
{
    lock_once();
    lock_once();
}

static void lock_free(void)
{
    model_name(&lock.word, "lock");
}

static void lock_check(void)
{
    model_require(guarded == 3 && load_relaxed(&lock.word) == LOCK_FREE, "%u times, and %s", guarded,
                  load_relaxed(&lock.word) == LOCK_FREE ? "free" : "not free");
}

/* ---- rings at the beginning ---- */

static void spsc_2(void)
{
    make(ASH_SPSC, 1);
}

static void mpsc_2(void)
{
    make(ASH_MPSC, 1);
}

static void mpmc_1(void)
{
    make(ASH_MPMC, 0);
}

static void mpmc_2(void)
{
    make(ASH_MPMC, 1);
}

static void mpmc_4(void)
{
    make(ASH_MPMC, 2);
}

/* The ring was gone through once, and has one item. */
static void mpmc_2_used(void)
{
    static unsigned old[3];
    make(ASH_MPMC, 1);
    for (unsigned i = 0; i < 3; i++) {
        void *item = &old[i];
        model_require(ring_push(&ring, &item, 1) == 1, "the ring is full");
        if (i < 2)
            model_require(ring_pop(&ring, &item, 1) == 1, "the ring is empty");
    }
    old[2] = 1;
    pushed[THREADS - 1] = 1; /* it is in the ring */
}

const struct scenario ring_scenarios[] = {
    {.name = "ring-spsc",
     .invariant = "one pushes three items through a ring of two while another pops: in order, whole, none lost",
     .setup = spsc_2,
     .thread = {push_2_1, pop_2_2},
     .check = check},
    {.name = "ring-spsc-wait",
     .invariant = "a consumer sleeps on an empty ring: it is told of each item",
     .setup = spsc_2,
     .thread = {push_1_1, wait_pop_1_1},
     .check = check_all_popped},
    {.name = "ring-spsc-close",
     .invariant = "a ring is closed while one pushes: what was taken in is popped before the consumer is told",
     .setup = spsc_2,
     .thread = {push_1, wait_pop_all, close_ring},
     .check = check_canceled},
    {.name = "ring-push-push",
     .invariant = "two producers, one with a batch, and a consumer: batches stand together, nothing is lost",
     .setup = mpmc_4,
     .thread = {push_2, push_1, pop_2},
     .check = check,
     .spurious = 1},
    {.name = "ring-pop-pop",
     .invariant = "two consumers and a producer of a ring that was used before: no item for two, no cell lost",
     .setup = mpmc_2_used,
     .thread = {push_2, pop_1, pop_2},
     .check = check,
     .spurious = 1},
    {.name = "ring-pop-batch",
     .invariant = "two consumers take a batch apart: each item is whole",
     .setup = mpmc_2,
     .thread = {push_2, pop_1, pop_1},
     .check = check},
    {.name = "ring-round",
     .invariant = "a ring of one, gone through twice by a producer and a consumer",
     .setup = mpmc_1,
     .thread = {push_1_1, pop_1_1, pop_1},
     .check = check},
    {.name = "ring-full",
     .invariant = "two producers fill a ring of one while it is emptied: what is refused is not in it",
     .setup = mpmc_1,
     .thread = {push_1_1, push_1, pop_1_1},
     .check = check},
    {.name = "ring-mpsc",
     .invariant = "two producers and the one consumer, which moves on without a compare-and-swap",
     .setup = mpsc_2,
     .thread = {push_1_1, push_1, pop_2_2},
     .check = check},
    {.name = "ring-mpsc-wait",
     .invariant = "the one consumer sleeps while two push",
     .setup = mpsc_2,
     .thread = {push_1, push_1, wait_pop_1_1},
     .check = check_all_popped,
     .full_only = true},
    {.name = "ring-wait-batch",
     .invariant = "two consumers sleep while two items are pushed: both are woken",
     .setup = mpmc_2,
     .thread = {push_2, wait_only, wait_only},
     .check = check},
    {.name = "ring-wait-middle",
     .invariant = "a consumer sleeps where another has taken the first item of a batch",
     .setup = mpmc_2,
     .thread = {push_2, pop_1, wait_only},
     .check = check},
    {.name = "ring-wait-two",
     .invariant = "one consumer sleeps while two producers push at once",
     .setup = mpmc_2,
     .thread = {push_1, push_1, wait_pop_1},
     .check = check,
     .full_only = true},
    {.name = "ring-wait-pop",
     .invariant = "a consumer sleeps twice while two items are pushed",
     .setup = mpmc_2,
     .thread = {push_1_1, wait_pop_1_1},
     .check = check_all_popped},
    {.name = "ring-close",
     .invariant = "two consumers sleep until the ring is closed: both are told",
     .setup = mpmc_2,
     .thread = {close_ring, wait_pop_all, wait_pop_all},
     .check = check_canceled},
    {.name = "ring-close-push",
     .invariant = "a ring is closed while another pushes: the worker gets what was taken in, and is told",
     .setup = mpmc_2,
     .thread = {close_ring, push_1, wait_pop_all},
     .check = check_canceled,
     .full_only = true},
    {.name = "lock-3",
     .invariant = "the same with three that want it once",
     .setup = lock_free,
     .thread = {lock_once, lock_once, lock_once},
     .check = lock_check,
     .full_only = true},
    {.name = "lock",
     .invariant = "two threads want a lock of one word, one of them twice: one has it at a time, each gets it",
     .setup = lock_free,
     .thread = {lock_once, lock_twice},
     .check = lock_check},
    {.name = "ring-close-last",
     .invariant = "a ring is closed in the middle of the last push, and two sleep: both are told",
     .setup = mpmc_2,
     .thread = {push_1, close_wait, wait_only},
     .check = check,
     .full_only = true},
    {.name = "ring-wait-pass",
     .invariant = "one that was woken for its item wakes the next for one that was pushed earlier, behind it",
     .setup = mpmc_2,
     .thread = {push_1, push_wait, wait_only},
     .check = check,
     .full_only = true},
    {.name = NULL},
};
