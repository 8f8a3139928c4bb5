/* Messages: made, shared, given back. See msg/msg.h for what one looks like. */
#include "msg/msg.h"

#include "base/fmt.h"
#include "os/check.h"
#include "os/os_file.h"

#include <errno.h>
#include <string.h>

enum { ID_BITS = 24 }; /* of an id that a thread counts itself */

/* The thread's next id. Where its low bits are 0 the thread has none left, or never had any. */
static ASH_TLS uint64_t id_next;
static _Atomic(uint64_t) id_ranges; /* atomic: how many were handed out */

static ASH_NOINLINE uint64_t id_range(void)
{
    return (add_relaxed(&id_ranges, 1) + 1) << ID_BITS | 1;
}

/* Unique; a locked instruction in 16 million. What is left of ended threads' ranges is lost. */
ASH_INLINE uint64_t id_take(void)
{
    uint64_t id = id_next;
    if (ASH_UNLIKELY((id & ((1u << ID_BITS) - 1)) == 0))
        id = id_range();
    id_next = id + 1;
    return id;
}

enum { COPY_NEAR = 64 }; /* bytes up to which there is no call */

/* `n` bytes, from `half` to twice as many, as two copies that overlap; `half` is a constant. */
ASH_INLINE void copy_ends(char *to, const char *from, size_t n, size_t half)
{
    struct chunk16 {
        uint64_t word[2];
    } head, tail;
    memcpy(&head, from, half);
    memcpy(&tail, from + n - half, half);
    memcpy(to, &head, half);
    memcpy(to + n - half, &tail, half);
}

/* memcpy, without a call where there are few bytes. */
ASH_INLINE void copy_bytes(char *to, const char *from, size_t n)
{
    if (n > COPY_NEAR)
        memcpy(to, from, n);
    else if (n > 32) {
        copy_ends(to, from, 32, 16);
        copy_ends(to + n - 32, from + n - 32, 32, 16);
    } else if (n >= 16)
        copy_ends(to, from, n, 16);
    else if (n >= 8)
        copy_ends(to, from, n, 8);
    else if (n >= 4)
        copy_ends(to, from, n, 4);
    else if (n != 0) {
        to[0] = from[0];
        to[n / 2] = from[n / 2];
        to[n - 1] = from[n - 1];
    }
}

/* ---- making them ---- */

/* 0, or why there can be no such message. */
ASH_INLINE int message_refuse(const struct ash_msgpool *pool, const char *path, size_t path_len)
{
    if (path == NULL && path_len > 0)
        return -EINVAL;
    return path_len > pool->target_most ? -ENAMETOOLONG : 0;
}

/* Makes room for a body behind a target of that length; `buf` is the one it needs, if any. */
static ASH_NOINLINE int body_external(struct ash_msgpool *pool, struct ash_buf *buf, size_t len)
{
    int status = ash_buf_alloc(buf, len, 0);
    if (status == 0)
        add_relaxed(&pool->externals, 1);
    return status;
}

ASH_INLINE bool body_fits(const struct ash_msgpool *pool, size_t path_len, size_t body_len)
{
    return align_up(path_len, MSG_ALIGN) + body_len <= pool->room && body_len <= pool->room;
}

/* Fills a message in; nothing can fail any more. `buf` NULL: the body fits. */
ASH_INLINE void message_fill(struct ash_msgpool *pool, struct ash_msg *m, const char *path,
                             size_t path_len, const void *body, size_t body_len,
                             const struct ash_buf *buf)
{
    char *target = (char *)m + pool->at;
    m->id = id_take();
    m->trace = m->id;
    m->time_ns = load_relaxed(&pool->now_ns);
    store_relaxed(&m->parts, 0);
    m->target_len = (uint16_t)path_len;
    m->slots = 0;
    m->external = buf != NULL;
    copy_bytes(target, path, path_len);
    m->body_len = body_len;
    m->body = NULL;
    if (buf != NULL) {
        *msg_buf(m) = *buf;
        m->body = buf->data;
    } else if (body_len > 0)
        m->body = target + align_up(path_len, MSG_ALIGN);
    if (body != NULL)
        copy_bytes(m->body, body, body_len);
}

