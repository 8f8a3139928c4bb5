#include "model.h"

#include "fuzz.h"
#include "info/options.h"
#include "os/os_mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    PIECE = 4096,         /* of content, compared at a time */
    DENSE = SMALL,        /* all of the bytes up to here, then a piece every … */
    STRIDE = 512 * 1024,  /* … bytes, and the last ones */
    TAIL = 64,
    PERIOD = 1 << 13
};

struct model model;

static struct span {
    uintptr_t at, end;
    struct block *block;
} spans[BLOCKS]; /* of live blocks, in ascending order */

static struct tally {
    uint64_t allocated, freed;
} tally[ASH_COUNT(model.sizes) + 1]; /* the one behind the classes: large blocks */
static uint64_t large_bytes, all_allocated, all_freed;

static struct stale {
    unsigned char *p;
    unsigned cls;
    uint64_t when; /* model.born then */
} stale[STALE];

static struct ash_stats base;
static struct ash_class_stats base_of[ASH_COUNT(model.sizes)];
static uint64_t most_used; /* under a limit: what it may be */

static unsigned char pattern[PERIOD + PIECE];

/* ---- content ---- */

static void make_pattern(void)
{
    uint32_t x = 12345;
    for (size_t i = 0; i < PERIOD; i++) {
        x = x * 1664525 + 1013904223;
        pattern[i] = (unsigned char)(x >> 24);
    }
    memcpy(pattern + PERIOD, pattern, PIECE);
}

/* The piece that begins at or behind `*at`, of a block of which `n` bytes are written; 0: there is none. */
static size_t piece(size_t *at, size_t n)
{
    if (*at > DENSE)
        *at = (*at + STRIDE - 1) / STRIDE * STRIDE;
    if (*at < n)
        return n - *at < PIECE ? n - *at : PIECE;
    return 0;
}

static const unsigned char *want(const struct block *b, size_t at)
{
    return pattern + (b->fill * 97 + at) % PERIOD;
}

static void fill(struct block *b)
{
    size_t at = 0;
    for (size_t n; (n = piece(&at, b->n)) != 0; at += n)
        memcpy(b->p + at, want(b, at), n);
    if (b->n > DENSE + TAIL)
        memcpy(b->p + b->n - TAIL, want(b, b->n - TAIL), TAIL);
}

/* Checks the first `n` bytes of what was written. */
static void check_content(const struct block *b, const unsigned char *p, size_t n)
{
    size_t at = 0;
    for (size_t k; (k = piece(&at, n)) != 0; at += k)
        CHECK(memcmp(p + at, want(b, at), k) == 0, "the content of %p, %zu bytes, is hurt between %zu and %zu",
              (const void *)p, b->n, at, at + k);
    if (b->n > DENSE + TAIL && n >= b->n)
        CHECK(memcmp(p + b->n - TAIL, want(b, b->n - TAIL), TAIL) == 0, "the end of %p, %zu bytes, is hurt",
              (const void *)p, b->n);
}

void model_check_content(const struct block *b)
{
    check_content(b, b->p, b->n);
}

static void check_zero(const unsigned char *p, size_t n)
{
    CHECK(n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0), "%zu bytes at %p are not all zero", n,
          (const void *)p);
}

/* ---- places ---- */

