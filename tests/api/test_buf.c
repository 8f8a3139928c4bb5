/*
 * Bufs in one thread: every function, what it answers at the edges, and that no value ever sees another one's bytes
 * change: random operations on sixty values, each with a plain copy beside it that says what it should hold.
 */
#include "bufs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/wait.h>

static int released;
static void *released_user;

static void release(void *data, void *user)
{
    (void)data;
    released++;
    released_user = user;
}

/* ---- one function after the other ---- */

static void test_alloc(void)
{
    struct ash_buf b;
    uint64_t live = stats().live;
    is_int(ash_buf_alloc(&b, 100, 64), 0, "ash_buf_alloc");
    ok(b.len == 100 && b.headroom == 64 && (uintptr_t)b.data % 64 == 0, "length, headroom, alignment");
    ok(b.tailroom < 128 && ash_buf_is_alone(&b), "the rest of its size class is tailroom");
    memset(b.data, 1, b.len);
    is_int((long long)(stats().live - live), 1, "one block");
    ash_buf_drop(&b);
    ok(is_empty(&b) && stats().live == live, "dropped: the value is empty, the block is back");
    ash_buf_drop(&b);
    ok(stats().live == live, "an empty value may be dropped");
    is_int(ash_buf_alloc(&b, 0, 0), 0, "a block of nothing");
    ok(b.data != NULL && b.len == 0 && stats().live == live + 1, "is a block");
    ash_buf_drop(&b);
    is_int(ash_buf_alloc(&b, 10 << 20, 100000), 0, "a large one");
    ok(b.headroom == UINT16_MAX, "tells of 64 KiB of headroom");
    memset(b.data, 1, b.len);
    unsigned char *data = b.data;
    ok(ash_buf_prepend(&b, 100000) == data - 100000, "and has all of it, being alone");
    ash_buf_drop(&b);
    struct ash_buf same = b;
    is_int(ash_buf_alloc(&b, SIZE_MAX, 1), -ENOMEM, "a length that overflows");
    is_int(ash_buf_alloc(&b, SIZE_MAX - 1, 0), -ENOMEM, "one that overflows with the header");
    is_int(ash_buf_alloc(&b, PTRDIFF_MAX, 0), -ENOMEM, "one beyond all memory");
    ok(memcmp(&same, &b, sizeof b) == 0 && stats().live == live, "leave nothing behind");
}

static void test_wrap(void)
{
    static char memory[] = "the program's own";
    struct ash_buf b, part;
    released = 0;
    is_int(ash_buf_wrap(&b, memory, 17, release, &part), 0, "ash_buf_wrap");
    ok(b.data == (unsigned char *)memory && b.len == 17 && b.tailroom == 0 && b.headroom == 0, "is a view of it");
    part = ash_buf_slice(&b, 4, 7);
    ash_buf_drop(&b);
    ok(released == 0 && holds(&part, "program"), "a slice keeps it");
    ash_buf_trim(&part, 1);
    ok(part.headroom == 0, "what is cut off is no room: the memory is not ours to write");
    memcpy(ash_buf_prepend(&part, 1), "P", 1);
    ok(holds(&part, "Program") && released == 1 && released_user == &part, "prepend copies it, and gives it back");
    is_str(memory, "the program's own", "unchanged");
    ash_buf_drop(&part);
    is_int(released, 1, "once");

    is_int(ash_buf_wrap(&b, memory, 17, NULL, NULL), 0, "memory for ever");
    uint64_t live = stats().live;
    part = ash_buf_slice(&b, 0, 3);
    struct ash_buf copy = ash_buf_share(&part, 5);
    ok(holds(&part, "the") && holds(&copy, "the") && part.owner == NULL && stats().live == live, "has no owner");
    is_int(ash_buf_is_alone(&part), 0, "and nobody is alone with it");
    is_int(ash_buf_unshare(&part), 0, "unshare");
    ok(part.data != (unsigned char *)memory && holds(&part, "the"), "copies");
    ash_buf_drop(&part);
    ash_buf_drop(&copy);
    ash_buf_drop(&b);
    is_int(ash_buf_wrap(&b, NULL, 0, NULL, NULL), 0, "nothing");
    is_int(ash_buf_wrap(&b, NULL, 1, NULL, NULL), -EINVAL, "a byte of nothing");
    is_int(ash_buf_wrap(&b, NULL, 0, release, NULL), -EINVAL, "nothing, to be released");
    is_int(ash_buf_wrap(&b, memory, 0, release, NULL), 0, "no byte of something");
    ash_buf_drop(&b);
    is_int(released, 2, "is released");
}

