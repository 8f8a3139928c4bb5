/*
 * txnmemory: what transactions take of memory and of the processor, against the same written by
 * hand with malloc and free of libc (handtxn.h): run by one thread, against a list of them, and
 * with an executor, against queues for keys. Each in a process of its own, by turns:
 *
 *     txnmemory [ROUNDS [WINDOW]]
 *
 * WINDOW are in flight at most. Memory is what is resident when that many are, above what was there
 * before there was a manager, by transaction; the most that was seen in 128 looks. Time is the
 * processor's. Both are the least of the rounds.
 *
 * The shapes: keys, values saved before they are changed, and blocks. Where they vary a transaction
 * has some of the blocks, and the last one has any size up to that.
 */
#include "handtxn.h"

#include <ashlar/layers.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BATCH = 64, ACCOUNTS = 100000, LOOKS = 64, KEYS = 8, BLOCKS = 12 };

static const struct shape {
    const char *name;
    unsigned keys, saves, blocks;
    bool vary; /* the number of blocks, and the size of the last */
    unsigned short size[BLOCKS];
} shapes[] = {
    {"transfer", 2, 2, 2, false, {24, 64}},
    {"order", 8, 8, 6, true, {64, 24, 24, 32, 32, 100}},
    {"session", 4, 4, 10, true, {64, 16, 24, 32, 40, 16, 32, 24, 16, 400}},
    {"line", 2, 0, 12, false, {24, 40, 200, 16, 32, 96, 24, 48, 64, 16, 120, 32}},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

enum kind { SERIAL, LIST, PARALLEL, QUEUES, KINDS };

/* What a body is given: where its blocks are, which it has to free by hand. */
struct order {
    uint32_t account[KEYS];
    void *block[];
};

static uint64_t account[ACCOUNTS];
static struct ash_txnmgr *mgr;
static struct hand_mgr hand;
static const struct shape *shape;
static enum kind kind;
static struct ash_exec *executor; /* in all of the processes */

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "txnmemory: %s\n", what);
    exit(1);
}

static uint64_t draw(uint64_t n)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 32) * n >> 32;
}

static bool by_ashlar(void)
{
    return kind == SERIAL || kind == PARALLEL;
}

/* ---- a transaction, in either way ---- */

static int change(const struct order *o)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < shape->keys; i++)
        sum = account[o->account[i]] = account[o->account[i]] * 31 + sum + 1;
    return 0;
}

static int body(struct ash_txn *txn, void *arg)
{
    const struct order *o = arg;
    for (unsigned i = 0; i < shape->saves; i++)
        if (ash_txn_save(txn, &account[o->account[i]], sizeof account[0]) != 0)
            return -1;
    return change(o);
}

static int hand_body(struct hand_txn *txn, void *arg)
{
    const struct order *o = arg;
    for (unsigned i = 0; i < shape->saves; i++)
        hand_save(&hand, txn, &account[o->account[i]], sizeof account[0]);
    return change(o);
}

/* `t` is NULL by hand. */
static struct order *order_make(struct ash_txn *t, const uint64_t *keys)
{
    unsigned blocks = shape->vary ? 1 + (unsigned)draw(shape->blocks) : shape->blocks;
    size_t n = sizeof(struct order) + (blocks + 1) * sizeof(void *);
    struct order *o = t != NULL ? ash_txn_alloc(t, n) : hand.malloc(n);
    for (unsigned i = 0; i < shape->keys; i++)
        o->account[i] = (uint32_t)keys[i];
    for (unsigned i = 0; i < blocks; i++) {
        n = shape->vary && i + 1 == shape->blocks ? 1 + draw(shape->size[i]) : shape->size[i];
        o->block[i] = t != NULL ? ash_txn_alloc(t, n) : hand.malloc(n);
        memset(o->block[i], (int)i, n);
    }
    o->block[blocks] = NULL;
    return o;
}

static bool submit_one(void)
{
    uint64_t keys[KEYS];
    for (unsigned i = 0; i < shape->keys; i++)
        keys[i] = draw(ACCOUNTS);
    if (by_ashlar()) {
        struct ash_txn *t = ash_txn_begin(mgr);
        if (t == NULL)
            return false;
        struct order *o = order_make(t, keys);
        if (ash_txn_writes(t, keys, shape->keys) != 0 || ash_txn_submit(t, body, o) != 0)
            die("a transaction was refused");
        return true;
    }
    struct hand_txn *t = hand_begin(&hand);
    if (t == NULL)
        return false;
    struct order *o = order_make(NULL, keys);
    hand_writes(&hand, t, keys, shape->keys);
    hand_submit(&hand, t, hand_body, o);
    return true;
}

static unsigned poll_ashlar(void)
{
    struct ash_txn *done[BATCH];
    unsigned n = ash_txn_poll_batch(mgr, done, BATCH);
    for (unsigned i = 0; i < n; i++) {
        if (ash_txn_status(done[i]) != 0)
            die("a transaction was aborted");
        ash_txn_end(done[i]);
    }
    return n;
}

