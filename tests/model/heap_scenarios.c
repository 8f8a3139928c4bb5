/*
 * Scenarios of the table of heaps, and of large blocks, which have no owner.
 */
#include "scenario.h"

#include "heap/heap.h"
#include "heap/large.h"
#include "heap/slabs.h"
#include "info/options.h"

static struct heap *heap[2];
static bool opened[THREADS];

/* ---- closing and opening ---- */

static void two_heaps(void)
{
    scenario_boot();
    for (int i = 0; i < 2; i++) {
        heap[i] = heap_open();
        model_require(heap[i] != NULL, "no heap");
    }
}

/* Whoever has opened a heap writes to it: two at once, or one before the closer is done, race. */
static bool reopen_0(void)
{
    if (!heap_reopen(heap[0]->id))
        return false;
    heap[0]->events++;
    return true;
}

static void reopen(void)
{
    opened[model_self()] = reopen_0();
}

static void reopen_and_close(void)
{
    if (reopen_0())
        heap_close(heap[0]);
}

static void close_0(void)
{
    heap[0]->events++;
    heap_close(heap[0]);
}

static void close_1(void)
{
    heap[1]->events++;
    heap_close(heap[1]);
}

static void open_any(void)
{
    struct heap *h = heap_open();
    model_require(h != NULL, "no heap");
    h->events++;
    opened[model_self()] = h == heap[0];
}

/* The number of heaps that are open is what is counted, and each of the first two is open or can be opened. */
static void check_open(unsigned expected)
{
    model_require(heap_open_count() == expected, "%u heaps are counted as open, %u are", heap_open_count(), expected);
}

static void close_check(void)
{
    model_require(!opened[1] || !opened[2], "two threads opened one heap");
    bool open = opened[1] || opened[2];
    check_open(1 + open);
    model_require(heap_reopen(heap[0]->id) == !open, "a closed heap cannot be opened, or an open one can");
}

static void close_two_check(void)
{
    check_open(opened[2]);
    model_require(heap_reopen(heap[0]->id) == !opened[2] && heap_reopen(heap[1]->id), "a closed heap was forgotten");
}

static void open_check(void)
{
    model_require(!opened[1] || !opened[2], "two threads opened one heap");
    check_open(3);
}

/* ---- making ---- */

static struct heap *made[THREADS];

/* The first heap is alone in its memory. */
static void records_full(void)
{
    scenario_boot();
    heap[0] = heap_open();
    model_require(heap[0] != NULL, "no heap");
    scenario_fill_records(0);
}

static void create(void)
{
    struct heap *h = heap_open();
    model_require(h != NULL, "no heap");
    h->events = 7;
    made[model_self()] = h;
}

static void walk_heaps(void)
{
    for (unsigned id = 0, n = heap_count(); id < n; id++) {
        struct heap *h = load_acquire(&heap_table[id]); /* pairs with heap_create, as in all walks */
        model_require(h == NULL || h->id == id, "the table leads to a heap with another number");
    }
}

static void create_check(void)
{
    model_require(made[0] != made[1] && made[0]->id != made[1]->id, "two heaps are one");
    model_require(heap_count() == 2 && heap_open_count() == 2, "heaps are not counted");
    walk_heaps();
}

static void reap_0(void)
{
    slabs_reap(heap[0]);
}

static void made_check(void)
{
    model_require(heap_count() == 2 && load_relaxed(&heap_table[1]) == made[0], "a heap is not in the table");
}

/* ---- large blocks ---- */

enum { LARGE = 2 * 65536 };

static _Atomic(uint64_t *) passed;
static uint64_t *block;
static unsigned freed[THREADS];

static void large_setup(void)
{
    two_heaps();
    bool zero;
    block = large_alloc(heap[0], LARGE, 64, &zero);
    model_require(block != NULL, "no large block");
}

/* A wrong free gets a warning, so that the threads go on. */
static void large_setup_wrong(void)
{
    large_setup();
    options.on_error = OPTION_ON_ERROR_WARN;
}

/* The window is empty, and its units have headers that were never used. */
static void headers_only(void)
{
    two_heaps();
    model_require(chunk_ensure(0, 1), "no headers");
    options.on_error = OPTION_ON_ERROR_WARN;
}

static void free_block(void)
{
    struct slab *s = large_find("free", block);
    freed[model_self()] = s != NULL && large_free(HEAP_ENDED, s);
}

static void alloc_large(struct heap *h)
{
    bool zero;
    uint64_t *p = large_alloc(h, LARGE, 64, &zero);
    model_require(p != NULL && (!zero || *p == 0), "no large block, or not a zeroed one");
    model_require(slab_units(chunk_header(unit_of(p))) == LARGE >> UNIT_SHIFT, "a large block has not its units");
    *p = 1;
    store_release(&passed, p); /* the block; pairs with free_passed */
}

