/*
 * The router (ashlar/router.h) with many patterns: those of a large service, siblings without end, paths that were made
 * to be slow, random sets against a matcher that tries every pattern; then threads, fork, and memory that runs out.
 */
#include "ashlar/layers.h"
#include "ashlar/malloc.h"
#include "api/github.h"
#include "api/routes.h"
#include "draw.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

static uint64_t random_state = 88172645463325252u;

static unsigned random_below(unsigned n)
{
    return (unsigned)((draw_from(&random_state) >> 32) * n >> 32);
}

/* ---- many ---- */

static void shuffle(const char **patterns, unsigned n)
{
    for (unsigned i = n; i > 1; i--) {
        unsigned k = random_below(i);
        const char *swap = patterns[k];
        patterns[k] = patterns[i - 1];
        patterns[i - 1] = swap;
    }
}

static void test_github(void)
{
    struct ash_router *r = router_of(0, github_patterns, GITHUB_PATTERNS);
    is_int((int)stats(r).compiled, GITHUB_PATTERNS, "a large service");
    ok(stats(r).bytes <= 65536, "in a block of %d bytes", (int)stats(r).bytes);
    int wrong = 0;
    for (unsigned i = 0; i < GITHUB_PATTERNS; i++) {
        char path[200];
        struct ash_match m;
        size_t len = github_path(path, github_patterns[i]);
        wrong += ash_router_match(r, path, len, &m) != 0 || m.handler != number(i + 1);
        wrong += ash_router_steps(r, path, len) > 10;
    }
    is_int(wrong, 0, "each path to its own, in ten steps at most");
    ash_router_destroy(r);
}

/* Text whose hashes are alike in every part that tables are made of, and ten thousand siblings. */
static void test_siblings(void)
{
    enum { MANY = 10000 };
    struct ash_router *r = ash_router_create();
    char pattern[64];
    int wrong = 0;
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(pattern, sizeof pattern, i % 2 ? "/siblings%06u" : "/s/%u/{x}", i);
        wrong += ash_router_add(r, pattern, number(i + 1), NULL) != 0;
    }
    for (unsigned i = 0; i < 200; i++) { /* the same eight bytes in front and at the end, and one length */
        snprintf(pattern, sizeof pattern, "/headhead-%03u-tailtail", i);
        wrong += ash_router_add(r, pattern, number(MANY + i + 1), NULL) != 0;
    }
    is_int(wrong, 0, "ten thousand patterns");
    is_int(ash_router_compile(r), 0, "compile");
    int64_t steps = 0;
    for (unsigned i = 0; i < MANY; i++) {
        struct ash_match m;
        size_t len = (size_t)snprintf(pattern, sizeof pattern, i % 2 ? "/siblings%06u" : "/s/%u/x", i);
        wrong += ash_router_match(r, pattern, len, &m) != 0 || m.handler != number(i + 1);
        steps += ash_router_steps(r, pattern, len);
    }
    for (unsigned i = 0; i < 200; i++) {
        struct ash_match m;
        size_t len = (size_t)snprintf(pattern, sizeof pattern, "/headhead-%03u-tailtail", i);
        wrong += ash_router_match(r, pattern, len, &m) != 0 || m.handler != number(MANY + i + 1);
    }
    is_int(wrong, 0, "each is found");
    ok(steps < 4 * MANY, "in few steps: %d for %d", (int)steps, MANY);
    ash_router_destroy(r);
}

/* A tree in which every level has two ways, and a path that fits all of them until its end. */
static void test_adversary(void)
{
    enum { LEVELS = 10, DEEP = 1 << 20 };
    struct ash_router *r = ash_router_create();
    char pattern[LEVELS * 8 + 8];
    for (unsigned ways = 0; ways < 1u << LEVELS; ways++) {
        size_t n = 0;
        for (unsigned level = 0; level < LEVELS; level++)
            n += (size_t)snprintf(pattern + n, sizeof pattern - n, ways >> level & 1 ? "/{n%u}" : "/a", level);
        snprintf(pattern + n, sizeof pattern - n, "/end");
        ash_router_add(r, pattern, NULL, NULL);
    }
    ash_router_compile(r);
    int64_t nodes = (int64_t)stats(r).nodes;
    is_int(nodes, (2 << LEVELS) - 2 + (1 << LEVELS), "a full tree of two ways");
    int64_t steps = ash_router_steps(r, "/a/a/a/a/a/a/a/a/a/a/no", 23);
    is_int(steps, nodes, "a path that fits until the end looks at each once");
    char *deep = malloc(DEEP);
    for (unsigned i = 0; i < DEEP; i++)
        deep[i] = i % 2 ? 'a' : '/';
    steps = ash_router_steps(r, deep, DEEP);
    is_int(steps, nodes, "a path of half a million segments at no more");
    memset(deep + 1, 'a', DEEP - 1);
    ok(ash_router_steps(r, deep, DEEP) <= 2, "a segment of a million bytes is two steps at most");
    memset(deep, '/', DEEP);
    is_int(ash_router_steps(r, deep, DEEP), 2, "slashes alone: an empty segment is neither text nor a name");
    free(deep);
    ash_router_destroy(r);
}

