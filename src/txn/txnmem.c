#include "txn/txnmem.h"

#include "ashlar/malloc.h"
#include "base/annotate.h"
#include "base/bits.h"

enum {
    STEP = 128, /* between the sizes of chunks, up to STEPS_MOST; above they are those of malloc */
    STEPS_MOST = 1024,
    GROW_LEAST = 256,
    GROW_MOST = 32 * 1024,
    MARGIN = 32
};

#define BYTES_MOST ((size_t)PTRDIFF_MAX / 2)

static char *chunk_begin(struct txnmem_chunk *c)
{
    return (char *)(c + 1);
}

static char *chunk_end(struct txnmem_chunk *c)
{
    return (char *)c + c->size;
}

static size_t held(const struct txnmem *m)
{
    size_t sum = 0;
    for (const struct txnmem_chunk *c = m->newest; c != NULL; c = c->older)
        sum += c->size;
    return sum;
}

static void chunk_free(const struct txnmem_rule *rule, struct txnmem_chunk *c)
{
    tally_add(rule->tally, rule->count, -(uint64_t)c->size);
    annotate_fresh(chunk_begin(c), c->size - sizeof *c);
    ash_free(c);
}

/* Frees all that came behind `kept`. */
static void free_newer(struct txnmem *m, const struct txnmem_rule *rule,
                       const struct txnmem_chunk *kept)
{
    for (struct txnmem_chunk *c; (c = m->newest) != kept;) {
        m->newest = c->older;
        chunk_free(rule, c);
    }
}

/* A chunk of `size` bytes comes into use: whether there was memory. */
static bool chunk_add(struct txnmem *m, const struct txnmem_rule *rule, size_t size)
{
    struct txnmem_chunk *c = ash_malloc(size);
    if (c == NULL)
        return false;
    *c = (struct txnmem_chunk){.older = m->newest, .size = size};
    m->newest = c;
    m->at = chunk_begin(c);
    m->end = chunk_end(c);
    tally_add(rule->tally, rule->count, size);
    return true;
}

/* Of one with room for `need` bytes; 0: there is none, or the bound forbids it. */
static size_t chunk_size(const struct txnmem *m, const struct txnmem_rule *rule, size_t need)
{
    size_t has = held(m), most = rule->most != 0 ? rule->most : BYTES_MOST, want;
    need += sizeof(struct txnmem_chunk);
    if (has > most || need > most - has)
        return 0;
    if (annotate_wanted())
        return need;
    if (has == 0)
        want = rule->first;
    else
        want = (size_t)1 << bits_highest(size_max(size_min(has / 4, GROW_MOST), GROW_LEAST));
    if (want < need)
        want = need <= STEPS_MOST ? align_up(need, STEP) : ash_good_size(need);
    return size_max(need, size_min(align_down(want, TXNMEM_ALIGN), most - has));
}

/* Under a tool the block that was handed out last fills its chunk: the next one comes here too. */
ASH_NOINLINE void *txnmem_alloc_slow(struct txnmem *m, const struct txnmem_rule *rule, size_t n)
{
    if (n > BYTES_MOST)
        return NULL;
    bool watched = annotate_wanted();
    size_t need = align_up(size_max(n, 1), TXNMEM_ALIGN);
    size_t size = chunk_size(m, rule, watched ? need + MARGIN : need);
    if (size == 0 || !chunk_add(m, rule, size))
        return NULL;
    char *p = m->at;
    m->at = watched ? m->end : p + need;
    if (watched)
        annotate_none(p + n, (size_t)(m->end - p) - n);
    return p;
}

void txnmem_rollback(struct txnmem *m, const struct txnmem_rule *rule, struct txnmem_mark mark)
{
    free_newer(m, rule, mark.chunk);
    m->at = mark.at;
    m->end = chunk_end(mark.chunk);
}

void txnmem_clear(struct txnmem *m, const struct txnmem_rule *rule)
{
    struct txnmem_chunk *oldest = m->newest;
    while (oldest->older != NULL)
        oldest = oldest->older;
    bool stays = rule->stays && oldest->size == rule->first && !annotate_wanted();
    free_newer(m, rule, stays ? oldest : NULL);
    m->at = stays ? chunk_begin(oldest) : NULL;
    m->end = stays ? chunk_end(oldest) : NULL;
}

void txnmem_fini(struct txnmem *m, const struct txnmem_rule *rule)
{
    free_newer(m, rule, NULL);
    *m = (struct txnmem){0};
}
