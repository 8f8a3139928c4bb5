/*
 * What the tests of bufs share: bufs that hold a text.
 */
#ifndef ASH_TESTS_BUFS_H
#define ASH_TESTS_BUFS_H

#include "ashlar/ashlar.h"
#include "tap.h"

#include <stdlib.h>

static struct ash_buf_stats stats(void)
{
    struct ash_buf_stats s;
    ash_buf_stats(&s);
    return s;
}

static struct ash_buf text(const char *s, size_t headroom)
{
    struct ash_buf b;
    if (ash_buf_alloc(&b, strlen(s), headroom) != 0)
        abort();
    memcpy(b.data, s, b.len);
    return b;
}

static int holds(const struct ash_buf *b, const char *s)
{
    return b->len == strlen(s) && memcmp(b->data, s, b->len) == 0;
}

static int is_empty(const struct ash_buf *b)
{
    return b->data == NULL && b->len == 0 && b->owner == NULL && b->refs == 0;
}

#endif
