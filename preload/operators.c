/*
 * The C++ operators new and delete, in C, by their mangled names (Itanium ABI, 64-bit size_t).
 *
 * A program may replace operator new(size_t) and operator delete(void *), plain, as array form or
 * with an alignment, and expect the remaining forms to go through those ([new.delete]). So every
 * other form compares what the linker bound the name to with what stands here, and goes the
 * program's way when they differ.
 *
 * An allocation that fails calls the program's new_handler, as long as there is one, and tries
 * again; then the throwing forms throw std::bad_alloc, which is left to the C++ runtime. Its
 * functions are weak references, so the library needs libc alone; where C++ came after the start,
 * as a plugin of a C program, they are looked up when an allocation has failed. A nothrow form that
 * may meet an exception hands over to the runtime's own, which can catch it in C++. The file is
 * compiled with -fexceptions, so that exceptions pass through.
 */
#include "heap/front.h"
#include "os/check.h"

#include <dlfcn.h>
#include <stdlib.h>

#define WEAK   __attribute__((weak))
#define UNUSED __attribute__((unused))

/* In another library than libc before glibc 2.34. */
#pragma weak dlopen
#pragma weak dlsym
#pragma weak dlclose

struct nothrow;

typedef void new_handler(void);
typedef void *new_nothrow(size_t n, const struct nothrow *t);
typedef void *new_aligned_nothrow(size_t n, size_t align, const struct nothrow *t);

extern new_handler *_ZSt15get_new_handlerv(void) WEAK; /* std::get_new_handler() */
extern void _ZSt17__throw_bad_allocv(void) WEAK;       /* std::__throw_bad_alloc() */

enum { ALIGN_NONE = 1 }; /* which every block has */

/* ---- the C++ runtime ---- */

#ifdef PIC

/* Its function of this name, behind the one that stands here if there is one; NULL: none. */
static ASH_COLD void *runtime(const char *name)
{
    static const char *const files[] = {"libstdc++.so.6", "libc++.so.1", "libc++abi.so.1"};
    if (dlopen == NULL || dlsym == NULL || dlclose == NULL)
        return NULL;
    void *found = dlsym(RTLD_NEXT, name);
    for (size_t i = 0; found == NULL && i < sizeof files / sizeof *files; i++) {
        void *library = dlopen(files[i], RTLD_LAZY | RTLD_NOLOAD);
        if (library != NULL) {
            found = dlsym(library, name);
            dlclose(library);
        }
    }
    return found;
}

#else

/* The static library: what stands here replaces the operators of the runtime linked with it. */
static void *runtime(UNUSED const char *name)
{
    return NULL;
}

#endif

static ASH_COLD new_handler *get_handler(void)
{
    new_handler *(*get)(void) = _ZSt15get_new_handlerv;
    if (get == NULL)
        get = (new_handler * (*)(void)) runtime("_ZSt15get_new_handlerv");
    return get != NULL ? get() : NULL;
}

static ASH_COLD void throw_bad_alloc(size_t n)
{
    void (*throw)(void) = _ZSt17__throw_bad_allocv;
    if (throw == NULL)
        throw = (void (*)(void))runtime("_ZSt17__throw_bad_allocv");
    if (throw != NULL)
        throw();
    warn_line("operator new of %zu bytes: out of memory, and no C++ runtime to throw bad_alloc", n);
    abort();
}

/* ---- the forms ---- */

ASH_API WEAK void *_Znwm(size_t n);
ASH_API WEAK void *_Znam(size_t n);
ASH_API WEAK void *_ZnwmRKSt9nothrow_t(size_t n, const struct nothrow *t);
ASH_API WEAK void *_ZnamRKSt9nothrow_t(size_t n, const struct nothrow *t);
ASH_API WEAK void *_ZnwmSt11align_val_t(size_t n, size_t align);
ASH_API WEAK void *_ZnamSt11align_val_t(size_t n, size_t align);
ASH_API WEAK void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t n, size_t align,
                                                      const struct nothrow *t);
ASH_API WEAK void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t n, size_t align,
                                                      const struct nothrow *t);
ASH_API WEAK void _ZdlPv(void *p);
ASH_API WEAK void _ZdaPv(void *p);
ASH_API WEAK void _ZdlPvm(void *p, size_t n);
ASH_API WEAK void _ZdaPvm(void *p, size_t n);
ASH_API WEAK void _ZdlPvRKSt9nothrow_t(void *p, const struct nothrow *t);
ASH_API WEAK void _ZdaPvRKSt9nothrow_t(void *p, const struct nothrow *t);
ASH_API WEAK void _ZdlPvSt11align_val_t(void *p, size_t align);
ASH_API WEAK void _ZdaPvSt11align_val_t(void *p, size_t align);
ASH_API WEAK void _ZdlPvmSt11align_val_t(void *p, size_t n, size_t align);
ASH_API WEAK void _ZdaPvmSt11align_val_t(void *p, size_t n, size_t align);
ASH_API WEAK void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align,
                                                      const struct nothrow *t);
ASH_API WEAK void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align,
                                                      const struct nothrow *t);

/* True when the name is bound to what stands here. */
#define OWN(name)    static __typeof(name) own##name __attribute__((alias(#name)))
#define IS_OWN(name) ASH_LIKELY(name == own##name)

OWN(_Znwm);
OWN(_Znam);
OWN(_ZnwmSt11align_val_t);
OWN(_ZnamSt11align_val_t);
OWN(_ZdlPv);
OWN(_ZdaPv);
OWN(_ZdlPvSt11align_val_t);
OWN(_ZdaPvSt11align_val_t);

/* ---- new ---- */

