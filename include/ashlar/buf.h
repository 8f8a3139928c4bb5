/*
 * ashlar/buf.h: bytes that are handed on without being copied.
 *
 * A struct ash_buf is a small value, a view of `len` bytes at `data`, and a share in what keeps
 * those bytes alive, its owner: a block from Ashlar, or memory of the program's that is given back
 * by a callback. Slices of a view share its owner. The owner goes with the last of its values, in
 * whichever thread that is dropped.
 *
 *     struct ash_buf in, message;
 *     ash_buf_alloc(&in, 0, 0);
 *     void *room = ash_buf_reserve(&in, 16384);
 *     ash_buf_append(&in, (size_t)read(fd, room, 16384));     // keeps what was read
 *     message = ash_buf_slice(&in, 0, 100);                   // no copy
 *     ash_buf_trim(&in, 100);
 *     ...
 *     ash_buf_drop(&message);
 *
 * Rules of the value:
 *  - {0} is the empty value; it may be dropped, appended to, and so on.
 *  - Assigning a value to another variable moves it: one of the two is then to be forgotten, not
 *    dropped. ash_buf_slice and ash_buf_share make further values.
 *  - One thread at a time uses a value; values of one owner may be used in different threads at
 *    the same time. That is so for the functions that take a const value as well: the bytes do not
 *    change, but the value's stock of references does, so it must not be an object defined const.
 *  - The bytes of a view are the program's to write while it knows that nobody reads them;
 *    ash_buf_unshare makes sure of that.
 *
 * References are taken in bulk. A value holds a stock of them and hands some of it to each of its
 * slices, so a slice costs no locked instruction but once in a thousand; a drop gives all of a
 * value's stock back with one, and with none where it is the last.
 *
 * Room. A value may have headroom in front of its bytes and tailroom behind them that no other
 * value can see: prepend and append go there. Slices and shares have none; of a value that is
 * split, the front keeps the headroom and the back the tailroom. A value that is alone has all of
 * its block. Where there is not enough room, prepend and append copy the bytes to a new block,
 * which ash_buf_stats counts; bytes in their old place stay as they are for the other values.
 *
 * The ideas are those of BytesMut of Rust's bytes, of IOBuf of folly and of the mbuf; for
 * references in bulk, see split reference counting in A. Williams, C++ Concurrency in Action, 7.2.
 *
 * Caveats
 *   A small slice keeps all of a large block alive: unshare what is kept for long. Blocks up to
 *   ASH_BUF_CACHED bytes of room come from the thread's own cache; larger ones cost more. Wrapped
 *   memory is never written by these functions: prepend and append copy it. A room beyond 4 GiB
 *   behind, or 64 KiB in front, is only known to a value that is alone. Cutting off more than there
 *   is, and dropping more values than were made, is reported and aborts; ASHLAR_ON_ERROR=warn goes
 *   on.
 */
#ifndef ASHLAR_BUF_H
#define ASHLAR_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_buf_owner;

/* `data`, `len` and `owner` are to be read; they are changed by the functions below alone. */
struct ash_buf {
    unsigned char *data;
    size_t len;
    struct ash_buf_owner *owner; /* NULL: the bytes live for ever, or there are none */
    uint32_t tailroom;           /* bytes behind the view that are this value's alone */
    uint16_t headroom;           /* the same in front of it */
    uint16_t refs;               /* the references it holds: one, and the stock */
};

/*
 * For ash_buf_slice, which is inline in C and C++ and a function of the library as well: the
 * references that a slice is given, and the case that there are not so many, or no such bytes.
 */
#define ASH_BUF_GIVEN 32
struct ash_buf ash_buf_slice_slow(const struct ash_buf *b, size_t off, size_t len);

/* headroom + len + tailroom that a block of the thread's own cache can have. */
#define ASH_BUF_CACHED (65536 - 64)

