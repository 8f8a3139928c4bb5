/*
 * Gates (ashlar/gate.h): everything that decides is in one word, so each decision is one compare-
 * and-swap: how many units are inside, how many threads wait, whether `high` was reached, whether
 * it is closed.
 *
 *  1. An enter that finds room changes the count alone, or, when that reaches `high`, sets HIGH as
 *     well; whoever set it calls `mark`. A leave likewise clears it at `low`. So calls alternate.
 *  2. One that finds none counts itself among the waiters; then it reads `event`, looks at the word
 *     again, and sleeps while `event` is as it was. A leave that finds waiters in the word that it
 *     changed moves `event` on and wakes as many as there is room for. Either the waiter's look
 *     comes behind the leave, or the leave finds it counted and `event` moves after it was read.
 *  3. WIDE says that somebody waits for more than one unit: then all are woken, since the one that
 *     the kernel would pick may want more than there is. It goes when nobody waits.
 *  4. Who was woken and runs out of time tries once more, so that its wake is not lost to others.
 *
 * Rejected: a queue of waiters in order. It would keep small ones behind a large one, and every
 * enter would have to look at it.
 */
#include "ashlar/malloc.h"
#include "base/atomic.h"
#include "base/config.h"
#include "base/fmt.h"
#include "base/name.h"
#include "os/check.h"
#include "os/os_clock.h"
#include "os/os_file.h"
#include "os/os_wait.h"
#include "txn/gate.h"
#include "vm/shown.h"
#include "vm/tally.h"

#include <errno.h>
#include <limits.h>

/* The word: units in the lower half, then waiters, then three bits. */
#define UNITS(word)   ((word)&UINT32_MAX)
#define WAITER        ((uint64_t)1 << 32)
#define WAITERS(word) ((word) >> 32 & 0xffffff)
#define HIGH          ((uint64_t)1 << 60)
#define WIDE          ((uint64_t)1 << 61)
#define CLOSED        ((uint64_t)1 << 62)

enum { COUNT_ENTERED, COUNT_REFUSED, COUNT_WAITED, COUNT_TIMEOUT };

struct ash_gate {
    struct ash_gate_config config;            /* const, defaults filled in */
    char name[NAME_CAP];                      /* const */
    struct shown *shown;                      /* const; NULL: there was no memory for it */
    ASH_LINE_ALIGNED _Atomic(uint64_t) word;  /* atomic: see above */
    ASH_LINE_ALIGNED _Atomic(uint32_t) event; /* atomic: changes before sleepers are woken */
    _Atomic(uint64_t) most, highs;            /* atomic: counters, several writers */
    struct tally tally;
};

/* ---- in and out ---- */

static void gate_mark(struct ash_gate *g, bool is_high)
{
    if (is_high)
        add_relaxed(&g->highs, 1);
    if (g->config.mark != NULL)
        g->config.mark(g, is_high, g->config.user);
}

static ASH_COLD void gate_wake(struct ash_gate *g, unsigned n)
{
    add_release(&g->event, 1); /* the word as it is now; pairs with enter_wait */
    os_wake(&g->event, n);
}

/* 0, -EAGAIN or -ECANCELED; the word then is *seen. A waiter that enters is none any more. */
ASH_INLINE int try_enter(struct ash_gate *g, uint64_t n, uint64_t waiter, uint64_t *seen)
{
    const struct ash_gate_config *config = &g->config;
    uint64_t next;
    do {
        if (ASH_UNLIKELY((*seen & CLOSED) != 0))
            return -ECANCELED;
        if (ASH_UNLIKELY(UNITS(*seen) + n > config->limit))
            return -EAGAIN;
        next = *seen + n - waiter;
        if (UNITS(next) >= config->high)
            next |= HIGH;
        if (waiter != 0 && WAITERS(next) == 0)
            next &= ~WIDE;
        /* acquire: what was done before units left; pairs with ash_gate_leave */
    } while (!cas_acq_rel(&g->word, seen, next));
    tally_add(&g->tally, COUNT_ENTERED, n);
    if (UNITS(next) > load_relaxed(&g->most))
        atomic_max(&g->most, UNITS(next));
    if (ASH_UNLIKELY((next & ~*seen & HIGH) != 0))
        gate_mark(g, true);
    return 0;
}

static void waiter_leave(struct ash_gate *g, uint64_t seen)
{
    uint64_t next;
    do
        next = WAITERS(seen) == 1 ? (seen - WAITER) & ~WIDE : seen - WAITER;
    while (!cas_relaxed(&g->word, &seen, next));
}

static ASH_NOINLINE int enter_wait(struct ash_gate *g, uint64_t n, uint64_t seen, int64_t timeout)
{
    int64_t until = os_until(timeout);
    int status;
    while (!cas_relaxed(&g->word, &seen, (seen + WAITER) | (n > 1 ? WIDE : 0)))
        ;
    tally_add(&g->tally, COUNT_WAITED, 1);
    for (;;) {
        uint32_t event = load_acquire(&g->event); /* pairs with gate_wake */
        seen = load_relaxed(&g->word);
        status = try_enter(g, n, WAITER, &seen);
        if (status == 0)
            return 0;
        int64_t left = os_left(until);
        if (status != -EAGAIN || left == 0)
            break;
        os_wait(&g->event, event, left);
    }
    waiter_leave(g, seen);
    if (status == -EAGAIN) {
        tally_add(&g->tally, COUNT_TIMEOUT, 1);
        status = -ETIMEDOUT;
    }
    return status;
}