/* The first span that ends behind `p`. */
static unsigned span_at(uintptr_t p)
{
    unsigned low = 0, high = (unsigned)model.live;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (spans[middle].end > p)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

struct block *model_find(const void *p)
{
    unsigned i = span_at((uintptr_t)p);
    return i < model.live && spans[i].at <= (uintptr_t)p ? spans[i].block : NULL;
}

void *model_stale(unsigned i)
{
    const struct stale *s = &stale[i % STALE];
    if (s->p == NULL || s->cls == model.classes || model_find(s->p) != NULL)
        return NULL;
    for (const struct block *b = model.blocks; b < model.blocks + BLOCKS; b++)
        if (b->p != NULL && b->cls == s->cls && b->born <= s->when &&
            (uintptr_t)b->p / SMALL == (uintptr_t)s->p / SMALL)
            return s->p;
    return NULL;
}

/* A block of no bytes (hardened mode) has its address, which no other may have. */
static void span_add(struct block *b)
{
    uintptr_t at = (uintptr_t)b->p, end = at + (b->holds > 0 ? b->holds : 1);
    unsigned i = span_at(at);
    CHECK(i == model.live || spans[i].at >= end, "the block at %p, %zu bytes, overlaps the one from %#lx to %#lx",
          (void *)b->p, b->holds, (unsigned long)spans[i].at, (unsigned long)spans[i].end);
    memmove(&spans[i + 1], &spans[i], (model.live - i) * sizeof *spans);
    spans[i] = (struct span){at, end, b};
    model.live++;
}

static void span_remove(const struct block *b)
{
    unsigned i = span_at((uintptr_t)b->p);
    model.live--;
    memmove(&spans[i], &spans[i + 1], (model.live - i) * sizeof *spans);
}

/* ---- sizes ---- */

static size_t up(size_t n, size_t align)
{
    return (n + align - 1) / align * align;
}

/* Bytes that a small block needs for the request; more than SMALL when it is a large one. */
static size_t small_need(size_t n, size_t align)
{
    n = n > 0 || options.harden ? n : 1;
    if (n > SMALL || align > SMALL)
        return SMALL + 1;
    size_t need = up(options.harden ? n + CANARY : n, align);
    return options.harden && need - n > UINT16_MAX ? SMALL + 1 : need;
}

unsigned model_class(size_t n, size_t align)
{
    size_t need = small_need(n, align);
    unsigned cls = 0;
    while (cls < model.classes && (model.sizes[cls] < need || model.sizes[cls] % align != 0))
        cls++;
    return cls;
}

size_t model_holds(size_t n, size_t align)
{
    n = n > 0 || options.harden ? n : 1;
    unsigned cls = model_class(n, align);
    return options.harden ? n : cls < model.classes ? model.sizes[cls] : up(n, os_page_size());
}

/* ---- what happens ---- */

static void count_in(struct block *b)
{
    b->counts = b->cls < model.classes ? model.sizes[b->cls] : b->holds;
    model.live_bytes += b->counts;
    large_bytes += b->cls < model.classes ? 0 : b->counts;
}

static void count_out(const struct block *b)
{
    model.live_bytes -= b->counts;
    large_bytes -= b->cls < model.classes ? 0 : b->counts;
}

static void check_place(const struct block *b)
{
    size_t align = options.grain;
    CHECK((uintptr_t)b->p % align == 0, "%p is not a multiple of %zu", (void *)b->p, align);
    CHECK(b->align == 0 || (uintptr_t)b->p % b->align == 0, "%p is not a multiple of %zu", (void *)b->p, b->align);
    size_t usable = ash_usable_size(b->p);
    CHECK(usable == b->holds, "the block at %p, %zu bytes at %zu, holds %zu, not %zu", (void *)b->p, b->n, b->align,
          usable, b->holds);
}

void model_allocated(struct block *b, void *p, size_t n, size_t align, bool zero)
{
    size_t at_least = align != 0 ? align : 1;
    bool aligned = at_least > options.grain; /* what every block is anyway is not asked for */
    *b = (struct block){.p = p, .n = n, .align = align, .born = ++model.born};
    b->fill = (unsigned)model.born;
    b->cls = model_class(n, aligned ? at_least : 1);
    b->holds = model_holds(n, aligned ? at_least : 1);
    check_place(b);
    span_add(b);
    if (zero || options.harden)
        check_zero(p, n);
    tally[b->cls].allocated++;
    all_allocated++;
    count_in(b);
    fill(b);
}

void model_freed(struct block *b)
{
    model_check_content(b);
    span_remove(b);
    stale[all_freed % STALE] = (struct stale){b->p, b->cls, model.born};
    tally[b->cls].freed++;
    all_freed++;
    count_out(b);
    b->p = NULL;
}

/* What the block holds now: as much as a new one would, or, where it grew by little, some more. */
static void resized_holds(struct block *b, size_t n, bool moved)
{
    size_t usable = ash_usable_size(b->p);
    b->cls = model_class(usable, 1);
    CHECK(usable == model_holds(n, 1) ||
              (moved && n > b->holds && b->cls < model.classes && model_holds(usable, 1) == usable &&
               usable <= model_holds(b->holds + b->holds / 8 + b->holds / 16, 1)),
          "a block of %zu bytes that was to hold %zu holds %zu", b->holds, n, usable);
    b->holds = usable;
}

void model_resized(struct block *b, void *p, size_t n)
{
    struct block old = *b;
    size_t kept = n < old.n ? n : old.n;
    bool moved = p != (void *)old.p;
    bool stays = n <= old.holds && n >= old.holds - old.holds / 2;
    CHECK(!moved || !stays || options.harden, "a block of %zu bytes was moved to hold %zu", old.holds, n);
    span_remove(b);
    count_out(b);
    b->p = p;
    b->n = n;
    if (options.harden) {
        b->holds = n;
        b->cls = moved ? model_class(n, 1) : b->cls;
    } else if (moved || n > SMALL) {
        resized_holds(b, n, moved);
    }
    if (moved) {
        tally[old.cls].freed++;
        tally[b->cls].allocated++;
        all_freed++;
        all_allocated++;
        b->born = ++model.born;
    }
    b->align = 0;
    check_place(b);
    span_add(b);
    count_in(b);
    check_content(&old, p, kept);
    if (options.harden && n > old.n)
        check_zero((unsigned char *)p + old.n, n - old.n);
    b->fill = (unsigned)++model.born;
    fill(b);
}

/* Counts a refusal. Where the limit need not be the reason, the statistics say whether it was. */
static void count_refusal(bool surely)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
    CHECK(s.limit_hits - base.limit_hits - model.refused <= 1, "one refusal was counted %lu times",
          (unsigned long)(s.limit_hits - base.limit_hits - model.refused));
    model.refused = surely ? model.refused + 1 : s.limit_hits - base.limit_hits;
}

