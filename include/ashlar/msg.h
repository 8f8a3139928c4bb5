/*
 * ashlar/msg.h: messages, which are made, passed on and given back without malloc.
 *
 *     struct ash_msgpool *pool = ash_msgpool_create("orders", NULL);
 *     struct ash_msg *m = ash_msg_new(pool, "orders://items/7?full=1", 23, body, 64);
 *     ash_msg_set_meta(m, RETRIES, 3);
 *     size_t n;
 *     const char *path = ash_msg_path(m, &n);     "items/7"
 *     ash_msg_free(m);
 *
 * A message is one block: a line of 64 bytes with what every message has, metadata, the target, and
 * the body, if it fits; a longer body, or one that came from elsewhere, is an ash_buf. The target
 * is text of the form subsystem://path?query, or a path alone. It is taken apart when somebody asks
 * for a part, once.
 *
 * Threads: pools may be used by any thread, and a message may be freed by another thread than made
 * it. A message has one owner, who may change it; whoever takes references to hand it to several
 * threads must not change it any more, and neither may they. A forked child goes on with pools and
 * messages; the ids that it gives may be those of its parent.
 *
 * Errors: NULL and errno, or a negative errno. No argument may be NULL unless it is said. A message
 * that is freed more often than it has references is reported on standard error, and the process
 * aborted.
 *
 * Caveats
 *   A target and a body that do not fit the block together cost a malloc for the body: see
 *   ash_msgpool_config.room. Texts are views, without a NUL behind them, and valid until the
 *   message is reset or freed. Nothing is decoded: %2F stays. Times are those of the last
 *   ash_msgpool_tick. A use of a message after its last free is reported under valgrind and with
 *   -fsanitize=address. What ash_msg_reset is given must not lie in the message itself.
 *
 * The router is in ashlar/router.h, calls in batches are in ashlar/batcher.h, and the bus, which
 * takes messages to handlers, is in ashlar/bus.h; all come with this header.
 */
#ifndef ASHLAR_MSG_H
#define ASHLAR_MSG_H

#include <ashlar/batcher.h>
#include <ashlar/buf.h>
#include <ashlar/bus.h>
#include <ashlar/config.h>
#include <ashlar/router.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ash_msg;
struct ash_msgpool;

#define ASH_MSG_SLOTS  16    /* of metadata, at most */
#define ASH_MSG_TARGET 65535 /* bytes, at most */

struct ash_msgpool_config {
    size_t struct_size; /* of this struct: ASH_MSGPOOL_CONFIG sets it */
    size_t room;        /* bytes in a message for its target (rounded up to 16) and body; 0 for 96:
                           with the line and 2 slots these are 192. At least 64, at most 1 GiB;
                           rounded up so that the message is whole lines */
    unsigned slots;     /* of metadata, 16 bytes each; 0 for 2 */
    unsigned prealloc;  /* messages to make at once */
    unsigned capacity;  /* messages at most; 0 for no bound */
};

#define ASH_MSGPOOL_CONFIG(...) ASH_CONFIG(struct ash_msgpool_config, __VA_ARGS__)

/*
 * Makes a pool. `name` is copied: 1 to 31 printable ASCII characters without quotes and
 * backslashes, not that of another pool (of ashlar/pool.h, in whose statistics it is listed); NULL
 * for "pool-" and a number. NULL with EINVAL, EEXIST or ENOMEM.
 */
struct ash_msgpool *ash_msgpool_create(const char *name, const struct ash_msgpool_config *config);

/* Ends it: 0, -EBUSY while messages are out, -EINVAL for NULL. No other call may be under way. */
int ash_msgpool_destroy(struct ash_msgpool *pool);

/* Sets the time that new messages bear, in ns of the program's clock. */
void ash_msgpool_tick(struct ash_msgpool *pool, int64_t now_ns);

