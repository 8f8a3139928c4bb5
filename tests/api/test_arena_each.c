/*
 * Functions of ashlar/arena.h on a single arena, with their edges: sizes, alignments, errors, cleanups, what a reset
 * keeps, marks.
 */
#include "arena.h"

#include <stdarg.h>
#include <wchar.h>

static volatile size_t huge = SIZE_MAX; /* hidden from the compiler's own checks */
static int exact;

/* The out-of-line forms. */
static void *(*volatile alloc)(struct ash_arena *, size_t) = ash_arena_alloc;
static struct ash_mark (*volatile mark)(struct ash_arena *) = ash_arena_mark;
static void (*volatile rollback)(struct ash_arena *, struct ash_mark) = ash_arena_rollback;

/* ---- create ---- */

static void test_create(void)
{
    static const char *const wrong[] = {"", "a\"b", "a\\b", "tab\t", "\x7f", "caf\xc3\xa9",
                                        "a name that has thirty-two chars"};
    uint64_t before = live();
    errno = 0;
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        is_refused(ash_arena_create(NULL, wrong[i], NULL), EINVAL, "a name that is none");
    is_refused(ash_arena_create(NULL, "a", ASH_ARENA_CONFIG(.flags = 0x80)), EINVAL, "an unknown flag");
    is_refused(ash_arena_create(NULL, "a", ASH_ARENA_CONFIG(.max_bytes = 511)), EINVAL, "max_bytes below 512");
    is_refused(ash_arena_create(NULL, "a", ASH_ARENA_CONFIG(.first_chunk = huge)), ENOMEM, "a first chunk too large");
    is_refused(ash_arena_create(NULL, "a", ASH_ARENA_CONFIG(.first_chunk = huge / 2 - 100)), ENOMEM, "still");
    struct ash_arena_config short_one = {.struct_size = 3};
    is_refused(ash_arena_create(NULL, "a", &short_one), EINVAL, "a config that was not filled in");
    is_int((long)(live() - before), 0, "nothing is left of those");

    struct ash_arena *a = ash_arena_create(NULL, NULL, NULL);
    ok(a != NULL && stats(a).name[0] == '\0' && ash_arena_parent(a) == NULL, "no name, no parent");
    struct ash_arena *b = ash_arena_create(a, "thirty-one characters, no more.", ASH_ARENA_CONFIG(.max_bytes = 512));
    is_str(stats(b).name, "thirty-one characters, no more.", "a long name");
    ok(stats(b).total <= 512 && stats(b).limit == 512, "the first chunk fits the limit");
    ok(ash_arena_parent(b) == a && stats(b).level == 1 && stats(a).children == 1, "a child");
    struct ash_arena *c = ash_arena_create(b, "c", ASH_ARENA_CONFIG(.first_chunk = 1, .max_chunk = 1));
    is_refused(c, ENOMEM, "there is no room for a child");
    is_int((long)stats(b).refused, 1, "which is counted");
    c = ash_arena_create(a, "c", ASH_ARENA_CONFIG(.first_chunk = 1, .max_chunk = 1));
    ok(stats(c).total >= 512, "a first chunk of one byte is as large as need be");
    ok(ash_arena_alloc(c, 100) != NULL && ash_arena_alloc(c, 100000) != NULL, "of use for all sizes");
    is_int((long)(stats(a).tree_total), (long)(stats(a).total + stats(b).total + stats(c).total), "the tree's total");
    ash_arena_destroy(a);
    ash_arena_destroy(NULL);
    is_int((long)(live() - before), 0, "destroyed, the tree is gone");
}

/* ---- allocation ---- */