/* ---- against a matcher that tries every pattern ---- */

enum { SEGMENTS = 5, TEXT = 8 };

struct naive {
    char text[SEGMENTS * TEXT + 1];
    unsigned segments;
    struct {
        int kind; /* 0 text, 1 mixed, 2 name, 3 rest: the order of preference */
        char before[TEXT], after[TEXT];
    } at[SEGMENTS];
};

/* Segments of the letters a and b, so that many patterns fit a path. */
static void naive_draw(struct naive *p)
{
    static const char *const texts[] = {"", "a", "b", "ab", "aab"};
    memset(p, 0, sizeof *p);
    p->segments = 1 + random_below(SEGMENTS);
    for (unsigned i = 0; i < p->segments; i++) {
        p->at[i].kind = (int)random_below(i + 1 == p->segments && random_below(8) == 0 ? 4 : 3);
        if (p->at[i].kind < 2)
            strcpy(p->at[i].before, texts[random_below(5)]);
        if (p->at[i].kind == 1)
            strcpy(p->at[i].after, texts[random_below(5)]);
        if (p->at[i].kind == 1 && p->at[i].before[0] == '\0' && p->at[i].after[0] == '\0')
            p->at[i].kind = 2;
        char name[8] = "";
        if (p->at[i].kind > 0)
            snprintf(name, sizeof name, p->at[i].kind == 3 ? "{*n%u}" : "{n%u}", i);
        sprintf(p->text + strlen(p->text), "/%s%s%s", p->at[i].before, name, p->at[i].after);
    }
}

/* What the pattern makes of the path, as route_of writes it, or false. */
static int naive_match(const struct naive *p, const char *path, char *out)
{
    int n = sprintf(out, "%s", p->text);
    for (unsigned i = 0; i < p->segments; i++) {
        if (*path++ != '/')
            return 0;
        size_t len = p->at[i].kind == 3 ? strlen(path) : strcspn(path, "/");
        size_t before = strlen(p->at[i].before), after = strlen(p->at[i].after);
        if (p->at[i].kind == 0 ? len != before : len <= before + after)
            return 0;
        if (memcmp(path, p->at[i].before, before) != 0 || memcmp(path + len - after, p->at[i].after, after) != 0)
            return 0;
        if (p->at[i].kind > 0)
            n += sprintf(out + n, " n%u=%.*s", i, (int)(len - before - after), path + before);
        path += len;
    }
    return *path == '\0';
}

static int naive_better(const struct naive *a, const struct naive *b)
{
    for (unsigned i = 0; i < a->segments && i < b->segments; i++) {
        if (a->at[i].kind != b->at[i].kind)
            return a->at[i].kind < b->at[i].kind;
        size_t before[2] = {strlen(a->at[i].before), strlen(b->at[i].before)};
        size_t after[2] = {strlen(a->at[i].after), strlen(b->at[i].after)};
        if (before[0] != before[1])
            return before[0] > before[1];
        if (after[0] != after[1])
            return after[0] > after[1];
    }
    return 0;
}

static void test_random(unsigned seed, unsigned flags)
{
    enum { SETS = 60, MOST = 60, PATHS = 400 };
    static struct naive drawn[MOST];
    static char want[1024], got[1024];
    int wrong = 0, found = 0, refused = 0;
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
    for (unsigned set = 0; set < SETS; set++) {
        struct ash_router *r[2];
        const char *order[MOST];
        unsigned n = 0;
        r[0] = ash_router_create_with(NULL, ASH_ROUTER_CONFIG(.flags = flags));
        r[1] = ash_router_create_with(NULL, ASH_ROUTER_CONFIG(.flags = flags));
        for (unsigned i = 0; i < MOST; i++) {
            naive_draw(&drawn[n]);
            int known = 0;
            for (unsigned k = 0; k < n; k++)
                known |= strcmp(drawn[k].text, drawn[n].text) == 0;
            int status = ash_router_add(r[0], drawn[n].text, NULL, NULL);
            wrong += status != (known ? -EEXIST : 0);
            refused += known;
            if (!known) {
                order[n] = drawn[n].text;
                n++;
            }
        }
        shuffle(order, n);
        for (unsigned i = 0; i < n; i++)
            wrong += ash_router_add(r[1], order[i], NULL, NULL) != 0;
        ash_router_compile(r[0]);
        ash_router_compile(r[1]);
        wrong += stats(r[0]).bytes != stats(r[1]).bytes || stats(r[0]).nodes != stats(r[1]).nodes;
        for (unsigned i = 0; i < PATHS; i++) {
            char path[100] = "/";
            unsigned len = 1 + random_below(i % 4 == 0 ? 98 : 20);
            for (unsigned k = 1; k < len; k++)
                path[k] = random_below(3) == 0 ? '/' : "ab"[random_below(2)];
            path[len] = '\0';
            const struct naive *best = NULL;
            char text[1024];
            want[0] = '\0';
            for (unsigned k = 0; k < n; k++)
                if (naive_match(&drawn[k], path, text) && (best == NULL || naive_better(&drawn[k], best))) {
                    best = &drawn[k];
                    strcpy(want, text);
                }
            strcpy(got, route_of(r[0], path));
            int bad = strcmp(got, want) != 0 || strcmp(route_of(r[1], path), want) != 0;
            if (bad && wrong == 0)
                tap_line("# set %u, %s: got \"%s\", want \"%s\"", set, path, got, want);
            wrong += bad || ash_router_steps(r[0], path, len) > (int64_t)stats(r[0]).nodes;
            found += best != NULL;
        }
        ash_router_destroy(r[0]);
        ash_router_destroy(r[1]);
    }
    is_int(wrong, 0, "random sets and paths agree with trying every pattern, in two orders");
    ok(found > SETS * PATHS / 10 && found < SETS * PATHS, "seed %u: %d of %d found, %d patterns twice", seed, found,
       SETS * PATHS, refused);
}

