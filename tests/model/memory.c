/*
 * The memory model. See model.h for what it is.
 *
 * A word has messages, numbered as they come into being; number 0 is what it held when the run began. Their places in
 * the word's modification order are `at`. A thread's view says for each word which message it has seen last: it may
 * read that one and those behind it. A message carries the view that an acquiring reader joins to its own: the whole
 * view of a releasing writer, joined with that of the message that a read-modify-write replaced (release sequences).
 *
 * A view has clocks as well, one a thread, which count its atomic accesses: plain.c stamps plain accesses with them.
 *
 * The word itself always holds the last message's value, so that outside of threads plain reads do.
 */
#include "model.h"

#include "mutants.h"

#include <string.h>

struct message {
    uint64_t value;
    struct view view;
    uint16_t causal[THREADS]; /* see search.c */
    uint8_t at;              /* place in the modification order */
    bool taken;              /* the one behind it is a read-modify-write's: nothing may come between */
    int8_t thread;           /* writer, -1 for message 0 */
    uint8_t count;           /* its writer's messages of this word before it */
};

struct location {
    volatile void *p;
    size_t size;
    const char *place; /* as the first access called it */
    unsigned count;
    struct message m[MESSAGES];
};

struct actor {
    struct view now;
    unsigned spurious; /* failures without a reason that are left */
    uint64_t reads;    /* hash of all that it has read */
};

static struct location locations[LOCATIONS];
static unsigned location_count;
static struct actor actors[THREADS];

/* One more value in a hash. */
ASH_INLINE uint64_t mix(uint64_t hash, uint64_t v)
{
    hash = (hash ^ v) * 0x9e3779b97f4a7c15;
    return hash ^ hash >> 29;
}

/* ---- words ---- */

enum { NAMES = 64, SLOTS = 512 };
static struct {
    const volatile void *p;
    const char *name;
} names[NAMES];
static unsigned name_count;
static uint8_t slots[SLOTS]; /* location + 1, by address */

void model_name(const volatile void *p, const char *name)
{
    if (name_count < NAMES) {
        names[name_count].p = p;
        names[name_count++].name = name;
    }
}

const char *memory_place(unsigned location)
{
    for (unsigned i = 0; i < name_count; i++)
        if (names[i].p == locations[location].p)
            return names[i].name;
    return locations[location].place;
}

void memory_begin(void)
{
    location_count = 0;
    plain_begin();
    memset(slots, 0, sizeof slots);
}

void memory_thread_begin(int thread, unsigned spurious)
{
    memset(&actors[thread], 0, sizeof actors[thread]);
    actors[thread].spurious = spurious;
    actors[thread].now.clock[thread] = 1;
}

static uint64_t word_get(const volatile void *p, size_t size)
{
    uint64_t v = 0;
    memcpy(&v, (const void *)(uintptr_t)p, size);
    return v;
}

static uint64_t word_trim(size_t size, uint64_t v)
{
    return size == 8 ? v : v & (((uint64_t)1 << (8 * size)) - 1);
}

static void word_set(volatile void *p, size_t size, uint64_t v)
{
    void *plain = (void *)(uintptr_t)p;
    if (machine_thread >= 0 || machine_checking)
        plain_save(plain, size);
    memcpy(plain, &v, size);
}

static unsigned location_of(const volatile void *p, size_t size, const char *place)
{
    unsigned slot = (unsigned)(((uintptr_t)p >> 1) * 0x9e3779b97f4a7c15 >> 48) % SLOTS;
    for (; slots[slot] != 0; slot = (slot + 1) % SLOTS)
        if (locations[slots[slot] - 1].p == p)
            return slots[slot] - 1u;
    if (location_count == LOCATIONS)
        model_fail("the threads use more than %d words", LOCATIONS);
    struct location *l = &locations[location_count];
    l->p = (volatile void *)(uintptr_t)p;
    l->size = size;
    l->place = place;
    l->count = 1;
    memset(&l->m[0], 0, sizeof l->m[0]);
    l->m[0].value = word_get(p, size);
    l->m[0].thread = -1;
    slots[slot] = (uint8_t)++location_count;
    return location_count - 1;
}

/* ---- views ---- */

static void view_join(struct view *into, const struct view *from)
{
    for (unsigned i = 0; i < location_count; i++) {
        const struct message *m = locations[i].m;
        if (m[from->seen[i]].at > m[into->seen[i]].at)
            into->seen[i] = from->seen[i];
    }
    for (unsigned i = 0; i < THREADS; i++)
        if (from->clock[i] > into->clock[i])
            into->clock[i] = from->clock[i];
}

/* Puts a new message directly behind `after`. */
static struct message *message_insert(struct location *l, unsigned after)
{
    if (l->count == MESSAGES)
        model_fail("%s is written more than %d times", l->place, MESSAGES - 1);
    unsigned at = l->m[after].at + 1u;
    unsigned mine = 0;
    for (unsigned i = 0; i < l->count; i++) {
        if (l->m[i].at >= at)
            l->m[i].at++;
        mine += l->m[i].thread == machine_thread;
    }
    struct message *m = &l->m[l->count++];
    memset(m, 0, sizeof *m);
    m->at = (uint8_t)at;
    m->thread = (int8_t)machine_thread;
    m->count = (uint8_t)mine;
    return m;
}

