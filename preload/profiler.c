/*
 * Finds libashlar-profile.so, which lies beside this library, when an option asks for it (see
 * run/profile.h). Only in the shared object.
 */
#include "run/profile.h"

#include "base/fmt.h"
#include "os/check.h"

#include <dlfcn.h>
#include <string.h>

/* In another library than libc before glibc 2.34. */
#pragma weak dladdr
#pragma weak dlsym

enum { PATH_CAP = 4096 };

static const char name[] = "libashlar-profile.so";

profile_attach *profile_open(void)
{
    char path[PATH_CAP];
    Dl_info self;
    void *library = NULL;
    if (dladdr != NULL && dlsym != NULL && dladdr((const void *)name, &self) != 0) {
        const char *slash = strrchr(self.dli_fname, '/');
        int directory = slash != NULL ? (int)(slash + 1 - self.dli_fname) : 0;
        fmt_text(path, sizeof path, "%.*s%s", directory, self.dli_fname, name);
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    void *entry = library != NULL ? dlsym(library, PROFILE_ENTRY) : NULL;
    if (entry == NULL)
        warn_line("ASHLAR_PROFILE and ASHLAR_LEAKS ignored: no %s beside libashlar.so", name);
    return (profile_attach *)(uintptr_t)entry;
}
