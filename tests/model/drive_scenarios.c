/*
 * Scenarios of who drives a manager of transactions (txn/drive): each thread hands in what it wants, and waits until it,
 * or another for it, has done that. What is wanted is a plain word that its driver writes to.
 */
#include "scenario.h"

#include "pool/ring.h"
#include "txn/drive.h"

#include <string.h>

static struct drive drive;
static struct ash_ring ring;
static struct ring_cell cells[4];
static unsigned data[THREADS];             /* plain: 1 when it is wanted, 2 when it is done */
static unsigned done_count;                 /* the driver's */
static _Atomic(uint32_t) finished[THREADS]; /* atomic: publishes what the driver has written */

static void setup_drive(void)
{
    drive = (struct drive){.driving = 0};
    memset(cells, 0, sizeof cells);
    ring_init(&ring, 2, ASH_MPSC, cells);
    model_name(&drive.driving, "driving");
    model_name(&drive.sleepers, "sleepers");
    model_name(&drive.event, "drive.event");
    model_name(&ring.tail, "tail");
    model_name(&ring.head, "head");
    done_count = 0;
    for (int k = 0; k < THREADS; k++) {
        data[k] = 0;
        store_relaxed(&finished[k], 0);
    }
}

/* Does all there is; how many that were. */
static unsigned do_all(void)
{
    void *word;
    unsigned n = 0;
    for (; ring_pop(&ring, &word, 1) != 0; n++) {
        model_require(++*(unsigned *)word == 2, "taken before it was written, or twice");
        done_count++;
        store_release(&finished[(unsigned *)word - data], 1);
    }
    return n;
}

static void want(unsigned self)
{
    void *word = &data[self];
    data[self] = 1;
    model_require(ring_push(&ring, &word, 1) == 1, "no room");
}

/* As wait_for of txn/txnmgr.c. */
static void wait_for_it(void)
{
    unsigned self = (unsigned)model_self();
    while (load_relaxed(&finished[self]) == 0) {
        if (drive_enter(&drive)) {
            while (load_relaxed(&finished[self]) == 0)
                if (do_all() == 0)
                    ring_wait(&ring, -1);
            drive_leave(&drive);
        } else {
            uint32_t event = drive_watch(&drive);
            drive_sleep(&drive, event, load_relaxed(&finished[self]) != 0, -1);
        }
    }
    model_require(load_acquire(&finished[self]) == 1 && data[self] == 2, "done, and not seen");
}

static void want_and_wait(void)
{
    want((unsigned)model_self());
    wait_for_it();
}

/* Drives once, whatever there is. */
static void drive_once(void)
{
    if (drive_enter(&drive)) {
        do_all();
        drive_leave(&drive);
    }
}

static void setup_wanted(void)
{
    setup_drive();
    want(0);
    want(1);
}

static void check_drive(void)
{
    unsigned wanted = 0;
    for (int k = 0; k < THREADS; k++)
        wanted += load_relaxed(&finished[k]);
    model_require(done_count == wanted, "%u were done, %u times", wanted, done_count);
    model_require(load_relaxed(&drive.driving) == 0 && load_relaxed(&drive.sleepers) == 0, "somebody is left");
}

const struct scenario drive_scenarios[] = {
    {.name = "drive",
     .invariant = "two want something and wait: one drives, and who sleeps is woken",
     .setup = setup_drive,
     .thread = {want_and_wait, want_and_wait},
     .check = check_drive},
    {.name = "drive-three",
     .invariant = "two wait for what they have handed in while a third drives",
     .setup = setup_wanted,
     .thread = {wait_for_it, wait_for_it, drive_once},
     .check = check_drive,
     .full_only = true},
    {.name = "drive-pass",
     .invariant = "one drives while another wants something and waits",
     .setup = setup_drive,
     .thread = {want_and_wait, drive_once},
     .check = check_drive},
    {.name = NULL},
};
