/*
 * A message in memory, and its pool.
 *
 *     line (64 bytes) | slots | target, up to a multiple of 16 | body
 *
 * A body that does not fit is a buf, which then lies in the last 32 bytes; so targets leave those
 * free. Blocks are those of an ash_pool, each constructed once: `pool` is there already when one is
 * got, and `refs` of a block that is not in use is 0.
 *
 * Rejected: a header beside the body, in two blocks (a line more to touch, and twice the getting
 * and putting); a count of references that every free lowers by a locked instruction (5 ns):
 * whoever reads 1 has the only reference, and nobody else can make another of it.
 */
#ifndef ASH_MSG_IN_MEMORY_H
#define ASH_MSG_IN_MEMORY_H

#include "ashlar/msg.h"
#include "ashlar/pool.h"
#include "base/atomic.h"

enum {
    MSG_ALIGN = 16,    /* of the target and of the body */
    TARGET_PARSED = 1, /* in `parts` */
    MSG_NO_SCHEME = 3, /* bytes of :// */
};

struct msg_slot {
    uint64_t value;
    uint32_t key;
    uint32_t unused;
};

/* Written by the owner while there is one reference, read by anyone who has one. */
struct ash_msg {
    struct ash_msgpool *pool; /* const */
    uint64_t id;
    uint64_t trace;
    int64_t time_ns;
    /*
     * atomic: where the parts of the target are, found by the first who asks: subsystem's length,
     * path's begin and end, TARGET_PARSED, of 16 bits each. Relaxed, since whoever finds them finds
     * the same.
     */
    _Atomic(uint64_t) parts;
    void *body;
    size_t body_len;
    _Atomic(uint32_t) refs; /* atomic: owners; 0 when it is in the pool */
    uint16_t target_len;
    uint8_t slots;    /* in use */
    uint8_t external; /* the body is the buf at the end */
    struct msg_slot slot[];
};

_Static_assert(sizeof(struct ash_msg) == ASH_CACHE_LINE, "the line that every message has");

struct ash_msgpool {
    struct ash_pool *objects;    /* const, and likewise: */
    size_t room;                 /* for target and body */
    size_t target_most;          /* bytes in a target */
    uint32_t slots;              /* in a message */
    uint32_t at;                 /* where the target begins */
    uint64_t bytes;              /* in a message */
    uint64_t warmed;             /* messages got and put when the pool was made */
    _Atomic(int64_t) now_ns;     /* atomic: of the last tick */
    _Atomic(uint64_t) made;      /* atomic: blocks that were constructed */
    _Atomic(uint64_t) externals; /* atomic: bodies that were put into bufs */
};

/* ash_msg_free of each, those of one pool together. */
void msgs_free(struct ash_msg *const *msgs, unsigned n);

ASH_INLINE char *msg_target(const struct ash_msg *m)
{
    return (char *)(uintptr_t)m + m->pool->at;
}

ASH_INLINE struct ash_buf *msg_buf(const struct ash_msg *m)
{
    return (struct ash_buf *)(void *)(msg_target(m) + m->pool->room) - 1;
}

/* ---- the parts of the target, found when the first is asked for ---- */

/* Offsets in the target. */
struct msg_parts {
    size_t subsystem; /* its end */
    size_t path;
    size_t end; /* of the path; behind it, if there is more, a question mark */
};

/* As ash_msg.parts has them. */
uint64_t msg_parts_find(const char *target, size_t len);

/* What a store of another thread says is what this one would find. */
ASH_INLINE struct msg_parts msg_parts(const struct ash_msg *m)
{
    uint64_t parts = load_relaxed(&m->parts);
    if (ASH_UNLIKELY(parts == 0)) {
        parts = msg_parts_find(msg_target(m), m->target_len);
        store_relaxed(&((struct ash_msg *)(uintptr_t)m)->parts, parts);
    }
    return (struct msg_parts){parts & 0xffff, parts >> 16 & 0xffff, parts >> 32 & 0xffff};
}

#endif
