/*
 * Scenarios of what several owners share: the bytes of bufs (pool/buf) and messages (msg/msg). Each owner reads or
 * writes the bytes before it gives its part up; whoever is the last, or finds itself alone, writes to all of them.
 */
#include "scenario.h"

#include "ashlar/pool.h"
#include "msg/msg.h"
#include "pool/bufcount.h"

#include <errno.h>

static struct ash_buf bufs[THREADS]; /* plain: a value for each thread */
static unsigned char bytes[THREADS]; /* plain: what they see */
static unsigned releases;            /* plain: written by the last owner */
static struct ash_msgpool pool;
static struct ash_msg *msg;
static uint64_t known;         /* the parts of the message's target */
static struct buf_counts counts;

/* ---- what bufs and messages have of other modules: all counters in one record, in no step of the search ---- */

ASH_TLS struct buf_counts *bufcount_tls = &counts;
struct buf_counts bufcount_shared;

struct buf_counts *bufcount_slow(void)
{
    return &counts;
}

void bufcount_refill(void)
{
}

void bufcount_copy(size_t n)
{
    (void)n;
}

const char *ash_pool_name(const struct ash_pool *p)
{
    (void)p;
    return "messages";
}

/* ---- bufs ---- */

static void release(void *data, void *user)
{
    model_require(data == bytes && user == &releases, "another's bytes");
    for (int k = 0; k < THREADS; k++)
        bytes[k] = 0;
    releases++;
}

static void wrap(void)
{
    model_require(ash_buf_wrap(&bufs[0], bytes, sizeof bytes, release, &releases) == 0, "no memory");
}

static void shared_by_2(void)
{
    scenario_boot();
    wrap();
    bufs[1] = ash_buf_share(&bufs[0], 1);
}

static void shared_by_3(void)
{
    shared_by_2();
    bufs[2] = ash_buf_share(&bufs[0], 1);
}

/* A block of bufs' own, of two values. */
static void block(void)
{
    scenario_boot();
    model_require(ash_buf_alloc(&bufs[0], 1, 0) == 0, "no memory");
    bufs[1] = ash_buf_share(&bufs[0], 1);
}

static void drop(void)
{
    bytes[model_self()] = 1;
    ash_buf_drop(&bufs[model_self()]);
}

/* A value with one reference takes more before it is sliced. */
static void slice_drop(void)
{
    struct ash_buf part = ash_buf_slice(&bufs[1], 1, 1);
    model_require(part.owner != NULL && part.data == bytes + 1, "another slice");
    bytes[1] = 1;
    ash_buf_drop(&part);
    ash_buf_drop(&bufs[1]);
}

static void read_drop_0(void)
{
    model_require(bufs[0].data[0] == 0, "it was written to by who is not alone");
    ash_buf_drop(&bufs[0]);
}

/* Who is alone has all of the block. */
static void write_if_alone(void)
{
    if (ash_buf_is_alone(&bufs[1]) != 0)
        bufs[1].data[0] = 1;
    ash_buf_drop(&bufs[1]);
}

static void check_released(void)
{
    model_require(releases == 1, "released %u times", releases);
}

/* ---- messages ---- */

static void message(unsigned refs)
{
    static const char target[] = "disk://a/b";
    scenario_boot();
    pool = (struct ash_msgpool){.objects = scenario_pool(256), .room = 128, .target_most = 64, .at = 64};
    msg = ash_pool_get(pool.objects);
    msg->pool = &pool;
    store_relaxed(&msg->refs, 1);
    model_require(ash_msg_reset(msg, target, sizeof target - 1, "12", THREADS) == 0, "no message");
    while (refs-- > 1)
        ash_msg_ref(msg);
    known = msg_parts_find(target, sizeof target - 1);
    model_name(&msg->refs, "refs");
    model_name(&msg->parts, "parts");
}


static void message_of_2(void)
{
    message(2);
}

static void message_of_3(void)
{
    message(3);
}

static void message_and_buf(void)
{
    message(2);
    wrap();
}