struct ash_msgpool_stats {
    uint64_t pool_size; /* messages there are, in use or not */
    uint64_t in_use;
    uint64_t created;  /* times that a message was wanted and a new one made */
    uint64_t reused;   /* times that there was one */
    uint64_t external; /* bodies that became a buf */
    uint64_t bytes;    /* in a message, the body of a buf not counted */
    double reuse_rate; /* reused / (created + reused), 0 at first */
};

/* Reads the figures, exact at rest: 0, or -EINVAL. */
int ash_msgpool_stats(const struct ash_msgpool *pool, struct ash_msgpool_stats *out);

/* Writes them as text: 0, -EINVAL or the negative errno of the write. */
int ash_msgpool_dump(const struct ash_msgpool *pool, int fd);

/* ---- messages ---- */

/*
 * A message with one reference, a copy of the target and of the body. `body` NULL: `body_len` bytes
 * that are the caller's to fill in. NULL with EINVAL (no pool, or a `path` that is NULL and has
 * bytes), ENAMETOOLONG (a target beyond ASH_MSG_TARGET or the pool's room less 32), ENOBUFS (at the
 * pool's capacity), ENOMEM. Cost: about 10 ns and copying.
 */
struct ash_msg *ash_msg_new(struct ash_msgpool *pool, const char *path, size_t path_len,
                            const void *body, size_t body_len);

/* One reference more, for another owner who frees it as well. */
void ash_msg_ref(struct ash_msg *msg);

/* Gives a reference up; with the last one the message goes back to its pool. NULL is nothing. */
void ash_msg_free(struct ash_msg *msg);

/*
 * Makes it a new message, in the same memory: another id, no metadata. 0; -EBUSY when there are
 * further references; the errors of ash_msg_new, and the message is as it was.
 */
int ash_msg_reset(struct ash_msg *msg, const char *path, size_t path_len, const void *body,
                  size_t body_len);

/*
 * Makes `buf` the body; the message drops it in the end. 0; -EBUSY when there are further
 * references, and then `buf` is the caller's still.
 */
int ash_msg_set_buf(struct ash_msg *msg, struct ash_buf buf);

/* ---- what a message has ---- */

/* Its number: no other message of the process, of any pool, has the same. Never 0. */
uint64_t ash_msg_id(const struct ash_msg *msg);

/* What it belongs to: its own id until another is set. */
uint64_t ash_msg_trace(const struct ash_msg *msg);
void ash_msg_set_trace(struct ash_msg *msg, uint64_t trace);

/* The pool's time when it was made; 0 if that was never set. */
int64_t ash_msg_time(const struct ash_msg *msg);

/* The body and its length; NULL when there is none. */
void *ash_msg_body(const struct ash_msg *msg, size_t *len);

/* The body as a buf that is the message's: to be sliced or shared. NULL when it is not one. */
const struct ash_buf *ash_msg_buf(const struct ash_msg *msg);

/*
 * The target and its parts. Of subsystem://path?query each part may be missing and has no bytes
 * then; ash_msg_route is all but the query, which is what ash_router_match takes.
 */
const char *ash_msg_target(const struct ash_msg *msg, size_t *len);
const char *ash_msg_route(const struct ash_msg *msg, size_t *len);
const char *ash_msg_subsystem(const struct ash_msg *msg, size_t *len);
const char *ash_msg_path(const struct ash_msg *msg, size_t *len);
const char *ash_msg_query(const struct ash_msg *msg, size_t *len);

/* The value of name=value in the query, NULL when there is no such name. */
const char *ash_msg_query_value(const struct ash_msg *msg, const char *name, size_t *len);

/*
 * Metadata: up to `slots` values of 64 bits, under numbers of the program's choice. 0, -ENOSPC when
 * all slots have other numbers; 0 or -ENOENT.
 */
int ash_msg_set_meta(struct ash_msg *msg, uint32_t key, uint64_t value);
int ash_msg_meta(const struct ash_msg *msg, uint32_t key, uint64_t *value);

/* Writes a line about the message: 0, or the negative errno of the write. */
int ash_msg_dump(const struct ash_msg *msg, int fd);

#ifdef __cplusplus
}
#endif

#endif
