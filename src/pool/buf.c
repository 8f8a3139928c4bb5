/*
 * Bufs: views of bytes with a counted owner; see ashlar/buf.h.
 *
 * The owner of a block is its first cache line, so that block and count are one allocation of a
 * size class, the bytes are aligned like the block, and counting does not move the line that holds
 * the first bytes. The owner of wrapped memory is such a line alone.
 *
 * References. A value holds `refs` of its owner's references.
 *     (1)  owner->count = sum of refs over all values of the owner
 *     (2)  refs >= 1 in every value that has an owner
 * Making a value moves references from its source to it, which changes no sum: no atomic access is
 * needed, since one thread at a time uses a value. A source that is down to one reference first
 * takes REFS_BULK more with one locked add. A drop subtracts all that the value holds. Whoever
 * brings the count to 0 held the last value. By (1), a value that finds count = refs is the only
 * one, and none can appear meanwhile, since only values make values: it need not subtract, and may
 * use all of the block.
 *
 * A fresh block's value gets REFS_BULK references at no cost. A slice is given ASH_BUF_GIVEN, while
 * its source has more, and then one: so a source adds once in about a thousand slices, and a slice
 * can be sliced 31 times again without an add. (Giving half leads to an add after 15 slices; giving
 * one, to an add for each slice that is sliced again; a part of what there is lengthens the chain
 * from one slice to the next, 0.7 ns.)
 *
 * Room. The tailroom of a value are bytes behind its view that no other value can see or has as
 * room; likewise headroom.
 *     (3)  of one owner, the rooms of all values are disjoint, and disjoint from every other view
 * Slices and shares are made without room, a split gives each room to the side that it borders, and
 * bytes cut off become room only if the value is alone. So append and prepend in room need no look
 * at the count, and a receiver goes on filling a block whose earlier part is in others' hands.
 *
 * Rejected: counting slices in the thread and settling later (biased counts, or a cached stock per
 * thread): the last drop then releases late, or in another thread, and memory that is wrapped has
 * to be given back at once. Rejected: a pool of segments of our own behind ash_buf_alloc: malloc's
 * thread cache is one already (bench_buf: alloc + drop against a bare malloc + free of that size).
 */
#include "base/base.h"

/* Declared ahead of its inline definition: the library has it for those who do not inline it. */
struct ash_buf;
ASH_API struct ash_buf ash_buf_slice(const struct ash_buf *b, size_t off, size_t len);

#include "ashlar/buf.h"

#include "base/fmt.h"
#include "heap/error.h"
#include "heap/front.h"
#include "os/os_file.h"
#include "pool/bufcount.h"

#include <errno.h>
#include <string.h>

struct ash_buf_owner {
    _Atomic(uint64_t) count;                 /* atomic: references; see (1) */
    size_t bytes;                            /* const: of room in the block, or wrapped */
    void *wrapped;                           /* const: NULL in a block's own owner */
    void (*release)(void *data, void *user); /* const */
    void *user;                              /* const */
};

enum {
    HEADER = ASH_CACHE_LINE, /* the owner in front of a block's bytes */
    REFS_BULK = 1 << 15,
    PREPEND_MORE = 64,  /* room that a prepend makes beside what it asked for, at least */
    HEADROOM_KEPT = 256 /* at most, when bytes move to a larger block */
};

_Static_assert(sizeof(struct ash_buf_owner) <= HEADER, "an owner is one cache line");
_Static_assert(sizeof(struct ash_buf) == 32, "a value stays small");
_Static_assert(offsetof(struct ash_buf, refs) == 30, "view_of puts refs at the end");
_Static_assert(ASH_BUF_CACHED == SMALL_MAX - HEADER, "the largest class holds it");

/* Where refs are in the last word of a value whose rooms are 0. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { REFS_AT = 48 };
#else
enum { REFS_AT = 0 };
#endif

/* ---- owners ---- */

static struct ash_buf_owner *owner_init(void *p, size_t bytes)
{
    struct ash_buf_owner *o = p;
    /* Published by handing a value on, which the program orders. */
    store_relaxed(&o->count, REFS_BULK);
    o->bytes = bytes;
    return o;
}

