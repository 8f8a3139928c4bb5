/*
 * Bufs in several threads: slices that are handed on and dropped elsewhere, all sharing one owner, which goes exactly
 * once, with the last of them; rooms that no other thread's value sees; a fork in the middle; threads that end; and what
 * is refused when memory is out.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { THREADS_MAX = 8, ROUNDS = 300, SLOTS = 64, BLOCK = 4096 };

static struct ash_buf_stats stats(void)
{
    struct ash_buf_stats s;
    ash_buf_stats(&s);
    return s;
}

static unsigned below(uint64_t *seed, unsigned n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((*seed >> 33) % n);
}

static void run(int threads, void *(*fn)(void *))
{
    pthread_t ids[THREADS_MAX];
    for (intptr_t t = 0; t < threads; t++)
        if (pthread_create(&ids[t], NULL, fn, (void *)t) != 0)
            abort();
    for (int t = 0; t < threads; t++)
        pthread_join(ids[t], NULL);
}

/* ---- one owner, values in all threads ---- */

/*
 * A mailbox holds one value; whoever takes it out is its only user. Bytes of the block are i * 7, and the release callback
 * clears them: a value that outlived its owner would see that, and the sanitizers the race.
 */
static struct mailbox {
    pthread_mutex_t lock;
    struct ash_buf b;
} boxes[SLOTS];
static unsigned char memory[BLOCK];
static atomic_int releases, damaged;

static void release(void *data, void *user)
{
    (void)user;
    memset(data, 0, BLOCK);
    atomic_fetch_add(&releases, 1);
}

/* Puts `b` in a box and takes out what was there. */
static struct ash_buf swap(unsigned i, struct ash_buf b)
{
    pthread_mutex_lock(&boxes[i].lock);
    struct ash_buf was = boxes[i].b;
    boxes[i].b = b;
    pthread_mutex_unlock(&boxes[i].lock);
    return was;
}

static int is_whole(const struct ash_buf *b)
{
    for (size_t k = 0; k < b->len; k++)
        if (b->data[k] != (unsigned char)((size_t)(b->data + k - memory) * 7))
            return 0;
    return 1;
}

static void *exchange(void *arg)
{
    uint64_t seed = (uint64_t)(intptr_t)arg + 1;
    for (int i = 0; i < 4000; i++) {
        struct ash_buf none = {0}, b = swap(below(&seed, SLOTS), none);
        if (b.owner == NULL)
            continue;
        atomic_fetch_add(&damaged, !is_whole(&b));
        size_t off = below(&seed, (unsigned)b.len + 1), len = below(&seed, (unsigned)(b.len - off) + 1);
        struct ash_buf part = ash_buf_slice(&b, off, len), each = ash_buf_share(&b, 3), tail;
        ash_buf_split(&part, len / 2, &tail);
        struct ash_buf mine[] = {part, tail, each, each, each, b};
        for (unsigned k = 0; k < 6; k++) {
            struct ash_buf was = swap(below(&seed, SLOTS), mine[k]);
            ash_buf_drop(&was);
        }
    }
    return NULL;
}

static void test_exchange(int threads)
{
    uint64_t live = stats().live;
    atomic_store(&releases, 0);
    int wrong = 0;
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < BLOCK; i++)
            memory[i] = (unsigned char)(i * 7);
        struct ash_buf b;
        if (ash_buf_wrap(&b, memory, BLOCK, release, NULL) != 0)
            abort();
        boxes[0].b = ash_buf_slice(&b, 0, BLOCK);
        run(threads, exchange);
        for (int i = 0; i < SLOTS; i++)
            ash_buf_drop(&boxes[i].b);
        wrong += atomic_load(&releases) != round || !ash_buf_is_alone(&b);
        ash_buf_drop(&b);
        wrong += atomic_load(&releases) != round + 1;
    }
    ok(wrong == 0 && stats().live == live, "%d threads exchange values: the memory is released once, by the last", threads);
    is_int(atomic_load(&damaged), 0, "and never before");
}

