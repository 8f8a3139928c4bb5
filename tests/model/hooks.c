/*
 * Plain accesses. Production code and scenarios are compiled with -fsanitize=thread but linked without that runtime:
 * the compiler puts a call before every access to memory that another thread might see, and the calls end here.
 * So a missing release or acquire shows as a race between two plain accesses wherever they stand.
 */
#include "model.h"

#include <string.h>

void __tsan_init(void);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_read_range(void *p, size_t n);
void __tsan_write_range(void *p, size_t n);
void *__tsan_memset(void *p, int byte, size_t n);
void *__tsan_memcpy(void *to, const void *from, size_t n);
void *__tsan_memmove(void *to, const void *from, size_t n);

void __tsan_init(void)
{
}

void __tsan_func_entry(void *caller)
{
    (void)caller;
}

void __tsan_func_exit(void)
{
}

#define ACCESS(bytes)                                                                                                  \
    void __tsan_read##bytes(void *p);                                                                                  \
    void __tsan_write##bytes(void *p);                                                                                 \
    void __tsan_read_write##bytes(void *p);                                                                            \
    void __tsan_unaligned_read##bytes(void *p);                                                                        \
    void __tsan_unaligned_write##bytes(void *p);                                                                       \
    void __tsan_read##bytes(void *p)                                                                                   \
    {                                                                                                                  \
        plain_access((uintptr_t)p, bytes, false);                                                                      \
    }                                                                                                                  \
    void __tsan_write##bytes(void *p)                                                                                  \
    {                                                                                                                  \
        plain_access((uintptr_t)p, bytes, true);                                                                       \
    }                                                                                                                  \
    void __tsan_read_write##bytes(void *p)                                                                             \
    {                                                                                                                  \
        plain_access((uintptr_t)p, bytes, true);                                                                       \
    }                                                                                                                  \
    void __tsan_unaligned_read##bytes(void *p)                                                                         \
    {                                                                                                                  \
        plain_access((uintptr_t)p, bytes, false);                                                                      \
    }                                                                                                                  \
    void __tsan_unaligned_write##bytes(void *p)                                                                        \
    {                                                                                                                  \
        plain_access((uintptr_t)p, bytes, true);                                                                       \
    }

/*
 * Atomic accesses that are not by base/atomic.h: public headers have some (ashlar/tier.h). Their sites are one for each
 * order, and have no mutants.
 */
static struct model_site *public_site(enum model_kind kind, int order)
{
    static struct model_site sites[2][3];
    bool ordered = order != __ATOMIC_RELAXED;
    struct model_site *site = &sites[kind][ordered];
    *site = (struct model_site){.file = __FILE__,
                                .function = "__atomic",
                                .wrapper = kind == MODEL_LOAD ? "load" : "store",
                                .place = "",
                                .kind = kind,
                                .order = !ordered             ? MODEL_RELAXED
                                         : kind == MODEL_LOAD ? MODEL_ACQUIRE
                                                              : MODEL_RELEASE};
    return site;
}

#define ATOMIC(bits)                                                                                                   \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *p, int order);                            \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *p, uint##bits##_t v, int order);                         \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *p, int order)                             \
    {                                                                                                                  \
        return (uint##bits##_t)model_load(public_site(MODEL_LOAD, order), p, bits / 8);                                \
    }                                                                                                                  \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *p, uint##bits##_t v, int order)                          \
    {                                                                                                                  \
        model_store(public_site(MODEL_STORE, order), p, bits / 8, v);                                                  \
    }

ATOMIC(32)
ATOMIC(64)
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __tsan_read_range(void *p, size_t n)
{
    plain_access((uintptr_t)p, n, false);
}

void __tsan_write_range(void *p, size_t n)
{
    plain_access((uintptr_t)p, n, true);
}

void *__tsan_memset(void *p, int byte, size_t n)
{
    plain_access((uintptr_t)p, n, true);
    return memset(p, byte, n);
}

void *__tsan_memcpy(void *to, const void *from, size_t n)
{
    plain_access((uintptr_t)from, n, false);
    plain_access((uintptr_t)to, n, true);
    return memcpy(to, from, n);
}

void *__tsan_memmove(void *to, const void *from, size_t n)
{
    plain_access((uintptr_t)from, n, false);
    plain_access((uintptr_t)to, n, true);
    return memmove(to, from, n);
}
