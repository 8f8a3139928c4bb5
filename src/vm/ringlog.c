#include "vm/ringlog.h"

#include "ashlar/malloc.h"
#include "base/bits.h"

#include <string.h>

enum { ATTEMPTS = 4 };

#define SLOT_READ  ((uint64_t)1 << 32)
#define SLOT_PLACE (SLOT_READ - 1)
#define SLOT_NONE  SIZE_MAX

/* ---- words and slots ---- */

size_t ringlog_slots(size_t live_most)
{
    return (size_t)2 << bits_highest(live_most + live_most / 3); /* at most 3/4 full */
}

/* Places count from 1 in slots, so that no slot of an entry is 0. */
ASH_INLINE uint64_t slot_make(uint64_t hash, size_t place)
{
    return hash >> RINGLOG_TAG << RINGLOG_TAG | (place + 1);
}

ASH_INLINE size_t slot_place(uint64_t s)
{
    return (size_t)(s & SLOT_PLACE) - 1;
}

ASH_INLINE size_t slot_home(const struct ringlog *r, uint64_t s)
{
    return (size_t)(s >> RINGLOG_TAG) & r->mask;
}

ASH_INLINE uint64_t word(const struct ringlog *r, size_t at)
{
    return load_acquire(&r->ring[at]); /* pairs with word_set: rule 5 */
}

ASH_INLINE void word_set(struct ringlog *r, size_t at, uint64_t w)
{
    store_release(&r->ring[at], w); /* that `seq` is odd; pairs with word */
}

ASH_INLINE void slot_set(struct ringlog *r, size_t i, uint64_t s)
{
    store_release(&r->slot[i],
                  s); /* that `seq` is odd, the entry; pairs with the load in look_up */
}

/* The bytes of a word at `p`, `n` of them if fewer than 8. */
ASH_INLINE uint64_t word_of(const unsigned char *p, size_t n)
{
    uint64_t w = 0;
    if (ASH_LIKELY(n >= 8))
        memcpy(&w, p, 8);
    else
        for (size_t i = 0; i < n; i++)
            w |= (uint64_t)p[i] << 8 * i;
    return w;
}

ASH_INLINE void bytes_write(struct ringlog *r, size_t at, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i += 8)
        word_set(r, at++, word_of(p + i, n - i));
}

ASH_INLINE void bytes_read(const struct ringlog *r, size_t at, void *bytes, size_t n)
{
    unsigned char *p = bytes;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t w = word(r, at++);
        memcpy(p, &w, 8);
    }
    if (n > 0)
        for (uint64_t w = word(r, at); n > 0; w >>= 8, n--)
            *p++ = (unsigned char)w;
}

/* The first `n` bytes at word `at` are those of `bytes`. */
ASH_INLINE bool bytes_equal(const struct ringlog *r, size_t at, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (; n >= 8; p += 8, n -= 8)
        if (word(r, at++) != word_of(p, 8))
            return false;
    return n == 0 || (word(r, at) & bits_mask(0, 8 * (unsigned)n)) == word_of(p, n);
}

/* ---- entries ---- */

struct entry {
    uint64_t hash;
    size_t args_len, len;
    uint64_t function;
};

ASH_INLINE struct entry entry_at(const struct ringlog *r, size_t at)
{
    uint64_t lengths = word(r, at + 1);
    return (struct entry){.hash = word(r, at),
                          .args_len = (uint32_t)lengths,
                          .len = (size_t)(lengths >> 32),
                          .function = word(r, at + 2)};
}

ASH_INLINE uint64_t entry_end(const struct ringlog *r, size_t at)
{
    return word(r, at + 3);
}

ASH_INLINE size_t result_at(size_t at, size_t args_len)
{
    return at + RINGLOG_HEADER + ringlog_words_of(args_len);
}

/*
 * Whether the entry has this key, and lies inside the ring, which matters for readers that a writer
 * overtakes.
 */
ASH_INLINE bool entry_is(const struct ringlog *r, size_t at, const struct entry *e,
                         const struct ringlog_key *key)
{
    return e->hash == key->hash && e->function == key->function && e->args_len == key->len &&
           at + ringlog_words(e->args_len, e->len) <= r->words &&
           bytes_equal(r, at + RINGLOG_HEADER, key->args, key->len);
}

/* The slot of a key; SLOT_NONE. `s` and `e` are what the slot and its entry held. */
ASH_INLINE size_t look_up(const struct ringlog *r, const struct ringlog_key *key, uint64_t *s,
                          struct entry *e)
{
    size_t i = slot_home(r, key->hash);
    for (size_t n = 0; n <= r->mask; n++, i = (i + 1) & r->mask) {
        *s = load_acquire(&r->slot[i]); /* pairs with slot_set */
        if (*s == 0)
            break;
        if (*s >> RINGLOG_TAG != key->hash >> RINGLOG_TAG)
            continue;
        *e = entry_at(r, slot_place(*s));
        if (entry_is(r, slot_place(*s), e, key))
            return i;
    }
    return SLOT_NONE;
}

/* ---- readers ---- */