ASH_API int ash_gate_enter(struct ash_gate *g, uint64_t n, int64_t timeout_ns)
{
    if (ASH_UNLIKELY(g == NULL || n - 1 >= g->config.limit))
        return -EINVAL;
    uint64_t seen = load_relaxed(&g->word);
    int status = try_enter(g, n, 0, &seen);
    if (ASH_LIKELY(status != -EAGAIN))
        return status;
    if (timeout_ns != 0)
        return enter_wait(g, n, seen, timeout_ns);
    tally_add(&g->tally, COUNT_REFUSED, 1);
    return -EAGAIN;
}

ASH_API void ash_gate_leave(struct ash_gate *g, uint64_t n)
{
    uint64_t seen = load_relaxed(&g->word), next;
    do {
        if (ASH_UNLIKELY(n > UNITS(seen)))
            fatal("gate %s: %ju leave, %ju are inside", g->name, n, UNITS(seen));
        next = seen - n;
        if (UNITS(next) <= g->config.low)
            next &= ~HIGH;
        /* release: what was done inside; acquire: the waiters; pairs with try_enter */
    } while (!cas_acq_rel(&g->word, &seen, next));
    if (ASH_UNLIKELY(WAITERS(next) != 0))
        gate_wake(g, (next & WIDE) != 0 ? UINT_MAX : (unsigned)n);
    if (ASH_UNLIKELY((seen & ~next & HIGH) != 0))
        gate_mark(g, false);
}

ASH_API void ash_gate_close(struct ash_gate *g)
{
    or_relaxed(&g->word, CLOSED);
    gate_wake(g, UINT_MAX);
}

/* ---- figures ---- */

ASH_API int ash_gate_stats(const struct ash_gate *g, struct ash_gate_stats *out)
{
    if (g == NULL || out == NULL)
        return -EINVAL;
    *out = (struct ash_gate_stats){
        .limit = g->config.limit,
        .inside = UNITS(load_relaxed(&g->word)),
        .most = load_relaxed(&g->most),
        .entered = tally_sum(&g->tally, COUNT_ENTERED),
        .refused = tally_sum(&g->tally, COUNT_REFUSED),
        .waited = tally_sum(&g->tally, COUNT_WAITED),
        .timeouts = tally_sum(&g->tally, COUNT_TIMEOUT),
        .highs = load_relaxed(&g->highs),
    };
    return 0;
}

ASH_API int ash_gate_dump(const struct ash_gate *g, int fd)
{
    struct ash_gate_stats s;
    char line[256];
    if (ash_gate_stats(g, &s) != 0)
        return -EINVAL;
    size_t n = fmt_text(line, sizeof line,
                        "gate %s: %ju of %ju inside, %ju at most; entered %ju, refused %ju, "
                        "waited %ju, timeouts %ju, highs %ju\n",
                        g->name, s.inside, s.limit, s.most, s.entered, s.refused, s.waited,
                        s.timeouts, s.highs);
    return os_write_all(fd, line, n);
}

/* The figures of struct ash_gate_stats, all of them and in its order. */
static const struct ash_stats_column columns[] = {
    SHOWN_COLUMN("limit", GAUGE, COUNT, "Units that may be inside."),
    SHOWN_COLUMN("inside", GAUGE, COUNT, "Units inside."),
    SHOWN_COLUMN("most", GAUGE, COUNT, "The most there ever were."),
    SHOWN_COLUMN("entered", COUNTER, COUNT, "Units that entered."),
    SHOWN_COLUMN("refused", COUNTER, COUNT, "Calls that found no room."),
    SHOWN_COLUMN("waited", COUNTER, COUNT, "Calls that slept."),
    SHOWN_COLUMN("timeouts", COUNTER, COUNT, "And found no room in time."),
    SHOWN_COLUMN("highs", COUNTER, COUNT, "Times that the high mark was reached."),
};
_Static_assert(sizeof(struct ash_gate_stats) == ASH_COUNT(columns) * sizeof(uint64_t),
               "the columns are the figures");

static void read_values(const void *gate, uint64_t *values)
{
    struct ash_gate_stats s;
    ash_gate_stats(gate, &s);
    memcpy(values, &s, sizeof s);
}

SHOWN_KIND(kind, "gates", "gate", columns, read_values)

/* ---- life ---- */

ASH_API struct ash_gate *ash_gate_create(const char *name, const struct ash_gate_config *config)
{
    struct ash_gate_config read;
    char copy[NAME_CAP];
    bool good = config_read(&read, sizeof read, config, offsetof(struct ash_gate_config, high)) &&
                name_read(copy, name, "gate");
    if (good && read.high == 0)
        read.high = read.limit;
    if (!good || read.limit == 0 || read.limit > UINT32_MAX || read.high > read.limit ||
        read.low >= read.high) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_gate *g = ash_aligned_alloc(ASH_CACHE_LINE, sizeof *g);
    if (g == NULL)
        return NULL;
    memset(g, 0, sizeof *g);
    g->config = read;
    memcpy(g->name, copy, sizeof copy);
    g->shown = shown_open(&kind, g->name, g);
    return g;
}

ASH_API int ash_gate_destroy(struct ash_gate *g)
{
    if (g == NULL)
        return 0;
    uint64_t word = load_acquire(&g->word); /* the last leave; pairs with ash_gate_leave */
    if (UNITS(word) != 0 || WAITERS(word) != 0)
        return -EBUSY;
    if (shown_close(g->shown))
        ash_free(g);
    return 0;
}

void gate_forget(struct ash_gate *g)
{
    store_relaxed(&g->word, load_relaxed(&g->word) & CLOSED);
    store_relaxed(&g->most, 0);
    store_relaxed(&g->highs, 0);
    memset(&g->tally, 0, sizeof g->tally);
}
