/*
 * Out of memory at every entry point: in a process that has allocated next to nothing, and in one whose caches are warm,
 * each call of the family meets a system that refuses its n-th mapping (or all from the n-th on), for n = 1, 2, 3 … until
 * it asks for no more. A refused mapping may be got over. Where the call fails it says ENOMEM as its standard wants, a
 * block handed in is as it was, and the same call works when memory is back, and ten more refusals
 * lose no memory. Linked against the core with its mapping functions wrapped.
 */
#include "ashlar/ashlar.h"
#include "refuse.h"
#include "tap.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

int __real_os_commit(void *at, size_t n);
int __real_os_move(void *from, void *to, size_t n);
int __wrap_os_commit(void *at, size_t n);
int __wrap_os_move(void *from, void *to, size_t n);

struct nothrow;
void *_ZnwmRKSt9nothrow_t(size_t, const struct nothrow *);
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t, size_t, const struct nothrow *);

int __wrap_os_commit(void *at, size_t n)
{
    return refused() ? -ENOMEM : __real_os_commit(at, n);
}

int __wrap_os_move(void *from, void *to, size_t n)
{
    return refused() ? -ENOSYS : __real_os_move(from, to, n);
}

/* ---- the entry points: 0 worked, 1 refused as it should be, 2 wrong ---- */

enum { KIB = 1 << 10, MIB = 1 << 20, GOOD = 0, REFUSED = 1, WRONG = 2 };

static unsigned char *given; /* a block that realloc is called with, of given_size bytes */
static size_t given_size;
static void *wall;

static int by_errno(void *p, size_t n)
{
    if (p == NULL)
        return errno == ENOMEM ? REFUSED : WRONG;
    int right = malloc_usable_size(p) >= n;
    ((char *)p)[0] = ((char *)p)[n - 1] = 1;
    free(p);
    return right ? GOOD : WRONG;
}

static int zeroed(unsigned char *p, size_t n)
{
    for (size_t i = 0; p != NULL && i < n; i += n > MIB ? 65521 : 1)
        if (p[i] != 0)
            return WRONG;
    return by_errno(p, n);
}

/* The given block keeps its content, moved or not. */
static int resized(size_t n)
{
    unsigned char *p = realloc(given, n);
    int failed = p == NULL, wrong = failed && errno != ENOMEM;
    if (!failed)
        given = p;
    for (size_t i = 0; i < given_size && (failed || i < n); i++)
        wrong |= given[i] != (unsigned char)(i * 7);
    if (!failed)
        p[n - 1] = 1;
    free(given);
    given = NULL;
    return wrong ? WRONG : failed ? REFUSED : GOOD;
}

static int memaligned(size_t align, size_t n)
{
    void *const before = &align;
    void *p = before;
    errno = EDOM;
    int status = posix_memalign(&p, align, n);
    if (errno != EDOM)
        return WRONG;
    if (status != 0)
        return status == ENOMEM && p == before ? REFUSED : WRONG;
    return by_errno(p, n);
}

/* errno is a negative answer here. */
static int batch(void)
{
    size_t sizes[] = {100, 5000, 3 * MIB, 60000, 20 * MIB, 64};
    void *out[6];
    int status = ash_malloc_batch(sizes, out, 6);
    int wrong = status != 0 && status != -ENOMEM;
    for (int i = 0; i < 6; i++)
        wrong |= (status == 0) != (out[i] != NULL);
    ash_free_batch(out, 6);
    return wrong ? WRONG : status != 0 ? REFUSED : GOOD;
}

static void *thread_main(void *arg)
{
    *(int *)arg = by_errno(malloc(1000), 1000);
    return NULL;
}

static int in_thread(void)
{
    pthread_t t;
    int answer = WRONG;
    int status = pthread_create(&t, NULL, thread_main, &answer);
    if (status != 0)
        return status == EAGAIN || status == ENOMEM ? REFUSED : WRONG;
    pthread_join(t, NULL);
    return answer;
}

