/*
 * Tiers (ashlar/tier.h): counters of calls, and who compiles what when.
 *
 *  1. A hit raises `calls` and compares it with `limit`; both are on one line, which belongs to one
 *     function. That is all as long as nothing is due.
 *  2. At the limit, whoever turns `state` from IDLE to QUEUED owns the function; all others go on.
 *     The owner alone reads and writes the owner's fields and sets the limit. If the function is
 *     not due (the cool-down, an earlier owner), it moves the limit on and is IDLE again.
 *  3. If it is due the limit becomes the largest number, so nobody comes this way meanwhile, and
 *     the job is run, or handed to `spawn` with the ownership. The job turns QUEUED into RUNNING: a
 *     job that does not succeed in that is a stale one of before a fork, and does nothing.
 *  4. The end of a job: tier, then the new limit, then IDLE. Each transition is one ownership, and
 *     an ownership decides by what it reads itself: so each happens exactly once.
 *
 * The limit moves by an eighth of the calls while a cool-down lasts: for a function that runs
 * evenly that oversteps the time by as much, and costs eight looks at the clock for each doubling.
 *
 * Rejected: a counter that counts down to 0 and is filled up again. A store of one thread that was
 * stopped in between would undo the filling up, and calls would be counted that never were.
 */
#include "ashlar/tier.h"

#include "ashlar/malloc.h"
#include "base/atomic.h"
#include "base/config.h"
#include "base/fmt.h"
#include "base/name.h"
#include "os/os_clock.h"
#include "os/os_file.h"
#include "os/os_fork.h"
#include "os/os_lock.h"
#include "vm/shown.h"

#include <errno.h>

enum {
    TIERS_DEFAULT = 4,
    CALLS_DEFAULT = 100,
    COOLDOWN_DEFAULT = 10 * 1000 * 1000,
    BACKOFF_MOST = 10, /* doublings of a cool-down */
    LOOK_AGAIN = 8,    /* after this part of the calls */
};

#define LIMIT_NEVER UINT64_MAX

enum state { IDLE, QUEUED, RUNNING };

struct fn {
    struct ash_tier_fn head; /* atomic: calls by whoever calls, the rest by the owner */
    _Atomic(uint32_t) state; /* atomic: enum state; the one who leaves IDLE is the owner */
    unsigned setbacks;       /* owner: failures in a row, and demotions */
    uint64_t since_ns;       /* owner: when it came into its tier, or failed to leave it */
    uint64_t base;           /* owner: calls that do not count any more */
    uintptr_t runner;        /* owner: the thread in `compile` */
    struct ash_tier *set;    /* const */
    void *arg;               /* const */
    struct fn *next;         /* under the set's lock */
    struct fn *prev;
    char name[NAME_CAP]; /* const */
};

struct ash_tier {
    struct os_lock lock;                                         /* over the list */
    struct fn *first;                                            /* under the lock */
    size_t functions;                                            /* under the lock */
    struct ash_tier_config config;                               /* const, defaults filled in */
    _Atomic(uint64_t) transitions, failures, refused, demotions; /* atomic: counts */
    struct os_fork fork;
    struct shown *shown; /* const; NULL: there was no memory for it */
    char name[NAME_CAP]; /* const */
};

ASH_INLINE struct fn *fn_of(struct ash_tier_fn *head)
{
    return (struct fn *)(void *)head;
}

/* ---- the owner's part ---- */

static bool fn_own(struct fn *f)
{
    uint32_t idle = IDLE; /* acquire: the owner's fields; pairs with fn_disown */
    return cas_strong_acq_rel(&f->state, &idle, QUEUED);
}

static void limit_set(struct fn *f, uint64_t limit)
{
    __atomic_store_n(&f->head.limit, limit, __ATOMIC_RELAXED);
}

static uint64_t calls_get(const struct fn *f)
{
    return __atomic_load_n(&f->head.calls, __ATOMIC_RELAXED);
}