static void test_slice(void)
{
    struct ash_buf b = text("hello, world", 0);
    struct ash_buf all = ash_buf_slice(&b, 0, 12), none = ash_buf_slice(&b, 12, 0);
    struct ash_buf world = ash_buf_slice(&b, 7, 5), or = ash_buf_slice(&world, 1, 2);
    ok(holds(&all, "hello, world") && holds(&world, "world") && holds(&or, "or"), "slices, and slices of slices");
    ok(none.data == b.data + 12 && none.len == 0, "one of no byte at the end");
    ok(!ash_buf_is_alone(&b) && or.owner == b.owner, "share the owner");
    errno = 0;
    struct ash_buf bad = ash_buf_slice(&b, 13, 0);
    ok(is_empty(&bad) && errno == EINVAL, "from beyond the end: EINVAL");
    errno = 0;
    bad = ash_buf_slice(&b, 12, 1);
    ok(is_empty(&bad) && errno == EINVAL, "one byte too many");
    bad = ash_buf_slice(&b, 1, SIZE_MAX);
    ok(is_empty(&bad), "a length that overflows");
    ash_buf_drop(&b);
    ash_buf_drop(&none);
    ash_buf_drop(&all);
    ash_buf_drop(&world);
    ok(holds(&or, "or") && ash_buf_is_alone(&or), "the last one is alone");
    unsigned char *end = or.data + 2;
    ash_buf_trim(&or, 1);
    ok(or.headroom == 9 && ash_buf_append(&or, 3) == end, "and has all of the block");
    ash_buf_drop(&or);
}

/* A hundred thousand slices of one value, and as deep as slices of slices go. */
static void test_references(void)
{
    enum { MANY = 100000 };
    static struct ash_buf parts[MANY];
    uint64_t live = stats().live, refills = stats().refills;
    struct ash_buf b = text("0123456789", 0);
    for (int i = 0; i < MANY; i++)
        parts[i] = ash_buf_slice(&b, (size_t)i % 10, 1);
    refills = stats().refills - refills;
    ok(refills >= 1 && refills <= MANY / 900, "%llu refills for %d slices", (unsigned long long)refills, MANY);
    int wrong = 0;
    for (int i = 0; i < MANY; i++) {
        struct ash_buf *part = &parts[i * 7919LL % MANY];
        wrong += part->len != 1 || part->data[0] != '0' + i * 7919LL % 10;
        ash_buf_drop(part);
    }
    ok(wrong == 0 && ash_buf_is_alone(&b), "dropped in another order, none is missing");
    for (int i = 0; i < MANY; i++)
        parts[i] = ash_buf_slice(i == 0 ? &b : &parts[i - 1], 0, 10);
    ash_buf_drop(&b);
    for (int i = 0; i < MANY - 1; i++)
        ash_buf_drop(&parts[i]);
    ok(ash_buf_is_alone(&parts[MANY - 1]) && holds(&parts[MANY - 1], "0123456789"), "each the slice of the last");
    refills = stats().refills;
    struct ash_buf each = ash_buf_share(&parts[MANY - 1], 70000);
    for (int i = 0; i < 70000; i++)
        parts[i] = each;
    is_int((long long)(stats().refills - refills), 1, "70,000 values at once");
    for (int i = 0; i < 70000; i++) {
        struct ash_buf part = ash_buf_slice(&parts[i], 1, 2);
        ash_buf_drop(&parts[i]);
        ash_buf_drop(&part);
    }
    ok(ash_buf_is_alone(&parts[MANY - 1]), "each sliced and dropped");
    each = ash_buf_share(&parts[MANY - 1], 0);
    ok(is_empty(&each), "sharing none is the empty value");
    ash_buf_drop(&parts[MANY - 1]);
    is_int((long long)(stats().live - live), 0, "the block is back");
}

