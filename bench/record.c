/*
 * record.so: which sizes a program allocates, how long its blocks live, and how realloc changes
 * them.
 *
 *   ASH_RECORD=FILE LD_PRELOAD=.../record.so PROGRAM...        (%p in FILE becomes the pid)
 *
 * `compare --record` runs it so and makes the tables of patterns/mixes.h from what it writes. The
 * rules:
 *   1. Time is counted in allocations: the clock advances with every block that malloc, its
 *      relatives or realloc hand out. A block's age is what the clock advanced while it lived.
 *   2. realloc of a block ends one life, in the bucket of the old size, and begins another, in that
 *      of the new one. Buckets are four to a doubling.
 *   3. The table of live blocks is apart from the blocks (they keep the size and the alignment
 *      they were asked for) and lies in memory from mmap. A block leaves the table before libc gets
 *      it back, so no other thread can enter the same address too early.
 *   4. One mutex guards the table and the sums. It is held neither while libc works nor while the
 *      report is written, and fork takes it; the child starts with empty sums of its own.
 *   5. Blocks that are not in the table (older than the constructor) are passed on unseen. A
 *      process that ends without exit() writes nothing.
 *
 * It forwards to glibc's own names, so it needs no dlsym, and works with glibc alone.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BUCKETS = 248, BRIEF_AGE = 16, FIRST_ROOM = 1 << 16, PATH_BYTES = 4096 };

/* As many columns of the report, in this order; all are sums. */
struct bucket {
    uint64_t fresh;   /* blocks from malloc and its relatives */
    uint64_t born;    /* those and what realloc made of others */
    uint64_t bytes;   /* of all that were born */
    uint64_t ended;   /* freed or resized */
    uint64_t brief;   /* ended before they were BRIEF_AGE old */
    uint64_t ages;    /* of those that ended later */
    uint64_t resized; /* ended by a realloc */
    uint64_t from;    /* their bytes before */
    uint64_t to;      /* and after */
};

struct entry {
    uintptr_t block; /* 0: the place is free */
    uint64_t born;
    size_t bytes;
};

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct bucket buckets[BUCKETS]; /* this and what follows: under `lock` */
static struct entry *table;            /* open addressing, probed linearly, at most half full */
static size_t room;                    /* its places, a power of two */
static size_t used;
static uint64_t now;
static int active;            /* set by the constructor, const from then on */
static char path[PATH_BYTES]; /* the same */

/* ---- the table of live blocks ---- */

static size_t home(uintptr_t block)
{
    return (size_t)(((uint64_t)block >> 4) * 0x9E3779B97F4A7C15u >> 20) & (room - 1);
}

/* The block's place, or the free one where it would go. */
static size_t table_find(uintptr_t block)
{
    size_t i = home(block);
    while (table[i].block != 0 && table[i].block != block)
        i = (i + 1) & (room - 1);
    return i;
}

static void table_grow(void)
{
    struct entry *old = table;
    size_t count = room;
    room = count == 0 ? FIRST_ROOM : 2 * count;
    table = mmap(NULL, room * sizeof *table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                 -1, 0);
    if (table == MAP_FAILED)
        abort();
    for (size_t i = 0; i < count; i++) {
        if (old[i].block != 0)
            table[table_find(old[i].block)] = old[i];
    }
    if (old != NULL)
        munmap(old, count * sizeof *old);
}

/* Frees a place and moves up the entries behind it that probing would no longer find. */
static void table_remove(size_t hole)
{
    for (size_t i = (hole + 1) & (room - 1); table[i].block != 0; i = (i + 1) & (room - 1)) {
        size_t distance = (i - home(table[i].block)) & (room - 1);
        if (distance >= ((i - hole) & (room - 1))) {
            table[hole] = table[i];
            hole = i;
        }
    }
    table[hole].block = 0;
    used--;
}

/* ---- lives ---- */

/* 0 up to 8 bytes, then four steps to a doubling: up to 10, 12, 14, 16, 20, 24, 28, 32, ... */
static size_t bucket_of(size_t n)
{
    if (n <= 8)
        return 0;
    size_t high = 63u - (size_t)__builtin_clzll(n - 1);
    return (high - 3) * 4 + (((n - 1) >> (high - 2)) & 3) + 1;
}

static void begin_locked(void *p, size_t n, int fresh)
{
    struct bucket *b = &buckets[bucket_of(n)];
    if (2 * used >= room)
        table_grow();
    size_t i = table_find((uintptr_t)p);
    used += table[i].block == 0; /* else somebody freed it behind this library's back */
    table[i] = (struct entry){(uintptr_t)p, ++now, n};
    b->fresh += fresh != 0;
    b->born++;
    b->bytes += n;
}

/* Hands `p` through; a NULL from libc is no allocation. */
static void *begin(void *p, size_t n)
{
    if (p == NULL || !active)
        return p;
    pthread_mutex_lock(&lock);
    begin_locked(p, n, 1);
    pthread_mutex_unlock(&lock);
    return p;
}

