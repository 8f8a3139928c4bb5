/*
 * libashlar-record.so: writes down what a program asks of malloc and its family. `ashlar record`
 * preloads it; by hand, in front of any allocator:
 *
 *   ASH_RECORD=FILE LD_PRELOAD=.../libashlar-record.so PROGRAM...     (%p in FILE: the process)
 *
 * Every call is passed on to the next library that has it; the format is in trace.h, the file in
 * recorder_file.h. The rules:
 *   1. A thread writes its events alone, to a chunk of its own. Other threads are met at marks
 *      (one locked addition in TRACE_STRIDE events) and for a new chunk.
 *   2. A block is written down after it was handed out and before it is given back: while it has
 *      an entry in the table nobody else can have its address.
 *   3. Calls may nest (operator new calls malloc, in this library too). The innermost one writes;
 *      the outer one finds the block in the table, as the last that this thread made.
 *   4. A signal handler that allocates while its thread is inside this file is not recorded, and
 *      nor is what it frees: the flag `busy`.
 *   5. dlsym may allocate: until it has answered, that comes out of a static block.
 */
#include "recorder_file.h"
#include "recorder_map.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what is below ---- */

#define FUNCTIONS(F)                                                                               \
    F(malloc)                                                                                      \
    F(calloc)                                                                                      \
    F(realloc)                                                                                     \
    F(free)                                                                                        \
    F(memalign)                                                                                    \
    F(aligned_alloc)                                                                               \
    F(posix_memalign)                                                                              \
    F(valloc)                                                                                      \
    F(pvalloc)                                                                                     \
    F(cfree)                                                                                       \
    F(free_sized)                                                                                  \
    F(free_aligned_sized)

#define SLOT(name) static _Atomic(void *) name##_next; /* atomic: what dlsym answered */
FUNCTIONS(SLOT)

static ASH_TLS bool asking; /* this thread is inside dlsym */

static ASH_COLD void *ask(const char *name, _Atomic(void *) *slot)
{
    asking = true;
    void *f = dlsym(RTLD_NEXT, name);
    asking = false;
    store_relaxed(slot, f);
    return f;
}

ASH_INLINE void *below(const char *name, _Atomic(void *) *slot)
{
    void *f = load_relaxed(slot);
    return ASH_LIKELY(f != NULL) ? f : ask(name, slot);
}

#define BELOW(name) ((__typeof__(&name))below(#name, &name##_next))

/* Rule 5: blocks of a static array, each behind its size; they are never taken back. */
static _Alignas(16) unsigned char early[1 << 16];
static _Atomic(size_t) early_used; /* atomic: bytes given out */

static ASH_COLD void *early_malloc(size_t n)
{
    size_t whole = align_up(n, 16) + 16;
    size_t at = n < sizeof early ? add_relaxed(&early_used, whole) : sizeof early;
    if (at > sizeof early - whole)
        return NULL;
    memcpy(early + at, &n, sizeof n);
    return early + at + 16;
}

static bool is_early(const void *p)
{
    return (uintptr_t)p - (uintptr_t)early < sizeof early;
}

static ASH_COLD size_t early_size(const void *p)
{
    size_t n;
    memcpy(&n, (const unsigned char *)p - 16, sizeof n);
    return n;
}

/* ---- a thread's events ---- */

struct writer {
    unsigned char *at, *limit; /* equal or crossed: there is no room */
    unsigned char *chunk;
    uint64_t next;   /* index of the object that comes next */
    uint32_t thread; /* its number */
    uint32_t epoch;  /* the file's that this belongs to; 0: none */
    uint32_t section;
    uint32_t until_mark; /* events */
    bool busy;
};

static ASH_TLS struct writer own;

enum { ID_INDEX_BITS = 40 };

static void mark_write(struct writer *w)
{
    /* Relaxed is enough for an order: what a program orders, the additions to one word obey too. */
    uint64_t number = add_relaxed(&file_own()->marks, 1);
    w->at = trace_put_other(w->at, TRACE_MARK, 2, number, file_ns(), 0);
    w->until_mark = TRACE_STRIDE;
}

static pthread_key_t end_key;
static _Atomic(uint32_t) end_key_made; /* atomic: 0 not, 1 being made, 2 made */

