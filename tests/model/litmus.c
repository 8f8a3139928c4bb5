/*
 * The checker checked: small programs whose outcomes under C11 are known, and random ones, of which the search with its
 * reduction must see the same set of executions as the search without, and each of them once.
 */
#include "litmus.h"

#include "model.h"

enum { WORDS = 3, REGISTERS = 4, OUTCOMES = 64 };

static _Atomic(uint64_t) x, y, z;
static uint64_t r[REGISTERS]; /* what the loads returned */
static uint64_t data;         /* a plain word */

/* ---- known ones: the outcomes are the values of r, one digit each ---- */

static unsigned outcomes[OUTCOMES], outcome_count;

static void outcome_add(void)
{
    unsigned mine = 0;
    for (unsigned i = 0; i < REGISTERS; i++)
        mine = mine * 10 + (unsigned)r[i];
    for (unsigned i = 0; i < outcome_count; i++)
        if (outcomes[i] == mine)
            return;
    if (outcome_count < OUTCOMES)
        outcomes[outcome_count++] = mine;
}

static bool outcome_seen(unsigned wanted)
{
    for (unsigned i = 0; i < outcome_count; i++)
        if (outcomes[i] == wanted)
            return true;
    return false;
}

static void plain(bool write)
{
    plain_access((uintptr_t)&data, sizeof data, write);
}

static void store_x_load_y(void)
{
    store_release(&x, 1);
    r[0] = load_acquire(&y);
}

static void store_y_load_x(void)
{
    store_release(&y, 1);
    r[1] = load_acquire(&x);
}

static void store_x_fence_load_y(void)
{
    store_relaxed(&x, 1);
    fence_seq_cst();
    r[0] = load_relaxed(&y);
}

static void store_y_fence_load_x(void)
{
    store_relaxed(&y, 1);
    fence_seq_cst();
    r[1] = load_relaxed(&x);
}

/* What lies between two fences in their order is seen, plain writes are not handed over. */
static void send_fence(void)
{
    plain(true);
    store_relaxed(&x, 1);
    fence_seq_cst();
}

static void receive_fence(void)
{
    fence_seq_cst();
    r[0] = load_relaxed(&x);
    if (r[0] != 0)
        plain(false);
}

static void send_relaxed(void)
{
    store_relaxed(&x, 1);
    store_relaxed(&y, 1);
}

static void send(void)
{
    plain(true);
    store_relaxed(&x, 1);
    store_release(&y, 1);
}

static void receive(void)
{
    r[0] = load_acquire(&y);
    r[1] = load_relaxed(&x);
    if ((r[0] & 1) != 0)
        plain(false);
}

static void receive_relaxed(void)
{
    r[0] = load_relaxed(&y);
    r[1] = load_relaxed(&x);
    if ((r[0] & 1) != 0)
        plain(false);
}

/* Makes 3 of send's 1; an acquiring reader of the 3 has synchronised with send. */
static void pass_on(void)
{
    add_relaxed(&y, 2);
}

/* The same by a store: the reader has not. */
static void overwrite(void)
{
    if (load_relaxed(&y) == 1)
        store_relaxed(&y, 3);
}

static void read_x_twice(void)
{
    r[0] = load_relaxed(&x);
    r[1] = load_relaxed(&x);
}

static void write_x_1_2(void)
{
    store_relaxed(&x, 1);
    store_relaxed(&x, 2);
}

static void load_x_store_y(void)
{
    r[0] = load_relaxed(&x);
    store_relaxed(&y, 1);
}

static void load_y_store_x(void)
{
    r[1] = load_relaxed(&y);
    store_relaxed(&x, 1);
}

static void x_1_y_2(void)
{
    store_release(&x, 1);
    store_release(&y, 2);
}

static void y_1_x_2(void)
{
    store_release(&y, 1);
    store_release(&x, 2);
}

static void read_both(void)
{
    r[0] = load_relaxed(&x);
    r[1] = load_relaxed(&y);
}

static void add_x(void)
{
    add_relaxed(&x, 1);
}

static void cas_x_once(void)
{
    uint64_t seen = 0;
    r[model_self()] = cas_relaxed(&x, &seen, 1);
}

static void clear(void)
{
    for (unsigned i = 0; i < REGISTERS; i++)
        r[i] = 0;
}

static void clear_by_check(void)
{
    outcome_add();
    clear();
}

static void finals_by_check(void)
{
    r[2] = load_relaxed(&x);
    r[3] = load_relaxed(&y);
    clear_by_check();
}

static const struct litmus {
    struct scenario s;
    unsigned executions, outcomes; /* 0: not told */
    unsigned seen, unseen;         /* one that must and one that must not come up */
    bool races;
} known[] = {
    {{.name = "store buffering", .thread = {store_x_load_y, store_y_load_x}}, 4, 4, 0, 2000, false},
    {{.name = "store buffering with fences", .thread = {store_x_fence_load_y, store_y_fence_load_x}},
     0, 3, 100, 2000, false},
    {{.name = "one of two fences", .thread = {store_x_fence_load_y, store_y_load_x}}, 0, 4, 0, 2000, false},
    {{.name = "fences hand over nothing", .thread = {send_fence, receive_fence}}, 0, 0, 0, 2000, true},
    {{.name = "messages, relaxed", .thread = {send_relaxed, read_both}}, 4, 4, 100, 2000, false},
    {{.name = "messages, relaxed, the other way", .thread = {send_relaxed, receive}}, 4, 4, 1000, 2000, false},
    {{.name = "messages, release and acquire", .thread = {send, receive}}, 3, 3, 1100, 1000, false},
    {{.name = "messages, relaxed reader", .thread = {send, receive_relaxed}}, 0, 0, 0, 2000, true},
    {{.name = "a read-modify-write between", .thread = {send, pass_on, receive}}, 0, 0, 3100, 3000, false},
    {{.name = "a store between", .thread = {send, overwrite, receive}}, 0, 0, 0, 3000, true},
    {{.name = "two reads of one word", .thread = {write_x_1_2, read_x_twice}}, 6, 6, 1200, 2100, false},
    {{.name = "load buffering is left out", .thread = {load_x_store_y, load_y_store_x}}, 3, 3, 100, 1100, false},
    {{.name = "two words, each written last by the other", .thread = {x_1_y_2, y_1_x_2}, .check = finals_by_check},
     4, 4, 11, 12 * 1000, false},
    {{.name = "three additions", .thread = {add_x, add_x, add_x}, .check = finals_by_check}, 6, 1, 30, 20, false},
    {{.name = "one compare-and-swap wins", .thread = {cas_x_once, cas_x_once}}, 2, 2, 1000, 1100, false},
    {{.name = "weak ones may all fail", .thread = {cas_x_once, cas_x_once}, .spurious = 1}, 0, 3, 0, 1100, false},
};

