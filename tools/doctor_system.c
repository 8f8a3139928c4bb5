/* The environment, the kernel and its limits. */
#include "doctor.h"

#include "info/options.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

extern char **environ;

/* ---- the environment ---- */

/* The library's own reading of the options, which says what it cannot use on standard error. */
static void check_options(struct report *r)
{
    char text[8192] = "";
    unsigned before = r->count[GRADE_WARNING];
    int said = memfd_create("ashlar-doctor", MFD_CLOEXEC), kept = dup(STDERR_FILENO);
    if (said < 0 || kept < 0)
        return;
    dup2(said, STDERR_FILENO);
    options_parse(environ, false);
    dup2(kept, STDERR_FILENO);
    close(kept);
    ssize_t n = pread(said, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    close(said);
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        found(r, GRADE_WARNING, "%s", strncmp(line, "ashlar: ", 8) == 0 ? line + 8 : line);
    if (r->count[GRADE_WARNING] == before)
        found(r, GRADE_OK, "ASHLAR_* variables: all are known, with good values");
}

static void check_loader_variables(struct report *r)
{
    const char *audit = getenv("LD_AUDIT"), *preload = getenv("LD_PRELOAD");
    char line[256];
    if (audit != NULL && *audit != '\0')
        found(r, GRADE_WARNING,
              "LD_AUDIT=%s: auditors have a malloc of their own namespace, and "
              "slow every call: unset it",
              audit);
    if (preload != NULL && *preload != '\0')
        found(r, strstr(preload, "malloc") != NULL ? GRADE_WARNING : GRADE_OK,
              "LD_PRELOAD=%s: `ashlar run` puts libashlar.so first, so its malloc is used",
              preload);
    if (doctor_line("/etc/ld.so.preload", line, sizeof line))
        found(r, strstr(line, "malloc") != NULL ? GRADE_WARNING : GRADE_OK,
              "/etc/ld.so.preload has %s: it comes behind what LD_PRELOAD names", line);
}

/* ---- the kernel ---- */

static void check_kernel(struct report *r)
{
    struct utsname u;
    unsigned major = 0, minor = 0;
    if (uname(&u) != 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2)
        return;
    if (major < 5 || (major == 5 && minor < 4))
        found(r, GRADE_WARNING, "Linux %s is older than 5.4, the oldest that Ashlar is tested on",
              u.release);
    else
        found(r, GRADE_OK, "Linux %u.%u", major, minor);
}

/* The library's tables are 27 MiB of address space, and it maps what it needs 4 MiB at a time. */
static void check_limits(struct report *r)
{
    enum { NEEDED = 48 << 20, COMFORT = 256 << 20 };
    static const struct {
        int resource;
        const char *name, *option;
    } limits[] = {{RLIMIT_AS, "address space", "-v"}, {RLIMIT_DATA, "data", "-d"}};
    struct rlimit l;
    bool free = true;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (getrlimit(limits[i].resource, &l) != 0 || l.rlim_cur == RLIM_INFINITY ||
            l.rlim_cur >= COMFORT)
            continue;
        free = false;
        found(r, l.rlim_cur < NEEDED ? GRADE_PROBLEM : GRADE_WARNING,
              "the limit on %s is %ju MiB, of which Ashlar's tables take 28: raise it (ulimit %s)",
              limits[i].name, (uintmax_t)l.rlim_cur >> 20, limits[i].option);
    }
    if (free)
        found(r, GRADE_OK, "no limit on address space is in the way");
}

static void check_overcommit(struct report *r)
{
    char line[64];
    if (!doctor_line("/proc/sys/vm/overcommit_memory", line, sizeof line))
        return;
    if (strcmp(line, "2") == 0)
        found(r, GRADE_WARNING,
              "vm.overcommit_memory is 2: each process's tables count with 28 MiB "
              "against the limit on commitments, and chunks with 4 MiB each");
    else
        found(r, GRADE_OK, "vm.overcommit_memory is %s", line);
}

/* The limit of a group or of one above it, whichever is tightest. `group` is taken apart. */
static uint64_t group_limit(const char *root, char *group, const char *file)
{
    char path[2 * PATH_MAX], value[64];
    uint64_t least = UINT64_MAX;
    for (;;) {
        snprintf(path, sizeof path, "%s%s/%s", root, group, file);
        if (doctor_line(path, value, sizeof value) && isdigit((unsigned char)value[0])) {
            uint64_t n = strtoull(value, NULL, 10);
            least = n < least ? n : least;
        }
        char *slash = strrchr(group, '/');
        if (slash == NULL)
            break;
        *slash = '\0';
    }
    return least;
}

/* By either version of control groups: "0::GROUP", or "N:memory:GROUP". */
static uint64_t cgroup_limit(void)
{
    char line[PATH_MAX], second[PATH_MAX], first[PATH_MAX];
    uint64_t least = UINT64_MAX;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        uint64_t n = UINT64_MAX;
        if (sscanf(line, "0::%4095s", second) == 1)
            n = group_limit("/sys/fs/cgroup", second, "memory.max");
        else if (sscanf(line, "%*d:memory:%4095s", first) == 1)
            n = group_limit("/sys/fs/cgroup/memory", first, "memory.limit_in_bytes");
        least = n < least ? n : least;
    }
    if (f != NULL)
        fclose(f);
    return least;
}

static void check_memory(struct report *r)
{
    uint64_t limit = cgroup_limit();
    char line[128];
    if (limit < (uint64_t)1 << 50)
        found(r, limit < 64 << 20 ? GRADE_WARNING : GRADE_OK,
              "the control group may use %" PRIu64 " MiB: with ASHLAR_LIMIT a little lower, malloc "
              "fails where the kernel would kill",
              limit >> 20);
    if (!doctor_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof line))
        return;
    bool always = strstr(line, "[always]") != NULL;
    found(r, always ? GRADE_WARNING : GRADE_OK, "transparent huge pages: %s%s", line,
          always ? "; small programs become larger: ASHLAR_THP=never keeps them small" : "");
}

void doctor_system(struct report *r)
{
    check_loader_variables(r);
    check_options(r);
    check_kernel(r);
    check_limits(r);
    check_overcommit(r);
    check_memory(r);
}