/* The last two values are dropped at the same time, in two threads: one of them releases. */
static pthread_barrier_t barrier;
static struct ash_buf last[2][ROUNDS];

static void *drop_last(void *arg)
{
    struct ash_buf *mine = last[(intptr_t)arg];
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 16 == 0)
            pthread_barrier_wait(&barrier);
        ash_buf_drop(&mine[i]);
    }
    return NULL;
}

static void test_last(void)
{
    atomic_store(&releases, 0);
    pthread_barrier_init(&barrier, NULL, 2);
    static unsigned char separate[ROUNDS][BLOCK];
    int wrong = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < ROUNDS; i++) {
            ash_buf_wrap(&last[0][i], separate[i], BLOCK, release, NULL);
            last[1][i] = round % 2 == 0 ? ash_buf_slice(&last[0][i], 0, 1) : ash_buf_share(&last[0][i], 1);
        }
        run(2, drop_last);
        wrong += atomic_load(&releases) != (round + 1) * ROUNDS;
    }
    is_int(wrong, 0, "of two last drops at a time, one releases");
    pthread_barrier_destroy(&barrier);
}

/* ---- rooms: every thread writes to its own part of one block ---- */

static struct ash_buf parts[THREADS_MAX];

static void *append_and_check(void *arg)
{
    int t = (int)(intptr_t)arg;
    struct ash_buf *b = &parts[t];
    int wrong = 0;
    for (int i = 0; i < 2000; i++) {
        memset(ash_buf_append(b, 3), 'a' + t, 3);
        memset(ash_buf_prepend(b, 2), 'a' + t, 2);
        struct ash_buf part = ash_buf_slice(b, 0, b->len / 2);
        for (size_t k = 0; k < part.len; k += 97)
            wrong += part.data[k] != 'a' + t;
        ash_buf_trim(b, i % 3);
        ash_buf_drop(&part);
    }
    for (size_t k = 0; k < b->len; k++)
        wrong += b->data[k] != 'a' + t;
    atomic_fetch_add(&damaged, wrong);
    ash_buf_drop(b);
    return NULL;
}

static void test_rooms(int threads)
{
    uint64_t live = stats().live;
    struct ash_buf b;
    if (ash_buf_alloc(&b, (size_t)threads * 10, 64) != 0)
        abort();
    for (int t = 0; t < threads - 1; t++) {
        parts[t] = b;
        memset(b.data, 'a' + t, 10);
        ash_buf_split(&parts[t], 10, &b);
    }
    memset(b.data, 'a' + threads - 1, b.len);
    parts[threads - 1] = b;
    atomic_store(&damaged, 0);
    run(threads, append_and_check);
    ok(atomic_load(&damaged) == 0 && stats().live == live, "%d threads append and prepend to parts of one block", threads);
}

/* ---- ends of threads, forks ---- */

static pthread_key_t late_key;

static void late(void *arg)
{
    struct ash_buf b;
    (void)arg;
    if (ash_buf_alloc(&b, 100, 0) == 0) /* past the thread's own end, in any order */
        ash_buf_drop(&b);
}

static void *end_with_values(void *arg)
{
    struct ash_buf b;
    pthread_setspecific(late_key, &late_key);
    if (ash_buf_alloc(&b, 100, 0) != 0)
        abort();
    b = swap((unsigned)(intptr_t)arg, b);
    ash_buf_drop(&b);
    return NULL;
}

static void test_ends(void)
{
    struct ash_buf_stats before = stats();
    struct ash_stats meta = {.struct_size = sizeof meta}, after = meta;
    for (int round = 0; round < 100; round++) {
        if (round == 50)
            ash_stats_get(&meta);
        run(4, end_with_values);
    }
    ash_stats_get(&after);
    for (int i = 0; i < SLOTS; i++)
        ash_buf_drop(&boxes[i].b);
    struct ash_buf_stats s = stats();
    is_int((long long)(s.allocs - before.allocs), 800, "blocks of threads that have ended are counted");
    ok(s.live == before.live && s.live_bytes == before.live_bytes, "and dropped by others");
    ok(after.meta_bytes - meta.meta_bytes < 4096, "records are used again");
}