static void test_alloc(void)
{
    enum { N = 400 };
    struct ash_arena *a = arena_new(NULL);
    unsigned char *p[N];
    size_t size[N];
    int wrong = 0;
    for (unsigned i = 0; i < N; i++) {
        size[i] = i < 300 ? i : (size_t)(i - 299) * 7919 % 300000;
        p[i] = i % 2 == 0 ? ash_arena_alloc(a, size[i]) : alloc(a, size[i]);
        wrong += p[i] == NULL || (uintptr_t)p[i] % 16 != 0;
        memset(p[i], (int)i, size[i]);
    }
    for (unsigned i = 0; i < N; i++)
        for (size_t k = 0; k < size[i]; k++)
            wrong += p[i][k] != (unsigned char)i;
    is_int(wrong, 0, "blocks of all sizes, aligned to 16, none of another's");
    wrong = 0;
    for (unsigned i = 1; i < N; i++)
        wrong += ash_arena_contains(a, p[i]) != 1 || ash_arena_contains(a, p[i] + size[i] - (size[i] > 0)) != 1;
    ok(wrong <= 1, "ash_arena_contains"); /* the block of none may lie at an end */
    ok(!ash_arena_contains(a, &wrong) && !ash_arena_contains(a, NULL), "and what it does not");
    struct ash_arena_stats s = stats(a);
    ok(s.total == s.free + s.used && s.total == s.tree_total && s.blocks > 3, "total = free + used");
    errno = 0;
    is_refused(ash_arena_alloc(a, huge), ENOMEM, "SIZE_MAX");
    is_refused(ash_arena_alloc(a, huge - 20), ENOMEM, "a little less");
    is_refused(alloc(a, huge / 2 + 1), ENOMEM, "half of it");
    is_refused(ash_arena_zalloc(a, huge), ENOMEM, "zalloc of it");
    is_refused(ash_arena_memdup(a, "", huge), ENOMEM, "memdup of it");
    is_int((long)stats(a).total, (long)s.total, "nothing was taken for those");
    ash_arena_destroy(a);
}

static void test_zalloc(void)
{
    struct ash_arena *a = arena_new(NULL);
    int dirty = 0;
    for (int round = 0; round < 3; round++) {
        for (size_t n = 1; n < 3 * MIB; n = n * 3 / 2 + 1) {
            unsigned char *p = ash_arena_zalloc(a, n);
            for (size_t i = 0; i < n; i++)
                dirty += p[i] != 0;
            memset(p, 0xff, n);
        }
        ash_arena_reset(a);
        memset(ash_arena_alloc(a, 7000), 0xff, 7000);
        ash_arena_reset(a);
    }
    is_int(dirty, 0, "ash_arena_zalloc: zero, fresh or used before");
    ash_arena_destroy(a);
}

static void test_aligned(void)
{
    struct ash_arena *a = arena_new(NULL);
    int wrong = 0;
    for (size_t align = 1; align <= 4 * MIB; align *= 2)
        for (size_t i = 0; i < 8; i++) {
            char *p = ash_arena_aligned(a, align, 100 * i + 1);
            wrong += p == NULL || (uintptr_t)p % align != 0 || (uintptr_t)p % 16 != 0 || !ash_arena_contains(a, p) ||
                     !ash_arena_contains(a, p + 100 * i);
            memset(p, 0xee, 100 * i + 1);
            ash_arena_alloc(a, i);
        }
    is_int(wrong, 0, "ash_arena_aligned");
    is_int(ash_arena_audit(a), 0, "nothing was written beside the blocks");
    errno = 0;
    is_refused(ash_arena_aligned(a, 0, 10), EINVAL, "an alignment of 0");
    is_refused(ash_arena_aligned(a, 24, 10), EINVAL, "of 24");
    is_refused(ash_arena_aligned(a, huge / 2 + 1, 10), ENOMEM, "of 2^63");
    is_refused(ash_arena_aligned(a, 64, huge - 63), ENOMEM, "too much");
    ash_arena_destroy(a);
}

