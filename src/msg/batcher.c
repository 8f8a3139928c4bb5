/*
 * Calls that are made in batches (ashlar/batcher.h).
 *
 *  1. Calls are written into `filling`, one of two batches, under the lock; a call's ticket is the
 *     batch's first plus its place, so a ticket finds its call without a search.
 *  2. A call with a key looks for an equal one in the batch's table; if there is one it follows
 *     that, its leader, and is not made itself. A leader counts those of its calls that are wanted:
 *     when all were cancelled it is not made.
 *  3. Whoever makes a batch (`maker`) swaps the two under the lock. From then on the batch is the
 *     maker's alone; it links the leaders by function, in the order in which functions came first,
 *     calls each, and goes through the calls in their order to say what became of them. So nothing
 *     is held while the program's functions run, and two batches never overtake each other.
 *  4. A batch that is full by the time another was made is made by the same maker.
 *
 * Rejected: a queue for each function, which are many and mostly empty, and lose the order of
 * submission; a table that is cleared for each batch, instead of entries that say whose they are.
 */
#include "ashlar/batcher.h"

#include "ashlar/malloc.h"
#include "base/config.h"
#include "base/fmt.h"
#include "base/hash.h"
#include "base/name.h"
#include "os/os_file.h"
#include "os/os_fork.h"
#include "os/os_lock.h"

#include <errno.h>
#include <string.h>

enum { CALLS_DEFAULT = 64, WAIT_DEFAULT = 1000 * 1000 };

#define NONE UINT32_MAX

/* Under the lock while its batch is filled, then the maker's. */
struct call {
    struct ash_batch_call head;
    uint32_t leader; /* its own place, or that of the call that is made for it */
    uint32_t wanted; /* leader: calls that it is made for */
    uint32_t next;   /* leader: of the same function; NONE for the last */
    bool cancelled;
};

/* Where a call with a key is, if the entry is of this batch. */
struct entry {
    uint64_t batch;
    uint32_t place;
};

struct batch {
    struct call *call;   /* max_calls */
    struct entry *table; /* of calls with keys, 2 to 4 for each call */
    uint64_t first;      /* ticket */
    uint64_t number;     /* of batches made before, and one */
    int64_t since_ns;    /* the time of the first call */
    uint32_t count;
};

struct function {
    void (*run)(struct ash_batch_call *const *calls, unsigned n, void *user);
    void *user;
    uint32_t head, tail; /* maker: leaders; NONE */
};

struct ash_batcher {
    struct os_lock lock;
    struct batch *filling;          /* under the lock */
    struct batch *other;            /* under the lock: empty, or the maker's */
    uintptr_t maker;                /* under the lock: the thread that makes `other`, or 0 */
    struct function **function;     /* under the lock; what they point to stays where it is */
    uint32_t functions;             /* under the lock */
    int64_t now_ns;                 /* under the lock */
    struct ash_batcher_stats stats; /* under the lock */
    uint32_t max_calls;             /* const, and likewise: */
    uint32_t table_mask;
    int64_t max_wait_ns;
    void (*done)(const struct ash_batch_call *call);
    struct ash_batch_call **gather; /* maker */
    uint32_t *order;                /* maker: functions, as they came first */
    struct batch batch[2];
    struct os_fork fork;
    char name[NAME_CAP];
};

/* ---- making a batch ---- */

/* What the maker counts, to be added to the statistics under the lock. */
struct outcome {
    uint64_t merged, cancelled, failed, runs;
};

/* Links the leaders that are wanted by function: how many functions there are. */
static uint32_t batch_sort(struct ash_batcher *b, struct batch *batch)
{
    uint32_t functions = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct call *call = &batch->call[i];
        if (call->leader != i || call->wanted == 0)
            continue;
        struct function *f = b->function[call->head.function];
        call->next = NONE;
        if (f->head == NONE) {
            f->head = i;
            b->order[functions++] = call->head.function;
        } else
            batch->call[f->tail].next = i;
        f->tail = i;
    }
    return functions;
}

