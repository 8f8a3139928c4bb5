/*
 * Functions of ashlar/arena.h on trees: limits, merging and moving, depth and width, statistics and the table.
 */
#include "arena.h"

static int exact;

/* ---- limits ---- */

static void test_limits(void)
{
    struct ash_arena *root = ash_arena_create(NULL, "root", ASH_ARENA_CONFIG(.max_bytes = MIB));
    struct ash_arena *child = ash_arena_create(root, "child", ASH_ARENA_CONFIG(.max_bytes = 256 * KIB));
    struct ash_arena *leaf = arena_new(child);
    errno = 0;
    size_t n = 0;
    while (ash_arena_alloc(leaf, 100) != NULL)
        n += 100;
    ok(errno == ENOMEM && stats(leaf).refused == 1, "refused and counted where it was asked");
    ok(n > 200 * KIB / (exact ? 1 : 2) && stats(child).tree_total <= 256 * KIB, "a limit counts what is below: %zu", n);
    ok(ash_arena_alloc(root, 300 * KIB) != NULL, "beside it there is room");
    is_refused(ash_arena_alloc(leaf, 300 * KIB), ENOMEM, "a large block is refused");
    void *p = ash_arena_alloc(root, 140 * KIB);
    is_refused(ash_arena_realloc(root, p, 140 * KIB, 900 * KIB), ENOMEM, "a growing one");
    is_int(ash_arena_reparent(leaf, NULL), 0, "a root of its own");
    ok(ash_arena_alloc(leaf, 5 * MIB) != NULL && stats(child).tree_total == stats(child).total, "has no limit");
    is_int(ash_arena_reparent(leaf, child), -ENOMEM, "but cannot come back");
    is_int(ash_arena_merge(child, leaf), -ENOMEM, "nor be merged");
    ok(ash_arena_parent(leaf) == NULL && stats(child).tree_total == stats(child).total, "nothing has changed");
    struct ash_arena *home = arena_new(NULL);
    ash_arena_reparent(leaf, home);
    uint64_t charged = stats(home).tree_total;
    ok(ash_arena_reparent(leaf, child) == -ENOMEM && stats(home).tree_total == charged, "nor where it was");
    ash_arena_reparent(leaf, NULL);
    is_int((long)stats(home).tree_total, (long)stats(home).total, "which it can leave");
    ash_arena_destroy(home);
    ash_arena_reset(leaf);
    is_int(ash_arena_reparent(leaf, child), -ENOMEM + (stats(leaf).total < 200 * KIB) * ENOMEM, "smaller, it may");
    ash_arena_limit(child, 100);
    is_refused(ash_arena_alloc(child, 100 * KIB), ENOMEM, "a limit below what there is");
    ash_arena_limit(child, 0);
    ok(ash_arena_alloc(child, 100 * KIB) != NULL && stats(child).limit == 0, "none");
    ash_arena_destroy(leaf);
    ash_arena_destroy(child);
    is_int((long)stats(root).tree_total, (long)stats(root).total, "what went is discharged");
    ash_arena_destroy(root);
}

/* ---- trees ---- */