static void test_split(void)
{
    struct ash_buf b = text("headtail", 16), tail, none;
    ash_buf_reserve(&b, 8);
    unsigned char *end = b.data + 8;
    is_int(ash_buf_split(&b, 9, &tail), -EINVAL, "split beyond the end");
    is_int(ash_buf_split(&b, 4, &tail), 0, "split");
    ok(holds(&b, "head") && holds(&tail, "tail"), "in two");
    ok(b.headroom == 16 && b.tailroom == 0 && tail.headroom == 0 && tail.tailroom >= 8, "each with the room beside it");
    uint64_t copies = stats().copies;
    ok(ash_buf_append(&tail, 8) == end && ash_buf_prepend(&b, 16) == b.data && stats().copies == copies,
       "which both use in place");
    ash_buf_chop(&tail, 8);
    is_int(tail.tailroom, 0, "what a value that is not alone cuts off is lost");
    ash_buf_trim(&b, 16);
    is_int(ash_buf_join(&tail, &b), -EINVAL, "join in the wrong order");
    is_int(ash_buf_join(&b, &b), -EINVAL, "with itself");
    is_int(ash_buf_join(&b, &tail), 0, "join");
    ok(holds(&b, "headtail") && is_empty(&tail) && ash_buf_is_alone(&b), "is what was split");
    is_int(ash_buf_split(&b, 8, &none), 0, "split at the end");
    ok(none.len == 0 && holds(&b, "headtail"), "leaves no byte");
    is_int(ash_buf_join(&b, &none), 0, "and joins again");
    struct ash_buf other = text("other", 0);
    is_int(ash_buf_join(&b, &other), -EINVAL, "another block's value");
    ash_buf_drop(&other);
    /* stocks that together are more than a value holds */
    for (int i = 0; i < 20; i++) {
        ash_buf_split(&b, 4, &tail);
        for (int k = 0; k < 2000; k++) {
            struct ash_buf part = ash_buf_slice(&tail, 0, 1), part2 = ash_buf_slice(&b, 0, 1);
            ash_buf_drop(&part);
            ash_buf_drop(&part2);
        }
        ash_buf_join(&b, &tail);
    }
    ok(ash_buf_is_alone(&b), "no reference is lost in joins");
    ash_buf_drop(&b);
    ash_buf_split(&b, 0, &tail);
    ok(is_empty(&b) && tail.owner == NULL && tail.len == 0, "nothing splits to nothing");
}

static void test_room(void)
{
    struct ash_buf b = {0};
    uint64_t copied = stats().copied_bytes;
    memcpy(ash_buf_append(&b, 3), "abc", 3);
    ok(holds(&b, "abc") && stats().copied_bytes == copied, "an empty value may be appended to");
    unsigned char *end = b.data + 3;
    ok(ash_buf_append(&b, 0) == end && ash_buf_prepend(&b, 0) == b.data, "by nothing: the end, and the front");
    ok(ash_buf_append(&b, b.tailroom) == end && stats().copied_bytes == copied, "all of the room is used in place");
    ash_buf_chop(&b, b.len - 3);
    struct ash_buf part = ash_buf_slice(&b, 0, 2);
    memcpy(ash_buf_append(&b, 1), "d", 1);
    ok(holds(&b, "abcd") && stats().copied_bytes == copied, "with a slice about, what is its own room still is");
    memcpy(ash_buf_append(&part, 1), "X", 1);
    ok(holds(&part, "abX") && holds(&b, "abcd"), "but the slice has none: it moves out");
    is_int((long long)(stats().copied_bytes - copied), 2, "two bytes are copied");
    ash_buf_drop(&part);
    part = ash_buf_slice(&b, 1, 3);
    memcpy(ash_buf_prepend(&part, 1), "Y", 1);
    ok(holds(&part, "Ybcd") && holds(&b, "abcd"), "as with prepend");
    ash_buf_drop(&part);
    ok(ash_buf_append(&b, SIZE_MAX) == NULL && errno == ENOMEM, "append: too much");
    errno = 0;
    ok(ash_buf_prepend(&b, SIZE_MAX) == NULL && errno == ENOMEM, "prepend: too much");
    ok(ash_buf_reserve(&b, SIZE_MAX - 100) == NULL && ash_buf_prepend(&b, PTRDIFF_MAX) == NULL, "too much again");
    ok(holds(&b, "abcd") && ash_buf_is_alone(&b), "the value is as it was");

    char *room = ash_buf_reserve(&b, 1000);
    ok(room != NULL && b.tailroom >= 1000 && holds(&b, "abcd"), "reserve makes room");
    memcpy(room, "efgh", 4);
    ok(ash_buf_append(&b, 4) == room && holds(&b, "abcdefgh"), "append takes what was filled");
    ash_buf_drop(&b);
}