static void batch_run(struct ash_batcher *b, struct batch *batch, struct outcome *outcome)
{
    uint32_t functions = batch_sort(b, batch);
    for (uint32_t k = 0; k < functions; k++) {
        struct function *f = b->function[b->order[k]];
        unsigned n = 0;
        for (uint32_t i = f->head; i != NONE; i = batch->call[i].next)
            b->gather[n++] = &batch->call[i].head;
        f->head = NONE;
        f->run(b->gather, n, f->user);
        outcome->runs++;
    }
}

static void batch_tell(struct ash_batcher *b, struct batch *batch, struct outcome *outcome)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        struct call *call = &batch->call[i], *leader = &batch->call[call->leader];
        struct ash_batch_call told = call->head;
        told.result = call->cancelled ? NULL : leader->head.result;
        told.status = call->cancelled ? -ECANCELED : leader->head.status;
        outcome->merged += !call->cancelled && call != leader;
        outcome->cancelled += call->cancelled;
        outcome->failed += !call->cancelled && call == leader && told.status != 0;
        if (b->done != NULL)
            b->done(&told);
    }
}

static void stats_add(struct ash_batcher_stats *s, const struct batch *batch,
                      const struct outcome *outcome)
{
    s->completed += batch->count;
    s->batches++;
    s->merged += outcome->merged;
    s->cancelled += outcome->cancelled;
    s->failed += outcome->failed;
    s->runs += outcome->runs;
}

/*
 * Makes the batch that was filled, and further ones that are full by then, and counts the first
 * under `cause`. Under the lock, which is free in between. How many calls were completed.
 */
static int batcher_make(struct ash_batcher *b, uint64_t *cause)
{
    int completed = 0;
    b->maker = os_fork_self();
    do {
        struct batch *batch = b->filling;
        struct outcome outcome = {0};
        b->filling = b->other;
        b->other = batch;
        b->filling->first = batch->first + batch->count;
        b->filling->number = batch->number + 1;
        b->filling->count = 0;
        os_unlock(&b->lock);
        batch_run(b, batch, &outcome);
        batch_tell(b, batch, &outcome);
        os_lock(&b->lock);
        stats_add(&b->stats, batch, &outcome);
        ++*cause;
        cause = &b->stats.full;
        completed += (int)batch->count;
    } while (b->filling->count == b->max_calls);
    b->maker = 0;
    return completed;
}

/* ---- calls ---- */

/* The entry of an equal call, or where it goes. */
static struct entry *table_find(const struct ash_batcher *b, const struct batch *batch,
                                unsigned function, uint64_t key)
{
    for (uint64_t i = hash_fold(key ^ HASH_K2, HASH_K1 + function);; i++) {
        struct entry *entry = &batch->table[i & b->table_mask];
        if (entry->batch != batch->number)
            return entry;
        const struct ash_batch_call *head = &batch->call[entry->place].head;
        if (head->key == key && head->function == function)
            return entry;
    }
}

static uint32_t call_lead(struct ash_batcher *b, struct batch *batch, uint32_t place,
                          unsigned function, uint64_t key)
{
    struct entry *entry = table_find(b, batch, function, key);
    if (entry->batch == batch->number) {
        batch->call[entry->place].wanted++;
        return entry->place;
    }
    *entry = (struct entry){.batch = batch->number, .place = place};
    return place;
}

/* The waiting call of that ticket, or NULL. Under the lock. */
static struct call *call_find(struct ash_batcher *b, uint64_t ticket)
{
    uint64_t place = ticket - b->filling->first;
    return place < b->filling->count ? &b->filling->call[place] : NULL;
}

ASH_API int ash_batcher_submit(struct ash_batcher *b, unsigned function, void *arg, uint64_t key,
                               void *user, uint64_t *ticket)
{
    int status = 0;
    if (b == NULL)
        return -EINVAL;
    os_lock(&b->lock);
    struct batch *batch = b->filling;
    uint32_t place = batch->count;
    if (function >= b->functions)
        status = -EINVAL;
    else if (place == b->max_calls) {
        b->stats.refused++;
        status = -EAGAIN;
    } else {
        struct call *call = &batch->call[place];
        call->head = (struct ash_batch_call){.arg = arg,
                                             .user = user,
                                             .key = key,
                                             .ticket = batch->first + place,
                                             .function = function};
        call->wanted = 1;
        call->cancelled = false;
        call->leader = key != 0 ? call_lead(b, batch, place, function, key) : place;
        if (place == 0)
            batch->since_ns = b->now_ns;
        batch->count = place + 1;
        b->stats.submitted++;
        if (ticket != NULL)
            *ticket = call->head.ticket;
        if (batch->count == b->max_calls && b->maker == 0)
            batcher_make(b, &b->stats.full);
    }
    os_unlock(&b->lock);
    return status;
}