static void test_merge(void)
{
    uint64_t before = live();
    for (int end = 0; end < 3; end++) {
        struct ash_arena *root = arena_new(NULL), *into = arena_new(root), *from = arena_new(root);
        char *mine = ash_arena_strdup(into, "mine");
        on(into, t1);
        struct ash_mark m = ash_arena_mark(into);
        char *yours = ash_arena_strdup(from, "yours"), *large = ash_arena_alloc(from, 300000);
        memset(large, 'l', 300000);
        for (int i = 0; i < 100; i++)
            ash_arena_alloc(from, 1000);
        on(from, t2);
        on(from, t3);
        on(arena_new(from), tx);
        on(arena_new(from), ty);
        is_int(ash_arena_merge(from, from), -EINVAL, "into itself");
        is_int(ash_arena_merge(into, root), -EINVAL, "what is above");
        uint64_t total = stats(into).total + stats(from).total;
        is_int(ash_arena_merge(into, from), 0, "ash_arena_merge");
        ok(stats(into).total == total && stats(into).children == 2 && stats(root).children == 1, "all of it is there");
        ok(strcmp(yours, "yours") == 0 && large[299999] == 'l' && ash_arena_contains(into, yours), "nothing has moved");
        char *more = ash_arena_strdup(into, "more");
        if (end == 0) {
            ash_arena_rollback(into, m);
            is_trail("yx32", "a rollback undoes the merge");
            ok(!ash_arena_contains(into, large), "with its memory");
        } else if (end == 1) {
            ash_arena_reset(into);
            is_trail("yx321", "a reset ends what was merged first");
        }
        ok(end == 1 || strcmp(mine, "mine") == 0, "what was before is there");
        ok(end != 2 || strcmp(more, "more") == 0, "what came after too");
        ash_arena_destroy(root);
        is_trail(end == 0 ? "1" : end == 1 ? "" : "yx321", "the end");
    }
    struct ash_arena *top = arena_new(NULL), *below = arena_new(arena_new(top));
    on(below, t1);
    is_int(ash_arena_merge(top, below), 0, "from below");
    ash_arena_destroy(top);
    is_trail("1", "its cleanup is the top's");
    struct ash_arena *one = arena_new(NULL), *two = arena_new(NULL);
    for (int i = 0; i < 50; i++)
        ash_arena_alloc(two, 1000);
    ash_arena_reset(two); /* it has a spare chunk now */
    is_int(ash_arena_merge(one, two), 0, "another tree");
    ash_arena_destroy(one);
    is_int((long)(live() - before), 0, "nothing is left");
}

static void test_reparent(void)
{
    struct ash_arena *a = arena_new(NULL), *b = arena_new(a), *c = arena_new(b), *d = arena_new(NULL);
    struct ash_mark m = ash_arena_mark(d);
    on(c, tx);
    is_int(ash_arena_reparent(a, c), -EINVAL, "below itself");
    is_int(ash_arena_reparent(a, a), -EINVAL, "to itself");
    is_int(ash_arena_reparent(b, d), 0, "to another tree");
    ok(ash_arena_parent(b) == d && stats(a).children == 0 && stats(d).children == 1, "it is there");
    is_int((long)stats(c).level, 2, "with what is below it");
    ok(stats(a).tree_total == stats(a).total, "and charged there");
    ash_arena_destroy(a);
    is_trail("", "the old tree's end is not its own");
    ash_arena_rollback(d, m);
    is_trail("x", "the new one's mark was made before it came");
    ash_arena_destroy(d);
}

static void test_deep(void)
{
    enum { DEEP = 3000, WIDE = 20000 };
    uint64_t before = live();
    struct ash_arena *root = arena_new(NULL), *a = root;
    for (int i = 0; i < DEEP; i++)
        a = ash_arena_create(a, NULL, ASH_ARENA_CONFIG(.first_chunk = 512));
    is_int((long)stats(a).level, DEEP, "a deep tree");
    ash_arena_reset(root);
    for (int i = 0; i < WIDE; i++)
        ash_arena_create(root, NULL, ASH_ARENA_CONFIG(.first_chunk = 512));
    is_int((long)stats(root).children, WIDE, "a wide one");
    ash_arena_destroy(root);
    is_int((long)(live() - before), 0, "gone");
}

/* ---- what is shown ---- */