/* ---- what an access may do ---- */

/*
 * The choices of a thread's access, one bit each: bit m is to read message m, or to write behind it; bit 32 + m is for
 * a weak compare-and-swap to read message m, which holds what is expected, and to fail all the same.
 */
uint64_t memory_choices(int thread, const struct op *op)
{
    const struct location *l = &locations[op->location];
    unsigned from = l->m[actors[thread].now.seen[op->location]].at;
    uint64_t choices = 0;
    for (unsigned i = 0; i < l->count; i++) {
        const struct message *m = &l->m[i];
        if (m->at < from || (m->value & op->awaited) != 0)
            continue;
        bool reads_only = op->kind == MODEL_LOAD || (op->kind == MODEL_CAS && m->value != op->expected);
        if (reads_only || !m->taken)
            choices |= (uint64_t)1 << i;
        if (op->kind == MODEL_CAS && op->site->weak && !reads_only && actors[thread].spurious != 0)
            choices |= (uint64_t)1 << (MESSAGES + i);
    }
    return choices;
}

/* ---- accesses ---- */

#define HAS_ACQUIRE(order) ((order) == MODEL_ACQUIRE || (order) == MODEL_ACQ_REL)
#define HAS_RELEASE(order) ((order) == MODEL_RELEASE || (order) == MODEL_ACQ_REL)

/* An access outside of threads, or to a word that is left out: it sees and changes the word at once. */
static bool is_direct(const struct model_site *site)
{
    return machine_thread < 0 || site->quiet;
}

/* Of memory_await, whose bits come as `expected`. */
static struct model_site await_site = {.file = __FILE__,
                                       .function = "system call",
                                       .wrapper = "await",
                                       .place = "",
                                       .kind = MODEL_LOAD,
                                       .order = MODEL_ACQUIRE};

/* The access's turn comes: what it is to do. */
static unsigned turn(struct model_site *site, const volatile void *p, size_t size, enum model_kind kind,
                     uint64_t expected, struct location **l)
{
    site->reached = true;
    bool awaits = site == &await_site;
    struct op op = {site, kind, location_of(p, size, site->place), size,
                    awaits ? 0 : word_trim(size, expected), awaits ? expected : 0};
    *l = &locations[op.location];
    unsigned choice = machine_step(&op);
    plain_atomic((uintptr_t)p, size);
    return choice;
}

/* Reads a message of the word. */
static uint64_t read_message(struct location *l, unsigned id, bool acquire)
{
    struct actor *a = &actors[machine_thread];
    const struct message *m = &l->m[id];
    a->now.seen[l - locations] = (uint8_t)id;
    if (acquire)
        view_join(&a->now, &m->view);
    search_causal_read(m->causal);
    a->reads = mix(a->reads + 1, (uint64_t)(m->thread + 1) << 8 | m->count);
    if (m->thread < 0)
        machine_note("reads %#lx, as it was", (unsigned long)m->value);
    else
        machine_note("reads %#lx of thread %d", (unsigned long)m->value, m->thread);
    return m->value;
}

/* Writes a message behind `after`; `replaces` it if that is what a read-modify-write has read. */
static void write_message(struct location *l, unsigned after, uint64_t v, bool release, bool replaces)
{
    struct actor *a = &actors[machine_thread];
    struct message *m = message_insert(l, after);
    unsigned id = (unsigned)(m - l->m);
    m->value = word_trim(l->size, v);
    a->now.seen[l - locations] = (uint8_t)id;
    if (release)
        m->view = a->now;
    else
        m->view.seen[l - locations] = (uint8_t)id;
    if (replaces) {
        l->m[after].taken = true;
        view_join(&m->view, &l->m[after].view);
    }
    search_causal_get(m->causal);
    bool last = m->at == l->count - 1;
    machine_note("writes %#lx%s", (unsigned long)m->value, last ? "" : ", not as the last");
    if (last)
        word_set(l->p, l->size, m->value);
}

const uint16_t *memory_clocks(void)
{
    return actors[machine_thread].now.clock;
}

static void access_end(void)
{
    actors[machine_thread].now.clock[machine_thread]++;
}

/* Of a read-modify-write's site, these are the two halves that a mutant makes of it. */
uint64_t model_load(struct model_site *site, const volatile void *p, size_t size)
{
    if (is_direct(site))
        return word_get(p, size);
    struct location *l;
    unsigned choice = turn(site, p, size, MODEL_LOAD, 0, &l);
    uint64_t v = read_message(l, choice, HAS_ACQUIRE(mutant_order(site)));
    access_end();
    return v;
}