static void known_test(const struct litmus *l)
{
    struct scenario s = l->s;
    if (s.check == NULL)
        s.check = clear_by_check;
    outcome_count = 0;
    clear();
    search_all(&s);
    report(search.failed == l->races, "%s: %s", s.name, l->races ? "a race is seen" : "no race");
    if (l->races)
        return;
    report(l->executions == 0 || search.executions == l->executions, "%s: %lu executions", s.name,
       (unsigned long)search.executions);
    report(l->outcomes == 0 || outcome_count == l->outcomes, "%s: %u outcomes", s.name, outcome_count);
    report(outcome_seen(l->seen) && !outcome_seen(l->unseen), "%s: the outcome that tells", s.name);
}

/* ---- random ones ---- */

enum { OPS = 4, GRAPHS = 1 << 16 };

static struct random_op {
    unsigned word, what;
    uint64_t v;
} program[THREADS][OPS];
static unsigned lengths[THREADS];
static uint64_t graphs[GRAPHS];
static unsigned graph_count;
static uint64_t random_state;

static unsigned random_below(unsigned n)
{
    random_state = random_state * 6364136223846793005 + 1442695040888963407;
    return (unsigned)(random_state >> 33) % n;
}

/* The values written depend on what was read, so that a program takes another way when it reads another message. */
static void random_main(void)
{
    unsigned t = (unsigned)model_self();
    _Atomic(uint64_t) *words[WORDS] = {&x, &y, &z};
    uint64_t last = 0;
    for (unsigned i = 0; i < lengths[t]; i++) {
        const struct random_op *o = &program[t][i];
        _Atomic(uint64_t) *w = words[o->word];
        uint64_t v = o->v + (last & 1);
        switch (o->what) {
        case 0:
            last = load_relaxed(w);
            break;
        case 1:
            last = load_acquire(w);
            break;
        case 2:
            store_relaxed(w, v);
            break;
        case 3:
            store_release(w, v);
            break;
        case 4:
            last = exchange_acq_rel(w, v);
            break;
        case 5:
            last = add_relaxed(w, 1);
            break;
        default:
            last = 0;
            last += cas_acq_rel(w, &last, v);
        }
    }
}

static void graph_add(void)
{
    uint64_t mine = memory_graph();
    for (unsigned i = 0; i < graph_count; i++)
        if (graphs[i] == mine)
            return;
    if (graph_count < GRAPHS)
        graphs[graph_count++] = mine;
}

static uint64_t graphs_sum(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < graph_count; i++)
        sum += graphs[i];
    graph_count = 0;
    return sum;
}

static void program_make(unsigned seed)
{
    random_state = seed;
    unsigned threads = 2 + random_below(2);
    unsigned words = 1 + random_below(WORDS);
    for (unsigned t = 0; t < THREADS; t++) {
        lengths[t] = t >= threads ? 0 : 1 + random_below(threads == 2 ? OPS : OPS - 1);
        for (unsigned i = 0; i < lengths[t]; i++)
            program[t][i] = (struct random_op){random_below(words), random_below(7), random_below(3)};
    }
}

static void random_test(unsigned programs)
{
    static const struct scenario s = {
        .name = "random", .thread = {random_main, random_main, random_main}, .spurious = 1};
    unsigned different = 0, twice = 0, compared = 0;
    uint64_t executions = 0, repeats = 0, naive = 0;
    search.each = graph_add;
    for (unsigned seed = 1; seed <= programs; seed++) {
        program_make(seed);
        search.naive = true;
        search.limit = 20000;
        search_all(&s);
        naive += search.executions;
        unsigned count = graph_count;
        uint64_t sum = graphs_sum();
        if (search.cut)
            continue;
        search.naive = false;
        search.limit = 0;
        search_all(&s);
        executions += search.executions;
        repeats += search.repeats;
        twice += search.executions != graph_count;
        bool same = graph_count == count;
        same &= graphs_sum() == sum;
        different += !same;
        if (!same)
            remark("program %u: %u executions, of %u", seed, (unsigned)search.executions, count);
        compared++;
    }
    search.naive = false;
    search.limit = 0;
    search.each = NULL;
    remark("%u random programs: %lu executions and %lu given up, of %lu without reduction", compared,
             (unsigned long)executions, (unsigned long)repeats, (unsigned long)naive);
    report(different == 0, "random programs: with and without reduction the same executions are seen");
    report(twice == 0, "and with reduction each of them once");
}

void litmus_test(unsigned programs)
{
    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
        known_test(&known[i]);
    random_test(programs);
}
