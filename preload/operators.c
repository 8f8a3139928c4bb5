/*
 * The C++ operators new and delete, in C, by their mangled names (Itanium ABI, 64-bit size_t).
 *
 * An allocation that fails calls the program's new_handler, as long as there is one, and tries
 * again; then the throwing forms throw std::bad_alloc through libstdc++'s own function, and the
 * nothrow forms return NULL. Both are weak references, so the library needs libc alone: in a
 * program without libstdc++ nobody calls these. The file is compiled with -fexceptions, so that a
 * handler's exception passes through; a nothrow form has no place for one in C and lets it pass as
 * well, where libstdc++ would swallow it.
 */
#include "heap/front.h"

#include <stdlib.h>

typedef void new_handler(void);

extern new_handler *_ZSt15get_new_handlerv(void) __attribute__((weak));
extern void _ZSt17__throw_bad_allocv(void) __attribute__((weak));

struct nothrow;

enum { ALIGN_NONE = 0 };

ASH_INLINE void *attempt(size_t n, size_t align)
{
    return align == ALIGN_NONE ? front_malloc(n) : front_aligned(align, n);
}

static ASH_COLD void *new_slow(size_t n, size_t align, bool throws)
{
    for (;;) {
        void *p = attempt(n, align);
        if (p != NULL)
            return p;
        new_handler *handler = _ZSt15get_new_handlerv != NULL ? _ZSt15get_new_handlerv() : NULL;
        if (handler == NULL)
            break;
        handler();
    }
    if (throws && _ZSt17__throw_bad_allocv != NULL)
        _ZSt17__throw_bad_allocv();
    if (throws)
        abort();
    return NULL;
}

ASH_INLINE void *new_any(size_t n, size_t align, bool throws)
{
    void *p = attempt(n, align);
    return ASH_LIKELY(p != NULL) ? p : new_slow(n, align, throws);
}

#define NEW(name, args, n, align, throws)                                                          \
    ASH_API void *name args;                                                                       \
    void *name args                                                                                \
    {                                                                                              \
        return new_any(n, align, throws);                                                          \
    }

#define DELETE(name, args, call)                                                                   \
    ASH_API void name args;                                                                        \
    void name args                                                                                 \
    {                                                                                              \
        call;                                                                                      \
    }

#define NOTHROW      const struct nothrow *t __attribute__((unused))
#define UNUSED_ALIGN size_t align __attribute__((unused))

NEW(_Znwm, (size_t n), n, ALIGN_NONE, true)
NEW(_Znam, (size_t n), n, ALIGN_NONE, true)
NEW(_ZnwmRKSt9nothrow_t, (size_t n, NOTHROW), n, ALIGN_NONE, false)
NEW(_ZnamRKSt9nothrow_t, (size_t n, NOTHROW), n, ALIGN_NONE, false)
NEW(_ZnwmSt11align_val_t, (size_t n, size_t align), n, align, true)
NEW(_ZnamSt11align_val_t, (size_t n, size_t align), n, align, true)
NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, (size_t n, size_t align, NOTHROW), n, align, false)
NEW(_ZnamSt11align_val_tRKSt9nothrow_t, (size_t n, size_t align, NOTHROW), n, align, false)

DELETE(_ZdlPv, (void *p), front_free(p))
DELETE(_ZdaPv, (void *p), front_free(p))
DELETE(_ZdlPvm, (void *p, size_t n), front_free_sized(p, n))
DELETE(_ZdaPvm, (void *p, size_t n), front_free_sized(p, n))
DELETE(_ZdlPvRKSt9nothrow_t, (void *p, NOTHROW), front_free(p))
DELETE(_ZdaPvRKSt9nothrow_t, (void *p, NOTHROW), front_free(p))
DELETE(_ZdlPvSt11align_val_t, (void *p, UNUSED_ALIGN), front_free(p))
DELETE(_ZdaPvSt11align_val_t, (void *p, UNUSED_ALIGN), front_free(p))
DELETE(_ZdlPvmSt11align_val_t, (void *p, size_t n, size_t align), front_free_aligned(p, align, n))
DELETE(_ZdaPvmSt11align_val_t, (void *p, size_t n, size_t align), front_free_aligned(p, align, n))
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void *p, UNUSED_ALIGN, NOTHROW), front_free(p))
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void *p, UNUSED_ALIGN, NOTHROW), front_free(p))
