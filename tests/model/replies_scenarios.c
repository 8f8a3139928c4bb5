/*
 * Scenarios of requests that wait for their replies (msg/replies). The record is gone when its owner goes on: it writes
 * to it then, so an answer that still touches it is a data race.
 */
#include "scenario.h"

#include "msg/replies.h"

enum { ID = 7 };

static struct replies table;
static struct request request, other;
static unsigned reply[THREADS]; /* plain: written by who answers, then by who has asked */
static bool taken[THREADS];     /* whether the thread's answer was wanted */
static bool answered;           /* the owner has had one */

static struct ash_msg *reply_of(int thread)
{
    return (struct ash_msg *)(void *)&reply[thread];
}

/* ---- threads ---- */

static void answer(void)
{
    int self = model_self();
    reply[self] = 1;
    taken[self] = replies_answer(&table, ID, reply_of(self));
    if (!taken[self])
        reply[self] = 2; /* it is the answerer's still */
}

static void answer_never(void)
{
    taken[model_self()] = replies_answer(&table, ID, NULL);
}

static void read_reply(void)
{
    model_require(replies_wait(&request, -1), "the clock stands still");
    unsigned *word = (unsigned *)(void *)request.reply;
    model_require((word == NULL) == (load_relaxed(&request.state) == REPLY_NEVER), "a reply that is none");
    model_require(word == NULL || ++*word == 2, "a reply that is not whole");
    answered = true;
}

static void record_ends(void)
{
    request.id = 0;
    request.reply = NULL;
    request.next = NULL;
}

static void ask(void)
{
    read_reply();
    record_ends();
}

/* Its time is over: it takes its record back, or has the reply all the same. */
static void give_up(void)
{
    if (!replies_withdraw(&table, &request))
        read_reply();
    record_ends();
}

/* Another request of the same bucket comes and goes. */
static void ask_beside(void)
{
    replies_open(&table, &other, ID + REPLY_BUCKETS);
    model_require(load_relaxed(&other.state) == REPLY_WAITING, "a request is answered before it was made");
    model_require(replies_withdraw(&table, &other), "a record that was open is not");
    other.next = NULL;
}

/* ---- beginning and end ---- */

static void asked(void)
{
    scenario_boot();
    store_relaxed(&other.state, REPLY_NEVER); /* whatever is on the stack */
    replies_open(&table, &request, ID);
    model_name(&table.lock.word, "lock");
    model_name(&request.state, "state");
}

static void check_replies(void)
{
    unsigned wanted = 0;
    for (int t = 0; t < THREADS; t++)
        wanted += taken[t];
    model_require(wanted == answered, "%u answers were taken, %d was had", wanted, answered);
    for (unsigned i = 0; i < REPLY_BUCKETS; i++)
        model_require(table.bucket[i] == NULL, "a record is left");
}

const struct scenario replies_scenarios[] = {
    {.name = "replies-wait",
     .invariant = "one waits for the reply while another gives it, and a third asks",
     .setup = asked,
     .thread = {ask, answer, ask_beside},
     .check = check_replies,
     .full_only = true},
    {.name = "replies-two",
     .invariant = "two answers for one request, one of them that there is none: one is taken",
     .setup = asked,
     .thread = {ask, answer, answer_never},
     .check = check_replies,
     .full_only = true},
    {.name = "replies-late",
     .invariant = "one gives up while the reply comes: it has it, or who replies is told",
     .setup = asked,
     .thread = {give_up, answer},
     .check = check_replies},
    {.name = NULL},
};
