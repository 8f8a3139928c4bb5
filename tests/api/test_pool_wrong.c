/*
 * Misuse of pools: each kind is named to the letter, and aborts or, with ASHLAR_ON_ERROR=warn, leaves the pool whole.
 * Each case runs in a child whose standard error is read; it prints the pointer that it is about to misuse first. With
 * an argument, the program makes one of the mistakes that tools find, and nothing else: for tests/valgrind/pools.sh.
 */
#include "ashlar/ashlar.h"
#include "again.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

static int shown;

/* Announces the pointer of the message. */
static void show(const void *p)
{
    char line[64];
    int n = snprintf(line, sizeof line, "%p\n", p);
    if (write(shown, line, (size_t)n) != n)
        _exit(98);
}

static struct ash_pool *make(unsigned flags)
{
    struct ash_pool *pool = ash_pool_create("p", ASH_POOL_CONFIG(.obj_size = 100, .flags = flags, .cache = 8));
    if (pool == NULL)
        _exit(97);
    return pool;
}

/* The object that the message will be about. */
static void *get_shown(struct ash_pool *pool)
{
    void *p = ash_pool_get(pool);
    show(p);
    return p;
}

/* What must hold after a warning: nothing lost, nothing twice. */
static void is_whole(struct ash_pool *pool, unsigned out)
{
    if (ash_pool_in_use(pool) != out || ash_pool_audit(pool) != 0)
        _exit(96);
}

/* Faults of an audit whose messages are not shown. */
static int audit(struct ash_pool *pool)
{
    fflush(stderr);
    int keep = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO);
    int faults = ash_pool_audit(pool);
    dup2(keep, STDERR_FILENO);
    close(keep);
    close(null);
    return faults;
}

/* Fills the thread's cache, so that its older half goes to the depot. */
static void spill(struct ash_pool *pool)
{
    void *objs[20];
    ash_pool_get_bulk(pool, objs, 20);
    for (int i = 0; i < 20; i++)
        ash_pool_put(pool, objs[i]);
}

static void put_twice(void)
{
    struct ash_pool *pool = make(ASH_POOL_DEBUG);
    void *p = get_shown(pool);
    ash_pool_put(pool, p);
    ash_pool_put(pool, p);
    is_whole(pool, 0);
}

static void put_twice_later(void)
{
    struct ash_pool *pool = make(ASH_POOL_DEBUG);
    void *p = get_shown(pool);
    ash_pool_put(pool, p);
    spill(pool);
    ash_pool_put_bulk(pool, &p, 1);
    is_whole(pool, 0);
}

static void put_foreign(void)
{
    static int foreign;
    struct ash_pool *pool = make(ASH_POOL_DEBUG);
    show(&foreign);
    ash_pool_put(pool, &foreign);
    is_whole(pool, 0);
}

/* What is not for debugging knows at the latest when the object goes to the depot. An audit knows before. */
static void put_foreign_plain(void)
{
    static int foreign;
    struct ash_pool *pool = make(0);
    show(&foreign);
    ash_pool_put(pool, &foreign);
    if (ash_pool_in_use(pool) != 0 && audit(pool) != 1)
        _exit(94);
    ash_pool_trim(pool);
    is_whole(pool, 0);
}

static void put_others(void)
{
    struct ash_pool *pool = make(0), *other = ash_pool_create("other", ASH_POOL_CONFIG(.obj_size = 100));
    void *p = ash_pool_get(other);
    show(p);
    ash_pool_put(pool, p);
    ash_pool_trim(pool);
    is_whole(pool, 0);
    is_whole(other, 1);
}

static void put_inside(void)
{
    struct ash_pool *pool = make(0);
    char *p = ash_pool_get(pool);
    show(p + 64);
    ash_pool_put(pool, p + 64);
    ash_pool_trim(pool);
    is_whole(pool, 1);
}

static void put_block(void)
{
    struct ash_pool *pool = make(0);
    void *p[32];
    for (int i = 0; i < 32; i++)
        p[i] = ash_malloc(100);
    show(p[0]);
    ash_pool_put_bulk(pool, p, 1);
    ash_pool_trim(pool);
    is_whole(pool, 0);
}

static void overrun(void)
{
    struct ash_pool *pool = make(ASH_POOL_DEBUG);
    char *p = get_shown(pool);
    p[103] = 1;
    ash_pool_put(pool, p);
    is_whole(pool, 0);
}

static void underrun(void)
{
    struct ash_pool *pool = make(ASH_POOL_DEBUG);
    char *p = get_shown(pool);
    p[-12] ^= 1;
    ash_pool_put(pool, p);
    is_whole(pool, 0);
}

