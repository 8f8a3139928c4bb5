/*
 * malloc's family and the functions of ashlar/malloc.h, in any order, by up to six threads. One thread has the baton
 * and carries out operations until one of them passes it on: the interleaving is part of the input, blocks go from
 * thread to thread, and what each call did can be compared with the model before the next one. Threads end, and some go
 * on for a moment when their heap is gone already.
 *
 * Wrong calls are among them: their messages are compared word by word, and then nothing may have changed.
 */
#include "family.h"
#include "formats.h"
#include "fuzz.h"
#include "model.h"
#include "operations.h"

#include "info/options.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 6, BATCH = 64 };

static struct player {
    pthread_t id;
    sem_t turn;
    bool alive, leaves;
} players[THREADS]; /* 0 is the thread that runs the target */

_Thread_local unsigned self;
static unsigned passed_to; /* by the operation that ran last */

/* ---- what operations work on ---- */

size_t take_size(struct input *in)
{
    static const size_t huge[] = {SIZE_MAX,         SIZE_MAX - 64,   SIZE_MAX / 2, SIZE_MAX / 2 + 1,
                                  (size_t)1 << 47, (size_t)3 << 40};
    unsigned how = (unsigned)take(in, 1);
    size_t n;
    switch (how % 16) {
    case 8: case 9: case 10: n = model.sizes[take_below(in, model.classes)] + take_below(in, 3) - 1; break;
    case 11: case 12: n = take(in, 2); break;
    case 13: n = take(in, 3) % (256 << 10); break;
    case 14: n = SMALL * (size_t)take_below(in, how / 16 < 5 ? 80 : 10) + take_below(in, 3) - 1; break;
    case 15:
        if (how / 16 < 2)
            return huge[take_below(in, sizeof huge / sizeof *huge)];
        n = take(in, how / 16 < 5 ? 3 : 2);
        break;
    default: n = take_below(in, 1100);
    }
    return model.live_bytes + n > BUDGET ? n % 1100 : n;
}

/*
 * 1 .. 64 KiB, now and then more. Not 4 GiB .. 1 TiB, which can be had, far up in the window: each walk over all units
 * would take long from then on.
 */
size_t take_align(struct input *in)
{
    unsigned b = (unsigned)take(in, 1), far = (unsigned)take(in, b == 255) % 64;
    if (b == 255)
        return (size_t)1 << (far < 32 || far > 40 ? far : far - 16);
    return (size_t)1 << (b < 240 ? b % 17 : b % 23);
}

/* A free slot; NULL: none. */
static struct block *take_slot(struct input *in)
{
    unsigned at = take_below(in, BLOCKS);
    for (unsigned i = 0; i < BLOCKS; i++)
        if (model.blocks[(at + i) % BLOCKS].p == NULL)
            return &model.blocks[(at + i) % BLOCKS];
    return NULL;
}

/* The live block in the slot `at` or the next one behind it that has one; NULL: there is none. */
static struct block *live_from(unsigned at)
{
    for (unsigned i = 0; i < BLOCKS && model.live > 0; i++)
        if (model.blocks[(at + i) % BLOCKS].p != NULL)
            return &model.blocks[(at + i) % BLOCKS];
    return NULL;
}

struct block *take_live(struct input *in)
{
    return live_from(take_below(in, BLOCKS));
}

unsigned slot_of(const struct block *b)
{
    return (unsigned)(b - model.blocks);
}

