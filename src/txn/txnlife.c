/*
 * The life of managers: made, shut down, forked, ended; and what they show.
 */
#include "ashlar/malloc.h"
#include "base/config.h"
#include "base/fmt.h"
#include "os/os_file.h"
#include "txn/gate.h"
#include "txn/txn.h"

#include <errno.h>
#include <string.h>

enum {
    LIMIT_DEFAULT = 4096,
    LIMIT_MOST = 1 << 24,
    KEYS_DEFAULT = 16,
    KEYS_MOST = 65536,
    ARENA_LEAST = 256,
    ARENA_MOST = 1 << 30,
    ARENA_KEEP = 32768
};

/* ---- records: as the pool makes them; between two transactions all but its memory is void ---- */

static int record_init(void *record, void *mgr)
{
    struct ash_txnmgr *m = mgr;
    struct ash_txn *t = record;
    memset(t, 0, m->record_bytes);
    t->mgr = m;
    key_block_use(t, t->key, m->key_own);
    return 0;
}

static void record_fini(void *record, void *mgr)
{
    struct ash_txnmgr *m = mgr;
    struct ash_txn *t = record;
    txnmem_fini(&t->mem, &m->rule);
    key_block_drop(t);
}

/* ---- the dispatcher ---- */

void txnmgr_dispatch_way(struct ash_txnmgr *m)
{
    static const enum dispatch_way way_of[] = {
        [ASH_TXN_ADAPTIVE] = DISPATCH_WAYS,
        [ASH_TXN_SERIAL] = DISPATCH_SERIAL,
        [ASH_TXN_PARALLEL] = DISPATCH_PARALLEL,
    };
    dispatch_force(&m->dispatch, way_of[m->config.way]);
}

int txnmgr_dispatch_init(struct ash_txnmgr *m)
{
    struct dispatch_calls calls = {txn_run, txn_fetch_arg};
    int status = dispatch_init(&m->dispatch, m->scheduled ? m->exec : NULL, calls);
    if (status != 0)
        m->dispatch = (struct dispatch){.calls = calls}; /* runs everything serially */
    txnmgr_dispatch_way(m);
    return status;
}

/* ---- forks: all that is under way is the parent's ---- */

static struct ash_txnmgr *txnmgr_of_fork(struct os_fork *self)
{
    return (struct ash_txnmgr *)(void *)((char *)self - offsetof(struct ash_txnmgr, fork));
}

static void fork_hold(struct os_fork *self)
{
    os_lock(&txnmgr_of_fork(self)->lock);
}

static void figures_forget(struct ash_txnmgr *m)
{
    _Atomic(uint64_t) *const figure[] = {&m->committed, &m->aborted, &m->unstored,
                                         &m->stored,    &m->steps,   &m->serial,
                                         &m->parallel,  &m->most_ns, &m->unbegun};
    for (unsigned i = 0; i < ASH_COUNT(figure); i++)
        store_relaxed(figure[i], 0);
    for (unsigned i = 0; i < TIMES_BUCKETS; i++)
        store_relaxed(&m->bucket[i], 0);
}

/* A vanished driver may have been anywhere in the dispatcher, which the next step makes anew. */
static void fork_release(struct os_fork *self, bool child)
{
    struct ash_txnmgr *m = txnmgr_of_fork(self);
    void *item;
    if (child) {
        m->generation++;
        m->stale |= load_relaxed(&m->drive.driving) != 0 || m->step_count != 0;
        m->step_count = m->step_done = 0;
        store_relaxed(&m->drive.driving, 0);
        store_relaxed(&m->drive.sleepers, 0);
        m->done_first = NULL;
        m->done_last = NULL;
        ash_ring_recover(m->queue);
        while (ash_ring_pop(m->queue, &item, 1) != 0)
            ;
        gate_forget(m->gate);
        figures_forget(m);
    }
    os_unlock(&m->lock);
}

/* ---- figures ---- */