static void use_after_put(void)
{
    struct ash_pool *pool = make(ASH_POOL_DEBUG);
    char *p = get_shown(pool);
    ash_pool_put(pool, p);
    p[42] ^= 1;
    if (ash_pool_get(pool) != p)
        _exit(95);
    is_whole(pool, 1);
}

static void nothing(void *obj, void *user)
{
    (void)obj, (void)user;
}

/* An object whose content is kept while it is free. */
static void use_after_put_kept(void)
{
    struct ash_pool *pool =
        ash_pool_create("p", ASH_POOL_CONFIG(.obj_size = 100, .flags = ASH_POOL_DEBUG, .reset = nothing));
    char *p = ash_pool_get(pool);
    memset(p, 5, 100);
    show(p);
    ash_pool_put(pool, p);
    p[42] ^= 1;
    if (ash_pool_get(pool) != p)
        _exit(95);
    is_whole(pool, 1);
}

static void put_into_none(void)
{
    struct ash_pool *pool = make(0);
    void *p = get_shown(pool);
    ash_pool_put(NULL, p);
    is_whole(pool, 1);
}

static void put_into_gone(void)
{
    struct ash_pool *pool = make(0);
    void *p = get_shown(pool);
    ash_pool_put(pool, p);
    ash_pool_destroy(pool);
    ash_pool_put(pool, p);
}

static void free_object(void)
{
    struct ash_pool *pool = make(0);
    char *p = get_shown(pool);
    ash_free(p);
    is_whole(pool, 1);
}

static void free_inside(void)
{
    struct ash_pool *pool = ash_pool_create("p", ASH_POOL_CONFIG(.obj_size = 200000));
    char *p = ash_pool_get(pool);
    show(p + 70000);
    ash_free(p + 70000);
    is_whole(pool, 1);
}

/* ---- what tools find in pools that are not for debugging ---- */

static void write_after_put(void)
{
    struct ash_pool *pool = make(0);
    volatile char *p = ash_pool_get(pool);
    ash_pool_put(pool, (void *)p);
    p[42] = 1;
}

static void *put_it(void *arg)
{
    ash_pool_put(ash_pool_lookup("p"), arg);
    return NULL;
}

static void read_after_put_elsewhere(void)
{
    struct ash_pool *pool = make(0);
    volatile char *p = ash_pool_get(pool);
    pthread_t t;
    p[42] = 1;
    pthread_create(&t, NULL, put_it, (void *)p);
    pthread_join(t, NULL);
    shown += p[42];
}

static void write_behind(void)
{
    struct ash_pool *pool = make(0);
    volatile char *p = ash_pool_get(pool);
    p[100] = 1;
    ash_pool_put(pool, (void *)p);
}

static void use_unset(void)
{
    struct ash_pool *pool = make(0);
    volatile char *p = ash_pool_get(pool);
    p[0] = 1;
    ash_pool_put(pool, (void *)p);
    p = ash_pool_get(pool);
    if (p[0] == 1)
        shown++;
    ash_pool_put(pool, (void *)p);
}

/* memcheck looks for leaks only where malloc has given out a block that it knows of. */
static void *volatile held;

static void leak(void)
{
    struct ash_pool *pool = make(0);
    held = malloc(1);
    for (int i = 0; i < 3; i++)
        memset(ash_pool_get(pool), 1, 100);
}

/* All that must not be complained about. */
static void nothing_wrong(void)
{
    struct ash_pool *pool = make(0);
    struct ash_pool *kept = ash_pool_create("kept", ASH_POOL_CONFIG(.obj_size = 100, .reset = nothing));
    void *objs[50];
    for (int round = 0; round < 3; round++) {
        ash_pool_get_bulk(pool, objs, 50);
        for (int i = 0; i < 50; i++)
            memset(objs[i], i, 100);
        ash_pool_put_bulk(pool, objs, 50);
        ash_pool_get_bulk(kept, objs, 50);
        for (int i = 0; i < 50; i++) {
            if (round == 0)
                memset(objs[i], 7, 100);
            shown += ((char *)objs[i])[99] != 7;
        }
        ash_pool_put_bulk(kept, objs, 50);
        ash_pool_trim(pool);
        ash_pool_audit(kept);
    }
    ash_pool_destroy(pool);
    ash_pool_destroy(kept);
    if (shown != STDOUT_FILENO)
        _exit(93);
}

static const struct {
    const char *name;
    void (*make)(void);
} for_tools[] = {
    {"write-after-put", write_after_put}, {"read-after-put", read_after_put_elsewhere}, {"write-behind", write_behind},
    {"use-unset", use_unset},             {"leak", leak},                               {"nothing", nothing_wrong},
};

