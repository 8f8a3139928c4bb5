/* The parts of a message's target, subsystem://path?query, found when the first is asked for. */
#include "msg/msg.h"
#include "msg/words.h"

#include <string.h>

uint64_t msg_parts_find(const char *target, size_t len)
{
    size_t end = text_find(target, len, '?'), scheme = text_find(target, end, ':'), path = 0;
    if (end - scheme >= 3 && memcmp(target + scheme, "://", 3) == 0)
        path = scheme + 3;
    else
        scheme = 0;
    return (uint64_t)scheme | (uint64_t)path << 16 | (uint64_t)end << 32 |
           (uint64_t)TARGET_PARSED << 48;
}

ASH_API const char *ash_msg_target(const struct ash_msg *m, size_t *len)
{
    *len = m->target_len;
    return msg_target(m);
}

ASH_API const char *ash_msg_route(const struct ash_msg *m, size_t *len)
{
    *len = msg_parts(m).end;
    return msg_target(m);
}

ASH_API const char *ash_msg_subsystem(const struct ash_msg *m, size_t *len)
{
    *len = msg_parts(m).subsystem;
    return msg_target(m);
}

ASH_API const char *ash_msg_path(const struct ash_msg *m, size_t *len)
{
    struct msg_parts parts = msg_parts(m);
    *len = parts.end - parts.path;
    return msg_target(m) + parts.path;
}

ASH_API const char *ash_msg_query(const struct ash_msg *m, size_t *len)
{
    size_t end = msg_parts(m).end, mark = end < m->target_len;
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