/* A buffer that is consumed in front and appended to behind stays where it is. */
static void test_stream(void)
{
    struct ash_buf b = {0};
    uint64_t allocs = stats().allocs, copied = stats().copied_bytes;
    unsigned char in = 0, out = 0;
    int wrong = 0;
    for (int i = 0; i < 100000; i++) {
        unsigned char *p = ash_buf_append(&b, 10);
        for (int k = 0; k < 10; k++)
            p[k] = in++;
        for (int k = 0; k < 10 - (i < 20); k++, ash_buf_trim(&b, 1))
            wrong += b.data[0] != out++;
    }
    is_int(wrong, 0, "a stream through one buffer");
    ok(stats().allocs - allocs <= 8, "in %llu blocks", (unsigned long long)(stats().allocs - allocs));
    copied = stats().copied_bytes - copied;
    ok(copied < 1000000, "less than a byte moved for one consumed: %llu", (unsigned long long)copied);
    ash_buf_drop(&b);
    copied = stats().copied_bytes;
    for (int i = 0; i < 100000; i++)
        *(unsigned char *)ash_buf_append(&b, 1) = (unsigned char)i;
    copied = stats().copied_bytes - copied;
    for (int i = 0; i < 100000; i++)
        wrong += b.data[i] != (unsigned char)i;
    ok(wrong == 0 && copied < 300000, "appended byte by byte, 100,000 bytes are copied %.1f times", (double)copied / 1e5);
    ash_buf_drop(&b);
    copied = stats().copied_bytes;
    for (int i = 0; i < 100000; i++)
        *(unsigned char *)ash_buf_prepend(&b, 1) = (unsigned char)i;
    copied = stats().copied_bytes - copied;
    for (int i = 0; i < 100000; i++)
        wrong += b.data[99999 - i] != (unsigned char)i;
    ok(wrong == 0 && copied < 300000, "prepended likewise, %.1f times", (double)copied / 1e5);
    ash_buf_drop(&b);
}

static void test_unshare(void)
{
    struct ash_buf b = text("mine", 8), part = ash_buf_slice(&b, 1, 2);
    struct ash_buf before = b;
    uint64_t copied = stats().copied_bytes;
    ash_buf_drop(&part);
    is_int(ash_buf_unshare(&b), 0, "unshare what is alone");
    ok(b.data == before.data && stats().copied_bytes == copied, "copies nothing");
    part = ash_buf_slice(&b, 1, 2);
    is_int(ash_buf_unshare(&part), 0, "unshare a slice");
    part.data[0] = 'X';
    ok(holds(&part, "Xn") && holds(&b, "mine"), "which may be written then");
    ok(stats().copied_bytes == copied + 2 && ash_buf_is_alone(&part) && ash_buf_is_alone(&b), "at two bytes copied");
    ash_buf_drop(&part);
    ash_buf_drop(&b);
    is_int(ash_buf_unshare(&b), 0, "unshare nothing");
}

