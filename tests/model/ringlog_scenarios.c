/*
 * Scenarios of a call cache's ring (vm/ringlog): readers beside a writer.
 *
 * A result is two equal words that tell which put it is of, so that what a reader has mixed from two is seen. Readers
 * take no lock, except after some attempts.
 */
#include "scenario.h"

#include "vm/ringlog.h"

enum { WORDS = 28, ENTRY = 7, NOW = 1, END = 100, FUNCTION = 7 };

static struct ringlog ring;
static const uint64_t args[] = {11, 12, 13, 14, 15};
static int hits[THREADS]; /* of A */

static struct ringlog_key key(unsigned i)
{
    return (struct ringlog_key){.hash = (uint64_t)(i + 1) << RINGLOG_TAG | 1, /* each its own slot */
                                .function = FUNCTION,
                                .args = &args[i],
                                .len = sizeof args[i]};
}

static void put(unsigned i, uint64_t version)
{
    struct ringlog_key k = key(i);
    uint64_t result[2] = {version, version};
    ringlog_put(&ring, &k, result, sizeof result, NOW, END);
}

/* The put that a result is of; 0: there is none. */
static uint64_t get(unsigned i)
{
    struct ringlog_key k = key(i);
    uint64_t result[2] = {0, 0};
    size_t len = sizeof result;
    enum ringlog_answer answer = ringlog_get(&ring, &k, NOW, result, &len);
    model_require(answer == RINGLOG_HIT || answer == RINGLOG_MISS, "an entry has lost its length or its end");
    if (answer == RINGLOG_MISS)
        return 0;
    model_require(len == sizeof result && result[0] == result[1], "a result of %lu and %lu", (unsigned long)result[0],
                  (unsigned long)result[1]);
    return result[0];
}

/* ---- preparations ---- */

static void ring_of(size_t live_most)
{
    scenario_boot();
    model_require(ringlog_init(&ring, WORDS, live_most) && ringlog_words(sizeof args[0], 16) == ENTRY,
                  "not as thought");
    model_name(&ring.seq, "seq");
    model_name(&ring.lock.word, "the lock");
    put(0, 1);
}

static void one_entry(void)
{
    ring_of(2);
}

/* Three more, each of which drops the one before: the next entry goes where the first one's words are. */
static void one_before_the_end(void)
{
    ring_of(1);
    for (unsigned i = 1; i < 4; i++)
        put(i, i + 1);
    model_require(ring.head == WORDS && get(0) == 0, "not as thought");
}

/* The last one has been read, and is spared once. */
static void one_to_be_spared(void)
{
    one_before_the_end();
    model_require(get(3) == 4, "not as thought");
}

/* ---- what threads do ---- */

static void put_again(void)
{
    put(0, 2);
}

static void put_another(void)
{
    put(1, 3);
}

static void put_fifth(void)
{
    put(4, 5);
}

static void remove_first(void)
{
    struct ringlog_key k = key(0);
    model_require(ringlog_remove(&ring, &k), "the entry is gone");
}

static void get_first(void)
{
    uint64_t version = get(0);
    model_require(version <= 2, "another's result");
    hits[model_self()] += version != 0;
}

static void get_first_always(void)
{
    get_first();
    model_require(hits[model_self()] == 1, "the entry is missed while it is there");
}

/* A result that was seen is not followed by an older one. */
static void get_twice(void)
{
    uint64_t first = get(0), second = get(0);
    model_require(first != 0 && second >= first, "%lu after %lu", (unsigned long)second, (unsigned long)first);
}

/* The first entry was dropped before, though its words are there still. */
static void get_first_anew(void)
{
    uint64_t version = get(0);
    model_require(version != 1, "a result that was dropped");
}

static void get_fourth(void)
{
    uint64_t version = get(3);
    model_require(version == 4 || version == 0, "another's result");
}

/* ---- what must hold ---- */

static void has(unsigned i, uint64_t version)
{
    uint64_t got = get(i);
    model_require(got == version, "key %u has %lu, not %lu", i, (unsigned long)got, (unsigned long)version);
}

static void first_is_new(void)
{
    has(0, 2);
    model_require(ring.live == 1 && load_relaxed(&ring.seq) % 2 == 0, "counts");
}

static void both_are(void)
{
    has(0, 1);
    has(1, 3);
    model_require(ring.live == 2, "counts");
}

static void first_is_gone(void)
{
    has(0, 0);
    model_require(ring.live == 0 && ring.invalidated == 1, "counts");
}

static void first_is_back(void)
{
    has(0, 2);
    model_require(ring.live == 1 && ring.head == ENTRY, "counts");
}

static void fifth_is(void)
{
    has(4, 5);
    model_require(ring.live + ring.evictions == 5, "counts");
}

static void new_and_another(void)
{
    has(0, 2);
    has(1, 3);
    model_require(ring.live == 2, "counts");
}

const struct scenario ringlog_scenarios[] = {
    {.name = "ringlog-replace",
     .invariant = "a result is replaced in its place while it is read: all of the old one, or of the new one",
     .setup = one_entry,
     .thread = {put_again, get_first_always},
     .check = first_is_new},
    {.name = "ringlog-twice",
     .invariant = "the same, read twice: never the old one after the new one",
     .setup = one_entry,
     .thread = {put_again, get_twice},
     .check = first_is_new,
     .full_only = true},
    {.name = "ringlog-append",
     .invariant = "an entry comes behind another one that is read",
     .setup = one_entry,
     .thread = {put_another, get_first_always},
     .check = both_are},
    {.name = "ringlog-remove",
     .invariant = "an entry is removed while it is read",
     .setup = one_entry,
     .thread = {remove_first, get_first},
     .check = first_is_gone},
    {.name = "ringlog-return",
     .invariant = "a key comes back to the place where its dropped entry is: that one is never read",
     .setup = one_before_the_end,
     .thread = {put_again, get_first_anew},
     .check = first_is_back},
    {.name = "ringlog-reuse",
     .invariant = "an entry is spared, dropped and its words written over, while it is read",
     .setup = one_to_be_spared,
     .thread = {put_fifth, get_fourth},
     .check = fifth_is},
    {.name = "ringlog-writers",
     .invariant = "two writers at once: one after the other",
     .setup = one_entry,
     .thread = {put_again, put_another},
     .check = new_and_another},
    {.name = NULL},
};
