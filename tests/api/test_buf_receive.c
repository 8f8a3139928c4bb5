/*
 * Bufs at work: a service that receives length-prefixed messages over a socket, hands the fields it needs to a log, puts
 * a header in front of each answer and sends them with one sendmsg. From receive to commit no byte is copied, which the
 * copied-bytes counter proves. Then the same with a message that lies in two blocks.
 */
#include "ashlar/ashlar.h"
#include "tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { MESSAGES = 2000, SEGMENT = 16384, BODY_MAX = 300, PREFIX = 4, HEADER = 16 };

static uint64_t copied(void)
{
    struct ash_buf_stats s;
    ash_buf_stats(&s);
    return s.copied_bytes;
}

static uint64_t live(void)
{
    struct ash_buf_stats s;
    ash_buf_stats(&s);
    return s.live;
}

static size_t body_len(int i)
{
    return 1 + (size_t)i * 7 % BODY_MAX;
}

/* What the other side sends: message `i` is its length and that many bytes (i + k). */
static size_t put_message(unsigned char *to, int i)
{
    size_t n = body_len(i);
    uint32_t prefix = htonl((uint32_t)n);
    memcpy(to, &prefix, sizeof prefix);
    for (size_t k = 0; k < n; k++)
        to[PREFIX + k] = (unsigned char)(i + (int)k);
    return PREFIX + n;
}

/* The first `n` bytes of message `i`'s body. */
static int is_message(const struct ash_bufchain *body, int i, size_t n)
{
    size_t wrong = body->len != n;
    for (size_t k = 0; k < body->len; k++)
        wrong += *(const unsigned char *)ash_bufchain_peek(body, k, 1, NULL) != (unsigned char)(i + (int)k);
    return wrong == 0;
}

/*
 * Reads what there is into the segment's room and adds it to what has come. A segment that is nearly full is left to the
 * values that refer to it; a message may begin in one and end in the next.
 */
static ssize_t receive(int fd, struct ash_buf *segment, struct ash_bufchain *in)
{
    if (segment->tailroom < SEGMENT / 8) {
        ash_buf_drop(segment);
        if (ash_buf_alloc(segment, 0, 0) != 0 || ash_buf_reserve(segment, SEGMENT) == NULL)
            abort();
    }
    struct ash_buf came;
    ssize_t n = read(fd, ash_buf_reserve(segment, 1), segment->tailroom);
    if (n <= 0)
        return n;
    ash_buf_append(segment, (size_t)n);
    came = *segment;
    ash_buf_split(&came, (size_t)n, segment); /* the segment keeps the room */
    ash_bufchain_push(in, &came);
    return n;
}

/* Takes one whole message off the front of `in`. */
static int take_message(struct ash_bufchain *in, struct ash_bufchain *body)
{
    size_t n = 0;
    if (in->len < PREFIX)
        return 0;
    for (size_t i = 0; i < PREFIX; i++)
        n = n << 8 | *(const unsigned char *)ash_bufchain_peek(in, i, 1, NULL);
    if (in->len - PREFIX < n)
        return 0;
    ash_bufchain_slice(in, PREFIX, n, body);
    ash_bufchain_consume(in, PREFIX + n);
    return 1;
}

/* An answer is a header in a small block of its own and the body as it was received. */
static void commit(struct ash_bufchain *out, struct ash_bufchain *body)
{
    struct ash_buf header;
    if (ash_buf_alloc(&header, 0, HEADER) != 0)
        abort();
    uint32_t prefix = htonl((uint32_t)body->len);
    memcpy(ash_buf_prepend(&header, sizeof prefix), &prefix, sizeof prefix);
    ash_bufchain_push(out, &header);
    ash_bufchain_join(out, body);
}

/* Sends all of the chain, as much at a time as the socket takes. */
static size_t flush(int fd, struct ash_bufchain *out)
{
    size_t sent = 0;
    while (out->len > 0) {
        struct iovec iov[64];
        ssize_t n = writev(fd, iov, (int)ash_bufchain_iovec(out, iov, 64));
        if (n <= 0)
            return sent;
        ash_bufchain_consume(out, (size_t)n);
        sent += (size_t)n;
    }
    return sent;
}