static void test_realloc(void)
{
    struct ash_arena *a = arena_new(NULL);
    char *p = ash_arena_realloc(a, NULL, 0, 10);
    strcpy(p, "123456789");
    char *q = ash_arena_realloc(a, p, 10, 1000);
    ok(strcmp(q, "123456789") == 0 && (!exact || q == p), "the last block grows where it is");
    p = ash_arena_realloc(a, q, 1000, 20);
    char *next = ash_arena_alloc(a, 1);
    ok(strcmp(p, "123456789") == 0 && (!exact || (p == q && next == p + 32)), "and shrinks");
    q = ash_arena_realloc(a, p, 20, 40);
    ok(q != p && strcmp(q, "123456789") == 0 && strcmp(p, "123456789") == 0, "another one is copied when it grows");
    p = ash_arena_alloc(a, 100);
    memset(p, 7, 100);
    ash_arena_alloc(a, 1);
    q = ash_arena_realloc(a, p, 100, 10);
    ok((q == p || !exact) && q[9] == 7, "and stays when it shrinks");
    q = ash_arena_realloc(a, ash_arena_alloc(a, 0), 0, 5);
    ok(q != NULL, "a block of nothing grows");

    uint64_t before = stats(a).total;
    size_t n = 200 * KIB;
    p = ash_arena_alloc(a, n);
    memset(p, 1, n);
    for (; n < 20 * MIB; n *= 2) {
        p = ash_arena_realloc(a, p, n, 2 * n);
        memset(p + n, 1, n);
    }
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++)
        wrong += p[i] != 1;
    is_int((long)wrong, 0, "a large block grows with its contents");
    ok(!exact || stats(a).total < before + n + 64 * KIB, "without leaving a copy");
    is_int((long)stats(a).tree_total, (long)stats(a).total, "and is charged for what it took");
    p = ash_arena_realloc(a, p, n, 100);
    ok(p[99] == 1 && (!exact || stats(a).used < before + 4 * KIB), "and shrinks");
    errno = 0;
    is_refused(ash_arena_realloc(a, p, 100, huge), ENOMEM, "too much");
    is_refused(ash_arena_realloc(a, p, 100, huge / 4), ENOMEM, "for the system");
    is_int(p[99], 1, "the block is as it was");
    ash_arena_destroy(a);
}

/* What programs that have a printf of their own do. */
__attribute__((format(printf, 2, 3))) static char *noted(struct ash_arena *a, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = ash_arena_vprintf(a, format, args);
    va_end(args);
    return text;
}

static void test_text(void)
{
    struct ash_arena *a = ash_arena_create(NULL, "text", ASH_ARENA_CONFIG(.first_chunk = 512));
    int wrong = 0;
    for (int n = 0; n < 600; n++) {
        char *p = ash_arena_printf(a, "%*d|%.3f", n, n, n / 8.0), *q = ash_arena_strdup(a, p);
        char want[700];
        snprintf(want, sizeof want, "%*d|%.3f", n, n, n / 8.0);
        wrong += strcmp(p, want) != 0 || strcmp(q, want) != 0 || p == q;
        wrong += strcmp(ash_arena_printf(a, "%s", ""), "") != 0;
    }
    is_int(wrong, 0, "ash_arena_printf and strdup, at the ends of chunks too");
    is_str(noted(a, "%d %s, %.1f %s", 3, "arenas", 0.5, "full"), "3 arenas, 0.5 full", "ash_arena_vprintf");
    is_str(noted(a, "%0500d", 7) + 490, "0000000007", "which takes a new chunk for what does not fit");
    is_int(ash_arena_audit(a), 0, "nothing was written beside the blocks");
    is_str(ash_arena_strndup(a, "abc", 10), "abc", "ash_arena_strndup of less");
    is_str(ash_arena_strndup(a, "abc", 0), "", "of nothing");
    static const char open_end[3] = {'x', 'y', 'z'};
    is_str(ash_arena_strndup(a, open_end, 3), "xyz", "of a text without an end");
    ok(memcmp(ash_arena_memdup(a, "a\0b", 4), "a\0b", 4) == 0, "ash_arena_memdup");
    errno = 0;
    is_refused(ash_arena_strdup(a, NULL), EINVAL, "strdup of NULL");
    is_refused(ash_arena_strndup(a, NULL, 5), EINVAL, "strndup of NULL");
    uint64_t used = stats(a).used;
    is_refused(ash_arena_printf(a, "%ls", (const wchar_t[]){0x7fffffff, 0}), EILSEQ, "a text that cannot be written");
    is_int((long)stats(a).used, (long)used, "takes nothing");
    ash_arena_destroy(a);
}

