/* The parts of a message's target, subsystem://path?query, found when the first is asked for. */
#include "msg/msg.h"

#include <string.h>

/* Offsets in the target. */
struct parts {
    size_t subsystem; /* its end */
    size_t path;
    size_t end; /* of the path; behind it, if there is more, a question mark */
};

static ASH_NOINLINE uint64_t parts_find(const char *target, size_t len)
{
    const char *query = memchr(target, '?', len);
    size_t end = query != NULL ? (size_t)(query - target) : len;
    const char *colon = memchr(target, ':', end);
    size_t scheme = colon != NULL ? (size_t)(colon - target) : end, path = 0;
    if (end - scheme >= 3 && memcmp(target + scheme, "://", 3) == 0)
        path = scheme + 3;
    else
        scheme = 0;
    return (uint64_t)scheme | (uint64_t)path << 16 | (uint64_t)end << 32 |
           (uint64_t)TARGET_PARSED << 48;
}

/* What a store of another thread says is what this one would find. */
ASH_INLINE struct parts parts_of(const struct ash_msg *m)
{
    uint64_t parts = load_relaxed(&m->parts);
    if (ASH_UNLIKELY(parts == 0)) {
        parts = parts_find(msg_target(m), m->target_len);
        store_relaxed(&((struct ash_msg *)(uintptr_t)m)->parts, parts);
    }
    return (struct parts){parts & 0xffff, parts >> 16 & 0xffff, parts >> 32 & 0xffff};
}

ASH_API const char *ash_msg_target(const struct ash_msg *m, size_t *len)
{
    *len = m->target_len;
    return msg_target(m);
}

ASH_API const char *ash_msg_route(const struct ash_msg *m, size_t *len)
{
    *len = parts_of(m).end;
    return msg_target(m);
}

ASH_API const char *ash_msg_subsystem(const struct ash_msg *m, size_t *len)
{
    *len = parts_of(m).subsystem;
    return msg_target(m);
}

ASH_API const char *ash_msg_path(const struct ash_msg *m, size_t *len)
{
    struct parts parts = parts_of(m);
    *len = parts.end - parts.path;
    return msg_target(m) + parts.path;
}

ASH_API const char *ash_msg_query(const struct ash_msg *m, size_t *len)
{
    size_t end = parts_of(m).end, mark = end < m->target_len;
    *len = m->target_len - end - mark;
    return msg_target(m) + end + mark;
}

ASH_API const char *ash_msg_query_value(const struct ash_msg *m, const char *name, size_t *len)
{
    size_t left, name_len = strlen(name);
    const char *at = ash_msg_query(m, &left);
    for (;;) {
        const char *next = memchr(at, '&', left);
        size_t n = next != NULL ? (size_t)(next - at) : left;
        if (n >= name_len && memcmp(at, name, name_len) == 0 &&
            (n == name_len || at[name_len] == '=')) {
            size_t value = size_min(name_len + 1, n);
            *len = n - value;
            return at + value;
        }
        if (next == NULL)
            return NULL;
        left -= n + 1;
        at = next + 1;
    }
}