void memory_await(_Atomic(uint64_t) *word, uint64_t bits)
{
    struct location *l;
    unsigned choice = turn(&await_site, word, sizeof *word, MODEL_LOAD, bits, &l);
    (void)read_message(l, choice, true);
    access_end();
}

void model_store(struct model_site *site, volatile void *p, size_t size, uint64_t v)
{
    if (is_direct(site)) {
        word_set(p, size, v);
        return;
    }
    struct location *l;
    if (site->fault == FAULT_DROPPED)
        return;
    unsigned choice = turn(site, p, size, MODEL_STORE, 0, &l);
    write_message(l, choice, v, HAS_RELEASE(mutant_order(site)), false);
    access_end();
}

static uint64_t changed(enum model_change change, uint64_t seen, uint64_t v)
{
    switch (change) {
    case MODEL_ADD:
        return seen + v;
    case MODEL_SUB:
        return seen - v;
    case MODEL_OR:
        return seen | v;
    case MODEL_AND:
        return seen & v;
    case MODEL_LOSE:
        for (; v != 0 && seen != 0; v--)
            seen &= seen - 1;
        return seen;
    default:
        return v;
    }
}

uint64_t model_change(struct model_site *site, volatile void *p, size_t size, enum model_change change, uint64_t v)
{
    uint64_t seen;
    if (is_direct(site)) {
        seen = word_get(p, size);
        word_set(p, size, changed(change, seen, v));
    } else if (site->fault == FAULT_DROPPED) {
        seen = model_load(site, p, size);
    } else if (site->fault == FAULT_SPLIT) {
        seen = model_load(site, p, size);
        model_store(site, p, size, changed(change, seen, v));
    } else {
        struct location *l;
        unsigned choice = turn(site, p, size, MODEL_RMW, 0, &l);
        seen = read_message(l, choice, HAS_ACQUIRE(mutant_order(site)));
        write_message(l, choice, changed(change, seen, v), HAS_RELEASE(mutant_order(site)), true);
        access_end();
    }
    return seen;
}

/*
 * A fence is a read-modify-write of a word that only fences know, so they have one order, and each sees what threads
 * before it had seen. Unlike that it does not synchronise: the clocks stay.
 */
void model_fence(struct model_site *site)
{
    static _Atomic(uint64_t) fences;
    uint16_t *clock, kept[THREADS];
    if (is_direct(site) || site->fault == FAULT_DROPPED)
        return;
    struct location *l;
    unsigned choice = turn(site, &fences, sizeof fences, MODEL_RMW, 0, &l);
    clock = actors[machine_thread].now.clock;
    memcpy(kept, clock, sizeof kept);
    (void)read_message(l, choice, true);
    memcpy(clock, kept, sizeof kept);
    write_message(l, choice, 0, true, true);
    access_end();
}

bool model_cas(struct model_site *site, volatile void *p, size_t size, uint64_t *expected, uint64_t v)
{
    *expected = word_trim(size, *expected);
    if (site->fault == FAULT_NO_TAG)
        v &= UINT32_MAX;
    if (is_direct(site)) {
        uint64_t seen = word_get(p, size);
        bool equal = seen == *expected;
        if (equal)
            word_set(p, size, v);
        *expected = seen;
        return equal;
    }
    enum model_order order = mutant_order(site);
    if (site->fault == FAULT_SPLIT) {
        uint64_t seen = model_load(site, p, size);
        bool equal = seen == *expected;
        if (equal)
            model_store(site, p, size, v);
        *expected = seen;
        return equal;
    }
    struct location *l;
    unsigned choice = turn(site, p, size, MODEL_CAS, *expected, &l);
    bool spurious = choice >= MESSAGES;
    unsigned id = choice % MESSAGES;
    bool success = !spurious && l->m[id].value == *expected;
    /* Those that release only, or acquire only, fail relaxed: see src/base/atomic.h. */
    *expected = read_message(l, id, success ? HAS_ACQUIRE(order) : site->order == MODEL_ACQ_REL && HAS_ACQUIRE(order));
    if (success)
        write_message(l, id, v, HAS_RELEASE(order), true);
    else
        machine_note("fails%s", spurious ? " without a reason" : "");
    actors[machine_thread].spurious -= spurious;
    access_end();
    return success || site->fault == FAULT_NO_RETRY;
}

/* ---- for litmus.c ---- */

/* Two runs are the same execution if each thread read the same messages and every word has the same order of them. */
uint64_t memory_graph(void)
{
    uint64_t sum = 0;
    for (unsigned t = 0; t < THREADS; t++)
        sum = mix(sum, actors[t].reads);
    uint64_t orders = 0;
    for (unsigned i = 0; i < location_count; i++) {
        const struct location *l = &locations[i];
        uint64_t order = mix(0, (uintptr_t)l->p);
        for (unsigned k = 0; k < l->count; k++)
            order += mix(mix((uintptr_t)l->p, l->m[k].at), (uint64_t)(l->m[k].thread + 1) << 8 | l->m[k].count);
        orders += mix(order, l->count);
    }
    return mix(sum, orders);
}