/* A block with room for `bytes`; all of it is the room. */
static struct ash_buf_owner *block_create(size_t bytes)
{
    size_t n;
    if (__builtin_add_overflow(bytes, HEADER, &n) || n > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    if (n <= SMALL_MAX)
        n = size_max(n, class_size(class_of(n))); /* 0 before the first allocation */
    void *p = front_malloc(n);
    if (p == NULL)
        return NULL;
    struct ash_buf_owner *o = owner_init(p, n - HEADER);
    o->wrapped = NULL;
    struct buf_counts *c = bufcount_self();
    bufcount_add(c, allocs, 1);
    bufcount_add(c, bytes_made, o->bytes);
    return o;
}

static ASH_NOINLINE void owner_release(struct ash_buf_owner *o)
{
    size_t bytes = o->bytes;
    void *wrapped = o->wrapped, *user = o->user;
    void (*release)(void *, void *) = o->release;
    front_free(o);
    struct buf_counts *c = bufcount_self();
    bufcount_add(c, releases, 1);
    bufcount_add(c, bytes_released, bytes);
    if (wrapped != NULL)
        release(wrapped, user);
}

static void owner_put(struct ash_buf_owner *o, uint64_t refs)
{
    /* Others' use of the bytes comes before what follows: pairs with the subtraction below. */
    uint64_t seen = load_acquire(&o->count);
    if (seen != refs)
        seen = sub_acq_rel(&o->count, refs); /* our use of the bytes; pairs with the last drop */
    if (seen == refs)
        owner_release(o);
    else if (ASH_UNLIKELY(seen < refs))
        error_buf_refs(o, seen, refs);
}

ASH_INLINE bool is_alone(const struct ash_buf *b)
{
    /* Pairs with the subtraction in owner_put: the others' use of the bytes is over. */
    return b->owner != NULL && load_acquire(&b->owner->count) == b->refs;
}

ASH_INLINE bool has_block(const struct ash_buf *b)
{
    return b->owner != NULL && b->owner->wrapped == NULL;
}

ASH_INLINE unsigned char *block_begin(const struct ash_buf_owner *o)
{
    return (unsigned char *)(uintptr_t)o + HEADER;
}

ASH_INLINE size_t room_in_front(const struct ash_buf *b)
{
    return (size_t)(b->data - block_begin(b->owner));
}

ASH_INLINE size_t room_behind(const struct ash_buf *b)
{
    return b->owner->bytes - room_in_front(b) - b->len;
}

ASH_INLINE uint16_t headroom_of(size_t n)
{
    return (uint16_t)size_min(n, UINT16_MAX);
}

ASH_INLINE uint32_t tailroom_of(size_t n)
{
    return (uint32_t)size_min(n, UINT32_MAX);
}

/* The value is alone on a block: all that it does not see is its room. */
static void claim_rooms(struct ash_buf *b)
{
    b->headroom = headroom_of(room_in_front(b));
    b->tailroom = tailroom_of(room_behind(b));
}

/* The first value of an owner. Field by field: a struct copied would wait for its own stores. */
ASH_INLINE void value_init(struct ash_buf *b, struct ash_buf_owner *o, unsigned char *data,
                           size_t len)
{
    b->data = data;
    b->len = len;
    b->owner = o;
    b->tailroom = b->headroom = 0;
    b->refs = REFS_BULK;
}

/* ---- making values ---- */

ASH_API int ash_buf_alloc(struct ash_buf *b, size_t len, size_t headroom)
{
    size_t bytes;
    struct ash_buf_owner *o = NULL;
    if (!__builtin_add_overflow(len, headroom, &bytes))
        o = block_create(bytes);
    if (o == NULL)
        return -ENOMEM;
    value_init(b, o, block_begin(o) + headroom, len);
    claim_rooms(b);
    return 0;
}

ASH_API int ash_buf_wrap(struct ash_buf *b, void *data, size_t len,
                         void (*release)(void *data, void *user), void *user)
{
    if (data == NULL && (len > 0 || release != NULL))
        return -EINVAL;
    if (release == NULL) {
        *b = (struct ash_buf){.data = data, .len = len};
        return 0;
    }
    void *p = front_malloc(sizeof(struct ash_buf_owner));
    if (p == NULL)
        return -ENOMEM;
    struct ash_buf_owner *o = owner_init(p, len);
    o->wrapped = data;
    o->release = release;
    o->user = user;
    struct buf_counts *c = bufcount_self();
    bufcount_add(c, wraps, 1);
    bufcount_add(c, bytes_made, len);
    value_init(b, o, data, len);
    return 0;
}

/* Takes `more` references, and such as fill the value's stock up. */
static ASH_COLD void refs_refill(struct ash_buf *b, uint64_t more)
{
    unsigned stock = b->refs < REFS_BULK ? REFS_BULK : 0;
    /* relaxed: the value's own reference keeps the owner; nothing is published */
    add_relaxed(&b->owner->count, more + stock);
    b->refs = (uint16_t)(b->refs + stock);
    bufcount_refill();
}

/* The value's stock may change though its bytes do not; see the header. */
ASH_INLINE struct ash_buf *stock_of(const struct ash_buf *b)
{
    return (struct ash_buf *)(uintptr_t)b;
}

/*
 * A value without room, written by two stores of 16 bytes: callers copy what is returned by loads
 * as wide, which would wait for narrower stores to leave the store buffer (12 ns a slice then).
 */
ASH_INLINE struct ash_buf view_of(unsigned char *data, size_t len, struct ash_buf_owner *owner,
                                  uint64_t refs)
{
    typedef uint64_t pair __attribute__((vector_size(16)));
    union {
        pair words[2];
        struct ash_buf b;
    } view = {{{(uintptr_t)data, len}, {(uintptr_t)owner, refs << REFS_AT}}};
    return view.b;
}

ASH_API struct ash_buf ash_buf_slice_slow(const struct ash_buf *b, size_t off, size_t len)
{
    if (off > b->len || len > b->len - off) {
        errno = EINVAL;
        return (struct ash_buf){0};
    }
    if (b->refs == 1)
        refs_refill(stock_of(b), 0);
    unsigned given = b->refs > ASH_BUF_GIVEN ? ASH_BUF_GIVEN : b->owner != NULL;
    stock_of(b)->refs = (uint16_t)(b->refs - given);
    return view_of(b->data + off, len, b->owner, given);
}

ASH_API struct ash_buf ash_buf_share(const struct ash_buf *b, unsigned more)
{
    if (more == 0)
        return (struct ash_buf){0};
    if (b->owner != NULL) {
        if (b->refs > more)
            stock_of(b)->refs = (uint16_t)(b->refs - more);
        else
            refs_refill(stock_of(b), more);
    }
    return view_of(b->data, b->len, b->owner, b->owner != NULL);
}

ASH_API int ash_buf_split(struct ash_buf *b, size_t at, struct ash_buf *tail)
{
    if (at > b->len)
        return -EINVAL;
    if (b->refs == 1)
        refs_refill(b, 0);
    unsigned given = b->refs / 2;
    *tail = (struct ash_buf){.data = b->data + at,
                             .len = b->len - at,
                             .owner = b->owner,
                             .tailroom = b->tailroom,
                             .refs = (uint16_t)given};
    b->refs = (uint16_t)(b->refs - given);
    b->len = at;
    b->tailroom = 0;
    return 0;
}

ASH_API int ash_buf_join(struct ash_buf *b, struct ash_buf *next)
{
    if (b == next || b->owner != next->owner || b->data + b->len != next->data)
        return -EINVAL;
    b->len += next->len;
    b->tailroom = next->tailroom;
    uint32_t refs = (uint32_t)b->refs + next->refs;
    if (refs > UINT16_MAX) {
        sub_relaxed(&b->owner->count, refs - UINT16_MAX); /* relaxed: it is not the last */
        refs = UINT16_MAX;
    }
    b->refs = (uint16_t)refs;
    *next = (struct ash_buf){0};
    return 0;
}

ASH_API void ash_buf_drop(struct ash_buf *b)
{
    struct ash_buf_owner *o = b->owner;
    unsigned refs = b->refs;
    *b = (struct ash_buf){0};
    if (o != NULL)
        owner_put(o, refs);
}

/* ---- room ---- */

/* The bytes go to a block of their own, with so much room before and at least so much behind. */
static bool move_out(struct ash_buf *b, size_t before, size_t behind)
{
    size_t bytes;
    if (__builtin_add_overflow(b->len, before, &bytes) ||
        __builtin_add_overflow(bytes, behind, &bytes)) {
        errno = ENOMEM;
        return false;
    }
    struct ash_buf_owner *o = block_create(bytes);
    if (o == NULL)
        return false;
    struct ash_buf moved;
    value_init(&moved, o, block_begin(o) + before, b->len);
    if (b->len > 0)
        memcpy(moved.data, b->data, b->len);
    bufcount_copy(b->len);
    ash_buf_drop(b);
    *b = moved;
    claim_rooms(b);
    return true;
}

/*
 * Moves the bytes to the begin of their block where that makes enough room, half of the block was
 * cut off in front, and as many bytes as are left: each is moved once for one that was consumed.
 */
static void move_back(struct ash_buf *b, size_t n)
{
    size_t front = room_in_front(b);
    if (front < size_max(b->len, b->owner->bytes / 2) || front + room_behind(b) < n)
        return;
    unsigned char *begin = block_begin(b->owner);
    memcpy(begin, b->data, b->len);
    bufcount_copy(b->len);
    b->data = begin;
}

/* The value is alone on a block and has at least so much room behind when this is true. */
static ASH_NOINLINE bool make_tailroom(struct ash_buf *b, size_t n)
{
    if (has_block(b) && is_alone(b)) {
        if (room_behind(b) < n)
            move_back(b, n);
        claim_rooms(b);
        if (room_behind(b) >= n)
            return true;
    }
    size_t more = b->len / 2;
    return move_out(b, size_min(b->headroom, HEADROOM_KEPT), n < SIZE_MAX - more ? n + more : n);
}

ASH_API void *ash_buf_reserve(struct ash_buf *b, size_t n)
{
    if (n > b->tailroom && !make_tailroom(b, n))
        return NULL;
    return b->data + b->len;
}

ASH_API void *ash_buf_append(struct ash_buf *b, size_t n)
{
    if (ASH_UNLIKELY(n > b->tailroom)) {
        if (!make_tailroom(b, n))
            return NULL;
        b->len += n;
        claim_rooms(b);
        return b->data + b->len - n;
    }
    void *end = b->data + b->len;
    b->len += n;
    b->tailroom -= (uint32_t)n;
    return end;
}

/* The same in front. */
static ASH_NOINLINE bool make_headroom(struct ash_buf *b, size_t n)
{
    if (has_block(b) && is_alone(b) && room_in_front(b) >= n)
        return true;
    size_t more = size_max(b->len / 2, PREPEND_MORE);
    return move_out(b, n < PTRDIFF_MAX - more ? align_up(n + more, HEADER) : n, b->tailroom);
}

ASH_API void *ash_buf_prepend(struct ash_buf *b, size_t n)
{
    if (ASH_UNLIKELY(n > b->headroom)) {
        if (!make_headroom(b, n))
            return NULL;
        b->data -= n;
        b->len += n;
        claim_rooms(b);
        return b->data;
    }
    b->data -= n;
    b->len += n;
    b->headroom = (uint16_t)(b->headroom - n);
    return b->data;
}

ASH_API int ash_buf_unshare(struct ash_buf *b)
{
    if (is_alone(b) || b->data == NULL)
        return 0;
    return move_out(b, b->headroom, b->tailroom) ? 0 : -ENOMEM;
}

ASH_API int ash_buf_is_alone(const struct ash_buf *b)
{
    return is_alone(b);
}

/* What is cut off may be in another value's view: it is room only when there is none. */
ASH_API void ash_buf_trim(struct ash_buf *b, size_t head)
{
    if (ASH_UNLIKELY(head > b->len)) {
        error_buf_cut("trim", head, b->len);
        return;
    }
    b->data += head;
    b->len -= head;
    b->headroom = has_block(b) && is_alone(b) ? headroom_of(room_in_front(b)) : 0;
}

ASH_API void ash_buf_chop(struct ash_buf *b, size_t tail)
{
    if (ASH_UNLIKELY(tail > b->len)) {
        error_buf_cut("chop", tail, b->len);
        return;
    }
    b->len -= tail;
    b->tailroom = has_block(b) && is_alone(b) ? tailroom_of(room_behind(b)) : 0;
}

ASH_API int ash_buf_dump(const struct ash_buf *b, int fd)
{
    char line[256];
    const struct ash_buf_owner *o = b->owner;
    size_t n = fmt_text(line, sizeof line, "buf: %zu bytes at %p, headroom %u, tailroom %u", b->len,
                        (const void *)b->data, b->headroom, b->tailroom);
    if (o != NULL)
        n += fmt_text(line + n, sizeof line - n, "; %s of %zu bytes, %u of %llu references",
                      o->wrapped != NULL ? "wrapped memory" : "block", o->bytes, b->refs,
                      (unsigned long long)load_relaxed(&o->count));
    n += fmt_text(line + n, sizeof line - n, "\n");
    return os_write_all(fd, line, n);
}
