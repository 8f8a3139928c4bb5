/*
 * Scenarios of what is made once though several want it: artifacts (vm/artcache), without a disk, and functions that
 * get hot (vm/tier). Who makes writes to plain words that the others read.
 */
#include "scenario.h"

#include "ashlar/artcache.h"
#include "ashlar/malloc.h"
#include "ashlar/tier.h"
#include "os/os_dir.h"
#include "vm/artdisk.h"
#include "vm/artifact.h"
#include "vm/tally.h"

#include <errno.h>

/* ---- artifacts ---- */

static struct ash_artcache *cache;
static const struct ash_artcache_key keys[] = {{.content = "x", .content_len = 1}, {.content = "y", .content_len = 1}};
static unsigned builds[THREADS + 1]; /* by each thread; the first are those of setup */
static unsigned failures;            /* plain: written by the maker */
static bool fails;                   /* the first build does */
static int result[THREADS];
static int blocks;                /* of the cache when it is empty */

int artdisk_open(struct artdisk *d, const char *path, uint64_t max_bytes, uint64_t max_files, unsigned flags)
{
    (void)d, (void)path, (void)max_bytes, (void)max_files, (void)flags;
    return 0;
}

void artdisk_close(struct artdisk *d)
{
    (void)d;
}

bool artdisk_load(struct artdisk *d, struct artifact *a)
{
    (void)d, (void)a;
    return false;
}

void artdisk_store(struct artdisk *d, const struct artifact *a)
{
    (void)d, (void)a;
}

void artdisk_touch(struct artdisk *d, const struct artifact *a)
{
    (void)d, (void)a;
}

bool artdisk_remove(struct artdisk *d, const uint64_t hash[2])
{
    (void)d, (void)hash;
    return false;
}

void artdisk_look(struct artdisk *d)
{
    (void)d;
}

void os_dir_unmap(void *at, size_t n)
{
    (void)at, (void)n;
}

static int build(const struct ash_artcache_key *k, void **data, size_t *len, void *user)
{
    (void)user;
    model_require(k->content_len == 1, "another key");
    if (fails && failures == 0) {
        failures++;
        return -EIO;
    }
    builds[model_self() + 1]++;
    unsigned *word = ash_malloc(sizeof *word);
    *word = *(const unsigned char *)k->content;
    *data = word;
    *len = sizeof *word;
    return 0;
}

static void get_key(unsigned i)
{
    struct ash_artifact a = {.data = NULL};
    int status = result[model_self()] = ash_artcache_get_or_build(cache, &keys[i], build, NULL, -1, &a);
    if (status == 0) {
        model_require(*(const unsigned *)a.data == *(const unsigned char *)keys[i].content, "another's artifact");
        ash_artcache_release(cache, &a);
    }
}

static void get(void)
{
    get_key(0);
}

static void get_other(void)
{
    get_key(1);
}

static void forget(void)
{
    int status = ash_artcache_remove(cache, &keys[0]);
    model_require(status == 0 || status == -ENOENT || status == -EBUSY, "remove says %d", status);
}

static void empty_cache(void)
{
    scenario_boot();
    (void)tally_line();
    cache = ash_artcache_create("cache", NULL);
    model_require(cache != NULL, "no cache");
    blocks = scenario_blocks();
}

static void cache_fails(void)
{
    empty_cache();
    fails = true;
}

static void cache_full(void)
{
    empty_cache();
    struct ash_artifact a;
    model_require(ash_artcache_get_or_build(cache, &keys[0], build, NULL, 0, &a) == 0, "not built");
    ash_artcache_release(cache, &a);
}

static void check_cache(void)
{
    struct ash_artcache_stats s;
    ash_artcache_stats(cache, &s);
    model_require(s.builds == builds[0] + builds[1] + builds[2] && s.in_use == 0, "%lu builds, %lu in use",
                  (unsigned long)s.builds, (unsigned long)s.in_use);
    model_require(scenario_blocks() == blocks + 2 * (int)s.entries, "%lu are there, %d blocks",
                  (unsigned long)s.entries, scenario_blocks() - blocks);
    size_t bytes = s.entries * (sizeof(struct artifact) + keys[0].content_len + sizeof(unsigned));
    model_require(s.bytes == bytes, "%lu bytes are counted, %zu are there", (unsigned long)s.bytes, bytes);
    ash_artcache_trim(cache);
    model_require(scenario_blocks() == blocks, "%d blocks are in use for ever", scenario_blocks() - blocks);
}

static void check_builds(unsigned n)
{
    check_cache();
    model_require(builds[0] + builds[1] + builds[2] == n && result[0] == 0 && result[1] == 0, "not %u builds", n);
}

static void check_one_build(void)
{
    check_builds(1);
}