static int act(int entry)
{
    errno = 0;
    switch (entry) {
    case 0: return by_errno(malloc(1), 1);
    case 1: return by_errno(malloc(60000), 60000);
    case 2: return by_errno(malloc(30 * MIB), 30 * MIB);
    case 3: return zeroed(calloc(10, 30), 300);
    case 4: return zeroed(calloc(30, MIB), 30 * (size_t)MIB);
    case 5: return by_errno(realloc(NULL, 3000), 3000);
    case 6: return by_errno(aligned_alloc(64 * KIB, 100), 100);
    case 7: return by_errno(aligned_alloc(16 * MIB, 5 * MIB), 5 * MIB);
    case 8: return memaligned(4096, 5000);
    case 9: return memaligned(2 * MIB, 9 * MIB);
    case 10: return by_errno(memalign(1024, 1000), 1000);
    case 11: return by_errno(valloc(5 * MIB), 5 * MIB);
    case 12: return by_errno(pvalloc(1), 1);
    case 13: return by_errno(reallocarray(NULL, 1000, 9000), 9000000);
    case 14: return by_errno(_ZnwmRKSt9nothrow_t(700, NULL), 700);
    case 15: return by_errno(_ZnamSt11align_val_tRKSt9nothrow_t(7 * MIB, 8192, NULL), 7 * MIB);
    case 16: return batch();
    case 17: return by_errno(ash_malloc(40000), 40000);
    case 18: return zeroed(ash_calloc(3, 4000), 12000);
    case 19: return by_errno(ash_aligned_alloc(1 << 18, 70000), 70000);
    case 20: return by_errno(ash_realloc(NULL, 7 * MIB), 7 * MIB);
    case 21: return in_thread();
    case 22: return resized(given_size * 2);
    case 23: return resized(given_size * 50);
    case 24: return resized(given_size / 3 + 1);
    case 25: return resized(given_size / 50 + 1);
    default: return WRONG;
    }
}

enum { ENTRIES = 26, FIRST_RESIZE = 22, REPEATS = 10 };

static void give_block(int entry, size_t n)
{
    if (entry < FIRST_RESIZE)
        return;
    free(wall);
    given = malloc(n);
    given_size = n;
    wall = malloc(100000); /* behind it, as a rule: it cannot grow in place */
    for (size_t i = 0; i < n; i++)
        given[i] = (unsigned char)(i * 7);
}

/* ---- each in a child ---- */

struct trial {
    int entry, warm;
    long at, count;
    size_t n; /* of the block to be resized */
};

static uint64_t used_after_trim(void)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_trim();
    ash_stats_get(&s);
    return s.used_bytes;
}

/* The call, its n-th mapping refused. */
static int refuse(const struct trial *t)
{
    give_block(t->entry, t->n);
    calls = 0;
    fail_at = t->at;
    fail_count = t->count;
    int answer = act(t->entry);
    fail_count = 0;
    return answer;
}

/* Exit status: 0 the call worked though a mapping was refused, 1 it was refused, 2 wrong, 3 no refusal took place, 4 leaks. */
static int try(const struct trial *t)
{
    if (t->warm)
        for (size_t n = 1; n < 100000; n += 1 + n / 3)
            free(malloc(n));
    int first = refuse(t);
    int reached = calls >= t->at;
    if (first == WRONG || (first == REFUSED && !reached) || ash_verify() != 0)
        return 2;
    give_block(t->entry, t->n);
    if (act(t->entry) != GOOD || ash_verify() != 0)
        return 2;
    uint64_t used = used_after_trim();
    for (int i = 0; i < REPEATS; i++)
        if (refuse(t) == WRONG)
            return 2;
    if (used_after_trim() > used + REPEATS * 64 * KIB / 2)
        return 4; /* a refusal leaks */
    return reached ? first : 3;
}

static int in_child(const struct trial *t)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        _exit(try(t));
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static int wrong, refusals, survived;

static void each(struct trial t)
{
    int status = 0;
    for (t.at = 1; status != 3 && t.at < 100; t.at++) {
        status = in_child(&t);
        wrong += status != 0 && status != 1 && status != 3;
        refusals += status == 1;
        survived += status == 0;
        if (status != 0 && status != 1 && status != 3)
            tap_line("# entry %d, warm %d, %zu bytes, mapping %ld, %ld of them: status %d", t.entry, t.warm, t.n, t.at,
                     t.count, status);
    }
}

static void test(int from, int to, long count, const char *name)
{
    static const size_t sizes[] = {500, 60000, 300000, 2 * MIB};
    wrong = refusals = survived = 0;
    for (int entry = from; entry < to; entry++)
        for (int warm = 0; warm < 2; warm++)
            for (int i = 0; i < (entry < FIRST_RESIZE ? 1 : 4); i++)
                each((struct trial){.entry = entry, .warm = warm, .count = count, .n = sizes[i]});
    ok(wrong == 0 && refusals + survived > 0, "%s: %d handed on, %d got over", name, refusals, survived);
}

int main(void)
{
    test(0, FIRST_RESIZE, 1, "one mapping refused, allocating");
    test(0, FIRST_RESIZE, 1000000, "all mappings refused from the n-th on, allocating");
    test(FIRST_RESIZE, ENTRIES, 1, "one mapping refused, resizing");
    test(FIRST_RESIZE, ENTRIES, 1000000, "all mappings refused from the n-th on, resizing");
    return tap_done();
}
