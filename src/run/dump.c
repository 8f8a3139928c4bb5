#include "run/dump.h"

#include "ashlar/stats.h"
#include "base/atomic.h"
#include "base/fmt.h"
#include "info/options.h"
#include "os/check.h"
#include "os/os_clock.h"
#include "os/os_file.h"
#include "os/os_process.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    PATH_CAP = 4096,
    EXIT_WAIT_MS = 1000,
    SHOWN_MAX = 300, /* of a path in a message */
};

/* Constant after dump_init. */
static enum ash_format format;
static bool at_exit;
extern ASH_HIDDEN char dump_pattern[PATH_CAP], dump_path[PATH_CAP];
ASH_TABLE char dump_pattern[PATH_CAP]; /* "": standard error */
static int stderr_copy = -1;
static struct os_file_id stderr_id;
static bool stderr_known;  /* it was open when the process was started */
static void (*also)(void); /* at the signal; NULL: nothing */

/*
 * atomic: process id of the dump under way, or 0; one that is not ours was copied by a fork in
 * midst of a dump
 */
static _Atomic(int) dumper;
ASH_TABLE char dump_path[PATH_CAP]; /* owned by the dump under way */

bool dump_expand(char *out, size_t cap, const char *from, int pid)
{
    struct fmt f;
    fmt_init(&f, out, cap, NULL, NULL);
    while (*from != '\0') {
        size_t plain = strcspn(from, "%");
        fmt_put(&f, from, plain);
        from += plain;
        if (from[0] == '%' && from[1] == 'p')
            fmt_printf(&f, "%d", pid);
        else if (from[0] == '%')
            fmt_put(&f, "%", 1);
        if (from[0] == '%')
            from += from[1] == 'p' || from[1] == '%' ? 2 : 1;
    }
    return fmt_end(&f) == 0;
}

int dump_stderr(void)
{
    const int candidates[] = {stderr_copy, STDERR_FILENO};
    for (size_t i = 0; i < ASH_COUNT(candidates) && stderr_known; i++) {
        struct os_file_id id;
        if (candidates[i] >= 0 && os_file_id(candidates[i], &id) == 0 &&
            id.device == stderr_id.device && id.inode == stderr_id.inode)
            return candidates[i];
    }
    return -1;
}

static void warn_failed(const char *where, int error)
{
    const char *why = os_error_text(error);
    int fd = dump_stderr();
    if (fd < 0)
        return;
    if (why != NULL)
        warn_line_to(fd, "cannot write statistics to %.*s: %s", SHOWN_MAX, where, why);
    else
        warn_line_to(fd, "cannot write statistics to %.*s: error %d", SHOWN_MAX, where, error);
}

/* Answers as ash_stats_dump does. */
static int dump_to_file(void)
{
    bool fits = dump_expand(dump_path, sizeof dump_path, dump_pattern, os_pid());
    int fd = fits ? os_open_write(dump_path) : -ENAMETOOLONG;
    int status = fd;
    if (fd >= 0) {
        status = ash_stats_dump(fd, format);
        os_close(fd);
    }
    if (status < 0)
        warn_failed(dump_path, -status);
    return status;
}

static void dump(void)
{
    int saved = errno;
    struct os_sigpipe held;
    os_sigpipe_hold(&held);
    int status = 0;
    int fd = dump_pattern[0] == '\0' ? dump_stderr() : -1;
    if (dump_pattern[0] != '\0')
        status = dump_to_file();
    else if (fd >= 0)
        status = ash_stats_dump(fd, format);
    os_sigpipe_release(&held, status == -EPIPE);
    errno = saved;
}

/* Becomes the one that dumps; false when another is at it. */
static bool dump_enter(void)
{
    int self = os_pid();
    int holder = load_relaxed(&dumper);
    while (holder != self)
        if (cas_acquire(&dumper, &holder, self)) /* pairs with dump_leave: `dump_path` is ours */
            return true;
    return false;
}

static void dump_leave(void)
{
    store_release(&dumper, 0); /* the use of `dump_path`; pairs with dump_enter */
}

static void dump_on_signal(int signal)
{
    (void)signal;
    if (dump_enter()) {
        dump();
        dump_leave();
    }
    if (also != NULL)
        also();
}

void dump_also(void (*fn)(void))
{
    also = fn;
}

void dump_at_exit(void)
{
    if (!at_exit)
        return;
    uint64_t until = os_clock_ms() + EXIT_WAIT_MS;
    bool mine = dump_enter();
    while (!mine && os_clock_ms() < until) {
        os_yield();
        mine = dump_enter();
    }
    if (mine) {
        dump();
        dump_leave();
    }
}

bool dump_absolute(char *out, size_t cap, const char *given)
{
    char cwd[PATH_CAP];
    bool relative = given[0] != '/' && os_cwd(cwd, sizeof cwd) == 0;
    struct fmt f;
    fmt_init(&f, out, cap, NULL, NULL);
    for (const char *s = cwd; relative && *s != '\0'; s++) {
        fmt_put(&f, s, 1);
        if (*s == '%') /* a directory's own, not to be expanded */
            fmt_put(&f, s, 1);
    }
    fmt_printf(&f, "%s%s", relative && cwd[1] != '\0' ? "/" : "", given);
    return fmt_end(&f) == 0;
}

static void keep_path(const char *given)
{
    if (!dump_absolute(dump_pattern, sizeof dump_pattern, given)) {
        warn_failed(given, ENAMETOOLONG);
        at_exit = false;
        dump_pattern[0] = '\0';
        stderr_known = false; /* a signal's statistics go nowhere either */
    }
}

void dump_keep_stderr(void)
{
    if (!stderr_known)
        stderr_known = os_file_id(STDERR_FILENO, &stderr_id) == 0;
    if (stderr_known && stderr_copy < 0)
        stderr_copy = os_dup_high(STDERR_FILENO);
}

void dump_init(void)
{
    const char *stats = options.stats != NULL ? options.stats : "0";
    at_exit = strcmp(stats, "0") != 0;
    if (!at_exit && options.stats_signal == 0)
        return;
    if (strncmp(stats, "json", 4) == 0)
        format = ASH_JSON;
    else if (strncmp(stats, "prom", 4) == 0)
        format = ASH_PROMETHEUS;

    const char *colon = strchr(stats, ':');
    if (at_exit)
        dump_keep_stderr();
    else
        stderr_known = os_file_id(STDERR_FILENO, &stderr_id) == 0;
    if (colon != NULL)
        keep_path(colon + 1);
    if (options.stats_signal == 0)
        return;
    int status = os_signal_handle(options.stats_signal, dump_on_signal);
    if (status != 0)
        warn_line("ASHLAR_STATS_SIGNAL=%d ignored: the system keeps this signal to itself",
                  options.stats_signal);
}