/* ---- the order of ends ---- */

static void test_cleanups(void)
{
    struct ash_arena *a = arena_new(NULL);
    on(a, t1);
    struct ash_arena *child = arena_new(a), *grandchild = arena_new(child), *other = arena_new(a);
    on(child, tx);
    on(grandchild, ty);
    on(other, tz);
    struct ash_cleanup *two = on(a, t2), elsewhere = {leave, t3, NULL, 0};
    ash_arena_on_reset(a, &elsewhere);
    is_int((long)stats(a).cleanups, 3, "three cleanups");
    ash_arena_reset(a);
    is_trail("zyx321", "children first, the newest first; then its own, newest first");
    ash_arena_reset(a);
    is_trail("", "once");
    on(a, t1);
    two = on(a, t2);
    on(a, t3);
    is_int(ash_arena_cancel(a, two), 0, "ash_arena_cancel");
    is_int(ash_arena_cancel(a, two), -ENOENT, "a second time");
    is_int(ash_arena_cancel(a, &elsewhere), -ENOENT, "of one that has run");
    ash_arena_destroy(a);
    is_trail("31", "destroy runs the others");
}

struct late {
    struct ash_arena *arena;
    int rounds, seen;
    struct ash_cleanup node;
    char *text;
};

/* What a cleanup may do: read the memory, allocate, register another one, create a child. */
static void again(void *arg)
{
    struct late *l = arg;
    l->seen += strcmp(l->text, "still here") == 0;
    void *p = ash_arena_alloc(l->arena, 50000);
    l->seen += p != NULL && memset(p, 1, 50000) == p;
    if (--l->rounds > 0) {
        on(arena_new(l->arena), tx);
        ash_arena_on_reset(l->arena, &l->node);
    }
}

static void test_allocating_cleanups(void)
{
    struct ash_arena *a = arena_new(NULL);
    uint64_t before = live();
    for (int how = 0; how < 3; how++) {
        struct ash_mark m = ash_arena_mark(a);
        struct late l = {.arena = a, .rounds = 4, .node = {again, &l, NULL, 0}};
        l.text = ash_arena_strdup(a, "still here");
        ash_arena_on_reset(a, &l.node);
        if (how == 0)
            ash_arena_rollback(a, m);
        else
            ash_arena_reset(a);
        is_int(l.seen, 8, "cleanups allocate, from the arena whose memory goes");
        is_trail("xxx", "and make children that go too");
        ok(stats(a).children == 0 && stats(a).cleanups == 0, "nothing is left");
    }
    ok(live() - before < 400 * KIB, "but for a spare chunk");
    ash_arena_destroy(a);
}

/* ---- reset ---- */

static void test_reset(void)
{
    struct ash_arena *a = ash_arena_create(NULL, "test", ASH_ARENA_CONFIG(.first_chunk = 1024, .max_chunk = 64 * KIB));
    void *first = ash_arena_alloc(a, 16);
    uint64_t empty = stats(a).total;
    for (int i = 0; i < 1000; i++)
        ash_arena_alloc(a, 200);
    ash_arena_alloc(a, 5 * MIB);
    ash_arena_reset(a);
    struct ash_arena_stats s = stats(a);
    ok(s.blocks == 2 && s.total > empty && s.total <= empty + 64 * KIB, "reset keeps the largest chunk: %ju bytes",
       (uintmax_t)s.total);
    ok(s.used < 512 && s.resets == 1, "nothing is used but the record");
    ok(ash_arena_alloc(a, 16) == first, "it begins where it began");
    for (int round = 0; round < 3; round++) {
        ash_arena_reset(a);
        for (int i = 0; i < 200; i++)
            ash_arena_alloc(a, 200);
    }
    is_int((long)stats(a).total, (long)s.total, "an arena in use again and again takes nothing more");
    ash_arena_destroy(a);
}