ASH_API int ash_batcher_cancel(struct ash_batcher *b, uint64_t ticket)
{
    if (b == NULL)
        return -EINVAL;
    os_lock(&b->lock);
    struct call *call = call_find(b, ticket);
    bool waits = call != NULL && !call->cancelled;
    if (waits) {
        call->cancelled = true;
        b->filling->call[call->leader].wanted--;
    }
    os_unlock(&b->lock);
    return waits ? 0 : -ENOENT;
}

/* When the batch is due, or -1. Under the lock. */
static int64_t batcher_due(const struct ash_batcher *b)
{
    int64_t since = b->filling->since_ns;
    if (b->filling->count == 0 || b->max_wait_ns < 0)
        return -1;
    return since > INT64_MAX - b->max_wait_ns ? INT64_MAX : since + b->max_wait_ns;
}

ASH_API int64_t ash_batcher_due(struct ash_batcher *b)
{
    if (b == NULL)
        return -EINVAL;
    os_lock(&b->lock);
    int64_t due = batcher_due(b);
    os_unlock(&b->lock);
    return due;
}

ASH_API int ash_batcher_tick(struct ash_batcher *b, int64_t now_ns)
{
    int status = 0;
    if (b == NULL)
        return -EINVAL;
    os_lock(&b->lock);
    if (now_ns > b->now_ns)
        b->now_ns = now_ns;
    int64_t due = batcher_due(b);
    if (due >= 0 && due <= b->now_ns)
        status = b->maker != 0 ? -EBUSY : batcher_make(b, &b->stats.timed);
    os_unlock(&b->lock);
    return status;
}

ASH_API int ash_batcher_flush(struct ash_batcher *b)
{
    int status = 0;
    if (b == NULL)
        return -EINVAL;
    os_lock(&b->lock);
    if (b->maker != 0)
        status = -EBUSY;
    else if (b->filling->count > 0)
        status = batcher_make(b, &b->stats.flushed);
    os_unlock(&b->lock);
    return status;
}

/* ---- life ---- */

static struct ash_batcher *batcher_of_fork(struct os_fork *self)
{
    return (struct ash_batcher *)(void *)((char *)self - offsetof(struct ash_batcher, fork));
}

static void batcher_hold(struct os_fork *self)
{
    os_lock(&batcher_of_fork(self)->lock);
}

/* What another thread was making is nobody's in the child; its functions may be half linked. */
static void batcher_release(struct os_fork *self, bool child)
{
    struct ash_batcher *b = batcher_of_fork(self);
    if (child && b->maker != 0 && b->maker != os_fork_self()) {
        b->maker = 0;
        for (uint32_t i = 0; i < b->functions; i++)
            b->function[i]->head = NONE;
    }
    os_unlock(&b->lock);
}

static void batcher_free(struct ash_batcher *b)
{
    for (uint32_t i = 0; i < b->functions; i++)
        ash_free(b->function[i]);
    for (unsigned i = 0; i < 2; i++) {
        ash_free(b->batch[i].call);
        ash_free(b->batch[i].table);
    }
    ash_free(b->function);
    ash_free(b->gather);
    ash_free(b->order);
    ash_free(b);
}

