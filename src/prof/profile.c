/*
 * libashlar-profile.so: what libashlar.so opens where ASHLAR_PROFILE or ASHLAR_LEAKS asks (see
 * run/profile.h). Attaches to it, writes the profile and the leaks.
 *
 * The profile's text is gperftools': a line of sums, a line for each site, and the list of mapped
 * files, by which pprof and `ashlar report` find the functions.
 *
 * PATH is expanded and opened at each writing, as with statistics: a forked child with %p in it
 * writes a file of its own, and starts from the samples that it inherited. One writing at a time; a
 * signal in the middle of one does nothing.
 */
#include "run/profile.h"

#include "os/check.h"
#include "os/os_file.h"
#include "os/os_process.h"
#include "prof/leaks.h"
#include "prof/sites.h"

#include <errno.h>

enum { PATH_CAP = 4096, BUFFER = 2048, SHOWN_MAX = 300 };

extern ASH_HIDDEN const char __ehdr_start[]; /* where this library begins, from the linker … */
extern ASH_HIDDEN const char etext[];        /* … and where its code ends */

static struct profile_host host; /* const after ash_profile_attach */
static char pattern[PATH_CAP];   /* likewise */
static _Atomic(int) writer;      /* atomic: process id of the one that writes, or 0 */
static char expanded[PATH_CAP];  /* the writer's */

profile_attach ash_profile_attach;

/* What is mapped where, as the kernel says it. */
static void put_maps(struct fmt *f)
{
    char piece[BUFFER];
    long n;
    int fd = os_open_read("/proc/self/maps");
    if (fd < 0)
        return;
    fmt_printf(f, "\nMAPPED_LIBRARIES:\n");
    while ((n = os_read(fd, piece, sizeof piece)) > 0)
        fmt_put(f, piece, (size_t)n);
    os_close(fd);
}

static int dump(int fd)
{
    if (host.mean == 0)
        return -ENOTSUP;
    char buf[BUFFER];
    struct fmt f;
    fmt_init(&f, buf, sizeof buf, os_write_fmt, &fd);
    sites_put(&f, host.mean);
    put_maps(&f);
    return fmt_end(&f);
}

static int leaks(int fd)
{
    return leaks_put(fd, &host);
}

static void write_path(void)
{
    int status = host.expand(expanded, sizeof expanded, pattern, os_pid()) ? 0 : -ENAMETOOLONG;
    int fd = status == 0 ? os_open_write(expanded) : status;
    if (fd >= 0) {
        status = dump(fd);
        os_close(fd);
    }
    int failed = fd < 0 ? -fd : -status;
    const char *why = failed != 0 ? os_error_text(failed) : NULL;
    int to = host.standard_error();
    if (failed != 0 && to >= 0)
        warn_line_to(to, "cannot write the heap profile to %.*s: %s", SHOWN_MAX, expanded,
                     why != NULL ? why : "error");
    if (failed == 0 && to >= 0 && sites_lost() != 0)
        warn_line_to(to, "the heap profile has more call stacks than fit: %llu samples lack theirs",
                     (unsigned long long)sites_lost());
}

static void write_profile(void)
{
    int saved = errno;
    int self = os_pid();
    int holder = load_relaxed(&writer);
    while (holder != self)
        if (cas_acquire(&writer, &holder, self)) { /* `expanded`; pairs with the release below */
            struct os_sigpipe held;
            os_sigpipe_hold(&held);
            write_path();
            os_sigpipe_release(&held, false);
            store_release(&writer, 0); /* the use of `expanded` */
            break;
        }
    errno = saved;
}

static void end(void)
{
    if (host.mean != 0)
        write_profile();
    int fd = host.leaks ? host.standard_error() : -1;
    if (fd >= 0)
        leaks(fd);
}

ASH_API bool ash_profile_attach(const struct profile_host *from, struct profile_library *out)
{
    if (from->version != PROFILE_VERSION)
        return false;
    host = *from;
    if (host.mean != 0 && !host.absolute(pattern, sizeof pattern, host.path))
        warn_line("the heap profile goes nowhere: its path is too long");
    struct unwind_range own[] = {
        {(uintptr_t)__ehdr_start, (uintptr_t)etext},
        {(uintptr_t)host.code, (uintptr_t)host.code_end},
    };
    sites_init(own, ASH_COUNT(own));
    *out = (struct profile_library){{sites_take, sites_give}, dump, leaks, write_profile, end};
    return true;
}