static void stats_read(const struct ash_txnmgr *m, struct ash_txnmgr_stats *out)
{
    struct ash_gate_stats gate;
    uint64_t bucket[TIMES_BUCKETS], measured = 0;
    uint64_t unbegun = load_relaxed(&m->unbegun); /* before: it never exceeds what has entered */
    ash_gate_stats(m->gate, &gate);
    out->limit = gate.limit;
    out->in_flight = gate.inside;
    out->most = gate.most;
    out->queued = ash_ring_count(m->queue);
    out->begun = gate.entered - unbegun;
    out->refused = gate.refused + gate.timeouts;
    out->committed = load_relaxed(&m->committed);
    out->aborted = load_relaxed(&m->aborted);
    out->unstored = load_relaxed(&m->unstored);
    out->completed = out->committed + out->aborted + out->unstored;
    out->stored = load_relaxed(&m->stored);
    out->steps = load_relaxed(&m->steps);
    out->serial = load_relaxed(&m->serial);
    out->parallel = load_relaxed(&m->parallel);
    out->record_bytes = m->record_bytes;
    out->arena_bytes = tally_sum(&m->tally, TXN_BYTES);
    for (unsigned i = 0; i < TIMES_BUCKETS; i++)
        measured += bucket[i] = load_relaxed(&m->bucket[i]);
    out->max_ns = load_relaxed(&m->most_ns);
    out->p50_ns = times_percentile(bucket, measured, out->max_ns, 50);
    out->p99_ns = times_percentile(bucket, measured, out->max_ns, 99);
}

ASH_API int ash_txnmgr_stats(const struct ash_txnmgr *m, struct ash_txnmgr_stats *out)
{
    if (m == NULL || out == NULL)
        return -EINVAL;
    stats_read(m, out);
    return 0;
}

ASH_API int ash_txnmgr_dump(const struct ash_txnmgr *m, int fd)
{
    struct ash_txnmgr_stats s;
    int status = ash_txnmgr_stats(m, &s);
    if (status != 0)
        return status;
    char buf[1024], bytes[16];
    struct fmt f;
    fmt_bytes_text(bytes, s.arena_bytes);
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "txns %s: %ju of %ju in flight, %ju at most; %ju queued\n", m->name, s.in_flight,
               s.limit, s.most, s.queued);
    fmt_printf(&f, "  begun %ju  refused %ju  committed %ju  aborted %ju  unstored %ju\n", s.begun,
               s.refused, s.committed, s.aborted, s.unstored);
    fmt_printf(&f, "  steps %ju  stored %ju  serial %ju  parallel %ju\n", s.steps, s.stored,
               s.serial, s.parallel);
    fmt_printf(&f, "  p50 %ju ns  p99 %ju ns  max %ju ns\n", s.p50_ns, s.p99_ns, s.max_ns);
    fmt_printf(&f, "  %ju bytes a transaction, %s of memory\n", s.record_bytes, bytes);
    return fmt_end(&f);
}

/* The figures of struct ash_txnmgr_stats, all of them and in its order. */
static const struct ash_stats_column columns[] = {
    SHOWN_COLUMN("limit", GAUGE, COUNT, "Transactions that may be in flight."),
    SHOWN_COLUMN("in_flight", GAUGE, COUNT, "Begun and not ended."),
    SHOWN_COLUMN("most", GAUGE, COUNT, "The most there ever were in flight."),
    SHOWN_COLUMN("queued", GAUGE, COUNT, "Submitted and not begun to run."),
    SHOWN_COLUMN("begun", COUNTER, COUNT, "Transactions begun."),
    SHOWN_COLUMN("refused", COUNTER, COUNT, "Begins that found too many in flight."),
    SHOWN_COLUMN("completed", COUNTER, COUNT, "Transactions that are done."),
    SHOWN_COLUMN("committed", COUNTER, COUNT, "And have committed."),
    SHOWN_COLUMN("aborted", COUNTER, COUNT, "And were aborted by their bodies."),
    SHOWN_COLUMN("unstored", COUNTER, COUNT, "And were undone because they could not be stored."),
    SHOWN_COLUMN("stored", COUNTER, COUNT, "Transactions given to be stored."),
    SHOWN_COLUMN("steps", COUNTER, COUNT, "Groups in which they were run."),
    SHOWN_COLUMN("serial", COUNTER, COUNT, "Run by the polling thread alone."),
    SHOWN_COLUMN("parallel", COUNTER, COUNT, "Run with the executor."),
    SHOWN_COLUMN("record_bytes", GAUGE, BYTES, "A transaction without its memory."),
    SHOWN_COLUMN("arena_bytes", GAUGE, BYTES, "Memory of transactions."),
    SHOWN_COLUMN("p50", GAUGE, NS, "Submission until done, half of them."),
    SHOWN_COLUMN("p99", GAUGE, NS, "Submission until done, 99 of 100."),
    SHOWN_COLUMN("max", GAUGE, NS, "Submission until done, all of them."),
};
_Static_assert(sizeof(struct ash_txnmgr_stats) == ASH_COUNT(columns) * sizeof(uint64_t),
               "the columns are the figures");

static void read_values(const void *mgr, uint64_t *values)
{
    struct ash_txnmgr_stats s;
    stats_read(mgr, &s);
    memcpy(values, &s, sizeof s);
}

SHOWN_KIND(kind, "txnmgrs", "txnmgr", columns, read_values)

