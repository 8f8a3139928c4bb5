/*
 * Chains of bufs; see ashlar/buf.h.
 *
 * The values lie in order in one array, bufs[first .. first + count): taking from the front moves
 * `first`, and the array is moved to its begin or doubled when its end is reached, which costs a
 * value at most two moves. Invariants: `len` is the sum of the values' lengths; first + count <=
 * room; no value in a chain is of length 0, since iovecs of length 0 help nobody.
 *
 * What can fail is done before anything is changed.
 */
#include "ashlar/buf.h"

#include "base/fmt.h"
#include "heap/error.h"
#include "heap/front.h"
#include "os/os_file.h"
#include "pool/bufcount.h"

#include <errno.h>
#include <string.h>

enum { ROOM_FIRST = 8 };

ASH_INLINE struct ash_buf *begin_of(const struct ash_bufchain *c)
{
    return c->bufs + c->first;
}

/* Makes room for `more` values at the end, and for `front` of them in front. */
static int make_room(struct ash_bufchain *c, size_t front, size_t more)
{
    size_t count = c->count;
    if (front <= c->first && c->first + count + more <= c->room)
        return 0;
    struct ash_buf *to = c->bufs;
    size_t room = c->room, at = front > 0 ? front + count / 2 : 0;
    if (front > 0 || count > room / 2 || count + more > room) {
        room = size_max(size_max(2 * room, ROOM_FIRST), at + count + more);
        if (room > UINT32_MAX)
            return -ENOMEM;
        to = front_malloc(room * sizeof *to);
        if (to == NULL)
            return -ENOMEM;
    }
    if (count > 0)
        memmove(to + at, begin_of(c), count * sizeof *to);
    if (to != c->bufs)
        front_free(c->bufs);
    c->bufs = to;
    c->first = (uint32_t)at;
    c->room = (uint32_t)room;
    return 0;
}

/* There is room. */
static void put_last(struct ash_bufchain *c, const struct ash_buf *b)
{
    c->bufs[c->first + c->count++] = *b;
    c->len += b->len;
}

/* There is room, or a value has just been taken from the front. */
static void put_first(struct ash_bufchain *c, const struct ash_buf *b)
{
    if (c->first == 0)
        c->first = 1; /* the chain is empty */
    c->bufs[--c->first] = *b;
    c->count++;
    c->len += b->len;
}

ASH_API int ash_bufchain_push(struct ash_bufchain *c, struct ash_buf *b)
{
    if (b->len == 0) {
        ash_buf_drop(b);
        return 0;
    }
    if (c->count > 0) {
        size_t n = b->len;
        if (ash_buf_join(&begin_of(c)[c->count - 1], b) == 0) {
            c->len += n;
            return 0;
        }
    }
    int status = make_room(c, 0, 1);
    if (status != 0)
        return status;
    put_last(c, b);
    *b = (struct ash_buf){0};
    return 0;
}

ASH_API int ash_bufchain_push_front(struct ash_bufchain *c, struct ash_buf *b)
{
    if (b->len == 0) {
        ash_buf_drop(b);
        return 0;
    }
    int status = make_room(c, 1, 0);
    if (status != 0)
        return status;
    put_first(c, b);
    *b = (struct ash_buf){0};
    return 0;
}

ASH_API int ash_bufchain_join(struct ash_bufchain *c, struct ash_bufchain *other)
{
    if (c == other)
        return -EINVAL;
    int status = make_room(c, 0, other->count);
    if (status != 0)
        return status;
    for (uint32_t i = 0; i < other->count; i++)
        put_last(c, &begin_of(other)[i]);
    other->count = 0;
    ash_bufchain_drop(other);
    return 0;
}

/* Forgets the first value, which has been dropped or moved. */
static void skip_first(struct ash_bufchain *c)
{
    c->first++;
    if (--c->count == 0)
        c->first = 0;
}

ASH_API int ash_bufchain_pop(struct ash_bufchain *c, struct ash_buf *b)
{
    if (c->count == 0)
        return -ENOENT;
    *b = *begin_of(c);
    c->len -= b->len;
    skip_first(c);
    return 0;
}

ASH_API unsigned ash_bufchain_iovec(const struct ash_bufchain *c, struct iovec *iov, unsigned max)
{
    unsigned n = max < c->count ? max : c->count;
    for (unsigned i = 0; i < n; i++)
        iov[i] = (struct iovec){.iov_base = begin_of(c)[i].data, .iov_len = begin_of(c)[i].len};
    return n;
}