static const char *captured(const struct ash_arena *a, int (*show)(const struct ash_arena *, int))
{
    static char text[64 * KIB];
    FILE *f = tmpfile();
    is_int(show(a, fileno(f)), 0, "written");
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

static int show_stats(const struct ash_arena *a, int fd)
{
    (void)a;
    return ash_stats_dump(fd, ASH_PROMETHEUS);
}

static void test_dump(void)
{
    struct ash_arena *root = ash_arena_create(NULL, "CacheContext", NULL);
    struct ash_arena *child = ash_arena_create(root, "relation", ASH_ARENA_CONFIG(.first_chunk = 2048));
    ash_arena_create(child, NULL, ASH_ARENA_CONFIG(.first_chunk = 1024));
    const char *text = captured(root, ash_arena_dump);
    char row[200];
    struct ash_arena_stats s = stats(child);
    snprintf(row, sizeof row, "\n%-40s %5d %8d %12ju %12ju %12ju\n", "  relation", 1, 1, (uintmax_t)s.total,
             (uintmax_t)s.free, (uintmax_t)s.used);
    ok(strncmp(text, "arena ", 6) == 0 && strstr(text, "\nCacheContext ") != NULL, "a table, the root first");
    ok(strstr(text, row) != NULL, "a row a child");
    ok(strstr(text, "\n    (unnamed) ") != NULL && strstr(text, "\n3 arenas ") != NULL, "the whole tree, and the sum");
    for (int i = 0; i < 300; i++)
        ash_arena_create(ash_arena_create(root, "portal", NULL), "subportal", NULL);
    text = captured(root, ash_arena_dump);
    snprintf(row, sizeof row, "\n  %d more ", 2 * 200 + 2);
    int lines = 0;
    for (const char *c = text; *c != '\0'; c++)
        lines += *c == '\n';
    ok(strstr(text, row) != NULL && strstr(text, "\n603 arenas ") != NULL, "many children are cut at a hundred");
    is_int(lines, 1 + 1 + 2 * 100 + 1 + 1, "with the others in one line");
    ok(strstr(captured(child, ash_arena_dump), "\nrelation  ") != NULL, "a part of a tree");
    is_int(ash_arena_dump(root, -1), -EBADF, "no descriptor");
    is_int(ash_arena_stats(root, NULL), -EINVAL, "no struct");

    text = captured(root, show_stats);
    ok(strstr(text, "\nashlar_arena_live{name=\"portal\"} 300\n") != NULL, "arenas are in the statistics, by name");
    ok(strstr(text, "\nashlar_arena_blocks{name=\"portal\"} 300\n") != NULL, "with their chunks");
    ok(strstr(text, "ashlar_arena_total_bytes{name=\"relation\"}") != NULL, "and bytes");
    ash_arena_destroy(root);
    text = captured(NULL, show_stats);
    ok(strstr(text, "\nashlar_arena_live{name=\"portal\"} 0\n") != NULL &&
           strstr(text, "\nashlar_arena_created_total{name=\"portal\"} 300\n") != NULL &&
           strstr(text, "\nashlar_arena_blocks{name=\"portal\"} 0\n") != NULL &&
           strstr(text, "\nashlar_arena_total_bytes{name=\"portal\"} 0\n") != NULL,
       "also when they are gone");
}

/* What is merged is counted on the other name from then on, a spare chunk too. */
static void test_counts_of_merged(void)
{
    struct ash_arena *to = ash_arena_create(NULL, "borrower", NULL), *from = ash_arena_create(NULL, "lender", NULL);
    for (int i = 0; i < 50; i++)
        ash_arena_alloc(from, 1000);
    ash_arena_reset(from);
    ash_arena_alloc(from, 500000);
    ash_arena_merge(to, from);
    const char *text = captured(NULL, show_stats);
    ok(strstr(text, "\nashlar_arena_total_bytes{name=\"lender\"} 0\n") != NULL &&
           strstr(text, "\nashlar_arena_blocks{name=\"lender\"} 0\n") != NULL &&
           strstr(text, "\nashlar_arena_live{name=\"lender\"} 0\n") != NULL,
       "nothing is left on the name of what was merged");
    char row[100];
    snprintf(row, sizeof row, "\nashlar_arena_total_bytes{name=\"borrower\"} %ju\n", (uintmax_t)stats(to).total);
    ok(strstr(text, row) != NULL, "all of it is on the other");
    ash_arena_destroy(to);
    text = captured(NULL, show_stats);
    ok(strstr(text, "\nashlar_arena_total_bytes{name=\"borrower\"} 0\n") != NULL, "until that is gone");
}

static void test_many_names(void)
{
    struct ash_arena *root = ash_arena_create(NULL, "of many names", NULL);
    for (int i = 0; i < 200; i++) {
        char name[32];
        snprintf(name, sizeof name, "name %d", i);
        struct ash_arena *a = ash_arena_create(root, name, ASH_ARENA_CONFIG(.first_chunk = 512));
        if (i == 199)
            is_str(stats(a).name, "name 199", "an arena has its name however many there are");
    }
    const char *text = captured(NULL, show_stats);
    ok(strstr(text, "ashlar_arena_live{name=\"(other)\"} 1") != NULL, "those beyond the first are counted together");
    ash_arena_destroy(root);
}

int main(void)
{
    exact = is_exact();
    test_limits();
    test_merge();
    test_reparent();
    test_deep();
    test_dump();
    test_counts_of_merged();
    test_many_names();
    return tap_done();
}