/* The thread ends; should it still allocate, it takes another chunk and comes here again. */
static void thread_end(void *arg)
{
    struct writer *w = arg;
    w->busy = true;
    if (w->epoch != 0 && w->epoch == load_relaxed(&file_own()->epoch) && w->chunk != NULL) {
        mark_write(w);
        file_give(&(struct file_spare){w->chunk, w->at});
        w->at = w->limit = w->chunk = NULL;
    }
    w->busy = false;
}

/* setspecific may allocate, which is recorded as any other call: the writer is whole here. */
static void end_watch(struct writer *w)
{
    uint32_t seen = 0;
    if (cas_strong_acq_rel(&end_key_made, &seen, 1)) {
        if (pthread_key_create(&end_key, thread_end) == 0)
            store_release(&end_key_made, 2); /* release: the key; pairs with the acquire below */
    }
    if (load_acquire(&end_key_made) == 2)
        pthread_setspecific(end_key, w);
}

/* A new section, in what is left of another thread's chunk or in a new one. */
static bool section_begin(struct writer *w)
{
    struct file_spare room;
    do {
        if (!file_take(&room))
            return false;
        if (file_chunk_end(room.chunk) - room.at < 8 * TRACE_EVENT_MAX) {
            file_seal(room.chunk, room.at);
            room.chunk = NULL;
        }
    } while (room.chunk == NULL);
    w->chunk = room.chunk;
    w->at = trace_put_other(room.at, TRACE_SECTION, 3, w->thread, w->section++, w->next);
    /* Room for an event, its mark, and the one at the end. */
    w->limit = file_chunk_end(room.chunk) - 3 * TRACE_EVENT_MAX;
    mark_write(w);
    return true;
}

/* Every TRACE_STRIDE events, at the end of a chunk, and where the process or the thread is new. */
static ASH_COLD bool writer_slow(struct writer *w)
{
    int saved = errno;
    bool ready = file_begin();
    uint32_t epoch = load_relaxed(&file_own()->epoch);
    bool fresh = w->chunk == NULL;
    if (ready && w->epoch != epoch) {
        *w = (struct writer){
            .thread = add_relaxed(&file_threads, 1) + 1, .epoch = epoch, .busy = true};
        fresh = true;
    }
    if (ready && w->at >= w->limit) {
        if (w->chunk != NULL)
            file_seal(w->chunk, w->at);
        w->at = w->limit = w->chunk = NULL;
        ready = section_begin(w);
    } else if (ready && w->until_mark == 0) {
        mark_write(w);
    }
    if (ready && fresh) {
        w->busy = false;
        end_watch(w);
        w->busy = true;
        ready = w->at < w->limit || section_begin(w);
    }
    errno = saved;
    return ready;
}

/* NULL: the event is not to be written. Else writer_leave must follow. */
ASH_INLINE struct writer *writer_enter(void)
{
    struct writer *w = &own;
    if (ASH_UNLIKELY(w->busy))
        return NULL;
    w->busy = true;
    atomic_signal_fence(memory_order_acq_rel);
    if (ASH_UNLIKELY(w->at >= w->limit || w->until_mark == 0 ||
                     w->epoch != load_relaxed(&file_own()->epoch)) &&
        !writer_slow(w)) {
        w->busy = false;
        return NULL;
    }
    w->until_mark--;
    return w;
}

ASH_INLINE void writer_leave(struct writer *w)
{
    atomic_signal_fence(memory_order_acq_rel);
    w->busy = false;
}

/* Whether the object is of this process, and not of the one that forked it. */
ASH_INLINE bool is_ours(uint64_t id)
{
    return id >> ID_INDEX_BITS >= own.epoch && own.epoch != 0;
}

/* The event of an object that ends, alone or for another one of `size` bytes. */
ASH_INLINE void end_write(struct writer *w, uint64_t id, bool resized, size_t size)
{
    uint64_t thread = id >> ID_INDEX_BITS, index = id & (((uint64_t)1 << ID_INDEX_BITS) - 1);
    if (ASH_LIKELY(thread == w->thread))
        w->at = trace_put(w->at, resized ? TRACE_REALLOC : TRACE_FREE, 1 + resized,
                          w->next - 1 - index, size, 0);
    else
        w->at = trace_put(w->at, resized ? TRACE_REALLOC_REMOTE : TRACE_FREE_REMOTE, 2 + resized,
                          thread, index, size);
}