/* release: the owner's fields, and what `compile` wrote; pairs with fn_own */
static void fn_disown(struct fn *f)
{
    store_release(&f->state, IDLE);
}

/* The count at which the function is due for the tier above its own; never in the highest. */
static uint64_t fn_threshold(const struct fn *f)
{
    const struct ash_tier_config *config = &f->set->config;
    return f->head.tier + 1 < config->tiers ? f->base + config->calls[f->head.tier] : LIMIT_NEVER;
}

static uint64_t fn_cooldown(const struct fn *f)
{
    int64_t ns = f->set->config.cooldown_ns[f->head.tier];
    return ns < 0 ? 0 : (uint64_t)ns << size_min(f->setbacks, BACKOFF_MOST);
}

/* Comes to a decision: true when the function is due; else its limit is moved on. */
static bool fn_due(struct fn *f)
{
    uint64_t calls = calls_get(f), threshold = fn_threshold(f);
    if (calls < threshold) {
        limit_set(f, threshold);
        return false;
    }
    if (os_clock_ns() - f->since_ns < fn_cooldown(f)) {
        limit_set(f, calls + calls / LOOK_AGAIN + 1);
        return false;
    }
    limit_set(f, LIMIT_NEVER);
    return true;
}

/* After a failure: the function stays, and its cool-down begins again, twice as long. */
static void fn_back_off(struct fn *f, _Atomic(uint64_t) *count)
{
    uint64_t calls = calls_get(f);
    add_relaxed(count, 1);
    f->since_ns = os_clock_ns();
    f->setbacks += f->setbacks < BACKOFF_MOST;
    limit_set(f, calls + calls / LOOK_AGAIN + 1);
    fn_disown(f);
}

static void fn_promote(struct fn *f)
{
    add_relaxed(&f->set->transitions, 1);
    f->since_ns = os_clock_ns();
    f->setbacks = 0;
    /* release: what `compile` wrote; pairs with ash_tier_level */
    __atomic_store_n(&f->head.tier, f->head.tier + 1, __ATOMIC_RELEASE);
    limit_set(f, fn_threshold(f));
    fn_disown(f);
}

/* The job: on an executor, or called by the owner. */
static void fn_compile(void *arg)
{
    struct fn *f = arg;
    struct ash_tier *set = f->set;
    uint32_t queued = QUEUED; /* acquire: the owner's fields, from another thread */
    if (!cas_strong_acq_rel(&f->state, &queued, RUNNING))
        return;
    f->runner = os_fork_self();
    if (set->config.compile(f->arg, f->head.tier + 1, set->config.user) == 0)
        fn_promote(f);
    else
        fn_back_off(f, &set->failures);
}

ASH_API void ash_tier_hot(struct ash_tier_fn *fn)
{
    struct fn *f = fn_of(fn);
    const struct ash_tier_config *config = &f->set->config;
    if (!fn_own(f))
        return;
    if (!fn_due(f))
        fn_disown(f);
    else if (config->spawn == NULL)
        fn_compile(f);
    else if (config->spawn(config->exec, fn_compile, f) != 0)
        fn_back_off(f, &f->set->refused);
}

ASH_API int ash_tier_demote(struct ash_tier_fn *fn, unsigned tier)
{
    if (fn == NULL)
        return -EINVAL;
    struct fn *f = fn_of(fn);
    if (!fn_own(f))
        return -EBUSY;
    bool lower = tier < f->head.tier;
    if (lower) {
        add_relaxed(&f->set->demotions, 1);
        f->base = calls_get(f);
        f->since_ns = os_clock_ns();
        f->setbacks += f->setbacks < BACKOFF_MOST;
        __atomic_store_n(&f->head.tier, tier, __ATOMIC_RELEASE); /* as in fn_promote */
        limit_set(f, fn_threshold(f));
    }
    fn_disown(f);
    return lower ? 0 : -EINVAL;
}

/* ---- sets of functions ---- */

static struct ash_tier *tier_of_fork(struct os_fork *self)
{
    return (struct ash_tier *)(void *)((char *)self - offsetof(struct ash_tier, fork));
}

