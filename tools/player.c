/*
 * Plays a trace back: each recorded thread is a thread, and makes its calls in its order.
 *
 *   1. A thread decodes its events up to the next mark, without the clock, then makes these calls
 *      under it: reading the trace, and the first touch of the player's own tables, cost the
 *      result nothing. Time spent in waiting is taken off.
 *   2. Marks are passed in their recorded order, whatever the allocator's speed: a thread waits for
 *      its turn. Between marks, whoever ends another thread's block waits for it to be there.
 *   3. A block's address is published in its owner's table, by the index of the object. Of 4,096
 *      objects that ended all, the piece of the table goes back to the system. What the tables
 *      need at most is taken off the peak memory.
 *   4. Nothing of the player is allocated by malloc while it plays, except what pthread_create
 *      does, as in the recorded program.
 *   5. The first word of a block is its size, mixed with a constant: realloc must keep it.
 *
 * Times of single calls would take a clock of their own, which costs more than they do.
 */
#include "replay.h"

#include "base/atomic.h"
#include "base/base.h"
#include "os/os_clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    PART = 128,   /* calls that are decoded at once: they stay in the first cache */
    PIECE = 4096, /* objects whose table goes back together */
    SPINS = 200,
    YIELDS = 400,
    THREAD_STACK = 1 << 18,
    NAP_NS = 20000,       /* of a thread that waits longer than others usually take */
    STUCK_NS = 1000000000 /* nobody did anything for so long */
};

#define MIXED 0x9E3779B97F4A7C15u

const char *const replay_touches[TOUCHES] = {"none", "first", "pages", "all"};

static char gone; /* its address stands for a block that is not there any more */

struct slot {
    _Atomic(void *) block; /* atomic: NULL before it begins. Released by made, acquired by take */
    size_t size;           /* written when the call is decoded, before the block is published */
};

struct call {
    uint8_t op; /* enum trace_op */
    uint8_t align_log2;
    bool remote;
    uint64_t size;
    struct slot *ends, *made; /* NULL: none */
    struct thread *owner;     /* of the one that ends */
};

struct thread {
    struct player *player;
    const struct trace_thread *trace;
    struct trace_cursor cursor;
    struct slot *slots;      /* by object */
    _Atomic(uint32_t) *left; /* per piece of slots; atomic: counts PIECE ends down from 0 */
    uint64_t *ranks;         /* where its marks stand among all marks, in their order */
    uint64_t mark_next;      /* the index of the next one */
    struct replay_figures sums;
    int64_t waited; /* ns, in the current part */
};

struct player {
    const struct trace *trace;
    enum replay_touch touch;
    struct thread *threads;
    struct thread **starts; /* by their first marks; the first one is the main thread */
    size_t next_start;      /* turn: whoever's turn it is may change it */
    size_t page;
    _Atomic(uint64_t) turn;     /* atomic: rank of the mark that may pass; see mark_pass */
    _Atomic(uint64_t) progress; /* atomic: parts played, threads begun */
    _Atomic(uint32_t) running;  /* atomic: threads that have begun and not ended */
    _Atomic(uint32_t) waiting;  /* atomic: of these, those inside wait_more */
    _Atomic(bool) stuck;        /* atomic: everybody gives up */
    _Atomic(uint64_t) tables;   /* atomic: bytes of the slots that are in use */
    _Atomic(uint64_t) tables_peak;
};

/* ---- waiting ---- */

struct wait {
    struct player *player;
    uint64_t begin, idle_since, progress;
    unsigned tries;
};

/* One step of waiting for another thread; false when it will not come. */
static bool wait_more(struct wait *w)
{
    struct player *p = w->player;
    if (w->tries++ == 0) {
        w->begin = os_clock_ns();
        add_relaxed(&p->waiting, 1);
    }
    if (w->tries < SPINS)
        return true;
    if (w->tries < YIELDS) {
        sched_yield();
        return true;
    }
    nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    uint64_t progress = load_relaxed(&p->progress), now = os_clock_ns();
    bool idle = progress == w->progress && load_relaxed(&p->waiting) >= load_relaxed(&p->running);
    if (!idle || w->idle_since == 0)
        w->idle_since = now;
    w->progress = progress;
    if (now - w->idle_since > STUCK_NS)
        store_relaxed(&p->stuck, true);
    return !load_relaxed(&p->stuck);
}

/* Time that was spent. */
static int64_t wait_end(struct wait *w)
{
    if (w->tries == 0)
        return 0;
    sub_relaxed(&w->player->waiting, 1);
    return (int64_t)(os_clock_ns() - w->begin);
}

static void *play_thread(void *arg);

