/*
 * Scenarios of the lanes of a bus (msg/lane), with workers as those of msg/buswork that end when they have had what
 * they are to. Whoever has claimed the lane writes to a plain word, so two at a time, or one who has not seen what the other
 * did, are a data race; a wake-up that is lost leaves a thread asleep for ever.
 */
#include "scenario.h"

#include "msg/lane.h"
#include "pool/ring.h"
#include "os/park.h"

enum { CELLS = 2, ITEMS = 4 };

static struct ash_ring ring;
static _Alignas(64) struct ring_cell cells[CELLS];
static struct lane lane;
static struct parking parking;
static struct park_slot slots[THREADS];
static unsigned data[ITEMS];   /* plain: written by who pushes, then by who handles */
static unsigned claims;        /* plain: written by who has claimed the lane */
static unsigned next_number;   /* plain: likewise; the item that comes next */
static bool refused[THREADS];
static _Atomic(uint32_t) level; /* atomic: how often the program was told high, less low */

static void make(bool ordered)
{
    scenario_boot();
    ring_init(&ring, 1, ordered ? ASH_MPSC : ASH_MPMC, cells);
    lane.ring = &ring;
    lane.ordered = ordered;
    park_init(&parking, THREADS, slots);
    model_name(&ring.tail, "tail");
    model_name(&ring.head, "head");
    model_name(&cells[0].turn, "turn 0");
    model_name(&cells[1].turn, "turn 1");
    model_name(&lane.claimed, "claimed");
    model_name(&lane.senders, "senders");
    model_name(&lane.room, "room");
    model_name(&lane.marked, "marked");
    model_name(&parking.searching, "searching");
    model_name(&parking.idle[0], "idle");
}

static void *item_of(unsigned i)
{
    data[i] = 1;
    return &data[i];
}

static bool push(unsigned i)
{
    void *item = item_of(i);
    return ring_push(&ring, &item, 1) != 0;
}

/* Pops and handles one if there is any; the lane is claimed. */
static bool handle(void)
{
    void *item;
    claims++;
    if (lane_pop(&lane, &item, 1) == 0)
        return false;
    unsigned *word = item;
    model_require(++*word == 2, "an item was popped that is not whole");
    model_require(word == &data[next_number], "an item has overtaken another");
    next_number++;
    return true;
}

static void give(void)
{
    if (lane_release(&lane))
        park_tell(&parking);
}

/* ---- threads ---- */

static void send_0(void)
{
    model_require(push(0), "no room");
    park_tell(&parking);
}

static void send_1(void)
{
    model_require(push(1), "no room");
    park_tell(&parking);
}

/* It has claimed the lane, handles what was there, and is busy elsewhere from then on. */
static void handle_give(void)
{
    model_require(handle(), "nothing is there");
    give();
}

/* It has claimed the lane and finds nothing to handle, so another comes in vain until it gives it back. */
static void only_give(void)
{
    claims++;
    give();
}

/* As worker_search of msg/buswork.c, which is counted as searching: one item, however long it takes. */
static void search_1(void)
{
    unsigned self = (unsigned)model_self();
    bool done = false;
    for (;;) {
        if (lane_open(&lane) && lane_claim(&lane)) {
            done = handle();
            if (done)
                break;
            give();
        }
        park_enter(&parking, self);
        if (lane_open(&lane))
            park_leave(&parking, self);
        else
            park_sleep(&parking, self);
    }
    if (park_found_last(&parking) && lane_open(&lane))
        park_wake(&parking);
    give();
}

static void wake_search_1(void)
{
    park_sleep(&parking, 2);
    search_1();
}

static void work_1(void)
{
    add_relaxed(&parking.searching, 1);
    search_1();
}

/* Handles what it can have without waiting. */
static void claim_1(void)
{
    if (lane_claim(&lane)) {
        handle();
        lane_release(&lane);
    }
}

static void push_wait_2(void)
{
    refused[model_self()] = !lane_push_wait(&lane, item_of(2), -1);
}

static void push_wait_3(void)
{
    refused[model_self()] = !lane_push_wait(&lane, item_of(3), -1);
}

static void pop_1(void)
{
    void *item;
    model_require(lane_pop(&lane, &item, 1) == 1, "nothing is there");
}

static void pop_2(void)
{
    void *items[2];
    model_require(lane_pop(&lane, items, 2) == 2, "nothing is there");
}

static void close_lane(void)
{
    lane_close(&lane);
}

static void told(enum lane_event event)
{
    for (; event != LANE_NONE; event = lane_cross(&lane))
        add_relaxed(&level, event == LANE_HIGH ? 1 : -1);
}

static void push_0_1_told(void)
{
    push(0);
    told(lane_cross(&lane));
    push(1);
    told(lane_cross(&lane));
}

static void pop_told(void)
{
    void *items[2];
    for (unsigned i = 0; i < 2; i++)
        if (lane_pop(&lane, items, 2) != 0)
            told(lane_cross(&lane));
}

static void push_1_told(void)
{
    push(1);
    told(lane_cross(&lane));
}

static void push_0_told(void)
{
    push(0);
    told(lane_cross(&lane));
}

/* ---- the beginning ---- */

static void empty(void)
{
    make(true);
}

