/*
 * Scenarios of slabs between threads: blocks freed by others than the owner, inboxes, orphans.
 *
 * One class is in use, of 8 blocks in a slab of one unit. Threads write to the blocks that they free or take: a block
 * that comes back before its links are seen, or to two owners, is a data race. At the end one more heap collects all
 * there is, and every block must be where it belongs, once.
 */
#include "scenario.h"

#include "base/bits.h"
#include "heap/bin.h"
#include "heap/remote.h"
#include "heap/slab.h"
#include "heap/slabs.h"
#include "mem/reserve.h"

enum { BLOCK = 8192, BLOCKS = 8, SLABS = 3 };

static unsigned cls;
static struct heap *heap[THREADS + 1]; /* one a thread, and one for the check */
static struct slab *slab[SLABS];
static struct block *block[SLABS][BLOCKS];
static unsigned out[SLABS]; /* blocks that the program still holds at the end */
static unsigned taken[THREADS];
static bool came;

/* ---- preparations ---- */

static void heaps_boot(void)
{
    static const char *const owners[] = {"A's owner", "B's owner", "C's owner"};
    static const char *const remotes[] = {"A's word", "B's word", "C's word"};
    static const char *const links[] = {"A's link", "B's link", "C's link"};
    static const char *const inboxes[] = {"heap 0's inbox", "heap 1's inbox", "heap 2's inbox"};
    scenario_boot();
    block_key = 0x5a5a;
    cls = class_of(BLOCK);
    size_classes.first = cls; /* walks over classes begin here */
    for (int t = 0; t <= THREADS; t++)
        heap[t] = heap_open();
    for (int t = 0; t < THREADS; t++)
        model_name(&heap[t]->inbox, inboxes[t]);
    for (unsigned i = 0; i < SLABS; i++) {
        struct slab *s = chunk_ensure(i, 1) ? chunk_header(i) : NULL;
        model_require(s != NULL, "no headers");
        model_name(&s->owner, owners[i]);
        model_name(&s->remote, remotes[i]);
        model_name(&s->link, links[i]);
    }
}

/* Makes a slab of `h` of which the program holds the first `n` blocks. */
static void slab_make(unsigned i, struct heap *h, unsigned n)
{
    struct slab *partial = heap_class(h, cls)->partial;
    heap_class(h, cls)->partial = NULL; /* else that one is found */
    struct slab *s = slabs_find(h, cls);
    if (partial != NULL) {
        s->next = partial;
        partial->prev = s;
    }
    struct chain c = slab_take(s, n);
    slabs_settle(h, s);
    for (unsigned k = 0; k < n; k++, c.head = c.head->next)
        block[i][k] = c.head;
    slab[i] = s;
    out[i] = n;
}

/* ---- what threads do ---- */

/* Frees blocks [from, from + n) of a slab that the caller does not own. */
static void push(unsigned i, unsigned from, unsigned n)
{
    for (unsigned k = from; k < from + n; k++) {
        block[i][k]->next = k + 1 < from + n ? block[i][k + 1] : NULL;
        block[i][k]->mark = block_mark(block[i][k]);
    }
    remote_push(slab[i], (struct chain){block[i][from], block[i][from + n - 1], n});
}

/* Takes up to `n` blocks of a slab that the thread's heap owns, and writes to them. */
static void use(struct slab *s, unsigned n)
{
    struct chain c = slab_take(s, n);
    for (unsigned k = 0; k < c.count; k++) {
        struct block *next = c.head->next;
        c.head->next = NULL;
        c.head->mark = 0;
        c.head = next;
    }
    taken[model_self()] += c.count;
    slabs_settle(heap[model_self()], s);
}

static void push_a0(void)
{
    push(0, 0, 1);
}

static void push_a0_a1(void)
{
    push(0, 0, 2);
}

static void push_a2(void)
{
    push(0, 2, 1);
}

static void push_b0(void)
{
    push(1, 0, 1);
}

