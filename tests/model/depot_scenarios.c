/*
 * Scenarios of a pool's depot and of its store: batches between threads, objects taken from a chunk that ends.
 *
 * Whoever holds a batch writes to it, so that a batch in two hands is a data race. At the end every object is in the
 * depot once or in the hands of the thread that kept it.
 */
#include "scenario.h"

#include "heap/front.h"
#include "mem/meta.h"
#include "os/os_process.h"
#include "pool/depot.h"
#include "pool/store.h"

enum { ROOM = 60, OBJECTS = 8, HELD = 4, SIZE = 21824 };

/* Stand-ins for the front, which is above the modules that are checked: what is freed is not used again. */
void *front_malloc_slow(size_t n)
{
    return meta_take(n);
}

/* Of memory that was used before: its zeroes are written. */
void *front_calloc(size_t count, size_t n)
{
    uint64_t *words = meta_take(count * n);
    for (size_t i = 0; words != NULL && i < count * n / sizeof *words; i++)
        words[i] = 0;
    return words;
}

/* Those who use it still are a data race. */
void front_free_slow(void *p)
{
    if (p != NULL)
        *(uint64_t *)p = 0;
}

void *front_aligned_any(size_t align, size_t n)
{
    (void)align, (void)n;
    model_fail("an alignment that classes have not");
}

int front_trim(void)
{
    return 0;
}

static struct table table;
static struct depot depot;
static struct store store;
static uint32_t kept[THREADS][HELD];
static unsigned kept_count[THREADS];

/* ---- preparations ---- */

/* Three batches with one object each; 1 is on top. */
static void three_batches(void)
{
    scenario_boot();
    depot_init(&depot, ROOM, false);
    model_require(depot_ensure(&depot, ROOM), "no memory for batches");
    for (uint32_t object = 3; object != 0; object--) {
        uint32_t b = depot_blank(&depot);
        depot_batch(&depot, b)->object[depot_batch(&depot, b)->count++] = object;
        depot_push(&depot, DEPOT_FULL, b);
    }
    model_name(&depot.stack[DEPOT_FULL], "the full stack");
    model_name(&depot.stack[DEPOT_BLANK], "the blank stack");
}

/* A store of three objects in a chunk, the first of which is used up. */
static void chunk_at_its_end(void)
{
    uint32_t first[3];
    scenario_boot();
    model_require(store_init(&store, SIZE, 64, 0, 0) && store.per_chunk == 3, "not as thought");
    model_require(store_carve(&store, first, 3) == 3, "no memory for objects");
    model_name(&store.fresh, "fresh");
}

/* ---- what threads do ---- */

static void keep(uint32_t object)
{
    int self = model_self();
    model_require(kept_count[self] < HELD, "a thread keeps more than there is");
    kept[self][kept_count[self]++] = object;
}

/* Takes the batch on top for good; its batch becomes blank. */
static void take(void)
{
    uint32_t b = depot_pop(&depot, DEPOT_FULL);
    if (b == 0)
        return;
    struct batch *batch = depot_batch(&depot, b);
    while (batch->count != 0)
        keep(batch_take(batch));
    depot_return(&depot, DEPOT_FULL, b);
}

static void take_twice(void)
{
    take();
    take();
}

/* Pops two and pushes the first again: the stack's head is as it was, and what lies below it is not. */
static void pop_two_push_one(void)
{
    uint32_t a = depot_pop(&depot, DEPOT_FULL);
    uint32_t b = depot_pop(&depot, DEPOT_FULL);
    if (a != 0) {
        struct batch *batch = depot_batch(&depot, a);
        batch->object[0] = batch->object[0]; /* a write: the batch is this thread's alone */
        depot_push(&depot, DEPOT_FULL, a);
    }
    if (b != 0)
        keep(batch_take(depot_batch(&depot, b)));
}

static void put_4(void)
{
    depot_put(&depot, DEPOT_FULL, 4);
}

static void put_5_6(void)
{
    depot_put(&depot, DEPOT_FULL, 5);
    depot_put(&depot, DEPOT_FULL, 6);
}

/* As a full magazine does it. */
static void spill_7(void)
{
    uint32_t b = depot_blank(&depot);
    model_require(b != 0, "no blank batch");
    struct batch *batch = depot_batch(&depot, b);
    batch->object[batch->count++] = 7;
    depot_push(&depot, DEPOT_FULL, b);
}

static void carve(uint32_t n)
{
    uint32_t out[HELD];
    uint32_t got = store_carve(&store, out, n);
    model_require(got >= 1 && got <= n, "%u objects carved of %u", got, n);
    for (uint32_t i = 0; i < got; i++) {
        model_require(store_number(&store, store_object(&store, out[i])) == out[i], "an object has another's number");
        *(uint32_t *)store_object(&store, out[i]) = out[i];
        keep(out[i]);
    }
}

