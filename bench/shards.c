/*
 * shards: how many transfers 1 to 100 shards make a second, in simulated time.
 *
 * Each shard has one processor, one log device and a number of transfers under way; a share of them
 * goes over two shards, by the real machine of two-phase commit (ashlar/shard.h). What is simulated
 * is what it costs: the constants below are what bench_shards measures for processors of today, a
 * fast disk and a network in one room. A sync serves all that came in while the last one ran.
 *
 *     shards [EVENT_NS [DIRECT_NS [SYNC_NS [NET_NS]]]]
 */
#include <ashlar/shard.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDS = 100, UNDER_WAY = 1024, TIME_NS = 4 * 1000 * 1000 };

/* A message handled, a transfer within a shard, a sync, a message under way. */
static int64_t event_ns = 200, direct_ns = 100, sync_ns = 50000, net_ns = 20000;

struct event {
    int64_t at;
    uint64_t order;
    unsigned shard;
    struct ash_2pc_msg *msg; /* NULL: a transfer begins */
};

struct shard {
    struct ash_2pc *site;
    int64_t busy; /* the processor, until then */
    int64_t sync,
        coming; /* the device: the sync that runs ends, and the next one, if there is one */
    uint64_t made;
};

struct world {
    struct shard shard[SHARDS];
    unsigned shards, cross; /* in 100 */
    struct event *heap;
    size_t events, room;
    uint64_t order, random;
};

static uint64_t draw(struct world *w, uint64_t n)
{
    w->random ^= w->random >> 12;
    w->random ^= w->random << 25;
    w->random ^= w->random >> 27;
    return (w->random * 0x2545f4914f6cdd1du >> 32) * n >> 32;
}

/* ---- events by time ---- */

static int before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void add(struct world *w, int64_t at, unsigned shard, struct ash_2pc_msg *msg)
{
    if (w->events == w->room) {
        w->room = w->room > 0 ? 2 * w->room : 1024;
        w->heap = realloc(w->heap, w->room * sizeof *w->heap);
        if (w->heap == NULL)
            abort();
    }
    struct event e = {at, w->order++, shard, msg};
    size_t i = w->events++;
    for (; i > 0 && before(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct event take(struct world *w)
{
    struct event first = w->heap[0], last = w->heap[--w->events];
    size_t i = 0;
    for (size_t c; (c = 2 * i + 1) < w->events; i = c) {
        if (c + 1 < w->events && before(&w->heap[c + 1], &w->heap[c]))
            c++;
        if (!before(&w->heap[c], &last))
            break;
        w->heap[i] = w->heap[c];
    }
    w->heap[i] = last;
    return first;
}

/* ---- a shard ---- */

/* When what is forced at `at` is on the device: by the next sync, if one is running. */
static int64_t synced(struct shard *s, int64_t at)
{
    if (s->coming > s->sync && at >= s->sync) { /* the one that was to come runs */
        s->sync = s->coming;
    }
    if (at >= s->sync)
        return s->sync = s->coming = at + sync_ns;
    return s->coming = s->sync + sync_ns;
}

static void send(struct world *w, int64_t at, const struct ash_2pc_action *a)
{
    struct ash_2pc_msg *copy = calloc(1, sizeof *copy);
    if (copy == NULL)
        abort();
    memcpy(copy, a->msg, a->msg_len);
    add(w, at + net_ns, a->msg->to, copy);
}

/* One is done: the next one begins. */
static void made(struct world *w, unsigned i, int64_t at)
{
    w->shard[i].made += at <= TIME_NS;
    add(w, at, i, NULL);
}

static void run(struct world *w, unsigned i, int64_t now)
{
    struct shard *s = &w->shard[i];
    struct ash_2pc_action a;
    int64_t out = now; /* what follows a record waits for it */
    while (ash_2pc_next(s->site, &a) > 0) {
        if (a.kind == ASH_2PC_VOTE) {
            if (ash_2pc_vote(s->site, a.id, 1, now) != 0)
                abort();
        } else if (a.kind == ASH_2PC_FORCE) {
            out = synced(s, now);
        } else if (a.kind == ASH_2PC_SEND) {
            send(w, out, &a);
        } else if (a.kind == ASH_2PC_COMMITTED && a.roles == ASH_2PC_COORDINATOR) {
            made(w, i, out);
        }
    }
}

static void begin(struct world *w, unsigned i, int64_t now)
{
    struct shard *s = &w->shard[i];
    if (w->shards == 1 || draw(w, 100) >= w->cross) {
        s->busy = now + direct_ns;
        made(w, i, synced(s, s->busy));
        return;
    }
    uint64_t id;
    uint32_t parts[] = {i, (uint32_t)((i + 1 + draw(w, w->shards - 1)) % w->shards)};
    s->busy = now + event_ns;
    if (ash_2pc_prepare(s->site, parts, 2, s->busy, &id) != 0)
        abort();
    run(w, i, s->busy);
}

static void step(struct world *w)
{
    struct event e = take(w);
    struct shard *s = &w->shard[e.shard];
    int64_t now = e.at > s->busy ? e.at : s->busy;
    if (e.msg == NULL) {
        begin(w, e.shard, now);
        return;
    }
    s->busy = now + event_ns;
    if (ash_2pc_receive(s->site, e.msg, sizeof *e.msg, s->busy) != 0)
        abort();
    run(w, e.shard, s->busy);
    free(e.msg);
}

/* Transfers a second. */
static double simulate(unsigned shards, unsigned cross)
{
    static struct world w;
    uint64_t sum = 0;
    w = (struct world){.shards = shards, .cross = cross, .random = 1};
    for (unsigned i = 0; i < shards; i++) {
        w.shard[i].site = ash_2pc_create(NULL, ASH_2PC_CONFIG(.shard = i, .shards = shards,
                                                              .retry_ns = (int64_t)1000 * TIME_NS));
        if (w.shard[i].site == NULL || ash_2pc_start(w.shard[i].site, 0) != 0)
            abort();
        for (unsigned k = 0; k < UNDER_WAY; k++)
            add(&w, 0, i, NULL);
    }
    while (w.heap[0].at < TIME_NS)
        step(&w);
    for (unsigned i = 0; i < shards; i++) {
        sum += w.shard[i].made;
        ash_2pc_destroy(w.shard[i].site);
    }
    while (w.events > 0)
        free(take(&w).msg);
    free(w.heap);
    return (double)sum * 1e9 / TIME_NS;
}

int main(int argc, char **argv)
{
    static const unsigned shards[] = {1, 2, 4, 8, 16, 32, 64, 100}, cross[] = {0, 10, 50};
    int64_t *const costs[] = {&event_ns, &direct_ns, &sync_ns, &net_ns};
    for (int i = 1; i < argc && i <= 4; i++)
        *costs[i - 1] = strtoll(argv[i], NULL, 10);
    printf("simulated: %lld ns a message, %lld ns a transfer in one shard, %lld us a sync, %lld us "
           "on the way\nmillions of transfers a second\n\n%10s",
           (long long)event_ns, (long long)direct_ns, (long long)sync_ns / 1000,
           (long long)net_ns / 1000, "shards");
    for (unsigned c = 0; c < 3; c++)
        printf("%9u %% cross", cross[c]);
    printf("\n");
    for (unsigned i = 0; i < sizeof shards / sizeof shards[0]; i++) {
        printf("%10u", shards[i]);
        for (unsigned c = 0; c < 3; c++)
            printf("%17.2f", simulate(shards[i], cross[c]) / 1e6);
        printf("\n");
    }
    return 0;
}