/*
 * A block with `len` bytes (not zeroed) behind `headroom`; `b` is overwritten. 0 or -ENOMEM. `data`
 * is aligned to 64 bytes when `headroom` is a multiple of 64. Cost: a malloc.
 */
int ash_buf_alloc(struct ash_buf *b, size_t len, size_t headroom);

/*
 * A view of the program's own memory; `b` is overwritten. When the last value is dropped,
 * release(data, user) is called once, in that thread, with nothing held. `release` NULL: the memory
 * outlives all values. 0; -ENOMEM, or -EINVAL when `data` is NULL and there is something to wrap or
 * release: then `release` is not called.
 */
int ash_buf_wrap(struct ash_buf *b, void *data, size_t len, void (*release)(void *data, void *user),
                 void *user);

/*
 * The `len` bytes from `off` on, as a value of its own. One with data NULL, and EINVAL, when they
 * are not all in `b`. Cost: 1 ns inlined, 3 ns as a call.
 */
inline struct ash_buf ash_buf_slice(const struct ash_buf *b, size_t off, size_t len)
{
    struct ash_buf part;
    if (off > b->len || len > b->len - off || b->refs <= ASH_BUF_GIVEN)
        return ash_buf_slice_slow(b, off, len);
    ((struct ash_buf *)(uintptr_t)b)->refs = (uint16_t)(b->refs - ASH_BUF_GIVEN);
    part.data = b->data + off;
    part.len = len;
    part.owner = b->owner;
    part.tailroom = 0;
    part.headroom = 0;
    part.refs = ASH_BUF_GIVEN;
    return part;
}

/*
 * `more` further values of the same bytes, taken at once: the one that is returned may be assigned
 * to `more` variables, and each of them is then a value, to be dropped by itself. 0 takes none and
 * returns the empty value. Cost: one locked instruction at most, whatever `more` is.
 */
struct ash_buf ash_buf_share(const struct ash_buf *b, unsigned more);

/*
 * Makes two of one: `b` keeps the first `at` bytes, `tail` (overwritten) gets the others. 0, or
 * -EINVAL when `at` is beyond the end.
 */
int ash_buf_split(struct ash_buf *b, size_t at, struct ash_buf *tail);

/*
 * Undoes a split: `b` gets the bytes of `next`, which lie directly behind its own in the same
 * block; `next` is empty then. -EINVAL where that is not so.
 */
int ash_buf_join(struct ash_buf *b, struct ash_buf *next);

/*
 * Makes `b` the only value of its bytes, copying them if it is not: 0, or -ENOMEM, and `b` is as it
 * was. Bytes without an owner are copied.
 */
int ash_buf_unshare(struct ash_buf *b);

/* 1 when no other value shares the owner of `b`, else 0. */
int ash_buf_is_alone(const struct ash_buf *b);

/*
 * Extends the view by `n` bytes (not zeroed) at its front or its end and returns the address of the
 * new bytes; NULL and ENOMEM leave `b` as it was. `n` = 0 returns the front or the end. Cost: about
 * 2 ns where there is room, else a malloc and a copy. Room grows by half of what there was, so that
 * a buffer appended to bit by bit is copied a constant number of times.
 */
void *ash_buf_prepend(struct ash_buf *b, size_t n);
void *ash_buf_append(struct ash_buf *b, size_t n);

/*
 * Makes sure that the next `n` bytes appended go behind the present ones without a copy, and
 * returns where they will be: to be filled first and appended as far as they were. NULL and ENOMEM
 * as above.
 */
void *ash_buf_reserve(struct ash_buf *b, size_t n);

/* Cuts `head` bytes off the front, or `tail` bytes off the end. */
void ash_buf_trim(struct ash_buf *b, size_t head);
void ash_buf_chop(struct ash_buf *b, size_t tail);

/* Gives the value up and makes `b` empty. Empty values are fine. errno is kept. */
void ash_buf_drop(struct ash_buf *b);