/* ---- threads, fork, memory ---- */

struct race {
    struct ash_router *r;
    _Atomic(int) over;
};

/* Every state has /n/0 to /n/k and no more: whoever finds one finds all below it. */
static void *reader(void *arg)
{
    struct race *race = arg;
    uintptr_t wrong = 0, seen = 0;
    while (!race->over) {
        struct ash_match m;
        int known = 1;
        for (unsigned i = 64; i-- > 0;) {
            char path[16];
            size_t len = (size_t)snprintf(path, sizeof path, "/n/%u/x", i);
            int status = ash_router_match(race->r, path, len, &m);
            if (status == 0) {
                wrong += m.handler != number(i + 1) || m.n != 1 || m.caps[0].ptr != path + len - 1;
                known = 0;
                seen++;
            } else
                wrong += !known;
        }
    }
    return number(wrong != 0 ? 0 : seen + 1);
}

static void test_threads(unsigned threads)
{
    struct race race = {.r = ash_router_create()};
    pthread_t id[8];
    for (unsigned i = 0; i < threads; i++)
        pthread_create(&id[i], NULL, reader, &race);
    int failed = 0;
    for (unsigned i = 0; i < 64; i++) {
        char pattern[16];
        snprintf(pattern, sizeof pattern, "/n/%u/{x}", i);
        failed += ash_router_add(race.r, pattern, number(i + 1), NULL) != 0 || ash_router_compile(race.r) != 0;
        usleep(500);
    }
    race.over = 1;
    int wrong = 0;
    for (unsigned i = 0; i < threads; i++) {
        void *result;
        pthread_join(id[i], &result);
        wrong += result == NULL;
    }
    is_int(failed, 0, "patterns are added and compiled");
    ok(wrong == 0, "while %u threads match: what they see is whole", threads);
    is_int(ash_router_trim(race.r), 63, "what they may have read goes when they are done");
    ash_router_destroy(race.r);
}

static void test_fork(void)
{
    struct ash_router *r = ROUTER(0, "/a", "/b/{x}");
    pid_t child = fork();
    if (child == 0) {
        int good = strcmp(route_of(r, "/b/1"), "/b/{x} x=1") == 0 && ash_router_add(r, "/c", NULL, NULL) == 0 &&
                   ash_router_compile(r) == 0 && strcmp(route_of(r, "/c"), "/c") == 0 && ash_router_trim(r) == 1 &&
                   ash_router_destroy(r) == 0;
        _exit(good ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    is_int(status, 0, "a child matches, adds and compiles");
    is_str(route_of(r, "/c"), "", "in a copy of its own");
    ash_router_destroy(r);
}

static void test_memory(void)
{
    struct ash_router *r = ROUTER(0, "/a");
    int refused = 0, odd = 0;
    size_t limit, used;
    ash_limit_get(&limit, &used);
    if (ash_limit_set(used + (1 << 20)) != 0) {
        skip("limits are not to be had", 3);
        ash_router_destroy(r);
        return;
    }
    for (unsigned i = 0; i < 20000; i++) {
        char pattern[64];
        const char *why;
        snprintf(pattern, sizeof pattern, "/%u/{name}/and/more", i);
        int status = ash_router_add(r, pattern, NULL, &why);
        refused += status == -ENOMEM;
        odd += status != 0 && (status != -ENOMEM || why == NULL);
    }
    odd += ash_router_compile(r) != -ENOMEM;
    ash_limit_set(0);
    ok(refused > 0 && odd == 0, "without memory patterns are refused: %d", refused);
    is_str(route_of(r, "/a"), "/a", "what was compiled stays");
    is_int(ash_router_compile(r), 0, "with memory the rest is compiled");
    is_int((int)stats(r).routes, 20001 - refused, "and nothing is lost");
    is_str(route_of(r, "/0/x/and/more"), "/0/{name}/and/more name=x", "the first of them");
    ash_router_destroy(r);
}

int main(void)
{
    test_github();
    test_siblings();
    test_adversary();
    for (unsigned seed = 1; seed <= 4; seed++)
        test_random(seed, seed == 4 ? ASH_ROUTER_IGNORE_CASE : 0);
    test_threads(2);
    test_threads(8);
    test_fork();
    test_memory();
    return tap_done();
}