static unsigned poll_hand(void)
{
    struct hand_txn *done[BATCH];
    unsigned n = hand_poll(&hand, done, BATCH);
    for (unsigned i = 0; i < n; i++) {
        struct order *o = done[i]->arg;
        if (done[i]->status != 0)
            die("a transaction was aborted");
        for (void **block = o->block; *block != NULL; block++)
            hand.free(*block);
        hand.free(o);
        hand_end(&hand, done[i]);
    }
    return n;
}

/* ---- a process ---- */

struct figures {
    double kib, ns;
};

/* Counted by walking: /proc/self/status is off by some pages a processor. */
static double resident_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    while (f != NULL && kib < 0 && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "Rss: %ld kB", &kib) != 1)
            kib = -1;
    if (f == NULL || kib < 0)
        die("no /proc/self/smaps_rollup");
    fclose(f);
    return (double)kib;
}

static double cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return ((double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
            (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec)) *
           1e3;
}

static void prepare(unsigned window)
{
    if (!by_ashlar())
        return;
    mgr = ash_txnmgr_create(kind == PARALLEL ? executor : NULL,
                            ASH_TXNMGR_CONFIG(.keys = KEYS, .limit = window));
    if (mgr == NULL)
        die("no manager");
}

/* What it took to look. */
static double look_at(struct figures *f, double before)
{
    double begin = cpu_ns(), kib = resident_kib() - before;
    f->kib = kib > f->kib ? kib : f->kib;
    return cpu_ns() - begin;
}

static unsigned poll_some(void)
{
    return by_ashlar() ? poll_ashlar() : poll_hand();
}

static struct figures run(unsigned window)
{
    struct figures f = {0, 0};
    uint64_t most = 4000000 / (shape->blocks + shape->saves), done = 0, look = most / LOOKS;
    hand_init(&hand, window);
    hand.queues = kind == QUEUES;
    memset(account, 1, sizeof account);
    executor = ash_exec_create(1, NULL);
    resident_kib();
    double before = resident_kib(), looking = 0;
    prepare(window);
    double begin = cpu_ns();
    while (done < most) {
        bool looks = done >= look;
        look += looks ? most / LOOKS : 0;
        while (submit_one())
            ;
        if (looks)
            looking += look_at(&f, before);
        unsigned n = poll_some();
        if (looks) /* all have run, and remember what there would be to undo */
            looking += look_at(&f, before);
        done += n;
    }
    for (unsigned n; (n = poll_some()) != 0; done += n)
        ;
    f.ns = (cpu_ns() - begin - looking) / (double)done;
    return f;
}

/* In a process of its own that has never done anything else. */
static struct figures run_apart(unsigned which, enum kind how, const char *window)
{
    struct figures f;
    char shape_arg[8], kind_arg[8], line[64];
    int ends[2], status;
    snprintf(shape_arg, sizeof shape_arg, "%u", which);
    snprintf(kind_arg, sizeof kind_arg, "%d", (int)how);
    if (pipe(ends) != 0)
        die("no pipe");
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "txnmemory", "run", shape_arg, kind_arg, window, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], line, sizeof line - 1);
    close(ends[0]);
    if (waitpid(pid, &status, 0) != pid || status != 0 || n <= 0)
        die("a child failed");
    line[n] = '\0';
    if (sscanf(line, "%lf %lf", &f.kib, &f.ns) != 2)
        die("a child said nothing");
    return f;
}

static void least(struct figures *f, struct figures g, long round)
{
    f->kib = round == 0 || g.kib < f->kib ? g.kib : f->kib;
    f->ns = round == 0 || g.ns < f->ns ? g.ns : f->ns;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "run") == 0) {
        shape = &shapes[atoi(argv[2]) % SHAPES];
        kind = (enum kind)atoi(argv[3]);
        struct figures f = run((unsigned)atoi(argv[4]));
        printf("%f %f\n", f.kib, f.ns);
        return 0;
    }
    long rounds = argc > 1 ? atol(argv[1]) : 5;
    const char *window = argc > 2 ? argv[2] : "4096";
    if (rounds < 1 || atoi(window) < 1)
        die("ROUNDS and WINDOW are 1 at least");
    printf("%s in flight\n%-10s%-18s%-18s%-14s%-18s%-18sratios\n", window, "", "one thread",
           "by hand, a list", "ratios", "an executor", "by hand, queues");
    for (unsigned s = 0; s < SHAPES; s++) {
        struct figures f[KINDS] = {{0, 0}};
        for (long i = 0; i < rounds; i++)
            for (enum kind k = SERIAL; k < KINDS; k++)
                least(&f[k], run_apart(s, k, window), i);
        double each = 1024 / atof(window);
        printf("%-9s", shapes[s].name);
        for (enum kind k = SERIAL; k < KINDS; k++) {
            printf(" %4.0f B %5.0f ns   ", f[k].kib * each, f[k].ns);
            if (k == LIST || k == QUEUES)
                printf("%.2f %.2f     ", f[k - 1].kib / f[k].kib, f[k - 1].ns / f[k].ns);
        }
        printf("\n");
    }
    return 0;
}