/* `message` holds %s where the pointer is. */
static const struct wrong {
    const char *name;
    void (*make)(void);
    const char *message;
} wrongs[] = {
    {"put twice", put_twice, "pool p: put of %s, which was put already"},
    {"put twice, in the depot already", put_twice_later, "pool p: put of %s, which was put already"},
    {"put of a foreign pointer, debug", put_foreign, "pool p: put of %s, which is not its"},
    {"put of a foreign pointer", put_foreign_plain, "pool p: put of %s, which is not its"},
    {"put of another pool's object", put_others, "pool p: put of %s, which is not its"},
    {"put of an interior pointer", put_inside, "pool p: put of %s, which is not where an object begins"},
    {"put of a block of malloc", put_block, "pool p: put of %s, which is not its"},
    {"write behind the object", overrun, "pool p: overflow of %s: it has 100 bytes, and byte 103 was written"},
    {"write before the object", underrun, "pool p: object %s: the bytes before it were written"},
    {"write after put", use_after_put, "pool p: use after put of %s: byte 42 was written"},
    {"write after put, content kept", use_after_put_kept, "pool p: object %s: it was written after it was put"},
    {"put into no pool", put_into_none, "put of %s into 0x0, which is no pool"},
    {"put into a pool that is gone", put_into_gone, "put of %s into"},
    {"free of an object", free_object, "free of %s, which is an object of a pool"},
    {"free of a part of an object", free_inside, "free of %s, which is an object of a pool"},
};

/* Runs a case in a child: its standard error, and its status. */
static int run(void (*fn)(void), char *out, size_t size, char pointer[64])
{
    int fds[2], show_fds[2], status = 0;
    if (pipe(fds) != 0 || pipe(show_fds) != 0)
        return -1;
    pid_t child = fork();
    if (child == 0) {
        dup2(fds[1], STDERR_FILENO);
        shown = show_fds[1];
        fn();
        _exit(0);
    }
    close(fds[1]);
    close(show_fds[1]);
    size_t n = 0;
    ssize_t got;
    while (n < size - 1 && (got = read(fds[0], out + n, size - 1 - n)) > 0)
        n += (size_t)got;
    out[n] = '\0';
    got = read(show_fds[0], pointer, 63);
    pointer[got < 1 ? 0 : got - 1] = '\0';
    close(fds[0]);
    close(show_fds[0]);
    waitpid(child, &status, 0);
    return status;
}

static void test_wrong(const struct wrong *w, int warns)
{
    char out[4096], pointer[64], message[256], want[320];
    int status = run(w->make, out, sizeof out, pointer);
    snprintf(message, sizeof message, w->message, pointer);
    snprintf(want, sizeof want, "ashlar: %s", message);
    if (!ok(strncmp(out, want, strlen(want)) == 0, "%s%s", w->name, warns ? ", warned" : ""))
        tap_line("# got \"%s\", want \"%s\"", out, want);
    if (warns) {
        is_int(status, 0, "and nothing is lost");
        ok(strchr(out, '\n') == strrchr(out, '\n'), "it is said once");
    } else {
        ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "and aborts");
    }
}

/* ---- audits that find something ---- */

static void test_audit(void)
{
    struct ash_pool *pool = ash_pool_create("audited", ASH_POOL_CONFIG(.obj_size = 100, .cache = 8));
    void *objs[50];
    ash_pool_get_bulk(pool, objs, 50);
    is_int(audit(pool), 0, "audit: nothing wrong");
    for (int i = 0; i < 50; i++)
        ash_pool_put(pool, objs[i]);
    is_int(audit(pool), 0, "all put: nothing wrong");
    ash_pool_put(pool, objs[3]);
    is_int(audit(pool), 1, "one put twice");

    pool = ash_pool_create("audited too", ASH_POOL_CONFIG(.obj_size = 100, .flags = ASH_POOL_DEBUG));
    ash_pool_get_bulk(pool, objs, 50);
    ((char *)objs[0])[100] = 1;
    is_int(audit(pool), 1, "debug: a write behind an object that is out");
    ((char *)objs[1])[-10] ^= 1;
    is_int(audit(pool), 2, "and one before another");
    ash_pool_put(pool, objs[2]);
    ((char *)objs[2])[50] = 1;
    is_int(audit(pool), 3, "and one to a free one");
}

int main(int argc, char **argv)
{
    for (unsigned i = 0; argc > 1 && i < sizeof for_tools / sizeof for_tools[0]; i++)
        if (strcmp(for_tools[i].name, argv[1]) == 0) {
            shown = STDOUT_FILENO;
            for_tools[i].make();
            return 0;
        }
    const char *warn = getenv("ASHLAR_ON_ERROR");
    int warns = warn != NULL && strcmp(warn, "warn") == 0;
    for (unsigned i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++)
        test_wrong(&wrongs[i], warns);
    if (argc == 1 && !warns) {
        test_audit();
        run_again(argv, "ASHLAR_ON_ERROR", "warn", "all of it with warnings (points on standard error)");
    }
    return tap_done();
}