/* Starts the threads whose first mark has this rank; the caller's turn is not over. */
static void start_threads(struct player *p, uint64_t rank)
{
    pthread_attr_t attributes;
    pthread_t id;
    if (p->next_start == p->trace->thread_count || p->starts[p->next_start]->ranks[0] != rank)
        return;
    struct thread *t = p->starts[p->next_start++];
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    /* Nobody joins them: the stack of one that ended serves the next, as with most programs. */
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    add_relaxed(&p->running, 1);
    if (pthread_create(&id, &attributes, play_thread, t) != 0) {
        sub_acq_rel(&p->running, 1);
        store_relaxed(&p->stuck, true);
    }
    pthread_attr_destroy(&attributes);
}

/* Rule 2. False: give up. */
static bool mark_pass(struct thread *t)
{
    struct player *p = t->player;
    struct wait w = {.player = p};
    uint64_t rank = t->ranks[t->mark_next++];
    bool more = true;
    /* acquire: with the release below, what a part did comes before what follows its mark */
    while (load_acquire(&p->turn) != rank && more)
        more = wait_more(&w);
    wait_end(&w);
    if (!more)
        return false;
    start_threads(p, rank + 1);
    store_release(&p->turn, rank + 1);
    return !load_relaxed(&p->stuck);
}

/* ---- calls ---- */

static void touch_from(unsigned char *block, size_t from, size_t size, const struct player *p)
{
    volatile unsigned char *b = block;
    if (p->touch == TOUCH_ALL)
        memset(block + from, 0x5A, size - from);
    else if (p->touch == TOUCH_PAGES)
        for (size_t i = align_up(from + 1, p->page); i < size; i += p->page)
            b[i] = 0x5A;
}

/* Writes to a block, of which the first `from` bytes are old. */
ASH_INLINE void touch(void *block, size_t from, size_t size, const struct player *p)
{
    uint64_t word = size ^ MIXED;
    if (p->touch == TOUCH_NONE)
        return;
    if (p->touch > TOUCH_FIRST && size > from)
        touch_from(block, from, size, p);
    if (size >= sizeof word)
        memcpy(block, &word, sizeof word);
    else if (size != 0)
        *(volatile unsigned char *)block = 0x5A;
}

static void *aligned(const struct call *c)
{
    void *block;
    size_t align = size_max((size_t)1 << c->align_log2, sizeof(void *));
    return posix_memalign(&block, align, c->size) == 0 ? block : NULL;
}

/* Publishes the block; a refused one is gone from the start. */
ASH_INLINE void made(struct thread *t, const struct call *c, void *block)
{
    if (ASH_UNLIKELY(block == NULL))
        t->sums.refused++;
    if (ASH_UNLIKELY(((uintptr_t)block & (((uintptr_t)1 << c->align_log2) - 1)) != 0))
        t->sums.misaligned++;
    /* release: the size and the block's contents; pairs with take's acquire */
    store_release(&c->made->block, block != NULL ? block : &gone);
}

/* The block that ends; NULL: there is none. */
ASH_INLINE void *take(struct thread *t, const struct call *c)
{
    void *block = load_acquire(&c->ends->block); /* acquire: what made wrote before */
    if (ASH_UNLIKELY(block == NULL && c->remote)) {
        struct wait w = {.player = t->player};
        while ((block = load_acquire(&c->ends->block)) == NULL)
            if (!wait_more(&w))
                break;
        t->waited += wait_end(&w);
    }
    store_relaxed(&c->ends->block, &gone);
    return block != &gone ? block : NULL;
}

static void play_realloc(struct thread *t, const struct call *c)
{
    void *old = take(t, c);
    size_t from = old != NULL ? c->ends->size : 0;
    uint64_t word = from ^ MIXED;
    void *block = realloc(old, size_max(c->size, 1));
    if (block != NULL) {
        bool written = t->player->touch != TOUCH_NONE && size_min(from, c->size) >= sizeof word;
        t->sums.broken += written && memcmp(block, &word, sizeof word) != 0;
        touch(block, from, c->size, t->player);
    }
    made(t, c, block);
}

static void play_free(struct thread *t, const struct call *c)
{
    void *block = take(t, c);
    if (block == NULL) {
        t->sums.skipped++;
        t->sums.calls--;
        return;
    }
    free(block);
}

static void play_part(struct thread *t, const struct call *calls, size_t count)
{
    for (const struct call *c = calls; c < calls + count; c++) {
        void *block;
        switch (c->op) {
        case TRACE_FREE:
        case TRACE_FREE_REMOTE:
            play_free(t, c);
            continue;
        case TRACE_REALLOC:
        case TRACE_REALLOC_REMOTE:
            play_realloc(t, c);
            continue;
        case TRACE_CALLOC:
            block = calloc(1, c->size);
            break;
        case TRACE_ALIGNED:
            block = aligned(c);
            break;
        default:
            block = malloc(c->size);
        }
        if (ASH_LIKELY(block != NULL))
            touch(block, 0, c->size, t->player);
        made(t, c, block);
    }
}

