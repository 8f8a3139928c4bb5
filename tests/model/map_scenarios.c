/*
 * Scenarios of the mappings of a map cache (pool/mapentry), with users as pool/mapcache has them. Whoever unmaps an entry
 * writes to what is mapped, which its users read: one who has it still is a data race.
 */
#include "scenario.h"

#include "os/os_lock.h"
#include "pool/mapentry.h"

enum { MAPS = 2 };

static struct map_table table;
static struct os_lock lock;
static struct map_key keys[MAPS];
static char paths[MAPS][2] = {"a", "b"};
static unsigned char mapped[THREADS + 1][MAPS]; /* plain: a mapping each; its path's first letter, 0 when it is gone */

/* The entry is the caller's alone, in no chain. */
static void unmap(struct map_entry *e)
{
    mapentry_take_hits(e);
    *(unsigned char *)(uintptr_t)e->data = 0;
    e->path = NULL;
    mapentry_free(e);
}

/* Under the lock, as find_or_map; false: no entry is free. */
static bool map(unsigned key)
{
    struct map_entry *e = mapentry_take(&table);
    if (e == NULL)
        return false;
    unsigned char *data = &mapped[model_self() + 1][key];
    *data = (unsigned char)paths[key][0];
    e->data = data;
    e->path = paths[key];
    e->path_n = keys[key].n;
    store_relaxed(&e->hash, keys[key].hash);
    mapentry_publish(&table, e);
    return true;
}

static void leave(struct map_entry *e)
{
    if (mapentry_put(e))
        unmap(e);
}

/* ---- threads ---- */

static void use(unsigned key)
{
    struct map_entry *e = mapentry_find(&table, &keys[key]);
    if (e == NULL)
        return;
    if (mapentry_is(e, &keys[key]))
        model_require(*e->data == paths[key][0], "it is not mapped");
    leave(e);
}

static void use_a(void)
{
    use(0);
}

static void use_b(void)
{
    use(1);
}

/* One that adds up the hits meanwhile. */
static void use_a_hits(void)
{
    struct map_entry *e = mapentry_find(&table, &keys[0]);
    if (e == NULL)
        return;
    model_require(mapentry_take_hits(e) != 0, "its own hit is not counted");
    leave(e);
}

/* An entry that nobody else has. */
static void take(void)
{
    struct map_entry *e = mapentry_take(&table);
    if (e == NULL)
        return;
    e->path_n++;
    mapentry_free(e);
}

/* A second user by way of the first. */
static void share_a(void)
{
    struct map_entry *e = mapentry_find(&table, &keys[0]);
    if (e == NULL)
        return;
    mapentry_share(e);
    leave(e);
    model_require(*e->data == 'a', "it is not mapped");
    leave(e);
}

static void retire(unsigned key)
{
    struct map_entry *e = mapentry_locate(&table, &keys[key]);
    if (e != NULL && mapentry_claim(&table, e, true) == MAP_BUSY)
        unmap(e);
}

static void retire_a(void)
{
    os_lock(&lock);
    retire(0);
    os_unlock(&lock);
}

static void evict_a(void)
{
    os_lock(&lock);
    struct map_entry *e = mapentry_locate(&table, &keys[0]);
    if (e != NULL && mapentry_claim(&table, e, false) == MAP_BUSY)
        unmap(e);
    os_unlock(&lock);
}

/* The entry of the one path becomes that of the other. */
static void retire_a_map_b(void)
{
    os_lock(&lock);
    retire(0);
    if (map(1))
        leave(&table.entries[0]);
    os_unlock(&lock);
}

static void map_b(void)
{
    os_lock(&lock);
    if (map(1))
        leave(&table.entries[1]);
    os_unlock(&lock);
}

/* ---- the beginning ---- */

static void make(uint32_t entries)
{
    scenario_boot();
    for (unsigned i = 0; i < MAPS; i++)
        keys[i] = map_key_of(paths[i]);
    model_require(map_table_create(&table, entries), "no table");
    table.mask = 0; /* all in one chain */
    model_require(map(0), "no entry is free");
    leave(&table.entries[0]);
    model_name(&table.entries[0].word, "word 0");
    model_name(&table.entries[0].next, "next 0");
    model_name(&table.entries[0].hash, "hash 0");
    model_name(&table.buckets[0], "bucket 0");
}

static void one_entry(void)
{
    make(1);
}

static void free_entry(void)
{
    scenario_boot();
    model_require(map_table_create(&table, 1), "no table");
}

static void two_entries(void)
{
    make(2);
}

/* ---- the end ---- */

static void check_none_used(void)
{
    uint32_t linked = 0;
    for (uint32_t i = 0; i <= table.mask; i++)
        for (uint32_t at = load_relaxed(&table.buckets[i]); at != 0; at = load_relaxed(&table.entries[at - 1].next))
            model_require(++linked <= table.count, "a chain has no end");
    for (uint32_t i = 0; i < table.count; i++)
        model_require(!mapentry_in_use(&table.entries[i]), "a user is counted still");
}

static void check_gone(void)
{
    check_none_used();
    model_require(mapentry_locate(&table, &keys[0]) == NULL && mapped[0][0] == 0, "it is mapped still");
    struct map_entry *e = mapentry_take(&table);
    model_require(e != NULL, "the entry is not free");
}

static void check_evicted(void)
{
    check_none_used();
    model_require((mapentry_locate(&table, &keys[0]) == NULL) == (mapped[0][0] == 0), "found, and not mapped");
}

static void check_b(void)
{
    check_none_used();
    model_require(mapped[0][0] == 0, "what was retired is mapped still");
    for (unsigned i = 0; i < MAPS; i++) {
        struct map_entry *e = mapentry_locate(&table, &keys[i]);
        model_require(e == NULL || *e->data == paths[i][0], "%s is found, and not mapped", paths[i]);
        model_require(e != NULL || i == 0 || table.count == 1, "%s is not found", paths[i]);
    }
}

const struct scenario map_scenarios[] = {
    {.name = "map-retire",
     .invariant = "a mapping is retired while two use it: the last of the three unmaps it",
     .setup = one_entry,
     .thread = {use_a, use_a_hits, retire_a},
     .check = check_gone},
    {.name = "map-share",
     .invariant = "a mapping is retired while a user hands it to another",
     .setup = one_entry,
     .thread = {share_a, retire_a},
     .check = check_gone},
    {.name = "map-evict",
     .invariant = "a mapping without users is unmapped while one finds it, or stays",
     .setup = one_entry,
     .thread = {use_a, evict_a},
     .check = check_evicted,
     .spurious = 1},
    {.name = "map-again",
     .invariant = "an entry is used for another path while both are looked for",
     .setup = one_entry,
     .thread = {use_a, use_b, retire_a_map_b},
     .check = check_b},
    {.name = "map-chain",
     .invariant = "an entry comes into a chain while another leaves it, and one walks along",
     .setup = two_entries,
     .thread = {use_b, retire_a, map_b},
     .check = check_b},
    {.name = "map-take",
     .invariant = "two want the one free entry: one at a time has it",
     .setup = free_entry,
     .thread = {take, take},
     .check = check_none_used,
     .spurious = 1},
    {.name = NULL},
};
