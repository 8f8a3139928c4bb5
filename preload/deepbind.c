/*
 * dlopen, for the sake of RTLD_DEEPBIND. An object that is opened with it looks its names up in
 * libc before it finds them here, so that it has another malloc than the rest of the process, and
 * sooner or later one frees what the other has allocated: PHP, which opens its extensions so, ends
 * under every allocator that replaces malloc. Here the flag is left out of the call unless
 * ASHLAR_DEEPBIND=1 keeps it.
 *
 * libc's dlopen takes its caller from the return address: whose RUNPATH is searched, and in which
 * namespace. So this one leaves by a jump: a call of it would search on this library's behalf.
 * dlmopen is left alone: a new namespace has a libc of its own, whose blocks nobody confuses.
 *
 * Only in the shared object: a program linked statically has a dlopen that knows no other libc.
 */
#include "base/atomic.h"
#include "info/options.h"

#include <dlfcn.h>

/* In another library than libc before glibc 2.34. */
#pragma weak dlsym

typedef void *dlopen_function(const char *file, int mode);

/* What dlsym says; each thread that asks early stores the same. */
static _Atomic(uintptr_t) libc_dlopen;

static ASH_COLD dlopen_function *find(void)
{
    uintptr_t found = dlsym != NULL ? (uintptr_t)dlsym(RTLD_NEXT, "dlopen") : 0;
    store_relaxed(&libc_dlopen, found);
    return (dlopen_function *)found;
}

ASH_API ASH_TAIL_CALLS void *dlopen(const char *file, int mode)
{
    dlopen_function *next = (dlopen_function *)load_relaxed(&libc_dlopen);
    if (next == NULL)
        next = find();
    if (next == NULL)
        return NULL;
    if (options.deepbind == OPTION_DEEPBIND_IGNORE)
        mode &= ~RTLD_DEEPBIND;
    return next(file, mode);
}
