/*
 * The search: depth first over what each step does, every run from the start along the path so far.
 *
 * A step is a thread's next access and its choice: which message it reads, or where in the modification order it
 * writes. Two executions are the same if every read has the same message and every word the same modification order;
 * so steps of different threads commute unless one reads what the other wrote. Three things follow:
 *
 *  1. A store that is next is taken at once, and nothing else is tried there: every choice that any access has before
 *     it, the access has after it, too.
 *  2. A thread whose access has been tried at a node with the messages that were there sleeps in what is tried next at
 *     that node: in those runs it may only read what is written later (sleep sets, Godefroid: Partial-order methods,
 *     1996; here an entry is a set of messages, and nothing but the thread's own step removes it). A run in which only
 *     sleepers are left is given up.
 *  3. Another thread is tried at a node only where a later step showed the need: a read by t, later a write to the
 *     same word by u that was not caused by it. The write might come first and be read, so a thread that leads there
 *     is tried at the node of the read (Abdulla, Aronsson, Jonsson, Sagonas: Optimal dynamic partial order reduction,
 *     2014: source sets). "Caused" means by program order and by reading, which vectors of counts (`causal`) tell.
 *
 * That every execution is still seen, and seen once, is tested against the search without reduction by litmus.c.
 */
#include "model.h"

#include "base/bits.h"

#include <stdio.h>
#include <string.h>

struct node {
    /* of the search */
    uint64_t available[THREADS]; /* choices of each thread's next access */
    uint64_t sleep[THREADS];     /* those that have been seen already */
    uint64_t choices;            /* of `thread`, still to be tried, with the present one */
    unsigned choice;
    int thread;
    uint8_t backtrack, done; /* threads to try, threads tried */
    /* of the present run */
    unsigned location;
    bool reads, writes, entered;
    uint16_t before[THREADS]; /* the past of the step but for what it reads … */
    uint16_t causal[THREADS]; /* … and with it, itself included */
};

struct search search;

static struct node nodes[STEPS + 1];
static unsigned depth;   /* steps of the present run so far */
static unsigned replays; /* nodes that are given: the path */
static uint16_t past[THREADS][THREADS]; /* each thread's */
static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-";

/* ---- causality ---- */

void search_causal_read(const uint16_t causal[THREADS])
{
    struct node *n = &nodes[depth - 1];
    for (int t = 0; t < THREADS; t++)
        if (causal[t] > n->causal[t])
            n->causal[t] = causal[t];
    memcpy(past[n->thread], n->causal, sizeof n->causal);
}

void search_causal_get(uint16_t causal[THREADS])
{
    memcpy(causal, nodes[depth - 1].causal, sizeof nodes[0].causal);
}

/* True when step `i` has step `e` in its past; without what `i` itself reads, if it is `last`. */
static bool caused_by(unsigned i, unsigned e, unsigned last)
{
    const uint16_t *c = i == last ? nodes[i].before : nodes[i].causal;
    int t = nodes[e].thread;
    return c[t] >= nodes[e].causal[t];
}

/*
 * Step `i` writes what step `e` has read without knowing of it: sees to it that at the node of `e` a thread is tried
 * that can come first in a run where `i` comes before `e`.
 */
static void reverse(unsigned e, unsigned i)
{
    struct node *n = &nodes[e];
    unsigned seen = 0, first = 0, initials = 0;
    for (unsigned k = e + 1; k <= i; k++) {
        unsigned bit = 1u << nodes[k].thread;
        if (caused_by(k, e, i) || (seen & bit) != 0)
            continue;
        bool initial = true;
        for (unsigned j = e + 1; j < k; j++)
            initial &= caused_by(j, e, i) || !caused_by(k, j, i);
        seen |= bit;
        if (initial) {
            initials |= bit;
            first = first != 0 ? first : bit;
        }
    }
    if ((initials & n->backtrack) == 0)
        n->backtrack |= (uint8_t)first;
}

/* ---- one step ---- */

static void node_open(struct node *n)
{
    memset(n, 0, sizeof *n);
    n->thread = -1;
    for (int t = 0; t < THREADS; t++) {
        const struct op *op = machine_pending(t);
        n->available[t] = op == NULL ? 0 : memory_choices(t, op);
        if (depth != 0 && nodes[depth - 1].thread != t && !search.naive)
            n->sleep[t] = nodes[depth - 1].sleep[t];
    }
}

/* Threads which could go next without a repetition. */
static unsigned awake(const struct node *n)
{
    unsigned set = 0;
    for (int t = 0; t < THREADS; t++)
        if ((n->available[t] & ~n->sleep[t]) != 0)
            set |= 1u << t;
    return set;
}

