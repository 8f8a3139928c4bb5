/*
 * Chains of bufs: every function, what it answers at the edges, and that pushes and pops at both ends keep the order.
 */
#include "bufs.h"

#include <errno.h>

static struct ash_bufchain chain(const char *const *parts)
{
    struct ash_bufchain c = {0};
    for (; *parts != NULL; parts++) {
        struct ash_buf b = text(*parts, 0);
        if (ash_bufchain_push(&c, &b) != 0)
            abort();
    }
    return c;
}

static int chain_holds(const struct ash_bufchain *c, const char *s)
{
    static char flat[1 << 16];
    size_t at = 0;
    struct iovec iov[256];
    unsigned n = ash_bufchain_iovec(c, iov, 256);
    for (unsigned i = 0; i < n; i++) {
        memcpy(flat + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    return c->len == strlen(s) && at == c->len && memcmp(flat, s, at) == 0;
}

static void test_chain(void)
{
    uint64_t live = stats().live, copied = stats().copied_bytes;
    struct ash_bufchain c = chain((const char *const[]){"one", "two", "three", NULL}), tail = {0}, part = {0};
    struct ash_buf b = text("zero", 0);
    ok(c.len == 11 && c.count == 3 && chain_holds(&c, "onetwothree"), "a chain of three");
    is_int(ash_bufchain_push_front(&c, &b), 0, "one more in front");
    ok(chain_holds(&c, "zeroonetwothree") && is_empty(&b), "moves the value");
    struct iovec iov[2];
    is_int(ash_bufchain_iovec(&c, iov, 2), 2, "no more iovecs than there is room for");
    is_int(ash_bufchain_slice(&c, 5, 6, &part), 0, "slice");
    ok(chain_holds(&part, "netwot") && part.count == 3, "across three");
    is_int(ash_bufchain_slice(&c, 15, 0, &part), 0, "slice of nothing");
    is_int(ash_bufchain_slice(&c, 15, 1, &part), -EINVAL, "slice beyond the end");
    is_int(ash_bufchain_slice(&c, 0, 1, &c), -EINVAL, "slice to itself");
    is_int(ash_bufchain_split(&c, 8, &tail), 0, "split in the middle of a value");
    ok(chain_holds(&c, "zeroonet") && chain_holds(&tail, "wothree"), "in two");
    is_int(ash_bufchain_split(&c, 4, &tail), 0, "split between values");
    ok(chain_holds(&c, "zero") && chain_holds(&tail, "wothreeonet"), "adds to what is there");
    is_int(ash_bufchain_split(&c, 4, &tail), 0, "split at the end: nothing moves");
    is_int(ash_bufchain_split(&c, 5, &tail), -EINVAL, "split beyond the end");
    is_int(ash_bufchain_split(&c, 1, &c), -EINVAL, "split to itself");
    is_int(ash_bufchain_join(&c, &tail), 0, "join");
    ok(chain_holds(&c, "zerowothreeonet") && tail.bufs == NULL && tail.len == 0, "moves all");
    is_int(ash_bufchain_join(&c, &c), -EINVAL, "join with itself");
    is_int(ash_bufchain_join(&c, &tail), 0, "join with nothing");
    ash_bufchain_consume(&c, 0);
    ash_bufchain_consume(&c, 5);
    ok(chain_holds(&c, "othreeonet"), "consume");
    is_int(ash_bufchain_pop(&c, &b), 0, "pop");
    ok(holds(&b, "o") && c.len == 9, "takes a value");
    is_int((long long)(stats().copied_bytes - copied), 0, "none of it copied a byte");

    ash_bufchain_push_front(&c, &b);
    const char *p = ash_bufchain_pullup(&c, 8);
    ok(p != NULL && memcmp(p, "othreeon", 8) == 0 && chain_holds(&c, "othreeonet") && c.bufs[c.first].len == 8,
       "pullup in the middle of a value");
    is_ptr(ash_bufchain_pullup(&c, 8), p, "a second time it is there");
    p = ash_bufchain_pullup(&c, 10);
    ok(p != NULL && c.count == 1 && chain_holds(&c, "othreeonet"), "pullup of all");
    errno = 0;
    ok(ash_bufchain_pullup(&c, 11) == NULL && errno == EINVAL, "of more than that");
    char scratch[8];
    errno = 0;
    ok(ash_bufchain_peek(&c, 9, 2, scratch) == NULL && errno == EINVAL, "peek beyond the end");
    is_ptr(ash_bufchain_peek(&c, 10, 0, scratch), scratch, "peek at nothing");
    ash_bufchain_consume(&c, 10);
    ok(c.len == 0 && c.count == 0 && ash_bufchain_pop(&c, &b) == -ENOENT, "all consumed");
    ok(ash_bufchain_pullup(&c, 0) == NULL, "nothing is nowhere");
    ash_bufchain_drop(&c);
    ash_bufchain_drop(&c);
    ok(chain_holds(&part, "netwot"), "the slice has its values still");
    ash_bufchain_drop(&part);
    is_int((long long)(stats().live - live), 0, "nothing is left");
}

static void test_chain_pushes(void)
{
    struct ash_bufchain c = {0};
    struct ash_buf b = text("abcdef", 0), tail, none = {0};
    ash_buf_split(&b, 3, &tail);
    ash_bufchain_push(&c, &b);
    ash_bufchain_push(&c, &tail);
    ok(c.count == 1 && chain_holds(&c, "abcdef") && ash_buf_is_alone(c.bufs), "neighbours are joined");
    is_int(ash_bufchain_push(&c, &none) + ash_bufchain_push_front(&c, &none), 0, "the empty value");
    struct ash_buf empty = text("", 0);
    ash_bufchain_push(&c, &empty);
    empty = text("", 0);
    ash_bufchain_push_front(&c, &empty);
    ok(c.count == 1 && is_empty(&empty), "is dropped, and a block without bytes");
    ash_bufchain_drop(&c);
    /* The window of values moves through the array, both ways. */
    int wrong = 0, pushed = 0, popped = 0;
    for (int i = 0; i < 20000; i++) {
        b = text("xxxx", 0);
        memcpy(b.data, &pushed, 4);
        pushed++;
        ash_bufchain_push(&c, &b);
        if (i % 7 != 0) {
            int got;
            ash_bufchain_pop(&c, &b);
            memcpy(&got, b.data, 4);
            wrong += got != popped;
            if (i % 5 == 0)
                ash_bufchain_push_front(&c, &b);
            else
                popped++;
            ash_buf_drop(&b);
        }
        wrong += c.len != 4 * (size_t)(pushed - popped);
    }
    is_int(wrong, 0, "in order, whichever end is used");
    ok(c.room < 4 * c.count + 16, "the array is as large as it has to be: %u for %u", c.room, c.count);
    ash_bufchain_drop(&c);
}

int main(void)
{
    test_chain();
    test_chain_pushes();
    return tap_done();
}