ASH_INLINE enum ringlog_answer read_once(const struct ringlog *r, const struct ringlog_key *key,
                                         uint64_t now_ms, void *result, size_t *len, size_t *slot,
                                         uint64_t *s)
{
    struct entry e;
    *slot = look_up(r, key, s, &e);
    if (*slot == SLOT_NONE)
        return RINGLOG_MISS;
    if (entry_end(r, slot_place(*s)) <= now_ms)
        return RINGLOG_EXPIRED;
    size_t room = *len;
    *len = e.len;
    if (e.len > room)
        return RINGLOG_LONGER;
    bytes_read(r, result_at(slot_place(*s), key->len), result, e.len);
    return RINGLOG_HIT;
}

/* Rule 6. */
ASH_INLINE void slot_mark(struct ringlog *r, size_t i, uint64_t s)
{
    if ((s & SLOT_READ) == 0)
        cas_strong_relaxed(&r->slot[i], &s, s | SLOT_READ);
}

/* Behind a writer, after some attempts to read between two. */
ASH_COLD static enum ringlog_answer get_slow(struct ringlog *r, const struct ringlog_key *key,
                                             uint64_t now_ms, void *result, size_t *len)
{
    size_t slot;
    uint64_t s;
    os_lock(&r->lock);
    enum ringlog_answer answer = read_once(r, key, now_ms, result, len, &slot, &s);
    if (answer == RINGLOG_HIT)
        slot_mark(r, slot, s);
    os_unlock(&r->lock);
    return answer;
}

enum ringlog_answer ringlog_get(struct ringlog *r, const struct ringlog_key *key, uint64_t now_ms,
                                void *result, size_t *len)
{
    size_t slot, room = *len;
    uint64_t s;
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        uint64_t before = load_acquire(&r->seq); /* the last change; pairs with write_end */
        if (ASH_UNLIKELY(before % 2 != 0))
            continue;
        enum ringlog_answer answer = read_once(r, key, now_ms, result, len, &slot, &s);
        if (ASH_LIKELY(load_relaxed(&r->seq) == before)) { /* after the loads above: they acquire */
            if (answer == RINGLOG_HIT)
                slot_mark(r, slot, s);
            return answer;
        }
        *len = room;
    }
    return get_slow(r, key, now_ms, result, len);
}

/* ---- writers ---- */

ASH_INLINE void write_begin(struct ringlog *r)
{
    os_lock(&r->lock);
    store_relaxed(&r->seq, load_relaxed(&r->seq) + 1); /* before all that follows: rule 5 */
}

ASH_INLINE void write_end(struct ringlog *r)
{
    store_release(&r->seq, load_relaxed(&r->seq) + 1); /* the change; pairs with ringlog_get */
    os_unlock(&r->lock);
}

/* Empties a slot and closes the gap, so that no search ends too early. */
static void slot_remove(struct ringlog *r, size_t i)
{
    for (size_t j = (i + 1) & r->mask;; j = (j + 1) & r->mask) {
        uint64_t s = load_relaxed(&r->slot[j]);
        if (s == 0)
            break;
        if (((j - slot_home(r, s)) & r->mask) >= ((j - i) & r->mask)) {
            slot_set(r, i, s);
            i = j;
        }
    }
    slot_set(r, i, 0);
    r->live--;
}

/* The slot that leads to the entry at `at`; SLOT_NONE when it is dead. */
static size_t slot_of(const struct ringlog *r, uint64_t hash, size_t at)
{
    uint64_t want = slot_make(hash, at);
    for (size_t i = slot_home(r, want);; i = (i + 1) & r->mask) {
        uint64_t s = load_relaxed(&r->slot[i]);
        if (s == 0)
            return SLOT_NONE;
        if ((s & ~SLOT_READ) == want)
            return i;
    }
}

static void lap(struct ringlog *r)
{
    if (r->tail == r->head) { /* empty */
        r->head = r->tail = 0;
        return;
    }
    r->wrap = r->head;
    r->head = 0;
    r->lapped = true;
}

/* The place of `n` words at the head, for which there is room, here or in the next lap. */
static size_t head_take(struct ringlog *r, size_t n)
{
    if (!r->lapped && r->words - r->head < n)
        lap(r);
    size_t at = r->head;
    r->head += n;
    return at;
}

/* Takes the oldest entry off: it is dropped, or comes back as the newest: rule 3. */
static void tail_pop(struct ringlog *r, uint64_t now_ms, unsigned *spare)
{
    size_t at = r->tail;
    struct entry e = entry_at(r, at);
    size_t n = ringlog_words(e.args_len, e.len);
    r->tail += n;
    if (r->lapped && r->tail == r->wrap) {
        r->tail = 0;
        r->lapped = false;
    }
    size_t slot = slot_of(r, e.hash, at);
    if (slot == SLOT_NONE)
        return;
    bool was_read = (load_relaxed(&r->slot[slot]) & SLOT_READ) != 0;
    if (!was_read || *spare == 0 || entry_end(r, at) <= now_ms) {
        slot_remove(r, slot);
        r->evictions++;
        return;
    }
    (*spare)--;
    r->spared++;
    size_t to = head_take(r, n); /* before `at`, or behind the entry's end */
    for (size_t i = 0; i < n; i++)
        word_set(r, to + i, word(r, at + i));
    slot_set(r, slot, slot_make(e.hash, to));
}