static void node_try(struct node *n, int thread)
{
    n->thread = thread;
    n->choices = n->available[thread] & ~n->sleep[thread];
    n->choice = bits_lowest(n->choices);
    n->entered = false;
    n->backtrack |= (uint8_t)(1u << thread);
}

/* Which thread a new node begins with, -1: all of them sleep. */
static int thread_choose(const struct node *n)
{
    unsigned set = awake(n);
    if (set == 0)
        return -1;
    for (int t = 0; t < THREADS && !search.naive; t++) {
        const struct op *op = machine_pending(t);
        if (op != NULL && op->kind == MODEL_STORE)
            return t;
    }
    if (machine_thread >= 0 && (set >> machine_thread & 1) != 0)
        return machine_thread;
    return (int)bits_lowest(set);
}

/* Writes down what the step of the node is, and which earlier reads it might have come before. */
static void node_enter(struct node *n)
{
    const struct op *op = machine_pending(n->thread);
    int t = n->thread;
    bool reads = op != NULL && op->kind != MODEL_STORE, writes = op != NULL && op->kind != MODEL_LOAD;
    if (op == NULL || (n->entered && (n->location != op->location || n->reads != reads || n->writes != writes)))
        model_fail("a run along the same path went another way: the scenario has state that is not taken back");
    n->entered = true;
    n->location = op->location;
    n->reads = reads;
    n->writes = writes;
    memcpy(n->before, past[t], sizeof n->before);
    past[t][t]++;
    memcpy(n->causal, past[t], sizeof n->causal);
    depth++;
    if (depth > search.deepest)
        search.deepest = depth;
    unsigned i = depth - 1;
    for (unsigned e = 0; n->writes && !search.naive && e < i; e++) {
        const struct node *r = &nodes[e];
        if (r->reads && r->location == n->location && r->thread != t && !caused_by(i, e, i))
            reverse(e, i);
    }
}

static int digit_of(char c)
{
    const char *at = c == '\0' ? NULL : strchr(letters, c);
    return at == NULL ? -1 : (int)(at - letters);
}

/* The next step of the path that is to be run again. */
static bool node_replay(struct node *n)
{
    int thread = digit_of(search.replay[0]);
    int choice = thread < 0 ? -1 : digit_of(search.replay[1]);
    if (thread < 0 || thread >= THREADS || choice < 0 || machine_pending(thread) == NULL ||
        (n->available[thread] >> choice & 1) == 0)
        return false;
    n->thread = thread;
    n->choice = (unsigned)choice;
    search.replay += 2;
    return true;
}

int search_next(void)
{
    struct node *n = &nodes[depth];
    if (depth == 0)
        memset(past, 0, sizeof past);
    if (depth >= replays) {
        node_open(n);
        if ((n->available[0] | n->available[1] | n->available[2]) == 0)
            model_fail("the threads that have not ended sleep for ever");
        if (search.replay != NULL) {
            if (!node_replay(n))
                model_fail("the path does not fit this scenario");
        } else {
            int t = thread_choose(n);
            if (t < 0)
                return -1;
            if (search.naive)
                n->backtrack = (uint8_t)awake(n);
            node_try(n, t);
        }
        replays = depth + 1;
    }
    node_enter(n);
    return n->thread;
}

unsigned search_choice(void)
{
    return nodes[depth - 1].choice;
}

void search_path(char *out, size_t size)
{
    size_t n = 0;
    for (unsigned i = 0; i < depth && n + 2 < size; i++) {
        out[n++] = letters[nodes[i].thread];
        out[n++] = letters[nodes[i].choice];
    }
    out[n] = '\0';
}

/* ---- all runs ---- */

/* Moves the path on to the next one; false when there is none. */
static bool path_next(void)
{
    for (; replays != 0; replays--) {
        struct node *n = &nodes[replays - 1];
        n->choices &= n->choices - 1;
        if (n->choices != 0) {
            n->choice = bits_lowest(n->choices);
            return true;
        }
        n->done |= (uint8_t)(1u << n->thread);
        if (!search.naive)
            n->sleep[n->thread] |= n->available[n->thread];
        unsigned left = n->backtrack & ~n->done & awake(n);
        if (left != 0) {
            node_try(n, (int)bits_lowest(left));
            return true;
        }
    }
    return false;
}

void search_all(const struct scenario *s)
{
    search.executions = search.repeats = 0;
    search.failed = search.cut = false;
    replays = 0;
    do {
        depth = 0;
        search.failed = !machine_run(s);
        if (search.limit != 0 && search.executions + search.repeats >= search.limit) {
            search.cut = true;
            return;
        }
    } while (!search.failed && search.replay == NULL && path_next());
}
