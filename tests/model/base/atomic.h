/*
 * base/atomic.h as the interleaving checker has it: the production sources are compiled for the model with this
 * directory ahead in the include path, so every access to a shared word becomes a call of the checker. The names and
 * orders are those of src/base/atomic.h; a wrapper that is missing here does not compile.
 *
 * Each use of a wrapper has a record of its own, its site: where it stands, what it says, and its order, which a
 * mutant may weaken (mutants.c). Arguments are evaluated outside the blocks with names in them, so that uses nest.
 */
#ifndef ASH_MODEL_ATOMIC_H
#define ASH_MODEL_ATOMIC_H

#include "base/base.h"

enum model_order { MODEL_RELAXED, MODEL_ACQUIRE, MODEL_RELEASE, MODEL_ACQ_REL };
enum model_kind { MODEL_LOAD, MODEL_STORE, MODEL_RMW, MODEL_CAS, MODEL_FENCE };
enum model_change { MODEL_SET, MODEL_ADD, MODEL_SUB, MODEL_OR, MODEL_AND, MODEL_LOSE /* the lowest of its bits, so many */ };

struct model_site {
    const char *file, *function, *wrapper, *place;
    int line;
    enum model_kind kind;
    enum model_order order;
    bool weak;     /* of compare-and-swap: it may fail without a reason */
    bool quiet;    /* its word is one that the scenario leaves out: see struct scenario */
    bool reached;  /* by a thread of the scenario */
    unsigned fault; /* enum mutant_fault, what a mutant changes beside the order */
};

uint64_t model_load(struct model_site *site, const volatile void *p, size_t size);
void model_store(struct model_site *site, volatile void *p, size_t size, uint64_t v);
uint64_t model_change(struct model_site *site, volatile void *p, size_t size, enum model_change change, uint64_t v);
void model_fence(struct model_site *site);
bool model_cas(struct model_site *site, volatile void *p, size_t size, uint64_t *expected, uint64_t v);

#define MODEL_SITE(its_wrapper, p, its_kind, its_order, its_weak)                                                      \
    ({                                                                                                                 \
        static struct model_site model_site = {.file = __FILE__,                                                       \
                                               .function = __func__,                                                   \
                                               .wrapper = its_wrapper,                                                 \
                                               .place = #p,                                                            \
                                               .line = __LINE__,                                                       \
                                               .kind = its_kind,                                                       \
                                               .order = its_order,                                                     \
                                               .weak = its_weak};                                                      \
        static struct model_site *const model_listed                                                                   \
            __attribute__((section("model_sites"), used)) = &model_site;                                               \
        (void)model_listed;                                                                                            \
        &model_site;                                                                                                   \
    })

/* A value of the word's type, without _Atomic. */
#define MODEL_VALUE(p, bits) ({ (__typeof__((void)0, *(p)))(bits); })

#define MODEL_LOADED(p, name, order)                                                                                   \
    MODEL_VALUE(p, model_load(MODEL_SITE(name, p, MODEL_LOAD, order, 0), (p), sizeof *(p)))
#define MODEL_STORED(p, v, name, order)                                                                                \
    model_store(MODEL_SITE(name, p, MODEL_STORE, order, 0), (p), sizeof *(p), (uint64_t)(v))
#define MODEL_CHANGED(p, v, name, order, change)                                                                       \
    MODEL_VALUE(p, model_change(MODEL_SITE(name, p, MODEL_RMW, order, 0), (p), sizeof *(p), change, (uint64_t)(v)))
#define MODEL_SWAPPED(p, expected, v, name, order, weak)                                                               \
    ({                                                                                                                 \
        uint64_t model_seen = (uint64_t)*(expected);                                                                   \
        bool model_done = model_cas(MODEL_SITE(name, p, MODEL_CAS, order, weak), (p), sizeof *(p), &model_seen,        \
                                    (uint64_t)(v));                                                                    \
        if (!model_done)                                                                                               \
            *(expected) = MODEL_VALUE(p, model_seen);                                                                  \
        model_done;                                                                                                    \
    })