static void test_dump(void)
{
    int fds[2];
    char line[512] = "";
    if (pipe(fds) != 0)
        abort();
    struct ash_buf b = text("12345", 64), part = ash_buf_slice(&b, 0, 1);
    struct ash_bufchain c = {0};
    is_int(ash_buf_dump(&b, fds[1]), 0, "ash_buf_dump");
    ssize_t n = read(fds[0], line, sizeof line - 1);
    ok(n > 0 && strstr(line, "buf: 5 bytes") == line && strstr(line, "headroom 64") && strstr(line, "32736 of 32768") &&
           line[n - 1] == '\n',
       "a line with what matters");
    ash_bufchain_push(&c, &part);
    ash_bufchain_push(&c, &b);
    is_int(ash_bufchain_dump(&c, fds[1]), 0, "ash_bufchain_dump");
    n = read(fds[0], line, sizeof line - 1);
    line[n] = '\0';
    ok(strstr(line, "bufchain: 6 bytes in 2 values\nbuf: 1 bytes") == line, "a line, and one for each value");
    close(fds[0]);
    close(fds[1]);
    is_int(ash_buf_dump(&b, fds[1]), -EBADF, "to no descriptor");
    is_int(ash_bufchain_dump(&c, -1), -EBADF, "neither");
    ash_bufchain_drop(&c);
}

static void test_stats(void)
{
    is_int(ash_buf_stats(NULL), -EINVAL, "statistics to nowhere");
    ok(stats().allocs > 0 && stats().wraps > 0, "blocks and wrapped pieces are counted");
    struct ash_buf b;
    uint64_t bytes = stats().live_bytes;
    ash_buf_alloc(&b, 1000, 0);
    ok(stats().live_bytes - bytes == 1000 + b.tailroom, "live_bytes counts a block's room");
    FILE *f = tmpfile();
    if (f == NULL)
        abort();
    static char out[65536];
    static const char *const wants[] = {"\n  bufs ", "\"bufs\": [\n    {\"name\": \"process\", \"allocs\": ",
                                        "ashlar_buf_copied_bytes_total{name=\"process\"}"};
    for (int format = 0; format < 3; format++) {
        if (ftruncate(fileno(f), 0) != 0)
            abort();
        lseek(fileno(f), 0, SEEK_SET);
        ash_stats_dump(fileno(f), (enum ash_format)format);
        ssize_t n = pread(fileno(f), out, sizeof out - 1, 0);
        out[n < 0 ? 0 : n] = '\0';
        ok(strstr(out, wants[format]) != NULL, "bufs are in statistics of format %d", format);
    }
    fclose(f);
    ash_buf_drop(&b);
}

/* ---- misuse ---- */

static void misuse_trim(void)
{
    struct ash_buf b = text("four", 0);
    ash_buf_trim(&b, 5);
    _exit(holds(&b, "four") ? 7 : 8);
}

static void misuse_chop(void)
{
    struct ash_buf b = text("four", 0);
    ash_buf_chop(&b, 5);
    _exit(holds(&b, "four") ? 7 : 8);
}

static void misuse_consume(void)
{
    struct ash_bufchain c = {0};
    ash_bufchain_consume(&c, 1);
    _exit(c.len == 0 ? 7 : 8);
}

/* The block is held by a slice: the double drop touches no freed memory, and takes too much. */
static void misuse_drop(void)
{
    struct ash_buf b = text("four", 0), part = ash_buf_slice(&b, 0, 1), copy = b;
    ash_buf_drop(&b);
    ash_buf_drop(&copy);
    ash_buf_drop(&part);
    _exit(7);
}

static void misused(void (*fn)(void), const char *said, const char *what)
{
    int fds[2];
    char line[256] = "";
    if (pipe(fds) != 0)
        abort();
    pid_t child = fork();
    if (child == 0) {
        dup2(fds[1], STDERR_FILENO);
        fn();
        _exit(9);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (read(fds[0], line, sizeof line - 1) < 0)
        abort();
    close(fds[0]);
    close(fds[1]);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(line, said) == line, "%s is reported", what);
}