static void push_a0_then_a1(void)
{
    push(0, 0, 1);
    push(0, 1, 1);
}

static void push_a2_then_a3(void)
{
    push(0, 2, 1);
    push(0, 3, 1);
}

static void collect(void)
{
    slabs_collect(heap[0]);
    if (slab[0]->free != 0)
        use(slab[0], 1);
}

static void collect_twice(void)
{
    slabs_collect(heap[0]);
    slabs_collect(heap[0]);
}

/* As a refill does: chains of two and more are handed out as they are. */
static void returned(void)
{
    struct chain c = slabs_returned(heap[0], cls, 2);
    for (; c.head != NULL; c.head = c.head->next) {
        c.head->mark = 0;
        taken[model_self()]++;
    }
}

static void find_and_use(void)
{
    struct heap *h = heap[model_self()];
    struct slab *s = slabs_find(h, cls);
    model_require(s != NULL && s->free != 0, "no slab with a free block");
    model_require(load_relaxed(&s->owner) == h, "the slab found is another heap's");
    use(s, 1);
}

static void abandon(void)
{
    slabs_abandon(heap[model_self()]);
}

/* Takes an orphan over; false when there is none. */
static bool adopt(struct heap *h)
{
    struct slab *s = remote_adopt(h, cls);
    if (s == NULL)
        return false;
    s->list = SLAB_UNLISTED;
    struct chain c = remote_take(s);
    if (c.head != NULL)
        slab_put(s, c.head);
    slabs_settle(h, s);
    return true;
}

static void adopt_one(void)
{
    (void)adopt(heap[model_self()]);
}

/*
 * Pops A and B and pushes A again: the stack's head is as it was then, and what lies below it is not. B is owned when
 * this ends.
 */
static void adopt_two_orphan_one(void)
{
    struct heap *h = heap[model_self()];
    struct slab *a = remote_adopt(h, cls);
    if (a == NULL)
        return;
    (void)remote_take(a);
    struct slab *b = remote_adopt(h, cls);
    (void)(b != NULL && remote_take(b).head != NULL);
    model_require(remote_orphan(a), "an orphan of whose blocks none is being freed cannot be made one again");
    if (b != NULL)
        slabs_settle(h, b);
}

static void reap(void)
{
    slabs_reap(heap[model_self()]);
}

/* As a thread's end does it. */
static void leave(void)
{
    slabs_abandon(heap[model_self()]);
    heap_close(heap[model_self()]);
}

/* A new thread gets the heap of one that has ended, and frees a block that the old one allocated. */
static void come_and_free(void)
{
    if (heap_reopen(heap[0]->id)) {
        bin_free_direct(heap[0], cls, block[0][0]);
        came = true;
    }
}

/* ---- what must hold ---- */

static unsigned count_list(struct heap *h, struct slab *s, enum slab_list list, bool seen[SLABS], unsigned *free)
{
    unsigned n = 0;
    for (; s != NULL; s = s->next, n++) {
        model_require(n < SLABS + THREADS, "a list of slabs is a circle");
        model_require(load_relaxed(&s->owner) == h && s->list == list, "a slab stands on the list of another heap");
        model_require(slab_check(s) == 0, "a slab does not verify");
        model_require(!remote_is_listed(s) && load_relaxed(&s->remote) == 0, "a slab's word was not cleared");
        for (unsigned i = 0; i < SLABS; i++)
            if (s == slab[i] && slab_class(s) == cls) {
                model_require(!seen[i], "slab %u stands on two lists", i);
                seen[i] = true;
            }
        *free += s->free;
    }
    return n;
}

/*
 * When all heaps have taken in what was freed, and one has adopted every orphan, each block is free once or held: the
 * free blocks of all slabs are those that the program does not hold.
 */