static void check_two_builds(void)
{
    check_builds(2);
}

static void check_one_fails(void)
{
    check_cache();
    model_require((result[0] == -EIO) + (result[1] == -EIO) == 1 && builds[1] + builds[2] == 1, "%d and %d",
                  result[0], result[1]);
}

/* ---- tiers ---- */

enum { TIERS = 3 };

static struct ash_tier *set;
static struct ash_tier_fn *fn;
static unsigned code[TIERS]; /* plain: written by who compiles */
static unsigned refusals;    /* plain: compilations that fail */

static int compile(void *arg, unsigned tier, void *user)
{
    (void)user;
    model_require(arg == code && tier < TIERS, "another function");
    if (refusals != 0) {
        refusals--;
        return -1;
    }
    code[tier]++;
    return 0;
}

static void call(void)
{
    unsigned tier = ash_tier_hit(fn);
    model_require(tier == 0 || code[tier] == 1, "tier %u was compiled %u times", tier, code[tier]);
}

static void call_2(void)
{
    call();
    call();
}

static void demote(void)
{
    int status = ash_tier_demote(fn, 0);
    model_require(status == 0 || status == -EBUSY || status == -EINVAL, "demote says %d", status);
}

static void hot_after(uint64_t first, uint64_t second)
{
    scenario_boot();
    set = ash_tier_create("set", ASH_TIER_CONFIG(.compile = compile, .tiers = TIERS, .calls = {first, second},
                                                 .cooldown_ns = {-1, -1}));
    fn = set == NULL ? NULL : ash_tier_register(set, "code", code);
    model_require(fn != NULL, "no function");
    model_name(&fn->calls, "calls");
    model_name(&fn->limit, "limit");
    model_name(&fn->tier, "tier");
}

static void hot_at_once(void)
{
    hot_after(1, 1000);
}

static void hot_twice(void)
{
    hot_after(1, 2);
}

static void hot_fails(void)
{
    hot_at_once();
    refusals = 1;
}

static void check_tier(void)
{
    struct ash_tier_stats s;
    ash_tier_stats(set, &s);
    model_require(s.transitions == code[1] + code[2] && s.compiling == 0, "%lu transitions, %lu are compiled",
                  (unsigned long)s.transitions, (unsigned long)s.compiling);
    model_require(s.in_tier[code[2] != 0 ? 2 : code[1] != 0 ? 1 : 0] == 1 || s.demotions != 0, "not in its tier");
    model_require(ash_tier_destroy(set) == 0, "it is being compiled still");
}

static void check_once(void)
{
    check_tier();
    model_require(code[1] == 1 && code[2] <= 1, "compiled %u and %u times", code[1], code[2]);
}

static void check_demoted(void)
{
    check_tier();
    model_require(code[1] <= 1, "compiled %u times", code[1]);
}

const struct scenario vm_scenarios[] = {
    {.name = "artcache-hit",
     .invariant = "two find what is there, and release it",
     .setup = cache_full,
     .thread = {get, get},
     .check = check_one_build},
    {.name = "artcache-keys",
     .invariant = "two build what each wants, in two shards",
     .setup = empty_cache,
     .thread = {get, get_other},
     .check = check_two_builds},
    {.name = "artcache-other",
     .invariant = "one is removed while another is built, in two shards",
     .setup = cache_full,
     .thread = {forget, get_other},
     .check = check_two_builds},
    {.name = "artcache-remove",
     .invariant = "an artifact is removed while it is found: it is there until it is released",
     .setup = cache_full,
     .thread = {get, forget},
     .check = check_cache},
    {.name = "artcache-build",
     .invariant = "two want what is not there: one builds it, the other has the same",
     .setup = empty_cache,
     .thread = {get, get},
     .check = check_one_build,
     .full_only = true},
    {.name = "artcache-fail",
     .invariant = "the same when the first build fails: who waited builds it",
     .setup = cache_fails,
     .thread = {get, get},
     .check = check_one_fails,
     .full_only = true},
    {.name = "tier-once",
     .invariant = "two calls reach the threshold: one compiles, and who finds the tier finds the code",
     .setup = hot_at_once,
     .thread = {call, call_2},
     .check = check_once},
    {.name = "tier-twice",
     .invariant = "two thresholds one behind the other: each tier is compiled once",
     .setup = hot_twice,
     .thread = {call_2, call_2},
     .check = check_once},
    {.name = "tier-fail",
     .invariant = "a compilation fails while others call: the function can be compiled later",
     .setup = hot_fails,
     .thread = {call, call},
     .check = check_tier},
    {.name = "tier-demote",
     .invariant = "a function is put back while it gets hot",
     .setup = hot_at_once,
     .thread = {call, demote},
     .check = check_demoted},
    {.name = NULL},
};