/* A message whose body is a buf. */
static ASH_NOINLINE struct ash_msg *message_new_external(struct ash_msgpool *pool, const char *path,
                                                         size_t path_len, const void *body,
                                                         size_t body_len)
{
    struct ash_buf buf;
    int status = body_external(pool, &buf, body_len);
    if (status != 0) {
        errno = -status;
        return NULL;
    }
    struct ash_msg *m = ash_pool_get(pool->objects);
    if (m == NULL) {
        ash_buf_drop(&buf);
        return NULL;
    }
    message_fill(pool, m, path, path_len, body, body_len, &buf);
    store_relaxed(&m->refs, 1);
    return m;
}

static ASH_NOINLINE struct ash_msg *message_new_slow(struct ash_msgpool *pool, const char *path,
                                                     size_t path_len, const void *body,
                                                     size_t body_len)
{
    int status = pool == NULL ? -EINVAL : message_refuse(pool, path, path_len);
    if (ASH_UNLIKELY(status != 0)) {
        errno = -status;
        return NULL;
    }
    if (ASH_UNLIKELY(!body_fits(pool, path_len, body_len)))
        return message_new_external(pool, path, path_len, body, body_len);
    struct ash_msg *m = ash_pool_get(pool->objects);
    if (m == NULL)
        return NULL;
    message_fill(pool, m, path, path_len, body, body_len, NULL);
    store_relaxed(&m->refs, 1);
    return m;
}

/* A message that the thread has already; NULL: that is to be asked of the pool. */
#ifdef ASH_POOL_INLINE
ASH_INLINE struct ash_msg *message_near(struct ash_msgpool *pool)
{
    struct ash_pool_cache *cache = ash_pool_cache_self(pool->objects);
    uint64_t word = ash_pool_cache_word(cache);
    return (uint16_t)word == 0 ? NULL : ash_pool_cache_pop(cache, word);
}
#else
ASH_INLINE struct ash_msg *message_near(struct ash_msgpool *pool)
{
    (void)pool;
    return NULL;
}
#endif

/*
 * The short way, for what is copied without a call: with no call but those at its end it needs no
 * registers saved, which were 3 of 14 ns.
 */
ASH_API struct ash_msg *ash_msg_new(struct ash_msgpool *pool, const char *path, size_t path_len,
                                    const void *body, size_t body_len)
{
    struct ash_msg *m;
    if (ASH_LIKELY(pool != NULL && path != NULL && path_len <= COPY_NEAR &&
                   body_len <= COPY_NEAR) &&
        ASH_LIKELY(path_len <= pool->target_most && body_fits(pool, path_len, body_len)) &&
        ASH_LIKELY((m = message_near(pool)) != NULL)) {
        message_fill(pool, m, path, path_len, body, body_len, NULL);
        store_relaxed(&m->refs, 1);
        return m;
    }
    return message_new_slow(pool, path, path_len, body, body_len);
}

ASH_API int ash_msg_reset(struct ash_msg *m, const char *path, size_t path_len, const void *body,
                          size_t body_len)
{
    struct ash_msgpool *pool = m->pool;
    struct ash_buf buf;
    int status = message_refuse(pool, path, path_len);
    if (status != 0)
        return status;
    if (load_acquire(&m->refs) != 1) /* what other owners did; pairs with ash_msg_free */
        return -EBUSY;
    bool fits = body_fits(pool, path_len, body_len);
    if (!fits && (status = body_external(pool, &buf, body_len)) != 0)
        return status;
    struct ash_buf old = {0};
    if (m->external)
        old = *msg_buf(m);
    message_fill(pool, m, path, path_len, body, body_len, fits ? NULL : &buf);
    ash_buf_drop(&old);
    return 0;
}

ASH_API int ash_msg_set_buf(struct ash_msg *m, struct ash_buf buf)
{
    if (load_acquire(&m->refs) != 1) /* as above */
        return -EBUSY;
    struct ash_buf old = {0};
    if (m->external)
        old = *msg_buf(m);
    *msg_buf(m) = buf;
    m->external = 1;
    m->body = buf.data;
    m->body_len = buf.len;
    ash_buf_drop(&old);
    return 0;
}

/* ---- references ---- */

