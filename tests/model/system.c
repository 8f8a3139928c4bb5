/*
 * The system as the model has it: stand-ins for the functions of src/os, and the options. The window's memory is real;
 * what production code maps of it, and gives back, is kept in a table and taken back after each run. Nothing here is
 * an atomic access: a system call does not take part in the search, its effect is that of a plain write.
 */
#include "scenario.h"

#include "info/options.h"
#include "mem/classmap.h"
#include "os/check.h"
#include "os/os_clock.h"
#include "os/os_file.h"
#include "os/os_fork.h"
#include "os/os_mem.h"
#include "os/os_process.h"
#include "os/os_wait.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { CHUNKS = 16, ARENA = 8 * 1024 * 1024 };

/* Nothing is given back because of a bound or the clock unless a scenario asks for it. */
struct options options = {.purge_ms = 500, .cache = (uint64_t)1 << 40, .thp = OPTION_THP_DEFAULT};

static char *base; /* of the window; its first CHUNKS chunks can be mapped */
static bool chunk_is_mapped[CHUNKS];
static _Alignas(65536) char arena[ARENA];
static size_t arena_used, arena_unmapped;
uint64_t system_ms = 1;

static void save(void *p, size_t n)
{
    if (machine_thread >= 0 || machine_checking)
        plain_save(p, n);
}

static void window_map(void *at, size_t n, int where)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | where;
    base = mmap(at, n, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (base == MAP_FAILED)
        model_fail("no place for the window");
}

/* The chunks of the window one by one, from the first call's on. */
int os_map_at(void *at, size_t n)
{
    if (base == NULL)
        window_map(at, CHUNKS * CHUNK_BYTES, MAP_FIXED_NOREPLACE);
    for (size_t i = ((uintptr_t)at - (uintptr_t)base) / CHUNK_BYTES; n != 0; i++, n -= CHUNK_BYTES) {
        if (i >= CHUNKS)
            return -ENOMEM;
        if (chunk_is_mapped[i])
            model_fail("chunk %zu is mapped twice", i);
        save(&chunk_is_mapped[i], sizeof(bool));
        chunk_is_mapped[i] = true;
        plain_mapped(base + i * CHUNK_BYTES, CHUNK_BYTES, false);
    }
    return 0;
}

void *os_map(size_t n)
{
    if (arena_used + n > ARENA)
        return NULL;
    save(&arena_used, sizeof arena_used);
    save(&arena_unmapped, sizeof arena_unmapped);
    arena_used += n;
    plain_mapped(arena + arena_used - n, n, false);
    return arena + arena_used - n;
}

void os_unmap(void *at, size_t n)
{
    plain_mapped(at, n, true);
    arena_unmapped += n;
}

size_t system_mapped(void)
{
    return arena_used - arena_unmapped;
}

size_t os_page_size(void)
{
    return 4096;
}

int os_move(void *from, void *to, size_t n)
{
    (void)from, (void)to, (void)n;
    return -ENOSYS;
}

/* The window in one piece: chunk.c asks for it under the thread sanitizer, which it takes this for. */
void *os_reserve(size_t n)
{
    if (n > (CHUNKS + 1) * CHUNK_BYTES)
        return NULL;
    window_map(NULL, n, 0);
    base = (char *)align_up((uintptr_t)base, CHUNK_BYTES);
    return base;
}

int os_commit(void *at, size_t n)
{
    return os_map_at(at, n);
}

/* Of each unit its first word stands for all. */
int os_purge(void *at, size_t n)
{
    for (char *unit = at; n != 0; unit += UNIT_BYTES, n -= UNIT_BYTES) {
        plain_access((uintptr_t)unit, sizeof(uint64_t), true);
        memset(unit, 0, sizeof(uint64_t));
    }
    return 0;
}

void os_populate(void *at, size_t n)
{
    (void)at, (void)n;
}

void os_huge_pages(void *at, size_t n, bool wanted)
{
    (void)at, (void)n, (void)wanted;
}

void os_random(void *out, size_t n)
{
    memset(out, 0, n);
}

/*
 * Futexes: the kernel's lock, and who sleeps under it, are one word for each. A sleeper puts its bit there, compares,
 * and awaits that a waker has taken the bit away: a waker that comes after the bit sees it, and one that came before
 * had changed the futex, which the comparison sees then. Wakers take the lowest bits; who is asleep longest is not
 * known here. The clock stands still, so what is waited for must come in any time that is given.
 */