static bool power_of_two(size_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* ---- allocation ---- */

/* An allocation that may be refused. */
static void got(struct block *b, void *p, size_t n, size_t align, bool zero)
{
    fuzz_trace("    %p\n", p);
    if (p != NULL)
        model_allocated(b, p, n, align, zero);
    else
        model_refused(n, align);
}

static void op_allocate(struct input *in)
{
    struct block *b = take_slot(in);
    unsigned how = take_below(in, 9);
    size_t n = take_size(in);
    if (b == NULL)
        return;
    fuzz_trace("thread %u: allocation %u of %zu bytes, block %u\n", self, how, n, slot_of(b));
    size_t count = 1 + take_below(in, 4), item = n / count;
    errno = 77;
    switch (how) {
    case 0: got(b, ash_malloc(n), n, 0, false); break;
    case 1: got(b, calloc(count, item), count * item, 0, true); break;
    case 2: got(b, ash_calloc(item, count), count * item, 0, true); break;
    case 3: got(b, realloc(NULL, n), n, 0, false); break;
    case 4: got(b, reallocarray(NULL, count, item), count * item, 0, false); break;
    case 5: got(b, ash_realloc(NULL, n), n, 0, false); break;
    default: got(b, malloc(n), n, 0, false);
    }
    CHECK(b->p == NULL || options.harden || ash_good_size(b->n) == b->holds, "a good size for %zu is %zu, not %zu",
          b->n, ash_good_size(b->n), b->holds);
}

static void allocate_at_posix(struct block *b, size_t align, size_t n)
{
    void *p = &p;
    int status = posix_memalign(&p, align, n);
    CHECK(errno == 77, "posix_memalign set errno");
    CHECK(status == 0 || p == &p, "posix_memalign failed and stored a pointer");
    bool allowed = power_of_two(align) && align % sizeof(void *) == 0;
    CHECK((status == EINVAL) == !allowed, "posix_memalign at %zu answered %d", align, status);
    CHECK(status == 0 || status == EINVAL || status == ENOMEM, "posix_memalign answered %d", status);
    errno = status;
    if (status != EINVAL)
        got(b, status == 0 ? p : NULL, n, align, false);
}

static void op_allocate_at(struct input *in)
{
    struct block *b = take_slot(in);
    unsigned how = take_below(in, 7), odd = (unsigned)take(in, 1);
    size_t n = take_size(in), align = odd == 16 ? 0 : take_align(in) + (odd < 16 ? odd : 0);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (b == NULL)
        return;
    fuzz_trace("thread %u: allocation %u of %zu bytes at %zu, block %u\n", self, how, n, align, slot_of(b));
    errno = 77;
    if (how == 0) {
        allocate_at_posix(b, align, n);
    } else if (how == 1) {
        size_t power = sizeof(void *);
        while (power < align && power <= SIZE_MAX / 4)
            power *= 2;
        if (power >= align)
            got(b, memalign(align, n), n, power, false);
    } else if (how == 2) {
        got(b, valloc(n), n, page, false);
    } else if (how == 3) {
        got(b, pvalloc(n), n > PTRDIFF_MAX ? n : (n + page - 1) / page * page, page, false);
    } else {
        void *p = how < 5 ? aligned_alloc(align, n) : ash_aligned_alloc(align, n);
        if (power_of_two(align))
            got(b, p, n, align, false);
        else
            CHECK(p == NULL && errno == EINVAL, "aligned_alloc at %zu: %p, errno %d", align, p, errno);
    }
}

static void op_batch(struct input *in)
{
    size_t sizes[BATCH], count = take_below(in, BATCH + 1);
    void *out[BATCH];
    struct block *slots[BATCH];
    size_t n = take_size(in), step = take(in, 1) < 64 ? 1 + take(in, 1) : 0;
    unsigned at = take_below(in, BLOCKS), found = 0;
    for (unsigned i = 0; i < BLOCKS && found < count; i++)
        if (model.blocks[(at + i) % BLOCKS].p == NULL)
            slots[found++] = &model.blocks[(at + i) % BLOCKS];
    if (found < count || (n < SIZE_MAX / 4 && (n + step * BATCH) * count > BUDGET / 4))
        return;
    for (unsigned i = 0; i < count; i++)
        sizes[i] = n + step * i;
    fuzz_trace("thread %u: batch of %zu from %zu bytes on, blocks from %u\n", self, count, n, at);
    errno = 77;
    int status = ash_malloc_batch(sizes, out, count);
    CHECK(errno == 77, "ash_malloc_batch set errno");
    if (status == 0) {
        for (unsigned i = 0; i < count; i++)
            model_allocated(slots[i], out[i], sizes[i], 0, false);
        return;
    }
    CHECK(status == -ENOMEM && count > 0, "a batch of %zu answered %d", count, status);
    for (unsigned i = 0; i < count; i++)
        CHECK(out[i] == NULL, "a batch that failed left block %u", i);
    model_batch_refused(sizes, count);
}

static void op_impossible(struct input *in)
{
    size_t n = take_number(in), count = take_number(in), bytes;
    if (!__builtin_mul_overflow(n, count, &bytes))
        return;
    fuzz_trace("thread %u: %zu times %zu bytes\n", self, count, n);
    void *p[3];
    errno = 0;
    p[0] = calloc(count, n);
    p[1] = ash_calloc(count, n);
    p[2] = reallocarray(NULL, count, n);
    CHECK(p[0] == NULL && p[1] == NULL && p[2] == NULL && errno == ENOMEM, "%zu times %zu: %p %p %p, errno %d", count,
          n, p[0], p[1], p[2], errno);
}

/* ---- freeing ---- */

void release(struct block *b, unsigned how)
{
    unsigned char *p = b->p;
    fuzz_trace("thread %u: free %u of block %u, %p\n", self, how, slot_of(b), (void *)p);
    size_t n = b->n, align = b->align != 0 ? b->align : 1;
    model_freed(b);
    errno = 77;
    switch (how) {
    case 0: ash_free(p); break;
    case 1: cfree(p); break;
    case 2: CHECK(realloc(p, 0) == NULL, "realloc to nothing is something"); break;
    case 3: ash_free_batch((void *[]){NULL, p, NULL}, 3); break;
    case 4: free_aligned_sized(p, align, n); break;
    case 5: b->align != 0 ? free(p) : free_sized(p, n); break;
    case 6: b->align != 0 ? free(p) : ash_free_sized(p, n); break;
    default: free(p);
    }
    CHECK(errno == 77, "free %u set errno", how);
}

static void op_free(struct input *in)
{
    struct block *b = take_live(in);
    unsigned how = take_below(in, 12);
    if (b != NULL)
        release(b, how);
}

/* Many at once, upward or downward through the slots. */
static void op_free_many(struct input *in)
{
    unsigned at = take_below(in, BLOCKS), count = take_below(in, 128), how = (unsigned)take(in, 1);
    void *batch[128];
    unsigned n = 0;
    fuzz_trace("thread %u: %u frees from block %u on\n", self, count, at);
    for (unsigned i = 0; i < count; i++) {
        struct block *b = live_from(at);
        if (b == NULL)
            break;
        at = slot_of(b) + (how % 2 == 0 ? 1 : BLOCKS - 1);
        if (how % 4 < 2) {
            release(b, 7);
        } else {
            batch[n++] = b->p;
            model_freed(b);
        }
    }
    ash_free_batch(batch, n);
}

static void op_resize(struct input *in)
{
    struct block *b = take_live(in);
    unsigned how = take_below(in, 4);
    size_t n = take_size(in);
    if (b == NULL || n == 0)
        return;
    if (how == 3) /* by a little, as texts grow */
        n = b->n + b->n / 16 + 1;
    fuzz_trace("thread %u: block %u, %p, from %zu to %zu bytes\n", self, slot_of(b), (void *)b->p, b->n, n);
    model_check_content(b);
    errno = 77;
    void *p = how == 0 ? ash_realloc(b->p, n) : how == 1 ? reallocarray(b->p, n, 1) : realloc(b->p, n);
    fuzz_trace("    %p\n", p);
    if (p != NULL) {
        model_resized(b, p, n);
    } else {
        model_refused(n, 0);
        model_check_content(b);
    }
}

/* ---- the whole ---- */

static void op_look(struct input *in)
{
    struct block *b = take_live(in);
    if (b == NULL)
        return;
    model_check_content(b);
    CHECK(malloc_usable_size(b->p) == b->holds &&
              (b->holds == 0 || model_find(b->p + b->holds - 1) == b), "block %u", slot_of(b));
    free(NULL);
    ash_free_sized(NULL, 10);
    CHECK(ash_usable_size(NULL) == 0, "nothing holds something");
}

static void op_limit(struct input *in)
{
    size_t limit = take(in, 1) % 2 == 0 ? 0 : take(in, 3) * 8, is, used;
    fuzz_trace("thread %u: limit %zu\n", self, limit);
    int status = ash_limit_set(limit);
    CHECK(status == (limit != 0 && limit < 4 << 20 ? -EINVAL : 0), "a limit of %zu answers %d", limit, status);
    if (status == 0)
        model_limit(limit / SMALL * SMALL); /* whole units of 64 KiB */
    ash_limit_get(&is, &used);
    CHECK(is == model.limit && used >= model.live_bytes,
          "the limit is %zu, and %zu are in use", is, used);
}

static void op_trim(struct input *in)
{
    (void)in;
    fuzz_trace("thread %u: trim\n", self);
    int given = ash_trim();
    CHECK(given == 0 || given == 1, "trim answers %d", given);
}

static void op_check(struct input *in)
{
    (void)in;
    int faults = ash_verify();
    CHECK(faults == 0, "%d faults", faults);
    model_check_counters();
    fuzz_expect_silence();
}

static void op_dump(struct input *in)
{
    enum ash_format format = (enum ash_format)take_below(in, 3);
    CHECK(ash_stats_dump(STDERR_FILENO, format) == 0, "statistics could not be written");
    const char *text = fuzz_said();
    const char *end = format == ASH_JSON ? json_value(text) : text + strlen(text) - 1;
    CHECK(end != NULL && strcmp(end, "\n") == 0, "statistics are not right: %s", text);
}

/* A child has the blocks too, and can go on with them while its parent's other threads are gone. */
static void op_fork(struct input *in)
{
    unsigned at = take_below(in, BLOCKS), count = take_below(in, 64);
    fuzz_trace("thread %u: a child that frees %u blocks from %u on\n", self, count, at);
    pid_t child = fork();
    if (child == 0) {
        struct block *b;
        for (unsigned i = 0; i < count && (b = live_from(at + i)) != NULL; i++)
            release(b, 7);
        if ((b = take_slot(in)) != NULL)
            got(b, malloc(100), 100, 0, false);
        op_check(in);
        _exit(0);
    }
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0)
        ;
    CHECK(status == 0, "a child's status is 0x%x", (unsigned)status);
}

