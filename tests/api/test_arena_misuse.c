/*
 * Wrong uses of arenas: what is said and what happens, in a child process each; what ASH_ARENA_DEBUG finds; what is
 * refused with an error. Runs itself again with ASHLAR_ON_ERROR=warn, where wrong calls do nothing.
 */
#include "ashlar/arena.h"
#include "again.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>

static int warn;  /* wrong calls do nothing and the process goes on */
static int tools; /* memcheck or AddressSanitizer look on: a wrong access is theirs to report */

static struct ash_arena *arena_new(unsigned flags)
{
    return ash_arena_create(NULL, "accounts", ASH_ARENA_CONFIG(.flags = flags));
}

/* Runs the case in a child: it says `want` and is aborted, or says it and goes on. */
static void says(const char *want, void (*wrong)(void), const char *what)
{
    int pipes[2], status = -1;
    char text[512];
    size_t n = 0;
    if (pipe(pipes) != 0)
        _exit(99);
    pid_t child = fork();
    if (child == 0) {
        dup2(pipes[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        wrong();
        _exit(0);
    }
    close(pipes[1]);
    for (ssize_t k; n < sizeof text - 1 && (k = read(pipes[0], text + n, sizeof text - 1 - n)) > 0;)
        n += (size_t)k;
    text[n] = '\0';
    close(pipes[0]);
    waitpid(child, &status, 0);
    int ended = warn ? status == 0 : WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
    if (!ok(strstr(text, want) != NULL && ended, "%s: %s", what, want))
        tap_line("# status %x, said: %s", (unsigned)status, text);
}

/* ---- calls that are wrong in a cleanup ---- */

static struct ash_arena *victim;
static struct ash_mark victim_mark;
static int calls;

static void reset_it(void *arg)
{
    (void)arg;
    calls++;
    ash_arena_reset(victim);
}

static void destroy_it(void *arg)
{
    (void)arg;
    calls++;
    ash_arena_destroy(victim);
}

static void roll_it_back(void *arg)
{
    (void)arg;
    calls++;
    ash_arena_rollback(victim, victim_mark);
}

/* A cleanup of the arena, or of its grandchild, calls `fn` for the arena. */
static void in_cleanup(void (*fn)(void *), int below)
{
    struct ash_cleanup node = {fn, NULL, NULL, 0};
    victim = arena_new(0);
    victim_mark = ash_arena_mark(victim);
    ash_arena_alloc(victim, 100000);
    struct ash_arena *a = victim;
    for (int i = 0; i < 2 * below; i++)
        a = ash_arena_create(a, NULL, NULL);
    ash_arena_on_reset(a, &node);
    ash_arena_destroy(a);
    if (calls != 1)
        _exit(1);
    if (below)
        ash_arena_destroy(victim);
}

static void reset_in_cleanup(void)
{
    in_cleanup(reset_it, 0);
}

static void destroy_in_cleanup(void)
{
    in_cleanup(destroy_it, 0);
}

static void rollback_in_cleanup(void)
{
    in_cleanup(roll_it_back, 0);
}

static void destroy_above_in_cleanup(void)
{
    in_cleanup(destroy_it, 1);
}

/* ---- marks that are no more ---- */

static void mark_before_reset(void)
{
    struct ash_arena *a = arena_new(0);
    struct ash_mark m = ash_arena_mark(a);
    ash_arena_reset(a);
    char *p = ash_arena_strdup(a, "kept");
    ash_arena_rollback(a, m);
    if (strcmp(p, "kept") != 0 || ash_arena_alloc(a, 4) == p)
        _exit(1);
}

static void mark_in_memory_that_went(void)
{
    struct ash_arena *a = arena_new(0);
    struct ash_mark first = ash_arena_mark(a);
    for (int i = 0; i < 1000; i++)
        ash_arena_alloc(a, 1000);
    struct ash_mark second = ash_arena_mark(a);
    ash_arena_rollback(a, first);
    ash_arena_create(a, NULL, NULL);
    ash_arena_rollback(a, second);
}

static void mark_of_another(void)
{
    struct ash_arena *a = arena_new(0), *b = arena_new(0);
    ash_arena_alloc(b, 100);
    ash_arena_rollback(a, ash_arena_mark(b));
}

static void mark_of_the_future(void)
{
    struct ash_arena *a = arena_new(0);
    struct ash_mark m = ash_arena_mark(a);
    m.ash_serial += 100;
    ash_arena_rollback(a, m);
}

/* ---- guards ---- */

static void write_at(long offset, void (*end)(struct ash_arena *))
{
    struct ash_arena *a = arena_new(ASH_ARENA_DEBUG);
    ash_arena_alloc(a, 100);
    char *volatile p = ash_arena_alloc(a, 10);
    ash_arena_alloc(a, 100);
    p[offset] = 1;
    end(a);
}

static void overflow_and_reset(void)
{
    write_at(10, ash_arena_reset);
}

static void overflow_and_destroy(void)
{
    write_at(25, ash_arena_destroy);
}

static void underflow(void)
{
    write_at(-9, ash_arena_destroy);
}

static void overflow_and_rollback(void)
{
    struct ash_arena *a = arena_new(ASH_ARENA_DEBUG);
    struct ash_mark m = ash_arena_mark(a);
    char *volatile p = ash_arena_alloc(a, 200000);
    p[200000] = 1;
    ash_arena_rollback(a, m);
}

static void overflow_and_audit(void)
{
    struct ash_arena *a = arena_new(ASH_ARENA_DEBUG), *child = ash_arena_create(a, NULL, NULL);
    char *volatile p = ash_arena_zalloc(child, 16);
    p[16] = 1;
    if (ash_arena_audit(a) != 1)
        _exit(1);
}

/* In a chunk that comes from an arena without guards. */
static void overflow_in_merged_room(void)
{
    struct ash_arena *a = arena_new(ASH_ARENA_DEBUG), *plain = arena_new(0);
    for (int i = 0; i < 100; i++)
        ash_arena_alloc(plain, 1000);
    ash_arena_reset(plain);
    ash_arena_merge(a, plain);
    char *volatile p = NULL;
    for (int i = 0; i < 10; i++)
        p = ash_arena_alloc(a, 1000);
    p[1000] = 1;
    ash_arena_reset(a);
}

static void realloc_with_wrong_size(void)
{
    struct ash_arena *a = arena_new(ASH_ARENA_DEBUG);
    char *p = ash_arena_alloc(a, 10);
    strcpy(p, "123456789");
    p = ash_arena_realloc(a, p, 1000, 2000);
    if (strcmp(p, "123456789") != 0)
        _exit(1);
}

static void no_call(void *arg)
{
    (void)arg;
}

static void registered_twice(void)
{
    struct ash_arena *a = arena_new(ASH_ARENA_DEBUG);
    struct ash_cleanup node = {no_call, NULL, NULL, 0}, other = node;
    ash_arena_on_reset(a, &node);
    ash_arena_on_reset(a, &other);
    ash_arena_on_reset(a, &node);
    ash_arena_destroy(a);
}

static void test_guards(void)
{
    if (tools) {
        skip("memcheck or AddressSanitizer report these", 9);
        return;
    }
    says(": it has 10 bytes, and byte 10 was written\n", overflow_and_reset, "a write past the end, seen by a reset");
    says(": it has 10 bytes, and byte 25 was written\n", overflow_and_destroy, "seen by destroy");
    says("ashlar: underflow of 0x", underflow, "before the block");
    says("and byte 200000 was written\n", overflow_and_rollback, "of a large block, seen by a rollback");
    says("and byte 16 was written\n", overflow_and_audit, "seen by an audit");
    says("and byte 1000 was written\n", overflow_in_merged_room, "in room that was merged");
    says("with wrong size 1000 (it has 10)\n", realloc_with_wrong_size, "realloc");

    struct ash_arena *a = arena_new(ASH_ARENA_DEBUG);
    struct ash_mark m = ash_arena_mark(a);
    unsigned char *volatile p = ash_arena_alloc(a, 50);
    ok(p[0] == 0xcd && p[49] == 0xcd, "fresh memory is filled");
    ash_arena_rollback(a, m);
    ok(p[0] == 0xdd && p[49] == 0xdd, "memory that went too");
    ash_arena_destroy(a);
}

/* What is right has no faults, in merged arenas with and without guards too. */
static void test_sound(void)
{
    struct ash_arena *into = arena_new(0), *from = arena_new(ASH_ARENA_DEBUG);
    struct ash_arena *child = ash_arena_create(from, NULL, NULL);
    struct ash_mark m = ash_arena_mark(into);
    for (int round = 0; round < 2; round++) {
        for (size_t n = 0; n < 100000; n = n * 2 + 1) {
            memset(ash_arena_alloc(from, n), 1, n);
            memset(ash_arena_aligned(from, 256, n), 2, n);
            char *p = ash_arena_zalloc(child, n);
            memset(ash_arena_realloc(child, p, n, 2 * n), 3, 2 * n);
        }
        is_int(ash_arena_audit(from), 0, "all blocks are sound");
        if (round == 0)
            ash_arena_rollback(from, ash_arena_mark(from));
    }
    is_int(ash_arena_merge(into, from), 0, "merged");
    is_int(ash_arena_audit(into), 0, "they still are");
    char *p = ash_arena_strdup(into, "after");
    is_str(p, "after", "and new ones come");
    ash_arena_rollback(into, m);
    is_int(ash_arena_audit(into), 0, "gone");
    ash_arena_destroy(into);
}

/* ---- refused with an error ---- */

static int merged, moved, moved_above;

static void move_it(void *arg)
{
    struct ash_arena *a = arg, *other = arena_new(0);
    merged = ash_arena_merge(other, a);
    moved = ash_arena_reparent(a, other);
    moved_above = ash_arena_reparent(ash_arena_parent(a), other);
    ash_arena_destroy(other);
}

static void test_busy(void)
{
    struct ash_arena *top = arena_new(0), *a = ash_arena_create(top, NULL, NULL);
    struct ash_cleanup node = {move_it, a, NULL, 0};
    ash_arena_on_reset(a, &node);
    ash_arena_reset(a);
    is_int(merged, -EBUSY, "an arena whose cleanups run cannot be merged");
    is_int(moved, -EBUSY, "nor moved");
    is_int(moved_above, -EBUSY, "nor the one above it");
    is_int(ash_arena_reparent(a, NULL), 0, "later it can");
    ash_arena_destroy(a);
    ash_arena_destroy(top);
}

int main(int argc, char **argv)
{
    const char *mode = getenv("ASHLAR_ON_ERROR");
    warn = mode != NULL && strcmp(mode, "warn") == 0;
    struct ash_arena *a = arena_new(0);
    char *p = ash_arena_alloc(a, 16);
    tools = ash_arena_alloc(a, 16) != (void *)(p + 16);
    ash_arena_destroy(a);

    says("ashlar: destroy of arena accounts from within its own cleanup\n", destroy_in_cleanup, "in a cleanup");
    says("ashlar: reset of arena accounts from within its own cleanup\n", reset_in_cleanup, "in a cleanup");
    says("ashlar: rollback of arena accounts from within its own cleanup\n", rollback_in_cleanup, "in a cleanup");
    says("ashlar: destroy of arena accounts from within", destroy_above_in_cleanup, "in a cleanup of one below");
    says("ashlar: rollback of arena accounts to a mark", mark_before_reset, "a mark from before a reset");
    says("ashlar: rollback of arena accounts to a mark", mark_in_memory_that_went, "a mark undone by another");
    says("ashlar: rollback of arena accounts to a mark", mark_of_another, "another arena's mark");
    says("ashlar: rollback of arena accounts to a mark", mark_of_the_future, "a mark that was never made");
    says("of arena accounts registered twice\n", registered_twice, "a cleanup");
    test_guards();
    test_sound();
    test_busy();
    if (tools)
        skip("the program that runs is not this one", 1); /* but valgrind */
    else if (argc == 1 && !warn)
        run_again(argv, "ASHLAR_ON_ERROR", "warn", "the same with ASHLAR_ON_ERROR=warn");
    return tap_done();
}