#define load_relaxed(p)     MODEL_LOADED(p, "load_relaxed", MODEL_RELAXED)
#define load_acquire(p)     MODEL_LOADED(p, "load_acquire", MODEL_ACQUIRE)
#define store_relaxed(p, v) MODEL_STORED(p, v, "store_relaxed", MODEL_RELAXED)
#define store_release(p, v) MODEL_STORED(p, v, "store_release", MODEL_RELEASE)

#define exchange_acq_rel(p, v) MODEL_CHANGED(p, v, "exchange_acq_rel", MODEL_ACQ_REL, MODEL_SET)
#define exchange_acquire(p, v) MODEL_CHANGED(p, v, "exchange_acquire", MODEL_ACQUIRE, MODEL_SET)
#define exchange_release(p, v) MODEL_CHANGED(p, v, "exchange_release", MODEL_RELEASE, MODEL_SET)

#define cas_relaxed(p, expected, v) MODEL_SWAPPED(p, expected, v, "cas_relaxed", MODEL_RELAXED, true)
#define cas_acquire(p, expected, v) MODEL_SWAPPED(p, expected, v, "cas_acquire", MODEL_ACQUIRE, true)
#define cas_release(p, expected, v) MODEL_SWAPPED(p, expected, v, "cas_release", MODEL_RELEASE, true)
#define cas_acq_rel(p, expected, v) MODEL_SWAPPED(p, expected, v, "cas_acq_rel", MODEL_ACQ_REL, true)

#define add_relaxed(p, v) MODEL_CHANGED(p, v, "add_relaxed", MODEL_RELAXED, MODEL_ADD)
#define add_release(p, v) MODEL_CHANGED(p, v, "add_release", MODEL_RELEASE, MODEL_ADD)
#define sub_relaxed(p, v) MODEL_CHANGED(p, v, "sub_relaxed", MODEL_RELAXED, MODEL_SUB)
#define sub_acq_rel(p, v) MODEL_CHANGED(p, v, "sub_acq_rel", MODEL_ACQ_REL, MODEL_SUB)
#define or_relaxed(p, v)  MODEL_CHANGED(p, v, "or_relaxed", MODEL_RELAXED, MODEL_OR)
#define or_release(p, v)  MODEL_CHANGED(p, v, "or_release", MODEL_RELEASE, MODEL_OR)
#define or_acq_rel(p, v)  MODEL_CHANGED(p, v, "or_acq_rel", MODEL_ACQ_REL, MODEL_OR)
#define and_relaxed(p, v) MODEL_CHANGED(p, v, "and_relaxed", MODEL_RELAXED, MODEL_AND)
#define and_acquire(p, v) MODEL_CHANGED(p, v, "and_acquire", MODEL_ACQUIRE, MODEL_AND)

#define fence_seq_cst() model_fence(MODEL_SITE("fence_seq_cst", fence, MODEL_FENCE, MODEL_ACQ_REL, 0))

#define cas_strong_relaxed(p, expected, v) MODEL_SWAPPED(p, expected, v, "cas_strong_relaxed", MODEL_RELAXED, false)
#define cas_strong_acquire(p, expected, v) MODEL_SWAPPED(p, expected, v, "cas_strong_acquire", MODEL_ACQUIRE, false)
#define cas_strong_release(p, expected, v) MODEL_SWAPPED(p, expected, v, "cas_strong_release", MODEL_RELEASE, false)
#define cas_strong_acq_rel(p, expected, v) MODEL_SWAPPED(p, expected, v, "cas_strong_acq_rel", MODEL_ACQ_REL, false)

ASH_INLINE void counter_add(_Atomic(uint64_t) *c, uint64_t n)
{
    store_relaxed(c, load_relaxed(c) + n);
}

ASH_INLINE void atomic_max(_Atomic(uint64_t) *p, uint64_t v)
{
    uint64_t seen = load_relaxed(p);
    while (seen < v && !cas_relaxed(p, &seen, v))
        ;
}

#endif