static bool impossible(size_t n)
{
    return n > (size_t)1 << 36;
}

void model_refused(size_t n, size_t align)
{
    CHECK(errno == ENOMEM, "errno is %d", errno);
    CHECK(model.limit != 0 || impossible(n) || impossible(align), "%zu bytes at %zu were refused without a limit", n,
          align);
    count_refusal(model.limit != 0 && !impossible(n) && !impossible(align));
}

void model_batch_refused(const size_t *sizes, size_t count)
{
    struct ash_stats s = {.struct_size = sizeof s};
    ash_stats_get(&s);
    bool too_much = false;
    for (size_t i = 0; i < count; i++)
        too_much |= impossible(sizes[i]);
    CHECK(model.limit != 0 || too_much, "a batch was refused without a limit");
    CHECK(s.live_blocks - base.live_blocks == model.live, "a batch that was refused left blocks behind");
    count_refusal(model.limit != 0 && !too_much);
    for (unsigned cls = 0; cls < model.classes; cls++) {
        struct ash_class_stats c;
        ash_stats_class(cls, &c);
        uint64_t more = c.frees - base_of[cls].frees - tally[cls].freed;
        tally[cls].allocated += more;
        tally[cls].freed += more;
        all_allocated += more;
        all_freed += more;
    }
    uint64_t large = s.frees - base.frees - all_freed;
    all_allocated += large;
    all_freed += large;
}

/* ---- statistics ---- */

#define SAME(got, wanted, what)                                                                                        \
    CHECK((got) == (wanted), "%s: %lu, not %lu", what, (unsigned long)(got), (unsigned long)(wanted))