/* One whose body is a buf, which goes with it. */
static void message_with_buf(void)
{
    message(1);
    wrap();
    model_require(ash_msg_set_buf(msg, bufs[0]) == 0, "it has no other owner");
    ash_msg_ref(msg);
}

static void use(void)
{
    ((unsigned char *)msg->body)[model_self()] = 1;
}

static void use_free(void)
{
    use();
    ash_msg_free(msg);
}

static void use_free_bulk(void)
{
    use();
    msgs_free(&msg, 1);
}

/* It hands a reference on to itself. */
static void ref_free_twice(void)
{
    ash_msg_ref(msg);
    use_free();
    use_free();
}

/* Who is alone may fill it anew. */
static void reset_if_alone(void)
{
    size_t len;
    ash_msg_subsystem(msg, &len);
    int status = ash_msg_reset(msg, "net://c", 7, "345", THREADS);
    model_require(status == 0 || status == -EBUSY, "it cannot be filled");
    ash_msg_subsystem(msg, &len);
    model_require(len == (status == 0 ? 3 : 4), "another subsystem");
    ash_msg_free(msg);
}

static void set_buf_if_alone(void)
{
    int status = ash_msg_set_buf(msg, bufs[0]);
    model_require(status == 0 || status == -EBUSY, "it cannot have a buf");
    if (status != 0)
        ash_buf_drop(&bufs[0]);
    ash_msg_free(msg);
}

/* Whoever asks first finds the parts; all find the same. */
static void ask_parts(void)
{
    size_t len;
    model_require(ash_msg_subsystem(msg, &len) == msg_target(msg) && len == 4, "another subsystem");
    model_require(load_relaxed(&msg->parts) == known, "other parts");
    ash_msg_free(msg);
}

static void check_freed(void)
{
    model_require(scenario_blocks() == 0, "the message is left");
}


const struct scenario msg_scenarios[] = {
    {.name = "buf-drop",
     .invariant = "three owners of bytes give them up: the last one releases them, once",
     .setup = shared_by_3,
     .thread = {drop, drop, drop},
     .check = check_released},
    {.name = "buf-slice",
     .invariant = "an owner without spare references makes a slice while the other gives up",
     .setup = shared_by_2,
     .thread = {drop, slice_drop},
     .check = check_released},
    {.name = "buf-alone",
     .invariant = "one finds itself alone while the other gives up: then that has read all it wanted",
     .setup = block,
     .thread = {read_drop_0, write_if_alone}},
    {.name = "msg-free",
     .invariant = "three owners of a message free it: the last one puts it back, once",
     .setup = message_of_3,
     .thread = {use_free, use_free, use_free_bulk},
     .check = check_freed},
    {.name = "msg-free-bulk",
     .invariant = "two free a message with others: the last one puts it back, once",
     .setup = message_of_2,
     .thread = {use_free_bulk, use_free_bulk},
     .check = check_freed},
    {.name = "msg-ref",
     .invariant = "an owner takes a reference more while the other frees",
     .setup = message_of_2,
     .thread = {use_free, ref_free_twice},
     .check = check_freed},
    {.name = "msg-reset",
     .invariant = "one fills a message anew if it is alone: the other has done with it then",
     .setup = message_of_2,
     .thread = {use_free, reset_if_alone},
     .check = check_freed},
    {.name = "msg-buf",
     .invariant = "two owners of a message with a buf free it: the buf goes with it, once",
     .setup = message_with_buf,
     .thread = {use_free, use_free},
     .check = check_released},
    {.name = "msg-set-buf",
     .invariant = "one gives a message another body if it is alone: the other has done with the first one then",
     .setup = message_and_buf,
     .thread = {use_free, set_buf_if_alone},
     .check = check_released},
    {.name = "msg-parts",
     .invariant = "two ask for the parts of the target, which nobody has found yet",
     .setup = message_of_2,
     .thread = {ask_parts, ask_parts},
     .check = check_freed},
    {.name = NULL},
};