/* ---- a thread ---- */

/* Finds the object that the event ends; one that is not in the trace makes it another event. */
static bool find_ended(struct thread *t, const struct trace_event *e, struct call *c)
{
    const struct trace *trace = t->player->trace;
    bool remote = e->op == TRACE_FREE_REMOTE || e->op == TRACE_REALLOC_REMOTE;
    bool release = e->op == TRACE_FREE || e->op == TRACE_FREE_REMOTE;
    if (!remote && !release && e->op != TRACE_REALLOC)
        return true;
    struct thread *owner = remote ? &t->player->threads[trace_thread_find(trace, e->thread)] : t;
    if (owner == &t->player->threads[trace->thread_count] || !trace_has(owner->trace, e->object)) {
        t->sums.skipped++;
        c->op = TRACE_MALLOC;
        return !release;
    }
    c->owner = owner;
    c->ends = &owner->slots[e->object];
    c->remote = remote;
    return true;
}

static bool makes_block(const struct trace_event *e)
{
    return e->op != TRACE_FREE && e->op != TRACE_FREE_REMOTE;
}

/* Another page of slots is used. */
static void table_grow(struct player *p)
{
    atomic_max(&p->tables_peak, add_relaxed(&p->tables, p->page) + p->page);
}

/* Decodes calls up to a mark or the end of the room; their number. */
static size_t decode_part(struct thread *t, struct call *calls, bool *marked, bool *more)
{
    struct trace_event e;
    size_t n = 0;
    *marked = false;
    while (n < PART && (*more = trace_next(&t->cursor, &e))) {
        if (e.op == TRACE_OTHER) {
            *marked = true;
            break;
        }
        struct call *c = &calls[n];
        if (makes_block(&e) && (uintptr_t)&t->slots[e.made] % t->player->page == 0)
            table_grow(t->player);
        *c =
            (struct call){.op = (uint8_t)e.op, .align_log2 = (uint8_t)e.align_log2, .size = e.size};
        if (makes_block(&e)) {
            c->made = &t->slots[e.made];
            c->made->size = e.size;
        }
        n += find_ended(t, &e, c);
    }
    t->sums.calls += n;
    return n;
}

/* Rule 3. */
static void retire_part(struct thread *t, const struct call *calls, size_t count)
{
    for (const struct call *c = calls; c < calls + count; c++) {
        if (c->ends == NULL)
            continue;
        size_t piece = (size_t)(c->ends - c->owner->slots) / PIECE;
        /* acq_rel: whoever comes last finds everybody else done with the slots */
        if (sub_acq_rel(&c->owner->left[piece], 1) == 1 - (uint32_t)PIECE) {
            madvise(&c->owner->slots[piece * PIECE], PIECE * sizeof(struct slot), MADV_DONTNEED);
            sub_relaxed(&t->player->tables, PIECE * sizeof(struct slot));
        }
    }
}

static void *play_thread(void *arg)
{
    struct thread *t = arg;
    struct player *p = t->player;
    struct call calls[PART];
    bool marked, more = true;
    while (more && !load_relaxed(&p->stuck)) {
        size_t count = decode_part(t, calls, &marked, &more);
        uint64_t begin = os_clock_ns();
        t->waited = 0;
        play_part(t, calls, count);
        t->sums.ns += (int64_t)(os_clock_ns() - begin) - t->waited;
        retire_part(t, calls, count);
        add_relaxed(&p->progress, 1);
        if (marked && !mark_pass(t))
            break;
    }
    sub_acq_rel(&p->running, 1); /* release: the sums; pairs with the acquire in run */
    return NULL;
}

/* ---- the whole ---- */

struct ranked {
    uint64_t mark;
    uint32_t thread, index;
};

static int mark_order(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->mark != y->mark)
        return x->mark < y->mark ? -1 : 1;
    return x->thread != y->thread ? (x->thread < y->thread ? -1 : 1)
                                  : (x->index < y->index ? -1 : 1);
}