static void test_service(void)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
        abort();
    static unsigned char stream[MESSAGES * (PREFIX + BODY_MAX)], back[sizeof stream];
    size_t total = 0, sent = 0, seen = 0, answered = 0;
    for (int i = 0; i < MESSAGES; i++)
        total += put_message(stream + total, i);

    uint64_t before = copied();
    struct ash_buf segment = {0};
    struct ash_bufchain in = {0}, out = {0};
    static struct ash_bufchain kept[MESSAGES];
    int messages = 0, wrong = 0, pieces = 0;
    while (messages < MESSAGES) {
        if (sent < total) {
            size_t part = total - sent < 8000 ? total - sent : 8000;
            ssize_t n = write(fds[0], stream + sent, part);
            sent += n > 0 ? (size_t)n : 0;
        }
        if (receive(fds[1], &segment, &in) <= 0)
            break;
        struct ash_bufchain body = {0};
        while (messages < MESSAGES && take_message(&in, &body)) {
            wrong += !is_message(&body, messages, body_len(messages));
            pieces += (int)body.count;
            ash_bufchain_slice(&body, 0, body.len / 2, &kept[messages]); /* the log's own */
            commit(&out, &body);
            messages++;
        }
        answered += flush(fds[1], &out);
        for (ssize_t n; seen < answered && (n = read(fds[0], back + seen, answered - seen)) > 0;)
            seen += (size_t)n;
    }
    is_int(messages, MESSAGES, "every message came");
    is_int(wrong, 0, "whole");
    ok(pieces > MESSAGES && pieces < MESSAGES + 100, "some in two segments: %d pieces", pieces);
    ok(seen == total && memcmp(stream, back, total) == 0, "and every answer went, %zu bytes", total);
    is_int((long long)(copied() - before), 0, "bytes copied from receive to commit");
    int damaged = 0;
    for (int i = 0; i < MESSAGES; i++) {
        damaged += !is_message(&kept[i], i, body_len(i) / 2);
        ash_bufchain_drop(&kept[i]);
    }
    is_int(damaged, 0, "what the log keeps is unharmed by what was received later");
    ash_buf_drop(&segment);
    ash_bufchain_drop(&in);
    ash_bufchain_drop(&out);
    is_int((long long)live(), 0, "and nothing is left when it is dropped");
    close(fds[0]);
    close(fds[1]);
}

/* Bytes arrive in segments; a header that lies in two of them is read through the chain. */
static void test_segments(void)
{
    struct ash_bufchain in = {0}, message = {0};
    static unsigned char stream[3 * SEGMENT];
    for (size_t i = 0; i < sizeof stream; i++)
        stream[i] = (unsigned char)(i * 31);
    for (size_t at = 0; at < sizeof stream; at += SEGMENT) {
        struct ash_buf segment;
        if (ash_buf_alloc(&segment, SEGMENT, 0) != 0)
            abort();
        memcpy(segment.data, stream + at, SEGMENT); /* stands for read() */
        ash_bufchain_push(&in, &segment);
    }
    uint64_t before = copied();
    unsigned char scratch[32];
    const unsigned char *header = ash_bufchain_peek(&in, SEGMENT - 10, 20, scratch);
    ok(header == scratch && memcmp(header, stream + SEGMENT - 10, 20) == 0, "a header across two segments");
    is_int((long long)(copied() - before), 20, "is copied to be read, and counted");
    header = ash_bufchain_peek(&in, 100, 20, scratch);
    ok(header != scratch && memcmp(header, stream + 100, 20) == 0 && copied() - before == 20,
       "one that lies in one piece is not");
    is_int(ash_bufchain_slice(&in, SEGMENT - 10, SEGMENT + 20, &message), 0, "a message across three segments");
    ash_bufchain_drop(&in);
    struct iovec iov[4];
    unsigned n = ash_bufchain_iovec(&message, iov, 4);
    size_t at = SEGMENT - 10, wrong = 0;
    for (unsigned i = 0; i < n; at += iov[i].iov_len, i++)
        wrong += memcmp(iov[i].iov_base, stream + at, iov[i].iov_len) != 0;
    ok(n == 3 && wrong == 0 && at == 2 * SEGMENT + 10, "is three iovecs, and outlives the segments' chain");
    is_int((long long)(copied() - before), 20, "without a copy");
    unsigned char *whole = ash_bufchain_pullup(&message, message.len);
    ok(whole != NULL && message.count == 1 && memcmp(whole, stream + SEGMENT - 10, SEGMENT + 20) == 0,
       "made one piece for who needs that");
    ash_bufchain_drop(&message);
    is_int((long long)live(), 0, "nothing is left");
}

int main(void)
{
    test_service();
    test_segments();
    return tap_done();
}