static void account(unsigned freed)
{
    bool seen[SLABS] = {false};
    unsigned free = 0, slabs = 0, held = 0;
    for (int t = 0; t < THREADS; t++)
        slabs_collect(heap[t]);
    while (adopt(heap[THREADS]))
        ;
    model_require(remote_orphans() == 0, "%lu orphans are counted, none is there", (unsigned long)remote_orphans());
    for (int t = 0; t <= THREADS; t++) {
        model_require(load_relaxed(&heap[t]->inbox) == 0, "an inbox holds a slab after it was emptied");
        slabs += count_list(heap[t], heap_class(heap[t], cls)->partial, SLAB_PARTIAL, seen, &free);
        slabs += count_list(heap[t], heap_class(heap[t], cls)->full, SLAB_FULL, seen, &free);
    }
    for (unsigned i = 0; i < SLABS; i++)
        held += out[i];
    for (int t = 0; t < THREADS; t++)
        held += taken[t];
    held -= freed;
    model_require(free + held == slabs * BLOCKS, "%u slabs have %u blocks free and %u held", slabs, free, held);
    struct reserve_totals totals;
    reserve_totals_get(&totals);
    model_require(totals.used == slabs * (uint64_t)UNIT_BYTES, "%u slabs, but %lu units are in use", slabs,
                  (unsigned long)totals.used / UNIT_BYTES);
}

static void account_0(void)
{
    account(0);
}

static void account_1(void)
{
    account(1);
}

static void account_2(void)
{
    account(2);
}

static void account_3(void)
{
    account(3);
}

static void push_twice_and_find(void)
{
    push_a0_then_a1();
    find_and_use();
}

static void push_and_reap(void)
{
    push_a2();
    reap();
}

static void account_4(void)
{
    account(4);
}

static void account_came(void)
{
    account(1 + came);
}

/* ---- states at the beginning ---- */

static void one_full(void)
{
    heaps_boot();
    slab_make(0, heap[0], BLOCKS);
}

static void one_partial(void)
{
    heaps_boot();
    slab_make(0, heap[0], 4);
}

static void two_full(void)
{
    heaps_boot();
    slab_make(0, heap[0], BLOCKS);
    slab_make(1, heap[0], BLOCKS);
}

/* A has one block out and B all of them but one: freeing A's lets A be given back. */
static void nearly_idle(void)
{
    heaps_boot();
    slab_make(0, heap[0], 1);
    slab_make(1, heap[0], BLOCKS - 1);
}

static void two_orphans(void)
{
    heaps_boot();
    slab_make(0, heap[0], 4);
    slab_make(1, heap[0], 4);
    slabs_abandon(heap[0]);
}

static void three_orphans(void)
{
    heaps_boot();
    for (unsigned i = 0; i < SLABS; i++)
        slab_make(i, heap[0], 4);
    slabs_abandon(heap[0]);
}

static void two_full_orphans(void)
{
    two_full();
    slabs_abandon(heap[0]);
}

/* Heap 0 has A, B and C are orphans. */
static void one_and_two_orphans(void)
{
    heaps_boot();
    slab_make(0, heap[0], 4);
    slab_make(1, heap[1], 4);
    slab_make(2, heap[1], 4);
    slabs_abandon(heap[1]);
}

static void full_orphan(void)
{
    one_full();
    slabs_abandon(heap[0]);
}

static const char *const counters[] = {"&orphan_count", "&hc->created", "&hc->released", NULL};