ASH_INLINE void name_put(struct writer *w, _Atomic(uint64_t) *slot)
{
    store_relaxed(slot, (uint64_t)w->thread << ID_INDEX_BITS | w->next);
    w->next++;
}

/* Hands `p` through; a NULL is no allocation. */
ASH_INLINE void *born(void *p, enum trace_op op, size_t size, unsigned align_log2)
{
    _Atomic(uint64_t) *slot;
    struct writer *w;
    if (p == NULL || (slot = map_slot(p, true)) == NULL || (w = writer_enter()) == NULL)
        return p;
    uint64_t old = load_relaxed(slot);
    if (ASH_UNLIKELY(old != 0)) {
        if (w->next != 0 && old == ((uint64_t)w->thread << ID_INDEX_BITS | (w->next - 1))) {
            writer_leave(w);
            return p; /* rule 3 */
        }
        if (is_ours(old)) /* somebody freed it behind this library's back */
            end_write(w, old, false, 0);
    }
    w->at = trace_put(w->at, op, 1 + (op == TRACE_ALIGNED), size, align_log2, 0);
    name_put(w, slot);
    writer_leave(w);
    return p;
}

static void ended(uint64_t id)
{
    struct writer *w = writer_enter();
    if (w == NULL)
        return;
    if (is_ours(id))
        end_write(w, id, false, 0);
    writer_leave(w);
}

/* Before the block is given back. */
ASH_INLINE void dies(void *p)
{
    uint64_t id = p != NULL ? map_take(p) : 0;
    if (id != 0)
        ended(id);
}

/* After realloc made `q` of the object `id`, which may be 0; `q` is not NULL. */
static void moved(uint64_t id, void *q, size_t n)
{
    _Atomic(uint64_t) *slot = map_slot(q, true);
    struct writer *w;
    if (slot == NULL || (w = writer_enter()) == NULL)
        return;
    if (id != 0 && is_ours(id))
        end_write(w, id, true, n);
    else
        w->at = trace_put(w->at, TRACE_MALLOC, 1, n, 0, 0);
    name_put(w, slot);
    writer_leave(w);
}

/* ---- malloc's family ---- */

ASH_API void *malloc(size_t n)
{
    if (ASH_UNLIKELY(asking))
        return early_malloc(n);
    return born(BELOW(malloc)(n), TRACE_MALLOC, n, 0);
}

ASH_API void *calloc(size_t count, size_t each)
{
    if (ASH_UNLIKELY(asking))
        return early_malloc(count * each); /* zeroed: never used before */
    return born(BELOW(calloc)(count, each), TRACE_CALLOC, count * each, 0);
}

ASH_API void free(void *p)
{
    if (ASH_UNLIKELY(is_early(p)))
        return;
    dies(p);
    BELOW(free)(p);
}

ASH_API void *realloc(void *p, size_t n)
{
    if (p == NULL)
        return malloc(n);
    if (ASH_UNLIKELY(asking || is_early(p))) {
        void *q = malloc(n);
        if (q != NULL)
            memcpy(q, p, size_min(n, early_size(p)));
        return q;
    }
    uint64_t id = map_take(p);
    void *q = BELOW(realloc)(p, n);
    if (q != NULL)
        moved(id, q, n);
    else if (id != 0 && n == 0)
        ended(id);
    else if (id != 0)
        store_relaxed(map_slot(p, true), id); /* it goes on as if nothing had been */
    return q;
}

