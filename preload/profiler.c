/*
 * Finds libashlar-profile.so when an option asks for it (see run/profile.h): beside this library,
 * where a build tree has it and whoever copies two files puts it, or in the folder ashlar there,
 * which is where it is installed, since it is no library that programs link to. No path of the
 * installation is compiled in: a tree that was moved works. Only in the shared object.
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
static const char folders[][8] = {"", "ashlar/"};

profile_attach *profile_open(void)
{
    char path[PATH_CAP];
    Dl_info self;
    void *library = NULL;
    if (dladdr != NULL && dlsym != NULL && dladdr((const void *)name, &self) != 0) {
        const char *slash = strrchr(self.dli_fname, '/');
        int directory = slash != NULL ? (int)(slash + 1 - self.dli_fname) : 0;
        for (unsigned i = 0; i < 2 && library == NULL; i++) {
            fmt_text(path, sizeof path, "%.*s%s%s", directory, self.dli_fname, folders[i], name);
            library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        }
    }
    void *entry = library != NULL ? dlsym(library, PROFILE_ENTRY) : NULL;
    if (entry == NULL)
        warn_line("ASHLAR_PROFILE and ASHLAR_LEAKS ignored: no %s beside libashlar.so", name);
    return (profile_attach *)(uintptr_t)entry;
}
