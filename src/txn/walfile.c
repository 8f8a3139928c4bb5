#include "txn/walfile.h"

#include "base/hash.h"

#include <string.h>

#define MAGIC       0x31304c4157485341u /* "ASHWAL01" where the low byte comes first */
#define KIND_RECORD 0x44524352u
#define KIND_MARK   0x4b52414du

struct frame {
    uint32_t len; /* of the data */
    uint32_t kind;
    uint64_t sum;
    unsigned char data[];
};

_Static_assert(sizeof(struct wal_head) == WAL_HEAD, "frames begin behind the head");
_Static_assert(sizeof(struct frame) == WAL_FRAME, "the data begin behind the frame's head");

static uint64_t head_sum(const struct wal_head *head)
{
    return hash_bytes(head, offsetof(struct wal_head, sum), HASH_K1);
}

struct wal_head wal_head_make(uint64_t log, uint64_t begin, uint64_t before, bool used)
{
    struct wal_head head = {
        .magic = MAGIC, .log = log, .begin = begin, .before = before, .used = used};
    head.sum = head_sum(&head);
    return head;
}

bool wal_head_is_good(const struct wal_head *head)
{
    return head->magic == MAGIC && head->sum == head_sum(head) && head->begin % 8 == 0 &&
           head->begin <= UINT64_MAX / 2;
}

static uint64_t frame_sum(const struct frame *f, uint64_t log, uint64_t at)
{
    uint64_t seed = hash_fold(log ^ HASH_K0, at ^ HASH_K2) ^ ((uint64_t)f->kind << 32 | f->len);
    return hash_bytes(f->data, wal_frame_size(f->len) - WAL_FRAME, seed);
}

static void frame_close(struct frame *f, uint64_t log, uint64_t at)
{
    memset(f->data + f->len, 0, wal_frame_size(f->len) - WAL_FRAME - f->len);
    f->sum = frame_sum(f, log, at);
}

void wal_frame_open(void *frame, size_t len)
{
    struct frame *f = frame;
    f->len = (uint32_t)len;
    f->kind = KIND_RECORD;
}

void wal_group_close(void *group, size_t n, uint64_t synced, uint64_t log, uint64_t at)
{
    char *bytes = group;
    struct frame *mark = group;
    mark->len = sizeof synced;
    mark->kind = KIND_MARK;
    memcpy(mark->data, &synced, sizeof synced);
    for (size_t i = 0; i < n;) {
        struct frame *f = (struct frame *)(void *)(bytes + i);
        frame_close(f, log, at + i);
        i += wal_frame_size(f->len);
    }
}

bool wal_scan_begin(struct wal_scan *s, const void *bytes, size_t size, bool is_last)
{
    *s = (struct wal_scan){.bytes = bytes, .size = size, .at = WAL_HEAD, .is_last = is_last};
    if (size < WAL_HEAD)
        return false;
    memcpy(&s->head, bytes, sizeof s->head);
    s->synced = s->head.begin; /* rule 5 */
    return wal_head_is_good(&s->head);
}

/* The frame at a place of the file; NULL: there is none, or not all of it. */
static const struct frame *frame_at(const struct wal_scan *s, size_t at)
{
    if (s->size - at < WAL_FRAME)
        return NULL;
    const struct frame *f = (const struct frame *)(const void *)(s->bytes + at);
    bool is_mark = f->kind == KIND_MARK && f->len == WAL_MARK - WAL_FRAME;
    if ((f->kind != KIND_RECORD && !is_mark) || wal_frame_size(f->len) > s->size - at)
        return NULL;
    return frame_sum(f, s->head.log, s->head.begin + at - WAL_HEAD) == f->sum ? f : NULL;
}

static uint64_t mark_synced(const struct frame *mark)
{
    uint64_t synced;
    memcpy(&synced, mark->data, sizeof synced);
    return synced;
}

/* Bytes behind `at`, up to the last that is not zero. */
static size_t left_behind(const struct wal_scan *s)
{
    uint64_t word;
    size_t n = s->size;
    for (; n - s->at >= sizeof word; n -= sizeof word) {
        memcpy(&word, s->bytes + n - sizeof word, sizeof word);
        if (word != 0)
            break;
    }
    while (n > s->at && s->bytes[n - 1] == 0)
        n--;
    return n - s->at;
}

/* Whether a mark behind `at` says that there was more: rule 4. */
static bool was_synced(const struct wal_scan *s)
{
    for (size_t at = s->at + 8; at < s->size && s->size - at >= WAL_MARK; at += 8) {
        const struct frame *f = (const struct frame *)(const void *)(s->bytes + at);
        if (f->kind == KIND_MARK && frame_at(s, at) != NULL && mark_synced(f) > wal_scan_lsn(s))
            return true;
    }
    return false;
}

enum wal_found wal_scan_next(struct wal_scan *s)
{
    const struct frame *f;
    while ((f = frame_at(s, s->at)) != NULL) {
        s->at += wal_frame_size(f->len);
        if (f->kind == KIND_RECORD) {
            s->data = f->data;
            s->len = f->len;
            return WAL_RECORD;
        }
        uint64_t synced = mark_synced(f);
        if (synced > s->synced && synced < wal_scan_lsn(s))
            s->synced = synced;
    }
    if (s->at == s->size)
        return WAL_END;
    if (!s->is_last)
        return WAL_DAMAGED;
    s->left = left_behind(s);
    if (s->left == 0)
        return WAL_END;
    if (was_synced(s))
        return WAL_DAMAGED;
    return s->head.used != 0 ? WAL_END : WAL_TORN;
}