/* ---- marks ---- */

static void test_marks(void)
{
    struct ash_arena *a = arena_new(NULL);
    uint64_t before = live();
    struct ash_mark m[6];
    char *kept[6];
    static const size_t steps[] = {10, 5000, 300000, 20000, 1, 9000};
    for (int i = 0; i < 6; i++) {
        kept[i] = ash_arena_printf(a, "kept %d", i);
        m[i] = i % 2 == 0 ? ash_arena_mark(a) : mark(a);
        memset(ash_arena_alloc(a, steps[i]), 0xff, steps[i]);
        on(a, i % 2 == 0 ? t1 : t2);
        on(arena_new(a), tx);
    }
    for (int i = 5; i >= 0; i--) {
        char want[16];
        snprintf(want, sizeof want, "kept %d", i);
        uint64_t used = stats(a).used;
        i % 2 == 0 ? ash_arena_rollback(a, m[i]) : rollback(a, m[i]);
        is_trail(i % 2 == 0 ? "x1" : "x2", "back over a chunk, a child and a cleanup");
        ok(strcmp(kept[i], want) == 0 && stats(a).used < used, "what was before is there");
        char *place = ash_arena_alloc(a, 8);
        ash_arena_rollback(a, m[i]);
        ok(ash_arena_alloc(a, 8) == place, "the mark stays valid");
        ash_arena_rollback(a, m[i]);
    }
    ok(stats(a).children == 0 && live() - before < MIB, "all back");
    is_int(ash_arena_audit(a), 0, "and sound");
    ash_arena_destroy(a);
}

/* The chunk that a loop crosses into each time is kept, not freed and taken again. */
static void test_mark_at_the_end(void)
{
    struct ash_arena *a = arena_new(NULL);
    while (stats(a).free > 200)
        ash_arena_alloc(a, 16);
    struct ash_mark m = ash_arena_mark(a);
    struct ash_stats first = {.struct_size = sizeof first}, last = first;
    for (int i = 0; i < 100; i++) {
        if (i == 1)
            ash_stats_get(&first);
        ash_arena_alloc(a, 1000);
        ash_arena_rollback(a, m);
    }
    ash_stats_get(&last);
    is_int((long)(last.frees - first.frees), 0, "crossing into a new chunk again and again frees none");
    ash_arena_destroy(a);
}

static void test_shrunk_below_mark(void)
{
    struct ash_arena *a = arena_new(NULL);
    char *p = ash_arena_alloc(a, 1000);
    memset(p, 3, 1000);
    struct ash_mark m = ash_arena_mark(a);
    p = ash_arena_realloc(a, p, 1000, 10);
    char *q = ash_arena_alloc(a, 10);
    memset(q, 4, 10);
    ash_arena_rollback(a, m);
    char *r = ash_arena_alloc(a, 100);
    memset(r, 5, 100);
    ok(p[9] == 3 && !(r < p + 10 && p < r + 100), "a rollback over a block that was shortened");
    ash_arena_destroy(a);
}

int main(void)
{
    exact = is_exact();
    test_create();
    test_alloc();
    test_zalloc();
    test_aligned();
    test_realloc();
    test_text();
    test_cleanups();
    test_allocating_cleanups();
    test_reset();
    test_marks();
    test_mark_at_the_end();
    test_shrunk_below_mark();
    return tap_done();
}