enum { FUTEXES = 6 };
static struct futex {
    _Atomic(uint32_t) *word;
    _Atomic(uint64_t) asleep;
} futexes[FUTEXES];

static _Atomic(uint64_t) *sleepers_of(_Atomic(uint32_t) *word)
{
    struct futex *f = futexes;
    while (f->word != word && f->word != NULL)
        if (++f == futexes + FUTEXES)
            model_fail("more than %d futexes", FUTEXES);
    save(&f->word, sizeof f->word);
    f->word = word;
    return &f->asleep;
}

int os_wait(_Atomic(uint32_t) *word, uint32_t expected, int64_t timeout_ns)
{
    model_require(timeout_ns != 0, "a wait of no time");
    _Atomic(uint64_t) *asleep = sleepers_of(word);
    uint64_t self = (uint64_t)1 << machine_thread;
    or_acq_rel(asleep, self);
    if (load_relaxed(word) == expected)
        memory_await(asleep, self);
    else
        and_relaxed(asleep, ~self);
    return 0;
}

void os_wake(_Atomic(uint32_t) *word, unsigned n)
{
    _Atomic(uint64_t) *asleep = sleepers_of(word);
    MODEL_CHANGED(asleep, n, "wake", MODEL_ACQ_REL, MODEL_LOSE);
}

/* ---- keys of threads: a value for each thread, and the last one for setup and check ---- */

static struct {
    void (*end)(void *value);
    void *value[THREADS + 1];
} keys[2];
static unsigned key_count;

int pthread_key_create(pthread_key_t *key, void (*end)(void *))
{
    model_require(key_count < ASH_COUNT(keys), "too many keys");
    save(&key_count, sizeof key_count);
    save(&keys[key_count], sizeof keys[0]);
    keys[key_count].end = end;
    *key = key_count++;
    return 0;
}

/* The number is not used again. */
int pthread_key_delete(pthread_key_t key)
{
    save(&keys[key], sizeof keys[key]);
    keys[key].end = NULL;
    return 0;
}

int pthread_setspecific(pthread_key_t key, const void *value)
{
    save(&keys[key], sizeof keys[key]);
    model_require(keys[key].end != NULL, "a key that is gone");
    keys[key].value[machine_thread < 0 ? THREADS : machine_thread] = (void *)(uintptr_t)value;
    return 0;
}

unsigned system_keys(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < key_count; i++)
        n += keys[i].end != NULL;
    return n;
}

void system_thread_ends(void)
{
    for (unsigned i = 0; i < key_count; i++)
        if (keys[i].end != NULL && keys[i].value[machine_thread] != NULL)
            keys[i].end(keys[i].value[machine_thread]);
}

/* Threads are those of the scenario: it says which of them is one that was made. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *), void *arg)
{
    (void)attr, (void)main, (void)arg;
    *thread = 0;
    return 0;
}

int pthread_join(pthread_t thread, void **value)
{
    (void)thread, (void)value;
    return 0;
}

uint64_t os_clock_ms(void)
{
    return system_ms;
}

/* Who looks again and again for what another does is out of patience after the first time. */
void os_yield(void)
{
    save(&system_ms, sizeof system_ms);
    system_ms += 1000;
}

uintptr_t os_fork_self(void)
{
    return (uintptr_t)(machine_thread + 2);
}

/* Nobody forks in a scenario. */
int os_fork_add(struct os_fork *self)
{
    (void)self;
    return 0;
}

void os_fork_remove(struct os_fork *self)
{
    (void)self;
}

int os_write_all(int fd, const char *s, size_t n)
{
    (void)fd, (void)s, (void)n;
    return 0;
}

int os_write_fmt(void *fd, const char *s, size_t n)
{
    (void)fd, (void)s, (void)n;
    return 0;
}

uint64_t os_clock_ns(void)
{
    return 0;
}

void fatal(const char *format, ...)
{
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    model_fail("%s", text);
}

/* A scenario that makes mistakes on purpose has asked for warnings. */
void warn_line(const char *format, ...)
{
    model_require(options.on_error == OPTION_ON_ERROR_WARN, "a warning: %s", format);
}