/* ---- threads ---- */

static void play(struct input *in);
static struct input *input;
static pthread_key_t last;

/* The destructor of a key that is younger than the library's: the thread's heap is gone when it runs. */
static void last_words(void *of)
{
    static void (*const late[])(struct input *) = {op_allocate,  op_free,   op_free,
                                                   op_free_many, op_resize, op_double_free};
    (void)of;
    fuzz_trace("thread %u: its last operations\n", self);
    for (unsigned left = take_below(input, 4); left > 0; left--)
        late[take_below(input, sizeof late / sizeof *late)](input);
}

static void *player_main(void *arg)
{
    self = (unsigned)(uintptr_t)arg;
    pthread_setspecific(last, arg);
    for (;;) {
        while (sem_wait(&players[self].turn) != 0)
            ;
        if (players[self].leaves)
            return NULL;
        play(input);
    }
}

static void op_pass(struct input *in)
{
    unsigned to = take_below(in, THREADS);
    fuzz_trace("thread %u: on to thread %u\n", self, to);
    if (!players[to].alive) {
        players[to] = (struct player){.alive = true};
        sem_init(&players[to].turn, 0, 0);
        if (pthread_create(&players[to].id, NULL, player_main, (void *)(uintptr_t)to) != 0)
            abort();
    }
    passed_to = to;
}