/* Writes a line about the value to `fd`; 0 or the negative errno of the write. */
int ash_buf_dump(const struct ash_buf *b, int fd);

/*
 * ---- chains: bytes in several places that are one sequence ----
 *
 * {0} is an empty chain. A chain owns its values; one thread at a time uses it. The array of values
 * is in one piece and grows by doubling.
 */
struct ash_bufchain {
    struct ash_buf *bufs; /* the first value is bufs[first] */
    size_t len;           /* bytes in all of them */
    uint32_t first, count, room;
};

/*
 * Puts `b` at the end, or the front; `b` is empty then. At the end it is joined to the last value
 * if it lies directly behind it in the same block. 0, or -ENOMEM, and nothing has changed.
 */
int ash_bufchain_push(struct ash_bufchain *c, struct ash_buf *b);
int ash_bufchain_push_front(struct ash_bufchain *c, struct ash_buf *b);

/* Moves all values of `other` to the end of `c`: 0, or -ENOMEM, and nothing has changed. */
int ash_bufchain_join(struct ash_bufchain *c, struct ash_bufchain *other);

/* Takes the first value out into `b`: 0, or -ENOENT when the chain is empty. */
int ash_bufchain_pop(struct ash_bufchain *c, struct ash_buf *b);

/*
 * The chain as iovecs for writev or sendmsg: fills at most `max` of them and returns how many. Call
 * it again after ash_bufchain_consume when the chain has more.
 */
unsigned ash_bufchain_iovec(const struct ash_bufchain *c, struct iovec *iov, unsigned max);

/* Drops the first `n` bytes: those that were written. */
void ash_bufchain_consume(struct ash_bufchain *c, size_t n);

/*
 * Moves what follows the first `at` bytes to the end of `tail`. 0; -EINVAL when `at` is beyond the
 * end; -ENOMEM. On an error nothing has changed.
 */
int ash_bufchain_split(struct ash_bufchain *c, size_t at, struct ash_bufchain *tail);

/* Adds the `len` bytes from `off` on to the end of `out`, as slices. Errors as above. */
int ash_bufchain_slice(const struct ash_bufchain *c, size_t off, size_t len,
                       struct ash_bufchain *out);

/*
 * Makes the first `n` bytes one piece and returns their address; what has to be copied for it is
 * counted. NULL and EINVAL when there are fewer, or ENOMEM; nothing has changed then. With `n` =
 * c->len the whole chain becomes one value.
 */
void *ash_bufchain_pullup(struct ash_bufchain *c, size_t n);

/*
 * The address of `n` bytes from `off` on, where they are in one piece; else they are copied to
 * `scratch` (counted), which is returned. NULL and EINVAL when there are fewer. The chain stays as
 * it is: for reading headers.
 */
const void *ash_bufchain_peek(const struct ash_bufchain *c, size_t off, size_t n, void *scratch);

/* Drops all values and gives up the array; `c` is empty then. */
void ash_bufchain_drop(struct ash_bufchain *c);

/* Writes a line about the chain and one about each value to `fd`; 0 or a negative errno. */
int ash_bufchain_dump(const struct ash_bufchain *c, int fd);

/* ---- statistics of the process ---- */

struct ash_buf_stats {
    uint64_t allocs;       /* blocks made */
    uint64_t wraps;        /* pieces of the program's memory taken */
    uint64_t releases;     /* of both, given back */
    uint64_t live;         /* allocs + wraps - releases */
    uint64_t live_bytes;   /* of those: the blocks' rooms, and what is wrapped */
    uint64_t refills;      /* times that a value took references with a locked instruction */
    uint64_t copies;       /* times that bytes were copied ... */
    uint64_t copied_bytes; /* ... and how many */
};

/* 0, or -EINVAL when `out` is NULL. Exact while no other thread uses bufs. */
int ash_buf_stats(struct ash_buf_stats *out);

#ifdef __cplusplus
}
#endif

#endif