ASH_API void ash_msg_ref(struct ash_msg *m)
{
    if (ASH_UNLIKELY(add_relaxed(&m->refs, 1) == 0))
        fatal("reference to a freed message %p", (void *)m);
}

/* Gives a reference up; true: it was the last, and the message is to go back. */
ASH_INLINE bool message_unref(struct ash_msg *m)
{
    /* acquire: what the owners before did with it, who gave theirs up; pairs with the release */
    if (ASH_UNLIKELY(load_acquire(&m->refs) != 1)) {
        uint32_t before = sub_acq_rel(&m->refs, 1);
        if (before == 0)
            fatal("double free of message %p", (void *)m);
        if (before > 1)
            return false;
    } else
        store_relaxed(&m->refs, 0);
    if (ASH_UNLIKELY(m->external))
        ash_buf_drop(msg_buf(m));
    return true;
}

static ASH_NOINLINE void message_free_slow(struct ash_msg *m)
{
    if (message_unref(m))
        ash_pool_put(m->pool->objects, m);
}

ASH_API void ash_msg_free(struct ash_msg *m)
{
    if (ASH_UNLIKELY(m == NULL))
        return;
    /* acquire: as of message_unref */
    if (ASH_UNLIKELY(load_acquire(&m->refs) != 1 || m->external)) {
        message_free_slow(m);
        return;
    }
    store_relaxed(&m->refs, 0);
    ash_pool_put(m->pool->objects, m);
}

enum { FREED_TOGETHER = 16 };

void msgs_free(struct ash_msg *const *msgs, unsigned n)
{
    void *gone[FREED_TOGETHER];
    struct ash_msgpool *pool = NULL;
    unsigned k = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!message_unref(msgs[i]))
            continue;
        if (k != 0 && (msgs[i]->pool != pool || k == FREED_TOGETHER)) {
            ash_pool_put_bulk(pool->objects, gone, k);
            k = 0;
        }
        pool = msgs[i]->pool;
        gone[k++] = msgs[i];
    }
    if (k != 0)
        ash_pool_put_bulk(pool->objects, gone, k);
}

/* ---- what it has ---- */

ASH_API uint64_t ash_msg_id(const struct ash_msg *m)
{
    return m->id;
}

ASH_API uint64_t ash_msg_trace(const struct ash_msg *m)
{
    return m->trace;
}

ASH_API void ash_msg_set_trace(struct ash_msg *m, uint64_t trace)
{
    m->trace = trace;
}

ASH_API int64_t ash_msg_time(const struct ash_msg *m)
{
    return m->time_ns;
}

ASH_API void *ash_msg_body(const struct ash_msg *m, size_t *len)
{
    *len = m->body_len;
    return m->body;
}

ASH_API const struct ash_buf *ash_msg_buf(const struct ash_msg *m)
{
    return m->external ? msg_buf(m) : NULL;
}

ASH_API int ash_msg_set_meta(struct ash_msg *m, uint32_t key, uint64_t value)
{
    unsigned i = 0;
    while (i < m->slots && m->slot[i].key != key)
        i++;
    if (i == m->slots) {
        if (i == m->pool->slots)
            return -ENOSPC;
        m->slot[i].key = key;
        m->slots++;
    }
    m->slot[i].value = value;
    return 0;
}

ASH_API int ash_msg_meta(const struct ash_msg *m, uint32_t key, uint64_t *value)
{
    for (unsigned i = 0; i < m->slots; i++)
        if (m->slot[i].key == key) {
            *value = m->slot[i].value;
            return 0;
        }
    return -ENOENT;
}

ASH_API int ash_msg_dump(const struct ash_msg *m, int fd)
{
    char buf[512];
    struct fmt f;
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    fmt_printf(&f, "message %ju of %s: ", m->id, ash_pool_name(m->pool->objects));
    fmt_put(&f, msg_target(m), m->target_len);
    fmt_printf(&f, "  body %zu%s  refs %u  trace %ju  time %jd", m->body_len,
               m->external ? " (buf)" : "", load_relaxed(&m->refs), m->trace, m->time_ns);
    for (unsigned i = 0; i < m->slots; i++)
        fmt_printf(&f, "  %u=%ju", m->slot[i].key, m->slot[i].value);
    fmt_put(&f, "\n", 1);
    return fmt_end(&f);
}