/* ---- beginning and end ---- */

/* Fills the defaults in; false when the settings make no sense. */
static bool settings_complete(struct ash_txnmgr_config *c)
{
    c->limit = c->limit != 0 ? c->limit : LIMIT_DEFAULT;
    c->queue = c->queue != 0 ? c->queue : c->limit;
    c->keys = c->keys != 0 ? c->keys : KEYS_DEFAULT;
    c->arena_first = c->arena_first != 0 ? c->arena_first : ARENA_LEAST;
    c->arena_keep = c->arena_keep != 0 ? c->arena_keep : ARENA_KEEP;
    return c->limit <= LIMIT_MOST && c->queue <= LIMIT_MOST && c->keys <= KEYS_MOST &&
           (unsigned)c->way <= ASH_TXN_PARALLEL && c->arena_first >= ARENA_LEAST &&
           c->arena_first <= ARENA_MOST && (c->arena_max == 0 || c->arena_max >= c->arena_first);
}

/* Gives its parts back, as far as there are any. */
static void txnmgr_free(struct ash_txnmgr *m)
{
    ash_gate_destroy(m->gate);
    ash_ring_destroy(m->queue);
    if (m->records != NULL)
        ash_pool_destroy(m->records); /* in a child those of the parent are out: it stays */
    if (!m->stale)
        dispatch_fini(&m->dispatch);
    ash_free(m);
}

/* 0, or -ENOMEM. */
static int txnmgr_make(struct ash_txnmgr *m)
{
    const struct ash_txnmgr_config *c = &m->config;
    m->key_own = (unsigned)size_min(c->keys, TXN_KEYS);
    m->scheduled = m->exec != NULL && c->way != ASH_TXN_SERIAL;
    m->record_bytes = sizeof(struct ash_txn) + key_block_bytes(m, m->key_own);
    m->rule = (struct txnmem_rule){.first = align_up(c->arena_first, TXNMEM_ALIGN),
                                   .most = align_down(c->arena_max, TXNMEM_ALIGN),
                                   .stays = c->arena_first <= c->arena_keep,
                                   .tally = &m->tally,
                                   .count = TXN_BYTES};
    const struct ash_pool_config *records =
        ASH_POOL_CONFIG(.obj_size = m->record_bytes, .align = m->scheduled ? 0 : 16,
                        .ctor = record_init, .dtor = record_fini, .user = m);
    m->gate = ash_gate_create(m->name, ASH_GATE_CONFIG(.limit = c->limit));
    m->queue = ash_ring_create(c->queue, ASH_MPSC);
    m->records = ash_pool_create(m->name, records);
    if (m->records == NULL && errno == EEXIST)
        m->records = ash_pool_create(NULL, records);
    bool made = txnmgr_dispatch_init(m) == 0;
    return made && m->gate != NULL && m->queue != NULL && m->records != NULL ? 0 : -ENOMEM;
}

ASH_API struct ash_txnmgr *ash_txnmgr_create(struct ash_exec *exec,
                                             const struct ash_txnmgr_config *config)
{
    struct ash_txnmgr_config read;
    char name[NAME_CAP];
    if (!config_read(&read, sizeof read, config, sizeof(size_t)) ||
        !name_read(name, read.name, "txns") || !settings_complete(&read)) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_txnmgr *m = ash_aligned_alloc(ASH_CACHE_LINE, sizeof *m);
    if (m == NULL)
        return NULL;
    memset(m, 0, sizeof *m);
    m->config = read;
    m->exec = exec;
    memcpy(m->name, name, sizeof name);
    m->fork = (struct os_fork){.hold = fork_hold, .release = fork_release};
    if (txnmgr_make(m) != 0 || os_fork_add(&m->fork) != 0) {
        txnmgr_free(m);
        errno = ENOMEM;
        return NULL;
    }
    m->shown = shown_open(&kind, m->name, m);
    return m;
}

ASH_API int ash_txnmgr_shutdown(struct ash_txnmgr *m)
{
    if (m == NULL)
        return -EINVAL;
    store_relaxed(&m->closed, 1);
    ash_gate_close(m->gate);
    ash_ring_close(m->queue);
    return 0;
}

ASH_API int ash_txnmgr_destroy(struct ash_txnmgr *m)
{
    struct ash_gate_stats gate;
    if (m == NULL)
        return 0;
    if (txn_inside(m))
        return -EDEADLK;
    ash_txnmgr_shutdown(m);
    ash_gate_stats(m->gate, &gate);
    if (gate.inside != 0)
        return -EBUSY;
    os_fork_remove(&m->fork);
    if (shown_close(m->shown))
        txnmgr_free(m);
    return 0;
}
