#include "run/profile.h"

#include "ashlar/profile.h"
#include "mem/chunk.h"
#include "os/check.h"
#include "run/dump.h"

#include <errno.h>
#include <string.h>

#pragma weak profile_open

extern ASH_HIDDEN const char __ehdr_start[]; /* where this library begins, from the linker … */
extern ASH_HIDDEN const char etext[];        /* … and where its code ends */

static struct profile_library library; /* const after profile_init; all NULL: none */

ASH_API int ash_profile_dump(int fd)
{
    return library.dump != NULL ? library.dump(fd) : -ENOTSUP;
}

ASH_API int ash_leaks_dump(int fd)
{
    return library.leaks != NULL ? library.leaks(fd) : -ENOTSUP;
}

static uintptr_t window_end(void)
{
    return window.base + chunk_count() * CHUNK_BYTES;
}

void profile_init(void)
{
    bool profile = options.profile != NULL && strcmp(options.profile, "0") != 0;
    if (profile && options.harden) {
        warn_line("ASHLAR_PROFILE ignored: ASHLAR_HARDEN=1 is set");
        profile = false;
    }
    if (!profile && !options.leaks)
        return;
    profile_attach *attach = NULL;
    if (profile_open == NULL)
        warn_line("ASHLAR_PROFILE and ASHLAR_LEAKS ignored: the program is linked statically");
    else
        attach = profile_open();
    struct profile_host host = {
        .version = PROFILE_VERSION,
        .mean = profile ? options.profile_bytes : 0,
        .path = options.profile,
        .leaks = options.leaks != 0,
        .expand = dump_expand,
        .absolute = dump_absolute,
        .standard_error = dump_stderr,
        .walk = walk_live,
        .window_from = &window.base,
        .window_to = window_end,
        .code = __ehdr_start,
        .code_end = etext,
    };
    dump_keep_stderr();
    if (attach == NULL || !attach(&host, &library) || !profile)
        return;
    sample_start(host.mean, &library.sink);
    dump_also(library.write);
}

void profile_at_exit(void)
{
    if (library.end != NULL)
        library.end();
}