static atomic_bool stop;

static void *churn(void *arg)
{
    uint64_t seed = (uint64_t)(intptr_t)arg;
    while (!atomic_load(&stop)) {
        struct ash_buf b, part;
        if (ash_buf_alloc(&b, 100 + below(&seed, 1000), 0) != 0)
            abort();
        part = ash_buf_slice(&b, 1, 10);
        ash_buf_append(&part, 100);
        ash_buf_drop(&b);
        ash_buf_drop(&part);
    }
    return NULL;
}

static void test_fork(void)
{
    pthread_t ids[4];
    int failed = 0;
    for (intptr_t t = 0; t < 4; t++)
        pthread_create(&ids[t], NULL, churn, (void *)t);
    struct ash_buf mine, shared;
    ash_buf_alloc(&mine, 1000, 0);
    shared = ash_buf_slice(&mine, 0, 500);
    memset(mine.data, 5, mine.len);
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        if (child == 0) {
            struct ash_buf_stats before = stats();
            ash_buf_append(&shared, 5000);
            int good = shared.data[499] == 5 && ash_buf_is_alone(&shared) && ash_buf_is_alone(&mine);
            ash_buf_drop(&mine);
            ash_buf_drop(&shared);
            struct ash_buf_stats after = stats();
            _exit(good && after.releases == before.releases + 2 && after.allocs == before.allocs + 1 ? 0 : 1);
        }
        int status = 1;
        waitpid(child, &status, 0);
        failed += status != 0;
    }
    atomic_store(&stop, 1);
    for (int t = 0; t < 4; t++)
        pthread_join(ids[t], NULL);
    ash_buf_drop(&mine);
    ash_buf_drop(&shared);
    is_int(failed, 0, "children of a process whose threads are at work go on");
}

/* ---- no memory ---- */

static void test_memory(void)
{
    uint64_t live = stats().live;
    struct ash_buf b, part, big;
    if (ash_buf_alloc(&b, 1000, 0) != 0)
        abort();
    memset(b.data, 9, b.len);
    part = ash_buf_slice(&b, 0, 1000);
    struct ash_bufchain c = {0};
    size_t limit, used;
    ash_limit_get(&limit, &used);
    ash_limit_set(used > (8u << 20) ? used : 8u << 20);
    is_int(ash_buf_alloc(&big, 1u << 30, 0), -ENOMEM, "beyond the limit: alloc");
    errno = 0;
    ok(ash_buf_append(&part, 1u << 30) == NULL && errno == ENOMEM, "append");
    ok(ash_buf_prepend(&part, 1u << 30) == NULL && ash_buf_reserve(&part, 1u << 30) == NULL, "prepend, reserve");
    ok(part.len == 1000 && part.data == b.data && !ash_buf_is_alone(&part), "the value is as it was");
    if (ash_bufchain_push(&c, &part) != 0)
        abort();
    ok(ash_bufchain_pullup(&c, 1000) == b.data, "the chain too");
    ash_limit_set(limit);
    ash_bufchain_drop(&c);
    ash_buf_drop(&b);
    is_int((long long)(stats().live - live), 0, "nothing was lost");
}

int main(void)
{
    for (int i = 0; i < SLOTS; i++)
        pthread_mutex_init(&boxes[i].lock, NULL);
    pthread_key_create(&late_key, late);
    for (int threads = 2; threads <= THREADS_MAX; threads *= 2) {
        test_exchange(threads);
        test_rooms(threads);
    }
    test_last();
    test_ends();
    test_fork();
    test_memory();
    return tap_done();
}