ASH_API void ash_bufchain_consume(struct ash_bufchain *c, size_t n)
{
    if (ASH_UNLIKELY(n > c->len)) {
        error_buf_cut("consume", n, c->len);
        return;
    }
    c->len -= n;
    while (n > 0) {
        struct ash_buf *b = begin_of(c);
        if (n < b->len) {
            ash_buf_trim(b, n);
            return;
        }
        n -= b->len;
        ash_buf_drop(b);
        skip_first(c);
    }
}

/* The value that holds the byte at `*off` < len, which becomes the offset in it. */
static uint32_t find(const struct ash_bufchain *c, size_t *off)
{
    uint32_t i = 0;
    while (*off >= begin_of(c)[i].len)
        *off -= begin_of(c)[i++].len;
    return i;
}

ASH_API int ash_bufchain_split(struct ash_bufchain *c, size_t at, struct ash_bufchain *tail)
{
    if (at > c->len || c == tail)
        return -EINVAL;
    if (at == c->len)
        return 0;
    size_t off = at;
    uint32_t i = find(c, &off), moved = c->count - i;
    int status = make_room(tail, 0, moved);
    if (status != 0)
        return status;
    struct ash_buf *from = begin_of(c) + i, rest;
    c->count = i;
    c->len = at;
    if (off > 0) {
        ash_buf_split(from, off, &rest);
        put_last(tail, &rest);
        c->count++;
        from++;
        moved--;
    }
    for (; moved > 0; moved--)
        put_last(tail, from++);
    return 0;
}

ASH_API int ash_bufchain_slice(const struct ash_bufchain *c, size_t off, size_t len,
                               struct ash_bufchain *out)
{
    if (off > c->len || len > c->len - off || c == out)
        return -EINVAL;
    if (len == 0)
        return 0;
    size_t end = off + len - 1;
    uint32_t i = find(c, &off), last = find(c, &end);
    int status = make_room(out, 0, last - i + 1);
    for (; status == 0 && len > 0; i++) {
        const struct ash_buf *b = &begin_of(c)[i];
        struct ash_buf part = ash_buf_slice(b, off, size_min(len, b->len - off));
        put_last(out, &part);
        len -= part.len;
        off = 0;
    }
    return status;
}

/* Copies `n` bytes from `off` on, which are there. */
static void copy_out(const struct ash_bufchain *c, size_t off, void *to, size_t n)
{
    bufcount_copy(n);
    unsigned char *p = to;
    for (const struct ash_buf *b = begin_of(c) + find(c, &off); n > 0; b++, off = 0) {
        size_t part = size_min(n, b->len - off);
        memcpy(p, b->data + off, part);
        p += part;
        n -= part;
    }
}

ASH_API void *ash_bufchain_pullup(struct ash_bufchain *c, size_t n)
{
    if (n > c->len || c->len == 0) {
        errno = EINVAL;
        return NULL;
    }
    struct ash_buf first = *begin_of(c);
    size_t have = first.len;
    if (n > have) {
        void *to = ash_buf_append(&first, n - have); /* in its own room, or in a new block */
        if (to == NULL)
            return NULL;
        copy_out(c, have, to, n - have);
        *begin_of(c) = (struct ash_buf){.len = have}; /* it is in `first` now */
        ash_bufchain_consume(c, n);
        put_first(c, &first);
    }
    return first.data;
}

ASH_API const void *ash_bufchain_peek(const struct ash_bufchain *c, size_t off, size_t n,
                                      void *scratch)
{
    if (off > c->len || n > c->len - off) {
        errno = EINVAL;
        return NULL;
    }
    if (n == 0)
        return scratch;
    size_t in = off;
    const struct ash_buf *b = &begin_of(c)[find(c, &in)];
    if (n <= b->len - in)
        return b->data + in;
    copy_out(c, off, scratch, n);
    return scratch;
}

ASH_API void ash_bufchain_drop(struct ash_bufchain *c)
{
    for (uint32_t i = 0; i < c->count; i++)
        ash_buf_drop(&begin_of(c)[i]);
    front_free(c->bufs);
    *c = (struct ash_bufchain){0};
}

ASH_API int ash_bufchain_dump(const struct ash_bufchain *c, int fd)
{
    char line[96];
    size_t n = fmt_text(line, sizeof line, "bufchain: %zu bytes in %u values\n", c->len, c->count);
    int status = os_write_all(fd, line, n);
    for (uint32_t i = 0; status == 0 && i < c->count; i++)
        status = ash_buf_dump(&begin_of(c)[i], fd);
    return status;
}