static void test_misuse(void)
{
    misused(misuse_trim, "ashlar: trim of 5 bytes of a buf that has 4\n", "trim beyond the end");
    misused(misuse_chop, "ashlar: chop of 5 bytes of a buf that has 4\n", "chop beyond the end");
    misused(misuse_consume, "ashlar: consume of 1 bytes of a buf that has 0\n", "consume beyond the end");
    misused(misuse_drop, "ashlar: double drop of a buf", "a copy dropped too");
}

/* ---- random operations against plain copies ---- */

enum { VALUES = 60, LEN_MAX = 300 };

static struct ash_buf values[VALUES];
static unsigned char want[VALUES][LEN_MAX];
static uint64_t seed;

static unsigned below(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((seed >> 33) % n);
}

static void scribble(unsigned char *at, unsigned char *copy, size_t n)
{
    for (size_t i = 0; i < n; i++)
        at[i] = copy[i] = (unsigned char)below(256);
}

static void grow_value(int i, int front)
{
    struct ash_buf *b = &values[i];
    size_t n = below(40);
    if (b->len + n > LEN_MAX)
        return;
    if (!front) {
        size_t at = b->len;
        if (below(2))
            ash_buf_reserve(b, below(100));
        scribble(ash_buf_append(b, n), want[i] + at, n);
    } else {
        memmove(want[i] + n, want[i], b->len);
        scribble(ash_buf_prepend(b, n), want[i], n);
    }
}

static void make_value(int to, int from)
{
    struct ash_buf *b = &values[from];
    size_t off = below((unsigned)b->len + 1), len = below((unsigned)(b->len - off) + 1);
    if (to == from)
        return;
    ash_buf_drop(&values[to]);
    switch (below(4)) {
    case 0:
        values[to] = ash_buf_slice(b, off, len);
        memcpy(want[to], want[from] + off, len);
        break;
    case 1:
        values[to] = ash_buf_share(b, 1);
        memcpy(want[to], want[from], b->len);
        break;
    case 2:
        ash_buf_split(b, off, &values[to]);
        memcpy(want[to], want[from] + off, values[to].len);
        break;
    default:
        if (ash_buf_alloc(&values[to], len, below(30)) != 0)
            abort();
        scribble(values[to].data, want[to], len);
    }
}

static void change_value(int i)
{
    struct ash_buf *b = &values[i];
    size_t n = below((unsigned)b->len + 1);
    switch (below(5)) {
    case 0:
        ash_buf_trim(b, n);
        memmove(want[i], want[i] + n, b->len);
        break;
    case 1:
        ash_buf_chop(b, n);
        break;
    case 2:
        if (ash_buf_unshare(b) == 0 && b->len > 0)
            scribble(b->data, want[i], b->len);
        break;
    case 3:
        ash_buf_drop(b);
        break;
    default:
        for (int k = 0; k < VALUES; k++) {
            size_t at = b->len, more = values[k].len;
            if (k != i && at + more <= LEN_MAX && ash_buf_join(b, &values[k]) == 0) {
                memcpy(want[i] + at, want[k], more);
                break;
            }
        }
    }
}

static void test_random(uint64_t start)
{
    uint64_t live = stats().live;
    int wrong = 0;
    seed = start;
    for (int step = 0; step < 60000; step++) {
        int i = (int)below(VALUES);
        switch (below(4)) {
        case 0:
            grow_value(i, below(2) == 0);
            break;
        case 1:
            change_value(i);
            break;
        default:
            make_value(i, (int)below(VALUES));
        }
        if (step % 16 == 0)
            for (int k = 0; k < VALUES; k++)
                wrong += values[k].len > 0 && memcmp(values[k].data, want[k], values[k].len) != 0;
    }
    for (int k = 0; k < VALUES; k++)
        ash_buf_drop(&values[k]);
    ok(wrong == 0 && stats().live == live, "random operations, seed %llu: no value saw another's bytes, none is left",
       (unsigned long long)start);
}

int main(void)
{
    test_alloc();
    test_wrap();
    test_slice();
    test_references();
    test_split();
    test_room();
    test_stream();
    test_unshare();
    test_dump();
    test_stats();
    test_misuse();
    for (uint64_t start = 1; start <= 5; start++)
        test_random(start);
    return tap_done();
}