static void end_player(unsigned which)
{
    if (which == 0 || which == self || !players[which].alive)
        return;
    fuzz_trace("thread %u: the end of thread %u\n", self, which);
    players[which].leaves = true;
    sem_post(&players[which].turn);
    pthread_join(players[which].id, NULL);
    players[which].alive = false;
}

static void op_end(struct input *in)
{
    end_player(take_below(in, THREADS));
}

static const struct {
    unsigned weight; /* of 256 */
    void (*run)(struct input *in);
    bool wrong; /* what is said of it is said otherwise of blocks that are samples */
} ops[] = {
    {64, op_allocate, false}, {16, op_allocate_at, false}, {16, op_batch, false}, {2, op_impossible, false},
    {61, op_free, false}, {18, op_free_many, false}, {24, op_resize, false}, {4, op_foreign, true},
    {5, op_interior, true}, {5, op_double_free, true}, {5, op_wrong_size, true}, {2, op_overflow, true},
    {2, op_stale_free, true}, {1, op_stale_write, true}, {8, op_look, false}, {2, op_limit, false},
    {3, op_trim, false}, {4, op_check, false}, {1, op_dump, false}, {1, op_fork, false}, {8, op_pass, false},
    {4, op_end, false},
};

/* Operations until the baton goes to another thread. */
static void play(struct input *in)
{
    passed_to = self;
    while (passed_to == self && input_left(in)) {
        unsigned i = 0, byte = (unsigned)take(in, 1);
        for (; byte >= ops[i].weight; i++)
            byte -= ops[i].weight;
        if (!ops[i].wrong || !fuzz_sampling)
            ops[i].run(in);
    }
    sem_post(&players[input_left(in) ? passed_to : 0].turn);
}

void fuzz_malloc(struct input *in)
{
    static bool has_last;
    input = in;
    self = 0;
    players[0].alive = true;
    sem_init(&players[0].turn, 0, 0);
    ash_limit_set(options.limit);
    ash_trim();
    if (!has_last)
        has_last = pthread_key_create(&last, last_words) == 0; /* behind the library's, which the calls above made */
    model_begin();
    do {
        play(in);
        while (sem_wait(&players[0].turn) != 0)
            ;
    } while (input_left(in));

    op_check(in);
    for (unsigned i = 1; i < THREADS; i++)
        end_player(i);
    op_check(in);
    for (unsigned i = 0; i < BLOCKS; i++)
        if (model.blocks[i].p != NULL)
            release(&model.blocks[i], i % 8);
    ash_trim();
    op_check(in);
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
    CHECK(s.used_bytes == 0 && s.dirty_bytes == 0, "nothing is live, and %lu bytes are in use, %lu dirty",
          (unsigned long)s.used_bytes, (unsigned long)s.dirty_bytes);
}