static void make_room(struct ringlog *r, size_t n, uint64_t now_ms)
{
    unsigned spare = RINGLOG_SPARED;
    while (r->live >= r->live_most)
        tail_pop(r, now_ms, &spare);
    while ((r->lapped ? r->tail : r->words) - r->head < n)
        if (r->lapped)
            tail_pop(r, now_ms, &spare);
        else
            lap(r);
}

static void append(struct ringlog *r, const struct ringlog_key *key, const void *result, size_t len,
                   uint64_t end_ms)
{
    size_t at = head_take(r, ringlog_words(key->len, len));
    word_set(r, at, key->hash);
    word_set(r, at + 1, (uint32_t)key->len | (uint64_t)len << 32);
    word_set(r, at + 2, key->function);
    word_set(r, at + 3, end_ms);
    bytes_write(r, at + RINGLOG_HEADER, key->args, key->len);
    bytes_write(r, result_at(at, key->len), result, len);
    size_t i = slot_home(r, key->hash);
    while (load_relaxed(&r->slot[i]) != 0)
        i = (i + 1) & r->mask;
    slot_set(r, i, slot_make(key->hash, at));
    r->live++;
}

/*
 * Asks for the lines that the next put will need: where it writes, and the slot of the entry that
 * it drops. Each would be a miss: with many shards no prefetcher of the processor sees the order.
 */
static void look_ahead(const struct ringlog *r)
{
    __builtin_prefetch(&r->ring[r->head], 1);
    __builtin_prefetch(&r->ring[size_min(r->head + 8, r->words - 1)], 1);
    if (r->lapped) {
        uint64_t hash = load_relaxed(&r->ring[r->tail]);
        __builtin_prefetch(&r->slot[slot_home(r, hash)], 1);
        __builtin_prefetch(&r->ring[size_min(r->tail + 8, r->words - 1)]);
    }
}

void ringlog_put(struct ringlog *r, const struct ringlog_key *key, const void *result, size_t len,
                 uint64_t now_ms, uint64_t end_ms)
{
    uint64_t s;
    struct entry e;
    write_begin(r);
    size_t slot = look_up(r, key, &s, &e);
    if (slot != SLOT_NONE && e.len == len) { /* in its place */
        word_set(r, slot_place(s) + 3, end_ms);
        bytes_write(r, result_at(slot_place(s), key->len), result, len);
    } else {
        if (slot != SLOT_NONE)
            slot_remove(r, slot);
        make_room(r, ringlog_words(key->len, len), now_ms);
        append(r, key, result, len, end_ms);
        look_ahead(r);
    }
    write_end(r);
}

bool ringlog_remove(struct ringlog *r, const struct ringlog_key *key)
{
    uint64_t s;
    struct entry e;
    write_begin(r);
    size_t slot = look_up(r, key, &s, &e);
    if (slot != SLOT_NONE) {
        slot_remove(r, slot);
        r->invalidated++;
    }
    write_end(r);
    return slot != SLOT_NONE;
}

size_t ringlog_remove_prefix(struct ringlog *r, uint64_t function, const void *prefix, size_t len)
{
    write_begin(r);
    size_t before = r->live;
    bool older = r->lapped;
    for (size_t at = r->tail; older || at < r->head;) {
        if (older && at == r->wrap) {
            older = false;
            at = 0;
            continue;
        }
        struct entry e = entry_at(r, at);
        if (e.function == function && e.args_len >= len &&
            bytes_equal(r, at + RINGLOG_HEADER, prefix, len)) {
            size_t slot = slot_of(r, e.hash, at);
            if (slot != SLOT_NONE)
                slot_remove(r, slot);
        }
        at += ringlog_words(e.args_len, e.len);
    }
    size_t removed = before - r->live;
    r->invalidated += removed;
    write_end(r);
    return removed;
}

size_t ringlog_clear(struct ringlog *r)
{
    write_begin(r);
    size_t removed = r->live;
    for (size_t i = 0; i <= r->mask; i++)
        slot_set(r, i, 0);
    r->head = r->tail = r->live = 0;
    r->lapped = false;
    r->invalidated += removed;
    write_end(r);
    return removed;
}

size_t ringlog_used(const struct ringlog *r)
{
    return r->lapped ? r->wrap - r->tail + r->head : r->head - r->tail;
}

bool ringlog_init(struct ringlog *r, size_t words, size_t live_most)
{
    size_t slots = ringlog_slots(live_most);
    *r = (struct ringlog){.words = words, .mask = slots - 1, .live_most = live_most};
    r->ring = ash_calloc(words, sizeof *r->ring);
    r->slot = ash_calloc(slots, sizeof *r->slot);
    if (r->ring != NULL && r->slot != NULL)
        return true;
    ringlog_fini(r);
    return false;
}

void ringlog_fini(struct ringlog *r)
{
    ash_free(r->ring);
    ash_free(r->slot);
}