static void alloc_0(void)
{
    alloc_large(heap[0]);
}

static void free_passed(void)
{
    uint64_t *p = load_acquire(&passed); /* pairs with alloc_large */
    if (p == NULL)
        return;
    *p = 2;
    struct slab *s = large_find("free", p);
    model_require(s != NULL && s->bytes == LARGE, "a large block was not found");
    model_require(large_free(HEAP_ENDED, s), "a large block was freed by nobody, and is free");
}

/* No block, and no large one at the unit before: the search for one that it lies inside goes to the window's start. */
static void find_wrong(void)
{
    model_require(large_find("free", unit_address(3)) == NULL, "a block was found where none is");
}

static void grow_block(void)
{
    *block = 3;
    struct slab *s = large_find("realloc", block);
    uint64_t *p = large_resize(heap[0], s, LARGE + 65536);
    model_require(p == NULL || *p == 3, "a large block lost its content");
    model_require(p == NULL || slab_units(chunk_header(unit_of(p))) == (LARGE >> UNIT_SHIFT) + 1,
                  "a large block has not the units that it has grown to");
}

/* A pointer into the block: it is told what it is, whether the block is there or just freed, and its place used again. */
static void find_inside(void)
{
    model_require(large_find("free", (char *)block + 4096) == NULL, "the middle of a block was taken for a block");
}

static void free_and_make(void)
{
    free_block();
    alloc_large(heap[0]);
}

/* The place of the block becomes a slab's while a late free of it is told what it was. */
static void free_and_slab(void)
{
    free_block();
    model_require(slabs_find(heap[0], class_of(64)) != NULL, "no slab");
}

static void free_twice_check(void)
{
    model_require(freed[0] + freed[1] == 1, "a block was freed %u times", freed[0] + freed[1]);
    scenario_check_units();
}

static const char *const counters[] = {"&open_heaps", NULL};

const struct scenario heap_scenarios[] = {
    {.name = "heap-close",
     .invariant = "a heap is closed while two try to open it: one at a time uses it",
     .setup = two_heaps,
     .thread = {close_0, reopen, reopen},
     .check = close_check,
     .spurious = 1},
    {.name = "heap-hand-on",
     .invariant = "the same, and the first to open it closes it again; the count of open heaps is in the search",
     .setup = two_heaps,
     .thread = {close_0, reopen_and_close, reopen},
     .check = close_check,
     .loud = counters},
    {.name = "heap-close-two",
     .invariant = "two heaps whose bits share a word are closed at once: none is forgotten",
     .setup = two_heaps,
     .thread = {close_0, close_1, reopen},
     .check = close_two_check,
     .loud = counters},
    {.name = "heap-open",
     .invariant = "two threads want a heap while one is closed: each gets its own",
     .setup = two_heaps,
     .thread = {close_0, open_any, open_any},
     .check = open_check,
     .loud = counters},
    {.name = "heap-create",
     .invariant = "two threads make the first heaps, a third walks the table",
     .setup = scenario_boot,
     .thread = {create, create, walk_heaps},
     .check = create_check,
     .loud = counters},
    {.name = "heap-create-reap",
     .invariant = "a heap is made of fresh memory while another thread looks after all heaps",
     .setup = records_full,
     .thread = {create, reap_0},
     .check = made_check},
    {.name = "large-pass",
     .invariant = "a large block is passed on and freed while another is made: nobody's header is another's",
     .setup = large_setup,
     .thread = {alloc_0, free_passed, free_block},
     .check = scenario_check_units},
    {.name = "large-grow",
     .invariant = "a large block grows over the units of another that is being freed",
     .setup = large_setup,
     .thread = {alloc_0, free_passed, grow_block},
     .check = scenario_check_units},
    {.name = "large-double-free",
     .invariant = "two threads free one block: one of them is told so",
     .setup = large_setup_wrong,
     .thread = {free_block, free_block},
     .check = free_twice_check},
    {.name = "large-report",
     .invariant = "a wrong pointer is looked up while a large block is made below it",
     .setup = headers_only,
     .thread = {alloc_0, find_wrong},
     .check = scenario_check_units},
    {.name = "large-report-inside",
     .invariant = "a pointer into a large block is looked up while the block is freed and another is made in its place",
     .setup = large_setup_wrong,
     .thread = {free_and_make, find_inside},
     .check = scenario_check_units},
    {.name = "large-report-grow",
     .invariant = "a pointer into a large block is looked up while the block grows",
     .setup = large_setup_wrong,
     .thread = {grow_block, find_inside},
     .check = scenario_check_units},
    {.name = "large-report-slab",
     .invariant = "a pointer into a large block is looked up while the block is freed and its place becomes a slab",
     .setup = large_setup_wrong,
     .thread = {free_and_slab, find_inside},
     .check = scenario_check_units},
    {.name = NULL},
};