/* Two workers search when two items come, whose sender wakes nobody therefore. */
static void searched(void)
{
    make(true);
    store_relaxed(&parking.searching, 2);
    send_0();
    send_1();
}

/* One does when one comes; the other sleeps already. */
static void searched_asleep(void)
{
    make(true);
    store_relaxed(&parking.searching, 2);
    park_enter(&parking, 2);
    send_0();
}

static void claimed(void)
{
    make(true);
    model_require(lane_claim(&lane), "it cannot be claimed");
}

static void claimed_one(void)
{
    claimed();
    push(0);
}

static void ordered_full(void)
{
    make(true);
    push(0);
    push(1);
}

static void full(void)
{
    make(false);
    push(0);
    push(1);
}

static void marked_at_2(void)
{
    make(false);
    lane.high = 2;
    lane.low = 0;
}

static void marked_at_1(void)
{
    marked_at_2();
    lane.high = 1;
    push(0);
    told(lane_cross(&lane));
}

/* ---- the end ---- */

static void check_claims(void)
{
    model_require(load_relaxed(&lane.claimed) == 0, "the lane is claimed still");
    model_require(next_number == claims && claims != 0, "%u items, %u claims", next_number, claims);
}

static void check_free(void)
{
    model_require(load_relaxed(&lane.claimed) == 0, "the lane is claimed still");
    model_require(load_relaxed(&parking.searching) == 0, "somebody is said to be searching");
    model_require(!ring_ready(&ring), "an item was left");
}

static void check_one(void)
{
    check_free();
    model_require(next_number == 1, "%u were handled", next_number);
}

static void check_two(void)
{
    check_free();
    model_require(next_number == 2, "%u were handled", next_number);
}

static void check_pushed(void)
{
    for (int i = 0; i < THREADS; i++)
        model_require(!refused[i], "thread %d was refused", i);
    model_require(load_relaxed(&lane.senders) == 0, "a sender is counted still");
}

static void check_refused(void)
{
    model_require(refused[0] && refused[1], "a sender was not refused");
}

static void check_marked(void)
{
    unsigned count = ash_ring_count(&ring);
    if (count >= lane.high)
        model_require(load_relaxed(&lane.marked) == 1, "it is high, and nobody was told");
    if (count <= lane.low)
        model_require(load_relaxed(&lane.marked) == 0, "it is low, and nobody was told");
    model_require(load_relaxed(&level) == load_relaxed(&lane.marked), "the program was told twice");
}

const struct scenario lane_scenarios[] = {
    {.name = "lane-sleep",
     .invariant = "one pushes while a worker looks for items and sleeps",
     .setup = empty,
     .thread = {send_0, work_1},
     .check = check_one},
    {.name = "lane-claim",
     .invariant = "two workers claim a lane: one at a time has it",
     .setup = ordered_full,
     .thread = {claim_1, claim_1},
     .check = check_claims},
    {.name = "lane-give",
     .invariant = "one pushes to a claimed lane, and its claimer goes elsewhere: another worker is woken",
     .setup = claimed,
     .thread = {send_0, only_give, work_1},
     .check = check_one},
    {.name = "lane-give-one",
     .invariant = "the same when the claimer handles an item first: the next one has what it left behind",
     .setup = claimed_one,
     .thread = {send_1, handle_give, work_1},
     .check = check_two,
     .full_only = true},
    {.name = "lane-two",
     .invariant = "two workers have an item to find each: they have them in order, whoever sleeps meanwhile",
     .setup = searched,
     .thread = {search_1, search_1},
     .check = check_two},
    {.name = "lane-two-asleep",
     .invariant = "one worker sleeps and one has an item to find while another comes: each has one, in order",
     .setup = searched_asleep,
     .thread = {send_1, search_1, wake_search_1},
     .check = check_two,
     .full_only = true},
    {.name = "lane-room",
     .invariant = "a sender waits for room while one item is popped",
     .setup = full,
     .thread = {push_wait_2, pop_1},
     .check = check_pushed},
    {.name = "lane-room-two",
     .invariant = "two senders wait for room while two items are popped at once",
     .setup = full,
     .thread = {push_wait_2, push_wait_3, pop_2},
     .check = check_pushed},
    {.name = "lane-room-each",
     .invariant = "a sender waits for room while two items are popped by two workers",
     .setup = full,
     .thread = {push_wait_2, pop_1, pop_1},
     .check = check_pushed},
    {.name = "lane-close",
     .invariant = "two senders wait for room in a lane that is closed: both are told",
     .setup = full,
     .thread = {push_wait_2, push_wait_3, close_lane},
     .check = check_refused},
    {.name = "lane-marks",
     .invariant = "a lane fills while it is emptied: in the end its mark is as it should be",
     .setup = marked_at_2,
     .thread = {push_0_1_told, pop_told},
     .check = check_marked},
    {.name = "lane-marks-two",
     .invariant = "two senders fill a lane at the same time: the program is told once",
     .setup = marked_at_2,
     .thread = {push_0_told, push_1_told},
     .check = check_marked},
    {.name = "lane-marks-high",
     .invariant = "a lane that is high is emptied while it is filled again",
     .setup = marked_at_1,
     .thread = {push_1_told, pop_told},
     .check = check_marked},
    {.name = NULL},
};