/* Takes the block out of the table; false when it is not there. The sums are left alone. */
static int take(void *p, struct entry *e)
{
    int found = 0;
    if (p == NULL || !active)
        return 0;
    pthread_mutex_lock(&lock);
    if (used != 0) {
        size_t i = table_find((uintptr_t)p);
        found = table[i].block != 0;
        *e = table[i];
        if (found)
            table_remove(i);
    }
    pthread_mutex_unlock(&lock);
    return found;
}

/* The life of a block that was taken out is over. */
static void end_locked(const struct entry *e)
{
    struct bucket *b = &buckets[bucket_of(e->bytes)];
    uint64_t age = now - e->born;
    b->ended++;
    if (age < BRIEF_AGE)
        b->brief++;
    else
        b->ages += age;
}

/* ---- what programs call ---- */

void *malloc(size_t n)
{
    return begin(__libc_malloc(n), n);
}

void *calloc(size_t count, size_t each)
{
    return begin(__libc_calloc(count, each), count * each);
}

void free(void *p)
{
    struct entry e;
    if (take(p, &e)) {
        pthread_mutex_lock(&lock);
        end_locked(&e);
        pthread_mutex_unlock(&lock);
    }
    __libc_free(p);
}

void *realloc(void *p, size_t n)
{
    struct entry e;
    if (p == NULL)
        return malloc(n);
    if (n == 0) {
        free(p);
        return NULL;
    }
    int known = take(p, &e);
    void *q = __libc_realloc(p, n);
    if (!active || (q == NULL && !known))
        return q;
    pthread_mutex_lock(&lock);
    if (q == NULL) {
        if (2 * used >= room)
            table_grow();
        table[table_find(e.block)] = e; /* it goes on as if nothing had been */
        used++;
    } else {
        if (known) {
            struct bucket *b = &buckets[bucket_of(e.bytes)];
            end_locked(&e);
            b->resized++;
            b->from += e.bytes;
            b->to += n;
        }
        begin_locked(q, n, !known);
    }
    pthread_mutex_unlock(&lock);
    return q;
}

void *memalign(size_t alignment, size_t n)
{
    return begin(__libc_memalign(alignment, n), n);
}

void *aligned_alloc(size_t alignment, size_t n)
{
    return memalign(alignment, n);
}

int posix_memalign(void **out, size_t alignment, size_t n)
{
    if (alignment % sizeof(void *) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0)
        return EINVAL;
    void *p = memalign(alignment, n);
    if (p == NULL)
        return ENOMEM;
    *out = p;
    return 0;
}

void *valloc(size_t n)
{
    return memalign((size_t)sysconf(_SC_PAGESIZE), n);
}

void *pvalloc(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return memalign(page, (n + page - 1) / page * page);
}

/* What was asked for: a program linked to another allocator must not ask that one. */
size_t malloc_usable_size(void *p)
{
    size_t n = 0;
    pthread_mutex_lock(&lock);
    if (p != NULL && used != 0) {
        size_t i = table_find((uintptr_t)p);
        n = table[i].block != 0 ? table[i].bytes : 0;
    }
    pthread_mutex_unlock(&lock);
    return n;
}

/* ---- start, fork, end ---- */

static void fork_prepare(void)
{
    pthread_mutex_lock(&lock);
}

static void fork_parent(void)
{
    pthread_mutex_unlock(&lock);
}

/* The parent writes down its own lives. */
static void fork_child(void)
{
    memset(buckets, 0, sizeof buckets);
    if (room != 0)
        memset(table, 0, room * sizeof *table);
    used = 0;
    now = 0;
    pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void start(void)
{
    const char *to = getenv("ASH_RECORD");
    if (to == NULL || strlen(to) >= sizeof path)
        return;
    strcpy(path, to);
    active = pthread_atfork(fork_prepare, fork_parent, fork_child) == 0;
}

static FILE *report_open(void)
{
    char name[PATH_BYTES + 32];
    char *mark = strstr(path, "%p");
    if (mark == NULL)
        return fopen(path, "we");
    snprintf(name, sizeof name, "%.*s%ld%s", (int)(mark - path), path, (long)getpid(), mark + 2);
    return fopen(name, "we");
}

__attribute__((destructor)) static void report(void)
{
    static struct bucket sums[BUCKETS]; /* a copy, since writing allocates */
    if (!active)
        return;
    pthread_mutex_lock(&lock);
    memcpy(sums, buckets, sizeof sums);
    uint64_t clock = now;
    pthread_mutex_unlock(&lock);
    FILE *to = report_open();
    if (to == NULL) {
        fprintf(stderr, "record: %s: %s\n", path, strerror(errno));
        return;
    }
    fprintf(to, "program %s\nallocations %llu\n", program_invocation_short_name,
            (unsigned long long)clock);
    fputs("bucket fresh born bytes ended brief ages resized from to\n", to);
    for (size_t i = 0; i < BUCKETS; i++) {
        const struct bucket *b = &sums[i];
        const uint64_t columns[] = {b->fresh, b->born,    b->bytes, b->ended, b->brief,
                                    b->ages,  b->resized, b->from,  b->to};
        if (b->born == 0)
            continue;
        fprintf(to, "%zu", i);
        for (size_t k = 0; k < sizeof columns / sizeof columns[0]; k++)
            fprintf(to, " %llu", (unsigned long long)columns[k]);
        fputc('\n', to);
    }
    fclose(to);
}