static void check_class(unsigned cls)
{
    struct ash_class_stats c, *before = &base_of[cls];
    struct tally *t = &tally[cls];
    char what[32];
    CHECK(ash_stats_class(cls, &c) == 0 && c.size == model.sizes[cls], "class %u has %zu bytes", cls, c.size);
    snprintf(what, sizeof what, "class of %zu", c.size);
    SAME(c.hits + c.misses - before->hits - before->misses, t->allocated, what);
    SAME(c.frees - before->frees, t->freed, what);
    SAME(c.live - before->live, t->allocated - t->freed, what);
    CHECK(c.live + c.cached <= c.capacity, "%s: %lu live and %lu cached of %lu", what, (unsigned long)c.live,
          (unsigned long)c.cached, (unsigned long)c.capacity);
    CHECK(c.remote_frees <= c.frees, "%s: %lu remote frees of %lu", what, (unsigned long)c.remote_frees,
          (unsigned long)c.frees);
}

void model_check_counters(void)
{
    struct ash_stats s = {.struct_size = sizeof s};
    CHECK(ash_stats_get(&s) == 0, "no statistics");
    for (unsigned cls = 0; cls < model.classes && !fuzz_sampling; cls++)
        check_class(cls); /* a block that is a sample counts in the class of the one that it lies in */
    struct tally *large = &tally[model.classes];
    SAME(s.hits + s.misses - base.hits - base.misses, all_allocated, "allocations");
    SAME(s.frees - base.frees, all_freed, "frees");
    SAME(s.live_blocks - base.live_blocks, model.live, "live blocks");
    if (!fuzz_sampling) {
        SAME(s.live_bytes - base.live_bytes, model.live_bytes, "live bytes");
        SAME(s.large_live_blocks - base.large_live_blocks, large->allocated - large->freed, "large blocks");
        SAME(s.large_live_bytes - base.large_live_bytes, large_bytes, "bytes of large blocks");
    }
    SAME(s.limit_bytes, model.limit, "the limit");
    SAME(s.limit_hits - base.limit_hits, model.refused, "refused allocations");
    CHECK(s.used_bytes >= s.slab_bytes + s.large_live_bytes, "more in slabs and large blocks than in use");
    CHECK(s.slab_bytes >= s.live_bytes - s.large_live_bytes + s.cached_bytes + s.slab_free_bytes,
          "more blocks in slabs than there is room");
    CHECK(s.peak_bytes >= s.used_bytes && s.mapped_bytes >= s.used_bytes + s.dirty_bytes, "memory from nowhere");
    most_used = most_used > s.limit_bytes ? most_used : s.limit_bytes;
    CHECK(s.limit_bytes == 0 || s.used_bytes <= most_used, "%lu bytes in use, the limit is %lu",
          (unsigned long)s.used_bytes, (unsigned long)s.limit_bytes);
    most_used = s.limit_bytes == 0 ? UINT64_MAX : s.used_bytes;
}

void model_limit(size_t limit)
{
    model.limit = limit;
    most_used = UINT64_MAX; /* nothing is known of how much is in use beyond it */
    model_check_counters();
}

void model_begin(void)
{
    make_pattern();
    model = (struct model){.live = 0};
    memset(tally, 0, sizeof tally);
    memset(stale, 0, sizeof stale);
    large_bytes = all_allocated = all_freed = 0;
    most_used = UINT64_MAX;
    base = (struct ash_stats){.struct_size = sizeof base};
    ash_stats_get(&base);
    model.limit = base.limit_bytes;
    struct ash_class_stats *c = base_of;
    while (model.classes < ASH_COUNT(base_of) && ash_stats_class(model.classes, c) == 0)
        model.sizes[model.classes++] = c++->size;
    CHECK(base.live_blocks == 0 && model.classes > 40, "%lu blocks are live before the first",
          (unsigned long)base.live_blocks);
}
