/*
 * The first word of a head is a secret of the process, mixed with the object's address and with
 * what the object is; putting it there with an exchange decides between two threads that put the
 * same object at once.
 */
#include "pool/pool_guard.h"

#include <string.h>

#ifdef HAVE_VALGRIND_MEMCHECK_H
#include <valgrind/memcheck.h>
#endif

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GUARD_ASAN
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define GUARD_ASAN
#endif
#ifdef GUARD_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { TAIL_BYTE = 0xa7, FREE_BYTE = 0xd3 };

struct guard_head {
    _Atomic(uint64_t) word; /* atomic: see above */
    uint64_t sum;           /* whoever puts the object, while it does */
};

_Static_assert(sizeof(struct guard_head) == GUARD_BEFORE, "the head lies before the object");

static struct guard_head *head_of(const void *obj)
{
    return (struct guard_head *)((uintptr_t)obj - GUARD_BEFORE);
}

static uint64_t word_of(const void *obj, enum guard_state state)
{
    return ((uint64_t)(uintptr_t)obj ^ block_key) * 0x9e3779b97f4a7c15u + state;
}

static enum guard_state state_of(const void *obj, uint64_t word)
{
    return word == word_of(obj, GUARD_FREE)  ? GUARD_FREE
           : word == word_of(obj, GUARD_OUT) ? GUARD_OUT
                                             : GUARD_BROKEN;
}

/* ---- debug pools ---- */

static size_t tail_bytes(const struct store *s)
{
    return s->stride - s->before - s->size;
}

/* The first of `n` bytes that is not `byte`. */
static size_t differs(const unsigned char *p, unsigned char byte, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != byte)
            return i;
    return GUARD_INTACT;
}

static uint64_t sum_of(const unsigned char *p, size_t n)
{
    uint64_t sum = n;
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ p[i]) * 0x100000001b3u;
    return sum;
}

void guard_seal(const struct store *s, void *obj, bool keeps)
{
    memset((char *)obj + s->size, TAIL_BYTE, tail_bytes(s));
    if (keeps)
        head_of(obj)->sum = sum_of(obj, s->size);
    else
        memset(obj, FREE_BYTE, s->size);
}

void guard_init(const struct store *s, void *obj, bool keeps)
{
    store_relaxed(&head_of(obj)->word, word_of(obj, GUARD_FREE));
    guard_seal(s, obj, keeps);
}

enum guard_state guard_mark(void *obj, enum guard_state state)
{
    /* acq_rel: what the object's last holder wrote; the handing over orders the rest */
    return state_of(obj, exchange_acq_rel(&head_of(obj)->word, word_of(obj, state)));
}

enum guard_state guard_state(const void *obj)
{
    return state_of(obj, load_relaxed(&head_of(obj)->word));
}

size_t guard_overrun(const struct store *s, const void *obj)
{
    size_t at = differs((const unsigned char *)obj + s->size, TAIL_BYTE, tail_bytes(s));
    return at == GUARD_INTACT ? at : s->size + at;
}

size_t guard_written(const struct store *s, const void *obj, bool keeps)
{
    if (keeps)
        return head_of(obj)->sum == sum_of(obj, s->size) ? GUARD_INTACT : 0;
    return differs(obj, FREE_BYTE, s->size);
}

/* ---- tools ---- */

#ifdef HAVE_VALGRIND_MEMCHECK_H

static bool has_valgrind(void)
{
    return RUNNING_ON_VALGRIND != 0;
}

static void mark_create(const void *pool)
{
    VALGRIND_CREATE_MEMPOOL(pool, 0, 0);
}

static void mark_destroy(const void *pool)
{
    VALGRIND_DESTROY_MEMPOOL(pool);
}

static void mark_out(const void *pool, void *p, size_t n)
{
    VALGRIND_MEMPOOL_ALLOC(pool, p, n);
}

static void mark_back(const void *pool, void *p)
{
    VALGRIND_MEMPOOL_FREE(pool, p);
}

static void mark_open(void *p, size_t n, bool defined)
{
    if (defined)
        (void)VALGRIND_MAKE_MEM_DEFINED(p, n);
    else
        (void)VALGRIND_MAKE_MEM_UNDEFINED(p, n);
}

static void mark_shut(void *p, size_t n)
{
    (void)VALGRIND_MAKE_MEM_NOACCESS(p, n);
}

#else

static bool has_valgrind(void)
{
    return false;
}

static void mark_create(const void *pool)
{
    (void)pool;
}

static void mark_destroy(const void *pool)
{
    (void)pool;
}

static void mark_out(const void *pool, void *p, size_t n)
{
    (void)pool, (void)p, (void)n;
}

static void mark_back(const void *pool, void *p)
{
    (void)pool, (void)p;
}

static void mark_open(void *p, size_t n, bool defined)
{
    (void)p, (void)n, (void)defined;
}

static void mark_shut(void *p, size_t n)
{
    (void)p, (void)n;
}

#endif

#ifdef GUARD_ASAN
enum { HAS_ASAN = true };
#define poison(p, n)   __asan_poison_memory_region((p), (n))
#define unpoison(p, n) __asan_unpoison_memory_region((p), (n))
#else
enum { HAS_ASAN = false };
#define poison(p, n)   ((void)(p), (void)(n))
#define unpoison(p, n) ((void)(p), (void)(n))
#endif

bool guard_has_tool(void)
{
    return HAS_ASAN || has_valgrind();
}

void guard_tool_create(const void *pool)
{
    mark_create(pool);
}

void guard_tool_destroy(const void *pool)
{
    mark_destroy(pool);
}

void guard_tool_leave(const struct store *s, const struct store_chunk *c)
{
    guard_tool_open(unit_address(c->unit), s->units << UNIT_SHIFT, true);
}

void guard_tool_out(const void *pool, void *obj, size_t size, bool defined)
{
    unpoison(obj, size);
    mark_out(pool, obj, size);
    if (defined)
        mark_open(obj, size, true);
}

void guard_tool_back(const void *pool, void *obj, size_t size)
{
    mark_back(pool, obj);
    poison(obj, size);
}

void guard_tool_open(void *obj, size_t size, bool defined)
{
    unpoison(obj, size);
    mark_open(obj, size, defined);
}

void guard_tool_shut(void *obj, size_t size)
{
    mark_shut(obj, size);
    poison(obj, size);
}