const struct scenario remote_scenarios[] = {
    {.name = "push-collect",
     .invariant = "two threads free into a slab while its owner collects: every block comes home once",
     .setup = one_full,
     .thread = {collect, push_a0_a1, push_a2},
     .check = account_3},
    {.name = "push-collect-weak",
     .invariant = "the same with compare-and-swaps that fail without a reason, and one pusher that comes twice",
     .setup = one_full,
     .thread = {collect_twice, push_a0_then_a1},
     .check = account_2,
     .spurious = 1},
    {.name = "push-returned",
     .invariant = "the owner uses a chain as it is instead of putting it back",
     .setup = one_full,
     .thread = {returned, push_a0_a1, push_a2},
     .check = account_3},
    {.name = "inbox",
     .invariant = "two slabs come to one inbox while it is taken: each is collected, once",
     .setup = two_full,
     .thread = {collect_twice, push_a0, push_b0},
     .check = account_2},
    {.name = "give-back",
     .invariant = "a slab that another thread's free made idle goes back and is another heap's next slab",
     .setup = nearly_idle,
     .thread = {collect_twice, push_a0, find_and_use},
     .check = account_1},
    {.name = "push-abandon",
     .invariant = "a full slab is abandoned while two free into it: afterwards it is on the orphan stack, once",
     .setup = one_full,
     .thread = {abandon, push_a0_a1, push_a2},
     .check = account_3},
    {.name = "push-abandon-partial",
     .invariant = "the same with a slab that has free blocks, and a heap that adopts it",
     .setup = one_partial,
     .thread = {abandon, push_a0, find_and_use},
     .check = account_1},
    {.name = "push-orphan",
     .invariant = "two threads free into a full orphan: it is put on the stack once, by one of them; a third adopts it",
     .setup = full_orphan,
     .thread = {find_and_use, push_a0_a1, push_a2},
     .check = account_3},
    {.name = "adopt-push",
     .invariant = "two adopt what is on an orphan stack while a third frees into an orphan: each has one owner",
     .setup = two_orphans,
     .thread = {find_and_use, find_and_use, push_a0},
     .check = account_1},
    {.name = "adopt-again",
     .invariant = "an orphan is popped and pushed again while another pops (the question of A, B and A)",
     .setup = three_orphans,
     .thread = {adopt_two_orphan_one, adopt_one},
     .check = account_0},
    {.name = "adopt-again-3",
     .invariant = "the same with two that pop",
     .setup = three_orphans,
     .thread = {adopt_two_orphan_one, adopt_one, adopt_one},
     .check = account_0,
     .full_only = true},
    {.name = "abandon-adopt",
     .invariant = "an orphan is pushed on top of others while two pop: none is lost",
     .setup = one_and_two_orphans,
     .thread = {abandon, adopt_one, adopt_one},
     .check = account_0},
    {.name = "abandon-counters",
     .invariant = "the same with the counters in the search: orphans are counted exactly",
     .setup = one_and_two_orphans,
     .thread = {abandon, adopt_one},
     .check = account_0,
     .loud = counters},
    {.name = "push-push",
     .invariant = "two threads free twice each while the owner collects twice",
     .setup = one_full,
     .thread = {collect_twice, push_a0_then_a1, push_a2_then_a3},
     .check = account_4},
    {.name = "push-counters",
     .invariant = "two threads free into a full orphan, and the count of orphans is in the search",
     .setup = full_orphan,
     .thread = {adopt_one, push_a0_a1, push_a2},
     .check = account_3,
     .loud = counters,
     .spurious = 1},
    {.name = "push-two-orphans",
     .invariant = "two full orphans come to the stack at once, and are counted",
     .setup = two_full_orphans,
     .thread = {adopt_one, push_a0, push_b0},
     .check = account_2,
     .loud = counters},
    {.name = "abandon-reap",
     .invariant = "a thread ends and leaves a slab that two others free into; a third adopts and abandons again",
     .setup = one_full,
     .thread = {leave, push_a0_then_a1, reap},
     .check = account_2,
     .full_only = true},
    {.name = "all-together",
     .invariant = "one ends, one frees twice and allocates, one frees and looks after orphans",
     .setup = one_full,
     .thread = {leave, push_twice_and_find, push_and_reap},
     .check = account_3,
     .full_only = true},
    {.name = "heap-again",
     .invariant = "a heap's next thread frees a block of a slab that the one before left: it is not the owner",
     .setup = one_full,
     .thread = {leave, come_and_free, push_a2},
     .check = account_came},
    {.name = "reap",
     .invariant = "a thread ends, another frees into its slab, a third looks after orphans and closed heaps",
     .setup = one_full,
     .thread = {leave, push_a0, reap},
     .check = account_1},
    {.name = NULL},
};
