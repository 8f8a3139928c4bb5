#include "txn/txnmem.h"

#include "ashlar/malloc.h"
#include "base/annotate.h"
#include "base/bits.h"

enum { GROW_MOST = 32 * 1024, MARGIN = 32 };

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

static size_t used(const struct txnmem *m)
{
    return m->newest == NULL ? 0 : m->before + (size_t)(m->at - (char *)m->newest);
}

/* Up to the next of four steps a doubling. */
static size_t grid(size_t n)
{
    size_t step = (size_t)1 << (bits_highest(n - 1) - 2);
    return align_up(n, step);
}

static void chunk_free(struct txnmem_rule *rule, struct txnmem_chunk *c)
{
    tally_add(rule->tally, rule->count, -(uint64_t)c->size);
    annotate_fresh(chunk_begin(c), c->size - sizeof *c);
    ash_free(c);
}

/* Frees all that came behind `kept`. */
static void free_newer(struct txnmem *m, struct txnmem_rule *rule, const struct txnmem_chunk *kept)
{
    for (struct txnmem_chunk *c; (c = m->newest) != kept;) {
        m->newest = c->older;
        chunk_free(rule, c);
    }
}

/* A chunk of `size` bytes comes into use: whether there was memory. */
static bool chunk_add(struct txnmem *m, struct txnmem_rule *rule, size_t size)
{
    struct txnmem_chunk *c = ash_malloc(size);
    if (c == NULL)
        return false;
    tally_add(rule->tally, rule->count, size);
    *c = (struct txnmem_chunk){.older = m->newest, .size = size};
    m->before = used(m);
    m->newest = c;
    m->at = chunk_begin(c);
    m->end = chunk_end(c);
    return true;
}

/* Of one with room for `need` bytes; 0: the bound forbids it. */
static size_t chunk_size(const struct txnmem *m, const struct txnmem_rule *rule, size_t need)
{
    size_t has = held(m), least = sizeof(struct txnmem_chunk) + need, want = least;
    if (rule->most != 0 && (has > rule->most || least > rule->most - has))
        return 0;
    if (has == 0)
        want = size_max(want, load_relaxed(&rule->learned));
    else
        want = size_max(want, size_min(size_max(has / 4, TXNMEM_LEAST), GROW_MOST));
    want = want > rule->keep ? align_down(ash_good_size(want), TXNMEM_ALIGN) : grid(want);
    return rule->most != 0 ? size_max(least, size_min(want, rule->most - has)) : want;
}

ASH_NOINLINE void *txnmem_alloc_slow(struct txnmem *m, struct txnmem_rule *rule, size_t n)
{
    if (n > PTRDIFF_MAX / 2)
        return NULL;
    bool watched = annotate_wanted();
    size_t need = align_up(size_max(n, 1), TXNMEM_ALIGN) + (watched ? MARGIN : 0);
    size_t size = chunk_size(m, rule, need);
    if (size == 0 || !chunk_add(m, rule, size))
        return NULL;
    char *p = m->at;
    m->at = p + need;
    if (watched) {
        m->end = m->at; /* the next one comes here too */
        annotate_none(p + n, (size_t)(chunk_end(m->newest) - p) - n);
    }
    return p;
}

void txnmem_rollback(struct txnmem *m, struct txnmem_rule *rule, struct txnmem_mark mark)
{
    free_newer(m, rule, mark.chunk);
    m->at = mark.at;
    m->before = mark.before;
    m->end = annotate_wanted() ? mark.at : chunk_end(mark.chunk);
}

void txnmem_learn(const struct txnmem *m, struct txnmem_rule *rule)
{
    size_t learned = load_relaxed(&rule->learned);
    size_t needs = used(m);
    if (needs > learned && needs <= rule->keep)
        store_relaxed(&rule->learned, size_min(needs, learned + learned / 4));
    else if (needs < learned - learned / 8)
        store_relaxed(&rule->learned, size_max(rule->first_least, learned - learned / 64));
}

void txnmem_clear(struct txnmem *m, struct txnmem_rule *rule)
{
    struct txnmem_chunk *first = m->newest;
    txnmem_learn(m, rule);
    while (first->older != NULL)
        first = first->older;
    size_t learned = load_relaxed(&rule->learned), margin = learned / 4;
    bool stays = first->size - (learned - margin) <= 2 * margin && !annotate_wanted();
    free_newer(m, rule, stays ? first : NULL);
    m->at = stays ? chunk_begin(first) : NULL;
    m->end = stays ? chunk_end(first) : NULL;
    m->before = 0;
}

void txnmem_fini(struct txnmem *m, struct txnmem_rule *rule)
{
    free_newer(m, rule, NULL);
    *m = (struct txnmem){0};
}