static void tier_hold(struct os_fork *self)
{
    os_lock(&tier_of_fork(self)->lock);
}

/*
 * What other threads were compiling is not compiled in the child. They may have stopped between two
 * stores of the owner's fields: each alone is sound, and a limit of 0 has the next call decide.
 */
static void tier_release(struct os_fork *self, bool child)
{
    struct ash_tier *set = tier_of_fork(self);
    for (struct fn *f = set->first; child && f != NULL; f = f->next) {
        uint32_t state = load_acquire(&f->state); /* no other thread is left to pair with */
        if (state == QUEUED || (state == RUNNING && f->runner != os_fork_self())) {
            limit_set(f, 0);
            fn_disown(f);
        }
    }
    os_unlock(&set->lock);
}

/* Fills the defaults in; false when the settings make no sense. */
static bool config_complete(struct ash_tier_config *config)
{
    uint64_t calls = CALLS_DEFAULT, before = 0;
    int64_t cooldown = COOLDOWN_DEFAULT;
    if (config->tiers == 0)
        config->tiers = TIERS_DEFAULT;
    if (config->compile == NULL || config->tiers < 2 || config->tiers > ASH_TIER_MAX)
        return false;
    for (unsigned i = 0; i + 1 < config->tiers; i++) {
        if (config->calls[i] == 0)
            config->calls[i] = calls;
        if (config->cooldown_ns[i] == 0)
            config->cooldown_ns[i] = cooldown;
        if (config->calls[i] <= before || config->calls[i] > LIMIT_NEVER / 4 ||
            config->cooldown_ns[i] > INT64_MAX >> BACKOFF_MOST)
            return false;
        before = config->calls[i];
        calls *= 10;
        cooldown *= 10;
    }
    return true;
}

/* What can be read without the lock. */
static const struct ash_stats_column columns[] = {
    SHOWN_COLUMN("transitions", COUNTER, COUNT, "Compilations that succeeded."),
    SHOWN_COLUMN("failures", COUNTER, COUNT, "Compilations that did not."),
    SHOWN_COLUMN("refused", COUNTER, COUNT, "Compilations that no executor took."),
    SHOWN_COLUMN("demotions", COUNTER, COUNT, "Functions put back into a lower tier."),
};

static void read_values(const void *tier, uint64_t *values)
{
    const struct ash_tier *set = tier;
    values[0] = load_relaxed(&set->transitions);
    values[1] = load_relaxed(&set->failures);
    values[2] = load_relaxed(&set->refused);
    values[3] = load_relaxed(&set->demotions);
}

SHOWN_KIND(kind, "tiers", "tier", columns, read_values)

ASH_API struct ash_tier *ash_tier_create(const char *name, const struct ash_tier_config *config)
{
    struct ash_tier_config read;
    char copy[NAME_CAP];
    if (!config_read(&read, sizeof read, config, offsetof(struct ash_tier_config, tiers)) ||
        !name_read(copy, name, "tier") || !config_complete(&read)) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_tier *set = ash_calloc(1, sizeof *set);
    if (set == NULL)
        return NULL;
    set->config = read;
    memcpy(set->name, copy, sizeof copy);
    set->fork = (struct os_fork){.hold = tier_hold, .release = tier_release};
    if (os_fork_add(&set->fork) != 0) {
        ash_free(set);
        errno = ENOMEM;
        return NULL;
    }
    set->shown = shown_open(&kind, set->name, set);
    return set;
}

ASH_API int ash_tier_destroy(struct ash_tier *set)
{
    if (set == NULL)
        return -EINVAL;
    os_lock(&set->lock);
    bool busy = false;
    for (struct fn *f = set->first; f != NULL; f = f->next)
        busy |= load_acquire(&f->state) != IDLE; /* the job's last write; pairs with fn_disown */
    os_unlock(&set->lock);
    if (busy)
        return -EBUSY;
    bool unread = shown_close(set->shown);
    os_fork_remove(&set->fork);
    for (struct fn *f = set->first, *next; f != NULL; f = next) {
        next = f->next;
        ash_free(f);
    }
    if (unread)
        ash_free(set);
    return 0;
}

