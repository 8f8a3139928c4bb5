/*
 * A segment of a log is written, as txn/wal writes it, then damaged: cut off, bits turned, places filled, or all of it
 * is bytes of the input. What is read back is compared with what was written: records are a beginning of it, nothing else;
 * a cut is a torn end, and zeroes are none; and what a mark says was synced is not taken for one.
 */
#include "fuzz.h"

#include "txn/walfile.h"

#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 1 << 15, RECORDS = 256 };

#define LOG_NUMBER 0x1234567890abcdefu

struct written {
    size_t end; /* in the file */
    size_t len;
    unsigned char first;
};

static struct written written[RECORDS];
static unsigned records;
static size_t last_synced; /* in the file: what is in front of it was synced, as a mark says */

/* Groups of records; the bytes of each follow from its first. Returns the size. */
static size_t write_groups(struct input *in, unsigned char *file, uint64_t begin)
{
    struct wal_head head = wal_head_make(LOG_NUMBER, begin, begin, false);
    size_t size = WAL_HEAD, synced = WAL_HEAD;
    memcpy(file, &head, sizeof head);
    records = 0;
    last_synced = WAL_HEAD;
    for (unsigned groups = take_below(in, 12); groups > 0; groups--) {
        size_t at = size + WAL_MARK;
        for (unsigned n = take_below(in, 8); n > 0 && records < RECORDS; n--) {
            size_t len = 1 + take_below(in, 200);
            if (at + wal_frame_size(len) > SEGMENT)
                break;
            unsigned char first = (unsigned char)take(in, 1);
            wal_frame_open(file + at, len);
            for (size_t i = 0; i < len; i++)
                file[at + WAL_FRAME + i] = (unsigned char)(first + i);
            at += wal_frame_size(len);
            written[records++] = (struct written){at, len, first};
        }
        if (at > SEGMENT)
            break;
        wal_group_close(file + size, at - size, begin + synced - WAL_HEAD, LOG_NUMBER, begin + size - WAL_HEAD);
        last_synced = synced;
        size = at;
        if (take_below(in, 2) != 0)
            synced = size;
    }
    return size;
}

/* What is read is what was written, up to a place; that is `s->at` then. */
static enum wal_found read_back(struct wal_scan *s, unsigned *count)
{
    enum wal_found found;
    for (*count = 0; (found = wal_scan_next(s)) == WAL_RECORD; ++*count) {
        const struct written *w = &written[*count];
        CHECK(*count < records && s->at == w->end && s->len == w->len, "record %u at %zu, %zu bytes", *count, s->at,
              s->len);
        for (size_t i = 0; i < s->len; i++)
            CHECK(((const unsigned char *)s->data)[i] == (unsigned char)(w->first + i), "byte %zu of record %u", i,
                  *count);
    }
    return found;
}

static void check_damage(struct input *in, unsigned char *file, size_t size)
{
    struct wal_scan s;
    size_t first = size, n = 1 + take_below(in, 64), at = take_below(in, (unsigned)size);
    unsigned char value = (unsigned char)take(in, 1), how = (unsigned char)take(in, 1);
    for (size_t i = at; i < size && i < at + n; i++) {
        unsigned char is = how % 2 == 0 ? value : file[i] ^ (unsigned char)(value | 1);
        if (is != file[i] && first == size)
            first = i;
        file[i] = is;
    }
    fuzz_trace("    bytes %zu to %zu, the first that changed is %zu\n", at, at + n, first);
    bool good = wal_scan_begin(&s, file, size, true);
    CHECK(good == (first >= WAL_HEAD), "the head");
    if (!good)
        return;
    unsigned count;
    enum wal_found found = read_back(&s, &count);
    CHECK(s.at <= first || first == size, "read to %zu, changed at %zu", s.at, first);
    CHECK(found == WAL_END ? first == size : first < size, "the end");
    /* A mark that is still whole, behind it, that says more: there is one if nothing behind the place changed it. */
    if (first < last_synced && at + n <= last_synced)
        CHECK(found == WAL_DAMAGED, "synced to %zu, changed at %zu", last_synced, first);
}

void fuzz_wal(struct input *in)
{
    unsigned char *file = aligned_alloc(64, SEGMENT + 64);
    while (input_left(in)) {
        struct wal_scan s;
        unsigned count;
        uint64_t begin = take_number(in) / 2 & ~(uint64_t)7;
        size_t size = write_groups(in, file, begin);
        fuzz_trace("a segment of %zu bytes, %u records\n", size, records);
        CHECK(wal_scan_begin(&s, file, size, take_below(in, 2) != 0), "its head");
        CHECK(read_back(&s, &count) == WAL_END && count == records && s.at == size, "%u of %u records", count, records);
        unsigned char fill = take_below(in, 2) != 0 ? (unsigned char)take(in, 1) : 0; /* a file of full size */
        memset(file + size, fill, SEGMENT - size);
        CHECK(wal_scan_begin(&s, file, SEGMENT, true), "its head");
        enum wal_found full = read_back(&s, &count);
        CHECK(full == (fill == 0 || size == SEGMENT ? WAL_END : WAL_TORN), "%d with %02x behind it", full, fill);
        CHECK(count == records && s.at == size, "%u of %u records", count, records);
        size_t cut = WAL_HEAD + take_below(in, (unsigned)(size - WAL_HEAD) + 1);
        CHECK(wal_scan_begin(&s, file, cut, true), "its head");
        enum wal_found found = read_back(&s, &count);
        CHECK(found == (s.at == cut ? WAL_END : WAL_TORN), "cut at %zu: %d at %zu", cut, found, s.at);
        CHECK(count == records || written[count].end > cut, "cut at %zu: %u records", cut, count);
        if (take_below(in, 4) == 0) { /* anything */
            for (size_t i = WAL_HEAD; i < size; i++)
                file[i] = (unsigned char)take(in, 1);
            CHECK(wal_scan_begin(&s, file, size, true), "its head");
            while (wal_scan_next(&s) == WAL_RECORD)
                ;
            CHECK(s.at <= size, "beyond the end");
        } else {
            check_damage(in, file, size);
        }
    }
    free(file);
}