static void carve_one(void)
{
    carve(1);
}

/* Fills a place of the table's first part, which nobody has made before. */
static void fill(void)
{
    _Atomic(void *) *place = table_slot(&table, (uint32_t)model_self());
    model_require(place != NULL, "no memory for a part");
    store_release(place, &table);
}

/* ---- what must hold ---- */

static void both_filled(void)
{
    model_require(table_get(&table, 0) == &table && table_get(&table, 1) == &table, "a place was filled in vain");
}

static unsigned count_kept(uint32_t object)
{
    unsigned n = 0;
    for (int t = 0; t < THREADS; t++)
        for (unsigned i = 0; i < kept_count[t]; i++)
            n += kept[t][i] == object;
    return n;
}

/* Objects 1, 2, 3 and those of `more` (a bit each) are somewhere, once. */
static void account(unsigned more)
{
    unsigned seen[OBJECTS] = {0}, blank = 0;
    for (uint32_t b = depot_first(&depot, DEPOT_FULL); b != 0; b = depot_below(&depot, b)) {
        struct batch *batch = depot_batch(&depot, b);
        model_require(batch->count != 0, "an empty batch on the full stack");
        for (uint32_t i = 0; i < batch->count; i++)
            seen[batch->object[i]]++;
    }
    for (uint32_t b = depot_first(&depot, DEPOT_BLANK); b != 0; b = depot_below(&depot, b), blank++)
        model_require(depot_batch(&depot, b)->count == 0 && blank < depot.per_block, "the blank stack is damaged");
    for (uint32_t object = 1; object < OBJECTS; object++) {
        unsigned n = seen[object] + count_kept(object);
        model_require(n == (object <= 3 || (more >> object & 1) != 0), "object %u is in %u places", object, n);
    }
}

static void account_3(void)
{
    account(0);
}

static void account_4(void)
{
    account(1u << 4);
}

static void account_4_to_6(void)
{
    account(1u << 4 | 1u << 5 | 1u << 6);
}

static void account_7(void)
{
    account(1u << 7);
}

/* Nobody has an object twice, and no chunk was lost. */
static void account_carved(void)
{
    uint64_t objects = 0, made = 0;
    for (int t = 0; t < THREADS; t++)
        for (unsigned i = 0; i < kept_count[t]; i++) {
            model_require(count_kept(kept[t][i]) == 1, "an object was handed out twice");
            objects++;
        }
    for (uint32_t i = 0; i < load_relaxed(&store.top); i++)
        made += table_get(&store.chunks, i) != NULL;
    model_require(load_relaxed(&store.carved) == 3 + objects, "%lu objects are counted",
                  (unsigned long)load_relaxed(&store.carved));
    model_require(made * store.per_chunk == load_relaxed(&store.carved) + store_left(&store),
                  "a chunk was left before it was used up");
    model_require(made * store.units * UNIT_BYTES == load_relaxed(&store.bytes), "bytes are counted wrongly");
    struct reserve_totals totals;
    reserve_totals_get(&totals);
    model_require(totals.used == load_relaxed(&store.bytes), "a chunk that was made in vain was not given back");
}

const struct scenario depot_scenarios[] = {
    {.name = "depot-take",
     .invariant = "two threads empty batches while a third puts an object: each object is in one hand",
     .setup = three_batches,
     .thread = {take, take, put_4},
     .check = account_4},
    {.name = "depot-take-twice",
     .invariant = "the same, and one of them empties two",
     .setup = three_batches,
     .thread = {take_twice, take, put_4},
     .check = account_4,
     .full_only = true},
    {.name = "depot-again",
     .invariant = "a batch is popped and pushed again while another pops (the question of A, B and A)",
     .setup = three_batches,
     .thread = {pop_two_push_one, take},
     .check = account_3},
    {.name = "depot-again-3",
     .invariant = "the same with two that pop",
     .setup = three_batches,
     .thread = {pop_two_push_one, take, take},
     .check = account_3,
     .full_only = true},
    {.name = "depot-put",
     .invariant = "two threads append to the batch on top, which one holds at a time",
     .setup = three_batches,
     .thread = {put_4, put_5_6},
     .check = account_4_to_6,
     .spurious = 1},
    {.name = "depot-spill",
     .invariant = "a batch comes while another is emptied and becomes blank",
     .setup = three_batches,
     .thread = {spill_7, take_twice},
     .check = account_7},
    {.name = "store-carve",
     .invariant = "two threads need a chunk at once: one is made for both, objects are handed out once",
     .setup = chunk_at_its_end,
     .thread = {carve_one, carve_one},
     .check = account_carved},
    {.name = "table-part",
     .invariant = "two threads fill places of a part that is not there yet: one part is made, and both places stay",
     .setup = scenario_boot,
     .thread = {fill, fill},
     .check = both_filled},
    {.name = NULL},
};