/* Memory that malloc does not count; it stays until the process ends. NULL: there is none. */
static void *memory(size_t size)
{
    void *p = mmap(NULL, size + 1, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p != MAP_FAILED ? p : NULL;
}

/* Every thread's ranks: where its marks stand among all. */
static bool rank_marks(struct player *p)
{
    size_t count = 0, total = p->trace->events[TRACE_OTHER];
    struct ranked *all = memory(total * sizeof *all);
    uint64_t *ranks = memory(total * sizeof *ranks);
    struct trace_event e;
    if (all == NULL || ranks == NULL)
        return false;
    for (size_t i = 0; i < p->trace->thread_count; i++) {
        struct thread *t = &p->threads[i];
        uint32_t index = 0;
        t->ranks = ranks + count;
        trace_rewind(&t->cursor, t->trace);
        while (trace_next(&t->cursor, &e))
            if (e.op == TRACE_OTHER)
                all[count++] = (struct ranked){e.mark, (uint32_t)i, index++};
        trace_rewind(&t->cursor, t->trace);
    }
    qsort(all, count, sizeof *all, mark_order);
    for (size_t i = 0; i < count; i++)
        p->threads[all[i].thread].ranks[all[i].index] = i;
    munmap(all, total * sizeof *all + 1);
    return true;
}

/* The tables lie one behind the other, so that many small threads need little. */
static bool prepare_tables(struct player *p)
{
    size_t slots = 0, pieces = 0, count = p->trace->thread_count;
    for (size_t i = 0; i < count; i++)
        slots = align_up(slots, PIECE) + p->trace->threads[i].objects; /* enough for any packing */
    struct slot *slot = memory(slots * sizeof *slot);
    _Atomic(uint32_t) *left = memory((slots / PIECE + count + 1) * sizeof *left);
    if (slot == NULL || left == NULL)
        return false;
    slots = 0;
    for (size_t i = 0; i < count; i++) {
        struct thread *t = &p->threads[i];
        if (t->trace->objects >= PIECE) /* its pieces can go back */
            slots = align_up(slots, PIECE);
        t->slots = slot + slots;
        t->left = left + pieces;
        slots += t->trace->objects;
        pieces += t->trace->objects / PIECE + 1;
    }
    return true;
}

static bool prepare(struct player *p)
{
    size_t count = p->trace->thread_count;
    p->page = (size_t)sysconf(_SC_PAGESIZE);
    p->threads = memory((count + 1) * sizeof *p->threads);
    p->starts = memory(count * sizeof *p->starts);
    if (p->threads == NULL || p->starts == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        p->starts[i] = &p->threads[i];
        p->threads[i].player = p;
        p->threads[i].trace = &p->trace->threads[i];
    }
    return prepare_tables(p) && rank_marks(p);
}

/* Bytes behind a word of /proc/self/status. */
static int64_t status_bytes(const char *word)
{
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *at = strstr(text, word);
    return at != NULL ? strtoll(at + strlen(word), NULL, 10) * 1024 : 0;
}

/* The peak begins anew from what is resident now. */
static void forget_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = write(fd, "5", 1);
    (void)n;
    close(fd);
}

static int start_order(const void *a, const void *b)
{
    const struct thread *x = *(struct thread *const *)a, *y = *(struct thread *const *)b;
    return x->ranks[0] < y->ranks[0] ? -1 : 1;
}

/* Each thread is started at its first mark's turn, as in the recording; the first one is here. */
static void run(struct player *p)
{
    size_t count = p->trace->thread_count;
    qsort(p->starts, count, sizeof *p->starts, start_order);
    p->next_start = 1;
    store_relaxed(&p->running, 1);
    play_thread(p->starts[0]);
    /* acquire: the sums. Whoever starts a thread is running itself until that one counts. */
    while (load_acquire(&p->running) != 0)
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
}

void replay_play(const struct trace *t, enum replay_touch touch_mode, struct replay_figures *f)
{
    struct player p = {.trace = t, .touch = touch_mode};
    *f = (struct replay_figures){.calls = 0};
    if (!prepare(&p)) {
        snprintf(f->why, sizeof f->why, "out of memory for tables of the trace's blocks");
        return;
    }
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* threads get it from this one: short naps are short */
    forget_peak();
    int64_t resident = status_bytes("VmRSS:");
    uint64_t begin = os_clock_ns();
    run(&p);
    f->wall_ns = (int64_t)(os_clock_ns() - begin);
    f->rss = status_bytes("VmHWM:") - resident - (int64_t)load_relaxed(&p.tables_peak);
    f->rss = f->rss > 0 ? f->rss : 0;
    f->stuck = load_relaxed(&p.stuck);
    for (size_t i = 0; i < t->thread_count; i++) {
        const struct replay_figures *one = &p.threads[i].sums;
        f->calls += one->calls;
        f->skipped += one->skipped;
        f->refused += one->refused;
        f->broken += one->broken;
        f->misaligned += one->misaligned;
        f->ns += one->ns;
    }
}
