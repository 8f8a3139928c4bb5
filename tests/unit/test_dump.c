/*
 * run/dump: where statistics go, at exit and on a signal. Each case runs in a process of its own,
 * forked here, whose standard error is a file that is compared afterwards; the statistics
 * themselves are a word written by a stand-in.
 */
#include "tap.h"

#include "ashlar/stats.h"
#include "info/options.h"
#include "os/os_file.h"
#include "run/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/ashlar-dump-XXXXXX";
static char said[4096];    /* standard error of the last case */
static bool signal_inside; /* the stand-in is interrupted by the signal that asks for a dump */

int ash_stats_dump(int fd, enum ash_format format)
{
    static const char *const words[] = {"TEXT\n", "JSON\n", "PROM\n"};
    if (signal_inside)
        raise(SIGUSR2);
    return os_write_all(fd, words[format], strlen(words[format]));
}

static const char *in_dir(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* Runs `fn` in a child, in `dir`; its standard error goes to `said`. Returns its wait status. */
static int run(void (*fn)(void))
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(in_dir("stderr"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(fd, STDERR_FILENO);
        close(fd);
        if (chdir(dir) != 0)
            abort();
        fn();
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    os_read_small(in_dir("stderr"), said, sizeof said);
    return status;
}

static const char *content(const char *name)
{
    static char text[256];
    return os_read_small(in_dir(name), text, sizeof text) < 0 ? "(no file)" : text;
}

static void start(const char *stats, int signal)
{
    options.stats = stats;
    options.stats_signal = signal;
    dump_init();
}

static int open_count(void)
{
    int n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* ---- cases ---- */

static void nothing_asked(void)
{
    int before = open_count();
    struct sigaction was[32], is;
    for (int sig = 1; sig < 32; sig++)
        sigaction(sig, NULL, &was[sig]);
    start("0", 0);
    for (int sig = 1; sig < 32; sig++)
        if (sigaction(sig, NULL, &is) == 0 && is.sa_handler != was[sig].sa_handler)
            _exit(1);
    dump_at_exit();
    _exit(open_count() == before ? 0 : 2);
}

static void to_stderr(void)
{
    start("1", 0);
    dump_at_exit();
}

static void stderr_closed(void)
{
    start("json", 0);
    close(STDERR_FILENO);
    dump_at_exit();
}

/* The number 2 is a file of the program's by now, and the kept descriptor is gone. */
static void stderr_taken(void)
{
    start("1", 0);
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    int fd = open("taken", O_WRONLY | O_CREAT, 0600);
    dup2(fd, STDERR_FILENO);
    dump_at_exit();
}

static void to_file(void)
{
    start("prom:out.%%p", 0);
    if (chdir("/") != 0)
        abort();
    dump_at_exit();
}

static void forked(void)
{
    start("json:fork.%p", 0);
    pid_t child = fork();
    if (child == 0) {
        dump_at_exit();
        _exit(0);
    }
    waitpid(child, NULL, 0);
    dump_at_exit();
    char names[2][32];
    snprintf(names[0], sizeof names[0], "fork.%d", (int)getpid());
    snprintf(names[1], sizeof names[1], "fork.%d", (int)child);
    _exit(unlink(names[0]) == 0 && unlink(names[1]) == 0 ? 0 : 1);
}

static void no_such_directory(void)
{
    start("text:none/there", 0);
    dump_at_exit();
}

static void full_device(void)
{
    start("text:/dev/full", 0);
    dump_at_exit();
}

static void endless_path(void)
{
    static char stats[8192] = "text:/";
    memset(stats + 6, 'x', sizeof stats - 7);
    start(stats, SIGUSR2);
    raise(SIGUSR2);
    dump_at_exit();
}

static void broken_pipe(void)
{
    int fds[2];
    if (pipe(fds) != 0)
        abort();
    dup2(fds[1], STDERR_FILENO);
    start("1", 0);
    close(fds[0]);
    dump_at_exit();
    sigset_t set;
    sigpending(&set);
    bool pending = sigismember(&set, SIGPIPE) == 1;
    sigprocmask(SIG_BLOCK, NULL, &set);
    _exit(!pending && sigismember(&set, SIGPIPE) == 0 ? 7 : 1);
}

static void on_signal(void)
{
    start("0", SIGUSR2);
    errno = 77;
    raise(SIGUSR2);
    raise(SIGUSR2);
    dump_at_exit();
    _exit(errno == 77 ? 0 : 1);
}

static void on_signal_to_file(void)
{
    start("json:sig", SIGUSR2);
    raise(SIGUSR2);
    _exit(strcmp(content("sig"), "JSON\n") == 0 ? 0 : 1);
}

static void signal_in_a_dump(void)
{
    start("1", SIGUSR2);
    signal_inside = true;
    dump_at_exit();
}

static void kept_signal(void)
{
    start("0", SIGKILL);
}

static void test_cases(void)
{
    is_int(run(nothing_asked), 0, "nothing asked: no handler, no descriptor");
    is_str(said, "", "and no output");
    run(to_stderr);
    is_str(said, "TEXT\n", "a table on standard error");
    run(stderr_closed);
    is_str(said, "JSON\n", "although the program closed it");
    run(stderr_taken);
    is_str(said, "", "nothing where it is gone for good");
    is_str(content("taken"), "", "and nothing into a file that has its number");
    run(to_file);
    is_str(content("out.%p"), "PROM\n", "a relative path is one of the start, and expanded");
    is_str(said, "", "and standard error is left alone");
    is_int(run(forked), 0, "a forked child writes its own file");
    is_str(said, "", "and both do so silently");
}

static void test_failures(void)
{
    char want[256];
    snprintf(want, sizeof want,
             "ashlar: cannot write statistics to %s/none/there: no such file or directory\n", dir);
    is_int(run(no_such_directory), 0, "a path that cannot be written is no reason to fail");
    is_str(said, want, "it gives one line, and the statistics go nowhere else");
    run(full_device);
    is_str(said, "ashlar: cannot write statistics to /dev/full: no space left on device\n",
           "so does a full device");
    run(endless_path);
    ok(strstr(said, ": file name too long\n") != NULL && strchr(said, '\n')[1] == '\0',
       "so does an endless path, once");
    is_int(WEXITSTATUS(run(broken_pipe)), 7, "a pipe without a reader does not kill the process");
}

static void test_signals(void)
{
    is_int(run(on_signal), 0, "a signal keeps errno");
    is_str(said, "TEXT\nTEXT\n", "and writes a table each time, but none at exit");
    is_int(run(on_signal_to_file), 0, "a signal writes the file");
    is_int(run(signal_in_a_dump), 0, "a signal in the middle of a dump");
    is_str(said, "TEXT\n", "adds nothing");
    run(kept_signal);
    is_str(said, "ashlar: ASHLAR_STATS_SIGNAL=9 ignored: the system keeps this signal to itself\n",
           "a signal that cannot be had is named");
}

static void test_expand(void)
{
    char out[32];
    ok(dump_expand(out, sizeof out, "a%pb%%c%d%", 42), "a path is expanded");
    is_str(out, "a42b%c%d%", "the process id, a percent sign, and what is neither");
    ok(dump_expand(out, 3, "%p", 42) && !dump_expand(out, 2, "%p", 42), "or does not fit");
}

int main(void)
{
    if (mkdtemp(dir) == NULL)
        abort();
    test_cases();
    test_failures();
    test_signals();
    test_expand();
    static const char *const files[] = {"stderr", "taken", "out.%p", "sig"};
    for (size_t i = 0; i < ASH_COUNT(files); i++)
        unlink(in_dir(files[i]));
    is_int(rmdir(dir), 0, "no other file was written");
    return tap_done();
}