ASH_API struct ash_tier_fn *ash_tier_register(struct ash_tier *set, const char *name, void *arg)
{
    if (set == NULL || name == NULL) {
        errno = EINVAL;
        return NULL;
    }
    struct fn *f = ash_calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->set = set;
    f->arg = arg;
    f->since_ns = os_clock_ns();
    f->head.limit = set->config.calls[0];
    fmt_text(f->name, sizeof f->name, "%s", name);
    os_lock(&set->lock);
    f->next = set->first;
    if (set->first != NULL)
        set->first->prev = f;
    set->first = f;
    set->functions++;
    os_unlock(&set->lock);
    return &f->head;
}

ASH_API int ash_tier_unregister(struct ash_tier *set, struct ash_tier_fn *fn)
{
    if (set == NULL || fn == NULL || fn_of(fn)->set != set)
        return -EINVAL;
    struct fn *f = fn_of(fn);
    if (!fn_own(f))
        return -EBUSY;
    os_lock(&set->lock);
    if (f->prev != NULL)
        f->prev->next = f->next;
    else
        set->first = f->next;
    if (f->next != NULL)
        f->next->prev = f->prev;
    set->functions--;
    os_unlock(&set->lock);
    ash_free(f);
    return 0;
}

/* ---- figures ---- */

ASH_API int ash_tier_stats(struct ash_tier *set, struct ash_tier_stats *out)
{
    if (set == NULL || out == NULL)
        return -EINVAL;
    *out = (struct ash_tier_stats){
        .transitions = load_relaxed(&set->transitions),
        .failures = load_relaxed(&set->failures),
        .refused = load_relaxed(&set->refused),
        .demotions = load_relaxed(&set->demotions),
    };
    os_lock(&set->lock);
    out->functions = set->functions;
    for (struct fn *f = set->first; f != NULL; f = f->next) {
        out->compiling += load_relaxed(&f->state) != IDLE;
        out->in_tier[ash_tier_level(&f->head)]++;
    }
    os_unlock(&set->lock);
    return 0;
}

struct row {
    char name[NAME_CAP];
    uint64_t calls;
    unsigned tier;
};

/* A copy, since writing may wait and others register meanwhile; NULL when there is no memory. */
static struct row *rows_take(struct ash_tier *set, size_t *count)
{
    os_lock(&set->lock);
    size_t room = set->functions;
    os_unlock(&set->lock);
    struct row *rows = ash_malloc(room * sizeof *rows);
    size_t n = 0;
    os_lock(&set->lock);
    for (struct fn *f = set->first; rows != NULL && f != NULL && n < room; f = f->next, n++) {
        memcpy(rows[n].name, f->name, sizeof f->name);
        rows[n].calls = calls_get(f);
        rows[n].tier = ash_tier_level(&f->head);
    }
    os_unlock(&set->lock);
    *count = n;
    return rows;
}

ASH_API int ash_tier_dump(struct ash_tier *set, int fd)
{
    struct ash_tier_stats stats;
    int status = ash_tier_stats(set, &stats);
    if (status != 0)
        return status;
    size_t count;
    struct row *rows = rows_take(set, &count);
    if (rows == NULL)
        return -ENOMEM;

    char buf[1024];
    struct fmt f;
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "tier %s: %ju functions, %ju transitions, %ju failures, %ju refused, ",
               set->name, stats.functions, stats.transitions, stats.failures, stats.refused);
    fmt_printf(&f, "%ju demotions, %ju compiling\n", stats.demotions, stats.compiling);
    for (size_t i = 0; i < count; i++)
        fmt_printf(&f, "  %-31s tier %u  calls %ju\n", rows[i].name, rows[i].tier, rows[i].calls);
    ash_free(rows);
    return fmt_end(&f);
}