ASH_API void *reallocarray(void *p, size_t count, size_t each)
{
    size_t n;
    if (__builtin_mul_overflow(count, each, &n)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(p, n);
}

static unsigned log2_of(size_t align)
{
    return align > 1 ? 63 - (unsigned)__builtin_clzll(align) : 0;
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void *memalign(size_t align, size_t n);
void *valloc(size_t n);
void *pvalloc(size_t n);
void cfree(void *p);
void free_sized(void *p, size_t n);
void free_aligned_sized(void *p, size_t align, size_t n);

ASH_API void *memalign(size_t align, size_t n)
{
    return born(BELOW(memalign)(align, n), TRACE_ALIGNED, n, log2_of(align));
}

ASH_API void *aligned_alloc(size_t align, size_t n)
{
    return born(BELOW(aligned_alloc)(align, n), TRACE_ALIGNED, n, log2_of(align));
}

ASH_API int posix_memalign(void **out, size_t align, size_t n)
{
    int status = BELOW(posix_memalign)(out, align, n);
    if (status == 0)
        born(*out, TRACE_ALIGNED, n, log2_of(align));
    return status;
}

ASH_API void *valloc(size_t n)
{
    return born(BELOW(valloc)(n), TRACE_ALIGNED, n, log2_of(page_size()));
}

ASH_API void *pvalloc(size_t n)
{
    return born(BELOW(pvalloc)(n), TRACE_ALIGNED, align_up(n, page_size()), log2_of(page_size()));
}

/* Where what is below lacks the three that follow, free does the same. */
ASH_API void cfree(void *p)
{
    dies(p);
    __typeof__(&cfree) f = BELOW(cfree);
    f != NULL ? f(p) : BELOW(free)(p);
}

ASH_API void free_sized(void *p, size_t n)
{
    dies(p);
    __typeof__(&free_sized) f = BELOW(free_sized);
    f != NULL ? f(p, n) : BELOW(free)(p);
}

ASH_API void free_aligned_sized(void *p, size_t align, size_t n)
{
    dies(p);
    __typeof__(&free_aligned_sized) f = BELOW(free_aligned_sized);
    f != NULL ? f(p, align, n) : BELOW(free)(p);
}

/*
 * The operators of C++: allocators that have their own do not come by malloc. Exceptions go through
 * these functions, which hold nothing meanwhile.
 */
#define OPERATOR_NEW(name, params, op, align, ...)                                                 \
    void *name params;                                                                             \
    ASH_API void *name params                                                                      \
    {                                                                                              \
        static _Atomic(void *) name##_next;                                                        \
        return born(BELOW(name)(__VA_ARGS__), op, n, align);                                       \
    }
#define OPERATOR_DELETE(name, params, ...)                                                         \
    void name params;                                                                              \
    ASH_API void name params                                                                       \
    {                                                                                              \
        static _Atomic(void *) name##_next;                                                        \
        dies(p);                                                                                   \
        BELOW(name)(__VA_ARGS__);                                                                  \
    }

#define TAG const void *tag /* std::nothrow_t */

OPERATOR_NEW(_Znwm, (size_t n), TRACE_MALLOC, 0, n)
OPERATOR_NEW(_Znam, (size_t n), TRACE_MALLOC, 0, n)
OPERATOR_NEW(_ZnwmRKSt9nothrow_t, (size_t n, TAG), TRACE_MALLOC, 0, n, tag)
OPERATOR_NEW(_ZnamRKSt9nothrow_t, (size_t n, TAG), TRACE_MALLOC, 0, n, tag)
OPERATOR_NEW(_ZnwmSt11align_val_t, (size_t n, size_t a), TRACE_ALIGNED, log2_of(a), n, a)
OPERATOR_NEW(_ZnamSt11align_val_t, (size_t n, size_t a), TRACE_ALIGNED, log2_of(a), n, a)
OPERATOR_NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, (size_t n, size_t a, TAG), TRACE_ALIGNED,
             log2_of(a), n, a, tag)
OPERATOR_NEW(_ZnamSt11align_val_tRKSt9nothrow_t, (size_t n, size_t a, TAG), TRACE_ALIGNED,
             log2_of(a), n, a, tag)
OPERATOR_DELETE(_ZdlPv, (void *p), p)
OPERATOR_DELETE(_ZdaPv, (void *p), p)
OPERATOR_DELETE(_ZdlPvm, (void *p, size_t n), p, n)
OPERATOR_DELETE(_ZdaPvm, (void *p, size_t n), p, n)
OPERATOR_DELETE(_ZdlPvRKSt9nothrow_t, (void *p, TAG), p, tag)
OPERATOR_DELETE(_ZdaPvRKSt9nothrow_t, (void *p, TAG), p, tag)
OPERATOR_DELETE(_ZdlPvSt11align_val_t, (void *p, size_t a), p, a)
OPERATOR_DELETE(_ZdaPvSt11align_val_t, (void *p, size_t a), p, a)
OPERATOR_DELETE(_ZdlPvmSt11align_val_t, (void *p, size_t n, size_t a), p, n, a)
OPERATOR_DELETE(_ZdaPvmSt11align_val_t, (void *p, size_t n, size_t a), p, n, a)
OPERATOR_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void *p, size_t a, TAG), p, a, tag)
OPERATOR_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void *p, size_t a, TAG), p, a, tag)