/* All memory that there will ever be, but for the functions themselves. */
static bool batcher_take(struct ash_batcher *b)
{
    bool good = true;
    for (unsigned i = 0; i < 2; i++) {
        struct batch *batch = &b->batch[i];
        batch->call = ash_calloc(b->max_calls, sizeof *batch->call);
        batch->table = ash_calloc((size_t)b->table_mask + 1, sizeof *batch->table);
        good &= batch->call != NULL && batch->table != NULL;
    }
    b->function = ash_calloc(ASH_BATCHER_FUNCTIONS, sizeof(struct function *));
    b->gather = ash_calloc(b->max_calls, sizeof(struct ash_batch_call *));
    b->order = ash_calloc(ASH_BATCHER_FUNCTIONS, sizeof *b->order);
    return good && b->function != NULL && b->gather != NULL && b->order != NULL;
}

ASH_API struct ash_batcher *ash_batcher_create(const char *name,
                                               const struct ash_batcher_config *config)
{
    struct ash_batcher_config read;
    char copy[NAME_CAP];
    if (!config_read(&read, sizeof read, config, sizeof(size_t)) ||
        !name_read(copy, name, "batcher") || read.max_calls > ASH_BATCHER_CALLS) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_batcher *b = ash_calloc(1, sizeof *b);
    if (b == NULL)
        return NULL;
    memcpy(b->name, copy, sizeof copy);
    b->max_calls = read.max_calls != 0 ? read.max_calls : CALLS_DEFAULT;
    b->max_wait_ns = read.max_wait_ns != 0 ? read.max_wait_ns : WAIT_DEFAULT;
    b->done = read.done;
    b->table_mask = 1;
    while (b->table_mask < 2 * b->max_calls)
        b->table_mask = 2 * b->table_mask + 1;
    b->filling = &b->batch[0];
    b->other = &b->batch[1];
    b->filling->first = 1;
    b->filling->number = 1;
    b->fork = (struct os_fork){.hold = batcher_hold, .release = batcher_release};
    if (!batcher_take(b) || os_fork_add(&b->fork) != 0) {
        batcher_free(b);
        errno = ENOMEM;
        return NULL;
    }
    return b;
}

ASH_API int ash_batcher_destroy(struct ash_batcher *b)
{
    if (b == NULL)
        return -EINVAL;
    os_lock(&b->lock);
    bool busy = b->filling->count > 0 || b->maker != 0;
    os_unlock(&b->lock);
    if (busy)
        return -EBUSY;
    os_fork_remove(&b->fork);
    batcher_free(b);
    return 0;
}

ASH_API int ash_batcher_add(struct ash_batcher *b,
                            void (*function)(struct ash_batch_call *const *calls, unsigned n,
                                             void *user),
                            void *user)
{
    if (b == NULL || function == NULL)
        return -EINVAL;
    struct function *f = ash_malloc(sizeof *f);
    if (f == NULL)
        return -ENOMEM;
    *f = (struct function){.run = function, .user = user, .head = NONE, .tail = NONE};
    os_lock(&b->lock);
    int number = -ENOSPC;
    if (b->functions < ASH_BATCHER_FUNCTIONS) {
        number = (int)b->functions;
        b->function[b->functions++] = f;
    }
    os_unlock(&b->lock);
    if (number < 0)
        ash_free(f);
    return number;
}

/* ---- figures ---- */

ASH_API int ash_batcher_stats(struct ash_batcher *b, struct ash_batcher_stats *out)
{
    if (b == NULL || out == NULL)
        return -EINVAL;
    os_lock(&b->lock);
    *out = b->stats;
    out->waiting = b->filling->count;
    os_unlock(&b->lock);
    return 0;
}

ASH_API int ash_batcher_dump(struct ash_batcher *b, int fd)
{
    struct ash_batcher_stats s;
    int status = ash_batcher_stats(b, &s);
    if (status != 0)
        return status;
    char buf[512];
    struct fmt f;
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "batcher %s: submitted %ju  refused %ju  completed %ju  waiting %ju\n", b->name,
               s.submitted, s.refused, s.completed, s.waiting);
    fmt_printf(&f, "  merged %ju  cancelled %ju  failed %ju  ", s.merged, s.cancelled, s.failed);
    fmt_printf(&f, "batches %ju: full %ju, timed %ju, flushed %ju  runs %ju\n", s.batches, s.full,
               s.timed, s.flushed, s.runs);
    return fmt_end(&f);
}