ASH_INLINE void *attempt(size_t n, size_t align)
{
    if (align == ALIGN_NONE)
        return front_malloc(n);
    return ASH_LIKELY(is_pow2(align)) ? front_aligned(align, n) : NULL;
}

/* After a first attempt that failed. */
static ASH_COLD void *new_slow(size_t n, size_t align)
{
    new_handler *handler;
    while (is_pow2(align) && (handler = get_handler()) != NULL) {
        handler();
        void *p = attempt(n, align);
        if (p != NULL)
            return p;
    }
    throw_bad_alloc(n);
    return NULL;
}

ASH_INLINE void *new_throwing(size_t n, size_t align)
{
    void *p = attempt(n, align);
    return ASH_LIKELY(p != NULL) ? p : new_slow(n, align);
}

void *_Znwm(size_t n)
{
    return new_throwing(n, ALIGN_NONE);
}

void *_Znam(size_t n)
{
    return IS_OWN(_Znwm) ? new_throwing(n, ALIGN_NONE) : _Znwm(n);
}

void *_ZnwmSt11align_val_t(size_t n, size_t align)
{
    return new_throwing(n, align);
}

void *_ZnamSt11align_val_t(size_t n, size_t align)
{
    return IS_OWN(_ZnwmSt11align_val_t) ? new_throwing(n, align) : _ZnwmSt11align_val_t(n, align);
}

/* ---- new that returns NULL ---- */

/* The runtime's form of that name calls `throwing`, and catches what it throws. */
static ASH_COLD void *catching(const char *name, size_t n, const struct nothrow *t,
                               void *(*throwing)(size_t n))
{
    new_nothrow *theirs = (new_nothrow *)runtime(name);
    return theirs != NULL ? theirs(n, t) : throwing(n);
}

static ASH_COLD void *catching_aligned(const char *name, size_t n, size_t align,
                                       const struct nothrow *t,
                                       void *(*throwing)(size_t n, size_t align))
{
    new_aligned_nothrow *theirs = (new_aligned_nothrow *)runtime(name);
    return theirs != NULL ? theirs(n, align, t) : throwing(n, align);
}

void *_ZnwmRKSt9nothrow_t(size_t n, const struct nothrow *t)
{
    void *p = IS_OWN(_Znwm) ? attempt(n, ALIGN_NONE) : NULL;
    if (ASH_LIKELY(p != NULL) || (IS_OWN(_Znwm) && get_handler() == NULL))
        return p;
    return catching("_ZnwmRKSt9nothrow_t", n, t, _Znwm);
}

void *_ZnamRKSt9nothrow_t(size_t n, const struct nothrow *t)
{
    if (IS_OWN(_Znam))
        return _ZnwmRKSt9nothrow_t(n, t);
    return catching("_ZnamRKSt9nothrow_t", n, t, _Znam);
}

void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t n, size_t align, const struct nothrow *t)
{
    bool own = IS_OWN(_ZnwmSt11align_val_t);
    void *p = own ? attempt(n, align) : NULL;
    if (ASH_LIKELY(p != NULL) || (own && (!is_pow2(align) || get_handler() == NULL)))
        return p;
    return catching_aligned("_ZnwmSt11align_val_tRKSt9nothrow_t", n, align, t,
                            _ZnwmSt11align_val_t);
}

void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t n, size_t align, const struct nothrow *t)
{
    if (IS_OWN(_ZnamSt11align_val_t))
        return _ZnwmSt11align_val_tRKSt9nothrow_t(n, align, t);
    return catching_aligned("_ZnamSt11align_val_tRKSt9nothrow_t", n, align, t,
                            _ZnamSt11align_val_t);
}

/* ---- delete ---- */

void _ZdlPv(void *p)
{
    front_free(p);
}

void _ZdaPv(void *p)
{
    if (IS_OWN(_ZdlPv))
        front_free(p);
    else
        _ZdlPv(p);
}

void _ZdlPvm(void *p, size_t n)
{
    if (IS_OWN(_ZdlPv))
        front_free_sized(p, n);
    else
        _ZdlPv(p);
}

void _ZdaPvm(void *p, size_t n)
{
    if (IS_OWN(_ZdaPv) && IS_OWN(_ZdlPv))
        front_free_sized(p, n);
    else
        _ZdaPv(p);
}

void _ZdlPvRKSt9nothrow_t(void *p, const struct nothrow *t UNUSED)
{
    _ZdlPv(p);
}

void _ZdaPvRKSt9nothrow_t(void *p, const struct nothrow *t UNUSED)
{
    _ZdaPv(p);
}

void _ZdlPvSt11align_val_t(void *p, size_t align UNUSED)
{
    front_free(p);
}

void _ZdaPvSt11align_val_t(void *p, size_t align)
{
    if (IS_OWN(_ZdlPvSt11align_val_t))
        front_free(p);
    else
        _ZdlPvSt11align_val_t(p, align);
}

void _ZdlPvmSt11align_val_t(void *p, size_t n, size_t align)
{
    if (IS_OWN(_ZdlPvSt11align_val_t))
        front_free_aligned(p, align, n);
    else
        _ZdlPvSt11align_val_t(p, align);
}

void _ZdaPvmSt11align_val_t(void *p, size_t n, size_t align)
{
    if (IS_OWN(_ZdaPvSt11align_val_t) && IS_OWN(_ZdlPvSt11align_val_t))
        front_free_aligned(p, align, n);
    else
        _ZdaPvSt11align_val_t(p, align);
}

void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align, const struct nothrow *t UNUSED)
{
    _ZdlPvSt11align_val_t(p, align);
}

void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align, const struct nothrow *t UNUSED)
{
    _ZdaPvSt11align_val_t(p, align);
}
